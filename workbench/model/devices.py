"""Which device and which precision, measured rather than guessed."""

from __future__ import annotations

import time
from typing import Any

import torch

from workbench.errors import ModelError

_SMALL = 50_000_000  # below this many parameters fp32 is fast enough, and exact
_SPEED_UP = 1.2  # bf16 must be at least this much faster to be worth its rounding


def choose_device(asked: str | int | torch.device | None) -> torch.device:
    """The device that was asked for, or the best one that is present: CUDA, then Apple MPS, then CPU.

    Capitals do not matter; "gpu" is the accelerator that is present, and a number alone is that CUDA device.

    Raises:
        ModelError: When this is no device, or it is not here.
    """
    choices = _present()
    if asked is None:
        return torch.device(choices[0])
    text = "" if isinstance(asked, bool) else str(asked).strip().lower()
    if text == "gpu":
        text = choices[0] if choices[0] != "cpu" else "cuda"
    try:
        device = torch.device(f"cuda:{text}" if text.isdecimal() else text)
    except RuntimeError:
        found = "torch knows no such device"
    else:
        if device.type in choices and (device.index or 0) < _count(device.type):
            return device
        found = "torch finds no such device here"
    named = ", ".join(f'"{choice}"' for choice in choices)
    raise ModelError(
        f"The device {str(asked)!r} was asked for",
        found,
        f"Use one of {named}, or None for the best of them",
    )


def _present() -> list[str]:
    """The kinds of device that are here, in the order in which they are preferred."""
    found = ["cuda"] if torch.cuda.is_available() else []
    found += ["mps"] if torch.backends.mps.is_available() else []
    other = torch.accelerator.current_accelerator(check_available=True)
    return [*found, "cpu", *([other.type] if other is not None and other.type not in found else [])]


def _count(kind: str) -> int:
    """How many devices of a kind are here."""
    return 1 if kind in ("cpu", "mps") else torch.get_device_module(kind).device_count()


def choose_dtype(
    asked: str | torch.dtype | None, device: torch.device, musicgen: Any
) -> tuple[torch.dtype, str]:
    """The decoder's precision and the reason for it in a few words."""
    if asked is not None:
        dtype = getattr(torch, str(asked).strip().lower().removeprefix("torch."), None)
        if dtype not in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
            raise ModelError(
                f"The precision {asked!r} was asked for",
                "it is none",
                'Use "float32", "bfloat16", "float16" or "float64"',
            )
        return dtype, "as asked"
    parameters = sum(parameter.numel() for parameter in musicgen.decoder.parameters())
    if parameters < _SMALL:
        return torch.float32, "small enough for float32"
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported()
        return (torch.bfloat16, "CUDA has it") if fast else (torch.float32, "no bfloat16 on this GPU")
    if device.type == "mps":
        return torch.float32, "bfloat16 on MPS is untested"
    gain = _bf16_gain(int(musicgen.decoder.config.hidden_size))
    wanted = torch.bfloat16 if gain >= _SPEED_UP else torch.float32
    return wanted, f"bfloat16 measured {gain:.1f} x float32 on this processor"


def _bf16_gain(width: int) -> float:
    """How many times faster bf16 is here at a feed-forward product with two rows (one guided step)."""
    weight, rows = torch.zeros(4 * width, width), torch.zeros(2, width)
    seconds = []
    for dtype in (torch.float32, torch.bfloat16):
        typed, values = weight.to(dtype), rows.to(dtype)
        torch.nn.functional.linear(values, typed)
        start = time.perf_counter()
        for _ in range(8):
            torch.nn.functional.linear(values, typed)
        seconds.append(time.perf_counter() - start)
    return seconds[0] / max(seconds[1], 1e-9)
