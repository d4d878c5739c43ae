"""Trains the judges on sound that the language model never saw: other pieces, grooves and soundfonts.

The exam is a fourth soundfont, again with other grooves. To hear through a codec's blur, three of four
crops are coloured: tilted, low-passed and noisy; rebuilt by Griffin-Lim; or put through the codec.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from zlib import crc32

import numpy as np
import torch
from tqdm.auto import tqdm

from workbench.embedded.corpus import Corpus, corpus
from workbench.embedded.factors import Factors
from workbench.embedded.fit_codec import load_codec
from workbench.embedded.render import RATE_HZ
from workbench.evidence.features import features
from workbench.evidence.judge import Judge
from workbench.sound import Clip

CROP_S = 5.0
Colour = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def fit_judge(build: Path, *, target: str = "genre", seed: int = 0, networks: int = 5) -> Judge:
    """Return a judge of one factor, with its exam figures in its card.

    Several small networks with different seeds vote; side by side they are one wider network.

    Args:
        build: folder that holds (or will hold) the rendered corpus and the trained codec.
        target: the factor that it is to hear.
        seed: of crops, colours and the networks.
        networks: how many vote.
    """
    from sklearn.neural_network import MLPClassifier

    x, factors = training_features(build, seed)
    labels = np.array([str(f.labels()[target]) for f in factors])
    mean, scale = x.mean(axis=0), x.std(axis=0) + 1e-4
    z = np.clip((x - mean) / scale, -6, 6)
    voters = [
        MLPClassifier((64,), alpha=1.0, learning_rate_init=2e-3, max_iter=30, random_state=seed + i).fit(
            z, labels
        )
        for i in range(networks)
    ]
    hidden = (np.hstack([v.coefs_[0] for v in voters]), np.hstack([v.intercepts_[0] for v in voters]))
    output = (
        np.vstack([v.coefs_[1] for v in voters]) / networks,
        np.mean([v.intercepts_[1] for v in voters], axis=0),
    )
    judge = Judge(target, tuple(voters[0].classes_), mean, scale, (hidden, output), {})
    return replace(judge, card=_card(judge, build, len(labels), seed))


def training_features(build: Path, seed: int) -> tuple[np.ndarray, list[Factors]]:
    """Return features (crops, n) and factors of four crops of every training piece, three coloured."""
    rows, factors = [], list[Factors]()
    for name in ("judge", "judge-varied"):
        pieces = corpus(name, build)
        for colour in (_plain, _tilt_and_noise, _griffin_lim, CodecColour(build)):
            rows.append(
                _features(pieces, colour, build / "judge" / f"{name}-{colour.__name__}-{seed}.npy", seed)
            )
            factors += pieces.factors
    return np.concatenate(rows), factors


def _features(pieces: Corpus, colour: Colour, path: Path, seed: int) -> np.ndarray:
    """Return features (pieces, n) of one coloured crop of each piece, computed once."""
    if not path.exists():
        rng = np.random.default_rng([seed, crc32(path.name.encode())])
        size = int(CROP_S * RATE_HZ)
        rows = []
        for _, samples in tqdm(pieces, f"hear {path.stem}", len(pieces), mininterval=5):
            start = int(rng.integers(len(samples) - size + 1))
            rows.append(features(Clip(colour(samples[start : start + size], rng), RATE_HZ)))
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.stack(rows))
    return np.asarray(np.load(path))


def _plain(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return samples


class CodecColour:
    """Puts a crop through the codec and its decoder."""

    __name__ = "codec"

    def __init__(self, build: Path) -> None:
        self.codec = load_codec(build / "vocoder")

    @torch.no_grad()
    def __call__(self, samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the crop as the codec gives it back."""
        codes = self.codec.encode(torch.from_numpy(samples)[None, None]).audio_codes
        return np.asarray(self.codec.decode(codes, [None]).audio_values[0, 0].numpy())


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
    truth = np.array([str(f.labels()[judge.target]) for f in factors])
    colour = CodecColour(build)
    rng = np.random.default_rng(seed)
    decoded = [Clip(colour(clip.samples.copy(), rng), RATE_HZ) for clip in clips]
    heard, heard_decoded = (np.array(judge.decide(c)) for c in (clips, decoded))
    return {
        "trained_on": f"{crops} crops of {CROP_S:g} s, grooves 100-115, 120-139; FluidR3, MuseScore, OPL-3",
        "exam": f"{len(clips)} crops, grooves 116-119, TimGM6mb soundfont (not used in training)",
        "exam_accuracy": round(float((truth == heard).mean()), 4),
        "exam_accuracy_through_codec": round(float((truth == heard_decoded).mean()), 4),
        "seed": seed,
        "confusion (rows: truth)": confusion_matrix(truth, heard, labels=list(judge.classes)).tolist(),
    }
