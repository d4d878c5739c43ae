"""What steering does to several attributes, and as music goes on: crosstalk, pairs, blends, transitions.

Classes of one target exclude each other, so what jazz gains rock must lose; crosstalk proper is what happens
to *other* targets. If directions blend as vectors do, a judge's log-odds of the first against the second rise
with the weight of the first; their rank correlation is taken inside a seed, so that what a seed likes in
itself cancels out.

A transition is the gain in P(target) from the part of a continuation that was given to the part that the
model added, once steered and once only prompted. Both continue the same beginnings, compared in pairs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Unpack

import numpy as np
import pandas as pd

from workbench.errors import EvidenceError, renamed_keywords, warn_renamed
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
    without_judge_name,
)
from workbench.generation.request import prompt_codes_of
from workbench.model.musicgen import NEUTRAL_PROMPTS, Model
from workbench.sound import Clip, Dataset
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
    a plan aims at the class of a judge that is called as it is. A clip is made per plan and seed, prompts in
    turn. Options are those of `run_trials`. EvidenceError for no plan, no judge, or an aim that none hears.
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

    `ratio` is together over alone, NaN where alone never hits; `all_hit` the share that hits every aim.
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
    EvidenceError where the judge does not hear both classes, or there are fewer than two weights;
    SteeringError where the directions are of different layers or cancel out.
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


SHORTEST_SECONDS = 1.0  # a judge needs as much as this of each part


@dataclass(frozen=True)
class Gains:
    """Mean gains of two conditions with the same target, and their difference; paired bootstrap over clips.

    `share` is that of the clips in which steering gains more, `n` the number of pairs.
    """

    steered: Estimate
    prompted: Estimate
    difference: Estimate
    share: float
    n: int

    def __str__(self) -> str:
        return f"steered {self.steered}, prompted {self.prompted}, difference {self.difference}, n = {self.n}"


@dataclass(frozen=True, eq=False)
class Beginnings:
    """Pieces to go on from, and the groove of each."""

    clips: tuple[Clip, ...]
    grooves: tuple[str, ...]


def beginnings(music: Dataset, genre: str, count: int) -> Beginnings:
    """Return so many pieces of a genre, grooves taken in turn."""
    table = music.where(genre=genre).table()
    table["turn"] = table.groupby("group").cumcount()
    chosen = table.sort_values(["turn", "group"]).head(count)
    return Beginnings(tuple(music.clip(str(id_)) for id_ in chosen["id"]), tuple(map(str, chosen["group"])))


def transitions(
    model: Model,
    beginnings: Sequence[Clip],
    conditions: Mapping[str, tuple[str, Steering | None]],
    judge: Judge | str,
    target: str,
    *,
    seeds: Sequence[int],
    given_seconds: float = 5.0,
    **options: Unpack[RunOptions],
) -> pd.DataFrame:
    """Return what becomes of beginnings that are continued under several conditions, a row per clip.

    Conditions are name -> (prompt, plan or None), and seeds one per beginning, the same for all of them.
    `given_seconds` of the end of each beginning are heard. Columns and options are those of `sweep`, and:
    method is the condition, beginning the number of the clip, gain the probability of the target in the new
    part minus that in the given part. EvidenceError where there is nothing to continue, compare or hear.
    """
    if not beginnings or len(seeds) != len(beginnings) or not conditions:
        found = f"there are {len(beginnings)} beginnings, {len(seeds)} seeds and {len(conditions)} conditions"
        raise EvidenceError("Music was to be continued", found, "Give a seed per beginning, and conditions")
    ((name, one),) = as_judges(judge).items()
    codes = [prompt_codes_of(model, clip, given_seconds) for clip in beginnings]
    given = min(one.shape[-1] for one in codes) / model.frame_rate_hz
    _check(one, len(beginnings), target, min(given, options.get("seconds", 5.0)))
    some = [
        Trial(prompt, int(seed), plan, method, target, codes[number], {"beginning": number})
        for method, (prompt, plan) in conditions.items() for number, seed in enumerate(seeds)
    ]  # fmt: skip
    options.setdefault("likely", False)
    table = run_trials(model, some, {name: one}, **options)
    return without_judge_name(table.assign(gain=table["p"] - table["p_given"]), name)


def gain(judge: Judge | str, clips: Sequence[Clip], target: str, *, at_s: float | None = None) -> np.ndarray:
    """Return P(target) in the second part minus P(target) in the first, for each clip `(clips,)`.

    The second part begins at `at_s` seconds (in a continuation: the length of what was given), by default in
    the middle of each clip. The judge hears each part by itself. EvidenceError where there is no clip, the
    judge does not know the target, or a part is under a second.
    """
    ((_name, one),) = as_judges(judge).items()
    cuts = [clip.seconds / 2 if at_s is None else at_s for clip in clips]
    shortest = [min(cut, clip.seconds - cut) for clip, cut in zip(clips, cuts, strict=True)]
    _check(one, len(clips), target, min(shortest, default=0.0))
    parts = [clip.section(0.0, cut) for clip, cut in zip(clips, cuts, strict=True)]
    parts += [clip.section(cut, clip.seconds) for clip, cut in zip(clips, cuts, strict=True)]
    first, second = one.probabilities(parts)[:, one.classes.index(target)].reshape(2, -1)
    return np.asarray(second - first)


def _check(judge: Judge, count: int, target: str, shortest: float) -> None:
    asked = f"A gain in {target!r} was asked for"
    if target not in judge.classes or not count:
        found = f"there are {count} clips, and the judge hears {', '.join(judge.classes)}"
        raise EvidenceError(asked, found, "Give clips and one of these")
    if shortest < SHORTEST_SECONDS:
        found = f"the shortest part lasts {max(shortest, 0):.2f} s"
        raise EvidenceError(asked, found, f"Give parts of at least {SHORTEST_SECONDS:g} s")


def compare_gains(
    steered: np.ndarray, prompted: np.ndarray, *, groups: Sequence[object] | None = None
) -> Gains:
    """Return the means of gains `(n,)` of the same beginnings, and of their difference, compared in pairs.

    The group of each pair may be the track of its beginning; by default each is its own. EvidenceError where
    the two are not equally many, or there is none.
    """
    one, other = (np.asarray(values, np.float64) for values in (steered, prompted))
    if one.shape != other.shape or one.ndim != 1 or not len(one):
        found = f"there are {one.shape} steered and {other.shape} prompted ones"
        raise EvidenceError("Gains were to be compared", found, "Give one of each per beginning")
    names = np.arange(len(one)) if groups is None else np.array([str(group) for group in groups])
    first, second, apart = means(np.column_stack([one, other, one - other]), names)
    return Gains(first, second, apart, float((one > other).mean()), len(one))


class Way(NamedTuple):
    """A condition of `go_on`, a name of the version before."""

    name: str
    prompt: str
    plan: Steering | None = None


def go_on(
    model: Model, beginnings: Sequence[Clip], ways: Sequence[Way], *rest: Any, **more: Any
) -> pd.DataFrame:
    """Return what `transitions` does, with the condition in the column `way`."""
    warn_renamed("go_on", "transitions")
    conditions = {way.name: (way.prompt, way.plan) for way in ways}
    return transitions(model, beginnings, conditions, *rest, **more).rename(columns={"method": "way"})
