"""What steering does to several attributes: crosstalk, pairs steered together, and blends of two directions.

*Crosstalk*: does steering one attribute move the others? Every plan is heard by every judge, beside the
unsteered baseline. Classes of one target exclude each other, so what jazz gains rock must lose; crosstalk
proper is what happens to *other* targets.

*Pairs*: do two attributes steered together each work as well as alone? Ratios of hit rates, clip beside clip.

*Blends*: can one play between two styles? If directions blend as vectors do, a judge's log-odds of the first
against the second rise with the weight of the first. Each seed is a ladder of weights, so the rank
correlation is taken inside a seed and averaged over seeds: what a seed likes in itself cancels out.
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
from workbench.stats import Estimate, means, ratios, spearman, wilson
from workbench.steering import Direction, Steering

TOGETHER = "together"
WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
FLOOR = 1e-6
"""Least probability that log-odds are made of: beyond it a judge's certainty means nothing."""

Aim = tuple[str, str]
"""(target, class) of a judge."""


@dataclass(frozen=True, eq=False)
class Crosstalk:
    """What every judge hears under every plan.

    Attributes:
        cells: a row per plan and class of a judge: plan, target, class, own (whether the plan aims at it), n,
            hit_rate with low and high (Wilson), unsteered (the baselines' hit rate), change (mean change of
            the probability against the baseline) with change_low and change_high (paired bootstrap).
        flips: a row per plan and judge: plan, target, n, flips (share of clips whose verdict is not the
            baseline's), low, high.
        clips: every clip that was judged.
    """

    cells: pd.DataFrame
    flips: pd.DataFrame = field(repr=False)
    clips: pd.DataFrame = field(repr=False)

    def table(self, what: str = "change") -> pd.DataFrame:
        """Return a matrix, plans down and "target: class" across, of one of the columns of `cells`.

        Raises:
            EvidenceError: there is no such column.
        """
        values = [name for name in self.cells if name not in ("plan", "target", "class", "own")]
        if what not in values:
            found = f"the figures are {', '.join(map(str, values))}"
            raise EvidenceError.lookup(f"A matrix of {what!r} was asked for", found, "Use one of these")
        named = self.cells.assign(column=self.cells["target"] + ": " + self.cells["class"])
        wide = named.pivot(index="plan", columns="column", values=what)
        return wide.loc[named["plan"].unique(), named["column"].unique()]

    def specificity(self, plan: str | None = None) -> float:
        """Return the mean change of own classes over the mean |change| of all classes of other targets.

        Chance moves other targets a little, too, so a few clips understate it. NaN where no plan has an aim.

        Args:
            plan: one plan; by default all together.
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

    Args:
        model: the model.
        plans: by name; a random direction of the same dose belongs among them.
        judges: by target, each as it is or by its name.
        aims: what a plan aims at; by default the class of a judge that is called as the plan is.
        prompts: taken in turn, seed by seed.
        seeds: one clip per plan and seed.
        options: as `run_trials` takes them.

    Raises:
        EvidenceError: there is no plan or no judge, or an aim that no judge hears.
    """
    judges = as_judges(judges)
    if not plans or not judges:
        found = f"there are {len(plans)} plans and {len(judges)} judges"
        raise EvidenceError("Crosstalk was asked for", found, "Give at least one of each")
    own = aims_of(plans, judges, aims, needed=False)
    clips = run_trials(model, trials(plans, prompts, seeds), judges, **options)
    return crosstalk_of(clips, {target: tuple(judge.classes) for target, judge in judges.items()}, own)


