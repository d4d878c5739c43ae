"""What is pushed, how hard, when and how: directions, schedules, operations, and the plans that join them."""

from workbench.steering.operations import OPERATIONS, Operation, register_operation
from workbench.steering.plan import Direction, Steering, file_vectors, random_direction
from workbench.steering.plan_text import parse_schedule
from workbench.steering.schedule import (
    Gate,
    ReadOut,
    Schedule,
    constant,
    decay,
    fade,
    knots,
    pulse,
    ramp,
    window,
)
from workbench.steering.term import Term
from workbench.steering.together import (
    PRESETS,
    crossfade,
    difference_in_means,
    orthogonalise,
    pair_pca,
    split_dose,
)

__all__ = [
    "OPERATIONS",
    "PRESETS",
    "Direction",
    "Gate",
    "Operation",
    "ReadOut",
    "Schedule",
    "Steering",
    "Term",
    "constant",
    "crossfade",
    "decay",
    "difference_in_means",
    "fade",
    "file_vectors",
    "knots",
    "orthogonalise",
    "pair_pca",
    "parse_schedule",
    "pulse",
    "ramp",
    "random_direction",
    "register_operation",
    "split_dose",
    "window",
]
