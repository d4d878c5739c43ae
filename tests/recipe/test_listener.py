"""An outside listener: a program of its own hears the clips, and what it says is counted right."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from recipe.evaluation.listener import auc, command, listen, log_odds, measure_listener

from workbench.errors import EvidenceError
from workbench.sound import Clip

GENRES = ("rock", "jazz")  # not in the order in which their folders are listed
LOUDNESS = {  # of each clip, by kind and genre: jazz is loud, rock is quiet
    "real": {"rock": (0.1, 0.2), "jazz": (0.8, 0.9)},
    "prompted": {"rock": (0.2, 0.7, 0.3), "jazz": (0.6, 0.3, 0.5)},
    "unsteered": {"jazz": (0.3, 0.5, 0.6)},
    "steered": {"rock": (0.1, 0.2), "jazz": (0.7, 0.8, 0.95)},
    "random": {"rock": (0.5, 0.3), "jazz": (0.5, 0.3)},
}
SCRIPT = """
import array, csv, sys, wave
from pathlib import Path

folder, out = Path(sys.argv[1]), Path(sys.argv[sys.argv.index("--out") + 1])
with out.open("w", newline="") as file:
    rows = csv.writer(file)
    rows.writerow(["genre", "clip", "jazz", "polka", "rock"])
    for path in sorted(folder.glob("*/*.wav")):
        with wave.open(str(path)) as sound:
            samples = array.array("h", sound.readframes(sound.getnframes()))
        loud = sum(map(abs, samples)) / len(samples) / 32768
        rows.writerow([path.parent.name, path.name, loud, 0.5, 1 - loud])
