"""HTML pages that stand alone: about a run, with its clips, and about a probe, finding by finding.

Each explains itself, holds its stylesheet and plotly.js, escapes all text and needs no network.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from workbench.errors import ProbeError
from workbench.files import write_atomically
from workbench.show.plots import diagnosis_figure
from workbench.show.plots.grammar import CONFIG, FIGURE_SCRIPT, colours_of_clips, plotly_source

if TYPE_CHECKING:
    from workbench.probing.diagnosis import Finding, ProbeReport

CSS = Path(__file__).with_name("page.css")


def document(title: str, parts: Iterable[str], *, script: str = "") -> str:
    """Return a whole page; `parts` are HTML, `title` is text."""
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{escape(title)}</title><link rel='icon' href='data:,'>"
        f"<style>{CSS.read_text(encoding='utf-8')}</style></head><body><main>{''.join(parts)}</main>"
        f"{f'<script>{script}</script>' if script else ''}</body></html>\n"
    )


def figures_html(drawn: Mapping[str, Any], *, first: bool = True) -> str:
    """Return plotly figures by caption.

    Args:
        drawn: caption -> figure.
        first: whether these are the first of their page, which then bring plotly.js along.
    """
    library = ""
    if first and drawn:  # the settings hold for the whole page: `to_html` drops an empty server's address
        settings = f"Plotly.setPlotConfig({json.dumps(CONFIG)})"
        look = FIGURE_SCRIPT.read_text(encoding="utf-8") + FIGURES_FOLLOW_THE_PAGE
        library = f"<script>{plotly_source()}</script><script>{settings}</script><script>{look}</script>"
    return library + "".join(
        f"<figure aria-label='{escape(caption, quote=True)}'>"
        f"{figure.to_html(full_html=False, include_plotlyjs=False, config=dict(CONFIG))}</figure>"
        for caption, figure in drawn.items()  # plotly changes the dict
    )


FIGURES_FOLLOW_THE_PAGE = """
addEventListener("DOMContentLoaded", () => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  for (const chart of document.querySelectorAll(".plotly-graph-div")) {
    const { data } = chart, layout = structuredClone(chart.layout);
    chart.parentElement.style.height = "";
    let width = 0, last = Promise.resolve();
    const draw = () => {
      width = chart.parentElement.clientWidth;
      chart.setAttribute("aria-busy", "true");
      last = last
        .then(() => drawn(Plotly, chart, { data, layout, width, dark: dark.matches, still: true }))
        .then(() => chart.setAttribute("aria-busy", "false"));
    };
    dark.addEventListener("change", draw);
    const watch = new ResizeObserver(() => chart.parentElement.clientWidth !== width && draw());
    watch.observe(chart.parentElement);
    draw();
  }
});
"""


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return an HTML table, everything escaped."""
    top = "".join(f"<th scope='col'>{escape(cell)}</th>" for cell in head)
    body = "".join(f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows)
    scrolls = "class='table' tabindex='0' role='region' aria-label='table'"
    return f"<div {scrolls}><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"


ONE_AT_A_TIME = """
document.addEventListener("play", (event) => {
  document.querySelectorAll("audio").forEach((other) => { if (other !== event.target) other.pause(); });
}, true);
"""
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
        report: as in report.json; `model`, `steering` (genre -> layer, dose, hit_rate, low, high, unsteered,
            random_direction, n), `probe` (layer -> accuracy, low, high, chance, shuffled; or a list of such
            with `layer`), `receipts_ok`, `seconds_per_audio_second`, `versions`, `prompt`, `seed`; absent
            ones are left out.
        figures: caption -> plotly figure; plotly.js is written into the page once.
        clips: name -> sound file; a name that starts with "unsteered" is grey, one that names a genre has
            its colour.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    parts = [
        f"<h1>The same tune, steered</h1><p class='lead'>{LEAD}</p>",
        _facts(report),
        _clips(clips, target),
        _steering(report.get("steering")),
        f"<h2>See</h2>{figures_html(figures)}" if figures else "",
        _probe(report.get("probe")),
        _versions(report.get("versions")),
    ]
    page = target / "index.html"
    text = document("MusicGen Workbench: a run", parts, script=ONE_AT_A_TIME)
    return write_atomically(page, text.encode())


def _facts(report: Mapping[str, Any]) -> str:
    """Return the few figures that matter, large."""
    names = [name for name in ("Model", "Prompt", "Seed") if name.lower() in report]
    facts = {name: _short(report[name.lower()]) for name in names}
    if "seconds_per_audio_second" in report:
        facts["Seconds of work per second of sound"] = f"{float(report['seconds_per_audio_second']):.2f}"
    marked = {}
    if "receipts_ok" in report:
        ok = bool(report["receipts_ok"])
        said = "every planned edit measured" if ok else "a planned edit did not happen"
        marked["Receipts"] = (said, ok)
    return _list_of_facts(facts, marked)


