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
a probe of that layer reads; without `over` the last second counts.
"""

from __future__ import annotations

import json
import math
import re
import sys
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, Protocol, TypeVar

from workbench.errors import SteeringError
from workbench.steering.operations import OPERATIONS, find_operation
from workbench.steering.schedule import BRANCHES, KINDS, SIDES, Gate, ReadOut, Schedule, Term, written_number

if TYPE_CHECKING:
    from workbench.steering.plan import Direction

_NAME = r"[^\W\d]\w*"
_EXAMPLE = "0.8*jazz@5 - 0.4*rock@5 | ramp(2s,6s) | cond"
_DIGITS = 12  # of a fingerprint that is written
_LAYER_DIGITS = 9  # at most
_AROUND = 200  # characters that an error quotes on each side
_FEW = 20  # directions that an error lists one by one
_SCHEDULES = ", ".join(kind for kind in KINDS if kind != "pulse_steps")  # which is written as a pulse
_BEHIND_BARS = {"schedule": f"a schedule ({_SCHEDULES})", "branch": f"a branch ({', '.join(BRANCHES)})"}
_BEHIND_BARS |= {"chance": "chance(...)", "gate": "gate(...)"}

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


class Names:
    """What the directions and read-outs of a plan are called, with digits where a name alone is ambiguous."""

    def __init__(self, terms: Sequence[Term]) -> None:
        read_outs = {term.gate.read_out for term in terms if term.gate is not None}
        self._directions = Counter((one.name, one.layer) for one in {term.direction for term in terms})
        self._classes = Counter((class_, one.layer) for one in read_outs for class_ in one.classes)

    def direction(self, term: Term) -> tuple[str, str]:
        """Return the name of a term's direction, and what follows it: `#fingerprint@layer`."""
        one = term.direction
        return one.name, _mark(one, self._directions[one.name, one.layer])

    def read_out(self, gate: Gate) -> tuple[str, str]:
        """Return the class that a gate reads, and what follows it: `#fingerprint@layer`."""
        return gate.class_, _mark(gate.read_out, self._classes[gate.class_, gate.read_out.layer])


def _mark(one: Direction | ReadOut, alike: int) -> str:
    """Return what tells one of several of a name: the layer, and a fingerprint where that leaves several."""
    return f"#{one.fingerprint[:_DIGITS]}@{one.layer}" if alike > 1 else f"@{one.layer}"


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
        product = f"{dose!r}*{_written_name(name)}{rest}{elsewhere}"
        text += sign + (product if term.operation == "add" else f"{term.operation}({product})")
    first, gate = terms[0], terms[0].gate
    parts = [text, str(first.schedule), first.branch]
    if first.chance != 1:
        parts.append(f"chance({written_number(first.chance)})")
    if gate is not None:
        class_, rest = names.read_out(gate)
        limit, over = written_number(gate.threshold), written_number(gate.over)
        parts.append(f"gate({_written_name(class_)}{rest} {SIDES[gate.side]} {limit} over {over}s)")
    return " | ".join(parts)


def _written_name(name: str) -> str:
    """Return a name as a plan writes it: plain where that is unambiguous, otherwise in JSON quotes."""
    return name if re.fullmatch(_NAME, name) else json.dumps(name, ensure_ascii=False)


def read(text: str, directions: Mapping[str, Direction], probes: Probes = ()) -> list[Term]:
    """Return the terms that `text` writes; raise SteeringError, with the place, for what is no plan."""
    return _Reader(text, directions, probes).plan()


def parse_schedule(text: str) -> Schedule:
    """Return the schedule that `text` writes; raise SteeringError, with the place, when it writes none."""
    reader = _Reader(text)
    schedule = reader.schedule()
    return schedule if reader.ended else reader.fail("the end of the schedule")


class _Place(NamedTuple):
    """A name, the digits of its fingerprint ("" for none) and a layer, as they stand in a text."""

    name: str
    digits: str
    layer: int

    def __str__(self) -> str:
        return f"{self.name}#{self.digits}@{self.layer}" if self.digits else f"{self.name}@{self.layer}"


