"""Six broken probes: each is broken as its cause says, and the check tells right answers from wrong ones."""

from __future__ import annotations

import pytest
from planted import planted

from workbench.datasets import dataset
from workbench.model.load import load
from workbench.probing.diagnosis import diagnose
from workbench.show.broken_probes import CAUSES, BrokenProbe, broken_probes, check_cause

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
    assert ALARM[cause] in [finding.name for finding in report.alarms], report.sentences()


@pytest.mark.parametrize("cause", CAUSES)
def test_an_answer_is_judged_in_words(cause, tiny_dataset):
    acts, _ = planted(1.0)
    one = BrokenProbe("A", "it reads genre", acts, "genre", tiny_dataset, {}, cause)
    assert cause not in repr(one)
    assert check_cause(one, None).right is None
    assert check_cause(one, cause).right is True and CAUSES[cause] in check_cause(one, cause).words
    wrong = next(other for other in CAUSES if other != cause)
    told = check_cause(one, wrong)
    assert told.right is False and "hint" in told.words and cause not in told.words
    assert "none of the six" in check_cause(one, "bad luck").words
