"""A plan as text and as JSON, and back: names and fingerprints out, directions and read-outs in again.

    plan   := "none" | group (";" group)*
    group  := ["-"] term (("+" | "-") term)* ["|" schedule] ["|" branch] ["|" chance] ["|" gate]
    term   := dose "*" place | operation "(" ["-"] number "*" place ")"
    place  := name ["#" fingerprint] "@" layer [">" layer]
    branch := "cond" | "both" | "null"
    chance := "chance" "(" probability ")"
    gate   := "gate" "(" class ["#" fingerprint] "@" layer ("<" | ">") probability ["over" seconds "s"] ")"

A term without an operation is an `add`. `@5` is the layer that the direction was made at; `@5>7` applies it
at layer 7 instead, on purpose. `#` and the first digits of a fingerprint tell two directions of the same name
apart. What stands behind a bar may be left out when reading, the order is fixed. Schedule and branch
(constant, cond) are always written, chance and gate only where they do something. A gate's class is one that
a probe of that layer reads: `gate(jazz@4 < 0.8 over 1s)` steers until the mean of the last second reads jazz.
`over` may be left out (1 s).
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from workbench.errors import SteeringError
from workbench.steering.operations import OPERATIONS, find_operation
from workbench.steering.schedule import (
    NAME,
    SIDES,
    Gate,
    ReadOut,
    Schedule,
    Tokenizer,
    constant,
    parse_schedule,
    place,
    read_schedule,
    written_name,
    written_number,
)
from workbench.steering.term import BRANCHES, Term

if TYPE_CHECKING:
    from workbench.steering.plan import Direction

_HEX = re.compile(r"[0-9a-f]+")
_LETTER, _MINUS = re.compile(r"(?=[^\W\d])"), re.compile(r"(?=-)")
_DIGITS = 12  # of a fingerprint that is written
_FEW = 20  # directions that an error lists one by one

Value = TypeVar("Value")


class Reads(Protocol):
    """What can be given where a plan's gates are looked up: a ReadOut, or a probe that makes one."""

    def read_out(self) -> ReadOut:
        """The plain linear read-out."""


Probes = Mapping[str, Reads] | Iterable[Reads]
"""Probes by any name (gates are found by class, layer and fingerprint), or just probes."""


def values(given: Mapping[str, Value] | Iterable[Value]) -> list[Value]:
    """Return what a mapping or another iterable holds."""
    return list(given.values() if isinstance(given, Mapping) else given)


def by_class(read_outs: Iterable[ReadOut]) -> dict[tuple[str, int], list[ReadOut]]:
    """Return (class, layer) -> the read-outs that read it."""
    found: dict[tuple[str, int], list[ReadOut]] = {}
    for one in dict.fromkeys(read_outs):
        for name in one.classes:
            found.setdefault((name, one.layer), []).append(one)
    return found


class Names:
    """What the directions and read-outs of a plan are called, with digits where a name alone is ambiguous."""

    def __init__(self, terms: Iterable[Term]) -> None:
        self._directions: dict[tuple[str, int], set[str]] = {}
        for term in terms:
            one = term.direction
            self._directions.setdefault((one.name, one.layer), set()).add(one.fingerprint)
        self._read_outs = by_class(term.gate.read_out for term in terms if term.gate is not None)

    def direction(self, term: Term) -> tuple[str, str]:
        """Return the name of a term's direction, and what follows it: `#fingerprint@layer`."""
        one = term.direction
        digits = f"#{one.fingerprint[:_DIGITS]}" if len(self._directions[one.name, one.layer]) > 1 else ""
        return one.name, f"{digits}@{one.layer}"

    def read_out(self, gate: Gate) -> tuple[str, str]:
        """Return the class that a gate reads, and what follows it: `#fingerprint@layer`."""
        one = gate.read_out
        digits = f"#{one.fingerprint[:_DIGITS]}" if len(self._read_outs[gate.class_, one.layer]) > 1 else ""
        return gate.class_, f"{digits}@{one.layer}"


def write(terms: Sequence[Term], names: Names) -> str:
    """Return the canonical text: neighbours with equal schedule, branch, chance and gate share a group."""
    groups = groupby(terms, key=lambda term: (term.schedule, term.branch, term.chance, term.gate))
    return " ; ".join(_group(list(group), names) for _when, group in groups) or "none"


