"""Measures the built-in model against its bars and writes the figures down, stamped with what was measured.

Every clip that was judged is kept as WAV under ``<out>/{prompted,unsteered,steered,random,real}/<genre>/``,
``<out>/against/`` and ``<out>/attributes/<attribute>/<aim>/``, so that anyone can listen, or let another
judge hear the same files. The parts stand in ``evaluation/``, one module each.
"""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

import workbench
from recipe.card import write_card
from recipe.evaluation.attributes import measure_attributes
from recipe.evaluation.bench import Bench, Budget
from recipe.evaluation.curves import draw_curves, read_log
from recipe.evaluation.listener import command, measure_listener
from recipe.evaluation.prompted import measure_text
from recipe.evaluation.reading import measure_reading
from recipe.evaluation.rows import Row
from recipe.evaluation.scores import measure_scores
from recipe.evaluation.sound import (
    measure_damage,
    measure_groove,
    measure_size,
    measure_speed,
)
from recipe.evaluation.spectrograms import draw_rolls, draw_spectrograms
from recipe.evaluation.steered import measure_steering
from recipe.evaluation.tempo import measure_tempo
from workbench.datasets import builtin_dataset
from workbench.evidence.judge import TrainedJudge
from workbench.model.band import BAND
from workbench.model.folders import builtin_folder
from workbench.model.load import load

FIGURES, SPECTROGRAMS, ROLLS = "figures.json", "spectrograms.png", "piano_rolls.png"
CURVES, LOG = "training.svg", "training.csv"
Say = Callable[[str], None]


def evaluate(
    out: Path,
    *,
    clips: int = 30,
    data: Path | None = None,
    listener: str | None = None,
    say: Say = lambda _: None,
    progress: bool = True,
) -> Path:
    """Return the path of ``figures.json``, after writing it, the pictures and the model card's figures.

    Args:
        out: folder for the judged clips and ``report.json``.
        clips: judged clips per genre and condition; all other numbers follow from it.
        data: the built-in model's data folder; by default the one that ships.
        listener: command line of an outside listener, see `evaluation.listener`.
        say: is told, part by part, what was measured and how long it took.
        progress: whether to show progress bars.
    """
    bench = builtin_bench(out, clips=clips, data=data, progress=progress)
    data = bench.data
    measured = measure(bench, listener=listener, say=say)
    report: dict[str, Any] = {"stamp": stamp(data), "code": code_hash(), **measured}
    report["pictures"] = _pictures(bench)
    size, sizes = measure_size(data)
    report["rows"].append(size.record())
    report["sizes_mb"] = sizes
    for path in (out / "report.json", data / FIGURES):
        path.write_text(json.dumps(report, indent=2) + "\n")
    write_card(data, report)
    return data / FIGURES


def builtin_bench(out: Path, *, clips: int, data: Path | None = None, progress: bool = True) -> Bench:
    """Return the built-in model, music and judges, ready to be measured; arguments as in `evaluate`."""
    data = data or builtin_folder().parent
    return Bench(
        model=load(data / "model"),
        music=builtin_dataset(data / "music"),
        judges=load_judges(data / "judge"),
        data=data,
        out=out,
        budget=Budget(clips),
        progress=progress,
    )


def measure(bench: Bench, *, listener: str | None = None, say: Say = lambda _: None) -> dict[str, Any]:
    """Return the report: rows, then details by part, minutes by part, and what it ran on.

    Args:
        bench: model, music, judges and folders.
        listener: command line of an outside listener.
        say: is told, part by part, what was measured and how long it took.
    """
    if listener is not None:
        command(listener)  # a program that is not there is told before hours of measuring
    bench.clear()
    bench.out.mkdir(parents=True, exist_ok=True)
    minutes: dict[str, float] = {}
    rows: list[Row] = []
    with timed("speed", minutes, say):
        speed = measure_speed(bench)
    with timed("prompted, neutral and real clips", minutes, say):
        text = measure_text(bench)
    with timed("groove and damage", minutes, say):
        generated = {"prompted": text.prompted, "neutral": text.neutral}
        groove, medians = measure_groove(generated, text.real)
        damage = measure_damage({**generated, "real": text.real})
    with timed("probes", minutes, say):
        read = measure_reading(bench)
    with timed("genre steering", minutes, say):
        steered = measure_steering(bench, read.probes, read.acts, text.neutral)
    with timed("tempo steering", minutes, say):
        tempo_rows, tempo = measure_tempo(bench, read.acts)
    with timed("mode, mood and lead steering", minutes, say):
        attribute_rows, attributes = measure_attributes(bench, read.acts, text.neutral)
    with timed("outside listener and scores", minutes, say):
        outside_rows = measure_listener(bench.out, bench.genres, listener)
        score_rows, scores = measure_scores(bench.out, bench.genres, bench.model.codec)
    rows += [*text.rows, *read.rows, *steered.rows, *outside_rows, *tempo_rows, *attribute_rows]
    rows += [*score_rows, groove, speed]
    return {
        "rows": [row.record() for row in rows],
        **read.details,
        **steered.details,
        "sound": {**damage, **steered.details["sound"]},
        "groove_medians": medians,
        "scores": scores,
        "tempo": tempo,
        "attributes": attributes,
        "judges": {name: {"classes": list(j.classes), "card": j.card} for name, j in bench.judges.items()},
        "clips_per_genre": bench.budget.clips,
        "minutes": minutes,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, {datetime.now(UTC):%Y-%m-%d}",
    }


def load_judges(folder: Path) -> dict[str, TrainedJudge]:
    """Return every judge of a folder, by target."""
    return {path.stem: TrainedJudge.load(folder, path.stem) for path in sorted(folder.glob("*.safetensors"))}


def stamp(data: Path) -> dict[str, str]:
    """Return the hashes that published figures belong to: weights, music, judges."""
    parts: Mapping[str, str] = {
        "weights": "model/*.safetensors",
        "music": "music/*",
        "judge": "judge/*.safetensors",
    }
    return {name: _hash(sorted(data.glob(pattern))) for name, pattern in parts.items()}


def code_hash() -> str:
    """Return the hash of the Python files of package and recipe, which the figures were measured with."""
    folders = (Path(workbench.__file__).parent, Path(__file__).parent)
    return _hash([path for folder in folders for path in sorted(folder.rglob("*.py"))])


def _hash(paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


@contextmanager
def timed(name: str, minutes: dict[str, float], say: Say) -> Iterator[None]:
    """Time a part in minutes, and tell of it when it is done."""
    begin = time.perf_counter()
    yield
    minutes[name] = round((time.perf_counter() - begin) / 60, 2)
    say(f"{name}: {minutes[name]:.1f} min, {sum(minutes.values()):.1f} in all")


def _pictures(bench: Bench) -> list[str]:
    """Draw what the card shows, and return the files' names."""
    drawn = [draw_spectrograms(bench.out, bench.genres, bench.data / SPECTROGRAMS)]
    if bench.model.codec == BAND:
        drawn.append(draw_rolls(bench.out, bench.genres, bench.data / ROLLS))
    log = read_log(bench.data / LOG) if (bench.data / LOG).exists() else []
    drawn += [draw_curves(log, bench.data / CURVES)] if log else []
    return [path.name for path in drawn if path is not None]
