"""Writes the figures of the steering engine as a page: ``docs/steering.md`` never quotes from memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from recipe.card import rows_table, table

Report = Mapping[str, Any]
PAGE = "steering.md"


def write_page(data: Path, report: Report) -> Path | None:
    """Write ``docs/steering.md`` beside a data folder and return it; None where there is no docs folder."""
    docs = data.resolve().parents[1] / "docs"
    if not docs.is_dir():
        return None
    (docs / PAGE).write_text(page_text(report))
    return docs / PAGE


def page_text(report: Report) -> str:
    """Return the page of a report, as ``evaluate_steering`` writes it, as Markdown."""
    stamps = [*report["stamp"].items(), ("code", report["code"])]
    told = ", ".join(f"{name} `{value}`" for name, value in stamps)
    minutes = sum(report["minutes"].values())
    parts = [
        "# What the steering engine can do with the built-in model\n",
        f"Measured by `make evaluate-steering` in {minutes:.0f} min ({report['machine']}); {told}.\n",
        "Directions of genre and lead are differences in means, those of tempo, mood and mode weights of "
        "logistic probes. Settings are chosen on other seeds, and for transitions on "
        "other grooves, than those reported here.\n",
        *rows_table(report["rows"]),
        *_transitions(report["turns"]),
        *_pairs(report["pairs"]),
        *_crosstalk(report["crosstalk"]),
        *_fusion(report),
        *_doses(report["doses"]),
    ]
    return "\n".join(parts)


def _transitions(transitions: Mapping[str, Report]) -> Iterator[str]:
    yield "## Transitions\n"
    yield (
        "Five seconds of a shipped piece, then five more from the model. Gain: the judge's probability of "
        "the target in the new part minus that in the given part. *Steered* has the prompt `a tune`, "
        "*prompted* names the target, *both* does both, *random* is a random direction of the same dose.\n"
    )
    head = ["transition", "way", "gain", "heard as the target", "level (dB)", "flatness", "repetition"]
    yield table(head, [
        [name, way, f"{one['gain']:+.2f}", f"{one['heard']:.0%}", f"{one['level_db']:.1f}",
         f"{one['flatness']:.2f}", f"{one['repetition']:.2f}"]
        for name, ways in transitions.items() for way, one in ways.items()
    ])  # fmt: skip


def _pairs(pairs: Mapping[str, Report]) -> Iterator[str]:
    yield "## Two attributes at once\n"
    yield (
        "*Alone* has the layer and dose that were chosen for the pair, without the other push. They were "
        "chosen by how often both are heard at once; likelihood decides among equals only.\n"
    )
    head = ["pair", "attribute", "unsteered", "alone", "together", "ratio", "interval", "both at once"]
    yield table(head, [
        [name, row["attribute"], f"{row['unsteered']:.0%}", f"{row['alone']:.0%}", f"{row['together']:.0%}",
         *_ratio(row), f"{pair['both']:.0%}"]
        for name, pair in pairs.items() for row in pair["table"]
    ])  # fmt: skip


def _ratio(row: Report) -> tuple[str, str]:
    """Return a ratio and its interval as text, empty where the attribute was never heard alone."""
    if row["ratio"] is None:
        return "", ""
    return f"{row['ratio']:.2f}", f"{row['low']:.2f} to {row['high']:.2f}"


def _crosstalk(cells: Sequence[Report]) -> Iterator[str]:
    yield "## Crosstalk\n"
    yield (
        "Change of each judge's probabilities against the unsteered clip of the same prompt and seed, in "
        "points of 100. What a plan aims at is bold; brackets: the 95 % interval holds 0. Classes of one "
        "judge exclude each other; crosstalk proper is what happens to other judges.\n"
    )
    targets = list(dict.fromkeys(cell["target"] for cell in cells))
    for target in targets:
        part = [cell for cell in cells if cell["target"] == target]
        classes = list(dict.fromkeys(cell["class"] for cell in part))
        found = {(cell["plan"], cell["class"]): _change(cell) for cell in part}
        plans = list(dict.fromkeys(cell["plan"] for cell in part))
        rows = [[plan, *(found[plan, name] for name in classes)] for plan in plans]
        yield table([f"steered, heard by the judge of {target}", *classes], rows)


def _change(cell: Report) -> str:
    text = f"{100 * cell['change']:+.0f}"
    if cell["change_low"] <= 0 <= cell["change_high"]:
        text = f"({text})"
    return f"**{text}**" if cell["own"] else text


def _fusion(report: Report) -> Iterator[str]:
    yield "## Blends\n"
    yield "Log-odds of the first genre against the second, mean over seeds, by its weight in the blend.\n"
    yield table(["weight", "log-odds", "interval", "n"], [
        [f"{row['weight']:g}", f"{row['log_odds']:+.2f}", f"{row['low']:+.2f} to {row['high']:+.2f}",
         str(row["n"])]
        for row in report["fusion"]
    ])  # fmt: skip
    tried = ", ".join(
        f"layer {one['layer']} dose {one['dose']:g}: {one['spearman']:.2f}" for one in report["fusion_tried"]
    )
    yield f"Tried on other seeds (Spearman): {tried}.\n"


def _doses(verdicts: Mapping[str, str]) -> Iterator[str]:
    yield "## What the search for a dose says\n"
    yield "\n".join(f"- **{name}**: {verdict}" for name, verdict in verdicts.items()) + "\n"
