"""Dose-response: generate under many plans, let an independent judge hear every clip, keep every row.

Nothing is averaged away: each clip is a row with its plan, prompt, seed, verdict and probabilities, dose 0
and random directions among them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from workbench.errors import EvidenceError, message
from workbench.evidence.judge import Judge
from workbench.generation.generate import generate
from workbench.model.musicgen import Model
from workbench.steering import Direction, Steering, random_direction


@dataclass(frozen=True)
class Trial:
    """One cell of a sweep: what is aimed at, and the plan that is to get there (None: unsteered)."""

    aim: str
    method: str  # "probe", "random", "unsteered", "prompted" or the user's own word
    layer: int | None
    dose: float
    steering: Steering | None
    prompts: tuple[str, ...] = ()  # instead of the sweep's own


def trials(
    directions: Mapping[str, Direction], doses: Sequence[float], *, method: str = "probe", rows: str = "cond"
) -> list[Trial]:
    """Return one trial per direction and dose; aims are the mapping's keys, layers the directions' own."""
    return [
        Trial(aim, method, direction.layer, dose, direction.at(dose, rows=rows))
        for aim, direction in directions.items()
        for dose in doses
    ]


def random_trials(
    directions: Mapping[str, Direction], dose: float, *, count: int, seed: int = 0, rows: str = "cond"
) -> list[Trial]:
    """Return controls: for each aim, ``count`` random directions of the same layer, norm and dose."""
    return [
        Trial(aim, "random", d.layer, dose, random_direction(d, seed=seed + 1000 * i + k).at(dose, rows=rows))
        for i, (aim, d) in enumerate(directions.items())
        for k in range(count)
    ]


def sweep(
    model: Model,
    cells: Sequence[Trial],
    judge: Judge,
    *,
    prompts: Sequence[str],
    seeds: Sequence[int],
    seconds: float = 5.0,
    guidance: float = 3.0,
    progress: bool = True,
    keep: Path | None = None,
) -> pd.DataFrame:
    """Return one row per trial and seed: aim, method, layer, dose, prompt, seed, judged, hit, p_<class>, ok.

    Prompts take turns over the seeds. All clips are drawn in batches, rows of different plans together.

    Args:
        model: the model.
        cells: trials, controls among them.
        judge: hears the clips; it knows nothing of plans.
        prompts: taken in turn, seed by seed.
        seeds: one clip per trial and seed.
        seconds: length of each clip.
        guidance: classifier-free guidance.
        progress: whether to show a progress bar.
        keep: folder for the clips, ``<keep>/<method>/<aim>/``; by default none is kept.

    Raises:
        EvidenceError: no trial, no prompt or no seed.
    """
    if not (cells and prompts and seeds):
        found = f"{len(cells)} trials, {len(prompts)} prompts and {len(seeds)} seeds"
        raise EvidenceError(message("A sweep was asked for", f"it has {found}", "Give at least one of each"))
    plan = [(cell, (cell.prompts or tuple(prompts))[i % len(cell.prompts or prompts)], seed)
            for cell in cells for i, seed in enumerate(seeds)]  # fmt: skip
    takes = generate(
        model,
        [prompt for _, prompt, _ in plan],
        steering=[cell.steering for cell, _, _ in plan],
        seed=[seed for _, _, seed in plan],
        seconds=seconds,
        guidance=guidance,
        progress=progress,
    )
    if keep is not None:
        for i, ((cell, _, seed), take) in enumerate(zip(plan, takes, strict=True)):
            take.clip.write(keep / cell.method / cell.aim / f"{i:04d}-seed-{seed}.flac")
    odds = judge.probabilities([take.clip for take in takes])
    rows = []
    for (cell, prompt, seed), take, chances in zip(plan, takes, odds, strict=True):
        judged = judge.classes[int(chances.argmax())]
        row = {"aim": cell.aim, "method": cell.method, "layer": cell.layer, "dose": cell.dose,
               "prompt": prompt, "seed": seed, "judged": judged, "hit": judged == cell.aim,
               "ok": take.receipt.ok}  # fmt: skip
        rows.append(row | {f"p_{c}": float(v) for c, v in zip(judge.classes, chances, strict=True)})
    return pd.DataFrame(rows)


def hit_rates(table: pd.DataFrame, by: Sequence[str] = ("aim", "method", "layer", "dose")) -> pd.DataFrame:
    """Return hit rate with its 95 % interval (Wilson) and n for each combination of columns."""
    grouped = table.groupby(list(by), dropna=False)["hit"].agg(["sum", "count"]).reset_index()
    bounds = [wilson(int(k), int(n)) for k, n in zip(grouped["sum"], grouped["count"], strict=True)]
    grouped["hit_rate"] = grouped["sum"] / grouped["count"]
    grouped["low"], grouped["high"] = zip(*bounds, strict=True)
    return grouped.rename(columns={"count": "n"}).drop(columns="sum")


def wilson(hits: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Return Wilson's score interval of a proportion: (low, high), 95 % by default."""
    share, square = hits / n, z * z / n
    centre = (share + square / 2) / (1 + square)
    half = z * np.sqrt(share * (1 - share) / n + square / (4 * n)) / (1 + square)
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))
