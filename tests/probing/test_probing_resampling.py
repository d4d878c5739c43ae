"""Figures under drawn groups: each equals the library's on the samples that were drawn."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score, f1_score, mean_absolute_error, r2_score
from tolerances import DOUBLE

from workbench import stats as resampling
from workbench.stats import (
    absolute_error,
    average_precision,
    f_score,
    interval,
    mean_of,
    point_estimate,
    r_squared,
    rank_correlation,
)

NUMBERS = [
    (r_squared, r2_score),
    (absolute_error, mean_absolute_error),
    (rank_correlation, lambda truth, read: spearmanr(truth, read).statistic),
]
LABELS = [
    (average_precision, average_precision_score),
    (f_score, lambda truth, named: f1_score(truth, named > 0)),
]


@pytest.mark.parametrize(("make", "library"), NUMBERS + LABELS)
def test_a_figure_is_the_librarys_on_the_samples_drawn(make, library):
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 6, 40).astype(float) + 1000  # with ties
    read = np.round(truth + rng.standard_normal(40), 1)
    if make in (average_precision, f_score):
        truth, read = truth > 1003, read - 1003
    figure = make(truth, read > 0) if make is f_score else make(truth, read)
    counts = rng.multinomial(40, np.full(40, 1 / 40), 5)
    expected = [library(np.repeat(truth, one), np.repeat(read, one)) for one in counts]
    np.testing.assert_allclose(figure(counts), expected, **DOUBLE)
    assert point_estimate(figure, 40) == pytest.approx(library(truth, read))


def test_groups_are_drawn_whole_and_as_many_as_there_are(monkeypatch):
    groups = np.repeat(np.arange(6), [1, 2, 3, 1, 2, 3])
    seen = []
    monkeypatch.setattr(resampling, "_AT_ONCE", 30)  # some draws at a time
    interval(lambda counts: seen.append(counts) or counts.sum(1).astype(float), groups, draws=9)
    drawn = np.vstack(seen)
    assert drawn.shape == (9, 12)
    assert len(seen) > 1
    for group in range(6):
        part = drawn[:, groups == group]
        assert (part == part[:, :1]).all()
    assert (drawn[:, [0, 1, 3, 6, 7, 9]].sum(1) == 6).all()
    assert len({row.tobytes() for row in drawn}) > 5


def test_the_interval_covers_the_truth_about_95_times_in_100():
    hits = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        groups = np.repeat(np.arange(40), 3)
        truth = rng.standard_normal(40)[groups]
        read = truth + 0.5 * rng.standard_normal(40)[groups] + 0.5 * rng.standard_normal(120)
        low, high = interval(r_squared(truth, read), groups, draws=200, seed=seed)
        hits += low <= 0.5 <= high
    assert 0.88 <= hits / 200 <= 0.99


def test_what_has_no_value_is_left_out():
    never = np.zeros(6, dtype=bool)
    assert np.isnan(point_estimate(f_score(never, never), 6))
    assert np.isnan(point_estimate(average_precision(never, np.arange(6.0)), 6))
    assert np.isnan(point_estimate(rank_correlation(np.ones(6), np.arange(6.0)), 6))
    ones = [f_score(~never, ~never), f_score(never, never)]
    assert point_estimate(mean_of(ones), 6) == 1
    assert np.isnan(point_estimate(mean_of(ones[1:]), 6))
    assert np.isnan(interval(ones[1], np.arange(6))).all()
    assert interval(ones[0], np.arange(6)) == (1, 1)
