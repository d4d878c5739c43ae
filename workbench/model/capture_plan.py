"""Forecasts of what a capture takes, from the shapes of the model and of what is read.

They are upper bounds for the usual implementation of attention, which keeps no table of positions by
positions for each head. Checked where an array would not fit anyway: a forecast cannot know what other
programs will take meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from workbench.activations import Cost, StoreSpec, bytes_needed
from workbench.activations.activations import window_times
from workbench.errors import ActivationsError, ModelError
from workbench.model.teacher_forcing import Reading, codes_for, read_codes, reading_attrs
from workbench.sound.dataset import Dataset

if TYPE_CHECKING:
    from workbench.model.musicgen import Model

# The work of a capture, cut into chunks of clips that any process with the model can do.


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


# The cases of a capture: which clip is read under which text, and what each case is called in the result.
#
# A plain capture has one case per clip. Both rows, or several text conditions, make several cases of a clip;
# windows make several samples of a case.


ROWS = ("cond", "null", "both")
_CHUNK_BYTES = 128 << 20  # of a chunk of windows at one site


@dataclass(frozen=True, eq=False)
class Cases:
    """What is read, in order: clips by position (cases,), the text of each, and further coordinates (cases,).

    A text of None is the null condition of guidance.
    """

    entries: np.ndarray
    texts: tuple[str | None, ...]
    more: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.texts)

    def labels(self, dataset: Dataset) -> dict[str, np.ndarray]:
        """Coordinates of each case (cases,): clip, group, labels, text, row, source and the further ones."""
        found: dict[str, np.ndarray] = {"clip": dataset.ids, "group": dataset.groups}
        found |= {f"label_{target}": dataset.labels(target) for target in dataset.targets}
        found = {name: values[self.entries] for name, values in found.items()}
        found["text"] = np.array([text or "" for text in self.texts])
        found["row"] = np.array(["null" if text is None else "cond" for text in self.texts])
        found["source"] = np.full(len(self), "teacher-forced")
        return {**found, **self.more}


def cases_for(dataset: Dataset, text: str | Sequence[str] | None, rows: str) -> Cases:
    """One case per clip, or with both rows two: first all clips under their text, then all without one.

    Raises:
        ModelError: For rows that do not exist, and for both rows without a text.
        ActivationsError: When there are not as many texts as clips.
    """
    if rows not in ROWS or (rows == "both" and text is None):
        raise ModelError(
            f"The rows {rows!r} were asked for",
            f"there are {', '.join(ROWS)}, and without a text every row is a null row",
            "Use one of these, and give a text where both are wanted",
        )
    texts = [_texts(dataset, text)] if rows != "null" else []
    if rows != "cond":
        texts.append((None,) * len(dataset))
    entries = np.tile(np.arange(len(dataset)), len(texts))
    return Cases(entries, tuple(one for block in texts for one in block))


def _texts(dataset: Dataset, text: str | Sequence[str] | None) -> tuple[str | None, ...]:
    """The text of each clip, None for the null condition."""
    if text is None or isinstance(text, str):
        return (text,) * len(dataset)
    if len(text) != len(dataset):
        raise ActivationsError(
            f"{len(text)} texts were given",
            f"the dataset has {len(dataset)} clips",
            "Give one text, or one per clip",
        )
    return tuple(text)


def spec_for(
    model: Model, dataset: Dataset, cases: Cases, job: Job, *, held: np.ndarray | None, clips_per_chunk: int
) -> StoreSpec:
    """The shape and the labels of what a capture gives, without the residual norms.

    Args:
        model: The model.
        dataset: The clips.
        cases: What is read.
        job: How it is read.
        held: Frames of each clip (clips,); needed where frames are kept or windows are cut.
        clips_per_chunk: How many cases are written at once, unless they are large.
    """
    reading, samples, frames, chunk = job.reading, cases.labels(dataset), None, clips_per_chunk
    if reading.window is not None and held is not None:
        own = held[cases.entries]
        counts = reading.counts(own)
        samples = {name: np.repeat(values, counts) for name, values in samples.items()}
        samples |= window_times(own, reading.window, model.frame_rate_hz)
        most = int(counts.max())
        fitting = _CHUNK_BYTES // (most * len(reading.layers) * model.d_model * 4)
        chunk = most * max(1, min(clips_per_chunk, fitting))
    elif reading.pool is None and held is not None:
        samples["frames_held"], frames = held[cases.entries], int(held.max())
    attrs = {
        "dataset": dataset.name,
        "dataset_fingerprint": dataset.fingerprint,
        "seconds": job.seconds,
        **reading_attrs(model, reading),
    }
    return StoreSpec(
        sites=reading.sites,
        layers=reading.layers,
        d_model=model.d_model,
        samples=samples,
        frames=frames,
        attrs=attrs,
        samples_per_chunk=chunk if frames is None else None,
    )


_FLOAT = 4
_ENCODING = 100  # bytes that the codec needs at once, per byte of the sound that goes in
_OVERHEAD = 64 << 20  # what libraries take on the way, whatever is asked


def free_on_device(model: Model) -> int | None:
    """Free bytes on the model's accelerator; None where it runs on the CPU, or the device does not tell."""
    if model.device.type != "cuda":
        return None
    unused = torch.cuda.memory_reserved(model.device) - torch.cuda.memory_allocated(model.device)
    return int(torch.cuda.mem_get_info(model.device)[0] + unused)


