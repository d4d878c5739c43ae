"""The dose from which music breaks: the yardstick is real music; a crossing lies between the doses."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from steering_fixture import direction

import workbench as wb
from workbench.errors import EvidenceError
from workbench.evidence.damage import _crossing, breaking_dose


@pytest.mark.parametrize(
    ("nats", "dose"),
    [
        ([0.1, 0.2, 0.4], 0.25),
        ([0.1, 0.1, 0.2], float("inf")),
        ([0.4, 0.5, 0.6], 0.1),
        ([0.4, 0.1, 0.5], 0.1),
    ],
)
def test_the_crossing_is_the_first_and_between_the_doses(nats: list[float], dose: float) -> None:
    assert _crossing(np.array([0.1, 0.2, 0.3]), np.array(nats), 0.3) == pytest.approx(dose)


def test_a_push_that_wrecks_the_music_breaks_it_and_a_gentle_one_does_not() -> None:
    model, songs = wb.load("embedded"), wb.dataset("embedded").take(2)
    some = {"a": direction(model, 3), "b": direction(model, 3, seed=1)}
    short = {"seeds": range(3), "seconds": 1.0, "progress": False}
    found = breaking_dose(model, some, songs, doses=(0.01, 1.5), **short)
    nats = found.table.groupby("dose")["nll"].mean()
    assert nats[1.5] > found.real > nats[0.01] and 0.01 < found.dose < 1.5
    assert list(found.table["n"].unique()) == [3] and len(found.table) == 2 * 4
    assert f"from dose {found.dose:.2f} on" in found.sentence()
    calm = replace(found, dose=math.inf)
    assert "every dose up to 1.5" in calm.sentence()


@pytest.mark.parametrize("wrong", [{"doses": ()}, {"doses": (0.2, 0.1)}, {"doses": (0.0,)}, {"share": 1.0}])
def test_what_is_no_ladder_of_doses_is_refused(wrong: dict[str, Any], tiny_model: Any) -> None:
    with pytest.raises(EvidenceError, match="doses that rise"):
        breaking_dose(tiny_model, {"a": direction(tiny_model, 1)}, wb.dataset("embedded").take(1), **wrong)


def test_the_built_in_model_says_where_it_breaks_and_others_say_nothing(tiny_model: Any) -> None:
    assert 0.2 < (wb.load("embedded").breaking_dose or 0) < 0.4
    assert tiny_model.breaking_dose is None
