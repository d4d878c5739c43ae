"""Capture: a dataset's activations, teacher-forced, cached, resumable, on one machine or a Dask cluster.

`capture_conditions` reads the same clips under several texts: under none (null), one that names no class
(neutral), one that names the clip's own class (correct), and one that names another class (wrong), drawn by
the seed, each of the others about equally often. It shows whether a probe reads the music or the words.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from tqdm.auto import tqdm

from workbench.activations import Activations, Cost, StoreSpec
from workbench.activations.store import ActivationStore, UnusableStore, open_activations
from workbench.errors import (
    ActivationsError,
    Cancelled,
    ModelError,
    WorkbenchError,
    renamed_keywords,
    whole_number,
)
from workbench.files import draft_in
from workbench.model import capture_plan, teacher_forcing
from workbench.model.capture_plan import Arrays, Cases, Chunk, Job, cases_for, read_chunk
from workbench.model.folders import cache_folder, can_keep, say_damaged
from workbench.model.load import load
from workbench.model.musicgen import Model
from workbench.model.teacher_forcing import codes_for
from workbench.sound.dataset import Dataset

MENDED_AT_MOST = 8  # damaged files of a store in the cache that are made again one by one; then all of it
CONDITIONS = ("null", "neutral", "correct", "wrong")
NEUTRAL_TEXT, NAMING_TEXT = "a tune", "a {} tune"
_OUTPUT = ("cache", "path", "progress", "client", "cancel")
_LOADING = threading.Lock()

T = TypeVar("T")
R = TypeVar("R")


@renamed_keywords(window="window_seconds")
def capture(
    model: Model, dataset: Dataset, *, sites: Sequence[str] = ("resid_post",),
    layers: Sequence[int] | None = None, pool: str | None = "mean", window_seconds: float | None = None,
    text: str | Sequence[str] | None = None, rows: str = "cond", seconds: float | None = None, batch: int = 8,
    cache: bool = True, path: Path | str | None = None, progress: bool = True, client: Any = None,
    cancel: threading.Event | None = None,
) -> Activations:  # fmt: skip
    """Return the labelled activations of each clip in `dataset`; what an earlier call finished is kept.

    Sound that has no codes yet is encoded. The built-in model reads its band's arrangement of such a clip.

    Args:
        model: The model.
        dataset: The clips.
        sites: Some of embed, resid_pre, head_out, attn_out, mlp_out, resid_post.
        layers: Blocks counted from 0; all when None.
        pool: "mean", "max" or "last" over a clip's frames, in fp32; None keeps the frames (float16).
        window_seconds: Each stretch of this length is pooled into a sample of its own (start_s, length_s).
        text: None (the null condition of guidance: no label can leak in), one prompt, or one per clip.
        rows: "cond" reads under `text`, "null" the null condition, "both" all clips under `text` and then all
            without. Of melody models the null condition is that of an empty prompt.
        seconds: How much of each clip's beginning is used; all when None.
        batch: Clips per forward pass.
        cache: Whether to keep codes, and without a `path` the result, in the user's cache.
        path: Folder of the store that is written or resumed.
        progress: Whether to show a bar.
        client: A dask.distributed Client, whose workers must see the model's folder.
        cancel: Set it (from any thread) to stop after the running chunk.

    Raises:
        ModelError: A layer, site, pool or row does not exist.
        ActivationsError: A clip is silent or longer than the decoder's positions, a store cannot be written,
            or memory or disk would not do (see `capture_cost`).
        Cancelled: On request.
    """
    settings: dict[str, Any] = {"sites": sites, "layers": layers, "pool": pool, "seconds": seconds}
    job = job_for(model, dataset, **settings, window_seconds=window_seconds, batch=batch)
    output = CaptureOutput(cache, path, progress, client, cancel)
    return capture_cases(model, dataset, cases_for(dataset, text, rows), job, output)


@renamed_keywords(window="window_seconds")
def capture_cost(
    model: Model, dataset: Dataset, *, text: str | Sequence[str] | None = None, rows: str = "cond",
    cache: bool = True, path: Path | str | None = None, **settings: Any,
) -> Cost:  # fmt: skip
    """Return what `capture` with these arguments would take of memory and disk, without reading a clip."""
    job, cases = job_for(model, dataset, **settings), cases_for(dataset, text, rows)
    frames = teacher_forcing.guessed_frames(model, dataset, seconds=job.seconds, stored=job.stored)
    return _forecast(model, dataset, cases, job, frames=frames, output=CaptureOutput(cache, path))[1]


@dataclass(frozen=True)
class CaptureOutput:
    """Where a capture's result goes and who does the work; the arguments of `capture` of the same names."""

    cache: bool = True
    path: Path | str | None = None
    progress: bool = True
    client: Any = None
    cancel: threading.Event | None = None
    writable: bool = True  # whether the user's cache can be written

    def place(self, spec: StoreSpec) -> Path | None:
        """Return `path`, or this capture's own folder in the user's cache; None where none is written."""
        if self.path is not None or not self.cache:
            return None if self.path is None else Path(self.path)
        digest = hashlib.sha256(json.dumps(spec.parts(), sort_keys=True).encode()).hexdigest()
        place = cache_folder("activations") / digest[:32]
        if not self.writable:  # a finished store can still be read
            try:
                open_activations(place, verify=False)
            except ActivationsError:
                return None
        return place


