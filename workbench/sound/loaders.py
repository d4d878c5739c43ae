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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from workbench.errors import AudioError, DatasetError, message
from workbench.sound.clip import SILENT_LEVEL_DB, Clip
from workbench.sound.dataset import Dataset, Entry, Label, missing, some
from workbench.sound.read import SUFFIXES, on_disk, portable, read_clip, shown

# suffixes of sound that nobody here decodes: such files are named when they are left out, covers are not
UNREAD_SUFFIXES = (
    *(".m4a", ".m4b", ".m4p", ".mp4", ".aac", ".alac", ".3gp", ".mov", ".wma", ".asf", ".webm", ".mka"),
    *(".ape", ".wv", ".mpc", ".tta", ".tak", ".dsf", ".dff", ".ac3", ".dts", ".amr", ".ra", ".mid", ".midi"),
)
_LEAVE_OUT = "Convert or repair them, or load with strict=False to leave them out"


@dataclass(frozen=True)
class FileReader:
    """Reads the file of an entry: at most `seconds` of it, all of it when None. Workers can be sent it."""

    seconds: float | None = None

    def __call__(self, entry: Entry) -> Clip:
        """Return the sound of the entry's file."""
        return read_clip(entry.source, seconds=self.seconds)


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

    Raises:
        DatasetError: there is no such folder, no subfolder with sound, a file without a group, or (strict) an
            unusable file.
    """
    root = on_disk(path)
    if not root.is_dir():
        raise DatasetError(
            f"The music folder {shown(root)} was asked for", "there is no such folder", "Check the path"
        )
    found = _Found()
    for file in _files(root, found.faults):
        found.sort_in(root, file, group)
    unread = found.unread()
    if not found.entries:
        others = "".join(f"; {one}" for one in unread)
        raise DatasetError(
            f"The music folder {shown(root)} was asked for",
            f"no subfolder holds a sound file ({', '.join(SUFFIXES)}){others}",
            "Make one subfolder per genre and put the files there, e.g. jazz/first.wav",
        )
    if strict and unread:
        raise DatasetError(f"All files of {shown(root)} were asked for", some(unread, 8), _LEAVE_OUT)
    return checked(
        found.entries,
        shown(root.name),
        FileReader(seconds),
        strict=strict,
        progress=progress,
        left_out=[*unread, *found.beside()],
        seen=found.genres,
    )


def from_csv(
    path: Path | str,
    *,
    audio: str = "file",
    target: str = "genre",
    group: str | None = None,
    root: Path | str | None = None,
    seconds: float | None = None,
    strict: bool = False,
    progress: bool = True,
) -> Dataset:
    """Return the dataset of a table with one line per sound file; comma, semicolon and tab separate columns.

    Args:
        path: the table, UTF-8, with a header line.
        audio: column with the file paths, relative to `root`; they become the ids.
        target: column whose labels are wanted as text, even when they look like numbers.
        group: column with the groups (track, artist); each file is its own group when None.
        root: folder of the files; the table's own folder when None.
        seconds: only the first seconds of each file are used.
        strict: as in `from_folder`.
        progress: as in `from_folder`.

    All other columns become labels: numbers where every value is one, text otherwise. Spaces around values
    and column names do not count; an empty cell is no label, and neither is "nan", "None" or "null".

    Raises:
        DatasetError: a column is missing (the message lists those found) or has gaps, a line has more or
            fewer cells than the header, or no file is usable.
    """
    path = Path(path)
    needed = [audio, target, *([group] if group else [])]
    table = _read_table(path, needed)
    _check_columns(path, table, needed)
    notes: list[str] = []
    columns = {
        name: _typed(table[name], path, notes, text=name == target)
        for name in table.columns
        if name not in (audio, group)
    }
    base = Path(root) if root is not None else path.parent
    entries = []
    for row, file in enumerate(table[audio]):
        labels = {name: values[row] for name, values in columns.items() if values[row] != ""}
        owner = str(table[group].iloc[row]) if group else Path(file).with_suffix("").as_posix()
        entries.append(Entry(str(file), labels, owner, str(base / file), ""))
    return checked(
        entries,
        path.stem,
        FileReader(seconds),
        strict=strict,
        progress=progress,
        left_out=notes,
        seen=table[target],
        target=target,
    )


@dataclass
class _Found:
    """What lies in a music folder: entries, and what is left out of them."""

    entries: list[Entry] = field(default_factory=list)
    genres: set[str] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)
    unread_of: Counter[tuple[str, str]] = field(default_factory=Counter)
    in_no_genre: list[str] = field(default_factory=list)

    def sort_in(self, root: Path, file: Path, group: Callable[[Path], str] | None) -> None:
        """Take one file in, where it is sound; its name is the same whatever the system's encoding."""
        suffix = file.suffix.lower()
        if suffix not in SUFFIXES + UNREAD_SUFFIXES:
            return
        inside = file.relative_to(root)
        name = Path(portable(inside))
        if any("\ud800" <= letter <= "\udfff" for letter in str(name)):
            self.faults.append(f"{shown(inside)} has a name that is not UTF-8")
            return
        genre = name.parts[0]
        if len(name.parts) < 2:
            self.in_no_genre.append(name.name)
            return
        self.genres.add(genre)
        if suffix in UNREAD_SUFFIXES:
            self.unread_of[genre, suffix] += 1
            return
        owner = name.with_suffix("").as_posix() if group is None else _owner(group(file), name)
        self.entries.append(Entry(name.as_posix(), {"genre": genre}, owner, portable(file), ""))

    def unread(self) -> list[str]:
        """Return what nobody here can read, in words."""
        counted = sorted(self.unread_of.items())
        return [
            *(f"{genre}: {n} {suffix} file{'s' * (n > 1)} cannot be read" for (genre, suffix), n in counted),
            *self.faults,
        ]

    def beside(self) -> list[str]:
        """Return which files lie beside the genres, in words."""
        lone = self.in_no_genre
        return [f"{len(lone)} sound file(s) in no genre's folder: {some(lone)}"] if lone else []


