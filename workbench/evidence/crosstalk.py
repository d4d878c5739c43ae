"""Does steering one attribute move the others? Every plan is heard by every judge, beside the unsteered twin.

A cell of the matrix is a plan and a class of a judge: how often it is heard, and by how much its probability
changes. Classes of one target exclude each other, so what jazz gains rock must lose; crosstalk proper is
what happens to *other* targets.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pandas as pd

from workbench.errors import EvidenceError
from workbench.evidence.judge import Judge
from workbench.evidence.trials import UNSTEERED, Ask, asks, beside, hear, pair_names, paired
from workbench.model.musicgen import NEUTRAL_PROMPTS, Model
from workbench.stats import Estimate, means, ratios, wilson
from workbench.steering import Direction, Steering

Aim = tuple[str, str]
"""(target, class) of a judge."""


@dataclass(frozen=True, eq=False)
class Crosstalk:
    """What every judge hears under every plan.

    cells    a row per plan and class of a judge: plan, target, class, own (whether the plan aims at it), n,
             hit_rate with low and high (Wilson), unsteered (the twins' hit rate), change (mean change of the
             probability against the twin) with change_low and change_high (paired bootstrap)
    flips    a row per plan and judge: plan, target, n, flips (share of clips whose verdict is not the
             twin's), low, high
    clips    every clip that was heard
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
            held = f"the figures are {', '.join(map(str, values))}"
            raise EvidenceError(f"A matrix of {what!r} was asked for", held, "Use one of these")
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
    judges: Mapping[str, Judge],
    *,
    aims: Mapping[str, Aim] | None = None,
    prompts: Sequence[str] = NEUTRAL_PROMPTS,
    seeds: Sequence[int] = tuple(range(12)),
    seconds: float = 5.0,
    guidance: float | None = None,
    progress: bool = True,
) -> Crosstalk:
    """Return what every judge hears under every plan, against the unsteered twins.

    Args:
        model: the model.
        plans: by name; a random direction of the same dose belongs among them.
        judges: by target.
        aims: what a plan aims at; by default the class of a judge that is called as the plan is.
        prompts: taken in turn, seed by seed.
        seeds: one clip per plan and seed.
        seconds: length of the clips.
        guidance: classifier-free guidance; by default what the checkpoint says.
        progress: whether to show progress bars.

    Raises:
        EvidenceError: there is no plan or no judge, or an aim that no judge hears.
    """
    if not plans or not judges:
        found = f"there are {len(plans)} plans and {len(judges)} judges"
        raise EvidenceError("Crosstalk was asked for", found, "Give at least one of each")
    own = aims_of(plans, judges, aims, needed=False)
    asked = asks(plans, prompts, seeds)
    clips = hear(model, asked, judges, seconds=seconds, guidance=guidance, progress=progress)
    return crosstalk_of(clips, {target: tuple(judge.classes) for target, judge in judges.items()}, own)


def crosstalk_of(
    clips: pd.DataFrame, classes: Mapping[str, Sequence[str]], aims: Mapping[str, Aim]
) -> Crosstalk:
    """Return the matrix of clips that are already heard.

    Args:
        clips: rows of `hear`, the unsteered twins among them.
        classes: of each judge, by target.
        aims: what plans aim at, where they do.
    """
    cells, flips = [], []
    for plan in [name for name in clips["method"].unique() if name != "unsteered"]:
        mine, twins = beside(clips, plan)
        groups = pair_names(mine)
        for target, names in classes.items():
            heard, before = mine[f"judged_{target}"], twins[f"judged_{target}"]
            columns = [f"p_{target}_{name}" for name in names]
            changes = means(mine[columns].to_numpy() - twins[columns].to_numpy(), groups)
            told = {"plan": plan, "target": target}
            flipped = (heard != before).to_numpy()
            flips.append({**told, "n": len(mine), "flips": flipped.mean(), **_bounds(flipped)})
            for name, change in zip(names, changes, strict=True):
                hits = (heard == name).to_numpy()
                cells.append(
                    {**told, "class": name, "own": aims.get(plan) == (target, name), "n": len(mine),
                     "hit_rate": hits.mean(), **_bounds(hits), "unsteered": (before == name).mean(),
                     "change": change.value, "change_low": change.low, "change_high": change.high}
                )  # fmt: skip
    return Crosstalk(pd.DataFrame(cells), pd.DataFrame(flips), clips)


def aims_of(
    plans: Sequence[str] | Mapping[str, Steering],
    judges: Mapping[str, Judge],
    aims: Mapping[str, Aim] | None,
    *,
    needed: bool,
) -> dict[str, Aim]:
    """Return what each plan aims at: as told, else the one class of a judge that is called as the plan is.

    Args:
        plans: names of plans.
        judges: by target.
        aims: what is told; checked.
        needed: whether every plan must have an aim.

    Raises:
        EvidenceError: no judge hears an aim, a name fits several judges, or a plan lacks a needed aim.
    """
    heard = [(target, str(name)) for target, judge in judges.items() for name in judge.classes]
    told = dict(aims or {})
    for plan in plans:
        fitting = [told[plan]] if plan in told else [aim for aim in heard if aim[1] == plan]
        if len(fitting) > 1 or (needed and not fitting) or any(aim not in heard for aim in fitting):
            classes = ", ".join(f"{target}: {name}" for target, name in heard)
            raise EvidenceError(
                f"What the plan {plan!r} aims at was looked for",
                f"{fitting or 'nothing'} fits what judges hear ({classes})",
                'Tell it, for example aims={"plan": ("genre", "jazz")}',
            )
        told |= dict.fromkeys([plan], fitting[0]) if fitting else {}
    return {plan: told[plan] for plan in plans if plan in told}


