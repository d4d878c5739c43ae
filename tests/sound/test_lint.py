"""Each fault is planted in a clean dataset and must be found; the clean one gives no finding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from workbench.errors import AudioError, DatasetError
from workbench.sound import Clip, Dataset, Entry, from_folder, lint
from workbench.sound.lint import measure_clip, same_sound

RATE_HZ = 8000
GENRES = ("jazz", "rock")
TRACKS = 10


def piece(seed: int, *, seconds: float = 4.0, level: float = 0.1) -> Clip:
    """Short notes of random pitch and time over soft noise: no two seeds alike, levels equal."""
    rng = np.random.default_rng(seed)
    sound = 0.02 * rng.standard_normal(int(seconds * RATE_HZ))
    for start in rng.uniform(0, seconds - 0.5, 12):
        time_s = np.arange(RATE_HZ // 4) / RATE_HZ
        note = np.sin(2 * np.pi * rng.uniform(100, 2000) * time_s) * np.exp(-6 * time_s)
        sound[int(start * RATE_HZ) :][: len(time_s)] += note
    return Clip(level * sound / np.sqrt(np.mean(sound**2)), RATE_HZ)


def songs(make: Callable[[str, int], Clip], *, tracks: int = TRACKS) -> Dataset:
    """`tracks` tracks of two genres, one clip each, whose sound `make(genre, seed)` gives."""
    clips: dict[str, Clip] = {}
    entries = []
    for row, genre in enumerate(GENRES):
        for n in range(tracks):
            name = f"{genre}.{n}"
            clips[name] = make(genre, 100 * row + n)
            entries.append(Entry(name, {"genre": genre}, f"track {name}", name, clips[name].digest))
    return Dataset(tuple(entries), "songs", lambda entry: clips[entry.source])


@pytest.fixture(scope="module")
def clean() -> Dataset:
    return songs(lambda genre, seed: piece(seed))


def kinds(dataset: Dataset) -> set[str]:
    return {finding.kind for finding in lint(dataset, progress=False).findings}


def planted(dataset: Dataset, position: int, **changes: object) -> Dataset:
    entries = list(dataset.entries)
    entries[position] = replace(entries[position], **changes)  # type: ignore[arg-type]
    return replace(dataset, entries=tuple(entries))


def test_a_clean_set_gives_no_finding(clean: Dataset) -> None:
    report = lint(clean, progress=False)
    assert report.ok, str(report)
    assert str(report) == "songs: 20 clips, clean"


def test_law_7_a_copy_in_another_group_is_a_leak(clean: Dataset) -> None:
    first = clean.entries[0]
    leaking = planted(clean, 1, source=first.source, digest=first.digest)
    (leak,) = lint(leaking, progress=False).findings
    assert (leak.kind, leak.severity, leak.ids) == ("leak", "error", ("jazz.0", "jazz.1"))
    assert "2 groups" in leak.message


def test_a_copy_in_the_same_group_is_only_a_duplicate(clean: Dataset) -> None:
    first = clean.entries[0]
    double = planted(clean, 1, source=first.source, digest=first.digest, group=first.group)
    (copy,) = lint(double, progress=False).findings
    assert (copy.kind, copy.severity) == ("duplicate", "warning")


def test_a_copy_with_another_label_is_a_contradiction(clean: Dataset) -> None:
    first = clean.entries[0]
    torn = planted(clean, TRACKS, source=first.source, digest=first.digest, group=first.group)
    (fault,) = lint(torn, progress=False).of("contradiction")
    assert fault.severity == "error"
    assert "jazz, rock" in fault.message


@pytest.mark.parametrize("suffix", ["mp3", "ogg", "flac"])
def test_law_7_a_copy_in_another_format_level_and_rate_is_a_leak(tmp_path: Path, suffix: str) -> None:
    import soundfile

    for row, genre in enumerate(GENRES):
        for n in range(TRACKS // 2):
            piece(100 * row + n).write(tmp_path / genre / f"{n}.wav")
    other = piece(0).resample(16_000)
    soundfile.write(tmp_path / "jazz" / f"copy.{suffix}", 0.7 * other.samples, 16_000)
    report = lint(from_folder(tmp_path, progress=False), progress=False)
    (leak,) = report.of("leak")
    assert leak.ids == ("jazz/0.wav", f"jazz/copy.{suffix}")
    assert leak.value is not None
    assert leak.value > 0.98
    assert "sound the same" in leak.message


def test_a_copy_at_another_level_in_the_same_group_is_no_leak(clean: Dataset) -> None:
    first = clean.entries[0]
    softer = Clip(0.99 * clean.clip(0).samples, RATE_HZ)
    twin = replace(first, id="jazz.twin", digest=softer.digest)
    dataset = Dataset(
        (*clean.entries, twin), "songs", lambda entry: softer if entry.id == twin.id else clean.reader(entry)
    )
    assert kinds(dataset) == set()
    apart = replace(dataset, entries=(*clean.entries, replace(twin, group="elsewhere")))
    assert kinds(apart) == {"leak"}


def test_steady_sounds_of_one_timbre_are_not_taken_for_copies() -> None:
    noises = [0.1 * np.random.default_rng(seed).standard_normal(4 * RATE_HZ) for seed in range(12)]
    tone = 0.1 * np.sin(2 * np.pi * 440 * np.arange(4.01 * RATE_HZ) / RATE_HZ)
    prints = [measure_clip(Clip(samples, RATE_HZ)).fingerprint for samples in [*noises, tone]]
    assert prints[-1] is None  # nothing happens in it, so there is nothing to recognise
    assert same_sound(np.stack([one for one in prints if one is not None])) == []


def test_pairs_are_found_across_blocks() -> None:
    rows = np.random.default_rng(0).standard_normal((1100, 64))
    rows[1050] = rows[3]
    rows[1060] = rows[700]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    assert same_sound(rows) == [(3, 1050), (700, 1060)]


def test_a_louder_genre_is_a_level_confound() -> None:
    loud = songs(lambda genre, seed: piece(seed, level=0.2 if genre == "rock" else 0.1))
    (finding,) = lint(loud, progress=False).findings
    assert (finding.kind, finding.severity) == ("level", "warning")
    assert finding.value is not None
    assert finding.value > 0.9
    assert "rock -14" in finding.message


def test_a_longer_genre_is_a_length_confound() -> None:
    longer = songs(lambda genre, seed: piece(seed, seconds=5.0 if genre == "rock" else 4.0))
    assert kinds(longer) == {"length"}


def test_a_genre_with_pauses_is_a_silence_confound() -> None:
    def make(genre: str, seed: int) -> Clip:
        clip = piece(seed)
        if genre == "jazz":
            return clip
        samples = clip.samples.copy()
        samples[: len(samples) // 4] = 0
        samples *= 10 ** ((clip.level_db - Clip(samples, RATE_HZ).level_db) / 20)  # as loud as before
        return Clip(samples, RATE_HZ)

    assert kinds(songs(make)) == {"silence_share"}


def test_a_genre_at_another_rate_is_a_rate_confound() -> None:
    finer = songs(lambda genre, seed: piece(seed).resample(16_000 if genre == "rock" else RATE_HZ))
    assert kinds(finer) == {"rate"}


@pytest.mark.parametrize("seed", range(6))
def test_levels_that_differ_by_chance_are_no_confound(seed: int) -> None:
    rng = np.random.default_rng(seed)
    assert kinds(songs(lambda genre, seed: piece(seed, level=float(rng.uniform(0.05, 0.2))))) == set()


def test_a_difference_that_is_certain_but_small_is_no_confound() -> None:
    rng = np.random.default_rng(0)

    def make(genre: str, seed: int) -> Clip:
        level_db = rng.normal(-18 if genre == "rock" else -20, 4)
        return piece(seed, seconds=1.0, level=10 ** (level_db / 20))

    assert kinds(songs(make, tracks=100)) == set()


def test_one_loud_track_cut_into_many_clips_is_one_witness(clean: Dataset) -> None:
    # clips of a group are not independent: twelve loud ones must not prove that a genre is loud
    clips = {entry.id: clean.clip(entry.id) for entry in clean}
    loud = {f"rock.loud.{n}": piece(900 + n, level=0.3) for n in range(12)}
    more = [Entry(name, {"genre": "rock"}, "one loud track", name, name) for name in loud]
    sounds = {**clips, **loud}
    dataset = Dataset((*clean.entries, *more), "songs", lambda entry: sounds[entry.source])
    assert "level" not in kinds(dataset)


def test_imbalance_and_too_few_groups_are_found(clean: Dataset) -> None:
    uneven = clean.subset([*range(TRACKS), *range(TRACKS, TRACKS + 4)])
    report = lint(uneven, progress=False)
    (imbalance,) = report.of("imbalance")
    assert imbalance.value == 2.5
    (groups,) = report.of("groups")
    assert "rock has 4 group(s)" in groups.message


def test_a_silent_and_an_unreadable_clip_are_found_by_id(clean: Dataset) -> None:
    def read(entry: Entry) -> Clip:
        if entry.id == "jazz.3":
            raise AudioError("the disk is gone")
        return Clip(np.zeros(RATE_HZ * 4), RATE_HZ) if entry.id == "rock.2" else clean.reader(entry)

    report = lint(replace(clean, reader=read), progress=False)
    assert [finding.ids for finding in report.of("unreadable")] == [("jazz.3",)]
    assert [finding.ids for finding in report.of("silent")] == [("rock.2",)]
    assert report.findings[0].severity == "error"


def test_the_report_is_a_table_and_words_with_errors_first(clean: Dataset) -> None:
    first = clean.entries[0]
    faulty = planted(clean, 1, source=first.source, digest=first.digest).subset(range(13))
    report = lint(faulty, progress=False)
    severities = [finding.severity for finding in report.findings]
    assert severities == sorted(severities)
    assert severities[0] == "error"
    assert report.table()["kind"].tolist() == [finding.kind for finding in report.findings]
    assert str(report).startswith(f"songs: 13 clips, {len(report.findings)} finding(s)\n  error")


def test_a_target_that_is_not_there_is_an_error(clean: Dataset) -> None:
    with pytest.raises(DatasetError, match="'mood'"):
        lint(clean, "mood", progress=False)
