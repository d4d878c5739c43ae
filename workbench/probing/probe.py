"""One linear probe: what reads a class from the residual stream of one layer, and what it is worth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from scipy.special import expit

from workbench.errors import ProbeError
from workbench.probing.linear import Layered, LinearProbe, one_sided
from workbench.probing.solvers import probabilities
from workbench.stats import Scores
from workbench.steering import Direction, Gate, ReadOut

if TYPE_CHECKING:
    pass

Array = np.ndarray


@dataclass(frozen=True, eq=False, kw_only=True)
class Probe(LinearProbe):
    """A linear probe in raw residual space: logits = x W' + b, the scaling of features folded back in.

    weights   (classes, d), float64, read-only; `bias` (classes,); `mean` (d,) is the average of the training
              samples
    strength  the L2 penalty that was chosen (solvers.py)
    scores    held-out figures of the same recipe (this probe itself is fitted on all samples)
    """

    classes: tuple[str, ...]
    bias: Array
    method: str
    strength: float
    scores: Scores

    kind: ClassVar[str] = "probe"
    tensors: ClassVar[tuple[str, ...]] = ("weights", "bias", "mean")
    scores_type: ClassVar[type[Scores]] = Scores

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(self.classes))
        super().__post_init__()

    @property
    def rows(self) -> tuple[int, ...]:
        """(classes,)."""
        return (len(self.classes),)

    @property
    def accuracy(self) -> float:
        """Held-out accuracy."""
        return self.scores.accuracy

    def logits(self, x: Array) -> Array:
        """Return the logits (..., classes) of residuals (..., d)."""
        return self.read(x)

    def predict(self, x: Array) -> Array:
        """Return the most likely class (...) of residuals (..., d)."""
        return np.asarray(np.array(self.classes)[self.logits(x).argmax(-1)])

    def predict_proba(self, x: Array) -> Array:
        """Return P(class) (..., classes) of residuals (..., d); `solvers.probabilities` says how."""
        return probabilities(self.logits(x), self.method)

    def direction(self, class_: str) -> Direction:
        """Return the unit direction along which the logit of `class_` rises fastest, named as the class."""
        if class_ not in self.classes:
            raise ProbeError(
                f"A direction of {class_!r} was asked for",
                f"the probe knows {', '.join(self.classes)}",
                "Use one of those classes",
            )
        method, accuracy = f"probe weight, {self.method}", f"{self.scores.accuracy:.4f}"
        weights = self.weights[self.classes.index(class_)]
        return self.along(weights, class_, {"method": method, "accuracy": accuracy})

    def read_out(self) -> ReadOut:
        """Return what reads, as the plain value that a plan's gates are made of."""
        link = "shares" if self.method == "ridge" else "softmax"
        place = {"site": self.site, "target": self.target, "model_id": self.model_id}
        return ReadOut(self.classes, self.weights, self.bias, self.layer, link=link, **place)

    def gate(
        self, class_: str, *, below: float | None = None, above: float | None = None, over: float = 1.0
    ) -> Gate:
        """Return the gate that lets steering through while P(class) reads below (or above) a threshold.

        over  how many seconds of readings are averaged
        Raises ProbeError unless one threshold is given, SteeringError for a class that is not known.
        """
        return one_sided(self.read_out(), class_, below, above, over)


# Linear probes for labels of which a clip may have several, and those of all layers side by side.


@dataclass(frozen=True, eq=False)
class LabelScores:
    """Held-out figures of the probes of one layer, with 95 % intervals from drawing whole groups.

    macro_f1, f1_low, f1_high                        mean over labels of F1, a label named where its logit is
                                                     above 0
    average_precision, precision_low, precision_high  mean over labels of average precision (no threshold)
    chance                                           mean share of samples that have a label: the average
                                                     precision of a random order
    of_label                                         one row per label: label, f1, average_precision, share,
                                                     groups (that have it)
    samples, groups                                  how many were judged
    """

    macro_f1: float
    f1_low: float
    f1_high: float
    average_precision: float
    precision_low: float
    precision_high: float
    chance: float
    of_label: pd.DataFrame
    samples: int
    groups: int


