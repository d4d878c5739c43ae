"""A case: one probe under examination, with all that the diagnoses ask of it.

It holds the activations of the probe's layer and what the probes of a grouped cross-validation say of each
sample. Every further fit uses the probe's own method and l2, so that arms that are compared differ in
one thing only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from workbench.errors import ProbeError, renamed_attribute
from workbench.probing.crossval import HeldOut, cross_validate
from workbench.probing.methods import PlainFit, ProbeMethod, find_method, probabilities
from workbench.probing.probe import Probe
from workbench.probing.solvers import Design
from workbench.sound.splits import grouped_folds
from workbench.stats import Estimate, rate_over_groups

if TYPE_CHECKING:
    from workbench.activations import Activations

Array = np.ndarray
Split = tuple[Array, Array]

TOLERATED = 0.02
"""The share of clips up to which a difference between accuracies is no fault, however surely it is there."""


@dataclass(frozen=True, eq=False, kw_only=True)
class ProbeEvaluation:
    """One probe under examination.

    x        (n, d) activations of its layer; `y` (n,) class numbers; `groups`, `clips` (n,)
    splits   the grouped folds, and `held` what their probes say of the samples they did not see
    unit     what a group is called in sentences: "group", "track", "artist", "groove"
    """

    x: Array
    y: Array
    groups: Array
    clips: Array
    classes: tuple[str, ...]
    splits: list[Split]
    held: HeldOut
    target: str
    layer: int
    site: str
    method: ProbeMethod
    l2: float
    seed: int
    unit: str = "group"
    class_weights: Mapping[int, float] | str | None = None

    strength = renamed_attribute("strength", "l2")

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
        return np.asarray(self.held.predicted == self.y)

    @property
    def accuracy(self) -> Estimate:
        """Held-out accuracy, grouped."""
        return rate_over_groups(self.correct, self.groups)

    @property
    def chance(self) -> float:
        """Accuracy of always naming the most frequent class."""
        return float(np.bincount(self.y).max() / len(self.y))

    @property
    def probabilities(self) -> Array:
        """Held-out P(class) (n, classes)."""
        return probabilities(self.held.logits, self.method.link)

    @cached_property
    def designs(self) -> list[Design]:
        """The training samples of each fold as solvers need them; questions share what is costly."""
        return [Design.of(self.x[train]) for train, _ in self.splits]

    def predicted(self, rounds: Sequence[Sequence[Split]], *, y: Array | None = None) -> Array:
        """Return the class numbers (rounds, n) that probes of the same recipe predict under other splits.

        rounds  lists of (train, test) indices; the test parts of each list hold every sample once
        y       (n,) other class numbers to learn
        """
        splits = [split for one in rounds for split in one]
        held = cross_validate(
            self.x,
            self.y if y is None else y,
            splits,
            groups=self.groups,
            method=self.method,
            l2=(self.l2,),
            seed=self.seed,
            class_weights=self.class_weights,
        )
        # Rounds judge every sample anew, so that each split's probe is asked by itself.
        called = np.empty((len(rounds), len(self.y)), dtype=int)
        number = 0
        for row, one in zip(called, rounds, strict=True):
            for _, test in one:
                row[test] = (self.x[test] @ held.weights[number].T + held.bias[number]).argmax(1)
                number += 1
        return called

    def random_splits(self, repeat: int = 0) -> list[Split]:
        """Return as many folds that ignore the groups: clips of one group stand on both sides."""
        from sklearn.model_selection import StratifiedKFold

        splitter = StratifiedKFold(self.folds, shuffle=True, random_state=self.seed + repeat)
        return [(train, test) for train, test in splitter.split(self.x, self.y)]

    def read(self, x: Array, groups: Array) -> Array:
        """Return logits (m, classes) of other samples (m, d), by probes that saw nothing of their groups.

        A sample of a group of the case is read by the fold that held this group out, any other sample by the
        average of all folds.
        """
        every = np.einsum("md,fkd->fmk", np.asarray(x, dtype=np.float64), self.held.weights)
        every += self.held.bias[:, None]
        found = every.mean(0)
        fold_of = dict(zip(self.groups.tolist(), self.held.fold.tolist(), strict=True))
        for position, group in enumerate(np.asarray(groups).tolist()):
            if group in fold_of:
                found[position] = every[fold_of[group], position]
        return np.asarray(found)


def evaluate_probe(
    acts: Activations,
    probe: Probe,
    *,
    folds: int = 5,
    seed: int = 0,
    unit: str = "group",
    method: ProbeMethod | PlainFit | None = None,
    class_weights: Mapping[str, float] | str | None = None,
) -> ProbeEvaluation:
    """Return the case of a probe that was fitted on these activations.

    acts           pooled activations that hold the probe's layer, site and target
    probe          says layer, site, target, method and l2
    folds          parts of the grouped cross-validation; with the `seed` of `fit_probes` they are its folds
    unit           what a group is called in sentences
    class_weights  those that the probe was fitted with (`fit_probes`)

    Raises ProbeError for activations of other classes or another width than the probe's; DatasetError and
    ActivationsError as `fit_probes` does.
    """
    method = find_method(method or probe.method)
    names, y = acts.numbered(probe.target)
    x = acts.matrix(probe.layer, site=probe.site).astype(np.float64)
    if names != probe.classes or x.shape[1] != probe.weights.shape[1]:
        raise ProbeError(
            f"A probe of {', '.join(probe.classes)} (width {probe.weights.shape[1]}) was to be examined",
            f"the activations hold {', '.join(names)} (width {x.shape[1]})",
            "Pass the activations that it was fitted on",
        )
    numbered: Mapping[int, float] | str | None
    if isinstance(class_weights, Mapping):
        # A name that is none of the classes becomes -1, which `cross_validate` refuses.
        numbered = {names.index(name) if name in names else -1: w for name, w in class_weights.items()}
    else:
        numbered = class_weights
    splits = grouped_folds(np.array(names)[y], acts.groups, folds=folds, seed=seed)
    held = cross_validate(
        x, y, splits, groups=acts.groups, method=method, l2=(probe.l2,), seed=seed,
        class_weights=numbered,
    )  # fmt: skip
    return ProbeEvaluation(
        x=x, y=y, groups=acts.groups, clips=acts.clips, classes=names, splits=splits, held=held,
        target=probe.target, layer=probe.layer, site=probe.site, method=method,
        l2=probe.l2, seed=seed, unit=unit, class_weights=numbered,
    )  # fmt: skip
