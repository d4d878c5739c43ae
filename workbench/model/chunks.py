"""The work of a capture, cut into chunks of clips that any process with the model can do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.errors import ModelError
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
    cache     whether codes that are made on the way are kept in the user's cache
    """

    reading: Reading
    seconds: float | None
    batch: int
    stored: bool
    frames: int | None = None
    cache: bool = True


@dataclass(frozen=True)
class Chunk:
    """One chunk of a capture.

    number  of the chunk
    clips   those that are read
    cases   position in `clips` and text (None: the null condition) of each case, in order
    keep    which of the samples that these cases give, one or more each, belong to the chunk
    """

    number: int
    clips: Dataset
    cases: tuple[tuple[int, str | None], ...]
    keep: slice

    @property
    def n_samples(self) -> int:
        """Samples of the chunk."""
        return int(self.keep.stop - self.keep.start)


def read_chunk(model: Model, chunk: Chunk, job: Job) -> Arrays:
    """Activations by site, fp32: (samples, layers, d_model), unpooled (samples, layers, frames, d_model)."""
    found: dict[int, dict[str, np.ndarray]] = {}
    encode = partial(codes_for, model, chunk.clips, seconds=job.seconds, stored=job.stored, cache=job.cache)
    for some in _batches(chunk.cases, job.batch):
        codes = [encode(chunk.clips.entries[chunk.cases[case][0]]) for case in some]
        told = [words for case in some if (words := chunk.cases[case][1]) is not None]
        text = model.text(told) if told else model.null_text(len(some))
        read = read_codes(model, codes, text, job.reading)
        held = np.array([array.shape[-1] for array in codes])
        rows = {site: job.reading.samples(_widened(read[site], job.frames), held) for site in read}
        found |= {case: {site: rows[site][row] for site in rows} for row, case in enumerate(some)}
    return {
        site: np.concatenate([found[case][site] for case in range(len(chunk.cases))])[chunk.keep]
        for site in job.reading.sites
    }


def _batches(cases: Sequence[tuple[int, str | None]], size: int) -> Iterator[list[int]]:
    """Numbers of cases that share a forward pass: all of them with a text, or all without."""
    for told in (True, False):
        alike = [number for number, (_clip, text) in enumerate(cases) if (text is not None) is told]
        yield from (alike[start : start + size] for start in range(0, len(alike), size))


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
            "A capture on a cluster was asked for",
            f"{model.id} exists in this process only",
            "Write it with save_pretrained to a folder that the workers see, and load it from there",
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
