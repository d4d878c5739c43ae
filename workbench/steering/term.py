"""One term of a plan: a direction, how strongly, when, how, at which layer, on which rows, if at all."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, cast

from workbench.errors import SteeringError, is_number, number_or_nan, whole_number
from workbench.steering.gate import Gate
from workbench.steering.grammar import ROWS
from workbench.steering.operations import OPERATIONS, PUSHES, SCALED
from workbench.steering.schedule import Schedule, constant

if TYPE_CHECKING:
    from workbench.steering.direction import Direction


@dataclass(frozen=True)
class Term:
    """One direction, how strongly, when, how and on which rows.

    dose       multiples of the direction's residual norm (add, keep_norm), a (paper), weight 0-1 (remove) or
               the target projection (clamp)
    layer      where it acts; None means where the direction was made
    rows       "cond" (the prompted half of guidance), "null" (the unprompted half) or "both"
    chance     the probability with which each step acts at all (stochastic injection, MusicRFM, arXiv
               2510.19127): drawn by the row's own seed, so that a run can be repeated; 1 acts always
    gate       steers only while a probe reads below (or above) a threshold; None steers always
    """

    direction: Direction
    dose: float
    schedule: Schedule = field(default_factory=constant)
    operation: str = "add"
    layer: int | None = None
    rows: str = "cond"
    chance: float = field(default=1.0, kw_only=True)
    gate: Gate | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        # + 0.0 turns -0.0 into 0.0, so that every dose has one text.
        object.__setattr__(self, "dose", number_or_nan(self.dose) + 0.0)
        object.__setattr__(self, "chance", number_or_nan(self.chance) + 0.0)
        layer = self.direction.layer if self.layer is None else self.layer
        object.__setattr__(self, "layer", whole_number(layer, "Steering at the layer", SteeringError))
        problem = _problem(self)
        if problem:
            raise SteeringError(
                f"{self.operation} of {self.dose!r} x {self.direction.name!r} was asked for", *problem
            )

    @property
    def at_layer(self) -> int:
        """The layer that this term acts at."""
        return cast(int, self.layer)

    def acts(self, seconds: float, step: int = 0) -> bool:
        """Return whether this term is planned to change anything at `seconds`: factor and dose are not 0.

        Chance and gate, which are known only in a run, are left out.
        """
        return not self.idle and self.schedule.factor(seconds, step) != 0

    @property
    def idle(self) -> bool:
        """Whether its dose says that it never changes anything."""
        return self.dose == 0 and self.operation != "clamp"

    def __neg__(self) -> Term:
        if self.operation not in PUSHES:
            raise SteeringError(
                f"The opposite of {self.operation} was asked for",
                "only pushes (add, paper, keep_norm) have an opposite",
                "Write the term that you mean instead of subtracting this one",
            )
        return replace(self, dose=-self.dose)


def _problem(term: Term) -> tuple[str, str] | None:
    """Return (found, do) when a term cannot be carried out on any model."""
    direction = term.direction
    if not (isinstance(term.operation, str) and term.operation in OPERATIONS):
        return f"the operations are {', '.join(OPERATIONS)}", "Use one of those"
    if term.rows not in ROWS:
        return f"rows {term.rows!r} are unknown", f"Use one of {', '.join(ROWS)}"
    if not is_number(term.dose):
        return "a dose must be a finite number", "Give a number such as 0.6"
    if term.operation == "remove" and not 0 <= term.dose <= 1:
        return "remove takes a weight from 0 to 1", "Use 1.0 to remove the direction, 0.5 for half of it"
    if not is_number(term.chance, 0, 1):
        return f"a chance of {term.chance!r} is no probability", "Use a number from 0 to 1"
    if abs(direction.norm - 1) > 1e-4:
        return f"its norm is {direction.norm:.4g}, not 1", "Call .unit() on the direction first"
    if term.operation in SCALED and not (
        math.isfinite(direction.residual_norm) and direction.residual_norm > 0
    ):
        return (
            f"its residual norm, which a dose is a multiple of, is {direction.residual_norm}",
            "Set it with dataclasses.replace(direction, residual_norm=model.residual_norms()[layer])",
        )
    return None
