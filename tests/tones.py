"""Synthetic clips that several files of tests use."""

from __future__ import annotations

import numpy as np


def tone_clip(genre: int, index: int, *, rate_hz: int = 16_000, seconds: float = 2.0) -> np.ndarray:
    """A synthetic clip (n,) float32: each genre has its own register and pulse, each index its own detail."""
    generator = np.random.default_rng([genre, index])
    time_s = np.arange(int(rate_hz * seconds)) / rate_hz
    tone = np.sin(2 * np.pi * (110.0 * (genre + 1) + 3.0 * index) * time_s)
    pulse = 0.5 + 0.5 * np.sign(np.sin(2 * np.pi * (1.0 + genre) * time_s))
    return (0.3 * tone * pulse + 0.02 * generator.standard_normal(time_s.size)).astype(np.float32)
