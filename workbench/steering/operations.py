"""The operations on the residual stream: pure tensor formulas, each with its name and the unit of its dose.

Shapes: `h` is (rows, positions, d_model) or anything that ends in d_model; `v` is a unit vector (d_model,),
or (rows, 1, d_model) when every row has its own. `a` is a number, or a tensor that broadcasts against
(rows, positions, 1). With `a` = 0 every built-in formula gives back exactly the values of `h`.

An operation of your own is one `Operation` and one call of `register_operation` (CONTRIBUTING.md shows one).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from workbench.errors import SteeringError, is_text

Strength = float | Tensor

UNITS: Mapping[str, str] = {
    "R": "multiples of R, the mean residual norm of the layer",
    "number": "a plain number",
    "weight": "a weight from 0 to 1",
    "projection": "the projection <h, v> that is aimed at",
}
"""What the dose of an operation can count."""


class UnknownOperationError(SteeringError, KeyError):
    """A plan names an operation that is not registered in this process."""


@dataclass(frozen=True)
class Operation:
    """One way to change the residual stream along a direction.

    Args:
        name: The word for it in plans, files and text: letters, digits and `_`.
        formula: `formula(h, v, a)`, a pure function of tensors (shapes at the head of this module) that
            returns the new `h`, and `h` itself where `a` is 0. `a` is dose x schedule x gate x slider, and
            x R where that is the unit. With a target it is `formula(h, v, a, target)`, and `a` is the weight
            0-1 with which the projection is moved there.
        unit: What a dose counts, one of UNITS. "projection": the dose is the target itself.
        has_target: Whether it aims at a value of the projection instead of pushing: then it has no opposite,
            and its dose cannot be shared among layers. Unless the unit is "projection", the target is the
            direction's `centre`, the mean projection of its data.
        label: A few words for lists.
    """

    name: str
    formula: Callable[..., Tensor]
    unit: str = "R"
    has_target: bool = False
    label: str = ""

    def __post_init__(self) -> None:
        asked = f"An operation {self.name!r} was asked for"
        if not (is_text(self.name) and self.name.isidentifier() and callable(self.formula)):
            raise SteeringError(asked, "it needs a word as its name and a function", "Give both")
        if self.unit not in UNITS or (self.unit == "projection" and not self.has_target):
            found = f"its unit is {self.unit!r}, and only what has a target can count projections"
            raise SteeringError(asked, found, f"Use one of {', '.join(UNITS)}")

    def __call__(
        self,
        h: Tensor,
        v: Tensor,
        dose: Strength,
        *,
        factor: Strength = 1.0,
        residual_norm: Strength = 1.0,
        centre: Strength = 0.0,
    ) -> Tensor:
        """Return `h` after this operation, computed in at least float32 and rounded once to h's precision.

        `factor` is schedule x slider x gate. It multiplies the dose; where the dose is a target, it is the
        weight: a schedule at 0 must leave the stream alone, not move it. `residual_norm` is R of the layer.
        """
        dtype = torch.promote_types(h.dtype, torch.float32)
        wide, v = h.to(dtype), v.to(device=h.device, dtype=dtype)
        a = factor if self.unit == "projection" else dose * factor
        if self.unit == "R":
            a = a * residual_norm
        target = (dose if self.unit == "projection" else centre,) if self.has_target else ()
        return self.formula(wide, v, a, *target).to(h.dtype)


def _projection(h: Tensor, v: Tensor) -> Tensor:
    """Return <h, v>, shape (..., 1)."""
    return (h * v).sum(-1, keepdim=True)


def _norm(h: Tensor) -> Tensor:
    return _projection(h, h).sqrt()


def add(h: Tensor, v: Tensor, a: Strength) -> Tensor:
    """Return h + a v.

    >>> add(torch.tensor([3.0, 4.0]), torch.tensor([1.0, 0.0]), 0.5)
    tensor([3.5000, 4.0000])
    """
    return h + a * v


def norm_scaled_add(h: Tensor, v: Tensor, a: Strength) -> Tensor:
    """Return (h + a |h| v) / (1 + |a|), the published update (arXiv 2506.10225, a 0.3-0.7; -a is for -v)."""
    return (h + a * _norm(h) * v) / (1 + abs(a))  # type: ignore[operator]


def norm_shrink(h: Tensor, v: Tensor, a: Strength) -> Tensor:
    """Return h / (1 + |a|), what the published update does beside pushing: a control, in which v is idle."""
    return h / (1 + abs(a))  # type: ignore[operator]


def keep_norm(h: Tensor, v: Tensor, a: Strength) -> Tensor:
    """Return h + a v rescaled to |h|: the push turns the stream and never stretches it."""
    pushed = h + a * v
    after = _norm(pushed)
    # A push that lands exactly on zero has no direction left to rescale; it stays zero, not NaN.
    return pushed * torch.where(after > 0, _norm(h) / after.clamp_min(torch.finfo(after.dtype).tiny), after)


def set_projection(h: Tensor, v: Tensor, a: Strength, target: Strength) -> Tensor:
    """Return h + a (target - <h, v>) v: with weight a = 1 the projection along v becomes `target`.

    With the mean projection of the data as its target this is mean ablation, with 0 projection ablation.
    """
    return h + a * (target - _projection(h, v)) * v


def replace_state(h: Tensor, v: Tensor, a: Strength, target: Strength) -> Tensor:
    """Return (1 - a) h + a target v in the coordinates in which v is not 0, and h in the others.

    With a state's length as target and a = 1 it is activation patching: h becomes that state, or one head.
    """
    a = a * (v != 0)
    return (1 - a) * h + a * target * v


_BUILT_IN = (
    Operation("add", add, label="push"),
    Operation("norm_scaled_add", norm_scaled_add, "number", label="the published update"),
    Operation("norm_shrink", norm_shrink, "number", label="shrink only, a control"),
    Operation("keep_norm", keep_norm, label="turn without stretching"),
    Operation("remove", set_projection, "weight", True, "take it out (0 to 1)"),
    Operation("clamp", set_projection, "projection", True, "hold it at a value"),
    Operation("patch", replace_state, "weight", True, "put another state in its place"),
)
_ALIASES = {"paper": "norm_scaled_add"}
_registered: dict[str, Operation] = {one.name: one for one in _BUILT_IN}

OPERATIONS: Mapping[str, Operation] = MappingProxyType(_registered)
"""Every operation that a plan can name, by name; `register_operation` adds to it."""


def register_operation(operation: Operation) -> Operation:
    """Make an operation known by its name to plans, plan text and lists, in this process; return it.

    A plan stores the name alone: who loads the plan registers the operation first. Registering a name again
    replaces what it stood for, so that a notebook's cell can be run twice; built-in names stay.

    >>> def soft(h, v, a):
    ...     return h + 5 * torch.tanh(torch.as_tensor(a) / 5) * v
    >>> register_operation(Operation("soft", soft, label="a push that saturates")).name in OPERATIONS
    True
    """
    if operation.name in (*(one.name for one in _BUILT_IN), *_ALIASES):
        asked = f"An operation {operation.name!r} was to be registered"
        raise SteeringError(asked, "that is the name of a built-in one", "Use another name")
    _registered[operation.name] = operation
    return operation


def find_operation(operation: object, where: str = "") -> Operation:
    """Return the operation of this name (or alias); an Operation that is not known yet is registered.

    Raises UnknownOperationError for a name not registered, SteeringError for a name that another has. `where`
    stands at the beginning of an error, such as the place in a text.
    """
    if isinstance(operation, Operation):
        known = _registered.get(operation.name)
        if known is not None and known != operation:
            asked = f"The operation {operation.name!r} was asked for"
            do = "Rename it, or replace the other with register_operation"
            raise SteeringError(asked, "another one is registered under this name", do)
        return known or register_operation(operation)
    if not isinstance(operation, str):
        found = f"it is a {type(operation).__name__}"
        raise SteeringError("An operation was asked for", found, "Give an Operation or its name")
    name = _ALIASES.get(operation, operation)
    if name not in _registered:
        asked = f"{f'{where} the' if where else 'The'} operation {operation!r} was asked for"
        do = "Use one of those, or call register_operation(Operation(...)) first"
        raise UnknownOperationError(asked, f"the operations are {', '.join(_registered)}", do)
    return _registered[name]
