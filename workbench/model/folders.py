"""Where models and caches lie on disk, and the hash that stands for a model's configuration and weights.

A cache that cannot be written, or has what nobody here wrote, is a notice in one line and never an error.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from platformdirs import user_cache_path

from workbench.files import builtin_path, write_atomically

_NAMES = ("model.safetensors", "pytorch_model.bin")  # of weights; with ".index.json", of the list of shards


def builtin_folder() -> Path:
    """Return the folder of the built-in model."""
    return builtin_path("data", "embedded", "model")


def cache_folder(*parts: str) -> Path:
    """Return a folder below the user's cache, or below the folder in the variable WORKBENCH_CACHE."""
    named = os.environ.get("WORKBENCH_CACHE")
    root = Path(named).expanduser() if named else user_cache_path("musicgen-workbench", appauthor=False)
    return root.joinpath(*parts)


def keep(path: Path, data: bytes) -> None:
    """Write a file of the cache whole, or give notice that nothing can be kept there."""
    try:
        write_atomically(path, data)
    except OSError as error:
        _say_unwritable(error)


def can_keep() -> bool:
    """Return whether the cache can be written; give notice where it cannot."""
    try:
        cache_folder().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cache_folder()):
            return True
    except OSError as error:
        _say_unwritable(error)
        return False


def say_damaged(path: Path, cause: object) -> None:
    """Give notice that something in the cache cannot be used and is made again."""
    why = " ".join(str(cause).split()) or type(cause).__name__
    warnings.warn(f"{path} cannot be used ({why}); it is made again.", stacklevel=3)


def _say_unwritable(error: OSError) -> None:
    warnings.warn(
        f"{cache_folder()} cannot be written ({error.strerror or error}): what belongs there is made anew. "
        "Name a folder that can be written in WORKBENCH_CACHE.",
        stacklevel=3,
    )


def weight_files(folder: Path) -> list[Path]:
    """Return the files from which transformers reads the weights in `folder`; others may lie beside."""
    named = json.loads((folder / "config.json").read_text()).get("transformers_weights")
    for name in (named,) if named else (f"{one}{end}" for one in _NAMES for end in ("", ".index.json")):
        path = folder / name
        if path.is_file() and name.endswith(".json"):
            return sorted({folder / shard for shard in json.loads(path.read_text())["weight_map"].values()})
        if path.is_file():
            return [path]
    return []


def folder_fingerprint(folder: Path) -> str:
    """Return the sha256 (64 hex digits) over config.json and the weight files of `folder`, ordered by name.

    Files rather than tensors: the same checkpoint has one fingerprint in every precision and on every device.
    """
    digest = hashlib.sha256()
    for path in [folder / "config.json", *weight_files(folder)]:
        digest.update(path.name.encode())
        with path.open("rb") as file:
            hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()


def module_fingerprint(module: Any) -> str:
    """Return the sha256 (64 hex digits) over configuration and parameters of a model without a folder."""
    digest = hashlib.sha256(module.config.to_json_string().encode())
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