def _list_of_facts(facts: Mapping[str, str], marked: Mapping[str, tuple[str, bool]]) -> str:
    """Return facts as a list, then those that are good or bad news."""
    items = "".join(f"<li>{escape(name)}<b>{escape(value)}</b></li>" for name, value in facts.items())
    for name, (value, good) in marked.items():
        items += f"<li>{escape(name)}<b class='{'good' if good else 'bad'}'>{escape(value)}</b></li>"
    return f"<ul class='facts'>{items}</ul>"


def _short(value: Any) -> str:
    """Return a value in a few words; of a description its id or name."""
    if isinstance(value, Mapping):
        return str(value.get("id") or value.get("name") or ", ".join(map(str, value)))
    return str(value)


def _clips(clips: Mapping[str, Path | str], folder: Path) -> str:
    """Return one card per clip, with a player and a link to the file."""
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


def _steering(rows: Any) -> str:
    if not rows:
        return ""
    shown = _rows_html([{"genre": genre, **row} for genre, row in rows.items()], STEERING_COLUMNS)
    return f"<h2>Did the genre change?</h2><p>{ON_STEERING}</p>{shown}"


def _probe(rows: Any) -> str:
    if not rows:
        return ""
    if isinstance(rows, Mapping):
        rows = [{"layer": layer, **row} for layer, row in rows.items()]
    return f"<h2>The probes in figures</h2><p>{ON_PROBE}</p>{_rows_html(rows, PROBE_COLUMNS)}"


def _rows_html(rows: Iterable[Mapping[str, Any]], columns: Mapping[str, str]) -> str:
    """Return a table of rows; `columns` are headings with what stands below them."""
    return table(columns, ([_cell(row, name) for name in columns.values()] for row in rows))


def _cell(row: Mapping[str, Any], name: str) -> str:
    if name == "interval":
        return f"{_cell(row, 'low')} to {_cell(row, 'high')}"
    value = row.get(name)
    if value is None or name in ("genre", "layer", "n"):
        return "–" if value is None else str(value)
    return f"{float(value):g}" if name == "dose" else f"{float(value):.0%}"


def _versions(versions: Any) -> str:
    if not versions:
        return ""
    rows = [[str(name), str(value)] for name, value in versions.items()]
    return f"<details><summary>Versions</summary>{table(['part', 'version'], rows)}</details>"


PROBE_LEAD = (
    "Accuracy on clips whose groups the probe never saw, and what else could explain it. A finding is an "
    "alarm when its p-value stays at or below 0.05 after Holm's correction for all that were tested and its "
    "size matters; the others stand here for completeness."
)


def write_probe_page(path: Path | str, report: ProbeReport) -> Path:
    """Return the path of the page about a probe, which this writes: the verdict, then each finding.

    Args:
        path: a file name ending in ".html", or a folder, in which "probe.html" is written.
        report: as `diagnose` returns it.
    """
    path = Path(path)
    page = path if path.suffix.lower() in (".html", ".htm") else path / "probe.html"
    case = report.evaluation
    title = f"Can the {case.target} be read at layer {case.layer}?"
    quiet = [finding for finding in report if not finding.alarm]
    shown = [(finding, figure_of(finding)) for finding in (*report.alarms, *quiet)]
    drawn = [finding.name for finding, figure in shown if figure is not None]
    skipped = "".join(f"<li>{escape(one)}</li>" for one in report.skipped)
    parts = [
        f"<h1>{escape(title)}</h1><p class='lead'>{escape(report.verdict())}</p><p>{PROBE_LEAD}</p>",
        _probe_facts(report),
        *[_section(finding, figure, first=finding.name == drawn[0]) for finding, figure in shown],
        f"<h2>Not looked at</h2><ul>{skipped}</ul>" if skipped else "",
        f"<h2>All figures</h2>{_numbers(report)}",
    ]
    return write_atomically(page, document(title, parts).encode())


def figure_of(finding: Finding) -> Any | None:
    """Return the figure of a finding, or None where there is none for its kind."""
    try:
        return diagnosis_figure(finding.value)
    except ProbeError:
        return None


def _probe_facts(report: ProbeReport) -> str:
    case = report.evaluation
    facts = {
        "Target": case.target,
        "Layer": f"{case.layer} ({case.site})",
        "Probe": f"{case.method.name}, l2 {case.l2:g}",
        "Clips": str(len(case.y)),
        f"{case.unit.capitalize()}s": str(len(set(case.groups.tolist()))),
    }
    raised = f"{len(report.alarms)} raised" if report.alarms else "none"
    return _list_of_facts(facts, {"Alarms": (raised, not report.alarms)})


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
