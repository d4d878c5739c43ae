"""The edits of the residual stream h themselves: pure tensor arithmetic, one formula each.

Shapes: `h` is (rows, positions, d) or anything that ends in d; `v` is a unit vector (d,), or (rows, 1, d)
when every row has its own. A strength is a number, or a tensor that broadcasts against (rows, positions, 1),
so rows with different doses can share one call. Every edit is computed in float32 (float64 stays float64) and
returned in h's own precision: a bfloat16 model is rounded once, at the end. A strength of 0 gives back
exactly the values of `h` (`clamp` has a target, not a strength: its `weight` of 0 does).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from types import MappingProxyType
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from workbench.errors import SteeringError

Strength = float | Tensor
Edit = TypeVar("Edit", bound=Callable[..., Tensor])


def _in_full_precision(edit: Edit) -> Edit:
    """Return `edit` computed in at least float32 on h's device, its result rounded once to h's own dtype."""

    @wraps(edit)
    def wide(h: Tensor, v: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        dtype = torch.promote_types(h.dtype, torch.float32)
        return edit(h.to(dtype), v.to(device=h.device, dtype=dtype), *args, **kwargs).to(h.dtype)

    return cast(Edit, wide)


def _along(h: Tensor, v: Tensor) -> Tensor:
    """Return the projection <h, v>, shape (..., 1)."""
    return (h * v).sum(-1, keepdim=True)


def _length(h: Tensor) -> Tensor:
    """Return the norm |h|, shape (..., 1)."""
    return _along(h, h).sqrt()


@_in_full_precision
def add(h: Tensor, v: Tensor, dose: Strength, scale: Strength) -> Tensor:
    """Return h + dose * scale * v, where `scale` is the mean residual norm R of the layer."""
    return h + (dose * scale) * v


@_in_full_precision
def paper(h: Tensor, v: Tensor, a: Strength) -> Tensor:
    """Return (h + a |h| v) / (1 + |a|), the published update (arXiv 2506.10225, a in 0.3-0.7).

    The paper knows a >= 0 only; a negative `a` here is the same update along -v.
    """
    size = a.abs() if isinstance(a, Tensor) else abs(a)
    return (h + a * _length(h) * v) / (1 + size)


@_in_full_precision
def keep_norm(h: Tensor, v: Tensor, dose: Strength, scale: Strength) -> Tensor:
    """Return h + dose * scale * v rescaled to |h|: the push turns the stream and never stretches it."""
    before = _length(h)
    pushed = h + (dose * scale) * v
    after = _length(pushed)
    # A push that lands exactly on zero has no direction left to rescale; it stays zero, not NaN.
    return pushed * torch.where(after > 0, before / after.clamp_min(torch.finfo(after.dtype).tiny), after)


@_in_full_precision
def remove(h: Tensor, v: Tensor, weight: Strength = 1.0, mean: Strength = 0.0) -> Tensor:
    """Return h - weight * (<h, v> - mean) v: with weight 1 the projection along v becomes `mean`.

    `mean` is <mu, v>, the average projection over the data (mean ablation); 0 is plain projection ablation.
    """
    return h - weight * (_along(h, v) - mean) * v


@_in_full_precision
def clamp(h: Tensor, v: Tensor, target: Strength, weight: Strength = 1.0) -> Tensor:
    """Return h + weight * (target - <h, v>) v: with weight 1 the projection along v becomes `target`."""
    return h + weight * (target - _along(h, v)) * v


OPERATIONS: Mapping[str, Callable[..., Tensor]] = MappingProxyType(
    {"add": add, "paper": paper, "keep_norm": keep_norm, "remove": remove, "clamp": clamp}
)
"""Every operation that a plan can name."""

SCALED = frozenset({"add", "keep_norm"})
"""Operations whose dose is counted in mean residual norms of the layer."""

PUSHES = frozenset({"add", "paper", "keep_norm"})
"""Operations with a strength that can be turned round and shared; the others have a target."""


def apply(
    operation: str,
    h: Tensor,
    v: Tensor,
    strength: Strength,
    residual_norm: Strength,
    *,
    factor: Strength = 1.0,
    mean: Strength = 0.0,
) -> Tensor:
    """Return `h` after one edit, with a schedule's `factor` acting as each operation needs it.

    operation      a key of OPERATIONS
    strength       dose (add, keep_norm), a (paper), weight (remove) or target projection (clamp)
    residual_norm  R of the layer, used by add and keep_norm only
    factor         the schedule's value now, 0 to 1. It scales the strength, except for `clamp`, where it is
                   the weight: a schedule at 0 must leave the stream alone, not clamp it to 0
    mean           <mu, v>, used by `remove` only

    Raises SteeringError for an operation that does not exist.
    """
    match operation:
        case "add" | "keep_norm":
            return OPERATIONS[operation](h, v, strength * factor, residual_norm)
        case "paper":
            return paper(h, v, strength * factor)
        case "remove":
            return remove(h, v, strength * factor, mean)
        case "clamp":
            return clamp(h, v, strength, factor)
    raise SteeringError(
        f"The operation {operation!r} was asked for",
        f"the operations are {', '.join(OPERATIONS)}",
        "Use one of those",
    )
