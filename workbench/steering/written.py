"""Terms to and from what is written: names and fingerprints out, directions and read-outs in again."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from workbench.errors import SteeringError
from workbench.steering.gate import Gate, ReadOut
from workbench.steering.grammar import GateText, TermText
from workbench.steering.scanner import place
from workbench.steering.schedule import parse_schedule
from workbench.steering.term import Term

if TYPE_CHECKING:
    from workbench.steering.direction import Direction


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


def marks(places: Mapping[str, tuple[str, int]]) -> dict[str, str]:
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
