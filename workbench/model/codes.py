"""The codes of a dataset's clips: those that are stored, else the codec's, kept in the user's cache."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from workbench.errors import ActivationsError
from workbench.files import check_digest, pack_arrays, unpack_arrays
from workbench.model.folders import cache_folder, keep, say_damaged
from workbench.model.tokens import frames_for
from workbench.sound.clip import Clip
from workbench.sound.dataset import Dataset, Entry

if TYPE_CHECKING:
    from workbench.model.musicgen import Model

_SAME_SOUND = 1e-2  # two decodings by one codec differ by rounding only; by another codec, by everything


def codes_for(
    model: Model, dataset: Dataset, entry: Entry, *, seconds: float | None, stored: bool, cache: bool = True
) -> np.ndarray:
    """The codes (k, frames) int64 of one entry, at most `seconds` long.

    Args:
        model: Whose codec encodes the sound.
        dataset: Where the sound comes from.
        entry: One of its entries.
        seconds: How much of the clip's beginning is used; all of it when None.
        stored: Whether the entry's own codes are this model's (see `speaks_our_codes`).
        cache: Whether to keep what is encoded now in the user's cache.

    Raises:
        ActivationsError: When the clip is silent.
    """
    if stored and entry.codes is not None:
        frames = entry.codes.shape[-1] if seconds is None else frames_for(seconds, model.frame_rate_hz)
        return np.asarray(entry.codes[:, :frames], dtype=np.int64)
    path = codes_path(model, entry, seconds)
    kept = kept_codes(model, path)
    if kept is not None:
        return kept.astype(np.int64)
    clip = dataset.reader(entry)
    _refuse_silence(entry, clip)
    codes = model.encode(clip if seconds is None else clip.section(0, seconds)).numpy()
    if cache:
        keep(path, pack_arrays({}, {"codes": codes.astype(np.int16)}))
    return codes


def kept_codes(model: Model, path: Path, *, notice: bool = True) -> np.ndarray | None:
    """The codes (k, frames) int16 in a file of the cache; None where there are none, or they are damaged."""
    try:
        if not path.is_file():
            return None
        fields, arrays = unpack_arrays(path)
        check_digest(path, fields, arrays)
        codes = arrays["codes"]
        sound = codes.dtype.kind == "i" and codes.ndim == 2 and codes.shape[0] == model.n_codebooks
        if not sound or not codes.size or codes.min() < 0 or codes.max() >= model.codebook_size:
            raise ValueError("it holds no codes of this model's codec")
    except Exception as error:  # a foreign file can be wrong in any way; all of them are made again
        if notice:
            say_damaged(path, error)
        return None
    return np.asarray(codes)


def codes_path(model: Model, entry: Entry, seconds: float | None) -> Path:
    """Where the codes of the first `seconds` of an entry lie, or will lie, in the user's cache."""
    key = hashlib.sha256(f"{entry.digest} {seconds}".encode()).hexdigest()[:32]
    return cache_folder("codes", model.fingerprint[:16]) / f"{key}.safetensors"


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
