"""Statistics: estimates with 95 % intervals and tests, bootstraps, and the scores of a probe.

Clips of one group (a track, a groove, a seed) succeed and fail together. All intervals but Wilson's therefore
count groups: a bootstrap draws them whole, variance is that between them, Student's t has groups - 1 degrees
of freedom. `groups` is the group of each sample (n,); one with nothing in common with others is its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

Array = np.ndarray
Statistic = Callable[[Array], float]
"""From an array to a figure: sums over groups (`jackknife`), indices (`bootstrap`). NaN: it has no value."""
Figure = Callable[[Array], Array]
"""From counts (draws, n), how often each sample is drawn, to the figure in every draw (draws,)."""
SURE = 0.05
"""A p-value up to which something is said to be there; among several tests `holm` comes first."""
_AT_ONCE = 2_000_000  # numbers per array of counts


@dataclass(frozen=True)
class Estimate:
    """A figure, its 95 % interval, and the one-sided p-value of its lying above what is tolerated.

    >>> print(Estimate(0.8, 0.71, 0.87))
    0.80 (0.71 to 0.87)
    """

    value: float
    low: float
    high: float
    p_value: float = 1.0

    def __str__(self) -> str:
        # Adding 0 turns a rounded -0.0 into 0.0.
        value, low, high = (round(one, 2) + 0.0 for one in (self.value, self.low, self.high))
        return f"{value:.2f} ({low:.2f} to {high:.2f})"


NOTHING = Estimate(math.nan, math.nan, math.nan)
"""The estimate of a figure that these samples cannot give."""


@dataclass(frozen=True)
class Scores:
    """Held-out figures of one probe: shares from 0 to 1, and how many samples and groups were judged.

    Accuracy has its 95 % interval, macro_f1 is the mean over classes of F1, chance the accuracy of always
    naming the most frequent class. The mean accuracy of the same probing with shuffled labels comes with the
    2.5 % and 97.5 % quantiles of these runs; NaN without such runs.
    """

    accuracy: float
    low: float
    high: float
    macro_f1: float
    chance: float
    shuffled_mean: float
    shuffled_low: float
    shuffled_high: float
    samples: int
    groups: int


def score(truth: Array, predicted: Array, groups: Array, shuffled: Array) -> Scores:
    """Return the scores of held-out class numbers (n,), given the accuracies of runs with shuffled labels."""
    from sklearn.metrics import f1_score

    accuracy = rate_over_groups(truth == predicted, groups)
    f1 = float(f1_score(truth, predicted, average="macro"))
    chance = float(np.unique(truth, return_counts=True)[1].max() / truth.size)
    control = (float(shuffled.mean()) if shuffled.size else math.nan, *percentile_interval(shuffled))
    sizes = truth.size, np.unique(groups).size
    return Scores(accuracy.value, accuracy.low, accuracy.high, f1, chance, *control, *sizes)


def wilson(hits: float, n: float, z: float = 1.959964) -> tuple[float, float]:
    """Return Wilson's score interval (low, high) of hits among n; 95 % by default (Wilson 1927).

    Effective numbers need not be whole, which `scipy.stats.binomtest` asks for; `z` is the quantile of the
    normal distribution, or of Student's t.
    """
    share, square = hits / n, z**2 / n
    middle = share + square / 2
    half = z * math.sqrt(share * (1 - share) / n + square / (4 * n))
    return max((middle - half) / (1 + square), 0.0), min((middle + half) / (1 + square), 1.0)


def proportion(hits: ArrayLike) -> Estimate:
    """Return the share of hits (n,) among independent samples, with Wilson's interval."""
    found = np.asarray(hits, bool)
    return Estimate(float(found.mean()), *wilson(int(found.sum()), len(found)))


