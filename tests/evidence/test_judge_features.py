"""Each block of the judges' features measures what it is named after, on sounds whose truth is known."""

import numpy as np
import pytest

from workbench.evidence.features import (
    BEATS_S,
    MELODY_LOW,
    feature_blocks,
    interval_profile,
    key_profile,
    melody_timbre,
    pulse_scores,
    semitones,
)
from workbench.evidence.features import _decibels as decibels
from workbench.evidence.features import _salience as salience
from workbench.sound import Clip

RATE = 16_000
CLICKS = 12  # lags of a tempo in the pulse scores; the beat itself is the sixth


def tone(pitch: float, seconds: float, partials: int = 6) -> np.ndarray:
    time = np.arange(int(seconds * RATE)) / RATE
    hertz = 440 * 2 ** ((pitch - 69) / 12)
    waves = [np.sin(2 * np.pi * n * hertz * time) / n for n in range(1, partials + 1)]
    return (0.1 * np.sum(waves, axis=0)).astype(np.float32)


def chords(*triads: tuple[int, ...]) -> np.ndarray:
    return np.concatenate([sum(tone(60 + p, 1.0) for p in triad) for triad in triads]).astype(np.float32)


MAJOR = ((0, 4, 7), (5, 9, 12), (7, 11, 14), (0, 4, 7))
MINOR = ((0, 3, 7), (5, 8, 12), (7, 10, 14), (0, 3, 7))


def mode_margin(samples: np.ndarray) -> float:
    """Best major less best minor key, of the whole chroma: after chroma (8 x 12), keys (24), bests (8)."""
    return float(key_profile(semitones(samples, RATE))[8 * 12 + 24 + 8 + 3])


@pytest.mark.parametrize("tonic", [0, 5, 7, 10])
def test_the_key_correlations_tell_major_from_minor_in_any_key(tonic):
    major, minor = (chords(*[tuple(p + tonic for p in t) for t in mode]) for mode in (MAJOR, MINOR))
    assert mode_margin(major) > 0
    assert mode_margin(minor) < 0


def test_a_lone_note_is_heard_at_its_pitch_in_spite_of_its_partials():
    for pitch in (40, 57, 72):
        notes = semitones(tone(pitch, 2.0), RATE).mean(axis=0)
        assert 28 + int(notes.argmax()) == pitch


def test_the_interval_profile_is_blind_to_the_key():
    here, there = (
        interval_profile(semitones(chords(*[tuple(p + k for p in t) for t in MAJOR]), RATE)) for k in (0, 5)
    )
    # bins of a third of a semitone fall differently in the two keys
    np.testing.assert_allclose(here, there, atol=0.05)


@pytest.mark.parametrize("tempo", range(3))
def test_the_pulse_scores_single_out_the_true_beat(tempo):
    onsets = np.random.default_rng(tempo).uniform(0, 0.05, (5, 500))
    onsets[:, np.round(np.arange(0, 5, BEATS_S[tempo]) * 100).astype(int)] += 1
    at_the_beat = pulse_scores(onsets)[5 : 3 * CLICKS : CLICKS]
    assert at_the_beat.argmax() == tempo
    assert at_the_beat[tempo] > 0.9


def test_the_melody_is_followed_above_a_chord_and_a_bass():
    tune = np.concatenate([tone(p, 0.5) for p in (72, 76, 79, 74)])
    below = np.concatenate([chords((-12, -9, -5)), chords((-12, -7, -3))]) * 0.5 + tone(40, 2.0)
    line = MELODY_LOW + salience(decibels(tune + below, RATE), RATE).argmax(axis=1)
    truth = np.repeat((72, 76, 79, 74), 25)
    assert np.mean(line[: len(truth)] == truth) > 0.8


def test_the_envelope_tells_a_plucked_note_from_a_held_one():
    fade = np.exp(-np.arange(RATE // 2) / (0.1 * RATE))
    held = np.concatenate([tone(p, 0.5) for p in (72, 76, 79, 74, 72, 76)])
    plucked = held * np.tile(fade, 6).astype(np.float32)
    fall = [melody_timbre(s, RATE)[-17] for s in (held, plucked)]
    assert fall[1] < fall[0] - 5  # dB lost in the first 200 ms after the note's loudest moment


def test_silence_and_noise_have_finite_features():
    noise = np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32)
    for samples in (np.zeros(RATE, np.float32), noise):
        assert all(np.isfinite(block).all() for block in feature_blocks(Clip(samples, RATE)).values())
