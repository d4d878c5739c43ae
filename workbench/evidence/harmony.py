"""Harmony features: a semitone spectrogram with drums filtered out, chroma by register, keys and modes.

The key correlations follow Krumhansl (1990) with the profiles of Temperley (2007), which suit popular music.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

LOW, HIGH = 28, 100  # MIDI pitches of the semitone bands, E1 to E7
_REGISTERS = ((28, 52), (52, 67), (67, 84), (28, 100))  # bass, accompaniment, melody, everything
_WINDOW, _HOP = 8192, 1600  # half a second, ten frames a second
_MAJOR = np.array([0.748, 0.060, 0.488, 0.082, 0.670, 0.460, 0.096, 0.715, 0.104, 0.366, 0.057, 0.400])
_MINOR = np.array([0.712, 0.084, 0.474, 0.618, 0.049, 0.460, 0.105, 0.747, 0.404, 0.067, 0.133, 0.330])


def semitones(samples: np.ndarray, rate_hz: int) -> np.ndarray:
    """Return how strongly each semitone sounds (frames, HIGH - LOW), ten frames a second, mean 1.

    Power in each semitone, root-compressed. What is no peak among its neighbours (noise, drums) is taken off,
    as are a third and a fifth of what the third and fifth partials of lower notes would bring.
    """
    from scipy.fft import rfft

    padded = np.pad(samples, _WINDOW // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::_HOP]
    power = np.abs(rfft(frames * _hann(_WINDOW), axis=1)) ** 2
    loud = np.sqrt(power @ _filters(rate_hz).T)
    neighbours = np.lib.stride_tricks.sliding_window_view(
        np.pad(loud, ((0, 0), (3, 3)), mode="edge"), 7, axis=1
    )
    peaks = np.maximum(loud - np.median(neighbours, axis=2), 0.0)
    notes = peaks.copy()
    for interval, share in ((19, 1 / 3), (28, 1 / 5)):
        notes[:, interval:] -= share * peaks[:, :-interval]
    notes = np.maximum(notes, 0.0)
    return np.asarray(notes / max(float(notes.mean()), 1e-9))


def interval_profile(notes: np.ndarray) -> np.ndarray:
    """Return interval profiles of chords (moment by moment, and of the mean chroma), blind to the key."""
    chroma = _chroma(notes, LOW, HIGH)
    chroma = chroma / (chroma.max(axis=1, keepdims=True) + 1e-9)
    mean = chroma.mean(axis=0)
    profiles = []
    for vectors in (chroma.T, mean[:, None]):
        unit = (vectors - vectors.mean(axis=0)) / (vectors.std(axis=0) + 1e-9)
        profiles += [float(np.mean(unit * np.roll(unit, k, axis=0))) for k in range(1, 7)]
    flux = float(np.abs(np.diff(chroma, axis=0)).mean())
    crest = float((np.sort(chroma, axis=1)[:, -4:].sum(axis=1) / (chroma.sum(axis=1) + 1e-9)).mean())
    return np.array([*profiles, float(mean.std()), flux, crest])


def key_profile(notes: np.ndarray) -> np.ndarray:
    """Return what tells major from minor: chroma, absolute and from the best tonic, and 24 key correlations.

    For the bass, the accompaniment, the melody and all together: the chroma as it is (pieces use few tonics,
    so that flats are minor's) and turned so that the best tonic comes first. Then the correlations of the
    whole chroma with all keys, their best in either mode and the distance between the two, and how much the
    moment's major and minor triads on each degree are heard.
    """
    registers = [_chroma(notes, a, b).mean(axis=0) for a, b in _REGISTERS]
    registers = [np.sqrt(c / max(float(c.sum()), 1e-9)) for c in registers]
    keys = np.stack([_correlations(c) for c in registers])  # (registers, mode, tonic)
    major, minor = keys[-1]
    tonic = int(np.argmax(np.maximum(major, minor) + 0.5 * keys[0].max(axis=0)))
    turned = [np.roll(c, -tonic) for c in registers]
    best = keys.max(axis=2)
    triads = _triads(_chroma(notes, LOW, HIGH))
    return np.concatenate(
        [
            *registers,
            *turned,
            major,
            minor,
            best.ravel(),
            best[:, 0] - best[:, 1],
            keys[:, 0, tonic] - keys[:, 1, tonic],
            triads.ravel(),
            np.roll(triads, -tonic, axis=1).ravel(),
        ]
    )


def _chroma(notes: np.ndarray, low: int, high: int) -> np.ndarray:
    """Return the pitch classes (frames, 12), C first, of the notes from ``low`` up to ``high``."""
    fold = np.eye(12)[np.arange(low, high) % 12]
    return np.asarray(notes[:, low - LOW : high - LOW] @ fold)


def _correlations(chroma: np.ndarray) -> np.ndarray:
    """Return the correlation of a chroma (12,) with each key (2, 12): major and minor, tonics from C."""
    unit = (chroma - chroma.mean()) / (np.linalg.norm(chroma - chroma.mean()) + 1e-9)
    return np.asarray((_key_templates() @ unit).reshape(2, 12))


def _triads(chroma: np.ndarray) -> np.ndarray:
    """Return the share of moments (2, 12) at which each major and minor triad fits best."""
    shapes = [np.isin(np.arange(12), tones) for tones in ((0, 4, 7), (0, 3, 7))]
    chords = np.stack([np.roll(shape, k) for shape in shapes for k in range(12)])
    fit = (chroma / (np.linalg.norm(chroma, axis=1, keepdims=True) + 1e-9)) @ chords.T
    return np.bincount(fit.argmax(axis=1), minlength=24).reshape(2, 12) / len(chroma)


@lru_cache(maxsize=1)
def _key_templates() -> np.ndarray:
    """Return the unit profiles (24, 12) of all major, then all minor keys."""
    rows = np.stack([np.roll(p - p.mean(), k) for p in (_MAJOR, _MINOR) for k in range(12)])
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


@lru_cache(maxsize=1)
def _hann(size: int) -> np.ndarray:
    return np.hanning(size + 1)[:-1].astype(np.float32)


@lru_cache(maxsize=2)
def _filters(rate_hz: int) -> np.ndarray:
    """Return triangular filters (semitones, bins), each at least one and a half bins wide on either side."""
    hertz = np.fft.rfftfreq(_WINDOW, 1 / rate_hz)
    centres = 440 * 2 ** ((np.arange(LOW, HIGH) - 69) / 12)
    half = np.maximum(centres * (2 ** (1 / 12) - 1) * 0.7, 1.5 * rate_hz / _WINDOW)
    distance = np.abs(hertz[None, :] - centres[:, None]) / half[:, None]
    return np.maximum(1 - distance, 0.0).astype(np.float32)
