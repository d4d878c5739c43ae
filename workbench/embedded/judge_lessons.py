"""What judges learn from and are marked on: features of crops, plain and coloured, with their factors.

Features are computed once and kept in the build folder. A cache's name carries a digest of the feature code,
of the rendered audio and (where it colours) of the codec, so that a cache never outlives what it was made of.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from zlib import crc32

import numpy as np
import torch
from tqdm.auto import tqdm

from workbench.embedded.corpus import SPLITS, Corpus, corpus
from workbench.embedded.factors import Factors
from workbench.embedded.fit_codec import load_codec
from workbench.embedded.render import RATE_HZ
from workbench.evidence import features as feature_code
from workbench.evidence import harmony, melody, rhythm
from workbench.evidence.features import features
from workbench.sound import Clip

CROP_S = 5.0
LESSONS, EXAM = ("judge", "judge-varied"), "exam"
Colour = Callable[[np.ndarray, np.random.Generator], np.ndarray]


@dataclass(frozen=True, eq=False)
class Lessons:
    """Features of crops, and everything that is known of each.

    Attributes:
        x: (crops, n) features.
        factors: what was composed, a crop each.
        fonts: (crops,) names of soundfonts, and ``colours``: (crops,) how each was coloured.
        source: the splits, in words.
    """

    x: np.ndarray
    factors: tuple[Factors, ...]
    fonts: np.ndarray
    colours: np.ndarray
    source: str

    @cached_property
    def grooves(self) -> np.ndarray:
        """Groove number of each crop (crops,)."""
        return np.array([f.groove for f in self.factors])

    def labels(self, target: str) -> np.ndarray:
        """Return a factor of each crop (crops,) as text."""
        return np.array([str(f.labels()[target]) for f in self.factors])

    def take(self, mask: np.ndarray) -> Lessons:
        """Return the crops where ``mask`` (crops,) holds."""
        factors = tuple(f for f, held in zip(self.factors, mask, strict=True) if held)
        return Lessons(self.x[mask], factors, self.fonts[mask], self.colours[mask], self.source)


def lessons(build: Path, seed: int) -> Lessons:
    """Return four crops of each training piece: plain, tilted, by Griffin-Lim, through the codec."""
    colours = (plain, tilt_and_noise, griffin_lim, CodecColour(build))
    return _join([_lessons(name, colour, build, seed) for name in LESSONS for colour in colours])


def exam(build: Path, seed: int) -> Lessons:
    """Return the start of each exam piece (another soundfont, other grooves), plain and through the codec."""
    return _join([_lessons(EXAM, colour, build, seed) for colour in (plain, CodecColour(build))])


def _lessons(name: str, colour: Colour, build: Path, seed: int) -> Lessons:
    split, pieces = SPLITS[name], corpus(name, build)
    fonts = [split.soundfonts[i % len(split.soundfonts)] for i in range(len(pieces))]
    path = build / "judge" / f"{name}-{_name(colour)}-{seed}-{_digest(name, colour, build)}.npy"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng([seed, crc32(f"{name} {_name(colour)}".encode())])
        np.save(path, _features(pieces, colour, rng, path.stem))
    return Lessons(
        np.load(path),
        pieces.factors,
        np.array([font.split("_")[0].removesuffix(".sf2") for font in fonts]),
        np.full(len(pieces), _name(colour)),
        f"{name}, grooves {split.grooves.start}-{split.grooves.stop - 1}, {', '.join(split.soundfonts)}",
    )


def _join(parts: list[Lessons]) -> Lessons:
    """Return the crops of all parts, end to end."""
    return Lessons(
        np.concatenate([p.x for p in parts]),
        tuple(f for p in parts for f in p.factors),
        np.concatenate([p.fonts for p in parts]),
        np.concatenate([p.colours for p in parts]),
        "; ".join(dict.fromkeys(p.source for p in parts)),
    )


def _features(pieces: Corpus, colour: Colour, rng: np.random.Generator, title: str) -> np.ndarray:
    """Return features (pieces, n) of a coloured crop of each piece: the exam's first 5 s, else any 5 s."""
    size, rows = int(CROP_S * RATE_HZ), []
    for _, samples in tqdm(pieces, f"hear {title}", len(pieces), mininterval=5):
        start = 0 if title.startswith(EXAM) else int(rng.integers(len(samples) - size + 1))
        rows.append(features(Clip(colour(samples[start : start + size].copy(), rng), RATE_HZ)))
    return np.stack(rows)


def _name(colour: Colour) -> str:
    return str(getattr(colour, "__name__", type(colour).__name__)).replace("_", "-")


def _digest(name: str, colour: Colour, build: Path) -> str:
    """Return twelve hexadecimal digits of all that a cache depends on: feature code, audio, codec."""
    digest = hashlib.sha256()
    for module in (feature_code, harmony, melody, rhythm):
        digest.update(Path(str(module.__file__)).read_bytes())
    digest.update((build / "audio" / f"{name}.json").read_bytes())
    samples = np.memmap(build / "audio" / f"{name}.int16", np.int16, "r")
    digest.update(np.ascontiguousarray(samples[::997]).tobytes())
    if isinstance(colour, CodecColour):
        digest.update(b"".join(t.numpy().tobytes() for t in colour.codec.state_dict().values()))
    return digest.hexdigest()[:12]


def plain(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the crop as it is."""
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


def tilt_and_noise(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the crop with a random spectral tilt (up to 8 dB a decade), cut-off and hiss."""
    spectrum = np.fft.rfft(samples)
    hertz = np.fft.rfftfreq(len(samples), 1 / RATE_HZ)
    tilt_db = rng.uniform(-8, 8) * np.log10(np.maximum(hertz, 50) / 1000)
    cut_off = rng.uniform(4000, 8000)
    gain = 10 ** (tilt_db / 20) / (1 + (hertz / cut_off) ** 8)
    coloured = np.fft.irfft(spectrum * gain, len(samples))
    hiss = rng.standard_normal(len(samples)) * 10 ** (rng.uniform(-60, -35) / 20)
    return (coloured + hiss).astype(np.float32)


def griffin_lim(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
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
