"""Does steering work? Layer and dose are chosen on some seeds and reported on others, beside controls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Unpack

import pandas as pd

from workbench.errors import EvidenceError
from workbench.evidence.judge import Judge, as_judges
from workbench.evidence.search import Setting
from workbench.evidence.trials import (
    Keep,
    Row,
    RunOptions,
    Trial,
    dose_trials,
    hit_rates,
    of_aim,
    pair_prompts,
    random_trials,
    run_trials,
    without_judge_name,
)
from workbench.generation.take import Take
from workbench.model.musicgen import Model
from workbench.probing import ProbeSweep
from workbench.steering import Direction

ByLayer = Mapping[int, Mapping[str, Direction]]  # not every aim needs a direction at every layer


@dataclass(frozen=True)
class Protocol:
    """What a validation does.

    Attributes:
        prompts: taken in turn; or the prompts of each aim (steering against what they name).
        choosing_seeds: on which a layer and a dose (multiples of the mean residual norm) are chosen.
        finalists: settings per aim that are tried again on `second_seeds` before the choice; 0 for none.
        per_aim: whether each aim has a setting of its own; otherwise all share the best.
        reporting_seeds: other seeds, on which everything is reported.
        random_directions: controls per aim, which share the number of clips of a steered aim; 0 for none.
        unsteered: whether the same prompts and seeds are also heard unsteered, where all aims share them.
        branch: half of guidance that is steered: "cond", "null" or "both".
    """

    prompts: tuple[str, ...] | Mapping[str, tuple[str, ...]]
    layers: tuple[int, ...]
    doses: tuple[float, ...] = (0.3, 0.6, 0.9)
    choosing_seeds: tuple[int, ...] = tuple(range(4))
    finalists: int = 0
    second_seeds: tuple[int, ...] = ()
    per_aim: bool = False
    reporting_seeds: tuple[int, ...] = tuple(range(1000, 1012))
    random_directions: int = 3
    unsteered: bool = True
    seconds: float = 5.0
    guidance: float | None = None
    branch: str = "cond"


@dataclass(frozen=True)
class Validation:
    """What came out: every judged clip of both parts, and the settings that the first part chose.

    Layer and dose are the setting that is best for all aims together; `settings` are those that were used.
    """

    layer: int
    dose: float
    settings: Mapping[str, Setting]
    choosing: pd.DataFrame
    reporting: pd.DataFrame

    def part(self, method: str) -> pd.DataFrame:
        """Return the reported clips of one method: "probe", "random" or "unsteered"."""
        return self.reporting[self.reporting["method"] == method]

    def summary(self) -> dict[str, dict[str, float]]:
        """Return per aim: layer, dose, n, hit_rate, low, high; random_direction and unsteered if heard."""
        rows = hit_rates(self.reporting, by=("aim", "method")).to_dict("records")
        rates = {(row["aim"], row["method"]): row for row in rows}
        heard = self.part("unsteered")["judged"]
        found: dict[str, dict[str, float]] = {}
        for aim, (layer, dose) in sorted(self.settings.items()):
            row = rates[aim, "probe"]
            shares = {name: row[name] for name in ("hit_rate", "low", "high")}
            if (aim, "random") in rates:
                shares["random_direction"] = rates[aim, "random"]["hit_rate"]
            if len(heard):
                shares["unsteered"] = (heard == aim).mean()
            rounded = {name: round(float(share), 4) for name, share in shares.items()}
            found[aim] = {"layer": layer, "dose": dose, "n": int(row["n"]), **rounded}
        return found


def validate_steering(
    model: Model,
    probes: ProbeSweep,
    judge: Judge | str,
    protocol: Protocol,
    *,
    keep: Keep | None = None,
    **options: Unpack[RunOptions],
) -> Validation:
    """Return a validation of every class of the probes that the judge can hear.

    The weights of the probes are the directions. `keep` says where the clips that are reported on are kept,
    by default nowhere; options are those of `run_trials` (seconds and guidance are the protocol's). An
    EvidenceError says that the judge hears none of the classes.
    """
    (classes,) = (one.classes for one in as_judges(judge).values())
    every = {layer: probes.directions(layer) for layer in protocol.layers}
    heard = {layer: {aim: one[aim] for aim in one if aim in classes} for layer, one in every.items()}
    return validate_directions(model, heard, judge, protocol, keep=keep, **options)


def validate_directions(
    model: Model,
    by_layer: ByLayer,
    judge: Judge | str,
    protocol: Protocol,
    *,
    keep: Keep | None = None,
    **options: Unpack[RunOptions],
) -> Validation:
    """Return a validation of any directions by layer and aim, as `validate_steering` does."""
    aims = sorted({aim for directions in by_layer.values() for aim in directions})
    if not aims:
        found = "the judge hears none of the classes that there are directions for"
        raise EvidenceError("Steering was to be validated", found, "Use a judge of these classes")
    ((name, one),) = as_judges(judge).items()
    options.setdefault("likely", False)
    options["seconds"], options["guidance"] = protocol.seconds, protocol.guidance

    def run(some: Sequence[Trial]) -> pd.DataFrame:
        return without_judge_name(run_trials(model, some, {name: one}, **options), name)

    def write(trial: Trial, take: Take, row: Row) -> None:
        assert keep is not None
        number = of_aim(protocol.prompts, str(trial.aim)).index(trial.prompt)
        keep.write(trial, take, judged=row[f"judged_{name}"], prompt=number)

    choosing, deciding = _tried(run, by_layer, protocol)
    layer, dose = ranked_settings(choosing if protocol.per_aim else deciding)[0]
    chosen = dict.fromkeys(aims, (layer, dose))
    if protocol.per_aim:
        chosen = {aim: ranked_settings(deciding[deciding["aim"] == aim])[0] for aim in aims}
    if keep is not None:
        options["on_row"] = write
    return Validation(layer, dose, chosen, choosing, run(_reported(by_layer, chosen, protocol)))


def _reported(by_layer: ByLayer, chosen: Mapping[str, Setting], protocol: Protocol) -> list[Trial]:
    """Return the trials that are reported on: unsteered, steered, then random directions."""
    directions = {aim: by_layer[layer][aim] for aim, (layer, _dose) in chosen.items()}
    doses = {aim: [dose] for aim, (_layer, dose) in chosen.items()}
    prompts, seeds, count = protocol.prompts, protocol.reporting_seeds, protocol.random_directions
    some: list[Trial] = []
    if protocol.unsteered and not isinstance(prompts, Mapping):
        some = [Trial(*pair, columns={"layer": None, "dose": 0.0}) for pair in pair_prompts(prompts, seeds)]
    some += dose_trials(directions, doses, prompts, seeds, branch=protocol.branch)
    fewer = seeds[: max(1, len(seeds) // max(1, count))]
    return some + random_trials(directions, doses, prompts, fewer, count=count, branch=protocol.branch)


def _tried(
    run: Callable[[Sequence[Trial]], pd.DataFrame], by_layer: ByLayer, protocol: Protocol
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the judged clips of all settings, and those among them that decide (the finalists')."""

    def trials(seeds: Sequence[int]) -> list[Trial]:
        how = (protocol.doses, protocol.prompts, seeds)
        return list(chain(*(dose_trials(one, *how, branch=protocol.branch) for one in by_layer.values())))

    first = run(trials(protocol.choosing_seeds))
    if not (protocol.finalists and protocol.second_seeds):
        return first, first
    kept = {
        (aim, *setting)
        for aim, part in first.groupby("aim")
        for setting in ranked_settings(part if protocol.per_aim else first)[: protocol.finalists]
    }
    again = [one for one in trials(protocol.second_seeds) if (one.aim, *one.columns.values()) in kept]
    both = pd.concat([first, run(again)], ignore_index=True)
    return both, both[both.set_index(["aim", "layer", "dose"]).index.isin(list(kept))].reset_index(drop=True)


def ranked_settings(table: pd.DataFrame) -> list[Setting]:
    """Return the (layer, dose) of a table, best first; of equals, the smaller dose.

    The score of a clip is the mean of hit (0 or 1) and the judge's probability of the aim.
    """
    chance = [row[f"p_{row['aim']}"] for row in table.to_dict("records")]
    scored = table.assign(score=(table["hit"].astype(float) + chance) / 2)
    by_aim = scored.groupby(["layer", "dose", "aim"])["score"].mean()
    means = by_aim.groupby(["layer", "dose"]).mean().reset_index()
    ordered = means.sort_values(["score", "dose"], ascending=[False, True])
    return [(int(layer), float(dose)) for layer, dose in zip(ordered["layer"], ordered["dose"], strict=True)]
