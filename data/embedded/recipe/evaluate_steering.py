"""Measures what the steering engine can do with the built-in model: doses, transitions, pairs, blends.

The figures go into ``data/embedded/steering.json`` and ``docs/steering.md``, stamped with the weights, music
and judges they belong to. Nothing is chosen on the seeds, or for transitions the grooves, that are reported.
"""

from __future__ import annotations

import json
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from recipe.evaluate import Say, builtin_bench, code_hash, stamp, timed
from recipe.evaluation.bench import Bench
from recipe.evaluation.doses import dose_rows, find_doses
from recipe.evaluation.several import measure_several
from recipe.evaluation.transitions import measure_transitions
from recipe.steering_page import write_page
from workbench.model.capture import capture

FIGURES = "steering.json"


def evaluate_steering(
    out: Path, *, clips: int = 24, data: Path | None = None, say: Say = lambda _: None, progress: bool = True
) -> Path:
    """Return the path of ``steering.json``, after writing it and the page made from it.

    Args:
        out: folder for ``steering.json`` and the crosstalk table with a row per clip.
        clips: judged clips per condition; all other numbers follow from it.
        data: the built-in model's data folder; by default the one that ships.
        say: is told, part by part, what was measured and how long it took.
        progress: whether to show progress bars.
    """
    bench = builtin_bench(out, clips=clips, data=data, progress=progress)
    data = bench.data
    report: dict[str, Any] = {"stamp": stamp(data), "code": code_hash(), **measure_engine(bench, say=say)}
    for path in (out / FIGURES, data / FIGURES):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(report, indent=2) + "\n")
    write_page(data, report)
    return data / FIGURES


def measure_engine(bench: Bench, *, say: Say = lambda _: None) -> dict[str, Any]:
    """Return the report: rows, details by part, minutes by part, and what it ran on.

    Args:
        bench: model, music, judges and folders.
        say: is told, part by part, what was measured and how long it took.
    """
    minutes: dict[str, float] = {}
    acts = capture(bench.model, bench.music, seconds=bench.seconds, progress=bench.progress)
    with timed("doses", minutes, say):
        doses = find_doses(bench, acts)
    with timed("transitions", minutes, say):
        transition_rows, transitions = measure_transitions(bench, acts)
    with timed("pairs, crosstalk and blends", minutes, say):
        several = measure_several(bench, doses)
    bench.out.mkdir(parents=True, exist_ok=True)
    several.crosstalk.clips.to_csv(bench.out / "crosstalk_clips.csv", index=False)
    return {
        "rows": [row.record() for row in (*transition_rows, *several.rows, *dose_rows(doses))],
        "doses": {name: one.verdict for name, one in doses.found.items()},
        "turns": transitions,
        **several.details,
        "clips": bench.budget.clips,
        "minutes": minutes,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, {datetime.now(UTC):%Y-%m-%d}",
    }
