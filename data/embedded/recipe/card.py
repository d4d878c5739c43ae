"""Writes measured figures into the model card, between two marks: the card never quotes from memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
Report = Mapping[str, Any]

_PICTURES = {
    "spectrograms.png": "Log-mel spectrograms of the first clip of each genre: real, prompted, steered",
    "piano_rolls.png": "The same clips as notes: what the codes say that each part plays",
    "training.svg": "Loss of the language model while it was trained, all codebooks and each",
}


def write_card(data: Path, report: Report) -> Path:
    """Replace the figures in ``MODEL_CARD.md`` and ``docs/`` by those of a report; return the card's path."""
    card = data / "MODEL_CARD.md"
    before, rest = card.read_text().split(BEGIN)
    after = rest.split(END)[1]
    card.write_text(before + BEGIN + "\n" + figures_text(report) + END + after)
    docs = data.resolve().parents[1] / "docs"
    if docs.is_dir():
        text = figures_text(report, folder="../data/embedded/")
        (docs / "embedded_figures.md").write_text(f"# Figures of the built-in model\n\n{text}")
    return card


def figures_text(report: Report, *, folder: str = "") -> str:
    """Return the figures of a report as Markdown.

    Args:
        report: as ``evaluate`` writes it.
        folder: where the pictures lie, seen from the text.
    """
    stamps = [*report["stamp"].items(), ("code", report["code"])]
    told = ", ".join(f"{name} `{value}`" for name, value in stamps)
    minutes = sum(report["minutes"].values())
    parts = [
        f"Measured by `make evaluate-embedded` in {minutes:.0f} min ({report['machine']}); {told}.\n",
        *rows_table(report["rows"]),
        *_pictures(report["pictures"], folder),
        *_steering(report),
        *_attributes(report),
        *_probes(report),
        *_sound(report),
        *_scores(report["scores"]),
        *_confusions(report["judges"]),
    ]
    return "\n".join(parts)


def rows_table(rows: Sequence[Report]) -> Iterator[str]:
    """Yield the table of all rows, and what the figures rest on."""
    barred = [row for row in rows if row["met"] is not None]
    met = sum(bool(row["met"]) for row in barred)
    yield f"{met} of {len(barred)} bars are met. Intervals are 95 % (Wilson's for shares); n counts clips.\n"
    head = ["what", "bar", "value", "interval", "n", "seeds", "met"]
    verdict = {True: "yes", False: "**no**", None: ""}
    yield table(head, [[row["what"], row["bar"], _number(row["value"]), _interval(row), str(row["n"] or ""),
                         row["seeds"], verdict[row["met"]]] for row in rows])  # fmt: skip
    notes = [f"- {row['what']}: {row['note']}." for row in rows if row["note"]]
    yield "\n".join(["<details><summary>How each was measured</summary>\n", *notes, "\n</details>\n"])


def _pictures(names: Sequence[str], folder: str) -> Iterator[str]:
    for name in names:
        yield f"{_PICTURES[name]}:\n\n![{_PICTURES[name]}]({folder}{name})\n"


def _steering(report: Report) -> Iterator[str]:
    yield "Steering from neutral prompts; layer and dose of each genre were chosen on other seeds:\n"
    yield _steering_table("genre", report["steering"])
    yield "Steering against prompts that name another genre:\n"
    head = [
        "genre",
        "layer",
        "dose",
        "hit rate",
        "interval",
        "n",
        "prompted genre survives",
        "random direction",
    ]
    rows = [[genre, str(r["layer"]), f"{r['dose']:g}", _percent(r["hit_rate"]), _percents(r), str(r["n"]),
             _percent(r["prompted_genre_survives"]), _percent(r["random_direction"])]
            for genre, r in report["against"].items()]  # fmt: skip
    yield table(head, rows)
    yield "Mean hit rate by layer and dose on the seeds that chose (the best have more clips):\n"
    yield _grid(report["steering_grid"])


def _attributes(report: Report) -> Iterator[str]:
    for name, found in report["attributes"].items():
        yield f"Steering the {name}:\n"
        yield _steering_table(name, found["steering"])
    if report["tempo"]:
        tempo = report["tempo"]
        yield f"Steering the tempo (layer {tempo['layer']}), mean beats a minute:\n"
        rows = [[f"{r['dose']:+.2f}", f"{r['bpm']:.0f}", f"{r['librosa']:.0f}"] for r in tempo["by_dose"]]
        yield table(["dose", "heard by the judge", "by librosa"], rows)


