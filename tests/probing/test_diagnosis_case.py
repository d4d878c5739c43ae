"""A case: it holds what the cross-validation says, and reads other clips without having seen their group."""

from __future__ import annotations

import numpy as np
import pytest
from planted import activations, planted
from tolerances import DOUBLE, ROUNDED

from workbench.errors import DatasetError, ProbeError
from workbench.probing import fit_probes
from workbench.probing.diagnosis import evaluate_probe


def probe_of(acts, **settings):
    return fit_probes(acts, l2=[0.1], shuffles=0, progress=False, layers=[1], **settings)[1]


@pytest.fixture(scope="module")
def acts():
    return planted(1.5, clips=4)[0]


@pytest.fixture(scope="module")
def case(acts):
    return evaluate_probe(acts, probe_of(acts))


def test_a_case_is_the_cross_validation_that_the_sweep_reported(acts, case):
    sweep = fit_probes(acts, l2=[0.1], shuffles=0, progress=False)
    rows = sweep.held_out.query("layer == 1")
    assert np.array(case.classes)[case.held_out.predicted].tolist() == rows["predicted"].tolist()
    np.testing.assert_allclose(case.held_out.logits, sweep.logits[1], **ROUNDED)
    assert case.accuracy.value == pytest.approx(sweep[1].accuracy)
    assert (case.target, case.layer, case.site, case.folds) == ("genre", 1, "resid_post", 5)
    assert case.labels.tolist() == rows["truth"].tolist()
    assert case.chance == pytest.approx(1 / 3)
    np.testing.assert_allclose(case.probabilities.sum(1), 1, **ROUNDED)


def test_clips_of_a_known_group_are_read_by_the_fold_that_held_it_out(case):
    np.testing.assert_allclose(case.read(case.x, case.groups), case.held_out.logits, **DOUBLE)


def test_clips_of_new_groups_are_read_by_all_folds_together(case):
    found = case.read(case.x[:3], np.array(["new", "other", case.groups[2]]))
    every = [case.x[:2] @ w.T + b for w, b in zip(case.held_out.weights, case.held_out.bias, strict=True)]
    np.testing.assert_allclose(found[:2], np.mean(every, axis=0), **DOUBLE)
    np.testing.assert_allclose(found[2], case.held_out.logits[2], **DOUBLE)


def test_random_splits_cut_groups_and_hold_every_sample_once(case):
    splits = case.random_splits()
    assert sorted(np.concatenate([test for _, test in splits])) == list(range(len(case.y)))
    assert all(set(case.groups[train]) & set(case.groups[test]) for train, test in splits)
    assert [test.tolist() for _, test in case.random_splits(1)] != [test.tolist() for _, test in splits]


def test_each_round_is_predicted_by_its_own_probes(case):
    other = (case.y + 1) % 3
    twice = case.predicted([case.splits, case.random_splits()])
    assert twice[0].tolist() == case.held_out.predicted.tolist()
    assert twice[1].tolist() == case.predicted([case.random_splits()])[0].tolist()
    assert twice[1].tolist() != twice[0].tolist()
    (learnt,) = case.predicted([case.splits], y=other)
    assert (learnt == (case.held_out.predicted + 1) % 3).mean() > 0.97


def test_class_weights_reach_every_probe(acts):
    weights = {"jazz": 30.0}
    plain = evaluate_probe(acts, probe_of(acts))
    leaning = evaluate_probe(acts, probe_of(acts, class_weights=weights), class_weights=weights)
    jazz = leaning.classes.index("jazz")
    assert (leaning.held_out.predicted == jazz).sum() > (plain.held_out.predicted == jazz).sum() + 5
    (again,) = leaning.predicted([leaning.splits])
    assert again.tolist() == leaning.held_out.predicted.tolist()
    with pytest.raises(ProbeError, match=r"'blues'.*classical, jazz, rock"):
        evaluate_probe(acts, probe_of(acts), class_weights={"blues": 2.0})


def test_what_the_probe_was_not_fitted_on_is_refused(acts):
    other, _ = planted(classes=4, clips=4)
    with pytest.raises(ProbeError, match=r"classical, jazz, rock \(width 48\).*reggae"):
        evaluate_probe(other, probe_of(acts))
    narrow = activations(np.zeros((len(acts), 2, 7)), acts.labels(), acts.groups)
    with pytest.raises(ProbeError, match=r"width 7"):
        evaluate_probe(narrow, probe_of(acts))
    with pytest.raises(DatasetError, match="11 folds"):
        evaluate_probe(acts, probe_of(acts), folds=11)
