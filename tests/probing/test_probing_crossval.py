"""Cross-validation: nothing of a test fold reaches its probe, and every choice is made inside the rest."""

from __future__ import annotations

import numpy as np
import pytest
from planted import activations, labels_and_groups, planted
from sklearn.linear_model import LogisticRegression, Ridge
from tolerances import DOUBLE

from workbench.errors import ProbeError
from workbench.probing import fit_probes
from workbench.probing.crossval import Recipe, cross_validate, plan
from workbench.probing.solvers import PROBE_METHODS, Scaling, one_hot
from workbench.sound.dataset import grouped_folds

METHODS = ["logistic", "ridge", "means"]


def setting(strength: float = 1.5, folds: int = 3, **sizes: int):
    """Return (x, y, splits, groups) of three planted classes."""
    acts, _ = planted(strength, d=16, **sizes)
    y = np.unique(acts.labels(), return_inverse=True)[1]
    return (
        acts.matrix(1).astype(float),
        y,
        grouped_folds(acts.labels(), acts.groups, folds=folds),
        acts.groups,
    )


@pytest.mark.parametrize("method", METHODS)
def test_law_07_nothing_of_a_test_fold_reaches_its_probe(method):
    x, y, splits, groups = setting()
    plain = cross_validate(x, y, splits, groups=groups, method=method)
    other, names = x.copy(), y.copy()
    test = splits[1][1]
    other[test], names[test] = 1e3 * np.random.default_rng(0).standard_normal((len(test), 16)), 0
    changed = cross_validate(other, names, splits, groups=groups, method=method)
    assert (changed.weights[1] == plain.weights[1]).all()
    assert (changed.bias[1] == plain.bias[1]).all()
    np.testing.assert_array_equal(changed.l2[1], plain.l2[1])
    assert not (changed.weights[0] == plain.weights[0]).all()


@pytest.mark.parametrize("method", METHODS)
def test_held_out_logits_judge_each_sample_once(method):
    x, y, splits, groups = setting()
    found = cross_validate(x, y, splits, groups=groups, method=method)
    for number, (_, test) in enumerate(splits):
        assert (found.fold[test] == number).all()
        np.testing.assert_allclose(
            found.logits[test], x[test] @ found.weights[number].T + found.bias[number], **DOUBLE
        )
    assert (found.predicted == found.logits.argmax(1)).all()
    assert (found.predicted == y).mean() > 0.5


def test_samples_that_no_fold_tests_have_no_logits():
    x, y, splits, groups = setting()
    found = cross_validate(x, y, splits[:1], groups=groups, l2=[0.1])
    untested = splits[0][0]
    assert np.isnan(found.logits[untested]).all()
    assert (found.fold[untested] == -1).all()
    assert (found.predicted[untested] == -1).all()
    assert (found.predicted[splits[0][1]] >= 0).all()


@pytest.mark.parametrize(("groups", "inner"), [(9, 3), (3, 1), (2, 0)])
def test_law_07_l2_is_chosen_on_whole_groups_of_the_training_samples(groups, inner):
    _, y, splits, names = setting(groups=groups, folds=2 if groups == 2 else 3)
    folds = plan(y, names, splits, Recipe.of(3, "ridge"))
    for fold in folds:
        assert len(fold.inner) == inner
        judged = [position for _, aside in fold.inner for position in aside]
        assert len(judged) == len(set(judged))
        for kept, aside in fold.inner:
            assert not set(names[fold.train[kept]]) & set(names[fold.train[aside]])
            assert set(y[fold.train[kept]]) == {0, 1, 2}
    if inner == 3:
        assert sorted(judged) == list(range(len(folds[-1].train)))
    assert plan(y, names, splits, Recipe.of(3, "ridge", [1.0]))[0].inner == ()


@pytest.mark.parametrize("weights", [None, "balanced"])
def test_the_strength_is_the_one_with_most_hits_inside(weights):
    x, y, splits, groups = setting(0.8)
    uneven = np.flatnonzero((y != 0) | (np.arange(len(y)) % 4 == 0))
    x, y, groups = x[uneven], y[uneven], groups[uneven]
    splits = grouped_folds(y, groups, folds=3)
    strengths = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01)
    found = cross_validate(x, y, splits, groups=groups, method="ridge", l2=strengths, class_weights=weights)
    expected = []
    for train, _ in splits:
        hits = np.zeros((len(strengths), 3))
        for kept, aside in grouped_folds(y[train], groups[train], folds=3, seed=0):
            kept, aside = train[kept], train[aside]
            scaling = Scaling.of(x[kept])
            counts = None if weights is None else 1 / np.bincount(y[kept])[y[kept]]
            for number, strength in enumerate(strengths):
                total = len(kept) if counts is None else counts.sum()
                solver = Ridge(strength * total).fit(scaling.apply(x[kept]), one_hot(y[kept], 3), counts)
                right = solver.predict(scaling.apply(x[aside])).argmax(1) == y[aside]
                hits[number] += np.bincount(y[aside], right, 3)
        share = np.ones(3) if weights is None else np.bincount(y[train])
        expected.append(strengths[int(np.round((hits / share).sum(1), 9).argmax())])
    assert found.l2.tolist() == expected
    assert len(set(expected)) > 1  # otherwise a constant would pass


