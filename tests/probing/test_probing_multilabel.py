"""Probes for labels of which a clip has several: each is read for itself, on groups that are whole."""

from __future__ import annotations

import numpy as np
import pytest
from planted import activations
from probing_samples import NAMES, tagged
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, f1_score

from workbench.errors import DatasetError, ProbeError
from workbench.probing import fit_multilabel
from workbench.probing.crossval import label_folds
from workbench.probing.solvers import Scaling


@pytest.mark.parametrize("method", ["logistic", "ridge", "means"])
def test_law_08_every_label_is_read_and_its_direction_recovered(method):
    acts, held, vectors = tagged(4.0, clips=8)
    sweep = fit_multilabel(acts, method=method, l2=[0.1])
    assert sweep.labels == NAMES
    assert (sweep.present == held).all()
    noise, signal = sweep[0].scores, sweep[1].scores
    assert signal.average_precision > 0.9
    assert signal.macro_f1 > 0.8
    assert noise.precision_low < noise.chance + 0.1 < signal.precision_low
    for name, vector in zip(NAMES, vectors, strict=True):
        assert sweep.best.direction(name).vector @ vector > 0.85, name
    assert (sweep.best.layer, sweep.best.direction("live").name) == (1, "live")


@pytest.mark.parametrize("weights", [None, "balanced"])
def test_held_out_logits_and_figures_are_scikit_learns(weights):
    acts, held, _ = tagged()
    sweep = fit_multilabel(acts, layers=[1], l2=[0.1], folds=3, seed=1, class_weights=weights)
    x, logits = acts.matrix(1).astype(float), np.empty(held.shape)
    splits = label_folds(held, acts.groups, folds=3, seed=1)
    for train, test in splits:
        scaling = Scaling.of(x[train])
        for label in range(4):
            solver = LogisticRegression(C=10 / len(train), class_weight=weights, tol=1e-9, max_iter=9999)
            solver.fit(scaling.apply(x[train]), held[train, label])
            logits[test, label] = solver.decision_function(scaling.apply(x[test]))
    # two solvers that stop at their own tolerances
    np.testing.assert_allclose(sweep.logits[0], logits, atol=5e-3)
    scores = sweep[1].scores
    assert scores.macro_f1 == pytest.approx(f1_score(held, sweep.logits[0] > 0, average="macro"))
    expected = average_precision_score(held, sweep.logits[0], average="macro")
    assert scores.average_precision == pytest.approx(expected)
    assert scores.chance == pytest.approx(held.mean())
    assert scores.of_label["label"].tolist() == list(NAMES)
    assert all((sweep.fold[test] == number).all() for number, (_, test) in enumerate(splits))


@pytest.mark.parametrize("method", ["logistic", "ridge"])
def test_each_label_chooses_its_own_strength_inside_the_training_folds(method):
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(40), 5)
    sign = np.where(rng.random(40) < 0.5, 1.0, -1.0)[groups]
    shared = 3 * rng.standard_normal(200)
    easy = (rng.random(40) < 0.5)[groups]
    # The first two features tell `hard` only by their difference, which a huge strength cannot see.
    x = np.stack([shared + 0.3 * sign, shared - 0.3 * sign, 3.0 * easy + rng.standard_normal(200)], 1)
    sets = [
        [*(["hard"] if one > 0 else []), *(["easy"] if two else [])]
        for one, two in zip(sign, easy, strict=True)
    ]
    acts = activations(x[:, None], np.full(200, "a"), groups.astype(str))
    crushed, mild = 1e7, 1e-3
    sweep = fit_multilabel(acts, sets, method=method, l2=[crushed, mild])
    assert sweep.labels == ("easy", "hard")
    assert sweep[0].l2[1] == mild
    assert sweep[0].scores.of_label["f1"][1] > 0.8
    crushed_only = fit_multilabel(acts, sets, method=method, l2=[crushed])
    assert crushed_only[0].scores.of_label["f1"][1] < 0.75


def test_a_rare_label_is_named_where_labels_are_balanced():
    acts, held, _ = tagged(1.2, groups=60)
    plain, fair = (
        fit_multilabel(acts, layers=[1], l2=[0.1], class_weights=one) for one in (None, "balanced")
    )
    rare = NAMES.index("live")
    found = [(sweep.logits[0][held[:, rare], rare] > 0).mean() for sweep in (plain, fair)]
    assert found[1] > found[0] + 0.15


