"""Published collections as they come from their makers: GTZAN with its fault-filtered split, and FMA.

GTZAN (Tzanetakis and Cook 2002) repeats artists and whole tracks; results on random splits are far too good
(Sturm 2013, arXiv:1306.1461). The fault-filtered split (Kereliuk et al. 2015, arXiv:1507.04761: 443 tracks to
train, 197 to validate, 290 to test) keeps artists apart. FMA: Defferrard et al. 2017, arXiv:1612.01840.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pandas as pd

from workbench.errors import DatasetError
from workbench.sound.dataset import Dataset, Entry, Label, some
from workbench.sound.files import FileReader, checked, from_folder
from workbench.sound.reading import on_disk

GTZAN_FOLDERS = ("genres_original", "genres")
GTZAN_SPLIT = {
    "train": "train_filtered.txt",
    "validation": "valid_filtered.txt",
    "test": "test_filtered.txt",
}
FMA_SUBSETS = ("small", "medium", "large", "full")


def from_gtzan(
    path: Path | str,
    *,
    filtered: Path | str | None = None,
    seconds: float | None = None,
    strict: bool = False,
    progress: bool = True,
) -> Dataset:
    """Return GTZAN; jazz.00054 is corrupt as published and is left out with a warning that names it.

    Args:
        path: folder with a subfolder per genre, or one above it that holds ``genres_original`` or ``genres``.
        filtered: folder with ``train_filtered.txt``, ``valid_filtered.txt`` and ``test_filtered.txt`` (lines
            such as ``blues/blues.00029.wav``). Then only their tracks are taken, and the label `split` says
            train, validation or test: ``songs.where(split="train")``.
        seconds: only the first seconds of each file are used.
        strict: refuse broken files instead of leaving them out.
        progress: show a bar.

    Raises:
        DatasetError: there is no such folder, or a split file is missing or names no file that is there.
    """
    songs = from_folder(_genres_below(path), seconds=seconds, strict=strict, progress=progress)
    songs = replace(songs, name="gtzan")
    if filtered is None:
        return songs
    part_of = _filtered(Path(filtered))
    kept = [
        replace(entry, labels={**entry.labels, "split": part_of[_track(entry.id)]})
        for entry in songs
        if _track(entry.id) in part_of
    ]
    if not kept:
        found = (
            f"none of its {len(part_of)} tracks is among the {len(songs)} files, such as {some(songs.ids, 1)}"
        )
        do = "Check that files are called genre/genre.00000.wav"
        raise DatasetError(f"The split in {filtered} was asked for", found, do)
    return replace(songs, entries=tuple(kept), name="gtzan, fault-filtered")


def _genres_below(path: Path | str) -> Path:
    """Return the folder that holds the genres: the nearest one of its known names, or the path itself."""
    root = on_disk(path)
    for depth in ("", "*/", "*/*/"):
        for name in GTZAN_FOLDERS:
            inner = [folder for folder in sorted(root.glob(depth + name)) if folder.is_dir()]
            if inner:
                return inner[0]
    return root


def _track(id_: str) -> str:
    """Return "jazz.00054" of "jazz/jazz.00054.wav": the track, whatever folder and format it lies in."""
    return Path(id_).stem


def _filtered(folder: Path) -> dict[str, str]:
    """Return which part of the split each track belongs to."""
    missing = [name for name in GTZAN_SPLIT.values() if not (folder / name).is_file()]
    if missing:
        do = "Download them from the authors, or leave `filtered` out"
        raise DatasetError(
            f"The split files in {folder} were asked for", f"{some(missing)} are not there", do
        )
    return {
        _track(line.strip()): part
        for part, name in GTZAN_SPLIT.items()
        for line in (folder / name).read_text(encoding="utf-8").splitlines()
        if line.strip()
    }


def from_fma(
    audio: Path | str,
    metadata: Path | str,
    *,
    subset: str = "small",
    seconds: float | None = None,
    strict: bool = False,
    progress: bool = True,
) -> Dataset:
    """Return a subset of FMA; the artist is the group, so that no artist is on both sides of a split.

    Labels: `genre` (the top genre), `split` (training, validation, test) and, where ``genres.csv`` is there,
    `genres` (all titles, joined by "|"). Tracks without a top genre, and files that are missing or broken
    (the published archives hold some), are left out with a warning.

    Args:
        audio: folder such as ``fma_small``, with files ``000/000002.mp3``.
        metadata: folder with ``tracks.csv``, such as ``fma_metadata``.
        subset: "small", "medium", "large" or "full"; each holds those before it.
        seconds: only the first seconds of each file are used.
        strict: refuse broken files instead of leaving them out.
        progress: show a bar.

    Raises:
        DatasetError: an unknown subset, no such table, a column that is missing, or no usable track.
    """
    if subset not in FMA_SUBSETS:
        found = f"there are {', '.join(FMA_SUBSETS)}"
        raise DatasetError(f"The FMA subset {subset!r} was asked for", found, "Use one of these")
    tracks = _fma_tracks(Path(metadata) / "tracks.csv")
    wanted = FMA_SUBSETS[: FMA_SUBSETS.index(subset) + 1]
    tracks = tracks[tracks["subset"].isin(wanted) & tracks["genre"].notna()]
    titles = _fma_titles(Path(metadata) / "genres.csv")
    rows = [{str(name): value for name, value in row.items()} for row in tracks.to_dict("records")]
    entries = [_fma_entry(Path(audio), row, titles) for row in rows]
    if not entries:
        found = f"{metadata} lists none with a top genre"
        raise DatasetError(f"Tracks of FMA {subset} were asked for", found, "Check tracks.csv")
    return checked(
        entries,
        f"fma_{subset}",
        FileReader(seconds),
        strict=strict,
        progress=progress,
        seen=tracks["genre"].astype(str),
    )


def _fma_tracks(path: Path) -> pd.DataFrame:
    """Return track id, subset, split, genre, genres and artist of each line; the header has two lines."""
    columns = {
        "subset": ("set", "subset"),
        "split": ("set", "split"),
        "genre": ("track", "genre_top"),
        "genres": ("track", "genres_all"),
        "artist": ("artist", "id"),
    }
    if not path.is_file():
        do = "Give the folder that holds tracks.csv, such as fma_metadata"
        raise DatasetError(f"The table {path} was asked for", "there is no such file", do)
    table = pd.read_csv(path, index_col=0, header=[0, 1], low_memory=False)
    missing = [column for column in columns.values() if column not in table.columns]
    if missing:
        found = f"the columns {some(missing)} are missing"
        raise DatasetError(f"The FMA table {path} was asked for", found, "Use tracks.csv as published")
    tracks = pd.DataFrame({name: table[column] for name, column in columns.items()})
    return tracks.assign(track=table.index.astype(int))


def _fma_titles(path: Path) -> dict[int, str]:
    """Return the title of each genre number; empty where there is no such table."""
    if not path.is_file():
        return {}
    titles = pd.read_csv(path, index_col=0)["title"]
    return {int(str(number)): str(title) for number, title in titles.items()}


def _fma_entry(audio: Path, row: Mapping[str, object], titles: Mapping[int, str]) -> Entry:
    """Return the entry of one line; 2 becomes ``000/000002.mp3``."""
    name = f"{row['track']:06d}"
    labels: dict[str, Label] = {"genre": str(row["genre"]), "split": str(row["split"])}
    if titles:
        numbers = ast.literal_eval(str(row["genres"]))
        labels["genres"] = "|".join(sorted(titles[number] for number in numbers if number in titles))
    file = audio / name[:3] / f"{name}.mp3"
    return Entry(f"{name[:3]}/{name}.mp3", labels, f"artist {row['artist']}", str(file), "")
