"""Audio features for judges: timbre, rhythm, harmony and melody statistics, computed from sound alone.

All features are invariant to the clip's level. They come in named *blocks*, so that a judge can be told what
it may listen to: a judge of tempo that hears pulse alone cannot mark a clip as fast because it is bright.

| block       | what it holds                                                |
|-------------|--------------------------------------------------------------|
| `spectrum`  | mean, spread and rise of 40 log-mel bands, cepstral spread    |
| `rhythm`    | auto- and cross-correlations of onsets, onset shape           |
| `pulse`     | correlation and Fourier scores at the beats of fixed tempi    |
| `intervals` | chords' interval profile, blind to the key                    |
| `key`       | chroma by register, absolute and from the best tonic; 24 keys |
| `melody`    | overtones, envelope and vibrato of the melody; steady timbre   |

Harmony is read from a semitone spectrogram with drums filtered out; key correlations follow Krumhansl (1990)
with the profiles of Temperley (2007), which suit popular music. The melody is the strongest harmonic series
between G4 and C6 at each moment: which partials are strong, whether a note decays or is held, whether it
wavers. Onsets are rises of log-mel bands in five registers `(bands, frames)`, 100 frames a second.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import numpy as np
from scipy.fft import dct, rfft
from scipy.ndimage import median_filter, uniform_filter1d

from workbench.sound import Clip

VERSION = "blocks-1"
"""Name of this set of features; a judge tells which one it was trained on."""

RATE_HZ = 16_000
HOP = 160  # 10 ms
BANDS = 40
_EDGES = (0, 5, 12, 22, 31, 40)  # mel bands of the rhythm features: bass, low, middle, high, air

LOW, HIGH = 28, 100  # MIDI pitches of the semitone bands, E1 to E7
_REGISTERS = ((28, 52), (52, 67), (67, 84), (28, 100))  # bass, accompaniment, melody, everything
_WINDOW, _HOP = 8192, 1600  # half a second, ten frames a second
_MAJOR = np.array([0.748, 0.060, 0.488, 0.082, 0.670, 0.460, 0.096, 0.715, 0.104, 0.366, 0.057, 0.400])
_MINOR = np.array([0.712, 0.084, 0.474, 0.618, 0.049, 0.460, 0.105, 0.747, 0.404, 0.067, 0.133, 0.330])
_KEYS = np.stack([np.roll(p - p.mean(), k) for p in (_MAJOR, _MINOR) for k in range(12)])  # (24, 12)
_KEYS /= np.linalg.norm(_KEYS, axis=1, keepdims=True)


def semitones(samples: np.ndarray, rate_hz: int) -> np.ndarray:
    """Return how strongly each semitone sounds (frames, HIGH - LOW), ten frames a second, mean 1.

    What is no peak among its neighbours (noise, drums) is taken off, and what partials of lower notes bring.
    """
    loud = np.sqrt(_power(samples, _WINDOW, _HOP) @ _filters(rate_hz).T)
    padded = np.pad(loud, ((0, 0), (3, 3)), mode="edge")
    neighbours = np.lib.stride_tricks.sliding_window_view(padded, 7, axis=1)
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

    Then follow the best key in either mode, their distance, and how much each degree's triads are heard.
    """
    registers = [_chroma(notes, a, b).mean(axis=0) for a, b in _REGISTERS]
    registers = [np.sqrt(c / max(float(c.sum()), 1e-9)) for c in registers]
    centred = np.stack(registers) - np.mean(registers, axis=1, keepdims=True)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True) + 1e-9
    keys = (centred @ _KEYS.T).reshape(-1, 2, 12)  # (registers, mode, tonic)
    major, minor = keys[-1]
    tonic = int(np.argmax(np.maximum(major, minor) + 0.5 * keys[0].max(axis=0)))
    turned = [np.roll(c, -tonic) for c in registers]
    best = keys.max(axis=2)
    shapes = [np.isin(np.arange(12), tones) for tones in ((0, 4, 7), (0, 3, 7))]
    chords = np.stack([np.roll(shape, k) for shape in shapes for k in range(12)])
    moments = _chroma(notes, LOW, HIGH)
    fit = (moments / (np.linalg.norm(moments, axis=1, keepdims=True) + 1e-9)) @ chords.T
    triads = np.bincount(fit.argmax(axis=1), minlength=24).reshape(2, 12) / len(moments)
    differences = [best[:, 0] - best[:, 1], keys[:, 0, tonic] - keys[:, 1, tonic]]
    shares = [triads.ravel(), np.roll(triads, -tonic, axis=1).ravel()]
    return np.concatenate([*registers, *turned, major, minor, best.ravel(), *differences, *shares])


