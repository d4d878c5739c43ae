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
    """Kind of codec, device, random numbers' device, precision, threads, processor and versions."""
    return {
        "codec": model.codec,
        "device": model.device.type,
        "random": model.random_device.type,
        "precision": str(model.dtype).removeprefix("torch."),
        "threads": str(torch.get_num_threads()),
        "processor": platform.machine(),
        "python": platform.python_version(),
        **packages(),
    }


def differences(then: Mapping[str, str], model: Model) -> list[str]:
    """What is other now than it was then, as "torch 2.9 then, 2.13 now"; nothing where all is the same."""
    # What older takes do not say: they drew where the model ran, and this model's codec is theirs.
    known = {"codec": model.codec, "random": then.get("device"), **then}
    return [
        f"{name} {known.get(name, 'unknown')} then, {value} now"
        for name, value in circumstances(model).items()
        if known.get(name) != value
    ]