@dataclass(frozen=True)
class _Plan:
    """What a capture does, once lengths are known and memory and disk are checked."""

    dataset: Dataset
    cases: Cases
    job: Job
    counts: np.ndarray  # samples of each case (cases,)
    spec: StoreSpec
    place: Path | None  # the store; None where the result stays in memory
    forecast: Cost
    free_device: int | None


def job_for(
    model: Model, dataset: Dataset, *, seconds: float | None = None, batch: int = 8, **reading: Any
) -> Job:
    """Return what is done to every clip; `reading` are sites, layers, pool and window_seconds."""
    read = teacher_forcing.reading_of(model, **reading)
    if seconds is not None:
        no_time = "that is no length of time"
        ActivationsError.number(seconds, "A clip with a length in seconds of", above=0, found=no_time)
    batch = whole_number(batch, "A batch of", ActivationsError, least=1)
    return Job(read, seconds, batch, teacher_forcing.codes_match_codec(model, dataset))


def capture_cases(
    model: Model, dataset: Dataset, cases: Cases, job: Job, output: CaptureOutput
) -> Activations:
    """Return the activations of these cases; what is damaged of a store in the cache is made again."""
    own, left = _plan(model, dataset, cases, job, output), MENDED_AT_MOST
    while True:
        try:
            return _capture_planned(model, own, output)
        except (UnusableStore, IsADirectoryError, NotADirectoryError) as error:
            if own.place is None or output.path is not None or not left:
                raise
            file = (getattr(error, "file", None) if left > 1 else None) or own.place
            say_damaged(file, error.__cause__ or getattr(error, "found", error))
            with draft_in(file.parent) as aside:  # which is removed
                file.rename(aside)
            left -= 1


def _plan(model: Model, dataset: Dataset, cases: Cases, job: Job, output: CaptureOutput) -> _Plan:
    """Return the plan; where the frames of clips matter, all sounds are encoded on the way."""
    if output.cache:
        output = replace(output, writable=can_keep())
    job = replace(job, cache=output.cache and output.writable)
    guess = teacher_forcing.fitting_frames(model, dataset, seconds=job.seconds, stored=job.stored)
    outline, forecast = _forecast(model, dataset, cases, job, frames=guess, output=output)
    free = capture_plan.free_on_device(model) if output.client is None else None
    norms = model.residual_norms(cache=job.cache)[list(job.reading.layers)]
    place = output.place(replace(outline, residual_norm=norms))
    if place is None or not place.exists():  # a store there may be finished: then nothing is needed

        def cost_of(batch: int) -> Cost:
            return _forecast(model, dataset, cases, replace(job, batch=batch), frames=guess, output=output)[1]

        capture_plan.check_batch(job.batch, cost_of, free_device=free, path=place)
    coded, own, frames = dataset, job, None
    if job.counts_frames:  # sounds are encoded once: to count their frames and to read them
        how: dict[str, Any] = {"seconds": job.seconds, "stored": job.stored, "cache": job.cache}
        codes = [codes_for(model, dataset, entry, **how).astype(np.int16) for entry in dataset.entries]
        entries = zip(dataset.entries, codes, strict=True)
        coded = replace(dataset, entries=tuple(replace(entry, codes=one) for entry, one in entries))
        own, frames = replace(job, seconds=None, stored=True), np.array([one.shape[1] for one in codes])
    spec = replace(capture_plan.spec_for(model, dataset, cases, job, frames), residual_norm=norms)
    counts = np.ones(len(cases), int) if frames is None else job.reading.counts(frames[cases.entries])
    own = replace(own, frames=spec.frames)
    return _Plan(coded, cases, own, counts, spec, output.place(spec), forecast, free)


