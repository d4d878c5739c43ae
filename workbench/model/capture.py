"""Capture: a dataset's activations, teacher-forced, cached, resumable, on one machine or many."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from workbench.activations import Activations, ActivationStore, StoreSpec
from workbench.errors import ActivationsError, Cancelled, ModelError, message
from workbench.model.chunks import Arrays, Chunk, Job, run_here, run_there
from workbench.model.codes import codes_for, speaks_our_codes
from workbench.model.folders import cache_folder
from workbench.model.musicgen import Model
from workbench.model.reading import Reading
from workbench.sound.dataset import Dataset

ROWS = ("cond", "null")
POOLED_CHUNK = 16  # clips: what an interrupted capture loses at most, and what a worker gets at a time


def capture(
    model: Model,
    dataset: Dataset,
    *,
    sites: Sequence[str] = ("resid_post",),
    layers: Sequence[int] | None = None,
    pool: str | None = "mean",
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

    sites   some of embed, resid_pre, attn_out, mlp_out, resid_post
    layers  blocks counted from 0; all when None
    pool    "mean", "max" or "last" over a clip's frames, in fp32; None keeps the frames (float16)
    text    None (the null condition of guidance: no label can leak in), one prompt, or one per clip
    rows    "cond" reads under `text`, "null" reads the null condition whatever `text` is
    seconds how much of each clip's beginning is used; all when None
    batch   clips per forward pass
    cache   whether to keep the result in the user's cache when no `path` is given
    client  a dask.distributed Client, whose workers must see the model's folder
    cancel  set it (from any thread) to stop after the running chunk

    Raises ModelError for a layer, site, pool or row that does not exist; ActivationsError for a silent clip
    or a store that cannot be written; Cancelled.
    """
    reading = Reading(tuple(sites), layers_of(model, layers), pool)
    texts = _texts(dataset, text if rows == "cond" else None, rows)
    job = Job(reading, seconds, batch, speaks_our_codes(model, dataset))
    job, spec = _spec(model, dataset, job, texts)
    place = Path(path) if path is not None else _cache_place(spec) if cache else None
    store = ActivationStore.open_or_create(place, spec) if place is not None else None
    chunks = list(_chunks(dataset, texts, spec, store.missing() if store else range(spec.n_chunks)))
    work = run_here(model, chunks, job) if client is None else run_there(model, chunks, job, client)
    kept = _collect(work, spec, store, cancel=cancel, progress=progress)
    return store.finish() if store else _in_memory(spec, kept)


def _collect(
    work: Iterator[tuple[Chunk, Arrays]],
    spec: StoreSpec,
    store: ActivationStore | None,
    *,
    cancel: threading.Event | None,
    progress: bool,
) -> dict[int, Arrays]:
    """Write each chunk as it comes, or return them all by number when there is no store."""
    kept: dict[int, Arrays] = {}
    missing = store.missing() if store else range(spec.n_chunks)
    done = spec.n_samples - sum(spec.rows(chunk).stop - spec.rows(chunk).start for chunk in missing)
    with tqdm(desc="Capturing", unit="clip", total=spec.n_samples, disable=not progress, leave=False) as bar:
        bar.update(done)
        for chunk, arrays in work:
            if store:
                store.write_chunk(chunk.number, arrays)
            else:
                kept[chunk.number] = arrays
            done += len(chunk.clips)
            bar.update(len(chunk.clips))
            if cancel is not None and cancel.is_set() and done < spec.n_samples:
                raise Cancelled(f"Stopped on request after {done} of {spec.n_samples} clips.")
    return kept


def layers_of(model: Model, layers: Sequence[int] | None) -> tuple[int, ...]:
    """The blocks that were asked for, ascending; all when None.

    Raises:
        ModelError: When one of them does not exist.
    """
    wanted = tuple(sorted(set(model.layers if layers is None else layers)))
    unknown = [layer for layer in wanted if layer not in model.layers]
    if unknown or not wanted:
        raise ModelError(
            message(
                f"The layers {list(wanted)} were asked for",
                f"{model.id} has layers 0-{model.n_layers - 1}",
                "Use some of model.layers",
            )
        )
    return wanted


