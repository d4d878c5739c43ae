"""HTML pages that stand alone: about a run, with its clips, and about a probe, finding by finding.

Each explains itself, holds its stylesheet and plotly.js, escapes all text and needs no network.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from workbench.errors import ProbeError
from workbench.files import write_atomically
from workbench.probing.diagnosis import Finding, ProbeReport
from workbench.show.plots import diagnosis_figure
from workbench.show.plots.grammar import CONFIG, FIGURE_SCRIPT, colours_of_clips, plotly_source

HERE = Path(__file__).parent


def document(title: str, parts: Iterable[str], *, script: str = "") -> str:
    """Return a whole page; `parts` are HTML, `title` is text."""
    style = (HERE / "page.css").read_text(encoding="utf-8")
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{escape(title)}</title><link rel='icon' href='data:,'>"
        f"<style>{style}</style></head><body><main>{''.join(parts)}</main>"
        f"{f'<script>{script}</script>' if script else ''}</body></html>\n"
    )


def figures_html(drawn: Mapping[str, Any], *, first: bool = True) -> str:
    """Return plotly figures by caption; the `first` of a page bring plotly.js along."""
    library = ""
    if first and drawn:  # the settings hold for the whole page: `to_html` drops an empty server's address
        settings = f"Plotly.setPlotConfig({json.dumps(CONFIG)})"
        look = "".join(one.read_text("utf-8") for one in (FIGURE_SCRIPT, HERE / "page_figures.js"))
        library = f"<script>{plotly_source()}</script><script>{settings}</script><script>{look}</script>"
    return library + "".join(
        f"<figure aria-label='{escape(caption, quote=True)}'>"
        f"{figure.to_html(full_html=False, include_plotlyjs=False, config=dict(CONFIG))}</figure>"
        for caption, figure in drawn.items()  # plotly changes the dict
    )


def table(head: Iterable[str], rows: Iterable[Iterable[object]], *, named: bool = False) -> str:
    """Return an HTML table, everything escaped; `named` rows begin with their name."""
    top = "".join(f"<th scope='col'>{escape(cell)}</th>" for cell in head)
    body = ""
    for row in rows:
        cells = [f"<td>{escape(str(cell))}</td>" for cell in row]
        if named:
            cells[0] = cells[0].replace("<td>", "<th scope='row'>").replace("</td>", "</th>")
        body += f"<tr>{''.join(cells)}</tr>"
    scrolls = "class='table' tabindex='0' role='region' aria-label='table'"
    return f"<div {scrolls}><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"


def facts_html(facts: Mapping[str, str], marked: Mapping[str, tuple[str, bool]]) -> str:
    """Return facts as a list, then those that are good (True) or bad news."""
    items = "".join(f"<li>{escape(name)}<b>{escape(value)}</b></li>" for name, value in facts.items())
    for name, (value, good) in marked.items():
        items += f"<li>{escape(name)}<b class='{'good' if good else 'bad'}'>{escape(value)}</b></li>"
    return f"<ul class='facts'>{items}</ul>"


LEAD = (
    "A probe found in which layers of the model a genre can be read off, and gave a direction for each. "
    "Adding a direction while the model composes pushed the same prompt, with the same seed, towards it."
)
ON_CLIPS = (
    "The first clip is the model left alone. The others have the same prompt and seed; only the residual "
    "stream was pushed towards a genre."
)
ON_STEERING = (
    "Share of steered clips that a judge, which hears audio only, takes for the wanted genre, with its 95 % "
    "interval; beside it the same share without steering and for random directions of equal norm. A dose "
    "counts in multiples of the mean residual norm of the layer."
)
ON_PROBE = (
    "Accuracy of a linear probe on pieces that it was not fitted on; no group (track, groove) lies on both "
    "sides. Chance is the commonest class; shuffled is the same fit on shuffled labels."
)
PROBE_COLUMNS = {
    "layer": "layer", "accuracy": "accuracy", "95 % interval": "interval", "chance": "chance",
    "shuffled": "shuffled",
}  # fmt: skip
STEERING_COLUMNS = {
    "genre": "genre", "layer": "layer", "dose": "dose", "hit rate": "hit_rate", "95 % interval": "interval",
    "unsteered": "unsteered", "random direction": "random_direction", "clips": "n",
}  # fmt: skip
"""Heading -> what of a row stands below it."""


def write_page(
    folder: Path | str, report: Mapping[str, Any], figures: Mapping[str, Any], clips: Mapping[str, Path | str]
) -> Path:
    """Return the path of `folder`/index.html, which this writes.

    Args:
        folder: made if it is not there; clips are linked relative to it.
        report: as in report.json, as far as it goes: `model`, `steering` (genre -> layer, dose, hit_rate,
            low, high, unsteered, random_direction, n), `probe` (layer -> accuracy, low, high, chance,
            shuffled; or a list of such), `receipts_ok`, `seconds_per_audio_second`, `versions`, `prompt`,
            `seed`.
        figures: caption -> plotly figure.
        clips: name -> sound file; unsteered ones are grey, one that names a genre has its colour.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    parts = [
        f"<h1>The same tune, steered</h1><p class='lead'>{LEAD}</p>",
        _facts(report),
        _clips(clips, target),
        _measured("Did the genre change?", ON_STEERING, _rows(report, "steering", "genre"), STEERING_COLUMNS),
        f"<h2>See</h2>{figures_html(figures)}" if figures else "",
        _measured("The probes in figures", ON_PROBE, _rows(report, "probe", "layer"), PROBE_COLUMNS),
    ]
    if report.get("versions"):
        versions = table(["part", "version"], report["versions"].items())
        parts.append(f"<details><summary>Versions</summary>{versions}</details>")
    script = (HERE / "page.js").read_text(encoding="utf-8")
    text = document("MusicGen Workbench: a run", parts, script=script)
    return write_atomically(target / "index.html", text.encode())


