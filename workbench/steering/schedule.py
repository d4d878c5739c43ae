"""One term of a plan, and when it acts: schedules over seconds of new sound, gates that a read-out opens.

A schedule is a kind and its numbers, and has one canonical text (`ramp(2s,6s)`) that reads back as the same
schedule. Only `pulse` may count generation steps instead of seconds, because the published recipe does.

A gate steers only while a read-out of the stream reads below (or above) a threshold. The idea is SMITIN's
(arXiv 2404.02252): stop pushing once it sounds like what was wanted, go on when it no longer does. A read-out
is the plain value of a probe; `probe.gate("jazz", below=0.8)` makes a gate from one.
"""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor

from workbench.errors import SteeringError, is_number, is_text, number_or_nan, renamed_attribute, whole_number
from workbench.steering.operations import OPERATIONS, find_operation

if TYPE_CHECKING:
    from workbench.model.musicgen import Model
    from workbench.steering.plan import Direction

BRANCHES = ("cond", "both", "null")


def written_number(value: float) -> str:
    """Return the shortest text that reads back as exactly this number, without an idle `.0`."""
    return repr(float(value)).removesuffix(".0")


# Step times are computed as step / frame rate; a start of 0.3 s must include the step at 0.1 + 0.2 s.
_SLACK_S = 1e-9


@dataclass(frozen=True)
class Schedule:
    """A factor over time. Make one with constant, window, ramp, fade, pulse, pulse_steps, decay or knots."""

    kind: str
    numbers: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        SteeringError.among(self.kind, KINDS, "The schedule")
        numbers = tuple(number_or_nan(number) + 0.0 for number in self.numbers)
        object.__setattr__(self, "numbers", numbers)
        if problem := _problem(self.kind, numbers):
            asked = f"The schedule {self.kind}{numbers} was asked for"
            raise SteeringError(asked, problem, f"Write {KINDS[self.kind][1]}")

    def factor(self, seconds: float, step: int = 0) -> float:
        """Return what multiplies the dose at `seconds` of audio, which is generation step `step`."""
        return KINDS[self.kind][0](self.numbers, seconds, step)

    def text(self) -> str:
        """Return the canonical text, e.g. `ramp(2s,6s)`; `parse_schedule` reads it back."""
        numbers = [written_number(number) for number in self.numbers]
        if self.kind == "constant":
            return "constant"
        if self.kind == "pulse_steps":
            return f"pulse({numbers[0]} steps)"
        if self.kind == "knots":
            pairs = zip(numbers[::2], numbers[1::2], strict=True)
            return f"knots({','.join(f'{seconds}s:{factor}' for seconds, factor in pairs)})"
        return f"{self.kind}({','.join(f'{seconds}s' for seconds in numbers)})"

    __str__ = text


def _problem(kind: str, numbers: Sequence[float]) -> str:
    """Return what is wrong with a schedule's numbers, or an empty text."""
    if not all(is_number(number) for number in numbers):
        return f"not all of {list(numbers)} are finite"
    if kind == "knots":
        times = numbers[::2]
        if len(numbers) < 2 or len(numbers) % 2:
            return "it needs at least one pair of seconds and factor"
        if any(later <= earlier for earlier, later in pairwise(times)):
            return f"the times {list(times)} do not rise strictly"
    elif len(numbers) != KINDS[kind][2]:
        return f"it takes {KINDS[kind][2]} numbers and {len(numbers)} were given"
    if kind in {"window", "ramp", "fade"} and not 0 <= numbers[0] < numbers[1]:
        return "its start must not be negative and must lie before its end"
    if kind in {"pulse", "decay", "pulse_steps"} and min(numbers) <= 0:
        return "its times must be above 0"
    if kind == "pulse" and numbers[1] > numbers[0]:
        return "one pulse would be longer than its period"
    if kind == "pulse_steps" and numbers[0] != int(numbers[0]):
        return "steps are whole"
    return ""


