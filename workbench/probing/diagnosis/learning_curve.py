"""Learning curve: accuracy over the number of groups per class, and whether more of them would still help."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from workbench.errors import ProbeError
from workbench.probing.diagnosis.case import TOLERATED, Case
from workbench.probing.diagnosis.estimate import NOTHING, SURE, Estimate, mean_over_groups, rate_over_groups

Array = np.ndarray


@dataclass(frozen=True)
class LearningCurve:
    """Held-out accuracy over training groups per class.

    points  groups per class that a probe was trained on, and its held-out accuracy
    rise    accuracy with all training groups minus that with half of them, paired clip by clip
    """

    target: str
    layer: int
    unit: str
    points: tuple[tuple[float, Estimate], ...] = field(hash=False)
    rise: Estimate

    @property
    def effect(self) -> float:
        """What the last doubling of the groups brought, a share of clips."""
        return self.rise.value

    @property
    def p_value(self) -> float | None:
        """Chance of such a rise where doubling brings two points at most; None with one group per class."""
        return None if np.isnan(self.rise.value) else self.rise.p_value

    def table(self) -> pd.DataFrame:
        """Return one row per size: groups (per class, in training), accuracy, low, high."""
        return pd.DataFrame(
            [{"groups": size, "accuracy": e.value, "low": e.low, "high": e.high} for size, e in self.points]
        )

    def sentence(self, alarm: bool | None = None) -> str:
        """Return what was found; `alarm` is the battery's verdict, by default that of its own p-value."""
        most, accuracy = self.points[-1]
        with_all = f"With {most:.3g} training {self.unit}s per class"
        told = f"{with_all} the {self.target} accuracy is {accuracy.value:.2f}"
        if self.p_value is None:
            return f"{told}; there are too few {self.unit}s to train on half of them."
        rises = self.p_value <= SURE if alarm is None else alarm
        verdict = f"more {self.unit}s would help" if rises else f"more {self.unit}s would hardly help"
        return f"{told}; the last doubling brought {self.rise}: {verdict}."


def learning_curve(case: Case, *, sizes: Sequence[int] | None = None, repeats: int = 4) -> LearningCurve:
    """Return accuracy over the number of training groups per class, always judged on the same held-out clips.

    sizes    groups per class; by default 1, 2, 4 ... below half of what there is
    repeats  draws of half of the groups that are averaged (other sizes are drawn twice)

    Raises ProbeError for a size below 1.
    """
    most = _groups_per_class(case)
    half = most / 2
    sizes = [2**power for power in range(12)] if sizes is None else list(sizes)
    if any(size < 1 for size in sizes):
        raise ProbeError(f"The sizes {sizes} were asked for", "a size is 1 or more", "Use such")
    rng = np.random.default_rng(case.seed)
    draws = {float(size): 2 for size in sorted(set(sizes)) if size < 0.75 * half}
    if half >= 1:
        draws[half] = repeats
    right = _right(case, [size / most for size, count in draws.items() for _ in range(count)], rng)
    points, rise = [], NOTHING
    for size, count in draws.items():
        mean, right = right[:count].mean(0), right[count:]
        points.append((size, rate_over_groups(mean, case.groups)))
        if size == half:
            rise = mean_over_groups(case.correct - mean, case.groups, tolerated=TOLERATED)
    points.append((most, case.accuracy))
    return LearningCurve(case.target, case.layer, case.unit, tuple(points), rise)


def _groups_per_class(case: Case) -> float:
    """Return the mean number of training groups of a class, over folds."""
    counts = [
        len(np.unique(case.groups[train][case.y[train] == class_]))
        for train, _ in case.splits
        for class_ in range(len(case.classes))
    ]
    return float(np.mean(counts))


def _right(case: Case, shares: Sequence[float], rng: np.random.Generator) -> Array:
    """Return who is read rightly (shares, n) by probes trained on each share of the groups."""
    if not shares:
        return np.empty((0, len(case.y)))
    rounds = [[(_thinned(case, train, share, rng), test) for train, test in case.splits] for share in shares]
    return (case.predicted(rounds) == case.y).astype(np.float64)


def _thinned(case: Case, train: Array, share: float, rng: np.random.Generator) -> Array:
    """Return the samples of a share of the training groups, of each class the same.

    A group that holds several classes counts for the class that most of its samples have. Every class keeps a
    sample, if need be of one group more.
    """
    names, member = np.unique(case.groups[train], return_inverse=True)
    counts = np.zeros((len(names), len(case.classes)))
    np.add.at(counts, (member, case.y[train]), 1)
    home = counts.argmax(1)
    kept = np.zeros(len(names), dtype=bool)
    for class_ in range(len(case.classes)):
        own = rng.permutation(np.flatnonzero(home == class_))
        wanted = share * len(own)
        # Half a group more or less: by chance, so that the mean over draws is the share that was asked for.
        size = int(wanted) + int(rng.random() < wanted - int(wanted))
        kept[own[: max(size, 1)]] = True
    for class_ in np.flatnonzero(counts[kept].sum(0) == 0).tolist():
        kept[rng.choice(np.flatnonzero(counts[:, class_] > 0))] = True
    return np.asarray(train[kept[member]])
