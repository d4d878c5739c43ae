"""Plans as edits of a batch, and what only the run itself knows of them: sliders and gates.

Rows of one batch may carry different plans. The first terms of all rows at a place form one edit, the second
terms the next; formulas work on each row by itself. The factor of a row at a step is schedule x chance x
slider x gate: `compile_plans` works out the first two beforehand, sliders and gates are read once at the
beginning of each step, so that all its edits agree.

A gate averages the last readings of the conditional row at its probe's place, made after steering in the
steps before. A first step without context is not read, and a gate without readings is open. Readings stay on
the device: no step waits for them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from workbench.errors import GenerationError
from workbench.model.network import Place, in_order
from workbench.model.sampling import Sampling
from workbench.steering.operations import OPERATIONS
from workbench.steering.plan import Steering
from workbench.steering.schedule import Gate, ReadOut, Term, probabilities

_BRANCHES = ("cond", "null")


@dataclass(frozen=True)
class RowEdit:
    """One term of one clip's plan on one row of the decoder's batch, of the branch "cond" or "null"."""

    clip: int
    term_index: int
    term: Term
    row: int
    branch: str


Active = tuple[torch.Tensor, torch.Tensor]
"""What of an edit acts at a step: indices of its row edits, and of their rows in the decoder's batch."""


class Edit:
    """One operation on n rows at one place; its tensors are made once per run, on the device.

    Per step and row edit, (steps, n), `factors` and `weights` are the schedule's value, and `acts` says
    whether schedule, dose and chance let it act. `active` is the same as indices; None where nothing acts.
    """

    def __init__(
        self,
        place: Place,
        row_edits: Sequence[RowEdit],
        laid_out: Sequence[tuple[np.ndarray, np.ndarray]],
        device: torch.device,
    ) -> None:
        terms = [row_edit.term for row_edit in row_edits]

        def column(values: list[float]) -> torch.Tensor:
            return torch.tensor(values, dtype=torch.float32, device=device)[:, None, None]

        self.place, self.operation, self.row_edits = place, OPERATIONS[terms[0].operation], tuple(row_edits)
        self.factors, self.acts = (np.stack(values, axis=1) for values in zip(*laid_out, strict=True))
        self.weights = torch.tensor(self.factors, dtype=torch.float32, device=device)
        self.rows = torch.tensor([row_edit.row for row_edit in row_edits], device=device)
        self.active = _active(self.acts, self.rows, device)
        vectors = np.stack([term.direction.vector for term in terms])
        self._vectors = torch.tensor(vectors, device=device)[:, None, :]
        self._doses = column([term.dose for term in terms])
        self._norms = column([term.direction.residual_norm for term in terms])
        self._centres = column([term.direction.centre for term in terms])

    def after(
        self, before: torch.Tensor, indices: torch.Tensor | slice, factor: torch.Tensor
    ) -> torch.Tensor:
        """The stream (rows, 1, d_model) after some of its row edits, given their factors (rows, 1, 1)."""
        norms, centres = self._norms[indices], self._centres[indices]
        vectors, doses = self._vectors[indices], self._doses[indices]
        return self.operation(before, vectors, doses, factor=factor, residual_norm=norms, centre=centres)


