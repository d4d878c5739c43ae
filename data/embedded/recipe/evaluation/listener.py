"""What an outside listener hears: a program that learned from recordings and knows nothing of the composer.

The program is run as ``PROGRAM FOLDER --out CSV``, where FOLDER holds ``<genre>/*.wav``. It writes a row a
clip: genre (the folder), clip (the file), and a score for each class that it knows. Scores of rendered music
are low in absolute terms, so only ranks and differences are used: the AUC of a genre's clips against those of
the other genres, and the gain of clips in standard deviations of unsteered ones, both of log-odds.
"""

from __future__ import annotations

import csv
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from recipe.evaluation.rows import NO_BAR, Bar, Row, absent
from workbench.errors import EvidenceError
from workbench.stats import bootstrap

REAL_MEAN, REAL_EACH = Bar(at_least=0.85), Bar(at_least=0.70)
PROMPTED_MEAN, PROMPTED_EACH = Bar(at_least=0.80), Bar(at_least=0.65)
GAIN_MEAN, GAIN_EACH = Bar(at_least=1.0), Bar(interval_above=0.0)
KINDS = ("real", "prompted", "unsteered", "steered", "random")
_NAMES = {"real": "shipped pieces, typical", "prompted": "prompted clips"}
_GAIN = "outside listener: mean gain of {} clips over unsteered ones, standard deviations"
Scores = Mapping[str, np.ndarray]
"""Genre of a folder -> log-odds (clips, genres), columns in the order of all genres."""


def measure_listener(out: Path, genres: Sequence[str], program: str | None) -> list[Row]:
    """Return the listener's rows about the kept clips.

    Args:
        out: folder with one folder of clips for each of `KINDS`.
        genres: the genres.
        program: the listener's command line. Without one, or if it fails, every row says that it was not
            measured, and why: hours of other figures are not lost with it.
    """
    try:
        if program is None:
            return _absent("no outside listener was given (--listener PROGRAM)")
        heard = {kind: listen(program, out / kind, genres) for kind in KINDS}
        return [
            *_auc_rows("real", heard["real"], genres, (REAL_MEAN, REAL_EACH)),
            *_auc_rows("prompted", heard["prompted"], genres, (PROMPTED_MEAN, PROMPTED_EACH)),
            *_gain_rows("steered", heard, genres, (GAIN_MEAN, GAIN_EACH)),
            *_gain_rows("random", heard, genres, (NO_BAR, NO_BAR)),
        ]
    except EvidenceError as error:
        return _absent(f"{error.asked}, but {error.found}")


def _absent(why: str) -> list[Row]:
    wanted = [
        ("outside.real", _what("real"), REAL_MEAN),
        ("outside.prompted", _what("prompted"), PROMPTED_MEAN),
        ("outside.steered", _GAIN.format("steered"), GAIN_MEAN),
        ("outside.random", _GAIN.format("random"), NO_BAR),
    ]
    return [absent(id_, what, bar, why) for id_, what, bar in wanted]


def command(program: str) -> list[str]:
    """Return the words of a listener's command line, a script's after the Python that runs this.

    Raises:
        EvidenceError: there is no such program.
    """
    words = shlex.split(program)
    found = bool(words) and (Path(words[0]).is_file() or shutil.which(words[0]) is not None)
    if not found:
        raise EvidenceError(
            f"The outside listener {program!r} was asked for",
            "there is no such program",
            "Give a command line that is run as `PROGRAM FOLDER --out CSV`",
        )
    return [sys.executable, *words] if words[0].endswith(".py") else words