def crosstalk_of(
    clips: pd.DataFrame, classes: Mapping[str, Sequence[str]], aims: Mapping[str, Aim]
) -> Crosstalk:
    """Return the matrix of clips that are already judged.

    Args:
        clips: rows of `run_trials`, the unsteered baselines among them.
        classes: of each judge, by target.
        aims: what plans aim at, where they do.
    """
    cells, flips = [], []
    for plan in [name for name in clips["method"].unique() if name != UNSTEERED]:
        mine, baselines = pair_with_baseline(clips, plan)
        groups = pair_names(mine)
        for target, names in classes.items():
            heard, before = mine[f"judged_{target}"], baselines[f"judged_{target}"]
            columns = [f"p_{target}_{name}" for name in names]
            changes = means(mine[columns].to_numpy() - baselines[columns].to_numpy(), groups)
            key = {"plan": plan, "target": target}
            flipped = (heard != before).to_numpy()
            flips.append({**key, "n": len(mine), "flips": flipped.mean(), **_bounds(flipped)})
            for name, change in zip(names, changes, strict=True):
                hits = (heard == name).to_numpy()
                cells.append(
                    {**key, "class": name, "own": aims.get(plan) == (target, name), "n": len(mine),
                     "hit_rate": hits.mean(), **_bounds(hits), "unsteered": (before == name).mean(),
                     "change": change.value, "change_low": change.low, "change_high": change.high}
                )  # fmt: skip
    return Crosstalk(pd.DataFrame(cells), pd.DataFrame(flips), clips)


def aims_of(
    plans: Iterable[str], judges: Mapping[str, Judge], aims: Mapping[str, Aim] | None, *, needed: bool
) -> dict[str, Aim]:
    """Return what each plan aims at: as given, else the one class of a judge that is called as the plan is.

    Args:
        plans: names of plans.
        judges: by target.
        aims: what is given; checked.
        needed: whether every plan must have an aim.

    Raises:
        EvidenceError: no judge hears an aim, a name fits several judges, or a plan lacks a needed aim.
    """
    heard = [(target, str(name)) for target, judge in judges.items() for name in judge.classes]
    found: dict[str, Aim] = {}
    for plan in plans:
        fitting = [aims[plan]] if aims and plan in aims else [aim for aim in heard if aim[1] == plan]
        if len(fitting) > 1 or (needed and not fitting) or any(aim not in heard for aim in fitting):
            classes = ", ".join(f"{target}: {name}" for target, name in heard)
            raise EvidenceError(
                f"What the plan {plan!r} aims at was looked for",
                f"{fitting or 'nothing'} fits what judges hear ({classes})",
                'Say it, for example aims={"plan": ("genre", "jazz")}',
            )
        if fitting:
            found[plan] = fitting[0]
    return found


def _bounds(hits: np.ndarray) -> dict[str, float]:
    low, high = wilson(int(hits.sum()), len(hits))
    return {"low": low, "high": high}


@dataclass(frozen=True, eq=False)
class Pairs:
    """Attributes steered alone and together; every interval is a bootstrap over (prompt, seed).

    Attributes:
        alone: hit rate of each aim under its own plan.
        together: hit rate of each aim under all plans at once.
        unsteered: hit rate of each aim under none.
        ratio: together over alone; NaN where alone never hits.
        all_hit: share of the clips steered together that hit every aim at once.
        clips: every clip that was judged.
    """

    alone: Mapping[str, Estimate]
    together: Mapping[str, Estimate]
    unsteered: Mapping[str, Estimate]
    ratio: Mapping[str, Estimate]
    all_hit: Estimate
    clips: pd.DataFrame = field(repr=False)

    def table(self) -> pd.DataFrame:
        """Return a row per attribute: hit rates alone, together and unsteered, and the ratio's interval."""
        rows = [
            {"attribute": name, "unsteered": self.unsteered[name].value, "alone": self.alone[name].value,
             "together": self.together[name].value, "ratio": self.ratio[name].value,
             "low": self.ratio[name].low, "high": self.ratio[name].high}
            for name in self.alone
        ]  # fmt: skip
        return pd.DataFrame(rows)


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

    Args:
        model: the model.
        plans: two or more, by name; together their terms act in this order.
        judges: by target, each as it is or by its name.
        aims: what each plan aims at; by default the class of a judge that is called as the plan is.
        prompts: taken in turn, seed by seed.
        seeds: one clip per plan and seed.
        options: as `run_trials` takes them.

    Raises:
        EvidenceError: there are fewer than two plans, or a plan aims at nothing that a judge hears.
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
    """Return the comparison of clips that are already judged: methods are the plans, together, unsteered.

    Args:
        clips: rows of `run_trials`.
        aims: plan -> (target, class).

    Raises:
        EvidenceError: not every plan was heard on the same prompts and seeds.
    """
    together, unsteered = pair_with_baseline(clips, TOGETHER)
    groups = pair_names(together)

    def hits(table: pd.DataFrame) -> np.ndarray:
        every = [table[f"judged_{target}"] == class_ for target, class_ in aims.values()]
        return np.column_stack(every).astype(float)

    def estimates(found: list[Estimate]) -> dict[str, Estimate]:
        return dict(zip(aims, found, strict=True))

    alone = [hits(pair_with_baseline(clips, name, TOGETHER)[0])[:, i] for i, name in enumerate(aims)]
    both, each = hits(together), np.column_stack(alone)
    (all_hit,) = means(both.min(axis=1, keepdims=True), groups)
    rates = [estimates(means(one, groups)) for one in (each, both, hits(unsteered))]
    return Pairs(rates[0], rates[1], rates[2], estimates(ratios(both, each, groups)), all_hit, clips)


