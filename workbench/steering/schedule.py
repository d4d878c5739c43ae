"""When a push acts: immutable schedules over seconds of music, each one a factor that multiplies a dose.

A schedule is a kind and its numbers, so two schedules are equal when they read the same, and each has one
canonical text (`ramp(2s,6s)`) that reads back as the same schedule. Time is seconds of new audio from
the start; only `pulse` may count generation steps instead, because the published recipe does (every 25th
step).
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from workbench.errors import SteeringError, is_number, number_or_nan
from workbench.steering.scanner import NAME, Scanner, written_number

# Step times are computed as step / frame rate; a start of 0.3 s must include the step at 0.1 + 0.2 s.
_SLACK_S = 1e-9


@dataclass(frozen=True)
class Schedule:
    """A factor over time. Make one with constant, window, ramp, fade, pulse, pulse_steps, decay or knots."""

    kind: str
    numbers: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.kind, str) or self.kind not in _KINDS:
            known = ", ".join(_KINDS)
            raise SteeringError(
                f"The schedule {self.kind!r} was asked for",
                f"the schedules are {known}",
                "Use one of those",
            )
        numbers = tuple(number_or_nan(number) + 0.0 for number in self.numbers)
        object.__setattr__(self, "numbers", numbers)
        problem = _problem(self.kind, numbers)
        if problem:
            raise SteeringError(
                f"The schedule {self.kind}{numbers} was asked for",
                problem,
                f"Write {_KINDS[self.kind][1]}",
            )

    def factor(self, seconds: float, step: int = 0) -> float:
        """Return what multiplies the dose at `seconds` of audio, which is generation step `step`."""
        return _KINDS[self.kind][0](self.numbers, seconds, step)

    def text(self) -> str:
        """Return the canonical text, e.g. `ramp(2s,6s)`; `parse_schedule` reads it back."""
        number = written_number
        if self.kind == "constant":
            return "constant"
        if self.kind == "pulse_steps":
            return f"pulse({number(self.numbers[0])} steps)"
        if self.kind == "knots":
            pairs = zip(self.numbers[::2], self.numbers[1::2], strict=True)
            return f"knots({','.join(f'{number(s)}s:{number(f)}' for s, f in pairs)})"
        return f"{self.kind}({','.join(f'{number(s)}s' for s in self.numbers)})"

    def __str__(self) -> str:
        return self.text()


def _problem(kind: str, numbers: Sequence[float]) -> str:
    """Return what is wrong with a schedule's numbers, or an empty text."""
    if not all(is_number(number) for number in numbers):
        return f"not all of {list(numbers)} are finite"
    if kind == "knots":
        times = numbers[::2]
        if len(numbers) < 2 or len(numbers) % 2:
            return "it needs at least one pair of seconds and factor"
        if any(later <= earlier for earlier, later in pairwise(times)):
            return f"the times {list(times)} do not rise strictly"
    elif len(numbers) != _KINDS[kind][2]:
        return f"it takes {_KINDS[kind][2]} numbers and {len(numbers)} were given"
    if kind in {"window", "ramp", "fade"} and not 0 <= numbers[0] < numbers[1]:
        return "its start must not be negative and must lie before its end"
    if kind in {"pulse", "decay", "pulse_steps"} and min(numbers) <= 0:
        return "its times must be above 0"
    if kind == "pulse" and numbers[1] > numbers[0]:
        return "one pulse would be longer than its period"
    if kind == "pulse_steps" and numbers[0] != int(numbers[0]):
        return "steps are whole"
    return ""


def _rising(start_s: float, end_s: float, seconds: float) -> float:
    return min(max((seconds - start_s) / (end_s - start_s), 0.0), 1.0)


def _between_knots(numbers: Sequence[float], seconds: float) -> float:
    """Return the factor on the straight line between the two knots around `seconds`; flat outside them."""
    times, factors = numbers[::2], numbers[1::2]
    after = bisect.bisect_right(times, seconds)
    if after == 0 or after == len(times):
        return factors[0 if after == 0 else -1]
    share = (seconds - times[after - 1]) / (times[after] - times[after - 1])
    return factors[after - 1] + share * (factors[after] - factors[after - 1])


