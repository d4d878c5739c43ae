"""The codes of a dataset's clips: those that are stored, else the codec's, kept in the user's cache."""

from __future__ import annotations

import hashlib
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from workbench.errors import ActivationsError
from workbench.model.folders import cache_folder
from workbench.model.tokens import frames_for
from workbench.sound.clip import Clip
from workbench.sound.dataset import Dataset, Entry

if TYPE_CHECKING:
    from workbench.model.musicgen import Model

_SAME_SOUND = 1e-2  # two decodings by one codec differ by rounding only; by another codec, by everything


def codes_for(
    model: Model, dataset: Dataset, entry: Entry, *, seconds: float | None, stored: bool
) -> np.ndarray:
    """The codes (k, frames) int64 of one entry, at most `seconds` long.

    Args:
        model: Whose codec encodes the sound.
        dataset: Where the sound comes from.
        entry: One of its entries.
        seconds: How much of the clip's beginning is used; all of it when None.
        stored: Whether the entry's own codes are this model's (see `speaks_our_codes`).

    Raises:
        ActivationsError: When the clip is silent.
    """
    if stored and entry.codes is not None:
        frames = entry.codes.shape[-1] if seconds is None else frames_for(seconds, model.frame_rate_hz)
        return np.asarray(entry.codes[:, :frames], dtype=np.int64)
    path = codes_path(model, entry, seconds)
    if path.is_file():
        return np.asarray(np.load(path, allow_pickle=False), dtype=np.int64)
    clip = dataset.reader(entry)
    _refuse_silence(entry, clip)
    codes = model.encode(clip if seconds is None else clip.section(0, seconds)).numpy()
    draft = path.with_name(
        f"{uuid.uuid4().hex}.npy"
    )  # moved into place whole, so that a killed run leaves no half
    np.save(draft, codes.astype(np.int16), allow_pickle=False)
    draft.replace(path)
    return codes


def codes_path(model: Model, entry: Entry, seconds: float | None) -> Path:
    """Where the codes of the first `seconds` of an entry lie, or will lie, in the user's cache."""
    key = hashlib.sha256(f"{entry.digest} {seconds}".encode()).hexdigest()[:32]
    return cache_folder("codes", model.fingerprint[:16]) / f"{key}.npy"


def speaks_our_codes(model: Model, dataset: Dataset) -> bool:
    """Whether the dataset's stored codes are codes of this model's codec: both must give the same sound.

    Codes are numbers without meaning outside their codec: fed to another model they would be accepted in
    silence.
    """
    coded = [entry for entry in dataset.entries if entry.codes is not None]
    if not coded:
        return False
    first = coded[0]
    codes = np.asarray(first.codes)
    if codes.shape[0] != model.n_codebooks or codes.max() >= model.codebook_size:
        return False
    theirs, ours = dataset.reader(first), model.decode(codes)
    if theirs.rate_hz != ours.rate_hz or abs(len(theirs.samples) - len(ours.samples)) > ours.rate_hz // 10:
        return False
    n = min(len(theirs.samples), len(ours.samples))
    apart = np.abs(theirs.samples[:n] - ours.samples[:n]).mean()
    return bool(apart <= _SAME_SOUND * np.abs(theirs.samples[:n]).mean() + 1e-6)


def _refuse_silence(entry: Entry, clip: Clip) -> None:
    if clip.silent:
        raise ActivationsError(
            f"Activations of the clip {entry.id!r} were asked for",
            f"it is silent ({clip.level_db:.0f} dBFS)",
            f"Leave it out ({entry.source}); lint(dataset) lists all silent clips",
        )
