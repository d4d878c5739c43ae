"""The text of a plan, to and from plain values; directions are still names here.

    plan   := "none" | group (";" group)*
    group  := ["-"] term (("+" | "-") term)* ["|" schedule] ["|" rows] ["|" chance] ["|" gate]
    term   := dose "*" place | operation "(" ["-"] number "*" place ")"
    place  := name ["#" fingerprint] "@" layer [">" layer]
    rows   := "cond" | "both" | "null"
    chance := "chance" "(" probability ")"
    gate   := "gate" "(" class ["#" fingerprint] "@" layer ("<" | ">") probability ["over" seconds "s"] ")"

A term without an operation is an `add`. `@5` is the layer that the direction was made at; `@5>7` applies it
at layer 7 instead, on purpose. `#` and the first digits of a fingerprint tell two directions of the same name
apart. What stands behind a bar may be left out when reading, the order is fixed. Schedule and rows (constant,
cond) are always written, chance and gate only where they do something. A gate's class is one that a probe of
that layer reads: `gate(jazz@4 < 0.8 over 1s)` steers until the mean of the last second reads jazz. `over` may
be left out (1 s).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from workbench.steering.operations import OPERATIONS
from workbench.steering.schedule import (
    NAME,
    SIDES,
    Schedule,
    Tokenizer,
    constant,
    read_schedule,
    written_name,
    written_number,
)

ROWS = ("cond", "both", "null")
_HEX = re.compile(r"[0-9a-f]+")
_LETTER, _MINUS = re.compile(r"(?=[^\W\d])"), re.compile(r"(?=-)")


@dataclass(frozen=True)
class GateText:
    """A gate as text knows it: a class at a layer, a side, a threshold and seconds."""

    class_: str
    mark: str
    layer: int
    side: str
    threshold: float
    over: float = 1.0

    @property
    def key(self) -> str:
        """The name under which `Steering.read_outs` holds what reads: class and layer."""
        return f"{self.class_}#{self.mark}@{self.layer}" if self.mark else f"{self.class_}@{self.layer}"


@dataclass(frozen=True)
class TermText:
    """One term as text knows it. `position` is where it stood, for errors."""

    name: str
    mark: str
    made_at: int
    applied_at: int
    dose: float
    operation: str
    schedule: Schedule
    rows: str
    position: int = 0
    chance: float = 1.0
    gate: GateText | None = None

    @property
    def when(self) -> tuple[Schedule, str, float, GateText | None]:
        """All that stands behind a group's terms."""
        return self.schedule, self.rows, self.chance, self.gate

    @property
    def key(self) -> str:
        """The name under which `Steering.directions` holds its direction: name and layer."""
        return f"{self.name}#{self.mark}@{self.made_at}" if self.mark else f"{self.name}@{self.made_at}"


def write(terms: Sequence[TermText]) -> str:
    """Return the canonical text: neighbours with equal schedule, rows, chance and gate share a group."""
    groups = groupby(terms, key=lambda term: term.when)
    return " ; ".join(f"{_sum(list(group))} | {_when(*when)}" for when, group in groups) or "none"


def _when(schedule: Schedule, rows: str, chance: float, gate: GateText | None) -> str:
    parts = [str(schedule), rows]
    if chance != 1:
        parts.append(f"chance({written_number(chance)})")
    if gate is not None:
        mark = f"#{gate.mark}" if gate.mark else ""
        number = written_number
        parts.append(
            f"gate({written_name(gate.class_)}{mark}@{gate.layer} {SIDES[gate.side]} "
            f"{number(gate.threshold)} over {number(gate.over)}s)"
        )
    return " | ".join(parts)


def _sum(terms: Sequence[TermText]) -> str:
    parts: list[str] = []
    for term in terms:
        negative = term.operation == "add" and term.dose < 0
        if parts:
            parts.append(" - " if negative else " + ")
        elif negative:
            parts.append("-")
        parts.append(_term(term, abs(term.dose) if negative else term.dose))
    return "".join(parts)


def _term(term: TermText, dose: float) -> str:
    mark = f"#{term.mark}" if term.mark else ""
    elsewhere = f">{term.applied_at}" if term.applied_at != term.made_at else ""
    text = f"{dose!r}*{written_name(term.name)}{mark}@{term.made_at}{elsewhere}"
    return text if term.operation == "add" else f"{term.operation}({text})"


def read(text: str) -> list[TermText]:
    """Return the terms that `text` writes, in order; a SteeringError says where it is no plan."""
    tokenizer = Tokenizer(text)
    terms: list[TermText] = []
    if tokenizer.has("none") and tokenizer.ended:
        return terms
    tokenizer.position = 0
    while True:
        terms += _read_group(tokenizer)
        if tokenizer.ended:
            return terms
        if not tokenizer.has(";"):
            tokenizer.fail("'+', '-', '|', ';' or the end")