Factor = Callable[[tuple[float, ...], float, int], float]
# kind -> (factor of (numbers, seconds, step), how it is written, how many numbers)
_KINDS: Mapping[str, tuple[Factor, str, int]] = {
    "constant": (lambda _n, _s, _step: 1.0, "constant()", 0),
    "window": (lambda n, s, _step: float(n[0] <= s + _SLACK_S < n[1]), "window(start_s, end_s)", 2),
    "ramp": (lambda n, s, _step: _rising(n[0], n[1], s), "ramp(start_s, end_s)", 2),
    "fade": (lambda n, s, _step: 1.0 - _rising(n[0], n[1], s), "fade(start_s, end_s)", 2),
    "pulse": (lambda n, s, _step: float((s + _SLACK_S) % n[0] < n[1]), "pulse(every_s, width_s=...)", 2),
    "pulse_steps": (lambda n, _s, step: float(step % int(n[0]) == 0), "pulse(every_steps=n)", 1),
    "decay": (lambda n, s, _step: 0.5 ** (s / n[0]), "decay(half_life_s)", 1),
    "knots": (lambda n, s, _step: _between_knots(n, s), "knots([(seconds, factor), ...])", 0),
}


def constant() -> Schedule:
    """Return the schedule that is 1 all the time."""
    return Schedule("constant")


def window(start_s: float, end_s: float) -> Schedule:
    """Return the schedule that is 1 from `start_s` up to but not at `end_s`, and 0 elsewhere."""
    return Schedule("window", (start_s, end_s))


def ramp(start_s: float, end_s: float) -> Schedule:
    """Return the schedule that is 0 until `start_s`, rises in a straight line, and is 1 from `end_s` on."""
    return Schedule("ramp", (start_s, end_s))


def fade(start_s: float, end_s: float) -> Schedule:
    """Return the mirror of `ramp`: 1 until `start_s`, 0 from `end_s` on. Both together are a crossfade."""
    return Schedule("fade", (start_s, end_s))


def pulse(
    every_s: float | None = None, *, width_s: float | None = None, every_steps: int | None = None
) -> Schedule:
    """Return the schedule that is 1 at the start of every period and 0 for the rest of it.

    every_s      length of a period in seconds; `width_s` of it are on (half of it, when not given)
    every_steps  instead of seconds: on at every n-th generation step only, as the paper does it with n = 25
    """
    if (every_s is None) == (every_steps is None) or (every_steps is not None and width_s is not None):
        raise SteeringError(
            f"pulse(every_s={every_s}, width_s={width_s}, every_steps={every_steps}) was asked for",
            "a pulse counts either seconds (with a width) or steps",
            "Write pulse(0.5), pulse(0.5, width_s=0.1) or pulse(every_steps=25)",
        )
    if every_s is None:
        return Schedule("pulse_steps", (every_steps or 0,))
    return Schedule("pulse", (every_s, number_or_nan(every_s) / 2 if width_s is None else width_s))


def decay(half_life_s: float) -> Schedule:
    """Return the schedule that starts at 1 and halves every `half_life_s` seconds."""
    return Schedule("decay", (half_life_s,))


def knots(points: Sequence[tuple[float, float]]) -> Schedule:
    """Return the schedule that joins (seconds, factor) points by straight lines and is flat outside them."""
    return Schedule("knots", tuple(number for point in points for number in point))


def parse_schedule(text: str) -> Schedule:
    """Return the schedule that `text` writes; raise SteeringError, with the place, when it writes none."""
    scanner = Scanner(text)
    schedule = read_schedule(scanner)
    return schedule if scanner.ended else scanner.fail("the end of the schedule")


def read_schedule(scanner: Scanner) -> Schedule:
    """Return the schedule that stands at the scanner's place, and step over it."""
    start = scanner.position
    kind = scanner.take(NAME)
    if kind is None or kind not in _KINDS or kind == "pulse_steps":
        scanner.position = start
        scanner.fail(f"a schedule ({', '.join(name for name in _KINDS if name != 'pulse_steps')})")
    if kind == "constant":
        if scanner.has("("):
            scanner.expect(")")
        return constant()
    scanner.expect("(")
    numbers = [scanner.number()]
    if kind == "pulse" and scanner.has("steps"):
        kind = "pulse_steps"
    else:
        _read_seconds(scanner, kind, numbers)
    scanner.expect(")")
    return Schedule(kind, tuple(numbers))


def _read_seconds(scanner: Scanner, kind: str, numbers: list[float]) -> None:
    """Read the rest of a list of seconds (or of `seconds:factor` pairs) into `numbers`."""
    while True:
        scanner.expect("s")
        if kind == "knots":
            scanner.expect(":")
            numbers.append(scanner.number("a factor"))
        if not scanner.has(","):
            return
        numbers.append(scanner.number("a time in seconds"))
