"""Class imbalance: how much of the accuracy comes from naming the class that is there most often."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workbench.probing.diagnosis.case import Case
from workbench.probing.diagnosis.estimate import SURE, Estimate, jackknife, sums_by_group
from workbench.probing.scores import macro_f1

FLATTERED = 0.05
"""Accuracy may lie this far above the mean recall before it is called flattering."""


@dataclass(frozen=True)
class ClassImbalance:
    """Accuracy beside the figures that imbalance does not flatter.

    commonest   the class with most clips, and `majority` the accuracy of always naming it
    ratio       clips of the commonest class per clip of the rarest
    recall      mean over classes of the share that is read rightly
    flattery    accuracy minus mean recall
    """

    target: str
    layer: int
    commonest: str
    majority: float
    ratio: float
    accuracy: Estimate
    macro_f1: float
    recall: float
    flattery: Estimate

    @property
    def effect(self) -> float:
        """Accuracy minus mean recall."""
        return self.flattery.value

    @property
    def p_value(self) -> float:
        """Chance of such a difference where accuracy flatters by five points at most."""
        return self.flattery.p_value

    def sentence(self, alarm: bool | None = None) -> str:
        """Return what was found; `alarm` is the battery's verdict, by default that of its own p-value."""
        flatters = self.p_value <= SURE if alarm is None else alarm
        verdict = "accuracy alone flatters the probe" if flatters else "accuracy is a fair figure here"
        return (
            f"{self.commonest} has {self.ratio:.1f} clips for each of the rarest class: naming it always "
            f"gives {self.majority:.2f}; at layer {self.layer} the {self.target} accuracy is "
            f"{self.accuracy.value:.2f}, the mean recall {self.recall:.2f}, "
            f"macro-F1 {self.macro_f1:.2f}: {verdict}."
        )


def class_imbalance(case: Case) -> ClassImbalance:
    """Return how far accuracy lies above the mean recall of the classes, tested over groups."""
    counts = np.bincount(case.y, minlength=len(case.classes))
    of_class = np.eye(len(case.classes))[case.y]
    columns = np.hstack([of_class * case.correct[:, None], of_class])
    flattery = jackknife(_flattery, sums_by_group(columns, case.groups), tolerated=FLATTERED)
    return ClassImbalance(
        target=case.target,
        layer=case.layer,
        commonest=case.classes[int(counts.argmax())],
        majority=case.chance,
        ratio=float(counts.max() / counts.min()),
        accuracy=case.accuracy,
        macro_f1=macro_f1(case.y, case.held.predicted),
        recall=case.accuracy.value - flattery.value,
        flattery=flattery,
    )


def _flattery(total: np.ndarray) -> float:
    """Return accuracy minus mean recall, from hits and clips of each class (2 k,)."""
    hits, clips = np.split(total, 2)
    if (clips <= 0).any():
        return float("nan")
    return float(hits.sum() / clips.sum() - (hits / clips).mean())
