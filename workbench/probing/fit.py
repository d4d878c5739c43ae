"""Fitting one probe per layer: for classes, for labels of which a clip may have several, for numbers.

Every sample is judged once, by a probe that saw no sample of its group; scaling and l2 come from the training
folds alone; the probe that is returned is fitted by the same recipe on all samples.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from sklearn.preprocessing import MultiLabelBinarizer
from tqdm.auto import tqdm

from workbench import stats
from workbench.activations import Activations
from workbench.errors import DatasetError, ProbeError, renamed_keywords
from workbench.probing import crossval, solvers
from workbench.probing.crossval import Fitted, Fold, HeldOut, Recipe, Split
from workbench.probing.probe import (
    LabelProbe,
    LabelScores,
    LabelSweep,
    NumberProbe,
    NumberScores,
    NumberSweep,
    Probe,
    ProbeSweep,
)
from workbench.probing.solvers import Design, PlainFit, ProbeMethod, one_hot, ridge_path
from workbench.sound.dataset import grouped_folds, in_order, missing

Array = np.ndarray
_FIGURES = {"r2": stats.r_squared, "error": stats.absolute_error, "rank": stats.rank_correlation}


@dataclass(frozen=True, eq=False)
class _Layer:
    """What was fitted at one layer."""

    judged: HeldOut  # what the folds' probes read of the samples they did not see
    shuffled: Array  # what the runs with shuffled truth read of them (n, runs)
    whole: Fitted  # on all samples
    notes: dict[str, Any]  # of place and origin, as every kind of probe has them


@dataclass(frozen=True, eq=False)
class _Task:
    """What is read of each layer."""

    acts: Activations
    target: str
    site: str
    folds: Sequence[Fold]  # the last one has all samples to fit on and none to judge
    fit_fold: Callable[[Array, Fold], tuple[Fitted, Array]]  # also what shuffled runs read (test, runs)
    finish: Callable[[_Layer], Any]  # -> the probe of the layer, and what is kept of it


def _fit_layers(
    task: _Task,
    layers: Sequence[int] | None,
    threads: int | None,
    progress: bool,
    on_layer: Callable[[int, int], object] = lambda _done, _of: None,
) -> list[Any]:
    """Return what becomes of every layer, in order, under a bar; what `on_layer` raises ends the work."""
    chosen = [int(layer) for layer in (task.acts.layers if layers is None else layers)]
    if not chosen:
        raise ProbeError("Probes were asked for", "the list of layers is empty", "Name at least one")
    threads = crossval.processors() if threads is None else threads
    fit_one = partial(_fit_layer, task, max(threads // len(chosen), 1))
    fitted = crossval.in_order(fit_one, chosen, threads=threads)
    bar: dict[str, Any] = {"unit": "layer", "disable": not progress, "leave": False}
    made = []
    with closing(fitted), tqdm(desc=f"Probing {task.target}", total=len(chosen), **bar) as shown:
        for one in fitted:
            made.append(one)
            shown.update()
            on_layer(len(made), len(chosen))
    return made


def _fit_layer(task: _Task, threads: int, layer: int) -> Any:
    x = task.acts.matrix(layer, site=task.site).astype(np.float64)
    *parts, (whole, _) = crossval.in_order(partial(task.fit_fold, x), task.folds, threads=threads)
    judged = crossval.held_out(x, task.folds[:-1], [fitted for fitted, _ in parts])
    shuffled = np.empty((len(x), parts[0][1].shape[1]))
    for fold, (_, readings) in zip(task.folds, parts, strict=False):
        shuffled[fold.test] = readings
    norm, origin = task.acts.origin(layer)
    notes = {"layer": layer, "site": task.site, "target": task.target, "mean": x.mean(0)}
    return task.finish(_Layer(judged, shuffled, whole, notes | {"residual_norm": norm, **origin}))


@renamed_keywords(strengths="l2")
def fit_probes(
    acts: Activations,
    target: str = "genre",
    *,
    method: ProbeMethod | PlainFit | str = "logistic",
    folds: int = 5,
    seed: int = 0,
    layers: Sequence[int] | None = None,
    site: str = "resid_post",
    l2: Sequence[float] | None = None,
    class_weights: str | Mapping[str, float] | None = None,
    shuffles: int = 20,
    threads: int | None = None,
    progress: bool = True,
    on_layer: Callable[[int, int], object] = lambda _done, _of: None,
) -> ProbeSweep:
    """Return one probe per layer, each with held-out scores; same input, same answer.

    Args:
        acts: pooled activations with a label `target`.
        target: the label whose values are the classes.
        method: "logistic", "ridge", "means" (the difference in means), a registered name, a `ProbeMethod` or
            a plain function (solvers.py).
        folds: parts of the grouped cross-validation; every class needs at least as many groups.
        seed: of folds and shuffles.
        layers: decoder blocks to probe; all when None.
        site: where in the block.
        l2: penalties to choose from (solvers.py); with one there is nothing to choose.
        class_weights: "balanced" (every class counts the same), or what a sample of each class counts for (1
            where it is not named).
        shuffles: runs with labels shuffled between groups, for the line and band that must be beaten. They
            use ridge whatever `method` is.
        threads: layers or folds at a time; None: as many as there are processors. The answer is the same.
        progress: whether a bar shows.
        on_layer: called with how many layers are done, and of how many; what it raises ends the work.

    Raises:
        ProbeError: an unknown method, penalty or class weight, or the target is a number per clip.
        DatasetError: there is a single class, or a class has fewer groups than folds.
        ActivationsError: target, layer or site are not among the activations.

    >>> x = np.random.default_rng(0).standard_normal((40, 1, 8)).astype(np.float32)
    >>> samples = {"clip": np.arange(40).astype(str), "group": np.arange(40).astype(str)}
    >>> samples["label_genre"] = np.where(x[:, 0, 3] > 0, "jazz", "rock")
    >>> acts = Activations.from_arrays({"resid_post": x}, layers=[0], samples=samples, residual_norm=[3.0])
    >>> int(fit_probes(acts, l2=[0.1], progress=False).best.direction("jazz").vector.argmax())
    3
    """
    classes, y = acts.numbered(target)
    if acts.labels(target).dtype.kind == "f" and len(classes) > 12:
        found = f"it is a number with {len(classes)} different values, and probes tell classes apart"
        do = "Use fit_regression, or label clips with ranges"
        raise ProbeError(f"Probes of {target!r} were asked for", found, do)
    recipe = Recipe.of(len(classes), method, l2, crossval.numbered_weights(class_weights, classes, target))
    splits = grouped_folds(np.array(classes)[y], acts.groups, folds=folds, seed=seed)
    whole = np.arange(len(y)), np.arange(0)
    parts = crossval.plan(y, acts.groups, [*splits, whole], recipe, seed=seed)
    truths = np.vstack([y, shuffled_classes(y, acts.groups, splits, shuffles, seed)])
    fit = partial(crossval.fit_fold, y=y, recipe=recipe, shuffled=truths[1:])
    finish = partial(_finish_classes, acts, classes, truths, recipe.method)
    fitted = _fit_layers(_Task(acts, target, site, parts, fit, finish), layers, threads, progress, on_layer)
    probes, rows, logits = zip(*fitted, strict=True)
    return ProbeSweep(probes, pd.concat(rows, ignore_index=True), np.stack(logits))


def _finish_classes(
    acts: Activations, classes: tuple[str, ...], truths: Array, method: ProbeMethod, layer: _Layer
) -> tuple[Probe, pd.DataFrame, Array]:
    """Return the probe of a layer, its held-out rows and its held-out logits (n, classes)."""
    y, names, judged = truths[0], np.array(classes), layer.judged
    reached = (layer.shuffled == truths[1:].T).mean(0)
    scores = stats.score(y, judged.predicted, acts.groups, reached)
    kind: dict[str, Any] = {"method": method.name, "link": method.link, "scores": scores}
    probe = Probe(classes=classes, **kind, **vars(layer.whole), **layer.notes)
    confidence = solvers.probabilities(judged.logits, method.link)[np.arange(len(y)), y]
    rows = {"layer": probe.layer, "clip": acts.clips, "group": acts.groups, "truth": names[y]}
    rows |= {"predicted": names[judged.predicted], "confidence": confidence, "fold": judged.fold}
    return probe, pd.DataFrame(rows), judged.logits


def shuffled_classes(y: Array, groups: Array, splits: list[Split], runs: int, seed: int) -> Array:
    """Return (runs, n) class numbers shuffled between groups of a fold; samples, where groups mix classes."""
    # Whole groups move, so that the band is as wide as the number of groups makes it. They move within their
    # fold: otherwise a class that is frequent in training is rare in the test fold, and scores below chance.
    rng = np.random.default_rng(seed)
    drawn = np.tile(y, (runs, 1))
    for _, test in splits:
        names, first, member = np.unique(groups[test], return_index=True, return_inverse=True)
        of_group = y[test][first]
        pure = bool((of_group[member] == y[test]).all())
        for run in drawn:
            run[test] = of_group[rng.permutation(len(names))][member] if pure else rng.permutation(y[test])
    return drawn


@renamed_keywords(strengths="l2")
def fit_multilabel(
    acts: Activations,
    target: str | Sequence[Collection[str]] = "tags",
    *,
    method: ProbeMethod | PlainFit | str = "logistic",
    folds: int = 5,
    seed: int = 0,
    layers: Sequence[int] | None = None,
    site: str = "resid_post",
    l2: Sequence[float] | None = None,
    class_weights: str | None = "balanced",
    threads: int | None = None,
    progress: bool = True,
) -> LabelSweep:
    """Return one probe per layer and label, each label against its absence; same input, same answer.

    The target is a label whose text names several, split by "|" ("rock|live"; "" is none), or a collection
    of labels per sample. `l2` is chosen for every label apart. With class weights "balanced" the samples with
    a label count as much as those without it, which makes a logit of 0 a fair threshold for a rare label too;
    with None, which plain functions need, every sample counts the same. All else is as in `fit_probes`.

    Raises:
        ProbeError: an unknown method or penalty, or the target is a number.
        DatasetError: there are fewer groups than folds, or fewer than two groups have, or lack, a label.

    >>> x = np.random.default_rng(0).standard_normal((40, 1, 8)).astype(np.float32)
    >>> samples = {"clip": np.arange(40).astype(str), "group": np.arange(40).astype(str)}
    >>> samples["label_tags"] = np.where(x[:, 0, 3] > 0, "live|loud", np.where(x[:, 0, 1] > 0, "loud", ""))
    >>> acts = Activations.from_arrays({"resid_post": x}, layers=[0], samples=samples, residual_norm=[3.0])
    >>> fit_multilabel(acts, l2=[0.1]).labels
    ('live', 'loud')
    """
    recipe = Recipe.of(2, method, l2, class_weights)
    name, sets = _sets(acts, target)
    labels, groups = in_order(set().union(*sets)), acts.groups
    present = MultiLabelBinarizer(classes=labels).fit_transform(sets).astype(bool)
    _check_labels(labels, present, groups)
    cut = partial(crossval.label_folds, seed=seed)
    splits = cut(present, groups, folds=folds)
    for number, (train, _) in enumerate(splits):
        if (bad := _unlearnable(present[train])).any():
            both = f"all have {labels[bad.argmax()]!r}, or all lack it"
            found = f"fold {number} would train on samples that {both}"
            raise DatasetError(f"{folds} folds were asked for", found, "Use more folds")
    parts = _nested(cut, present, groups, splits, len(recipe.l2))
    fit = partial(_fit_labels, present=present, recipe=recipe)
    finish = partial(_finish_labels, labels, present, groups, recipe.method)
    fitted = _fit_layers(_Task(acts, name, site, parts, fit, finish), layers, threads, progress)
    probes, judged = zip(*fitted, strict=True)
    return LabelSweep(probes, present, np.stack([one.logits for one in judged]), judged[0].fold)


def _fit_labels(x: Array, fold: Fold, *, present: Array, recipe: Recipe) -> tuple[Fitted, Array]:
    """Return the probe, with the l2 chosen for each label (labels,), and no shuffled runs."""
    x, present = x[fold.train], present[fold.train]
    labels = range(present.shape[1])
    hits = np.zeros((len(labels), len(recipe.l2)))
    for train, aside in fold.inner:
        shared = Design.of(x[train])
        for label in labels:
            counts = recipe.counts(present[:, label].astype(int))
            counts = np.ones(len(present)) if counts is None else counts
            path = _label_path(shared, present[train, label], recipe, recipe.l2)
            for number, (weights, bias) in enumerate(path):
                right = (x[aside] @ weights + bias > 0) == present[aside, label]
                hits[label, number] += counts[aside] @ right
    # Weighted hits that are equal may differ by rounding, which must not decide.
    best = np.round(hits, 6).argmax(1) if fold.inner else np.full(len(labels), len(recipe.l2) // 2)
    l2, shared = np.array(recipe.l2)[best], Design.of(x)
    pairs = [_label_path(shared, present[:, one], recipe, [l2[one]])[0] for one in labels]
    fitted = Fitted(np.array([weights for weights, _ in pairs]), np.array([bias for _, bias in pairs]), l2)
    return fitted, np.empty((len(fold.test), 0))


def _label_path(
    shared: Design, present: Array, recipe: Recipe, l2: Sequence[float]
) -> list[tuple[Array, float]]:
    """Return raw (weights (d,), bias) per penalty whose logit is above 0 where a sample has the label."""
    y, method = present.astype(int), recipe.method
    counts = recipe.counts(y)
    # In the shared design samples count alike. The logistic solver is right with any counts on its axes.
    if method is solvers.PROBE_METHODS["logistic"]:
        path = solvers.logistic_path(shared, one_hot(y, 2), l2, counts=counts)
    else:
        design = shared if counts is None else Design.of(shared.x, counts)
        found = method.fit(design, one_hot(y, 2), l2)
        path = solvers.checked_path(method, found, len(l2), (2, shared.x.shape[1]))
    return [(weights[1] - weights[0], float(bias[1] - bias[0])) for weights, bias in path]


def _finish_labels(
    labels: tuple[str, ...], present: Array, groups: Array, method: ProbeMethod, layer: _Layer
) -> tuple[LabelProbe, HeldOut]:
    """Return the probes of a layer with the scores of their held-out logits (n, labels)."""
    samples, share = len(present), present.mean(0)
    columns = list(zip(present.T, layer.judged.logits.T, strict=True))
    f1 = [stats.f_score(truth, logits > 0) for truth, logits in columns]
    precision = [stats.average_precision(truth, logits) for truth, logits in columns]
    figures = {"f1": f1, "average_precision": precision}
    found = {name: [stats.point_estimate(one, samples) for one in some] for name, some in figures.items()}
    having = [len(np.unique(groups[truth])) for truth, _ in columns]
    of_label = pd.DataFrame({"label": labels, **found, "share": share, "groups": having})
    f1_low, f1_high = stats.interval(stats.mean_of(f1), groups)
    precision_low, precision_high = stats.interval(stats.mean_of(precision), groups)
    scores = LabelScores(
        macro_f1=float(of_label["f1"].mean()), f1_low=f1_low, f1_high=f1_high,
        average_precision=float(of_label["average_precision"].mean()),
        precision_low=precision_low, precision_high=precision_high,
        chance=float(share.mean()), of_label=of_label, samples=samples, groups=len(np.unique(groups)),
    )  # fmt: skip
    kind: dict[str, Any] = {"method": method.name, "link": method.link, "scores": scores}
    return LabelProbe(labels=labels, **kind, **vars(layer.whole), **layer.notes), layer.judged


def _nested(
    cut: Callable[..., list[Split]], truth: Array, groups: Array, splits: list[Split], choices: int
) -> list[Fold]:
    """Return the folds, then one of all samples, with splits inside each where l2 can be chosen by them."""
    folds = []
    for train, test in [*splits, (np.arange(len(truth)), np.arange(0))]:
        count, inner = len(np.unique(groups[train])), []
        if choices > 1 and count >= 2:
            inner = cut(truth[train], groups[train], folds=min(crossval.INNER, count))
        if truth.ndim == 2 and any(_unlearnable(truth[train][kept]).any() for kept, _ in inner):
            inner = []
        folds.append(Fold(train, test, tuple(inner)))
    return folds


def _sets(acts: Activations, target: str | Sequence[Collection[str]]) -> tuple[str, list[set[str]]]:
    """Return the name of the target and the set of labels of each sample."""
    if isinstance(target, str):
        texts = acts.labels(target)
        if texts.dtype.kind == "f":
            asked, found = f"Labels of {target!r} were asked for", "its values are numbers"
            raise ProbeError(asked, found, "Use fit_regression")
        return target, [{part.strip() for part in str(text).split("|")} - {""} for text in texts]
    if len(target) != len(acts):
        asked, found = f"Labels of {len(target)} samples were given", f"there are {len(acts)} samples"
        raise ProbeError(asked, found, "Give one collection of labels per sample, empty where it has none")
    if lacking := sum(isinstance(one, str) or not isinstance(one, Collection) for one in target):
        found = f"{lacking} of {len(target)} samples have text, None or a number in its place"
        raise ProbeError("A collection of labels per sample was asked for", found, "Give sets or lists")
    return "labels", [{str(label) for label in one} for one in target]


def _check_labels(labels: tuple[str, ...], present: Array, groups: Array) -> None:
    """Raise DatasetError unless there are labels, and at least two groups have and two lack each of them."""
    if not labels:
        raise DatasetError("Probes of labels were asked for", "no sample has any", "Label the clips")
    if lacking := int(present[:, missing(labels)].any(1).sum()):
        found = f"{lacking} of {len(present)} samples have a label that is None, NaN or empty"
        raise DatasetError("Probes of labels were asked for", found, "Leave it out of their labels")
    for label, mask in zip(labels, present.T, strict=True):
        with_it, without = len(np.unique(groups[mask])), len(np.unique(groups[~mask]))
        if min(with_it, without) < 2:
            found = f"{with_it} group(s) have samples with it and {without} without it"
            do = "Leave this label out, or add tracks"
            raise DatasetError(f"A probe of {label!r} was asked for", found, do)


def _unlearnable(present: Array) -> Array:
    """Return for each label (labels,) whether all samples or none have it."""
    return np.asarray(present.all(0) | ~present.any(0))


@renamed_keywords(strengths="l2")
def fit_regression(
    acts: Activations,
    target: str,
    *,
    folds: int = 5,
    seed: int = 0,
    layers: Sequence[int] | None = None,
    site: str = "resid_post",
    l2: Sequence[float] | None = None,
    shuffles: int = 20,
    threads: int | None = None,
    progress: bool = True,
) -> NumberSweep:
    """Return one probe per layer for a label that is a number, by ridge; same input, same answer.

    The target is a number such as tempo_bpm or level_db. Every fold has low and high numbers alike, and `l2`
    is chosen by squared error. All else is as in `fit_probes`.

    Raises:
        ProbeError: the target is no number, or a penalty is unknown.
        DatasetError: there are fewer groups than folds, or the number never varies.

    >>> x = np.random.default_rng(0).standard_normal((40, 1, 8)).astype(np.float32)
    >>> samples = {"clip": np.arange(40).astype(str), "group": np.arange(40).astype(str)}
    >>> samples["label_tempo_bpm"] = 120 + 10.0 * x[:, 0, 3]
    >>> acts = Activations.from_arrays({"resid_post": x}, layers=[0], samples=samples, residual_norm=[3.0])
    >>> fit_regression(acts, "tempo_bpm").best.scores.r2 > 0.9
    True
    """
    y, groups, asked = acts.labels(target), acts.groups, f"A regression on {target!r} was asked for"
    if y.dtype.kind != "f":
        raise ProbeError(asked, f"its values are text, such as {y[0]!r}", "Use fit_probes")
    if not np.isfinite(y).all():
        found = f"{(~np.isfinite(y)).sum()} samples have no such number"
        raise ProbeError(asked, found, "Leave them out with acts.subset")
    if np.ptp(y) == 0:
        raise DatasetError(asked, f"it is {y[0]:g} in every sample", "Use a number that varies")
    values = Recipe.of(1, "ridge", l2).l2
    cut = partial(crossval.number_folds, seed=seed)
    splits = cut(y, groups, folds=folds)
    truths = np.vstack([y, _shuffled_numbers(y, groups, splits, shuffles, seed)])
    parts = _nested(cut, y, groups, splits, len(values))
    fit = partial(_fit_numbers, columns=truths.T, values=values)
    finish = partial(_finish_numbers, acts, truths)
    fitted = _fit_layers(_Task(acts, target, site, parts, fit, finish), layers, threads, progress)
    probes, rows = zip(*fitted, strict=True)
    return NumberSweep(probes, pd.concat(rows, ignore_index=True))


def _fit_numbers(x: Array, fold: Fold, *, columns: Array, values: tuple[float, ...]) -> tuple[Fitted, Array]:
    """Return the probe of the first column of numbers (n, 1 + runs), and what those of the others read."""
    train, numbers = x[fold.train], (columns if len(fold.test) else columns[:, :1])[fold.train]
    errors = np.zeros((len(values), numbers.shape[1]))
    for kept, aside in fold.inner:
        path = ridge_path(Design.of(train[kept]), numbers[kept], values)
        errors += [((train[aside] @ weights.T + bias - numbers[aside]) ** 2).sum(0) for weights, bias in path]
    # Each column has its own l2, that of the least squared error; where nothing is set aside the middle one.
    chosen = errors.argmin(0) if errors.any() else np.full(numbers.shape[1], len(values) // 2)
    path, column = ridge_path(Design.of(train), numbers, values), np.arange(numbers.shape[1])
    weights, bias = (np.array(part)[chosen, column] for part in zip(*path, strict=True))
    readings = x[fold.test] @ weights[1:].T + bias[1:]
    return Fitted(weights[:1], bias[:1], values[chosen[0]]), readings


def _finish_numbers(acts: Activations, truths: Array, layer: _Layer) -> tuple[NumberProbe, pd.DataFrame]:
    """Return the probe of a layer with the scores of its held-out readings, and these as rows."""
    y, read, whole = truths[0], layer.judged.logits[:, 0], layer.whole
    values: dict[str, float] = {}
    for name, make in _FIGURES.items():
        figure = make(y, read)
        values[name] = stats.point_estimate(figure, len(y))
        values[f"{name}_low"], values[f"{name}_high"] = stats.interval(figure, acts.groups)
    runs = zip(truths[1:], layer.shuffled.T, strict=True)
    chance = np.array([stats.point_estimate(stats.r_squared(*run), len(y)) for run in runs])
    values["shuffled_mean"] = float(chance.mean()) if len(chance) else np.nan
    values["shuffled_low"], values["shuffled_high"] = stats.percentile_interval(chance)
    scores = NumberScores(**values, samples=len(y), groups=len(np.unique(acts.groups)))
    weights, bias, l2 = whole.weights[0], float(whole.bias[0]), float(whole.l2)
    probe = NumberProbe(weights=weights, bias=bias, l2=l2, scores=scores, **layer.notes)
    rows = {"layer": probe.layer, "clip": acts.clips, "group": acts.groups, "truth": y}
    return probe, pd.DataFrame(rows | {"predicted": read, "fold": layer.judged.fold})


def _shuffled_numbers(y: Array, groups: Array, splits: list[Split], runs: int, seed: int) -> Array:
    """Return (runs, n) numbers: within a fold every group takes another's, repeated or cut to its size."""
    rng = np.random.default_rng(seed)
    drawn = np.tile(y, (runs, 1))
    for _, test in splits:
        parts = [test[groups[test] == name] for name in np.unique(groups[test])]
        for run in drawn:
            for mine, theirs in zip(parts, rng.permutation(len(parts)), strict=True):
                run[mine] = np.resize(rng.permutation(y[parts[theirs]]), len(mine))
    return drawn
