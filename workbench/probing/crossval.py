"""Held-out readings of linear probes: every choice made inside the training folds, every sample judged once.

A group is never cut. The folds of classes are in `workbench.sound.dataset`, those of other targets here.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
from sklearn.model_selection import PredefinedSplit
from sklearn.utils.class_weight import compute_sample_weight
from threadpoolctl import threadpool_limits

from workbench.errors import DatasetError, ProbeError, renamed_attribute, renamed_keywords
from workbench.probing import solvers
from workbench.probing.solvers import Design, PlainFit, ProbeMethod, one_hot
from workbench.sound.dataset import grouped_folds, held_out_indices
from workbench.stats import sums_by_group

Array = np.ndarray
Split = tuple[Array, Array]
Item = TypeVar("Item")
Result = TypeVar("Result")
INNER = 3
"""Folds inside a training fold, by which its l2 is chosen."""


def processors() -> int:
    """Return how many threads may calculate: the processors of this process, at most OMP_NUM_THREADS."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return min(usable, int(asked)) if asked.isdigit() and int(asked) > 0 else usable


def in_order(
    function: Callable[[Item], Result], items: Sequence[Item], *, threads: int = 1
) -> Generator[Result, None, None]:
    """Yield `function(item)` of every item, in order; with one thread nothing is started.

    Linear algebra inside calculates on one thread: the products of a probe are small, and handing each to
    several threads costs up to ten times the work itself. The caller's setting comes back when all is done.
    """
    with threadpool_limits(limits=1):
        if threads <= 1 or len(items) <= 1:
            yield from map(function, items)
            return
        # OpenMP counts its threads per thread that calls it, so each one is limited anew.
        limited = {"initializer": threadpool_limits, "initargs": (1,)}
        with ThreadPoolExecutor(min(threads, len(items)), **limited) as pool:
            yield from pool.map(function, items)


