"""Datasets from sound files: a folder per genre, or a CSV table."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from workbench.errors import AudioError, DatasetError, message
from workbench.sound.clip import SILENT_LEVEL_DB, Clip
from workbench.sound.dataset import Dataset, Entry, Label, some
from workbench.sound.labels import missing
from workbench.sound.reading import SUFFIXES, read_clip


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
        seconds: only the first seconds of each file are used.
        group: file path to group name; by default each file is its own group (name without suffix). Give one
            when several files belong to one track or artist: `group=lambda file: file.stem.split("_")[0]`.
        strict: refuse broken and silent files instead of leaving them out with a warning that lists them.
        progress: show a bar; every file is decoded once, to find the broken ones now and not in mid-run.

    Raises:
        DatasetError: there is no such folder, no subfolder with sound, or (strict) an unusable file.
    """
    root = Path(path)
    if not root.is_dir():
        raise DatasetError(
            f"The music folder {root} was asked for", "there is no such folder", "Check the path"
        )
    entries = []
    for file in sorted(root.rglob("*")):
        inside = file.relative_to(root)
        hidden = any(part.startswith(".") for part in inside.parts)
        if hidden or len(inside.parts) < 2 or file.suffix.lower() not in SUFFIXES:
            continue
        name = group(file) if group else inside.with_suffix("").as_posix()
        entries.append(Entry(inside.as_posix(), {"genre": inside.parts[0]}, str(name), str(file), ""))
    if not entries:
        raise DatasetError(
            f"The music folder {root} was asked for",
            f"no subfolder holds a sound file ({', '.join(SUFFIXES)})",
            "Make one subfolder per genre and put the files there, e.g. jazz/first.wav",
        )
    return checked(entries, root.name, FileReader(seconds), strict=strict, progress=progress)


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

    All other columns become labels: numbers where every value is one, text otherwise.

    Raises:
        DatasetError: a column is missing (the message lists those found) or empty, or no file is usable.
    """
    path = Path(path)
    table = _read_table(path)
    needed = [audio, target, *([group] if group else [])]
    _check_columns(path, table, needed)
    columns = {
        name: _typed(table[name], text=name == target) for name in table.columns if name not in (audio, group)
    }
    base = Path(root) if root is not None else path.parent
    entries = []
    for line, file in enumerate(table[audio]):
        labels = {name: values[line] for name, values in columns.items() if values[line] != ""}
        owner = str(table[group].iloc[line]) if group else Path(file).with_suffix("").as_posix()
        entries.append(Entry(str(file), labels, owner, str(base / file), ""))
    return checked(entries, path.stem, FileReader(seconds), strict=strict, progress=progress)


def _read_table(path: Path) -> pd.DataFrame:
    """Return the table with all values as text."""
    try:
        first = path.read_text(encoding="utf-8-sig").partition("\n")[0]
        separator = max(",;\t", key=first.count)
        return pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except FileNotFoundError:
        found = "there is no such file"
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        found = f"it cannot be read as a table ({error})"
    raise DatasetError(f"The table {path} was asked for", found, "Give a UTF-8 CSV file with a header line")


def _check_columns(path: Path, table: pd.DataFrame, needed: Sequence[str]) -> None:
    for name in needed:
        if name not in table.columns:
            raise DatasetError(
                f"The column {name!r} of {path.name} was asked for",
                f"the columns are {', '.join(table.columns)}",
                "Name the right ones: from_csv(path, audio=..., target=..., group=...)",
            )
        empty = (np.flatnonzero(missing(table[name])) + 2).tolist()
        if empty:
            raise DatasetError(
                f"A value of {name!r} in each line of {path.name} was asked for",
                f"line(s) {some(empty)} have none",
                "Fill them in or delete the lines",
            )


def _typed(column: pd.Series[str], *, text: bool) -> list[Label]:
    """Return the values of a column: floats where all of them are numbers, text otherwise or when `text`."""
    if not text:
        numbers = pd.to_numeric(column, errors="coerce")
        if numbers.notna().all():
            return [float(number) for number in numbers]
    return [str(value).strip() for value in column]


def checked(
    entries: Sequence[Entry], name: str, reader: FileReader, *, strict: bool, progress: bool
) -> Dataset:
    """Return the dataset of the usable entries, with digests; raise or warn about the others."""
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
    return Dataset(good, name, reader)


def _inspect(entry: Entry, reader: FileReader) -> Entry | str:
    """Return the entry with its digest, or what is wrong with its file."""
    try:
        clip = reader(entry)
    except AudioError as error:
        return str(error)
    if clip.silent:
        return message(
            f"The sound of {entry.source} was asked for",
            f"it is silent ({clip.level_db:.0f} dBFS, below {SILENT_LEVEL_DB:.0f})",
            "Leave it out",
        )
    heard = hashlib.sha256(Path(entry.source).read_bytes())
    if reader.seconds is not None:  # another window of the same file is another sound
        heard.update(f"|{reader.seconds:g}".encode())
    return replace(entry, digest=heard.hexdigest())
