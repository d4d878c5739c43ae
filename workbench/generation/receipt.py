"""The receipt: what every planned edit really did to the residual stream, measured while it did it.

Steering that silently does nothing is the field's commonest bug. So the loop compares the model's own
tensor before and after each edit, and `generate` raises where a planned change is missing.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import torch

from workbench.generation.edits import Edit, StepGains

_KINDS = {
    "step": "int64", "seconds": "float64", "layer": "int64", "site": "str", "row": "str",
    "term": "int64", "planned": "float64", "norm_change": "float64", "reason": "str",
    "angle": "float64", "norm_ratio": "float64",
}  # fmt: skip
COLUMNS = tuple(_KINDS)
_UNSEEN = -1.0  # in place of a norm that was not measured
_NORMS = ("|now - before|", "|before|", "|now|", "|meant - before|, where there is a target")


@dataclass(frozen=True, eq=False)
class Receipt:
    """What a plan did to the residual stream: one line per step, term and branch of one take.

    `step` counts visits of the decoder, `seconds` the time in the new part of the sound. `planned` is
    schedule times slider, and 0 where dose, chance or gate forbid the change. `norm_change` is |after -
    before|, measured on the model's own tensor wherever an edit was carried out, and 0 elsewhere. `reason`
    says why nothing was planned or nothing had to change: "schedule", "dose 0", "chance", "gate", "slider",
    or "already there" (for operations with a target); it is empty where a change was planned.

    The same change as a turn and a stretch (arXiv 2606.06735): `angle` in degrees between the stream before
    and after, `norm_ratio` |after| / |before|; 0 and 1 where nothing changed, NaN in takes saved without.
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
        reasons = ", ".join(f"{reason} {count}" for reason, count in idle.items())
        alone = f" (left alone: {reasons})" if reasons else ""
        moved = self.cells[self.cells.norm_change > 0][["angle", "norm_ratio"]].mean()
        turned = "" if moved.isna().any() else f", turned {moved.angle:.1f}°, length x{moved.norm_ratio:.2f}"
        return share + turned + alone + ("" if self.ok else ", NOT as planned")

    def _repr_html_(self) -> str:
        """What became of each term: steps, changes and their means, and why other steps were left alone."""
        cells = self.cells.copy()
        cells.loc[~(cells.norm_change > 0), ["angle", "norm_ratio"]] = np.nan  # the means are of changes
        table = cells.groupby(["layer", "site", "row", "term"]).agg(
            steps=("step", "size"),
            changed=("norm_change", lambda changes: int((changes > 0).sum())),
            change=("norm_change", "mean"),
            angle=("angle", "mean"),
            ratio=("norm_ratio", "mean"),
            alone=("reason", lambda reasons: ", ".join(sorted(set(reasons) - {""}))),
        )
        rounded = table.reset_index().to_html(index=False, border=0, float_format="{:.3g}".format)
        return f"<div>{html.escape(str(self))}{rounded}</div>"

    def to_records(self) -> list[list[object]]:
        """The cells as plain lists in the order of COLUMNS, for JSON."""
        return [list(row) for row in self.cells.astype(object).itertuples(index=False)]

    @classmethod
    def from_records(cls, records: Sequence[Sequence[object]]) -> Receipt:
        """The receipt that `to_records` wrote, also before it had angles and ratios."""
        older = len(records) and len(records[0]) == len(COLUMNS) - 2
        cells = pd.DataFrame(list(records), columns=list(COLUMNS[:-2] if older else COLUMNS))
        return cls(_typed(cells.reindex(columns=list(COLUMNS))))


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
    return cells.astype(_KINDS).reset_index(drop=True)


