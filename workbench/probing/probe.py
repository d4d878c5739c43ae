"""One linear probe: what reads a class from the residual stream of one layer, and what it is worth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from workbench.errors import ProbeError
from workbench.probing.gating import one_sided
from workbench.probing.linear import LinearProbe
from workbench.probing.scores import Scores
from workbench.probing.solvers import probabilities
from workbench.steering import Direction, Gate, ReadOut

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
