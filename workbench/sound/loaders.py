"""Datasets from sound files: a folder per genre, a CSV table, and two published collections.

GTZAN (Tzanetakis and Cook 2002) repeats artists and whole tracks; results on random splits are far too good
(Sturm 2013, arXiv:1306.1461). The fault-filtered split (Kereliuk et al. 2015, arXiv:1507.04761: 443 tracks to
train, 197 to validate, 290 to test) keeps artists apart. FMA: Defferrard et al. 2017, arXiv:1612.01840.
"""

from __future__ import annotations

import ast
import csv
import hashlib
import io
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from workbench.errors import AudioError, DatasetError, message
from workbench.sound.clip import SILENT_LEVEL_DB, Clip
from workbench.sound.dataset import Dataset, Entry, Label, missing, some
from workbench.sound.read import SUFFIXES, on_disk, portable, read_clip, shown

# suffixes of sound that no decoder here reads: such files are named when they are left out, covers are not
UNREAD_SUFFIXES = (
    *(".m4a", ".m4b", ".m4p", ".mp4", ".aac", ".alac", ".3gp", ".mov", ".wma", ".asf", ".webm", ".mka"),
    *(".ape", ".wv", ".mpc", ".tta", ".tak", ".dsf", ".dff", ".ac3", ".dts", ".amr", ".ra", ".mid", ".midi"),
)
GTZAN_FOLDERS = ("genres_original", "genres")
GTZAN_SPLIT = {"train": "train_filtered.txt", "validation": "valid_filtered.txt", "test": "test_filtered.txt"}
FMA_SUBSETS = ("small", "medium", "large", "full")
_FMA_COLUMNS = {
    "subset": ("set", "subset"),
    "split": ("set", "split"),
    "genre": ("track", "genre_top"),
    "genres": ("track", "genres_all"),
    "artist": ("artist", "id"),
}


@dataclass(frozen=True)
class FileReader:
    """Reads the file of an entry: at most `seconds` of it, all of it when None. Workers can be sent it."""

    seconds: float | None = None

    def __call__(self, entry: Entry) -> Clip:
        """Return the sound of the entry's file."""
        return read_clip(entry.source, seconds=self.seconds)


def _checked(
    entries: Sequence[Entry],
    name: str,
    how: tuple[float | None, bool, bool],
    *,
    seen: Iterable[str],
    left_out: Sequence[str] = (),
    target: str = "genre",
) -> Dataset:
    """Decode every file once; return the dataset of the usable ones, with digests, and tell of the others."""
    seconds, strict, progress = how
    reader = FileReader(seconds)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        work = pool.map(lambda entry: _inspect(entry, reader), entries)
        bar = tqdm(work, total=len(entries), desc=f"checking {name}", unit="file", disable=not progress)
        results = list(bar)
    good = tuple(result for result in results if isinstance(result, Entry))
    faults = [result for result in results if isinstance(result, str)]
    share, listed = f"{len(faults)} of {len(entries)} files", "\n  ".join(faults)
    if faults and (strict or not good):
        do = "Repair or remove them, or load with strict=False to leave them out"
        raise DatasetError(f"{share} of {name!r} cannot be used. {do}:\n  {listed}")
    if faults:
        warnings.warn(f"{share} of {name!r} are left out:\n  {listed}", stacklevel=3)
    classes = {str(entry.labels[target]) for entry in good}
    gone = sorted({*seen} - classes)
    notes = [*left_out, *(f"the {target} {one!r} vanishes: none of its files can be used" for one in gone)]
    if len(classes) == 1:
        notes.append(f"all {len(good)} clips are of one {target}, {min(classes)!r}, and a probe needs two")
    if notes:
        warnings.warn(f"About the dataset {name!r}:\n  " + "\n  ".join(notes), stacklevel=3)
    lost = [f"{share} are left out: {some(faults)}"] if faults else []
    return Dataset(good, name, reader, (*lost, *notes))


def _inspect(entry: Entry, reader: FileReader) -> Entry | str:
    """Return the entry with its digest, or what is wrong with its file."""
    try:
        clip = reader(entry)
        with on_disk(entry.source).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
    except AudioError as error:
        return str(error)
    except OSError as error:
        asked = f"The bytes of {shown(entry.source)} were asked for"
        return message(asked, f"{error.strerror}", "Check the disk")
    if clip.silent:
        found = f"it is silent ({clip.level_db:.0f} dBFS, below {SILENT_LEVEL_DB:.0f})"
        return message(f"The sound of {shown(entry.source)} was asked for", found, "Leave it out")
    if reader.seconds is not None:  # another window of the same file is another sound
        digest.update(f"|{reader.seconds:g}".encode())
    return replace(entry, digest=digest.hexdigest())


