"""What is pushed, how hard, when and how: directions, schedules, operations, and the plans that join them."""

from workbench.steering.operations import OPERATIONS as OPERATIONS
from workbench.steering.operations import Operation as Operation
from workbench.steering.operations import register_operation as register_operation
from workbench.steering.plan import Direction as Direction
from workbench.steering.plan import Steering as Steering
from workbench.steering.plan import file_vectors as file_vectors
from workbench.steering.plan import random_direction as random_direction
from workbench.steering.plan_text import parse_schedule as parse_schedule
from workbench.steering.schedule import Gate as Gate
from workbench.steering.schedule import ReadOut as ReadOut
from workbench.steering.schedule import Schedule as Schedule
from workbench.steering.schedule import Term as Term
from workbench.steering.schedule import constant as constant
from workbench.steering.schedule import decay as decay
from workbench.steering.schedule import fade as fade
from workbench.steering.schedule import knots as knots
from workbench.steering.schedule import pulse as pulse
from workbench.steering.schedule import ramp as ramp
from workbench.steering.schedule import window as window
from workbench.steering.together import PRESETS as PRESETS
from workbench.steering.together import crossfade as crossfade
from workbench.steering.together import difference_in_means as difference_in_means
from workbench.steering.together import orthogonalise as orthogonalise
from workbench.steering.together import pair_pca as pair_pca
from workbench.steering.together import split_dose as split_dose
