"""Groups of directions for the steering lab: their names, their layers, and how they were found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workbench.errors import SteeringError
from workbench.probing.sweep import ProbeSweep
from workbench.steering.direction import Direction

GIVEN = "as given"
ALONE = "directions"


@dataclass(frozen=True, eq=False)
class Group:
    """Directions of one quality, such as genre: given one by one, or read from probes of every layer.

    sweeps  how they were found -> probes; empty where directions were given
    given   name -> direction; empty where probes were given
    """

    name: str
    sweeps: Mapping[str, ProbeSweep]
    given: Mapping[str, Direction]

    @property
    def names(self) -> tuple[str, ...]:
        """What can be steered."""
        return tuple(self.given) or next(iter(self.sweeps.values())).classes

    @property
    def methods(self) -> tuple[str, ...]:
        """The ways in which its directions were found."""
        return tuple(self.sweeps) or (GIVEN,)

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers to choose from; none where every direction has its own."""
        held = [set(sweep.layers) for sweep in self.sweeps.values()]
        return tuple(sorted(set.intersection(*held))) if held else ()

    def by_layer(self, name: str, method: str) -> dict[int, Direction]:
        """Return the directions of one name by layer; of given ones there is one."""
        if not self.sweeps:
            return {self.given[name].layer: self.given[name]}
        return {layer: self.sweeps[method][layer].direction(name) for layer in self.layers}


def groups_of(directions: Any) -> list[Group]:
    """Return the groups of what a lab was given.

    Args:
        directions: group -> name -> Direction; group -> ProbeSweep; group -> how it was found -> ProbeSweep;
            or just name -> Direction, which is one group.

    Raises:
        SteeringError: there is nothing, something of another kind, or one name stands in two groups.
    """
    if isinstance(directions, ProbeSweep):
        directions = {directions.target: directions}
    if isinstance(directions, Mapping) and directions and _all(directions, Direction):
        directions = {ALONE: directions}
    if not isinstance(directions, Mapping) or not directions:
        raise _refusal(f"{type(directions).__name__} holds no direction")
    groups = [_group(str(name), held) for name, held in directions.items()]
    names = [name for group in groups for name in group.names]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise _refusal(f"{', '.join(twice)} stands in two groups")
    return groups


def _group(name: str, held: Any) -> Group:
    if isinstance(held, ProbeSweep):
        return Group(name, {held.method: held}, {})
    if isinstance(held, Mapping) and held and _all(held, Direction):
        return Group(name, {}, dict(held))
    if isinstance(held, Mapping) and held and _all(held, ProbeSweep):
        group = Group(name, dict(held), {})
        if group.layers and len({sweep.classes for sweep in held.values()}) == 1:
            return group
        raise _refusal(f"the probes of {name!r} share no layer, or know different classes")
    raise _refusal(f"{name!r} holds no directions and no probes")


def _all(held: Mapping[Any, Any], kind: type) -> bool:
    return all(isinstance(one, kind) for one in held.values())


def _refusal(found: str) -> SteeringError:
    do = 'Give {"genre": probes, "tempo": {"slow": direction, ...}}, every name once'
    return SteeringError("A steering lab was asked for", found, do)
