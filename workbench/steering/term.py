"""One term of a plan: a direction, how strongly, when, how, at which layer, on which branch, if at all."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, cast

from workbench.errors import SteeringError, is_number, number_or_nan, renamed_attribute, whole_number
from workbench.steering.operations import OPERATIONS, find_operation
from workbench.steering.schedule import Gate, Schedule, constant

if TYPE_CHECKING:
    from workbench.model.musicgen import Model
    from workbench.steering.plan import Direction

BRANCHES = ("cond", "both", "null")


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
        object.__setattr__(self, "dose", number_or_nan(self.dose) + 0.0)
        object.__setattr__(self, "chance", number_or_nan(self.chance) + 0.0)
        layer = self.direction.layer if self.layer is None else self.layer
        object.__setattr__(self, "layer", whole_number(layer, "Steering at the layer", SteeringError))
        object.__setattr__(self, "operation", find_operation(self.operation).name)
        asked = f"{self.operation} of {self.dose!r} x {self.direction.name!r} was asked for"
        norm, unit = self.direction.residual_norm, OPERATIONS[self.operation].unit
        if self.branch not in BRANCHES:
            found = f"the branch {self.branch!r} is unknown"
            raise SteeringError(asked, found, f"Use one of {', '.join(BRANCHES)}")
        if not is_number(self.dose):
            raise SteeringError(asked, "a dose must be a finite number", "Give a number such as 0.6")
        if unit == "weight" and not 0 <= self.dose <= 1:
            raise SteeringError(asked, "it takes a weight from 0 to 1", "Use 1.0 to remove all, 0.5 for half")
        if not is_number(self.chance, 0, 1):
            found = f"a chance of {self.chance!r} is no probability"
            raise SteeringError(asked, found, "Use a number from 0 to 1")
        if abs(self.direction.norm - 1) > 1e-4:
            found = f"its norm is {self.direction.norm:.4g}, not 1"
            raise SteeringError(asked, found, "Call .unit() on the direction first")
        if unit == "R" and not 0 < norm < math.inf:
            found = f"its residual norm, which a dose is a multiple of, is {norm}"
            do = "Set it: dataclasses.replace(direction, residual_norm=model.residual_norms()[layer])"
            raise SteeringError(asked, found, do)

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
            warnings.warn(
                f"A direction read in {read_in} acts on a model in {model.precision}.", stacklevel=1
            )
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
