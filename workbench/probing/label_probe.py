"""Linear probes for labels of which a clip may have several, and those of all layers side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
from scipy.special import expit

from workbench.errors import ProbeError
from workbench.probing.gating import one_sided
from workbench.probing.layered import Layered
from workbench.probing.linear import LinearProbe
from workbench.steering import Direction, Gate, ReadOut

Array = np.ndarray


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