def _owner(given: object, name: Path) -> str:
    """Return a group's name without spaces around it; raise DatasetError where there is none."""
    owner = "" if given is None or given != given else str(given).strip()  # NaN differs from itself
    if not owner:
        raise DatasetError(
            f"A group for {name.as_posix()} was asked for",
            f"group(file) returned {given!r}",
            "Return the name of its track or artist",
        )
    return owner


def _files(folder: Path, faults: list[str], above: frozenset[str] = frozenset()) -> Iterator[Path]:
    """Yield the files below a folder in the order of their names, links followed, hidden ones left out.

    Args:
        folder: where to look.
        faults: takes the folders that cannot be listed.
        above: the folders on the way down, links resolved: a link to one of them would go round in circles.
    """
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
        try:
            is_folder = path.is_dir()
        except OSError:
            is_folder = False
        if is_folder:
            yield from _files(path, faults, above | {place})
        else:
            yield path


def _read_table(path: Path, needed: Sequence[str]) -> pd.DataFrame:
    """Return the table, all values as text without spaces around; its index is the line of each row."""
    try:
        text = on_disk(path).read_text(encoding="utf-8-sig")
        separator = max(",;\t", key=lambda one: _fits(text, one, needed))
        rows = [row for row in _rows(text, separator) if any(row[1])]
        if not rows:
            raise csv.Error("it is empty")
        header = _header(path, rows[0][1])
        cells = [_whole(path, line, cells, len(header)) for line, cells in rows[1:]]
        return pd.DataFrame(cells, columns=header, index=[line for line, _ in rows[1:]], dtype=str)
    except FileNotFoundError:
        found = "there is no such file"
    except (OSError, UnicodeError, csv.Error) as error:
        found = f"it cannot be read as a table ({getattr(error, 'strerror', None) or error})"
    raise DatasetError(
        f"The table {shown(path)} was asked for", found, "Give a UTF-8 CSV file with a header line"
    )


def _fits(text: str, separator: str, needed: Sequence[str]) -> tuple[int, int]:
    """Return how many needed columns, and how many at all, a header has that is cut at `separator`."""
    try:
        header = next((row for _, row in _rows(text, separator) if any(row)), [])
    except csv.Error:
        return 0, 0
    return len(set(needed) & set(header)), len(header)


