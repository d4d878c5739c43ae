"""What is pushed, how hard, when and how: directions, schedules, operations, and the plans that join them."""

from workbench.steering.direction import Direction, random_direction
from workbench.steering.gate import Gate, ReadOut
from workbench.steering.means import difference_in_means
from workbench.steering.operations import OPERATIONS
from workbench.steering.plan import Steering, Term
from workbench.steering.schedule import (
    Schedule,
    constant,
    decay,
    fade,
    knots,
    parse_schedule,
    pulse,
    ramp,
    window,
)
from workbench.steering.together import crossfade, orthogonalise, spread

__all__ = [
    "OPERATIONS",
    "Direction",
    "Gate",
    "ReadOut",
    "Schedule",
    "Steering",
    "Term",
    "constant",
    "crossfade",
    "decay",
    "difference_in_means",
    "fade",
    "knots",
    "orthogonalise",
    "parse_schedule",
    "pulse",
    "ramp",
    "random_direction",
    "spread",
    "window",
]