def _chroma(notes: np.ndarray, low: int, high: int) -> np.ndarray:
    """Return the pitch classes (frames, 12), C first, of the notes from `low` up to `high`."""
    fold = np.eye(12)[np.arange(low, high) % 12]
    return np.asarray(notes[:, low - LOW : high - LOW] @ fold)


def _power(samples: np.ndarray, window: int, hop: int) -> np.ndarray:
    """Return the power spectrum (frames, bins) of centred frames under a Hann window."""
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(samples, window // 2), window)[::hop]
    hann = np.hanning(window + 1)[:-1].astype(np.float32)
    return np.asarray(np.abs(rfft(frames * hann, axis=1)) ** 2)


@lru_cache(maxsize=2)
def _filters(rate_hz: int) -> np.ndarray:
    """Return triangular filters (semitones, bins), each at least one and a half bins wide on either side."""
    hertz = np.fft.rfftfreq(_WINDOW, 1 / rate_hz)
    centres = 440 * 2 ** ((np.arange(LOW, HIGH) - 69) / 12)
    half = np.maximum(centres * (2 ** (1 / 12) - 1) * 0.7, 1.5 * rate_hz / _WINDOW)
    distance = np.abs(hertz[None, :] - centres[:, None]) / half[:, None]
    return np.maximum(1 - distance, 0.0).astype(np.float32)


MELODY_LOW, MELODY_HIGH = 66, 88  # MIDI pitches that a melody may have
_MELODY_WINDOW, _MELODY_HOP = 2048, 320  # 128 ms, fifty frames a second
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
    tone = _overtones(partials[wanted], gaps[wanted])
    envelope = _envelope(partials[:, :4].mean(axis=1).T, salience, line)
    vibrato = _vibrato(_cents(decibels, line, rate_hz), line)
    return np.concatenate([tone, envelope, vibrato, np.quantile(salience[moment, line], [0.1, 0.5, 0.9])])


def modulation(mel: np.ndarray) -> np.ndarray:
    """Return how fast and how steadily log-mel bands (frames, bands) move: tremolo, noise, held tones.

    The share of each modulation band (0.7 to 30 Hz) in eight groups of bands, and the steady part's cepstrum.
    """
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
    power = _power(samples, _MELODY_WINDOW, _MELODY_HOP)
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
    whitened = np.maximum(decibels - uniform_filter1d(decibels, 61, axis=1), -5.0)
    partials, gaps = _partials(whitened, rate_hz)
    return np.asarray(uniform_filter1d((partials - 0.5 * gaps).mean(axis=1).T, 7, axis=0))


def _overtones(partials: np.ndarray, gaps: np.ndarray) -> np.ndarray:
    """Return mean and spread of partials (moments, partials) about their mean, and their height over gaps."""
    profile = partials - partials.mean(axis=1, keepdims=True)
    clearness = partials - gaps
    odd_over_even = partials[:, 0::2].mean(axis=1) - partials[:, 1::2].mean(axis=1)
    shape = [profile.mean(axis=0), profile.std(axis=0), np.median(profile, axis=0)]
    clear = [clearness.mean(axis=0), clearness.std(axis=0)]
    return np.concatenate([*shape, *clear, np.quantile(odd_over_even, [0.25, 0.5, 0.75])])


def _envelope(level: np.ndarray, salience: np.ndarray, line: np.ndarray) -> np.ndarray:
    """Return the mean course of notes from 80 ms before to 440 ms after they begin, and how notes end."""
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
    at = _bins(rate_hz)[0][line, :2]
    bins = at[:, :, None] + np.arange(-2, 3)
    weight = 10 ** (decibels[np.arange(len(line))[:, None, None], bins] / 10)
    return np.asarray((weight * bins).sum(axis=2) / weight.sum(axis=2) / at)


def _vibrato(cents: np.ndarray, line: np.ndarray) -> np.ndarray:
    """Return how far and how fast the fine pitch (frames, 2) moves inside notes, in thousandths."""
    step = np.diff(cents, axis=0) * 1000
    step[np.diff(line) != 0] = 0.0
    step = np.clip(step, -30, 30)
    power = np.abs(np.fft.rfft(step * np.hanning(len(step))[:, None], axis=0)) ** 2
    hertz = np.fft.rfftfreq(len(step), _MELODY_HOP / 16_000)
    edges = pairwise((1, 4, 7.5, 12, 25))
    bands = [power[(hertz >= a) & (hertz < b)].sum(axis=0) for a, b in edges]
    return np.concatenate([np.abs(step).mean(axis=0), np.log10(np.stack(bands) / len(step) + 1e-3).ravel()])


@lru_cache(maxsize=2)
def _bins(rate_hz: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the spectrogram's bins (candidates, partials) at partials, and half-way below each of them."""
    pitch_hz = 440 * 2 ** ((np.arange(MELODY_LOW, MELODY_HIGH) - 69) / 12)
    number = np.arange(1, _PARTIALS + 1)
    last = _MELODY_WINDOW // 2 - 3
    hertz = (np.outer(pitch_hz, partials) for partials in (number, number - 0.5))
    at, between = (np.round(one * _MELODY_WINDOW / rate_hz).astype(int) for one in hertz)
    return np.clip(at, 3, last), np.clip(between, 3, last)


FRAMES_A_SECOND = 100
BEATS_S = (0.8, 0.64, 0.48)  # of a beat at 75, 93.75 and 125 beats a minute
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
    found = [_at(auto, _LAGS) for auto in autos] + [_at(auto, inside) for auto in autos]
    found += [_at(cross, np.r_[-across[:0:-1], across]) for cross in crosses]
    return np.concatenate([*found, [beat / FRAMES_A_SECOND]])


def onset_shape(onsets: np.ndarray) -> np.ndarray:
    """Return how peaked and how frequent onsets are in each band: quantiles, and each band's share."""
    total = onsets.mean(axis=1, keepdims=True) + 1e-9
    quantiles = np.quantile(onsets / total, [0.5, 0.75, 0.9, 0.97], axis=1)
    return np.concatenate([quantiles.ravel(), (total / total.sum()).ravel()])


def pulse_scores(onsets: np.ndarray) -> np.ndarray:
    """Return how well onsets (bands, frames) repeat at three tempi: in all, in the low and the high bands."""
    return np.concatenate([_pulse(onsets), _pulse(onsets[:2]), _pulse(onsets[3:])])


def _pulse(onsets: np.ndarray) -> np.ndarray:
    """Return correlations around each tempo's beat, its fractions and multiples, and its Fourier power."""
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


def features(clip: Clip) -> np.ndarray:
    """Return the feature vector (n,) float32 of a clip of at least one second: all blocks end to end."""
    return np.concatenate(list(feature_blocks(clip).values())).astype(np.float32)


def feature_blocks(clip: Clip) -> dict[str, np.ndarray]:
    """Return the features of a clip of at least one second by block, as in the module's table."""
    samples = np.asarray(clip.resample(RATE_HZ).samples, np.float32)
    mel = log_mel(samples)
    rise = np.maximum(np.diff(mel, axis=0), 0.0)
    centred = mel - mel.mean()
    onsets = np.stack([rise[:, a:b].mean(axis=1) for a, b in pairwise(_EDGES)])
    notes = semitones(samples, RATE_HZ)
    spread = dct(centred, axis=1, norm="ortho")[:, :13].std(axis=0)  # of 13 cepstral coefficients
    spectrum = [centred.mean(axis=0), mel.std(axis=0), rise.mean(axis=0), spread]
    return {
        "spectrum": np.concatenate(spectrum),
        "rhythm": np.concatenate([onset_correlations(onsets), onset_shape(onsets)]),
        "pulse": pulse_scores(onsets),
        "intervals": interval_profile(notes),
        "key": key_profile(notes),
        "melody": np.concatenate([melody_timbre(samples, RATE_HZ), modulation(mel)]),
    }


@lru_cache(maxsize=1)
def block_slices() -> dict[str, slice]:
    """Return where each block lies in the vector that `features` returns."""
    noise = np.random.default_rng(0).normal(0, 0.1, 2 * RATE_HZ).astype(np.float32)
    lengths = {name: len(block) for name, block in feature_blocks(Clip(noise, RATE_HZ)).items()}
    ends = np.cumsum(list(lengths.values()))
    return {name: slice(int(end - n), int(end)) for (name, n), end in zip(lengths.items(), ends, strict=True)}


def log_mel(samples: np.ndarray) -> np.ndarray:
    """Return log-mel frames (frames, bands), level-normalised, floored 60 dB below the clip's mean power."""
    import librosa

    power = librosa.feature.melspectrogram(
        y=samples, sr=RATE_HZ, n_fft=512, hop_length=HOP, n_mels=BANDS, fmin=40
    )
    return np.asarray(np.log10(power / max(float(power.mean()), 1e-12) + 1e-4).T)


def onset_strength(clip: Clip) -> np.ndarray:
    """Return the mean rise of log-mel bands `(frames,)` per 10 ms, smoothed over 30 ms."""
    rise = np.maximum(np.diff(log_mel(clip.resample(RATE_HZ).samples), axis=0), 0.0).mean(axis=1)
    return np.asarray(np.convolve(rise, np.array([0.25, 0.5, 0.25]), mode="same"))
