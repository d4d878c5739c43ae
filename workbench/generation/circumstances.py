"""What must be the same for codes to be the same to the bit, beside the model and what it is asked."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import version

import torch

from workbench.model.musicgen import Model

PACKAGES = ("musicgen-workbench", "torch", "transformers", "nnsight")


def packages() -> dict[str, str]:
    """The versions of the packages that draw codes, as they are installed here."""
    return {name: version(name) for name in PACKAGES}


def circumstances(model: Model) -> dict[str, str]:
    """Device, precision, threads, processor and versions, as `model` runs now, and its kind of codec."""
    return {
        "codec": model.codec,
        "device": model.device.type,
        "precision": str(model.dtype).removeprefix("torch."),
        "threads": str(torch.get_num_threads()),
        "processor": platform.machine(),
        "python": platform.python_version(),
        **packages(),
    }


def differences(then: Mapping[str, str], model: Model) -> list[str]:
    """What is other now than it was then, as "torch 2.9 then, 2.13 now"; nothing where all is the same."""
    return [
        f"{name} {then.get(name, 'unknown')} then, {value} now"
        for name, value in circumstances(model).items()
        if then.get(name) != value
    ]
