"""Composes a piece by rules, role by role, from factors that are chosen first and known afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32

import numpy as np

from workbench.embedded import styles, theory
from workbench.embedded.factors import BEAT_FRAMES, STEPS, Factors, Groove, Note, Piece, draw, groove


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
    rng = np.random.default_rng([crc32(repr(factors).encode())])
    grid = step_frames(BEAT_FRAMES[factors.tempo], swing=style.swing)
    loop = groove(factors.genre, factors.groove)
    writer = _Writer(factors, style, loop, grid, 4 * BEAT_FRAMES[factors.tempo], rng)
    loops = (styles.COMMON_LOOPS if rng.random() < 0.5 else style.loops)[factors.mode]
    symbols = loops[int(rng.integers(len(loops)))]
    chords = [
        theory.chord(symbols[bar % len(symbols)], theory.KEYS[factors.key], factors.mode)
        for bar in range(bars)
    ]
    programs = _programs(factors, style, rng)
    has_drums = rng.random() < style.drums_share
    has_pad = rng.random() < style.pad_share
    notes = [
        *(writer.drums(bars) if has_drums else []),
        *writer.bass(chords),
        *writer.comp(chords),
        *(writer.pad(chords) if has_pad else []),
        *writer.lead(chords),
    ]
    ordered = tuple(sorted(notes, key=lambda n: (n.start, n.role, n.pitch)))
    return Piece(factors, bars * writer.bar, ordered, programs)


def _programs(factors: Factors, style: styles.Style, rng: np.random.Generator) -> dict[str, int]:
    """Return the General MIDI program of each role, drawn for this piece (drums: the kit)."""
    return {
        "lead": styles.LEADS[factors.lead],
        "bass": styles.BASSES[draw(style.basses, rng)],
        "comp": styles.COMPS[draw(style.comps, rng)],
        "drums": styles.KITS[draw(style.kits, rng)],
        "pad": styles.PADS[draw(dict.fromkeys(styles.PADS, 1.0), rng)],
    }


@dataclass(frozen=True)
class _Writer:
    """Writes the roles of one piece, bar by bar."""

    factors: Factors
    style: styles.Style
    loop: Groove
    grid: list[int]
    bar: int
    rng: np.random.Generator

    @property
    def dense(self) -> bool:
        return self.factors.density == "high"

    def at(self, bar: int, step: int) -> int:
        return (bar + step // STEPS) * self.bar + self.grid[step % STEPS]

    def hits(self, figure: str) -> list[tuple[int, int]]:
        """Return (step, velocity) of the hits that this density keeps."""
        loud = {"X": 114, "x": 92, "o": 60}
        return [
            (step, loud[mark]) for step, mark in enumerate(figure) if mark in ("Xxo" if self.dense else "Xx")
        ]

    def drums(self, bars: int) -> list[Note]:
        """Return kick, snare and hats; every fourth bar may end in a fill, which a crash answers."""
        notes, answered = [], False
        for bar in range(bars):
            parts = [
                (self.loop.kick, styles.KICK),
                (self.loop.snare, self.loop.snare_sound),
                (self.loop.hats[bar // 4 % 2], self.loop.hat_sound),
                ("....x.......x..." if self.style.pedal_hat else "", styles.PEDAL_HAT),
            ]
            fill = bar % 4 == 3 and self.rng.random() < 0.5
            for figure, sound in parts:
                notes += [
                    Note(self.at(bar, s), 2, sound, v, "drums")
                    for s, v in self.hits(figure)
                    if not (fill and s >= 12)
                ]
            if answered:
                notes.append(Note(self.at(bar, 0), 6, styles.CRASH, 88, "drums"))
            if fill:
                toms = [styles.SNARE, styles.TOM_HI, styles.TOM_MID, styles.TOM_LOW]
                steps = range(12, 16) if not self.style.swing else (12, 14)
                notes += [
                    Note(self.at(bar, step), 2, tom, 86 + 5 * i, "drums")
                    for i, (step, tom) in enumerate(zip(steps, toms, strict=False))
                ]
            answered = fill
        return notes

    def bass(self, chords: list[theory.Chord]) -> list[Note]:
        """Return the bass line: chord tones in the groove's figure, and steps into the next chord."""
        notes = []
        onsets = [i for i, mark in enumerate(self.loop.bass) if mark != "."]
        for bar, chord in enumerate(chords):
            root = theory.nearest(chord.root, 40)
            goal = theory.nearest(chords[(bar + 1) % len(chords)].root, root)
            pitch = {
                "r": root,
                "f": theory.nearest(chord.tones[2 % len(chord.tones)], root + 5),
                "t": theory.nearest(chord.tones[1], root + 5),
                "u": root + 12,
                "a": goal + (1 if goal < root else -1),
            }
            for onset, after in zip(onsets, [*onsets[1:], STEPS + onsets[0]], strict=True):
                start, end = self.at(bar, onset), self.at(bar, min(after, onset + self.style.bass_length))
                velocity = 110 if onset % 8 == 0 else 100
                notes.append(Note(start, end - start, pitch[self.loop.bass[onset]], velocity, "bass"))
        return notes

    def comp(self, chords: list[theory.Chord]) -> list[Note]:
        """Return the accompaniment: chords or single chord tones, voices led from chord to chord."""
        notes: list[Note] = []
        previous: list[int] | None = None
        for bar, chord in enumerate(chords):
            figure = self.loop.comps[bar // 4 % 2]
            pitches = previous = theory.voicing(chord.tones, styles.COMP_LOW, previous)
            onsets = [i for i, mark in enumerate(figure) if mark != "." and self.keeps(i, mark)]
            for onset, after in zip(onsets, [*onsets[1:], STEPS + onsets[0]], strict=True):
                start = self.at(bar, onset)
                length = self.at(bar, min(after, onset + self.style.comp_length)) - start
                mark = figure[onset]
                if mark.isdigit():
                    octave, tone = divmod(int(mark), len(pitches))
                    sounding, velocity = [pitches[tone] + 12 * octave], 104 if onset % 4 == 0 else 92
                else:
                    sounding, velocity = pitches, 108 if mark == "X" else 86
                notes += [Note(start, length, p, velocity, "comp") for p in sounding]
        return notes

    def keeps(self, step: int, mark: str) -> bool:
        """Return whether this density plays a hit: broken chords lose every second sixteenth when low."""
        return self.dense or (step % 2 == 0 if mark.isdigit() else mark in "Xx")

    def pad(self, chords: list[theory.Chord]) -> list[Note]:
        """Return held chords."""
        previous: list[int] | None = None
        notes = []
        for bar, chord in enumerate(chords):
            previous = theory.voicing(chord.tones[:3], 55, previous)
            notes += [Note(bar * self.bar, self.bar, p, 80, "pad") for p in previous]
        return notes

    def rhythm(self) -> list[int]:
        """Return the onset steps of a one-bar motif, denser pieces having more of them."""
        steps = np.arange(0, STEPS, self.style.lead_steps if self.dense else max(2, self.style.lead_steps))
        count = int(self.rng.integers(5, 8) if self.dense else self.rng.integers(2, 5))
        weight = np.where(steps % 4 == 0, 3.0, np.where(steps % 2 == 0, 2.5, 1.0))
        drawn = self.rng.choice(steps, size=min(count, len(steps)), replace=False, p=weight / weight.sum())
        return sorted(int(s) for s in drawn)

    def lead(self, chords: list[theory.Chord]) -> list[Note]:
        """Return a melody in phrases of four bars: a motif, the motif again, another, and a long note."""
        motif, other = self.rhythm(), self.rhythm()
        rhythms = [motif, motif, other, [0, 12] if self.dense else [0]]
        tonic = theory.KEYS[self.factors.key]
        scale = [theory.degree_pitch(d, tonic, self.factors.mode) for d in range(30, 56)]
        pitch = theory.nearest(chords[0].tones[int(self.rng.integers(2))], 74)
        notes = []
        for bar, chord in enumerate(chords):
            onsets = rhythms[bar % 4]
            for onset, after in zip(onsets, [*onsets[1:], STEPS + 2], strict=True):
                pitch += int(self.rng.choice([-4, -2, -1, 1, 2, 4], p=[0.08, 0.24, 0.18, 0.18, 0.24, 0.08]))
                pitch += 5 if pitch < 67 else -5 if pitch > 84 else 0
                allowed = [theory.nearest(t, pitch) for t in chord.tones[:3]] if onset % 4 == 0 else scale
                pitch = theory.closest(allowed, pitch)
                start = self.at(bar, onset)
                room = self.at(bar, min(after, onset + 8)) - start
                velocity = (110 if onset % 4 == 0 else 98) + 3 * (bar % 4)
                notes.append(Note(start, max(2, int(self.style.lead_length * room)), pitch, velocity, "lead"))
        return notes
