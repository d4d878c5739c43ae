"""Directions from means and pairs, and several together: in time, over layers, at random, as others do.

`PRESETS` are the plans of published systems, by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.errors import SteeringError
from workbench.steering.operations import OPERATIONS, find_operation
from workbench.steering.plan import Direction, Steering, random_direction
from workbench.steering.schedule import Gate, ReadOut, Schedule, constant, fade, pulse, ramp

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
    x, inside = _sides(acts, class_, target, layer, site)
    difference = x[inside].mean(0) - x[~inside].mean(0)
    facts = {"method": "difference in means", "distance": f"{np.linalg.norm(difference):.6g}"}
    facts["samples"] = f"{inside.sum()} against {(~inside).sum()}"
    return _along(acts, difference, x, facts, layer=layer, site=site, name=class_)


def pair_pca(
    acts: Activations, class_: str, *, target: str = "genre", layer: int, site: str = "resid_post"
) -> Direction:
    """Return the unit vector along the first principal component of differences between paired samples.

    One of a pair has the class, the other has not. Samples of one clip are paired, such as one clip under two
    texts, whose own part cancels out; where no clip has both, each sample with every other. Pairs count in
    both orders (Zou et al. 2023, arXiv 2310.01405): centring then takes nothing away. It points to the class.

    >>> from workbench.activations import Activations
    >>> samples = {"clip": list("aabb"), "group": list("aabb"), "label_genre": ["jazz", "rock"] * 2}
    >>> x = np.array([[5, 1], [5, 0], [-7, 1], [-7, 0]])[:, None]
    >>> acts = Activations.from_arrays({"resid_post": x}, layers=[0], samples=samples)
    >>> pair_pca(acts, "jazz", layer=0).vector.round(3).tolist()
    [0.0, 1.0]
    """
    x, inside = _sides(acts, class_, target, layer, site)
    shared = np.intersect1d(acts.clips[inside], acts.clips[~inside])
    rows, pairs = [], 0
    for block in [acts.clips == clip for clip in shared] or [np.ones(len(x), bool)]:
        a, b = x[block & inside], x[block & ~inside]
        pairs += (count := len(a) * len(b))
        # The sum over pairs of (a - b)(a - b)' is that over these rows, of which there are far fewer.
        rows += [len(b) ** 0.5 * (a - a.mean(0)), len(a) ** 0.5 * (b - b.mean(0))]
        rows += [count**0.5 * (a.mean(0) - b.mean(0))[None]]
    axis = np.linalg.svd(np.concatenate(rows), full_matrices=False)[2][0]
    axis *= np.sign(axis @ (x[inside].mean(0) - x[~inside].mean(0))) or 1.0
    facts = {"method": "pair PCA", "pairs": str(pairs)}
    return _along(acts, axis, x, facts, layer=layer, site=site, name=class_)


def _sides(
    acts: Activations, class_: str, target: str, layer: int, site: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return the samples (n, d) of a layer, and whether each has the class (n,)."""
    names, y = acts.numbered(target)
    inside = np.array(names)[y] == class_
    if not inside.any() or inside.all():
        found = f"the activations hold these values of {target!r}: {', '.join(names)}"
        raise SteeringError(f"A direction of {class_!r} was asked for", found, "Use one of at least two")
    return acts.matrix(layer, site=site).astype(np.float64), inside


def _along(
    acts: Activations, vector: np.ndarray, x: np.ndarray, facts: dict[str, str], **place: Any
) -> Direction:
    """Return the unit direction of a vector (d,) at a place, with what the samples x (n, d) say of it."""
    norm, known = acts.origin(place["layer"])
    more: dict[str, Any] = {"residual_norm": norm, "centre": float(x.mean(0) @ vector)}
    return Direction(vector, **place, **more, origin=facts | known).unit()


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
    return sum((direction.at(dose * share, **settings) for direction, share in shared), Steering())


