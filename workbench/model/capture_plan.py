"""What a capture reads, cut into chunks that any process with the model can do, and what that will take.

A plain capture has one case per clip. Both rows, or several text conditions, make several cases of a clip;
windows make several samples of a case. Forecasts of memory are upper bounds for the usual implementation of
attention, which keeps no table of positions by positions for each head.
"""

from __future__ import annotations

import gc
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch

from workbench.activations import Cost, StoreSpec, bytes_needed
from workbench.errors import ActivationsError, ModelError
from workbench.model.musicgen import Model
from workbench.model.teacher_forcing import Reading, codes_for, read_codes, reading_attrs
from workbench.sound.dataset import Dataset

_One = TypeVar("_One")
_Result = TypeVar("_Result")
Arrays = dict[str, np.ndarray]
ROWS = ("cond", "null", "both")
POOLED_CHUNK = 16  # cases: what an interrupted capture loses at most, and what a worker gets at a time
_CHUNK_BYTES = 128 << 20  # of a chunk of windows at one site
_FLOAT = 4
_ENCODING = 100  # bytes that the codec needs at once, per byte of the sound that goes in
_OVERHEAD = 64 << 20  # what libraries take in any case


@dataclass(frozen=True)
class Job:
    """What is done to every clip."""

    reading: Reading
    seconds: float | None  # how much of each clip's beginning is used; all of it when None
    batch: int  # clips per forward pass
    stored: bool  # whether the clips' stored codes are this model's
    frames: int | None = None  # per sample when they are kept, None when they are pooled
    cache: bool = True  # whether codes that are made on the way are kept in the user's cache

    @property
    def counts_frames(self) -> bool:
        """Whether the shape of the result depends on the clips' lengths."""
        return self.reading.pool is None or self.reading.window is not None


@dataclass(frozen=True)
class Chunk:
    """One chunk of a capture."""

    number: int
    clips: Dataset  # those that are read
    cases: tuple[tuple[int, str | None], ...]  # position in `clips` and text (None: the null condition)
    keep: slice  # which of the samples of these cases, one or more each, belong to the chunk


def read_chunk(model: Model, chunk: Chunk, job: Job) -> Arrays:
    """Return activations by site, fp32: (samples, layers, d_model), or (samples, layers, frames, d_model)."""
    found: dict[str, dict[int, np.ndarray]] = {site: {} for site in job.reading.sites}  # of each case
    encode = partial(codes_for, model, chunk.clips, seconds=job.seconds, stored=job.stored, cache=job.cache)
    # cases that share a forward pass have all a text, or all none
    texts = [text for _, text in chunk.cases]
    kinds = [[n for n, text in enumerate(texts) if (text is None) is none] for none in (False, True)]

    def read(batch: Sequence[int]) -> list[int]:
        codes = [encode(chunk.clips.entries[chunk.cases[case][0]]) for case in batch]
        prompts = [prompt for case in batch if (prompt := texts[case]) is not None]
        text = model.text(prompts) if prompts else model.null_text(len(batch))
        lengths = np.array([array.shape[-1] for array in codes])
        for site, values in read_codes(model, codes, text, job.reading).items():
            if job.frames is not None:  # frames are kept: NaN up to the longest clip of all
                pad = ((0, 0), (0, 0), (0, job.frames - values.shape[2]), (0, 0))
                values = np.pad(values, pad, constant_values=np.nan)
            found[site].update(zip(batch, job.reading.samples(values, lengths), strict=True))
        return [*batch]

    for kind in kinds:
        for start in range(0, len(kind), job.batch):
            in_halves(read, kind[start : start + job.batch])
    rows = {site: [own[case] for case in range(len(texts))] for site, own in found.items()}
    return {site: np.concatenate(values)[chunk.keep] for site, values in rows.items()}


