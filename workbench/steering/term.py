"""One term of a plan: a direction, how strongly, when, how, at which layer, on which rows, if at all."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from workbench.errors import SteeringError, is_number, number_or_nan, whole_number
from workbench.steering.operations import OPERATIONS, PUSHES, SCALED
from workbench.steering.plan_text import ROWS, GateText, TermText
from workbench.steering.schedule import Gate, ReadOut, Schedule, constant, parse_schedule, place

if TYPE_CHECKING:
    from workbench.steering.plan import Direction


@dataclass(frozen=True)
class Term:
    """One direction, how strongly, when, how and on which rows.

    dose       multiples of the direction's residual norm (add, keep_norm), a (paper), weight 0-1 (remove) or
               the target projection (clamp)
    layer      where it acts; None means where the direction was made
    rows       "cond" (the prompted half of guidance), "null" (the unprompted half) or "both"
    chance     the probability with which each step acts at all (stochastic injection, MusicRFM, arXiv
               2510.19127): drawn by the row's own seed, so that a run can be repeated; 1 acts always
    gate       steers only while a probe reads below (or above) a threshold; None steers always
    """

    direction: Direction
    dose: float
    schedule: Schedule = field(default_factory=constant)
    operation: str = "add"
    layer: int | None = None
    rows: str = "cond"
    chance: float = field(default=1.0, kw_only=True)
    gate: Gate | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        # + 0.0 turns -0.0 into 0.0, so that every dose has one text.
        object.__setattr__(self, "dose", number_or_nan(self.dose) + 0.0)
        object.__setattr__(self, "chance", number_or_nan(self.chance) + 0.0)
        layer = self.direction.layer if self.layer is None else self.layer
        object.__setattr__(self, "layer", whole_number(layer, "Steering at the layer", SteeringError))
        problem = _problem(self)
        if problem:
            raise SteeringError(
                f"{self.operation} of {self.dose!r} x {self.direction.name!r} was asked for", *problem
            )

    @property
    def at_layer(self) -> int:
        """The layer that this term acts at."""
        return cast(int, self.layer)

    def acts(self, seconds: float, step: int = 0) -> bool:
        """Return whether this term is planned to change anything at `seconds`: factor and dose are not 0.

        Chance and gate, which are known only in a run, are left out.
        """
        return not self.idle and self.schedule.factor(seconds, step) != 0

    @property
    def idle(self) -> bool:
        """Whether its dose says that it never changes anything."""
        return self.dose == 0 and self.operation != "clamp"

    def __neg__(self) -> Term:
        if self.operation not in PUSHES:
            raise SteeringError(
                f"The opposite of {self.operation} was asked for",
                "only pushes (add, paper, keep_norm) have an opposite",
                "Write the term that you mean instead of subtracting this one",
            )
        return replace(self, dose=-self.dose)


def _problem(term: Term) -> tuple[str, str] | None:
    """Return (found, do) when a term cannot be carried out on any model."""
    direction = term.direction
    if not (isinstance(term.operation, str) and term.operation in OPERATIONS):
        return f"the operations are {', '.join(OPERATIONS)}", "Use one of those"
    if term.rows not in ROWS:
        return f"rows {term.rows!r} are unknown", f"Use one of {', '.join(ROWS)}"
    if not is_number(term.dose):
        return "a dose must be a finite number", "Give a number such as 0.6"
    if term.operation == "remove" and not 0 <= term.dose <= 1:
        return "remove takes a weight from 0 to 1", "Use 1.0 to remove the direction, 0.5 for half of it"
    if not is_number(term.chance, 0, 1):
        return f"a chance of {term.chance!r} is no probability", "Use a number from 0 to 1"
    if abs(direction.norm - 1) > 1e-4:
        return f"its norm is {direction.norm:.4g}, not 1", "Call .unit() on the direction first"
    if term.operation in SCALED and not (
        math.isfinite(direction.residual_norm) and direction.residual_norm > 0
    ):
        return (
            f"its residual norm, which a dose is a multiple of, is {direction.residual_norm}",
            "Set it with dataclasses.replace(direction, residual_norm=model.residual_norms()[layer])",
        )
    return None


# Terms to and from what is written: names and fingerprints out, directions and read-outs in again.


class Reads(Protocol):
    """What can be given where a plan's gates are looked up: a ReadOut, or a probe that makes one."""

    def read_out(self) -> ReadOut:
        """The plain linear read-out."""


