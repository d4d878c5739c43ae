"""Several attributes at once: pairs (pairs.py), what else every plan changes, and blends of two genres."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from recipe.evaluation.bench import Bench
from recipe.evaluation.doses import AIMS, Doses
from recipe.evaluation.pairs import measure_pairs
from recipe.evaluation.rows import NO_BAR, Bar, Row, seeds_text
from recipe.prompts import BARE_PROMPTS
from workbench.evidence.crosstalk import WEIGHTS, BlendCurve, Crosstalk, blend_curve, crosstalk
from workbench.steering import random_direction

BLEND, BLEND_DOSES = ("jazz", "electronic"), (0.05, 0.1, 0.15)
ORDER = Bar(at_least=0.8)


@dataclass(frozen=True, eq=False)
class Several:
    """Rows, and the values behind them."""

    rows: list[Row]
    crosstalk: Crosstalk
    fusion: BlendCurve
    details: dict[str, Any]


def measure_several(bench: Bench, doses: Doses) -> Several:
    """Return how pairs, single plans and blends of two genres are heard by all judges.

    Args:
        bench: what is measured.
        doses: layers, doses and directions.
    """
    pair_rows, pairs = measure_pairs(bench, doses)
    talk = _crosstalk(bench, doses)
    blends, tried = _blends(bench, doses)
    spearman, seeds = blends.spearman, seeds_text(blends.clips["seed"].tolist())
    what = f"blends of {' and '.join(BLEND)}, {len(WEIGHTS)} weights: Spearman correlation of weight and odds"
    order = Row("fusion", f"{what} inside a seed", ORDER, spearman.value, spearman.low, spearman.high,
                len(blends.odds), seeds, f"n counts seeds; {tried['note']}")  # fmt: skip
    ratio = Row("crosstalk.specificity", "mean change of what is aimed at over the mean change of other "
                "attributes", NO_BAR, talk.specificity(), None, None, int(talk.cells["n"].max()),
                seeds_text(talk.clips["seed"].tolist()), "see the matrix")  # fmt: skip
    details = {"pairs": pairs, "crosstalk": _matrix(talk), "fusion": blends.table().to_dict("records")}
    return Several([*pair_rows, order, ratio], talk, blends, details | {"fusion_tried": tried["grid"]})


def _crosstalk(bench: Bench, doses: Doses) -> Crosstalk:
    """Return the matrix of all plans, and of a random direction with the setting of jazz."""
    plans = {name: doses.plan(name) for name in doses.found}
    jazz = doses.found["jazz"]
    blank = random_direction(doses.directions["genre"][jazz.layer]["jazz"], seed=0)
    plans["random"] = blank.at(jazz.dose)
    aims = {name: AIMS[name] for name in doses.found}
    return crosstalk(
        bench.model, plans, bench.judges, aims=aims, prompts=BARE_PROMPTS,
        seeds=bench.budget.seeds("crosstalk", bench.budget.clips), seconds=bench.seconds,
        progress=bench.progress,
    )  # fmt: skip


def _matrix(talk: Crosstalk) -> list[Mapping[str, Any]]:
    cells = talk.cells.round(4)
    return [{str(key): value for key, value in row.items()} for row in cells.to_dict("records")]


def _blends(bench: Bench, doses: Doses) -> tuple[BlendCurve, dict[str, Any]]:
    """Return the ladder of blends at the layer and dose that did best on other seeds."""
    first, second = BLEND
    grid: list[tuple[float, int, float]] = []

    def ladder(layer: int, dose: float, use: str, count: int) -> BlendCurve:
        both = doses.directions["genre"][layer]
        return blend_curve(
            bench.model, both[first], both[second], bench.judges["genre"], dose=dose, weights=WEIGHTS,
            prompts=BARE_PROMPTS, seeds=bench.budget.seeds(use, count), seconds=bench.seconds,
            progress=bench.progress,
        )  # fmt: skip

    for layer in sorted(doses.directions["genre"])[1:]:
        for dose in BLEND_DOSES:
            value = ladder(layer, dose, "choose blends", bench.budget.part(10 / 30)).spearman.value
            grid.append((value, layer, dose))
    best = max(grid, key=lambda one: (one[0], -one[2]))
    note = f"layer {best[1]}, dose {best[2]:g}, chosen on other seeds"
    tried = [{"layer": layer, "dose": dose, "spearman": round(value, 3)} for value, layer, dose in grid]
    return ladder(best[1], best[2], "blends", bench.budget.part(20 / 30)), {"note": note, "grid": tried}
