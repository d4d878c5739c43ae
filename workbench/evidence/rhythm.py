"""Rhythm features: what onsets repeat at, relative to the clip's own beat and at the beats of fixed tempi.

Onsets are rises of log-mel bands in five registers (bands, frames), 100 frames a second.
"""

from __future__ import annotations

import numpy as np

FRAMES_A_SECOND = 100
BEATS_S = (0.8, 0.64, 0.48)
"""Seconds of a beat at 75, 93.75 and 125 beats a minute."""

_BEATS = (1 / 4, 1 / 3, 1 / 2, 2 / 3, 3 / 4, 1, 5 / 4, 4 / 3, 3 / 2, 5 / 3, 7 / 4, 2, 5 / 2, 3, 7 / 2, 4)
_CROSS_BEATS = (0, 1 / 4, 1 / 2, 2 / 3, 3 / 4, 1, 3 / 2, 2)
_LAGS = np.unique(np.round(np.geomspace(6, 160, 40)).astype(int))  # 60 ms to 1.6 s
_PULSE_BEATS = (1 / 4, 1 / 3, 1 / 2, 2 / 3, 3 / 4, 1, 5 / 4, 4 / 3, 3 / 2, 2, 3, 4)
_PULSES = (1 / 2, 1, 2, 3, 4)  # pulses a beat whose Fourier strength is measured


def onset_correlations(onsets: np.ndarray) -> np.ndarray:
    """Return correlations of onset strengths (bands, frames): at fixed lags, and at fractions of the beat."""
    spectrum, scale = _spectrum(onsets)

    def correlation(a: int, b: int) -> np.ndarray:
        return np.asarray(np.fft.irfft(spectrum[a] * spectrum[b].conj()) / (scale[a] * scale[b]))

    bands = range(len(onsets))
    autos = [correlation(a, a) for a in bands]
    crosses = [correlation(a, b) for a in bands for b in bands if a < b]
    beat = _beat_frames(np.mean(autos, axis=0))
    inside = np.round(beat * np.array(_BEATS)).astype(int)
    across = np.round(beat * np.array(_CROSS_BEATS)).astype(int)
    return np.concatenate(
        [
            *(_at(auto, _LAGS) for auto in autos),
            *(_at(auto, inside) for auto in autos),
            *(_at(cross, np.r_[-across[:0:-1], across]) for cross in crosses),
            [beat / FRAMES_A_SECOND],
        ]
    )


def onset_shape(onsets: np.ndarray) -> np.ndarray:
    """Return how peaked and how frequent onsets are in each band: quantiles, and each band's share."""
    total = onsets.mean(axis=1, keepdims=True) + 1e-9
    quantiles = np.quantile(onsets / total, [0.5, 0.75, 0.9, 0.97], axis=1)
    return np.concatenate([quantiles.ravel(), (total / total.sum()).ravel()])


def pulse_scores(onsets: np.ndarray) -> np.ndarray:
    """Return how well the onsets (bands, frames) repeat at the beats of fixed tempi.

    For each of three tempi: the correlation at fractions and multiples of its beat (the best of three
    neighbouring frames, corrected for the shorter overlap at long lags), and the share of Fourier power at
    its beat, divisions and half, in all bands together, in the low and in the high ones.
    """
    return np.concatenate([_pulse(onsets), _pulse(onsets[:2]), _pulse(onsets[3:])])


def _pulse(onsets: np.ndarray) -> np.ndarray:
    spectrum, scale = _spectrum(onsets)
    frames = onsets.shape[1]
    auto = np.mean(np.fft.irfft(np.abs(spectrum) ** 2, axis=1) / scale[:, None] ** 2, axis=0)
    lags = np.round(FRAMES_A_SECOND * np.outer(BEATS_S, _PULSE_BEATS)).astype(int)
    overlap = frames / np.maximum(frames - lags, frames / 8)
    repeats = np.max([_at(auto, lags + shift) for shift in (-1, 0, 1)], axis=0) * overlap
    windowed = (onsets - onsets.mean(axis=1, keepdims=True)) * np.hanning(frames)
    hertz = np.outer(1 / np.array(BEATS_S), _PULSES).ravel()
    waves = np.exp(-2j * np.pi * np.outer(np.arange(frames) / FRAMES_A_SECOND, hertz))
    power = np.abs(windowed @ waves) ** 2 / ((windowed**2).sum(axis=1, keepdims=True) * frames + 1e-9)
    rivals = repeats - repeats.mean(axis=0)  # each tempo against the other two
    return np.concatenate([repeats.ravel(), rivals.ravel(), np.sqrt(power).mean(axis=0)])


def _spectrum(onsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the padded spectrum of the centred onsets, and their root energy a band."""
    centred = onsets - onsets.mean(axis=1, keepdims=True)
    spectrum = np.fft.rfft(centred, 2 * centred.shape[1], axis=1)
    return spectrum, np.sqrt((centred**2).sum(axis=1)) + 1e-9


def _at(correlation: np.ndarray, lags: np.ndarray) -> np.ndarray:
    """Return the correlation at lags; beyond the clip's length nothing repeats."""
    half = len(correlation) // 2
    return np.where(np.abs(lags) < half, correlation[np.clip(lags, -half, half - 1)], 0.0)


def _beat_frames(correlation: np.ndarray) -> float:
    """Return the beat in frames (0.42 to 0.9 s): where onsets repeat at it and at its multiples."""
    periods = np.arange(42, 91)
    score = sum(w * _at(correlation, m * periods) for m, w in ((1, 1.0), (2, 0.7), (4, 0.5)))
    prior = np.exp(-0.5 * (np.log(periods / 62) / 0.5) ** 2)
    return float(periods[np.argmax(score * prior)])