def number_folds(values: Array, groups: Array, *, folds: int = 5, seed: int = 0) -> list[Split]:
    """Return (train, test) indices per fold; every fold has groups of low, middle and high values (n,).

    Groups are ordered by their mean value and dealt out, one to each fold, each round in random order.
    DatasetError where there are fewer than two folds, or fewer groups than folds.
    """
    count, member = _members(groups, folds)
    rng = np.random.default_rng(seed)
    means = np.bincount(member, weights=values) / np.bincount(member)
    shuffled = rng.permutation(count)  # so that groups of equal means have no order of their own
    ordered = shuffled[np.argsort(means[shuffled], kind="stable")]
    rounds = [rng.permutation(folds) for _ in range(-(-count // folds))]
    fold_of = np.empty(count, dtype=int)
    fold_of[ordered] = np.concatenate(rounds)[:count]
    return list(PredefinedSplit(fold_of[member]).split())


def label_folds(present: Array, groups: Array, *, folds: int = 5, seed: int = 0) -> list[Split]:
    """Return (train, test) indices per fold; every label is spread over the folds as evenly as groups allow.

    Iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011) with groups in the place of samples: the
    rarest label that is left (`present` is (n, labels)) is dealt out first, to the folds that lack it most.
    DatasetError where there are fewer than two folds, or fewer groups than folds.
    """
    count, member = _members(groups, folds)
    counts, sizes = sums_by_group(present, groups), np.bincount(member).astype(float)
    lacking, room = np.tile(counts.sum(0) / folds, (folds, 1)), np.full(folds, sizes.sum() / folds)
    fold_of, waiting = np.full(count, -1), np.random.default_rng(seed).permutation(count).tolist()
    while waiting:
        left = (counts[waiting] > 0).sum(0)
        rarest = int(np.where(left > 0, left, np.inf).argmin()) if left.any() else -1
        among = [group for group in waiting if rarest < 0 or counts[group, rarest] > 0]
        group = max(among, key=lambda one: (counts[one, rarest] if rarest >= 0 else 0, sizes[one]))
        need = lacking[:, rarest] if rarest >= 0 else room
        fold = int(np.lexsort((-room, -need))[0])
        fold_of[group] = fold
        lacking[fold] -= counts[group]
        room[fold] -= sizes[group]
        waiting.remove(group)
    return list(PredefinedSplit(fold_of[member]).split())


def _members(groups: Array, folds: int) -> tuple[int, Array]:
    """Return how many groups there are, and the number of each sample's; raise DatasetError for too few."""
    names, member = np.unique(groups, return_inverse=True)
    if folds < 2:
        raise DatasetError(f"{folds} folds were asked for", "a split needs two sides", "Use folds=2 or more")
    if len(names) < folds:
        found = f"there are {len(names)} group(s), and a group is never cut"
        raise DatasetError(f"{folds} folds were asked for", found, "Use fewer folds, or add tracks")
    return len(names), member


@dataclass(frozen=True, eq=False)
class HeldOut:
    """What probes that saw nothing of a sample's fold read of it."""

    logits: Array  # (n, classes); NaN for samples that no fold tests
    fold: Array  # the fold that tests each sample (n,); -1 where none does
    weights: Array  # of each fold's probe (folds, classes, d), in raw feature space
    bias: Array  # (folds, classes)
    l2: Array  # chosen inside each training fold (folds,); NaN for a method without a penalty

    strengths = renamed_attribute("strengths", "l2")

    @property
    def predicted(self) -> Array:
        """The class number of the highest logit (n,); -1 for samples that no fold tests."""
        judged = self.fold >= 0
        return np.where(judged, np.where(judged[:, None], self.logits, 0.0).argmax(1), -1)


@dataclass(frozen=True, eq=False)
class Recipe:
    """How a probe is fitted: method, penalties to choose from (strong first), what each class counts for."""

    classes: int
    method: ProbeMethod
    l2: tuple[float, ...]
    weights: Mapping[int, float] | str | None = None  # by class number (else 1), or "balanced"

    @classmethod
    def of(
        cls,
        classes: int,
        method: ProbeMethod | PlainFit | str,
        l2: Sequence[float] | None = None,
        weights: str | Mapping[int, float] | None = None,
    ) -> Recipe:
        """Return the recipe; raise ProbeError for a method, penalty or class weight that does not exist."""
        method = solvers.find_method(method)
        # A method without a penalty, such as the difference in means, passes over what is given for others.
        values = (tuple(l2) if l2 is not None else method.l2) if method.l2 else (math.nan,)
        if method.l2:
            solvers.check_l2(values)
        asked, do = f"The class weights {weights!r} were asked for", 'Use "balanced" or a dictionary'
        own = {} if weights in (None, "balanced") else weights
        if isinstance(own, str) or not set(own) <= set(range(classes)):
            raise ProbeError(asked, "it is neither 'balanced' nor a number for each of the classes", do)
        if not all(one > 0 and math.isfinite(one) for one in own.values()):
            raise ProbeError(asked, "a weight is a finite number above 0", do)
        return cls(classes, method, tuple(sorted(values, reverse=True)), weights)

    def counts(self, y: Array) -> Array | None:
        """Return what each sample counts for (n,), mean 1; None where all count alike."""
        if self.weights is None:
            return None
        counts = np.asarray(compute_sample_weight(self.weights, y))
        return counts / counts.mean()


def numbered_weights(
    weights: str | Mapping[str, float] | None, classes: tuple[str, ...], target: str
) -> str | Mapping[int, float] | None:
    """Return class weights by class number; raise ProbeError for a name that is no class of the target."""
    if weights is None or isinstance(weights, str):
        return weights
    for name in weights:
        ProbeError.among(name, classes, f"A weight for the {target}")
    return {classes.index(name): weight for name, weight in weights.items()}


@dataclass(frozen=True, eq=False)
class Fold:
    """Samples to fit on and to judge, and splits of the former (positions in `train`) to choose by."""

    train: Array
    test: Array
    inner: tuple[Split, ...]


@dataclass(frozen=True, eq=False)
class Fitted:
    """A probe: raw weights (classes, d), bias (classes,), and its l2 (classes,) or one number."""

    weights: Array
    bias: Array
    l2: float | Array


@renamed_keywords(strengths="l2")
def cross_validate(
    x: Array,
    y: Array,
    splits: Sequence[Split],
    *,
    groups: Array,
    method: ProbeMethod | PlainFit | str = "logistic",
    l2: Sequence[float] | None = None,
    seed: int = 0,
    class_weights: str | Mapping[int, float] | None = None,
    threads: int = 1,
) -> HeldOut:
    """Return held-out logits; scaling, l2 and weights of a fold's probe come from its training samples alone.

    It takes features (n, d), class numbers (n,), the (train, test) indices of each fold, whose test parts
    should not overlap, and the group of each sample (n,), kept whole where l2 is chosen. Class weights are
    "balanced", or what a sample of each class number counts for (else 1). All else is as in `fit_probes`.
    ProbeError for an unknown method, penalty or weight, or where a fold would train without a class.

    >>> x, y = np.array([[0.0], [0.1], [0.9], [1.0]]), np.array([0, 0, 1, 1])
    >>> splits = [(np.array([0, 2]), np.array([1, 3])), (np.array([1, 3]), np.array([0, 2]))]
    >>> cross_validate(x, y, splits, groups=np.arange(4), l2=[0.1]).predicted.tolist()
    [0, 0, 1, 1]
    """
    x, y, groups = np.asarray(x, dtype=np.float64), np.asarray(y), np.asarray(groups)
    recipe = Recipe.of(int(y.max()) + 1, method, l2, class_weights)
    folds = plan(y, groups, splits, recipe, seed=seed)
    fitted = in_order(partial(fit_fold, x, y=y, recipe=recipe), folds, threads=threads)
    return held_out(x, folds, [probe for probe, _ in fitted])


def plan(
    y: Array, groups: Array, splits: Sequence[Split], recipe: Recipe, *, seed: int = 0
) -> tuple[Fold, ...]:
    """Return the folds with the splits inside each; made once, they serve every layer."""
    choosing = len(recipe.l2) > 1
    return tuple(
        Fold(train, test, _inner(y[train], groups[train], seed) if choosing else ()) for train, test in splits
    )


def _inner(y: Array, groups: Array, seed: int) -> tuple[Split, ...]:
    """Return splits to choose l2 by: grouped folds, else a third set aside, else none."""
    with suppress(DatasetError):  # a class has fewer groups than folds
        return tuple(grouped_folds(y, groups, folds=INNER, seed=seed))
    with suppress(DatasetError):  # a class has a single group
        aside = held_out_indices(y, groups, 1 / 3, seed=seed)
        kept = np.setdiff1d(np.arange(len(y)), aside)
        if len(np.unique(y[kept])) == len(np.unique(y)):
            return ((kept, aside),)
    return ()


def fit_fold(
    x: Array, fold: Fold, *, y: Array, recipe: Recipe, shuffled: Array | None = None
) -> tuple[Fitted, Array]:
    """Return the probe of a fold, and the classes (test, runs) that runs of `shuffled` (runs, n) predict."""
    train, names = x[fold.train], y[fold.train]
    if missing := sorted(set(range(recipe.classes)) - set(names.tolist())):
        asked = "A probe was to be fitted on the training samples of a fold"
        found = f"none of them is of class number {missing[0]}"
        raise ProbeError(asked, found, "Use fewer folds, or splits that keep every class in training")
    l2 = _choose(train, names, fold.inner, recipe)
    design = Design.of(train, recipe.counts(names))
    path = recipe.method.fit(design, one_hot(names, recipe.classes), [l2])  # Here the solver fits the probe.
    ((weights, bias),) = solvers.checked_path(recipe.method, path, 1, (recipe.classes, x.shape[1]))
    fitted = Fitted(weights, bias, l2)
    if shuffled is None or not (len(shuffled) and len(fold.test)):
        return fitted, np.empty((len(fold.test), 0), dtype=int)
    # Ridge at one middle penalty whatever the method is: one factorisation serves all runs.
    plain = design if recipe.weights is None else Design.of(train)
    truth = np.hstack([one_hot(run[fold.train], recipe.classes) for run in shuffled])
    values = solvers.PROBE_METHODS["ridge"].l2
    ((weights, bias),) = solvers.ridge_path(plain, truth, [values[len(values) // 2]])
    logits = x[fold.test] @ weights.T + bias
    return fitted, logits.reshape(len(fold.test), len(shuffled), recipe.classes).argmax(2)


def _choose(x: Array, y: Array, inner: Sequence[Split], recipe: Recipe) -> float:
    """Return the l2 that does best on what is set aside, the strongest of equals, else the middle one."""
    if len(recipe.l2) == 1 or not inner:
        return recipe.l2[len(recipe.l2) // 2]
    counts, fit = recipe.counts(y), recipe.method.fit_roughly or recipe.method.fit
    hits = np.zeros(len(recipe.l2))
    for train, aside in inner:
        path = fit(Design.of(x[train], recipe.counts(y[train])), one_hot(y[train], recipe.classes), recipe.l2)
        path = solvers.checked_path(recipe.method, path, len(recipe.l2), (recipe.classes, x.shape[1]))
        for number, (weights, bias) in enumerate(path):
            right = (x[aside] @ weights.T + bias).argmax(1) == y[aside]
            hits[number] += right.sum() if counts is None else counts[aside] @ right
    # Weighted hits that are equal may differ by rounding, which must not decide.
    return recipe.l2[int(np.argmax(np.round(hits, 6)))]


def held_out(x: Array, folds: Sequence[Fold], fitted: Sequence[Fitted]) -> HeldOut:
    """Return what the probe of each fold reads of the samples that the fold tests."""
    rows = len(fitted[0].bias)
    logits, number = np.full((len(x), rows), np.nan), np.full(len(x), -1)
    for position, (fold, probe) in enumerate(zip(folds, fitted, strict=True)):
        logits[fold.test] = x[fold.test] @ probe.weights.T + probe.bias
        number[fold.test] = position
    parts = {name: np.array([getattr(one, name) for one in fitted]) for name in ("weights", "bias", "l2")}
    return HeldOut(logits, number, **parts)
