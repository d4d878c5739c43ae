"""Faults that raise alarms: a probe that reads something beside its label, and data that cannot teach it.

Leaks: groups, the prompt, a number that goes along, the source. Faults of the data: classes of unequal size,
labels that are wrong, too few groups to learn from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.special import softmax
from scipy.stats import chi2, t
from sklearn.metrics import f1_score

from workbench.activations import Activations
from workbench.errors import ProbeError
from workbench.probing.crossval import cross_validate
from workbench.probing.diagnosis.evaluation import TOLERATED, Diagnosis, ProbeEvaluation, table_of
from workbench.probing.solvers import PROBE_METHODS, probabilities, ridge_path
from workbench.sound.dataset import as_text, grouped_folds
from workbench.stats import NOTHING, Estimate, jackknife, mean_over_groups, rate_over_groups, sums_by_group

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
    and `named`, the class that the text names ("" for none). ProbeError where "wrong" or both "neutral" and
    "null" are missing, or a clip is under one of them only.
    """
    names = conditions.coordinate("condition")
    calm = "neutral" if "neutral" in names else "null"
    if not {"wrong", calm} <= set(names):
        found = f"there are {', '.join(np.unique(names).tolist())}"
        do = "Capture the clips under these conditions too"
        raise ProbeError(f"The conditions wrong and {calm} were asked for", found, do)
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
    between groups, for the p-value of the link between the values (n,) and the label. ProbeError where the
    values have another length or are not finite.
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
    return _mean_share(hits, clips), _mean_share(weighted_hits, weights)


def _mean_share(hits: Array, clips: Array) -> float:
    """Return the mean over classes (k,) of hits / clips; NaN where a class has no clips."""
    return float((hits / clips).mean()) if (clips > 0).all() else math.nan


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

    def r2(total: Array) -> float:
        left, sum_, squares, count = total
        spread = squares - sum_**2 / max(count, 1)
        return float(1 - left / spread) if spread > 1e-9 else math.nan

    sums = np.stack([(z - read) ** 2, z, z**2, np.ones(len(z))], 1)
    return jackknife(r2, sums_by_group(sums, probed.groups))


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
    the two sets are called. ProbeError where the two have other classes, layers or sites.
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


FLATTERED = 0.05
"""Accuracy may lie this far above the mean recall before it is called flattering."""
BALANCED = 1.05
"""Below this ratio of the largest class to the smallest, classes count as balanced."""
BELIEVABLE = 0.03
"""A share of flipped labels up to which no alarm is raised: published music sets have as many."""
_SHARPEST = 5.0  # |log a| stays below: ridge logits lie between 0 and 1 and need a large a


@dataclass(frozen=True)
class ClassImbalance(Diagnosis):
    """Accuracy beside the figures that imbalance does not flatter."""

    commonest: str  # the class with most clips
    majority: float  # the accuracy of always naming it
    ratio: float  # clips of the commonest class per clip of the rarest
    accuracy: Estimate
    macro_f1: float
    recall: float  # mean over classes of the share that is read rightly
    flattery: Estimate  # accuracy minus mean recall

    figure: ClassVar[str] = "flattery"
    tested: ClassVar[bool] = True

    @property
    def balance(self) -> str:
        """How far the classes differ in size, in words."""
        if self.ratio < BALANCED:
            return "The classes are balanced"
        return f"{self.commonest} has {self.ratio:.1f} times as many clips as the rarest class"

    def _words(self, alarm: bool) -> str:
        verdict = "accuracy alone flatters the probe" if alarm else "accuracy is a fair figure here"
        return (
            f"{self.balance}; always naming {self.commonest} gives {self.majority:.2f}; at layer "
            f"{self.layer} the {self.target} accuracy is {self.accuracy.value:.2f}, the mean recall "
            f"{self.recall:.2f}, macro-F1 {self.macro_f1:.2f}: {verdict}."
        )


def class_imbalance(probed: ProbeEvaluation) -> ClassImbalance:
    """Return how far accuracy lies above the mean recall of the classes, tested over groups."""
    counts = np.bincount(probed.y, minlength=len(probed.classes))
    of_class = np.eye(len(probed.classes))[probed.y]
    columns = np.hstack([of_class * probed.correct[:, None], of_class])

    def above_recall(total: Array) -> float:
        hits, clips = np.split(total, 2)
        return float(hits.sum() / clips.sum()) - _mean_share(hits, clips)

    flattery = jackknife(above_recall, sums_by_group(columns, probed.groups), tolerated=FLATTERED)
    accuracy = probed.accuracy
    return ClassImbalance(
        **probed.place, commonest=probed.classes[int(counts.argmax())], majority=probed.chance,
        ratio=float(counts.max() / counts.min()), accuracy=accuracy,
        macro_f1=float(f1_score(probed.y, probed.held_out.predicted, average="macro")),
        recall=accuracy.value - flattery.value, flattery=flattery,
    )  # fmt: skip