@dataclass(frozen=True, eq=False, kw_only=True)
class LabelProbe(LinearProbe):
    """One linear probe per label in raw residual space, each label against its absence: logits = x W' + b.

    weights    (labels, d), float64, read-only; `bias` (labels,); `mean` (d,) of the training samples
    strengths  (labels,) the L2 penalty that was chosen for each label (solvers.py)
    scores     held-out figures of the same recipe (these probes themselves are fitted on all samples)
    """

    labels: tuple[str, ...]
    bias: Array
    strengths: Array
    method: str
    scores: LabelScores

    kind: ClassVar[str] = "label probe"
    tensors: ClassVar[tuple[str, ...]] = ("weights", "bias", "mean", "strengths")
    scores_type: ClassVar[type[LabelScores]] = LabelScores

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", tuple(self.labels))
        super().__post_init__()

    @property
    def rows(self) -> tuple[int, ...]:
        """(labels,)."""
        return (len(self.labels),)

    @property
    def classes(self) -> tuple[str, ...]:
        """The labels: what `generate(probes=...)` and live sessions call the names of what is told apart."""
        return self.labels

    def logits(self, x: Array) -> Array:
        """Return the logit (..., labels) of each label for residuals (..., d); above 0: it has the label."""
        return self.read(x)

    def predict(self, x: Array) -> Array:
        """Return whether residuals (..., d) have each label (..., labels)."""
        return np.asarray(self.logits(x) > 0)

    def predict_proba(self, x: Array) -> Array:
        """Return P(label) (..., labels) of residuals (..., d), each label against its absence.

        Logistic, means: the sigmoid of the logit. Ridge fits 1 and 0 directly, and its logit is their
        difference: (1 + logit) / 2, cut to 0-1.
        """
        logits = self.logits(x)
        if self.method == "ridge":
            return np.asarray(np.clip((1 + logits) / 2, 0, 1))
        return np.asarray(expit(logits))

    def read_out(self) -> ReadOut:
        """Return what reads, as the plain value that a plan's gates are made of."""
        place = {"site": self.site, "target": self.target, "model_id": self.model_id}
        if self.method == "ridge":
            return ReadOut(
                self.labels, self.weights / 2, (1 + self.bias) / 2, self.layer, link="cut", **place
            )
        return ReadOut(self.labels, self.weights, self.bias, self.layer, link="sigmoid", **place)

    def gate(
        self, label: str, *, below: float | None = None, above: float | None = None, over: float = 1.0
    ) -> Gate:
        """Return the gate that lets steering through while P(label) reads below (or above) a threshold.

        over  how many seconds of readings are averaged
        Raises ProbeError unless one threshold is given, SteeringError for a label that is not known.
        """
        return one_sided(self.read_out(), label, below, above, over)

    def direction(self, label: str) -> Direction:
        """Return the unit direction along which the logit of `label` rises fastest, named as the label."""
        if label not in self.labels:
            raise ProbeError(
                f"A direction of {label!r} was asked for",
                f"the probes know {', '.join(self.labels)}",
                "Use one of those labels",
            )
        origin = {
            "method": f"probe weight, {self.method}, one label against its absence",
            "average_precision": f"{self.scores.average_precision:.4f}",
        }
        return self.along(self.weights[self.labels.index(label)], label, origin)