class ReceiptWriter:
    """Collects the norms of a run as tensors on the device; they are read once, at the end."""

    def __init__(self, gains: StepGains) -> None:
        self._gains = gains
        self._norms: dict[Edit, torch.Tensor] = {}  # as _NORMS says (4, steps, n), where there was a change

    def measure(
        self, edit: Edit, step: int, indices: torch.Tensor, *,
        before: torch.Tensor, meant: torch.Tensor, now: torch.Tensor,
    ) -> None:  # fmt: skip
        """Note the change from before to now (rows, 1, d_model) of the rows that act, and what was meant."""
        if edit not in self._norms:
            shape = (len(_NORMS), *edit.acts.shape)
            self._norms[edit] = torch.full(shape, _UNSEEN, device=now.device)
        before, now = before.float(), now.float()
        parts = [now - before, before, now]
        if edit.operation.has_target:
            parts.append(meant.float() - before)
        # One norm of all parts costs little more than that of one.
        norms = torch.linalg.vector_norm(torch.stack(parts), dim=-1).flatten(1)
        self._norms[edit][: len(parts), step, indices] = norms

    def counts(self) -> dict[str, int]:
        """How many cells "changed", were left "alone" by slider or gate, and "failed", up to now."""
        total = {"changed": 0, "alone": 0, "failed": 0}
        for edit, norms in self._norms.items():
            _planned, reason, (change, *_norms) = self._outcome(edit, norms)
            changed, held_back, seen = change > 0, np.isin(reason, ("gate", "slider")), change != _UNSEEN
            total["changed"] += int(changed.sum())
            total["alone"] += int((seen & held_back & ~changed).sum())
            total["failed"] += int((seen & np.where(changed, held_back, reason == "")).sum())
        return total

    def receipts(self, batch: int, edits: Sequence[Edit], seconds: Sequence[float]) -> list[Receipt]:
        """One receipt for each of `batch` clips; cells are ordered by step, then as the model computes."""
        if not edits:
            return [Receipt.from_records([])] * batch
        frames = [self._cells(edit, seconds) for edit in edits]
        cells = pd.concat(frames, ignore_index=True).sort_values("step", kind="stable")
        return [Receipt(_typed(cells[cells["clip"] == clip].drop(columns="clip"))) for clip in range(batch)]

    def _outcome(self, edit: Edit, norms: torch.Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What was planned (steps, n), why nothing was or nothing changed, and what was measured of it."""
        sliders, opened = self._gains.sliders_of(edit), self._gains.open_of(edit)
        steps = len(sliders)
        factors, acts = edit.factors[:steps], edit.acts[:steps]
        measured = norms[:, :steps].cpu().double().numpy()
        reasons = {
            "schedule": factors == 0,
            "dose 0": np.broadcast_to([one.term.idle for one in edit.row_edits], acts.shape),
            "chance": ~acts,
            "gate": ~opened,
            "slider": sliders == 0,
        }
        reason = np.select(list(reasons.values()), list(reasons), default="")
        planned = np.where(reason == "", factors * sliders, 0.0)
        settled = (planned != 0) & (measured[3] == 0) & edit.operation.has_target
        return planned, np.where(settled, "already there", reason), measured

    def _cells(self, edit: Edit, seconds: Sequence[float]) -> pd.DataFrame:
        """The cells of one edit and whose clip they are, all steps of one row edit after another."""
        measured = self._norms.get(edit, torch.full((len(_NORMS), *edit.acts.shape), _UNSEEN))
        planned, reason, norms = self._outcome(edit, measured)
        steps, count = planned.shape
        change, (angle, ratio) = norms[0], _turn_and_stretch(*norms[:3])
        columns: dict[str, object] = {
            "step": np.tile(np.arange(steps), count),
            "seconds": np.tile(np.asarray(seconds, dtype=np.float64), count),
            "layer": edit.place[0],
            "site": edit.place[1],
            "row": np.repeat([one.branch for one in edit.row_edits], steps),
            "term": np.repeat([one.term_index for one in edit.row_edits], steps),
            "planned": planned.T.ravel(),
            "norm_change": np.where(change == _UNSEEN, 0.0, change).T.ravel(),
            "reason": reason.T.ravel(),
            "angle": angle.T.ravel(),
            "norm_ratio": ratio.T.ravel(),
            "clip": np.repeat([one.clip for one in edit.row_edits], steps),
        }
        return pd.DataFrame(columns)


def _turn_and_stretch(
    change: np.ndarray, before: np.ndarray, after: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the angle in degrees between two vectors, and |after| / |before|, from the sides of a triangle.

    sin(angle / 2)^2 = (|change|^2 - (|after| - |before|)^2) / (4 |before| |after|), which stays exact where
    the angle is small and its cosine rounds to 1. NaN where one of both is 0.
    """
    moved = change > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        half = ((change**2) - (after - before) ** 2) / (4 * before * after)
        angle = np.degrees(2 * np.arcsin(np.sqrt(half.clip(0, 1))))
        ratio = np.where(before > 0, after / before, np.nan)
    return np.where(moved, angle, 0.0), np.where(moved, ratio, 1.0)
