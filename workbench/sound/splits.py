"""Splits that never cut a group, and balanced choices that spread over groups.

All functions take `labels` (n,) and `groups` (n,) and return indices: datasets and activations share them.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd

from workbench.errors import DatasetError


def grouped_folds(
    labels: np.ndarray, groups: np.ndarray, *, folds: int = 5, seed: int = 0
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (train, test) indices per fold: no group on both sides, classes as even as groups allow.

    Raises DatasetError for fewer than two classes or folds, and fewer groups of a class than folds.

    >>> labels, groups = np.array(["jazz", "jazz", "rock", "rock"] * 2), np.array(list("aabbccdd"))
    >>> [groups[test].tolist() for _, test in grouped_folds(labels, groups, folds=2)]
    [['b', 'b', 'c', 'c'], ['a', 'a', 'd', 'd']]
    """
    from sklearn.model_selection import StratifiedGroupKFold

    labels, groups = np.asarray(labels), np.asarray(groups)
    _check_pair(labels, groups)
    asked = f"{folds} folds were asked for"
    if folds < 2:
        raise DatasetError(asked, "a split needs two sides", "Use folds=2 or more")
    if len(np.unique(labels)) < 2:
        found = f"all samples are of one class, {labels[0]}"
        raise DatasetError("Folds were asked for", found, "Add clips of another class")
    counts = {label: len(np.unique(groups[labels == label])) for label in np.unique(labels).tolist()}
    scarce, fewest = min(counts.items(), key=lambda one: one[1])
    if fewest < folds:
        do = f"Use folds={fewest}" if fewest >= 2 else "Add tracks of this class, or leave it out"
        raise DatasetError(asked, f"{scarce!r} has {fewest} group(s) and a group is never cut", do)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    pairs = list(splitter.split(np.zeros(len(labels)), labels, groups))
    for number, (train, _) in enumerate(pairs):
        missing = sorted(set(labels.tolist()) - set(labels[train].tolist()))
        if missing:
            found = f"fold {number} would train without {missing[0]!r}, which shares groups with too many"
            raise DatasetError(asked, found, "Use fewer folds, or finer groups")
    return pairs


def held_out_indices(labels: np.ndarray, groups: np.ndarray, test: float, *, seed: int = 0) -> np.ndarray:
    """Return sorted indices of whole groups, about the share `test` of each class; both sides keep one."""
    if not 0 < test < 1:
        do = "Use a share between 0 and 1"
        raise DatasetError(f"A test share of {test} was asked for", "a split needs two sides", do)
    _check_pair(labels, groups)
    sizes = Counter(groups.tolist())
    home: dict[str, str] = {}  # the most frequent class of each group, for which it counts
    for (group, label), _ in Counter(zip(groups.tolist(), labels.tolist(), strict=True)).most_common():
        home.setdefault(group, label)
    rng = np.random.default_rng(seed)
    chosen: set[str] = set()
    for name in sorted(set(labels.tolist())):
        candidates = sorted(group for group, owner in home.items() if owner == name)
        if len(candidates) < 2:
            found = f"it has {len(candidates)} group(s) of its own, and a group is never cut"
            do = "Add tracks, or leave the class out with dataset.where"
            raise DatasetError(f"A split of {name!r} was asked for", found, do)
        wanted = test * sum(sizes[group] for group in candidates)
        taken = 0
        for group in rng.permutation(candidates)[:-1].tolist():
            # the next whole group may overshoot; it is taken when that lands closer to the share
            if taken and taken + sizes[group] / 2 > wanted:
                break
            chosen.add(group)
            taken += sizes[group]
    return np.flatnonzero(np.isin(groups, sorted(chosen)))


def balanced_indices(labels: np.ndarray, groups: np.ndarray, per_class: int, *, seed: int = 0) -> np.ndarray:
    """Return sorted indices of `per_class` samples of each class, one of each group before a second."""
    rng = np.random.default_rng(seed)
    chosen: list[int] = []
    for name in sorted(set(labels.tolist())):
        members = np.flatnonzero(labels == name)
        if not 1 <= per_class <= len(members):
            do = f"Use a number from 1 to {min(Counter(labels.tolist()).values())}"
            asked = f"{per_class} clips of each class were asked for"
            raise DatasetError(asked, f"{name!r} has {len(members)}", do)
        members = rng.permutation(members)
        turn = pd.Series(members).groupby(groups[members]).cumcount()
        chosen += members[np.argsort(turn, kind="stable")[:per_class]].tolist()
    return np.array(sorted(chosen))


def _check_pair(labels: np.ndarray, groups: np.ndarray) -> None:
    """Raise DatasetError unless both have the shape (n,)."""
    if labels.ndim != 1 or labels.shape != groups.shape or len(labels) == 0:
        found = f"the shapes are {labels.shape} and {groups.shape}"
        asked = "A label and a group for each sample were asked for"
        raise DatasetError(asked, found, "Pass two arrays of shape (n,)")
