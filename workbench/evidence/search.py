"""Which layer and dose reach an aim without breaking the music: searched for, proved, and said in words.

The search chooses on some seeds and proves on others. Steering counts as possible only when,
on the further seeds, it keeps within the quality budget and hits more often than both the unsteered twins and
random directions of the same layer and dose, each by a paired 95 % interval.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import pandas as pd

from workbench.errors import EvidenceError
from workbench.evidence.judge import Judge
from workbench.evidence.trials import UNSTEERED, Ask, ClipCount, beside, hear, pair_names, paired
from workbench.model.musicgen import NEUTRAL_PROMPTS, Model
from workbench.stats import Estimate, means, wilson
from workbench.steering import Direction, Steering, random_direction

# The search for a layer and a dose: layers coarsely, doses around the best, then a proof on further seeds.
#
# Pure: a *runner* makes and judges the clips, so the choices can be tested without a model. A setting is a
# layer and a dose. Only settings within the quality budget compete; of those the best score wins, and of
# equals
# the smaller dose. A layer that did better still, but over the budget, is tried again with weaker doses. The
# further seeds choose nothing by effect: they may only drop a setting that breaks the
# budget there.


Setting = tuple[int, float]
"""(layer, dose)."""

STEERED, RANDOM = "steered", "random"
COSTS = {"nll_rise": "nll", "level_change_db": "level_db", "repetition_rise": "repetition"}
"""Cost -> the column whose difference to the twin it is."""


@dataclass(frozen=True)
class Cell:
    """What is heard on every seed: steered, random (another random direction for each clip) or unsteered."""

    method: str
    layer: int | None = None
    dose: float = 0.0


Runner = Callable[[Sequence[Cell], Sequence[int]], pd.DataFrame]
"""From cells and seeds to one row per cell and seed: method, layer, dose, prompt, seed, hit, p (the judge's
probability of the aim), nll, level_db, repetition. The same seeds come with the same prompts."""


@dataclass(frozen=True)
class DamageBudget:
    """What steering may cost on average against the unsteered twins; ``inf`` where a cost does not matter.

    nll_rise         nats per code by which the codes become less likely to the unsteered model. Codes that
                     become likelier are no fault in themselves: loops, which are likely, show in repetition
    level_change_db  decibels, up or down
    repetition_rise  share of stretches that come again just as they were (see `damage`)
    """

    nll_rise: float = 1.0
    level_change_db: float = 6.0
    repetition_rise: float = 0.3

    def __post_init__(self) -> None:
        wrong = [f"{one.name}={getattr(self, one.name)}" for one in fields(self)
                 if not getattr(self, one.name) > 0]  # fmt: skip
        if wrong:
            raise EvidenceError(
                "A quality budget was asked for", f"it has {', '.join(wrong)}", "Use numbers above 0"
            )

    def used(self, cost: Mapping[str, float]) -> float:
        """Return the largest share of the budget that a cost uses up; above 1 it is broken."""
        level = abs(cost["level_change_db"]) / self.level_change_db
        return max(cost["nll_rise"] / self.nll_rise, level, cost["repetition_rise"] / self.repetition_rise)


@dataclass(frozen=True)
class Space:
    """What is searched: layers, doses, the seeds that choose, the further seeds, settings proved at most."""

    layers: tuple[int, ...]
    doses: tuple[float, ...]
    seeds: tuple[int, ...]
    further_seeds: tuple[int, ...]
    finalists: int = 2

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(sorted(set(self.layers))))
        object.__setattr__(self, "doses", tuple(sorted({float(dose) for dose in self.doses})))
        shared = sorted(set(self.seeds) & set(self.further_seeds))
        whole = self.layers and self.doses and self.seeds and self.further_seeds and self.finalists > 0
        if not whole or shared or not all(dose > 0 and math.isfinite(dose) for dose in self.doses):
            raise EvidenceError(
                "A search for a dose was asked for",
                f"it has {len(self.layers)} layers, doses {self.doses}, {len(self.seeds)} seeds, "
                f"{len(self.further_seeds)} further seeds and {self.finalists} finalists; seeds in both "
                f"parts: {shared or 'none'}",
                "Give some of each, doses above 0, and seeds that do not meet",
            )

    @property
    def coarse(self) -> tuple[float, ...]:
        """The doses at which layers are compared: about a third and two thirds up the doses."""
        count = len(self.doses)
        return tuple(dict.fromkeys(self.doses[place] for place in (count // 3, 2 * count // 3)))

    @property
    def clips(self) -> int:
        """How many clips a search makes as a rule: layers and twins, doses around the best, one proof."""
        finer = max(len(self.around(dose)) for dose in self.coarse)
        coarse = len(self.layers) * len(self.coarse)
        return (1 + coarse + finer) * len(self.seeds) + 3 * len(self.further_seeds)

    def around(self, dose: float) -> tuple[float, ...]:
        """Return the doses next to one of the coarse doses, up to but without the next coarse ones."""
        below = max((other for other in self.coarse if other < dose), default=-math.inf)
        above = min((other for other in self.coarse if other > dose), default=math.inf)
        return tuple(other for other in self.doses if below < other < above and other != dose)


@dataclass(frozen=True, eq=False)
class Found:
    """What a search chose: the setting, every clip with its stage, and a row per stage and setting."""

    setting: Setting
    clips: pd.DataFrame
    tried: pd.DataFrame


def search_dose(run: Runner, space: Space, budget: DamageBudget) -> Found:
    """Return the best setting within the budget; the mildest one tried when none is within it.

    Args:
        run: makes and judges clips.
        space: what is searched.
        budget: what steering may cost.
    """
    twin = Cell(UNSTEERED)
    cells = [Cell(STEERED, layer, dose) for layer in space.layers for dose in space.coarse]
    chosen_on = _staged(run([twin, *cells], space.seeds), "layers")
    finer = [Cell(STEERED, *setting) for setting in _finer(settings(chosen_on, budget), space)]
    if finer:
        more = _staged(run(finer, space.seeds), "doses")
        chosen_on = pd.concat([chosen_on, more], ignore_index=True)
    tried = settings(chosen_on, budget)
    proofs: list[pd.DataFrame] = []
    for layer, dose in _finalists(tried, space.finalists):
        cells = [Cell(STEERED, layer, dose), Cell(RANDOM, layer, dose)]
        proofs.append(_staged(run(cells if proofs else [twin, *cells], space.further_seeds), "proof"))
        proved = settings(pd.concat(proofs, ignore_index=True), budget)
        if proved["within"].iloc[-1]:
            break
    else:
        layer, dose = _finalists(tried, 1)[0]
    clips = pd.concat([chosen_on, *proofs], ignore_index=True)
    return Found((layer, dose), clips, pd.concat([tried, proved], ignore_index=True))


def _finer(tried: pd.DataFrame, space: Space) -> list[Setting]:
    """Return what is tried after the coarse doses: around the best, and below what did better too dearly."""
    layer, dose = _ranked(tried)[0]
    around = [(layer, other) for other in space.around(dose)]
    best = tried.loc[(tried["layer"] == layer) & (tried["dose"] == dose), "score"].iloc[0]
    dear = tried[~tried["within"] & (tried["score"] > best)]
    if not len(dear):
        return around
    layer, dose = _ranked(dear.assign(within=True))[0]
    known = {*around, *zip(tried["layer"], tried["dose"], strict=True)}
    below = [(layer, other) for other in space.doses if other < dose and (layer, other) not in known]
    return [*around, *below]


def settings(clips: pd.DataFrame, budget: DamageBudget) -> pd.DataFrame:
    """Return a row per steered setting, in the order they were heard: effect, costs, share of the budget.

    Columns: stage, layer, dose, n, hit_rate, p, score (the mean of the two), the costs of `DamageBudget`,
    used, within.

    Args:
        clips: rows of a runner with their stage, the twins among them.
        budget: what steering may cost.
    """
    steered = with_costs(clips, STEERED)
    rows = []
    for _, part in steered.groupby(["stage", "layer", "dose"], sort=False):
        stage, layer, dose = part[["stage", "layer", "dose"]].iloc[0]
        cost = {name: float(part[name].mean()) for name in COSTS}
        used = budget.used(cost)
        hit_rate, p = float(part["hit"].mean()), float(part["p"].mean())
        told = {"stage": stage, "layer": int(layer), "dose": float(dose), "n": len(part)}
        effect = {"hit_rate": hit_rate, "p": p, "score": (hit_rate + p) / 2}
        rows.append({**told, **effect, **cost, "used": used, "within": used <= 1})
    return pd.DataFrame(rows)


def with_costs(clips: pd.DataFrame, method: str) -> pd.DataFrame:
    """Return the clips of a method, with each cost against the unsteered twin as a column.

    Raises:
        EvidenceError: a clip has no twin, or more than one.
    """
    some, twins = clips[clips["method"] == method], clips[clips["method"] == UNSTEERED]
    columns = ["prompt", "seed", *COSTS.values()]
    if twins.duplicated(["prompt", "seed"]).any():
        raise EvidenceError("Clips were to be paired", "an unsteered twin came twice", "Make each twin once")
    both = some.merge(twins[columns], on=["prompt", "seed"], how="left", suffixes=("", "_twin"))
    if both["nll_twin"].isna().any():
        found = "some have no unsteered twin of their prompt and seed"
        raise EvidenceError("Clips were to be paired", found, "Make twins on the same seeds")
    changes = {name: both[column] - both[f"{column}_twin"] for name, column in COSTS.items()}
    return both.assign(**changes)


def _staged(clips: pd.DataFrame, stage: str) -> pd.DataFrame:
    return clips.assign(stage=stage)


def _ranked(tried: pd.DataFrame) -> list[Setting]:
    """Return settings, best first: within the budget by score, of equals the smaller dose; others by cost."""
    # Scores are 0 or more, and what breaks the budget uses more than 1 of it.
    key = tried["score"].where(tried["within"], -tried["used"])
    ordered = tried.assign(key=key).sort_values(["key", "dose", "layer"], ascending=[False, True, True])
    return [(int(layer), float(dose)) for layer, dose in zip(ordered["layer"], ordered["dose"], strict=True)]


def _finalists(tried: pd.DataFrame, count: int) -> list[Setting]:
    """Return the settings to be proved: the best within the budget, or the mildest when none is."""
    within = tried[tried["within"]]
    return _ranked(within)[:count] if len(within) else _ranked(tried)[:1]


DOSES = (0.05, 0.1, 0.15, 0.2, 0.3, 0.45)


@dataclass(frozen=True, eq=False)
class AutoDose:
    """The setting that was found for an aim, and what speaks for it on the further seeds.

    aim             the class of the judge that was steered to
    layer, dose     the setting
    rates           share of hits by method (steered, unsteered, random) with Wilson's interval
    gains           hit rate steered minus that of the other method (unsteered, random), paired bootstrap
    cost            mean change against the unsteered twins by name (see `DamageBudget`), paired bootstrap
    budget          what it was allowed to cost
    tried           every setting, stage by stage, with effect and cost
    clips           every clip that was heard
    steering        the plan with this setting, None where nothing but the search was run
    """

    aim: str
    layer: int
    dose: float
    rates: Mapping[str, Estimate]
    gains: Mapping[str, Estimate]
    cost: Mapping[str, Estimate]
    budget: DamageBudget
    tried: pd.DataFrame = field(repr=False)
    clips: pd.DataFrame = field(repr=False)
    steering: Steering | None = None

    @property
    def hit_rate(self) -> Estimate:
        """The share of steered clips that the judge hears as the aim."""
        return self.rates[STEERED]

    @property
    def within(self) -> bool:
        """Whether the setting kept within the budget on the further seeds."""
        return self.budget.used({name: one.value for name, one in self.cost.items()}) <= 1

    @property
    def steerable(self) -> bool:
        """Whether it kept within the budget and beat both the unsteered twins and random directions."""
        return self.within and all(gain.low > 0 for gain in self.gains.values())

    @property
    def verdict(self) -> str:
        """What was found, in a sentence or two."""
        rates = ", ".join(f"{_percent(self.rates[name])} {name}" for name in self.rates)
        place = f"layer {self.layer}, dose {self.dose:g}"
        cost = (
            f"{self.cost['nll_rise'].value:+.2f} nats per code, "
            f"{self.cost['level_change_db'].value:+.1f} dB, "
            f"{self.cost['repetition_rise'].value:+.2f} repetition"
        )
        told = f"At {place} it is heard in {rates}, at a cost of {cost}."
        if self.steerable:
            return f"{self.aim} can be steered. {told}"
        if not self.within:
            return f"{self.aim} is not steerable within the budget: the best that was tried breaks it. {told}"
        equal = [name for name, gain in self.gains.items() if gain.low <= 0]
        names = " nor ".join({UNSTEERED: "than the unsteered model", RANDOM: "than random directions"}[name]
                             for name in equal)  # fmt: skip
        told += f" The gain over {equal[0]} is {self.gains[equal[0]]}."
        return f"{self.aim} is not steerable within the budget: no more hits {names}, for sure. {told}"


def auto_dose(
    model: Model,
    directions: Mapping[int, Direction],
    aim: str,
    judge: Judge,
    *,
    budget: DamageBudget | None = None,
    prompts: Sequence[str] = NEUTRAL_PROMPTS,
    seeds: Sequence[int] = tuple(range(6)),
    further_seeds: Sequence[int] = tuple(range(1000, 1012)),
    doses: Sequence[float] = DOSES,
    finalists: int = 2,
    rows: str = "cond",
    seconds: float = 5.0,
    guidance: float | None = None,
    progress: bool = True,
    on_clips: Callable[[float], object] | None = None,
    cancel: threading.Event | None = None,
) -> AutoDose:
    """Return the layer and dose at which an aim is best reached within a quality budget, and the evidence.

    The same arguments give the same result.

    Args:
        model: the model.
        directions: layer -> unit direction of the aim at that layer.
        aim: a class of the judge.
        judge: hears sound only.
        budget: what steering may cost; by default that of `DamageBudget`.
        prompts: taken in turn, seed by seed.
        seeds: on which layer and dose are chosen.
        further_seeds: others, on which the choice is proved; few of them prove little.
        doses: to choose from, multiples of the layer's mean residual norm, above 0.
        finalists: settings that are proved at most, one after another until one keeps within the budget.
        rows: guidance rows that are steered.
        seconds: length of the clips.
        guidance: classifier-free guidance; by default what the checkpoint says.
        progress: whether to show progress bars.
        on_clips: called after each frame with how many clips have been made (of about `Space.clips`).
        cancel: set it to stop before the next step.

    Raises:
        EvidenceError: the judge cannot hear the aim, a direction lies at another layer, or there is nothing
        to search.
        Cancelled: `cancel` was set.
    """
    _check(directions, aim, judge)
    space = Space(tuple(directions), tuple(doses), tuple(seeds), tuple(further_seeds), finalists)
    watch: dict[str, Any] = {"on_frame": ClipCount(on_clips) if on_clips else None, "cancel": cancel}

    def plan(cell: Cell, seed: int) -> Steering | None:
        if cell.layer is None:
            return None
        mine = directions[cell.layer]
        return (random_direction(mine, seed) if cell.method == RANDOM else mine).at(cell.dose, rows=rows)

    def run(cells: Sequence[Cell], some: Sequence[int]) -> pd.DataFrame:
        asked = [
            Ask(plan(cell, seed), prompt, seed, vars(cell))
            for cell in cells for prompt, seed in paired(prompts, some)
        ]  # fmt: skip
        judges = {judge.target: judge}
        table = hear(model, asked, judges, seconds=seconds, guidance=guidance, progress=progress, **watch)
        hit, p = table[f"judged_{judge.target}"] == aim, table[f"p_{judge.target}_{aim}"]
        return table.assign(hit=hit, p=p)

    return choose_dose(run, space, aim, budget or DamageBudget(), directions=directions, rows=rows)


def choose_dose(
    run: Runner,
    space: Space,
    aim: str,
    budget: DamageBudget,
    *,
    directions: Mapping[int, Direction] | None = None,
    rows: str = "cond",
) -> AutoDose:
    """Return what a search with this runner finds, with intervals over the further seeds alone.

    Args:
        run: makes and judges clips.
        space: what is searched.
        aim: what is aimed at, for the words.
        budget: what steering may cost.
        directions: by layer, for the plan.
        rows: guidance rows of the plan.
    """
    found = search_dose(run, space, budget)
    layer, dose = found.setting
    rates, gains, cost = _evidence(found)
    plan = None if directions is None else directions[layer].at(dose, rows=rows)
    return AutoDose(aim, layer, dose, rates, gains, cost, budget, found.tried, found.clips, plan)


def _evidence(found: Found) -> tuple[dict[str, Estimate], dict[str, Estimate], dict[str, Estimate]]:
    """Return rates, gains and costs of the chosen setting on the seeds that did not choose it."""
    layer, dose = found.setting
    proof = found.clips[found.clips["stage"] == "proof"]
    mine = (proof["layer"] == layer) & (proof["dose"] == dose)
    proof = proof[mine | (proof["method"] == UNSTEERED)]
    hits = {name: proof.loc[proof["method"] == name, "hit"] for name in (STEERED, UNSTEERED, RANDOM)}
    rates = {name: _rate(one.to_numpy(bool)) for name, one in hits.items()}
    gains = {name: _gain(proof, name) for name in (UNSTEERED, RANDOM)}
    steered = with_costs(proof, STEERED)
    costs = means(steered[list(COSTS)].to_numpy(), pair_names(steered))
    return rates, gains, dict(zip(COSTS, costs, strict=True))


def _gain(proof: pd.DataFrame, other: str) -> Estimate:
    steered, theirs = beside(proof, STEERED, other)
    difference = steered["hit"].to_numpy(float) - theirs["hit"].to_numpy(float)
    return means(difference[:, None], pair_names(steered))[0]


def _rate(hits: np.ndarray) -> Estimate:
    return Estimate(float(hits.mean()), *wilson(int(hits.sum()), len(hits)))


def _percent(rate: Estimate) -> str:
    return f"{rate.value:.0%} ({rate.low:.0%} to {rate.high:.0%})"


def _check(directions: Mapping[int, Direction], aim: str, judge: Judge) -> None:
    if aim not in judge.classes:
        heard = f"the judge of {judge.target} hears {', '.join(judge.classes)}"
        raise EvidenceError(f"A dose for {aim!r} was asked for", heard, "Aim at one of these")
    apart = [layer for layer, direction in directions.items() if direction.layer != layer]
    if apart:
        found = f"the directions given for the layers {apart} were made at others"
        raise EvidenceError(f"A dose for {aim!r} was asked for", found, "Give each its own layer")
