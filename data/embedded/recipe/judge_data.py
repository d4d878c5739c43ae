"""What judges are trained and tested on: features of five-second crops, and what was composed.

The band plays every piece with the sounds of other soundfonts than the one that ships, in turn, so that a
judge knows genres by more than one set of samples. Half of the crops are made duller and hissed at, as
recordings are. Grooves and pieces are the judges' own: the language model never read one of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from zlib import crc32

import numpy as np
from tqdm.auto import tqdm

from recipe.corpus import SPLITS, scores
from recipe.factors import Factors
from recipe.samples import SHIPPED, bank_of
from workbench.evidence.features import VERSION, features
from workbench.model.band import FRAME_RATE_HZ
from workbench.model.band_sampler import FRAME, RATE_HZ, Bank, Player
from workbench.sound import Clip

CROP_S = 5.0
TRAINING_FONTS, TEST_FONT = (SHIPPED, "MuseScore", "OPL-3"), "TimGM6mb"
_LEAD_IN = 2 * FRAME_RATE_HZ  # frames that are played before a crop, so that what rings is heard in it
Colour = Callable[[np.ndarray, np.random.Generator], np.ndarray]


@dataclass(frozen=True, eq=False)
class Crops:
    """Features of crops, and everything that is known of each.

    Attributes:
        x: (crops, n) features.
        factors: what was composed, a crop each.
        fonts: (crops,) names of soundfonts, and ``colours``: (crops,) how each was coloured.
        source: the sets of pieces, in words.
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

    def take(self, mask: np.ndarray) -> Crops:
        """Return the crops where ``mask`` (crops,) holds."""
        factors = tuple(f for f, kept in zip(self.factors, mask, strict=True) if kept)
        return Crops(self.x[mask], factors, self.fonts[mask], self.colours[mask], self.source)


def training_crops(build: Path, seed: int) -> Crops:
    """Return two crops of each training piece: plain, and tilted with noise."""
    return _joined(
        [_crops("judge", TRAINING_FONTS, colour, build, seed) for colour in (plain, tilt_and_noise)]
    )


def test_crops(build: Path, seed: int) -> Crops:
    """Return a crop of each test piece (other grooves) with a soundfont of its own, and with what ships."""
    return _joined([_crops("judge-test", (font,), plain, build, seed) for font in (TEST_FONT, SHIPPED)])


def _crops(name: str, fonts: tuple[str, ...], colour: Colour, build: Path, seed: int) -> Crops:
    pieces = scores(name, build)
    split, label = SPLITS[name], getattr(colour, "__name__", "colour")
    path = build / "judge" / f"{name}-{'-'.join(fonts)}-{label}-{seed}-{VERSION}.npy"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng([seed, crc32(path.stem.encode())])
        banks = [bank_of(font, build) for font in fonts]
        rows = [
            features(Clip(colour(_crop(codes, banks[i % len(banks)], rng), rng), RATE_HZ))
            for i, codes in enumerate(tqdm(pieces.codes, f"features {path.stem}", mininterval=5))
        ]
        np.save(path, np.stack(rows))
    return Crops(
        np.load(path),
        pieces.factors,
        np.array([fonts[i % len(fonts)] for i in range(len(pieces))]),
        np.full(len(pieces), label),
        f"{name}, grooves {split.grooves.start}-{split.grooves.stop - 1}, {', '.join(fonts)}",
    )


def _crop(codes: np.ndarray, bank: Bank, rng: np.random.Generator) -> np.ndarray:
    """Return `CROP_S` seconds from anywhere in a piece, codes (parts, frames), as a bank plays it."""
    size = round(CROP_S * FRAME_RATE_HZ)
    start = int(rng.integers(_LEAD_IN, codes.shape[1] - size + 1))
    return Player(bank).play(codes[:, start - _LEAD_IN : start + size])[_LEAD_IN * FRAME :]


def plain(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the crop as it is."""
    return samples


def tilt_and_noise(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the crop with a random spectral tilt (up to 8 dB a decade), cut-off and hiss."""
    spectrum = np.fft.rfft(samples)
    hertz = np.fft.rfftfreq(len(samples), 1 / RATE_HZ)
    tilt_db = rng.uniform(-8, 8) * np.log10(np.maximum(hertz, 50) / 1000)
    cut_off = rng.uniform(4000, 14_000)
    gain = 10 ** (tilt_db / 20) / (1 + (hertz / cut_off) ** 8)
    coloured = np.fft.irfft(spectrum * gain, len(samples))
    hiss = rng.standard_normal(len(samples)) * 10 ** (rng.uniform(-60, -35) / 20)
    return (coloured + hiss).astype(np.float32)


def _joined(parts: list[Crops]) -> Crops:
    """Return the crops of all parts, end to end."""
    return Crops(
        np.concatenate([p.x for p in parts]),
        tuple(f for p in parts for f in p.factors),
        np.concatenate([p.fonts for p in parts]),
        np.concatenate([p.colours for p in parts]),
        "; ".join(dict.fromkeys(p.source for p in parts)),
    )