Factor = Callable[[tuple[float, ...], float, int], float]
# kind -> (factor of (numbers, seconds, step), how it is written, how many numbers)
KINDS: Mapping[str, tuple[Factor, str, int]] = {
    "constant": (lambda _n, _s, _step: 1.0, "constant()", 0),
    "window": (lambda n, s, _step: float(n[0] <= s + _SLACK_S < n[1]), "window(start_s, end_s)", 2),
    "ramp": (lambda n, s, _step: float(np.interp(s, n, (0, 1))), "ramp(start_s, end_s)", 2),
    "fade": (lambda n, s, _step: float(np.interp(s, n, (1, 0))), "fade(start_s, end_s)", 2),
    "pulse": (lambda n, s, _step: float((s + _SLACK_S) % n[0] < n[1]), "pulse(every_s, width_s=...)", 2),
    "pulse_steps": (lambda n, _s, step: float(step % int(n[0]) == 0), "pulse(every_steps=n)", 1),
    "decay": (lambda n, s, _step: 0.5 ** (s / n[0]), "decay(half_life_s)", 1),
    "knots": (lambda n, s, _step: float(np.interp(s, n[::2], n[1::2])), "knots([(seconds, factor), ...])", 0),
}


def constant() -> Schedule:
    """Return the schedule that is 1 all the time."""
    return Schedule("constant")


def window(start_s: float, end_s: float) -> Schedule:
    """Return the schedule that is 1 from `start_s` up to but not at `end_s`, and 0 elsewhere."""
    return Schedule("window", (start_s, end_s))


def ramp(start_s: float, end_s: float) -> Schedule:
    """Return the schedule that is 0 until `start_s`, rises in a straight line, and is 1 from `end_s` on.

    >>> ramp(2, 6).factor(3), str(ramp(2, 6))
    (0.25, 'ramp(2s,6s)')
    """
    return Schedule("ramp", (start_s, end_s))


def fade(start_s: float, end_s: float) -> Schedule:
    """Return the mirror of `ramp`: 1 until `start_s`, 0 from `end_s` on. Both together are a crossfade."""
    return Schedule("fade", (start_s, end_s))


def pulse(
    every_s: float | None = None, *, width_s: float | None = None, every_steps: int | None = None
) -> Schedule:
    """Return the schedule that is 1 at the start of every period and 0 for the rest of it.

    Of `every_s` seconds `width_s` are on, half of them when None. Or it is on at each of `every_steps`
    generation steps alone (arXiv 2506.10225: 25).
    """
    if (every_s is None) == (every_steps is None) or (every_steps is not None and width_s is not None):
        asked = f"pulse(every_s={every_s}, width_s={width_s}, every_steps={every_steps}) was asked for"
        do = "Write pulse(0.5), pulse(0.5, width_s=0.1) or pulse(every_steps=25)"
        raise SteeringError(asked, "a pulse counts either seconds (with a width) or steps", do)
    if every_s is None:
        return Schedule("pulse_steps", (every_steps or 0,))
    return Schedule("pulse", (every_s, number_or_nan(every_s) / 2 if width_s is None else width_s))


def decay(half_life_s: float) -> Schedule:
    """Return the schedule that starts at 1 and halves every `half_life_s` seconds."""
    return Schedule("decay", (half_life_s,))


def knots(points: Sequence[tuple[float, float]]) -> Schedule:
    """Return the schedule that joins (seconds, factor) points by straight lines and is flat outside them."""
    return Schedule("knots", tuple(number for point in points for number in point))


SIDES = {"below": "<", "above": ">"}
"""The two sides of a threshold on which a gate may be open, and the sign that stands for each."""

LINKS = ("softmax", "shares", "sigmoid", "cut")
"""From logits to probabilities: softmax (logistic probes, means), shares (ridge: cut to 0-1, made to sum to
1); of labels, each against its absence: sigmoid (logistic, means), cut (ridge: to 0-1)."""


