"""The receipt: what every planned edit really did to the residual stream, measured while it did it.

Steering that silently does nothing is the field's commonest bug. So the loop compares the model's own
tensor before and after each edit; deleting the edit makes the receipt say so, and `generate` raise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import torch

from workbench.generation.edits import Edit, StepGains

TARGETED = frozenset({"remove", "clamp"})
"""Operations with a target, which may find the stream already there."""

COLUMNS = ("step", "seconds", "layer", "site", "row", "term", "planned", "norm_change", "reason")


@dataclass(frozen=True, eq=False)
class Receipt:
    """One line per step, term and row of one take's plan.

    `step` counts visits of the decoder and `seconds` the time in the new part of the sound; `planned` is the
    factor that schedule, chance, slider and gate asked for times whether the dose is anything; `norm_change`
    is the norm |after - before| of the model's own tensor; `reason` says why nothing was planned or nothing
    had to change: "schedule", "dose 0", "chance", "gate", "slider", "already there" (remove and clamp), and
    is empty where the edit acted.
    """

    cells: pd.DataFrame

    @cached_property
    def missed(self) -> pd.DataFrame:
        """The cells in which a planned, non-zero edit did not change the stream; empty when all is well."""
        cells = self.cells
        return cells[(cells.planned != 0) & (cells.reason == "") & ~(cells.norm_change > 0)]

    @property
    def ok(self) -> bool:
        """Whether every planned edit changed the stream, and no other cell did."""
        unplanned = (self.cells.planned == 0) & (self.cells.norm_change != 0)
        return self.missed.empty and not bool(unplanned.any())

    @property
    def changed(self) -> int:
        """The number of cells that changed."""
        return int((self.cells.norm_change > 0).sum())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Receipt) and self.cells.equals(other.cells)

    def __len__(self) -> int:
        return len(self.cells)

    def __str__(self) -> str:
        if not len(self.cells):
            return "no steering"
        share = f"{self.changed} of {len(self.cells)} cells changed"
        idle = self.cells.reason[self.cells.reason != ""].value_counts()
        reasons = ", ".join(f"{count} by {reason}" for reason, count in idle.items())
        return (
            share + (f" ({reasons} left alone)" if reasons else "") + ("" if self.ok else ", NOT as planned")
        )

    def to_records(self) -> list[list[object]]:
        """The cells as plain lists in the order of COLUMNS, for JSON."""
        return [list(row) for row in self.cells.astype(object).itertuples(index=False)]

    @classmethod
    def from_records(cls, records: Sequence[Sequence[object]]) -> Receipt:
        """The receipt that `to_records` wrote."""
        return cls(_typed(pd.DataFrame(list(records), columns=list(COLUMNS))))


def joined(receipts: Sequence[Receipt], steps: Sequence[int]) -> Receipt:
    """One receipt of several runs of one clip, one after another; `steps` says how many each had."""
    if len(receipts) == 1:
        return receipts[0]
    starts = np.cumsum([0, *steps[:-1]])
    parts = [
        one.cells.assign(step=one.cells.step + start) for one, start in zip(receipts, starts, strict=True)
    ]
    return Receipt(_typed(pd.concat(parts, ignore_index=True)))


def _typed(cells: pd.DataFrame) -> pd.DataFrame:
    kinds = {
        "step": "int64", "seconds": "float64", "layer": "int64", "site": "str", "row": "str",
        "term": "int64", "planned": "float64", "norm_change": "float64", "reason": "str",
    }  # fmt: skip
    return cells.astype(kinds).reset_index(drop=True)


class ReceiptWriter:
    """Collects the norms of a run as tensors on the device; they are read once, at the end.

    Args:
        factors: What the run read at sliders and gates.
    """

    def __init__(self, factors: StepGains) -> None:
        self._factors = factors
        self._visits: list[tuple[Edit, int]] = []
        self._norms: list[torch.Tensor] = []
        self._meant: list[torch.Tensor] = []

    def measure(
        self, edit: Edit, step: int, *, before: torch.Tensor, meant: torch.Tensor, now: torch.Tensor
    ) -> None:
        """Note |now - before| for the row_edits that act at `step`; all tensors are (row_edits, 1, d_model).

        `now` was read back from the model's tensor. `meant` is what the formula gave: where an operation
        with a target finds the stream already there, nothing has to change.
        """
        self._visits.append((edit, step))
        self._norms.append(_distance(now, before))
        self._meant.append(_distance(meant, before) if edit.operation in TARGETED else self._norms[-1])

    def counts(self) -> dict[str, int]:
        """How many cells "changed", were left "alone" by slider or gate, and "failed", up to now.

        For music without an end, whose every cell nobody could keep; a run that was cut has counts too.
        """
        told = {"changed": 0, "alone": 0, "failed": 0}
        read = {
            id(edit): (self._factors.sliders_of(edit), self._factors.open_of(edit))
            for edit, _ in self._visits
        }
        norms, meant, start = _read(self._norms), _read(self._meant), 0
        for edit, step in self._visits:
            row_edits = np.flatnonzero(edit.acts[step])
            sliders, opened = (values[step, row_edits] for values in read[id(edit)])
            now = slice(start, start + len(row_edits))
            changed, planned = norms[now] > 0, (sliders != 0) & opened
            settled = (meant[now] == 0) & (edit.operation in TARGETED)
            told["changed"] += int(changed.sum())
            told["alone"] += int((~planned & ~changed).sum())
            told["failed"] += int((planned & ~changed & ~settled).sum() + (changed & ~planned).sum())
            start = now.stop
        return told

    def receipts(self, batch: int, edits: Sequence[Edit], seconds: Sequence[float]) -> list[Receipt]:
        """One receipt for each of `batch` clips, over all the cells that `edits` planned or left out."""
        norms = {id(edit): np.zeros(edit.acts.shape) for edit in edits}
        meant = {id(edit): np.ones(edit.acts.shape) for edit in edits}
        start = 0
        flat, flat_meant = _read(self._norms), _read(self._meant)
        for edit, step in self._visits:
            row_edits = np.flatnonzero(edit.acts[step])
            norms[id(edit)][step, row_edits] = flat[start : start + len(row_edits)]
            meant[id(edit)][step, row_edits] = flat_meant[start : start + len(row_edits)]
            start += len(row_edits)
        parts: list[list[pd.DataFrame]] = [[] for _ in range(batch)]
        for edit in edits:
            read = self._factors.sliders_of(edit), self._factors.open_of(edit)
            for index, row_edit in enumerate(edit.row_edits):
                changes = norms[id(edit)][:, index], meant[id(edit)][:, index]
                asked = _asked(edit, index, *(values[:, index] for values in read))
                parts[row_edit.clip].append(_cells(edit, index, seconds, asked, changes))
        return [_join(part) for part in parts]


def _distance(now: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
    """|now - before| for each row_edit, shape (row_edits,)."""
    norms: torch.Tensor = torch.linalg.vector_norm(now.float() - before.float(), dim=-1)
    return norms.flatten()


def _read(norms: list[torch.Tensor]) -> np.ndarray:
    """All norms as one array, in one transfer from the device."""
    values: np.ndarray = torch.cat(norms).cpu().numpy() if norms else np.zeros(0)
    return values


def _asked(edit: Edit, index: int, sliders: np.ndarray, opened: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What was planned for one row_edit at each step, and the reason where that is nothing."""
    acts, factors, term = edit.acts[:, index], edit.factors[:, index], edit.row_edits[index].term
    reasons = {
        "schedule": factors == 0,
        "dose 0": np.full(len(acts), term.idle),
        "chance": ~acts,
        "gate": ~opened,
        "slider": sliders == 0,
    }
    reason = np.select(list(reasons.values()), list(reasons), default="")
    return np.where(reason == "", factors * sliders, 0.0), reason


def _cells(
    edit: Edit,
    index: int,
    seconds: Sequence[float],
    asked: tuple[np.ndarray, np.ndarray],
    changes: tuple[np.ndarray, np.ndarray],
) -> pd.DataFrame:
    """The cells of one row_edit, a line per step; `asked` from `_asked`, `changes` measured and meant."""
    (planned, reason), (change, meant) = asked, changes
    settled = (planned != 0) & (meant == 0) & (edit.operation in TARGETED)
    layer, site = edit.place
    return pd.DataFrame(
        {
            "step": np.arange(len(seconds)),
            "seconds": np.asarray(seconds, dtype=np.float64),
            "layer": layer,
            "site": site,
            "row": edit.row_edits[index].half,
            "term": edit.row_edits[index].term_index,
            "planned": planned,
            "norm_change": change,
            "reason": np.where(settled, "already there", reason),
        }
    )


def _join(parts: Sequence[pd.DataFrame]) -> Receipt:
    """The receipt of one clip, its cells ordered by step, then as the model computes."""
    if not parts:
        return Receipt.from_records([])
    cells = pd.concat(parts, ignore_index=True)
    return Receipt(_typed(cells.sort_values("step", kind="stable")))