def forced_cost(
    model: Model, spec: StoreSpec, reading: Reading, *, longest: int, batch: int, on_disk: bool, encodes: bool
) -> Cost:
    """The cost of a teacher-forced capture.

    Args:
        model: The model.
        spec: What the capture gives.
        reading: What is read.
        longest: Frames of the longest clip.
        batch: Clips per forward pass.
        on_disk: Whether finished chunks are written, or all stay in memory.
        encodes: Whether sounds have to be turned into codes first.
    """
    per_sample = len(spec.sites) * int(np.prod(spec.shape[1:])) * _FLOAT
    result = spec.n_samples * len(spec.sites) * spec.bytes_per_sample
    chunk, whole = min(spec.chunk, spec.n_samples) * per_sample, spec.n_samples * per_sample
    held = 3 * chunk if on_disk else whole + max(whole, 2 * chunk)  # parts, the parts joined, what is written
    vectors = longest if reading.pool is None else int(reading.counts(np.array([longest]))[0])
    captured = 2 * len(reading.places) * batch * vectors * model.d_model * _FLOAT
    working = 3 * batch * longest * model.d_model * _FLOAT
    working += _forward(model, batch, model.prefix_room + longest + 1)
    if encodes:
        working += int(_ENCODING * _FLOAT * longest / model.frame_rate_hz * model.rate_hz)
    disk = bytes_needed(spec) if on_disk else 0
    return _placed(model, spec.n_samples, result, here=held + captured, there=working, disk=disk)


def drawn_cost(
    model: Model, reading: Reading, *, clips: int, rows: int, frames: int, batch: int, guided: bool
) -> Cost:
    """The cost of a capture while codes are drawn: every frame of a batch is kept until its clips are done.

    Args:
        model: The model.
        reading: What is read.
        clips: Clips that are made.
        rows: Kinds of rows that are read: 1, or 2 for both.
        frames: Frames that are made, given ones included.
        batch: Clips drawn at once.
        guided: Whether the decoder sees null rows too.
    """
    d_model, batch = model.d_model, min(batch, clips)
    steps = model.prefix_room + frames + max(model.delays)
    vectors = frames if reading.pool is None else int(reading.counts(np.array([frames]))[0])
    samples = clips * rows * (1 if reading.pool is None else vectors)
    per_clip = len(reading.sites) * len(reading.layers) * rows * vectors * d_model * _FLOAT
    size, lanes = model.dtype.itemsize, batch * (2 if guided else 1)
    collected = (len(reading.places) + 1) * rows * batch * steps * d_model * size
    states = 2 * (model.n_layers + 1) * lanes * steps * d_model * size  # keys and values of self-attention
    working = collected + states + 3 * rows * batch * frames * d_model * _FLOAT
    working += _forward(model, lanes, model.prefix_room + frames)
    here = (2 * clips + batch) * per_clip
    return _placed(model, samples, clips * per_clip, here=here, there=working, disk=0)


def _forward(model: Model, rows: int, positions: int) -> int:
    """Bytes of one forward pass: a block's tensors, and the mask of attention."""
    wide = int(model.musicgen.decoder.config.ffn_dim)
    block = rows * positions * (12 * model.d_model + 2 * wide) * model.dtype.itemsize
    return block + 2 * rows * positions**2 * model.dtype.itemsize


def _placed(model: Model, samples: int, result: int, *, here: int, there: int, disk: int) -> Cost:
    """The cost, with the model's share in main memory where it runs on the CPU."""
    on_cpu = model.device.type == "cpu"
    return Cost(samples, result, _OVERHEAD + here + (there if on_cpu else 0), 0 if on_cpu else there, disk)
