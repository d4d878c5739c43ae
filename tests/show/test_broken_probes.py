"""Six broken probes: each is broken as its cause says, and the check tells right answers from wrong ones."""

from __future__ import annotations

import pytest
from planted import planted
from planted_faults import group_leak

from workbench.datasets import dataset
from workbench.model.load import load
from workbench.probing.diagnosis import diagnose
from workbench.show import exercises
from workbench.show.broken_probes import ALARMS, CAUSES, CLUES, BrokenProbe, broken_probes, check_cause
from workbench.show.widgets import BrokenProbes


@pytest.fixture(scope="module")
def broken():
    """As in notebook 6, which `make test` runs with fewer clips: then some alarms stay silent."""
    return broken_probes(load("embedded"), dataset("embedded"), per_genre=30)


@pytest.mark.long
def test_there_is_one_broken_probe_of_each_kind_and_names_tell_nothing(broken):
    assert list(broken) == list("ABCDEF")
    assert {one.cause for one in broken.values()} == set(CAUSES)
    assert all(one.cause not in repr(one) for one in broken.values())


@pytest.mark.long
@pytest.mark.parametrize("cause", CAUSES)
def test_the_lab_raises_the_alarm_that_the_cause_deserves(broken, cause):
    (one,) = (one for one in broken.values() if one.cause == cause)
    report = diagnose(one.acts, one.target, views=False, **one.options)
    assert ALARMS[cause] in [finding.name for finding in report.alarms], report.sentences()


@pytest.mark.parametrize("cause", CAUSES)
def test_an_answer_is_judged_in_words(cause, tiny_dataset):
    acts, _ = planted(1.0)
    one = BrokenProbe("A", "it reads genre", acts, "genre", tiny_dataset, {}, cause)
    assert cause not in repr(one)
    assert check_cause(one, None).right is None
    assert check_cause(one, cause).right is True and CAUSES[cause] in check_cause(one, cause).words
    exercises.start_again()
    told = [check_cause(one, other) for other in CAUSES if other != cause]
    assert all(verdict.right is False for verdict in told)
    assert CLUES[cause] not in told[0].words and CLUES[cause] in told[1].words
    assert CAUSES[cause] not in told[1].words and CAUSES[cause] in told[2].words


@pytest.mark.parametrize(
    "answer",
    ["bad luck", "", float("nan"), True, 3, [], ["text leak"], {}, {"text leak"}, object(), b"text leak"],
)
def test_an_odd_diagnosis_is_refused_in_words_and_opens_nothing(answer, room):
    told = room.check("A", answer)
    assert told.right is False and "none of the six causes" in told.words
    assert "wb-unanswered" in room.labs["A"]._dom_classes


@pytest.fixture
def room(tiny_dataset):
    """A lab whose probe leaks its tracks, though something else was broken on purpose."""
    acts, options = group_leak(0).acts, {"unit": "groove"}
    one = BrokenProbe("A", "it reads <genre>", acts, "genre", tiny_dataset, options, "text leak")
    exercises.start_again()
    return BrokenProbes({"A": one})


def test_the_verdict_is_hidden_until_a_cause_is_named(room):
    lab = room.labs["A"]
    lab.wait()
    assert "wb-verdict" in lab.verdict.value and "wb-unanswered" in lab._dom_classes
    assert ".wb-unanswered .wb-verdict" in room.claim.value and "&lt;genre&gt;" in room.claim.value
    assert room.check("A", None).right is None and "wb-unanswered" in lab._dom_classes
    room.cause.value = "text leak"
    assert "wb-unanswered" not in lab._dom_classes and "Right." in room.told.value


def test_the_choice_of_a_cause_always_shows_its_words(room):
    room.broken_probes = room.broken_probes | {"B": room.broken_probes["A"]}
    room.chosen.options = ["A", "B"]
    assert room.cause.label == "your diagnosis ..."
    room.cause.value = "text leak"
    room.chosen.value = "B"
    assert room.cause.label == "your diagnosis ..." and "B" not in room.answers
    room.chosen.value = "A"
    assert room.cause.value == "text leak"


def test_a_second_fault_whose_alarm_is_raised_is_accepted(room):
    report = room.labs["A"].wait()
    assert "group leak" in [finding.name for finding in report.alarms]
    second = room.check("A", "track leak")
    assert (
        second.right
        and report["group leak"].sentence() in second.words
        and CLUES["text leak"] in second.words
    )
    assert room.check("A", " Track Leak") == second
    other = room.check("A", "imbalance")
    assert other.right is False and "raises no alarm of that kind" in other.words
