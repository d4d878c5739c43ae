"""Does the probe's direction change the genre? From neutral prompts, and against prompts that name others.

The probe that steers is the one by difference in means: on seeds that are not reported here it turned 95 % of
the clips, the weight of the logistic probe 83 % (BENCHMARKS.md). The logistic one is reported beside it, with
layers and doses chosen for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from recipe.evaluation.bench import Bench, Heard
from recipe.evaluation.prompted import genre_prompt
from recipe.evaluation.rows import Bar, Row, rate_row, seeds_text
from recipe.evaluation.validation import Protocol, Validation, validate_directions, validate_steering
from recipe.prompts import BARE_PROMPTS
from workbench.activations import Activations
from workbench.probing import ProbeSweep, fit_probes

DOSES = (0.05, 0.1, 0.15, 0.2, 0.3)
DOSES_LOGISTIC = (0.1, 0.15, 0.2, 0.3)
DOSES_AGAINST = (0.1, 0.2, 0.3, 0.45, 0.6)
MEAN, EACH, RANDOM, AGAINST = Bar(at_least=0.95), Bar(at_least=0.85), Bar(under=0.25), Bar(at_least=0.60)
NO_BAR = Bar()


@dataclass(frozen=True)
class Steered:
    """Rows and details of both kinds of steering."""

    rows: list[Row]
    details: dict[str, Any]


def measure_steering(bench: Bench, logistic: ProbeSweep, acts: Activations, neutral: Heard) -> Steered:
    """Return genre steering from neutral prompts, then against prompts that name another genre.

    Args:
        bench: what is measured.
        logistic: probes for genre of all layers.
        acts: what they were fitted on; the probes by difference in means are fitted here.
        neutral: unsteered clips from neutral prompts, for comparison.
    """
    probes = fit_probes(acts, "genre", method="means", shuffles=0)
    validation = _from_neutral(bench, probes)
    weights = _from_neutral_by_weight(bench, logistic)
    unsteered = neutral.classes(bench.judges["genre"])
    against = _against(bench, probes, validation)
    summary = {
        genre: told | {"unsteered": round(float((unsteered == genre).mean()), 4)}
        for genre, told in validation.summary().items()
    }
    details = {
        "steering": summary,
        "steering_logistic": weights.summary(),
        "steering_grid": grid(validation.choosing),
        "against": _survival(against),
        "receipts_ok": bool(validation.reporting["ok"].all() and against.reporting["ok"].all()),
        "sound": {name: sound(validation.part(method)) for name, method in
                  (("steered", "probe"), ("random", "random"))},
    }  # fmt: skip
    rows = [*_neutral_rows(validation), _logistic_row(weights), *_against_rows(against)]
    return Steered(rows, details)


def grid(choosing: pd.DataFrame) -> list[dict[str, float]]:
    """Return per layer and dose the mean over aims of the hit rate, on the seeds that chose."""
    by_aim = choosing.groupby(["layer", "dose", "aim"])["hit"].mean()
    means = by_aim.groupby(["layer", "dose"]).mean().round(3).reset_index()
    return [{str(key): value for key, value in row.items()} for row in means.to_dict("records")]


def sound(table: pd.DataFrame) -> dict[str, float]:
    """Return the medians of the guards against broken audio."""
    names = ["level_db", "clipping", "silence", "flatness", "repetition"]
    return {name: round(float(table[name].median()), 4) for name in names}


def chosen_on(validation: Validation) -> str:
    """Return on which seeds the settings were chosen."""
    return f"layer and dose of each chosen on seeds {seeds_text(validation.choosing['seed'].tolist())}"


def _protocol(bench: Bench) -> Protocol:
    """Return how genre is steered from neutral prompts."""
    budget = bench.budget
    return Protocol(
        prompts=tuple(BARE_PROMPTS),
        layers=bench.layers(5),
        doses=DOSES,
        choosing_seeds=budget.seeds("choose steered", budget.part(3 / 30)),
        finalists=4,
        second_seeds=budget.seeds("choose steered again", budget.part(8 / 30)),
        reporting_seeds=budget.seeds("steered", budget.clips),
        random_directions=budget.controls,
        seconds=bench.seconds,
    )


def _from_neutral(bench: Bench, probes: ProbeSweep) -> Validation:
    protocol, judge = _protocol(bench), bench.judges["genre"]
    keep = bench.keep(".", protocol.prompts, probe="steered")
    return validate_steering(bench.model, probes, judge, protocol, keep=keep, progress=bench.progress)


def _from_neutral_by_weight(bench: Bench, logistic: ProbeSweep) -> Validation:
    """Return the same for the weights of the logistic probes, on the same seeds; no clips are kept."""
    budget = bench.budget
    protocol = replace(
        _protocol(bench),
        layers=bench.layers(3),
        doses=DOSES_LOGISTIC,
        choosing_seeds=budget.seeds("choose steered", budget.part(2 / 30)),
        finalists=3,
        second_seeds=budget.seeds("choose steered again", budget.part(4 / 30)),
        random_directions=0,
    )
    return validate_steering(bench.model, logistic, bench.judges["genre"], protocol, progress=bench.progress)


def _against(bench: Bench, probes: ProbeSweep, chosen: Validation) -> Validation:
    """Return steering against prompts of all other genres, at the layer chosen for neutral ones."""
    genres = bench.genres
    prompts = {g: tuple(genre_prompt(o, 0) for o in genres if o != g) for g in genres}
    directions: dict[int, dict[str, Any]] = {}
    for genre, (layer, _) in chosen.settings.items():
        directions.setdefault(layer, {})[genre] = probes[layer].direction(genre)
    pairs = len(genres) - 1
    repeats = bench.budget.repeats
    protocol = Protocol(
        prompts=prompts,
        layers=tuple(directions),
        doses=DOSES_AGAINST,
        choosing_seeds=bench.budget.seeds("choose against", pairs),
        reporting_seeds=bench.budget.seeds("against", pairs * repeats),
        random_directions=repeats,
        seconds=bench.seconds,
    )
    keep = bench.keep("against", prompts, probe=".", random="random")
    return validate_directions(
        bench.model, directions, bench.judges["genre"], protocol, keep=keep, progress=bench.progress
    )


def _neutral_rows(validation: Validation) -> list[Row]:
    steered, random = validation.part("probe"), validation.part("random")
    told = seeds_text(steered["seed"].tolist())
    settings = {aim: f"layer {layer}, dose {dose:g}" for aim, (layer, dose) in validation.settings.items()}
    hits = steered["hit"].to_numpy()
    what = "steered genre hit rate from neutral prompts, probe by difference in means"
    mean = rate_row("steered.mean", what, MEAN, hits, seeds=told, note=chosen_on(validation))
    each = [
        rate_row(f"steered.{aim}", f"steered genre hit rate: {aim}", EACH,
                 hits[(steered["aim"] == aim).to_numpy()], seeds=told, note=note)
        for aim, note in sorted(settings.items())
    ]  # fmt: skip
    control = rate_row("steered.random", "random directions of equal norm: aimed genre heard", RANDOM,
                       random["hit"].to_numpy(), seeds=seeds_text(random["seed"].tolist()),
                       note="same layers, doses and prompts")  # fmt: skip
    return [mean, *each, control]


def _logistic_row(validation: Validation) -> Row:
    steered = validation.part("probe")
    settings = ", ".join(
        f"{aim} layer {layer} dose {dose:g}" for aim, (layer, dose) in sorted(validation.settings.items())
    )
    return rate_row("steered.logistic", "the same by the weight of the logistic probe, all genres", NO_BAR,
                    steered["hit"].to_numpy(), seeds=seeds_text(steered["seed"].tolist()),
                    note=f"{settings}; {chosen_on(validation)}")  # fmt: skip


def _against_rows(validation: Validation) -> list[Row]:
    steered, random = validation.part("probe"), validation.part("random")
    hits, kept = steered["hit"].to_numpy(), _named_survives(steered)
    told = seeds_text(steered["seed"].tolist())
    return [
        rate_row("against.mean", "steered genre hit rate against a prompt that names another genre", AGAINST,
                 hits, seeds=told, note=f"all ordered pairs; {chosen_on(validation)}"),
        rate_row("against.survival", "against a prompt: the prompted genre is heard", NO_BAR, kept,
                 seeds=told),
        rate_row("against.random", "random directions against such prompts: aimed genre heard", NO_BAR,
                 random["hit"].to_numpy(), seeds=seeds_text(random["seed"].tolist())),
    ]  # fmt: skip


def _named_survives(table: pd.DataFrame) -> np.ndarray:
    """Return whether the genre that the prompt names is still what the judge hears (n,)."""
    pairs = zip(table["judged"], table["prompt"], strict=True)
    return np.array([str(judged) in str(prompt).split() for judged, prompt in pairs])


def _survival(validation: Validation) -> Mapping[str, dict[str, float]]:
    """Return per aim: layer, dose, hit rate, random control, how often the prompted genre survives."""
    steered = validation.part("probe")
    survives = pd.Series(_named_survives(steered), steered.index)
    told = validation.summary()
    for aim in told:
        told[aim]["prompted_genre_survives"] = round(float(survives[steered["aim"] == aim].mean()), 4)
    return told
