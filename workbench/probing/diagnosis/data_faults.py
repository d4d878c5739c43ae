"""Faults of the data: classes of unequal size, labels that are wrong, and too few groups to learn from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pandas as pd
from scipy.special import softmax
from sklearn.metrics import f1_score

from workbench.errors import ProbeError
from workbench.probing.diagnosis.evaluation import TOLERATED, Diagnosis, ProbeEvaluation, table_of
from workbench.stats import NOTHING, Estimate, jackknife, sums_by_group

Array = np.ndarray
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
    flattery = jackknife(_flattery, sums_by_group(columns, probed.groups), tolerated=FLATTERED)
    accuracy = probed.accuracy
    return ClassImbalance(
        **probed.place, commonest=probed.classes[int(counts.argmax())], majority=probed.chance,
        ratio=float(counts.max() / counts.min()), accuracy=accuracy,
        macro_f1=float(f1_score(probed.y, probed.held_out.predicted, average="macro")),
        recall=accuracy.value - flattery.value, flattery=flattery,
    )  # fmt: skip


def _flattery(total: Array) -> float:
    """Return accuracy minus mean recall, from hits and clips of each class (2 k,)."""
    hits, clips = np.split(total, 2)
    return float(hits.sum() / clips.sum() - (hits / clips).mean()) if (clips > 0).all() else math.nan


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
    sharp, _ = _fitted(logits, probed.y, lapse=False)
    a, e = _fitted(logits, probed.y, lapse=True)
    more, less = _log_likelihood(logits, probed.y, a, e), _log_likelihood(logits, probed.y, sharp, 0.0)
    gain = float((more - less).sum())
    if gain <= 1e-9:
        a, e, gain = sharp, 0.0, 0.0
    shares = softmax(a * probed.held_out.logits, axis=1)
    own = shares[np.arange(len(probed.y)), probed.y]
    flipped = e * (1 - own) / (shares.shape[1] - 1)
    rows = {
        "clip": probed.clips,
        "group": probed.groups,
        "label": probed.labels,
        "suggested": np.array(probed.classes)[shares.argmax(1)],
        "confidence": own,
        "suspicion": flipped / np.maximum((1 - e) * own + flipped, 1e-12),
    }
    hardest = pd.DataFrame(rows).sort_values("confidence", kind="stable", ignore_index=True)
    return LabelNoise(**probed.place, share=_tested(logits, probed, (a, e), gain), hardest=hardest)


def _log_likelihood(logits: Array, y: Array, a: float, e: float) -> Array:
    """Return the log-likelihood of each label (n,)."""
    s = softmax(a * logits, axis=1)[np.arange(len(y)), y]
    return np.log(np.maximum((1 - e) * s + e * (1 - s) / (logits.shape[1] - 1), 1e-12))


def _scores(logits: Array, y: Array, a: float, e: float) -> Array:
    """Return the gradient of each label's log-likelihood by (log a, e), (n, 2)."""
    shares = softmax(a * logits, axis=1)
    each = np.arange(len(y))
    s, others = shares[each, y], logits.shape[1] - 1
    rise = a * s * (logits[each, y] - (shares * logits).sum(1))  # of s by log a
    p = np.maximum((1 - e) * s + e * (1 - s) / others, 1e-12)
    return np.stack([rise * (1 - e - e / others) / p, ((1 - s) / others - s) / p], axis=1)


def _fitted(logits: Array, y: Array, *, lapse: bool) -> tuple[float, float]:
    """Return the most likely (a, e); e is 0 where no lapse is allowed."""
    from scipy.optimize import minimize

    most = 0.9 * (1 - 1 / logits.shape[1]) if lapse else 0.0

    def loss(free: Array) -> tuple[float, Array]:
        a, e = math.exp(free[0]), float(free[1])
        grad = _scores(logits, y, a, e).mean(0)
        slope = np.array([-grad[0], -grad[1] if lapse else 0.0])
        return -float(_log_likelihood(logits, y, a, e).mean()), slope

    start = math.log(1 / max(float(logits.std()), 1e-9))
    bounds = [(start - _SHARPEST, start + _SHARPEST), (0.0, most)]
    best = minimize(loss, [start, min(0.1, most)], jac=True, bounds=bounds, method="L-BFGS-B")
    return math.exp(float(best.x[0])), float(best.x[1])


def _tested(logits: Array, probed: ProbeEvaluation, fitted: tuple[float, float], gain: float) -> Estimate:
    """Return e with its interval and p-value; `gain` is what lapses add to the log-likelihood."""
    from scipy.stats import chi2, t

    a, e = fitted
    error, freedom = _error(logits, probed, a, e), len(np.unique(probed.groups)) - 1
    half = float(t.ppf(0.975, freedom)) * error
    chance = max(float(chi2.sf(2 * gain, 1)) / 2, float(t.sf(e / max(error, 1e-12), freedom)))
    return Estimate(e, max(e - half, 0.0), min(e + half, 1.0), chance if e > 0 else 1.0)


def _error(logits: Array, probed: ProbeEvaluation, a: float, e: float) -> float:
    """Return the standard error of e: sandwich variance, with scores summed over groups."""
    step, y, middle = 1e-4, probed.y, max(e, 1e-3)

    def slope(by_a: float, by_e: float) -> Array:
        ahead = _scores(logits, y, a * math.exp(by_a), middle + by_e)
        behind = _scores(logits, y, a * math.exp(-by_a), middle - by_e)
        return np.asarray((ahead - behind).sum(0) / (2 * step))

    inverse = np.linalg.pinv(np.stack([slope(step, 0.0), slope(0.0, step)]))
    of_group = sums_by_group(_scores(logits, y, a, middle), probed.groups)
    return math.sqrt(max(float((inverse @ (of_group.T @ of_group) @ inverse.T)[1, 1]), 0.0))


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

    The sizes are groups per class, by default 1, 2, 4 ... below half of all, which is drawn `repeats` times.

    Raises:
        ProbeError: a size is below 1.
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
