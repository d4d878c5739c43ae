"""The steering lab's exercises: right, wrong and missing answers, each with its reason in words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from evidence_samples import AIMS, CLASSES, heard
from steering_samples import direction

from workbench.evidence.crosstalk import crosstalk_of
from workbench.show import exercises
from workbench.steering import Gate, ReadOut, Steering, ramp, window


@pytest.fixture(autouse=True)
def _first_attempt() -> None:
    exercises.start_again()


READ = ReadOut(("jazz", "rock"), np.eye(2, 16, dtype=np.float32), np.zeros(2, np.float32), 3)
UNTIL = Gate(READ, "jazz", "below", 0.8)
LATE: dict[str, Any] = {"schedule": ramp(2, 3)}


@pytest.mark.parametrize(
    ("plan", "right", "told"),
    [
        (None, None, "lab.steering"),
        (direction("jazz"), False, "Give a plan: answer with lab.steering"),
        (Steering(), False, "does nothing"),
        (direction("jazz").at(0.2, gate=UNTIL), False, "already acts at 0.0 s"),
        (direction("jazz").at(9.0, gate=UNTIL, **LATE), False, "A dose of 9 drowns"),
        (direction("jazz").at(0.2, gate=UNTIL, schedule=window(2, 9)), False, "In the end nothing"),
        (direction("jazz").at(-0.2, gate=UNTIL, **LATE), False, "towards jazz"),
        (direction("rock").at(0.2, gate=UNTIL, **LATE), False, "towards jazz"),
        (direction("jazz").at(0.2, **LATE), False, "give it a gate"),
        (direction("jazz").at(0.2, gate=Gate(READ, "rock"), **LATE), False, "give it a gate"),
        (direction("jazz").at(0.2, gate=Gate(READ, "jazz", "above"), **LATE), False, "open below"),
        (direction("jazz").at(0.2, gate=UNTIL, branch="null", **LATE), False, "towards jazz"),
        (direction("jazz").at(0.8, gate=UNTIL, operation="remove", **LATE), False, "towards jazz"),
        (direction("jazz").at(0.2, gate=UNTIL, **LATE), True, "layer 3 reads jazz with 80%"),
        (direction("jazz").at(0.2, gate=UNTIL, **LATE) + direction("rock").at(0.1), False, "already acts"),
    ],
)
def test_a_late_push_ends_where_it_is_heard(plan: object, right: bool | None, told: str) -> None:
    verdict = exercises.gated_push(plan, towards="jazz", after_s=1)
    assert verdict.right is right and told in verdict.words


def test_the_side_effect_is_the_largest_change_of_another_target() -> None:
    found = crosstalk_of(heard(), CLASSES, AIMS)
    none = exercises.side_effect(found, "jazz", None)
    assert none.right is None and "mode: major, mode: minor" in none.words
    assert exercises.side_effect(found, "jazz", "genre: rock").right is False
    right = exercises.side_effect(found, "jazz", "mode: minor")
    assert right.right and "+10 points" in right.words and "more than chance" in right.words
    cells = found.cells.copy()
    major = (cells["plan"] == "jazz") & (cells["class"] == "major")
    cells.loc[major, ["change", "change_low", "change_high"]] = [-0.5, -0.9, 0.1]
    moved = type(found)(cells, found.flips, found.clips)
    assert exercises.side_effect(moved, "jazz", "mode: minor").right is False
    assert "holds 0" in exercises.side_effect(moved, "jazz", "mode: major").words


@pytest.mark.parametrize("answer", [np.nan, True, 3, [], ["mode: minor"], "minor", "", object(), {}])
def test_odd_answers_to_the_side_effect_are_refused_in_words(answer: object) -> None:
    told = exercises.side_effect(crosstalk_of(heard(), CLASSES, AIMS), "jazz", answer)
    assert told.right is False and "Give one of: mode: major, mode: minor" in told.words


def test_a_wrong_side_effect_gets_a_hint_and_then_the_answer() -> None:
    found = crosstalk_of(heard(), CLASSES, AIMS)
    cells = found.cells.copy()
    cells.loc[(cells["plan"] == "jazz") & (cells["class"] == "minor"), "change"] = 0.9
    moved = type(found)(cells, found.flips, found.clips)
    first = exercises.side_effect(moved, "jazz", "mode: major")
    again = exercises.side_effect(moved, "jazz", "mode: major")
    assert first.right is False and "another class moves more" in first.words and first == again
    exercises._attempts[next(iter(exercises._attempts))] += ["x", "y"]
    assert "The answer: mode: minor (+90 points)" in exercises.side_effect(moved, "jazz", "mode: major").words
