"""Audio features for judges: timbre, rhythm, harmony and melody statistics, computed from sound alone.

Nothing here knows a model, an activation or a code. All features are invariant to the clip's level. They come
in named *blocks*, so that a judge can be told what it may listen to: a judge of tempo that hears pulse alone
cannot mark a clip as fast because it is bright or busy.

| block       | what it holds                                                     | module    |
|-------------|-------------------------------------------------------------------|-----------|
| `spectrum`  | mean, spread and rise of 40 log-mel bands, cepstral spread         | here      |
| `rhythm`    | auto- and cross-correlations of onsets, onset shape                | `rhythm`  |
| `pulse`     | correlation and Fourier scores at the beats of fixed tempi         | `rhythm`  |
| `intervals` | chords' interval profile, blind to the key                         | `harmony` |
| `key`       | chroma by register, absolute and from the best tonic; 24 keys      | `harmony` |
| `melody`    | overtones, envelope and vibrato of the melody; steady timbre        | `melody`  |
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from workbench.evidence.harmony import interval_profile, key_profile, semitones
from workbench.evidence.melody import melody_timbre, modulation
from workbench.evidence.rhythm import onset_correlations, onset_shape, pulse_scores

if TYPE_CHECKING:
    from workbench.sound import Clip

VERSION = "blocks-1"
"""Name of this set of features; a judge tells which one it was trained on."""

RATE_HZ = 16_000
HOP = 160  # 10 ms
BANDS = 40
_EDGES = (0, 5, 12, 22, 31, 40)  # mel bands of the rhythm features: bass, low, middle, high, air


def features(clip: Clip) -> np.ndarray:
    """Return the feature vector (n,) float32 of a clip of at least one second: all blocks end to end."""
    return np.concatenate(list(feature_blocks(clip).values())).astype(np.float32)


def feature_blocks(clip: Clip) -> dict[str, np.ndarray]:
    """Return the features of a clip of at least one second by block, as in the module's table."""
    samples = np.asarray(clip.resample(RATE_HZ).samples, np.float32)
    mel = _log_mel(samples)
    rise = np.maximum(np.diff(mel, axis=0), 0.0)
    centred = mel - mel.mean()
    onsets = np.stack([rise[:, a:b].mean(axis=1) for a, b in pairwise(_EDGES)])
    notes = semitones(samples, RATE_HZ)
    spectrum = [centred.mean(axis=0), mel.std(axis=0), rise.mean(axis=0), _cepstral_spread(centred)]
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
    """Return where each block lies in the vector that ``features`` returns."""
    from workbench.sound import Clip

    noise = np.random.default_rng(0).normal(0, 0.1, 2 * RATE_HZ).astype(np.float32)
    lengths = {name: len(block) for name, block in feature_blocks(Clip(noise, RATE_HZ)).items()}
    ends = np.cumsum(list(lengths.values()))
    return {name: slice(int(end - n), int(end)) for (name, n), end in zip(lengths.items(), ends, strict=True)}


def _log_mel(samples: np.ndarray) -> np.ndarray:
    """Return log-mel frames (frames, bands), level-normalised, floored 60 dB below the clip's mean power."""
    import librosa

    power = librosa.feature.melspectrogram(
        y=samples, sr=RATE_HZ, n_fft=512, hop_length=HOP, n_mels=BANDS, fmin=40
    )
    return np.asarray(np.log10(power / max(float(power.mean()), 1e-12) + 1e-4).T)


def _cepstral_spread(centred: np.ndarray) -> np.ndarray:
    """Return the standard deviation over time of 13 cepstral coefficients (13,)."""
    from scipy.fft import dct

    return np.asarray(dct(centred, axis=1, norm="ortho")[:, :13].std(axis=0))
