"""Trains the judges on sound that the language model never saw: other pieces, grooves and soundfonts.

The exam is a fourth soundfont, again with other grooves. To listen through a codec's blur without knowing the
codec, half of the training crops are coloured: tilted, low-passed, noisy, or put through Griffin-Lim.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from workbench.embedded.corpus import Corpus, corpus
from workbench.embedded.factors import Factors
from workbench.embedded.render import RATE_HZ
from workbench.evidence.features import features
from workbench.evidence.judge import Judge
from workbench.sound import Clip

CROP_S = 5.0


def fit_judge(build: Path, *, target: str = "genre", seed: int = 0) -> Judge:
    """Return a judge of one factor, with its exam figures in its card.

    Args:
        build: folder that holds (or will hold) the rendered corpus.
        target: the factor that it is to hear.
        seed: of crops, colours and the network.
    """
    from sklearn.neural_network import MLPClassifier

    x, factors = training_features(build, seed)
    labels = np.array([str(f.labels()[target]) for f in factors])
    mean, scale = x.mean(axis=0), x.std(axis=0) + 1e-4
    network = MLPClassifier((64,), alpha=1.0, learning_rate_init=2e-3, max_iter=120, random_state=seed)
    network.fit(np.clip((x - mean) / scale, -6, 6), labels)
    layers = tuple(
        (w.astype(np.float32), b.astype(np.float32))
        for w, b in zip(network.coefs_, network.intercepts_, strict=True)
    )
    judge = Judge(target, tuple(network.classes_), mean, scale, layers, {})
    return Judge(target, judge.classes, mean, scale, layers, _card(judge, build, len(labels), seed))


SPLIT_NAMES = ("judge", "judge-varied")


def training_features(build: Path, seed: int) -> tuple[np.ndarray, list[Factors]]:
    """Return features (crops, n) and factors of three crops of every training piece, two of them coloured."""
    rows, factors = [], []
    for name in SPLIT_NAMES:
        pieces = corpus(name, build)
        path = build / "judge" / f"{name}-{seed}.npy"
        if not path.exists():
            rng = np.random.default_rng(seed)
            crops = tqdm(_crops(pieces, rng), f"hear {name}", 3 * len(pieces), mininterval=5)
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, np.stack([features(Clip(crop, RATE_HZ)) for crop in crops]))
        rows.append(np.load(path))
        factors += [f for f in pieces.factors for _ in range(3)]
    return np.concatenate(rows), factors


def _crops(pieces: Corpus, rng: np.random.Generator) -> Iterator[np.ndarray]:
    size = int(CROP_S * RATE_HZ)
    for _, samples in pieces:
        for colour in (None, _tilt_and_noise, _griffin_lim):
            start = int(rng.integers(len(samples) - size + 1))
            crop = samples[start : start + size]
            yield crop if colour is None else colour(crop, rng)


def _tilt_and_noise(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the crop with a random spectral tilt (up to 8 dB a decade), cut-off and hiss."""
    spectrum = np.fft.rfft(samples)
    hertz = np.fft.rfftfreq(len(samples), 1 / RATE_HZ)
    tilt_db = rng.uniform(-8, 8) * np.log10(np.maximum(hertz, 50) / 1000)
    cut_off = rng.uniform(4000, 8000)
    gain = 10 ** (tilt_db / 20) / (1 + (hertz / cut_off) ** 8)
    coloured = np.fft.irfft(spectrum * gain, len(samples))
    hiss = rng.standard_normal(len(samples)) * 10 ** (rng.uniform(-60, -35) / 20)
    return (coloured + hiss).astype(np.float32)


def _griffin_lim(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the crop rebuilt from its mel spectrogram alone, phases guessed."""
    import librosa
    from librosa.filters import mel as mel_filters

    filters = mel_filters(sr=RATE_HZ, n_fft=1024, n_mels=int(rng.integers(48, 97)))
    mel = filters @ np.abs(librosa.stft(samples, n_fft=1024, hop_length=256))
    spectrum = np.maximum(np.linalg.pinv(filters) @ mel, 0.0)
    rebuilt = librosa.griffinlim(
        spectrum, n_iter=8, hop_length=256, n_fft=1024, length=len(samples), random_state=0
    )
    return np.asarray(rebuilt, np.float32)


def exam_crops(build: Path) -> tuple[list[Clip], list[Factors]]:
    """Return 5 s crops of the exam split (another soundfont, other grooves) and their factors."""
    pieces = corpus("exam", build)
    size = int(CROP_S * RATE_HZ)
    return [Clip(samples[:size], RATE_HZ) for _, samples in pieces], list(pieces.factors)


def _card(judge: Judge, build: Path, crops: int, seed: int) -> dict[str, object]:
    from sklearn.metrics import confusion_matrix

    clips, factors = exam_crops(build)
    truth = [str(f.labels()[judge.target]) for f in factors]
    heard = judge.decide(clips)
    accuracy = float(np.mean(np.array(truth) == np.array(heard)))
    return {
        "trained_on": f"{crops} crops of {CROP_S:g} s, grooves 100-115, FluidR3, MuseScore, OPL-3",
        "exam": f"{len(clips)} crops, grooves 116-119, TimGM6mb soundfont (not used in training)",
        "exam_accuracy": round(accuracy, 4),
        "seed": seed,
        "confusion (rows: truth)": confusion_matrix(truth, heard, labels=list(judge.classes)).tolist(),
    }
