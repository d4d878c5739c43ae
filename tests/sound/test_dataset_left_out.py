"""What a loader leaves out is named, on the dataset and in its lint too; one bad file stops nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from workbench.errors import DatasetError
from workbench.sound import Clip, Dataset, from_csv, from_folder, from_gtzan, lint

RATE_HZ = 8000


def clip(seed: int) -> Clip:
    return Clip(0.2 * np.random.default_rng(seed).standard_normal(RATE_HZ // 2), RATE_HZ)


@pytest.fixture
def music(tmp_path: Path) -> Path:
    """Two genres with two files each."""
    root = tmp_path / "music"
    for row, genre in enumerate(("jazz", "rock")):
        for n in range(2):
            clip(10 * row + n).write(root / genre / f"{n}.wav")
    return root


def loaded(root: Path) -> tuple[Dataset, str]:
    """The dataset of a folder and all that was said while it loaded."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        songs = from_folder(root, progress=False)
    return songs, "\n".join(str(one.message) for one in said)


def repeated(songs: Dataset) -> str:
    """What the lint repeats of the loading."""
    return "\n".join(finding.message for finding in lint(songs, progress=False).of("left_out"))


def test_a_clean_folder_says_nothing(music: Path) -> None:
    songs, said = loaded(music)
    assert said == "" and songs.warnings == () and repeated(songs) == ""


def test_files_that_nobody_here_reads_are_counted_by_genre(music: Path) -> None:
    for name in ("a.m4a", "b.m4a", "c.M4A", "d.wma", "cover.jpg", "notes.txt"):
        (music / "jazz" / name).write_bytes(b"x")
    songs, said = loaded(music)
    assert len(songs) == 4
    for told in (said, "\n".join(songs.warnings), repeated(songs)):
        assert "jazz: 3 .m4a files cannot be read" in told and "jazz: 1 .wma file cannot be read" in told
        assert "jpg" not in told and "txt" not in told
    with pytest.raises(DatasetError, match=r"jazz: 3 \.m4a files"):
        from_folder(music, strict=True, progress=False)


def test_a_genre_that_vanishes_is_said_three_times(music: Path) -> None:
    (music / "polka").mkdir()
    (music / "polka" / "a.m4a").write_bytes(b"x")
    (music / "noise").mkdir()
    (music / "noise" / "a.wav").write_bytes(b"x")
    songs, said = loaded(music)
    assert songs.genres == ("jazz", "rock")
    for told in (said, "\n".join(songs.warnings), repeated(songs)):
        assert "the genre 'noise' vanishes" in told and "the genre 'polka' vanishes" in told
    (finding, *_) = lint(songs.subset([0, 1, 2, 3]), progress=False).of("left_out")
    assert finding.severity == "warning" and "1 of 5 files are left out" in finding.message


def test_a_folder_of_unread_files_alone_says_which(tmp_path: Path) -> None:
    (tmp_path / "jazz").mkdir()
    (tmp_path / "jazz" / "a.m4a").write_bytes(b"x")
    with pytest.raises(DatasetError, match=r"no subfolder holds.*jazz: 1 \.m4a file cannot be read"):
        from_folder(tmp_path, progress=False)


def test_files_beside_the_genres_and_one_class_alone_are_said(music: Path) -> None:
    clip(50).write(music / "lost.wav")
    assert "1 sound file(s) in no genre's folder: lost.wav" in loaded(music)[1]
    songs, said = loaded(music.parent)  # a level too high: the whole collection looks like one genre
    assert "all 5 clips are of one genre, 'music'" in said and songs.warnings
    assert lint(songs, progress=False).of("one_class")


def test_links_to_folders_are_followed_and_loops_end(music: Path, tmp_path: Path) -> None:
    clip(70).write(tmp_path / "elsewhere" / "deep" / "2.wav")
    (music / "polka").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (music / "jazz" / "back").symlink_to(music, target_is_directory=True)
    (music / "rock" / "itself").symlink_to(music / "rock" / "itself")
    songs, said = loaded(music)
    assert songs.genres == ("jazz", "polka", "rock")
    assert "polka/deep/2.wav" in songs.ids and len(songs) == 5
    assert said == ""


