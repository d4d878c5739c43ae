"""Confound: whether the probe reads a number that goes along with the label, such as loudness or length.

Three questions. How well does the number alone tell the classes apart? Is it in the activations? And what is
left of the accuracy where the classes are alike in it? The last is asked by weights that give every class
the same distribution of the number (overlap weights, Li & Li 2019): w = 1 / (e_y sum_c 1 / e_c), where
e_c(z) is the share of class c among clips with the number z. Clips that could be of any class count most.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from workbench.errors import ProbeError
from workbench.probing.crossval import cross_validate
from workbench.probing.diagnosis.case import TOLERATED, Case
from workbench.probing.diagnosis.estimate import (
    NOTHING,
    SURE,
    Estimate,
    jackknife,
    rate_over_groups,
    sums_by_group,
)
from workbench.probing.solvers import STRENGTHS, Design, probabilities, ridge_path

Array = np.ndarray
FEWEST, FEWEST_SHARE = 3.0, 0.05
"""Below so many clips per class, or such a share, that are alike in the number, nothing is matched."""
_SHARE_STRENGTH = 1e-3  # of the logistic regression of the class on the number


@dataclass(frozen=True)
class Confound:
    """What a number per clip has to do with the label, with the activations, and with the accuracy.

    alone     held-out accuracy of a probe that sees only the number (and its square)
    chance    accuracy of always naming the most frequent class
    linked    chance of so strong a link between number and label, were labels shuffled between groups
    readable  held-out R2 of reading the number from the activations
    recall    mean over classes of the share read rightly, and `matched` the same among clips made alike
    drop      recall - matched: what the probe owes to the number
    clips     clips per class that the matching amounts to, in the class that has fewest
    """

    number: str
    target: str
    layer: int
    alone: Estimate
    chance: float
    linked: float
    readable: Estimate
    recall: Estimate
    matched: Estimate
    drop: Estimate
    clips: float

    @property
    def effect(self) -> float:
        """The drop, a share of clips; where nothing can be matched, `alone` minus chance."""
        return self.alone.value - self.chance if math.isnan(self.drop.value) else self.drop.value

    @property
    def p_value(self) -> float:
        """Chance of this where number and label are not linked, or the probe owes it two points at most."""
        return self.linked if math.isnan(self.drop.value) else max(self.linked, self.drop.p_value)

    def sentence(self, alarm: bool | None = None) -> str:
        """Return what was found; `alarm` is the battery's verdict, by default that of its own p-value."""
        told = (
            f"{self.number} alone tells the {self.target} with accuracy {self.alone.value:.2f} (chance "
            f"{self.chance:.2f}) and is read from layer {self.layer} with R2 {self.readable.value:.2f}"
        )
        if math.isnan(self.drop.value):
            return f"{told}; hardly any clips of different classes are alike in it: the two cannot be parted."
        leans = self.p_value <= SURE if alarm is None else alarm
        verdict = f"the probe leans on {self.number}" if leans else f"the probe does not need {self.number}"
        return (
            f"{told}; where clips are alike in it, the mean recall of {self.recall.value:.2f} becomes "
            f"{self.matched.value:.2f} (drop {self.drop}): {verdict}."
        )


