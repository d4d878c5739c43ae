"""What is pushed, how hard, when and how: directions, schedules, operations, and the plans that join them."""

from workbench.steering.direction import Direction, difference_in_means, random_direction
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

__all__ = [
    "OPERATIONS",
    "Direction",
    "Schedule",
    "Steering",
    "Term",
    "constant",
    "decay",
    "difference_in_means",
    "fade",
    "knots",
    "parse_schedule",
    "pulse",
    "ramp",
    "random_direction",
    "window",
]