Probes = Mapping[str, Reads] | Iterable[Reads]
"""Probes by any name (gates are found by class, layer and fingerprint), or just probes."""
Held = TypeVar("Held")
FEW = 20  # directions that an error lists one by one


def values(given: Mapping[str, Held] | Iterable[Held]) -> list[Held]:
    """Return what a mapping or another iterable holds."""
    return list(given.values() if isinstance(given, Mapping) else given)


def fingerprint_suffixes(places: Mapping[str, tuple[str, int]]) -> dict[str, str]:
    """Return fingerprint -> the digits that tell it from others of its name and layer, if there are any."""
    held = Counter(places.values())
    return {found: found[:12] if held[place] > 1 else "" for found, place in places.items()}


def reading(read_outs: Iterable[ReadOut]) -> dict[tuple[str, int], list[ReadOut]]:
    """Return (class, layer) -> the read-outs that read it."""
    found: dict[tuple[str, int], list[ReadOut]] = {}
    for one in read_outs:
        for name in one.classes:
            found.setdefault((name, one.layer), []).append(one)
    return found


def as_text(term: Term, mark: Mapping[str, str], read: Mapping[tuple[str, int], list[ReadOut]]) -> TermText:
    """Return a term as text knows it.

    mark  direction's fingerprint -> digits
    read  (class, layer) -> the distinct read-outs of the whole plan that read it
    """
    direction = term.direction
    place = (direction.name, mark[direction.fingerprint], direction.layer, term.at_layer)
    kept = (term.dose, term.operation, term.schedule, term.rows)
    gate = _gate_text(term.gate, read) if term.gate is not None else None
    return TermText(*place, *kept, chance=term.chance, gate=gate)


def _gate_text(gate: Gate, read: Mapping[tuple[str, int], list[ReadOut]]) -> GateText:
    """Return a gate as text knows it, marked where another read-out knows its class at its layer."""
    own = gate.read_out
    mark = own.fingerprint[:12] if len(read[gate.class_, own.layer]) > 1 else ""
    return GateText(gate.class_, mark, own.layer, gate.side, gate.threshold, gate.over)


@dataclass(frozen=True)
class Named:
    """What the names in a text can mean: directions by name, and read-outs; each is found in one step."""

    directions: Mapping[str, Direction]
    read_outs: Sequence[ReadOut]

    @cached_property
    def reading(self) -> dict[tuple[str, int], list[ReadOut]]:
        """The read-outs of every class at every layer."""
        return reading(self.read_outs)

    @cached_property
    def _marked(self) -> list[tuple[str, str]]:
        """(fingerprint, name) of every direction, sorted."""
        return sorted((one.fingerprint, name) for name, one in self.directions.items())

    def direction(self, term: TermText) -> Direction | None:
        """Return the direction that a term means, or None."""
        names = (term.key, f"{term.name}@{term.made_at}", term.name)
        found = next((self.directions[name] for name in names if name in self.directions), None)
        if not term.mark or (found is not None and found.fingerprint.startswith(term.mark)):
            return found
        after = self._marked[bisect_left(self._marked, (term.mark, "")) :][:1]
        return next((self.directions[name] for mark, name in after if mark.startswith(term.mark)), None)


def from_text(term: TermText, text: str, named: Named) -> Term:
    """Return the term that `term`, a part of `text`, writes, with direction and read-out looked up.

    Raises:
        SteeringError: With the place in the text, for a name that is not held or stands for several.
    """
    direction = named.direction(term)
    if direction is None:
        where = f"{place(text, term.position)} {term.key!r} was asked for"
        raise SteeringError(where, _given(named.directions), "Use one of those names")
    if direction.layer != term.made_at:
        found = f"the direction given was made at layer {direction.layer}"
        do = f"Write @{direction.layer}>{term.made_at} to apply it at layer {term.made_at} on purpose"
        raise SteeringError(f"{place(text, term.position)} {term.key!r} was asked for", found, do)
    gate = _gate(term, text, named) if term.gate is not None else None
    parts = (direction, term.dose, term.schedule, term.operation, term.applied_at, term.rows)
    return Term(*parts, chance=term.chance, gate=gate)


