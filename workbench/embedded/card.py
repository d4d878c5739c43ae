"""Writes measured figures into the model card, between two marks: the card never quotes from memory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"


def write_card(data: Path, report: Mapping[str, Any]) -> Path:
    """Replace the figures in ``MODEL_CARD.md`` and ``docs/`` by those of a report; return the card's path."""
    card = data / "MODEL_CARD.md"
    before, rest = card.read_text().split(BEGIN)
    after = rest.split(END)[1]
    text = figures_text(report)
    card.write_text(before + BEGIN + "\n" + text + END + after)
    docs = data.parents[1] / "docs"
    if docs.is_dir():
        (docs / "embedded_figures.md").write_text(f"# Figures of the built-in model\n\n{text}")
    return card


def figures_text(report: Mapping[str, Any]) -> str:
    """Return the figures of a report as Markdown."""
    stamp = ", ".join(
        f"{name} `{value}`" for name, value in [*report["stamp"].items(), ("code", report["code"])]
    )
    parts = [
        f"Measured by `workbench evaluate-embedded` ({report['machine']}); {stamp}.\n",
        _table(["what", "value", "95 % interval", "clips"], list(_shares(report))),
        "Steering from neutral prompts; layer and dose were chosen on other seeds:\n",
        _table(["genre", "layer", "dose", "hit rate", "95 % interval", "unsteered", "random direction"],
               list(_steering(report["steering"]))),
        "Probe for genre, grooves held out:\n",
        _table(["layer", "accuracy", "95 % interval", "chance", "shuffled"], list(_probe(report["probe"]))),
        f"One guided clip of 5 s takes {report['speed']['seconds_for_5_s']} s, decoding included.\n",
    ]  # fmt: skip
    return "\n".join(parts)


def _shares(report: Mapping[str, Any]) -> list[list[str]]:
    named = [("prompted with a genre", report["prompted"]["all"])]
    named += [(f"prompted: {g}", s) for g, s in report["prompted"].items() if g != "all"]
    named += [(f"neutral prompt, heard as {genre}", share) for genre, share in report["unsteered"].items()]
    named += [("steered by the probe's direction", report["steered"])]
    named += [("steered by random directions of equal norm", report["random"])]
    named += [("judge on shipped pieces, decoded", report["real"])]
    return [[name, _percent(s["value"]), _interval(s), str(s["n"])] for name, s in named]


def _steering(rows: Mapping[str, Mapping[str, float]]) -> list[list[str]]:
    return [
        [genre, str(r["layer"]), f"{r['dose']:g}", _percent(r["hit_rate"]), _interval(r)]
        + [_percent(r[name]) for name in ("unsteered", "random_direction")]
        for genre, r in rows.items()
    ]


def _probe(rows: list[Mapping[str, Any]]) -> list[list[str]]:
    return [[str(r["layer"]), _percent(r["accuracy"]), _interval(r), _percent(r["chance"]),
             _percent(r["shuffled_mean"])] for r in rows]  # fmt: skip


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def _interval(row: Mapping[str, float]) -> str:
    return f"{100 * row['low']:.0f}-{100 * row['high']:.0f} %"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
