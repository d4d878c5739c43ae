"""Intervals for figures that are no simple rates: a bootstrap that draws whole groups.

Clips of one groove, or clips that share a seed, succeed and fail together. Drawing them one by one would
claim more than was seen, so a group is always drawn as a whole; a clip that stands for itself is a group of
one. With strata, each stratum keeps its number of groups: two sets that are compared are drawn apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from workbench.probing.diagnosis.estimate import Estimate

Statistic = Callable[[np.ndarray], float]
"""From the indices (m,) of drawn samples, with repetitions, to the figure."""


def bootstrap(
    statistic: Statistic,
    groups: np.ndarray,
    *,
    strata: np.ndarray | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the 95 % percentile interval (low, high) of a statistic; draws that give NaN are left out.

    Args:
        statistic: the figure, from indices.
        groups: group of each sample (n,).
        strata: stratum of each sample (n,); a group lies in one of them. By default all in one.
        draws: how often groups are drawn.
        seed: of the draws.
    """
    values = np.array([statistic(chosen) for chosen in _draws(groups, strata, draws, seed)])
    values = values[np.isfinite(values)]
    if not values.size:
        return float("nan"), float("nan")
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def _draws(groups: np.ndarray, strata: np.ndarray | None, draws: int, seed: int) -> Iterator[np.ndarray]:
    """Yield indices of samples: as many whole groups of each stratum, drawn with replacement, as it has."""
    groups = np.asarray(groups)
    strata = np.zeros(len(groups), int) if strata is None else np.asarray(strata)
    rng = np.random.default_rng(seed)
    members = [
        [np.flatnonzero((strata == one) & (groups == group)) for group in np.unique(groups[strata == one])]
        for one in np.unique(strata)
    ]
    for _ in range(draws):
        yield np.concatenate([some[i] for some in members for i in rng.integers(len(some), size=len(some))])


def means(values: np.ndarray, groups: np.ndarray, *, draws: int = 2000, seed: int = 0) -> list[Estimate]:
    """Return the mean of each column of `values` (n, m) with its bootstrap interval; see `ratios`."""
    values = np.asarray(values, np.float64)
    return ratios(values, np.ones_like(values), groups, draws=draws, seed=seed)


def ratios(
    above: np.ndarray, below: np.ndarray, groups: np.ndarray, *, draws: int = 2000, seed: int = 0
) -> list[Estimate]:
    """Return, per column, the sum of `above` over the sum of `below` with its 95 % percentile interval.

    Both come from the same clips, so a draw takes both values of a group: what is compared stays paired.
    Where the sum below is 0 the ratio is NaN; draws in which it is are left out.

    Args:
        above: values (n, m).
        below: values (n, m).
        groups: group of each sample (n,), drawn as a whole.
        draws: how often groups are drawn.
        seed: of the draws.
    """
    _, member = np.unique(np.asarray(groups), return_inverse=True)
    count = int(member.max()) + 1
    sums = np.zeros((2, count, np.shape(above)[1]))
    for side, values in zip(sums, (above, below), strict=True):
        np.add.at(side, member, np.asarray(values, np.float64))
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=draws)
    whole = _divided(*sums.sum(1))
    low, high = _inner(_divided(drawn @ sums[0], drawn @ sums[1]))
    return [Estimate(*(float(x) for x in one)) for one in zip(whole, low, high, strict=True)]


def _divided(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below != 0)


def _inner(values: np.ndarray) -> np.ndarray:
    """Return the 2.5 % and 97.5 % quantiles (2, m) of the finite values of each column (draws, m)."""
    kept = [column[np.isfinite(column)] for column in values.T]
    nothing = (np.nan, np.nan)
    return np.array([np.quantile(one, [0.025, 0.975]) if one.size else nothing for one in kept]).T