def genre_paper(directions: Sequence[Direction], dose: float = 0.5) -> Steering:
    """Return the genre paper's plan (arXiv 2506.10225): h <- (h + a |h| v) / (1 + a) at every 25th step.

    Conditional branch, a from 0.3 to 0.7, at one layer as published; its probe is the method "unit-ridge".

    >>> print(genre_paper([Direction(np.array([0.6, 0.8]), 19, name="jazz", residual_norm=10.0)]))
    norm_scaled_add(0.5*jazz@19) | pulse(25 steps) | cond
    """
    return _each(directions, dose, operation="norm_scaled_add", schedule=pulse(every_steps=25))


def musicrfm(
    directions: Sequence[Direction], dose: float = 0.05, *, schedule: Schedule | None = None
) -> Steering:
    """Return MusicRFM's plan (arXiv 2510.19127): h <- h + 0.95^i eta(t) v, at each step with chance 0.3.

    One direction per layer, the layer that is read best first (i = 0). Both branches are pushed, by draws of
    their own. eta is dose x schedule; the published decay of 0.998 a step is `decay(6.92)` at 50 steps a
    second. The published strength 0.6 counts lengths of v, a dose mean residual norms.
    """
    return _each(directions, dose, 0.95, chance=0.3, branch="both", schedule=schedule)


def smitin(
    directions: Sequence[Direction], dose: float, read_out: ReadOut, class_: str, *, below: float = 0.9
) -> Steering:
    """Return a plan that monitors itself as SMITIN (arXiv 2404.02252): push while P(class) reads below this.

    `read_out` is `probe.read_out()`, averaged over the last second. SMITIN pushes single attention heads:
    pass directions at `head_out` (`Direction.head`).
    """
    return _each(directions, dose, gate=Gate(read_out, class_, "below", below))


def means_everywhere(directions: Sequence[Direction], dose: float = 0.05) -> Steering:
    """Return the plan that adds a difference in means at every layer: h <- h + a R v, one direction each.

    Contrastive activation addition in all layers, as TADA (arXiv 2602.11910) compares with.
    """
    return _each(directions, dose)


PRESETS: Mapping[str, Callable[..., Steering]] = {
    "genre paper": genre_paper, "MusicRFM": musicrfm, "SMITIN": smitin, "means everywhere": means_everywhere
}  # fmt: skip
"""Plans as published systems steer, by name; each takes directions and a dose, and names its source."""


Way = Callable[[Sequence[Direction], float], Steering]
WAYS: Mapping[str, Way] = {
    "norm-scaled add": lambda some, dose: some[0].at(dose, operation="norm_scaled_add"),
    "norm kept": lambda some, dose: some[0].at(dose, operation="keep_norm"),
    "both branches": lambda some, dose: some[0].at(dose, branch="both"),
    "one dose over the layers": split_dose,
    "the dose at each layer": means_everywhere,
    "the genre paper's pulses": lambda some, dose: genre_paper(some[:1], dose),
    "MusicRFM's schedule": musicrfm,
}
"""What else can be done at a dose with directions of one quality, one per layer, than to add the first."""


def _each(directions: Sequence[Direction], dose: float, fall: float = 1.0, **settings: Any) -> Steering:
    if not directions:
        raise SteeringError("A preset was asked for", "no direction was given", "Give at least one")
    return sum((one.at(dose * fall**place, **settings) for place, one in enumerate(directions)), Steering())


def orthogonalise(directions: Sequence[Direction], *, method: str = "gram-schmidt") -> tuple[Direction, ...]:
    """Return unit directions at right angles to each other, in the order given, names and R kept.

    By "gram-schmidt" the first keeps its place, each later one loses what it shares with those before; by
    "symmetric" (Loewdin 1950) all move as little as possible, in no order: V <- (V V')^-1/2 V. Directions of
    different places are refused, and such that do not span as many dimensions.
    """
    SteeringError.among(method, METHODS, "The method")
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