@dataclass(frozen=True, eq=False)
class LabelSweep(Layered[LabelProbe]):
    """The probes of all labels per layer, in the order of layers.

    held    (n, labels) whether a sample has a label
    logits  (layers, n, labels), each by a probe that saw nothing of the sample's group
    fold    (n,) the fold that judged each sample
    """

    held: Array
    logits: Array
    fold: Array

    probe_type: ClassVar[type[LabelProbe]] = LabelProbe

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that are read, in rising order."""
        return self.probes[0].labels

    @property
    def best(self) -> LabelProbe:
        """The probes of the layer with the highest mean average precision, the earliest of equals."""
        return max(self.probes, key=lambda probe: probe.scores.average_precision)

    def table(self) -> pd.DataFrame:
        """Return one row per layer: all scores but those of single labels."""
        rows = []
        for probe in self.probes:
            scores = {name: value for name, value in vars(probe.scores).items() if name != "of_label"}
            rows.append({"layer": probe.layer, **scores, "method": probe.method})
        return pd.DataFrame(rows)


# A linear probe for a number, such as tempo or loudness, and the probes of all layers side by side.


@dataclass(frozen=True)
class NumberScores:
    """Held-out figures of a probe for a number, with 95 % intervals from drawing whole groups.

    r2, r2_low, r2_high                         1: read exactly; 0: no better than the mean; may be below
    error, error_low, error_high                mean absolute error, in the unit of the number
    rank, rank_low, rank_high                   Spearman's correlation of truth and reading
    shuffled_mean, shuffled_low, shuffled_high  R2 of the same probing with shuffled numbers: mean, 2.5 % and
                                                97.5 % of the runs (NaN without runs)
    samples, groups                             how many were judged
    """

    r2: float
    r2_low: float
    r2_high: float
    error: float
    error_low: float
    error_high: float
    rank: float
    rank_low: float
    rank_high: float
    shuffled_mean: float
    shuffled_low: float
    shuffled_high: float
    samples: int
    groups: int


@dataclass(frozen=True, eq=False, kw_only=True)
class NumberProbe(LinearProbe):
    """A linear probe for a number in raw residual space: reading = x w + b.

    weights   (d,) float64, read-only; `mean` (d,) is the average of the training samples
    strength  the L2 penalty that was chosen (solvers.py)
    scores    held-out figures of the same recipe (this probe itself is fitted on all samples)
    """

    bias: float
    strength: float
    scores: NumberScores

    kind: ClassVar[str] = "number probe"
    tensors: ClassVar[tuple[str, ...]] = ("weights", "mean")
    scores_type: ClassVar[type[NumberScores]] = NumberScores

    @property
    def rows(self) -> tuple[int, ...]:
        """(): one number."""
        return ()

    def predict(self, x: Array) -> Array:
        """Return the reading (...) of residuals (..., d), in the unit of the number."""
        return self.read(x)

    def direction(self) -> Direction:
        """Return the unit direction along which the reading rises fastest, named as the number."""
        origin = {"method": "probe weight, ridge on a number", "r2": f"{self.scores.r2:.4f}"}
        return self.along(self.weights, self.target, origin)


@dataclass(frozen=True, eq=False)
class NumberSweep(Layered[NumberProbe]):
    """One probe for a number per layer, in the order of layers.

    held_out  one row per layer and sample: layer, clip, group, truth, predicted, fold; every row by a probe
              that saw nothing of the sample's group
    """

    held_out: pd.DataFrame

    probe_type: ClassVar[type[NumberProbe]] = NumberProbe

    @property
    def target(self) -> str:
        """The number that is read."""
        return self.probes[0].target

    @property
    def best(self) -> NumberProbe:
        """The probe with the highest held-out R2, the earliest of equals."""
        return max(self.probes, key=lambda probe: probe.scores.r2)

    def table(self) -> pd.DataFrame:
        """Return one row per layer: all scores, and the strength."""
        rows = [
            {"layer": probe.layer, **vars(probe.scores), "strength": probe.strength} for probe in self.probes
        ]
        return pd.DataFrame(rows)


# The probes of all layers side by side: which layer reads best, by how much, and where it errs.


@dataclass(frozen=True, eq=False)
class ProbeSweep(Layered[Probe]):
    """One probe per layer, in the order of layers.

    held_out  one row per layer and sample: layer, clip, group, truth, predicted, confidence (probability
              given to the true class), fold; every row by a probe that saw nothing of the sample's group
    logits    (layers, n, classes) of the same probes, samples in the order of the activations
    """

    held_out: pd.DataFrame
    logits: np.ndarray

    probe_type: ClassVar[type[Probe]] = Probe

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that all probes tell apart."""
        return self.probes[0].classes

    @property
    def target(self) -> str:
        """The label that is read."""
        return self.probes[0].target

    @property
    def method(self) -> str:
        """The solver of all probes."""
        return self.probes[0].method

    @property
    def best(self) -> Probe:
        """The probe with the highest held-out accuracy, the earliest of equals.

        Its accuracy is the highest of several, hence a little too good; where that matters, choose the layer
        on one set of clips and quote the accuracy on another.
        """
        return max(self.probes, key=lambda probe: probe.scores.accuracy)

    def table(self) -> pd.DataFrame:
        """Return one row per layer: accuracy with 95 % interval, macro-F1, chance lines, strength, counts."""
        rows = []
        for probe in self.probes:
            found = probe.scores
            row: dict[str, float | int | str] = {"layer": probe.layer}
            row |= {name: getattr(found, name) for name in ("accuracy", "low", "high", "macro_f1", "chance")}
            row |= {name: getattr(found, name) for name in ("shuffled_mean", "shuffled_low", "shuffled_high")}
            row |= {
                "n": found.samples,
                "groups": found.groups,
                "method": probe.method,
                "strength": probe.strength,
            }
            rows.append(row)
        return pd.DataFrame(rows)

    def directions(self, layer: int | None = None) -> dict[str, Direction]:
        """Return the unit direction of every class at `layer` (default: the best layer), by class."""
        probe = self.best if layer is None else self[layer]
        return {class_: probe.direction(class_) for class_ in probe.classes}

    def plot(self) -> Any:
        """Return the figure of accuracy per layer, with chance and the band of shuffled labels."""
        from workbench.show.plots.probing import accuracy_per_layer

        return accuracy_per_layer(self.table(), target=self.target)

    def confusion(self, layer: int | None = None) -> pd.DataFrame:
        """Return counts of held-out samples: true class down, predicted across (default: best layer)."""
        probe = self.best if layer is None else self[layer]
        rows = self.held_out[self.held_out["layer"] == probe.layer]
        counts = pd.crosstab(rows["truth"], rows["predicted"])
        classes = list(probe.classes)
        return counts.reindex(index=classes, columns=classes, fill_value=0)
