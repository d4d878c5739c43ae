"""The built-in music: labelled ten-second pieces, shipped as codec codes and decoded when they are heard."""

from __future__ import annotations

import csv
import hashlib
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from workbench.embedded.factors import Factors
from workbench.errors import DatasetError
from workbench.model.codec import WorkbenchCodec, codec_of
from workbench.model.folders import builtin_folder
from workbench.sound import Clip, Dataset, Entry

TRAINED_GROOVES = range(10)
"""Grooves that the language model was trained on; the built-in set also holds grooves 10 and 11."""


def builtin_dataset(folder: Path | None = None) -> Dataset:
    """Return the built-in music: 1,224 pieces of 10 s, six genres, twelve grooves each.

    Labels: genre, tempo (slow, medium, fast), tempo_bpm, key, mode, mood, density, lead, groove. The group is
    the
    groove, so that grouped splits hold out whole loops. No piece was used to train anything.

    Args:
        folder: holds ``codes.safetensors`` and ``labels.csv``; by default the one that ships.
    """
    folder = folder or builtin_folder().parent / "music"
    if not (folder / "labels.csv").exists():
        raise DatasetError(
            "The built-in music was asked for",
            f"{folder} holds none",
            "Clone the whole repository, or make it again with `workbench build-embedded`",
        )
    codes = load_file(folder / "codes.safetensors")["codes"]
    with (folder / "labels.csv").open(newline="") as file:
        entries = tuple(_entry(row, codes[i]) for i, row in enumerate(csv.DictReader(file)))
    return Dataset(entries, "embedded", _decode)


def _entry(row: dict[str, str], codes: np.ndarray) -> Entry:
    name = row.pop("id")
    labels: dict[str, str | float] = {**row, "tempo_bpm": float(row["tempo_bpm"])}
    digest = hashlib.sha256(np.ascontiguousarray(codes, "<i2").tobytes()).hexdigest()
    return Entry(name, labels, row["groove"], f"builtin:{name}", digest, codes)


@lru_cache(maxsize=1)
def _codec() -> WorkbenchCodec:
    return codec_of(builtin_folder())


@torch.no_grad()
def _decode(entry: Entry) -> Clip:
    """Return the sound of an entry's codes."""
    assert entry.codes is not None
    codes = torch.from_numpy(entry.codes.astype(np.int64))[None, None]
    return Clip(_codec().decode(codes, [None]).audio_values[0, 0].numpy(), _codec().config.sampling_rate)


def write_dataset(folder: Path, factors: tuple[Factors, ...], codes: list[np.ndarray]) -> Path:
    """Write codes and labels of pieces of equal length into a folder and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({"codes": np.stack(codes).astype(np.int16)}, folder / "codes.safetensors")
    with (folder / "labels.csv").open("w", newline="") as file:
        rows = [{"id": f"{f.labels()['groove']}-{f.seed % 1000:03d}", **f.labels()} for f in factors]
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return folder
