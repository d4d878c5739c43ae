"""Scores: the interval covers the truth as often as it says, and counts agree with scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from workbench.probing import accuracy_interval
from workbench.stats import score, spearman, wilson


def coverage(
    accuracy: float, correlation: float, *, groups: int = 40, clips: int = 8, runs: int = 400
) -> float:
    """Return how often the interval holds the true accuracy when clips of a group succeed together."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(runs):
        chances = np.full(groups, accuracy)
        if correlation:
            spread = (1 - correlation) / correlation
            chances = rng.beta(accuracy * spread, (1 - accuracy) * spread, groups)
        member = np.repeat(np.arange(groups), rng.integers(1, 2 * clips, groups))
        low, high = accuracy_interval(rng.random(len(member)) < chances[member], member)
        hits += low <= accuracy <= high
    return hits / runs


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("accuracy", [0.3, 0.8])
def test_the_interval_covers_the_truth_about_95_times_in_100(accuracy, correlation):
    assert 0.92 <= coverage(accuracy, correlation) <= 0.99


def test_clips_that_succeed_together_tell_less():
    rng = np.random.default_rng(0)
    outcomes = rng.random(30) < 0.7
    clips, member = np.repeat(outcomes, 10), np.repeat(np.arange(30), 10)
    together = accuracy_interval(clips, member)
    alone = accuracy_interval(clips, np.arange(300))
    thirty = accuracy_interval(outcomes, np.arange(30))
    assert together == pytest.approx(thirty, abs=0.01)
    assert together[1] - together[0] > 2.5 * (alone[1] - alone[0])


def test_single_clips_give_wilsons_interval():
    correct = np.arange(1000) < 700
    z, p, n = 1.96, 0.7, 1000
    middle, half = p + z**2 / (2 * n), z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    expected = ((middle - half) / (1 + z**2 / n), (middle + half) / (1 + z**2 / n))
    assert accuracy_interval(correct, np.arange(1000)) == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize("value", [True, False])
def test_a_perfect_score_still_has_an_interval_as_wide_as_its_groups(value):
    low, high = accuracy_interval(np.full(600, value), np.repeat(np.arange(20), 30))
    assert low <= float(value) <= high
    assert 0.1 < high - low < 0.25


def test_one_group_tells_nothing():
    assert accuracy_interval(np.array([True, False]), np.array(["a", "a"])) == (0.0, 1.0)


def test_macro_f1_is_the_mean_over_classes_also_of_one_that_is_never_named():
    found = score(np.array([0, 0, 1]), np.array([0, 0, 0]), np.arange(3), np.array([]))
    assert found.macro_f1 == pytest.approx(0.4)


@pytest.mark.parametrize("hits", [0, 3, 17, 20])
def test_wilsons_interval_is_scipys(hits):
    twin = binomtest(hits, 20).proportion_ci(method="wilson")
    assert wilson(hits, 20) == pytest.approx((twin.low, twin.high), abs=1e-7)


def test_spearmans_correlation_is_0_where_one_side_never_varies():
    assert spearman(np.arange(4), np.array([1, 10, 5, 50])) == pytest.approx(0.8)
    assert spearman(np.arange(4), np.ones(4)) == 0.0


def test_score_tells_chance_and_the_shuffled_band():
    truth, predicted = np.array([0, 0, 0, 1, 2]), np.array([0, 0, 1, 1, 1])
    found = score(truth, predicted, np.arange(5), np.linspace(0.2, 0.4, 41))
    assert (found.accuracy, found.chance, found.samples, found.groups) == (0.6, 0.6, 5, 5)
    assert found.shuffled_mean == pytest.approx(0.3)
    assert (found.shuffled_low, found.shuffled_high) == pytest.approx((0.205, 0.395))
    assert math.isnan(score(truth, predicted, np.arange(5), np.array([])).shuffled_mean)
