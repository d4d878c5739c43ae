"""Reading text from left to right with errors that say where: shared by schedules and plans."""

from __future__ import annotations

import json
import math
import re
import sys
from typing import NoReturn

from workbench.errors import SteeringError

NUMBER = re.compile(r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
WHOLE = re.compile(r"\d+")
MOST_DIGITS = 9  # of a layer number
NAME = re.compile(r"[^\W\d]\w*")
QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
BLANKS = re.compile(r"\s*")
AROUND = 200  # characters that an error quotes on each side
EXAMPLE = "0.8*jazz@5 - 0.4*rock@5 | ramp(2s,6s) | cond"


class Scanner:
    """A text and the place that reading has reached; blanks between words mean nothing."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0

    def take(self, pattern: re.Pattern[str]) -> str | None:
        """Return the match of `pattern` at the present place and step over it, or None."""
        self._skip_blanks()
        found = pattern.match(self.text, self.position)
        if found is None:
            return None
        self.position = found.end()
        return found.group()

    def has(self, literal: str) -> bool:
        """Return whether `literal` stands here, and step over it if it does."""
        self._skip_blanks()
        found = self.text.startswith(literal, self.position)
        self.position += len(literal) * found
        return found

    def sees(self, pattern: re.Pattern[str], words: tuple[str, ...]) -> bool:
        """Return whether one of `words` stands here, and stay before it."""
        start = self.position
        word = self.take(pattern)
        self.position = start
        return word in words

    def expect(self, literal: str) -> None:
        """Step over `literal`; raise SteeringError when something else stands here."""
        if not self.has(literal):
            self.fail(f"{literal!r}")

    def number(self, what: str = "a number") -> float:
        """Return the number (with an optional minus sign) that stands here."""
        sign = -1.0 if self.has("-") else 1.0
        digits = self.take(NUMBER)
        if digits is None:
            self.fail(what)
        if math.isinf(number := float(digits)):
            self.position -= len(digits)
            self.fail(f"{what} below {sys.float_info.max:.1e}")
        return sign * number

    def whole(self, what: str) -> int:
        """Return the whole number that stands here."""
        digits = self.take(WHOLE)
        if digits is not None and len(digits) > MOST_DIGITS:
            self.position -= len(digits)
            self.fail(f"{what} of at most {MOST_DIGITS} digits")
        return int(digits) if digits is not None else self.fail(what)

    def name(self, what: str) -> str:
        """Return the word that stands here, plain (`jazz`) or in JSON quotes (`"jazz - rock"`)."""
        quoted = self.take(QUOTED)
        if quoted is not None:
            try:
                return str(json.loads(quoted))
            except json.JSONDecodeError:
                self.position -= len(quoted)
                self.fail(f"{what} in proper JSON quotes")
        word = self.take(NAME)
        return word if word is not None else self.fail(what)

    def here(self) -> int:
        """Return the place of the next character that is no blank."""
        self._skip_blanks()
        return self.position

    @property
    def ended(self) -> bool:
        """Whether nothing but blanks is left."""
        return self.here() >= len(self.text)

    def fail(self, wanted: str) -> NoReturn:
        """Raise the SteeringError that says what was wanted at the present place, and what stands there."""
        rest = self.text[self.here() : self.position + 12]
        found = f"{rest!r} stands there" if rest else "the text ends"
        raise SteeringError(
            f"{place(self.text, self.position)} {wanted} was expected, but {found}. "
            f"A complete plan reads {EXAMPLE!r}."
        )

    def _skip_blanks(self) -> None:
        if self.text[self.position : self.position + 1].isspace():
            found = BLANKS.match(self.text, self.position)
            self.position = found.end() if found is not None else self.position


def place(text: str, position: int) -> str:
    """Return the place in a text, for errors; of a long text only what stands around it."""
    start = max(0, position - AROUND)
    quoted = text[start : position + AROUND]
    cut = ("... " if start else "") + quoted + (" ..." if position + AROUND < len(text) else "")
    return f"At character {position + 1} of {cut!r}"


def written_name(name: str) -> str:
    """Return a name as a plan writes it: plain where that is unambiguous, otherwise in JSON quotes."""
    return name if NAME.fullmatch(name) else json.dumps(name, ensure_ascii=False)


def written_number(value: float) -> str:
    """Return the shortest text that reads back as exactly this number, without an idle `.0`."""
    text = repr(float(value))
    return text.removesuffix(".0")
