"""How many frames a dataset's clips have: guessed cheaply before any work, counted exactly by their codes."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile

from workbench.model.codes import codes_for, codes_path, kept_codes
from workbench.model.reading import check_frames
from workbench.model.tokens import frames_for
from workbench.sound.dataset import Dataset, Entry

if TYPE_CHECKING:
    from workbench.model.musicgen import Model

_LONGEST_S = 3 * 3600.0  # what a header declares beyond this is not believed
_READ_AT_MOST = 16


def counted_frames(model: Model, dataset: Dataset, *, seconds: float | None, stored: bool) -> np.ndarray:
    """Frames of each clip's first `seconds` (clips,); clips without codes are encoded, which is kept."""
    codes = (codes_for(model, dataset, entry, seconds=seconds, stored=stored) for entry in dataset.entries)
    return np.array([array.shape[-1] for array in codes])


def encoded(model: Model, dataset: Dataset, *, seconds: float | None) -> Dataset:
    """The dataset with the codes of each clip's first `seconds` in memory; nothing is kept on disk."""
    how: dict[str, Any] = {"seconds": seconds, "stored": False, "cache": False}
    entries = (replace(one, codes=codes_for(model, dataset, one, **how)) for one in dataset.entries)
    return replace(dataset, entries=tuple(entries))


def guessed_frames(model: Model, dataset: Dataset, *, seconds: float | None, stored: bool) -> np.ndarray:
    """The same without encoding a sound: from codes where there are some, else from the file's header.

    Of clips that could only be measured by reading them, a few are read, and all are taken to be as long as
    the longest of these.
    """
    known = [_known(model, entry, seconds, stored) for entry in dataset.entries]
    unknown = [number for number, frames in enumerate(known) if frames is None]
    heard = [limit for limit in (seconds, getattr(dataset.reader, "seconds", None)) if limit is not None]
    declared = {number: _declared_s(dataset.entries[number]) for number in unknown}
    silent = [number for number, length_s in declared.items() if length_s is None]
    few = silent[:: -(-len(silent) // _READ_AT_MOST)] if silent else []
    longest_s = max((dataset.reader(dataset.entries[number]).seconds for number in few), default=0.0)
    lengths = {number: longest_s if length is None else length for number, length in declared.items()}
    frames = [
        math.ceil(min([lengths[number], *heard]) * model.frame_rate_hz - 1e-6) if told is None else told
        for number, told in enumerate(known)
    ]
    return np.array(frames)


def fitting_frames(model: Model, dataset: Dataset, *, seconds: float | None, stored: bool) -> np.ndarray:
    """The guessed frames (clips,) of clips that all fit the decoder's positions.

    Headers may lie: a clip that seems too long is read before it is refused.

    Raises:
        ActivationsError: For the first such clip.
    """
    frames = guessed_frames(model, dataset, seconds=seconds, stored=stored)
    for number in np.flatnonzero(frames > model.max_frames):
        entry = dataset.entries[number]
        exact = _known(model, entry, seconds, stored)
        if exact is None:
            length_s = min(dataset.reader(entry).seconds, math.inf if seconds is None else seconds)
            exact = frames_for(length_s, model.frame_rate_hz)
        check_frames(model, exact, repr(entry.id))
        frames[number] = exact
    return frames


def _known(model: Model, entry: Entry, seconds: float | None, stored: bool) -> int | None:
    """Frames of an entry whose codes are there; None where they are not."""
    if stored and entry.codes is not None:
        held = int(entry.codes.shape[-1])
        return held if seconds is None else min(held, frames_for(seconds, model.frame_rate_hz))
    kept = kept_codes(model, codes_path(model, entry, seconds), notice=False)
    return None if kept is None else int(kept.shape[-1])


def _declared_s(entry: Entry) -> float | None:
    """Length of the sound as the header of its file says; None where there is no file, or no sane header."""
    try:
        length_s = float(soundfile.info(entry.source).duration) if Path(entry.source).is_file() else 0.0
    except (soundfile.LibsndfileError, RuntimeError):
        return None
    return length_s if 0 < length_s <= _LONGEST_S else None
