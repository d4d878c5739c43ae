"""Can one play between two styles? A blend w*a + (1-w)*b of two directions, and what a judge makes of it.

If directions blend as vectors do, the judge's log-odds of a against b rise with w. Each seed is one ladder of
weights, so the rank correlation is taken inside a seed and averaged over seeds: what a seed likes in itself
cancels out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pandas as pd

from workbench.errors import EvidenceError
from workbench.evidence.hearing import UNSTEERED, Ask, hear, paired
from workbench.evidence.intervals import means
from workbench.evidence.judge import Judge
from workbench.model.musicgen import Model
from workbench.model.norms import NEUTRAL_PROMPTS
from workbench.probing.diagnosis.estimate import Estimate
from workbench.steering import Direction

WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
FLOOR = 1e-6
"""Least probability that log-odds are made of: beyond it a judge's certainty means nothing."""


@dataclass(frozen=True, eq=False)
class Fusion:
    """What a judge hears in blends of two directions.

    first, second   the classes; weight 1 is the first alone
    odds            (seeds, weights) log-odds of the first against the second
    weights         (weights,) rising
    spearman        mean over seeds of the rank correlation of weight and log-odds, bootstrap over seeds
    clips           every clip that was heard, the unsteered ones among them
    """

    first: str
    second: str
    odds: np.ndarray
    weights: tuple[float, ...]
    spearman: Estimate
    clips: pd.DataFrame = field(repr=False)

    def table(self) -> pd.DataFrame:
        """Return weight, n, log_odds (mean over seeds) and its bootstrap interval: low, high."""
        found = means(self.odds, np.arange(len(self.odds)))
        rows = [
            {"weight": weight, "n": len(self.odds), "log_odds": one.value, "low": one.low, "high": one.high}
            for weight, one in zip(self.weights, found, strict=True)
        ]
        return pd.DataFrame(rows)


def blend(first: Direction, second: Direction, weight: float) -> Direction:
    """Return w*first + (1-w)*second at length 1, named after both; weight 1 is the first alone."""
    return (weight * first + (1 - weight) * second).unit().named(f"{first.name} {weight:g} {second.name}")


def fuse(
    model: Model,
    first: Direction,
    second: Direction,
    judge: Judge,
    *,
    dose: float,
    weights: Sequence[float] = WEIGHTS,
    classes: tuple[str, str] | None = None,
    prompts: Sequence[str] = NEUTRAL_PROMPTS,
    seeds: Sequence[int] = tuple(range(8)),
    rows: str = "cond",
    seconds: float = 5.0,
    guidance: float | None = None,
    progress: bool = True,
) -> Fusion:
    """Return what the judge hears in blends of two unit directions of one layer, all at the same dose.

    Args:
        model: the model.
        first: a direction.
        second: another of the same layer.
        judge: hears both classes.
        dose: of every blend; blends are made length 1 first, so all push equally hard.
        weights: of the first direction, two or more.
        classes: what the two directions stand for; by default their names.
        prompts: taken in turn, seed by seed.
        seeds: each makes a clip per weight.
        rows: guidance rows that are steered.
        seconds: length of the clips.
        guidance: classifier-free guidance; by default what the checkpoint says.
        progress: whether to show progress bars.

    Raises:
        EvidenceError: the judge does not hear both classes, or there are fewer than two weights.
        SteeringError: the directions are of different layers or cancel out.
    """
    names = (first.name, second.name) if classes is None else classes
    ladder = _checked(names, judge, weights)
    pairs = paired(prompts, seeds)
    asked = [Ask(None, *pair, {"method": UNSTEERED, "weight": math.nan}) for pair in pairs]
    for weight in ladder:
        plan = blend(first, second, weight).at(dose, rows=rows)
        asked += [Ask(plan, *pair, {"method": "blend", "weight": weight}) for pair in pairs]
    clips = hear(model, asked, {"judge": judge}, seconds=seconds, guidance=guidance, progress=progress)
    return fusion_of(clips, names)


def fusion_of(clips: pd.DataFrame, classes: tuple[str, str]) -> Fusion:
    """Return what follows from clips that are already heard by a judge called "judge".

    Args:
        clips: rows of `hear` with method "blend" and their weight; one per seed, prompt and weight.
        classes: first and second.

    Raises:
        EvidenceError: not every seed was heard at every weight, once.
    """
    blends = clips[clips["method"] == "blend"]
    first, second = (np.log(blends[f"p_judge_{name}"].clip(lower=FLOOR)) for name in classes)
    told = blends[["seed", "prompt", "weight"]].assign(odds=first - second)
    if told.duplicated(["seed", "prompt", "weight"]).any():
        raise EvidenceError("A fusion was asked for", "a clip came twice", "Hear each weight once")
    wide = told.pivot(index=["seed", "prompt"], columns="weight", values="odds")
    if wide.isna().to_numpy().any():
        found = "some seeds miss some weights"
        raise EvidenceError("A fusion was asked for", found, "Hear every seed at every weight")
    odds, weights = wide.to_numpy(float), tuple(float(weight) for weight in wide.columns)
    each = np.array([rank_correlation(np.array(weights), row) for row in odds])
    (spearman,) = means(each[:, None], np.arange(len(each)))
    return Fusion(*classes, odds, weights, spearman, clips)


def rank_correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Return Spearman's correlation of two series (n,), 0 where one of them does not vary."""
    from scipy.stats import rankdata

    ranks = np.stack([rankdata(x), rankdata(y)])
    if (ranks.std(axis=1) == 0).any():
        return 0.0
    return float(np.corrcoef(ranks)[0, 1])


def _checked(names: tuple[str, str], judge: Judge, weights: Sequence[float]) -> list[float]:
    ladder = sorted(float(weight) for weight in weights)
    if set(names) - set(judge.classes) or names[0] == names[1]:
        found = f"the judge of {judge.target} hears {', '.join(judge.classes)}"
        raise EvidenceError(
            f"A blend of {names[0]} and {names[1]} was asked for", found, "Name two of these: classes="
        )
    if len(ladder) < 2 or any(low == high for low, high in pairwise(ladder)):
        found = f"the weights are {ladder}"
        raise EvidenceError("A blend was asked for", found, "Give two weights or more, each once")
    return ladder
