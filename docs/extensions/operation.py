"""A steering operation of your own: a push that saturates, so that no dose drowns the music.

In Python: import this file, then `wb.generate(model, "a tune", steering=jazz.at(0.3, operation="saturate"))`.
In the steering lab it stands in the list of operations, and in a plan's text it reads
`saturate(0.3*jazz@3)`. On the command line: `workbench steer ... --extension docs/extensions/operation.py`.
"""

import torch
from torch import Tensor

from workbench.steering import Operation, register_operation

MOST = 0.25  # of the norm of the stream


def saturate(h: Tensor, v: Tensor, a: float | Tensor) -> Tensor:
    """Return h + s tanh(a / s) v, where s is a quarter of |h|: small pushes as they are, none above s."""
    s = (MOST * h.norm(dim=-1, keepdim=True)).clamp_min(1e-6)
    return h + s * torch.tanh(a / s) * v


register_operation(Operation("saturate", saturate, unit="R", label="a push that saturates"))