@pytest.mark.parametrize("weights", ["balanced", {0: 5.0, 2: 0.5}])
def test_class_weights_are_scikit_learns(weights):
    x, y, splits, groups = setting()
    kept = np.flatnonzero((y != 0) | (np.arange(len(y)) % 4 == 0))
    x, y, groups = x[kept], y[kept], groups[kept]
    train, _ = splits = grouped_folds(y, groups, folds=3)[0]
    z = Scaling.of(x[train]).apply(x[train])
    counts = np.array([{0: 5.0, 1: 1.0, 2: 0.5}[one] for one in y[train]])
    if weights == "balanced":
        counts = len(train) / 3 / np.bincount(y[train])[y[train]]
    for method in ("logistic", "ridge"):
        found = cross_validate(x, y, [splits], groups=groups, method=method, l2=[0.1], class_weights=weights)
        if method == "logistic":
            solver = LogisticRegression(C=10 / counts.sum(), class_weight=weights, tol=1e-9, max_iter=9999)
            solver.fit(z, y[train])
        else:
            solver = Ridge(0.1 * counts.sum()).fit(z, one_hot(y[train], 3), counts)
        expected = Scaling.of(x[train]).fold_back(solver.coef_, solver.intercept_)
        # two solvers that stop at their own tolerances
        np.testing.assert_allclose(found.weights[0], expected[0], rtol=0.01, atol=1e-3)
        np.testing.assert_allclose(
            found.bias[0] - found.bias[0].mean(), expected[1] - expected[1].mean(), atol=0.01
        )


def test_balanced_weights_give_a_rare_class_its_share():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 0, 0, 0, 0, 0, 0, 0, 0, 1], 40)
    x = rng.standard_normal((400, 8)) + 1.2 * y[:, None] * (np.arange(8) < 2)
    groups = np.arange(400) // 4
    splits = grouped_folds(y, groups, folds=4)
    for method in METHODS:
        plain, fair = (
            cross_validate(x, y, splits, groups=groups, method=method, l2=[0.1], class_weights=one)
            for one in (None, "balanced")
        )
        assert (plain.predicted[y == 1] == 1).mean() < 0.5, method
        assert (fair.predicted[y == 1] == 1).mean() > 0.65, method


@pytest.mark.parametrize("method", METHODS)
def test_the_number_of_threads_changes_nothing(method):
    x, y, splits, groups = setting()
    one, two = (cross_validate(x, y, splits, groups=groups, method=method, threads=n) for n in (1, 2))
    assert (one.logits == two.logits).all()
    acts, _ = planted(d=16, layers=3)
    sweeps = [
        fit_probes(acts, method=method, folds=3, shuffles=2, threads=n, progress=False) for n in (1, 2, 4)
    ]
    for other in sweeps[1:]:
        assert other.probes == sweeps[0].probes
        assert (other.logits == sweeps[0].logits).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_sweep_keeps_the_logits_of_its_held_out_rows(method):
    acts, _ = planted(1.5, d=16)
    sweep = fit_probes(acts, method=method, folds=3, seed=2, shuffles=0)
    y = np.unique(acts.labels(), return_inverse=True)[1]
    splits = grouped_folds(acts.labels(), acts.groups, folds=3, seed=2)
    assert (sweep.target, sweep.method) == ("genre", method)
    assert sweep.logits.shape == (2, len(acts), 3)
    for position, layer in enumerate(sweep.layers):
        found = cross_validate(acts.matrix(layer), y, splits, groups=acts.groups, method=method, seed=2)
        np.testing.assert_array_equal(sweep.logits[position], found.logits)
        rows = sweep.held_out[sweep.held_out["layer"] == layer]
        assert (np.array(sweep.classes)[found.predicted] == rows["predicted"]).all()
        assert (rows["fold"] == found.fold).all()


def test_weights_by_class_name_reach_the_solver():
    acts, _ = planted(1.0, d=16)
    plain, heavy = (
        fit_probes(acts, layers=[1], l2=[0.1], shuffles=3, class_weights=one)
        for one in (None, {"rock": 20.0})
    )
    named = [(sweep.held_out["predicted"] == "rock").mean() for sweep in (plain, heavy)]
    assert named[1] > named[0] + 0.2
    # The band is that of probes without weights: it tells what labels without meaning give.
    assert heavy[1].scores.shuffled_mean == plain[1].scores.shuffled_mean
    with pytest.raises(ProbeError, match=r"'blues'.*classical, jazz, rock"):
        fit_probes(acts, class_weights={"blues": 2.0})


@pytest.mark.parametrize("weights", ["heavy", {7: 1.0}, {0: 0.0}, {0: float("nan")}])
def test_class_weights_that_mean_nothing_are_refused(weights):
    x, y, splits, groups = setting()
    with pytest.raises(ProbeError, match="class weights"):
        cross_validate(x, y, splits, groups=groups, class_weights=weights)


def test_a_fold_without_a_class_is_refused():
    x, y, _, groups = setting()
    train = np.flatnonzero(y != 1)
    with pytest.raises(ProbeError, match="none of them is of class number 1"):
        cross_validate(x, y, [(train, np.flatnonzero(y == 1))], groups=groups)
    with pytest.raises(ProbeError, match=r"'svm'.*logistic, ridge, means"):
        cross_validate(x, y, [(train, train)], groups=groups, method="svm")


def test_all_methods_keep_the_order_of_samples_and_classes():
    labels, groups = labels_and_groups(classes=3, groups=4, clips=3)
    x = one_hot(np.unique(labels, return_inverse=True)[1], 3)[:, None] + 0.01
    acts = activations(x, labels, groups)
    for method in PROBE_METHODS:
        sweep = fit_probes(acts, method=method, folds=2, shuffles=0)
        assert sweep.best.predict(acts.matrix(0)).tolist() == labels.tolist(), method
