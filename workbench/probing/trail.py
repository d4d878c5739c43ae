"""The slider of the ridge probe: from the probe's weight to the difference in means, as directions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from workbench.errors import ProbeError
from workbench.probing.solvers import Design
from workbench.steering import Direction

if TYPE_CHECKING:
    from workbench.activations import Activations

Array = np.ndarray


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
    return ridge_trails(acts, layer, strengths, classes=[class_], target=target, site=site)[class_]


def ridge_trails(
    acts: Activations,
    layer: int,
    strengths: Sequence[float],
    *,
    classes: Sequence[str] | None = None,
    target: str = "genre",
    site: str = "resid_post",
) -> dict[str, tuple[Direction, ...]]:
    """Return the trail of each class (all when None), from one decomposition; raise as `ridge_trail` does."""
    names, y = acts.numbered(target)
    classes = list(names if classes is None else classes)
    for class_ in classes:
        if class_ not in names or len(names) < 2:
            found = f"the values of {target!r} are {', '.join(names)}"
            do = "Use one of at least two"
            raise ProbeError(f"A trail of {class_!r} was asked for", found, do)
    if not (len(strengths) and all(one > 0 for one in strengths)):
        found = "a strength is a number above 0"
        raise ProbeError(f"The strengths {list(strengths)} were asked for", found, "Use such numbers")
    x = acts.matrix(layer, site=site).astype(np.float64)
    truth = (np.array(names)[y][:, None] == np.array(classes)).astype(np.float64)
    weights = trail_weights(Design.of(x), truth, strengths)
    return {
        class_: tuple(
            Direction(
                vector.astype(np.float32),
                layer,
                site,
                name=class_,
                residual_norm=float(acts.data["residual_norm"].sel(layer=layer)),
                centre=float(x.mean(0) @ vector),
                origin=_origin(acts, target, strength),
            ).unit()
            for vector, strength in zip(weights[:, number], strengths, strict=True)
        )
        for number, class_ in enumerate(classes)
    }


def trail_weights(design: Design, truth: Array, strengths: Sequence[float]) -> Array:
    """Return raw weights (strengths, m, d) of ridge for columns of `truth` (n, m).

    Each is the ridge solution times strength n, so that it does not shrink to nothing on the way to
    math.inf; only its direction is meant.
    """
    seen = design.axes.z.T @ (truth - truth.mean(0))
    steps = [seen / (design.axes.spread / one / len(truth) + 1)[:, None] for one in strengths]
    columns = np.hstack(steps)
    weights, _ = design.turn_back(columns, np.zeros(columns.shape[1]))
    return np.asarray(weights.reshape(len(strengths), truth.shape[1], -1))


def _origin(acts: Activations, target: str, strength: float) -> dict[str, str]:
    endless = "difference in means of standardised features"
    return {
        "method": endless if math.isinf(strength) else "probe weight, ridge",
        "target": target,
        "strength": f"{strength:g}",
        "model_id": str(acts.data.attrs.get("model_id", "")),
        "dataset_fingerprint": str(acts.data.attrs.get("dataset_fingerprint", "")),
    }
