"""Dose-response: generate under many plans, let an independent judge hear every clip, keep every row.

Nothing is averaged away: each clip is a row with its plan, prompt, seed, verdict and probabilities, dose 0
and random directions among them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from workbench.errors import EvidenceError
from workbench.evidence.damage import damage
from workbench.evidence.judge import Judge
from workbench.evidence.likelihood import likelihood
from workbench.generation.generate import generate
from workbench.generation.take import Take
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
    name: str = ""  # tells apart, in the names of kept files, what aim, prompt and seed do not


@dataclass(frozen=True)
class Keep:
    """Where judged clips are kept: ``<folder>/<subfolder of the method>/<aim, or what the judge heard>/``.

    Subfolders are named as the method unless `subfolders` says otherwise; files are 16-bit WAV, named by
    prompt and seed.
    """

    folder: Path
    subfolders: Mapping[str, str]

    def write(self, take: Take, cell: Trial, *, judged: str, prompt: int) -> Path:
        """Write one clip and return its path."""
        folder = self.folder / self.subfolders.get(cell.method, cell.method) / (cell.aim or judged)
        return take.clip.write(folder / f"{cell.name}prompt-{prompt}-seed-{take.seed}.wav")


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
    directions: Mapping[str, Direction],
    doses: float | Mapping[str, float],
    *,
    count: int,
    seed: int = 0,
    rows: str = "cond",
) -> list[Trial]:
    """Return controls: for each aim, ``count`` random directions of the same layer, norm and dose.

    Args:
        directions: what is controlled for, by aim.
        doses: one for all aims, or one by aim.
        count: random directions per aim.
        seed: of the directions.
        rows: guidance rows that are steered.
    """
    drawn = []
    for i, (aim, direction) in enumerate(directions.items()):
        dose = doses[aim] if isinstance(doses, Mapping) else doses
        for k in range(count):
            other = random_direction(direction, seed=seed + 1000 * i + k)
            plan = other.at(dose, rows=rows)
            drawn.append(Trial(aim, "random", direction.layer, dose, plan, name=f"{other.name}-"))
    return drawn


def sweep(
    model: Model,
    cells: Sequence[Trial],
    judge: Judge,
    *,
    prompts: Sequence[str],
    seeds: Sequence[int],
    seconds: float = 5.0,
    guidance: float | None = None,
    likely: bool = False,
    progress: bool = True,
    keep: Keep | None = None,
) -> pd.DataFrame:
    """Return one row per trial and seed, in this order, seeds turning fastest.

    Columns: aim, method, layer, dose, prompt, seed, judged, hit, ok (the receipt), p_<class> of the judge,
    and the five guards of ``damage``; nll, nll_0, nll_1 ... of ``likelihood`` where `likely`. Prompts take
    turns over the seeds. All clips are drawn in batches, rows of different plans together.

    Args:
        model: the model.
        cells: trials, controls among them.
        judge: hears the clips; it knows nothing of plans.
        prompts: taken in turn, seed by seed.
        seeds: one clip per trial and seed.
        seconds: length of each clip.
        guidance: classifier-free guidance; by default what the checkpoint says.
        likely: whether the likelihood of the codes under the unsteered model is measured, too.
        progress: whether to show a progress bar.
        keep: where clips are kept; by default none is.

    Raises:
        EvidenceError: no trial, no prompt or no seed.
    """
    if not (cells and seeds and all(cell.prompts or prompts for cell in cells)):
        found = f"{len(cells)} trials, {len(prompts)} prompts and {len(seeds)} seeds"
        raise EvidenceError("A sweep was asked for", f"it has {found}", "Give at least one of each")
    plan = [(cell, i % len(cell.prompts or prompts), seed) for cell in cells for i, seed in enumerate(seeds)]
    texts = [(cell.prompts or tuple(prompts))[number] for cell, number, _ in plan]
    takes = generate(
        model,
        texts,
        steering=[cell.steering for cell, _, _ in plan],
        seed=[seed for _, _, seed in plan],
        seconds=seconds,
        guidance=guidance,
        progress=progress,
    )
    odds = judge.probabilities([take.clip for take in takes])
    rows = []
    for (cell, number, _), take, chances in zip(plan, takes, odds, strict=True):
        rows.append(row := _row(cell, take, judge, chances))
        if keep is not None:
            keep.write(take, cell, judged=row["judged"], prompt=number)
    table = pd.DataFrame(rows)
    if not likely:
        return table
    scores = pd.DataFrame([one.row() for one in likelihood(model, takes, progress=progress)])
    return pd.concat([table, scores], axis=1)


def _row(cell: Trial, take: Take, judge: Judge, chances: np.ndarray) -> dict[str, Any]:
    """Return what the table says of one clip."""
    judged = judge.classes[int(chances.argmax())]
    told = {"aim": cell.aim, "method": cell.method, "layer": cell.layer, "dose": cell.dose,
            "prompt": take.prompt, "seed": take.seed, "judged": judged, "hit": judged == cell.aim,
            "ok": take.receipt.ok}  # fmt: skip
    odds = {f"p_{class_}": float(p) for class_, p in zip(judge.classes, chances, strict=True)}
    return told | odds | damage(take.clip)


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
