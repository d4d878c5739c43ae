"""Capture: a dataset's activations, teacher-forced, cached, resumable, on one machine or many."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from workbench.activations import (
    Activations,
    ActivationStore,
    Cost,
    StoreSpec,
    UnusableStore,
    open_activations,
)
from workbench.errors import ActivationsError, Cancelled, number_or_nan, whole_number
from workbench.model.capture_plan import (
    Arrays,
    Cases,
    Chunk,
    Job,
    cases_for,
    forced_cost,
    free_on_device,
    run_here,
    run_there,
    spec_for,
)
from workbench.model.folders import cache_folder, can_keep, say_damaged
from workbench.model.musicgen import Model
from workbench.model.teacher_forcing import (
    codes_match_codec,
    counted_frames,
    encoded,
    fitting_frames,
    guessed_frames,
    reading_of,
)
from workbench.sound.dataset import Dataset

MENDED_AT_MOST = 8  # damaged files of a store in the cache that are made again one by one; then all of it
POOLED_CHUNK = 16  # clips: what an interrupted capture loses at most, and what a worker gets at a time


def capture(
    model: Model,
    dataset: Dataset,
    *,
    sites: Sequence[str] = ("resid_post",),
    layers: Sequence[int] | None = None,
    pool: str | None = "mean",
    window: float | None = None,
    text: str | Sequence[str] | None = None,
    rows: str = "cond",
    seconds: float | None = None,
    batch: int = 8,
    cache: bool = True,
    path: Path | str | None = None,
    progress: bool = True,
    client: Any = None,
    cancel: threading.Event | None = None,
) -> Activations:
    """The labelled activations of each clip in `dataset`; what an earlier call finished is not done again.

    Sound that has no codes yet is encoded. The built-in model reads its band's arrangement of such a clip.

    sites   some of embed, resid_pre, head_out, attn_out, mlp_out, resid_post
    layers  blocks counted from 0; all when None
    pool    "mean", "max" or "last" over a clip's frames, in fp32; None keeps the frames (float16)
    window  seconds: each stretch of this length is pooled into a sample of its own (start_s, length_s)
    text    None (the null condition of guidance: no label can leak in), one prompt, or one per clip
    rows    "cond" reads under `text`, "null" reads the null condition whatever `text` is, "both" reads all
            clips under `text` and then all without; of melody models the null condition is that of an empty
            prompt, while null rows of a generation are as long as its prompt, and differ
    seconds how much of each clip's beginning is used; all when None
    batch   clips per forward pass
    cache   whether to keep the result in the user's cache when no `path` is given; False writes no folder
            but `path` (codes of clips are then made anew each time)
    client  a dask.distributed Client, whose workers must see the model's folder
    cancel  set it (from any thread) to stop after the running chunk

    Raises ModelError for a layer, site, pool or row that does not exist; ActivationsError for a silent clip,
    one that is longer than the decoder's positions, a store that cannot be written, and where memory or disk
    would not do (see `capture_cost`); Cancelled.
    """
    job = job_for(
        model, dataset, sites=sites, layers=layers, pool=pool, window=window, seconds=seconds, batch=batch
    )
    output = CaptureOutput(cache, path, progress, client, cancel)
    return capture_cases(model, dataset, cases_for(dataset, text, rows), job, output)


def capture_cost(
    model: Model,
    dataset: Dataset,
    *,
    text: str | Sequence[str] | None = None,
    rows: str = "cond",
    cache: bool = True,
    path: Path | str | None = None,
    **settings: Any,
) -> Cost:
    """What `capture` with the same settings would take of memory and disk, told without reading a clip.

    Lengths come from stored codes and from the headers of files. `settings` are sites, layers,
    pool, window, seconds and batch.
    """
    job, cases = job_for(model, dataset, **settings), cases_for(dataset, text, rows)
    guess = guessed_frames(model, dataset, seconds=job.seconds, stored=job.stored)
    longest, spec = _outline(model, dataset, cases, job, guess)
    return _forecast(model, spec, job, longest, CaptureOutput(cache, path))


@dataclass(frozen=True)
class CaptureOutput:
    """Where a capture's result goes and who does the work; the arguments of `capture` of the same names."""

    cache: bool = True
    path: Path | str | None = None
    progress: bool = True
    client: Any = None
    cancel: threading.Event | None = None
    writable: bool = True  # whether the user's cache can be written

    @property
    def on_disk(self) -> bool:
        """Whether the result is written."""
        return self.path is not None or (self.cache and self.writable)

    def place(self, spec: StoreSpec) -> Path | None:
        """Where it is written: `path`, or a folder of the user's cache that belongs to this capture alone."""
        if self.path is not None or not self.cache:
            return None if self.path is None else Path(self.path)
        digest = hashlib.sha256(json.dumps(spec.parts(), sort_keys=True).encode()).hexdigest()
        place = cache_folder("activations") / digest[:32]
        return place if self.writable or _finished(place) else None


