"""One word for all music: the built-in set, a folder with a subfolder per genre, or a CSV file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from workbench.errors import DatasetError
from workbench.model.builtin import builtin_dataset
from workbench.sound import Dataset, from_csv, from_folder


def dataset(source: str | Path = "embedded", **options: Any) -> Dataset:
    """Return labelled, grouped clips.

    Args:
        source: "embedded" for the built-in music; a folder with a subfolder per genre; or a ``.csv``
            or ``.tsv`` file with one line per sound file.
        options: passed on to ``workbench.sound.from_folder`` or ``from_csv``, for example ``seconds=10`` or
            ``group="artist"``.

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