def accuracy_interval(correct: Array, groups: Array, *, level: float = 0.95) -> tuple[float, float]:
    """Return the interval of an accuracy of grouped samples: Wilson's, with an effective sample size.

    The variance of the accuracy is taken between groups (the linearised ratio estimator of survey sampling),
    the effective size is p (1 - p) / variance, and Wilson's formula is used with Student's t. Where all
    samples agree the variance cannot be seen, and each group counts as one (Kish's n^2 / sum n_g^2).

    In simulation (12 to 60 groups, correlation within groups 0 to 0.9) it covers the truth in 92-98 %
    of cases up to an accuracy of 0.8. From 0.95 on *and* with strongly correlated groups it covers 83-97 %:
    the rare bad groups are often not seen at all.

    `correct` (n,) says whether each sample was read rightly, in truth values or shares from 0 to 1.

    >>> low, high = accuracy_interval([True, True, False, True], ["a", "b", "c", "d"])
    >>> round(low, 2), round(high, 2)
    (0.16, 0.98)
    """
    from scipy.stats import t

    correct = np.asarray(correct, dtype=np.float64)
    samples, accuracy = correct.size, float(correct.mean())
    _, member = np.unique(groups, return_inverse=True)
    sizes = np.bincount(member)
    if sizes.size < 2:
        return 0.0, 1.0
    residuals = np.bincount(member, weights=correct - accuracy)
    variance = sizes.size / (sizes.size - 1) * float((residuals**2).sum()) / samples**2
    fewest = samples**2 / float((sizes.astype(np.float64) ** 2).sum())
    effective = accuracy * (1 - accuracy) / variance if variance > 0 else fewest
    effective = min(max(effective, fewest), samples)
    z = float(t.ppf((1 + level) / 2, sizes.size - 1))
    low, high = wilson(accuracy * effective, effective, z)
    # At accuracy 0 or 1 rounding may leave a bound a hair inside; the accuracy always lies in its interval.
    return min(low, accuracy), max(high, accuracy)


def rate_over_groups(hits: Array, groups: Array) -> Estimate:
    """Return the mean of hits (n,), from 0 to 1 each, with the interval of `accuracy_interval`; untested."""
    return Estimate(float(np.asarray(hits, np.float64).mean()), *accuracy_interval(hits, groups))


def mean_over_groups(values: Array, groups: Array, *, tolerated: float = 0.0) -> Estimate:
    """Return the mean of `values` (n,) in `groups` (n,); the p-value tests whether it exceeds `tolerated`."""
    sums = sums_by_group(np.stack([values, np.ones(len(values))], axis=1), groups)
    return jackknife(lambda total: float(total[0] / total[1]), sums, tolerated=tolerated)


def jackknife(statistic: Statistic, sums: Array, *, tolerated: float = 0.0) -> Estimate:
    """Return a smooth function of sums over groups, its variance by leaving out each group in turn.

    The statistic is of the sums over all groups (m,), `sums` are those of each (groups, m). The p-value tests
    whether the figure exceeds `tolerated`.
    """
    from scipy.stats import t

    total = sums.sum(0)
    value, count = float(statistic(total)), len(sums)
    if not math.isfinite(value):
        return NOTHING
    if count < 2:
        return Estimate(value, -math.inf, math.inf)
    without = np.array([statistic(total - one) for one in sums])
    without = without[np.isfinite(without)]
    error = math.sqrt((count - 1) / count * float(((without - without.mean()) ** 2).sum()))
    half = float(t.ppf(0.975, count - 1)) * error
    surest = 0.5**count  # no test is surer than the toss of a coin for each group
    if error <= 1e-12:
        return Estimate(value, value, value, surest if value > tolerated else 1.0)
    chance = float(t.sf((value - tolerated) / error, count - 1))
    return Estimate(value, value - half, value + half, max(chance, surest))


def sums_by_group(columns: Array, groups: Array) -> Array:
    """Return the sums (groups, m) of `columns` (n, m) over the samples of each group."""
    _, member = np.unique(groups, return_inverse=True)
    sums = np.zeros((int(member.max()) + 1, np.shape(columns)[1]))
    np.add.at(sums, member, np.asarray(columns, np.float64))
    return sums


def holm(p_values: Sequence[float]) -> Array:
    """Return p-values adjusted for several tests (Holm 1979): compare them with the level."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1.0)
    return adjusted


def spearman(x: Array, y: Array) -> float:
    """Return Spearman's rank correlation of two series (n,); 0 where one does not vary."""
    from scipy.stats import spearmanr

    return 0.0 if np.ptp(x) == 0 or np.ptp(y) == 0 else float(spearmanr(x, y).statistic)


def percentile_interval(values: Array) -> tuple[float, float]:
    """Return the 2.5 % and the 97.5 % quantile of the finite values (n,); NaN without any."""
    values = values[np.isfinite(values)]
    low, high = np.quantile(values, [0.025, 0.975]) if values.size else (math.nan, math.nan)
    return float(low), float(high)


def means(values: Array, groups: Array) -> list[Estimate]:
    """Return the mean of each column of `values` (n, m) with its bootstrap interval; see `ratios`."""
    return ratios(values, np.ones_like(values, np.float64), groups)


def ratios(above: Array, below: Array, groups: Array) -> list[Estimate]:
    """Return, per column, the sum of `above` over the sum of `below` with its 95 % bootstrap interval.

    Groups are drawn 2,000 times. A draw takes both values (n, m) of a group: what is compared stays paired.
    Where the sum below is 0 the ratio is NaN; draws in which it is are left out.
    """
    sums = [sums_by_group(side, groups) for side in (above, below)]
    count = len(sums[0])
    drawn = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=2000)
    totals = [np.vstack([side.sum(0), drawn @ side]) for side in sums]  # of all samples, then of each draw
    return [Estimate(float(column[0]), *percentile_interval(column[1:])) for column in _ratio(*totals).T]