@dataclass(frozen=True)
class LabelNoise(Diagnosis):
    """The estimated share of flipped labels, and the clips, hardest first."""

    share: Estimate
    hardest: pd.DataFrame = field(repr=False, compare=False)

    figure: ClassVar[str] = "share"
    tested: ClassVar[bool] = True

    def table(self) -> pd.DataFrame:
        """Return the clips, hardest first: suspicion is the probability that the label was flipped."""
        return self.hardest

    def suspects(self, *, above: float = 0.5) -> pd.DataFrame:
        """Return the clips whose label was more probably flipped than `above`, most suspicious first."""
        rows = self.hardest[self.hardest["suspicion"] > above]
        return rows.sort_values("suspicion", ascending=False, kind="stable")

    def _words(self, alarm: bool) -> str:
        worst = self.hardest.iloc[0]
        noisy = alarm and self.effect > BELIEVABLE
        verdict = "listen to the suspects" if noisy else "no more than a probe's own doubts"
        return (
            f"About {self.share.value:.0%} of the {self.target} labels look flipped "
            f"({self.share.low:.0%} to {self.share.high:.0%}), {len(self.suspects())} of them more "
            f"likely than not; hardest is {worst['clip']}, labelled {worst['label']}, read as "
            f"{worst['suggested']}: {verdict}."
        )


def label_noise(probed: ProbeEvaluation) -> LabelNoise:
    """Return the estimated share of flipped labels with a test, and all clips, hardest first.

    A lapse rate, as psychophysics knows it: a label is what held-out logits say, except that a share e of the
    labels was replaced by one of the others. P(label) = (1 - e) s + e (1 - s) / (k - 1), where s is the
    softmax of a times the logits. Two tests must agree: the likelihood ratio against e = 0, which lies on the
    bound (half a chi-squared), and the estimate over its error, groups taken as wholes, so that a track that
    sounds like another genre is one surprise and not eight.
    """
    logits = probed.held_out.logits
    logits = logits - logits.mean(1, keepdims=True)
    plain, lapsing = (_fitted(logits, probed.y, lapse=lapse) for lapse in (False, True))
    less, more = (_likelihood(logits, probed.y, *one)[0] for one in (plain, lapsing))
    gain = max(float((more - less).sum()), 0.0)
    a, e = lapsing if gain > 1e-9 else plain
    shares = softmax(a * probed.held_out.logits, axis=1)
    own = shares[np.arange(len(probed.y)), probed.y]
    flipped = e * (1 - own) / (shares.shape[1] - 1)
    rows = {"clip": probed.clips, "group": probed.groups, "label": probed.labels}
    rows |= {"suggested": np.array(probed.classes)[shares.argmax(1)], "confidence": own}
    rows["suspicion"] = flipped / np.maximum((1 - e) * own + flipped, 1e-12)
    hardest = pd.DataFrame(rows).sort_values("confidence", kind="stable", ignore_index=True)
    return LabelNoise(**probed.place, share=_tested(logits, probed, (a, e), gain), hardest=hardest)


def _likelihood(logits: Array, y: Array, a: float, e: float) -> tuple[Array, Array]:
    """Return the log-likelihood of each label (n,), and its gradient by (log a, e), (n, 2)."""
    shares, each = softmax(a * logits, axis=1), np.arange(len(y))
    s, others = shares[each, y], logits.shape[1] - 1
    rise = a * s * (logits[each, y] - (shares * logits).sum(1))  # of s by log a
    p = np.maximum((1 - e) * s + e * (1 - s) / others, 1e-12)
    return np.log(p), np.stack([rise * (1 - e - e / others) / p, ((1 - s) / others - s) / p], axis=1)


def _fitted(logits: Array, y: Array, *, lapse: bool) -> tuple[float, float]:
    """Return the most likely (a, e); e is 0 where no lapse is allowed."""
    most = 0.9 * (1 - 1 / logits.shape[1]) if lapse else 0.0

    def loss(free: Array) -> tuple[float, Array]:
        found, slopes = _likelihood(logits, y, math.exp(free[0]), float(free[1]))
        return -float(found.mean()), -slopes.mean(0) * (1.0, lapse)

    start = math.log(1 / max(float(logits.std()), 1e-9))
    bounds = [(start - _SHARPEST, start + _SHARPEST), (0.0, most)]
    best = minimize(loss, [start, min(0.1, most)], jac=True, bounds=bounds, method="L-BFGS-B")
    return math.exp(float(best.x[0])), float(best.x[1])


