"""A row of the report: one figure with its interval, its bar, and what it rests on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from workbench.stats import wilson


@dataclass(frozen=True)
class Bar:
    """What a figure must reach: bounds that it may equal, unless they are strict. Without bounds, no bar.

    ``interval_above`` asks it of the lower end of the interval.
    """

    at_least: float | None = None
    at_most: float | None = None
    under: float | None = None
    interval_above: float | None = None

    def met(self, value: float, low: float | None = None) -> bool | None:
        """Return whether a value with the lower end of its interval clears the bar; None without a bar."""
        checks = [
            bound is None or clears
            for bound, clears in (
                (self.interval_above, low is not None and low > (self.interval_above or 0.0)),
                (self.at_least, self.at_least is not None and value >= self.at_least),
                (self.at_most, self.at_most is not None and value <= self.at_most),
                (self.under, self.under is not None and value < self.under),
            )
        ]
        return all(checks) if self != Bar() else None

    def __str__(self) -> str:
        parts = [("at least", self.at_least), ("at most", self.at_most), ("under", self.under),
                 ("interval above", self.interval_above)]  # fmt: skip
        return ", ".join(f"{word} {bound:.3g}" for word, bound in parts if bound is not None)


NO_BAR = Bar()


@dataclass(frozen=True)
class Row:
    """One figure of the report.

    Attributes:
        id: short and stable, such as ``"steered.mean"``.
        what: in words, with the unit where it is no share.
        bar: what it must reach.
        value: the figure; None when it could not be measured, and `note` says why.
        low: lower end of the 95 % interval.
        high: upper end.
        n: clips (or files, or runs: `what` says so) that the figure rests on.
        seeds: generation seeds, as text.
        note: how the interval was made, what to keep in mind, or why there is no figure.
    """

    id: str
    what: str
    bar: Bar
    value: float | None
    low: float | None
    high: float | None
    n: int
    seeds: str = ""
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the bar is cleared; None without bar, False without figure."""
        if self.value is None:
            return None if self.bar == NO_BAR else False
        return self.bar.met(self.value, self.low)

    def record(self) -> dict[str, Any]:
        """Return the row as JSON holds it, figures rounded to four places."""
        numbers = {name: _rounded(getattr(self, name)) for name in ("value", "low", "high")}
        # The bar is judged before rounding: 0.89996 is no 0.9.
        return asdict(self) | numbers | {"bar": str(self.bar), "met": self.met}


def rate_row(
    id: str,  # noqa: A002  (the word of the report)
    what: str,
    bar: Bar,
    hits: np.ndarray,
    *,
    seeds: str = "",
    note: str = "",
) -> Row:
    """Return the row of a share: the mean of hits (n,), with Wilson's 95 % interval."""
    hits = np.asarray(hits, bool)
    low, high = wilson(int(hits.sum()), len(hits))
    return Row(id, what, bar, float(hits.mean()), low, high, len(hits), seeds, note)


def absent(id: str, what: str, bar: Bar, why: str) -> Row:  # noqa: A002  (the word of the report)
    """Return the row of a figure that could not be measured, and why."""
    return Row(id, what, bar, None, None, None, 0, "", f"not measured: {why}")


def seeds_text(seeds: Sequence[int]) -> str:
    """Return seeds as text, runs shortened.

    >>> seeds_text([7, 8, 9, 12])
    '7-9, 12'
    """
    parts: list[list[int]] = []
    for seed in sorted(set(seeds)):
        if parts and seed == parts[-1][-1] + 1:
            parts[-1].append(seed)
        else:
            parts.append([seed])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in parts)


def _rounded(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else round(float(value), 4)
