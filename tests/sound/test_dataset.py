"""A dataset keeps labels, groups and sound together, and a split never cuts a group."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest

from workbench.datasets import builtin_dataset
from workbench.errors import DatasetError
from workbench.sound import Clip, Dataset, Entry, grouped_folds

GENRES = ("jazz", "rock", "classical")


def read(entry: Entry) -> Clip:
    return Clip(np.full(100, 0.1), 8000)


def entry(number: int, *, genre: str, group: str, **labels: str | float) -> Entry:
    name = f"{genre}.{number:02d}"
    return Entry(name, {"genre": genre, **labels}, group, f"builtin:{name}", f"digest of {name}")


@pytest.fixture
def songs() -> Dataset:
    """Three genres, 5 groups each, groups of 1 to 5 clips: 45 clips, interleaved."""
    entries = [
        entry(10 * size + n, genre=genre, group=f"{genre}-{size}", tempo=60.0 + 10 * n)
        for size in range(1, 6)
        for n in range(size)
        for genre in GENRES
    ]
    return Dataset(tuple(entries), "songs", read)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("test", [0.1, 0.25, 0.5, 0.8])
def test_law_7_a_split_never_cuts_a_group(songs: Dataset, test: float, seed: int) -> None:
    train, held_out = songs.split(test=test, seed=seed)
    assert not set(train.groups) & set(held_out.groups)
    assert sorted([*train.ids, *held_out.ids]) == sorted(songs.ids)
    assert train.genres == held_out.genres == songs.genres
    for genre in GENRES:  # shares hold as far as whole groups of up to a third of a class allow
        share = (held_out.labels() == genre).sum() / (songs.labels() == genre).sum()
        assert abs(share - test) <= 0.25


def test_a_split_depends_on_its_seed_alone(songs: Dataset) -> None:
    assert songs.split(seed=1)[1].ids.tolist() == songs.split(seed=1)[1].ids.tolist()
    assert len({tuple(songs.split(seed=seed)[1].ids) for seed in range(8)}) > 1


def test_a_group_with_two_genres_stays_whole() -> None:
    entries = [entry(n, genre=genre, group=f"album {n}") for n in range(6) for genre in ("jazz", "rock")]
    entries.append(entry(9, genre="jazz", group="album 0"))
    mixed = [replace(one, group="album 7") if one.id in ("jazz.05", "rock.05") else one for one in entries]
    extra = [entry(20 + n, genre=genre, group=f"{genre} {n}") for n in range(3) for genre in ("jazz", "rock")]
    train, held_out = Dataset((*mixed, *extra), "albums", read).split(test=0.4)
    assert not set(train.groups) & set(held_out.groups)
    assert set(held_out.labels()) == {"jazz", "rock"}


def test_a_split_that_cannot_be_says_why(songs: Dataset) -> None:
    lonely = songs.subset((songs.labels() != "jazz") | (songs.groups == "jazz-5"))
    with pytest.raises(DatasetError, match=r"'jazz'.*1 group\(s\)"):
        lonely.split()
    for share in (0, 1, -0.5, float("nan")):
        with pytest.raises(DatasetError, match="between 0 and 1"):
            songs.split(test=share)


@pytest.mark.parametrize("seed", range(4))
def test_law_7_grouped_folds_keep_groups_whole_and_test_each_clip_once(songs: Dataset, seed: int) -> None:
    folds = grouped_folds(songs.labels(), songs.groups, folds=5, seed=seed)
    assert len(folds) == 5
    for train, test in folds:
        assert not set(songs.groups[train]) & set(songs.groups[test])
        assert set(songs.labels()[train]) == set(GENRES)
        assert sorted([*train, *test]) == list(range(len(songs)))
    assert sorted(np.concatenate([test for _, test in folds])) == list(range(len(songs)))


def test_folds_that_cannot_be_say_why(songs: Dataset) -> None:
    with pytest.raises(DatasetError, match=r"6 folds.*5 group.*folds=5"):
        grouped_folds(songs.labels(), songs.groups, folds=6)
    with pytest.raises(DatasetError, match="two sides"):
        grouped_folds(songs.labels(), songs.groups, folds=1)
    with pytest.raises(DatasetError, match="all samples are of one class, jazz"):
        grouped_folds(np.array(["jazz"] * 4), np.arange(4))
    with pytest.raises(DatasetError, match=r"\(4,\) and \(3,\)"):
        grouped_folds(np.array(["a", "b", "a", "b"]), np.arange(3))


def test_a_fold_that_would_train_without_a_class_is_refused() -> None:
    labels = np.array(list("aabaaaabaab"))
    groups = np.array([1, 2, 2, 1, 1, 1, 1, 2, 1, 1, 3])  # the stratifier puts both groups of a on one side
    with pytest.raises(DatasetError, match="would train without 'a'"):
        grouped_folds(labels, groups, folds=2)


def test_take_is_balanced_and_spreads_over_groups(songs: Dataset) -> None:
    five = songs.take(5)
    assert {genre: (five.labels() == genre).sum() for genre in GENRES} == dict.fromkeys(GENRES, 5)
    assert len(set(five.groups)) == 15  # each of the 5 groups of each genre once
    seven = songs.take(7, seed=3)
    assert len(set(seven.groups)) == 15
    assert songs.take(7, seed=3).ids.tolist() == seven.ids.tolist() != songs.take(7, seed=4).ids.tolist()
    with pytest.raises(DatasetError, match=r"16 clips of each class.*has 15.*from 1 to 15"):
        songs.take(16)
    with pytest.raises(DatasetError, match="0 clips"):
        songs.take(0)


def test_labels_are_text_or_numbers_and_a_missing_one_is_named(songs: Dataset) -> None:
    assert songs.labels("tempo").dtype == np.float64
    assert songs.labels().dtype.kind == "U"
    assert songs.genres == songs.classes() == ("classical", "jazz", "rock")
    with pytest.raises(DatasetError, match=r"'mood'.*45 of 45 clips lack it.*genre, tempo"):
        songs.labels("mood")
    with pytest.raises(DatasetError, match="its values are numbers"):
        songs.classes("tempo")


def test_subset_takes_masks_indices_and_ids(songs: Dataset) -> None:
    mask = songs.labels() == "jazz"
    assert songs.subset(mask).ids.tolist() == songs.ids[mask].tolist()
    assert songs.subset([3, -1]).ids.tolist() == [songs.ids[3], songs.ids[-1]]
    assert songs.subset(["rock.10", "jazz.10"]).ids.tolist() == ["rock.10", "jazz.10"]
    with pytest.raises(DatasetError, match=r"mask of 3.*45 clips"):
        songs.subset([True, False, True])
    with pytest.raises(DatasetError, match=r"'polka\.01' was asked for"):
        songs.subset(["polka.01"])
    with pytest.raises(DatasetError, match="45 was asked for"):
        songs.subset([45])
    with pytest.raises(DatasetError, match="it has no clips"):
        songs.subset([])


def test_where_filters_by_label(songs: Dataset) -> None:
    assert set(songs.where(genre=["jazz", "rock"]).labels()) == {"jazz", "rock"}
    slow = songs.where(genre="jazz", tempo=60.0)
    assert set(slow.labels()) == {"jazz"}
    assert set(slow.labels("tempo")) == {60.0}
    with pytest.raises(DatasetError, match=r"genre='polka'.*classical, jazz, rock"):
        songs.where(genre="polka")


def test_clips_come_by_id_and_by_position(songs: Dataset) -> None:
    asked: list[str] = []

    def recording(one: Entry) -> Clip:
        asked.append(one.id)
        return read(one)

    dataset = replace(songs, reader=recording)
    assert dataset.clip("rock.20").rate_hz == 8000
    dataset.clip(-1)
    assert asked == ["rock.20", songs.ids[-1]]


def test_an_empty_dataset_and_doubled_ids_are_refused() -> None:
    with pytest.raises(DatasetError, match=r"'none'.*no clips"):
        Dataset((), "none", read)
    one = entry(1, genre="jazz", group="a")
    with pytest.raises(DatasetError, match=r"jazz\.01 come more than once"):
        Dataset((one, one), "twice", read)


def test_the_fingerprint_changes_with_sound_labels_groups_and_order(songs: Dataset) -> None:
    first, *rest = songs.entries
    others = [
        replace(songs, entries=(replace(first, digest="other"), *rest)),
        replace(songs, entries=(replace(first, labels={**first.labels, "genre": "polka"}), *rest)),
        replace(songs, entries=(replace(first, labels={**first.labels, "tempo": 61.0}), *rest)),
        replace(songs, entries=(replace(first, group="other"), *rest)),
        replace(songs, entries=(*rest, first)),
        songs.subset(range(44)),
    ]
    assert len({songs.fingerprint, *(one.fingerprint for one in others)}) == 7
    assert replace(songs, name="renamed").fingerprint == songs.fingerprint


@pytest.mark.parametrize("seconds", [0.01, 2.03, 5.0, 12.0])
def test_the_beginning_of_a_clip_is_its_first_seconds(songs: Dataset, seconds: float) -> None:
    for music in (songs, builtin_dataset()):  # of which the second plays codes, and no further
        whole = music.clip(3).section(0, seconds)
        assert np.array_equal(music.clip(3, seconds=seconds).samples, whole.samples)


def test_the_table_has_one_line_per_clip(songs: Dataset) -> None:
    table = songs.table()
    assert list(table.columns) == ["id", "group", "genre", "tempo", "source"]
    assert table["id"].tolist() == songs.ids.tolist()


def test_a_dataset_can_be_sent_to_a_worker(songs: Dataset) -> None:
    assert pickle.loads(pickle.dumps(songs)).fingerprint == songs.fingerprint
