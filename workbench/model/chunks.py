"""The work of a capture, cut into chunks of clips that any process with the model can do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.errors import ModelError, message
from workbench.model.codes import codes_for
from workbench.model.reading import Reading, read_codes
from workbench.sound.dataset import Dataset

if TYPE_CHECKING:
    from workbench.model.musicgen import Model

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Job:
    """What is done to every clip.

    reading   sites, layers and pool
    seconds   how much of each clip's beginning is used
    batch     clips per forward pass
    stored    whether the clips' stored codes are this model's
    frames    frames per sample when they are kept, None when they are pooled
    """

    reading: Reading
    seconds: float | None
    batch: int
    stored: bool
    frames: int | None = None


@dataclass(frozen=True)
class Chunk:
    """One chunk of a capture: its number, its clips, and the text of each (None: the null condition)."""

    number: int
    clips: Dataset
    texts: tuple[str | None, ...]


def read_chunk(model: Model, chunk: Chunk, job: Job) -> Arrays:
    """Activations by site: (clips, layers, d_model) fp32, or (clips, layers, frames, d_model) unpooled."""
    parts: list[Arrays] = []
    entries = chunk.clips.entries
    for start in range(0, len(entries), job.batch):
        some = slice(start, start + job.batch)
        encode = partial(codes_for, model, chunk.clips, seconds=job.seconds, stored=job.stored)
        codes = [encode(entry) for entry in entries[some]]
        texts = chunk.texts[some]
        told = [text for text in texts if text is not None]
        text = model.text(told) if told else model.null_text(len(texts))
        read = read_codes(model, codes, text, job.reading)
        parts.append({site: _widened(values, job.frames) for site, values in read.items()})
    return {site: np.concatenate([part[site] for part in parts]) for site in job.reading.sites}


def _widened(values: np.ndarray, frames: int | None) -> np.ndarray:
    """Pad (rows, layers, held, d_model) with NaN to `frames`; pooled values stay as they are."""
    if frames is None:
        return values
    missing = frames - values.shape[2]
    return np.pad(values, ((0, 0), (0, 0), (0, missing), (0, 0)), constant_values=np.nan)


def run_here(model: Model, chunks: Sequence[Chunk], job: Job) -> Iterator[tuple[Chunk, Arrays]]:
    """Do the chunks one after another in this process."""
    for chunk in chunks:
        yield chunk, read_chunk(model, chunk, job)


def run_there(model: Model, chunks: Sequence[Chunk], job: Job, client: Any) -> Iterator[tuple[Chunk, Arrays]]:
    """Do the chunks as tasks of a dask.distributed `client`, and hand them over as they finish.

    Raises:
        ModelError: When the model lies in no folder that a worker could load it from.
    """
    from distributed import as_completed

    if model.folder is None:
        raise ModelError(
            message(
                "A capture on a cluster was asked for",
                f"{model.id} exists in this process only",
                "Write it with save_pretrained to a folder that the workers see, and load it from there",
            )
        )
    how = (str(model.folder), str(model.device), str(model.dtype).removeprefix("torch."))
    by_key = {client.submit(_read_remotely, how, model.id, chunk, job, pure=False): chunk for chunk in chunks}
    try:
        for future in as_completed(list(by_key)):
            yield by_key[future], future.result()
    finally:
        client.cancel(list(by_key))


def _read_remotely(how: tuple[str, str, str], id_: str, chunk: Chunk, job: Job) -> Arrays:
    """`read_chunk` in a worker, which loads the model once."""
    model = _loaded(*how)
    model.id = id_
    return read_chunk(model, chunk, job)


@lru_cache(maxsize=1)
def _loaded(folder: str, device: str, dtype: str) -> Model:
    from workbench.model.load import load

    return load(folder, device=device, dtype=dtype, check=False)
