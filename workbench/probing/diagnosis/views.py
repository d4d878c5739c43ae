"""Views of a probe that raise no alarm: layers, confusions, calibration, directions, readings over time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from sklearn.metrics import confusion_matrix

from workbench.activations import Activations
from workbench.errors import ProbeError, renamed_attribute, renamed_keywords
from workbench.probing.crossval import Split
from workbench.probing.diagnosis.evaluation import Diagnosis, ProbeEvaluation
from workbench.probing.probe import Probe, ProbeSweep
from workbench.probing.solvers import Design, one_hot, path_weights, regularization_paths
from workbench.stats import Estimate, jackknife, percentile_interval, rate_over_groups, sums_by_group
from workbench.steering import Direction, difference_in_means

Array = np.ndarray


@dataclass(frozen=True)
class Calibration(Diagnosis):
    """The reliability curve: whether 80 % are read rightly of the clips that a probe is 80 % sure of."""

    ece: float  # expected calibration error: mean distance of confidence and accuracy over clips, by bins
    expected: Estimate  # ECE of a perfectly calibrated probe with these confidences, in simulations
    excess: Estimate  # mean confidence minus accuracy: above 0 the probe is too sure
    bins: pd.DataFrame = field(repr=False, compare=False)

    def table(self) -> pd.DataFrame:
        """Return one row per filled bin: confidence, accuracy, low, high, clips."""
        return self.bins

    @property
    def effect(self) -> float:
        """ECE beyond what perfect calibration would show."""
        return self.ece - self.expected.value

    def _words(self, alarm: bool) -> str:
        verdict = "its confidences can be trusted"
        if self.ece > self.expected.high:
            side = "too sure" if self.excess.value > 0 else "not sure enough"
            verdict = f"the probe is {side} by {abs(self.excess.value):.2f}"
        return (
            f"At layer {self.layer} confidence and accuracy lie {self.ece:.2f} apart (ECE; perfect "
            f"calibration would show {self.expected}): {verdict}."
        )


def calibration(probed: ProbeEvaluation, *, bins: int = 10, draws: int = 500) -> Calibration:
    """Return the reliability curve of the held-out probabilities, in equal bins of confidence from 0 to 1."""
    sure, right = probed.probabilities.max(1), probed.correct.astype(np.float64)
    where = np.minimum((sure * bins).astype(int), bins - 1)

    def ece(hits: Array) -> float:  # sum over bins of |hits - summed confidence| / n
        return float(np.abs(np.bincount(where, weights=hits - sure, minlength=bins)).sum() / len(sure))

    # What a perfectly calibrated probe of these confidences would read rightly.
    simulated = np.random.default_rng(probed.seed).random((draws, len(sure))) < sure
    perfect = np.array([ece(one) for one in simulated])
    rows = []
    for inside in (where == one for one in np.unique(where)):
        rate = rate_over_groups(right[inside], probed.groups[inside])
        rows.append((float(sure[inside].mean()), rate.value, rate.low, rate.high, int(inside.sum())))
    table = pd.DataFrame(rows, columns=["confidence", "accuracy", "low", "high", "clips"])
    expected = Estimate(float(perfect.mean()), *percentile_interval(perfect))
    return Calibration(probed.target, probed.layer, ece(right), expected, probed.mean(sure - right), table)


@dataclass(frozen=True)
class Confusion(Diagnosis):
    """Counts of held-out samples, true class down, called class across."""

    counts: pd.DataFrame = field(compare=False)

    def table(self) -> pd.DataFrame:
        """Return one row per class: clips, recall, precision, f1, and the class it is most taken for."""
        counts = self.counts.to_numpy(dtype=float)
        hits, present, named = np.diag(counts), counts.sum(1), counts.sum(0)
        missed, names = counts - np.diag(hits), self.counts.index.to_numpy()
        precision = np.divide(hits, named, out=np.zeros_like(hits), where=named > 0)
        taken_for = np.where(missed.sum(1) > 0, names[missed.argmax(1)], "")
        columns = {"class": names, "clips": present.astype(int), "recall": hits / present}
        columns |= {"precision": precision, "f1": 2 * hits / (present + named), "taken_for": taken_for}
        return pd.DataFrame(columns)

    @property
    def worst(self) -> tuple[str, str, float]:
        """The pair that is confused most: true class, called class, share of the true class's clips."""
        shares = self.counts.div(self.counts.sum(axis=1), axis=0).to_numpy(copy=True)
        np.fill_diagonal(shares, 0.0)
        row, column = divmod(int(shares.argmax()), len(shares))
        return str(self.counts.index[row]), str(self.counts.columns[column]), float(shares[row, column])

    @property
    def effect(self) -> float:
        """Share of the worst pair."""
        return self.worst[2]

    def _words(self, alarm: bool) -> str:
        true, called, share = self.worst
        if share == 0:
            return f"At layer {self.layer} no {self.target} is taken for another."
        return f"At layer {self.layer}, {true} is misread most: {share:.0%} of its clips are called {called}."