def _group(terms: Sequence[Term], names: Names) -> str:
    text = ""
    for term in terms:
        negative = term.operation == "add" and term.dose < 0
        sign = (" - " if negative else " + ") if text else ("-" if negative else "")
        name, rest = names.direction(term)
        elsewhere = f">{term.at_layer}" if term.at_layer != term.direction.layer else ""
        dose = abs(term.dose) if negative else term.dose
        product = f"{dose!r}*{written_name(name)}{rest}{elsewhere}"
        text += sign + (product if term.operation == "add" else f"{term.operation}({product})")
    first = terms[0]
    parts = [text, str(first.schedule), first.branch]
    if first.chance != 1:
        parts.append(f"chance({written_number(first.chance)})")
    if (gate := first.gate) is not None:
        class_, rest = names.read_out(gate)
        limit, over = written_number(gate.threshold), written_number(gate.over)
        parts.append(f"gate({written_name(class_)}{rest} {SIDES[gate.side]} {limit} over {over}s)")
    return " | ".join(parts)


def read(text: str, directions: Mapping[str, Direction], probes: Probes = ()) -> list[Term]:
    """Return the terms that `text` writes, in order.

    Raises:
        SteeringError: With the place in the text, where it is no plan, or for a name that is not known or
            stands for several.
    """
    reader = _Reader(text, directions, probes)
    groups: list[Callable[[], list[Term]]] = []
    if reader.has("none") and reader.ended:
        return []
    reader.position = 0
    while True:
        groups.append(reader.group())
        if reader.ended:
            return [term for looked_up in groups for term in looked_up()]
        if not reader.has(";"):
            reader.fail("'+', '-', '|', ';' or the end")


@dataclass(frozen=True)
class _Place:
    """A name, the digits of its fingerprint ("" for none) and a layer, as they stand in a text."""

    name: str
    digits: str
    layer: int

    def __str__(self) -> str:
        return f"{self.name}#{self.digits}@{self.layer}" if self.digits else f"{self.name}@{self.layer}"


_GateParts = tuple[_Place, str, float, float]


class _Reader(Tokenizer):
    """Reads terms; each name is looked up, in one step, as `name@layer`, as `name`, or by its fingerprint."""

    def __init__(self, text: str, directions: Mapping[str, Direction], probes: Probes) -> None:
        super().__init__(text)
        self._directions = directions
        self._fingerprints = sorted((one.fingerprint, name) for name, one in directions.items())
        self._read_outs = by_class(probe.read_out() for probe in values(probes))

    def group(self) -> Callable[[], list[Term]]:
        """Read the terms of a group; the function that is returned looks their names up."""
        sign = -1.0 if self.has("-") else 1.0
        parts = [self._term(sign)]
        while (plus := self.has("+")) or self.has("-"):
            parts.append(self._term(1.0 if plus else -1.0))
        schedule, branch, chance, gate = self._when()

        def looked_up() -> list[Term]:
            terms = []
            for dose, made, operation, layer, start in parts:
                direction, read = self._direction(made, start), gate and self._gate_of(*gate, start)
                how = (schedule, operation, layer, branch)
                terms.append(Term(direction, dose, *how, chance=chance, gate=read))
            return terms

        return looked_up

    def _when(self) -> tuple[Schedule, str, float, _GateParts | None]:
        """Return schedule, branch, chance and gate; each may be left out, the order is fixed."""
        gate: _GateParts | None = None
        schedule, branch, chance = constant(), "cond", 1.0
        wanted = {"branch": "a branch (cond, both or null)", "chance": "chance(...)", "gate": "gate(...)"}
        first = self.has("|")
        if first and not self.sees(NAME, (*BRANCHES, "chance", "gate")):
            schedule, first = read_schedule(self), False
        while wanted and (first or self.has("|")):
            first, start, word = False, self.position, self.take(NAME)
            if word in BRANCHES and "branch" in wanted:
                branch, wanted = str(word), {name: wanted[name] for name in ("chance", "gate")}
            elif word == "chance" and "chance" in wanted:
                wanted = {"gate": wanted["gate"]}
                self.expect("(")
                chance = self.number("a probability")
                self.expect(")")
            elif word == "gate":
                gate, wanted = self._gate(), {}
            else:
                self.position = start
                self.fail(" or ".join(wanted.values()))
        return schedule, branch, chance, gate

    def _term(self, sign: float) -> tuple[float, _Place, str, int, int]:
        """Return dose, direction, operation, layer and beginning of the term that stands behind `sign`."""
        start, operation = self.here(), "add"
        if named := self.take(_LETTER) is not None:
            if sign < 0:
                self.fail("a dose (a minus belongs inside the brackets of an operation)")
            word = self.take(NAME)
            if not self.has("("):
                self.position = start
                self.fail(f"a dose or an operation ({', '.join(OPERATIONS)})")
            operation = find_operation(str(word), place(self.text, start)).name
        elif self.take(_MINUS) is not None:
            self.fail("a dose with one sign")
        dose = self.number("a dose")
        self.expect("*")
        made = self._place("the name of a direction")
        layer = self.whole("a layer number") if self.has(">") else made.layer
        if named:
            self.expect(")")
        # + 0.0 turns -0.0 into 0.0: there is one way to write nothing.
        return sign * dose + 0.0, made, operation, layer, start

    def _place(self, what: str) -> _Place:
        name = self.name(what)
        digits = (self.take(_HEX) or self.fail("a fingerprint")) if self.has("#") else ""
        self.expect("@")
        return _Place(name, digits, self.whole("a layer number"))

    def _gate(self) -> _GateParts:
        self.expect("(")
        read = self._place("a class that a probe reads")
        side = next((side for side, sign in SIDES.items() if self.has(sign)), None)
        if side is None:
            self.fail(f"one of {' '.join(SIDES.values())}")
        threshold, over = self.number("a probability"), 1.0
        if self.has("over"):
            over = self.number("a time in seconds")
            self.expect("s")
        self.expect(")")
        return read, side, threshold, over

    def _direction(self, made: _Place, start: int) -> Direction:
        """Return the direction that is meant by what stands at `start`."""
        known = (self._directions.get(name) for name in (str(made), f"{made.name}@{made.layer}", made.name))
        found = next((one for one in known if one is not None), None)
        if made.digits and not (found is not None and found.fingerprint.startswith(made.digits)):
            after = self._fingerprints[bisect_left(self._fingerprints, (made.digits, "")) :][:1]
            fitting = (self._directions[name] for mark, name in after if mark.startswith(made.digits))
            found = next(fitting, None)
        asked = f"{place(self.text, start)} {str(made)!r} was asked for"
        if found is None:
            raise SteeringError(asked, _directions_given(self._directions), "Use one of those names")
        if found.layer != made.layer:
            do = f"Write @{found.layer}>{made.layer} to apply it at layer {made.layer} on purpose"
            raise SteeringError(asked, f"the direction given was made at layer {found.layer}", do)
        return found

    def _gate_of(self, read: _Place, side: str, threshold: float, over: float, start: int) -> Gate:
        """Return the gate that a term at `start` has."""
        alike = self._read_outs.get((read.name, read.layer), [])
        fitting = [one for one in alike if one.fingerprint.startswith(read.digits)]
        if len(fitting) != 1:
            classes = ", ".join(f"{name}@{layer}" for name, layer in self._read_outs)
            found, do = f"the probes given read: {classes or 'nothing'}", "Give the probe with probes="
            if fitting:
                names = [str(_Place(read.name, one.fingerprint[:_DIGITS], one.layer)) for one in fitting]
                found, do = f"{len(fitting)} of the probes given read it", f"Write {' or '.join(names)}"
            asked = f"{place(self.text, start)} a gate on {str(read)!r} was asked for"
            raise SteeringError(asked, found, do)
        return Gate(fitting[0], read.name, side, threshold, over)