def from_folder(
    path: Path | str,
    *,
    seconds: float | None = None,
    group: Callable[[Path], str] | None = None,
    strict: bool = False,
    progress: bool = True,
) -> Dataset:
    """Return the dataset of a folder with one subfolder per genre, as GTZAN has it.

    Args:
        path: the folder; `path/jazz/**/x.wav` is a clip with id "jazz/x.wav" and the label genre "jazz".
            Links to folders are followed.
        seconds: only the first seconds of each file are used.
        group: file path to group name; by default each file is its own group (name without suffix). Give one
            when several files belong to one track or artist: `group=lambda file: file.stem.split("_")[0]`.
        strict: refuse broken, silent and unreadable files instead of leaving them out with a warning that
            lists them; the dataset's `warnings` and its lint repeat it.
        progress: show a bar; every file is decoded once, to find the broken ones now and not in mid-run.

    Raises DatasetError where there is no such folder, no sound in a subfolder, or (strict) an unusable file.
    """
    root = on_disk(path)
    asked = f"The music folder {shown(root)} was asked for"
    if not root.is_dir():
        raise DatasetError(asked, "there is no such folder", "Check the path")
    entries, seen, unread, beside = _sorted_files(root, group)
    if not entries:
        found = "; ".join([f"no subfolder holds a sound file ({', '.join(SUFFIXES)})", *unread])
        do = "Make one subfolder per genre and put the files there, e.g. jazz/first.wav"
        raise DatasetError(asked, found, do)
    if strict and unread:
        do = "Convert or repair them, or load with strict=False to leave them out"
        raise DatasetError(f"All files of {shown(root)} were asked for", some(unread, 8), do)
    how = (seconds, strict, progress)
    return _checked(entries, shown(root.name), how, seen=seen, left_out=[*unread, *beside])


def _sorted_files(
    root: Path, group: Callable[[Path], str] | None
) -> tuple[list[Entry], set[str], list[str], list[str]]:
    """Return a folder's entries and genres, and in words what cannot be read and what is in no genre."""
    entries: list[Entry] = []
    unread: Counter[tuple[str, str]] = Counter()
    faults: list[str] = []
    beside: list[str] = []
    for file in _files(root, faults):
        suffix = file.suffix.lower()
        if suffix not in SUFFIXES + UNREAD_SUFFIXES:
            continue
        name = Path(portable(file.relative_to(root)))  # the same whatever the system's encoding
        if any("\ud800" <= letter <= "\udfff" for letter in str(name)):
            faults.append(f"{shown(file.relative_to(root))} has a name that is not UTF-8")
        elif len(name.parts) < 2:
            beside.append(name.name)
        elif suffix in UNREAD_SUFFIXES:
            unread[name.parts[0], suffix] += 1
        else:
            id_, labels = name.as_posix(), {"genre": name.parts[0]}
            owner = name.with_suffix("").as_posix() if group is None else group(file)
            if missing([owner])[0]:
                found, do = f"group(file) returned {owner!r}", "Return the name of its track or artist"
                raise DatasetError(f"A group for {id_} was asked for", found, do)
            entries.append(Entry(id_, labels, str(owner).strip(), portable(file), ""))
    genres = {str(entry.labels["genre"]) for entry in entries} | {genre for genre, _ in unread}
    kinds = [(*kind, f"file{'s' * (n > 1)}", n) for kind, n in sorted(unread.items())]
    counted = [f"{genre}: {n} {suffix} {files} cannot be read" for genre, suffix, files, n in kinds]
    lone = [f"{len(beside)} sound file(s) in no genre's folder: {some(beside)}"] if beside else []
    return entries, genres, counted + faults, lone


def _files(folder: Path, faults: list[str], above: frozenset[str] = frozenset()) -> Iterator[Path]:
    """Yield the files below a folder by name, without hidden ones; a link to one `above` goes in circles."""
    try:
        place = os.path.realpath(folder)
        inside = sorted(folder.iterdir())
    except OSError as error:
        faults.append(f"the folder {shown(folder)} cannot be listed ({error.strerror})")
        return
    if place in above:
        return
    for path in inside:
        if path.name.startswith("."):
            continue
        if os.path.isdir(path):  # noqa: PTH112  # no error where it cannot be reached
            yield from _files(path, faults, above | {place})
        else:
            yield path


