"""A store of activations that grows chunk by chunk, survives being interrupted, and notices damage.

Zarr version 3, readable by plain xarray. What plain Zarr does not do is added here: every chunk carries a
CRC-32C (a flipped byte is noticed), one shard file holds one chunk of samples at one site (writers never
share a file), and a `done` flag is written behind the numbers of its chunk (a half-written chunk counts as
missing). Zarr replaces files atomically: a killed writer leaves the old file or the new one.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec

from workbench.activations.budget import require_disk
from workbench.activations.opening import (
    UnusableStore,
    array_of,
    descriptions,
    is_done,
    missing_chunks,
    open_activations,
    open_group,
    record_of,
    telling_damage,
)
from workbench.activations.spec import StoreSpec, bytes_needed, refusal
from workbench.activations.values import STORE_KEY, Activations
from workbench.files import DIGEST, digest_of, disk_errors

_FLOAT16_MAX = 65_504.0


@dataclass(frozen=True, eq=False)
class ActivationStore:
    """A store that is being written. It holds no open file: threads and worker processes may share it.

    Args:
        path: folder of the store.
        spec: what it holds.
    """

    path: Path
    spec: StoreSpec

    @classmethod
    def open_or_create(cls, path: Path | str, spec: StoreSpec) -> ActivationStore:
        """Return the store at `path`: a new one, or the one that an earlier capture of the same spec began.

        Raises:
            ActivationsError: the disk is too full, another capture stands there, or the folder is no store.
            DiskError: the folder cannot be written.
        """
        store = cls(Path(path), spec)
        if not store.path.exists() or (store.path.is_dir() and not any(store.path.iterdir())):
            require_disk(store.path, bytes_needed(spec))
            _create(store.path, spec)
            return store
        with telling_damage(store.path):
            _check_same(store.path, spec)
        left = len(store.missing()) / spec.n_chunks
        require_disk(store.path, int(left * bytes_needed(spec)))
        return store

    def missing(self) -> tuple[int, ...]:
        """Return the chunks that are still to be written."""
        group = open_group(self.path)
        with telling_damage(self.path):
            return missing_chunks(self.path, group)

    def rows(self, chunk: int) -> slice:
        """Return which samples a chunk holds."""
        if not 0 <= chunk < self.spec.n_chunks:
            raise refusal(
                f"Chunk {chunk} was asked for",
                f"the store has chunks 0-{self.spec.n_chunks - 1}",
                "Use one of store.missing()",
            )
        return self.spec.rows(chunk)

    def write_chunk(self, chunk: int, arrays: Mapping[str, np.ndarray]) -> bool:
        """Write all sites of one chunk; return False, and change nothing, where it is already done.

        Different chunks may be written at the same time, from threads or processes.

        Args:
            chunk: number of the chunk.
            arrays: site to values, shape (rows, layer, [frame,] feature), any float dtype.

        Raises:
            ActivationsError: a site is missing, a shape is wrong, a number is not finite or beyond float16.
            DiskError: the disk is full or the store cannot be written.
        """
        rows = self.rows(chunk)
        if set(arrays) != set(self.spec.sites):
            raise refusal(
                f"The sites {', '.join(self.spec.sites)} were asked for",
                f"{', '.join(arrays) or 'none'} were given",
                "Write all sites of a chunk at once",
            )
        checked = {site: _checked(self.spec, rows, site, values) for site, values in arrays.items()}
        group = open_group(self.path, mode="r+")
        if is_done(self.path, group, chunk):
            return False
        with disk_errors(self.path, sum(values.nbytes for values in checked.values())):
            for site, values in checked.items():
                array_of(group, site)[rows] = values
            array_of(group, "done")[chunk] = True  # last: a chunk without it is missing
        return True

    def finish(self) -> Activations:
        """Return the finished activations.

        Raises:
            ActivationsError: chunks are missing.
        """
        return open_activations(self.path)


def _create(path: Path, spec: StoreSpec) -> None:
    """Build the empty store beside its place and move it there: it is seen whole or not at all."""
    parts = spec.parts()  # before anything is written: it refuses what is no JSON
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        group = zarr.open_group(draft, mode="w-", zarr_format=3)
        for site in spec.sites:
            _new_site(group, site, spec)
        _new(group, "done", (spec.n_chunks,), dtype=bool, dims=("chunk",), chunks=(1,), fill_value=False)
        norms = np.full(len(spec.layers), np.nan) if spec.residual_norm is None else spec.residual_norm
        _filled(group, "layer", np.asarray(spec.layers, np.int64), dim="layer")
        _filled(group, "residual_norm", np.asarray(norms, np.float64), dim="layer")
        for name, values in spec.samples.items():
            _filled(group, name, np.asarray(values), dim="sample")
        record: Any = {"sites": list(spec.sites), "samples": list(spec.samples), "parts": parts}
        group.attrs.update({**spec.attrs, "coordinates": " ".join(spec.samples), STORE_KEY: record})
        group.attrs[STORE_KEY] = {**record, DIGEST: digest_of(descriptions(draft))}
        draft.rename(path)
    except OSError:
        if not path.exists():  # otherwise another writer was first, and its store is as good
            with disk_errors(path, bytes_needed(spec)):
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _new_site(group: zarr.Group, site: str, spec: StoreSpec) -> None:
    """Make an array: a shard holds one chunk of samples, in pieces of one layer that are read alone."""
    row, piece = (spec.chunk, *spec.shape[1:]), (spec.chunk, 1, *spec.shape[2:])
    nan = np.nan
    _new(group, site, spec.shape, dims=spec.dims, dtype=spec.dtype, chunks=piece, shards=row, fill_value=nan)


def _new(group: zarr.Group, name: str, shape: tuple[int, ...], *, dims: tuple[str, ...], **how: Any) -> Any:
    return group.create_array(
        name,
        shape=shape,
        dimension_names=dims,
        compressors=(Crc32cCodec(),),
        config={"write_empty_chunks": True},  # zeros and empty text are data, not an absent file
        **how,
    )


def _filled(group: zarr.Group, name: str, values: np.ndarray, *, dim: str) -> None:
    """Write a small array that is complete from the start: text, or numbers of 8 bytes."""
    dtype: Any = {"f": np.float64, "i": np.int64, "u": np.int64, "b": np.int64}.get(values.dtype.kind, str)
    array = _new(group, name, values.shape, dims=(dim,), dtype=dtype, chunks=values.shape)
    array[:] = values.astype(object if dtype is str else dtype)


def _check_same(path: Path, spec: StoreSpec) -> None:
    """Raise ActivationsError when the store at `path` was begun for another spec."""
    group = open_group(path)
    held = record_of(group)["parts"]
    differing = sorted(name for name, digest in spec.parts().items() if held.get(name) != digest)
    if differing:
        raise UnusableStore(
            f"A capture into {path} was asked for",
            f"another one stands there, with other {', '.join(differing)}",
            "Give another path, or delete it",
        )


def _checked(spec: StoreSpec, rows: slice, site: str, values: np.ndarray) -> np.ndarray:
    """Return the values in the store's dtype, or raise ActivationsError."""
    values = np.asarray(values)
    expected = (rows.stop - rows.start, *spec.shape[1:])
    if values.shape != expected:
        raise refusal(
            f"{site} of shape {expected} was asked for",
            f"the shape is {values.shape}",
            f"The dimensions are {', '.join(spec.dims)}",
        )
    absent = _absent(spec, rows, values.shape)
    if not (np.isfinite(values) | absent).all():
        raise refusal(
            f"Finite {site} was asked for",
            "some numbers are NaN or infinite",
            "Load the model with dtype='float32', or look at the clip",
        )
    largest = float(np.max(np.abs(values), where=~absent, initial=0.0))
    if spec.dtype == np.float16 and largest > _FLOAT16_MAX:
        raise refusal(
            f"{site} per frame is stored as float16",
            f"a value of {largest:.0f} lies beyond its {_FLOAT16_MAX:.0f}",
            "Capture pooled activations, which are float32",
        )
    return values.astype(spec.dtype)


def _absent(spec: StoreSpec, rows: slice, shape: tuple[int, ...]) -> np.ndarray:
    """Return True, broadcastable to `shape`, where a frame lies behind the end of its clip and may be NaN."""
    if spec.frames is None or "frames_held" not in spec.samples:
        return np.zeros((1,) * len(shape), dtype=bool)
    held = np.asarray(spec.samples["frames_held"])[rows]
    behind: np.ndarray = np.arange(spec.frames)[None, :] >= held[:, None]
    return np.broadcast_to(behind[:, None, :, None], shape)
