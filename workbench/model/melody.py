"""Melody: the pitch class that is strongest in each eighth of a second, all that MusicGen hears of a tune.

The published melody checkpoints were trained on chroma of sound at 32 kHz: Fourier windows of 16384 samples,
one every 4096, summed into twelve pitch classes, of which the strongest alone is kept. transformers'
feature extractor does the same with torchaudio, which the workbench does not need: its filters come from
transformers, the Fourier transform from torch. The one difference is resampling (soxr here): for a clip of
another rate a frame between two notes may fall to the other one.

Meta's own demo first removes drums and bass (Demucs). Neither transformers' extractor nor this module does
so unless told: a solo line or a separated stem is followed better than a full mix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from transformers.audio_utils import chroma_filter_bank

from workbench.errors import ModelError, is_whole
from workbench.sound.clip import Clip

NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
RATE_HZ, WINDOW, HOP = 32_000, 16_384, 4_096
FRAMES_PER_SECOND = RATE_HZ / HOP
_BLOCK = 64  # frames that are transformed at once


@dataclass(frozen=True)
class Melody:
    """`pitches` (frames,): the strongest pitch class of each frame, 0 = C to 11 = B, 7.8125 frames a second.

    Time counts from the beginning of the clip that is made. A melody that is shorter begins again: so did
    the model's training, and so do transformers and audiocraft.

    Raises:
        ModelError: When there is no frame, or something else than a pitch class.
    """

    pitches: tuple[int, ...]

    def __post_init__(self) -> None:
        pitches = tuple(self.pitches)
        if not pitches or not all(is_whole(pitch, 0, len(NAMES) - 1) for pitch in pitches):
            raise ModelError(
                f"A melody of the pitch classes {sorted(set(map(str, pitches)))} was asked for",
                "it is one or more of 0 (C) to 11 (B)",
                "Give such numbers, 7.8125 a second, or Melody.of(clip)",
            )
        object.__setattr__(self, "pitches", tuple(map(int, pitches)))

    @classmethod
    def of(cls, clip: Clip) -> Melody:
        """The melody of a clip; silence counts as C, which is also what no melody looks like to the model."""
        return cls(tuple(pitch_classes(clip).tolist()))

    @property
    def seconds(self) -> float:
        """How long it lasts before it begins again."""
        return len(self.pitches) / FRAMES_PER_SECOND

    def later(self, seconds: float) -> Melody:
        """The same melody as it goes on `seconds` after its beginning, to the nearest frame (0.128 s)."""
        shift = round(seconds * FRAMES_PER_SECOND) % len(self.pitches)
        return Melody(self.pitches[shift:] + self.pitches[:shift])

    def frames(self, count: int) -> tuple[int, ...]:
        """The first `count` pitch classes, from the beginning again where it is shorter."""
        return (self.pitches * -(-count // len(self.pitches)))[:count]

    def __str__(self) -> str:
        runs = [(NAMES[pitch], len(list(run))) for pitch, run in groupby(self.pitches)]
        return " ".join(name if count == 1 else f"{name}*{count}" for name, count in runs)


def pitch_classes(clip: Clip) -> np.ndarray:
    """The strongest pitch class (frames,) of each frame of `clip`, 1 + samples // 4096 frames at 32 kHz."""
    samples = clip.resample(RATE_HZ).samples
    missing = max(0, WINDOW - len(samples))
    samples = np.pad(samples, (missing // 2, missing - missing // 2))
    samples = np.pad(samples, WINDOW // 2, mode="reflect")
    filters = torch.tensor(chroma_filter_bank(WINDOW, len(NAMES), RATE_HZ)).float()
    shape, found = torch.hann_window(WINDOW), []
    windows = torch.tensor(samples).unfold(0, WINDOW, HOP)
    for start in range(0, len(windows), _BLOCK):
        chroma = torch.fft.rfft(windows[start : start + _BLOCK] * shape).abs().square() @ filters.T
        found.append(chroma.numpy().argmax(-1))
    return np.concatenate(found)


def shifted(melodies: Sequence[Melody | None], seconds: float) -> list[Melody | None]:
    """Each melody as it goes on `seconds` later; none stays none."""
    return [None if melody is None else melody.later(seconds) for melody in melodies]
