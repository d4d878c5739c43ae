"""Fitting one probe per layer under grouped cross-validation, every choice made inside the training folds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # comes with scikit-learn

from workbench.errors import DatasetError, ProbeError, message
from workbench.probing.probe import Probe
from workbench.probing.scores import score
from workbench.probing.solvers import PATHS, STRENGTHS, Scaling, one_hot, probabilities, ridge_weights
from workbench.probing.sweep import ProbeSweep
from workbench.sound.splits import grouped_folds, held_out_indices

if TYPE_CHECKING:
    from workbench.activations import Activations

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class _Task:
    """What is read, how (solver, strengths strong first), and on which folds.

    y, groups  class number and group of each sample (n,)
    shuffled   (runs, n) class numbers of the runs with shuffled labels
    """

    target: str
    site: str
    classes: tuple[str, ...]
    y: Array
    groups: Array
    method: str
    strengths: tuple[float, ...]
    seed: int
    splits: list[tuple[Array, Array]]
    shuffled: Array


def fit_probes(
    acts: Activations,
    target: str = "genre",
    *,
    method: str = "logistic",
    folds: int = 5,
    seed: int = 0,
    layers: Sequence[int] | None = None,
    site: str = "resid_post",
    strengths: Sequence[float] | None = None,
    shuffles: int = 20,
) -> ProbeSweep:
    """Return one probe per layer, each with held-out scores; same input, same answer.

    Each sample is judged once, by a probe that saw no sample of its group; scaling and strength come from the
    training folds alone. The probe that is returned is fitted by the same recipe on all samples.

    acts       pooled activations with a label `target`
    method     "logistic" or "ridge"
    folds      parts of the grouped cross-validation; every class needs at least as many groups
    strengths  L2 penalties to choose from (solvers.py); with one there is nothing to choose
    shuffles   runs with labels shuffled between groups, for the line and band that must be beaten. They use
               ridge at one middle strength whatever `method` is: one factorisation then serves all runs

    Raises ProbeError for an unknown method or strength and for a target that is a number per clip;
    DatasetError for a single class or a class with fewer groups than folds; ActivationsError for a target,
    layer or site not held.
    """
    _check(method, strengths)
    classes, y = _classes(acts, target)
    splits = grouped_folds(np.array(classes)[y], acts.groups, folds=folds, seed=seed)
    strong_first = tuple(sorted(strengths or STRENGTHS[method], reverse=True))
    shuffled = _shuffled(y, acts.groups, splits, shuffles, seed)
    task = _Task(target, site, classes, y, acts.groups, method, strong_first, seed, splits, shuffled)
    # Thousands of small products: handing each to several threads costs more than it brings, and ten times as
    # much as the work itself where another program keeps a core busy.
    with threadpool_limits(limits=1):
        fitted = [_fit_layer(acts, int(layer), task) for layer in (acts.layers if layers is None else layers)]
    if not fitted:
        raise ProbeError(message("Probes were asked for", "the list of layers is empty", "Name at least one"))
    rows = pd.concat([held_out for _, held_out in fitted], ignore_index=True)
    return ProbeSweep(tuple(probe for probe, _ in fitted), rows)


def _fit_layer(acts: Activations, layer: int, task: _Task) -> tuple[Probe, pd.DataFrame]:
    """Return the probe of one layer and its held-out rows."""
    x = acts.matrix(layer, site=task.site).astype(np.float64)
    logits, fold, shuffled = _judge_held_out(x, task)
    predicted = logits.argmax(1)
    weights, bias, strength = _fit(x, task.y, task.groups, task)
    attrs = acts.data.attrs
    probe = Probe(
        classes=task.classes,
        weights=weights,
        bias=bias,
        mean=x.mean(0),
        layer=layer,
        site=task.site,
        target=task.target,
        method=task.method,
        strength=strength,
        scores=score(task.y, predicted, task.groups, shuffled),
        # Reading classes needs no R; where it was not measured it stays NaN, and only a dose refuses that.
        residual_norm=float(acts.data["residual_norm"].sel(layer=layer)),
        model_id=str(attrs.get("model_id", "")),
        dataset_fingerprint=str(attrs.get("dataset_fingerprint", "")),
    )
    names = np.array(task.classes)
    confidence = probabilities(logits, task.method)[np.arange(len(x)), task.y]
    rows = {"layer": layer, "clip": acts.clips, "group": task.groups, "truth": names[task.y]}
    return probe, pd.DataFrame(rows | {"predicted": names[predicted], "confidence": confidence, "fold": fold})


def _judge_held_out(x: Array, task: _Task) -> tuple[Array, Array, Array]:
    """Return held-out logits (n, classes), each sample's fold (n,), and shuffled accuracies (runs,)."""
    count = len(task.classes)
    logits, fold = np.empty((len(x), count)), np.empty(len(x), dtype=int)
    hits = np.zeros(len(task.shuffled))
    for number, (train, test) in enumerate(task.splits):
        weights, bias, _ = _fit(x[train], task.y[train], task.groups[train], task)
        logits[test], fold[test] = x[test] @ weights.T + bias, number
        for run, predicted in enumerate(_predict_shuffled(x, train, test, task)):
            hits[run] += (predicted == task.shuffled[run, test]).sum()
    return logits, fold, hits / len(x)


