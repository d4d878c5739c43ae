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

from workbench.errors import GenerationError, message
from workbench.model.sites import Place, in_order
from workbench.steering.operations import apply
from workbench.steering.plan import Steering, Term

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

    `factors` (steps, lanes) are the schedules' values, `acts` (steps, lanes) says which lanes a step
    changes, and `groups` holds for every step those lanes and their rows in the decoder's batch, or None
    where there are none.
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

    def after(self, before: torch.Tensor, lanes: torch.Tensor, step: int) -> torch.Tensor:
        """The stream (lanes, 1, d_model) after this edit, for the `lanes` that `step` changes."""
        return apply(
            self.operation,
            before,
            self.vectors[lanes],
            self.doses[lanes],
            self.scales[lanes],
            factor=self.weights[step, lanes][:, None, None],
            mean=self.centres[lanes],
        )


def lay_out(
    plans: Sequence[Steering | None], seconds: Sequence[float], *, guided: bool, device: torch.device
) -> dict[Place, list[Edit]]:
    """The edits of a batch, by place in the order of the forward pass.

    Args:
        plans: One per clip; None steers nothing.
        seconds: The time of each step.
        guided: Whether the batch has null rows; row b + B is then the null row of clip b.
        device: Where the edits' tensors live.

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
    return {
        place: [_edit(place, key[1], stacked[place][key], seconds, device) for key in sorted(stacked[place])]
        for place in in_order(stacked)
    }


def _rows(term: Term, clip: int, batch: int, guided: bool) -> list[tuple[int, str]]:
    """The (row, half) pairs of the decoder's batch that `term` of `clip` acts on."""
    if term.rows == "null" and not guided:
        raise GenerationError(
            message(
                f"{term.direction.name!r} was to act on null rows",
                "guidance 1 or less runs without null rows",
                "Use guidance above 1, or rows='cond'",
            )
        )
    rows = [] if term.rows == "null" else [(clip, "cond")]
    if guided and term.rows in ("null", "both"):
        rows.append((clip + batch, "null"))
    return rows


def _edit(
    place: Place, operation: str, lanes: list[Lane], seconds: Sequence[float], device: torch.device
) -> Edit:
    """The edit of `lanes`, which share place and operation."""
    terms = [lane.term for lane in lanes]

    def column(values: list[float]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float32, device=device)[:, None, None]

    times = list(enumerate(seconds))
    factors = np.array([[term.schedule.factor(now, step) for term in terms] for step, now in times])
    acts = np.array([[term.acts(now, step) for term in terms] for step, now in times], dtype=bool)
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
