"""The paper's four transitions: 5 s of one genre, continued into another, steered against prompted.

Half of the grooves make the directions and choose layer and dose; the beginnings that are reported on are
from the other half.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from recipe.evaluation.bench import Bench
from recipe.evaluation.prompted import genre_prompt
from recipe.evaluation.rows import NO_BAR, Bar, Row, seeds_text
from workbench.activations import Activations
from workbench.evidence.crosstalk import Beginnings, Gains, beginnings, compare_gains, transitions
from workbench.evidence.report import TRANSITIONS
from workbench.probing import ProbeSweep, fit_probes
from workbench.stats import means
from workbench.steering import Direction, Steering, random_direction

DOSES = (0.1, 0.2, 0.3, 0.45)
NEUTRAL = "a tune"
AHEAD = Bar(at_least=0.0)


def measure_transitions(bench: Bench, acts: Activations) -> tuple[list[Row], dict[str, Any]]:
    """Return rows and details of the four transitions.

    Args:
        bench: what is measured.
        acts: of the bench's music.
    """
    learnt, held = bench.music.split(test=0.5)
    part = acts.subset(np.isin(acts.clips, learnt.ids))
    probes = fit_probes(part, "genre", method="means", layers=bench.layers(4), folds=2, shuffles=0)
    rows: list[Row] = []
    details: dict[str, Any] = {}
    for out_of, into in TRANSITIONS:
        setting = _choose(bench, probes, beginnings(learnt, out_of, bench.budget.part(0.4)), into)
        table, groups = _report(bench, setting, beginnings(held, out_of, bench.budget.clips), into)
        rows += _rows(table, groups, out_of, into, setting)
        details[f"{out_of} to {into}"] = _details(table, into)
    return rows, details


def _continue(
    bench: Bench, some: Beginnings, conditions: Mapping[str, tuple[str, Steering | None]], into: str, use: str
) -> pd.DataFrame:
    return transitions(
        bench.model, some.clips, conditions, bench.judges["genre"], into,
        seeds=bench.budget.seeds(use, len(some.clips)), given_seconds=bench.seconds, seconds=bench.seconds,
        progress=bench.progress,
    )  # fmt: skip


def _choose(bench: Bench, probes: ProbeSweep, some: Beginnings, into: str) -> tuple[Direction, float]:
    """Return direction and dose with the largest mean gain; of equals the smaller dose."""
    cells = [(probe.direction(into), dose) for dose in DOSES for probe in probes]
    conditions = {str(number): (NEUTRAL, one.at(dose)) for number, (one, dose) in enumerate(cells)}
    gains = _continue(bench, some, conditions, into, "choose transitions").groupby("method")["gain"].mean()
    best = max(range(len(cells)), key=lambda number: round(float(gains[str(number)]), 2))
    return cells[best]


def _report(
    bench: Bench, setting: tuple[Direction, float], some: Beginnings, into: str
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    direction, dose = setting
    prompt = genre_prompt(into, 0)
    conditions = {
        "steered": (NEUTRAL, direction.at(dose)),
        "prompted": (prompt, None),
        "both": (prompt, direction.at(dose)),
        "random": (NEUTRAL, random_direction(direction, seed=0).at(dose)),
        "unsteered": (NEUTRAL, None),
    }
    return _continue(bench, some, conditions, into, "transitions"), some.grooves


def compared(table: pd.DataFrame, groups: Sequence[str], method: str, other: str) -> Gains:
    """Return the gains under two conditions, beginning beside beginning."""
    first, second = (table[table["method"] == name].sort_values("beginning") for name in (method, other))
    return compare_gains(first["gain"].to_numpy(), second["gain"].to_numpy(), groups=groups)


def _rows(
    table: pd.DataFrame, groups: Sequence[str], out_of: str, into: str, setting: tuple[Direction, float]
) -> list[Row]:
    found = compared(table, groups, "steered", "prompted")
    direction, dose = setting
    name, seeds = f"{out_of} to {into}", seeds_text(table["seed"].tolist())
    note = (
        f"gain {found.steered.value:.2f} steered, {found.prompted.value:.2f} prompted; layer "
        f"{direction.layer}, dose {dose:g}, chosen on other grooves; bootstrap of {len(set(groups))} grooves"
    )
    difference = found.difference
    steered = table[table["method"] == "steered"].sort_values("beginning")
    hits = (steered["judged"] == into).to_numpy(float)
    (heard,) = means(hits[:, None], np.array(groups))
    return [
        Row(f"turns.{name}", f"{name}: gain in P({into}), steered minus prompted", AHEAD, difference.value,
            difference.low, difference.high, found.n, seeds, note),
        Row(f"turns.{name}.heard", f"{name}: the steered continuation is heard as {into}", NO_BAR,
            heard.value, heard.low, heard.high, found.n, seeds, f"bootstrap of {len(set(groups))} grooves"),
    ]  # fmt: skip


def _details(table: pd.DataFrame, into: str) -> Mapping[str, Any]:
    """Return, per condition, mean gain, share heard as the target, and medians of the guards."""
    told = {}
    for method, part in table.groupby("method", sort=False):
        guards = {
            name: round(float(part[name].median()), 3) for name in ("level_db", "flatness", "repetition")
        }
        hit = float((part["judged"] == into).mean())
        told[str(method)] = {"gain": round(float(part["gain"].mean()), 4), "heard": round(hit, 4), **guards}
    return told
