"""How long a clip stands still."""

import numpy as np
import pytest

from workbench.evidence.hold import longest_hold
from workbench.sound import Clip

RATE = 16_000


def tone(hz: float, seconds: float) -> np.ndarray:
    t = np.arange(round(seconds * RATE)) / RATE
    return sum(0.1 / k * np.sin(2 * np.pi * k * hz * t) for k in (1, 2, 3, 5)).astype(np.float32)


def test_a_held_chord_is_as_long_as_it_is_held():
    chord = tone(220, 3) + tone(277, 3) + tone(330, 3)
    moving = np.concatenate([tone(hz, 0.25) for hz in (196, 262, 349, 233, 294, 392, 247, 330)])
    assert longest_hold(Clip(np.concatenate([moving, chord]), RATE)) == pytest.approx(3, abs=0.45)


def test_a_tremolo_does_not_hide_that_a_chord_is_held():
    chord = tone(220, 4) + tone(277, 4)
    shaken = chord * (1 + 0.2 * np.sin(2 * np.pi * 6 * np.arange(len(chord)) / RATE)).astype(np.float32)
    assert longest_hold(Clip(shaken, RATE)) > 3.5


def test_notes_and_drums_are_no_holds():
    melody = np.concatenate([tone(220 * 2 ** (step / 12), 0.4) for step in (0, 5, 3, 7, 10, 8, 12, 2, 9, 4)])
    rng = np.random.default_rng(0)
    hits = np.zeros(5 * RATE, dtype=np.float32)
    for start in range(0, len(hits), RATE // 2):
        hits[start : start + 2000] = 0.3 * rng.standard_normal(2000) * np.exp(-np.arange(2000) / 400)
    assert longest_hold(Clip(melody, RATE)) <= 0.6
    assert longest_hold(Clip(hits, RATE)) <= 0.6
