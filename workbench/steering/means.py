"""The difference in means: the plainest direction, and often the stronger one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workbench.errors import SteeringError
from workbench.steering.direction import Direction

if TYPE_CHECKING:
    from workbench.activations import Activations


def difference_in_means(
    acts: Activations, class_: str, *, target: str = "genre", layer: int, site: str = "resid_post"
) -> Direction:
    """Return the unit vector along mean(x | class) - mean(x | not class) of the activations at `layer`.

    Raises SteeringError when the class is not held, or nothing else is held to compare it with.
    """
    names, y = acts.numbered(target)
    inside = np.array(names)[y] == class_
    if not inside.any() or inside.all():
        raise SteeringError(
            f"The difference in means of {class_!r} was asked for",
            f"the activations hold these values of {target!r}: {', '.join(names)}",
            "Use one of at least two",
        )
    x = acts.matrix(layer, site=site).astype(np.float64)
    difference = x[inside].mean(0) - x[~inside].mean(0)
    origin = {
        "method": "difference in means",
        "model_id": str(acts.data.attrs.get("model_id", "")),
        "dataset_fingerprint": str(acts.data.attrs.get("dataset_fingerprint", "")),
        "distance": f"{np.linalg.norm(difference):.6g}",
        "samples": f"{inside.sum()} against {(~inside).sum()}",
    }
    found = Direction(
        difference.astype(np.float32),
        layer,
        site,
        name=class_,
        residual_norm=float(acts.data["residual_norm"].sel(layer=layer)),
        centre=float(x.mean(0) @ difference),
        origin=origin,
    )
    return found.unit()
