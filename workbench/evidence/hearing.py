"""Clips made to be compared: every plan on the same prompts and seeds, the unsteered twin among them.

One row per clip. Differences are always those to the *twin*: the unsteered clip of the same prompt and seed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch

from workbench.errors import EvidenceError
from workbench.evidence.damage import damage
from workbench.evidence.judge import Judge
from workbench.evidence.likelihood import likelihood
from workbench.generation.generate import OnFrame, generate
from workbench.model.musicgen import Model
from workbench.steering import Steering

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
