"""A hash that changes when a model's configuration or any of its weights change."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch

_BLOCK = 1 << 24


def folder_fingerprint(folder: Path) -> str:
    """The sha256 (64 hex digits) over config.json and all weight files of `folder`, ordered by name.

    Files rather than tensors: the same checkpoint has one fingerprint in every precision and on every device.
    """
    digest = hashlib.sha256()
    weights = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin"))
    for path in [folder / "config.json", *weights]:
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
