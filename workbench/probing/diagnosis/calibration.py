"""Calibration: whether 80 % are read rightly of the clips that a probe is 80 % sure of.

ECE (expected calibration error) is the mean distance between confidence and accuracy over bins, weighted by
how many clips fall into each. It is above zero even for a perfectly calibrated probe, because bins are small:
what a perfect probe with these very confidences would get is simulated, and quoted beside it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from workbench.probing.diagnosis.case import Case
from workbench.probing.diagnosis.estimate import Estimate, mean_over_groups, rate_over_groups

Array = np.ndarray


@dataclass(frozen=True)
class Calibration:
    """The reliability curve and its summary.

    ece       expected calibration error
    expected  ECE of a perfectly calibrated probe with these confidences, and 95 % of simulations
    excess    mean confidence minus accuracy: above 0 the probe is too sure
    """

    target: str
    layer: int
    ece: float
    expected: Estimate
    excess: Estimate
    bins: pd.DataFrame = field(repr=False, compare=False)

    def table(self) -> pd.DataFrame:
        """Return one row per filled bin: confidence, accuracy, low, high, clips."""
        return self.bins

    @property
    def effect(self) -> float:
        """ECE beyond what perfect calibration would show."""
        return self.ece - self.expected.value

    @property
    def p_value(self) -> None:
        """None: calibration is described, no alarm hangs on it."""
        return

    def sentence(self) -> str:
        """Return what was found, with its number."""
        beyond = self.ece > self.expected.high
        side = "too sure" if self.excess.value > 0 else "not sure enough"
        verdict = (
            f"the probe is {side} by {abs(self.excess.value):.2f}"
            if beyond
            else "its confidences can be trusted"
        )
        return (
            f"At layer {self.layer} confidence and accuracy lie {self.ece:.2f} apart (ECE; perfect "
            f"calibration would show {self.expected}): {verdict}."
        )


def calibration(case: Case, *, bins: int = 10, draws: int = 500) -> Calibration:
    """Return the reliability curve of the held-out probabilities.

    bins   equal parts of the range of confidences from 0 to 1
    draws  simulations of a perfectly calibrated probe
    """
    sure = case.probabilities.max(1)
    where = np.minimum((sure * bins).astype(int), bins - 1)
    right = case.correct.astype(np.float64)
    rng = np.random.default_rng(case.seed)
    simulated = rng.random((draws, len(sure))) < sure
    perfect = np.array([_ece(sure, one, where, bins) for one in simulated])
    low, high = np.quantile(perfect, [0.025, 0.975])
    return Calibration(
        target=case.target,
        layer=case.layer,
        ece=_ece(sure, right, where, bins),
        expected=Estimate(float(perfect.mean()), float(low), float(high)),
        excess=mean_over_groups(sure - right, case.groups),
        bins=_curve(sure, right, where, case.groups),
    )


def _ece(sure: Array, right: Array, where: Array, bins: int) -> float:
    """Return sum over bins of |hits - summed confidence| / n."""
    return float(np.abs(np.bincount(where, weights=right - sure, minlength=bins)).sum() / len(sure))


def _curve(sure: Array, right: Array, where: Array, groups: Array) -> pd.DataFrame:
    rows = []
    for one in np.unique(where):
        inside = where == one
        found = rate_over_groups(right[inside], groups[inside])
        rows.append(
            {
                "confidence": float(sure[inside].mean()),
                "accuracy": found.value,
                "low": found.low,
                "high": found.high,
                "clips": int(inside.sum()),
            }
        )
    return pd.DataFrame(rows)
