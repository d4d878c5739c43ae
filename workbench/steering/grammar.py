"""The text of a plan, to and from plain values; directions are still names here.

    plan   := "none" | group (";" group)*
    group  := ["-"] term (("+" | "-") term)* ["|" schedule] ["|" rows]
    term   := dose "*" place | operation "(" ["-"] number "*" place ")"
    place  := name ["#" fingerprint] "@" layer [">" layer]
    rows   := "cond" | "both" | "null"

A term without an operation is an `add`. `@5` is the layer that the direction was made at; `@5>7` applies it
at layer 7 instead, on purpose. `#` and the first digits of a fingerprint tell two directions of the same name
apart. Schedule and rows may be left out when reading (constant, cond) and are always written.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from workbench.steering.operations import OPERATIONS
from workbench.steering.scanner import NAME, Scanner, written_name
from workbench.steering.schedule import Schedule, constant, read_schedule

ROWS = ("cond", "both", "null")
_HEX = re.compile(r"[0-9a-f]+")


@dataclass(frozen=True)
class TermText:
    """One term as text knows it. `position` is where it stood, for errors, and takes no part in equality."""

    name: str
    mark: str
    made_at: int
    applied_at: int
    dose: float
    operation: str
    schedule: Schedule
    rows: str
    position: int = 0


def write(terms: Sequence[TermText]) -> str:
    """Return the canonical text: neighbours with equal schedule and rows share a group, order is kept."""
    groups = groupby(terms, key=lambda term: (term.schedule, term.rows))
    return " ; ".join(f"{_sum(list(group))} | {when} | {rows}" for (when, rows), group in groups) or "none"


def _sum(terms: Sequence[TermText]) -> str:
    text = ""
    for term in terms:
        negative = term.operation == "add" and term.dose < 0
        if text:
            text += " - " if negative else " + "
        elif negative:
            text = "-"
        text += _term(term, abs(term.dose) if negative else term.dose)
    return text


def _term(term: TermText, dose: float) -> str:
    mark = f"#{term.mark}" if term.mark else ""
    elsewhere = f">{term.applied_at}" if term.applied_at != term.made_at else ""
    text = f"{dose!r}*{written_name(term.name)}{mark}@{term.made_at}{elsewhere}"
    return text if term.operation == "add" else f"{term.operation}({text})"


def read(text: str) -> list[TermText]:
    """Return the terms that `text` writes, in order; a SteeringError says where it is no plan."""
    scanner = Scanner(text)
    terms: list[TermText] = []
    if scanner.has("none") and scanner.ended:
        return terms
    scanner.position = 0
    while True:
        terms += _read_group(scanner)
        if scanner.ended:
            return terms
        if not scanner.has(";"):
            scanner.fail("'+', '-', '|', ';' or the end")


def _read_group(scanner: Scanner) -> list[TermText]:
    sign = -1.0 if scanner.has("-") else 1.0
    parts = [_read_term(scanner, sign)]
    while (plus := scanner.has("+")) or scanner.has("-"):
        parts.append(_read_term(scanner, 1.0 if plus else -1.0))
    schedule, rows = constant(), "cond"
    if scanner.has("|"):
        schedule = read_schedule(scanner)
    if scanner.has("|"):
        rows = _read_word(scanner, ROWS, "rows (cond, both or null)")
    return [TermText(*place, dose, operation, schedule, rows, at) for place, dose, operation, at in parts]


def _read_term(scanner: Scanner, sign: float) -> tuple[tuple[str, str, int, int], float, str, int]:
    """Return (place, dose, operation, position) of the term that stands here, which `sign` stands before."""
    start = scanner.here()
    operation = "add"
    if scanner.take(re.compile(r"(?=[^\W\d])")) is not None:
        if sign < 0:
            scanner.fail("a dose (a minus belongs inside the brackets of an operation)")
        operation = _read_word(
            scanner, tuple(OPERATIONS), f"a dose or an operation ({', '.join(OPERATIONS)})"
        )
        scanner.expect("(")
        dose, place = _read_product(scanner)
        scanner.expect(")")
    else:
        dose, place = _read_product(scanner, signed=False)
    # + 0.0 turns -0.0 into 0.0: there is one way to write nothing.
    return place, sign * dose + 0.0, operation, start


def _read_product(scanner: Scanner, *, signed: bool = True) -> tuple[float, tuple[str, str, int, int]]:
    if not signed and scanner.take(re.compile(r"(?=-)")) is not None:
        scanner.fail("a dose with one sign")
    dose = scanner.number("a dose")
    scanner.expect("*")
    name = scanner.name("the name of a direction")
    mark = (scanner.take(_HEX) or scanner.fail("a fingerprint")) if scanner.has("#") else ""
    scanner.expect("@")
    made_at = scanner.whole("a layer number")
    applied_at = scanner.whole("a layer number") if scanner.has(">") else made_at
    return dose, (name, mark, made_at, applied_at)


def _read_word(scanner: Scanner, words: tuple[str, ...], what: str) -> str:
    start = scanner.position
    word = scanner.take(NAME)
    if word is None or word not in words:
        scanner.position = start
        scanner.fail(what)
    return word
