"""Published collections load as their makers lay them out: GTZAN with its faults and split, FMA by artist."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from workbench.errors import DatasetError
from workbench.sound import Clip, from_fma, from_gtzan

RATE_HZ = 8000
LISTS = {
    "train_filtered.txt": ["blues/blues.00000.wav", "jazz/jazz.00000.wav"],
    "valid_filtered.txt": ["jazz/jazz.00002.wav"],
    "test_filtered.txt": ["blues/blues.00002.wav", "blues/blues.00099.wav"],
}
TRACKS = """,set,set,track,track,artist
,split,subset,genre_top,genres_all,id
track_id,,,,,
2,training,small,Hip-Hop,"[21, 18]",1
3,test,small,Rock,[12],7
5,validation,medium,Rock,[12],7
10,training,small,,[10],6
20,training,small,Rock,"[12, 77]",9
"""
GENRES = (
    "genre_id,#tracks,parent,title,top_level\n12,3,0,Rock,12\n18,1,21,Underground,21\n21,1,0,Hip-Hop,21\n"
)


def noise(seed: int) -> np.ndarray:
    return 0.2 * np.random.default_rng(seed).standard_normal(RATE_HZ)


@pytest.fixture
def gtzan(tmp_path: Path) -> Path:
    """As unpacked: a folder above the genres, three tracks of each, the corrupt one, the split beside it."""
    for row, genre in enumerate(("blues", "jazz")):
        for n in range(3):
            file = tmp_path / "genres_original" / genre / f"{genre}.{n:05d}.wav"
            Clip(noise(10 * row + n), RATE_HZ).write(file)
    (tmp_path / "genres_original" / "jazz" / "jazz.00054.wav").write_bytes(b"\x00" * 3000)
    for name, lines in LISTS.items():
        (tmp_path / name).write_text("\n".join(lines) + "\n")
    return tmp_path


@pytest.fixture
def fma(tmp_path: Path) -> Path:
    for number in (2, 3, 5):
        file = tmp_path / "fma" / "000" / f"{number:06d}.mp3"
        file.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(file, noise(number), RATE_HZ, format="MP3")
    (tmp_path / "fma" / "000" / "000020.mp3").write_bytes(b"cut short")
    (tmp_path / "fma_metadata").mkdir()
    (tmp_path / "fma_metadata" / "tracks.csv").write_text(TRACKS)
    return tmp_path


def test_gtzan_loads_without_its_corrupt_file(gtzan: Path) -> None:
    with pytest.warns(UserWarning, match=r"jazz\.00054\.wav"):
        songs = from_gtzan(gtzan, progress=False)
    assert songs.name == "gtzan" and songs.genres == ("blues", "jazz") and len(songs) == 6
    with pytest.warns(UserWarning, match=r"jazz\.00054\.wav"):
        assert from_gtzan(gtzan / "genres_original", progress=False).fingerprint == songs.fingerprint


@pytest.mark.filterwarnings("ignore:1 of 7 files")
def test_the_fault_filtered_split_labels_clips_and_drops_the_rest(gtzan: Path) -> None:
    songs = from_gtzan(gtzan, filtered=gtzan, progress=False)
    parts = dict(zip(songs.ids.tolist(), songs.labels("split").tolist(), strict=True))
    assert parts == {
        "blues/blues.00000.wav": "train",
        "blues/blues.00002.wav": "test",
        "jazz/jazz.00000.wav": "train",
        "jazz/jazz.00002.wav": "validation",
    }
    assert songs.where(split="train").genres == ("blues", "jazz")


@pytest.mark.filterwarnings("ignore:1 of 7 files")
def test_a_split_that_does_not_fit_is_refused(gtzan: Path) -> None:
    (gtzan / "valid_filtered.txt").unlink()
    with pytest.raises(DatasetError, match=r"valid_filtered\.txt are not there"):
        from_gtzan(gtzan, filtered=gtzan, progress=False)
    for name in LISTS:
        (gtzan / name).write_text("metal/metal.00000.wav\n")
    with pytest.raises(DatasetError, match="none of its 1 tracks"):
        from_gtzan(gtzan, filtered=gtzan, progress=False)


def test_fma_loads_by_artist_and_leaves_out_what_has_no_genre_or_no_sound(fma: Path) -> None:
    with pytest.warns(UserWarning, match=r"1 of 3 files(?s:.*)000020\.mp3"):
        songs = from_fma(fma / "fma", fma / "fma_metadata", progress=False)
    assert songs.ids.tolist() == ["000/000002.mp3", "000/000003.mp3"]
    assert songs.labels().tolist() == ["Hip-Hop", "Rock"]
    assert songs.labels("split").tolist() == ["training", "test"]
    assert songs.groups.tolist() == ["artist 1", "artist 7"]
    assert songs.clip(0).seconds == pytest.approx(1.0, abs=0.1)


@pytest.mark.filterwarnings("ignore:1 of 4 files")
def test_a_larger_subset_holds_the_smaller_and_all_genres_get_their_titles(fma: Path) -> None:
    (fma / "fma_metadata" / "genres.csv").write_text(GENRES)
    songs = from_fma(fma / "fma", fma / "fma_metadata", subset="medium", progress=False)
    assert songs.ids.tolist() == ["000/000002.mp3", "000/000003.mp3", "000/000005.mp3"]
    assert songs.labels("genres").tolist() == ["Hip-Hop|Underground", "Rock", "Rock"]
    assert songs.groups[1] == songs.groups[2]


def test_what_is_no_fma_is_refused(fma: Path) -> None:
    with pytest.raises(DatasetError, match=r"'tiny'.*small, medium"):
        from_fma(fma / "fma", fma / "fma_metadata", subset="tiny")
    with pytest.raises(DatasetError, match="no such file"):
        from_fma(fma / "fma", fma)
    (fma / "fma_metadata" / "tracks.csv").write_text(TRACKS.replace("genre_top", "genre"))
    with pytest.raises(DatasetError, match=r"genre_top.*missing"):
        from_fma(fma / "fma", fma / "fma_metadata")
