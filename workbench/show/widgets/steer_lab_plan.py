"""From doses and settings to one plan: several directions, perhaps orthogonal, at one layer or at many."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from workbench.steering.direction import Direction
from workbench.steering.gate import Gate
from workbench.steering.plan import Steering
from workbench.steering.schedule import Schedule, constant
from workbench.steering.together import orthogonalise, spread

PLAIN = ""
"""Directions are left as they are."""

WORDS = {"gram-schmidt": "without", "symmetric": "apart from"}
"""What stands in the name of a direction that was made orthogonal to others, by method."""


def plain_name(name: str) -> str:
    """Return the name of a direction before it was made orthogonal to others."""
    for word in WORDS.values():
        name = name.split(f" {word} ")[0]
    return name


@dataclass(frozen=True)
class Way:
    """How, when and where all directions of a plan act.

    angles  PLAIN, or a method of `orthogonalise`
    spread  whether each dose is shared among all layers of its group
    """

    operation: str = "add"
    schedule: Schedule = field(default_factory=constant)
    rows: str = "cond"
    chance: float = 1.0
    gate: Gate | None = None
    angles: str = PLAIN
    spread: bool = False


@dataclass(frozen=True, eq=False)
class Push:
    """A name, its dose, the layer chosen for it, and its directions by layer."""

    name: str
    dose: float
    layer: int
    directions: Mapping[int, Direction]


def plan_of(pushes: Sequence[Push], way: Way) -> Steering | None:
    """Return the plan of all doses that are not 0, None when all are.

    A direction that was made orthogonal is called so: "slow without jazz", or "slow apart from jazz" where
    both gave way. For `clamp` a dose is turned into the projection that it stands for, dose x R.

    Args:
        pushes: in the order in which they act; of directions at right angles the first keeps its place.
        way: how, when and where.

    Raises:
        SteeringError: the settings do not go together, for example a weight above 1 for `remove`.
    """
    chosen = [push for push in pushes if push.dose]
    held = [
        dict(push.directions) if way.spread else {push.layer: push.directions[push.layer]} for push in chosen
    ]
    if way.angles != PLAIN:
        held = _at_right_angles(held, way.angles)
    plans = [_one(mine, push.dose, way) for push, mine in zip(chosen, held, strict=True)]
    terms = tuple(term for plan in plans for term in plan.terms)
    return Steering(terms) if terms else None


def _at_right_angles(held: Sequence[Mapping[int, Direction]], method: str) -> list[dict[int, Direction]]:
    """Return the directions made orthogonal wherever several act at one layer and site."""
    made = [dict(mine) for mine in held]
    places = {(layer, direction.site) for mine in held for layer, direction in mine.items()}
    for layer, site in places:
        there = [mine for mine in made if layer in mine and mine[layer].site == site]
        old = [mine[layer] for mine in there]
        for number, new in enumerate(orthogonalise(old, method=method)):
            others = old[:number] if method == "gram-schmidt" else old[:number] + old[number + 1 :]
            told = ", ".join(other.name for other in others)
            word = WORDS[method]
            there[number][layer] = new.named(f"{new.name} {word} {told}") if others else new
    return made


def _one(held: Mapping[int, Direction], dose: float, way: Way) -> Steering:
    """Return the plan of one direction, its dose shared where there are several layers."""
    settings: dict[str, Any] = {
        name: getattr(way, name) for name in ("schedule", "operation", "rows", "chance", "gate")
    }
    if len(held) > 1:
        plan = spread(held, dose, **settings)
        return Steering(tuple(replace(term, dose=round(term.dose, 4)) for term in plan.terms))
    (direction,) = held.values()
    norm = direction.residual_norm
    if way.operation == "clamp" and math.isfinite(norm):
        dose = round(dose * norm, 3)
    return direction.at(dose, **settings)
