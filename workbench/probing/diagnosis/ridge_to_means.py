"""From ridge to means: how a direction turns as the penalty grows, and what each is worth on new groups.

A ridge probe with a small penalty sets features that vary together against one another; with a large one it
only looks at how far the class means lie apart. Everything between is one slider (`probing.trail`). A
direction is judged alone, as steering uses it: clips are cut half-way between the means of the class and of
the rest, and the share on the right side is counted, both sides alike. That has no bias to fit, and no scale.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from workbench.errors import ProbeError
from workbench.probing.diagnosis.case import Case
from workbench.probing.diagnosis.estimate import Estimate, jackknife, sums_by_group
from workbench.probing.probe import Probe
from workbench.probing.solvers import Design, one_hot
from workbench.probing.trail import ridge_trails, trail_weights
from workbench.steering import Direction, difference_in_means

if TYPE_CHECKING:
    from workbench.activations import Activations

Array = np.ndarray
STEPS = (*(10.0 ** (half / 2) for half in range(-8, 9)), math.inf)
"""Half-decades of the penalty per sample, and the limit."""


@dataclass(frozen=True, eq=False)
class RidgeToMeans:
    """The trails of all classes of one layer.

    strengths   L2 penalties in rising order; math.inf: the difference in means of standardised features
    directions  class -> its direction at each strength
    to_probe    class -> cosine to the weight of the probe, at each strength
    to_means    class -> cosine to the difference in means of the raw activations
    accuracy    class -> held-out share of clips that the direction alone puts on the right side, class and
                rest counted alike (0.5 is chance)
    """

    target: str
    layer: int
    unit: str
    strengths: tuple[float, ...]
    directions: Mapping[str, tuple[Direction, ...]] = field(repr=False)
    to_probe: Mapping[str, tuple[float, ...]] = field(repr=False)
    to_means: Mapping[str, tuple[float, ...]] = field(repr=False)
    accuracy: Mapping[str, tuple[Estimate, ...]] = field(repr=False)

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes, in rising order."""
        return tuple(self.directions)

    @property
    def chance(self) -> float:
        """The accuracy of a direction that has nothing to do with the class: both sides count alike."""
        return 0.5

    @property
    def labels(self) -> tuple[str, ...]:
        """The strengths as text, to two digits."""
        return tuple("∞" if math.isinf(one) else f"{float(f'{one:.2g}'):g}" for one in self.strengths)

    def direction(self, class_: str, strength: float) -> Direction:
        """Return the direction of a class at a strength of the trail; raise ProbeError for any other."""
        return self.directions[self._known(class_)][self._place(strength)]

    def table(self) -> pd.DataFrame:
        """Return one row per class and strength: cosines to probe and means, accuracy with its interval."""
        rows = [
            {
                "class": class_,
                "strength": strength,
                "to_probe": self.to_probe[class_][place],
                "to_means": self.to_means[class_][place],
                "accuracy": self.accuracy[class_][place].value,
                "low": self.accuracy[class_][place].low,
                "high": self.accuracy[class_][place].high,
            }
            for class_ in self.classes
            for place, strength in enumerate(self.strengths)
        ]
        return pd.DataFrame(rows)

    def sentence(self, class_: str, strength: float) -> str:
        """Return what holds of a class's direction at a strength, with its numbers."""
        place = self._place(strength)
        right = self.accuracy[self._known(class_)][place]
        probe, means = self.to_probe[class_][place], self.to_means[class_][place]
        return (
            f"At λ = {self.labels[place]} the {class_} direction of layer {self.layer} has a cosine of "
            f"{probe:.2f} to the probe's weight and {means:.2f} to the difference in means; alone it puts "
            f"{right.value:.0%} ({right.low:.0%} to {right.high:.0%}) of the clips of new {self.unit}s on "
            f"the right side of {class_} and the rest (chance {self.chance:.0%})."
        )

    def _known(self, class_: str) -> str:
        if class_ in self.directions:
            return class_
        found = f"there are {', '.join(self.classes)}"
        raise ProbeError(f"A direction of {class_!r} was asked for", found, "Use one of those")

    def _place(self, strength: float) -> int:
        if strength in self.strengths:
            return self.strengths.index(strength)
        found = f"the trail has {', '.join(f'{one:g}' for one in self.strengths)}"
        raise ProbeError(f"The strength {strength:g} was asked for", found, "Use one of those")


def ridge_to_means(
    acts: Activations, case: Case, probe: Probe, *, strengths: Sequence[float] = STEPS
) -> RidgeToMeans:
    """Return the trails of every class at the case's layer; one decomposition per fold serves all strengths.

    acts       the activations that the case was made of
    probe      the probe that cosines are taken to
    strengths  L2 penalties above 0 (`ridge_trail`)

    Raises ProbeError as `ridge_trail` does; SteeringError for a class whose direction has no length.
    """
    steps = tuple(sorted(float(one) for one in strengths))
    place = {"target": case.target, "site": case.site}
    trails = ridge_trails(acts, case.layer, steps, **place)
    weights = {class_: probe.direction(class_) for class_ in case.classes}
    means = {class_: difference_in_means(acts, class_, layer=case.layer, **place) for class_ in case.classes}
    return RidgeToMeans(
        target=case.target,
        layer=case.layer,
        unit=case.unit,
        strengths=steps,
        directions=trails,
        to_probe={name: tuple(one.cosine(weights[name]) for one in trail) for name, trail in trails.items()},
        to_means={name: tuple(one.cosine(means[name]) for one in trail) for name, trail in trails.items()},
        accuracy=_accuracy(case, steps),
    )


def _accuracy(case: Case, strengths: tuple[float, ...]) -> dict[str, tuple[Estimate, ...]]:
    truth = one_hot(case.y, len(case.classes))
    right = np.empty((len(truth), len(strengths), len(case.classes)))
    for train, test in case.splits:
        right[test] = _right(case.x, truth, (train, test), strengths)
    found = {}
    for number, class_ in enumerate(case.classes):
        sides = np.stack([truth[:, number], 1 - truth[:, number]], 1)
        rates = []
        for place in range(len(strengths)):
            sums = sums_by_group(np.hstack([sides * right[:, place, number, None], sides]), case.groups)
            rate = jackknife(_both_sides, sums)
            rates.append(Estimate(rate.value, max(rate.low, 0.0), min(rate.high, 1.0)))
        found[class_] = tuple(rates)
    return found


def _right(x: Array, truth: Array, split: tuple[Array, Array], strengths: tuple[float, ...]) -> Array:
    """Return 1 where a tested clip lies on the right side (test, strengths, classes), else 0."""
    train, test = split
    weights = trail_weights(Design.of(x[train]), truth[train], strengths)
    inside = truth[train] / truth[train].sum(0)
    outside = (1 - truth[train]) / (1 - truth[train]).sum(0)
    # The cut lies half-way between the means of class and rest (classes, d), along each direction.
    middle = (inside + outside).T @ x[train] / 2
    cut = np.einsum("skd,kd->sk", weights, middle)
    named = np.einsum("nd,skd->nsk", x[test], weights, optimize=True) > cut
    return np.asarray(named == truth[test][:, None].astype(bool), dtype=np.float64)


def _both_sides(total: Array) -> float:
    """Return the mean of the shares of class and of rest that lie on the right side."""
    hits, clips = total[:2], total[2:]
    return float((hits / clips).mean()) if (clips > 0).all() else math.nan
