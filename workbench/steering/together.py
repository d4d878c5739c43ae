"""Several directions together: one after another in time, over layers, at right angles, or at random."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.errors import SteeringError
from workbench.steering.operations import PUSHES
from workbench.steering.plan import Direction, Steering, random_direction
from workbench.steering.schedule import Schedule, constant, fade, ramp

if TYPE_CHECKING:
    from workbench.activations import Activations

# The difference in means: the plainest direction, and often the stronger one.


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


_APART = 1_000_003  # seeds of the directions of one plan: no other control meets them
METHODS = ("gram-schmidt", "symmetric")


def crossfade(a: Steering, b: Steering, start_s: float, end_s: float) -> Steering:
    """Return the plan that is `a` until `start_s`, `b` from `end_s` on, and a mixture on the way.

    a, b  plans whose schedules are constant: their terms get `fade(start_s, end_s)` and `ramp(...)`

    Raises SteeringError for a plan with a schedule of its own: a product of two schedules has no text.
    """
    return _scheduled(a, fade(start_s, end_s)) + _scheduled(b, ramp(start_s, end_s))


def _scheduled(plan: Steering, schedule: Schedule) -> Steering:
    if any(term.schedule != constant() for term in plan.terms):
        raise SteeringError(
            f"A crossfade of {plan} was asked for",
            "it has a schedule of its own",
            "Use plans with the constant schedule, or write the schedules yourself",
        )
    return Steering(tuple(replace(term, schedule=schedule) for term in plan.terms))


def split_dose(
    directions: Mapping[int, Direction] | Sequence[Direction],
    dose: float,
    weights: Sequence[float] | None = None,
    **settings: Any,
) -> Steering:
    """Return the plan that shares one dose among directions of several layers, in rising order of layers.

    directions  of one quality, one per layer (a mapping's keys are those layers)
    dose        the sum of the shares' sizes
    weights     one per direction, in the order given: each gets dose x weight / sum |weights|; equal when
                None
    settings    those of `Direction.at`: schedule, operation, rows, chance, gate

    Raises SteeringError for no directions, two of one layer, weights that do not fit, and operations without
    a dose that could be shared (remove, clamp).
    """
    held = list(directions.values() if isinstance(directions, Mapping) else directions)
    shares = np.ones(len(held)) if weights is None else np.asarray(weights, dtype=np.float64)
    problem = _unshareable(directions, held, shares, settings.get("operation", "add"))
    if problem:
        raise SteeringError(f"A dose of {dose:g} over {len(held)} layers was asked for", *problem)
    shares = shares / np.abs(shares).sum()
    plans = [
        direction.at(dose * float(share), **settings) for direction, share in zip(held, shares, strict=True)
    ]
    return Steering(tuple(sorted((term for plan in plans for term in plan.terms), key=lambda t: t.at_layer)))


def _unshareable(
    directions: object, held: Sequence[Direction], shares: np.ndarray, operation: str
) -> tuple[str, str] | None:
    """Return (found, do) when a dose cannot be shared."""
    layers = [direction.layer for direction in held]
    if not held or len(set(layers)) < len(layers):
        return f"the layers are {layers}", "Give one direction per layer, at least one"
    if isinstance(directions, Mapping) and list(directions) != layers:
        return f"layers {list(directions)} hold directions of {layers}", "Give each its own layer as key"
    if shares.shape != (len(held),) or not (np.isfinite(shares).all() and np.abs(shares).sum() > 0):
        return f"the weights are {shares.tolist()}", "Give one number per direction, not all 0"
    if operation not in PUSHES:
        return f"{operation} has no dose to share", f"Use one of {', '.join(sorted(PUSHES))}"
    return None


def orthogonalise(directions: Sequence[Direction], *, method: str = "gram-schmidt") -> tuple[Direction, ...]:
    """Return unit directions at right angles to each other, in the order given, names and R kept.

    method  "gram-schmidt": the first keeps its place, each later one loses what it shares with those before;
            "symmetric" (Loewdin 1950): all move as little as possible together, no order matters, V <-
            (V V')^-1/2 V

    Raises SteeringError for directions of different places and for such that do not span as many dimensions.
    """
    if method not in METHODS:
        raise SteeringError(
            f"The method {method!r} was asked for", f"there are {', '.join(METHODS)}", "Use one"
        )
    if not directions:
        return ()
    units = [direction.unit() for direction in directions]
    for other in units[1:]:
        units[0].cosine(other)  # refuses directions of different places
    v = np.array([unit.vector for unit in units], dtype=np.float64)
    left, sizes, _right = np.linalg.svd(v, full_matrices=False)
    if len(sizes) < len(units) or sizes.min() < 1e-5:
        raise SteeringError(
            f"{', '.join(unit.name for unit in units)} were to be made orthogonal",
            "some of them can be made of the others",
            "Leave one out",
        )
    mix = left @ np.diag(1 / sizes) @ left.T if method == "symmetric" else np.linalg.inv(_lower(v))
    return tuple(_mixed(unit, units, row) for unit, row in zip(units, mix, strict=True))


def randomised(plan: Steering, seed: int) -> Steering:
    """Return the control of a plan: a random direction of equal norm in place of each, all else unchanged."""
    places = {one: place for place, one in enumerate(dict.fromkeys(term.direction for term in plan.terms))}
    terms = [
        replace(term, direction=random_direction(term.direction, seed + _APART * places[term.direction]))
        for term in plan.terms
    ]
    return Steering(tuple(terms))


def _lower(v: np.ndarray) -> np.ndarray:
    """Return L of V = L Q with orthonormal rows Q, its diagonal positive: what Gram-Schmidt divides by."""
    return np.asarray(np.linalg.cholesky(v @ v.T))


def _mixed(unit: Direction, units: Sequence[Direction], row: np.ndarray) -> Direction:
    """Return `unit` with the vector and centre of the mixture `row` of `units`, at length 1."""
    vector = row @ np.array([one.vector for one in units], dtype=np.float64)
    centre = float(row @ np.array([one.centre for one in units]))
    others = ", ".join(one.name for one in units if one is not unit)
    origin = {**unit.origin, "orthogonal_to": others}
    made = replace(unit, vector=vector.astype(np.float32), centre=centre, origin=origin)
    return made.unit()
