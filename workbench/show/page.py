"""One HTML page about a run, that explains itself, plays its clips and needs nothing from the network."""

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
from workbench.show.plots.grammar import CONFIG, colours_of_clips, plotly_source

if TYPE_CHECKING:
    from workbench.probing.diagnosis import Finding, ProbeReport

# The parts of a self-contained HTML page: one stylesheet, figures with plotly.js inside, escaped tables.


CSS = Path(__file__).with_name("page.css")


def document(title: str, parts: Iterable[str], *, script: str = "") -> str:
    """Return a whole page; `parts` are HTML, `title` is text."""
    return "".join(
        [
            "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
            "<meta name='viewport' content='width=device-width, initial-scale=1'>",
            f"<title>{escape(title)}</title><link rel='icon' href='data:,'>",
            f"<style>{CSS.read_text(encoding='utf-8')}</style></head><body><main>",
            *parts,
            f"</main>{f'<script>{script}</script>' if script else ''}</body></html>\n",
        ]
    )


def figures_html(drawn: Mapping[str, Any], *, first: bool = True) -> str:
    """Return plotly figures by caption.

    Args:
        drawn: caption -> figure.
        first: whether these are the first of their page, which then bring plotly.js along.
    """
    library = _library() if first and drawn else ""
    return library + "".join(
        f"<figure aria-label='{escape(caption, quote=True)}'>"
        + figure.to_html(
            full_html=False, include_plotlyjs=False, config=dict(CONFIG)
        )  # plotly changes the dict
        + "</figure>"
        for caption, figure in drawn.items()
    )


def _library() -> str:
    """Return plotly.js, and its settings for the whole page: `to_html` drops an empty server's address."""
    return f"<script>{plotly_source()}</script><script>Plotly.setPlotConfig({json.dumps(CONFIG)})</script>"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return an HTML table, everything escaped."""
    top = "".join(f"<th scope='col'>{escape(cell)}</th>" for cell in head)
    body = "".join(f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows)
    return f"<div class='table'><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"


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
    facts = [
        (name, _short(report[name.lower()])) for name in ("Model", "Prompt", "Seed") if name.lower() in report
    ]
    if "seconds_per_audio_second" in report:
        facts.append(
            ("Seconds of work per second of sound", f"{float(report['seconds_per_audio_second']):.2f}")
        )
    items = "".join(f"<li>{escape(name)}<b>{escape(value)}</b></li>" for name, value in facts)
    if "receipts_ok" in report:
        items += _receipts(bool(report["receipts_ok"]))
    return f"<ul class='facts'>{items}</ul>"


def _receipts(ok: bool) -> str:
    said = "every planned edit measured" if ok else "a planned edit did not happen"
    return f"<li>Receipts<b class='{'good' if ok else 'bad'}'>{said}</b></li>"


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
    head = ["genre", "layer", "dose", "hit rate", "95 % interval", "unsteered", "random direction", "clips"]
    body = [
        [
            genre,
            str(row.get("layer", "")),
            _number(row.get("dose")),
            _share(row.get("hit_rate")),
            f"{_share(row.get('low'))} to {_share(row.get('high'))}",
            _share(row.get("unsteered")),
            _share(row.get("random_direction")),
            str(row.get("n", "")),
        ]
        for genre, row in rows.items()
    ]
    return f"<h2>Did the genre change?</h2><p>{ON_STEERING}</p>{table(head, body)}"


def _probe(rows: Any) -> str:
    if not rows:
        return ""
    listed = (
        [{"layer": layer, **row} for layer, row in rows.items()] if isinstance(rows, Mapping) else list(rows)
    )
    head = ["layer", "accuracy", "95 % interval", "chance", "shuffled"]
    body = [
        [
            str(row["layer"]),
            _share(row.get("accuracy")),
            f"{_share(row.get('low'))} to {_share(row.get('high'))}",
            _share(row.get("chance")),
            _share(row.get("shuffled")),
        ]
        for row in listed
    ]
    return f"<h2>The probes in figures</h2><p>{ON_PROBE}</p>{table(head, body)}"


def _versions(versions: Any) -> str:
    if not versions:
        return ""
    rows = [[str(name), str(value)] for name, value in versions.items()]
    return f"<details><summary>Versions</summary>{table(['part', 'version'], rows)}</details>"


def _share(value: Any) -> str:
    return "–" if value is None else f"{float(value):.0%}"


def _number(value: Any) -> str:
    return "–" if value is None else f"{float(value):g}"


# A report on a probe as one HTML page: the verdict, then each finding with its number and its figure.


PROBE_LEAD = (
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
    case = report.evaluation
    title = f"Can the {case.target} be read at layer {case.layer}?"
    raised = list(report.alarms)
    quiet = [finding for finding in report if not finding.alarm]
    shown = [(finding, figure_of(finding)) for finding in (*raised, *quiet)]
    drawn = [finding.name for finding, figure in shown if figure is not None]
    parts = [
        f"<h1>{escape(title)}</h1><p class='lead'>{escape(report.verdict())}</p><p>{LEAD}</p>",
        _probe_facts(report),
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


def _probe_facts(report: ProbeReport) -> str:
    case = report.evaluation
    facts = {
        "Target": case.target,
        "Layer": f"{case.layer} ({case.site})",
        "Probe": f"{case.method.name}, l2 {case.l2:g}",
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
    return head + ("" if figure is None else figures_html({finding.name: figure}, first=first))


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