@dataclass(frozen=True, eq=False)
class ReadOut:
    """A linear read-out: probabilities of classes = link(x W' + b) of the stream x at one place.

    Weights (classes, d_model) and bias (classes,) are float32 and read-only. It reads the block `layer` after
    steering. `link` is one of LINKS, `target` says what the classes tell apart, and `model_id` is the model
    that it was fitted on; empty fits any of the right width.
    """

    classes: tuple[str, ...]
    weights: np.ndarray
    bias: np.ndarray
    layer: int
    site: str = field(default="resid_post", kw_only=True)
    link: str = field(default="softmax", kw_only=True)
    target: str = field(default="", kw_only=True)
    model_id: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(map(str, self.classes)))
        object.__setattr__(self, "layer", whole_number(self.layer, "A read-out of the layer", SteeringError))
        for name in ("weights", "bias"):
            array = np.array(getattr(self, name), dtype=np.float32, order="C")
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        count, shape, problem = len(self.classes), self.weights.shape, ""
        texts = (*self.classes, self.site, self.target, self.model_id)
        if len(shape) != 2 or shape[0] != count or not count or self.bias.shape != (count,):
            problem = f"its weights have the shape {shape} and its bias {self.bias.shape}"
        elif len(set(self.classes)) != count:
            problem = "two of its classes have one name"
        elif not (np.isfinite(self.weights).all() and np.isfinite(self.bias).all()):
            problem = "its weights and bias are not all finite"
        elif self.link not in LINKS:
            problem = f"the link {self.link!r} is none of {', '.join(LINKS)}"
        elif not all(map(is_text, texts)):
            problem = f"its classes and places {texts!r} cannot all be written"
        if problem:
            asked = f"A read-out of {', '.join(self.classes) or 'nothing'} was asked for"
            raise SteeringError(asked, problem, "Use Probe.read_out()")

    @cached_property
    def fingerprint(self) -> str:
        """A hash of all that acts: classes, place, link, model, weights and bias."""
        acting = json.dumps([self.classes, self.layer, self.site, self.link, self.model_id]).encode()
        return hashlib.sha256(acting + self.weights.tobytes() + self.bias.tobytes()).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ReadOut) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def read_out(self) -> ReadOut:
        """Return the read-out itself, so that probes and read-outs can be given alike."""
        return self

    def probabilities(self, x: Tensor) -> Tensor:
        """Return P (rows, classes) for residuals x (rows, d), on their device (`probabilities`)."""
        weights, bias = (torch.tensor(one, device=x.device) for one in (self.weights, self.bias))
        return probabilities(x, weights, bias, self.link)


@dataclass(frozen=True)
class Gate:
    """Steer only while P(`class_`) reads `side` the `threshold`, averaged over the last `over` seconds.

    `class_` is one of the read-out's, `side` "below" or "above", `threshold` a probability from 0 to 1. With
    `over` = 0 the last reading counts alone.
    """

    read_out: ReadOut
    class_: str
    side: str = "below"
    threshold: float = 0.5
    over: float = 1.0

    def __post_init__(self) -> None:
        asked, error = f"A gate on {self.class_!r} {self.side}", SteeringError
        error.among(self.class_, self.read_out.classes, "A gate on", held="the probe knows")
        if self.side not in SIDES:
            raise error(f"{asked} was asked for", f"the sides are {' and '.join(SIDES)}", "Use one of those")
        probability = "a threshold is a probability"
        threshold = error.number(self.threshold, asked, least=0, most=1, found=probability)
        over = error.number(self.over, f"{asked}, averaged over", least=0, do="Use 0 or more seconds")
        object.__setattr__(self, "threshold", threshold)
        object.__setattr__(self, "over", over)

    def is_open(self, readings: Tensor) -> Tensor:
        """Return whether the gate is open, bool (...), for averaged probabilities (..., classes)."""
        read = readings[..., self.read_out.classes.index(self.class_)]
        return read < self.threshold if self.side == "below" else read > self.threshold


def probabilities(x: Tensor, weights: Tensor, bias: Tensor, link: str) -> Tensor:
    """Return P (rows, classes) for residuals x (rows, d), weights (classes, d) and bias (classes,).

    Each row is computed apart, so that its neighbours cannot move it across a threshold.
    """
    logits = (x.float()[:, None, :] * weights).sum(-1) + bias
    if link == "sigmoid":
        return logits.sigmoid()
    if link == "cut":
        return logits.clamp(0, 1)
    if link == "softmax":
        return logits.softmax(-1)
    shares = logits.clamp(0, 1)
    shares = torch.where(shares.sum(-1, keepdim=True) > 0, shares, torch.ones_like(shares))
    return shares / shares.sum(-1, keepdim=True)


