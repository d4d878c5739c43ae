"""Group leak: how much of a random split's accuracy comes from clips of the same group on both sides."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workbench.probing.diagnosis.case import TOLERATED, Case
from workbench.probing.diagnosis.estimate import NOTHING, SURE, Estimate, mean_over_groups, rate_over_groups
from workbench.sound.splits import grouped_folds


@dataclass(frozen=True)
class GroupLeak:
    """Accuracy when groups are cut, accuracy when they are held out, and the gap between them.

    The gap is what a report that split clips at random would claim and new groups would not give.
    """

    target: str
    layer: int
    unit: str
    random: Estimate
    grouped: Estimate
    gap: Estimate

    @property
    def effect(self) -> float:
        """The gap, a share of clips."""
        return self.gap.value

    @property
    def p_value(self) -> float | None:
        """Chance of such a gap where groups do not matter; None where each group is a single clip."""
        return None if np.isnan(self.gap.value) else self.gap.p_value

    def sentence(self, alarm: bool | None = None) -> str:
        """Return what was found; `alarm` is the battery's verdict, by default that of its own p-value."""
        if self.p_value is None:
            return f"Every {self.unit} is a single clip, so that no split can cut one: no group leak."
        where = f"The {self.target} accuracy of {self.random.value:.2f} at layer {self.layer}"
        if self.p_value <= SURE if alarm is None else alarm:
            fall = f"drops to {self.grouped.value:.2f} when {self.unit}s are held out (gap {self.gap})"
            return f"{where} under a random split {fall}: the probe recognises {self.unit}s."
        stays = f"stays at {self.grouped.value:.2f} when {self.unit}s are held out (gap {self.gap})"
        return f"{where} under a random split {stays}."


def group_leak(case: Case, *, repeats: int = 2) -> GroupLeak:
    """Return random-split accuracy minus grouped accuracy, paired clip by clip and tested over groups.

    Both arms have the same recipe, number of folds and samples; only the splits differ. The p-value tests
    whether the gap is above two points.

    repeats  splits of each kind that are averaged
    """
    random = [case.random_splits(repeat) for repeat in range(repeats)]
    grouped = [
        grouped_folds(case.labels, case.groups, folds=case.folds, seed=case.seed + repeat)
        for repeat in range(1, repeats)
    ]
    right = case.predicted(random + grouped) == case.y
    cut, whole = right[:repeats].mean(0), np.vstack([case.correct, right[repeats:]]).mean(0)
    single = len(np.unique(case.groups)) == len(case.groups)
    gap = mean_over_groups(cut - whole, case.groups, tolerated=TOLERATED)
    return GroupLeak(
        target=case.target,
        layer=case.layer,
        unit=case.unit,
        random=rate_over_groups(cut, case.groups),
        grouped=rate_over_groups(whole, case.groups),
        gap=NOTHING if single else gap,
    )
