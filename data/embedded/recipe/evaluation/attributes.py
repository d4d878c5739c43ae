"""Can mode, mood and lead instrument be steered? Each heard by a judge of its own."""

from __future__ import annotations

from typing import Any

from recipe.evaluation.bench import Bench, Heard
from recipe.evaluation.rows import Bar, Row, absent, rate_row, seeds_text
from recipe.evaluation.steered import chosen_on, grid, sound
from recipe.evaluation.validation import Protocol, Validation, validate_directions
from recipe.prompts import BARE_PROMPTS
from workbench.activations import Activations
from workbench.probing import ProbeSweep, fit_probes

BARS = {"mode": 0.70, "mood": 0.60, "lead": 0.70}
DOSES = (0.1, 0.2, 0.4)
ABOVE_CHANCE = 0.1


def measure_attributes(
    bench: Bench, acts: Activations, neutral: Heard
) -> tuple[list[Row], dict[str, dict[str, Any]]]:
    """Return the rows of every attribute, and details by attribute; absent rows where there is no judge.

    Args:
        bench: what is measured.
        acts: of labelled pieces; the probes are fitted on them.
        neutral: unsteered clips, for comparison.
    """
    rows: list[Row] = []
    details: dict[str, dict[str, Any]] = {}
    for target, least in BARS.items():
        why = why_not(bench, acts, target)
        if why:
            rows += [
                absent(f"{target}.steered", f"{target} steering hit rate", Bar(at_least=least), why),
                absent(f"{target}.random", f"random directions: aimed {target} heard", Bar(), why),
            ]
            continue
        probes = fit_probes(acts, target, layers=bench.layers(3), shuffles=5)
        validation = _validate(bench, probes, target)
        rows += _rows(validation, target, least, len(bench.judges[target].classes))
        details[target] = _details(bench, probes, validation, neutral)
    return rows, details


def why_not(bench: Bench, acts: Activations, target: str) -> str:
    """Return why a target cannot be steered and heard, or nothing."""
    if target not in bench.judges:
        return f"there is no judge of {target}; `make embedded` trains it"
    if target not in acts.targets:
        return f"the shipped music has no label {target}"
    return ""


def _validate(bench: Bench, probes: ProbeSweep, target: str) -> Validation:
    judge, budget = bench.judges[target], bench.budget
    directions = {
        layer: {c: d for c, d in probes.directions(layer).items() if c in judge.classes}
        for layer in probes.layers
    }
    protocol = Protocol(
        prompts=tuple(BARE_PROMPTS),
        layers=probes.layers,
        doses=DOSES,
        choosing_seeds=budget.seeds("choose attributes", budget.part(1 / 30)),
        finalists=2,
        second_seeds=budget.seeds("choose attributes again", budget.part(2 / 30)),
        reporting_seeds=budget.seeds(target, budget.part(2 / len(judge.classes))),
        random_directions=max(1, budget.clips // 5),
        seconds=bench.seconds,
    )
    keep = bench.keep(f"attributes/{target}", BARE_PROMPTS, probe=".")
    return validate_directions(bench.model, directions, judge, protocol, keep=keep, progress=bench.progress)


def _rows(validation: Validation, target: str, least: float, classes: int) -> list[Row]:
    steered, random = validation.part("probe"), validation.part("random")
    most = 1 / classes + ABOVE_CHANCE
    return [
        rate_row(f"{target}.steered", f"{target} steering hit rate, {classes} classes", Bar(at_least=least),
                 steered["hit"].to_numpy(), seeds=seeds_text(steered["seed"].tolist()),
                 note=chosen_on(validation)),
        rate_row(f"{target}.random", f"random directions: aimed {target} heard", Bar(at_most=most),
                 random["hit"].to_numpy(), seeds=seeds_text(random["seed"].tolist()),
                 note=f"bar: chance (1/{classes}) and {ABOVE_CHANCE:g}"),
    ]  # fmt: skip


def _details(bench: Bench, probes: ProbeSweep, validation: Validation, neutral: Heard) -> dict[str, Any]:
    target = probes.probes[0].target
    heard = neutral.classes(bench.judges[target])
    summary = {
        aim: told | {"unsteered": round(float((heard == aim).mean()), 4)}
        for aim, told in validation.summary().items()
    }
    return {
        "steering": summary,
        "grid": grid(validation.choosing),
        "probe_accuracy": {str(probe.layer): round(probe.accuracy, 4) for probe in probes},
        "sound": sound(validation.part("probe")),
        "receipts_ok": bool(validation.reporting["ok"].all()),
    }