@dataclass(frozen=True)
class Term:
    """One direction, how strongly, when, how and where; SteeringError for what no model could carry out.

    Args:
        direction: A unit vector.
        dose: In the unit of the operation: multiples of the direction's residual norm (add, keep_norm), a
            (norm_scaled_add), a weight 0-1 (remove, patch) or the target projection (clamp).
        schedule: When; it multiplies the dose.
        operation: How: the name of an operation (or an Operation, of which the name is kept).
        layer: Where it acts; None means where the direction was made.
        branch: "cond" (the prompted half of guidance), "null" (the unprompted half) or "both".
        chance: The probability with which each step acts at all (stochastic injection, MusicRFM, arXiv
            2510.19127), drawn by the row's own seed, so that a run can be repeated; 1 acts always.
        gate: Steers only while a probe reads below (or above) a threshold; None steers always.
    """

    direction: Direction
    dose: float
    schedule: Schedule = field(default_factory=constant)
    operation: str = "add"
    layer: int | None = None
    branch: str = "cond"
    chance: float = field(default=1.0, kw_only=True)
    gate: Gate | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        # + 0.0 turns -0.0 into 0.0, so that every dose has one text.
        object.__setattr__(self, "operation", find_operation(self.operation).name)
        asked, unit = f"{self.operation} of {self.direction.name!r}", OPERATIONS[self.operation].unit
        SteeringError.among(self.branch, BRANCHES, f"{asked} on the branch")
        dose = SteeringError.number(self.dose, f"{asked} with a dose of")
        if unit == "weight":
            found, do = "it takes a weight from 0 to 1", "Use 1.0 to remove all, 0.5 for half"
            SteeringError.number(dose, f"{asked} by", least=0, most=1, found=found, do=do)
        found, what = "that is no probability", f"{asked} with a chance of"
        chance = SteeringError.number(self.chance, what, least=0, most=1, found=found)
        layer = self.direction.layer if self.layer is None else self.layer
        layer = whole_number(layer, "Steering at the layer", SteeringError)
        for name, value in (("dose", dose), ("chance", chance), ("layer", layer)):
            object.__setattr__(self, name, value)
        norm = self.direction.residual_norm
        if abs(self.direction.norm - 1) > 1e-4:
            found = f"its norm is {self.direction.norm:.4g}, not 1"
            raise SteeringError(f"{asked} was asked for", found, "Call .unit() on the direction first")
        if unit == "R" and not 0 < norm < math.inf:
            found = f"its residual norm, which a dose is a multiple of, is {norm}"
            do = "Set it: dataclasses.replace(direction, residual_norm=model.residual_norms()[layer])"
            raise SteeringError(f"{asked} was asked for", found, do)

    @property
    def at_layer(self) -> int:
        """The layer that this term acts at."""
        return cast(int, self.layer)

    def check(self, model: Model) -> None:
        """Raise SteeringError where it does not fit `model`: layer, width, another model's vector."""
        asked = f"{self.direction.name!r} was to act at layer {self.at_layer} of {model.id}"
        made_for, width = self.direction.origin.get("model_id", ""), self.direction.vector.size
        if made_for and made_for != model.id:
            found = f"the direction was made for the model {made_for!r}"
            raise SteeringError(asked, found, "Make a direction from this model's activations")
        if width != model.d_model:
            found = f"it has {width} numbers where the model has {model.d_model}"
            raise SteeringError(asked, found, "Use a direction made for this model")
        if self.at_layer not in model.layers:
            found = f"the model has layers {model.layers[0]}-{model.layers[-1]}"
            raise SteeringError(asked, found, "Use one of model.layers")
        read_in = self.direction.origin.get("precision")
        if read_in and read_in != model.precision:  # told once per process, as warnings are
            text = f"A direction read in {read_in} acts on a model in {model.precision}."
            warnings.warn(text, stacklevel=1)
        if self.gate is None:
            return
        read = self.gate.read_out
        if read.model_id and read.model_id != model.id:
            found = f"its gate's probe was made for the model {read.model_id!r}"
            raise SteeringError(asked, found, "Fit a probe on this model")
        if read.weights.shape[1] != model.d_model or read.layer not in model.layers:
            found = f"its gate reads {read.weights.shape[1]} numbers at layer {read.layer}"
            do = f"Use a probe of {model.d_model} numbers at one of model.layers"
            raise SteeringError(asked, found, do)

    def acts(self, seconds: float, step: int = 0) -> bool:
        """Return whether factor and dose are not 0 at `seconds`; chance and gate are known only in a run."""
        return not self.idle and self.schedule.factor(seconds, step) != 0

    rows = renamed_attribute("rows", "branch")

    @property
    def idle(self) -> bool:
        """Whether its dose says that it never changes anything."""
        return self.dose == 0 and OPERATIONS[self.operation].unit != "projection"

    def __neg__(self) -> Term:
        if OPERATIONS[self.operation].has_target:
            pushes = ", ".join(name for name, one in OPERATIONS.items() if not one.has_target)
            found = f"only pushes ({pushes}) have an opposite"
            do = "Write the term that you mean instead of subtracting this one"
            raise SteeringError(f"The opposite of {self.operation} was asked for", found, do)
        return replace(self, dose=-self.dose)
