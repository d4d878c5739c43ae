"""The three kinds of linear probe, what each is worth, and the probes of all layers side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from scipy.special import expit

from workbench.errors import ProbeError, renamed_attribute
from workbench.probing.linear import Layered, LinearProbe
from workbench.probing.solvers import BUILT_IN, PROBE_METHODS, probabilities
from workbench.sound.dataset import as_text
from workbench.stats import Scores
from workbench.steering import Direction, Gate, ReadOut

Array = np.ndarray


@dataclass(frozen=True, eq=False, kw_only=True)
class NamedProbe(LinearProbe):
    """What probes of classes and of labels share: one row of weights per name."""

    bias: Array
    method: str  # the name of what fitted it
    link: str = ""  # how logits become probabilities (solvers.py); a built-in method has its own

    naming: ClassVar[str] = "classes"  # the attribute that names the rows
    against: ClassVar[str] = ""
    tensors: ClassVar[tuple[str, ...]] = ("weights", "bias", "mean")

    def __post_init__(self) -> None:
        link = PROBE_METHODS[self.method].link if self.method in BUILT_IN else self.link or "softmax"
        object.__setattr__(self, "link", link)
        object.__setattr__(self, self.naming, tuple(getattr(self, self.naming)))
        super().__post_init__()

    @property
    def names(self) -> tuple[str, ...]:
        """What the rows are called: classes, or labels."""
        return tuple(getattr(self, self.naming))

    def logits(self, x: Array) -> Array:
        """Return the logits (..., classes) of residuals (..., d)."""
        return self.read(x)

    def read_out(self) -> ReadOut:
        """Return what reads, as the plain value that a plan's gates are made of."""
        weights, bias, link = self._reading()
        place = {"site": self.site, "target": self.target, "model_id": self.model_id}
        return ReadOut(self.names, weights, bias, self.layer, link=link, **place)

    def _reading(self) -> tuple[Array, Array, str]:
        return self.weights, self.bias, self.link

    def gate(
        self, class_: str, *, below: float | None = None, above: float | None = None, over: float = 1.0
    ) -> Gate:
        """Return the gate that lets steering through while P(class), over `over` seconds, is below or above.

        ProbeError where none or both thresholds are given, SteeringError where the class is unknown.
        """
        if (below is None) == (above is None):
            found = f"below={below} and above={above} were given"
            raise ProbeError(f"A gate on {class_!r} was asked for", found, "Give one of both")
        side, threshold = ("below", below) if above is None else ("above", above)
        return Gate(self.read_out(), class_, side, threshold, over)  # type: ignore[arg-type]

    def direction(self, class_: str) -> Direction:
        """Return the unit direction along which the logit of a class rises fastest; ProbeError for others."""
        ProbeError.among(class_, self.names, "A direction of", held="the probe knows")
        method = f"probe weight, {self.method}{self.against}"
        origin = {"method": method, self.figures[0]: f"{self.headline[0]:.4f}"}
        return self.along(self.weights[self.names.index(class_)], class_, origin)

    def _record(self) -> dict[str, Any]:
        record = super()._record()
        if self.method in BUILT_IN:
            del record["link"]
        return record


