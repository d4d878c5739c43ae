"""Melody features: overtones, envelope and vibrato of the highest line, heard apart from the accompaniment.

The melody is the strongest harmonic series between G4 and C6 at each moment. What is measured on it says
how its instrument sounds: which partials are strong, whether a note decays or is held, whether it wavers.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import numpy as np

LOW, HIGH = 66, 88  # MIDI pitches that a melody may have
_WINDOW, _HOP = 2048, 320  # 128 ms, fifty frames a second
_PARTIALS = 8
_BEFORE, _AFTER = 4, 22  # frames around a note's beginning: -80 to 440 ms
_MODULATION_HZ = (0.7, 2, 4, 5.5, 7.5, 11, 18, 30)


def melody_timbre(samples: np.ndarray, rate_hz: int) -> np.ndarray:
    """Return the melody's overtone profile, note envelope and vibrato (n,), blind to its pitch and level."""
    decibels = _decibels(samples, rate_hz)
    partials, gaps = _partials(decibels, rate_hz)  # (candidates, partials, frames) each
    salience = _salience(decibels, rate_hz)
    line = salience.argmax(axis=1)
    moment = np.arange(len(line))
    clear = salience[moment, line] >= np.median(salience[moment, line])
    wanted = (line[clear], slice(None), moment[clear])
    return np.concatenate(
        [
            _overtones(partials[wanted], gaps[wanted]),
            _envelope(partials[:, :4].mean(axis=1).T, salience, line),
            _vibrato(_cents(decibels, line, rate_hz), line),
            np.quantile(salience[moment, line], [0.1, 0.5, 0.9]),
        ]
    )