def _forecast(
    model: Model, dataset: Dataset, cases: Cases, job: Job, *, frames: np.ndarray, output: CaptureOutput
) -> tuple[StoreSpec, Cost]:
    """Return the shape of the result and its cost, from guessed frames (clips,), before any work."""
    spec = capture_plan.spec_for(model, dataset, cases, job, frames if job.counts_frames else None)
    on_disk = output.path is not None or (output.cache and output.writable)
    how = {"remote": output.client is not None, "on_disk": on_disk}
    return spec, capture_plan.forced_cost(model, spec, job, longest=int(frames.max()), **how)


def _capture_planned(model: Model, own: _Plan, output: CaptureOutput) -> Activations:
    """Do the chunks that are missing: write each as it comes, or join them all when there is no store."""
    spec, kept = own.spec, dict[int, Arrays]()
    store = None if own.place is None else ActivationStore.open_or_create(own.place, spec)
    missing = store.missing() if store else tuple(range(spec.n_chunks))
    if missing:
        own.forecast.check(free_device=own.free_device)
    chunks = [own.cases.chunk(own.dataset, own.counts, number, spec.rows(number)) for number in missing]
    results: Iterator[tuple[Chunk, Arrays]] = ((one, read_chunk(model, one, job=own.job)) for one in chunks)
    if output.client:
        read = partial(read_chunk, job=own.job)
        results = on_workers(output.client, model, read, chunks, error=ModelError)
    unit = "clip" if spec.n_samples == len(set(spec.samples["clip"])) else "sample"
    done = spec.n_samples - sum(chunk.keep.stop - chunk.keep.start for chunk in chunks)
    how: dict[str, Any] = {"unit": unit, "total": spec.n_samples, "initial": done, "leave": False}
    with tqdm(desc="Capturing", disable=not output.progress, **how) as bar:
        for chunk, arrays in results:
            if store:
                store.write_chunk(chunk.number, arrays)
            else:
                kept[chunk.number] = arrays
            done += chunk.keep.stop - chunk.keep.start
            bar.update(chunk.keep.stop - chunk.keep.start)
            if output.cancel is not None and output.cancel.is_set() and done < spec.n_samples:
                raise Cancelled(f"Stopped on request after {done} of {spec.n_samples} {unit}s.")
    if store:
        return store.finish()
    joined = {site: np.concatenate([kept[number][site] for number in sorted(kept)]) for site in spec.sites}
    more: dict[str, Any] = {"attrs": spec.attrs, "residual_norm": spec.residual_norm}
    return Activations.from_arrays(joined, layers=spec.layers, samples=spec.samples, **more)