def _rows(text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the line on which each row begins, and its cells."""
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True
    )
    line = 1
    try:
        for row in reader:
            yield line, [cell.strip() for cell in row]
            line = reader.line_num + 1
    except csv.Error as error:
        raise csv.Error(f"line {line}: {error}") from error


def _header(path: Path, names: Sequence[str]) -> list[str]:
    """Return the names of the columns; one without a name is called by its position."""
    doubled = [name for name, count in Counter(names).items() if name and count > 1]
    if doubled:
        raise DatasetError(
            f"One column of each name in {path.name} was asked for",
            f"{some(doubled)} come more than once",
            "Rename or delete the others",
        )
    return [name or f"Unnamed: {number}" for number, name in enumerate(names)]


def _whole(path: Path, line: int, cells: list[str], width: int) -> list[str]:
    """Return the cells of a row; raise DatasetError where there are more or fewer than columns."""
    extra = cells[width:]
    if len(cells) < width or any(extra):
        raise DatasetError(
            f"{width} cells in each line of {path.name} were asked for",
            f"line {line} has {len(cells)} ({', '.join(cells)[:60]})",
            "Add what is missing, or put quotes around a value that contains the separator",
        )
    return cells[:width]


def _check_columns(path: Path, table: pd.DataFrame, needed: Sequence[str]) -> None:
    for name in needed:
        if name not in table.columns:
            raise DatasetError(
                f"The column {name!r} of {path.name} was asked for",
                f"the columns are {', '.join(table.columns)}",
                "Name the right ones: from_csv(path, audio=..., target=..., group=...)",
            )
        empty = [line for line, gone in zip(table.index, missing(table[name]), strict=True) if gone]
        if empty:
            raise DatasetError(
                f"A value of {name!r} in each line of {path.name} was asked for",
                f"line(s) {some(empty)} have none",
                "Fill them in or delete the lines",
            )


def _typed(column: pd.Series[str], path: Path, notes: list[str], *, text: bool) -> list[Label]:
    """Return the values of a column: floats where all of them are numbers, text otherwise or when `text`.

    Args:
        column: its index is the line of each value.
        path: of the table.
        notes: takes the lines that lack a value which most have, or have text among numbers.
        text: whether numbers stay text.
    """
    values = column.mask(pd.Series(missing(column), index=column.index), "")
    held = values[values != ""]
    gaps = column.index[values == ""]
    if 0 < len(gaps) < len(held):
        notes.append(f"the column {column.name!r} of {path.name} has no value in line(s) {some(gaps)}")
    if not text and len(held):
        numbers = pd.to_numeric(held, errors="coerce")
        other = held[~np.isfinite(numbers)]
        if other.empty:
            return [float(numbers[line]) if line in numbers.index else "" for line in values.index]
        if 2 * len(other) < len(held):
            lines = [f"{line} ({value})" for line, value in other.items()]
            notes.append(
                f"the column {column.name!r} of {path.name} is text, not numbers, by line(s) {some(lines)}"
            )
    return list(values)


def checked(
    entries: Sequence[Entry],
    name: str,
    reader: FileReader,
    *,
    strict: bool,
    progress: bool,
    left_out: Sequence[str] = (),
    seen: Iterable[str] = (),
    target: str = "genre",
) -> Dataset:
    """Return the dataset of the usable entries, with digests; raise or warn about the others.

    Args:
        entries: the clips, without digests.
        name: of the dataset.
        reader: reads the file of an entry.
        strict: refuse unusable files.
        progress: show a bar.
        left_out: what its loader left out before, in words.
        seen: classes of the target that the loader met, also in what it left out.
        target: the label whose classes must not vanish unnoticed.
    """
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        work = pool.map(lambda entry: _inspect(entry, reader), entries)
        results = list(
            tqdm(work, total=len(entries), desc=f"checking {name}", unit="file", disable=not progress)
        )
    good = tuple(result for result in results if isinstance(result, Entry))
    faults = [result for result in results if isinstance(result, str)]
    listed = "\n  ".join(faults)
    if faults and (strict or not good):
        raise DatasetError(
            f"{len(faults)} of {len(entries)} files of {name!r} cannot be used. Repair or remove "
            f"them, or load with strict=False to leave them out:\n  {listed}"
        )
    if faults:
        warnings.warn(
            f"{len(faults)} of {len(entries)} files of {name!r} are left out:\n  {listed}", stacklevel=3
        )
    classes = {str(entry.labels[target]) for entry in good}
    gone = [
        f"the {target} {one!r} vanishes: none of its files can be used" for one in sorted({*seen} - classes)
    ]
    if len(classes) == 1:
        gone.append(f"all {len(good)} clips are of one {target}, {min(classes)!r}, and a probe needs two")
    told = [*left_out, *gone]
    if told:
        warnings.warn(f"About the dataset {name!r}:\n  " + "\n  ".join(told), stacklevel=3)
    lost = [f"{len(faults)} of {len(entries)} files are left out: {some(faults)}"] if faults else []
    return Dataset(good, name, reader, (*lost, *told))


def _inspect(entry: Entry, reader: FileReader) -> Entry | str:
    """Return the entry with its digest, or what is wrong with its file."""
    try:
        clip = reader(entry)
        with on_disk(entry.source).open("rb") as file:
            heard = hashlib.file_digest(file, "sha256")
    except AudioError as error:
        return str(error)
    except OSError as error:
        return message(
            f"The bytes of {shown(entry.source)} were asked for", f"{error.strerror}", "Check the disk"
        )
    if clip.silent:
        return message(
            f"The sound of {shown(entry.source)} was asked for",
            f"it is silent ({clip.level_db:.0f} dBFS, below {SILENT_LEVEL_DB:.0f})",
            "Leave it out",
        )
    if reader.seconds is not None:  # another window of the same file is another sound
        heard.update(f"|{reader.seconds:g}".encode())
    return replace(entry, digest=heard.hexdigest())


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
    return {int(str(n)): str(title) for n, title in pd.read_csv(path, index_col=0)["title"].items()}


def _fma_entry(audio: Path, row: Mapping[str, object], titles: Mapping[int, str]) -> Entry:
    """Return the entry of one line; 2 becomes ``000/000002.mp3``."""
    name = f"{row['track']:06d}"
    labels: dict[str, Label] = {"genre": str(row["genre"]), "split": str(row["split"])}
    if titles:
        numbers = ast.literal_eval(str(row["genres"]))
        labels["genres"] = "|".join(sorted(titles[number] for number in numbers if number in titles))
    inside = f"{name[:3]}/{name}.mp3"
    return Entry(inside, labels, f"artist {row['artist']}", str(audio / inside), "")