@dataclass(frozen=True, eq=False, kw_only=True)
class Probe(NamedProbe):
    """A linear probe of classes in raw residual space: logits = x W' + b, with scikit-learn's attributes.

    >>> scores = Scores(0.9, 0.8, 1.0, 0.9, 0.5, 0.5, 0.4, 0.6, 40, 10)
    >>> place = {"layer": 3, "site": "resid_post", "target": "genre", "residual_norm": 20.0}
    >>> names = {"classes": ("jazz", "rock"), "method": "ridge", "l2": 1.0}
    >>> arrays = {"weights": [[1.0, 0.0], [0.0, 1.0]], "bias": [0.0, 0.0], "mean": [0.5, 0.5]}
    >>> Probe(**arrays, **names, **place, scores=scores).predict([[0.9, 0.1]])
    array(['jazz'], dtype='<U4')
    """

    classes: tuple[str, ...]  # in rising order, as the rows of weights (classes, d)
    l2: float  # the penalty that was chosen (solvers.py); NaN for a method without one
    scores: Scores

    strength = renamed_attribute("strength", "l2")
    kind: ClassVar[str] = "probe"
    scores_type: ClassVar[type[Scores]] = Scores
    axis: ClassVar[str] = "held-out accuracy"
    figures: ClassVar[tuple[str, str, str]] = ("accuracy", "low", "high")

    @property
    def accuracy(self) -> float:
        """Held-out accuracy."""
        return self.scores.accuracy

    @property
    def classes_(self) -> Array:
        """The classes as an array, as scikit-learn calls them."""
        return np.array(self.classes)

    @property
    def coef_(self) -> Array:
        """The weights (classes, d); for two classes the second less the first (1, d), as in scikit-learn."""
        return self.weights if len(self.classes) > 2 else self.weights[1:] - self.weights[:-1]

    @property
    def intercept_(self) -> Array:
        """The bias (classes,); (1,) for two classes."""
        return self.bias if len(self.classes) > 2 else self.bias[1:] - self.bias[:-1]

    def decision_function(self, x: Array) -> Array:
        """Return x coef_' + intercept_ (n, classes) of residuals (n, d); (n,) for two classes."""
        logits = self.logits(x)
        return logits if len(self.classes) > 2 else logits[..., -1] - logits[..., 0]

    def predict(self, x: Array) -> Array:
        """Return the most likely class (...) of residuals (..., d)."""
        return np.asarray(self.classes_[self.logits(x).argmax(-1)])

    def predict_proba(self, x: Array) -> Array:
        """Return P(class) (..., classes) of residuals (..., d); `solvers.probabilities` says how."""
        return probabilities(self.logits(x), self.link)

    def score(self, x: Array, y: Array) -> float:
        """Return the share of residuals (n, d) that are predicted as `y` (n,) says; `scores` is held out."""
        return float(np.mean(self.predict(x) == as_text(y)))

    def summary(self) -> dict[str, Any]:
        """Return accuracy with its interval, macro-F1, chance lines, counts, method and l2."""
        return {"n" if name == "samples" else name: value for name, value in super().summary().items()}


@dataclass(frozen=True, eq=False)
class ProbeSweep(Layered[Probe]):
    """One probe per layer, in the order of layers, and what they read of groups that they had not seen."""

    held_out: pd.DataFrame  # layer, clip, group, truth, predicted, confidence (P of the truth), fold
    logits: np.ndarray  # of the same probes (layers, n, classes), samples in the order of the activations

    probe_type: ClassVar[type[Probe]] = Probe

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that all probes tell apart."""
        return self.probes[0].classes

    @property
    def method(self) -> str:
        """The method of all probes."""
        return self.probes[0].method

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


@dataclass(frozen=True, eq=False)
class LabelScores:
    """Held-out figures of the probes of one layer, with 95 % intervals from drawing whole groups."""

    macro_f1: float  # mean over labels of F1, a label named where its logit is above 0
    f1_low: float
    f1_high: float
    average_precision: float  # mean over labels, no threshold
    precision_low: float
    precision_high: float
    chance: float  # mean share of samples that have a label: the average precision of a random order
    of_label: pd.DataFrame  # label, f1, average_precision, share, groups that have it
    samples: int
    groups: int


@dataclass(frozen=True, eq=False, kw_only=True)
class LabelProbe(NamedProbe):
    """One linear probe per label in raw residual space, each label against its absence: logits = x W' + b."""

    labels: tuple[str, ...]  # in rising order, as the rows of weights (labels, d)
    l2: Array  # the penalty that was chosen for each label (labels,)
    scores: LabelScores

    strengths = renamed_attribute("strengths", "l2")
    kind: ClassVar[str] = "label probe"
    tensors: ClassVar[tuple[str, ...]] = ("weights", "bias", "mean", "l2")
    scores_type: ClassVar[type[LabelScores]] = LabelScores
    saved_as: ClassVar[Mapping[str, str]] = {"l2": "strengths"}
    axis: ClassVar[str] = "held-out average precision"
    figures: ClassVar[tuple[str, str, str]] = ("average_precision", "precision_low", "precision_high")
    naming: ClassVar[str] = "labels"
    against: ClassVar[str] = ", one label against its absence"

    @property
    def classes(self) -> tuple[str, ...]:
        """The labels: what `generate(probes=...)` and live sessions show."""
        return self.labels

    def predict(self, x: Array) -> Array:
        """Return whether residuals (..., d) have each label (..., labels): whether its logit is above 0."""
        return np.asarray(self.logits(x) > 0)

    def predict_proba(self, x: Array) -> Array:
        """Return P(label) (..., labels) of residuals (..., d), each label against its absence."""
        logits = self.logits(x)  # those of "shares", such as ridge, are a difference of shares, from -1 to 1
        return np.asarray(np.clip((1 + logits) / 2, 0, 1) if self.link == "shares" else expit(logits))

    def _reading(self) -> tuple[Array, Array, str]:
        if self.link == "shares":
            return self.weights / 2, (1 + self.bias) / 2, "cut"
        return self.weights, self.bias, "sigmoid"

    def _bars(self) -> dict[str, tuple[float, float, float]]:
        rows = self.scores.of_label[["label", "average_precision"]].itertuples(index=False)
        return {"mean of labels": self.headline, **{name: (one, one, one) for name, one in rows}}