def _facts(report: Mapping[str, Any]) -> str:
    names = [name for name in ("Model", "Prompt", "Seed") if name.lower() in report]
    facts = {name: _short(report[name.lower()]) for name in names}
    if "seconds_per_audio_second" in report:
        facts["Seconds of work per second of sound"] = f"{float(report['seconds_per_audio_second']):.2f}"
    marked = {}
    if "receipts_ok" in report:
        ok = bool(report["receipts_ok"])
        marked["Receipts"] = ("every planned edit measured" if ok else "a planned edit did not happen", ok)
    return facts_html(facts, marked)


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return str(value.get("id") or value.get("name") or ", ".join(map(str, value)))
    return str(value)


def _clips(clips: Mapping[str, Path | str], folder: Path) -> str:
    if not clips:
        return ""
    colours = colours_of_clips(clips)
    cards = []
    for name, path in clips.items():
        link, label = quote(Path(os.path.relpath(path, folder)).as_posix()), escape(name, quote=True)
        cards.append(
            f"<div class='clip' style='border-left-color:{colours[name]}'><h3>{escape(name)}</h3>"
            f"<audio controls preload='metadata' src='{link}' aria-label='{label}'></audio>"
            f"<a href='{link}' download>{escape(Path(path).name)}</a></div>"
        )
    return f"<h2>Listen</h2><p>{ON_CLIPS}</p><div class='clips'>{''.join(cards)}</div>"


def _rows(report: Mapping[str, Any], part: str, key: str) -> list[Mapping[str, Any]]:
    """Return the rows of a part, which may be a mapping whose names are one more column, `key`."""
    rows = report.get(part) or []
    return [{key: name, **row} for name, row in rows.items()] if isinstance(rows, Mapping) else list(rows)


def _measured(head: str, words: str, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> str:
    """Return a heading, what it means and a table; `columns` are headings with what stands below them."""
    if not rows:
        return ""
    shown = table(columns, ([_cell(row, name) for name in columns.values()] for row in rows))
    return f"<h2>{head}</h2><p>{words}</p>{shown}"


def _cell(row: Mapping[str, Any], name: str) -> str:
    if name == "interval":
        return f"{_cell(row, 'low')} to {_cell(row, 'high')}"
    value = row.get(name)
    if value is None or name in ("genre", "layer", "n"):
        return "–" if value is None else str(value)
    return f"{float(value):g}" if name == "dose" else f"{float(value):.0%}"


PROBE_LEAD = (
    "Accuracy on clips whose groups the probe never saw, and what else could explain it. A finding is an "
    "alarm when its p-value stays at or below 0.05 after Holm's correction for all that were tested and its "
    "size matters; the others stand here for completeness."
)


def write_probe_page(path: Path | str, report: ProbeReport) -> Path:
    """Write the page about a probe, the verdict, then each finding, to a file or a folder's probe.html."""
    path, case = Path(path), report.evaluation
    page = path if path.suffix.lower() in (".html", ".htm") else path / "probe.html"
    title = f"Can the {case.target} be read at layer {case.layer}?"
    facts = {
        "Target": case.target,
        "Layer": f"{case.layer} ({case.site})",
        "Probe": f"{case.method.name}, l2 {case.l2:g}",
        "Clips": str(len(case.y)),
        f"{case.unit.capitalize()}s": str(len(set(case.groups.tolist()))),
    }
    raised = f"{len(report.alarms)} raised" if report.alarms else "none"
    quiet = [finding for finding in report if not finding.alarm]
    shown = [(finding, figure_of(finding)) for finding in (*report.alarms, *quiet)]
    drawn = [finding.name for finding, figure in shown if figure is not None]
    skipped = "".join(f"<li>{escape(one)}</li>" for one in report.skipped)
    parts = [
        f"<h1>{escape(title)}</h1><p class='lead'>{escape(report.verdict())}</p><p>{PROBE_LEAD}</p>",
        facts_html(facts, {"Alarms": (raised, not report.alarms)}),
        *[_section(finding, figure, first=finding.name == drawn[0]) for finding, figure in shown],
        f"<h2>Not looked at</h2><ul>{skipped}</ul>" if skipped else "",
        f"<h2>All figures</h2>{_numbers(report)}",
    ]
    return write_atomically(page, document(title, parts).encode())


def figure_of(finding: Finding) -> Any | None:
    """Return the figure of a finding, or None where there is none for its kind."""
    with suppress(ProbeError):
        return diagnosis_figure(finding.value)
    return None


def _section(finding: Finding, figure: Any | None, *, first: bool) -> str:
    mark = "<span class='bad'>alarm</span> " if finding.alarm else ""
    chance = "" if finding.adjusted is None else f" <small>(corrected p = {finding.adjusted:.3g})</small>"
    head = f"<h2>{mark}{escape(finding.name)}{chance}</h2><p>{escape(finding.sentence())}</p>"
    return head + ("" if figure is None else figures_html({finding.name: figure}, first=first))


def _numbers(report: ProbeReport) -> str:
    rows = []
    for row in report.table().to_dict("records"):
        chances = ["" if row[name] != row[name] else f"{row[name]:.3g}" for name in ("p_value", "adjusted")]
        rows.append([row["finding"], f"{row['effect']:.3f}", *chances, "yes" if row["alarm"] else ""])
    return table(["finding", "effect", "p", "corrected p", "alarm"], rows)
