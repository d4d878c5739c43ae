"""What is chosen before a note is written: a piece's factors and groove, and what they are made of.

Time is counted in codec frames (25 a second), because a small language model learns a groove only if equal
notes give equal codes: a beat lasts 12, 16 or 20 frames (125, 94, 75 beats a minute), a sixteenth 3, 4 or 5,
and swung eighths fall on whole frames too. Alternatives come from ``styles``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from zlib import crc32

import numpy as np

from workbench.embedded import styles, theory

FRAME_RATE_HZ = 25
BEAT_FRAMES: dict[str, int] = {"slow": 20, "medium": 16, "fast": 12}
STEPS = 16
DRUM_CHANNEL = 9
ROLE_CHANNEL = {"lead": 0, "bass": 1, "comp": 2, "pad": 3, "drums": DRUM_CHANNEL}
MOODS = {
    ("major", "high"): "happy",
    ("major", "low"): "calm",
    ("minor", "high"): "energetic",
    ("minor", "low"): "sad",
}


@dataclass(frozen=True)
class Factors:
    """What is known of a piece before a note is written."""

    genre: str
    groove: int
    tempo: str  # "slow", "medium" or "fast": 75, 93.75, 125 beats a minute
    key: str
    mode: str  # "major" or "minor"
    density: str  # "low" or "high"
    lead: str
    seed: int

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
        columns = {k: v for k, v in asdict(self).items() if k not in ("seed", "groove")}
        return {
            **columns,
            "groove": f"{self.genre}-{self.groove:02d}",
            "mood": self.mood,
            "tempo_bpm": self.tempo_bpm,
        }


@dataclass(frozen=True)
class Note:
    """One note: times in codec frames, pitch and velocity in MIDI units."""

    start: int
    length: int
    pitch: int
    velocity: int
    role: str


@dataclass(frozen=True)
class Groove:
    """One loop of a genre: a choice from each list of its style, fixed by (genre, number).

    Where there are two figures, the second enters with the fifth bar.
    """

    kick: str
    snare: str
    hats: tuple[str, str]
    snare_sound: int
    hat_sound: int
    bass: str
    comps: tuple[str, str]


@dataclass(frozen=True)
class Piece:
    """A composed piece: its factors, notes and programs per role."""

    factors: Factors
    frames: int
    notes: tuple[Note, ...]
    programs: dict[str, int]
    gains_db: dict[str, float] = field(default_factory=dict)  # of roles, on top of the style's levels


def draw_factors(genre: str, groove: int, seed: int) -> Factors:
    """Return factors drawn independently of one another; only the lead instrument leans towards the genre."""
    rng = np.random.default_rng([crc32(genre.encode()), groove, seed])
    favourites = styles.STYLES[genre].leads
    return Factors(
        genre=genre,
        groove=groove,
        tempo=str(rng.choice(list(BEAT_FRAMES))),
        key=str(rng.choice(list(theory.KEYS))),
        mode=str(rng.choice(["major", "minor"])),
        density=str(rng.choice(["low", "high"])),
        lead=draw({lead: 2.0 if lead in favourites else 1.0 for lead in styles.LEADS}, rng),
        seed=seed,
    )


def draw(weights: styles.Weights, rng: np.random.Generator) -> str:
    """Return one of the keys, each with a chance in proportion to its weight."""
    chances = np.array(list(weights.values()), float)
    return str(rng.choice(list(weights), p=chances / chances.sum()))


def groove(genre: str, number: int) -> Groove:
    """Return groove ``number`` of a genre, the same on every machine."""
    style = styles.STYLES[genre]
    rng = np.random.default_rng([crc32(genre.encode()), 7, number])

    def pick(options: tuple, otherwise):  # type: ignore[no-untyped-def, type-arg]
        return options[int(rng.integers(len(options)))] if options else otherwise

    rest = "." * STEPS
    comps = style.strummed or style.broken
    return Groove(
        kick=pick(style.kick, rest),
        snare=pick(style.snare, rest),
        hats=(pick(style.hat, rest), pick(style.hat, rest)),
        snare_sound=pick(style.snare_sound, 0),
        hat_sound=pick(style.hat_sound, 0),
        bass=pick(style.bass, rest),
        comps=(pick(comps, rest), pick(comps, rest)),
    )
