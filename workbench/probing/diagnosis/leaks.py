"""Leaks: what a probe may read beside the label: groups, the prompt, a number that goes along, the source."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd

from workbench.errors import ProbeError
from workbench.probing.crossval import cross_validate
from workbench.probing.diagnosis.evaluation import TOLERATED, Diagnosis, ProbeEvaluation, table_of
from workbench.probing.methods import PROBE_METHODS, probabilities
from workbench.probing.solvers import ridge_path
from workbench.sound.dataset import as_text, grouped_folds
from workbench.stats import NOTHING, Estimate, jackknife, mean_over_groups, rate_over_groups, sums_by_group

if TYPE_CHECKING:
    from workbench.activations import Activations

Array = np.ndarray


@dataclass(frozen=True)
class GroupLeak(Diagnosis):
    """Accuracy when groups are cut, when they are kept whole, and the gap: what new groups would not give."""

    unit: str
    random: Estimate
    grouped: Estimate
    gap: Estimate

    figure: ClassVar[str] = "gap"  # a share of clips; not there where each group is a single clip
    tested: ClassVar[bool] = True

    def _words(self, alarm: bool) -> str:
        if self.p_value is None:
            return f"Every {self.unit} is a single clip, so that no split can cut one: no group leak."
        where = f"The {self.target} accuracy of {self.random.value:.2f} at layer {self.layer}"
        there = f"{self.grouped.value:.2f} when {self.unit}s are held out (gap {self.gap})"
        if alarm:
            return f"{where} under a random split drops to {there}: the probe recognises {self.unit}s."
        return f"{where} under a random split stays at {there}."


def group_leak(probed: ProbeEvaluation, *, repeats: int = 2) -> GroupLeak:
    """Return random-split accuracy minus grouped accuracy, the mean over `repeats` splits of each kind.

    Both arms have the same recipe, number of folds and samples. They are paired clip by clip, and the p-value
    tests over groups whether the gap is above two points.
    """
    random = [probed.random_splits(repeat) for repeat in range(repeats)]
    seeds = range(probed.seed + 1, probed.seed + repeats)
    grouped = [grouped_folds(probed.labels, probed.groups, folds=probed.folds, seed=seed) for seed in seeds]
    right = probed.predicted(random + grouped) == probed.y
    cut, whole = right[:repeats].mean(0), np.vstack([probed.correct, right[repeats:]]).mean(0)
    single = len(np.unique(probed.groups)) == len(probed.groups)
    gap = NOTHING if single else probed.mean(cut - whole, TOLERATED)
    return GroupLeak(probed.target, probed.layer, probed.unit, probed.rate(cut), probed.rate(whole), gap)


@dataclass(frozen=True)
class TextLeak(Diagnosis):
    """What a probe says of the same clips under different texts; one that follows a wrong one reads words."""

    accuracy: Mapping[str, Estimate] = field(hash=False)  # held out, by condition
    flipped: float  # share of clips that are called what the wrong text names
    before: float  # share of the same clips that are called so under the neutral text
    excess: Estimate  # the difference

    figure: ClassVar[str] = "excess"
    tested: ClassVar[bool] = True

    @property
    def effect(self) -> float:
        """Share of clips that follow the text, corrected for those called so anyway (Abbott's formula)."""
        return self.excess.value / (1 - self.before) if self.before < 1 else 0.0

    def table(self) -> pd.DataFrame:
        """Return one row per condition: condition, accuracy, low, high."""
        return table_of("condition", self.accuracy)

    def _words(self, alarm: bool) -> str:
        by_text = ", ".join(f"{name} {one.value:.2f}" for name, one in self.accuracy.items())
        verdict = "reads text" if alarm else "does not follow the text"
        return (
            f"With the wrong {self.target} in the prompt {self.flipped:.0%} of the clips are called what "
            f"the text names, {self.before:.0%} without it (difference {self.excess}; accuracy by "
            f"text: {by_text}): the probe {verdict}."
        )


def text_leak(probed: ProbeEvaluation, conditions: Activations) -> TextLeak:
    """Return how far a probe follows the text, clip by clip, read by the folds that do not know its group.

    The p-value tests over groups whether more than two points of the clips follow. The conditions are the
    same clips under texts, with the sample coordinates `condition` ("null", "neutral", "correct", "wrong")
    and `named`, the class that the text names ("" for none).

    Raises:
        ProbeError: "wrong" or both "neutral" and "null" are missing, or a clip is under one of them only.
    """
    names = conditions.coordinate("condition")
    calm = "neutral" if "neutral" in names else "null"
    if not {"wrong", calm} <= set(names):
        asked, found = f"The conditions wrong and {calm} were asked for", ", ".join(np.unique(names).tolist())
        raise ProbeError(asked, f"there are {found}", "Capture the clips under these conditions too")
    groups = conditions.groups
    logits = probed.read(conditions.matrix(probed.layer, site=probed.site), groups)
    called = np.array(probed.classes)[logits.argmax(1)]
    right = called == as_text(conditions.labels(probed.target))
    masks = {name: names == name for name in ("null", "neutral", "correct", "wrong") if name in names}
    accuracy = {name: rate_over_groups(right[mask], groups[mask]) for name, mask in masks.items()}
    wrong, same = _paired(conditions.clips, names, calm)
    aim = conditions.coordinate("named")[wrong]
    now, before = called[wrong] == aim, called[same] == aim
    excess = mean_over_groups(now.astype(float) - before, groups[wrong], tolerated=TOLERATED)
    shares = float(now.mean()), float(before.mean())
    return TextLeak(probed.target, probed.layer, accuracy, *shares, excess)


def _paired(clips: Array, names: Array, calm: str) -> tuple[Array, Array]:
    """Return the positions of samples under the wrong text, and of the same samples under the calm one."""
    # A clip may have several samples (windows), in the same order under each condition.
    frame = pd.DataFrame({"clip": clips, "condition": names, "position": np.arange(len(clips))})
    frame["number"] = frame.groupby(["condition", "clip"]).cumcount()
    wrong, same = (frame[frame["condition"] == name] for name in ("wrong", calm))
    pairs = wrong.merge(same, on=["clip", "number"], suffixes=("", "_calm"))
    if len(pairs) < len(wrong):
        found = f"{len(wrong) - len(pairs)} of {len(wrong)} clips with a wrong text have no {calm} one"
        do = "Capture the same clips under every condition"
        raise ProbeError("A clip was to be compared under two texts", found, do)
    return pairs["position"].to_numpy(), pairs["position_calm"].to_numpy()


FEWEST, FEWEST_SHARE = 3.0, 0.05
"""Below so many clips per class, or such a share, that are alike in the number, nothing is matched."""
_SHARE_L2 = 1e-3  # of the logistic regression of the class on the number


@dataclass(frozen=True)
class Confound(Diagnosis):
    """What a number per clip has to do with the label, with the activations, and with the accuracy."""

    number: str  # what it is called
    alone: Estimate  # held-out accuracy of a probe that sees only the number (and its square)
    chance: float  # accuracy of always naming the most frequent class
    linked: float  # chance of so strong a link of number and label, were labels shuffled between groups
    readable: Estimate  # held-out R2 of reading the number from the activations
    recall: Estimate  # mean over classes of the share read rightly
    matched: Estimate  # the same among clips made alike in the number
    drop: Estimate  # recall - matched: what the probe owes to the number
    clips: float  # clips per class that the matching amounts to, in the class that has fewest

    @property
    def effect(self) -> float:
        """The drop, a share of clips; where nothing can be matched, `alone` minus chance."""
        return self.alone.value - self.chance if math.isnan(self.drop.value) else self.drop.value

    @property
    def p_value(self) -> float:
        """Chance of this where number and label are not linked, or the probe owes it two points at most."""
        return self.linked if math.isnan(self.drop.value) else max(self.linked, self.drop.p_value)

    def _words(self, alarm: bool) -> str:
        alone = (
            f"{self.number} alone tells the {self.target} with accuracy {self.alone.value:.2f} (chance "
            f"{self.chance:.2f}) and is read from layer {self.layer} with R2 {self.readable.value:.2f}"
        )
        if math.isnan(self.drop.value):
            alike = "hardly any clips of different classes are alike in it"
            return f"{alone}; {alike}: the two cannot be parted."
        verdict = "leans on" if alarm else "does not need"
        return (
            f"{alone}; where clips are alike in it, the mean recall of {self.recall.value:.2f} becomes "
            f"{self.matched.value:.2f} (drop {self.drop}): the probe {verdict} {self.number}."
        )


def confound(probed: ProbeEvaluation, name: str, values: Array, *, permutations: int = 1000) -> Confound:
    """Return what a probe owes to a number per sample.

    What is left of the accuracy where the classes are alike in the number is asked by weights that give every
    class the same distribution of it (overlap weights, Li & Li 2019): w = 1 / (e_y sum_c 1 / e_c), where
    e_c(z) is the share of class c among clips with the number z.

    The name has the unit: "level_db", "seconds", "silence", "tempo_bpm". The permutations shuffle labels
    between groups, for the p-value of the link between the finite values (n,) and the label.

    Raises:
        ProbeError: the values have another length or are not finite.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.shape != probed.y.shape or not np.isfinite(values).all():
        found = f"the shape is {values.shape}, with {int((~np.isfinite(values)).sum())} that are not finite"
        do = "Give one number for each sample, or leave out clips without it"
        raise ProbeError(f"{len(probed.y)} finite numbers were asked for {name!r}", found, do)
    spread = float(values.std())
    z = np.asarray((values - values.mean()) / spread) if spread > 1e-9 else np.zeros(len(values))
    x, y, groups = _curved(z), probed.y, probed.groups
    held_out = cross_validate(x, y, probed.splits, groups=groups, l2=(_SHARE_L2,), seed=probed.seed)
    recall, matched, drop, clips = _matching(probed, _overlap(z, probed.y))
    return Confound(
        **probed.place, number=name, alone=probed.rate(held_out.predicted == probed.y), chance=probed.chance,
        linked=_linked(z, probed, permutations), readable=_readable(probed, z),
        recall=recall, matched=matched, drop=drop, clips=clips,
    )  # fmt: skip


def _overlap(z: Array, y: Array) -> Array:
    """Return weights (n,) that give every class the same distribution of z."""
    everything = [(np.arange(len(y)), np.arange(len(y)))]
    logits = cross_validate(_curved(z), y, everything, groups=y, l2=(_SHARE_L2,)).logits
    shares = np.maximum(probabilities(logits, "softmax"), 1e-6)
    return np.asarray(1 / (shares[np.arange(len(y)), y] * (1 / shares).sum(1)))


def _curved(z: Array) -> Array:
    """Return the features (n, 2) of a number: itself and its square, so that classes may differ in spread."""
    return np.stack([z, z**2], axis=1)


def _matching(probed: ProbeEvaluation, weights: Array) -> tuple[Estimate, Estimate, Estimate, float]:
    """Return mean recall as it is, among matched clips, the difference, and the clips left per class."""
    of_class = np.eye(len(probed.classes))[probed.y]
    weighted = of_class * weights[:, None]
    # Where no class can be told from the number, a clip weighs 1 / k and counts as one.
    alike = np.minimum(weighted.sum(0) * len(of_class.T), weighted.sum(0) ** 2 / (weighted**2).sum(0))
    clips, hit = float(alike.min()), probed.correct[:, None]
    sums = sums_by_group(np.hstack([of_class * hit, of_class, weighted * hit, weighted]), probed.groups)
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


def _linked(z: Array, probed: ProbeEvaluation, permutations: int) -> float:
    """Return the p-value of the link between number and label: eta squared of groups, labels shuffled."""
    # Clips of one group are not independent witnesses: each group speaks once per class that it has.
    pairs = np.stack([probed.y, np.unique(probed.groups, return_inverse=True)[1]])
    _, first, unit = np.unique(pairs, axis=1, return_index=True, return_inverse=True)
    unit = unit.ravel()
    means = np.bincount(unit, weights=z) / np.bincount(unit)
    means, labels = means - means.mean(), probed.y[first]
    if not means.any():
        return 1.0
    sizes = np.bincount(labels, minlength=len(probed.classes))
    rng = np.random.default_rng(probed.seed)
    orders = rng.permuted(np.tile(np.arange(len(means)), (permutations, 1)), axis=1)
    orders = np.vstack([np.arange(len(means)), orders])
    of_class = np.eye(len(probed.classes))[labels]
    between = ((means[orders] @ of_class) ** 2 / sizes).sum(1)
    reached = int((between[1:] >= between[0] * (1 - 1e-12)).sum())
    return (reached + 1) / (permutations + 1)


def _readable(probed: ProbeEvaluation, z: Array) -> Estimate:
    """Return the held-out R2 of ridge on the activations, l2 by generalised cross-validation (Golub 1979)."""
    read, values = np.empty(len(z)), PROBE_METHODS["ridge"].l2
    for (train, test), design in zip(probed.splits, probed.designs, strict=True):
        spread, count, errors = design.axes.spread, len(train), []
        path = ridge_path(design, z[train, None], values)
        for l2, (weights, bias) in zip(values, path, strict=True):
            left = float(((z[train] - design.x @ weights[0] - bias[0]) ** 2).sum())
            freedom = 1 + float((spread / (spread + l2 * count)).sum())
            errors.append(left / max(1 - freedom / count, 1e-9) ** 2)
        weights, bias = path[int(np.argmin(errors))]
        read[test] = probed.x[test] @ weights[0] + bias[0]
    sums = sums_by_group(np.stack([(z - read) ** 2, z, z**2, np.ones(len(z))], 1), probed.groups)
    return jackknife(_r2, sums)


def _r2(total: Array) -> float:
    left, sum_, squares, count = total
    spread = squares - sum_**2 / max(count, 1)
    return float(1 - left / spread) if spread > 1e-9 else math.nan


@dataclass(frozen=True)
class Transfer(Diagnosis):
    """Accuracy of probes trained on one set of clips and tested on another, and back, on new groups."""

    names: tuple[str, str]
    here: Estimate  # trained and tested on the first set
    there: Estimate  # trained and tested on the second
    out: Estimate  # trained on the first, tested on the second
    back: Estimate  # the reverse
    loss: Estimate  # there - out

    figure: ClassVar[str] = "loss"

    def table(self) -> pd.DataFrame:
        """Return one row per pair: trained_on, tested_on, accuracy, low, high."""
        here, there = self.names
        pairs = [(here, here, self.here), (here, there, self.out)]
        pairs += [(there, there, self.there), (there, here, self.back)]
        rows = [(trained, tested, e.value, e.low, e.high) for trained, tested, e in pairs]
        return pd.DataFrame(rows, columns=["trained_on", "tested_on", "accuracy", "low", "high"])

    def _words(self, alarm: bool) -> str:
        here, there = self.names
        return (
            f"At layer {self.layer}, probes of the {self.target} trained on {here} clips read {there} ones "
            f"with accuracy {self.out.value:.2f} ({self.there.value:.2f} when trained on {there} clips, loss "
            f"{self.loss}); back from {there} to {here} it is {self.back.value:.2f} ({self.here.value:.2f})."
        )


def transfer(
    here: ProbeEvaluation, there: ProbeEvaluation, *, names: tuple[str, str] = ("real", "generated")
) -> Transfer:
    """Return the accuracy of the probes of one set of clips (`here`) on another (`there`), and back.

    A group that both sets share is judged by probes that did not see it on either side. The names are what
    the two sets are called.

    Raises:
        ProbeError: the two have other classes, layers or sites.
    """
    for what in ("classes", "layer", "site"):
        one, two = getattr(here, what), getattr(there, what)
        if one != two:
            asked = f"Probes of {names[0]} clips were to read {names[1]} ones"
            raise ProbeError(asked, f"their {what} are {one} and {two}", "Examine both alike")
    out = here.read(there.x, there.groups).argmax(1) == there.y
    back = there.read(here.x, here.groups).argmax(1) == here.y
    rates = here.accuracy, there.accuracy, there.rate(out), here.rate(back)
    loss = there.mean(there.correct.astype(np.float64) - out)
    return Transfer(here.target, here.layer, names, *rates, loss)
