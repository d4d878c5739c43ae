"""HTML pages that stand alone: about a run, with its clips, about a probe, and the evidence for steering.

Each explains itself, holds its stylesheet and plotly.js, escapes all text and needs no network.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from workbench.errors import ProbeError
from workbench.evidence.judge import Judges, as_judges
from workbench.evidence.report import CONTROLS, PROMPTED, RANDOM, Design, Evidence, gather, headline
from workbench.evidence.search import COSTS
from workbench.evidence.trials import UNSTEERED, Row, Trial, run_trials
from workbench.files import write_atomically
from workbench.generation.take import Take
from workbench.model.musicgen import Model
from workbench.probing.diagnosis import Finding, ProbeReport
from workbench.show import plots
from workbench.show.plots.grammar import CONFIG, FIGURE_SCRIPT, colours_of_clips, plotly_source
from workbench.sound import Clip, Dataset
from workbench.stats import Estimate

HERE = Path(__file__).parent


def document(title: str, parts: Iterable[str], *, scripts: Sequence[str] = ()) -> str:
    """Return a whole page; `title` is text, `parts` are HTML, `scripts` are files of this folder."""
    style, *code = ((HERE / name).read_text(encoding="utf-8") for name in ("page.css", *scripts))
    script = f"<script>{''.join(code)}</script>" if code else ""
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{escape(title)}</title><link rel='icon' href='data:,'>"
        f"<style>{style}</style></head><body><main>{''.join(parts)}</main>"
        f"{script}</body></html>\n"
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


def card_html(colour: str, inner: str) -> str:
    """Return a card of `inner` (HTML) with an edge in a colour."""
    return f"<div class='clip' style='border-left-color:{colour}'>{inner}</div>"


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
    "layer": "{layer}", "accuracy": "{accuracy:.0%}", "95 % interval": "{low:.0%} to {high:.0%}",
    "chance": "{chance:.0%}", "shuffled": "{shuffled:.0%}",
}  # fmt: skip
STEERING_COLUMNS = {
    "genre": "{genre}", "layer": "{layer}", "dose": "{dose:g}", "hit rate": "{hit_rate:.0%}",
    "95 % interval": "{low:.0%} to {high:.0%}", "unsteered": "{unsteered:.0%}",
    "random direction": "{random_direction:.0%}", "clips": "{n}",
}  # fmt: skip
"""Heading -> how what stands below it is written."""


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
    text = document("MusicGen Workbench: a run", parts, scripts=["page.js"])
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
        inner = (
            f"<h3>{escape(name)}</h3>"
            f"<audio controls preload='metadata' src='{link}' aria-label='{label}'></audio>"
            f"<a href='{link}' download>{escape(Path(path).name)}</a>"
        )
        cards.append(card_html(colours[name], inner))
    return f"<h2>Listen</h2><p>{ON_CLIPS}</p><div class='clips'>{''.join(cards)}</div>"


def _rows(report: Mapping[str, Any], part: str, key: str) -> list[Mapping[str, Any]]:
    """Return the rows of a part, which may be a mapping whose names are one more column, `key`."""
    rows = report.get(part) or []
    return [{key: name, **row} for name, row in rows.items()] if isinstance(rows, Mapping) else list(rows)


def _measured(head: str, words: str, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> str:
    """Return a heading, what it means and a table; `columns` are headings with what stands below them."""
    shown = table(columns, ([_cell(row, form) for form in columns.values()] for row in rows))
    return f"<h2>{head}</h2><p>{words}</p>{shown}" if rows else ""


def _cell(row: Mapping[str, Any], form: str) -> str:
    try:
        return form.format_map({name: value for name, value in row.items() if value is not None})
    except KeyError:
        return "–"


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
        return plots.diagnosis_figure(finding.value)
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


LISTENED_HZ, FLAC_BYTES = 24_000, 14_000_000  # sound of a page: no more samples a second; above, as OGG
RULE = (
    "Chosen by rule, not by ear: of the reported seeds those with the highest, median and lowest gain in the "
    "judge's probability of the genre, each beside the unsteered clip of the same prompt and seed."
)
TURNS = (
    "Five seconds of a piece, then as many from the model: once with a prompt that names the new genre, once "
    "steered with a neutral prompt, after the same beginning and with the same seed. You hear the clip with "
    "the median gain. Gain: P(new genre) in the new part minus that in the beginning."
)
TRUST = (
    "AUC: how often a clip of the genre outranks one of another; 1 is always, 0.5 a guess. Codec: by how "
    "much the codec's round trip alone moves the mean probability. Nothing is claimed of a genre that its "
    "judge hears neither in real nor in prompted clips."
)
CONTROLLED = (
    "Controls are made at the same dose with the same prompts and seeds: the unsteered model, many random "
    "directions in turn, directions from shuffled labels, those of the other genres, and the shrinking of "
    "the stream's norm alone. A prompt that names the genre is no control but the alternative."
)
PUSHED = (
    "The same directions at the same doses, pushed in other ways: by other formulas, in both branches of "
    "guidance, at several layers, and as two published systems push. Area: that under effect against "
    "quality, which is 1 minus the share of the damage budget that is used; 1 is a certain effect at no "
    "cost."
)
DOSED = "A dose counts in multiples of R, the layer's mean residual norm; dose 0 is the unsteered model."
Sounds = dict[str, dict[str, tuple[Clip, Row]]]
"""Title -> name of the clip -> its sound and what was heard in it."""


def evidence_report(
    model: Model, directions: Mapping[str, Any], *, judges: Judges = "genre", budget_minutes: float = 40.0,
    folder: Path | str = "out/evidence", music: Dataset | None = None, design: Design | None = None,
    client: Any = None, progress: bool = True,
) -> Evidence:  # fmt: skip
    """Return the evidence for steering, after writing it as one page, `folder`/index.html.

    Layers and doses are chosen on some prompts and seeds and reported on others, beside controls.
    A first batch is timed, and the budget says how many clips are made. Rows are kept in the folder: after a
    kill the same call goes on where it stopped.

    Args:
        model: the model.
        directions: aim -> direction, or method -> aim -> direction (else an EvidenceError); in place of a
            direction there may be several, one per layer. A method called "shuffled labels" is a control.
        judges: as for `run_trials`; the first that knows an aim gives its verdict, none is an EvidenceError.
        budget_minutes: how long it may take; it takes longer where this is too short for the fewest clips.
        folder: of rows, table and page; a DiskError where it cannot be written.
        music: labelled clips on which judges are validated and with which transitions begin, best others than
            the directions were made from; without it neither is done.
        design: doses, prompts, seconds and clips; by default those of `Design`.
        client: a `dask.distributed.Client` whose workers make the clips.
        progress: whether to say how long it takes and to show progress bars.

    >>> evidence_report(model, probes.directions(3), music=songs, budget_minutes=5)  # doctest: +SKIP
    >>> evidence_report(None, {})
    Traceback (most recent call last):
    workbench.errors.EvidenceError: A report on directions was asked for, but the methods aim at [], ...
    """
    design, ears = design or Design(), as_judges(judges)
    options: dict[str, Any] = {"client": client, "progress": progress}
    found = gather(model, directions, ears, design, folder=Path(folder), minutes=budget_minutes, music=music,
                   **options)  # fmt: skip
    sounds: Sounds = {title: {} for title in found.examples}
    places = {id(one): (title, name) for title in sounds for name, one in found.examples[title].items()}

    def keep(trial: Trial, take: Take, row: Row) -> None:
        title, name = places[id(trial)]
        sounds[title][name] = (take.clip.resample(min(take.clip.rate_hz, LISTENED_HZ)), row)

    every = [trial for some in found.examples.values() for trial in some.values()]
    for goes_on in (False, True):
        if some := [one for one in every if (one.prompt_codes is not None) == goes_on]:
            run_trials(model, some, ears, seconds=design.seconds, likely=False, on_row=keep, **options)
    found.table.to_csv(found.folder / "table.csv", index=False)
    write_atomically(found.page, evidence_page(found, sounds).encode())
    return found


def evidence_page(found: Evidence, sounds: Sounds) -> str:
    """Return the page about the evidence, with these sounds by title of its examples."""
    steered = sum(one.steers for one in found.verdicts.values())
    said = "".join(
        card_html(f"var(--{'good' if one.steers else 'bad'})", escape(one.sentence))
        for one in found.verdicts.values()
    )
    shown = {"main": found.main, "control": RANDOM}
    drawn = {f"{aim} over the dose": plots.dose_of_aim(found.table, aim, **shown) for aim in found.verdicts}
    matrix = plots.judged_table(found.matrix)
    matrix.update_layout(title_text="<b>What is heard when a genre is steered to?</b>")
    pieces = {title: some for title, some in sounds.items() if " to " not in title}
    turned = {title: some for title, some in sounds.items() if " to " in title}
    facts = {"Model": found.settings["model"].split("#")[0], "Method": found.main}
    facts |= {"Clips": found.settings["clips"].split()[0], "Minutes": found.settings["minutes"].split()[0]}
    controls = {"controls": plots.beside_controls(found.table, found.main, [*CONTROLS, PROMPTED])}
    turns = table(found.turns.columns, found.turns.to_numpy(), named=True)
    cost = {"effect and quality": plots.frontier(found.curves, found.methods, control=RANDOM)}
    drawn_ways = plots.frontier(found.ways, found.ways[:0], title="What does each way to push cost?")
    ways = {"ways to push": drawn_ways}
    parts = [
        f"<h1>Is the steering real?</h1><p class='lead'>{escape(headline(found.verdicts))}</p>",
        facts_html(facts, {"Genres that steer": (f"{steered} of {len(found.verdicts)}", steered > 0)}),
        f"<div class='said'>{said}</div>",
        f"<h2>Beside controls</h2><p>{CONTROLLED}</p>{figures_html(controls)}{_numbers_by_aim(found)}",
        f"<h2>Dose and response</h2><p>{DOSED}</p>{figures_html(drawn, first=False)}",
        f"<h2>Target and verdict</h2>{figures_html({'target and verdict': matrix}, first=False)}",
        f"<h2>All methods</h2>{figures_html(cost, first=False)}{table(*method_rows(found), named=True)}",
        f"<h2>Ways to push</h2><p>{PUSHED}</p>{figures_html(ways, first=False)}"
        f"{table(*way_rows(found), named=True)}" if found.ways["method"].nunique() > 1 else "",
        f"<h2>Listen</h2><p>{RULE}</p>{_players(pieces)}",
        f"<h2>Transitions</h2><p>{TURNS}</p>{turns}{_players(turned)}" if turned else "",
        f"<h2>Can the judges be trusted?</h2><p>{TRUST}</p>{_trusted(found)}",
        "<h2>Settings</h2><dl>"
        + "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in found.settings.items())
        + "</dl>",
    ]
    return document("MusicGen Workbench: is the steering real?", parts, scripts=["page.js"])


def _interval(row: Mapping[Any, Any], name: str, form: str = ".0%") -> str:
    value, low, high = (format(round(row[f"{name}{end}"], 2) + 0.0, form) for end in ("", "_low", "_high"))
    return f"{value} ({low} to {high})"


def _numbers_by_aim(found: Evidence) -> str:
    """Return a table per aim of everything at the chosen settings."""
    rows = []
    for row in found.table[found.table["chosen"]].to_dict("records"):
        mine = row["method"] == found.main
        p_value = f"{row['adjusted_p']:.2g}" if mine else ""
        rows.append([row["aim"], row["method"], f"{row['dose']:g}", row["n"], _interval(row, "hit_rate"),
                     _interval(row, "gain", "+.2f"), _interval(row, "wrong_way"), p_value])  # fmt: skip
    head = ["aim", "method", "dose", "n", "heard as the aim", "gain in P(aim)", "moved away", "p (Holm)"]
    return f"<details><summary>All figures</summary>{table(head, rows)}</details>"


def method_rows(found: Evidence) -> tuple[list[str], list[list[str]]]:
    """Return the headings and rows that compare all methods at the chosen settings, over all aims."""
    names = {"hit_rate": ".0%", "gain": "+.2f", "wrong_way": ".0%", **dict.fromkeys(COSTS, "+.2f")}
    rows = [
        [row["method"], *(_interval(row, name, form) for name, form in names.items())]
        for row in found.methods.to_dict("records")
    ]
    head = ["heard as the aim", "gain in P(aim)", "moved away", "NLL (nats)", "level (dB)", "repetition"]
    return ["method", *head], rows


def way_rows(found: Evidence) -> tuple[list[str], list[list[str]]]:
    """Return the headings and rows that compare ways to push by dose, the largest area first."""
    doses = [f"{dose:g}" for dose in sorted(found.ways["dose"].unique())]
    rows = []
    for name, part in found.ways.groupby("method", sort=False):
        own = part.sort_values("dose").to_dict("records")
        rows.append([str(name), f"{own[0]['area']:.2f}", *(_interval(row, "hit_rate") for row in own),
                     *(f"{row['nll_rise']:+.2f}" for row in own)])  # fmt: skip
    head = [*(f"heard at {dose}" for dose in doses), *(f"NLL at {dose} (nats)" for dose in doses)]
    return ["way to push", "area", *head], rows


def judge_rows(found: Evidence) -> tuple[list[str], list[list[str]]]:
    """Return the headings and rows of how well each judge tells each aim."""
    rows = [
        [row["judge"], row["class"], row["material"], str(row["n"]), row["figure"],
         str(Estimate(row["value"], row["low"], row["high"])), "yes" if row["ok"] else "no"]
        for row in found.judges.to_dict("records")
    ]  # fmt: skip
    return ["judge", "genre", "on", "clips", "figure", "value", "passed"], rows


def _trusted(found: Evidence) -> str:
    """Return how well judges tell genres, and what each of several says of the steering."""
    text = table(*judge_rows(found))
    if len(found.by_judge) > 1:
        rows = [
            [name, row["aim"], row["method"], _interval(row, "hit_rate"), _interval(row, "gain", "+.2f")]
            for name, every in found.by_judge.items()
            for row in every[every["chosen"]].to_dict("records")
            if row["method"] in (found.main, UNSTEERED)
        ]
        head = ["judge", "genre", "method", "heard as the genre", "gain in P(genre)"]
        text += "<h3>What each judge says of the steering</h3>" + table(head, rows)
    return text


def _players(sounds: Sounds) -> str:
    """Return a card per title with a player per clip, what was heard in it written above."""
    clips = [clip for some in sounds.values() for clip, _row in some.values()]
    size = sum(len(clip.encode("flac")) for clip in clips)
    kind, cards = ("flac" if size <= FLAC_BYTES else "ogg"), []
    for title, some in sounds.items():
        colour, inner = colours_of_clips([title.rpartition(" to ")[2]]).popitem()[1], ""
        for name, (clip, row) in some.items():
            judged = next(str(heard) for key, heard in row.items() if key.startswith("judged_"))
            told = f"{name}: heard as {judged}, P({row['aim']}) {row['p']:.0%}"
            inner += f"<p>{escape(told)}</p>{player_html(clip, f'{title}, {name}', kind)}"
        cards.append(card_html(colour, f"<h3>{escape(title)}</h3>{inner}"))
    return f"<div class='clips'>{''.join(cards)}</div>"


def player_html(clip: Clip, label: str, kind: str = "flac") -> str:
    """Return a player that holds its sound."""
    sound = base64.b64encode(clip.encode(kind)).decode()
    return (
        f"<audio controls preload='metadata' src='data:audio/{kind};base64,{sound}' "
        f"aria-label='{escape(label, quote=True)}'></audio>"
    )