def _bounds(hits: np.ndarray) -> dict[str, float]:
    low, high = wilson(int(hits.sum()), len(hits))
    return {"low": low, "high": high}


# Do two attributes steered together each work as well as alone? Ratios of hit rates, clip beside clip.


TOGETHER = "together"


@dataclass(frozen=True, eq=False)
class Pairs:
    """Attributes steered alone and together; every interval is a bootstrap over (prompt, seed).

    alone       hit rate of each aim under its own plan
    together    hit rate of each aim under all plans at once
    unsteered   hit rate of each aim under none
    ratio       together over alone; NaN where alone never hits
    all_hit     share of the clips steered together that hit every aim at once
    clips       every clip that was heard
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
    judges: Mapping[str, Judge],
    *,
    aims: Mapping[str, Aim] | None = None,
    prompts: Sequence[str] = NEUTRAL_PROMPTS,
    seeds: Sequence[int] = tuple(range(12)),
    seconds: float = 5.0,
    guidance: float | None = None,
    progress: bool = True,
) -> Pairs:
    """Return how well each attribute is steered alone and together with the others.

    Args:
        model: the model.
        plans: two or more, by name; together their terms act in this order.
        judges: by target.
        aims: what each plan aims at; by default the class of a judge that is called as the plan is.
        prompts: taken in turn, seed by seed.
        seeds: one clip per plan and seed.
        seconds: length of the clips.
        guidance: classifier-free guidance; by default what the checkpoint says.
        progress: whether to show progress bars.

    Raises:
        EvidenceError: there are fewer than two plans, or a plan aims at nothing that a judge hears.
    """
    if len(plans) < 2 or TOGETHER in plans:
        found = f"the plans are {', '.join(plans) or 'none'}"
        do = f"Give at least two, none of them called {TOGETHER!r}"
        raise EvidenceError("Attributes were to be steered together", found, do)
    own = aims_of(plans, judges, aims, needed=True)
    every = {**plans, TOGETHER: Steering(tuple(term for plan in plans.values() for term in plan.terms))}
    asked = asks(every, prompts, seeds)
    return pairs_of(hear(model, asked, judges, seconds=seconds, guidance=guidance, progress=progress), own)


def pairs_of(clips: pd.DataFrame, aims: Mapping[str, Aim]) -> Pairs:
    """Return the comparison of clips that are already heard: methods are the plans, together, unsteered.

    Args:
        clips: rows of `hear`.
        aims: plan -> (target, class).
    """
    names = list(aims)
    hits = {
        method: _hits(clips, method, aims if method in (TOGETHER, UNSTEERED) else {method: aims[method]})
        for method in (*names, TOGETHER, UNSTEERED)
    }
    together, unsteered = hits[TOGETHER], hits[UNSTEERED]
    if any(not one.index.equals(together.index) for one in hits.values()):
        found = "not every plan was heard on the same prompts and seeds"
        raise EvidenceError("Attributes were to be compared", found, "Hear all on the same")
    groups = pair_names(together.reset_index())
    alone = np.column_stack([hits[name][name] for name in names])
    both = together[names].to_numpy()

    def named(found: list[Estimate]) -> dict[str, Estimate]:
        return dict(zip(names, found, strict=True))

    return Pairs(
        named(means(alone, groups)),
        named(means(both, groups)),
        named(means(unsteered[names].to_numpy(), groups)),
        named(ratios(both, alone, groups)),
        means(np.asarray(both.all(axis=1))[:, None], groups)[0],
        clips,
    )


def _hits(clips: pd.DataFrame, method: str, aims: Mapping[str, Aim]) -> pd.DataFrame:
    """Return whether each clip of a method hits each aim (pairs, aims), sorted by prompt and seed."""
    part = clips[clips["method"] == method].set_index(["prompt", "seed"]).sort_index()
    told = {
        name: (part[f"judged_{target}"] == class_).astype(float) for name, (target, class_) in aims.items()
    }
    return pd.DataFrame(told, index=part.index)


# Can one play between two styles? A blend w*a + (1-w)*b of two directions, and what a judge makes of it.
#
# If directions blend as vectors do, the judge's log-odds of a against b rise with w. Each seed is one
# ladder of
# weights, so the rank correlation is taken inside a seed and averaged over seeds: what a seed likes in itself
# cancels out.


WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
FLOOR = 1e-6
"""Least probability that log-odds are made of: beyond it a judge's certainty means nothing."""


@dataclass(frozen=True, eq=False)
class BlendCurve:
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


def blend_curve(
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
) -> BlendCurve:
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
    return blend_curve_of(clips, names)


def blend_curve_of(clips: pd.DataFrame, classes: tuple[str, str]) -> BlendCurve:
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
    return BlendCurve(*classes, odds, weights, spearman, clips)


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
