"""What the bits of codes may depend on, beside the model and what it is asked."""

from __future__ import annotations

import platform
from importlib.metadata import version

import torch

from workbench.generation.take import PACKAGES
from workbench.model.musicgen import Model


def circumstances(model: Model) -> dict[str, str]:
    """What must be the same for codes to be the same to the bit, beside the model and what it is asked."""
    packages = {name: version(name) for name in PACKAGES}
    return {
        "device": model.device.type,
        "precision": str(model.dtype).removeprefix("torch."),
        "threads": str(torch.get_num_threads()),
        "processor": platform.machine(),
        "python": platform.python_version(),
        **packages,
    }
