"""How regular a beat is: the height of the onset strength's autocorrelation peak among beat-long lags.

A drum loop scores 0.6 to 1, noise about 0.1 (the largest of fifty chance correlations), a held tone 0: it has
no onsets. The measure does not know which beat was wanted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workbench.evidence.features import FRAMES_A_SECOND, RATE_HZ, log_mel

if TYPE_CHECKING:
    from workbench.sound import Clip

BEAT_SECONDS = (0.42, 0.9)  # 143 to 67 beats a minute


def groove_score(clip: Clip) -> float:
    """Return the largest autocorrelation of the onset strength at lags of 0.42 to 0.9 s, from 0 to 1.

    At each lag the two stretches that are compared are normalised by themselves, so that the score does not
    fall with the lag. A clip shorter than two of the longest beats gives 0.
    """
    onsets = onset_strength(clip)
    shortest, longest = (round(seconds * FRAMES_A_SECOND) for seconds in BEAT_SECONDS)
    if len(onsets) < 2 * longest:
        return 0.0
    return max(0.0, *(_correlation(onsets[lag:], onsets[:-lag]) for lag in range(shortest, longest + 1)))


def onset_strength(clip: Clip) -> np.ndarray:
    """Return the mean rise of log-mel bands `(frames,)` per 10 ms, smoothed over 30 ms."""
    rise = np.maximum(np.diff(log_mel(clip.resample(RATE_HZ).samples), axis=0), 0.0).mean(axis=1)
    return np.asarray(np.convolve(rise, np.array([0.25, 0.5, 0.25]), mode="same"))


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 1e-9 else 0.0
