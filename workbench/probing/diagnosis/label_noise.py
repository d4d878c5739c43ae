"""Label noise: which clips are hardest to believe, and what share of the labels looks flipped.

A lapse rate, as psychophysics knows it: a label is what held-out logits say, except that a share e of the
labels was replaced by one of the others. P(label) = (1 - e) s + e (1 - s) / (k - 1), where s is the softmax
of a times the logits. A probe that is merely unsure is caught by a; clips that it is sure of and that are
labelled otherwise need e.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from workbench.probing.diagnosis.case import Case
from workbench.probing.diagnosis.estimate import SURE, Estimate, sums_by_group

Array = np.ndarray
BELIEVABLE = 0.03
"""A share of flipped labels up to which no alarm is raised: published music sets have as many."""
_SHARPEST = 5.0  # |log a| stays below: ridge logits lie between 0 and 1 and need a large a


@dataclass(frozen=True)
class LabelNoise:
    """The estimated share of flipped labels, and the clips, hardest first.

    hardest  one row per clip: clip, group, label, suggested, confidence (held-out probability of its label),
             suspicion (probability that its label was flipped, given the share)
    """

    target: str
    layer: int
    share: Estimate
    hardest: pd.DataFrame = field(repr=False, compare=False)

    @property
    def effect(self) -> float:
        """Share of labels that look flipped."""
        return self.share.value

    @property
    def p_value(self) -> float:
        """Chance of such a share where no label was flipped."""
        return self.share.p_value

    def table(self) -> pd.DataFrame:
        """Return the clips, hardest first."""
        return self.hardest

    def suspects(self, *, above: float = 0.5) -> pd.DataFrame:
        """Return the clips whose label was more probably flipped than `above`, most suspicious first."""
        rows = self.hardest[self.hardest["suspicion"] > above]
        return rows.sort_values("suspicion", ascending=False, kind="stable")

    def sentence(self, alarm: bool | None = None) -> str:
        """Return what was found; `alarm` is the battery's verdict, by default that of its own p-value."""
        worst = self.hardest.iloc[0]
        noisy = self.p_value <= SURE and self.effect > BELIEVABLE if alarm is None else alarm
        verdict = "listen to the suspects" if noisy else "no more than a probe's own doubts"
        return (
            f"About {self.share.value:.0%} of the {self.target} labels look flipped "
            f"({self.share.low:.0%} to {self.share.high:.0%}), {len(self.suspects())} of them more "
            f"likely than not; hardest is {worst['clip']}, labelled {worst['label']}, read as "
            f"{worst['suggested']}: {verdict}."
        )


def label_noise(case: Case) -> LabelNoise:
    """Return the estimated share of flipped labels with a test, and all clips, hardest first.

    Two tests must agree. The likelihood ratio against e = 0, which lies on the bound (half a chi-squared),
    asks whether lapses are needed at all; the estimate over its error, groups taken as wholes, asks whether
    they are spread over groups: one track that sounds like another genre is one surprise and not eight.
    """
    logits = case.held.logits
    logits = logits - logits.mean(1, keepdims=True)
    sharp, _ = _fitted(logits, case.y, lapse=False)
    a, e = _fitted(logits, case.y, lapse=True)
    gain = float((_log_likelihood(logits, case.y, a, e) - _log_likelihood(logits, case.y, sharp, 0.0)).sum())
    if gain <= 1e-9:
        a, e, gain = sharp, 0.0, 0.0
    return LabelNoise(case.target, case.layer, _tested(logits, case, (a, e), gain), _hardest(case, a, e))


def _softmax(logits: Array) -> Array:
    shares = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(shares / shares.sum(1, keepdims=True))


def _log_likelihood(logits: Array, y: Array, a: float, e: float) -> Array:
    """Return the log-likelihood of each label (n,)."""
    s = _softmax(a * logits)[np.arange(len(y)), y]
    return np.log(np.maximum((1 - e) * s + e * (1 - s) / (logits.shape[1] - 1), 1e-12))


def _scores(logits: Array, y: Array, a: float, e: float) -> Array:
    """Return the gradient of each label's log-likelihood by (log a, e), (n, 2)."""
    shares = _softmax(a * logits)
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
        return -float(_log_likelihood(logits, y, a, e).mean()), np.array(
            [-grad[0], -grad[1] if lapse else 0.0]
        )

    start = math.log(1 / max(float(logits.std()), 1e-9))
    bounds = [(start - _SHARPEST, start + _SHARPEST), (0.0, most)]
    found = minimize(loss, [start, min(0.1, most)], jac=True, bounds=bounds, method="L-BFGS-B")
    return math.exp(float(found.x[0])), float(found.x[1])


def _tested(logits: Array, case: Case, fitted: tuple[float, float], gain: float) -> Estimate:
    """Return e with its interval and p-value; `gain` is what lapses add to the log-likelihood."""
    from scipy.stats import chi2, t

    a, e = fitted
    error, freedom = _error(logits, case, a, e), len(np.unique(case.groups)) - 1
    half = float(t.ppf(0.975, freedom)) * error
    chance = max(float(chi2.sf(2 * gain, 1)) / 2, float(t.sf(e / max(error, 1e-12), freedom)))
    return Estimate(e, max(e - half, 0.0), min(e + half, 1.0), chance if e > 0 else 1.0)


def _error(logits: Array, case: Case, a: float, e: float) -> float:
    """Return the standard error of e: sandwich variance, with scores summed over groups."""
    step, y, middle = 1e-4, case.y, max(e, 1e-3)

    def slope(by_a: float, by_e: float) -> Array:
        ahead = _scores(logits, y, a * math.exp(by_a), middle + by_e)
        behind = _scores(logits, y, a * math.exp(-by_a), middle - by_e)
        return np.asarray((ahead - behind).sum(0) / (2 * step))

    inverse = np.linalg.pinv(np.stack([slope(step, 0.0), slope(0.0, step)]))
    of_group = sums_by_group(_scores(logits, y, a, middle), case.groups)
    return math.sqrt(max(float((inverse @ (of_group.T @ of_group) @ inverse.T)[1, 1]), 0.0))


def _hardest(case: Case, a: float, e: float) -> pd.DataFrame:
    """Return the table of clips, the least believable label first."""
    each, shares = np.arange(len(case.y)), _softmax(a * case.held.logits)
    own = shares[each, case.y]
    flipped = e * (1 - own) / (shares.shape[1] - 1)
    rows = {
        "clip": case.clips,
        "group": case.groups,
        "label": case.labels,
        "suggested": np.array(case.classes)[shares.argmax(1)],
        "confidence": own,
        "suspicion": flipped / np.maximum((1 - e) * own + flipped, 1e-12),
    }
    return pd.DataFrame(rows).sort_values("confidence", kind="stable", ignore_index=True)
