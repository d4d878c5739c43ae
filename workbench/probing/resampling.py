"""Intervals by drawing whole groups with replacement, for many figures at once.

A draw is told by how often it takes each sample; figures that can be had from such counts cost a few array
operations for all draws together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

Array = np.ndarray
Figure = Callable[[Array], Array]
"""(counts (draws, n), how often each sample is taken) -> the figure in every draw (draws,)."""
_AT_ONCE = 2_000_000  # numbers per array of counts


def interval(figure: Figure, groups: Array, *, draws: int = 500, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % percentile interval of a figure; draws in which it has no value are left out."""
    found = np.concatenate([figure(counts) for counts in _counts(groups, draws, seed)])
    found = found[np.isfinite(found)]
    if not found.size:
        return float("nan"), float("nan")
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


def _counts(groups: Array, draws: int, seed: int) -> Iterator[Array]:
    """Yield how often each sample is taken (some draws, n): as many whole groups as there are."""
    names, member = np.unique(groups, return_inverse=True)
    rng = np.random.default_rng(seed)
    chunk = max(_AT_ONCE // len(member), 1)
    for start in range(0, draws, chunk):
        size = min(chunk, draws - start)
        yield rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size)[:, member]


def r_squared(truth: Array, predicted: Array) -> Figure:
    """Return the figure R2 = 1 - sum of squared errors / sum of squares around the mean."""
    centred = truth - truth.mean()  # so that sums of squares keep their digits
    sums = np.stack([np.ones(len(truth)), centred, centred**2, (truth - predicted) ** 2], 1)

    def figure(counts: Array) -> Array:
        size, first, second, error = (counts @ sums).T
        around = second - first**2 / size
        return np.asarray(np.where(around > 0, 1 - error / np.maximum(around, 1e-300), np.nan))

    return figure


def absolute_error(truth: Array, predicted: Array) -> Figure:
    """Return the figure mean absolute error."""
    error = np.abs(truth - predicted)
    return lambda counts: np.asarray(counts @ error / counts.sum(1))


def rank_correlation(truth: Array, predicted: Array) -> Figure:
    """Return the figure Spearman's correlation, ties at their mean rank; NaN where one side never varies."""

    def figure(counts: Array) -> Array:
        one, two = _ranks(truth, counts), _ranks(predicted, counts)
        size = counts.sum(1, keepdims=True)
        one -= (counts * one).sum(1, keepdims=True) / size
        two -= (counts * two).sum(1, keepdims=True) / size
        spread = (counts * one**2).sum(1) * (counts * two**2).sum(1)
        together = (counts * one * two).sum(1)
        varies = spread > 0
        return np.where(varies, together / np.sqrt(np.where(varies, spread, 1.0)), np.nan)

    return figure


def average_precision(truth: Array, logits: Array) -> Figure:
    """Return the figure average precision: sum over thresholds of gained recall times precision."""
    order = np.argsort(-logits, kind="stable")
    last = np.append(np.diff(logits[order]) != 0, True)  # equal logits cannot be cut apart
    hit = truth[order].astype(np.float64)

    def figure(counts: Array) -> Array:
        taken = counts[:, order].astype(np.float64)
        named, hits = np.cumsum(taken, 1)[:, last], np.cumsum(taken * hit, 1)[:, last]
        gained = np.diff(hits, axis=1, prepend=0.0)
        total = hits[:, -1]
        precision = hits / np.maximum(named, 1)
        return np.where(total > 0, (gained * precision).sum(1) / np.maximum(total, 1), np.nan)

    return figure


def f_score(truth: Array, named: Array) -> Figure:
    """Return the figure F1 = 2 hits / (named + present); NaN where nothing is named nor present."""
    sums = np.stack([truth & named, truth, named], 1).astype(np.float64)

    def figure(counts: Array) -> Array:
        hits, present, called = (counts @ sums).T
        both = present + called
        return np.where(both > 0, 2 * hits / np.maximum(both, 1), np.nan)

    return figure


def mean_of(figures: list[Figure]) -> Figure:
    """Return the figure mean of others, of those that have a value in a draw."""

    def figure(counts: Array) -> Array:
        found = np.stack([one(counts) for one in figures])
        valued = np.isfinite(found)
        return np.where(
            valued.any(0), np.where(valued, found, 0).sum(0) / np.maximum(valued.sum(0), 1), np.nan
        )

    return figure


def once(figure: Figure, samples: int) -> float:
    """Return the figure of the samples as they are."""
    return float(figure(np.ones((1, samples)))[0])


def _ranks(values: Array, counts: Array) -> Array:
    """Return the rank of each sample (draws, n) in a draw, ties at their mean."""
    _, place = np.unique(values, return_inverse=True)
    order = np.argsort(place, kind="stable")
    starts = np.flatnonzero(np.append(True, np.diff(place[order]) > 0))
    size = np.add.reduceat(counts[:, order], starts, axis=1).astype(np.float64)
    return np.asarray((np.cumsum(size, 1) - (size - 1) / 2)[:, place])