"""


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    for kind, genres in LOUDNESS.items():
        for genre, levels in genres.items():
            for number, level in enumerate(levels):
                clip = Clip(level * np.resize([1.0, -1.0], 4000).astype(np.float32), 16_000)
                clip.write(folder / kind / genre / f"{number}.wav")
    return folder


def write_script(folder: Path, text: str = SCRIPT) -> str:
    """Write a listener into a folder with a space in its name, and return its command line."""
    path = folder / "my tools" / "listen.py"
    path.parent.mkdir()
    path.write_text(text)
    return shlex.quote(str(path))


def odds(levels, genre: str = "jazz") -> np.ndarray:
    """Return the log-odds that the script gives clips of these levels of a genre."""
    levels = np.array(levels)
    return log_odds(levels if genre == "jazz" else 1 - levels)


def test_an_auc_is_the_chance_to_lie_above_and_ties_count_half():
    assert auc(np.array([1.0, 2.0]), np.array([1.0, 0.0])) == 0.875
    assert auc(np.array([3.0]), np.array([1.0, 2.0])) == 1.0
    assert auc(np.array([0.0]), np.array([1.0, 2.0])) == 0.0


def test_log_odds_are_finite_and_keep_the_order():
    found = log_odds(np.array([0.0, 0.25, 0.5, 1.0]))
    assert np.isfinite(found).all() and (np.diff(found) > 0).all()
    assert found[1] == pytest.approx(np.log(1 / 3), abs=1e-3) and found[2] == 0


def test_what_a_listener_hears_is_told_as_auc_and_gain(out, tmp_path):
    rows = {row.id: row for row in measure_listener(out, GENRES, write_script(tmp_path))}
    kinds = ("real", "prompted", "steered", "random")
    assert set(rows) == {f"outside.{kind}{of}" for kind in kinds for of in ("", ".rock", ".jazz")}
    assert rows["outside.real"].value == 1.0 and rows["outside.real"].met
    # jazz at 0.6, 0.3 and 0.5 beside rock at 0.2, 0.7 and 0.3: 5.5 of 9 pairs
    for genre in GENRES:
        assert rows[f"outside.prompted.{genre}"].value == pytest.approx(5.5 / 9)
        assert rows[f"outside.prompted.{genre}"].n == 3
    assert rows["outside.prompted"].met is False and rows["outside.prompted"].n == 6
    gains = {}
    for kind in ("steered", "random"):
        for genre in GENRES:
            plain = odds(LOUDNESS["unsteered"]["jazz"], genre)
            gains[genre] = float((odds(LOUDNESS[kind][genre], genre) - plain.mean()).mean() / plain.std())
            row = rows[f"outside.{kind}.{genre}"]
            assert row.value == pytest.approx(gains[genre], abs=2e-3)
            assert row.n == len(LOUDNESS[kind][genre])
        assert rows[f"outside.{kind}"].value == pytest.approx(np.mean(list(gains.values())), abs=2e-3)
    assert rows["outside.steered"].met and rows["outside.random"].met is None
    for row in rows.values():
        assert row.low <= row.value <= row.high


def test_a_gain_whose_interval_holds_nothing_is_not_met(out, tmp_path):
    steered = 'loud = 0.45 + 0.1 * (path.name == "0.wav") if "/steered/" in str(path) else sum'
    quiet = SCRIPT.replace("loud = sum", steered)
    rows = {row.id: row for row in measure_listener(out, GENRES, write_script(tmp_path, quiet))}
    row = rows["outside.steered.jazz"]
    assert row.low < 0 < row.high and row.met is False
    assert str(row.bar) == "interval above 0"


def test_without_a_listener_every_row_says_that_it_was_not_measured(out):
    rows = {row.id: row for row in measure_listener(out, GENRES, None)}
    assert set(rows) == {"outside.real", "outside.prompted", "outside.steered", "outside.random"}
    for row in rows.values():
        assert row.value is None and row.n == 0
        assert row.note.startswith("not measured:") and "--listener" in row.note
    assert [rows[f"outside.{kind}"].met for kind in ("real", "prompted", "steered")] == [False] * 3


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (("folder, out", "sys.exit(3)\nfolder, out"), "exit status 3"),
        (('"rock"]', '"punk"]'), "its table lacks 'rock'"),
        (("sorted(folder.glob", "(sorted(folder.glob"), "exit status 1"),
        (('*/*.wav"))', '*/*.wav"))[1:]'), "it heard 1 of 2 in jazz"),
        (("loud, 0.5, 1 - loud", "loud, 0.5, 0.5"), "the same score of rock"),
        (("0.5, 1 - loud", "0.5"), "its table lacks"),
    ],
    ids=["fails", "knows no rock", "is no Python", "leaves a clip out", "is deaf to rock", "short lines"],
)
def test_a_listener_that_fails_costs_its_own_rows_alone(out, tmp_path, change, why):
    program = write_script(tmp_path, SCRIPT.replace(*change))
    rows = measure_listener(out, GENRES, program)
    assert len(rows) == 4
    assert all(row.value is None and why in row.note for row in rows), rows[0].note


def test_a_genre_without_clips_is_told(out, tmp_path):
    rows = measure_listener(out, (*GENRES, "polka"), write_script(tmp_path))
    assert all("no clips of polka" in row.note for row in rows)


def test_a_command_line_may_have_words_of_its_own(out, tmp_path):
    script = write_script(tmp_path, SCRIPT.replace("sys.argv[1]", "sys.argv[sys.argv.index('--out') - 1]"))
    heard = listen(f"{shlex.quote(sys.executable)} {script} --carefully", out / "real", GENRES)
    assert heard["jazz"][:, 1] == pytest.approx(odds(LOUDNESS["real"]["jazz"]), abs=1e-3)
    assert heard["jazz"][:, 0] == pytest.approx(odds(LOUDNESS["real"]["jazz"], "rock"), abs=1e-3)


@pytest.mark.parametrize("program", ["", "no-such-program-here --loud", "/nowhere/listen.py"])
def test_a_program_that_is_not_there_is_refused(program):
    with pytest.raises(EvidenceError, match="there is no such program"):
        command(program)