def listen(program: str, folder: Path, genres: Sequence[str]) -> Scores:
    """Return the log-odds of every clip under a folder, by the genre that its own folder names.

    Raises:
        EvidenceError: the program fails, does not know a genre or did not hear every clip.
    """
    asked = f"The outside listener was to hear {folder}"
    with tempfile.TemporaryDirectory() as aside:
        table = Path(aside) / "scores.csv"
        words = [*command(program), str(folder), "--out", str(table)]
        try:
            subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
            with table.open(newline="") as file:
                rows = list(csv.DictReader(file))
        except (OSError, subprocess.CalledProcessError) as error:
            raise EvidenceError(asked, str(error), "Run it by hand") from error
    found: dict[str, list[list[float]]] = {}
    try:
        for row in rows:
            found.setdefault(row["genre"], []).append([float(row[genre]) for genre in genres])
    except (KeyError, TypeError, ValueError) as error:
        raise EvidenceError(asked, f"its table lacks {error}", "Let it write every genre") from error
    clips = {one.name: n for one in folder.glob("*") if (n := len(list(one.glob("*.wav"))))}
    if clips != {genre: len(scores) for genre, scores in found.items()}:
        told = ", ".join(f"{len(found.get(name, []))} of {n} in {name}" for name, n in sorted(clips.items()))
        raise EvidenceError(asked, f"it heard {told or 'what is not there'}", "Let it hear every clip once")
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


def _what(kind: str) -> str:
    return f"outside listener: AUC of {_NAMES[kind]} against the other genres'"


def _together(kind: str, heard: Scores, genres: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the log-odds (clips, genres) of all genres' clips, and whose each is as a column (clips,)."""
    missing = [genre for genre in genres if genre not in heard]
    if missing:
        told = f"there are no clips of {', '.join(missing)}"
        raise EvidenceError(f"Genres were to be compared in {kind} clips", told, "Make clips of each")
    sizes = [len(heard[genre]) for genre in genres]
    return np.concatenate([heard[genre] for genre in genres]), np.repeat(np.arange(len(genres)), sizes)


def _auc_rows(kind: str, heard: Scores, genres: Sequence[str], bars: tuple[Bar, Bar]) -> list[Row]:
    """Return the mean AUC and that of each genre (a bar each); clips are drawn anew for the intervals."""
    values, owner = _together(kind, heard, genres)

    def of(column: int, chosen: np.ndarray) -> float:
        own = owner[chosen] == column
        scores = values[chosen, column]
        return auc(scores[own], scores[~own])

    def average(chosen: np.ndarray) -> float:
        return float(np.mean([of(column, chosen) for column in range(len(genres))]))

    everything = np.arange(len(values))
    note = "interval: bootstrap of clips"
    low, high = bootstrap(average, everything, strata=owner)
    rows = [
        Row(f"outside.{kind}", _what(kind), bars[0], average(everything), low, high, len(values), note=note)
    ]
    for column, genre in enumerate(genres):
        low, high = bootstrap(partial(of, column), everything, strata=owner)
        rows.append(Row(f"outside.{kind}.{genre}", f"{_what(kind)}: {genre}", bars[1],
                        of(column, everything), low, high, len(heard[genre]), note=note))  # fmt: skip
    return rows


def _gain_rows(
    kind: str, heard: Mapping[str, Scores], genres: Sequence[str], bars: tuple[Bar, Bar]
) -> list[Row]:
    """Return how much more of a genre is heard in the clips steered to it than in unsteered ones."""
    values, owner = _together(kind, heard[kind], genres)
    unsteered = np.concatenate(list(heard["unsteered"].values()))
    spread = unsteered.std(axis=0)
    if not (spread > 0).all():
        flat = ", ".join(genre for genre, one in zip(genres, spread, strict=True) if not one > 0)
        raise EvidenceError(
            "Gains over unsteered clips were to be told",
            f"the outside listener gives all of them the same score of {flat}",
            "Use one that tells clips apart",
        )
    gains = ((values - unsteered.mean(axis=0)) / spread)[np.arange(len(values)), owner]

    def average(chosen: np.ndarray) -> float:
        return float(np.mean([gains[chosen][owner[chosen] == i].mean() for i in range(len(genres))]))

    note = f"{len(unsteered)} unsteered clips; interval: bootstrap of {kind} clips"
    everything, what = np.arange(len(gains)), _GAIN.format(kind)
    low, high = bootstrap(average, everything, strata=owner)
    rows = [Row(f"outside.{kind}", what, bars[0], average(everything), low, high, len(gains), note=note)]
    for column, genre in enumerate(genres):
        own = gains[owner == column]
        low, high = bootstrap(partial(_mean, own), np.arange(len(own)))
        rows.append(Row(f"outside.{kind}.{genre}", f"{what}: {genre}", bars[1], float(own.mean()), low, high,
                        len(own), note=note))  # fmt: skip
    return rows
