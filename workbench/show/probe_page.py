"""A report on a probe as one HTML page: the verdict, then each finding with its number and its figure."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import ProbeError
from workbench.files import write_atomically
from workbench.show.document import document, figures, table
from workbench.show.plots import diagnosis_figure

if TYPE_CHECKING:
    from workbench.probing.diagnosis import Finding, ProbeReport

LEAD = (
    "Accuracy on clips whose groups the probe never saw, and what else could explain it. A finding is an "
    "alarm when its p-value stays at or below 0.05 after Holm's correction for all that were tested and its "
    "size matters; the others are told for completeness."
)


def write_probe_page(path: Path | str, report: ProbeReport) -> Path:
    """Return the path of the page, which this writes; it needs nothing from the network.

    Args:
        path: a file name ending in ".html", or a folder, in which "probe.html" is written.
        report: as `diagnose` or `ProbeSweep.report` returns it.
    """
    path = Path(path)
    page = path if path.suffix.lower() in (".html", ".htm") else path / "probe.html"
    case = report.case
    title = f"Can the {case.target} be read at layer {case.layer}?"
    raised = list(report.alarms)
    quiet = [finding for finding in report if not finding.alarm]
    shown = [(finding, figure_of(finding)) for finding in (*raised, *quiet)]
    drawn = [finding.name for finding, figure in shown if figure is not None]
    parts = [
        f"<h1>{escape(title)}</h1><p class='lead'>{escape(report.verdict())}</p><p>{LEAD}</p>",
        _facts(report),
        *[_section(finding, figure, first=finding.name == drawn[0]) for finding, figure in shown],
        _skipped(report.skipped),
        f"<h2>All figures</h2>{_numbers(report)}",
    ]
    return write_atomically(page, document(title, parts).encode())


def figure_of(finding: Finding) -> Any | None:
    """Return the figure of a finding, or None where there is none for its kind."""
    try:
        return diagnosis_figure(finding.value)
    except ProbeError:
        return None


def _facts(report: ProbeReport) -> str:
    case = report.case
    facts = {
        "Target": case.target,
        "Layer": f"{case.layer} ({case.site})",
        "Probe": f"{case.method}, strength {case.strength:g}",
        "Clips": str(len(case.y)),
        f"{case.unit.capitalize()}s": str(len(set(case.groups.tolist()))),
    }
    items = "".join(f"<li>{escape(name)}<b>{escape(value)}</b></li>" for name, value in facts.items())
    said, look = (f"{len(report.alarms)} raised", "bad") if report.alarms else ("none", "good")
    return f"<ul class='facts'>{items}<li>Alarms<b class='{look}'>{said}</b></li></ul>"


def _section(finding: Finding, figure: Any | None, *, first: bool) -> str:
    mark = "<span class='bad'>alarm</span> " if finding.alarm else ""
    chance = "" if finding.adjusted is None else f" <small>(corrected p = {finding.adjusted:.3g})</small>"
    head = f"<h2>{mark}{escape(finding.name)}{chance}</h2><p>{escape(finding.sentence())}</p>"
    return head + ("" if figure is None else figures({finding.name: figure}, first=first))


def _skipped(sentences: tuple[str, ...]) -> str:
    if not sentences:
        return ""
    return f"<h2>Not looked at</h2><ul>{''.join(f'<li>{escape(one)}</li>' for one in sentences)}</ul>"


def _numbers(report: ProbeReport) -> str:
    head = ["finding", "effect", "p", "corrected p", "alarm"]
    rows = [
        [
            row["finding"],
            f"{row['effect']:.3f}",
            "" if row["p_value"] != row["p_value"] else f"{row['p_value']:.3g}",
            "" if row["adjusted"] != row["adjusted"] else f"{row['adjusted']:.3g}",
            "yes" if row["alarm"] else "",
        ]
        for row in report.table().to_dict("records")
    ]
    return table(head, rows)
