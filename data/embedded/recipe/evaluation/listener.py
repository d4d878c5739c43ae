"""What an outside listener hears: a program that learned from recordings and knows nothing of the composer.

The program is run as ``PROGRAM FOLDER --out CSV``, where FOLDER holds ``<genre>/*.wav``. It writes a row a
clip: genre (the folder), clip (the file), and a score for each class that it knows. Scores of rendered music
are low in absolute terms, so only ranks and differences are used: the AUC of a genre's clips against those of
the other genres, and the gain of clips in standard deviations of unsteered ones, both of log-odds.
"""

from __future__ import annotations

import csv
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from recipe.evaluation.rows import NO_BAR, Bar, Row, absent
from workbench.evidence.intervals import bootstrap

REAL_MEAN, REAL_EACH = Bar(at_least=0.85), Bar(at_least=0.70)
PROMPTED_MEAN, PROMPTED_EACH = Bar(at_least=0.80), Bar(at_least=0.65)
GAIN_MEAN, GAIN_EACH = Bar(at_least=1.0), Bar(interval_above=0.0)
_NAMES = {"real": "shipped pieces, typical", "prompted": "prompted clips"}
Scores = Mapping[str, np.ndarray]
"""Genre of a folder -> log-odds (clips, genres), columns in the order of all genres."""


def measure_listener(
    out: Path, genres: Sequence[str], program: str | None
) -> tuple[list[Row], dict[str, Any]]:
    """Return the listener's rows about the kept clips, and its figures by folder.

    Args:
        out: folder with ``real``, ``prompted``, ``unsteered``, ``steered`` and ``random``.
        genres: the genres.
        program: the listener's command line; without one every row says that it was not measured.
    """
    if program is None:
        why = "no outside listener was given (--listener PROGRAM)"
        wanted = [
            *((f"outside.{kind}", _what(kind), bar) for kind, bar in
              (("real", REAL_MEAN), ("prompted", PROMPTED_MEAN))),
            ("outside.steered", _GAIN.format("steered"), GAIN_MEAN),
        ]  # fmt: skip
        return [absent(id_, what, bar, why) for id_, what, bar in wanted], {}
    kinds = ("real", "prompted", "unsteered", "steered", "random")
    heard = {kind: listen(program, out / kind, genres) for kind in kinds}
    rows = [
        *_auc_rows("real", heard["real"], REAL_MEAN, REAL_EACH),
        *_auc_rows("prompted", heard["prompted"], PROMPTED_MEAN, PROMPTED_EACH),
        *_gain_rows("steered", heard["steered"], heard["unsteered"], genres, GAIN_MEAN, GAIN_EACH),
        *_gain_rows("random", heard["random"], heard["unsteered"], genres, NO_BAR, NO_BAR),
    ]
    return rows, {row.id: row.value for row in rows}


def listen(program: str, folder: Path, genres: Sequence[str]) -> Scores:
    """Return the log-odds of every clip under a folder, by the genre that its own folder names."""
    with tempfile.TemporaryDirectory() as aside:
        table = Path(aside) / "scores.csv"
        command = [*shlex.split(program), str(folder), "--out", str(table)]
        if command[0].endswith(".py"):
            command = [sys.executable, *command]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        with table.open(newline="") as file:
            rows = list(csv.DictReader(file))
    found: dict[str, list[list[float]]] = {}
    for row in rows:
        found.setdefault(row["genre"], []).append([float(row[genre]) for genre in genres])
    return {genre: log_odds(np.array(scores)) for genre, scores in found.items()}


def log_odds(scores: np.ndarray) -> np.ndarray:
    """Return log-odds of scores from 0 to 1, kept finite."""
    return np.log((scores + 1e-4) / (1 - scores + 1e-4))


def auc(positive: np.ndarray, negative: np.ndarray) -> float:
    """Return the chance that one of the positive scores lies above one of the negative."""
    wins = (positive[:, None] > negative).mean() + 0.5 * (positive[:, None] == negative).mean()
    return float(wins)


def _mean(values: np.ndarray, chosen: np.ndarray) -> float:
    return float(values[chosen].mean())


_GAIN = "outside listener: mean gain of {} clips over unsteered ones, standard deviations"


def _what(kind: str) -> str:
    return f"outside listener: AUC of {_NAMES[kind]} against the other genres'"


def _auc_rows(kind: str, heard: Scores, mean: Bar, each: Bar) -> list[Row]:
    """Return the AUC of each genre and their mean; clips are drawn anew for the intervals."""
    genres = list(heard)
    values = np.concatenate([heard[genre] for genre in genres])
    owner = np.repeat(np.arange(len(genres)), [len(heard[genre]) for genre in genres])

    def of(column: int, chosen: np.ndarray) -> float:
        own = owner[chosen] == column
        scores = values[chosen, column]
        return auc(scores[own], scores[~own])

    def average(chosen: np.ndarray) -> float:
        return float(np.mean([of(column, chosen) for column in range(len(genres))]))

    everything = np.arange(len(values))
    note = "interval: bootstrap of clips"
    low, high = bootstrap(average, everything, strata=owner)
    rows = [Row(f"outside.{kind}", _what(kind), mean, average(everything), low, high, len(values), note=note)]
    for column, genre in enumerate(genres):
        low, high = bootstrap(partial(of, column), everything, strata=owner)
        rows.append(Row(f"outside.{kind}.{genre}", f"{_what(kind)}: {genre}", each,
                        of(column, everything), low, high, len(heard[genre]), note=note))  # fmt: skip
    return rows


def _gain_rows(
    kind: str, heard: Scores, plain: Scores, genres: Sequence[str], mean: Bar, each: Bar
) -> list[Row]:
    """Return how much more of a genre is heard in the clips steered to it than in unsteered ones."""
    unsteered = np.concatenate(list(plain.values()))
    parts = []
    for column, genre in enumerate(genres):
        if genre in heard:
            base = unsteered[:, column]
            parts.append((genre, (heard[genre][:, column] - base.mean()) / base.std()))
    gains = np.concatenate([values for _genre, values in parts])
    owner = np.repeat(np.arange(len(parts)), [len(values) for _genre, values in parts])

    def average(chosen: np.ndarray) -> float:
        return float(np.mean([gains[chosen][owner[chosen] == i].mean() for i in range(len(parts))]))

    note = f"{len(unsteered)} unsteered clips; interval: bootstrap of {kind} clips"
    everything, what = np.arange(len(gains)), _GAIN.format(kind)
    low, high = bootstrap(average, everything, strata=owner)
    rows = [Row(f"outside.{kind}", what, mean, average(everything), low, high, len(gains), note=note)]
    for genre, values in parts:
        low, high = bootstrap(partial(_mean, values), np.arange(len(values)))
        rows.append(Row(f"outside.{kind}.{genre}", f"{what}: {genre}", each, float(values.mean()), low, high,
                        len(values), note=note))  # fmt: skip
    return rows
