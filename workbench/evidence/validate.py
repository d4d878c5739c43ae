"""Does steering work? Layer and dose are chosen on some seeds and reported on others, beside controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pandas as pd

from workbench.evidence.judge import Judge
from workbench.evidence.trials import Keep, Trial, hit_rates, random_trials, sweep, trials
from workbench.model.musicgen import Model
from workbench.probing import ProbeSweep
from workbench.steering import Direction

Setting = tuple[int, float]
"""(layer, dose)."""

ByLayer = Mapping[int, Mapping[str, Direction]]
"""layer -> aim -> direction: what may be chosen from. Not every aim needs a direction at every layer."""


@dataclass(frozen=True)
class Protocol:
    """What a validation does.

    Attributes:
        prompts: prompts, taken in turn; or the prompts of each aim (steering against what they name).
        layers: layers to choose from.
        doses: doses to choose from, in multiples of the mean residual norm.
        choosing_seeds: seeds on which layer and dose are chosen.
        finalists: settings per aim that are tried again on ``second_seeds`` before the choice; 0 for none.
        second_seeds: further seeds for the choice, spent on finalists alone.
        per_aim: whether each aim has a setting of its own; otherwise all share the best.
        reporting_seeds: other seeds, on which everything is reported.
        random_directions: controls per aim, which share the number of clips of a steered aim; 0 for none.
        unsteered: whether the same prompts and seeds are also heard unsteered.
        seconds: length of the clips.
        guidance: classifier-free guidance; by default what the checkpoint says.
        rows: guidance rows that are steered.
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
    rows: str = "cond"

    def asked(self, cells: Sequence[Trial]) -> list[Trial]:
        """Return the trials with the prompts of their aims, where aims have their own."""
        if not isinstance(self.prompts, Mapping):
            return [replace(cell, prompts=self.prompts) for cell in cells]
        return [replace(cell, prompts=self.prompts[cell.aim]) for cell in cells if cell.aim in self.prompts]


@dataclass(frozen=True)
class Validation:
    """What came out: every judged clip of both parts, and the settings that the first part chose.

    `layer` and `dose` are the setting that is best for all aims together; `settings` those that were used.
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
        rates = {
            (row["aim"], row["method"]): row
            for row in hit_rates(self.reporting, by=("aim", "method")).to_dict("records")
        }
        heard = self.part("unsteered")["judged"]
        told: dict[str, dict[str, float]] = {}
        for aim, (layer, dose) in sorted(self.settings.items()):
            row = rates[aim, "probe"]
            told[aim] = {"layer": layer, "dose": dose, "n": int(row["n"])}
            told[aim] |= {name: round(float(row[name]), 4) for name in ("hit_rate", "low", "high")}
            if (aim, "random") in rates:
                told[aim]["random_direction"] = round(float(rates[aim, "random"]["hit_rate"]), 4)
            if len(heard):
                told[aim]["unsteered"] = round(float((heard == aim).mean()), 4)
        return told


def validate_steering(
    model: Model,
    probes: ProbeSweep,
    judge: Judge,
    protocol: Protocol,
    *,
    keep: Keep | None = None,
    progress: bool = True,
) -> Validation:
    """Return a validation of every class of the probes that the judge can hear.

    Args:
        model: the model.
        probes: fitted on its activations; their weights are the directions.
        judge: hears audio only.
        protocol: seeds, doses, layers, controls.
        keep: where the clips are kept that are reported on; by default none is.
        progress: whether to show progress bars.
    """
    by_layer = {
        layer: {name: d for name, d in probes.directions(layer).items() if name in judge.classes}
        for layer in protocol.layers
    }
    return validate_directions(model, by_layer, judge, protocol, keep=keep, progress=progress)


def validate_directions(
    model: Model,
    by_layer: ByLayer,
    judge: Judge,
    protocol: Protocol,
    *,
    keep: Keep | None = None,
    progress: bool = True,
) -> Validation:
    """Return a validation of any directions; their aims are classes of the judge. Arguments as above."""
    run = partial(
        sweep, model, judge=judge, prompts=(), seconds=protocol.seconds, guidance=protocol.guidance,
        progress=progress,
    )  # fmt: skip
    choosing, deciding = _tried(run, by_layer, protocol)
    layer, dose = best_setting(choosing if protocol.per_aim else deciding)
    aims = sorted({aim for directions in by_layer.values() for aim in directions})
    settings = dict.fromkeys(aims, (layer, dose))
    if protocol.per_aim:
        settings = {aim: best_setting(deciding[deciding["aim"] == aim]) for aim in aims}
    directions = {aim: by_layer[layer][aim] for aim, (layer, _) in settings.items()}
    doses = {aim: dose for aim, (_, dose) in settings.items()}
    cells = [Trial("", "unsteered", None, 0.0, None)] if protocol.unsteered else []
    cells += [t for aim, d in directions.items() for t in trials({aim: d}, [doses[aim]], rows=protocol.rows)]
    seeds = protocol.reporting_seeds
    steered = run(protocol.asked(cells), seeds=seeds, keep=keep)
    heard = [steered]
    if protocol.random_directions:
        controls = random_trials(directions, doses, count=protocol.random_directions, rows=protocol.rows)
        each = seeds[: max(1, len(seeds) // protocol.random_directions)]
        heard.append(run(protocol.asked(controls), seeds=each, keep=keep))
    return Validation(layer, dose, settings, choosing, pd.concat(heard, ignore_index=True))


def _tried(run: Any, by_layer: ByLayer, protocol: Protocol) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the judged clips of all settings, and those among them that decide (the finalists')."""
    cells = [t for d in by_layer.values() for t in trials(d, protocol.doses, rows=protocol.rows)]
    first = run(protocol.asked(cells), seeds=protocol.choosing_seeds)
    if not (protocol.finalists and protocol.second_seeds):
        return first, first
    kept = {
        (aim, *setting)
        for aim, part in first.groupby("aim")
        for setting in ranked_settings(part if protocol.per_aim else first)[: protocol.finalists]
    }
    again = [cell for cell in cells if (cell.aim, cell.layer, cell.dose) in kept]
    second = run(protocol.asked(again), seeds=protocol.second_seeds)
    both = pd.concat([first, second], ignore_index=True)
    keys = pd.Series(list(zip(both["aim"], both["layer"], both["dose"], strict=True)))
    return both, both[keys.isin(kept)].reset_index(drop=True)


def ranked_settings(table: pd.DataFrame) -> list[Setting]:
    """Return the (layer, dose) of a table, best first; of equals, the smaller dose.

    The score of a clip is the mean of hit (0 or 1) and the judge's probability of the aim: with few clips per
    setting, hits alone leave too many equals. Each aim weighs the same.
    """
    chance = [row[f"p_{row['aim']}"] for row in table.to_dict("records")]
    scored = table.assign(score=(table["hit"].astype(float) + pd.Series(chance, table.index)) / 2)
    by_aim = scored.groupby(["layer", "dose", "aim"])["score"].mean()
    means = by_aim.groupby(["layer", "dose"]).mean().reset_index()
    ordered = means.sort_values(["score", "dose"], ascending=[False, True])
    return [(int(layer), float(dose)) for layer, dose in zip(ordered["layer"], ordered["dose"], strict=True)]


def best_setting(table: pd.DataFrame) -> Setting:
    """Return the best (layer, dose) of a table of judged clips; see ``ranked_settings``."""
    return ranked_settings(table)[0]
