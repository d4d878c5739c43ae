"""One HTML page about a run, that explains itself, plays its clips and needs nothing from the network."""

from __future__ import annotations

import os
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from workbench.files import write_atomically
from workbench.show.colours import colours_of_clips
from workbench.show.document import document, table
from workbench.show.document import figures as drawn

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
        f"<h2>See</h2>{drawn(figures)}" if figures else "",
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