def _predict_shuffled(x: Array, train: Array, test: Array, task: _Task) -> Array:
    """Return the classes (runs, test) that ridge probes trained on each run's shuffled labels predict."""
    runs, count = len(task.shuffled), len(task.classes)
    if runs == 0:
        return np.empty((0, len(test)), dtype=int)
    scaling = Scaling.of(x[train])
    targets = np.hstack([one_hot(y[train], count) for y in task.shuffled])
    middle = STRENGTHS["ridge"][len(STRENGTHS["ridge"]) // 2]
    ((weights, bias),) = ridge_weights(scaling.apply(x[train]), targets, [middle])
    found = scaling.apply(x[test]) @ weights.T + bias
    return np.asarray(found.reshape(len(test), runs, count).argmax(2).T)


def _fit(x: Array, y: Array, groups: Array, task: _Task) -> tuple[Array, Array, float]:
    """Return (weights, bias) in raw residual space and the strength chosen on these samples alone."""
    strength = _choose_strength(x, y, groups, task)
    scaling = Scaling.of(x)
    ((weights, bias),) = PATHS[task.method](scaling.apply(x), y, [strength])
    return *scaling.fold_back(weights, bias), strength


def _choose_strength(x: Array, y: Array, groups: Array, task: _Task) -> float:
    """Return the strength that does best on a third of these groups, the strongest of equals.

    Where some class has a single group here, nothing can be set aside and the middle strength is taken.
    """
    if len(task.strengths) == 1:
        return task.strengths[0]
    try:
        aside = held_out_indices(y, groups, 1 / 3, seed=task.seed)
    except DatasetError:
        return task.strengths[len(task.strengths) // 2]
    kept = np.setdiff1d(np.arange(len(y)), aside)
    scaling = Scaling.of(x[kept])
    path = PATHS[task.method](scaling.apply(x[kept]), y[kept], task.strengths)
    z = scaling.apply(x[aside])
    hits = [float(((z @ weights.T + bias).argmax(1) == y[aside]).mean()) for weights, bias in path]
    return task.strengths[int(np.argmax(hits))]


def _shuffled(y: Array, groups: Array, splits: list[tuple[Array, Array]], runs: int, seed: int) -> Array:
    """Return (runs, n) class numbers, shuffled between groups of a fold (samples, where groups mix classes).

    Whole groups move, so that what clips of a group share stays together and the band is as wide as the
    number of groups makes it. They move within their fold, so that every fold keeps its share of each class:
    otherwise a class that is frequent in training is rare in the test fold, and shuffled labels would score
    below chance.
    """
    rng = np.random.default_rng(seed)
    drawn = np.tile(y, (runs, 1))
    for _, test in splits:
        names, first, member = np.unique(groups[test], return_index=True, return_inverse=True)
        of_group = y[test][first]
        pure = bool((of_group[member] == y[test]).all())
        for run in drawn:
            run[test] = of_group[rng.permutation(len(names))][member] if pure else rng.permutation(y[test])
    return drawn


def _classes(acts: Activations, target: str) -> tuple[tuple[str, ...], Array]:
    """Return the classes of a target in rising order, and the class number of each sample."""
    labels = acts.labels(target)
    names, y = np.unique(labels.astype(str), return_inverse=True)
    if labels.dtype.kind == "f" and len(names) > 12:
        found = f"it is a number with {len(names)} different values, and probes tell classes apart"
        raise ProbeError(
            message(f"Probes of {target!r} were asked for", found, "Label clips with ranges instead")
        )
    return tuple(names.tolist()), y


def _check(method: str, strengths: Sequence[float] | None) -> None:
    if method not in PATHS:
        raise ProbeError(
            message(f"Probes by {method!r} were asked for", f"there are {', '.join(PATHS)}", "Use one")
        )
    if strengths is not None and not (len(strengths) and all(s > 0 and math.isfinite(s) for s in strengths)):
        found = "a strength is a finite number above 0"
        raise ProbeError(
            message(f"The strengths {strengths} were asked for", found, "Give at least one such number")
        )