def bootstrap(statistic: Statistic, groups: Array, *, strata: Array | None = None) -> tuple[float, float]:
    """Return the 95 % bootstrap interval (low, high) of a statistic; draws that give NaN are left out.

    The statistic is of the indices (m,) of drawn samples; groups are drawn 1,000 times. Each stratum, given
    for each sample (n,), keeps its number of groups, so that two sets that are compared are drawn apart.
    """
    groups = np.asarray(groups)
    strata = np.zeros(len(groups), int) if strata is None else np.asarray(strata)
    rng = np.random.default_rng(0)
    members = [
        [np.flatnonzero((strata == one) & (groups == group)) for group in np.unique(groups[strata == one])]
        for one in np.unique(strata)
    ]

    def drawn() -> Array:
        return np.concatenate([some[i] for some in members for i in rng.integers(len(some), size=len(some))])

    return percentile_interval(np.array([statistic(drawn()) for _ in range(1000)]))


def interval(figure: Figure, groups: Array, *, draws: int = 500, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of a figure (`r_squared` ...), many draws in one operation."""
    names, member = np.unique(groups, return_inverse=True)
    rng, chances = np.random.default_rng(seed), np.full(len(names), 1 / len(names))
    at_once = max(_AT_ONCE // len(member), 1)
    sizes = [min(at_once, draws - start) for start in range(0, draws, at_once)]
    found = [figure(rng.multinomial(len(names), chances, size)[:, member]) for size in sizes]
    return percentile_interval(np.concatenate(found))


def point_estimate(figure: Figure, samples: int) -> float:
    """Return the figure of the samples as they are."""
    return float(figure(np.ones((1, samples)))[0])


def r_squared(truth: Array, predicted: Array) -> Figure:
    """Return the figure R2 = 1 - sum of squared errors / sum of squares around the mean."""
    centred = truth - truth.mean()  # so that sums of squares keep their digits
    sums = np.stack([np.ones(len(truth)), centred, centred**2, (truth - predicted) ** 2], 1)

    def figure(counts: Array) -> Array:
        size, first, second, error = (counts @ sums).T
        return 1 - _ratio(error, np.maximum(second - first**2 / size, 0.0))

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
        return _ratio((counts * one * two).sum(1), np.sqrt(spread))

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
        return _ratio((gained * (hits / np.maximum(named, 1))).sum(1), hits[:, -1])

    return figure


def roc_auc(truth: Array, scores: Array) -> Figure:
    """Return the figure area under the ROC curve: how often a true sample outranks another, ties half.

    >>> point_estimate(roc_auc(np.array([True, True, False]), np.array([0.9, 0.5, 0.5])), 3)
    0.75
    """
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.append(True, np.diff(scores[order]) != 0))
    hit = truth[order].astype(np.float64)

    def figure(counts: Array) -> Array:
        taken = counts[:, order].astype(np.float64)
        hits, others = (np.add.reduceat(taken * side, starts, axis=1) for side in (hit, 1 - hit))
        below = np.cumsum(others, axis=1) - others / 2
        return _ratio((hits * below).sum(1), hits.sum(1) * others.sum(1))

    return figure


def f_score(truth: Array, named: Array) -> Figure:
    """Return the figure F1 = 2 hits / (named + present); NaN where nothing is named nor present."""
    sums = np.stack([truth & named, truth, named], 1).astype(np.float64)

    def figure(counts: Array) -> Array:
        hits, present, called = (counts @ sums).T
        return _ratio(2 * hits, present + called)

    return figure


def mean_of(figures: list[Figure]) -> Figure:
    """Return the figure mean of others, of those that have a value in a draw."""

    def figure(counts: Array) -> Array:
        found = np.stack([one(counts) for one in figures])
        return _ratio(np.nansum(found, 0), np.isfinite(found).sum(0))

    return figure


def _ratio(above: Array, below: Array) -> Array:
    """Return `above / below`, NaN where `below` is 0."""
    return np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below != 0)


def _ranks(values: Array, counts: Array) -> Array:
    """Return the rank of each sample (draws, n) in a draw, ties at their mean."""
    _, place = np.unique(values, return_inverse=True)
    order = np.argsort(place, kind="stable")
    starts = np.flatnonzero(np.append(True, np.diff(place[order]) > 0))
    size = np.add.reduceat(counts[:, order], starts, axis=1).astype(np.float64)
    return np.asarray((np.cumsum(size, 1) - (size - 1) / 2)[:, place])
