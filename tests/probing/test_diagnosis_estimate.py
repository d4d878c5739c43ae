"""Intervals and tests over groups: they equal textbook formulas, cover the truth, keep their error rate."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ttest_1samp
from tolerances import DOUBLE

from workbench.probing import accuracy_interval
from workbench.probing.diagnosis import Estimate, holm
from workbench.stats import jackknife, mean_over_groups, rate_over_groups, sums_by_group


def test_with_groups_of_one_it_is_student_s_t_test():
    values = np.random.default_rng(0).normal(0.3, 1, 40)
    found = mean_over_groups(values, np.arange(40), tolerated=0.1)
    twin = ttest_1samp(values, 0.1, alternative="greater")
    low, high = ttest_1samp(values, 0.1).confidence_interval()
    assert found.value == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-6)
    assert found.p_value == pytest.approx(twin.pvalue, rel=1e-6)


def test_clips_of_a_group_count_as_one_witness_where_they_agree():
    once = np.random.default_rng(0).integers(0, 2, 30).astype(float)
    single = mean_over_groups(once, np.arange(30))
    copied = mean_over_groups(np.repeat(once, 8), np.repeat(np.arange(30), 8))
    assert (copied.low, copied.high) == pytest.approx((single.low, single.high))


def test_the_interval_covers_the_truth_and_the_test_keeps_its_rate():
    rng = np.random.default_rng(1)
    covered, rejected = 0, 0
    for _ in range(400):
        sizes = rng.integers(2, 9, 25)
        group = np.repeat(np.arange(25), sizes)
        rate = rng.beta(2, 2, 25)[group]
        found = mean_over_groups(rng.random(len(group)) < rate, group, tolerated=0.5)
        covered += found.low <= 0.5 <= found.high
        rejected += found.p_value <= 0.05
    assert 0.92 <= covered / 400 <= 0.98
    assert rejected / 400 <= 0.08


def test_few_groups_that_agree_entirely_are_not_proof():
    assert mean_over_groups(np.ones(30), np.repeat([0, 1, 2], 10)).p_value == 0.125
    assert mean_over_groups(np.zeros(30), np.repeat([0, 1, 2], 10)).p_value == 1.0
    nearly = np.repeat([0.999, 1.0, 1.001], 10)
    assert mean_over_groups(nearly, np.repeat([0, 1, 2], 10)).p_value == 0.125
    alone = mean_over_groups(np.ones(30), np.zeros(30))
    assert (alone.low, alone.high, alone.p_value) == (-np.inf, np.inf, 1.0)


def test_a_rate_has_the_interval_of_accuracies_and_stays_between_0_and_1():
    groups = np.repeat(np.arange(10), 4)
    found = rate_over_groups(np.ones(40), groups)
    assert (found.low, found.high) == accuracy_interval(np.ones(40), groups)
    assert found.low < found.value == found.high == 1.0


def test_the_jackknife_of_a_ratio_is_that_of_leaving_out_each_group():
    rng = np.random.default_rng(2)
    columns, groups = rng.random((60, 2)), rng.integers(0, 12, 60)
    found = jackknife(lambda total: total[0] / total[1], sums_by_group(columns, groups))
    without = [columns[groups != g, 0].sum() / columns[groups != g, 1].sum() for g in range(12)]
    error = np.sqrt(11 / 12 * ((np.array(without) - np.mean(without)) ** 2).sum())
    assert found.value == pytest.approx(columns[:, 0].sum() / columns[:, 1].sum())
    assert (found.high - found.low) / 2 == pytest.approx(2.20098516 * error, rel=1e-6)


def test_an_estimate_is_told_with_its_interval():
    assert str(Estimate(-0.001, -0.214, 0.006)) == "0.00 (-0.21 to 0.01)"


def test_a_figure_that_cannot_be_said_is_nan_and_no_proof():
    found = jackknife(lambda total: float("nan"), np.ones((5, 1)))
    assert np.isnan(found.value)
    assert found.p_value == 1.0


def test_holm_is_the_step_down_procedure():
    # Wikipedia's example: 0.01, 0.04, 0.03, 0.005 at level 0.05 reject the first and the last.
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02], **DOUBLE)
    np.testing.assert_allclose(holm([0.9, 0.8]), [1.0, 1.0], **DOUBLE)
    assert holm([]).size == 0
    rng = np.random.default_rng(3)
    wrong = sum((holm(rng.random(6)) <= 0.05).any() for _ in range(2000))
    assert 0.03 <= wrong / 2000 <= 0.065
