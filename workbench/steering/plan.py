"""What to do to the model while it plays: immutable terms that can be written down and read back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from workbench.errors import SteeringError, message
from workbench.steering import grammar
from workbench.steering.schedule import parse_schedule
from workbench.steering.term import Term

if TYPE_CHECKING:
    from workbench.steering.direction import Direction

__all__ = ["Steerable", "Steering", "Term"]


class Steerable(Protocol):
    """What `Steering.check` needs to know of a model."""

    @property
    def id(self) -> str:
        """The name that directions carry in their origin."""

    @property
    def layers(self) -> range:
        """The decoder blocks, counted from 0."""

    @property
    def d_model(self) -> int:
        """The width of the residual stream."""


@dataclass(frozen=True)
class Steering:
    """A plan: terms that act in order. Plans join with `+`, and `-` joins the opposite of a plan's pushes.

    `Steering(x)` also takes another Steering, one Term, or any mixture of both in a sequence.
    """

    terms: tuple[Term, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "terms", tuple(_flat(self.terms)))

    def __add__(self, other: Steering) -> Steering:
        return Steering(self.terms + other.terms)

    def __sub__(self, other: Steering) -> Steering:
        return self + -other

    def __neg__(self) -> Steering:
        return Steering(tuple(-term for term in self.terms))

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that are touched, in rising order."""
        return tuple(sorted({term.at_layer for term in self.terms}))

    def at_layer(self, layer: int) -> tuple[Term, ...]:
        """Return the terms that act at one layer, in order."""
        return tuple(term for term in self.terms if term.at_layer == layer)

    @property
    def directions(self) -> dict[str, Direction]:
        """Every direction used, by the name in `text()`; `parse` and `from_json` take this mapping."""
        return {_key(_written(term, self._marks)): term.direction for term in self.terms}

    def text(self) -> str:
        """Return the canonical text, e.g. `0.8*jazz@5 - 0.4*rock@5 | ramp(2s,6s) | cond` (grammar.py)."""
        return grammar.write([_written(term, self._marks) for term in self.terms])

    def __str__(self) -> str:
        return self.text()

    @classmethod
    def parse(cls, text: str, directions: Mapping[str, Direction]) -> Steering:
        """Return the plan that `text` writes, its names looked up in `directions`.

        A name is looked up as `name@layer`, then as `name`; the direction must have been made at that layer.
        Raises SteeringError, with the place in the text, for bad text and unknown names.
        """
        return cls(tuple(_resolved(term, text, directions) for term in grammar.read(text)))

    def to_json(self) -> str:
        """Return the plan as JSON text in which directions stand by name and fingerprint."""
        return json.dumps([_as_json(term) for term in self.terms], ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str, directions: Mapping[str, Direction] | Iterable[Direction]) -> Steering:
        """Return the plan that `to_json` wrote; directions are found by fingerprint."""
        held = directions.values() if isinstance(directions, Mapping) else directions
        by_fingerprint = {direction.fingerprint: direction for direction in held}
        try:
            return cls(tuple(_from_json(item, by_fingerprint) for item in json.loads(text)))
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise SteeringError(
                message(
                    "A plan was asked for from JSON",
                    f"the text is not one ({error!r})",
                    "Pass Steering.to_json()",
                )
            ) from error

    @cached_property
    def _marks(self) -> dict[str, str]:
        """Fingerprint -> the digits that tell it from others of its name and layer, if there are any."""
        unique = {
            term.direction.fingerprint: (term.direction.name, term.direction.layer) for term in self.terms
        }
        places = list(unique.values())
        return {found: found[:12] if places.count(place) > 1 else "" for found, place in unique.items()}

    def check(self, model: Steerable) -> None:
        """Raise SteeringError where the plan does not fit `model`: layer, width, another model's vector."""
        for term in self.terms:
            problem = _misfit(term, model)
            if problem:
                raise SteeringError(
                    message(
                        f"{term.direction.name!r} was to act at layer {term.at_layer} of {model.id}", *problem
                    )
                )