def from_csv(
    path: Path | str, *, audio: str = "file", target: str = "genre", group: str | None = None,
    root: Path | str | None = None, seconds: float | None = None, strict: bool = False, progress: bool = True,
) -> Dataset:  # fmt: skip
    """Return the dataset of a table with one line per sound file; comma, semicolon and tab separate columns.

    All columns but `audio` and `group` become labels: numbers where every value is one, text otherwise.
    Spaces around values and column names do not count; an empty cell is no label, and neither is "nan",
    "None" or "null".

    `path` is UTF-8 text with a header line. The column `audio` holds file paths, relative to `root` (the
    table's own folder when None), which become the ids. Labels of the column `target` are wanted as text,
    even when they look like numbers. The column `group` holds tracks or artists; each file is its own group
    when None. All else is as in `from_folder`. Raises DatasetError where a column is missing or has gaps, a
    line is too long or too short, or no file is usable.
    """
    path = Path(path)
    base = path.parent if root is None else Path(root)
    table = _read_table(path, [audio, target, *([group] if group else [])])
    notes: list[str] = []
    others = [name for name in table.columns if name not in (audio, group)]
    columns = {name: _typed(table[name], path, notes, text=name == target) for name in others}
    files = [str(file) for file in table[audio]]
    owners = table[group].astype(str) if group else [Path(file).with_suffix("").as_posix() for file in files]
    entries = []
    for row, (file, owner) in enumerate(zip(files, owners, strict=True)):
        labels = {name: values[row] for name, values in columns.items() if values[row] != ""}
        entries.append(Entry(file, labels, owner, str(base / file), ""))
    how = (seconds, strict, progress)
    return _checked(entries, path.stem, how, seen=table[target], left_out=notes, target=target)


def _read_table(path: Path, needed: Sequence[str]) -> pd.DataFrame:
    """Return the table, all values as text without spaces around; its index is the line of each row."""
    (_, header), *rows = _rows_of(path, needed)
    doubled = [name for name, count in Counter(header).items() if name and count > 1]
    if doubled:
        asked = f"One column of each name in {path.name} was asked for"
        raise DatasetError(asked, f"{some(doubled)} come more than once", "Rename or delete the others")
    for line, cells in rows:
        if len(cells) < len(header) or any(cells[len(header) :]):
            asked = f"{len(header)} cells in each line of {path.name} were asked for"
            do = "Add what is missing, or put quotes around a value that contains the separator"
            raise DatasetError(asked, f"line {line} has {len(cells)} ({', '.join(cells)[:60]})", do)
    names = [name or f"Unnamed: {number}" for number, name in enumerate(header)]
    cut = [cells[: len(names)] for _, cells in rows]
    table = pd.DataFrame(cut, columns=names, index=[line for line, _ in rows], dtype=str)
    for name in needed:
        if name not in names:
            asked = f"The column {name!r} of {path.name} was asked for"
            do = "Name the right ones: from_csv(path, audio=..., target=..., group=...)"
            raise DatasetError(asked, f"the columns are {', '.join(names)}", do)
        if gaps := table.index[missing(table[name])].tolist():
            asked = f"A value of {name!r} in each line of {path.name} was asked for"
            raise DatasetError(asked, f"line(s) {some(gaps)} have none", "Fill them in or delete the lines")
    return table


def _rows_of(path: Path, needed: Sequence[str]) -> list[tuple[int, list[str]]]:
    """Return the rows of a file that are not blank, cut where most of the needed columns then are found."""
    try:
        text = on_disk(path).read_text(encoding="utf-8-sig")
        separator = max(",;\t", key=lambda one: _fits(text, one, needed))
        if rows := list(_rows(text, separator)):
            return rows
        found = "it cannot be read as a table (it is empty)"
    except FileNotFoundError:
        found = "there is no such file"
    except (OSError, UnicodeError, csv.Error) as error:
        found = f"it cannot be read as a table ({getattr(error, 'strerror', None) or error})"
    do = "Give a UTF-8 CSV file with a header line"
    raise DatasetError(f"The table {shown(path)} was asked for", found, do)


def _fits(text: str, separator: str, needed: Sequence[str]) -> tuple[int, int]:
    """Return how many needed columns, and how many at all, a header has that is cut at `separator`."""
    with suppress(csv.Error):
        for _, header in _rows(text, separator):
            return len(set(needed) & set(header)), len(header)
    return 0, 0