def _tested(logits: Array, probed: ProbeEvaluation, fitted: tuple[float, float], gain: float) -> Estimate:
    """Return e with its interval and p-value; `gain` is what lapses add to the log-likelihood."""
    a, e = fitted
    step, y, middle, freedom = 1e-4, probed.y, max(e, 1e-3), len(np.unique(probed.groups)) - 1

    def slope(by_a: float, by_e: float) -> Array:
        _, ahead = _likelihood(logits, y, a * math.exp(by_a), middle + by_e)
        _, behind = _likelihood(logits, y, a * math.exp(-by_a), middle - by_e)
        return np.asarray((ahead - behind).sum(0) / (2 * step))

    # The sandwich variance of e, with scores summed over groups.
    inverse = np.linalg.pinv(np.stack([slope(step, 0.0), slope(0.0, step)]))
    of_group = sums_by_group(_likelihood(logits, y, a, middle)[1], probed.groups)
    error = math.sqrt(max(float((inverse @ (of_group.T @ of_group) @ inverse.T)[1, 1]), 0.0))
    half = float(t.ppf(0.975, freedom)) * error
    chance = max(float(chi2.sf(2 * gain, 1)) / 2, float(t.sf(e / max(error, 1e-12), freedom)))
    return Estimate(e, max(e - half, 0.0), min(e + half, 1.0), chance if e > 0 else 1.0)


@dataclass(frozen=True)
class LearningCurve(Diagnosis):
    """Held-out accuracy over training groups per class, and whether more of them would still help."""

    unit: str
    points: tuple[tuple[float, Estimate], ...] = field(hash=False)  # groups per class, and accuracy
    rise: Estimate  # accuracy with all training groups minus that with half of them; NaN with one per class

    figure: ClassVar[str] = "rise"
    tested: ClassVar[bool] = True

    def table(self) -> pd.DataFrame:
        """Return one row per size: groups (per class, in training), accuracy, low, high."""
        return table_of("groups", dict(self.points))

    def _words(self, alarm: bool) -> str:
        most, accuracy = self.points[-1]
        with_all = f"With {most:.3g} training {self.unit}s per class"
        result = f"{with_all} the {self.target} accuracy is {accuracy.value:.2f}"
        if self.p_value is None:
            return f"{result}; there are too few {self.unit}s to train on half of them."
        help_ = "help" if alarm else "hardly help"
        return f"{result}; the last doubling brought {self.rise}: more {self.unit}s would {help_}."


def learning_curve(
    probed: ProbeEvaluation, *, sizes: Sequence[int] | None = None, repeats: int = 4
) -> LearningCurve:
    """Return accuracy over the number of training groups per class, always judged on the same held-out clips.

    Sizes (groups per class; ProbeError below 1) are by default 1, 2, 4 ... and a half, drawn `repeats` times.
    """
    numbers = range(len(probed.classes))
    parts = [train[probed.y[train] == one] for train, _ in probed.splits for one in numbers]
    most = float(np.mean([len(np.unique(probed.groups[part])) for part in parts]))
    half = most / 2
    sizes = [2**power for power in range(12)] if sizes is None else list(sizes)
    if any(size < 1 for size in sizes):
        raise ProbeError(f"The sizes {sizes} were asked for", "a size is 1 or more", "Use such")
    draws = {float(size): 2 for size in sorted(set(sizes)) if size < 0.75 * half}
    if half >= 1:
        draws[half] = repeats
    rng = np.random.default_rng(probed.seed)
    shares = [size / most for size, count in draws.items() for _ in range(count)]
    rounds = [[(_thinned(probed, train, one, rng), test) for train, test in probed.splits] for one in shares]
    right = (probed.predicted(rounds) == probed.y).astype(np.float64) if rounds else np.empty((0, 0))
    points, rise = [], NOTHING
    for size, count in draws.items():
        mean, right = right[:count].mean(0), right[count:]
        points.append((size, probed.rate(mean)))
        if size == half:
            rise = probed.mean(probed.correct - mean, TOLERATED)
    points.append((most, probed.accuracy))
    return LearningCurve(**probed.place, unit=probed.unit, points=tuple(points), rise=rise)


def _thinned(probed: ProbeEvaluation, train: Array, share: float, rng: np.random.Generator) -> Array:
    """Return the samples of a share of the training groups, of each class the same; every class keeps one."""
    _, member = np.unique(probed.groups[train], return_inverse=True)
    counts = sums_by_group(np.eye(len(probed.classes))[probed.y[train]], member)
    # A group of several classes counts for the class that most of its samples have.
    main, kept = counts.argmax(1), np.zeros(len(counts), dtype=bool)
    for class_ in range(len(probed.classes)):
        own = rng.permutation(np.flatnonzero(main == class_))
        wanted = share * len(own)
        # Half a group more or less: by chance, so that the mean over draws is the share that was asked for.
        size = int(wanted) + int(rng.random() < wanted - int(wanted))
        kept[own[: max(size, 1)]] = True
    for class_ in np.flatnonzero(counts[kept].sum(0) == 0).tolist():
        kept[rng.choice(np.flatnonzero(counts[:, class_] > 0))] = True
    return np.asarray(train[kept[member]])