class _Reader:
    """A text and the place that reading has reached, which is never a blank."""

    def __init__(self, text: str, directions: Mapping[str, Direction] | None = None, probes: Probes = ()):
        self.text = text
        self.position = 0
        self.take("")
        self._directions = directions or {}
        self._fingerprints = sorted((one.fingerprint, name) for name, one in self._directions.items())
        self._read_outs = list(dict.fromkeys(probe.read_out() for probe in values(probes)))

    @property
    def ended(self) -> bool:
        return self.position >= len(self.text)

    def take(self, pattern: str) -> str | None:
        """Return what matches here and step over it and the blanks behind it, or return None."""
        found = re.compile(rf"({pattern})\s*").match(self.text, self.position)
        if found is None:
            return None
        self.position = found.end()
        return found[1]

    def has(self, literal: str) -> bool:
        """Return whether `literal` stands here, and step over it if it does."""
        return self.text.startswith(literal, self.position) and self.take(re.escape(literal)) is not None

    def expect(self, literal: str) -> None:
        if not self.has(literal):
            self.fail(f"{literal!r}")

    def fail(self, wanted: str, at: int | None = None) -> NoReturn:
        """Raise the SteeringError that says what was wanted, here or at a place, and what stands there."""
        at = self.position if at is None else at
        rest, asked = self.text[at : at + 12], f"{self.place(at)} {wanted} was expected"
        found = f"{rest!r} stands there" if rest else "the text ends"
        raise SteeringError(asked, found, f"A complete plan reads {_EXAMPLE!r}")

    def place(self, position: int) -> str:
        """Return the place in the text, for errors; of a long text only what stands around it."""
        start, end = max(0, position - _AROUND), position + _AROUND
        quoted = ("... " if start else "") + self.text[start:end] + (" ..." if end < len(self.text) else "")
        return f"At character {position + 1} of {quoted!r}"

    def number(self, what: str = "a number") -> float:
        sign = -1.0 if self.has("-") else 1.0
        start, digits = self.position, self.take(r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
        if digits is None:
            self.fail(what)
        if math.isinf(float(digits)):
            self.fail(f"{what} below {sys.float_info.max:.1e}", start)
        return sign * float(digits)

    def whole(self, what: str) -> int:
        start, digits = self.position, self.take(r"\d+")
        if digits is not None and len(digits) > _LAYER_DIGITS:
            self.fail(f"{what} of at most {_LAYER_DIGITS} digits", start)
        return int(digits) if digits is not None else self.fail(what)

    def name(self, what: str) -> str:
        """Return the word that stands here, plain (`jazz`) or in JSON quotes (`"jazz - rock"`)."""
        start = self.position
        if (quoted := self.take(r'"(?:[^"\\]|\\.)*"')) is None:
            return self.take(_NAME) or self.fail(what)
        try:
            return str(json.loads(quoted))
        except json.JSONDecodeError:
            self.fail(f"{what} in proper JSON quotes", start)

    def plan(self) -> list[Term]:
        if self.text.strip() == "none":
            return []
        terms = self._group()
        while not self.ended:
            if not self.has(";"):
                self.fail("'+', '-', '|', ';' or the end")
            terms += self._group()
        return [Term(**parts, gate=gate and gate()) for parts, gate in terms]

    def _group(self) -> list[tuple[dict[str, Any], Callable[[], Gate] | None]]:
        """Return what makes the terms of a group; its gate is looked up once the whole text is read."""
        start = self.position
        parts = [self._term(-1.0 if self.has("-") else 1.0)]
        while (plus := self.has("+")) or self.has("-"):
            parts.append(self._term(1.0 if plus else -1.0))
        when = self._when(start)
        gate = when.pop("gate", None)
        return [(part | when, gate) for part in parts]

    def _term(self, sign: float) -> dict[str, Any]:
        """Return direction, dose, operation and layer of the term that stands behind `sign`."""
        start, operation = self.position, "add"
        if named := self.take(r"(?=[^\W\d])") is not None:
            if sign < 0:
                self.fail("a dose (a minus belongs inside the brackets of an operation)")
            word = self.take(_NAME)
            if not self.has("("):
                self.fail(f"a dose or an operation ({', '.join(OPERATIONS)})", start)
            operation = find_operation(word, self.place(start)).name
        elif self.take("(?=-)") is not None:
            self.fail("a dose with one sign")
        dose = self.number("a dose")
        self.expect("*")
        made = self._place("the name of a direction")
        layer = self.whole("a layer number") if self.has(">") else made.layer
        if named:
            self.expect(")")
        direction = self._direction(made, start)
        return {"direction": direction, "dose": sign * dose, "operation": operation, "layer": layer}

    def _place(self, what: str) -> _Place:
        name = self.name(what)
        digits = (self.take("[0-9a-f]+") or self.fail("a fingerprint")) if self.has("#") else ""
        self.expect("@")
        return _Place(name, digits, self.whole("a layer number"))

    def _when(self, start: int) -> dict[str, Any]:
        """Return those of schedule, branch, chance and gate that the group has which begins at `start`."""
        found: dict[str, Any] = {}
        wanted = list(_BEHIND_BARS)
        while wanted and self.has("|"):
            here, word = self.position, self.take(_NAME) or ""
            kind = "branch" if word in BRANCHES else word if word in ("chance", "gate") else "schedule"
            if kind not in wanted:
                self.fail(" or ".join(_BEHIND_BARS[one] for one in wanted), here)
            wanted = wanted[wanted.index(kind) + 1 :]
            if kind == "branch":
                found[kind] = word
            elif kind == "schedule":
                self.position = here
                found[kind] = self.schedule()
            elif kind == "chance":
                self.expect("(")
                found[kind] = self.number("a probability")
                self.expect(")")
            else:
                found[kind] = self._gate(start)
        return found

    def schedule(self) -> Schedule:
        start, kind = self.position, self.take(_NAME) or ""
        if kind not in KINDS or kind == "pulse_steps":
            self.fail(_BEHIND_BARS["schedule"], start)
        if kind == "constant":
            if self.has("("):
                self.expect(")")
            return Schedule(kind)
        self.expect("(")
        numbers = [self.number()]
        steps = kind == "pulse" and self.has("steps")
        while not steps:
            self.expect("s")
            if kind == "knots":
                self.expect(":")
                numbers.append(self.number("a factor"))
            if not self.has(","):
                break
            numbers.append(self.number("a time in seconds"))
        self.expect(")")
        return Schedule("pulse_steps" if steps else kind, tuple(numbers))

    def _gate(self, start: int) -> Callable[[], Gate]:
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
        return lambda: Gate(self._read_out(read, start), read.name, side, threshold, over)

    def _direction(self, made: _Place, start: int) -> Direction:
        """Return the direction that is found by `name@layer`, by `name`, or by fingerprint."""
        known = (self._directions.get(name) for name in (str(made), f"{made.name}@{made.layer}", made.name))
        found = next((one for one in known if one is not None), None)
        if made.digits and not (found is not None and found.fingerprint.startswith(made.digits)):
            after = self._fingerprints[bisect_left(self._fingerprints, (made.digits, "")) :][:1]
            fitting = (self._directions[name] for mark, name in after if mark.startswith(made.digits))
            found = next(fitting, None)
        asked = f"{self.place(start)} {str(made)!r} was asked for"
        if found is None:
            raise SteeringError(asked, _directions_given(self._directions), "Use one of those names")
        if found.layer != made.layer:
            do = f"Write @{found.layer}>{made.layer} to apply it at layer {made.layer} on purpose"
            raise SteeringError(asked, f"the direction given was made at layer {found.layer}", do)
        return found

    def _read_out(self, read: _Place, start: int) -> ReadOut:
        at_layer = [one for one in self._read_outs if one.layer == read.layer and read.name in one.classes]
        fitting = [one for one in at_layer if one.fingerprint.startswith(read.digits)]
        if len(fitting) == 1:
            return fitting[0]
        classes = dict.fromkeys(f"{name}@{one.layer}" for one in self._read_outs for name in one.classes)
        found, do = f"the probes given read: {', '.join(classes) or 'nothing'}", "Give the probe with probes="
        if fitting:
            names = [f"{read.name}{_mark(one, len(fitting))}" for one in fitting]
            found, do = f"{len(fitting)} of the probes given read it", f"Write {' or '.join(names)}"
        raise SteeringError(f"{self.place(start)} a gate on {str(read)!r} was asked for", found, do)


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
        read = {"class": gate.class_, "fingerprint": gate.read_out.fingerprint, "layer": gate.read_out.layer}
        kept["gate"] = {**read, "side": gate.side, "threshold": gate.threshold, "over": gate.over}
    return kept


def from_json(
    item: Mapping[str, Any], directions: Mapping[str, Direction], read_outs: Mapping[str, ReadOut]
) -> Term:
    """Return the term that `as_json` wrote; both mappings go from fingerprint to what has it."""
    direction = directions.get(item["fingerprint"])
    if direction is None:
        asked = f"The direction {item['direction']!r} with fingerprint {item['fingerprint']} was asked for"
        found = _directions_given({one.name: one for one in directions.values()})
        raise SteeringError(asked, found, "Load the direction that the plan was made with (Direction.load)")
    gate, kept = None, item.get("gate")
    if kept is not None:
        read_out = read_outs.get(kept["fingerprint"])
        if read_out is None:
            read = f"A gate on {kept['class']!r} at layer {kept['layer']}"
            asked = f"{read} by the probe with fingerprint {kept['fingerprint']} was asked for"
            do = "Give the probe that the plan was made with (probes=)"
            raise SteeringError(asked, f"{len(read_outs)} other probes were given", do)
        gate = Gate(read_out, kept["class"], kept["side"], kept["threshold"], kept["over"])
    schedule = parse_schedule(item["schedule"])
    parts = (direction, item["dose"], schedule, item["operation"], item["layer"], item["rows"])
    return Term(*parts, chance=item.get("chance", 1.0), gate=gate)