def compile_plans(
    plans: Sequence[Steering | None],
    seconds: Sequence[float],
    *,
    guided: bool,
    device_of: Callable[[int], torch.device],
    seeds: Sequence[int] | None = None,
    first_step: int = 0,
) -> dict[Place, list[Edit]]:
    """The edits of a batch with a plan, or None, per clip, by place in the order of the forward pass.

    `seconds` are the times of the steps in the new part, the first of which is number `first_step` there. In
    a guided run, row b + B is the null row of clip b; terms for null rows need one. `device_of` says where a
    layer's stream is; its edits are made there. `seeds`, one per clip, are those of terms that act by
    chance; 0 when None.
    """
    stacked: dict[Place, dict[tuple[int, str], list[RowEdit]]] = {}
    for clip, plan in enumerate(plans):
        slots: dict[Place, int] = {}
        for term_index, term in enumerate(plan.terms if plan is not None else ()):
            place = (term.at_layer, term.direction.site)
            slot = slots[place] = slots.get(place, -1) + 1
            row_edits = stacked.setdefault(place, {}).setdefault((slot, term.operation), [])
            if term.branch == "null" and not guided:
                asked, do = f"{term.direction.name!r} was to act on null rows", "Use guidance above 1"
                found = "guidance 1 or less runs without null rows"
                raise GenerationError(asked, found, f"{do}, or branch='cond'")
            for branch in _BRANCHES if guided else ("cond",):
                if term.branch not in (branch, "both"):
                    continue
                row = clip + len(plans) * (branch == "null")
                row_edits.append(RowEdit(clip, term_index, term, row, branch))

    def laid_out(one: RowEdit) -> tuple[np.ndarray, np.ndarray]:
        """Return the schedule at each step, and whether schedule, dose and chance let the step act."""
        times = enumerate(seconds, first_step)
        factors = np.array([one.term.schedule.factor(now, step) for step, now in times])
        # Chance belongs to a step's time, whatever window it is drawn in.
        seed = [seeds[one.clip] if seeds else 0, one.term_index, _BRANCHES.index(one.branch)]
        stream = np.random.Generator(np.random.PCG64(seed).advance(first_step))
        allowed = stream.random(len(seconds)) < one.term.chance
        return factors, allowed & (factors != 0) & (not one.term.idle)

    return {
        place: [
            Edit(place, row_edits, [laid_out(one) for one in row_edits], device_of(place[0]))
            for _slot, row_edits in sorted(stacked[place].items())
        ]
        for place in in_order(stacked)
    }


def _active(acts: np.ndarray, rows: torch.Tensor, device: torch.device) -> tuple[Active | None, ...]:
    """For every step what acts and on which rows; steps where the same acts share their tensors."""
    made: dict[bytes, Active | None] = {b"\0" * len(rows): None}
    for pattern in acts:
        if pattern.tobytes() not in made:
            indices = torch.tensor(np.flatnonzero(pattern), device=device)
            made[pattern.tobytes()] = indices, rows[indices]
    return tuple(made[pattern.tobytes()] for pattern in acts)


Slider = tuple[int, int]
"""(clip, term): which term of which clip's plan a slider scales."""


class Sliders:
    """One slider per term of a plan, which may be moved from any thread while a run goes on; all begin at 1.

    Args:
        replay: What `log` wrote down, to be read again step by step.
        functions: Instead of a value that is moved, a function of the seconds, called at each step.
    """

    def __init__(
        self,
        replay: Mapping[Slider, Sequence[float]] | None = None,
        functions: Mapping[Slider, Callable[[float], float]] | None = None,
    ) -> None:
        self.replay = {key: np.asarray(values, dtype=np.float64) for key, values in (replay or {}).items()}
        self.functions = dict(functions or {})
        self.readings: dict[ReadOut, deque[torch.Tensor]] = {}
        self._moved: dict[tuple[int | None, int], float] = {}
        self._log: dict[Slider, list[float]] = {}
        self._steps = 0
        self._seconds: Iterator[float] = iter(())

    def begin_span(self, seconds: Sequence[float]) -> None:
        """Take the times of the steps that follow, for functions."""
        self._seconds = iter(seconds)

    def slide(self, term: int, value: float, *, clip: int | None = None) -> None:
        """Multiply the strength (for clamp: the weight) of a term by `value` from the next step on.

        Args:
            term: Its place in the plan, from 0.
            value: A finite number; for remove keep dose x value in 0-1.
            clip: Whose plan, in the batch; those of all clips when None.
        """
        others = {key: kept for key, kept in self._moved.items() if clip is not None or key[1] != term}
        self._moved = {**others, (clip, term): _slid(value, term)}

    @property
    def log(self) -> dict[Slider, np.ndarray]:
        """What each slider read at each step, all windows one after another: (steps,) by (clip, term)."""
        return {key: np.array(values) for key, values in self._log.items()}

    def read_sliders(self, keys: Sequence[Slider]) -> list[float]:
        """Return what the sliders say now, one value per key, and write it down."""
        moved, step = self._moved, self._steps  # one glance: a move takes effect for a whole step or not yet
        seconds, self._steps = next(self._seconds, 0.0), step + 1
        for key in keys:
            if key in self.replay:
                value = float(self.replay[key][step])
            elif key in self.functions:
                value = _slid(self.functions[key](seconds), key[1])
            else:
                value = moved.get(key, moved.get((None, key[1]), 1.0))
            self._log.setdefault(key, []).append(value)
        return [self._log[key][-1] for key in keys]


