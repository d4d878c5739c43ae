"""HTML pages that stand alone: about a run, with its clips, about a probe, and the evidence for steering.

Each explains itself, holds its stylesheet and plotly.js, escapes all text and needs no network. What they say
stands in the folder `html`.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

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
from workbench.show.plots.grammar import CONFIG, colours_of_clips, plotly_source
from workbench.sound import Clip, Dataset
from workbench.stats import Estimate

HERE = Path(__file__).parent


def render(template: str, **parts: Any) -> str:
    """Return a template of the folder `html`, filled in; text in its parts is escaped."""
    return _TEMPLATES.get_template(template).render(**parts)


def player_html(clip: Clip, label: str, kind: str = "flac") -> Markup:
    """Return a player that holds its sound."""
    return part("player", f"data:audio/{kind};base64,{base64.b64encode(clip.encode(kind)).decode()}", label)


def part(name: str, *given: object) -> Markup:
    """Return what a macro of parts.html makes; text that it is given is escaped."""
    return getattr(_TEMPLATES.get_template("parts.html").module, name)(*given)


def _read(name: str) -> Markup:
    return Markup((HERE / name).read_text(encoding="utf-8"))


def _drawn(figure: Any) -> Markup:
    return Markup(figure.to_html(full_html=False, include_plotlyjs=False, config=dict(CONFIG)))


def _cell(row: Mapping[str, Any], form: str) -> str:
    """Return how a cell is written, "–" where there is nothing to write."""
    try:
        return form.format_map({name: value for name, value in row.items() if value is not None})
    except KeyError:
        return "–"


def _interval(row: Mapping[Any, Any], name: str, form: str = ".0%") -> str:
    value, low, high = (format(round(row[f"{name}{end}"], 2) + 0.0, form) for end in ("", "_low", "_high"))
    return f"{value} ({low} to {high})"


_TEMPLATES = Environment(
    loader=FileSystemLoader(HERE / "html"), autoescape=True, trim_blocks=True, undefined=StrictUndefined
)
_TEMPLATES.filters |= {"cell": _cell, "interval": _interval}
_TEMPLATES.globals |= {"read": _read, "drawn": _drawn, "plotly_source": plotly_source, "config": CONFIG}


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
    colours = colours_of_clips(clips)
    links = {name: quote(Path(os.path.relpath(path, target)).as_posix()) for name, path in clips.items()}
    text = render(
        "run.html",
        report=report,
        clips=[(name, colours[name], links[name], Path(path).name) for name, path in clips.items()],
        figures=figures,
        steering=_rows(report, "steering", "genre"),
        probe=_rows(report, "probe", "layer"),
    )
    return write_atomically(target / "index.html", text.encode())


def _rows(report: Mapping[str, Any], part: str, key: str) -> list[Mapping[str, Any]]:
    """Return the rows of a part, which may be a mapping whose names are one more column, `key`."""
    rows = report.get(part) or []
    return [{key: name, **row} for name, row in rows.items()] if isinstance(rows, Mapping) else list(rows)


def write_probe_page(path: Path | str, report: ProbeReport) -> Path:
    """Write the page about a probe, the verdict, then each finding, to a file or a folder's probe.html."""
    path, case = Path(path), report.evaluation
    page = path if path.suffix.lower() in (".html", ".htm") else path / "probe.html"
    title = f"Can the {case.target} be read at layer {case.layer}?"
    return write_atomically(
        page, render("probe.html", title=title, report=report, figure_of=figure_of).encode()
    )


def figure_of(finding: Finding) -> Any | None:
    """Return the figure of a finding, or None where there is none for its kind."""
    with suppress(ProbeError):
        return plots.diagnosis_figure(finding.value)
    return None


LISTENED_HZ, FLAC_BYTES = 24_000, 14_000_000  # sound of a page: no more samples a second; above, as OGG
PUSHED = (
    "The same directions at the same doses, pushed in other ways: by other formulas, in both branches of "
    "guidance, at several layers, and as two published systems push. Area: that under effect against "
    "quality, which is 1 minus the share of the damage budget that is used; 1 is a certain effect at no "
    "cost."
)
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
    matrix = plots.judged_table(found.matrix)
    matrix.update_layout(title_text="<b>What is heard when a genre is steered to?</b>")
    shown = {"main": found.main, "control": RANDOM}
    by_judge = [
        {"judge": name, **row}
        for name, every in found.by_judge.items()
        for row in every[every["chosen"] & every["method"].isin([found.main, UNSTEERED])].to_dict("records")
    ]
    return render(
        "evidence.html",
        found=found,
        lead=headline(found.verdicts),
        controls=plots.beside_controls(found.table, found.main, [*CONTROLS, PROMPTED]),
        doses={
            f"{aim} over the dose": plots.dose_of_aim(found.table, aim, **shown) for aim in found.verdicts
        },
        matrix=matrix,
        cost=plots.frontier(found.curves, found.methods, control=RANDOM),
        chosen=found.table[found.table["chosen"]].to_dict("records"),
        methods=method_rows(found),
        pushed=PUSHED,
        ways=way_rows(found) if found.ways["method"].nunique() > 1 else None,
        ways_drawn=plots.frontier(found.ways, found.ways[:0], title="What does each way to push cost?"),
        judges=judge_rows(found),
        by_judge=by_judge,
        pieces=_players({title: some for title, some in sounds.items() if " to " not in title}),
        turned=_players({title: some for title, some in sounds.items() if " to " in title}),
    )


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


def _players(sounds: Sounds) -> list[tuple[str, str, list[tuple[str, Markup]]]]:
    """Return title and colour of each card, and for each of its clips what was heard in it and a player."""
    clips = [clip for some in sounds.values() for clip, _row in some.values()]
    size = sum(len(clip.encode("flac")) for clip in clips)
    kind, cards = ("flac" if size <= FLAC_BYTES else "ogg"), []
    for title, some in sounds.items():
        (colour,), shown = colours_of_clips([title.rpartition(" to ")[2]]).values(), []
        for name, (clip, row) in some.items():
            judged = next(str(heard) for key, heard in row.items() if key.startswith("judged_"))
            told = f"{name}: heard as {judged}, P({row['aim']}) {row['p']:.0%}"
            shown.append((told, player_html(clip, f"{title}, {name}", kind)))
        cards.append((title, colour, shown))
    return cards