def job_for(
    model: Model,
    dataset: Dataset,
    *,
    sites: Sequence[str] = ("resid_post",),
    layers: Sequence[int] | None = None,
    pool: str | None = "mean",
    window: float | None = None,
    seconds: float | None = None,
    batch: int = 8,
) -> Job:
    """What is done to every clip; raises as `capture` does."""
    reading = reading_of(model, sites=sites, layers=layers, pool=pool, window=window)
    if seconds is not None and not 0 < number_or_nan(seconds) < math.inf:
        raise ActivationsError(
            f"The first {seconds!r} s of each clip were asked for",
            "that is no length of time",
            "Use a number above 0, or None for all of it",
        )
    batch = whole_number(batch, "A batch of", ActivationsError, least=1)
    return Job(reading, seconds, batch, codes_match_codec(model, dataset))


def capture_cases(
    model: Model, dataset: Dataset, cases: Cases, job: Job, output: CaptureOutput
) -> Activations:
    """The activations of these cases: forecast and checked, then captured as `capture` says."""
    if output.cache:
        output = replace(output, writable=can_keep())
    job = replace(job, cache=output.cache and output.writable)
    guess = fitting_frames(model, dataset, seconds=job.seconds, stored=job.stored)
    longest, outline = _outline(model, dataset, cases, job, guess)
    forecast = _forecast(model, outline, job, longest, output)
    free = free_on_device(model) if output.client is None else None
    norms = model.residual_norms(cache=job.cache)[list(job.reading.layers)]
    place = output.place(replace(outline, residual_norm=norms))
    if place is None or not place.exists():  # what stands there may be finished: then nothing is needed
        forecast.check(place, free_device=free)
    own = job
    if _counts_frames(job) and not (
        job.stored or job.cache
    ):  # encoded once: to count frames and to read them
        dataset = encoded(model, dataset, seconds=job.seconds)
        own = replace(job, seconds=None, stored=True)
    held = _held(model, dataset, own)
    spec = replace(_spec(model, dataset, cases, job, held), residual_norm=norms)
    place, own = output.place(spec), replace(own, frames=spec.frames)

    def work(store: ActivationStore | None) -> Activations:
        missing = store.missing() if store else tuple(range(spec.n_chunks))
        if missing:
            forecast.check(free_device=free)
        counts = np.ones(len(cases), int) if held is None else job.reading.counts(held[cases.entries])
        chunks = [_chunk(dataset, cases, counts, number, spec.rows(number)) for number in missing]
        client = output.client
        parts = run_here(model, chunks, own) if client is None else run_there(model, chunks, own, client)
        kept = _collect(parts, spec, store, output)
        return store.finish() if store else _in_memory(spec, kept)

    if place is None:
        return work(None)
    make = partial(ActivationStore.open_or_create, place, spec)
    return work(make()) if output.path is not None else _mending(place, lambda: work(make()))


def _finished(place: Path) -> bool:
    """Whether a whole store stands there."""
    try:
        open_activations(place, verify=False)
    except ActivationsError:
        return False
    return True