def confusion(probed: ProbeEvaluation) -> Confusion:
    """Return which class is taken for which by probes that saw nothing of the clip's group."""
    names = list(probed.classes)
    counts = confusion_matrix(probed.y, probed.held_out.predicted, labels=range(len(names)))
    return Confusion(**probed.place, counts=pd.DataFrame(counts, index=names, columns=names))


@dataclass(frozen=True)
class AccuracyByLayer(Diagnosis):
    """The table of all layers (accuracy, macro-F1, intervals, chance lines); `layer` is the best of them."""

    rows: pd.DataFrame = field(repr=False, compare=False)

    def table(self) -> pd.DataFrame:
        """Return one row per layer."""
        return self.rows

    @property
    def _row(self) -> pd.Series[Any]:
        return self.rows[self.rows["layer"] == self.layer].iloc[0]

    @property
    def effect(self) -> float:
        """The best layer's accuracy above always naming the most frequent class."""
        return float(self._row["accuracy"] - self._row["chance"])

    def _words(self, alarm: bool) -> str:
        row = self._row
        measured = not np.isnan(row["shuffled_high"])
        shuffled = f", shuffled labels reach {row['shuffled_high']:.2f}" if measured else ""
        beaten = row["low"] > max(row["chance"], row["shuffled_high"] if measured else 0)
        verdict = f"the {self.target} can be read" if beaten else "it is not shown that it can be read"
        return (
            f"The {self.target} is read best at layer {self.layer}, with accuracy {row['accuracy']:.2f} "
            f"({row['low']:.2f} to {row['high']:.2f}) and macro-F1 {row['macro_f1']:.2f} over "
            f"{int(row['groups'])} held-out groups; always naming the commonest class gives "
            f"{row['chance']:.2f}{shuffled}: {verdict}."
        )


def accuracy_by_layer(sweep: ProbeSweep) -> AccuracyByLayer:
    """Return accuracy, macro-F1, intervals and chance lines of every layer of a sweep."""
    return AccuracyByLayer(sweep.best.target, sweep.best.layer, sweep.table())


@dataclass(frozen=True)
class DirectionStability(Diagnosis):
    """Cosines between the directions of a class that were found without one fold and without another.

    Training parts of two folds share most of their clips, so that even a direction of pure noise has a cosine
    of about 0.5 to 0.7 over five folds; what is meant by stable is 0.9 and more.
    """

    rows: pd.DataFrame = field(compare=False)

    def table(self) -> pd.DataFrame:
        """Return one row per layer and class: layer, class, cosine (mean over pairs of folds), lowest."""
        return self.rows

    @property
    def effect(self) -> float:
        """The lowest mean cosine of a class."""
        return float(self.rows["cosine"].min())

    def _words(self, alarm: bool) -> str:
        row = self.rows.iloc[int(self.rows["cosine"].to_numpy().argmin())]
        verdict = "stable" if row["cosine"] >= 0.9 else "unsure" if row["cosine"] >= 0.7 else "mostly noise"
        return (
            f"Over folds the {self.target} directions agree with cosine {self.rows['cosine'].mean():.2f}; "
            f"least {row['class']} at layer {row['layer']} with {row['cosine']:.2f}: {verdict}."
        )


