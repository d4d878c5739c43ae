"""Which layer and dose reach an aim without breaking the music: searched for, proved, and said in words.

The search (dose_search.py) chooses on some seeds and proves on others. Steering counts as possible only when,
on the further seeds, it keeps within the quality budget and hits more often than both the unsteered twins and
random directions of the same layer and dose, each by a paired 95 % interval.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from workbench.errors import EvidenceError
from workbench.evidence.dose_search import (
    COSTS,
    RANDOM,
    STEERED,
    Cell,
    Found,
    Quality,
    Runner,
    Space,
    search_dose,
    with_costs,
)
from workbench.evidence.hearing import UNSTEERED, Ask, ClipCount, beside, hear, pair_names, paired
from workbench.evidence.intervals import means
from workbench.evidence.judge import Judge
from workbench.evidence.sweep import wilson
from workbench.model.musicgen import Model
from workbench.model.norms import NEUTRAL_PROMPTS
from workbench.probing.diagnosis.estimate import Estimate
from workbench.steering import Direction, Steering, random_direction

DOSES = (0.05, 0.1, 0.15, 0.2, 0.3, 0.45)


@dataclass(frozen=True, eq=False)
class AutoDose:
    """The setting that was found for an aim, and what speaks for it on the further seeds.

    aim             the class of the judge that was steered to
    layer, dose     the setting
    rates           share of hits by method (steered, unsteered, random) with Wilson's interval
    gains           hit rate steered minus that of the other method (unsteered, random), paired bootstrap
    cost            mean change against the unsteered twins by name (see `Quality`), paired bootstrap
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
    budget: Quality
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
    budget: Quality | None = None,
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
        budget: what steering may cost; by default that of `Quality`.
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

    return choose_dose(run, space, aim, budget or Quality(), directions=directions, rows=rows)


def choose_dose(
    run: Runner,
    space: Space,
    aim: str,
    budget: Quality,
    *,
    directions: Mapping[int, Direction] | None = None,
    rows: str = "cond",
) -> AutoDose:
    """Return what a search with this runner finds, with intervals over the further seeds alone.

    Args:
        run: makes and judges clips (see dose_search.py).
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
