"""A hash that changes when a model's configuration or any of its weights change."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch

_BLOCK = 1 << 24


_NAMES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)


def weight_files(folder: Path) -> list[Path]:
    """The files that transformers reads the weights in `folder` from, ordered by name; none if it finds none.

    Other weights may lie beside them (an adapter, another format): those are not the model.
    """
    named = json.loads((folder / "config.json").read_text()).get("transformers_weights")
    for name in (named,) if named else _NAMES:
        path = folder / name
        if path.is_file() and name.endswith(".json"):
            return sorted({folder / shard for shard in json.loads(path.read_text())["weight_map"].values()})
        if path.is_file():
            return [path]
    return []


def folder_fingerprint(folder: Path) -> str:
    """The sha256 (64 hex digits) over config.json and the weight files of `folder`, ordered by name.

    Files rather than tensors: the same checkpoint has one fingerprint in every precision and on every device.
    It stands for the weights in memory because a checkpoint that does not give all of them is refused.
    """
    digest = hashlib.sha256()
    for path in [folder / "config.json", *weight_files(folder)]:
        digest.update(path.name.encode())
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()


def module_fingerprint(module: Any) -> str:
    """The sha256 (64 hex digits) over configuration and parameters of a model that never lay on disk."""
    digest = hashlib.sha256(module.config.to_json_string().encode())
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
