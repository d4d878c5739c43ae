"""A report on a probe: every finding with its number, and those that raise an alarm."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import pandas as pd

from workbench.errors import ProbeError
from workbench.probing.diagnosis.case import Case


class Diagnosis(Protocol):
    """What every diagnosis returns: a size in the unit of the fault, perhaps a test, and plain words."""

    @property
    def effect(self) -> float:
        """The size of what was found."""

    @property
    def p_value(self) -> float | None:
        """Chance of it where nothing is wrong; None where nothing is tested."""

    def sentence(self) -> str:
        """Return what was found, with its number."""


class Test(Diagnosis, Protocol):
    """A diagnosis of a fault, which may raise an alarm."""

    def sentence(self, alarm: bool | None = None) -> str:
        """Return what was found; `alarm` is the battery's verdict, by default that of its own p-value."""


@dataclass(frozen=True, eq=False)
class Finding:
    """One diagnosis in a report.

    name      "group leak", "confound: level_db" ...
    value     the diagnosis, with all its numbers
    words     what was found, in a sentence that agrees with the alarm
    adjusted  its p-value after Holm's correction for all that could have raised an alarm; None if untested
    alarm     whether the fault is there: adjusted p at most 0.05, and a size that matters
    """

    name: str
    value: Diagnosis
    words: str
    adjusted: float | None = None
    alarm: bool = False

    @property
    def effect(self) -> float:
        """The size of what was found."""
        return self.value.effect

    def sentence(self) -> str:
        """Return what was found, with its number."""
        return self.words


@dataclass(frozen=True, eq=False)
class ProbeReport:
    """All findings about the probe of one layer.

    case     the probe under examination, for further questions
    skipped  what was not looked at, and what is needed to do so, one sentence each
    """

    case: Case
    findings: tuple[Finding, ...]
    skipped: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def __getitem__(self, name: str) -> Finding:
        """Return the finding of this name."""
        for finding in self.findings:
            if finding.name == name:
                return finding
        held = ", ".join(finding.name for finding in self.findings)
        raise ProbeError(f"The finding {name!r} was asked for", f"there are {held}", "Use one of these")

    @property
    def alarms(self) -> tuple[Finding, ...]:
        """The findings that raise an alarm, surest first."""
        raised = (finding for finding in self.findings if finding.alarm)
        return tuple(sorted(raised, key=lambda finding: finding.adjusted or 0.0))

    def table(self) -> pd.DataFrame:
        """Return one row per finding: finding, effect, p_value, adjusted, alarm, sentence."""
        rows = [
            {
                "finding": finding.name,
                "effect": finding.effect,
                "p_value": math.nan if finding.value.p_value is None else finding.value.p_value,
                "adjusted": math.nan if finding.adjusted is None else finding.adjusted,
                "alarm": finding.alarm,
                "sentence": finding.sentence(),
            }
            for finding in self.findings
        ]
        return pd.DataFrame(rows)

    def sentences(self) -> tuple[str, ...]:
        """Return the verdict, then a sentence for each finding, alarms first."""
        rest = (finding for finding in self.findings if not finding.alarm)
        return (self.verdict(), *(one.sentence() for one in (*self.alarms, *rest)))

    def verdict(self) -> str:
        """Return what holds in one sentence."""
        case, accuracy = self.case, self.case.accuracy
        told = f"The {case.target} probe of layer {case.layer} has accuracy {accuracy} on new {case.unit}s"
        tested = sum(finding.adjusted is not None for finding in self.findings)
        if not self.alarms:
            return f"{told}, and none of {tested} tests for faults raised an alarm."
        names = ", ".join(finding.name for finding in self.alarms)
        return f"{told}, but {len(self.alarms)} of {tested} tests for faults raised an alarm: {names}."
