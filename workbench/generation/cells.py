"""A batch of steering plans laid out as edits: which rows of which tensor change at which step, and by what.

Rows of one batch may carry different plans. The first terms of all rows at a place form one edit, the
second terms the next, and so on, so that terms act in the order of their plan and rows that share an
operation share the tensor arithmetic. Every formula works on rows apart, so a row's result does not depend
on its neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from workbench.errors import GenerationError
from workbench.model.sites import Place, in_order
from workbench.steering.operations import apply
from workbench.steering.plan import Steering, Term

HALVES = ("cond", "null")
"""The two halves of a guided batch."""

Group = tuple[torch.Tensor, torch.Tensor]
"""Indices of lanes, and of their rows in the decoder's batch."""


@dataclass(frozen=True)
class Lane:
    """One term of one clip's plan on one row of the decoder's batch."""

    clip: int
    term_index: int
    term: Term
    row: int
    half: str


@dataclass(frozen=True, eq=False)
class Edit:
    """One operation on several rows at one place: tensors (lanes, 1, ...) made once per run, on the device.

    `factors` (steps, lanes) are the schedules' values, `weights` the same as a tensor. `acts` (steps, lanes)
    says which lanes a step changes as far as that is known beforehand (schedule, dose, chance), and `groups`
    holds for every step those lanes and their rows in the decoder's batch, or None where there are none.
    Gates and sliders, which only the run knows, come in with the factor that `after` is given.
    """

    place: Place
    operation: str
    lanes: tuple[Lane, ...]
    vectors: torch.Tensor
    doses: torch.Tensor
    scales: torch.Tensor
    centres: torch.Tensor
    factors: np.ndarray
    acts: np.ndarray
    weights: torch.Tensor
    groups: tuple[Group | None, ...]

    def after(self, before: torch.Tensor, lanes: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
        """The stream (lanes, 1, d_model) after this edit, for `lanes` and their factors (lanes, 1, 1)."""
        return apply(
            self.operation,
            before,
            self.vectors[lanes],
            self.doses[lanes],
            self.scales[lanes],
            factor=factor,
            mean=self.centres[lanes],
        )


def lay_out(
    plans: Sequence[Steering | None],
    seconds: Sequence[float],
    *,
    guided: bool,
    device: torch.device,
    seeds: Sequence[int] | None = None,
    first_step: int = 0,
) -> dict[Place, list[Edit]]:
    """The edits of a batch, by place in the order of the forward pass.

    Args:
        plans: One per clip; None steers nothing.
        seconds: The time of each step in the new part, which schedules count.
        guided: Whether the batch has null rows; row b + B is then the null row of clip b.
        device: Where the edits' tensors live.
        seeds: One per clip, for terms that act by chance; 0 when None.
        first_step: The number of the first step in the new part, where a long one is drawn in windows.

    Raises:
        GenerationError: When a term is for null rows and the run has none.
    """
    stacked: dict[Place, dict[tuple[int, str], list[Lane]]] = {}
    for clip, plan in enumerate(plans):
        slots: dict[Place, int] = {}
        for term_index, term in enumerate(plan.terms if plan is not None else ()):
            place = (term.at_layer, term.direction.site)
            slot = slots.get(place, 0)
            slots[place] = slot + 1
            edits = stacked.setdefault(place, {})
            for row, half in _rows(term, clip, len(plans), guided):
                key = (slot, term.operation)
                edits.setdefault(key, []).append(Lane(clip, term_index, term, row, half))
    clock = _Clock(np.asarray(seconds, dtype=np.float64), first_step, seeds or [0] * len(plans))
    return {
        place: [_edit(place, key[1], stacked[place][key], clock, device) for key in sorted(stacked[place])]
        for place in in_order(stacked)
    }


@dataclass(frozen=True)
class _Clock:
    """The times of a run's steps, the number of the first one, and the seed of each clip."""

    seconds: np.ndarray
    first_step: int
    seeds: Sequence[int]

    def factors(self, lane: Lane) -> np.ndarray:
        """The schedule's value at each step."""
        schedule, start = lane.term.schedule, self.first_step
        return np.array([schedule.factor(now, step) for step, now in enumerate(self.seconds.tolist(), start)])

    def lucky(self, lane: Lane) -> np.ndarray:
        """Whether chance lets each step act: drawn by the clip's seed, the term and the half alone.

        The luck of a step belongs to its time, not to the window in which it is drawn.
        """
        draws = np.random.default_rng([self.seeds[lane.clip], lane.term_index, HALVES.index(lane.half)])
        count = self.first_step + len(self.seconds)
        return np.asarray(draws.random(count)[self.first_step :] < lane.term.chance)


def _rows(term: Term, clip: int, batch: int, guided: bool) -> list[tuple[int, str]]:
    """The (row, half) pairs of the decoder's batch that `term` of `clip` acts on."""
    if term.rows == "null" and not guided:
        raise GenerationError(
            f"{term.direction.name!r} was to act on null rows",
            "guidance 1 or less runs without null rows",
            "Use guidance above 1, or rows='cond'",
        )
    rows = [] if term.rows == "null" else [(clip, "cond")]
    if guided and term.rows in ("null", "both"):
        rows.append((clip + batch, "null"))
    return rows


def _edit(place: Place, operation: str, lanes: list[Lane], clock: _Clock, device: torch.device) -> Edit:
    """The edit of `lanes`, which share place and operation."""
    terms = [lane.term for lane in lanes]

    def column(values: list[float]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float32, device=device)[:, None, None]

    factors = np.stack([clock.factors(lane) for lane in lanes], axis=1)
    acts = np.stack([clock.lucky(lane) for lane in lanes], axis=1) & (factors != 0)
    acts &= np.array([not term.idle for term in terms])
    vectors = torch.tensor(np.stack([term.direction.vector for term in terms]), device=device)
    return Edit(
        place,
        operation,
        tuple(lanes),
        vectors[:, None, :],
        column([term.dose for term in terms]),
        column([term.direction.residual_norm for term in terms]),
        column([term.direction.centre for term in terms]),
        factors,
        acts,
        torch.tensor(factors, dtype=torch.float32, device=device),
        _groups(acts, [lane.row for lane in lanes], device),
    )


def _groups(acts: np.ndarray, rows: list[int], device: torch.device) -> tuple[Group | None, ...]:
    """For every step the acting lanes and their rows; steps with the same lanes share their tensors."""
    made: dict[bytes, Group | None] = {}
    for pattern in acts:
        if pattern.tobytes() not in made:
            lanes = torch.tensor(np.flatnonzero(pattern), device=device)
            made[pattern.tobytes()] = (
                (lanes, torch.tensor(rows, device=device)[lanes]) if len(lanes) else None
            )
    return tuple(made[pattern.tobytes()] for pattern in acts)