def _slid(value: object, term: int) -> float:
    return GenerationError.number(value, f"The slider of term {term} at")


class StepGains:
    """The factor of every row edit of a run, and what was read at sliders and gates."""

    def __init__(
        self, sliders: Sliders, edits: Mapping[Place, Sequence[Edit]], run: Sampling, rate_hz: float
    ) -> None:
        self._sliders, self._batch = sliders, run.batch
        self._has_context = run.prompt_frames > 0  # at the first step
        every = [edit for group in edits.values() for edit in group]
        row_edits = [row_edit for edit in every for row_edit in edit.row_edits]
        self._keys = sorted({(one.clip, one.term_index) for one in row_edits})
        self._gates = list(dict.fromkeys(one.term.gate for one in row_edits if one.term.gate is not None))
        self._averaged = {gate: max(1, round(gate.over * rate_hz)) for gate in self._gates}  # readings
        self._device = every[0].weights.device if every else torch.device("cpu")
        self._slider_of, self._gate_of = {}, {}
        choices = [*self._gates, None]  # the last one stands for gates that are always open
        for edit in every:
            keys = [self._keys.index((one.clip, one.term_index)) for one in edit.row_edits]
            gates = [choices.index(one.term.gate) * run.batch + one.clip for one in edit.row_edits]
            self._slider_of[edit] = torch.tensor(keys, device=edit.weights.device)
            self._gate_of[edit] = torch.tensor(gates, device=edit.weights.device)
        self._read_outs = {
            one: (torch.tensor(one.weights).to(self._device), torch.tensor(one.bias).to(self._device))
            for one in dict.fromkeys(gate.read_out for gate in self._gates)
        }
        for one in self._read_outs:
            sliders.readings.setdefault(one, deque(maxlen=max(self._averaged.values())))
        self._slid: list[list[float]] = []
        self._opened: list[torch.Tensor] = []

    @property
    def places(self) -> list[Place]:
        """Where gates read, in the order of the forward pass."""
        return in_order((one.layer, one.site) for one in self._read_outs)

    def begin(self, step: int) -> None:
        """Read sliders and gates for a step, at the first place that it reaches; later ones find it done.

        The trace's loop runs ahead of the codes: what it read outside of a place would be a step late.
        """
        if step < len(self._slid):
            return
        self._slid.append(self._sliders.read_sliders(self._keys))
        self._slider_values = torch.tensor(self._slid[-1], dtype=torch.float32, device=self._device)
        always = torch.ones(self._batch, device=self._device)
        self._opened.append(torch.cat([*map(self._is_open, self._gates), always]))

    def at(self, edit: Edit, step: int, indices: torch.Tensor) -> torch.Tensor:
        """The factors (rows, 1, 1) of some row edits of an edit: schedule x slider x gate."""
        factor = edit.weights[step, indices]
        slid = self._slider_values.to(factor.device)[self._slider_of[edit][indices]]
        opened = self._opened[-1].to(factor.device)[self._gate_of[edit][indices]]
        return (factor * slid * opened)[:, None, None]

    def read(self, place: Place, rows: torch.Tensor) -> None:
        """Let the gates at `place` read the conditional rows (B, d_model) of the present step."""
        if not self._has_context and len(self._slid) == 1:
            return
        for one, (weights, bias) in self._read_outs.items():
            if (one.layer, one.site) == place:
                read = probabilities(rows.to(self._device), weights, bias, one.link)
                self._sliders.readings[one].append(read)

    def sliders_of(self, edit: Edit) -> np.ndarray:
        """What was read at the sliders of an edit, (steps, n)."""
        return np.array(self._slid)[:, self._slider_of[edit].cpu().numpy()]

    def open_of(self, edit: Edit) -> np.ndarray:
        """Whether the gates of an edit were open, bool (steps, n)."""
        opened = torch.stack(self._opened).cpu()[:, self._gate_of[edit].cpu()]
        return np.asarray(opened.numpy() != 0)

    def _is_open(self, gate: Gate) -> torch.Tensor:
        """1 where a gate is open now, else 0 (B,)."""
        made = list(self._sliders.readings[gate.read_out])[-self._averaged[gate] :]
        if not made:
            return torch.ones(self._batch, device=self._device)
        return gate.is_open(torch.stack(made).mean(0)).float()
