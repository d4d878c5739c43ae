"""What only the run itself knows: sliders that somebody moves, gates that readings open and close.

The factor of a row_edit at a step is schedule x chance x slider x gate. The first two are laid out beforehand
(`cells`); the other two are read here, once at the beginning of each step, so that all edits of a step agree,
and what was read is kept for the receipt and for replay. Offline nothing is moved.

A gate averages the last readings of the conditional row at its probe's place, made after steering in the
steps before: the order of layers never matters. The first step of a generation has heard nothing but the
beginning-of-sequence code and is not read; until there is a reading, a gate is open. Readings stay on the
device: no step waits for them.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from workbench.errors import GenerationError
from workbench.model.network import Place, in_order
from workbench.steering.operations import apply
from workbench.steering.plan import Steering
from workbench.steering.schedule import Gate, ReadOut, probabilities
from workbench.steering.term import Term

# A batch of steering plans laid out as edits: which rows of which tensor change at which step, and by what.
#
# Rows of one batch may carry different plans. The first terms of all rows at a place form one edit, the
# second terms the next, and so on, so that terms act in the order of their plan and rows that share an
# operation share the tensor arithmetic. Every formula works on rows apart, so a row's result does not depend
# on its neighbours.


HALVES = ("cond", "null")
"""The two halves of a guided batch."""

Group = tuple[torch.Tensor, torch.Tensor]
"""Indices of row_edits, and of their rows in the decoder's batch."""


@dataclass(frozen=True)
class RowEdit:
    """One term of one clip's plan on one row of the decoder's batch."""

    clip: int
    term_index: int
    term: Term
    row: int
    half: str