def _probes(report: Report) -> Iterator[str]:
    head = ["where", "accuracy", "interval", "macro F1", "chance", "shuffled"]
    for kind, what in (("probe", "the mean of 5 s"), ("probe_moment", "one moment of 0.2 s")):
        yield f"Probe for genre in {what}, grooves held out:\n"
        named = [("embedding", row) for row in report[f"{kind}_embedding"]]
        named += [(f"layer {row['layer']}", row) for row in report[kind]]
        named += [(f"random weights, layer {row['layer']}", row) for row in report[f"{kind}_random"]]
        yield table(head, [[where, _percent(r["accuracy"]), _percents(r), f"{r['macro_f1']:.2f}",
                             _percent(r["chance"]), _percent(r["shuffled_mean"])]
                            for where, r in named])  # fmt: skip


def _sound(report: Report) -> Iterator[str]:
    yield "Medians of guards against broken sound (`workbench.evidence.damage`), and of the groove score:\n"
    guards = ["level_db", "clipping", "silence", "flatness", "repetition"]
    grooves = report["groove_medians"]
    rows = [
        [name, *(_number(found[guard]) for guard in guards), _number(grooves.get(name))]
        for name, found in report["sound"].items()
    ]
    yield table(["clips", *guards, "groove"], rows)
    sizes = ", ".join(f"{name} {size:g} MB" for name, size in report["sizes_mb"].items())
    yield f"What ships: {sizes}.\n"


def _scores(scores: Mapping[str, Mapping[str, Report]]) -> Iterator[str]:
    """Yield what the kept codes show, by kind of clip and genre; nothing where they are no score."""
    genres = sorted({genre for found in scores.values() for genre in found})
    if not genres:
        return
    yield (
        "What the codes show: share of clips whose lead holds a tone for over 2 s / share of frames in which "
        "the conductor jumps / chord changes a second:\n"
    )
    yield table(["clips", *genres], [
        [kind, *(f"{one['stuck']:.0%} / {one['jumps']:.1%} / {one['chord_changes']:.2f}" if one else ""
                 for one in map(found.get, genres))]
        for kind, found in scores.items()
    ])  # fmt: skip


def _confusions(judges: Mapping[str, Report]) -> Iterator[str]:
    """Yield the held-out confusion matrices of every judge, as their cards hold them."""
    yield "Judges on their test sets (rows: truth, columns: heard):\n"
    for target, judge in judges.items():
        for key, counts in judge["card"].items():
            if not key.startswith("confusion"):
                continue
            yield f"{target}, {key}:\n"
            classes = [str(name) for name in judge["classes"]]
            lines = zip(classes, counts, strict=True)
            yield table(["", *classes], [[truth, *map(str, line)] for truth, line in lines])


def _steering_table(what: str, rows: Mapping[str, Mapping[str, float]]) -> str:
    head = [what, "layer", "dose", "hit rate", "interval", "n", "unsteered", "random direction"]
    return table(head, [
        [aim, str(r["layer"]), f"{r['dose']:g}", _percent(r["hit_rate"]), _percents(r), str(r["n"]),
         _percent(r["unsteered"]), _percent(r["random_direction"])]
        for aim, r in rows.items()
    ])  # fmt: skip


def _grid(cells: Sequence[Mapping[str, float]]) -> str:
    doses = sorted({cell["dose"] for cell in cells})
    hits = {(cell["layer"], cell["dose"]): cell["hit"] for cell in cells}
    layers = sorted({layer for layer, _ in hits})
    rows = [[f"{layer:g}", *(_percent(hits[layer, dose]) for dose in doses)] for layer in layers]
    return table(["layer", *(f"dose {dose:g}" for dose in doses)], rows)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def _interval(row: Report) -> str:
    if row["low"] is None or row["low"] == row["high"]:
        return ""
    return f"{_number(row['low'])} to {_number(row['high'])}"


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def _percents(row: Mapping[str, float]) -> str:
    return f"{100 * row['low']:.0f}-{100 * row['high']:.0f} %"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table as Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
