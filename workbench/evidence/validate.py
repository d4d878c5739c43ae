"""Does steering work? Layer and dose are chosen on some seeds and reported on others, beside controls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from workbench.evidence.judge import Judge
from workbench.evidence.sweep import Trial, hit_rates, random_trials, sweep, trials
from workbench.model.musicgen import Model
from workbench.probing import ProbeSweep
from workbench.steering import Direction


@dataclass(frozen=True)
class Protocol:
    """What a validation does.

    Attributes:
        prompts: neutral prompts, taken in turn.
        layers: layers to choose from.
        doses: doses to choose from, in multiples of the mean residual norm.
        choosing_seeds: seeds on which layer and dose are chosen.
        reporting_seeds: other seeds, on which everything is reported.
        random_directions: controls per aim, which share the number of clips of a steered aim.
        seconds: length of the clips.
        guidance: classifier-free guidance.
        rows: guidance rows that are steered.
    """

    prompts: tuple[str, ...]
    layers: tuple[int, ...]
    doses: tuple[float, ...] = (0.3, 0.6, 0.9)
    choosing_seeds: tuple[int, ...] = tuple(range(4))
    reporting_seeds: tuple[int, ...] = tuple(range(1000, 1012))
    random_directions: int = 3
    seconds: float = 5.0
    guidance: float = 3.0
    rows: str = "cond"


@dataclass(frozen=True)
class Validation:
    """What came out: every judged clip of both parts, and the setting that the first part chose."""

    layer: int
    dose: float
    choosing: pd.DataFrame
    reporting: pd.DataFrame

    def summary(self) -> dict[str, dict[str, float]]:
        """Return per aim: layer, dose, hit_rate with low and high, n, unsteered, random_direction."""
        rates = hit_rates(self.reporting, by=("aim", "method")).set_index(["aim", "method"])
        unsteered = self.reporting[self.reporting["method"] == "unsteered"]["judged"]
        return {
            str(aim): {
                "layer": self.layer,
                "dose": self.dose,
                **{
                    name: round(float(rates.loc[(aim, "probe"), name]), 4)
                    for name in ("hit_rate", "low", "high")
                },
                "n": int(rates.loc[(aim, "probe"), "n"]),
                "unsteered": round(float((unsteered == aim).mean()), 4),
                "random_direction": round(float(rates.loc[(aim, "random"), "hit_rate"]), 4),
            }
            for aim in sorted(rates.index.get_level_values("aim").unique())
            if (aim, "probe") in rates.index
        }


def validate_steering(
    model: Model, probes: ProbeSweep, judge: Judge, protocol: Protocol, *, keep: Path | None = None
) -> Validation:
    """Return a validation of every class of the probes that the judge can hear.

    Args:
        model: the model.
        probes: fitted on its activations; their weights are the directions.
        judge: hears audio only.
        protocol: seeds, doses, layers, controls.
        keep: folder for the clips that are reported on; by default none is kept.
    """
    by_layer = {layer: _known(probes.directions(layer), judge) for layer in protocol.layers}
    candidates = [t for d in by_layer.values() for t in trials(d, protocol.doses, rows=protocol.rows)]
    options = {"prompts": protocol.prompts, "seconds": protocol.seconds, "guidance": protocol.guidance}
    choosing = sweep(model, candidates, judge, seeds=protocol.choosing_seeds, **options)  # type: ignore[arg-type]
    layer, dose = best_setting(choosing)
    directions = by_layer[layer]
    seeds = protocol.reporting_seeds
    cells = [Trial("", "unsteered", None, 0.0, None), *trials(directions, [dose], rows=protocol.rows)]
    steered = sweep(model, cells, judge, seeds=seeds, keep=keep, **options)  # type: ignore[arg-type]
    controls = random_trials(directions, dose, count=protocol.random_directions, rows=protocol.rows)
    each = seeds[: max(1, len(seeds) // protocol.random_directions)]
    random = sweep(model, controls, judge, seeds=each, keep=keep, **options)  # type: ignore[arg-type]
    return Validation(layer, dose, choosing, pd.concat([steered, random], ignore_index=True))


def best_setting(table: pd.DataFrame) -> tuple[int, float]:
    """Return the (layer, dose) with the highest hit rate averaged over aims; the smaller dose of equals."""
    means = table.groupby(["layer", "dose"])["hit"].mean().reset_index()
    best = means.sort_values(["hit", "dose"], ascending=[False, True]).iloc[0]
    return int(best["layer"]), float(best["dose"])


def _known(directions: Mapping[str, Direction], judge: Judge) -> dict[str, Direction]:
    return {name: direction for name, direction in directions.items() if name in judge.classes}
