"""A number with its 95 % interval and the chance of seeing it where nothing is wrong, groups taken as wholes.

Clips of one group succeed and fail together, so every interval and every test here counts groups: the
variance is that between groups, and Student's t has one degree of freedom less than there are groups.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from workbench.probing.scores import accuracy_interval

Array = np.ndarray
SURE = 0.05
"""A p-value up to which something is said to be there; in a battery Holm's correction comes first."""

Statistic = Callable[[Array], float]
"""From the sums over all groups (m,) to the figure."""


@dataclass(frozen=True)
class Estimate:
    """A figure, its 95 % interval, and the one-sided p-value of its lying above what is tolerated."""

    value: float
    low: float
    high: float
    p_value: float = 1.0

    def __str__(self) -> str:
        # Adding 0 turns a rounded -0.0 into 0.0.
        value, low, high = (round(one, 2) + 0.0 for one in (self.value, self.low, self.high))
        return f"{value:.2f} ({low:.2f} to {high:.2f})"


NOTHING = Estimate(math.nan, math.nan, math.nan)
"""What is said of a figure that these samples cannot give."""


def rate_over_groups(hits: Array, groups: Array) -> Estimate:
    """Return the share of hits (n,), from 0 to 1 each, with the interval of `accuracy_interval`; untested."""
    hits = np.asarray(hits, dtype=np.float64)
    return Estimate(float(hits.mean()), *accuracy_interval(hits, groups))


def mean_over_groups(values: Array, groups: Array, *, tolerated: float = 0.0) -> Estimate:
    """Return the mean of `values` (n,) over samples that stand in `groups` (n,).

    The p-value tests whether the mean lies above `tolerated`.
    """
    values = np.asarray(values, dtype=np.float64)
    sums = sums_by_group(np.stack([values, np.ones(len(values))], axis=1), groups)
    return jackknife(_mean, sums, tolerated=tolerated)


def jackknife(statistic: Statistic, sums: Array, *, tolerated: float = 0.0) -> Estimate:
    """Return a figure that is a smooth function of sums over groups, its variance by leaving out each group.

    statistic  from summed columns (m,) to the figure; NaN where it cannot be said
    sums       (groups, m)
    tolerated  up to this size the figure is no fault; the p-value tests whether it lies above
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
    # No test over so few groups can be surer than the toss of a coin for each of them.
    surest = 0.5**count
    if error <= 1e-12:
        return Estimate(value, value, value, surest if value > tolerated else 1.0)
    chance = float(t.sf((value - tolerated) / error, count - 1))
    return Estimate(value, value - half, value + half, max(chance, surest))


def sums_by_group(columns: Array, groups: Array) -> Array:
    """Return the sums (groups, m) of `columns` (n, m) over the samples of each group."""
    _, member = np.unique(groups, return_inverse=True)
    sums = np.zeros((int(member.max()) + 1, columns.shape[1]))
    np.add.at(sums, member, columns)
    return sums


def holm(p_values: Sequence[float]) -> Array:
    """Return p-values adjusted for looking at several (Holm 1979): compare them with the level."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1.0)
    return adjusted


def _mean(total: Array) -> float:
    return float(total[0] / total[1]) if total[1] > 0 else math.nan
