"""Grouped folds for targets that are no classes: numbers, and sets of labels. A group is never cut."""

from __future__ import annotations

import numpy as np

from workbench.errors import DatasetError

Array = np.ndarray
Split = tuple[Array, Array]


def number_folds(values: Array, groups: Array, *, folds: int = 5, seed: int = 0) -> list[Split]:
    """Return (train, test) indices per fold; every fold holds groups of low, middle and high values.

    Groups are ordered by their mean value and dealt out, one to each fold, each round in random order.

    Raises DatasetError for fewer than two folds, or fewer groups than folds.
    """
    names, member = np.unique(groups, return_inverse=True)
    _check(folds, len(names))
    rng = np.random.default_rng(seed)
    means = np.bincount(member, weights=values) / np.bincount(member)
    shuffled = rng.permutation(len(names))  # so that groups of equal means have no order of their own
    ordered = shuffled[np.argsort(means[shuffled], kind="stable")]
    rounds = [rng.permutation(folds) for _ in range(-(-len(names) // folds))]
    home = np.empty(len(names), dtype=int)
    home[ordered] = np.concatenate(rounds)[: len(names)]
    return _splits(home[member], folds)


def label_folds(held: Array, groups: Array, *, folds: int = 5, seed: int = 0) -> list[Split]:
    """Return (train, test) indices per fold; every label is spread over the folds as evenly as groups allow.

    held  (n, labels) whether a sample has a label

    Iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011) with groups in the place of samples: the
    rarest label that is left is dealt out first, each of its groups to the fold that lacks it most.

    Raises DatasetError for fewer than two folds, or fewer groups than folds.
    """
    names, member = np.unique(groups, return_inverse=True)
    _check(folds, len(names))
    rng = np.random.default_rng(seed)
    counts = np.zeros((len(names), held.shape[1]))
    np.add.at(counts, member, held)
    sizes = np.bincount(member).astype(float)
    lacking, room = np.tile(counts.sum(0) / folds, (folds, 1)), np.full(folds, sizes.sum() / folds)
    home, waiting = np.full(len(names), -1), rng.permutation(len(names)).tolist()
    while waiting:
        left = (counts[waiting] > 0).sum(0)
        rarest = int(np.where(left > 0, left, np.inf).argmin()) if left.any() else -1
        among = [group for group in waiting if rarest < 0 or counts[group, rarest] > 0]
        group = max(among, key=lambda one: (counts[one, rarest] if rarest >= 0 else 0, sizes[one]))
        need = lacking[:, rarest] if rarest >= 0 else room
        fold = int(np.lexsort((-room, -need))[0])
        home[group] = fold
        lacking[fold] -= counts[group]
        room[fold] -= sizes[group]
        waiting.remove(group)
    return _splits(home[member], folds)


def _splits(fold: Array, folds: int) -> list[Split]:
    return [(np.flatnonzero(fold != one), np.flatnonzero(fold == one)) for one in range(folds)]


def _check(folds: int, groups: int) -> None:
    if folds < 2:
        found, do = "a split needs two sides", "Use folds=2 or more"
    elif groups < folds:
        found, do = f"there are {groups} group(s), and a group is never cut", "Use fewer folds, or add tracks"
    else:
        return
    raise DatasetError(f"{folds} folds were asked for", found, do)
