"""The slider of the ridge probe: from the probe's weight to the difference in means, as directions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from workbench.errors import ProbeError, message
from workbench.probing.solvers import Design
from workbench.steering import Direction

if TYPE_CHECKING:
    from workbench.activations import Activations


def ridge_trail(
    acts: Activations,
    layer: int,
    class_: str,
    strengths: Sequence[float],
    *,
    target: str = "genre",
    site: str = "resid_post",
) -> tuple[Direction, ...]:
    """Return the unit direction of a class at every strength, in the order given, from one decomposition.

    strengths  L2 penalties (solvers.py) above 0; at math.inf stands what they tend to: the difference in
               means of the standardised features, folded back to raw space as all the others are

    Raises ProbeError for a class that is not held, or that all samples are of, and for a strength that is no
    number above 0.
    """
    labels = acts.labels(target).astype(str)
    inside = (labels == class_).astype(np.float64)
    if not 0 < inside.mean() < 1:
        found = f"the values of {target!r} are {', '.join(np.unique(labels).tolist())}"
        raise ProbeError(message(f"A trail of {class_!r} was asked for", found, "Use one of at least two"))
    if not (len(strengths) and all(one > 0 for one in strengths)):
        found = "a strength is a number above 0"
        raise ProbeError(
            message(f"The strengths {list(strengths)} were asked for", found, "Use such numbers")
        )
    x = acts.matrix(layer, site=site).astype(np.float64)
    design = Design.of(x)
    seen = design.axes.z.T @ (inside - inside.mean())
    steps = [seen / (design.axes.spread / one / len(x) + 1) for one in strengths]
    weights, _ = design.turn_back(np.stack(steps, 1), np.zeros(len(steps)))
    return tuple(
        Direction(
            vector.astype(np.float32),
            layer,
            site,
            name=class_,
            residual_norm=float(acts.data["residual_norm"].sel(layer=layer)),
            centre=float(x.mean(0) @ vector),
            origin=_origin(acts, target, strength),
        ).unit()
        for vector, strength in zip(weights, strengths, strict=True)
    )


def _origin(acts: Activations, target: str, strength: float) -> dict[str, str]:
    endless = "difference in means of standardised features"
    return {
        "method": endless if math.isinf(strength) else "probe weight, ridge",
        "target": target,
        "strength": f"{strength:g}",
        "model_id": str(acts.data.attrs.get("model_id", "")),
        "dataset_fingerprint": str(acts.data.attrs.get("dataset_fingerprint", "")),
    }
