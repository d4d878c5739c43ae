"""A user's own music: a folder per genre or a CSV table; what is broken is named, never swallowed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from workbench.errors import DatasetError
from workbench.sound import Clip, from_csv, from_folder

RATE_HZ = 8000


def clip(seed: int, seconds: float = 0.5) -> Clip:
    return Clip(0.2 * np.random.default_rng(seed).standard_normal(int(seconds * RATE_HZ)), RATE_HZ)


@pytest.fixture
def gtzan(tmp_path: Path) -> Path:
    """A folder laid out as GTZAN: genre/genre.00000.wav, three of each, plus files that are no sound."""
    root = tmp_path / "genres"
    for row, genre in enumerate(("blues", "jazz")):
        for n in range(3):
            clip(10 * row + n).write(root / genre / f"{genre}.{n:05d}.wav")
    (root / "jazz" / "notes.txt").write_text("not sound")
    (root / "jazz" / "._jazz.00000.wav").write_bytes(b"a leftover of another system")
    (root / ".hidden").mkdir()
    clip(99).write(root / ".hidden" / "x.wav")
    clip(98).write(root / "in_no_genre.wav")
    return root


def test_a_folder_per_genre_becomes_a_dataset(gtzan: Path) -> None:
    songs = from_folder(gtzan, progress=False)
    assert songs.name == "genres"
    assert songs.genres == ("blues", "jazz")
    assert songs.ids.tolist() == [f"{g}/{g}.{n:05d}.wav" for g in ("blues", "jazz") for n in range(3)]
    assert songs.groups[0] == "blues/blues.00000"
    assert len(set(songs.groups)) == 6
    assert np.abs(songs.clip("jazz/jazz.00002.wav").samples - clip(12).samples).max() <= 1 / 32768
    assert len({entry.digest for entry in songs}) == 6


def test_groups_can_be_named_by_the_user(gtzan: Path) -> None:
    songs = from_folder(gtzan, group=lambda file: file.stem.rpartition(".")[0], progress=False)
    assert set(songs.groups) == {"blues", "jazz"}


def test_a_corrupt_file_is_left_out_with_a_warning_that_names_it(gtzan: Path) -> None:
    (gtzan / "jazz" / "jazz.00054.wav").write_bytes(b"\x00" * 5000)  # GTZAN has such a file, of this name
    clip(1).write(gtzan / "jazz" / "zero.wav").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"(?s)2 of 8 files.*jazz\.00054\.wav.*zero\.wav"):
        songs = from_folder(gtzan, progress=False)
    assert len(songs) == 6
    with pytest.raises(DatasetError, match=r"(?s)2 of 8 files.*jazz\.00054\.wav.*zero\.wav"):
        from_folder(gtzan, strict=True, progress=False)


def test_a_silent_file_is_refused_when_strict_else_left_out(gtzan: Path) -> None:
    Clip(np.zeros(4000), RATE_HZ).write(gtzan / "jazz" / "quiet.wav")
    with pytest.raises(DatasetError, match=r"quiet\.wav.*silent \(-120 dBFS"):
        from_folder(gtzan, strict=True, progress=False)
    with pytest.warns(UserWarning, match=r"quiet\.wav.*silent"):
        assert len(from_folder(gtzan, progress=False)) == 6


def test_a_folder_of_nothing_but_broken_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "jazz").mkdir()
    (tmp_path / "jazz" / "a.wav").write_bytes(b"no")
    with pytest.raises(DatasetError, match=r"1 of 1 files.*\n.*a\.wav"):
        from_folder(tmp_path, progress=False)


def test_a_missing_or_empty_folder_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"nowhere.*no such folder"):
        from_folder(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match=r"one subfolder per genre"):
        from_folder(tmp_path)


def test_only_the_first_seconds_are_used_and_belong_to_the_fingerprint(gtzan: Path) -> None:
    whole, part = from_folder(gtzan, progress=False), from_folder(gtzan, seconds=0.25, progress=False)
    assert part.clip(0).seconds == 0.25
    assert whole.clip(0).seconds == 0.5
    assert whole.fingerprint != part.fingerprint
    assert part.fingerprint == from_folder(gtzan, seconds=0.25, progress=False).fingerprint


def test_the_fingerprint_follows_the_bytes(gtzan: Path) -> None:
    before = from_folder(gtzan, progress=False).fingerprint
    clip(77).write(gtzan / "jazz" / "jazz.00000.wav")
    assert from_folder(gtzan, progress=False).fingerprint != before


def table(folder: Path, text: str, *, encoding: str = "utf-8") -> Path:
    path = folder / "songs.csv"
    path.write_text(text, encoding=encoding)
    return path


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_table_becomes_a_dataset_with_all_its_labels(gtzan: Path, separator: str) -> None:
    lines = [
        ["file", "genre", "artist", "tempo", "mood"],
        ["blues/blues.00000.wav", "blues", "Ana", "90", "calm"],
        ["jazz/jazz.00000.wav", "jazz", "Ana", "120.5", "7"],
        ["jazz/jazz.00001.wav", "jazz", "Bo", "100", ""],
    ]
    path = table(gtzan, "\n".join(separator.join(line) for line in lines), encoding="utf-8-sig")
    songs = from_csv(path, group="artist", progress=False)
    assert songs.name == "songs"
    assert songs.ids.tolist() == [line[0] for line in lines[1:]]
    assert songs.groups.tolist() == ["Ana", "Ana", "Bo"]
    assert songs.labels().tolist() == ["blues", "jazz", "jazz"]
    assert songs.labels("tempo").tolist() == [90, 120.5, 100]
    assert songs.entries[1].labels["mood"] == "7"  # text, because "calm" is no number
    assert "mood" not in songs.entries[2].labels  # an empty cell is no label
    assert songs.targets == ("genre", "tempo")
    assert songs.clip(0).rate_hz == RATE_HZ


def test_a_target_of_numbers_is_read_as_classes(gtzan: Path) -> None:
    path = table(gtzan, "sound,decade\nblues/blues.00000.wav,1950\njazz/jazz.00000.wav,1960\n")
    songs = from_csv(path, audio="sound", target="decade", progress=False)
    assert songs.classes("decade") == ("1950", "1960")
    assert len(set(songs.groups)) == 2


def test_files_may_lie_in_another_folder(gtzan: Path, tmp_path: Path) -> None:
    path = table(tmp_path, "file,genre\nblues.00001.wav,blues\n")
    assert len(from_csv(path, root=gtzan / "blues", progress=False)) == 1
    with pytest.raises(DatasetError, match=r"blues\.00001\.wav.*no such file"):
        from_csv(path, progress=False)


def test_a_missing_column_lists_those_found(gtzan: Path) -> None:
    path = table(gtzan, "path,style\nblues/blues.00000.wav,blues\n")
    with pytest.raises(DatasetError, match=r"'file' of songs\.csv.*columns are path, style.*audio="):
        from_csv(path)
    with pytest.raises(DatasetError, match=r"'genre' of songs\.csv.*path, style"):
        from_csv(path, audio="path")
    with pytest.raises(DatasetError, match=r"'artist' of songs\.csv"):
        from_csv(path, audio="path", target="style", group="artist")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("file,genre\na.wav,\nb.wav,jazz\n", r"'genre' in each line.*line\(s\) 2 have none"),
        ("file,genre\na.wav,jazz\n ,jazz\n", r"'file' in each line.*line\(s\) 3 have none"),
        ("file,genre\n", "no clips"),
        ("", "cannot be read as a table"),
    ],
)
def test_a_table_with_gaps_is_refused_by_line(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(DatasetError, match=told):
        from_csv(table(tmp_path, text), progress=False)


def test_a_missing_table_and_one_that_is_no_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"nowhere\.csv.*no such file"):
        from_csv(tmp_path / "nowhere.csv")
    (tmp_path / "songs.csv").write_bytes(b"file,genre\n\xff\xfe\x00,x\n")
    with pytest.raises(DatasetError, match=r"songs\.csv.*cannot be read as a table"):
        from_csv(tmp_path / "songs.csv")


def test_a_file_listed_twice_is_refused(gtzan: Path) -> None:
    path = table(gtzan, "file,genre\njazz/jazz.00000.wav,jazz\njazz/jazz.00000.wav,blues\n")
    with pytest.raises(DatasetError, match=r"jazz/jazz\.00000\.wav come more than once"):
        from_csv(path, progress=False)