def direction_stability(*evaluations: ProbeEvaluation) -> DirectionStability:
    """Return how well the folds of each evaluation agree on the direction of each class; one per layer."""
    rows = []
    for probed in evaluations:
        lengths = np.linalg.norm(probed.held_out.weights, axis=-1, keepdims=True)
        units, pairs = probed.held_out.weights / np.maximum(lengths, 1e-30), np.triu_indices(probed.folds, 1)
        for number, class_ in enumerate(probed.classes):
            cosines = (units[:, number] @ units[:, number].T)[pairs]
            rows.append((probed.layer, class_, float(cosines.mean()), float(cosines.min())))
    table = pd.DataFrame(rows, columns=["layer", "class", "cosine", "lowest"])
    return DirectionStability(**evaluations[0].place, rows=table)


def cosine_layers(sweep: ProbeSweep, class_: str) -> pd.DataFrame:
    """Return the cosines (layers x layers) between the directions of a class; neighbours are alike."""
    return _cosines({str(probe.layer): probe.direction(class_) for probe in sweep})


def cosine_classes(sweep: ProbeSweep, layer: int | None = None) -> pd.DataFrame:
    """Return cosines (k x k) between classes at a layer (default: the best); -1 / (k - 1) is unrelated."""
    return _cosines(sweep.directions(layer))


def _cosines(directions: Mapping[str, Direction]) -> pd.DataFrame:
    units = np.stack([one.vector for one in directions.values()])
    return pd.DataFrame(units @ units.T, index=list(directions), columns=list(directions))


@dataclass(frozen=True, eq=False)
class ScoreOverTime(Diagnosis):
    """P(class) along each clip: what a probe says of each frame or window."""

    clips: tuple[str, ...]  # ids (n,)
    classes: tuple[str, ...]  # names (k,)
    seconds: Array  # where each frame or window starts (n, t); NaN behind a clip's end
    probabilities: Array  # (n, t, k), NaN likewise

    def table(self, clip: str | None = None) -> pd.DataFrame:
        """Return one row per clip and moment: clip, seconds, and P of each class in a column of its name."""
        if clip is not None:
            ProbeError.among(clip, self.clips, "The clip", do="Use one of .clips")
        chosen = np.array([clip is None or one == clip for one in self.clips])
        rows, moments = np.nonzero(np.isfinite(self.seconds) & chosen[:, None])
        table = pd.DataFrame(self.probabilities[rows, moments], columns=list(self.classes))
        table.insert(0, "seconds", self.seconds[rows, moments])
        table.insert(0, "clip", np.array(self.clips)[rows])
        return table

    @property
    def effect(self) -> float:
        """Share of moments at which the class that leads is not the one that leads over the whole clip."""
        inside = np.isfinite(self.seconds)
        leads = np.where(inside, np.nan_to_num(self.probabilities).argmax(2), -1)
        whole = np.nanmean(self.probabilities, axis=1).argmax(1)
        return float((leads != whole[:, None])[inside].mean())

    def _words(self, alarm: bool) -> str:
        return (
            f"Over {len(self.clips)} clips the probe of layer {self.layer} names, at {self.effect:.0%} of "
            f"the moments, another {self.target} than over the whole clip."
        )


def score_over_time(acts: Activations, probe: Probe) -> ScoreOverTime:
    """Return what a probe says along each clip.

    The activations keep their frames (capture with pool=None), or windows (coordinate `start_s`); ProbeError
    where they are pooled over whole clips. Single frames are noisier than the averages of the probe's fit.
    """
    if acts.per_frame:
        clips, seconds, x = _frames(acts, probe)
    elif "start_s" in acts.data.coords:
        clips, seconds, x = _windows(acts, probe)
    else:
        found = "these activations are pooled over whole clips"
        do = "Capture with pool=None or with window_seconds=1.0"
        raise ProbeError("Scores over time were asked for", found, do)
    inside = np.isfinite(seconds)
    shares = np.full((*seconds.shape, len(probe.classes)), np.nan)
    shares[inside] = probe.predict_proba(x[inside])
    return ScoreOverTime(probe.target, probe.layer, clips, probe.classes, seconds, shares)


