"""Baselines: what is read without the model: from codes, plain sound features, the text, random weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from workbench.errors import ProbeError
from workbench.probing.crossval import cross_validate
from workbench.probing.diagnosis.case import Case
from workbench.probing.diagnosis.estimate import Estimate, mean_over_groups, rate_over_groups

Array = np.ndarray


@dataclass(frozen=True)
class Baselines:
    """Accuracy of the probe and of each baseline under the same splits.

    accuracy  by name, and `lead` how far the probe lies above it, paired clip by clip
    """

    target: str
    layer: int
    probe: Estimate
    accuracy: Mapping[str, Estimate] = field(hash=False)
    lead: Mapping[str, Estimate] = field(hash=False)

    @property
    def strongest(self) -> str:
        """The name of the baseline that comes nearest to the probe, or beats it."""
        return min(self.lead, key=lambda name: self.lead[name].value)

    @property
    def effect(self) -> float:
        """How far the probe lies above the strongest baseline."""
        return self.lead[self.strongest].value

    @property
    def p_value(self) -> None:
        """None: a strong baseline is a fact about the task, not a fault of the probe."""
        return

    def table(self) -> pd.DataFrame:
        """Return the probe's row and one per baseline: features, accuracy and lead with their intervals."""
        rows = [self._row(f"layer {self.layer}", self.probe, Estimate(0.0, 0.0, 0.0))]
        rows += [self._row(name, self.accuracy[name], self.lead[name]) for name in self.accuracy]
        return pd.DataFrame(rows)

    def sentence(self) -> str:
        """Return what was found, with its number."""
        name = self.strongest
        lead = self.lead[name]
        verdict = "the model adds to it" if lead.low > 0 else "the model is not shown to add anything to it"
        return (
            f"At the same splits the strongest baseline, {name}, reads the {self.target} with accuracy "
            f"{self.accuracy[name].value:.2f} and layer {self.layer} with {self.probe.value:.2f} "
            f"(lead {lead}): {verdict}."
        )

    @staticmethod
    def _row(name: str, accuracy: Estimate, lead: Estimate) -> dict[str, float | str]:
        row: dict[str, float | str] = {"features": name, "accuracy": accuracy.value}
        row |= {"low": accuracy.low, "high": accuracy.high}
        return row | {"lead": lead.value, "lead_low": lead.low, "lead_high": lead.high}


def baselines(case: Case, features: Mapping[str, Array]) -> Baselines:
    """Return what the probe's method reads from other features, under the case's own splits.

    features  name -> (n, f) numbers of the same samples, in the same order (`baseline_features` makes some);
              the strength is chosen inside the training folds of each

    Raises ProbeError for no features, another number of samples, or numbers that are not finite.
    """
    if not features:
        raise ProbeError("Baselines were asked for", "no features were given", "Give at least one")
    accuracy, lead = {}, {}
    for name, values in features.items():
        correct = _correct(case, name, np.asarray(values, dtype=np.float64))
        accuracy[name] = rate_over_groups(correct, case.groups)
        lead[name] = mean_over_groups(case.correct.astype(np.float64) - correct, case.groups)
    return Baselines(case.target, case.layer, case.accuracy, accuracy, lead)


def _correct(case: Case, name: str, values: Array) -> Array:
    if values.ndim != 2 or len(values) != len(case.y) or not np.isfinite(values).all():
        found = f"their shape is {values.shape}" if np.isfinite(values).all() else "some are not finite"
        do = "Give one row of finite numbers for each sample"
        raise ProbeError(f"{name!r} features of {len(case.y)} samples were asked for", found, do)
    held = cross_validate(values, case.y, case.splits, groups=case.groups, method=case.method, seed=case.seed)
    return np.asarray(held.predicted == case.y)
