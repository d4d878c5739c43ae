"""A linear probe for a number, such as tempo or loudness, and the probes of all layers side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd

from workbench.probing.layered import Layered
from workbench.probing.linear import LinearProbe
from workbench.steering import Direction

Array = np.ndarray


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
