"""Dose-response: generate under many plans, let an independent judge hear every clip, keep every row.

Nothing is averaged away: each clip is a row with its plan, prompt, seed, verdict and probabilities, dose 0
and random directions among them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from workbench.errors import EvidenceError
from workbench.evidence.damage import damage, likelihood
from workbench.evidence.judge import Judge
from workbench.generation.engine import OnFrame
from workbench.generation.generate import generate
from workbench.generation.take import Take
from workbench.model.musicgen import Model
from workbench.stats import wilson
from workbench.steering import Direction, Steering, random_direction

# Clips made to be compared: every plan on the same prompts and seeds, the unsteered twin among them.
#
# One row per clip. Differences are always those to the *twin*: the unsteered clip of the same prompt and
# seed.


UNSTEERED = "unsteered"
"""The method of a twin."""


@dataclass(frozen=True)
class Ask:
    """One clip that is to be made and heard; `told` becomes columns of its row, `method` among them."""

    plan: Steering | None
    prompt: str
    seed: int
    told: Mapping[str, Any] = field(default_factory=lambda: {"method": UNSTEERED})


def paired(prompts: Sequence[str], seeds: Sequence[int]) -> list[tuple[str, int]]:
    """Return (prompt, seed), one per seed, prompts taken in turn: what all plans of a comparison share."""
    if not prompts or not seeds:
        found = f"there are {len(prompts)} prompts and {len(seeds)} seeds"
        raise EvidenceError("A comparison of plans was asked for", found, "Give at least one of each")
    return [(prompts[i % len(prompts)], int(seed)) for i, seed in enumerate(seeds)]


def asks(plans: Mapping[str, Steering | None], prompts: Sequence[str], seeds: Sequence[int]) -> list[Ask]:
    """Return every plan, and the twins, on the same prompts and seeds; the plans' names are the methods."""
    if UNSTEERED in plans:
        found = f"{UNSTEERED!r} is the name of the twins, which are always made"
        raise EvidenceError("A plan of this name was to be compared", found, "Name it otherwise")
    every: dict[str, Steering | None] = {UNSTEERED: None, **plans}
    pairs = paired(prompts, seeds)
    return [Ask(plan, *pair, {"method": name}) for name, plan in every.items() for pair in pairs]


def hear(
    model: Model,
    asked: Sequence[Ask],
    judges: Mapping[str, Judge],
    *,
    seconds: float = 5.0,
    guidance: float | None = None,
    likely: bool = True,
    progress: bool = True,
    on_frame: OnFrame | None = None,
    cancel: threading.Event | None = None,
) -> pd.DataFrame:
    """Return one row per clip, in order: what was told, prompt, seed, ok, verdicts, guards, likelihood.

    Columns: `told`, prompt, seed, ok (the receipt), per judge judged_<target> and p_<target>_<class>, the
    guards of `damage`, and nll, nll_0, nll_1 ... of `likelihood`.

    Args:
        model: the model.
        asked: the clips.
        judges: by target.
        seconds: length of each clip.
        guidance: classifier-free guidance; by default what the checkpoint says.
        likely: whether the likelihood is measured.
        progress: whether to show progress bars.
        on_frame: as `generate` calls it; `ClipCount` makes clips of frames.
        cancel: set it to stop before the next step.

    Raises:
        Cancelled: `cancel` was set.
    """
    takes = generate(
        model, [ask.prompt for ask in asked], steering=[ask.plan for ask in asked],
        seed=[ask.seed for ask in asked], seconds=seconds, guidance=guidance, progress=progress,
        on_frame=on_frame, cancel=cancel,
    )  # fmt: skip
    clips = [take.clip for take in takes]
    rows = [
        {**ask.told, "prompt": take.prompt, "seed": take.seed, "ok": take.receipt.ok}
        for ask, take in zip(asked, takes, strict=True)
    ]
    parts = [pd.DataFrame(rows), *(_verdicts(judge, target, clips) for target, judge in judges.items())]
    parts.append(pd.DataFrame([damage(clip) for clip in clips]))
    if likely:
        parts.append(pd.DataFrame([one.row() for one in likelihood(model, takes, progress=progress)]))
    return pd.concat(parts, axis=1)


class ClipCount:
    """Counts clips while they are made, parts of clips included: give it to `generate` as `on_frame`.

    Args:
        tell: called after each frame with how many clips have been made, over all runs.
    """

    def __init__(self, tell: Callable[[float], object]) -> None:
        self._tell = tell
        self._whole, self._batch, self._share = 0.0, 0, 0.0

    def __call__(self, done: int, codes: torch.Tensor) -> None:
        """Take note of `done` finished frames of the codes (B, k, T)."""
        share = done / codes.shape[-1]
        if share <= self._share:  # another batch has begun: the one before it is whole
            self._whole += self._batch
        self._batch, self._share = codes.shape[0], share
        self._tell(self._whole + share * codes.shape[0])


def _verdicts(judge: Judge, target: str, clips: Sequence[Any]) -> pd.DataFrame:
    odds = judge.probabilities(clips)
    told = {f"p_{target}_{class_}": odds[:, i] for i, class_ in enumerate(judge.classes)}
    return pd.DataFrame({f"judged_{target}": np.array(judge.classes)[odds.argmax(axis=1)], **told})


def beside(table: pd.DataFrame, method: str, other: str = UNSTEERED) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the clips of two methods of a table, row beside row: the same prompt and seed, in one order.

    Raises:
        EvidenceError: a clip has no partner, or more than one, or there is none at all.
    """
    mine, theirs = (
        table[table["method"] == name].set_index(["prompt", "seed"]).sort_index() for name in (method, other)
    )
    if not len(mine) or not mine.index.equals(theirs.index) or not mine.index.is_unique:
        found = f"there are {len(mine)} and {len(theirs)} clips, not one of each prompt and seed"
        do = "Make both on the same prompts and seeds, each once"
        raise EvidenceError(f"The clips of {method!r} and {other!r} were to be paired", found, do)
    return mine.reset_index(), theirs.reset_index()


def pair_names(table: pd.DataFrame) -> np.ndarray:
    """Return the group (n,) of each clip for a bootstrap: its prompt and seed."""
    return np.array([f"{seed} {prompt}" for prompt, seed in zip(table["prompt"], table["seed"], strict=True)])


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