def _mending(place: Path, work: Callable[[], Activations]) -> Activations:
    """Do the work; what is damaged of a store in the cache is given notice of, deleted and made again."""
    for left in reversed(range(MENDED_AT_MOST)):
        try:
            return work()
        except (UnusableStore, IsADirectoryError, NotADirectoryError) as error:
            file = (getattr(error, "file", None) if left else None) or place
            say_damaged(file, error.__cause__ or getattr(error, "found", error))
            aside = file.with_name(f".{uuid.uuid4().hex}.partial")
            file.rename(aside)
            if aside.is_dir():
                shutil.rmtree(aside)
            else:
                aside.unlink()
    return work()


def _counts_frames(job: Job) -> bool:
    """Whether the shape of the result depends on the clips' lengths."""
    return job.reading.pool is None or job.reading.window is not None


def _held(model: Model, dataset: Dataset, job: Job) -> np.ndarray | None:
    """Frames of each clip, where the result depends on them; clips without codes are encoded."""
    if not _counts_frames(job):
        return None
    return counted_frames(model, dataset, seconds=job.seconds, stored=job.stored)


def _spec(model: Model, dataset: Dataset, cases: Cases, job: Job, held: np.ndarray | None) -> StoreSpec:
    return spec_for(model, dataset, cases, job, held=held, clips_per_chunk=POOLED_CHUNK)


def _outline(
    model: Model, dataset: Dataset, cases: Cases, job: Job, guess: np.ndarray
) -> tuple[int, StoreSpec]:
    """Frames of the longest clip and the shape of the result, from guessed lengths, before any work."""
    own = guess if _counts_frames(job) else None
    return int(guess.max()), _spec(model, dataset, cases, job, own)


def _forecast(model: Model, spec: StoreSpec, job: Job, longest: int, output: CaptureOutput) -> Cost:
    return forced_cost(
        model,
        spec,
        job.reading,
        longest=longest,
        batch=job.batch if output.client is None else 0,  # the passes are the workers' business
        on_disk=output.on_disk,
        encodes=not job.stored,
    )


def _collect(
    work: Iterator[tuple[Chunk, Arrays]],
    spec: StoreSpec,
    store: ActivationStore | None,
    output: CaptureOutput,
) -> dict[int, Arrays]:
    """Write each chunk as it comes, or return them all by number when there is no store."""
    kept: dict[int, Arrays] = {}
    missing = store.missing() if store else range(spec.n_chunks)
    done = spec.n_samples - sum(spec.rows(chunk).stop - spec.rows(chunk).start for chunk in missing)
    unit = "clip" if spec.n_samples == len(set(spec.samples["clip"])) else "sample"
    bar = tqdm(desc="Capturing", unit=unit, total=spec.n_samples, disable=not output.progress, leave=False)
    with bar:
        bar.update(done)
        for chunk, arrays in work:
            if store:
                store.write_chunk(chunk.number, arrays)
            else:
                kept[chunk.number] = arrays
            done += chunk.n_samples
            bar.update(chunk.n_samples)
            cancel = output.cancel
            if cancel is not None and cancel.is_set() and done < spec.n_samples:
                raise Cancelled(f"Stopped on request after {done} of {spec.n_samples} {unit}s.")
    return kept


def _chunk(dataset: Dataset, cases: Cases, counts: np.ndarray, number: int, rows: slice) -> Chunk:
    """The chunk that holds the samples `rows`, with every case that gives one of them.

    Args:
        dataset: The clips.
        cases: All cases.
        counts: Samples that each case gives (cases,).
        number: The chunk's number.
        rows: Its samples.
    """
    ends = np.cumsum(counts)
    first, last = (int(np.searchsorted(ends, row, side="right")) for row in (rows.start, rows.stop - 1))
    before = int(ends[first] - counts[first])
    entries, member = np.unique(cases.entries[first : last + 1], return_inverse=True)
    told = tuple(zip(member.tolist(), cases.texts[first : last + 1], strict=True))
    return Chunk(number, dataset.subset(entries), told, slice(rows.start - before, rows.stop - before))