def _read_group(tokenizer: Tokenizer) -> list[TermText]:
    sign = -1.0 if tokenizer.has("-") else 1.0
    parts = [_read_term(tokenizer, sign)]
    while (plus := tokenizer.has("+")) or tokenizer.has("-"):
        parts.append(_read_term(tokenizer, 1.0 if plus else -1.0))
    schedule, rows, chance, gate = _read_when(tokenizer)
    return [
        TermText(*place, dose, operation, schedule, rows, at, chance, gate)
        for place, dose, operation, at in parts
    ]


def _read_when(tokenizer: Tokenizer) -> tuple[Schedule, str, float, GateText | None]:
    """Return schedule, rows, chance and gate; each may be left out, the order is fixed."""
    schedule, rows, chance, gate = constant(), "cond", 1.0, None
    wanted = {"rows": "rows (cond, both or null)", "chance": "chance(...)", "gate": "gate(...)"}
    first = tokenizer.has("|")
    if first and not tokenizer.sees(NAME, (*ROWS, "chance", "gate")):
        schedule, first = read_schedule(tokenizer), False
    while wanted and (first or tokenizer.has("|")):
        first, start, word = False, tokenizer.position, tokenizer.take(NAME)
        if word in ROWS and "rows" in wanted:
            rows, wanted = str(word), {name: wanted[name] for name in ("chance", "gate")}
        elif word == "chance" and "chance" in wanted:
            chance, wanted = _read_chance(tokenizer), {"gate": wanted["gate"]}
        elif word == "gate":
            gate, wanted = _read_gate(tokenizer), {}
        else:
            tokenizer.position = start
            tokenizer.fail(" or ".join(wanted.values()))
    return schedule, rows, chance, gate


def _read_chance(tokenizer: Tokenizer) -> float:
    tokenizer.expect("(")
    chance = tokenizer.number("a probability")
    tokenizer.expect(")")
    return chance


def _read_gate(tokenizer: Tokenizer) -> GateText:
    tokenizer.expect("(")
    class_ = tokenizer.name("a class that a probe reads")
    mark = (tokenizer.take(_HEX) or tokenizer.fail("a fingerprint")) if tokenizer.has("#") else ""
    tokenizer.expect("@")
    layer = tokenizer.whole("a layer number")
    side = next((side for side, sign in SIDES.items() if tokenizer.has(sign)), None)
    if side is None:
        tokenizer.fail(f"one of {' '.join(SIDES.values())}")
    gate = GateText(class_, mark, layer, side, tokenizer.number("a probability"))
    if tokenizer.has("over"):
        gate = replace(gate, over=tokenizer.number("a time in seconds"))
        tokenizer.expect("s")
    tokenizer.expect(")")
    return gate


def _read_term(tokenizer: Tokenizer, sign: float) -> tuple[tuple[str, str, int, int], float, str, int]:
    """Return (place, dose, operation, position) of the term that stands here, which `sign` stands before."""
    start = tokenizer.here()
    operation = "add"
    if tokenizer.take(_LETTER) is not None:
        if sign < 0:
            tokenizer.fail("a dose (a minus belongs inside the brackets of an operation)")
        operation = _read_word(
            tokenizer, tuple(OPERATIONS), f"a dose or an operation ({', '.join(OPERATIONS)})"
        )
        tokenizer.expect("(")
        dose, place = _read_product(tokenizer)
        tokenizer.expect(")")
    else:
        dose, place = _read_product(tokenizer, signed=False)
    # + 0.0 turns -0.0 into 0.0: there is one way to write nothing.
    return place, sign * dose + 0.0, operation, start


def _read_product(tokenizer: Tokenizer, *, signed: bool = True) -> tuple[float, tuple[str, str, int, int]]:
    if not signed and tokenizer.take(_MINUS) is not None:
        tokenizer.fail("a dose with one sign")
    dose = tokenizer.number("a dose")
    tokenizer.expect("*")
    name = tokenizer.name("the name of a direction")
    mark = (tokenizer.take(_HEX) or tokenizer.fail("a fingerprint")) if tokenizer.has("#") else ""
    tokenizer.expect("@")
    made_at = tokenizer.whole("a layer number")
    applied_at = tokenizer.whole("a layer number") if tokenizer.has(">") else made_at
    return dose, (name, mark, made_at, applied_at)


def _read_word(tokenizer: Tokenizer, words: tuple[str, ...], what: str) -> str:
    start = tokenizer.position
    word = tokenizer.take(NAME)
    if word is None or word not in words:
        tokenizer.position = start
        tokenizer.fail(what)
    return word