@dataclass(frozen=True, eq=False)
class Cases:
    """What is read, in order."""

    entries: np.ndarray  # positions of the clips (cases,)
    texts: tuple[str | None, ...]  # None is the null condition of guidance
    more: Mapping[str, np.ndarray] = field(default_factory=dict)  # further coordinates (cases,) by name

    def __len__(self) -> int:
        return len(self.texts)

    def labels(self, dataset: Dataset) -> dict[str, np.ndarray]:
        """Return the coordinates (cases,): clip, group, labels, text, row, source and the further ones."""
        found: dict[str, np.ndarray] = {"clip": dataset.ids, "group": dataset.groups}
        found |= {f"label_{target}": dataset.labels(target) for target in dataset.targets}
        found = {name: values[self.entries] for name, values in found.items()}
        found["text"] = np.array([text or "" for text in self.texts])
        found["row"] = np.array(["null" if text is None else "cond" for text in self.texts])
        found["source"] = np.full(len(self), "teacher-forced")
        return {**found, **self.more}

    def chunk(self, dataset: Dataset, counts: np.ndarray, number: int, rows: slice) -> Chunk:
        """Return the chunk of the samples `rows`; each case gives `counts` (cases,) samples."""
        ends = np.cumsum(counts)
        first, last = (int(np.searchsorted(ends, row, side="right")) for row in (rows.start, rows.stop - 1))
        before = int(ends[first] - counts[first])
        entries, member = np.unique(self.entries[first : last + 1], return_inverse=True)
        cases = tuple(zip(member.tolist(), self.texts[first : last + 1], strict=True))
        return Chunk(number, dataset.subset(entries), cases, slice(rows.start - before, rows.stop - before))


def cases_for(dataset: Dataset, text: str | Sequence[str] | None, rows: str) -> Cases:
    """Return one case per clip, or with both rows two: all clips under their text, then all without one."""
    if rows not in ROWS or (rows == "both" and text is None):
        found = f"there are {', '.join(ROWS)}, and without a text every row is a null row"
        do = "Use one of these, and give a text where both are wanted"
        raise ModelError(f"The rows {rows!r} were asked for", found, do)
    texts = [text] * len(dataset) if text is None or isinstance(text, str) else list(text)
    if rows != "null" and len(texts) != len(dataset):
        found = f"the dataset has {len(dataset)} clips"
        raise ActivationsError(f"{len(texts)} texts were given", found, "Give one text, or one per clip")
    nothing = [None] * len(dataset)
    read = {"cond": texts, "null": nothing, "both": [*texts, *nothing]}[rows]
    return Cases(np.tile(np.arange(len(dataset)), 2 if rows == "both" else 1), tuple(read))


def spec_for(model: Model, dataset: Dataset, cases: Cases, job: Job, frames: np.ndarray | None) -> StoreSpec:
    """Return the shape and labels of a capture, from each clip's `frames` (clips,) where they are counted."""
    reading, samples, kept, chunk = job.reading, cases.labels(dataset), None, POOLED_CHUNK
    if reading.window is not None and frames is not None:
        lengths = frames[cases.entries]
        samples = reading.coordinates(samples, lengths, model.frame_rate_hz)
        most = int(reading.counts(lengths).max())
        fitting = _CHUNK_BYTES // (most * len(reading.layers) * model.d_model * _FLOAT)
        chunk = most * max(1, min(POOLED_CHUNK, fitting))
    elif reading.pool is None and frames is not None:
        samples["frames_held"], kept = frames[cases.entries], int(frames.max())
    attrs = {"dataset": dataset.name, "dataset_fingerprint": dataset.fingerprint, "seconds": job.seconds}
    return StoreSpec(
        sites=reading.sites,
        layers=reading.layers,
        d_model=model.d_model,
        samples=samples,
        frames=kept,
        attrs=attrs | reading_attrs(model, reading),
        samples_per_chunk=chunk if kept is None else None,
    )


def free_on_device(model: Model) -> int | None:
    """Return the free bytes on the model's fullest accelerator; None on the CPU, or where unknown."""
    if model.device.type != "cuda":
        return None

    def free(place: torch.device) -> int:
        unused = torch.cuda.memory_reserved(place) - torch.cuda.memory_allocated(place)
        return int(torch.cuda.mem_get_info(place)[0] + unused)

    return min(map(free, model.devices))


def forced_cost(
    model: Model, spec: StoreSpec, job: Job, *, longest: int, remote: bool, on_disk: bool
) -> Cost:
    """Return the cost of a capture whose longest clip has `longest` frames, here or by `remote` workers."""
    reading, batch = job.reading, 0 if remote else job.batch
    per_sample = len(spec.sites) * int(np.prod(spec.shape[1:])) * _FLOAT
    result = spec.n_samples * len(spec.sites) * spec.bytes_per_sample
    chunk, whole = min(spec.chunk, spec.n_samples) * per_sample, spec.n_samples * per_sample
    kept = 3 * chunk if on_disk else whole + max(whole, 2 * chunk)  # parts, the parts joined, what is written
    vectors = longest if reading.pool is None else int(reading.counts(np.array([longest]))[0])
    captured = 2 * len(reading.places) * batch * vectors * model.d_model * _FLOAT
    working = 3 * batch * longest * model.d_model * _FLOAT
    working += _forward(model, batch, model.prefix_room + longest + 1)
    if not job.stored:  # sounds have to be turned into codes first
        working += int(_ENCODING * _FLOAT * longest / model.frame_rate_hz * model.rate_hz)
    disk = bytes_needed(spec) if on_disk else 0
    return _placed(model, spec.n_samples, result, here=kept + captured, there=working, disk=disk)


