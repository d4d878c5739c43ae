"""Is a judge to be trusted (`validate_judge`), and is what it heard of steering beyond chance (`effects`)?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import t

from workbench import stats
from workbench.errors import EvidenceError
from workbench.evidence.judge import Judge, as_judges
from workbench.evidence.search import RANDOM
from workbench.evidence.trials import UNSTEERED
from workbench.generation.generate import generate
from workbench.model.musicgen import Model
from workbench.sound import Clip
from workbench.stats import SURE, Estimate, mean_over_groups, proportion

LEAST_AUC, FEWEST = 0.7, 5  # for a judge to be trusted with a class: its AUC, clips of the class and others
MOST_MOVED = 0.1  # by which a codec alone may change the mean probability of a class


class Labelled(NamedTuple):
    """Clips and the class of each; clips of one group (a track, a seed) are no independent evidence."""

    clips: Sequence[Clip]
    labels: Sequence[str]
    groups: Sequence[Any] | None = None


def prompted_clips(
    model: Model, classes: Sequence[str], seeds: Sequence[int], *, prompt: str = "{} music", **options: Any
) -> Labelled:
    """Return unsteered clips of a prompt that names each class, on each seed; options as for `generate`."""
    names, drawn = [name for name in classes for _ in seeds], [*seeds] * len(classes)
    takes = generate(model, [prompt.format(name) for name in names], seed=drawn, **options)
    return Labelled([take.clip for take in takes], names, drawn)


@dataclass(frozen=True, eq=False, repr=False)
class JudgeValidation:
    """How well a judge ranks clips of known class, and by how much a codec alone moves it.

    The table has material, class, figure, value, low, high (bootstrap over groups), n, ok. The figure "AUC"
    is how often one of the n clips of the class outranks another clip, and "codec" by how much the codec's
    round trip alone changes the mean probability of the class.
    """

    judge: str
    table: pd.DataFrame

    @property
    def problems(self) -> list[str]:
        """What speaks against the judge, a sentence each."""
        told = {
            "AUC": "{} among {} clips has the AUC {} (n = {})",
            "codec": "the codec moves P({}) of {} clips by {}",
        }
        wrong = self.table[~self.table["ok"].astype(bool)]
        figures = [Estimate(*row) for row in wrong[["value", "low", "high"]].to_numpy(float)]
        parts = zip(wrong["figure"], wrong["class"], wrong["material"], figures, wrong["n"], strict=True)
        return [told[figure].format(*part) for figure, *part in parts]

    @property
    def ok(self) -> bool:
        """Whether nothing speaks against the judge."""
        return bool(self.table["ok"].all())

    def require(self) -> None:
        """Raise EvidenceError unless the judge is valid."""
        if not self.ok:
            asked, do = f"The judge {self.judge} was to be used", "Use another, or aim only at what it hears"
            raise EvidenceError(asked, "; ".join(self.problems), do)

    def __repr__(self) -> str:
        verdict = "valid" if self.ok else f"not valid: {'; '.join(self.problems)}"
        return f"The judge {self.judge} is {verdict}.\n{self.table.round(2).to_string(index=False)}"


def validate_judge(
    judge: Judge | str, materials: Mapping[str, Labelled], *, model: Model | None = None
) -> JudgeValidation:
    """Return whether a judge can be trusted, from clips of known class by the name of their material.

    A class is heard where clips of it outrank the others: AUC at least 0.7, interval above 0.5, and at least
    five clips on either side. Materials are, for example, real and prompted clips (`prompted_clips`). With a
    model, clips of the first material are also heard after its codec's round trip: where that alone changes
    the mean probability of a class by more than 0.1, for sure, the judge hears the codec.
    """
    ((name, one),) = as_judges(judge).items()
    rows: list[tuple[Any, ...]] = []
    for material, (clips, labels, groups) in materials.items():
        odds = np.asarray(one.probabilities(clips))
        units = np.arange(len(clips)) if groups is None else np.asarray(groups)
        own = np.asarray(labels)[:, None] == np.array(one.classes)
        for column, class_ in enumerate(one.classes):
            figure, n = stats.roc_auc(own[:, column], odds[:, column]), int(own[:, column].sum())
            value, (low, high) = stats.point_estimate(figure, len(own)), stats.interval(figure, units)
            ok = value >= LEAST_AUC and low > 0.5 and min(n, len(own) - n) >= FEWEST
            rows.append((material, class_, "AUC", value, low, high, n, ok))
        if model is not None and material == next(iter(materials)):
            again = one.probabilities([model.decode(model.encode(clip)) for clip in clips])
            for class_, moved in zip(one.classes, stats.means(np.asarray(again) - odds, units), strict=True):
                ok = abs(moved.value) <= MOST_MOVED or moved.low <= 0 <= moved.high
                rows.append((material, class_, "codec", moved.value, moved.low, moved.high, len(own), ok))
    columns = ["material", "class", "figure", "value", "low", "high", "n", "ok"]
    return JudgeValidation(name, pd.DataFrame(rows, columns=columns))


@dataclass(frozen=True)
class Effect:
    """What steering does to the probability of its aim, against controls on the same prompts and seeds.

    Gains have intervals over pairs, that over random directions the range in which a further one would lie.
    """

    aim: str
    n: int  # pairs of prompt and seed
    directions: int  # random directions among the controls
    gains: Mapping[str, Estimate]  # by control
    wrong: Estimate  # share of pairs that steering moved the wrong way
    p_value: float  # of steering doing no more than the control that it beats least

    @property
    def effective(self) -> bool:
        """Whether steering does more than every control."""
        return self.p_value <= SURE

    def __str__(self) -> str:
        gains = ", ".join(f"{gain} over {name}" for name, gain in self.gains.items())
        verdict = "effective" if self.effective else "not effective"
        return f"{self.aim} is {verdict} (p = {self.p_value:.3f}, {self.n} pairs): P rises by {gains}"


def is_effective(steered: pd.DataFrame, controls: pd.DataFrame, *, judge: str | None = None) -> bool:
    """Return whether steering to one aim does more than all its controls; see `effect`."""
    return effect(steered, controls, judge=judge).effective


def effect(steered: pd.DataFrame, controls: pd.DataFrame, *, judge: str | None = None) -> Effect:
    """Return the effect of steering to one aim, from rows of `run_trials` or `sweep`.

    A direction moves all its clips alike, so that many clips do not show that it does more than random ones
    do: against random directions each of them counts once (Student's t for one further value), against other
    controls each pair of prompt and seed. Pairs that a control lacks are left out for it.

    The steered clips are of one aim and dose, one for each prompt and seed; the controls' `method` is
    "random", "unsteered" or another. The column `drawn` says which of at least two random directions a clip
    is of; without it they follow each other in each pair, as `random_trials` makes them. The judge is the
    name in the columns `p_<judge>_<aim>`; by default those are called `p_<aim>` or `p`. EvidenceError for
    several aims or doses, fewer than two random directions, or no probability of the aim.
    """
    aims, key = steered["aim"].unique().tolist(), ["prompt", "seed"]
    mine = _probabilities(steered, aims, judge)
    parts = {str(name): part for name, part in controls.groupby("method", sort=False)}
    drawn = parts.get(RANDOM, controls[:0])
    numbers = drawn["drawn"] if "drawn" in drawn else drawn.groupby(key).cumcount()
    if not mine.index.is_unique or numbers.nunique() < 2:
        found = f"of {len(mine)} clips {mine.index.duplicated().sum()} come again, and the controls are "
        found += f"{', '.join(parts) or 'none'}"
        do = "Give one clip for each prompt and seed, and at least two random directions"
        raise EvidenceError(f"The effect of steering to {aims[0]} was asked for", found, do)
    others = {name: _probabilities(part, aims, judge) for name, part in parts.items()}
    base = others.get(UNSTEERED, others[RANDOM]).groupby(level=key).mean()
    gains: dict[str, Estimate] = {}
    for name, other in others.items():
        if name == RANDOM:
            shared = mine[mine.index.isin(other.index)]
            own, rises = (one - base.reindex(one.index) for one in (shared, other))
            each = [rises[(numbers == one).to_numpy()].dropna().to_numpy() for one in numbers.unique()]
            gains[name] = _over_directions(own.dropna().to_numpy(), each)
        else:
            gap = (mine - other.groupby(level=key).mean()).dropna().to_numpy()
            gains[name] = mean_over_groups(gap, np.arange(len(gap)))
    after, before = mine.align(base, join="inner")
    p_value = max(gain.p_value for gain in gains.values())
    return Effect(aims[0], len(mine), numbers.nunique(), gains, proportion(after < before), p_value)


def effects(
    table: pd.DataFrame, *, method: str = "probe", controls: Sequence[str] = (UNSTEERED, RANDOM),
    judge: str | None = None,
) -> dict[str, Effect]:  # fmt: skip
    """Return the effect for each aim of a method in one table, p-values adjusted over aims (Holm)."""
    found, others = {}, table[table["method"].isin(controls)]
    for aim, part in table[table["method"] == method].groupby("aim"):
        own = others[others["aim"].isna() | (others["aim"] == aim)]
        found[str(aim)] = effect(part, own, judge=judge)
    adjusted = stats.holm([one.p_value for one in found.values()])
    return {aim: replace(found[aim], p_value=float(p)) for aim, p in zip(found, adjusted, strict=True)}


def _probabilities(part: pd.DataFrame, aims: Sequence[str], judge: str | None) -> pd.Series:
    """Return the probability of the aim in each clip, by prompt and seed."""
    names = [f"p_{judge}_{aims[0]}"] if judge else [f"p_{aims[0]}", "p"]
    column = next((name for name in names if name in part), names[0])
    if len(aims) != 1 or column not in part or part[column].isna().any():
        found = f"the aims are {aims}, and {column} is not known of every clip"
        raise EvidenceError("An effect was asked for", found, "Give clips of one aim, and name the judge")
    return part.set_index(["prompt", "seed"])[column]


def _over_directions(mine: np.ndarray, others: Sequence[np.ndarray]) -> Estimate:
    """Return the gain of rises (n,) over those of random directions: are they of one more like the others?

    The variance between directions is that of their means without what clips of one direction vary by.
    """
    count, clips = len(others), sum(map(len, others))
    centres = np.array([one.mean() for one in others])
    within = sum(float(((one - one.mean()) ** 2).sum()) for one in others) / max(clips - count, 1)
    between = max(float(centres.var(ddof=1)) - within * count / clips, 0.0)
    variance = between * (1 + 1 / count) + within / clips + float(mine.var(ddof=1)) / len(mine)
    gain, error = float(mine.mean() - centres.mean()), max(variance, 1e-12) ** 0.5
    half = float(t.ppf(0.975, count - 1)) * error
    return Estimate(gain, gain - half, gain + half, float(t.sf(gain / error, count - 1)))
