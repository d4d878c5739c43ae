"""A judge for tests that knows how planted directions sound on the tiny model, and those directions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from steering_fixture import direction

from workbench.generation.generate import generate
from workbench.sound import Clip
from workbench.steering import Direction

FRAME = 640  # samples of the tiny codec's frame
DOSE = 2.0  # pushes the tiny model to codes of its own


def planted(model: Any, number: int, *, name: str) -> Direction:
    """Return one of many directions after the last block, each of which has a sound."""
    return direction(model, model.n_layers - 1, seed=1000 + number, name=name)


def _spectrum(clip: Clip) -> np.ndarray:
    """Return the logarithm of the mean spectrum (bins,) of a clip."""
    frames = clip.samples[: len(clip.samples) // FRAME * FRAME].reshape(-1, FRAME).astype(np.float64)
    return np.asarray(np.log(np.abs(np.fft.rfft(frames, axis=1)).mean(0) + 1e-6))


class Reference:
    """Hears, for each class, how near a clip is to the sound of its planted direction at `DOSE`."""

    def __init__(self, model: Any, numbers: Mapping[str, int], *, target: str = "code", sharp: float = 20.0):
        self.rate_hz = model.rate_hz
        self.target, self.classes, self.sharp = target, tuple(numbers), sharp
        plans = [planted(model, number, name=name).at(DOSE) for name, number in numbers.items()]
        takes = generate(
            model, ["the music"] * len(plans), steering=plans, seed=99, seconds=1.0, progress=False
        )
        self.sounds = np.stack([_spectrum(take.clip) for take in takes])

    def probabilities(self, clips: Sequence[Clip]) -> np.ndarray:
        """Return the probability of each class (clips, classes)."""
        heard = np.stack([_spectrum(clip) for clip in clips])
        apart = np.linalg.norm(heard[:, None] - self.sounds, axis=2)
        odds = np.exp(-self.sharp * (apart - apart.min(axis=1, keepdims=True)))
        return np.asarray(odds / odds.sum(axis=1, keepdims=True))