@dataclass(frozen=True, eq=False)
class Edit:
    """One operation on n rows at one place: tensors (n, 1, ...) made once per run, on the device.

    `factors` (steps, n) are the schedules' values, `weights` the same as a tensor. `acts` (steps, n) says
    which rows a step changes as far as that is known beforehand (schedule, dose, chance), and `groups` holds
    for every step which of the n these are and their rows in the decoder's batch, or None where there are
    none. Gates and sliders, which only the run knows, come in with the factor that `after` is given.
    """

    place: Place
    operation: str
    row_edits: tuple[RowEdit, ...]
    vectors: torch.Tensor
    doses: torch.Tensor
    scales: torch.Tensor
    centres: torch.Tensor
    factors: np.ndarray
    acts: np.ndarray
    weights: torch.Tensor
    groups: tuple[Group | None, ...]

    def after(self, before: torch.Tensor, row_edits: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
        """The stream (n, 1, d_model) after this edit, for n `row_edits` and their factors (n, 1, 1)."""
        return apply(
            self.operation,
            before,
            self.vectors[row_edits],
            self.doses[row_edits],
            self.scales[row_edits],
            factor=factor,
            mean=self.centres[row_edits],
        )


def compile_plans(
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
    stacked: dict[Place, dict[tuple[int, str], list[RowEdit]]] = {}
    for clip, plan in enumerate(plans):
        slots: dict[Place, int] = {}
        for term_index, term in enumerate(plan.terms if plan is not None else ()):
            place = (term.at_layer, term.direction.site)
            slot = slots.get(place, 0)
            slots[place] = slot + 1
            edits = stacked.setdefault(place, {})
            for row, half in _rows(term, clip, len(plans), guided):
                key = (slot, term.operation)
                edits.setdefault(key, []).append(RowEdit(clip, term_index, term, row, half))
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

    def factors(self, row_edit: RowEdit) -> np.ndarray:
        """The schedule's value at each step."""
        schedule, start = row_edit.term.schedule, self.first_step
        return np.array([schedule.factor(now, step) for step, now in enumerate(self.seconds.tolist(), start)])

    def bernoulli_mask(self, row_edit: RowEdit) -> np.ndarray:
        """Whether chance lets each step act: drawn by the clip's seed, the term and the half alone.

        The luck of a step belongs to its time, not to the window in which it is drawn.
        """
        draws = np.random.default_rng(
            [self.seeds[row_edit.clip], row_edit.term_index, HALVES.index(row_edit.half)]
        )
        count = self.first_step + len(self.seconds)
        return np.asarray(draws.random(count)[self.first_step :] < row_edit.term.chance)


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


def _edit(
    place: Place, operation: str, row_edits: list[RowEdit], clock: _Clock, device: torch.device
) -> Edit:
    """The edit of `row_edits`, which share place and operation."""
    terms = [row_edit.term for row_edit in row_edits]

    def column(values: list[float]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float32, device=device)[:, None, None]

    factors = np.stack([clock.factors(row_edit) for row_edit in row_edits], axis=1)
    acts = np.stack([clock.bernoulli_mask(row_edit) for row_edit in row_edits], axis=1) & (factors != 0)
    acts &= np.array([not term.idle for term in terms])
    vectors = torch.tensor(np.stack([term.direction.vector for term in terms]), device=device)
    return Edit(
        place,
        operation,
        tuple(row_edits),
        vectors[:, None, :],
        column([term.dose for term in terms]),
        column([term.direction.residual_norm for term in terms]),
        column([term.direction.centre for term in terms]),
        factors,
        acts,
        torch.tensor(factors, dtype=torch.float32, device=device),
        _groups(acts, [row_edit.row for row_edit in row_edits], device),
    )


def _groups(acts: np.ndarray, rows: list[int], device: torch.device) -> tuple[Group | None, ...]:
    """For every step what acts and on which rows; steps where the same acts share their tensors."""
    made: dict[bytes, Group | None] = {}
    for pattern in acts:
        if pattern.tobytes() not in made:
            row_edits = torch.tensor(np.flatnonzero(pattern), device=device)
            made[pattern.tobytes()] = (
                (row_edits, torch.tensor(rows, device=device)[row_edits]) if len(row_edits) else None
            )
    return tuple(made[pattern.tobytes()] for pattern in acts)


Slider = tuple[int, int]
"""(clip, term): which term of which clip's plan a slider scales."""


class Sliders:
    """Sliders, one per term of a plan, that may be moved from any thread while a run goes on; all begin at 1.

    nnsight sees attributes that are changed, not names that are bound anew: hand the object over and call
    `slide`. One object may serve the windows of a long generation one after another; readings of gates and
    the log go on.
    """

    def __init__(self, replay: Mapping[Slider, Sequence[float]] | None = None) -> None:
        """Begin with all sliders at 1, or `replay` what `log` wrote down, step by step."""
        self.replay = {key: np.asarray(values, dtype=np.float64) for key, values in (replay or {}).items()}
        self.readings: dict[ReadOut, deque[torch.Tensor]] = {}
        self._moved: dict[tuple[int | None, int], float] = {}
        self._log: dict[Slider, list[float]] = {}
        self._steps = 0

    def slide(self, term: int, value: float, *, clip: int | None = None) -> None:
        """Scale the strength of a term from the next step on.

        Args:
            term: Its place in the plan, from 0.
            value: What its strength (for clamp: its weight) is multiplied by; for remove keep dose x value
                in 0-1.
            clip: Whose plan, in the batch; those of all clips when None.

        Raises:
            GenerationError: When the value is not finite.
        """
        if not math.isfinite(value):
            asked = f"The slider of term {term} was to be set to {value}"
            raise GenerationError(asked, "it must be a finite number", "Use a number such as 1.5")
        others = {key: kept for key, kept in self._moved.items() if clip is not None or key[1] != term}
        self._moved = {**others, (clip, term): float(value)}

    @property
    def log(self) -> dict[Slider, np.ndarray]:
        """What each slider read at each step, all windows one after another: (steps,) by (clip, term)."""
        return {key: np.array(values) for key, values in self._log.items()}

    def read_sliders(self, keys: Sequence[Slider]) -> list[float]:
        """Return what the sliders say now, one value per key, and write it down."""
        moved, step = self._moved, self._steps  # one glance: a move takes effect for a whole step or not yet
        values = [
            float(self.replay[key][step])
            if key in self.replay
            else moved.get(key, moved.get((None, key[1]), 1.0))
            for key in keys
        ]
        for key, value in zip(keys, values, strict=True):
            self._log.setdefault(key, []).append(value)
        self._steps += 1
        return values


class StepGains:
    """The factor of every row_edit of one run at the present step, and what was read on the way.

    Args:
        sliders: The sliders, and the readings so far.
        edits: What the run does.
        batch: B, the number of clips.
        rate_hz: Steps per second.
        heard: Whether the first step has heard something: a continuation.
    """

    def __init__(
        self,
        sliders: Sliders,
        edits: Mapping[Place, Sequence[Edit]],
        *,
        batch: int,
        rate_hz: float,
        heard: bool,
    ) -> None:
        self._controls, self._batch, self._rate_hz, self._heard = sliders, batch, rate_hz, heard
        every = [edit for group in edits.values() for edit in group]
        row_edits = [row_edit for edit in every for row_edit in edit.row_edits]
        self._keys = sorted({(row_edit.clip, row_edit.term_index) for row_edit in row_edits})
        self._gates = list(
            dict.fromkeys(row_edit.term.gate for row_edit in row_edits if row_edit.term.gate is not None)
        )
        self._read_outs = list(dict.fromkeys(gate.read_out for gate in self._gates))
        self._device = every[0].vectors.device if every else torch.device("cpu")
        self._slider_of = {id(edit): self._places(edit, self._slider_place) for edit in every}
        self._gate_of = {id(edit): self._places(edit, self._gate_place) for edit in every}
        self._tensors = {
            one: (torch.tensor(one.weights).to(self._device), torch.tensor(one.bias).to(self._device))
            for one in self._read_outs
        }
        longest = max((self._count(gate) for gate in self._gates), default=1)
        for one in self._read_outs:
            sliders.readings.setdefault(one, deque(maxlen=longest))
        self._sliders: torch.Tensor | None = None
        self._open: torch.Tensor | None = None
        self._slid: list[list[float]] = []
        self._opened: list[torch.Tensor] = []

    @property
    def places(self) -> list[Place]:
        """Where gates read, in the order of the forward pass."""
        return in_order((one.layer, one.site) for one in self._read_outs)

    def begin(self, step: int) -> None:
        """Read sliders and gates for a step, at the first place that it reaches; later ones find it done.

        The trace's own loop runs ahead: its body for the next step begins before the present one has drawn
        its codes, and a slider read there would be a step late.
        """
        if step < len(self._slid):
            return
        values = self._controls.read_sliders(self._keys)
        if any(value != 1 for value in values):
            self._sliders = torch.tensor(values, dtype=torch.float32, device=self._device)
        else:
            self._sliders = None
        self._slid.append(values)
        if self._gates:
            always = torch.ones(1, device=self._device)
            self._open = torch.cat([*(self._is_open(gate).float() for gate in self._gates), always])
            self._opened.append(self._open)

    def at(self, edit: Edit, step: int, row_edits: torch.Tensor) -> torch.Tensor:
        """The factors (row_edits, 1, 1) of some row_edits of an edit: schedule x slider x gate."""
        factor = edit.weights[step, row_edits]
        if self._sliders is not None:
            factor = factor * self._sliders[self._slider_of[id(edit)][row_edits]]
        if self._open is not None:
            factor = factor * self._open[self._gate_of[id(edit)][row_edits]]
        return factor[:, None, None]

    def read(self, place: Place, rows: torch.Tensor) -> None:
        """Let the gates at `place` read the conditional rows (B, d_model) of the present step."""
        if not self._heard and len(self._slid) == 1:
            return
        for one in self._read_outs:
            if (one.layer, one.site) == place:
                self._controls.readings[one].append(probabilities(rows, *self._tensors[one], one.link))

    def sliders_of(self, edit: Edit) -> np.ndarray:
        """What was read at the sliders of an edit's row_edits, (steps, row_edits)."""
        return np.array(self._slid)[:, self._slider_of[id(edit)].cpu().numpy()]

    def open_of(self, edit: Edit) -> np.ndarray:
        """Whether the gates of an edit's row_edits were open, bool (steps, row_edits)."""
        if not self._gates:
            return np.ones((len(self._slid), len(edit.row_edits)), dtype=bool)
        opened = torch.stack(self._opened)[:, self._gate_of[id(edit)]]
        return np.asarray(opened.cpu().numpy() != 0)

    def _places(self, edit: Edit, place: Callable[[RowEdit], int]) -> torch.Tensor:
        """The place of each row_edit among the sliders or the gates, (row_edits,)."""
        return torch.tensor([place(row_edit) for row_edit in edit.row_edits], device=self._device)

    def _slider_place(self, row_edit: RowEdit) -> int:
        return self._keys.index((row_edit.clip, row_edit.term_index))

    def _gate_place(self, row_edit: RowEdit) -> int:
        """Its gate's place for its clip; that of the gate that is always open when it has none."""
        gate, gates = row_edit.term.gate, self._gates
        return len(gates) * self._batch if gate is None else gates.index(gate) * self._batch + row_edit.clip

    def _is_open(self, gate: Gate) -> torch.Tensor:
        """Whether a gate is open now, bool (B,)."""
        made = list(self._controls.readings[gate.read_out])[-self._count(gate) :]
        if not made:
            return torch.ones(self._batch, dtype=torch.bool, device=self._device)
        return gate.is_open(torch.stack(made).mean(0))

    def _count(self, gate: Gate) -> int:
        """How many readings a gate averages."""
        return max(1, round(gate.over * self._rate_hz))
