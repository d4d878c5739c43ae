"""What steering does to several attributes: crosstalk, pairs steered together, and blends of two directions.

Classes of one target exclude each other, so what jazz gains rock must lose; crosstalk proper is what happens
to *other* targets. If directions blend as vectors do, a judge's log-odds of the first against the second rise
with the weight of the first; their rank correlation is taken inside a seed, so that what a seed likes in
itself cancels out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Unpack

import numpy as np
import pandas as pd

from workbench.errors import EvidenceError, renamed_keywords
from workbench.evidence.judge import Judge, Judges, as_judges
from workbench.evidence.trials import (
    UNSTEERED,
    RunOptions,
    Trial,
    pair_names,
    pair_prompts,
    pair_with_baseline,
    run_trials,
    trials,
)
from workbench.model.musicgen import NEUTRAL_PROMPTS, Model
from workbench.stats import Estimate, means, proportion, ratios, spearman
from workbench.steering import Direction, Steering

TOGETHER = "together"
WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
FLOOR = 1e-6  # least probability that log-odds are made of: beyond it a judge's certainty means nothing
Aim = tuple[str, str]  # (target, class) of a judge


@dataclass(frozen=True, eq=False)
class Crosstalk:
    """What every judge hears under every plan.

    Attributes:
        cells: a row per plan and class of a judge: plan, target, class, own (whether the plan aims at it), n,
            hit_rate with low and high (Wilson), unsteered (the baselines' hit rate), change (mean change of
            the probability against the baseline) with change_low and change_high (paired bootstrap).
        flips: plan, target, n, flips (share of clips whose verdict is not the baseline's), low, high.
    """

    cells: pd.DataFrame
    flips: pd.DataFrame = field(repr=False)
    clips: pd.DataFrame = field(repr=False)

    def table(self, what: str = "change") -> pd.DataFrame:
        """Return a matrix, plans down and "target: class" across, of one of the columns of `cells`."""
        values = self.cells.columns.drop(["plan", "target", "class", "own"])
        if what not in values:
            found = f"the figures are {', '.join(values)}"
            raise EvidenceError.lookup(f"A matrix of {what!r} was asked for", found, "Use one of these")
        named = self.cells.assign(column=self.cells["target"] + ": " + self.cells["class"])
        wide = named.pivot(index="plan", columns="column", values=what)
        return wide.loc[named["plan"].unique(), named["column"].unique()]

    def specificity(self, plan: str | None = None) -> float:
        """Return the mean change of own classes over the mean |change| of all classes of other targets.

        Chance moves other targets a little, too: a few clips understate it. NaN where no plan has an aim.
        """
        cells = self.cells if plan is None else self.cells[self.cells["plan"] == plan]
        own = cells[cells["own"]]
        aimed = cells["plan"].map(dict(zip(own["plan"], own["target"], strict=True)))
        others = cells[aimed.notna() & (cells["target"] != aimed)]["change"].abs().mean()
        return float(own["change"].mean() / others) if len(own) and others > 0 else float("nan")


def crosstalk(
    model: Model,
    plans: Mapping[str, Steering],
    judges: Judges,
    *,
    aims: Mapping[str, Aim] | None = None,
    prompts: Sequence[str] = NEUTRAL_PROMPTS,
    seeds: Sequence[int] = tuple(range(12)),
    **options: Unpack[RunOptions],
) -> Crosstalk:
    """Return what every judge hears under every plan, against the unsteered baselines.

    Plans, judges and aims go by name; a random direction of the same dose belongs among the plans. By default
    a plan aims at the class of a judge that is called as it is. A clip is made per plan and seed; prompts are
    taken in turn, seed by seed. Options are those of `run_trials`. EvidenceError where there is no plan or no
    judge, or an aim that no judge hears.
    """
    judges = as_judges(judges)
    if not plans or not judges:
        found = f"there are {len(plans)} plans and {len(judges)} judges"
        raise EvidenceError("Crosstalk was asked for", found, "Give at least one of each")
    own = aims_of(plans, judges, aims, needed=False)
    clips = run_trials(model, trials(plans, prompts, seeds), judges, **options)
    return crosstalk_of(clips, {target: judge.classes for target, judge in judges.items()}, own)


def crosstalk_of(
    clips: pd.DataFrame, classes: Mapping[str, Sequence[str]], aims: Mapping[str, Aim]
) -> Crosstalk:
    """Return the matrix of rows of `run_trials`, given the classes of each judge by target."""
    cells, flips = [], []
    for plan in [name for name in clips["method"].unique() if name != UNSTEERED]:
        mine, baselines = pair_with_baseline(clips, plan)
        for target, names in classes.items():
            heard, before = mine[f"judged_{target}"], baselines[f"judged_{target}"]
            columns = [f"p_{target}_{name}" for name in names]
            changes = means(mine[columns].to_numpy() - baselines[columns].to_numpy(), pair_names(mine))
            key, n, flipped = {"plan": plan, "target": target}, len(mine), proportion(heard != before)
            flips.append({**key, "n": n, "flips": flipped.value, "low": flipped.low, "high": flipped.high})
            for name, change in zip(names, changes, strict=True):
                hits, own = proportion(heard == name), aims.get(plan) == (target, name)
                cell = {**key, "class": name, "own": own, "n": n, "hit_rate": hits.value, "low": hits.low}
                cell |= {"high": hits.high, "unsteered": (before == name).mean(), "change": change.value}
                cells.append({**cell, "change_low": change.low, "change_high": change.high})
    return Crosstalk(pd.DataFrame(cells), pd.DataFrame(flips), clips)


def aims_of(
    plans: Iterable[str], judges: Mapping[str, Judge], aims: Mapping[str, Aim] | None, *, needed: bool
) -> dict[str, Aim]:
    """Return what each plan aims at: as given, else the class of a judge that is called as the plan is."""
    heard = [(target, str(name)) for target, judge in judges.items() for name in judge.classes]
    own: dict[str, Aim] = {}
    for plan in plans:
        fitting = [aims[plan]] if aims and plan in aims else [aim for aim in heard if aim[1] == plan]
        if len(fitting) > 1 or (needed and not fitting) or any(aim not in heard for aim in fitting):
            classes = ", ".join(f"{target}: {name}" for target, name in heard)
            asked = f"What the plan {plan!r} aims at was looked for"
            found = f"{fitting or 'nothing'} fits what judges hear ({classes})"
            raise EvidenceError(asked, found, 'Say it, for example aims={"plan": ("genre", "jazz")}')
        own.update((plan, aim) for aim in fitting)
    return own


@dataclass(frozen=True, eq=False)
class Pairs:
    """Hit rates by aim under its own plan, all plans and none, with bootstraps over (prompt, seed).

    `ratio` is together over alone, NaN where alone never hits; `all_hit` is the share of the clips steered
    together that hit every aim at once.
    """

    alone: Mapping[str, Estimate]
    together: Mapping[str, Estimate]
    unsteered: Mapping[str, Estimate]
    ratio: Mapping[str, Estimate]
    all_hit: Estimate
    clips: pd.DataFrame = field(repr=False)

    def table(self) -> pd.DataFrame:
        """Return a row per attribute: hit rates alone, together and unsteered, and the ratio's interval."""
        sides = {"unsteered": self.unsteered, "alone": self.alone, "together": self.together}
        rows = [
            (name, *(rates[name].value for rates in sides.values()), ratio.value, ratio.low, ratio.high)
            for name, ratio in self.ratio.items()
        ]
        return pd.DataFrame(rows, columns=["attribute", *sides, "ratio", "low", "high"])


def pairs(
    model: Model,
    plans: Mapping[str, Steering],
    judges: Judges,
    *,
    aims: Mapping[str, Aim] | None = None,
    prompts: Sequence[str] = NEUTRAL_PROMPTS,
    seeds: Sequence[int] = tuple(range(12)),
    **options: Unpack[RunOptions],
) -> Pairs:
    """Return how well each attribute is steered alone and together with the others.

    Arguments are those of `crosstalk`, with two plans or more: together their terms act in this order.
    EvidenceError where there are fewer, or a plan aims at nothing that a judge hears.
    """
    if len(plans) < 2 or TOGETHER in plans:
        found = f"the plans are {', '.join(plans) or 'none'}"
        do = f"Give at least two, none of them called {TOGETHER!r}"
        raise EvidenceError("Attributes were to be steered together", found, do)
    judges = as_judges(judges)
    own = aims_of(plans, judges, aims, needed=True)
    every = {**plans, TOGETHER: Steering(tuple(term for plan in plans.values() for term in plan.terms))}
    return pairs_of(run_trials(model, trials(every, prompts, seeds), judges, **options), own)


def pairs_of(clips: pd.DataFrame, aims: Mapping[str, Aim]) -> Pairs:
    """Return the comparison of rows of `run_trials` whose methods are the plans, together and unsteered."""
    together, unsteered = pair_with_baseline(clips, TOGETHER)
    groups = pair_names(together)

    def hits(*tables: pd.DataFrame) -> np.ndarray:  # (clips, aims), each aim in its own table
        every = zip(tables, aims.values(), strict=True)
        return np.column_stack([table[f"judged_{target}"] == name for table, (target, name) in every]) * 1.0

    each = hits(*(pair_with_baseline(clips, name, TOGETHER)[0] for name in aims))
    both, neither = (hits(*[table] * len(aims)) for table in (together, unsteered))
    found = [means(one, groups) for one in (each, both, neither)] + [ratios(both, each, groups)]
    alone, paired, before, ratio = (dict(zip(aims, estimates, strict=True)) for estimates in found)
    (all_hit,) = means(both.min(axis=1, keepdims=True), groups)
    return Pairs(alone, paired, before, ratio, all_hit, clips)


@dataclass(frozen=True, eq=False)
class BlendCurve:
    """What a judge hears in blends of two directions: log-odds `(seeds, weights)` of their classes, in nats.

    Weights are those of the first, rising; 1 is the first alone. `spearman` is the mean over seeds of the
    rank correlation of weight and log-odds. The clips are all that were judged, the unsteered ones, too.
    """

    first: str
    second: str
    odds: np.ndarray
    weights: tuple[float, ...]
    spearman: Estimate
    clips: pd.DataFrame = field(repr=False)

    def table(self) -> pd.DataFrame:
        """Return weight, n, log_odds (mean over seeds) and its bootstrap interval: low, high."""
        found = zip(self.weights, means(self.odds, np.arange(len(self.odds))), strict=True)
        rows = [(weight, len(self.odds), one.value, one.low, one.high) for weight, one in found]
        return pd.DataFrame(rows, columns=["weight", "n", "log_odds", "low", "high"])


def blend(first: Direction, second: Direction, weight: float) -> Direction:
    """Return w*first + (1-w)*second at length 1, named after both; weight 1 is the first alone."""
    return (weight * first + (1 - weight) * second).unit().named(f"{first.name} {weight:g} {second.name}")


@renamed_keywords(rows="branch")
def blend_curve(
    model: Model,
    first: Direction,
    second: Direction,
    judge: Judge | str,
    *,
    dose: float,
    weights: Sequence[float] = WEIGHTS,
    classes: tuple[str, str] | None = None,
    prompts: Sequence[str] = NEUTRAL_PROMPTS,
    seeds: Sequence[int] = tuple(range(8)),
    branch: str = "cond",
    **options: Unpack[RunOptions],
) -> BlendCurve:
    """Return what the judge hears in blends of two unit directions of one layer, all at the same dose.

    The weights are those of the first direction; `classes` of the judge are what the two stand for, by
    default their names. A clip is made per weight and seed; prompts are taken in turn, seed by seed. The
    branch is the half of guidance that is steered, "cond", "null" or "both"; options as for `run_trials`.

    Raises:
        EvidenceError: the judge does not hear both classes, or there are fewer than two weights.
        SteeringError: the directions are of different layers or cancel out.
    """
    ((_name, one),) = as_judges(judge).items()
    names = (first.name, second.name) if classes is None else classes
    asked, ladder = f"A blend of {names[0]} and {names[1]} was asked for", sorted(map(float, weights))
    if set(names) - set(one.classes) or names[0] == names[1]:
        found = f"the judge hears {', '.join(one.classes)}"
        raise EvidenceError(asked, found, "Name two of these: classes=")
    if len(ladder) < 2 or len(set(ladder)) < len(ladder):
        raise EvidenceError(asked, f"the weights are {ladder}", "Give two weights or more, each once")
    drawn = pair_prompts(prompts, seeds)
    some = [Trial(*pair, columns={"weight": math.nan}) for pair in drawn]
    for weight in ladder:
        plan = blend(first, second, weight).at(dose, branch=branch)
        some += [Trial(*pair, plan, "blend", columns={"weight": weight}) for pair in drawn]
    return blend_curve_of(run_trials(model, some, {"judge": one}, **options), names)


def blend_curve_of(clips: pd.DataFrame, classes: tuple[str, str]) -> BlendCurve:
    """Return the curve of rows of `run_trials` (method "blend", with a weight) that one "judge" heard."""
    key = ["seed", "prompt", "weight"]
    blends = clips[clips["method"] == "blend"].set_index(key)
    first, second = (np.log(blends[f"p_judge_{name}"].clip(lower=FLOOR)) for name in classes)
    twice = blends.index.has_duplicates
    wide = pd.DataFrame() if twice else (first - second).unstack("weight").sort_index()
    if twice or wide.isna().to_numpy().any():
        found = "a clip came twice" if twice else "some seeds miss some weights"
        raise EvidenceError("A blend curve was asked for", found, "Make every seed at every weight, once")
    odds, weights = wide.to_numpy(float), tuple(map(float, wide.columns))
    each = np.array([[spearman(np.array(weights), row)] for row in odds])
    (correlation,) = means(each, np.arange(len(each)))
    return BlendCurve(*classes, odds, weights, correlation, clips)