@dataclass(frozen=True, eq=False)
class BlendCurve:
    """What a judge hears in blends of two directions.

    Attributes:
        first: the class of the first direction; weight 1 is the first alone.
        second: the class of the second.
        odds: `(seeds, weights)` log-odds of the first against the second, in nats.
        weights: `(weights,)` rising.
        spearman: mean over seeds of the rank correlation of weight and log-odds, bootstrap over seeds.
        clips: every clip that was judged, the unsteered ones among them.
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

    Args:
        model: the model.
        first: a direction.
        second: another of the same layer.
        judge: hears both classes; as it is or by its name.
        dose: of every blend; blends are made length 1 first, so all push equally hard.
        weights: of the first direction, two or more.
        classes: what the two directions stand for; by default their names.
        prompts: taken in turn, seed by seed.
        seeds: each makes a clip per weight.
        branch: half of guidance that is steered: "cond", "null" or "both".
        options: as `run_trials` takes them.

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
    listed: list[tuple[str, float, Steering | None]] = [(UNSTEERED, math.nan, None)]
    listed += [("blend", weight, blend(first, second, weight).at(dose, branch=branch)) for weight in ladder]
    some = [
        Trial(*pair, plan, method, columns={"weight": weight})
        for method, weight, plan in listed for pair in pair_prompts(prompts, seeds)
    ]  # fmt: skip
    return blend_curve_of(run_trials(model, some, {"judge": one}, **options), names)


def blend_curve_of(clips: pd.DataFrame, classes: tuple[str, str]) -> BlendCurve:
    """Return what follows from clips that are already judged by a judge called "judge".

    Args:
        clips: rows of `run_trials` with method "blend" and their weight; one per seed, prompt and weight.
        classes: first and second.

    Raises:
        EvidenceError: not every seed was heard at every weight, once.
    """
    blends = clips[clips["method"] == "blend"]
    first, second = (np.log(blends[f"p_judge_{name}"].clip(lower=FLOOR)) for name in classes)
    tidy = blends[["seed", "prompt", "weight"]].assign(odds=first - second)
    if tidy.duplicated(["seed", "prompt", "weight"]).any():
        raise EvidenceError("A blend curve was asked for", "a clip came twice", "Make each weight once")
    wide = tidy.pivot(index=["seed", "prompt"], columns="weight", values="odds")
    if wide.isna().to_numpy().any():
        found = "some seeds miss some weights"
        raise EvidenceError("A blend curve was asked for", found, "Make every seed at every weight")
    odds, weights = wide.to_numpy(float), tuple(float(weight) for weight in wide.columns)
    each = np.array([spearman(np.array(weights), row) for row in odds])
    (correlation,) = means(each[:, None], np.arange(len(each)))
    return BlendCurve(*classes, odds, weights, correlation, clips)
