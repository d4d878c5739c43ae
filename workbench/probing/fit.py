"""Fitting one probe per layer under grouped cross-validation, every choice made inside the training folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from workbench.errors import ProbeError
from workbench.probing.crossval import (
    Fitted,
    Fold,
    HeldOut,
    Recipe,
    fit_fold,
    held_out,
    in_order,
    plan,
    processors,
)
from workbench.probing.linear import each_layer, layers_asked, origin_of
from workbench.probing.probe import Probe, ProbeSweep
from workbench.probing.solvers import STRENGTHS, Design, one_hot, probabilities, ridge_path
from workbench.sound.splits import grouped_folds
from workbench.stats import score

if TYPE_CHECKING:
    from workbench.activations import Activations

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class _Task:
    """What is read, how, and on which folds.

    y, groups  class number and group of each sample (n,)
    whole      all samples as one fold that tests none: the probe that is returned
    shuffled   (runs, n) class numbers of the runs with shuffled labels
    """

    target: str
    site: str
    classes: tuple[str, ...]
    y: Array
    groups: Array
    recipe: Recipe
    folds: tuple[Fold, ...]
    whole: Fold
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
    class_weights: str | Mapping[str, float] | None = None,
    shuffles: int = 20,
    threads: int | None = None,
    progress: bool = True,
) -> ProbeSweep:
    """Return one probe per layer, each with held-out scores; same input, same answer.

    Each sample is judged once, by a probe that saw no sample of its group; scaling and strength come from the
    training folds alone. The probe that is returned is fitted by the same recipe on all samples.

    acts           pooled activations with a label `target`
    method         "logistic", "ridge" or "means" (the difference in means)
    folds          parts of the grouped cross-validation; every class needs at least as many groups
    strengths      L2 penalties to choose from (solvers.py); with one there is nothing to choose
    class_weights  "balanced" (every class counts the same), or what a sample of each class counts for (1
                   where it is not named)
    shuffles       runs with labels shuffled between groups, for the line and band that must be beaten. They
                   use ridge at one middle strength whatever `method` is: one factorisation serves all runs
    threads        layers or folds at a time; None: as many as there are processors. The answer is the same

    Raises ProbeError for an unknown method, strength or class weight and for a target that is a number per
    clip; DatasetError for a single class or a class with fewer groups than folds; ActivationsError for a
    target, layer or site not held.
    """
    classes, y = _classes(acts, target)
    recipe = Recipe.of(len(classes), method, strengths, _numbered(class_weights, classes, target))
    groups = acts.groups
    splits = grouped_folds(np.array(classes)[y], groups, folds=folds, seed=seed)
    everything = np.arange(len(y)), np.arange(0)
    *parts, whole = plan(y, groups, [*splits, everything], recipe, seed=seed)
    shuffled = _shuffled(y, groups, splits, shuffles, seed)
    task = _Task(target, site, classes, y, groups, recipe, tuple(parts), whole, shuffled)
    chosen = layers_asked(acts, layers)
    threads = processors() if threads is None else threads
    work = partial(_fit_layer, acts, task, max(threads // len(chosen), 1))
    fitted = each_layer(work, chosen, target, threads=threads, progress=progress)
    rows = pd.concat([rows for _, rows, _ in fitted], ignore_index=True)
    return ProbeSweep(tuple(probe for probe, _, _ in fitted), rows, np.stack([part for *_, part in fitted]))


def _fit_layer(acts: Activations, task: _Task, threads: int, layer: int) -> tuple[Probe, pd.DataFrame, Array]:
    """Return the probe of one layer, its held-out rows and its held-out logits (n, classes)."""
    x = acts.matrix(layer, site=task.site).astype(np.float64)
    judged, shuffled, fitted = _judge(x, task, threads)
    probe = Probe(
        classes=task.classes,
        weights=fitted.weights,
        bias=fitted.bias,
        mean=x.mean(0),
        layer=layer,
        site=task.site,
        target=task.target,
        method=task.recipe.method,
        strength=fitted.strength,
        scores=score(task.y, judged.predicted, task.groups, shuffled),
        **origin_of(acts, layer),
    )
    names = np.array(task.classes)
    confidence = probabilities(judged.logits, task.recipe.method)[np.arange(len(x)), task.y]
    rows = {"layer": layer, "clip": acts.clips, "group": task.groups, "truth": names[task.y]}
    rows |= {"predicted": names[judged.predicted], "confidence": confidence, "fold": judged.fold}
    return probe, pd.DataFrame(rows), judged.logits


def _judge(x: Array, task: _Task, threads: int) -> tuple[HeldOut, Array, Fitted]:
    """Return what is held out, shuffled accuracies (runs,), and the probe fitted on all samples."""
    work = partial(_judge_fold, x, task)
    *parts, (whole, _) = in_order(work, [*task.folds, task.whole], threads=threads)
    hits = np.sum([hits for _, hits in parts], axis=0)
    return held_out(x, task.folds, [fitted for fitted, _ in parts]), hits / len(x), whole


def _judge_fold(x: Array, task: _Task, fold: Fold) -> tuple[Fitted, Array]:
    """Return the probe of a fold, and how many tested samples each run with shuffled labels hits (runs,)."""
    fitted, design = fit_fold(x, task.y, fold, recipe=task.recipe)
    plain = design if task.recipe.weights is None else Design.of(x[fold.train])
    predicted = _predict_shuffled(x, fold, plain, task)
    return fitted, (predicted == task.shuffled[:, fold.test]).sum(1)


def _predict_shuffled(x: Array, fold: Fold, design: Design, task: _Task) -> Array:
    """Return the classes (runs, test) that ridge probes trained on each run's shuffled labels predict."""
    runs, count = len(task.shuffled), len(task.classes)
    if runs == 0 or not len(fold.test):
        return np.empty((runs, len(fold.test)), dtype=int)
    truth = np.hstack([one_hot(y[fold.train], count) for y in task.shuffled])
    middle = STRENGTHS["ridge"][len(STRENGTHS["ridge"]) // 2]
    ((weights, bias),) = ridge_path(design, truth, [middle])
    found = x[fold.test] @ weights.T + bias
    return np.asarray(found.reshape(len(fold.test), runs, count).argmax(2).T)


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
    names, y = acts.numbered(target)
    if acts.labels(target).dtype.kind == "f" and len(names) > 12:
        found = f"it is a number with {len(names)} different values, and probes tell classes apart"
        do = "Use fit_regression, or label clips with ranges"
        raise ProbeError(f"Probes of {target!r} were asked for", found, do)
    return names, y


def _numbered(
    weights: str | Mapping[str, float] | None, classes: tuple[str, ...], target: str
) -> str | Mapping[int, float] | None:
    """Return class weights by class number."""
    if weights is None or isinstance(weights, str):
        return weights
    unknown = [name for name in weights if name not in classes]
    if unknown:
        found = f"the classes of {target!r} are {', '.join(classes)}"
        raise ProbeError(f"A weight for {unknown[0]!r} was asked for", found, "Use these names")
    return {classes.index(name): weight for name, weight in weights.items()}