def confound(case: Case, name: str, values: Array, *, permutations: int = 1000) -> Confound:
    """Return what the probe of a case owes to a number per sample.

    name          what the number is called, with its unit: "level_db", "seconds", "silence", "tempo_bpm"
    values        (n,) finite numbers
    permutations  shuffles of labels between groups, for the link's p-value

    Raises ProbeError for values of another length or that are not finite.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.shape != case.y.shape or not np.isfinite(values).all():
        found = f"the shape is {values.shape}, with {int((~np.isfinite(values)).sum())} that are not finite"
        do = "Give one number for each sample, or leave out clips without it"
        raise ProbeError(f"{case.y.shape[0]} finite numbers were asked for {name!r}", found, do)
    z = _standard(values)
    recall, matched, drop, clips = _matching(case, _overlap(z, case.y))
    return Confound(
        number=name,
        target=case.target,
        layer=case.layer,
        alone=_alone(case, z),
        chance=case.chance,
        linked=_linked(z, case, permutations),
        readable=_readable(case, z),
        recall=recall,
        matched=matched,
        drop=drop,
        clips=clips,
    )


def _standard(values: Array) -> Array:
    spread = float(values.std())
    return np.asarray((values - values.mean()) / spread) if spread > 1e-9 else np.zeros(len(values))


def _alone(case: Case, z: Array) -> Estimate:
    """Return the held-out accuracy of a probe on the number alone."""
    held = cross_validate(
        _curved(z), case.y, case.splits, groups=case.groups, strengths=(_SHARE_STRENGTH,), seed=case.seed
    )
    return rate_over_groups(held.predicted == case.y, case.groups)


def _overlap(z: Array, y: Array) -> Array:
    """Return weights (n,) that give every class the same distribution of z."""
    everything = [(np.arange(len(y)), np.arange(len(y)))]
    held = cross_validate(_curved(z), y, everything, groups=y, strengths=(_SHARE_STRENGTH,))
    shares = np.maximum(probabilities(held.logits, "logistic"), 1e-6)
    return np.asarray(1 / (shares[np.arange(len(y)), y] * (1 / shares).sum(1)))


def _curved(z: Array) -> Array:
    """Return the features (n, 2) of a number: itself and its square, so that classes may differ in spread."""
    return np.stack([z, z**2], axis=1)


def _matching(case: Case, weights: Array) -> tuple[Estimate, Estimate, Estimate, float]:
    """Return mean recall as it is, among matched clips, the difference, and the clips left per class."""
    of_class = np.eye(len(case.classes))[case.y]
    weighted = of_class * weights[:, None]
    # Where no class can be told from the number, a clip weighs 1 / k and counts as one.
    alike = np.minimum(weighted.sum(0) * len(of_class.T), weighted.sum(0) ** 2 / (weighted**2).sum(0))
    clips = float(alike.min())
    hit = case.correct[:, None]
    sums = sums_by_group(np.hstack([of_class * hit, of_class, weighted * hit, weighted]), case.groups)
    recall = jackknife(lambda total: _recall(total)[0], sums)
    if clips < max(FEWEST, FEWEST_SHARE * float(of_class.sum(0).min())):
        return recall, NOTHING, NOTHING, clips
    matched = jackknife(lambda total: _recall(total)[1], sums)
    drop = jackknife(lambda total: float(np.subtract(*_recall(total))), sums, tolerated=TOLERATED)
    return recall, matched, drop, clips


def _recall(total: Array) -> tuple[float, float]:
    """Return mean recall, plain and weighted, from the sums (4 k,) of hits and weights of each class."""
    hits, clips, weighted_hits, weights = np.split(total, 4)
    if (clips <= 0).any() or (weights <= 0).any():
        return math.nan, math.nan
    return float((hits / clips).mean()), float((weighted_hits / weights).mean())


def _linked(z: Array, case: Case, permutations: int) -> float:
    """Return the p-value of the link between number and label: eta squared of groups, labels shuffled.

    Clips of one group are not independent witnesses: each group speaks once per class that it has.
    """
    _, first, unit = np.unique(
        np.stack([case.y, np.unique(case.groups, return_inverse=True)[1]]),
        axis=1, return_index=True, return_inverse=True,
    )  # fmt: skip
    unit = unit.ravel()
    means = np.bincount(unit, weights=z) / np.bincount(unit)
    means, labels = means - means.mean(), case.y[first]
    if not means.any():
        return 1.0
    sizes = np.bincount(labels, minlength=len(case.classes))
    rng = np.random.default_rng(case.seed)
    orders = rng.permuted(np.tile(np.arange(len(means)), (permutations, 1)), axis=1)
    orders = np.vstack([np.arange(len(means)), orders])
    of_class = np.eye(len(case.classes))[labels]
    between = ((means[orders] @ of_class) ** 2 / sizes).sum(1)
    reached = int((between[1:] >= between[0] * (1 - 1e-12)).sum())
    return (reached + 1) / (permutations + 1)


def _readable(case: Case, z: Array) -> Estimate:
    """Return the held-out R2 of a ridge regression of the number on the activations; grouped folds."""
    found = np.empty(len(z))
    for (train, test), design in zip(case.splits, case.designs, strict=True):
        weights, bias = _ridge(design, case.x[train], z[train])
        found[test] = case.x[test] @ weights + bias
    sums = sums_by_group(np.stack([(z - found) ** 2, z, z**2, np.ones(len(z))], 1), case.groups)
    return jackknife(_r2, sums)


def _ridge(design: Design, x: Array, z: Array) -> tuple[Array, float]:
    """Return weights (d,) and bias; the strength is chosen by generalised cross-validation (Golub 1979)."""
    strengths = STRENGTHS["ridge"]
    spread = design.axes.spread
    path = ridge_path(design, z[:, None], strengths)
    freedom = [1 + float((spread / (spread + one * len(z))).sum()) for one in strengths]
    left = [float(((z - x @ weights[0] - bias[0]) ** 2).sum()) for weights, bias in path]
    errors = [one / max(1 - used / len(z), 1e-9) ** 2 for one, used in zip(left, freedom, strict=True)]
    weights, bias = path[int(np.argmin(errors))]
    return weights[0], float(bias[0])


def _r2(total: Array) -> float:
    left, sum_, squares, count = total
    spread = squares - sum_**2 / max(count, 1)
    return float(1 - left / spread) if spread > 1e-9 else math.nan
