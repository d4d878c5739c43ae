"""Control task: whether this probe could have learnt any labelling of the same groups just as well.

Hewitt & Liang 2019, "Designing and Interpreting Probes with Control Tasks": each group gets a random class,
and the probe is asked to read that. What it reads there it has memorised. Selectivity is the accuracy on the
real task minus that on the control task, both under a split that lets the probe see the groups.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workbench.probing.diagnosis.case import Case
from workbench.probing.diagnosis.estimate import Estimate, mean_over_groups, rate_over_groups


@dataclass(frozen=True)
class ControlTask:
    """Accuracy on the real and on the control task under the same random splits, and their difference."""

    target: str
    layer: int
    unit: str
    real: Estimate
    control: Estimate
    selectivity: Estimate

    @property
    def effect(self) -> float:
        """Selectivity, a share of clips."""
        return self.selectivity.value

    @property
    def p_value(self) -> None:
        """None: low selectivity warns of memory, which the group leak tests."""
        return

    def sentence(self) -> str:
        """Return what was found, with its number."""
        return (
            f"A probe that is given a random class for each {self.unit} reads it back with accuracy "
            f"{self.control.value:.2f}, the true {self.target} with {self.real.value:.2f}: "
            f"selectivity {self.selectivity} at layer {self.layer}."
        )


def control_task(case: Case, *, repeats: int = 3) -> ControlTask:
    """Return the selectivity of the probe's recipe, over `repeats` random labellings of the groups."""
    rng = np.random.default_rng(case.seed)
    _, first, member = np.unique(case.groups, return_index=True, return_inverse=True)
    (called,) = case.predicted([case.random_splits()])
    real = (called == case.y).astype(np.float64)
    control = []
    for repeat in range(repeats):
        drawn = _random_classes(case.y[first], len(case.classes), rng)[member]
        (called,) = case.predicted([case.random_splits(repeat)], y=drawn)
        control.append(called == drawn)
    mean = np.mean(control, axis=0)
    return ControlTask(
        target=case.target,
        layer=case.layer,
        unit=case.unit,
        real=rate_over_groups(real, case.groups),
        control=rate_over_groups(mean, case.groups),
        selectivity=mean_over_groups(real - mean, case.groups),
    )


def _random_classes(of_group: np.ndarray, classes: int, rng: np.random.Generator) -> np.ndarray:
    """Return a random class for each group: as frequent as the real ones, where groups are of one class."""
    held = len(np.unique(of_group)) == classes
    return rng.permutation(of_group if held else np.arange(len(of_group)) % classes)
