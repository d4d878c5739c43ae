"""Fitting one probe per layer and label where a clip may have several labels, each against its absence."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from workbench.errors import DatasetError, ProbeError
from workbench.probing.crossval import INNER, Fold, Recipe, label_folds, processors
from workbench.probing.linear import each_layer, layers_asked, origin_of
from workbench.probing.probe import LabelProbe, LabelScores, LabelSweep
from workbench.probing.solvers import PATHS, Design, logistic_path, one_hot
from workbench.sound.dataset import in_order, missing
from workbench.stats import average_precision, f_score, interval, mean_of, point_estimate

if TYPE_CHECKING:
    from workbench.activations import Activations

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class _Task:
    """What is read, how, and on which folds; `held` (n, labels) says which samples have a label."""

    target: str
    site: str
    labels: tuple[str, ...]
    held: Array
    groups: Array
    recipe: Recipe
    folds: tuple[Fold, ...]
    whole: Fold


def fit_multilabel(
    acts: Activations,
    target: str | Sequence[Collection[str]] = "tags",
    *,
    method: str = "logistic",
    folds: int = 5,
    seed: int = 0,
    layers: Sequence[int] | None = None,
    site: str = "resid_post",
    strengths: Sequence[float] | None = None,
    class_weights: str | None = "balanced",
    threads: int | None = None,
    progress: bool = True,
) -> LabelSweep:
    """Return one probe per layer and label, each label against its absence; same input, same answer.

    As in `fit_probes` each sample is judged once, by probes that saw no sample of its group, and scaling and
    strength (for every label its own) come from the training folds alone.

    target         a label whose text names several, split by "|" ("rock|live"; "" is none), or a collection
                   of labels per sample
    method         "logistic", "ridge" or "means"
    folds          parts of the grouped cross-validation, at most as many as there are groups
    strengths      L2 penalties to choose from (solvers.py); with one there is nothing to choose
    class_weights  "balanced": the samples with a label count as much as those without it, which makes a logit
                   of 0 a fair threshold for a rare label too; None: every sample counts the same

    Raises ProbeError for an unknown method or strength; DatasetError for fewer groups than folds, and for a
    label that fewer than two groups have, or lack; ActivationsError for a target, layer or site not held.
    """
    recipe = Recipe.of(2, method, strengths, class_weights)
    name, sets = _sets(acts, target)
    labels = in_order(set().union(*sets))
    held = np.array([[label in one for label in labels] for one in sets], dtype=bool).reshape(len(sets), -1)
    groups = acts.groups
    _check(labels, held, groups)
    outer = label_folds(held, groups, folds=folds, seed=seed)
    _check_training(labels, held, outer)
    *parts, whole = (
        Fold(train, test, _inner(held[train], groups[train], recipe, seed))
        for train, test in [*outer, (np.arange(len(held)), np.arange(0))]
    )
    task = _Task(name, site, labels, held, groups, recipe, tuple(parts), whole)
    asked = layers_asked(acts, layers)
    threads = processors() if threads is None else threads
    fitted = each_layer(partial(_fit_layer, acts, task), asked, name, threads=threads, progress=progress)
    fold = np.empty(len(held), dtype=int)
    for number, part in enumerate(parts):
        fold[part.test] = number
    return LabelSweep(
        tuple(probe for probe, _ in fitted), held, np.stack([logits for _, logits in fitted]), fold
    )


def _fit_layer(acts: Activations, task: _Task, layer: int) -> tuple[LabelProbe, Array]:
    """Return the probes of one layer and their held-out logits (n, labels)."""
    x = acts.matrix(layer, site=task.site).astype(np.float64)
    logits = np.empty(task.held.shape)
    for part in task.folds:
        weights, bias, _ = _fit(x, part, task)
        logits[part.test] = x[part.test] @ weights.T + bias
    weights, bias, strengths = _fit(x, task.whole, task)
    probe = LabelProbe(
        labels=task.labels,
        weights=weights,
        bias=bias,
        mean=x.mean(0),
        strengths=strengths,
        layer=layer,
        site=task.site,
        target=task.target,
        method=task.recipe.method,
        scores=_score(task, logits),
        **origin_of(acts, layer),
    )
    return probe, logits


def _fit(x: Array, fold: Fold, task: _Task) -> tuple[Array, Array, Array]:
    """Return raw weights (labels, d), bias (labels,) and the strength chosen for each label (labels,)."""
    x, held, recipe = x[fold.train], task.held[fold.train], task.recipe
    count = held.shape[1]
    hits = np.zeros((count, len(recipe.strengths)))
    for train, aside in fold.inner:
        shared = Design.of(x[train])
        for label in range(count):
            counts = recipe.counts(held[:, label].astype(int))
            counts = np.ones(len(held)) if counts is None else counts
            path = _path(x[train], held[train, label], shared, recipe, recipe.strengths)
            for number, (weights, bias) in enumerate(path):
                right = (x[aside] @ weights + bias > 0) == held[aside, label]
                hits[label, number] += counts[aside] @ right
    # Weighted hits that are equal may differ by rounding, which must not decide.
    best = np.round(hits, 6).argmax(1) if fold.inner else np.full(count, len(recipe.strengths) // 2)
    strengths = np.array(recipe.strengths)[best]
    shared = Design.of(x)
    pairs = [_path(x, held[:, one], shared, recipe, strengths[one : one + 1])[0] for one in range(count)]
    return np.array([weights for weights, _ in pairs]), np.array([bias for _, bias in pairs]), strengths


def _path(
    x: Array, held: Array, shared: Design, recipe: Recipe, strengths: Sequence[float] | Array
) -> list[tuple[Array, float]]:
    """Return raw (weights (d,), bias) per strength whose logit is above 0 where a sample has the label.

    The design `shared` by all labels is that of samples that count alike: the logistic solver is right with
    any counts on its axes, the others need a design of their own.
    """
    y = held.astype(int)
    counts = recipe.counts(y)
    truth, strengths = one_hot(y, 2), list(strengths)
    if recipe.method == "logistic":
        found = logistic_path(shared, truth, strengths, counts=counts)
    else:
        design = shared if counts is None else Design.of(x, counts)
        found = PATHS[recipe.method](design, truth, strengths)
    return [(weights[1] - weights[0], float(bias[1] - bias[0])) for weights, bias in found]


def _score(task: _Task, logits: Array) -> LabelScores:
    """Return the scores of held-out logits (n, labels)."""
    samples, labels = task.held.shape
    f1 = [f_score(task.held[:, one], logits[:, one] > 0) for one in range(labels)]
    precision = [average_precision(task.held[:, one], logits[:, one]) for one in range(labels)]
    share = task.held.mean(0)
    of_label = pd.DataFrame(
        {
            "label": task.labels,
            "f1": [point_estimate(one, samples) for one in f1],
            "average_precision": [point_estimate(one, samples) for one in precision],
            "share": share,
            "groups": [len(np.unique(task.groups[task.held[:, one]])) for one in range(labels)],
        }
    )
    f1_low, f1_high = interval(mean_of(f1), task.groups)
    precision_low, precision_high = interval(mean_of(precision), task.groups)
    return LabelScores(
        macro_f1=float(of_label["f1"].mean()),
        f1_low=f1_low,
        f1_high=f1_high,
        average_precision=float(of_label["average_precision"].mean()),
        precision_low=precision_low,
        precision_high=precision_high,
        chance=float(share.mean()),
        of_label=of_label,
        samples=samples,
        groups=int(np.unique(task.groups).size),
    )


def _inner(held: Array, groups: Array, recipe: Recipe, seed: int) -> tuple[tuple[Array, Array], ...]:
    """Return splits to choose strengths by; none where a label would be missing on, or all over, a side."""
    if len(recipe.strengths) == 1 or len(np.unique(groups)) < 2:
        return ()
    folds = min(INNER, len(np.unique(groups)))
    splits = label_folds(held, groups, folds=folds, seed=seed)
    return () if any(_unlearnable(held[train]).any() for train, _ in splits) else tuple(splits)


def _sets(acts: Activations, target: str | Sequence[Collection[str]]) -> tuple[str, list[set[str]]]:
    """Return the name of the target and the set of labels of each sample."""
    if isinstance(target, str):
        texts = acts.labels(target)
        if texts.dtype.kind == "f":
            found, do = "its values are numbers", "Use fit_regression"
            raise ProbeError(f"Labels of {target!r} were asked for", found, do)
        return target, [{part.strip() for part in str(text).split("|")} - {""} for text in texts]
    if len(target) != len(acts):
        raise ProbeError(
            f"Labels of {len(target)} samples were given",
            f"there are {len(acts)} samples",
            "Give one collection of labels per sample, empty where it has none",
        )
    lacking = sum(isinstance(one, str) or not isinstance(one, Collection) for one in target)
    if lacking:
        found = f"{lacking} of {len(target)} samples have text, None or a number in its place"
        raise ProbeError("A collection of labels per sample was asked for", found, "Give sets or lists")
    return "labels", [{str(label) for label in one} for one in target]


def _check(labels: tuple[str, ...], held: Array, groups: Array) -> None:
    """Raise DatasetError unless there are labels, and at least two groups have and two lack each of them."""
    if not labels:
        raise DatasetError("Probes of labels were asked for", "no sample has any", "Label the clips")
    lacking = int(held[:, missing(labels)].any(1).sum())
    if lacking:
        found = f"{lacking} of {len(held)} samples have a label that is None, NaN or empty"
        raise DatasetError("Probes of labels were asked for", found, "Leave it out of their labels")
    for label, mask in zip(labels, held.T, strict=True):
        with_it, without = len(np.unique(groups[mask])), len(np.unique(groups[~mask]))
        if min(with_it, without) < 2:
            found = f"{with_it} group(s) have samples with it and {without} without it"
            do = "Leave this label out, or add tracks"
            raise DatasetError(f"A probe of {label!r} was asked for", found, do)


def _check_training(labels: tuple[str, ...], held: Array, splits: Sequence[tuple[Array, Array]]) -> None:
    """Raise DatasetError where a fold would train on samples that all have a label, or all lack it."""
    for number, (train, _) in enumerate(splits):
        bad = _unlearnable(held[train])
        if bad.any():
            label = labels[int(bad.argmax())]
            found = f"fold {number} would train on samples that all have {label!r}, or all lack it"
            raise DatasetError(f"{len(splits)} folds were asked for", found, "Use more folds")


def _unlearnable(held: Array) -> Array:
    """Return for each label (labels,) whether all samples or none have it."""
    return np.asarray(held.all(0) | ~held.any(0))
