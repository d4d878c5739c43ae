"""Sound to go on from: a clip or codes, checked and cut to what is heard."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from workbench.errors import GenerationError, number_or_nan
from workbench.model.musicgen import Model
from workbench.model.tokens import frames_for
from workbench.sound.clip import Clip

Audio = Clip | np.ndarray | torch.Tensor
"""A clip, or codes (k, frames) of the model's own codec."""


def given_codes(model: Model, audio: object, seconds: float | None = None) -> np.ndarray:
    """The codes (k, frames) int64 of the last `seconds` of `audio`; of all of it when None or shorter.

    Raises:
        GenerationError: When the audio is neither a clip nor this model's codes, or `seconds` is not above 0.
    """
    if seconds is not None and not 0 < number_or_nan(seconds) < math.inf:
        raise _refusal(f"{seconds} s of audio", "there must be something to hear", "Use more than 0 s")
    if isinstance(audio, Clip):
        heard = audio if seconds is None or seconds >= audio.seconds else _end(audio, seconds)
        codes = model.encode(heard).numpy()
    elif isinstance(audio, np.ndarray | torch.Tensor):
        codes = np.asarray(audio.cpu() if isinstance(audio, torch.Tensor) else audio)
        _check(model, codes)
    else:
        found = f"{type(audio).__name__} is neither a clip nor codes"
        raise _refusal("A continuation", found, "Give a Clip (read_clip), or the codes of a take")
    if seconds is not None:
        codes = codes[:, -frames_for(seconds, model.frame_rate_hz) :]
    return codes.astype(np.int64)


def _end(clip: Clip, seconds: float) -> Clip:
    return clip.section(clip.seconds - seconds, clip.seconds)


def _check(model: Model, codes: np.ndarray) -> None:
    """Refuse codes that this model's codec cannot have made."""
    whole = np.issubdtype(codes.dtype, np.integer) and codes.ndim == 2 and codes.size > 0
    if not whole or codes.shape[0] != model.n_codebooks:
        raise _refusal(
            f"A continuation of codes of shape {codes.shape} and type {codes.dtype}",
            f"{model.id} speaks whole numbers ({model.n_codebooks}, frames)",
            "Give codes of this model, or the clip itself",
        )
    if codes.min() < 0 or codes.max() >= model.codebook_size:
        raise _refusal(
            f"A continuation of codes from {codes.min()} to {codes.max()}",
            f"{model.id} has codes from 0 to {model.codebook_size - 1}",
            "Give codes of this model, or the clip itself",
        )


def listed(audio: object) -> tuple[list[object], bool]:
    """The audio as a list, and whether it was one."""
    if audio is None or isinstance(audio, Clip | np.ndarray | torch.Tensor):
        return [audio], False
    if not isinstance(audio, Sequence) or isinstance(audio, str):
        found = f"{type(audio).__name__} is neither a clip nor codes"
        raise _refusal("A continuation", found, "Give a Clip (read_clip), or the codes of a take")
    return list(audio), True


def _refusal(asked: str, found: str, do: str) -> GenerationError:
    return GenerationError(f"{asked} was asked for", found, do)
