"""What the eye gets of a sound: a log-mel spectrogram and the outline of a waveform, as plain arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from workbench.sound.clip import Clip

FLOOR_DB = -80.0  # 80 dB below full scale is drawn as silence
HOP_S = 0.02


def log_mel(clip: Clip, *, bands: int = 64) -> np.ndarray:
    """Return (bands, frames) float32 in dB below a full-scale sine, within FLOOR_DB..0, one frame per HOP_S.

    The reference is fixed, so that two clips drawn side by side can be compared.
    """
    import librosa  # slow to import, and many never look

    window = 2048 if clip.rate_hz >= 22_050 else 1024
    hop = max(1, round(HOP_S * clip.rate_hz))
    power = librosa.feature.melspectrogram(
        y=np.asarray(clip.samples, dtype=np.float32),
        sr=clip.rate_hz,
        n_fft=window,
        hop_length=hop,
        n_mels=bands,
        fmin=30.0,
        norm=None,
    )
    full_scale = (window / 4) ** 2  # power of a full-scale sine in its bin under a Hann window
    decibels = 10 * np.log10(np.maximum(power / full_scale, 1e-12))
    return np.asarray(np.clip(decibels, FLOOR_DB, 0), dtype=np.float32)


def mel_frequencies(rate_hz: int, bands: int = 64) -> np.ndarray:
    """Return the (bands,) centre frequencies of `log_mel` in Hz."""
    import librosa

    edges = librosa.mel_frequencies(n_mels=bands + 2, fmin=30.0, fmax=rate_hz / 2)
    return np.asarray(edges[1:-1], dtype=np.float32)


def outline(clip: Clip, *, columns: int = 600) -> np.ndarray:
    """Return (columns, 2) float32: lowest and highest sample of each of `columns` equal stretches."""
    samples = np.asarray(clip.samples, dtype=np.float32)
    edges = np.linspace(0, len(samples), columns + 1).astype(int)
    starts = np.minimum(edges[:-1], len(samples) - 1)
    low, high = np.minimum.reduceat(samples, starts), np.maximum.reduceat(samples, starts)
    return np.stack([low, high], axis=1)
