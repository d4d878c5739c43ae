"""Folds for numbers and label sets: groups are whole, every fold is like the others, the seed decides."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.errors import DatasetError
from workbench.probing.crossval import label_folds, number_folds


def music(seed: int = 0):
    """Return (values, held, groups): numbers that belong to groups, and two labels, one of them rare."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(30), rng.integers(1, 6, 30))
    values = np.exp(rng.standard_normal(30))[groups] + 0.01 * rng.standard_normal(len(groups))
    return values, (rng.random((30, 2)) < [0.2, 0.5])[groups], groups


@pytest.mark.parametrize("kind", [number_folds, label_folds])
def test_law_07_groups_are_whole_and_each_sample_is_tested_once(kind):
    values, held, groups = music()
    target = values if kind is number_folds else held
    splits = kind(target, groups, folds=5, seed=3)
    assert sorted(np.concatenate([test for _, test in splits])) == list(range(len(groups)))
    for train, test in splits:
        assert not set(groups[train]) & set(groups[test])
        assert sorted([*train, *test]) == list(range(len(groups)))
    again, other = (kind(target, groups, folds=5, seed=seed) for seed in (3, 4))
    assert all((one[1] == two[1]).all() for one, two in zip(splits, again, strict=True))
    assert not all(np.array_equal(one[1], two[1]) for one, two in zip(splits, other, strict=True))


@pytest.mark.parametrize("seed", range(5))
def test_every_fold_holds_low_and_high_numbers(seed):
    values, _, groups = music(seed)
    low, high = np.quantile(values, [0.25, 0.75])
    for _, test in number_folds(values, groups, folds=5, seed=seed):
        assert values[test].min() < low
        assert values[test].max() > high
        assert len(np.unique(groups[test])) == 6


@pytest.mark.parametrize("seed", range(5))
def test_a_label_of_as_many_groups_as_folds_is_in_every_fold(seed):
    _, held, groups = music(seed)
    held[:, 0] = np.isin(groups, [2, 5, 11, 20, 29])
    for _, test in label_folds(held, groups, folds=5, seed=seed):
        assert held[test, 0].any()
        assert abs(len(test) - len(groups) / 5) < 6


@pytest.mark.parametrize("kind", [number_folds, label_folds])
def test_folds_that_do_not_exist_are_refused(kind):
    values, held, groups = music()
    target = values if kind is number_folds else held
    with pytest.raises(DatasetError, match="two sides"):
        kind(target, groups, folds=1)
    with pytest.raises(DatasetError, match="there are 30 group"):
        kind(target, groups, folds=31)
