"""Composes a piece by rules, role by role, from factors that are chosen first and known afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32

import numpy as np

from workbench.embedded import styles, theory
from workbench.embedded.factors import BEAT_FRAMES, STEPS, Factors, Groove, Note, Piece, groove


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
                allowed = [theory.nearest(t, pitch) for t in chord.tones] if onset % 4 == 0 else scale
                pitch = theory.closest(allowed, pitch)
                start = self.at(bar, onset)
                length = max(2, int(0.9 * (self.at(bar, min(after, onset + 6)) - start)))
                notes.append(Note(start, length, pitch, 108 if onset % 4 == 0 else 96, "lead"))
        return notes