def _rows(text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the line on which each row that is not blank begins, and its cells."""
    lines, line = io.StringIO(text, newline=""), 1
    reader = csv.reader(lines, delimiter=separator, skipinitialspace=True, strict=True)
    try:
        for row in reader:
            if any(cells := [cell.strip() for cell in row]):
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise csv.Error(f"line {line}: {error}") from error


def _typed(column: pd.Series[str], path: Path, notes: list[str], *, text: bool) -> list[Label]:
    """Return a column's values, floats if all are numbers; `notes` takes the lines that differ from most."""
    gone = missing(column)
    values, known, what = column.mask(gone, ""), column[~gone], f"the column {column.name!r} of {path.name}"
    if 0 < gone.sum() < len(known):
        notes.append(f"{what} has no value in line(s) {some(column.index[gone])}")
    if text or known.empty:
        return list(values)
    numbers = pd.to_numeric(known, errors="coerce")
    other = known[~np.isfinite(numbers)]
    if other.empty:
        return [float(numbers[line]) if line in numbers.index else "" for line in values.index]
    if 2 * len(other) < len(known):
        lines = [f"{line} ({value})" for line, value in other.items()]
        notes.append(f"{what} is text, not numbers, by line(s) {some(lines)}")
    return list(values)


def from_gtzan(path: Path | str, *, filtered: Path | str | None = None, **options: Any) -> Dataset:
    """Return GTZAN; jazz.00054 is corrupt as published and is left out with a warning that names it.

    `path` is a folder with a subfolder per genre, or one above it that holds ``genres_original`` or
    ``genres``. `filtered` is a folder with ``train_filtered.txt``, ``valid_filtered.txt`` and
    ``test_filtered.txt`` (lines such as ``blues/blues.00029.wav``): then only their tracks are taken, and the
    label `split` says train, validation or test. `options` are those of `from_folder`. Raises DatasetError
    where there is no such folder, or a split file is missing or names no file that is there.
    """
    root = on_disk(path)
    below = (root.glob(depth + name) for depth in ("", "*/", "*/*/") for name in GTZAN_FOLDERS)
    nearest = next((folder for found in below for folder in sorted(found) if folder.is_dir()), root)
    songs = from_folder(nearest, **options)
    if filtered is None:
        return replace(songs, name="gtzan")
    asked = f"The split in {filtered} was asked for"
    lists = {Path(filtered) / name: part for part, name in GTZAN_SPLIT.items()}
    if absent := [listed.name for listed in lists if not listed.is_file()]:
        do = "Download the lists from the authors, or leave `filtered` out"
        raise DatasetError(asked, f"{some(absent)} are not there", do)
    # by the track, "jazz.00054", whatever its folder and format
    lines = [(line, part) for listed, part in lists.items() for line in listed.read_text("utf-8").split()]
    part_of = {Path(line).stem: part for line, part in lines}
    tracks = [(entry, part_of.get(Path(entry.id).stem)) for entry in songs]
    kept = [replace(one, labels={**one.labels, "split": part}) for one, part in tracks if part]
    if not kept:
        few = some(songs.ids, 1)
        found = f"none of its {len(part_of)} tracks is among the {len(songs)} files, such as {few}"
        raise DatasetError(asked, found, "Check that files are called genre/genre.00000.wav")
    return replace(songs, entries=tuple(kept), name="gtzan, fault-filtered")


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

    `audio` is a folder such as ``fma_small``, with files ``000/000002.mp3``, `metadata` one with
    ``tracks.csv``, such as ``fma_metadata``, and `subset` "small", "medium", "large" or "full", of which each
    holds those before it. All else is as in `from_folder`. Raises DatasetError for an unknown subset, no such
    table, a column that is missing, or no usable track.
    """
    DatasetError.among(subset, FMA_SUBSETS, "The FMA subset")
    path = Path(metadata) / "tracks.csv"
    asked = f"The FMA table {path} was asked for"
    if not path.is_file():
        do = "Give the folder that holds tracks.csv, such as fma_metadata"
        raise DatasetError(asked, "there is no such file", do)
    table = pd.read_csv(path, index_col=0, header=[0, 1], low_memory=False)
    if absent := [column for column in _FMA_COLUMNS.values() if column not in table.columns]:
        raise DatasetError(asked, f"the columns {some(absent)} are missing", "Use tracks.csv as published")
    tracks = pd.DataFrame({name: table[column] for name, column in _FMA_COLUMNS.items()})
    wanted = FMA_SUBSETS[: FMA_SUBSETS.index(subset) + 1]
    tracks = tracks[tracks["subset"].isin(wanted) & tracks["genre"].notna()]
    titles: dict[int, str] = {}
    if (genres := path.with_name("genres.csv")).is_file():
        titles = {int(str(n)): str(title) for n, title in pd.read_csv(genres, index_col=0)["title"].items()}
    entries = []
    for row in tracks.itertuples():
        name = f"{int(str(row.Index)):06d}"
        inside = f"{name[:3]}/{name}.mp3"
        labels: dict[str, Label] = {"genre": str(row.genre), "split": str(row.split)}
        if titles:
            numbers = ast.literal_eval(str(row.genres))
            labels["genres"] = "|".join(sorted(titles[number] for number in numbers if number in titles))
        entries.append(Entry(inside, labels, f"artist {row.artist}", str(Path(audio) / inside), ""))
    if not entries:
        found = f"{metadata} lists none with a top genre"
        raise DatasetError(f"Tracks of FMA {subset} were asked for", found, "Check tracks.csv")
    how = (seconds, strict, progress)
    return _checked(entries, f"fma_{subset}", how, seen=tracks["genre"].astype(str))
