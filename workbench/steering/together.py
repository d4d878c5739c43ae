"""Several directions together: one after another in time, over layers, at right angles, or at random."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.errors import SteeringError
from workbench.steering.operations import OPERATIONS, find_operation
from workbench.steering.plan import Direction, Steering, random_direction
from workbench.steering.schedule import Schedule, constant, fade, ramp

if TYPE_CHECKING:
    from workbench.activations import Activations

METHODS = ("gram-schmidt", "symmetric")
_APART = 1_000_003  # seeds of the directions of one plan: no other control meets them


def difference_in_means(
    acts: Activations, class_: str, *, target: str = "genre", layer: int, site: str = "resid_post"
) -> Direction:
    """Return the unit vector along mean(x | class) - mean(x | not class): the plainest direction.

    `class_` is a value of the label `target`. Raises SteeringError when no clip has it, or all have it.
    """
    names, y = acts.numbered(target)
    inside = np.array(names)[y] == class_
    if not inside.any() or inside.all():
        found = f"the activations hold these values of {target!r}: {', '.join(names)}"
        asked = f"The difference in means of {class_!r} was asked for"
        raise SteeringError(asked, found, "Use one of at least two")
    x = acts.matrix(layer, site=site).astype(np.float64)
    difference = x[inside].mean(0) - x[~inside].mean(0)
    origin = {
        "method": "difference in means",
        "model_id": str(acts.data.attrs.get("model_id", "")),
        "dataset_fingerprint": str(acts.data.attrs.get("dataset_fingerprint", "")),
        "distance": f"{np.linalg.norm(difference):.6g}",
        "samples": f"{inside.sum()} against {(~inside).sum()}",
    }
    norm, centre = float(acts.data["residual_norm"].sel(layer=layer)), float(x.mean(0) @ difference)
    vector = difference.astype(np.float32)
    made = Direction(vector, layer, site, name=class_, residual_norm=norm, centre=centre, origin=origin)
    return made.unit()


def crossfade(a: Steering, b: Steering, start_s: float, end_s: float) -> Steering:
    """Return the plan that is `a` until `start_s`, `b` from `end_s` on, and a mixture on the way.

    The terms of `a` get `fade(start_s, end_s)`, those of `b` `ramp(start_s, end_s)`. A plan with a schedule
    of its own is refused: a product of two schedules has no text.

    >>> jazz, rock = (Direction(np.eye(2)[n], 0, name=name, residual_norm=1.0)
    ...               for n, name in enumerate(("jazz", "rock")))
    >>> print(crossfade(jazz.at(0.2), rock.at(0.3), 2, 6))
    0.2*jazz@0 | fade(2s,6s) | cond ; 0.3*rock@0 | ramp(2s,6s) | cond
    """
    return _scheduled(a, fade(start_s, end_s)) + _scheduled(b, ramp(start_s, end_s))


def _scheduled(plan: Steering, schedule: Schedule) -> Steering:
    if any(term.schedule != constant() for term in plan.terms):
        asked, found = f"A crossfade of {plan} was asked for", "it has a schedule of its own"
        do = "Use plans with the constant schedule, or write the schedules yourself"
        raise SteeringError(asked, found, do)
    return Steering(tuple(replace(term, schedule=schedule) for term in plan.terms))


def split_dose(
    directions: Mapping[int, Direction] | Sequence[Direction],
    dose: float,
    weights: Sequence[float] | None = None,
    **settings: Any,
) -> Steering:
    """Return the plan that shares one dose among directions of several layers, in rising order of layers.

    The directions are of one quality, one per layer (a mapping's keys are those layers). Each gets dose x
    weight / sum |weights|, with equal weights when None. `settings` are those of `Direction.at`; operations
    with a target are refused.
    """
    of_layers = list(directions.values() if isinstance(directions, Mapping) else directions)
    shares = np.ones(len(of_layers)) if weights is None else np.asarray(weights, dtype=np.float64)
    operation, layers = find_operation(settings.get("operation", "add")), [one.layer for one in of_layers]
    problem = None
    if not of_layers or len(set(layers)) < len(layers):
        problem = f"the layers are {layers}", "Give one direction per layer, at least one"
    elif isinstance(directions, Mapping) and list(directions) != layers:
        problem = f"layers {list(directions)} hold directions of {layers}", "Give each its own layer as key"
    elif shares.shape != (len(layers),) or not (np.isfinite(shares).all() and np.abs(shares).sum() > 0):
        problem = f"the weights are {shares.tolist()}", "Give one number per direction, not all 0"
    elif operation.has_target:
        pushes = ", ".join(name for name, one in OPERATIONS.items() if not one.has_target)
        problem = f"{operation.name} has no dose to share", f"Use one of {pushes}"
    if problem:
        raise SteeringError(f"A dose of {dose:g} over {len(layers)} layers was asked for", *problem)
    shares = shares / np.abs(shares).sum()
    shared = sorted(zip(of_layers, shares.tolist(), strict=True), key=lambda one: one[0].layer)
    plans = [direction.at(dose * share, **settings) for direction, share in shared]
    return Steering(tuple(term for plan in plans for term in plan.terms))


def orthogonalise(directions: Sequence[Direction], *, method: str = "gram-schmidt") -> tuple[Direction, ...]:
    """Return unit directions at right angles to each other, in the order given, names and R kept.

    By "gram-schmidt" the first keeps its place, each later one loses what it shares with those before; by
    "symmetric" (Loewdin 1950) all move as little as possible, in no order: V <- (V V')^-1/2 V. Directions of
    different places are refused, and such that do not span as many dimensions.
    """
    if method not in METHODS:
        asked = f"The method {method!r} was asked for"
        raise SteeringError(asked, f"there are {', '.join(METHODS)}", "Use one")
    if not directions:
        return ()
    units = [direction.unit() for direction in directions]
    for other in units[1:]:
        units[0].cosine(other)  # refuses directions of different places
    v = np.array([unit.vector for unit in units], dtype=np.float64)
    left, sizes, _right = np.linalg.svd(v, full_matrices=False)
    if len(sizes) < len(units) or sizes.min() < 1e-5:
        asked = f"{', '.join(unit.name for unit in units)} were to be made orthogonal"
        raise SteeringError(asked, "some of them can be made of the others", "Leave one out")
    if method == "symmetric":
        mix = left @ np.diag(1 / sizes) @ left.T
    else:  # V = L Q with orthonormal rows Q: Gram-Schmidt divides by L
        mix = np.linalg.inv(np.linalg.cholesky(v @ v.T))
    centres = np.array([unit.centre for unit in units])
    made = []
    for unit, row in zip(units, mix, strict=True):
        origin = {**unit.origin, "orthogonal_to": ", ".join(one.name for one in units if one is not unit)}
        vector, centre = (row @ v).astype(np.float32), float(row @ centres)
        made.append(replace(unit, vector=vector, centre=centre, origin=origin).unit())
    return tuple(made)


def randomised(plan: Steering, seed: int) -> Steering:
    """Return the control of a plan: a random direction of equal norm in place of each, all else unchanged."""
    places = {one: place for place, one in enumerate(dict.fromkeys(term.direction for term in plan.terms))}
    controls = {one: random_direction(one, seed + _APART * place) for one, place in places.items()}
    return Steering(tuple(replace(term, direction=controls[term.direction]) for term in plan.terms))
