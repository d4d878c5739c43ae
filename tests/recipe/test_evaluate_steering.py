"""The figures of the steering engine: one run of all parts on the tiny model, and the page made from it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from evaluation_fixture import tiny_bench
from recipe import evaluate_steering
from recipe.evaluate import stamp
from recipe.evaluation import doses, pairs, several, transitions
from recipe.evaluation.bench import FIRST_SEED, Bench
from recipe.steering_page import page_text, write_page

from workbench.model.folders import builtin_folder

DATA = builtin_folder().parent


@pytest.fixture(scope="module")
def bench(tiny_model, tmp_path_factory) -> Bench:
    return tiny_bench(tiny_model, tmp_path_factory.mktemp("bench"))


@pytest.fixture(scope="module")
def report(bench) -> dict:
    told: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(doses, "AIMS", {name: doses.AIMS[name] for name in ("jazz", "rock", "slow", "calm")})
        patch.setattr(doses, "DOSES", (0.1, 0.2))
        patch.setattr(transitions, "TRANSITIONS", (("jazz", "rock"),))
        patch.setattr(transitions, "DOSES", (0.1, 0.5))
        patch.setattr(pairs, "TOGETHER_DOSES", (0.1,))
        patch.setattr(pairs, "PAIRS", (("jazz", "slow"), ("rock", "calm")))
        patch.setattr(several, "BLEND", ("jazz", "rock"))
        patch.setattr(several, "BLEND_DOSES", (0.1,))
        patch.setattr(several, "WEIGHTS", (0.0, 0.4, 1.0))  # of two genres each is the other's opposite
        found = evaluate_steering.measure_engine(bench, say=told.append)
    assert len(told) == len(found["minutes"]) == 3
    return {"stamp": {"weights": "w"}, "code": "c", **found}


@pytest.mark.long
def test_every_row_says_on_how_much_it_rests(report):
    rows = {row["id"]: row for row in report["rows"]}
    wanted = "turns.jazz to rock, turns.jazz to rock.heard, pairs.jazz + slow.jazz, pairs.jazz + slow.slow"
    assert {*wanted.split(", "), "fusion", "crosstalk.specificity", "doses.jazz", "doses.slow"} <= set(rows)
    assert "pairs.rock + calm.calm" not in rows  # nobody hears it here
    assert all(row["n"] > 0 and row["seeds"] for row in rows.values())
    json.dumps(report)


def test_transitions_begin_with_other_grooves_than_those_that_chose(bench):
    learnt, held = bench.music.split(test=0.5)
    some = transitions.beginnings(held, "jazz", 5)
    assert set(some.grooves) == set(held.where(genre="jazz").groups)
    assert not set(some.grooves) & set(learnt.groups) and len(some.clips) == 5


@pytest.mark.long
def test_every_way_of_a_transition_is_told(report):
    told = report["turns"]["jazz to rock"]
    assert list(told) == ["steered", "prompted", "both", "random", "unsteered"]
    row = next(row for row in report["rows"] if row["id"] == "turns.jazz to rock")
    assert row["value"] == pytest.approx(told["steered"]["gain"] - told["prompted"]["gain"], abs=2e-4)


@pytest.mark.long
def test_the_matrix_holds_every_plan_and_class(report):
    cells = report["crosstalk"]
    plans = {cell["plan"] for cell in cells}
    assert plans == {"jazz", "rock", "slow", "random"}
    assert len(cells) == len(plans) * 6
    assert [cell["class"] for cell in cells if cell["own"] and cell["plan"] == "slow"] == ["slow"]


def test_seeds_that_choose_are_never_reported():
    used = sorted((first, use) for use, first in FIRST_SEED.items())
    apart = np.diff([first for first, _ in used])
    assert apart.min() >= 100


@pytest.mark.long
def test_the_page_shows_every_part(report, bench):
    path = write_page(bench.data, report)
    text = path.read_text()
    assert path.parent.name == "docs" and text == page_text(report)
    for heading in ("Transitions", "Two attributes at once", "Crosstalk", "Blends", "search for a dose"):
        assert heading in text
    lines = [line for line in text.splitlines() if line.startswith("| jazz + slow |")]
    assert len(lines) == 2
    head = "| steered, heard by the judge of tempo | fast | slow |"
    tempo = text[text.index(head) :].split("\n\n")[0].splitlines()[2:]
    assert [line.split(" | ")[0] for line in tempo] == ["| jazz", "| rock", "| slow", "| random"]
    assert [line.count("**") for line in tempo] == [0, 0, 2, 0]  # what is aimed at stands out


@pytest.mark.skipif(not (DATA / evaluate_steering.FIGURES).exists(), reason="not measured yet")
def test_the_published_page_matches_the_weights_and_the_card():
    kept = json.loads((DATA / evaluate_steering.FIGURES).read_text())
    assert kept["stamp"] == stamp(DATA), "run `make verify` and commit what it writes"
    assert (DATA.parents[1] / "docs" / "steering.md").read_text() == page_text(kept)
    met = {row["id"]: row["met"] for row in kept["rows"]}
    assert all(verdict for name, verdict in met.items() if name.startswith("turns.") and verdict is not None)
    claimed = [name for name in met if name.startswith(("pairs.jazz", "pairs.rock", "pairs.electronic"))]
    assert len(claimed) == 6 and all(met[name] for name in claimed)  # the card says what else falls short
