"""Held-out logits of linear probes: every choice made inside the training folds, every sample judged once."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
from threadpoolctl import threadpool_limits

from workbench.errors import DatasetError, ProbeError
from workbench.probing.solvers import CHOOSING, PATHS, STRENGTHS, Design, one_hot
from workbench.sound.splits import grouped_folds, held_out_indices

# The same function over many items on several threads, each of which calculates alone.


Item = TypeVar("Item")
Result = TypeVar("Result")


def processors() -> int:
    """Return how many threads may calculate: the processors of this process, at most OMP_NUM_THREADS."""
    held = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return min(held, int(asked)) if asked.isdigit() and int(asked) > 0 else held


@contextmanager
def alone() -> Iterator[None]:
    """Let linear algebra inside calculate on the caller's thread only.

    The products and decompositions of a probe are small: handing each to several threads costs more than it
    brings, and ten times as much as the work itself where another program keeps a core busy.
    """
    with threadpool_limits(limits=1):
        yield


def in_order(
    function: Callable[[Item], Result], items: Sequence[Item], *, threads: int = 1
) -> Iterator[Result]:
    """Yield `function(item)` of every item, in order; with one thread nothing is started.

    Every thread calculates `alone`, and the caller's setting comes back when all is done.
    """
    with alone():
        if threads <= 1 or len(items) <= 1:
            yield from map(function, items)
            return
        # OpenMP counts its threads per thread that calls it, so each one is told anew.
        told = {"initializer": threadpool_limits, "initargs": (1,)}
        with ThreadPoolExecutor(min(threads, len(items)), **told) as pool:
            yield from pool.map(function, items)


# Grouped folds for targets that are no classes: numbers, and sets of labels. A group is never cut.


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


INNER = 3  # folds inside a training fold, by which its strength is chosen


@dataclass(frozen=True, eq=False)
class HeldOut:
    """What probes that saw nothing of a sample's fold say about it.

    logits     (n, classes); NaN for samples that no fold tests
    fold       (n,) the fold that tests each sample; -1 for samples that no fold tests
    weights    (folds, classes, d) of each fold's probe, in raw feature space
    bias       (folds, classes)
    strengths  (folds,) chosen inside each training fold (NaN for the difference in means)
    """

    logits: Array
    fold: Array
    weights: Array
    bias: Array
    strengths: Array

    @property
    def predicted(self) -> Array:
        """The class number of the highest logit (n,); -1 for samples that no fold tests."""
        judged = self.fold >= 0
        return np.where(judged, np.where(judged[:, None], self.logits, 0.0).argmax(1), -1)


@dataclass(frozen=True, eq=False)
class Recipe:
    """How a probe is fitted: solver, strengths to choose from (strong first), what each class counts for.

    weights  (classes,) of the classes; None: a sample counts as another; "balanced": a class as another
    """

    classes: int
    method: str
    strengths: tuple[float, ...]
    weights: Array | str | None = None

    @classmethod
    def of(
        cls,
        classes: int,
        method: str,
        strengths: Sequence[float] | None = None,
        weights: str | Mapping[int, float] | None = None,
    ) -> Recipe:
        """Return the recipe; raise ProbeError for a method, strength or class weight that does not exist."""
        if method not in PATHS:
            raise ProbeError(
                f"Probes by {method!r} were asked for", f"there are {', '.join(PATHS)}", "Use one"
            )
        # The difference in means has no strength: what is given for other methods is passed over.
        asked = STRENGTHS[method] if strengths is None or method == "means" else tuple(strengths)
        if method != "means":
            check_strengths(asked)
        return cls(classes, method, tuple(sorted(asked, reverse=True)), _weights(classes, weights))

    def counts(self, y: Array) -> Array | None:
        """Return what each sample counts for (n,), mean 1; None where all count alike."""
        if self.weights is None:
            return None
        share = np.bincount(y, minlength=self.classes)
        of_class = 1 / np.maximum(share, 1) if isinstance(self.weights, str) else self.weights
        counts = np.asarray(of_class)[y]
        return counts / counts.mean()


@dataclass(frozen=True, eq=False)
class Fold:
    """Samples to fit on and to judge, and splits of the former (positions in `train`) to choose by."""

    train: Array
    test: Array
    inner: tuple[Split, ...]


@dataclass(frozen=True, eq=False)
class Fitted:
    """A probe: raw weights (classes, d), bias (classes,), and its strength."""

    weights: Array
    bias: Array
    strength: float


def cross_validate(
    x: Array,
    y: Array,
    splits: Sequence[Split],
    *,
    groups: Array,
    method: str = "logistic",
    strengths: Sequence[float] | None = None,
    seed: int = 0,
    class_weights: str | Mapping[int, float] | None = None,
    threads: int = 1,
) -> HeldOut:
    """Return held-out logits of features `x` (n, d) for class numbers `y` (n,).

    Scaling, strength and weights of a fold's probe come from its training samples alone.

    splits         (train, test) indices of each fold; test parts should not overlap
    groups         (n,) group of each sample, kept whole where the strength is chosen
    strengths      L2 penalties to choose from (solvers.py); with one there is nothing to choose
    class_weights  "balanced", or what a sample of each class number counts for (1 where it is not named)

    Raises ProbeError for an unknown method, strength or weight, and for a fold that would train without a
    class.
    """
    x, y, groups = np.asarray(x, dtype=np.float64), np.asarray(y), np.asarray(groups)
    recipe = Recipe.of(int(y.max()) + 1, method, strengths, class_weights)
    folds = plan(y, groups, splits, recipe, seed=seed)
    fitted = in_order(partial(fit_fold, x, y, recipe=recipe), folds, threads=threads)
    return held_out(x, folds, [probe for probe, _ in fitted])


def plan(
    y: Array, groups: Array, splits: Sequence[Split], recipe: Recipe, *, seed: int = 0
) -> tuple[Fold, ...]:
    """Return the folds with the splits inside each; made once, they serve every layer."""
    choosing = len(recipe.strengths) > 1
    return tuple(
        Fold(train, test, _inner(y[train], groups[train], seed) if choosing else ()) for train, test in splits
    )


def fit_fold(x: Array, y: Array, fold: Fold, *, recipe: Recipe) -> tuple[Fitted, Design]:
    """Return the probe of raw features `x` (n, d) fitted on the training samples of a fold, and these."""
    x, y = x[fold.train], y[fold.train]
    missing = sorted(set(range(recipe.classes)) - set(y.tolist()))
    if missing:
        raise ProbeError(
            "A probe was to be fitted on the training samples of a fold",
            f"none of them is of class number {missing[0]}",
            "Use fewer folds, or splits that keep every class in training",
        )
    strength = _choose(x, y, fold.inner, recipe)
    design = Design.of(x, recipe.counts(y))
    ((weights, bias),) = PATHS[recipe.method](design, one_hot(y, recipe.classes), [strength])
    return Fitted(weights, bias, strength), design


def held_out(x: Array, folds: Sequence[Fold], fitted: Sequence[Fitted]) -> HeldOut:
    """Return what the probe of each fold says about the samples that the fold tests."""
    classes = len(fitted[0].bias)
    logits, number = np.full((len(x), classes), np.nan), np.full(len(x), -1)
    for position, (fold, probe) in enumerate(zip(folds, fitted, strict=True)):
        logits[fold.test] = x[fold.test] @ probe.weights.T + probe.bias
        number[fold.test] = position
    weights, bias = (np.array([getattr(probe, name) for probe in fitted]) for name in ("weights", "bias"))
    return HeldOut(logits, number, weights, bias, np.array([probe.strength for probe in fitted]))


def check_strengths(strengths: Sequence[float]) -> None:
    """Raise ProbeError unless there is at least one strength and all are finite and above 0."""
    if not (len(strengths) and all(one > 0 and math.isfinite(one) for one in strengths)):
        found = "a strength is a finite number above 0"
        raise ProbeError(
            f"The strengths {list(strengths)} were asked for", found, "Give at least one such number"
        )


def _inner(y: Array, groups: Array, seed: int) -> tuple[Split, ...]:
    """Return splits to choose a strength by: grouped folds, else a third set aside, else none.

    Folds need as many groups of each class; a third needs two.
    """
    try:
        return tuple(grouped_folds(y, groups, folds=INNER, seed=seed))
    except DatasetError:
        pass
    try:
        aside = held_out_indices(y, groups, 1 / 3, seed=seed)
    except DatasetError:
        return ()
    kept = np.setdiff1d(np.arange(len(y)), aside)
    return ((kept, aside),) if len(np.unique(y[kept])) == len(np.unique(y)) else ()


def _choose(x: Array, y: Array, inner: Sequence[Split], recipe: Recipe) -> float:
    """Return the strength that does best on what is set aside, the strongest of equals.

    Where nothing could be set aside it is the middle one. Hits count as the samples do in fitting.
    """
    if len(recipe.strengths) == 1 or not inner:
        return recipe.strengths[len(recipe.strengths) // 2]
    counts = recipe.counts(y)
    hits = np.zeros(len(recipe.strengths))
    for train, aside in inner:
        design = Design.of(x[train], recipe.counts(y[train]))
        path = CHOOSING[recipe.method](design, one_hot(y[train], recipe.classes), recipe.strengths)
        for number, (weights, bias) in enumerate(path):
            right = (x[aside] @ weights.T + bias).argmax(1) == y[aside]
            hits[number] += right.sum() if counts is None else counts[aside] @ right
    # Weighted hits that are equal may differ by rounding, which must not decide.
    return recipe.strengths[int(np.argmax(np.round(hits, 6)))]


def _weights(classes: int, weights: str | Mapping[int, float] | None) -> Array | str | None:
    if weights is None or weights == "balanced":
        return weights
    if isinstance(weights, str) or not set(weights) <= set(range(classes)):
        found = "it is neither 'balanced' nor a number for each of the classes"
    elif not all(one > 0 and math.isfinite(one) for one in weights.values()):
        found = "a weight is a finite number above 0"
    else:
        return np.array([float(weights.get(number, 1.0)) for number in range(classes)])
    raise ProbeError(f"The class weights {weights!r} were asked for", found, 'Use "balanced" or a dictionary')
