"""Keys, scales and chords: the little harmony that the composer needs.

Pitches are MIDI numbers (60 = middle C), scale degrees count from 0 (the tonic).
"""

from __future__ import annotations

from dataclasses import dataclass

KEYS: dict[str, int] = {"F": 5, "C": 0, "G": 7}
"""Tonics that pieces use, as semitones above C: neighbours on the circle of fifths.

So the three major scales share none of their last flats with the three minor ones, and the mode can be told
from the notes alone (with all twelve tonics, A minor and C major have the same notes).
"""

SCALES: dict[str, tuple[int, ...]] = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
}


@dataclass(frozen=True)
class Chord:
    """A chord as pitch classes above C, the root first."""

    root: int
    tones: tuple[int, ...]


def degree_pitch(degree: int, tonic: int, mode: str) -> int:
    """Return the pitch (semitones above C, may exceed 12 or be negative) of a scale degree."""
    scale = SCALES[mode]
    octave, step = divmod(degree, len(scale))
    return tonic + 12 * octave + scale[step]


def chord(symbol: str, tonic: int, mode: str) -> Chord:
    """Return the chord that a roman-like symbol names in a key.

    A symbol is a degree digit 1-7 with optional suffixes: ``7`` adds the seventh of the scale, ``9`` adds
    seventh and ninth, ``D`` makes the chord a dominant (major third, minor seventh), ``P`` keeps only root
    and fifth. Examples: ``"2:7"``, ``"5:D"``, ``"1"``, ``"4:P"``.
    """
    digit, _, suffix = symbol.partition(":")
    degree = int(digit) - 1
    root = degree_pitch(degree, tonic, mode) % 12

    def above(steps: int) -> int:
        return degree_pitch(degree + steps, tonic, mode) % 12

    third, fifth = above(2), above(4)
    tones = {
        "": (root, third, fifth),
        "7": (root, third, fifth, above(6)),
        "9": (root, third, above(6), above(8)),
        "D": (root, (root + 4) % 12, (root + 7) % 12, (root + 10) % 12),
        "P": (root, (root + 7) % 12),
    }[suffix]
    return Chord(root, tones)


def voicing(tones: tuple[int, ...], low: int, previous: list[int] | None = None) -> list[int]:
    """Return the chord's pitches in close position at or above ``low``, near the previous voicing.

    Among the inversions, the one whose voices move least from ``previous`` is taken, so that accompaniments
    lead their voices instead of jumping.
    """
    inversions = []
    for first in range(len(tones)):
        pitches = []
        floor = low
        for tone in tones[first:] + tones[:first]:
            pitch = floor + (tone - floor) % 12
            pitches.append(pitch)
            floor = pitch + 1
        inversions.append(pitches)
    if previous is None:
        return min(inversions, key=lambda p: sum(p))
    return min(inversions, key=lambda p: (sum(min(abs(a - b) for b in previous) for a in p), p[0]))


def nearest(pitch_class: int, around: int) -> int:
    """Return the pitch of that class which lies nearest to ``around``."""
    below = around - (around - pitch_class) % 12
    return below if around - below <= 6 else below + 12


def closest(pitches: list[int], around: int) -> int:
    """Return the pitch of a list that lies nearest to ``around``, the first of several."""
    return min(pitches, key=lambda pitch: abs(pitch - around))