def _directions_given(directions: Mapping[str, Direction]) -> str:
    """Return what the directions given are; many of them by name and layers, which is shorter."""
    if len(directions) <= _FEW:
        return f"the directions given are: {', '.join(directions) or 'none'}"
    names = ", ".join(dict.fromkeys(direction.name for direction in directions.values()))
    layers = ", ".join(map(str, sorted({direction.layer for direction in directions.values()})))
    return f"the directions given are: {names}, made at layers {layers}"


def as_json(term: Term) -> dict[str, Any]:
    """Return a term as plain JSON values; chance and gate only where they do something."""
    kept: dict[str, Any] = {
        "direction": term.direction.name,
        "fingerprint": term.direction.fingerprint,
        "dose": term.dose,
        "operation": term.operation,
        "schedule": term.schedule.text(),
        "rows": term.branch,
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
        SteeringError: When a direction, read-out or operation is not known.
    """
    direction = directions.get(item["fingerprint"])
    if direction is None:
        raise SteeringError(
            f"The direction {item['direction']!r} with fingerprint {item['fingerprint']} was asked for",
            _directions_given({one.name: one for one in directions.values()}),
            "Load the direction that the plan was made with (Direction.load)",
        )
    gate, kept = None, item.get("gate")
    if kept is not None:
        read_out = read_outs.get(kept["fingerprint"])
        if read_out is None:
            raise SteeringError(
                f"A gate on {kept['class']!r} at layer {kept['layer']}, read by the probe with fingerprint "
                f"{kept['fingerprint']}, was asked for",
                f"{len(read_outs)} other probes were given",
                "Give the probe that the plan was made with (probes=)",
            )
        gate = Gate(read_out, kept["class"], kept["side"], kept["threshold"], kept["over"])
    schedule = parse_schedule(item["schedule"])
    parts = (direction, item["dose"], schedule, item["operation"], item["layer"], item["rows"])
    return Term(*parts, chance=item.get("chance", 1.0), gate=gate)
