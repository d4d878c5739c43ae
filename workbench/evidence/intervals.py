"""Intervals for figures that are no simple rates: a bootstrap that draws whole groups.

Clips of one groove, or clips that share a seed, succeed and fail together. Drawing them one by one would
claim more than was seen, so a group is always drawn as a whole; a clip that stands for itself is a group of
one. With strata, each stratum keeps its number of groups: two sets that are compared are drawn apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

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
