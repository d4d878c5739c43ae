"""A table is read as its writer meant it, or blamed at the very line that is wrong."""

from __future__ import annotations

import re
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from workbench.errors import DatasetError
from workbench.sound import Clip, Dataset, Entry, from_csv, lint

RATE_HZ = 8000
NAMES = [f"{n}.wav" for n in range(6)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for n, name in enumerate(NAMES):
        Clip(0.2 * np.random.default_rng(n).standard_normal(RATE_HZ // 2), RATE_HZ).write(tmp_path / name)
    return tmp_path


def read(folder: Path, text: str, **options: object) -> tuple[Dataset, str]:
    """The dataset of a table and what was said of it."""
    (folder / "songs.csv").write_text(text, encoding="utf-8")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        songs = from_csv(folder / "songs.csv", progress=False, **options)  # type: ignore[arg-type]
    return songs, "\n".join(str(one.message) for one in said)


def test_spaces_around_names_paths_groups_and_labels_do_not_count(folder: Path) -> None:
    lines = (" file ,genre , artist", "0.wav ,jazz, Miles", " 1.wav, jazz ,Miles ", "2.wav,rock,\u00a0Ana")
    text = "\n".join([*lines, "3.wav,rock,Ana"])
    songs, said = read(folder, text, group="artist")
    assert songs.ids.tolist() == NAMES[:4]
    assert songs.groups.tolist() == ["Miles", "Miles", "Ana", "Ana"]
    assert songs.genres == ("jazz", "rock") and said == ""


@pytest.mark.parametrize("blank", ["", "\n", "\n\n \n,,\n"], ids=["none", "one", "three"])
@pytest.mark.parametrize(
    ("row", "cells"), [("2.wav,rock,Bo,more", 4), ("2.wav,rock", 2), ("2.wav", 1), ('"2.wav,rock,Bo"', 1)]
)
def test_a_long_or_short_row_is_blamed_at_its_own_line(
    folder: Path, blank: str, row: str, cells: int
) -> None:
    text = f"file,genre,artist\n0.wav,jazz,Ana\n{blank}1.wav,jazz,Ana\n{row}\n3.wav,rock,Bo\n"
    line = 4 + blank.count("\n")
    with pytest.raises(
        DatasetError, match=rf"3 cells in each line of songs\.csv.*line {line} has {cells} \("
    ):
        read(folder, text)


def test_a_line_is_counted_through_values_of_several_lines(folder: Path) -> None:
    text = 'file,genre,notes\n0.wav,jazz,"one\n\ntwo"\n\n1.wav,,none\n'
    with pytest.raises(DatasetError, match=r"line\(s\) 6 have none"):
        read(folder, text)


def test_a_quote_that_never_ends_is_blamed_at_its_line(folder: Path) -> None:
    with pytest.raises(DatasetError, match=r"line 3: unexpected end of data"):
        read(folder, 'file,genre\n0.wav,jazz\n"1.wav,jazz\n2.wav,rock\n')


@pytest.mark.parametrize(
    "header",
    [
        '"a;b;c;d",file,genre',
        'file,genre,"mood; tempo; key; rest"',
        "file,genre,mood (1;2;3;4;5)",
        '"x\ty\tz\tw",file,genre',
    ],
)
def test_the_separator_is_the_one_between_the_columns(folder: Path, header: str) -> None:
    place = next(n for n, name in enumerate(re.sub('"[^"]*"', "x", header).split(",")) if name == "file")
    rows = []
    for name, genre in zip(NAMES, ("jazz", "rock") * 3, strict=True):
        cells = ["x", name, genre] if place else [name, genre, "x"]
        rows.append(",".join(cells))
    songs, _ = read(folder, "\n".join([header, *rows]))
    assert songs.ids.tolist() == NAMES and songs.genres == ("jazz", "rock")


@pytest.mark.parametrize("gap", ["", " ", "nan", "NaN", "None", "null", "<NA>"])
@pytest.mark.parametrize("column", ["file", "genre", "artist"])
def test_a_gap_in_a_needed_column_names_its_line(folder: Path, gap: str, column: str) -> None:
    cells = {"file": "1.wav", "genre": "jazz", "artist": "Ana", column: gap}
    text = f"file,genre,artist\n0.wav,jazz,Ana\n\n{cells['file']},{cells['genre']},{cells['artist']}\n"
    with pytest.raises(DatasetError, match=rf"'{column}' in each line of songs\.csv.*line\(s\) 4 have none"):
        read(folder, text, group="artist")


def test_one_gap_among_numbers_is_named_and_leaves_them_numbers(folder: Path) -> None:
    tempos = ["90", "100.5", "", "nan", "80", "70"]
    rows = [f"{name},{genre},{tempo}" for name, genre, tempo in zip(NAMES, "ababab", tempos, strict=True)]
    songs, said = read(folder, "\n".join(["file,genre,tempo", *rows]))
    told = "the column 'tempo' of songs.csv has no value in line(s) 4, 5"
    assert told in said and told in "\n".join(songs.warnings)
    held = songs.subset([0, 1, 4, 5])
    assert held.labels("tempo").tolist() == [90, 100.5, 80, 70]
    with pytest.raises(DatasetError, match=r"'tempo'.*2 of 6 clips lack it \(2\.wav, 3\.wav\)"):
        songs.labels("tempo")


def test_one_word_among_numbers_is_named(folder: Path) -> None:
    tempos = ["90", "100", "12O", "inf", "80", "70"]
    rows = [f"{name},{genre},{tempo}" for name, genre, tempo in zip(NAMES, "ababab", tempos, strict=True)]
    songs, said = read(folder, "\n".join(["file,genre,tempo", *rows]))
    assert "'tempo' of songs.csv is text, not numbers, by line(s) 4 (12O), 5 (inf)" in said
    assert songs.labels("tempo").tolist() == tempos


def test_a_column_that_comes_twice_is_refused(folder: Path) -> None:
    with pytest.raises(DatasetError, match="genre come more than once"):
        read(folder, "file,genre, genre\n0.wav,jazz,rock\n")


def test_a_table_that_cannot_be_opened_is_named(folder: Path) -> None:
    (folder / "folder.csv").mkdir()
    with pytest.raises(DatasetError, match=r"folder\.csv.*cannot be read as a table \(Is a directory\)"):
        from_csv(folder / "folder.csv")


def grouped(*groups: str) -> Dataset:
    clips = {
        name: Clip(np.random.default_rng(n).uniform(-0.3, 0.3, 8000), RATE_HZ)
        for n, name in enumerate(groups)
    }
    entries = tuple(
        Entry(f"{n}", {"genre": "jazz"}, name, name, clips[name].digest) for n, name in enumerate(groups)
    )
    return Dataset(entries, "songs", lambda entry: clips[entry.source])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Miles", "Miles "),
        ("Miles Davis", "miles davis"),
        ("Miles Davis", "Miles  Davis"),
        ("Miles Davis", "Miles-Davis"),
        ("Beyonc\u00e9", "Beyonce\u0301"),
        ("Beyonc\u00e9", "Beyonce"),
        ("R.E.M.", "REM"),
        ("track 1", "Track_1"),
        ("Stra\u00dfe", "STRASSE"),
    ],
)
def test_groups_of_nearly_one_name_are_found(one: str, other: str) -> None:
    (finding,) = lint(grouped(one, "Somebody", other), progress=False).of("group_names")
    assert finding.severity == "warning" and finding.ids == ("0", "2")
    assert repr(one) in finding.message and repr(other) in finding.message


def test_groups_of_different_names_are_not_confused() -> None:
    names = [
        "track 1",
        "track 11",
        "track 1 1",
        "take 1.1",
        "take 11",
        "jazz/a",
        "rock/a",
        "!!!",
        "???",
        "\u97f3",
        "\u697d",
    ]
    assert lint(grouped(*names), progress=False).of("group_names") == ()
    same = grouped("Miles", "Ana")
    twice = replace(same, entries=(*same.entries, replace(same.entries[0], id="again")))
    assert lint(twice, progress=False).of("group_names") == ()