def _given(directions: Mapping[str, Direction]) -> str:
    """Return what the directions given are; many of them by name and layers, which is shorter."""
    if len(directions) <= FEW:
        return f"the directions given are: {', '.join(directions) or 'none'}"
    names = ", ".join(dict.fromkeys(direction.name for direction in directions.values()))
    layers = ", ".join(map(str, sorted({direction.layer for direction in directions.values()})))
    return f"the directions given are: {names}, made at layers {layers}"


def _gate(term: TermText, text: str, named: Named) -> Gate:
    """Return the gate that `term`, a part of `text`, means."""
    written = cast(GateText, term.gate)
    alike = named.reading.get((written.class_, written.layer), [])
    fitting = [one for one in alike if one.fingerprint.startswith(written.mark)]
    if len(fitting) != 1:
        told = [f"{name}@{one.layer}" for one in named.read_outs for name in one.classes]
        found = f"the probes given read: {', '.join(told) or 'nothing'}"
        do = "Give the probe with probes="
        if fitting:
            digits = " or ".join(f"{written.class_}#{one.fingerprint[:12]}@{one.layer}" for one in fitting)
            found, do = f"{len(fitting)} of the probes given read it", f"Write {digits}"
        asked = f"{place(text, term.position)} a gate on {written.key!r} was asked for"
        raise SteeringError(asked, found, do)
    return Gate(fitting[0], written.class_, written.side, written.threshold, written.over)


def as_json(term: Term) -> dict[str, Any]:
    """Return a term as plain JSON values; chance and gate only where they do something."""
    kept: dict[str, Any] = {
        "direction": term.direction.name,
        "fingerprint": term.direction.fingerprint,
        "dose": term.dose,
        "operation": term.operation,
        "schedule": term.schedule.text(),
        "rows": term.rows,
        "layer": term.at_layer,
    }
    if term.chance != 1:
        kept["chance"] = term.chance
    if (gate := term.gate) is not None:
        kept["gate"] = {
            "class": gate.class_,
            "fingerprint": gate.read_out.fingerprint,
            "layer": gate.read_out.layer,
            "side": gate.side,
            "threshold": gate.threshold,
            "over": gate.over,
        }
    return kept


def from_json(
    item: Mapping[str, Any], directions: Mapping[str, Direction], read_outs: Mapping[str, ReadOut]
) -> Term:
    """Return the term that `as_json` wrote; both mappings go from fingerprint to what has it.

    Raises:
        SteeringError: When a direction or read-out is not held.
    """
    direction = directions.get(item["fingerprint"])
    if direction is None:
        raise SteeringError(
            f"The direction {item['direction']!r} with fingerprint {item['fingerprint']} was asked for",
            f"the directions given are: {', '.join(d.name for d in directions.values()) or 'none'}",
            "Load the direction that the plan was made with (Direction.load)",
        )
    schedule = parse_schedule(item["schedule"])
    parts = (direction, item["dose"], schedule, item["operation"], item["layer"], item["rows"])
    gate = _gate_from_json(item["gate"], read_outs) if "gate" in item else None
    return Term(*parts, chance=item.get("chance", 1.0), gate=gate)


def _gate_from_json(item: Mapping[str, Any], read_outs: Mapping[str, ReadOut]) -> Gate:
    read_out = read_outs.get(item["fingerprint"])
    if read_out is None:
        raise SteeringError(
            f"A gate on {item['class']!r} at layer {item['layer']}, read by the probe with fingerprint "
            f"{item['fingerprint']}, was asked for",
            f"{len(read_outs)} other probes were given",
            "Give the probe that the plan was made with (probes=)",
        )
    return Gate(read_out, item["class"], item["side"], item["threshold"], item["over"])
