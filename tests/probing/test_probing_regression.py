"""Probes for numbers: what is planted is read, noise is not, and the figures are scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from planted import activations, labels_and_groups
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_absolute_error, r2_score
from tolerances import DOUBLE, ROUNDED, SUMMED

from workbench.errors import DatasetError, ProbeError
from workbench.probing import fit_regression
from workbench.probing.crossval import number_folds
from workbench.probing.solvers import Scaling

D = 24


def tempo(strength: float = 2.0, *, seed: int = 0, clips: int = 4, inside: float = 0.0):
    """Return (activations, direction): layer 1 holds beats a minute along the direction, layer 0 only noise.

    Each of 30 groups has a tempo of its own; `inside` is the deviation of clips from their group.
    """
    rng = np.random.default_rng(seed)
    labels, groups = labels_and_groups(clips=clips)
    member = np.unique(groups, return_inverse=True)[1]
    height = rng.standard_normal(30)[member] + inside * rng.standard_normal(len(member))
    direction = rng.standard_normal(D) / np.sqrt(D)
    direction /= np.linalg.norm(direction)
    x = rng.standard_normal((len(member), 2, D)) + 3
    x[:, 1] += strength * height[:, None] * direction
    return activations(x, labels, groups, bpm=110 + 20 * height), direction


def test_law_08_a_planted_number_is_read_and_its_direction_recovered():
    acts, direction = tempo(4.0, clips=24)
    sweep = fit_regression(acts, "bpm")
    signal, noise = sweep[1].scores, sweep[0].scores
    assert signal.r2 > 0.85
    assert signal.rank > 0.9
    assert signal.error < 8
    assert noise.r2 < 0.1
    assert noise.rank_low < 0.1
    found = sweep.best.direction()
    assert found.vector @ direction > 0.95
    assert (found.layer, found.name, found.residual_norm) == (1, "bpm", 20.0)
    assert np.isclose(found.norm, 1, **ROUNDED)
    assert found.origin["target"] == "bpm"
    x = acts.matrix(1).astype(float)
    assert np.isclose(found.centre, x.mean(0) @ found.vector, **SUMMED)
    assert (sweep.best.predict(x + 2 * found.vector) > sweep.best.predict(x)).all()


def test_readings_and_figures_are_scikit_learns_on_the_same_folds():
    acts, _ = tempo()
    sweep = fit_regression(acts, "bpm", l2=[0.1], layers=[1], shuffles=0, folds=3, seed=2)
    x, y = acts.matrix(1).astype(float), acts.labels("bpm")
    predicted = np.empty(len(y))
    for train, test in number_folds(y, acts.groups, folds=3, seed=2):
        scaling = Scaling.of(x[train])
        solver = Ridge(0.1 * len(train)).fit(scaling.apply(x[train]), y[train])
        predicted[test] = solver.predict(scaling.apply(x[test]))
    np.testing.assert_allclose(sweep.held_out["predicted"], predicted, **DOUBLE)
    scores = sweep[1].scores
    assert scores.r2 == pytest.approx(r2_score(y, predicted))
    assert scores.error == pytest.approx(mean_absolute_error(y, predicted))
    assert (scores.samples, scores.groups, np.isnan(scores.shuffled_mean)) == (120, 30, True)
    solver = Ridge(0.1 * len(y)).fit(Scaling.of(x).apply(x), y)
    np.testing.assert_allclose(sweep[1].predict(x), solver.predict(Scaling.of(x).apply(x)), **DOUBLE)


def test_law_07_l2_is_chosen_by_error_inside_the_training_folds():
    acts, _ = tempo(1.0)
    sweep = fit_regression(acts, "bpm", layers=[1], shuffles=0, l2=[1e6, 0.3])
    assert sweep[1].l2 == 0.3
    assert sweep[1].scores.r2 > 0.3  # chosen in each fold too: at 1e6 every reading is the mean
    assert fit_regression(acts, "bpm", layers=[1], shuffles=0, l2=[1e6])[1].scores.r2 < 0.1
    noise = fit_regression(acts, "bpm", layers=[0], shuffles=0, l2=[1e6, 1e-3])
    assert noise[0].l2 == 1e6


@pytest.mark.parametrize("inside", [0.0, 0.5])
def test_law_07_shuffled_numbers_read_nothing_and_what_is_read_beats_them(inside):
    acts, _ = tempo(3.0, inside=inside)
    scores = fit_regression(acts, "bpm", layers=[1])[1].scores
    assert -0.3 < scores.shuffled_low <= scores.shuffled_mean <= scores.shuffled_high < 0.3
    assert scores.r2_low > scores.shuffled_high


def test_law_07_a_probe_that_can_only_recognise_groups_reads_nothing():
    rng = np.random.default_rng(0)
    labels, groups = labels_and_groups(clips=8)
    member = np.unique(groups, return_inverse=True)[1]
    x = 3 * rng.standard_normal((30, 48))[member] + rng.standard_normal((len(member), 48))
    bpm = rng.standard_normal(30)[member]
    alone = activations(x[:, None], labels, np.arange(len(x)).astype(str), bpm=bpm)
    assert fit_regression(alone, "bpm", shuffles=0).best.scores.r2 > 0.6
    grouped = fit_regression(activations(x[:, None], labels, groups, bpm=bpm), "bpm", shuffles=0)
    assert grouped.best.scores.r2 < 0.2


def test_equal_input_gives_equal_readings_and_the_seed_moves_the_folds():
    acts, _ = tempo()
    one, two, other = (
        fit_regression(acts, "bpm", layers=[1], shuffles=2, seed=seed, threads=threads)
        for seed, threads in ((0, 1), (0, 2), (1, 1))
    )
    assert one.held_out.equals(two.held_out)
    assert one.table().equals(two.table())
    assert not one.held_out.equals(other.held_out)


def test_the_sweep_tells_of_all_layers():
    acts, _ = tempo()
    sweep = fit_regression(acts, "bpm", shuffles=0)
    assert (sweep.layers, sweep.target, len(sweep), sweep.best.layer) == ((0, 1), "bpm", 2, 1)
    table = sweep.table()
    for name in ("r2", "error", "rank"):
        assert (table[f"{name}_low"] <= table[name]).all()
        assert (table[name] <= table[f"{name}_high"]).all()
    assert sorted(sweep.held_out.query("layer == 1")["clip"]) == sorted(acts.clips)
    assert (sweep.held_out.groupby("group")["fold"].nunique() == 1).all()
    assert sweep.held_out["fold"].nunique() == 5
    with pytest.raises(ProbeError, match=r"layer 7.*0, 1"):
        sweep[7]
    with pytest.raises(ProbeError, match="width 24"):
        sweep.best.predict(np.zeros((2, 7)))


def test_numbers_that_cannot_be_read_are_refused_with_the_reason():
    acts, _ = tempo()
    with pytest.raises(ProbeError, match=r"values are text.*fit_probes"):
        fit_regression(acts, "genre")
    with pytest.raises(ProbeError, match="finite number above 0"):
        fit_regression(acts, "bpm", l2=[0])
    with pytest.raises(ProbeError, match="list of layers is empty"):
        fit_regression(acts, "bpm", layers=[])
    with pytest.raises(DatasetError, match="30 group"):
        fit_regression(acts, "bpm", folds=31)
    x, labels, groups = acts.matrix(1)[:, None], acts.labels(), acts.groups
    with pytest.raises(DatasetError, match="is 3 in every sample"):
        fit_regression(activations(x, labels, groups, bpm=np.full(120, 3.0)), "bpm")
    with pytest.raises(ProbeError, match="1 samples have no such number"):
        fit_regression(activations(x, labels, groups, bpm=np.append(np.nan, np.arange(119.0))), "bpm")


def test_two_training_groups_choose_l2_and_one_takes_the_middle():
    acts, _ = tempo()
    three = np.isin(acts.groups, np.unique(acts.groups)[:3])
    assert len(fit_regression(acts.subset(three), "bpm", folds=3, shuffles=0)) == 2
    two = np.isin(acts.groups, np.unique(acts.groups)[:2])
    strengths = [1e6, 7.0, 1e-6]
    sweep = fit_regression(acts.subset(two), "bpm", folds=2, layers=[1], shuffles=0, l2=strengths)
    (single,) = fit_regression(acts.subset(two), "bpm", folds=2, layers=[1], shuffles=0, l2=[7.0])
    expected = fit_regression(acts.subset(two), "bpm", folds=2, layers=[1], shuffles=0, l2=[7.0])
    assert single.l2 == 7.0
    assert sweep.held_out["predicted"].equals(expected.held_out["predicted"])