def _flat(parts: object) -> Iterable[Term]:
    """Yield the terms of a Term, a Steering, or a sequence of them."""
    if isinstance(parts, Term):
        yield parts
    elif isinstance(parts, Steering):
        yield from parts.terms
    elif isinstance(parts, list | tuple):
        for part in parts:
            yield from _flat(part)
    else:
        raise SteeringError(
            message(
                "A plan was asked for", f"{type(parts).__name__} is no part of one", "Use direction.at(dose)"
            )
        )


def _written(term: Term, marks: Mapping[str, str]) -> grammar.TermText:
    """Return a term as text knows it."""
    direction = term.direction
    mark = marks[direction.fingerprint]
    place = (direction.name, mark, direction.layer, term.at_layer)
    return grammar.TermText(*place, term.dose, term.operation, term.schedule, term.rows)


def _key(term: grammar.TermText) -> str:
    """Return the name under which `Steering.directions` holds the direction of a term."""
    return f"{term.name}#{term.mark}@{term.made_at}" if term.mark else f"{term.name}@{term.made_at}"


def _resolved(term: grammar.TermText, text: str, directions: Mapping[str, Direction]) -> Term:
    """Return the term that `term` writes, with its direction looked up."""
    where = f"At character {term.position + 1} of {text!r} {_key(term)!r} was asked for"
    direction = (
        directions.get(_key(term))
        or directions.get(f"{term.name}@{term.made_at}")
        or directions.get(term.name)
    )
    if term.mark and (direction is None or not direction.fingerprint.startswith(term.mark)):
        direction = next((d for d in directions.values() if d.fingerprint.startswith(term.mark)), None)
    if direction is None:
        held = ", ".join(directions) or "none"
        raise SteeringError(message(where, f"the directions given are: {held}", "Use one of those names"))
    if direction.layer != term.made_at:
        found = f"the direction given was made at layer {direction.layer}"
        do = f"Write @{direction.layer}>{term.made_at} to apply it at layer {term.made_at} on purpose"
        raise SteeringError(message(where, found, do))
    return Term(direction, term.dose, term.schedule, term.operation, term.applied_at, term.rows)


def _as_json(term: Term) -> dict[str, str | float | int]:
    return {
        "direction": term.direction.name,
        "fingerprint": term.direction.fingerprint,
        "dose": term.dose,
        "operation": term.operation,
        "schedule": term.schedule.text(),
        "rows": term.rows,
        "layer": term.at_layer,
    }


def _from_json(item: Mapping[str, Any], directions: Mapping[str, Direction]) -> Term:
    direction = directions.get(item["fingerprint"])
    if direction is None:
        raise SteeringError(
            message(
                f"The direction {item['direction']!r} with fingerprint {item['fingerprint']} was asked for",
                f"the directions given are: {', '.join(d.name for d in directions.values()) or 'none'}",
                "Load the direction that the plan was made with (Direction.load)",
            )
        )
    schedule = parse_schedule(item["schedule"])
    return Term(direction, item["dose"], schedule, item["operation"], item["layer"], item["rows"])


def _misfit(term: Term, model: Steerable) -> tuple[str, str] | None:
    """Return (found, do) when a term cannot act on this model."""
    made_for = term.direction.origin.get("model_id", "")
    width = term.direction.vector.shape[0]
    if made_for and made_for != model.id:
        return (
            f"the direction was made for the model {made_for!r}",
            "Make a direction from this model's activations",
        )
    if width != model.d_model:
        return (
            f"it has {width} numbers where the model has {model.d_model}",
            "Use a direction made for this model",
        )
    if term.at_layer not in model.layers:
        return f"the model has layers {model.layers[0]}-{model.layers[-1]}", "Use one of model.layers"
    return None
