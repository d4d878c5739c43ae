"""Checks of the probe lab's exercises; the right answer comes from the reader's own figures."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from workbench.show.exercises import Verdict

if TYPE_CHECKING:
    from workbench.probing.diagnosis import ProbeReport


def alarms(report: ProbeReport, answer: Iterable[str] | None) -> Verdict:
    """Check which findings of a report are alarms."""
    tested = [finding.name for finding in report if finding.adjusted is not None]
    if answer is None:
        return Verdict(None, f"Give a list, [] if there is none; tested were: {', '.join(tested)}.")
    given, raised = set(answer), {finding.name for finding in report.alarms}
    strange = sorted(given - set(tested))
    if strange:
        return Verdict(False, f"{', '.join(strange)} was not tested; tested were: {', '.join(tested)}.")
    told = "; ".join(f"{name}: corrected p = {report[name].adjusted:.2g}" for name in tested)
    if given == raised:
        return Verdict(True, f"{told}. An alarm needs p at or below 0.05, and a size that matters.")
    wrong = min(given ^ raised)
    verb = "is" if wrong in raised else "is not"
    return Verdict(False, f"{wrong} {verb} an alarm: {report[wrong].sentence()}")


def owed_to_the_model(report: ProbeReport, answer: float | None) -> Verdict:
    """Check how many points of accuracy the model adds to the strongest baseline."""
    found = report["baselines"].value
    if answer is None:
        return Verdict(None, "Give a number of percentage points, for example 12.")
    points = 100 * found.effect
    if abs(float(answer) - points) > 1:
        return Verdict(False, f"You say {float(answer):g} points. Read the Baselines tab: {found.sentence()}")
    more = "The rest was in the sound, or in the codes, before the model heard anything."
    return Verdict(True, f"{found.sentence()} {more}")