@dataclass(frozen=True, eq=False)
class LabelSweep(Layered[LabelProbe]):
    """The probes of all labels per layer, in the order of layers."""

    present: Array  # whether a sample has a label (n, labels)
    logits: Array  # (layers, n, labels), each by a probe that saw nothing of the sample's group
    fold: Array  # the fold that judged each sample (n,)

    held = renamed_attribute("held", "present")
    probe_type: ClassVar[type[LabelProbe]] = LabelProbe
    saved_as: ClassVar[Mapping[str, str]] = {"present": "held"}

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that are read, in rising order."""
        return self.probes[0].labels


@dataclass(frozen=True)
class NumberScores:
    """Held-out figures of a probe for a number, with 95 % intervals from drawing whole groups."""

    r2: float  # 1: read exactly; 0: no better than the mean; may be below
    r2_low: float
    r2_high: float
    error: float  # mean absolute error, in the unit of the number
    error_low: float
    error_high: float
    rank: float  # Spearman's correlation of truth and reading
    rank_low: float
    rank_high: float
    shuffled_mean: float  # R2 of the same probing with shuffled numbers, 2.5 % and 97.5 % of the runs
    shuffled_low: float
    shuffled_high: float
    samples: int
    groups: int


@dataclass(frozen=True, eq=False, kw_only=True)
class NumberProbe(LinearProbe):
    """A linear probe for a number in raw residual space: reading = x w + b, with w (d,), by ridge of `l2`."""

    bias: float
    l2: float
    scores: NumberScores

    strength = renamed_attribute("strength", "l2")
    kind: ClassVar[str] = "number probe"
    tensors: ClassVar[tuple[str, ...]] = ("weights", "mean")
    scores_type: ClassVar[type[NumberScores]] = NumberScores
    axis: ClassVar[str] = "held-out R² (share of the variance that is read)"
    figures: ClassVar[tuple[str, str, str]] = ("r2", "r2_low", "r2_high")

    def predict(self, x: Array) -> Array:
        """Return the reading (...) of residuals (..., d), in the unit of the number."""
        return self.read(x)

    def direction(self) -> Direction:
        """Return the unit direction along which the reading rises fastest, named as the number."""
        origin = {"method": "probe weight, ridge on a number", "r2": f"{self.scores.r2:.4f}"}
        return self.along(self.weights, self.target, origin)


@dataclass(frozen=True, eq=False)
class NumberSweep(Layered[NumberProbe]):
    """One probe for a number per layer, in the order of layers."""

    held_out: pd.DataFrame  # layer, clip, group, truth, predicted, fold, as in `ProbeSweep`

    probe_type: ClassVar[type[NumberProbe]] = NumberProbe