def _frames(acts: Activations, probe: Probe) -> tuple[tuple[str, ...], Array, Array]:
    """Return clips (n,), seconds (n, t) and activations (n, t, d) of frames."""
    x = acts.frames(probe.layer, site=probe.site)
    rate_hz = float(acts.data.attrs.get("frame_rate_hz", 0))
    if rate_hz <= 0:
        found = "the activations do not say how many frames a second has"
        raise ProbeError("Scores in seconds were asked for", found, "Set the attribute frame_rate_hz")
    seconds = np.where(np.isfinite(x).all(2), np.arange(x.shape[1])[None] / rate_hz, np.nan)
    return tuple(acts.clips.tolist()), seconds, x


def _windows(acts: Activations, probe: Probe) -> tuple[tuple[str, ...], Array, Array]:
    """Return the same of windows, which are samples of their own, in order of time within each clip."""
    x, start_s = acts.matrix(probe.layer, site=probe.site), acts.coordinate("start_s").astype(float)
    row, clips = pd.factorize(acts.clips)
    place = pd.Series(start_s).groupby(row).rank(method="first").to_numpy(dtype=int) - 1
    seconds = np.full((len(clips), place.max() + 1), np.nan)
    stacked = np.zeros((*seconds.shape, x.shape[1]))
    seconds[row, place], stacked[row, place] = start_s, x
    return tuple(clips.tolist()), seconds, stacked


STEPS = (*(10.0 ** (half / 2) for half in range(-8, 9)), math.inf)
"""Half-decades of the penalty per sample, and the limit."""


@dataclass(frozen=True, eq=False)
class RidgeToMeans:
    """The regularization paths of all classes of one layer: per class, a value at each penalty.

    Accuracy is the held-out share of clips that the direction alone puts on the right side of the middle
    between the means of class and rest, both counted alike: it has no bias and no scale, as in steering.
    """

    target: str
    layer: int
    unit: str
    l2: tuple[float, ...]  # in rising order; math.inf: the difference in means of standardised features
    directions: Mapping[str, tuple[Direction, ...]] = field(repr=False)
    to_probe: Mapping[str, tuple[float, ...]] = field(repr=False)  # cosines to the weight of the probe
    to_means: Mapping[str, tuple[float, ...]] = field(repr=False)  # to the raw difference in means
    accuracy: Mapping[str, tuple[Estimate, ...]] = field(repr=False)

    strengths = renamed_attribute("strengths", "l2")
    chance: ClassVar[float] = 0.5  # the accuracy of a direction that has nothing to do with the class

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes, in rising order."""
        return tuple(self.directions)

    @property
    def labels(self) -> tuple[str, ...]:
        """The penalties as text, to two digits."""
        return tuple("∞" if math.isinf(one) else f"{float(f'{one:.2g}'):g}" for one in self.l2)

    def direction(self, class_: str, l2: float) -> Direction:
        """Return the direction of a class at a penalty of the path; raise ProbeError for any other."""
        place = self._place(class_, l2)
        return self.directions[class_][place]

    def table(self) -> pd.DataFrame:
        """Return one row per class and penalty: cosines to probe and means, accuracy with its interval."""
        rows = []
        for class_, rates in self.accuracy.items():
            own = zip(self.l2, self.to_probe[class_], self.to_means[class_], rates, strict=True)
            rows += [(class_, *values, rate.value, rate.low, rate.high) for *values, rate in own]
        columns = ["class", "l2", "to_probe", "to_means", "accuracy", "low", "high"]
        return pd.DataFrame(rows, columns=columns)

    def sentence(self, class_: str, l2: float) -> str:
        """Return what is known of a class's direction at a penalty, with its numbers."""
        place = self._place(class_, l2)
        right = self.accuracy[class_][place]
        probe, means = self.to_probe[class_][place], self.to_means[class_][place]
        return (
            f"At λ = {self.labels[place]} the {class_} direction of layer {self.layer} has a cosine of "
            f"{probe:.2f} to the probe's weight and {means:.2f} to the difference in means; alone it puts "
            f"{right.value:.0%} ({right.low:.0%} to {right.high:.0%}) of the clips of new {self.unit}s on "
            f"the right side of {class_} and the rest (chance {self.chance:.0%})."
        )

    def _place(self, class_: str, l2: float) -> int:
        """Return the position of a penalty; raise ProbeError where it or the class is not there."""
        ProbeError.among(class_, self.classes, "A direction of")
        if l2 not in self.l2:
            found = f"the path has {', '.join(f'{one:g}' for one in self.l2)}"
            raise ProbeError.lookup(f"The penalty l2={l2:g} was asked for", found, "Use one of those")
        return self.l2.index(l2)


