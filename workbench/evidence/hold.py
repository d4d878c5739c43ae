"""How long a clip stands still: the longest stretch in which its spectrum hardly changes.

A model that got stuck holds one chord. `damage` does not see it when the chord trembles; here it is the
largest-scale change that counts: log-mel levels of 40 bands, averaged over 0.2 s, that move by less than 2 dB
in the mean from one fifth of a second to the next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from workbench.sound import Clip

_BANDS = 40
_FRAME_S = 0.05
_FRAMES = 4  # that are averaged: 0.2 s
_STILL_DB = 2.0
_FLOOR = 1e-7  # of the mel power, below which nothing is heard


def longest_hold(clip: Clip) -> float:
    """Return the length in seconds of the longest stretch of a clip in which nothing happens."""
    import librosa

    hop = round(_FRAME_S * clip.rate_hz)
    power = librosa.feature.melspectrogram(
        y=clip.samples, sr=clip.rate_hz, n_mels=_BANDS, hop_length=hop, n_fft=2048
    )
    level = 10 * np.log10(power + _FLOOR)
    whole = level.shape[1] // _FRAMES * _FRAMES
    level = level[:, :whole].reshape(_BANDS, -1, _FRAMES).mean(axis=2)
    longest = run = 0
    for change in np.abs(np.diff(level, axis=1)).mean(axis=0):
        run = run + 1 if change < _STILL_DB else 0
        longest = max(longest, run)
    return _FRAMES * _FRAME_S * (longest + 1)
