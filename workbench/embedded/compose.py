"""Composes a piece by rules: every factor that a probe could look for is chosen first and known afterwards.

Time is counted in codec frames (25 a second), because a small language model learns a groove only if equal
notes give equal codes: a beat lasts 12, 16 or 20 frames (125, 94, 75 beats a minute), a sixteenth 3, 4 or 5,
and swung eighths fall on whole frames too. Harmony, grooves and sounds come from ``styles``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
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
    """One loop of a genre: a choice from each list of its style, fixed by (genre, number)."""

    kick: str
    snare: str
    hat: str
    snare_sound: int
    hat_sound: int
    bass: str
    bass_program: int
    comp: str
    comp_program: int
    pad_program: int | None


@dataclass(frozen=True)
class Piece:
    """A composed piece: its factors, notes and programs per role."""

    factors: Factors
    frames: int
    notes: tuple[Note, ...]
    programs: dict[str, int]


def draw_factors(genre: str, groove: int, seed: int) -> Factors:
    """Return factors drawn independently of one another; only the lead instrument leans towards the genre."""
    rng = np.random.default_rng([crc32(genre.encode()), groove, seed])
    leads = list(styles.LEADS)
    weights = np.array([3.0 if lead in styles.STYLES[genre].favourite_leads else 1.0 for lead in leads])
    return Factors(
        genre=genre,
        groove=groove,
        tempo=str(rng.choice(list(BEAT_FRAMES))),
        key=str(rng.choice(list(theory.KEYS))),
        mode=str(rng.choice(["major", "minor"])),
        density=str(rng.choice(["low", "high"])),
        lead=str(rng.choice(leads, p=weights / weights.sum())),
        seed=seed,
    )


def groove(genre: str, number: int) -> Groove:
    """Return groove ``number`` of a genre, the same on every machine."""
    style = styles.STYLES[genre]
    rng = np.random.default_rng([crc32(genre.encode()), 7, number])

    def pick(options: tuple, otherwise):  # type: ignore[no-untyped-def, type-arg]
        return options[int(rng.integers(len(options)))] if options else otherwise

    rest = "." * STEPS
    return Groove(
        kick=pick(style.kick, rest),
        snare=pick(style.snare, rest),
        hat=pick(style.hat, rest),
        snare_sound=pick(style.snare_sound, 0),
        hat_sound=pick(style.hat_sound, 0),
        bass=pick(style.bass, rest),
        bass_program=pick(style.bass_program, 33),
        comp=pick(style.comp, rest),
        comp_program=pick(style.comp_program, 0),
        pad_program=pick(style.pad_program, None),
    )


def step_frames(beat: int, *, swing: bool) -> list[int]:
    """Return the frame of each of a bar's 16 steps; swung offbeat eighths fall on two thirds of the beat."""
    offbeat = round(beat * 2 / 3) if swing else beat // 2
    inside = [0, offbeat // 2, offbeat, (offbeat + beat) // 2]
    return [b * beat + inside[s] for b in range(4) for s in range(4)]


def compose(factors: Factors, bars: int = 8) -> Piece:
    """Return the piece that the factors and their seed determine.

    Args:
        factors: what the piece is to be.
        bars: length in bars of four beats.
    """
    style = styles.STYLES[factors.genre]
    loop = groove(factors.genre, factors.groove)
    rng = np.random.default_rng([crc32(repr(factors).encode())])
    grid = step_frames(BEAT_FRAMES[factors.tempo], swing=style.swing)
    writer = _Writer(factors, style, loop, grid, 4 * BEAT_FRAMES[factors.tempo], rng)
    symbols = style.loops[factors.mode][int(rng.integers(len(style.loops[factors.mode])))]
    chords = [
        theory.chord(symbols[bar % len(symbols)], theory.KEYS[factors.key], factors.mode)
        for bar in range(bars)
    ]
    notes = [
        *writer.drums(bars),
        *writer.bass(chords),
        *writer.comp(chords),
        *writer.pad(chords),
        *writer.lead(chords),
    ]
    programs = {
        "lead": styles.LEADS[factors.lead],
        "bass": loop.bass_program,
        "comp": loop.comp_program,
        "drums": style.kit,
        "pad": loop.pad_program if loop.pad_program is not None else 89,
    }
    return Piece(
        factors, bars * writer.bar, tuple(sorted(notes, key=lambda n: (n.start, n.role, n.pitch))), programs
    )


@dataclass(frozen=True)
class _Writer:
    """Writes the roles of one piece, bar by bar."""

    factors: Factors
    style: styles.Style
    loop: Groove
    grid: list[int]
    bar: int
    rng: np.random.Generator

    def at(self, bar: int, step: int) -> int:
        return (bar + step // STEPS) * self.bar + self.grid[step % STEPS]

    def hits(self, figure: str) -> list[tuple[int, int]]:
        """Return (step, velocity) of the hits that this density keeps."""
        loud = {"X": 112, "x": 92, "o": 58}
        kept = "Xx" if self.factors.density == "low" else "Xxo"
        return [(step, loud[mark]) for step, mark in enumerate(figure) if mark in kept]

    def drums(self, bars: int) -> list[Note]:
        notes = []
        parts = [
            (self.loop.kick, styles.KICK),
            (self.loop.snare, self.loop.snare_sound),
            (self.loop.hat, self.loop.hat_sound),
        ]
        if self.style.backbeat_sound is not None:
            parts.append(("....x.......x...", self.style.backbeat_sound))
        for bar in range(bars):
            fill = bool(self.style.kick) and bar % 4 == 3 and self.rng.random() < 0.5
            for figure, sound in parts:
                notes += [
                    Note(self.at(bar, s), 2, sound, v, "drums")
                    for s, v in self.hits(figure)
                    if not (fill and s >= 12)
                ]
            if fill:
                toms = [styles.SNARE, styles.TOM_HI, styles.TOM_MID, styles.TOM_LOW]
                notes += [
                    Note(self.at(bar, 12 + i), 2, tom, 90 + 5 * i, "drums") for i, tom in enumerate(toms)
                ]
        return notes

    def bass(self, chords: list[theory.Chord]) -> list[Note]:
        notes = []
        onsets = [i for i, mark in enumerate(self.loop.bass) if mark != "."]
        for bar, chord in enumerate(chords):
            following = chords[(bar + 1) % len(chords)]
            root = theory.nearest(chord.root, 40)
            third, fifth = (
                theory.nearest(t, root + 5) for t in (chord.tones[1], chord.tones[2 % len(chord.tones)])
            )
            goal = theory.nearest(following.root, root)
            pitch = {
                "r": root,
                "f": fifth,
                "t": third,
                "u": root + 12,
                "a": goal + (1 if goal < root else -1),
            }
            for onset, after in zip(onsets, [*onsets[1:], STEPS + onsets[0]], strict=True):
                end = min(after, onset + self.style.bass_length)
                notes.append(
                    Note(
                        self.at(bar, onset),
                        self.at(bar, end) - self.at(bar, onset),
                        pitch[self.loop.bass[onset]],
                        104,
                        "bass",
                    )
                )
        return notes

    def comp(self, chords: list[theory.Chord]) -> list[Note]:
        notes = []
        previous: list[int] | None = None
        figure = self.loop.comp
        if self.style.arpeggio and self.factors.density == "low":
            figure = "".join(mark if step % 2 == 0 else "." for step, mark in enumerate(figure))
        onsets = [i for i, mark in enumerate(figure) if mark != "."]
        for bar, chord in enumerate(chords):
            pitches = previous = theory.voicing(chord.tones, self.style.comp_low, previous)
            for onset, after in zip(onsets, [*onsets[1:], STEPS + onsets[0]], strict=True):
                start = self.at(bar, onset)
                length = self.at(bar, min(after, onset + self.style.comp_length)) - start
                if self.style.arpeggio:
                    index = int(figure[onset])
                    sounding = [pitches[index % len(pitches)] + 12 * (index // len(pitches))]
                elif figure[onset] == "o" and self.factors.density == "low":
                    continue
                else:
                    sounding = pitches
                notes += [
                    Note(start, length, p, 100 if figure[onset] == "X" else 84, "comp") for p in sounding
                ]
        return notes

    def pad(self, chords: list[theory.Chord]) -> list[Note]:
        if self.loop.pad_program is None or (
            self.factors.density == "low" and self.factors.genre != "classical"
        ):
            return []
        previous: list[int] | None = None
        notes = []
        for bar, chord in enumerate(chords):
            previous = theory.voicing(chord.tones[:3], 55, previous)
            notes += [Note(bar * self.bar, self.bar, p, 80, "pad") for p in previous]
        return notes

    def rhythm(self) -> list[int]:
        """Return the onset steps of a one-bar motif, denser pieces having more of them."""
        count = int(self.rng.integers(2, 5) if self.factors.density == "low" else self.rng.integers(5, 8))
        weight = np.array([4.0 if s % 4 == 0 else 3.0 if s % 2 == 0 else 0.4 for s in range(STEPS)])
        weight[1::2] *= 0.0 if self.style.swing else 1.0
        return sorted(
            int(s) for s in self.rng.choice(STEPS, size=count, replace=False, p=weight / weight.sum())
        )

    def lead(self, chords: list[theory.Chord]) -> list[Note]:
        """Return a melody that alternates two rhythms, chord tones on the beats and steps between."""
        motifs = [self.rhythm(), self.rhythm()]
        tonic = theory.KEYS[self.factors.key]
        scale = [theory.degree_pitch(d, tonic, self.factors.mode) for d in range(30, 56)]
        pitch = theory.nearest(chords[0].tones[int(self.rng.integers(3)) % len(chords[0].tones)], 74)
        notes = []
        for bar, chord in enumerate(chords):
            onsets = motifs[bar % 2]
            for onset, after in zip(onsets, [*onsets[1:], STEPS + 2], strict=True):
                pitch += int(self.rng.choice([-4, -2, -1, 1, 2, 4], p=[0.08, 0.24, 0.18, 0.18, 0.24, 0.08]))
                pitch += 5 if pitch < 67 else -5 if pitch > 84 else 0
                near = (
                    [theory.nearest(t, pitch) for t in chord.tones]
                    if onset % 4 == 0
                    else [s for s in scale if abs(s - pitch) < 4]
                )
                pitch = min(near or [pitch], key=lambda p, around=pitch: abs(p - around))
                start = self.at(bar, onset)
                length = max(2, int(0.9 * (self.at(bar, min(after, onset + 6)) - start)))
                notes.append(Note(start, length, pitch, 108 if onset % 4 == 0 else 96, "lead"))
        return notes