def test_a_link_to_nothing_and_a_folder_named_like_sound_stop_nothing(music: Path) -> None:
    (music / "jazz" / "gone.wav").symlink_to(music / "nowhere.wav")
    (music / "jazz" / "folder.wav").mkdir()
    clip(80).write(music / "jazz" / "folder.wav" / "inside.wav")
    os.mkfifo(music / "jazz" / "pipe.wav")
    songs, said = loaded(music)
    assert "jazz/folder.wav/inside.wav" in songs.ids and len(songs) == 5
    assert "gone.wav" in said and "pipe.wav" in said and "2 of 7 files" in said


def test_any_error_of_the_disk_leaves_one_file_out(music: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Path.open

    def failing(path: Path, *args: object, **options: object) -> object:
        if path.name == "0.wav" and path.parent.name == "jazz":
            raise OSError(5, "Input/output error")
        return opened(path, *args, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", failing)
    songs, said = loaded(music)
    assert len(songs) == 3
    assert "0.wav" in said and "Input/output error" in said


def test_a_folder_that_cannot_be_listed_is_named(music: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = Path.iterdir

    def failing(path: Path) -> object:
        if path.name == "rock":
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", failing)
    assert "rock cannot be listed (Permission denied)" in loaded(music)[1]


NAMES = """
import warnings
from workbench.sound import from_csv, from_folder
for load, path in (from_folder, {music!r}), (from_csv, {table!r}):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        songs = load(path, progress=False)
    print(ascii(songs.ids.tolist()), songs.fingerprint, ascii(" ".join(str(one.message) for one in said)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse names that are not UTF-8")
def test_names_are_read_by_utf_8_whatever_the_locale(music: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "jazz/m\u00fcsik \u97f3.wav"
    clip(90).write(music / name)
    (music / "songs.csv").write_text(f"file,genre\n{name},jazz\nrock/0.wav,rock\n", "utf-8")
    bad = os.fsencode(music / "jazz") + b"/\xff\xfe.wav"
    Path(os.fsdecode(bad)).write_bytes((music / "jazz" / "0.wav").read_bytes())
    code = NAMES.format(music=str(music), table=str(music / "songs.csv"))
    ascii_alone = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    run = subprocess.run([sys.executable, "-c", code], env=ascii_alone, capture_output=True, check=True)
    exec(code, {})
    told = run.stdout.decode("ascii")
    assert told == capsys.readouterr().out  # ids, fingerprint and words
    assert r"jazz/m\xfcsik \u97f3.wav" in told
    assert r"xff\\xfe.wav has a name that is not UTF-8" in told


@pytest.mark.parametrize("above", [".", "Data", "archive/Data"])
@pytest.mark.parametrize("name", ["genres_original", "genres"])
def test_gtzan_is_found_below(tmp_path: Path, above: str, name: str) -> None:
    for row, genre in enumerate(("blues", "jazz")):
        for n in range(2):
            clip(10 * row + n).write(tmp_path / above / name / genre / f"{genre}.{n:05d}.wav")
        clip(99).write(tmp_path / above / "images_original" / genre / "x.wav")
    songs = from_gtzan(tmp_path, progress=False)
    assert songs.genres == ("blues", "jazz") and len(songs) == 4 and songs.warnings == ()


def test_gtzan_with_one_class_alone_says_so(tmp_path: Path) -> None:
    clip(1).write(tmp_path / "somewhere" / "blues" / "blues.00000.wav")
    with pytest.warns(UserWarning, match="one genre, 'somewhere', and a probe needs two"):
        from_gtzan(tmp_path, progress=False)


@pytest.mark.parametrize("given", [None, float("nan"), "", "  "])
def test_a_file_without_a_group_is_named(music: Path, given: object) -> None:
    with pytest.raises(DatasetError, match=r"group for jazz/0\.wav"):
        from_folder(music, group=lambda file: given, progress=False)  # type: ignore[arg-type, return-value]


def test_a_class_that_vanishes_from_a_table_is_said(music: Path) -> None:
    (music / "bad.wav").write_bytes(b"x")
    table = music / "songs.csv"
    table.write_text("file,mood\njazz/0.wav,calm\nrock/0.wav,wild\nbad.wav,sad\n")
    with pytest.warns(UserWarning, match="the mood 'sad' vanishes"):
        songs = from_csv(table, target="mood", progress=False)
    assert any("'sad' vanishes" in told for told in songs.warnings)