@renamed_keywords(strengths="l2")
def ridge_to_means(
    acts: Activations, probed: ProbeEvaluation, probe: Probe, *, l2: Sequence[float] = STEPS
) -> RidgeToMeans:
    """Return the paths of every class at one layer, each with the cosines to the direction of `probe`.

    A small penalty sets features that vary together against one another; a large one only looks at how far
    the class means lie apart. One decomposition per fold serves all penalties (`regularization_path`, whose
    errors it has). SteeringError where a class's direction has no length.
    """
    steps = tuple(sorted(float(one) for one in l2))
    where = {"target": probed.target, "site": probed.site}
    paths = regularization_paths(acts, probed.layer, steps, **where)
    means = {name: difference_in_means(acts, name, layer=probed.layer, **where) for name in probed.classes}

    def cosines(goals: Mapping[str, Direction]) -> dict[str, tuple[float, ...]]:
        return {name: tuple(one.cosine(goals[name]) for one in path) for name, path in paths.items()}

    return RidgeToMeans(
        **probed.place, unit=probed.unit, l2=steps, directions=paths,
        to_probe=cosines({name: probe.direction(name) for name in probed.classes}),
        to_means=cosines(means), accuracy=_accuracy(probed, steps),
    )  # fmt: skip


def _accuracy(probed: ProbeEvaluation, l2: tuple[float, ...]) -> dict[str, tuple[Estimate, ...]]:
    def both_sides(total: Array) -> float:  # the mean of the shares of class and of rest that lie rightly
        return float((total[:2] / total[2:]).mean()) if (total[2:] > 0).all() else math.nan

    truth = one_hot(probed.y, len(probed.classes))
    right = np.empty((len(truth), len(l2), len(probed.classes)))
    for split in probed.splits:
        right[split[1]] = _right(probed.x, truth, split, l2)
    accuracy = {}
    for number, class_ in enumerate(probed.classes):
        sides = np.stack([truth[:, number], 1 - truth[:, number]], 1)
        columns = [np.hstack([sides * hits[:, None], sides]) for hits in right[:, :, number].T]
        rates = [jackknife(both_sides, sums_by_group(one, probed.groups)) for one in columns]
        accuracy[class_] = tuple(Estimate(one.value, max(one.low, 0.0), min(one.high, 1.0)) for one in rates)
    return accuracy


def _right(x: Array, truth: Array, split: Split, l2: tuple[float, ...]) -> Array:
    """Return 1 where a tested clip lies on the right side (test, penalties, classes), else 0."""
    train, test = split
    weights = path_weights(Design.of(x[train]), truth[train], l2)
    inside = truth[train] / truth[train].sum(0)
    outside = (1 - truth[train]) / (1 - truth[train]).sum(0)
    # The cut lies half-way between the means of class and rest (classes, d), along each direction.
    middle = (inside + outside).T @ x[train] / 2
    cut = np.einsum("skd,kd->sk", weights, middle)
    named = np.einsum("nd,skd->nsk", x[test], weights, optimize=True) > cut
    return np.asarray(named == truth[test][:, None].astype(bool), dtype=np.float64)