@renamed_keywords(window="window_seconds")
def capture_conditions(
    model: Model, dataset: Dataset, target: str = "genre", *, conditions: Sequence[str] = CONDITIONS,
    prompts: Mapping[str, str] | None = None, neutral: str = NEUTRAL_TEXT, seed: int = 0, **settings: Any,
) -> Activations:  # fmt: skip
    """Return the activations of every clip under each condition: all clips under the first, then the next.

    Besides the coordinates of `capture` each sample has `condition`, and `named`, the class that its text
    names ("" where it names none). `where(condition=...)` gives the clips in the dataset's order.

    Args:
        model: The model.
        dataset: Clips with the label `target`, of at least two classes.
        target: The label that texts name.
        conditions: Some of null, neutral, correct, wrong.
        prompts: A text for each class; by default "a {class} tune".
        neutral: The text that names no class.
        seed: Which wrong class a clip's text names.
        settings: Those of `capture`, but text and rows.

    Raises:
        ActivationsError: A condition does not exist, a class has no text, or there is no other class.
        DatasetError: The target is a number, or some clip lacks it.
    """
    classes = dataset.classes(target)
    texts = {name: NAMING_TEXT.format(name) for name in classes} if prompts is None else dict(prompts)
    if set(conditions) - set(CONDITIONS) or not conditions or len(set(conditions)) < len(conditions):
        asked = f"The text conditions {', '.join(conditions) or '(none)'} were asked for"
        raise ActivationsError(asked, f"there are {', '.join(CONDITIONS)}", "Use some of these, each once")
    if len(classes) < 2 or any(name not in texts for name in classes):
        asked = f"Texts that name the classes {', '.join(classes)} were asked for"
        do = "Give at least two classes, and a text for each: prompts={'jazz': 'a jazz tune', ...}"
        raise ActivationsError(asked, f"there are texts for {', '.join(texts) or 'none'}", do)
    own = dataset.labels(target)
    nothing = np.full(len(dataset), "", dtype=own.dtype)
    names = {"null": nothing, "neutral": nothing, "correct": own, "wrong": wrong_classes(own, seed=seed)}
    named = np.concatenate([names[condition] for condition in conditions])
    condition = np.repeat(np.array(conditions), len(dataset))
    texts[""] = neutral
    told = zip(condition.tolist(), named.tolist(), strict=True)
    read = tuple(None if kind == "null" else texts[name] for kind, name in told)
    entries = np.tile(np.arange(len(dataset)), len(conditions))
    cases = Cases(entries, read, {"condition": condition, "named": named})
    output = CaptureOutput(**{name: settings.pop(name) for name in _OUTPUT if name in settings})
    return capture_cases(model, dataset, cases, job_for(model, dataset, **settings), output)


def wrong_classes(own: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Return a class (n,) other than the one in `own` (n,); clips of a class share the others out evenly."""
    rng = np.random.default_rng(seed)
    wrong, classes = own.copy(), np.unique(own)
    for name in classes:
        members = rng.permutation(np.flatnonzero(own == name))
        wrong[members] = np.resize(rng.permutation(classes[classes != name]), len(members))
    return wrong


def on_workers(
    client: Any,
    model: Model,
    function: Callable[[Model, T], R],
    work: Sequence[T],
    *,
    error: type[WorkbenchError],
    cancel: threading.Event | None = None,
) -> Iterator[tuple[T, R]]:
    """Yield each piece of work with its `function(model, piece)`, as the workers finish them.

    Raises:
        WorkbenchError: `error`: the model is in no folder that a worker could load it from.
        Cancelled: `cancel` was set; it is looked at before each result is taken in.
    """
    from distributed import as_completed

    if model.folder is None:
        found = f"{model.id} exists in this process only"
        do = "Write it with save_pretrained to a folder that the workers see, and load it from there"
        raise error("Work on a cluster was asked for", found, do)
    how = (str(model.folder), tuple(map(str, model.devices)), model.precision, model.id)
    futures = {client.submit(_with_model, how, function, one, pure=False): one for one in work}
    try:
        for future in as_completed(list(futures)):
            if cancel is not None and cancel.is_set():
                raise Cancelled("Work on a cluster was stopped")
            yield futures[future], future.result()
    finally:
        client.cancel(list(futures))


_loaded = lru_cache(maxsize=1)(load)  # a worker loads its model once


def _with_model(how: tuple[str, tuple[str, ...], str, str], function: Callable[[Model, T], R], one: T) -> R:
    folder, device, dtype, id_ = how
    with _LOADING:
        model = _loaded(folder, device=device, dtype=dtype, check=False)
        model.id = id_
    return function(model, one)
