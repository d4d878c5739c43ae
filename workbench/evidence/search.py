"""Which layer and dose reach an aim without breaking the music: searched for, proved, and said in words.

Layers are tried coarsely, then doses around the best, then the choice is proved on further seeds. Only
settings within the damage budget compete; the best score wins, and of equals the smaller dose. A layer that
did better still, but over the budget, is tried again with weaker doses. The further seeds choose nothing by
effect: they may only drop a setting that breaks the budget there.

`acts_per_layer` asks of every layer alike how well a probe reads there, and how much its direction moves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Unpack

import pandas as pd

from workbench.errors import EvidenceError, renamed_keywords
from workbench.evidence.judge import Judge, as_judges
from workbench.evidence.trials import (
    UNSTEERED,
    ClipCount,
    RunOptions,
    Trial,
    dose_trials,
    pair_names,
    pair_prompts,
    pair_with_baseline,
    run_trials,
    trials,
)
from workbench.model.musicgen import NEUTRAL_PROMPTS, Model
from workbench.probing import ProbeSweep
from workbench.stats import Estimate, means, proportion
from workbench.steering import Direction, Steering, random_direction

Setting = tuple[int, float]  # (layer, dose)
Runner = Callable[[list[Trial]], pd.DataFrame]  # from trials to the rows of `run_trials`

STEERED, RANDOM = "steered", "random"
DOSES = (0.05, 0.1, 0.15, 0.2, 0.3, 0.45)
COSTS = {"nll_rise": "nll", "level_change_db": "level_db", "repetition_rise": "repetition"}
"""Cost -> the column whose difference to the baseline it is."""


@dataclass(frozen=True)
class DamageBudget:
    """What steering may cost on average against the baselines; `inf` where a cost does not matter.

    `nll_rise` is the nats per code by which codes become less likely to the unsteered model. Likelier codes
    are no fault in themselves: loops, which are likely, show in repetition (see `damage`).
    """

    nll_rise: float = 1.0
    level_change_db: float = 6.0
    repetition_rise: float = 0.3

    def __post_init__(self) -> None:
        if wrong := [f"{name}={value}" for name, value in vars(self).items() if not value > 0]:
            found = f"it has {', '.join(wrong)}"
            raise EvidenceError("A damage budget was asked for", found, "Use numbers above 0")

    def used(self, cost: Mapping[str, float]) -> float:
        """Return the largest share of the budget that a cost uses up; above 1 it is broken."""
        sizes = {**cost, "level_change_db": abs(cost["level_change_db"])}
        return max(sizes[name] / budget for name, budget in vars(self).items())


@dataclass(frozen=True)
class Space:
    """What is searched: layers and doses on `seeds`, of which at most `finalists` are proved on others."""

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
            found = f"it is {self}; seeds in both parts: {shared or 'none'}"
            do = "Give some of each, doses above 0, and seeds that do not meet"
            raise EvidenceError("A search for a dose was asked for", found, do)

    @property
    def coarse(self) -> tuple[float, ...]:
        """The doses at which layers are compared: about a third and two thirds up the doses."""
        count = len(self.doses)
        return tuple(dict.fromkeys(self.doses[place] for place in (count // 3, 2 * count // 3)))

    @property
    def clips(self) -> int:
        """How many clips a search makes as a rule: layers and baselines, doses around the best, a proof."""
        finer = max(len(self.around(dose)) for dose in self.coarse)
        coarse = len(self.layers) * len(self.coarse)
        return (1 + coarse + finer) * len(self.seeds) + 3 * len(self.further_seeds)

    def around(self, dose: float) -> tuple[float, ...]:
        """Return the doses next to one of the coarse doses, up to but without the next coarse ones."""
        below = max((other for other in self.coarse if other < dose), default=-math.inf)
        above = min((other for other in self.coarse if other > dose), default=math.inf)
        return tuple(other for other in self.doses if below < other < above and other != dose)


def _search(
    run: Callable[[str, Sequence[str], Sequence[Setting], Sequence[int]], pd.DataFrame],
    space: Space,
    budget: DamageBudget,
) -> tuple[Setting, pd.DataFrame, pd.DataFrame]:
    """Return the best setting (the mildest where none is within the budget), every clip, every setting."""
    coarse = [(layer, dose) for layer in space.layers for dose in space.coarse]
    chosen_on = run("layers", [UNSTEERED, STEERED], coarse, space.seeds)
    if finer := _finer(settings(chosen_on, budget), space):
        heard = [chosen_on, run("doses", [STEERED], finer, space.seeds)]
        chosen_on = pd.concat(heard, ignore_index=True)
    tried = settings(chosen_on, budget)
    proofs: list[pd.DataFrame] = []
    for setting in _finalists(tried, space.finalists):
        methods = [STEERED, RANDOM] if proofs else [UNSTEERED, STEERED, RANDOM]
        proofs.append(run("proof", methods, [setting], space.further_seeds))
        proved = settings(pd.concat(proofs, ignore_index=True), budget)
        if proved["within"].iloc[-1]:
            break
    else:
        setting = _finalists(tried, 1)[0]
    clips = pd.concat([chosen_on, *proofs], ignore_index=True)
    return setting, clips, pd.concat([tried, proved], ignore_index=True)


def _finer(tried: pd.DataFrame, space: Space) -> list[Setting]:
    """Return what is tried after the coarse doses: around the best, and below what did better too dearly."""
    layer, dose = ranked(tried)[0]
    finer = [(layer, other) for other in space.around(dose)]
    best = tried.loc[(tried["layer"] == layer) & (tried["dose"] == dose), "score"].iloc[0]
    known = {*finer, *zip(tried["layer"], tried["dose"], strict=True)}
    dear = tried[~tried["within"] & (tried["score"] > best)].assign(within=True)
    for layer, dose in ranked(dear)[:1]:
        finer += [(layer, other) for other in space.doses if other < dose and (layer, other) not in known]
    return finer


def settings(clips: pd.DataFrame, budget: DamageBudget) -> pd.DataFrame:
    """Return a row per steered setting, in the order they were heard, from the rows of a runner.

    Columns: stage, layer, dose, n, hit_rate, p, score (the mean of the two), the costs of `DamageBudget`,
    the share of the budget that is used, within.
    """
    columns = {"n": ("hit", "size"), "hit_rate": ("hit", "mean"), "p": ("p", "mean"), "score": ("p", "mean")}
    columns |= {name: (name, "mean") for name in COSTS}
    groups = with_costs(clips, STEERED).astype({"hit": float}).groupby(["stage", "layer", "dose"], sort=False)
    table = groups.agg(**columns).reset_index().astype({"layer": int, "dose": float})
    table["score"] = (table["hit_rate"] + table["p"]) / 2
    table["used"] = [budget.used(dict(zip(COSTS, row, strict=True))) for row in table[list(COSTS)].to_numpy()]
    return table.assign(within=table["used"] <= 1)


def with_costs(clips: pd.DataFrame, method: str) -> pd.DataFrame:
    """Return the clips of a method, with their costs against their baselines as columns."""
    some, baselines = clips[clips["method"] == method], clips[clips["method"] == UNSTEERED]
    key = ["prompt", "seed"]
    both = some.merge(baselines[[*key, *COSTS.values()]], on=key, how="left", suffixes=("", "_before"))
    twice = baselines.duplicated(key).any()
    if twice or both["nll_before"].isna().any():
        found = "a baseline came twice" if twice else "some have no unsteered baseline"
        raise EvidenceError("Clips were to be paired", found, "Make one baseline for each prompt and seed")
    return both.assign(**{name: both[one] - both[f"{one}_before"] for name, one in COSTS.items()})


def ranked(tried: pd.DataFrame) -> list[Setting]:
    """Return settings, best first: within the budget by score, of equals the smaller dose; others by cost."""
    # Scores are 0 or more, and what breaks the budget uses more than 1 of it.
    key = tried["score"].where(tried["within"], -tried["used"])
    ordered = tried.assign(key=key).sort_values(["key", "dose", "layer"], ascending=[False, True, True])
    return [(int(layer), float(dose)) for layer, dose in zip(ordered["layer"], ordered["dose"], strict=True)]


def _finalists(tried: pd.DataFrame, count: int) -> list[Setting]:
    """Return the settings to be proved: the best within the budget, or the mildest when none is."""
    within = tried[tried["within"]]
    return ranked(within)[:count] if len(within) else ranked(tried)[:1]


@dataclass(frozen=True, eq=False)
class AutoDose:
    """The setting that was found for an aim, and what speaks for it on the further seeds, in pairs."""

    aim: str
    layer: int
    dose: float
    rates: Mapping[str, Estimate]  # share of hits by method: steered, unsteered, random
    gains: Mapping[str, Estimate]  # hit rate steered minus that of the other method: unsteered, random
    cost: Mapping[str, Estimate]  # mean change against the baselines by name (see `DamageBudget`)
    budget: DamageBudget
    tried: pd.DataFrame = field(repr=False)  # every setting, stage by stage, with effect and cost
    clips: pd.DataFrame = field(repr=False)
    steering: Steering | None = None  # the plan; None where nothing but the search was run

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
        """Whether it keeps within the budget and hits, at 95 %, more often than both controls."""
        return self.within and all(gain.low > 0 for gain in self.gains.values())

    @property
    def verdict(self) -> str:
        """What was found, in a sentence or two."""
        rates = [f"{one.value:.0%} ({one.low:.0%} to {one.high:.0%}) {by}" for by, one in self.rates.items()]
        nll, level, repetition = (self.cost[name].value for name in COSTS)
        cost = f"{nll:+.2f} nats per code, {level:+.1f} dB, {repetition:+.2f} repetition"
        where = f"At layer {self.layer}, dose {self.dose:g}"
        found = f"{where} it is heard in {', '.join(rates)}, at a cost of {cost}."
        if self.steerable:
            return f"{self.aim} can be steered. {found}"
        refused = f"{self.aim} is not steerable within the budget:"
        if not self.within:
            return f"{refused} the best that was tried breaks it. {found}"
        others = {UNSTEERED: "than the unsteered model", RANDOM: "than random directions"}
        equal = [name for name, gain in self.gains.items() if gain.low <= 0]
        names = " nor ".join(others[name] for name in equal)
        gain = f"The gain over {equal[0]} is {self.gains[equal[0]]}."
        return f"{refused} no more hits {names}, for sure. {found} {gain}"


@renamed_keywords(rows="branch")
def auto_dose(
    model: Model,
    directions: Mapping[int, Direction],
    aim: str,
    judge: Judge | str,
    *,
    budget: DamageBudget | None = None,
    prompts: Sequence[str] = NEUTRAL_PROMPTS,
    seeds: Sequence[int] = tuple(range(6)),
    further_seeds: Sequence[int] = tuple(range(1000, 1012)),
    doses: Sequence[float] = DOSES,
    finalists: int = 2,
    branch: str = "cond",
    on_clips: Callable[[float], object] | None = None,
    **options: Unpack[RunOptions],
) -> AutoDose:
    """Return the layer and dose at which an aim is best reached within a damage budget, and the evidence.

    Directions are layer -> unit direction of the aim, a class of the judge; doses are multiples of the
    layer's mean residual norm, above 0. What `seeds` choose is proved on `further_seeds` (few of them prove
    little); where it breaks the budget, the next of the `finalists` is. `on_clips` is called after each frame
    with how many clips have been made, of about `Space.clips`. The rest is as for `sweep`. EvidenceError:
    the judge cannot hear the aim, a direction lies at another layer, or there is nothing to search.
    """
    judges = as_judges(judge)
    ((_name, one),) = judges.items()
    asked = f"A dose for {aim!r} was asked for"
    if aim not in one.classes:
        raise EvidenceError(asked, f"the judge hears {', '.join(one.classes)}", "Aim at one of these")
    if apart := [layer for layer, direction in directions.items() if direction.layer != layer]:
        found = f"the directions given for the layers {apart} were made at others"
        raise EvidenceError(asked, found, "Give each its own layer")
    space = Space(tuple(directions), tuple(doses), tuple(seeds), tuple(further_seeds), finalists)
    options["likely"] = True  # of which one cost is made
    if on_clips is not None:
        options["on_frame"] = ClipCount(on_clips)
    run = partial(run_trials, model, judges=judges, **options)
    how: Any = {"directions": directions, "prompts": prompts, "branch": branch}
    return choose_dose(run, space, aim, budget or DamageBudget(), **how)


def choose_dose(
    run: Runner,
    space: Space,
    aim: str,
    budget: DamageBudget,
    *,
    directions: Mapping[int, Direction] | None = None,
    prompts: Sequence[str] = NEUTRAL_PROMPTS,
    branch: str = "cond",
) -> AutoDose:
    """Return what a search with this runner finds, with intervals over the further seeds alone.

    The columns of the runner's trials tell layer, dose and stage; without directions they have no plans.
    """

    def plan(method: str, layer: int | None, dose: float, seed: int) -> Steering | None:
        if directions is None or layer is None:
            return None
        own = directions[layer]  # each random clip has another direction
        return (random_direction(own, seed) if method == RANDOM else own).at(dose, branch=branch)

    def staged(
        stage: str, methods: Sequence[str], some: Sequence[Setting], seeds: Sequence[int]
    ) -> pd.DataFrame:
        unsteered: list[tuple[int | None, float]] = [(None, 0.0)]
        return run([
            Trial(*pair, plan(method, layer, dose, pair[1]), method, aim,
                  columns={"layer": layer, "dose": dose, "stage": stage})
            for method in methods
            for layer, dose in (unsteered if method == UNSTEERED else some)
            for pair in pair_prompts(prompts, seeds)
        ])  # fmt: skip

    (layer, dose), clips, tried = _search(staged, space, budget)
    rates, gains, cost = _evidence(clips, layer, dose)
    return AutoDose(aim, layer, dose, rates, gains, cost, budget, tried, clips, plan(STEERED, layer, dose, 0))


def _evidence(
    clips: pd.DataFrame, layer: int, dose: float
) -> tuple[dict[str, Estimate], dict[str, Estimate], dict[str, Estimate]]:
    """Return rates, gains and costs of the chosen setting on the seeds that did not choose it."""
    mine = (clips["layer"] == layer) & (clips["dose"] == dose)
    proof = clips[(clips["stage"] == "proof") & (mine | (clips["method"] == UNSTEERED))]
    hits = {name: proof.loc[proof["method"] == name, "hit"] for name in (STEERED, UNSTEERED, RANDOM)}
    rates, gains = {name: proportion(some) for name, some in hits.items()}, {}
    for name in (UNSTEERED, RANDOM):
        steered, theirs = pair_with_baseline(proof, STEERED, name)
        difference = steered["hit"].to_numpy(float) - theirs["hit"].to_numpy(float)
        (gains[name],) = means(difference[:, None], pair_names(steered))
    steered = with_costs(proof, STEERED)
    costs = means(steered[list(COSTS)].to_numpy(), pair_names(steered))
    return rates, gains, dict(zip(COSTS, costs, strict=True))


def acts_per_layer(
    model: Model,
    sweep: ProbeSweep,
    aims: Sequence[str],
    judge: Judge | str,
    *,
    dose: float = 0.2,
    prompts: Sequence[str] = NEUTRAL_PROMPTS,
    seeds: Sequence[int] = tuple(range(8)),
    **options: Unpack[RunOptions],
) -> pd.DataFrame:
    """Return for each layer how well its probe reads, and how much its directions move the music.

    Columns: layer, accuracy with low, high and chance (`ProbeSweep.table`), and effect with effect_low and
    effect_high: the mean rise of the judge's P(aim) above the unsteered clip of the same prompt and seed, at
    one dose in all layers (multiples of each layer's residual norm), 95 % from drawing prompts and seeds. n
    counts steered clips. Options are those of `run_trials`.
    """
    options.setdefault("likely", False)
    ((name, one),) = as_judges(judge).items()
    some = trials({}, prompts, seeds)
    for layer in sweep.layers:
        directions = sweep.directions(layer)
        some += dose_trials({aim: directions[aim] for aim in aims}, [dose], prompts, seeds)
    table = run_trials(model, some, {name: one}, **options)
    plain, steered = table[table["aim"].isna()].set_index(["prompt", "seed"]), table[table["aim"].notna()]
    rows = []
    for layer in sweep.layers:
        part = steered[steered["layer"] == layer]
        asked = zip(part["prompt"], part["seed"], part["aim"], strict=True)
        before = [float(plain.loc[(prompt, seed), f"p_{name}_{aim}"]) for prompt, seed, aim in asked]
        (rise,) = means((part["p"] - before).to_numpy()[:, None], pair_names(part))
        rows.append((layer, rise.value, rise.low, rise.high, len(part)))
    moved = pd.DataFrame(rows, columns=["layer", "effect", "effect_low", "effect_high", "n"])
    return sweep.table()[["layer", "accuracy", "low", "high", "chance"]].merge(moved, on="layer")
