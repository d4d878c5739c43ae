"""Fitting one linear probe for a number per layer, every choice made inside the training folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from workbench.errors import DatasetError, ProbeError
from workbench.probing.crossval import INNER, Fold, Split, check_strengths, number_folds, processors
from workbench.probing.linear import each_layer, layers_asked, origin_of
from workbench.probing.probe import NumberProbe, NumberScores, NumberSweep
from workbench.probing.solvers import STRENGTHS, Design, ridge_path
from workbench.stats import absolute_error, interval, point_estimate, r_squared, rank_correlation

if TYPE_CHECKING:
    from workbench.activations import Activations

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class _Task:
    """What is read and on which folds; `shuffled` (runs, n) are the numbers of the runs that read nothing."""

    target: str
    site: str
    y: Array
    groups: Array
    strengths: tuple[float, ...]
    folds: tuple[Fold, ...]
    whole: Fold
    shuffled: Array


def fit_regression(
    acts: Activations,
    target: str,
    *,
    folds: int = 5,
    seed: int = 0,
    layers: Sequence[int] | None = None,
    site: str = "resid_post",
    strengths: Sequence[float] | None = None,
    shuffles: int = 20,
    threads: int | None = None,
    progress: bool = True,
) -> NumberSweep:
    """Return one probe per layer for a label that is a number, by ridge; same input, same answer.

    As in `fit_probes` each sample is judged once, by a probe that saw no sample of its group, and scaling and
    strength come from the training folds alone. The folds hold low and high numbers alike.

    acts       pooled activations with a label `target` that is a number, such as tempo_bpm or level_db
    folds      parts of the grouped cross-validation, at most as many as there are groups
    strengths  L2 penalties to choose from, by squared error; with one there is nothing to choose
    shuffles   runs with the numbers of groups shuffled, for the line and band that must be beaten

    Raises ProbeError for a target that is no number or never varies, and for an unknown strength;
    DatasetError for fewer groups than folds; ActivationsError for a target, layer or site not held.
    """
    y, groups = _numbers(acts, target), acts.groups
    chosen = tuple(sorted(STRENGTHS["ridge"] if strengths is None else strengths, reverse=True))
    check_strengths(chosen)
    parts = [_fold(y, groups, *split, seed) for split in number_folds(y, groups, folds=folds, seed=seed)]
    whole = _fold(y, groups, np.arange(len(y)), np.arange(0), seed)
    shuffled = _shuffled(y, groups, parts, shuffles, seed)
    task = _Task(target, site, y, groups, chosen, tuple(parts), whole, shuffled)
    asked = layers_asked(acts, layers)
    threads = processors() if threads is None else threads
    fitted = each_layer(partial(_fit_layer, acts, task), asked, target, threads=threads, progress=progress)
    rows = pd.concat([rows for _, rows in fitted], ignore_index=True)
    return NumberSweep(tuple(probe for probe, _ in fitted), rows)


def _fit_layer(acts: Activations, task: _Task, layer: int) -> tuple[NumberProbe, pd.DataFrame]:
    """Return the probe of one layer and its held-out rows."""
    x = acts.matrix(layer, site=task.site).astype(np.float64)
    columns = np.vstack([task.y, task.shuffled]).T
    read, fold = np.empty_like(columns), np.empty(len(x), dtype=int)
    for number, part in enumerate(task.folds):
        weights, bias, _ = _fit(x, columns, part, task.strengths)
        read[part.test], fold[part.test] = x[part.test] @ weights.T + bias, number
    weights, bias, chosen = _fit(x, columns[:, :1], task.whole, task.strengths)
    probe = NumberProbe(
        weights=weights[0],
        bias=float(bias[0]),
        mean=x.mean(0),
        layer=layer,
        site=task.site,
        target=task.target,
        strength=float(chosen[0]),
        scores=_score(task, read[:, 0], read[:, 1:].T),
        **origin_of(acts, layer),
    )
    rows = {"layer": layer, "clip": acts.clips, "group": task.groups, "truth": task.y}
    return probe, pd.DataFrame(rows | {"predicted": read[:, 0], "fold": fold})


def _fit(x: Array, columns: Array, fold: Fold, strengths: tuple[float, ...]) -> tuple[Array, Array, Array]:
    """Return raw weights (m, d), bias (m,) and strength (m,) for every column of numbers (n, m).

    Each column's strength is the one with the least squared error on what is set aside inside the training
    samples; where nothing can be, the middle one.
    """
    x, columns = x[fold.train], columns[fold.train]
    errors = np.zeros((len(strengths), columns.shape[1]))
    for train, aside in fold.inner if len(strengths) > 1 else ():
        path = ridge_path(Design.of(x[train]), columns[train], strengths)
        errors += [((x[aside] @ weights.T + bias - columns[aside]) ** 2).sum(0) for weights, bias in path]
    chosen = errors.argmin(0) if errors.any() else np.full(columns.shape[1], len(strengths) // 2)
    path = ridge_path(Design.of(x), columns, strengths)
    column = np.arange(columns.shape[1])
    weights, bias = (np.array(part)[chosen, column] for part in zip(*path, strict=True))
    return weights, bias, np.array(strengths)[chosen]


def _score(task: _Task, predicted: Array, shuffled: Array) -> NumberScores:
    """Return the scores of held-out readings (n,) and of the shuffled runs (runs, n)."""
    samples = len(task.y)
    found: dict[str, float] = {}
    figures = {"r2": r_squared, "error": absolute_error, "rank": rank_correlation}
    for name, make in figures.items():
        figure = make(task.y, predicted)
        found[name] = point_estimate(figure, samples)
        found[f"{name}_low"], found[f"{name}_high"] = interval(figure, task.groups)
    pairs = zip(task.shuffled, shuffled, strict=True)
    runs = np.array([point_estimate(r_squared(truth, reading), samples) for truth, reading in pairs])
    band = np.quantile(runs, [0.025, 0.975]) if runs.size else np.full(2, np.nan)
    return NumberScores(
        **found,
        shuffled_mean=float(runs.mean()) if runs.size else float("nan"),
        shuffled_low=float(band[0]),
        shuffled_high=float(band[1]),
        samples=samples,
        groups=int(np.unique(task.groups).size),
    )


def _fold(y: Array, groups: Array, train: Array, test: Array, seed: int) -> Fold:
    """Return a fold with the splits inside it; none where all training samples are of one group."""
    inner: list[Split] = []
    held = len(np.unique(groups[train]))
    if held >= 2:
        inner = number_folds(y[train], groups[train], folds=min(INNER, held), seed=seed)
    return Fold(train, test, tuple(inner))


def _shuffled(y: Array, groups: Array, folds: Sequence[Fold], runs: int, seed: int) -> Array:
    """Return (runs, n) numbers: within a fold every group takes another's, repeated or cut to its size.

    Groups stay as alike inside as they were, so that the band is as wide as the number of groups makes it.
    """
    rng = np.random.default_rng(seed)
    drawn = np.tile(y, (runs, 1))
    for fold in folds:
        parts = [fold.test[groups[fold.test] == name] for name in np.unique(groups[fold.test])]
        for run in drawn:
            for mine, theirs in zip(parts, rng.permutation(len(parts)), strict=True):
                run[mine] = np.resize(rng.permutation(y[parts[theirs]]), len(mine))
    return drawn


def _numbers(acts: Activations, target: str) -> Array:
    """Return the label of each sample as float64 (n,)."""
    values = acts.labels(target)
    asked = f"A regression on {target!r} was asked for"
    if values.dtype.kind != "f":
        raise ProbeError(asked, f"its values are text, such as {values[0]!r}", "Use fit_probes")
    if not np.isfinite(values).all():
        found = f"{(~np.isfinite(values)).sum()} samples have no such number"
        raise ProbeError(asked, found, "Leave them out with acts.subset")
    if np.ptp(values) == 0:
        raise DatasetError(asked, f"it is {values[0]:g} in every sample", "Use a number that varies")
    return values
