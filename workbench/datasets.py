"""One call for all music: the built-in set, a folder with a subfolder per genre, or a CSV file."""

from __future__ import annotations

import csv
import hashlib
import math
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from workbench.errors import DatasetError
from workbench.model.band_codec import codec_of
from workbench.model.folders import builtin_folder
from workbench.sound import Clip, Dataset, Entry, from_csv, from_folder


def builtin_dataset(folder: Path | None = None) -> Dataset:
    """Return the built-in music: 1,260 pieces of 10 s, six genres, fourteen grooves each.

    Labels: genre, band (whose instruments play), typical (yes where they are the genre's own), tempo (slow,
    medium, fast), tempo_bpm, key, mode, mood, density, lead, groove. The group is the groove, so that grouped
    splits hold out whole loops. No piece was used to train anything; grooves 12 and 13 were not, either.
    """
    folder = folder or builtin_folder().parent / "music"
    if not (folder / "labels.csv").exists():
        do = "Clone the whole repository, or make it again with `make embedded`"
        raise DatasetError("The built-in music was asked for", f"{folder} holds none", do)
    codes = load_file(folder / "codes.safetensors")["codes"]
    with (folder / "labels.csv").open(newline="") as file:
        entries = tuple(_entry(row, codes[i]) for i, row in enumerate(csv.DictReader(file)))
    return Dataset(entries, "embedded", _Player())


def _entry(row: dict[str, str], codes: np.ndarray) -> Entry:
    name = row.pop("id")
    labels: dict[str, str | float] = {**row, "tempo_bpm": float(row["tempo_bpm"])}
    digest = hashlib.sha256(np.ascontiguousarray(codes, "<i2").tobytes()).hexdigest()
    return Entry(name, labels, row["groove"], f"builtin:{name}", digest, codes)


_codec = lru_cache(maxsize=1)(codec_of)


class _Player:
    """Reads entries by playing their codes; a beginning is played no further, to the same samples."""

    def __call__(self, entry: Entry) -> Clip:
        return self.beginning(entry, math.inf)

    def beginning(self, entry: Entry, seconds: float) -> Clip:
        assert entry.codes is not None
        codec, frames = _codec(builtin_folder()), entry.codes.shape[-1]
        if seconds < frames / codec.config.frame_rate:
            frames = max(1, math.ceil(seconds * codec.config.frame_rate))
        return Clip(codec.player().play(entry.codes[:, :frames]), codec.config.sampling_rate)


def dataset(source: str | Path = "embedded", **options: Any) -> Dataset:
    """Return labelled, grouped clips.

    Args:
        source: "embedded" for the built-in music; a folder with a subfolder per genre; or a ``.csv``
            or ``.tsv`` file with one line per sound file.
        options: of ``workbench.sound.from_folder`` or ``from_csv``: ``seconds=10``, ``group="artist"`` ...

    Raises:
        DatasetError: nothing of the kind is there, or what is there cannot be used.
    """
    if str(source) == "embedded":
        return builtin_dataset(**options)
    path = Path(source).expanduser()
    if path.suffix.lower() in (".csv", ".tsv"):
        return from_csv(path, **options)
    if path.is_dir():
        return from_folder(path, **options)
    found = "it is a file of another kind" if path.exists() else "there is no such file or folder"
    what = 'Use "embedded", a folder with a subfolder per genre, or a .csv file'
    raise DatasetError(f"The music in {path} was asked for", found, what)
