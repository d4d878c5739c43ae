"""Does steering work? Layer and dose of each aim are chosen on some seeds and reported on others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Unpack

import pandas as pd

from workbench.evidence.judge import Judge, as_judges
from workbench.evidence.search import Setting
from workbench.evidence.trials import (
    OnRow,
    RunOptions,
    Trial,
    dose_trials,
    hit_rates,
    random_trials,
    run_trials,
    without_judge_name,
)
from workbench.model.musicgen import Model
from workbench.probing import ProbeSweep
from workbench.steering import Direction

ByLayer = Mapping[int, Mapping[str, Direction]]  # not every aim needs a direction at every layer


@dataclass(frozen=True)
class Protocol:
    """What a validation does.

    Prompts are taken in turn, or given for each aim (steering against what they name). The random directions
    are controls per aim, which share the number of clips of a steered aim.
    """

    prompts: tuple[str, ...] | Mapping[str, tuple[str, ...]]
    layers: tuple[int, ...]
    doses: tuple[float, ...]  # multiples of the mean residual norm
    choosing_seeds: tuple[int, ...]  # on which layer and dose of each aim are chosen
    reporting_seeds: tuple[int, ...]  # others, on which everything is reported
    finalists: int = 0  # settings per aim that are tried again on `second_seeds` before the choice
    second_seeds: tuple[int, ...] = ()
    random_directions: int = 3
    seconds: float = 5.0


@dataclass(frozen=True)
class Validation:
    """What came out: every judged clip of both parts, and the setting of each aim that was chosen."""

    settings: Mapping[str, Setting]
    choosing: pd.DataFrame
    reporting: pd.DataFrame

    def part(self, method: str) -> pd.DataFrame:
        """Return the reported clips of one method: "probe" or "random"."""
        return self.reporting[self.reporting["method"] == method]

    def summary(self) -> dict[str, dict[str, float]]:
        """Return per aim: layer, dose, n, hit_rate, low, high, and random_direction if there was one."""
        rows = hit_rates(self.reporting, by=("aim", "method")).to_dict("records")
        rates = {(row["aim"], row["method"]): row for row in rows}
        found: dict[str, dict[str, float]] = {}
        for aim, (layer, dose) in sorted(self.settings.items()):
            row = rates[aim, "probe"]
            shares = {name: row[name] for name in ("hit_rate", "low", "high")}
            if (aim, "random") in rates:
                shares["random_direction"] = rates[aim, "random"]["hit_rate"]
            rounded = {name: round(float(share), 4) for name, share in shares.items()}
            found[aim] = {"layer": layer, "dose": dose, "n": int(row["n"]), **rounded}
        return found


def validate_steering(
    model: Model,
    probes: ProbeSweep,
    judge: Judge | str,
    protocol: Protocol,
    *,
    keep: OnRow | None = None,
    **options: Unpack[RunOptions],
) -> Validation:
    """Return a validation of every class of the probes that the judge can hear.

    The weights of the probes are the directions. `keep` is called as `on_row`, with what is reported alone;
    other options are those of `run_trials`.
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
    keep: OnRow | None = None,
    **options: Unpack[RunOptions],
) -> Validation:
    """Return a validation of any directions by layer and aim, as `validate_steering` does."""
    aims = sorted({aim for directions in by_layer.values() for aim in directions})
    ((name, one),) = as_judges(judge).items()
    options.setdefault("likely", False)
    options["seconds"] = protocol.seconds

    def run(some: Sequence[Trial]) -> pd.DataFrame:
        return without_judge_name(run_trials(model, some, {name: one}, **options), name)

    choosing, deciding = _tried(run, by_layer, protocol)
    chosen = {aim: ranked_settings(deciding[deciding["aim"] == aim])[0] for aim in aims}
    if keep is not None:
        options["on_row"] = keep
    options["chosen_on"] = choosing
    return Validation(chosen, choosing, run(_reported(by_layer, chosen, protocol)))


def _reported(by_layer: ByLayer, chosen: Mapping[str, Setting], protocol: Protocol) -> list[Trial]:
    """Return the trials that are reported on: steered, then random directions."""
    directions = {aim: by_layer[layer][aim] for aim, (layer, _dose) in chosen.items()}
    doses = {aim: [dose] for aim, (_layer, dose) in chosen.items()}
    prompts, seeds, count = protocol.prompts, protocol.reporting_seeds, protocol.random_directions
    some = dose_trials(directions, doses, prompts, seeds)
    fewer = seeds[: max(1, len(seeds) // max(1, count))]
    return some + random_trials(directions, doses, prompts, fewer, count=count)


def _tried(
    run: Callable[[Sequence[Trial]], pd.DataFrame], by_layer: ByLayer, protocol: Protocol
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the judged clips of all settings, and those among them that decide (the finalists')."""

    def trials(seeds: Sequence[int]) -> list[Trial]:
        how = (protocol.doses, protocol.prompts, seeds)
        return list(chain(*(dose_trials(one, *how) for one in by_layer.values())))

    first = run(trials(protocol.choosing_seeds))
    if not (protocol.finalists and protocol.second_seeds):
        return first, first
    kept = {
        (aim, *setting)
        for aim, part in first.groupby("aim")
        for setting in ranked_settings(part)[: protocol.finalists]
    }
    again = [one for one in trials(protocol.second_seeds) if (one.aim, *one.columns.values()) in kept]
    both = pd.concat([first, run(again)], ignore_index=True)
    return both, both[both.set_index(["aim", "layer", "dose"]).index.isin(list(kept))].reset_index(drop=True)


def ranked_settings(table: pd.DataFrame) -> list[Setting]:
    """Return the (layer, dose) of an aim's clips, best first; of equals, the smaller dose.

    The score of a clip is the mean of hit (0 or 1) and the judge's probability of the aim.
    """
    chance = [row[f"p_{row['aim']}"] for row in table.to_dict("records")]
    scored = table.assign(score=(table["hit"].astype(float) + chance) / 2)
    means = scored.groupby(["layer", "dose"])["score"].mean().reset_index()
    ordered = means.sort_values(["score", "dose"], ascending=[False, True])
    return [(int(layer), float(dose)) for layer, dose in zip(ordered["layer"], ordered["dose"], strict=True)]