def drawn_cost(
    model: Model, reading: Reading, *, clips: int, rows: int, frames: int, batch: int, guided: bool
) -> Cost:
    """Return the cost of a capture of 1 or 2 `rows` a clip while they are drawn, prompts among `frames`."""
    d_model, batch = model.d_model, min(batch, clips)
    steps = model.prefix_room + frames + max(model.delays)
    vectors = frames if reading.pool is None else int(reading.counts(np.array([frames]))[0])
    samples = clips * rows * (1 if reading.pool is None else vectors)
    per_clip = len(reading.sites) * len(reading.layers) * rows * vectors * d_model * _FLOAT
    size, decoder_rows = model.dtype.itemsize, batch * (2 if guided else 1)
    collected = (len(reading.places) + 1) * rows * batch * steps * d_model * size
    attention = 2 * (model.n_layers + 1) * decoder_rows * steps * d_model * size  # its keys and values
    working = collected + attention + 3 * rows * batch * frames * d_model * _FLOAT
    working += _forward(model, decoder_rows, model.prefix_room + frames)
    here = (2 * clips + batch) * per_clip
    return _placed(model, samples, clips * per_clip, here=here, there=working)


def generation_cost(
    model: Model, *, clips: int, batch: int, context: int, frames: int, whole: int, guided: bool
) -> Cost:
    """Return the cost of `frames` drawn after `context` at once, and of the sound of `whole` ones a clip."""
    channels, rows = model.musicgen.decoder.config.audio_channels, min(batch, clips) * (2 if guided else 1)
    positions = model.prefix_room + context + frames + max(model.delays)
    attention = 2 * (model.n_layers + 1) * rows * positions * model.d_model * model.dtype.itemsize
    sound = int(whole / model.frame_rate_hz * model.rate_hz) * channels * _FLOAT
    working = attention + _forward(model, rows, model.prefix_room + context + 1) + _ENCODING * sound
    return _placed(model, clips, clips * sound, here=clips * sound, there=working)


def in_halves(work: Callable[[Sequence[_One]], list[_Result]], some: Sequence[_One]) -> list[_Result]:
    """Return work(some); where memory runs out, that of its two halves instead, with a warning.

    A half for which memory does not do either raises what was raised.
    """
    try:
        return work(some)
    except (RuntimeError, MemoryError) as error:
        told = re.search(r"out of memory|not enough memory|can't allocate memory", str(error), re.IGNORECASE)
        if len(some) < 2 or not (told or isinstance(error, torch.OutOfMemoryError | MemoryError)):
            raise
    gc.collect()  # what the failed attempt held
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    half = -(-len(some) // 2)
    what = f"Memory ran out with a batch of {len(some)}, so {half} are done at once. Use batch={half}."
    warnings.warn(what, stacklevel=3)
    return [*work(some[:half]), *work(some[half:])]


def check_batch(batch: int, cost_of: Callable[..., Cost], *, free_device: int | None, **told: Any) -> None:
    """Raise an error where `cost_of(batch=batch)` does not fit; it names the half, quarter ... that would.

    `told` is for `Cost.check`.
    """
    halves = (batch >> times for times in range(1, batch.bit_length()))
    fitting = (one for one in halves if cost_of(batch=one).fits(free_device))
    cost_of(batch=batch).check(free_device=free_device, smaller=lambda: next(fitting, None), **told)


def _forward(model: Model, rows: int, positions: int) -> int:
    """Return the bytes of one forward pass: a block's tensors, and the mask of attention."""
    wide = int(model.musicgen.decoder.config.ffn_dim)
    block = rows * positions * (12 * model.d_model + 2 * wide) * model.dtype.itemsize
    return block + 2 * rows * positions**2 * model.dtype.itemsize


def _placed(model: Model, samples: int, result: int, *, here: int, there: int, disk: int = 0) -> Cost:
    """Return the cost, with the model's share in main memory where it runs on the CPU."""
    on_cpu = model.device.type == "cpu"
    return Cost(samples, result, _OVERHEAD + here + (there if on_cpu else 0), 0 if on_cpu else there, disk)
