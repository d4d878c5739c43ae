"""What is chosen before a note is written: the factors of a piece, and the band that plays it.

A piece is *typical* (the genre's practice on the genre's own band) or *crossover* (the same practice on the
band of another genre) by a draw of three to one, made before anything is composed. Tempo, key, mode and
density are drawn independently of the genre.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from zlib import crc32

import numpy as np

from workbench.model.band import BEAT_FRAMES, FRAME_RATE_HZ

GENRES = ("classical", "country", "electronic", "jazz", "reggae", "rock")
KEYS: dict[str, int] = {"F": 5, "C": 0, "G": 7}
"""Tonics as semitones above C: neighbours on the circle of fifths, whose major and minor scales differ."""

TYPICAL = 0.75
"""Chance of a piece to be played by its genre's own band."""

LEAD_FAMILIES: dict[str, tuple[str, ...]] = {
    "piano": ("piano",),
    "vibraphone": ("vibraphone",),
    "guitar": ("jazz guitar", "steel guitar", "overdriven guitar", "pedal steel"),
    "banjo": ("banjo",),
    "violin": ("violin", "fiddle", "cello"),
    "saxophone": ("saxophone",),
    "trumpet": ("trumpet",),
    "flute": ("flute", "clarinet"),
    "harmonica": ("harmonica", "melodica"),
    "synth": ("saw synth", "square synth"),
}
"""Words for lead instruments, and the band's instruments that they name."""

MOODS = {
    ("major", "high"): "happy",
    ("major", "low"): "calm",
    ("minor", "high"): "energetic",
    ("minor", "low"): "sad",
}

Weights = Mapping[str, float]


@dataclass(frozen=True)
class Band:
    """The sounds that a genre draws from, with their chances; "" is nobody."""

    kit: Weights
    bass: Weights
    accompaniment: Weights
    colour: Weights
    lead: Weights
    pad: Weights


BANDS: dict[str, Band] = {
    "classical": Band(
        kit={"": 1},
        bass={"cello bass": 1},
        accompaniment={"piano": 3, "harp": 2, "pizzicato strings": 2, "strings": 3, "harpsichord": 1.5},
        colour={"strings": 3, "flute": 1.5, "clarinet": 1.5, "harp": 1, "pizzicato strings": 1},
        lead={"violin": 4, "flute": 2.5, "clarinet": 1.5, "cello": 1.5, "piano": 2},
        pad={"string pad": 0.6, "": 0.4},
    ),
    "country": Band(
        kit={"brush kit": 2, "standard kit": 3},
        bass={"upright bass": 3, "finger bass": 2},
        accompaniment={"steel guitar": 1},
        colour={"fiddle": 3, "clean guitar": 3, "banjo": 1.5},
        lead={"pedal steel": 5, "steel guitar": 2.5, "fiddle": 2, "harmonica": 1},
        pad={"": 1},
    ),
    "electronic": Band(
        kit={"machine kit": 1},
        bass={"synth bass": 1},
        accompaniment={"saw synth": 3, "square synth": 2, "poly synth": 3},
        colour={"saw synth": 2, "square synth": 3, "synth brass": 1},
        lead={"saw synth": 3, "square synth": 2},
        pad={"synth pad": 0.7, "": 0.3},
    ),
    "jazz": Band(
        kit={"jazz kit": 3, "brush kit": 1},
        bass={"upright bass": 1},
        accompaniment={"piano": 5, "jazz guitar": 2, "vibraphone": 1},
        colour={"brass section": 1, "": 3},
        lead={"saxophone": 5, "trumpet": 3, "vibraphone": 1, "jazz guitar": 1.5, "piano": 1, "clarinet": 0.7},
        pad={"": 1},
    ),
    "reggae": Band(
        kit={"standard kit": 3, "power kit": 1},
        bass={"finger bass": 1},
        accompaniment={"muted guitar": 3, "clean guitar": 3, "piano": 1},
        colour={"drawbar organ": 4, "brass section": 3, "rock organ": 1},
        lead={"melodica": 5, "trumpet": 1.5, "saxophone": 1.5},
        pad={"": 1},
    ),
    "rock": Band(
        kit={"power kit": 3, "standard kit": 1},
        bass={"picked bass": 3, "finger bass": 1},
        accompaniment={"distorted guitar": 4, "overdriven guitar": 3},
        colour={"overdriven guitar": 2, "rock organ": 1, "distorted guitar": 1, "": 1},
        lead={"overdriven guitar": 1},
        pad={"": 1},
    ),
}


@dataclass(frozen=True)
class Factors:
    """What is known of a piece before a note is written."""

    genre: str
    groove: int
    band: str  # the genre whose band plays; the genre itself in typical pieces
    tempo: str  # "slow", "medium" or "fast": 75, 93.75, 125 beats a minute
    key: str
    mode: str  # "major" or "minor"
    density: str  # "low" or "high"
    lead: str  # instrument
    seed: int

    @property
    def typical(self) -> bool:
        """Whether the genre's own band plays."""
        return self.band == self.genre

    @property
    def lead_family(self) -> str:
        """The word for the lead instrument."""
        return next(word for word, names in LEAD_FAMILIES.items() if self.lead in names)

    @property
    def mood(self) -> str:
        """The mood word: valence is the mode; fast, or dense and not slow, is aroused."""
        aroused = self.tempo == "fast" or (self.density == "high" and self.tempo == "medium")
        return MOODS[(self.mode, "high" if aroused else "low")]

    @property
    def tempo_bpm(self) -> float:
        """Beats a minute."""
        return 60 * FRAME_RATE_HZ / BEAT_FRAMES[self.tempo]

    def labels(self) -> dict[str, str | float]:
        """Return every factor as a column of labels."""
        columns = {k: v for k, v in asdict(self).items() if k not in ("seed", "groove", "lead")}
        return {
            **columns,
            "typical": "yes" if self.typical else "no",
            "lead": self.lead_family,
            "groove": f"{self.genre}-{self.groove:02d}",
            "mood": self.mood,
            "tempo_bpm": self.tempo_bpm,
        }


def draw_factors(genre: str, groove: int, seed: int) -> Factors:
    """Return the factors of a piece; all but the band's sounds are independent of the genre."""
    rng = np.random.default_rng([crc32(genre.encode()), groove, seed])
    others = [other for other in GENRES if other != genre]
    band = genre if rng.random() < TYPICAL else str(rng.choice(others))
    return Factors(
        genre=genre,
        groove=groove,
        band=band,
        tempo=str(rng.choice(list(BEAT_FRAMES))),
        key=str(rng.choice(list(KEYS))),
        mode=str(rng.choice(["major", "minor"])),
        density=str(rng.choice(["low", "high"])),
        lead=draw(BANDS[band].lead, rng),
        seed=seed,
    )


def draw(weights: Weights, rng: np.random.Generator) -> str:
    """Return one of the keys, each with a chance in proportion to its weight."""
    chances = np.array(list(weights.values()), float)
    return str(rng.choice(list(weights), p=chances / chances.sum()))