def _in_memory(spec: StoreSpec, chunks: dict[int, Arrays]) -> Activations:
    """The captured chunks as activations that lie on no disk."""
    arrays = {site: np.concatenate([chunks[n][site] for n in sorted(chunks)]) for site in spec.sites}
    return Activations.from_arrays(
        arrays, layers=spec.layers, samples=spec.samples, attrs=spec.attrs, residual_norm=spec.residual_norm
    )


# The same clips under several texts, for the question whether a probe reads the music or the words.
#
# null     no text: the null condition of guidance
# neutral  a text that names no class
# correct  a text that names the clip's own class
# wrong    a text that names another class, drawn by the seed, each of the others about equally often


CONDITIONS = ("null", "neutral", "correct", "wrong")
NEUTRAL_TEXT, NAMING_TEXT = "a tune", "a {} tune"
_KEEPING = ("cache", "path", "progress", "client", "cancel")


def capture_conditions(
    model: Model,
    dataset: Dataset,
    target: str = "genre",
    *,
    conditions: Sequence[str] = CONDITIONS,
    prompts: Mapping[str, str] | None = None,
    neutral: str = NEUTRAL_TEXT,
    seed: int = 0,
    **settings: Any,
) -> Activations:
    """The activations of every clip under each condition: first all clips under the first one, then the next.

    Besides the coordinates of `capture` each sample has `condition`, and `named`, the class that its text
    names ("" where it names none). `where(condition=...)` gives the clips in the dataset's order.

    Args:
        model: The model.
        dataset: Clips with the label `target`, of at least two classes.
        target: The label that texts name.
        conditions: Some of null, neutral, correct, wrong.
        prompts: A text for each class; by default "a {class} tune".
        neutral: The text that names no class; by default the same words without a class.
        seed: Which wrong class a clip is told.
        settings: Those of `capture`, but text and rows.

    Raises:
        ActivationsError: When a condition does not exist, a class has no text, or there is no other class.
        DatasetError: When the target is a number, or some clip lacks it.
    """
    classes = dataset.classes(target)
    texts = {name: NAMING_TEXT.format(name) for name in classes} if prompts is None else dict(prompts)
    _check(conditions, classes, texts)
    own = dataset.labels(target)
    nothing = np.full(len(dataset), "", dtype=own.dtype)
    named = {"null": nothing, "neutral": nothing, "correct": own}
    if "wrong" in conditions:
        named["wrong"] = wrong_classes(own, seed=seed)
    told: list[str | None] = []
    for condition in conditions:
        plain = None if condition == "null" else neutral
        told += [texts[name] if name else plain for name in named[condition].tolist()]
    cases = Cases(
        np.tile(np.arange(len(dataset)), len(conditions)),
        tuple(told),
        {
            "condition": np.repeat(np.array(conditions), len(dataset)),
            "named": np.concatenate([named[condition] for condition in conditions]),
        },
    )
    output = CaptureOutput(**{name: settings.pop(name) for name in _KEEPING if name in settings})
    return capture_cases(model, dataset, cases, job_for(model, dataset, **settings), output)


def wrong_classes(own: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """A class (n,) other than the one in `own` (n,); clips of a class share the others out evenly."""
    rng = np.random.default_rng(seed)
    wrong = own.copy()
    classes = np.unique(own)
    for name in classes:
        members, others = (
            rng.permutation(np.flatnonzero(own == name)),
            rng.permutation(classes[classes != name]),
        )
        wrong[members] = np.resize(others, len(members))
    return wrong


def _check(conditions: Sequence[str], classes: Sequence[str], texts: Mapping[str, str]) -> None:
    unknown = [name for name in conditions if name not in CONDITIONS]
    if unknown or not conditions or len(set(conditions)) < len(conditions):
        raise ActivationsError(
            f"The text conditions {', '.join(conditions) or '(none)'} were asked for",
            f"there are {', '.join(CONDITIONS)}",
            "Use some of these, each once",
        )
    if len(classes) < 2 or any(name not in texts for name in classes):
        raise ActivationsError(
            f"Texts that name the classes {', '.join(classes)} were asked for",
            f"there are texts for {', '.join(texts) or 'none'}",
            "Give at least two classes, and a text for each: prompts={'jazz': 'a jazz tune', ...}",
        )
