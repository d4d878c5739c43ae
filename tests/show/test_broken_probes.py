"""Six broken probes: each is broken as its cause says, and the check tells right answers from wrong ones."""

from __future__ import annotations

import pytest

from workbench.datasets import dataset
from workbench.model.load import load
from workbench.probing.diagnosis import diagnose
from workbench.show.broken_probes import CAUSES, broken_probes, check_cause

ALARM = {
    "text leak": "text leak",
    "track leak": "group leak",
    "tempo confound": "confound: tempo_bpm",
    "imbalance": "class imbalance",
    "label noise": "label noise",
    "too few clips": "too few clips",
}


@pytest.fixture(scope="module")
def broken():
    return broken_probes(load("embedded"), dataset("embedded"), per_genre=30)


QUICK = ("tempo confound", "too few clips")
"""Causes that `make test` diagnoses; the others take minutes, and notebook 6 meets them."""


def test_there_is_one_broken_probe_of_each_kind_and_names_tell_nothing(broken):
    assert list(broken) == list("ABCDEF")
    assert {one.cause for one in broken.values()} == set(CAUSES)
    assert all(one.cause not in repr(one) for one in broken.values())


@pytest.mark.parametrize(
    "cause", [pytest.param(one, marks=[] if one in QUICK else pytest.mark.long) for one in CAUSES]
)
def test_the_lab_raises_the_alarm_that_the_cause_deserves(broken, cause):
    (one,) = (one for one in broken.values() if one.cause == cause)
    report = diagnose(one.acts, one.target, views=False, **one.options)
    assert ALARM[cause] in [finding.name for finding in report.alarms], report.sentences()


def test_an_answer_is_judged_in_words(broken):
    one = broken["A"]
    assert check_cause(one, None).right is None
    assert (
        check_cause(one, one.cause).right is True and CAUSES[one.cause] in check_cause(one, one.cause).words
    )
    wrong = next(cause for cause in CAUSES if cause != one.cause)
    told = check_cause(one, wrong)
    assert told.right is False and "hint" in told.words and one.cause not in told.words
    assert "none of the six" in check_cause(one, "bad luck").words
