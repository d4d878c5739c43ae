"""Takes in words: short, true to the plan, and never twice in one player."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from show_samples import EVIL

from workbench.generation.generate import generate
from workbench.show.widgets.takes import distinct, plan_words, take_words
from workbench.steering import (
    Direction,
    Gate,
    ReadOut,
    Steering,
    constant,
    decay,
    fade,
    knots,
    pulse,
    ramp,
    window,
)
from workbench.steering.together import orthogonalise, split_dose


def axis(number: int, name: str, layer: int = 2) -> Direction:
    return Direction(np.eye(4)[number], layer, name=name, residual_norm=10.0)


JAZZ, ROCK = axis(0, "jazz"), axis(1, "rock")
READS = ReadOut(("jazz", "rock"), np.eye(2, 4), np.zeros(2), 3)


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (JAZZ.at(0.15), "jazz 0.15"),
        (ROCK.at(-0.05) + JAZZ.at(0.15), "jazz 0.15, rock -0.05"),
        (JAZZ.at(0.15, schedule=window(2, 4)), "jazz 0.15, from 2 to 4 s"),
        (JAZZ.at(0.15, schedule=ramp(0.5, 1)), "jazz 0.15, rising 0.5 to 1 s"),
        (JAZZ.at(0.15, schedule=fade(1, 3)), "jazz 0.15, fading 1 to 3 s"),
        (JAZZ.at(0.15, schedule=pulse(1)), "jazz 0.15, pulsed"),
        (JAZZ.at(0.15, schedule=pulse(every_steps=25)), "jazz 0.15, pulsed"),
        (JAZZ.at(0.15, schedule=decay(2)), "jazz 0.15, dying away"),
        (JAZZ.at(0.15, schedule=knots([(0, 0), (2, 1)])), "jazz 0.15, on a curve"),
        (JAZZ.at(0.15, branch="both", chance=0.5), "jazz 0.15, both branches, by chance"),
        (JAZZ.at(0.15, branch="null"), "jazz 0.15, unprompted branch"),
        (JAZZ.at(0.15, gate=Gate(READS, "rock", "below", 0.8)), "jazz 0.15, until rock"),
        (JAZZ.at(0.15, gate=Gate(READS, "rock", "above", 0.8)), "jazz 0.15, while rock"),
        (JAZZ.at(0.5, operation="remove"), "remove jazz 0.5"),
        (JAZZ.at(0.2, schedule=constant()) + ROCK.at(0.1, schedule=pulse(1)), "jazz 0.2; rock 0.1, pulsed"),
        (split_dose([axis(0, "jazz", n) for n in (1, 2)], 0.2), "jazz 0.2, over 2 layers"),
    ],
)
def test_a_plan_reads_as_a_person_would_say_it(plan: Steering, words: str) -> None:
    assert plan_words(plan) == words


def test_directions_that_were_turned_keep_their_names() -> None:
    given_ = [JAZZ, Direction(np.array([0.6, 0.8, 0, 0]), 2, name="slow", residual_norm=10.0)]
    first, second = orthogonalise(given_, method="gram-schmidt")
    plan = first.at(0.2) + second.named("slow without jazz").at(-0.1)
    assert plan_words(plan) == "jazz 0.2, slow -0.1, at right angles"


def test_many_directions_are_cut() -> None:
    plan = Steering(tuple(axis(0, f"direction {n}").at(0.1 * n).terms[0] for n in range(1, 9)))
    assert len(plan_words(plan)) <= 60 and plan_words(plan).endswith(" …")


def test_a_take_without_its_plan_says_its_text(tiny_model: Any) -> None:
    take = generate(tiny_model, "a tune", seconds=0.2, progress=False)
    assert take_words(take) == "unsteered"
    assert take_words(dataclasses.replace(take, steering=EVIL)) == EVIL[:60]


@given(st.lists(st.sampled_from(["a", "b", "a (2)", "a (3)", "b (2)"]), max_size=8))
def test_no_name_stands_twice(names: list[str]) -> None:
    made = distinct(names)
    assert len(set(made)) == len(names)
    assert all(one.startswith(name) for one, name in zip(made, names, strict=True))
    assert {name for name in names if names.count(name) == 1} <= set(made)