def test_law_07_groups_stay_whole_and_threads_change_nothing():
    acts, held, _ = tagged()
    one, two, other = (
        fit_multilabel(acts, layers=[1], method="ridge", seed=seed, threads=threads)
        for seed, threads in ((0, 1), (0, 2), (1, 1))
    )
    assert (one.logits == two.logits).all()
    assert not (one.logits == other.logits).all()
    for group in np.unique(acts.groups):
        assert len(set(one.fold[acts.groups == group])) == 1
    shares = np.array([held[one.fold == fold].mean(0) for fold in range(5)])
    assert np.abs(shares - held.mean(0)).max() < 0.2


def test_sets_of_labels_may_be_given_and_spaces_do_not_count():
    acts, held, _ = tagged()
    sets = [{name for name, has in zip(NAMES, row, strict=True) if has} for row in held]
    by_text = fit_multilabel(acts, "tags", layers=[1], l2=[1.0])
    assert (fit_multilabel(acts, sets, layers=[1], l2=[1.0]).logits == by_text.logits).all()
    spaced = np.array([text.replace("|", " | ") for text in acts.labels("tags")])
    again = activations(acts.matrix(1)[:, None], spaced, acts.groups, tags=spaced)
    assert (fit_multilabel(again, layers=[0], l2=[1.0]).logits == by_text.logits).all()


def test_the_sweep_tells_of_all_layers():
    acts, *_ = tagged()
    sweep = fit_multilabel(acts, method="means")
    table = sweep.table()
    assert table["layer"].tolist() == [0, 1]
    assert (table["f1_low"] <= table["macro_f1"]).all()
    assert (table["precision_low"] <= table["average_precision"]).all()
    assert (table["average_precision"] <= table["precision_high"]).all()
    probe = sweep[1]
    x = acts.matrix(1).astype(float)
    assert (probe.predict(x) == (probe.logits(x) > 0)).all()
    with pytest.raises(ProbeError, match=r"'flute'.*drums, guitar, live, voice"):
        probe.direction("flute")
    with pytest.raises(ProbeError, match="width 24"):
        probe.logits(np.zeros((2, 7)))


def test_labels_that_cannot_be_read_are_refused_with_the_reason():
    acts, *_ = tagged(groups=12)
    x, groups = acts.matrix(1)[:, None], acts.groups
    sets = [["a"] if group == "track0" else ["b"] if index % 2 else [] for index, group in enumerate(groups)]
    with pytest.raises(DatasetError, match=r"'a'.*1 group\(s\) have"):
        fit_multilabel(acts, sets)
    with pytest.raises(DatasetError, match=r"'all'.*0 without"):
        fit_multilabel(acts, [["all"]] * len(acts))
    with pytest.raises(DatasetError, match="no sample has any"):
        fit_multilabel(acts, [[]] * len(acts))
    with pytest.raises(ProbeError, match="there are 36 samples"):
        fit_multilabel(acts, [["a"]])
    with pytest.raises(ProbeError, match=r"numbers.*fit_regression"):
        fit_multilabel(activations(x, acts.labels(), groups, tags=np.arange(36.0)))
    with pytest.raises(DatasetError, match="40 group"):
        fit_multilabel(tagged()[0], folds=41)
    with pytest.raises(ProbeError, match="list of layers is empty"):
        fit_multilabel(tagged()[0], layers=[])


def test_a_fold_that_would_train_on_one_side_only_is_refused():
    groups = np.repeat(["x", "y", "z"], 4)
    # "b" is missing in two groups, which the folds for "a" put on the same side.
    sets = [["a", "b"] if group == "x" else ["a"] if index % 2 else [] for index, group in enumerate(groups)]
    sets[4] = ["b"]
    acts = activations(np.random.default_rng(0).standard_normal((12, 1, 4)), groups, groups)
    held = np.array([["a" in one, "b" in one] for one in sets])
    seeds = [
        seed
        for seed in range(20)
        if any(held[train].all(0).any() for train, _ in label_folds(held, groups, folds=2, seed=seed))
    ]
    assert seeds
    with pytest.raises(DatasetError, match=r"would train on samples that all have '[ab]', or all lack it"):
        fit_multilabel(acts, sets, folds=2, seed=seeds[0])
