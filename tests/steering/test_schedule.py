"""Schedules: factors over seconds, and texts that read back."""

from __future__ import annotations

import math

import numpy as np
import pytest
from steering_samples import random_schedule

from workbench.errors import SteeringError
from workbench.steering.plan_text import parse_schedule
from workbench.steering.schedule import Schedule, constant, decay, fade, knots, pulse, ramp, window

EVERY_KIND = [
    constant(),
    window(1, 2.5),
    ramp(2, 6),
    fade(0, 1e-3),
    pulse(0.5),
    pulse(0.5, width_s=0.1),
    pulse(every_steps=25),
    decay(1.5),
    knots([(0, 0), (2, 1), (4.25, -0.5)]),
]


@pytest.mark.parametrize("schedule", EVERY_KIND, ids=str)
def test_law_10_every_schedule_reads_back_from_its_text(schedule):
    assert parse_schedule(schedule.text()) == schedule


def test_law_10_random_schedules_read_back_and_act_the_same():
    rng = np.random.default_rng(0)
    for _ in range(300):
        schedule = random_schedule(rng)
        again = parse_schedule(schedule.text())
        assert again == schedule, schedule.text()
        assert again.factor(1.7, 85) == schedule.factor(1.7, 85)


def test_texts_are_canonical():
    texts = [schedule.text() for schedule in EVERY_KIND]
    assert texts == [
        "constant",
        "window(1s,2.5s)",
        "ramp(2s,6s)",
        "fade(0s,0.001s)",
        "pulse(0.5s,0.25s)",
        "pulse(0.5s,0.1s)",
        "pulse(25 steps)",
        "decay(1.5s)",
        "knots(0s:0,2s:1,4.25s:-0.5)",
    ]
    assert parse_schedule(" ramp( 2.0 s , 6s ) ").text() == "ramp(2s,6s)"
    assert parse_schedule("constant()") == constant()
    assert knots([(0, -0.0)]).text() == "knots(0s:0)"


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (constant(), {0: 1, 100: 1}),
        (window(1, 2), {0.99: 0, 1: 1, 1.99: 1, 2: 0}),
        (ramp(2, 6), {0: 0, 2: 0, 3: 0.25, 6: 1, 9: 1}),
        (fade(2, 6), {0: 1, 2: 1, 3: 0.75, 6: 0, 9: 0}),
        (pulse(1, width_s=0.25), {0: 1, 0.2: 1, 0.25: 0, 0.99: 0, 1: 1, 7.1: 1}),
        (decay(2), {0: 1, 2: 0.5, 4: 0.25}),
        (knots([(1, 0), (2, 1), (4, -1)]), {0: 0, 1: 0, 1.5: 0.5, 2: 1, 3: 0, 4: -1, 9: -1}),
        (knots([(1, 0.3)]), {0: 0.3, 5: 0.3}),
    ],
)
def test_factors_over_time(schedule, expected):
    for seconds, factor in expected.items():
        assert schedule.factor(seconds) == pytest.approx(factor, abs=1e-9), seconds


def test_law_03_a_factor_before_the_start_is_exactly_0():
    for schedule in (ramp(2, 6), window(2, 6)):
        assert all(schedule.factor(step / 50, step) == 0 for step in range(100))


def test_the_pulse_of_the_paper_counts_steps():
    on = [step for step in range(101) if pulse(every_steps=25).factor(step / 50, step)]
    assert on == [0, 25, 50, 75, 100]


def test_step_times_with_rounding_error_still_belong_to_their_period():
    assert 0.1 + 0.2 != 0.3
    assert window(0.3, 1).factor(0.1 + 0.2 - 1e-16) == 1
    assert sum(pulse(0.1, width_s=0.01).factor(step * 0.02, step) for step in range(50)) == 10


def test_a_ramp_and_a_fade_make_a_crossfade():
    assert all(
        math.isclose(ramp(1, 3).factor(t) + fade(1, 3).factor(t), 1, rel_tol=1e-9)
        for t in np.linspace(0, 5, 41)
    )


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: ramp(6, 2), "before its end"),
        (lambda: window(-1, 2), "negative"),
        (lambda: decay(0), "above 0"),
        (lambda: decay(math.nan), "finite"),
        (lambda: pulse(1, width_s=2), "longer than its period"),
        (lambda: pulse(), "either seconds"),
        (lambda: pulse(1, every_steps=3), "either seconds"),
        (lambda: pulse(every_steps=2.5), "whole"),
        (lambda: pulse(every_steps=0), "above 0"),
        (lambda: knots([]), "at least one"),
        (lambda: knots([(1, 0), (1, 1)]), "rise strictly"),
        (lambda: Schedule("wobble"), "wobble.*constant, window"),
        (lambda: Schedule("ramp", (1.0,)), "takes 2 numbers"),
    ],
)
def test_schedules_that_make_no_sense_are_refused(make, says):
    with pytest.raises(SteeringError, match=says):
        make()


@pytest.mark.parametrize(
    ("text", "character"),
    [
        ("ramp(2s,6s", 11),
        ("ramp(2,6s)", 7),
        ("wobble(2s)", 1),
        ("ramp 2s", 6),
        ("ramp(2s,6s) x", 13),
        ("knots(1s)", 9),
    ],
)
def test_bad_text_says_where(text, character):
    with pytest.raises(SteeringError, match=f"At character {character} of"):
        parse_schedule(text)
