"""One probe under examination, with all that the diagnoses ask of it, and what every diagnosis returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedKFold

from workbench.activations import Activations
from workbench.errors import ProbeError, renamed_attribute
from workbench.probing.crossval import HeldOut, Split, cross_validate, numbered_weights
from workbench.probing.probe import Probe
from workbench.probing.solvers import Design, PlainFit, ProbeMethod, find_method, probabilities
from workbench.sound.dataset import grouped_folds
from workbench.stats import SURE, Estimate, mean_over_groups, rate_over_groups

Array = np.ndarray
TOLERATED = 0.02
"""The share of clips up to which a difference between accuracies is no fault, however surely it is there."""


@dataclass(frozen=True)
class Diagnosis:
    """What every diagnosis returns: a size in the unit of the fault, perhaps a test, and a sentence."""

    target: str
    layer: int

    figure: ClassVar[str] = ""  # the estimate that says how large the fault is
    tested: ClassVar[bool] = False  # whether its p-value may raise an alarm

    @property
    def effect(self) -> float:
        """The size of what was found."""
        return float(getattr(self, self.figure).value)

    @property
    def p_value(self) -> float | None:
        """Chance of it where nothing is wrong; None where nothing is tested, or could be measured."""
        figure = getattr(self, self.figure) if self.tested else None
        return None if figure is None or np.isnan(figure.value) else float(figure.p_value)

    def sentence(self, alarm: bool | None = None) -> str:
        """Return what was found, with its numbers; `alarm` is the verdict of all tests, None its own."""
        own = self.p_value is not None and self.p_value <= SURE
        return self._words(own if alarm is None else alarm)

    def _words(self, alarm: bool) -> str:
        raise NotImplementedError


def table_of(column: str, estimates: Mapping[Any, Estimate]) -> pd.DataFrame:
    """Return one row per estimate: its name in `column`, accuracy, low, high."""
    rows = [(name, one.value, one.low, one.high) for name, one in estimates.items()]
    return pd.DataFrame(rows, columns=[column, "accuracy", "low", "high"])


@dataclass(frozen=True, eq=False, kw_only=True)
class ProbeEvaluation:
    """One probe under examination, with what was read of each sample by probes that did not see its group."""

    x: Array  # activations of its layer (n, d)
    y: Array  # class numbers (n,)
    groups: Array  # of each sample (n,)
    clips: Array  # clip id of each sample (n,)
    classes: tuple[str, ...]
    splits: list[Split]  # the grouped folds
    held_out: HeldOut
    target: str
    layer: int
    site: str
    method: ProbeMethod
    l2: float
    seed: int
    unit: str = "group"  # what a group is called in sentences: "group", "track", "artist", "groove"
    class_weights: Mapping[int, float] | str | None = None  # by class number

    held = renamed_attribute("held", "held_out")
    strength = renamed_attribute("strength", "l2")

    @property
    def place(self) -> dict[str, Any]:
        """Target and layer, which every diagnosis names."""
        return {"target": self.target, "layer": self.layer}

    @property
    def folds(self) -> int:
        """Parts of the cross-validation."""
        return len(self.splits)

    @property
    def labels(self) -> Array:
        """The label of each sample as text (n,)."""
        return np.asarray(np.array(self.classes)[self.y])

    @property
    def correct(self) -> Array:
        """Whether each sample is read rightly by a probe that saw nothing of its group (n,)."""
        return np.asarray(self.held_out.predicted == self.y)

    @property
    def accuracy(self) -> Estimate:
        """Held-out accuracy, grouped."""
        return self.rate(self.correct)

    @property
    def chance(self) -> float:
        """Accuracy of always naming the most frequent class."""
        return float(np.bincount(self.y).max() / len(self.y))

    @property
    def probabilities(self) -> Array:
        """Held-out P(class) (n, classes)."""
        return probabilities(self.held_out.logits, self.method.link)

    @cached_property
    def designs(self) -> list[Design]:
        """The training samples of each fold as solvers need them; questions share what is costly."""
        return [Design.of(self.x[train]) for train, _ in self.splits]

    def rate(self, hits: Array) -> Estimate:
        """Return the share of hits (n,) with its interval over groups."""
        return rate_over_groups(hits, self.groups)

    def mean(self, values: Array, tolerated: float = 0.0) -> Estimate:
        """Return the mean of values (n,), tested over groups for lying above what is tolerated."""
        return mean_over_groups(values, self.groups, tolerated=tolerated)

    def predicted(self, rounds: Sequence[Sequence[Split]], *, y: Array | None = None) -> Array:
        """Return the classes (rounds, n) that probes of its method and l2, perhaps on another `y`, say."""
        y = self.y if y is None else y
        how: dict[str, Any] = {"method": self.method, "l2": (self.l2,), "class_weights": self.class_weights}
        how |= {"groups": self.groups, "seed": self.seed}
        return np.array([cross_validate(self.x, y, splits, **how).predicted for splits in rounds])

    def random_splits(self, repeat: int = 0) -> list[Split]:
        """Return as many folds that ignore the groups: clips of one group stand on both sides."""
        splitter = StratifiedKFold(self.folds, shuffle=True, random_state=self.seed + repeat)
        return list(splitter.split(self.x, self.y))

    def read(self, x: Array, groups: Array) -> Array:
        """Return logits (m, classes) of other samples (m, d), by probes that saw nothing of their groups.

        Samples of a group that is known here are read by the fold that tested it, others by all together.
        """
        every = np.einsum("md,fkd->fmk", np.asarray(x, dtype=np.float64), self.held_out.weights)
        every += self.held_out.bias[:, None]
        fold_of = dict(zip(self.groups.tolist(), self.held_out.fold.tolist(), strict=True))
        fold = np.array([fold_of.get(group, -1) for group in np.asarray(groups).tolist()])
        return np.where(fold[:, None] < 0, every.mean(0), every[fold, np.arange(len(fold))])


def evaluate_probe(
    acts: Activations,
    probe: Probe,
    *,
    folds: int = 5,
    seed: int = 0,
    unit: str = "group",
    method: ProbeMethod | PlainFit | str | None = None,
    class_weights: Mapping[str, float] | str | None = None,
) -> ProbeEvaluation:
    """Return a probe under examination, with what is read of samples that it was not fitted on.

    The activations and class weights are those that it was fitted with; folds and seed of `fit_probes` make
    its folds. The unit is what a group is called in sentences; the method is what fitted the probe, where
    that cannot be found by its name. ProbeError where the activations have other classes or another width, or
    the method is unknown; other errors as in `fit_probes`.
    """
    method = find_method(method or probe.method)
    names, y = acts.numbered(probe.target)
    x = acts.matrix(probe.layer, site=probe.site).astype(np.float64)
    if names != probe.classes or x.shape[1] != probe.weights.shape[1]:
        asked = f"A probe of {', '.join(probe.classes)} (width {probe.weights.shape[1]}) was to be examined"
        found = f"the activations hold {', '.join(names)} (width {x.shape[1]})"
        raise ProbeError(asked, found, "Pass the activations that it was fitted on")
    numbered = numbered_weights(class_weights, names, probe.target)
    splits = grouped_folds(np.array(names)[y], acts.groups, folds=folds, seed=seed)
    fitting: dict[str, Any] = {"method": method, "seed": seed, "class_weights": numbered}
    held_out = cross_validate(x, y, splits, groups=acts.groups, l2=(probe.l2,), **fitting)
    return ProbeEvaluation(
        x=x, y=y, groups=acts.groups, clips=acts.clips, classes=names, splits=splits, held_out=held_out,
        target=probe.target, layer=probe.layer, site=probe.site, l2=probe.l2, unit=unit, **fitting,
    )  # fmt: skip