def _texts(dataset: Dataset, text: str | Sequence[str] | None, rows: str) -> tuple[str | None, ...]:
    """The text of each clip, None for the null condition."""
    if rows not in ROWS:
        raise ModelError(
            message(f"The rows {rows!r} were asked for", f"there are {', '.join(ROWS)}", "Use one of these")
        )
    if text is None or isinstance(text, str):
        return (text,) * len(dataset)
    if len(text) != len(dataset):
        raise ActivationsError(
            message(
                f"{len(text)} texts were given",
                f"the dataset has {len(dataset)} clips",
                "Give one text, or one per clip",
            )
        )
    return tuple(text)


def _spec(model: Model, dataset: Dataset, job: Job, texts: Sequence[str | None]) -> tuple[Job, StoreSpec]:
    """The store's shape and labels, and the job with its number of frames."""
    samples: dict[str, np.ndarray] = {"clip": dataset.ids, "group": dataset.groups}
    samples |= {f"label_{target}": dataset.labels(target) for target in dataset.targets}
    samples["text"] = np.array([text or "" for text in texts])
    samples["row"] = np.array(["null" if text is None else "cond" for text in texts])
    samples["source"] = np.full(len(dataset), "teacher-forced")
    frames = None
    if job.reading.pool is None:
        encode = partial(codes_for, model, dataset, seconds=job.seconds, stored=job.stored)
        held = [encode(entry).shape[-1] for entry in dataset.entries]
        samples["frames_held"], frames = np.array(held), max(held)
    attrs = {
        "dataset": dataset.name,
        "dataset_fingerprint": dataset.fingerprint,
        "seconds": job.seconds,
        **model_attrs(model, job.reading),
    }
    sites, layers = job.reading.sites, job.reading.layers
    norms = model.residual_norms()[list(layers)]
    spec = StoreSpec(
        sites=sites,
        layers=layers,
        d_model=model.d_model,
        samples=samples,
        frames=frames,
        attrs=attrs,
        residual_norm=norms,
        samples_per_chunk=POOLED_CHUNK if frames is None else None,
    )
    return Job(job.reading, job.seconds, job.batch, job.stored, frames), spec


def model_attrs(model: Model, reading: Reading) -> dict[str, Any]:
    """What a capture says about the model and the way it was read."""
    return {
        "model_id": model.id,
        "model_fingerprint": model.fingerprint,
        "dtype": str(model.dtype).removeprefix("torch."),
        "n_layers": model.n_layers,
        "frame_rate_hz": model.frame_rate_hz,
        "pool": reading.pool,
    }


def _cache_place(spec: StoreSpec) -> Path:
    """A folder of the user's cache that belongs to this capture and no other."""
    digest = hashlib.sha256(json.dumps(spec.parts(), sort_keys=True).encode()).hexdigest()
    return cache_folder("activations") / digest[:32]


def _chunks(
    dataset: Dataset, texts: Sequence[str | None], spec: StoreSpec, numbers: Sequence[int]
) -> Iterator[Chunk]:
    """The chunks with these numbers."""
    for number in numbers:
        rows = spec.rows(number)
        yield Chunk(number, dataset.subset(range(rows.start, rows.stop)), tuple(texts[rows]))


def _in_memory(spec: StoreSpec, chunks: dict[int, Arrays]) -> Activations:
    """The captured chunks as activations that lie on no disk."""
    arrays = {site: np.concatenate([chunks[n][site] for n in sorted(chunks)]) for site in spec.sites}
    return Activations.from_arrays(
        arrays, layers=spec.layers, samples=spec.samples, attrs=spec.attrs, residual_norm=spec.residual_norm
    )