def modulation(mel: np.ndarray) -> np.ndarray:
    """Return how fast and how steadily log-mel bands (frames, bands) move: tremolo, noise, held tones.

    The share of each modulation band (0.7 to 30 Hz) in eight groups of bands, and the bands' steady part: its
    mean cepstrum, and how far the moving part stands above it.
    """
    from scipy.fft import dct
    from scipy.ndimage import median_filter

    groups = mel[:, : mel.shape[1] // 8 * 8].reshape(len(mel), 8, -1).mean(axis=2)
    power = np.abs(np.fft.rfft((groups - groups.mean(axis=0)) * np.hanning(len(mel))[:, None], axis=0)) ** 2
    hertz = np.fft.rfftfreq(len(mel), 0.01)
    bands = [power[(hertz >= a) & (hertz < b)].sum(axis=0) for a, b in pairwise(_MODULATION_HZ)]
    shares = np.log10(np.stack(bands) / (power[1:].sum(axis=0) + 1e-9) + 1e-4)
    steady = median_filter(mel[::2], size=(9, 1), mode="nearest")
    cepstrum = dct(steady - steady.mean(), axis=1, norm="ortho")[:, 1:21]
    moving = np.abs(mel[::2] - steady).mean(axis=0)
    return np.concatenate([shares.ravel(), cepstrum.mean(axis=0), cepstrum.std(axis=0), moving])


def _decibels(samples: np.ndarray, rate_hz: int) -> np.ndarray:
    """Return the spectrogram (frames, bins) in dB over the clip's mean power, floored at -40 dB."""
    from scipy.fft import rfft

    frames = np.lib.stride_tricks.sliding_window_view(np.pad(samples, _WINDOW // 2), _WINDOW)[::_HOP]
    power = np.abs(rfft(frames * _hann(), axis=1)) ** 2
    return np.asarray(10 * np.log10(power / max(float(power.mean()), 1e-12) + 1e-4))


def _partials(decibels: np.ndarray, rate_hz: int) -> tuple[np.ndarray, np.ndarray]:
    """Return levels (candidates, partials, frames) at each pitch's partials, and half-way below each."""
    at, between = _bins(rate_hz)
    peaks = np.maximum(np.maximum(decibels[:, :-2], decibels[:, 1:-1]), decibels[:, 2:]).T
    return peaks[at - 1], peaks[between - 1]


def _salience(decibels: np.ndarray, rate_hz: int) -> np.ndarray:
    """Return how clearly each pitch's harmonic series stands out (frames, candidates), smoothed over 140 ms.

    Levels count from the local mean of the spectrum, so that a bright accompaniment does not draw the line
    upwards; half the level between the partials is taken off, so that it does not drop an octave.
    """
    from scipy.ndimage import uniform_filter1d

    whitened = np.maximum(decibels - uniform_filter1d(decibels, 61, axis=1), -5.0)
    partials, gaps = _partials(whitened, rate_hz)
    return np.asarray(uniform_filter1d((partials - 0.5 * gaps).mean(axis=1).T, 7, axis=0))


def _overtones(partials: np.ndarray, gaps: np.ndarray) -> np.ndarray:
    """Return mean and spread of partials (moments, partials) about their mean, and their height over gaps."""
    profile = partials - partials.mean(axis=1, keepdims=True)
    clearness = partials - gaps
    odd_over_even = partials[:, 0::2].mean(axis=1) - partials[:, 1::2].mean(axis=1)
    return np.concatenate(
        [
            profile.mean(axis=0),
            profile.std(axis=0),
            np.median(profile, axis=0),
            clearness.mean(axis=0),
            clearness.std(axis=0),
            np.quantile(odd_over_even, [0.25, 0.5, 0.75]),
        ]
    )


def _envelope(level: np.ndarray, salience: np.ndarray, line: np.ndarray) -> np.ndarray:
    """Return the mean course of notes from 80 ms before to 440 ms after they begin, and how notes end.

    Args:
        level: (frames, candidates) dB of each pitch.
        salience: (frames, candidates) how clearly each pitch stands out.
        line: (frames,) the melody's candidate.
    """
    begins = np.flatnonzero(np.diff(line) != 0) + 1
    begins = begins[(begins >= _BEFORE) & (begins + _AFTER <= len(line))]
    begins = begins[[bool((line[b : b + 5] == line[b]).all()) for b in begins]]  # held for 100 ms
    if not len(begins):
        return np.zeros(2 * (_BEFORE + _AFTER) + 4)
    when = begins[:, None] + np.arange(-_BEFORE, _AFTER)
    courses = [array[when, line[begins][:, None]] for array in (level, salience)]
    shapes = [c - c[:, _BEFORE : _BEFORE + 5].max(axis=1, keepdims=True) for c in courses]
    fall = shapes[0][:, _BEFORE + 14] - shapes[0][:, _BEFORE + 4]
    rise = shapes[0][:, _BEFORE + 2] - shapes[0][:, _BEFORE - 2]
    ends = np.concatenate([np.quantile(fall, [0.5, 0.8]), np.quantile(rise, [0.5, 0.8])])
    return np.concatenate([*(s.mean(axis=0) for s in shapes), ends])


def _cents(decibels: np.ndarray, line: np.ndarray, rate_hz: int) -> np.ndarray:
    """Return the melody's fine pitch (frames, 2) by its first and second partial, in parts of the partial."""
    at, _ = _bins(rate_hz)
    moment = np.arange(len(line))
    columns = []
    for partial in (0, 1):
        bins = at[line, partial][:, None] + np.arange(-2, 3)
        weight = 10 ** (decibels[moment[:, None], bins] / 10)
        centre = (weight * bins).sum(axis=1) / weight.sum(axis=1)
        columns.append(centre / at[line, partial])
    return np.stack(columns, axis=1)


def _vibrato(cents: np.ndarray, line: np.ndarray) -> np.ndarray:
    """Return how far and how fast the fine pitch (frames, 2) moves inside notes, in thousandths."""
    step = np.diff(cents, axis=0) * 1000
    step[np.diff(line) != 0] = 0.0
    step = np.clip(step, -30, 30)
    power = np.abs(np.fft.rfft(step * np.hanning(len(step))[:, None], axis=0)) ** 2
    hertz = np.fft.rfftfreq(len(step), _HOP / 16_000)
    bands = [
        power[(hertz >= a) & (hertz < b)].sum(axis=0) for a, b in ((1, 4), (4, 7.5), (7.5, 12), (12, 25))
    ]
    return np.concatenate([np.abs(step).mean(axis=0), np.log10(np.stack(bands) / len(step) + 1e-3).ravel()])


@lru_cache(maxsize=2)
def _bins(rate_hz: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the spectrogram's bins (candidates, partials) at partials, and half-way below each of them."""
    pitch_hz = 440 * 2 ** ((np.arange(LOW, HIGH) - 69) / 12)
    number = np.arange(1, _PARTIALS + 1)
    last = _WINDOW // 2 - 3
    at, between = (
        np.round(np.outer(pitch_hz, n) * _WINDOW / rate_hz).astype(int) for n in (number, number - 0.5)
    )
    return np.clip(at, 3, last), np.clip(between, 3, last)


@lru_cache(maxsize=1)
def _hann() -> np.ndarray:
    return np.hanning(_WINDOW + 1)[:-1].astype(np.float32)
