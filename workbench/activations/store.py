"""A store of activations that grows chunk by chunk, survives being interrupted, and notices damage.

Zarr version 3, readable by plain xarray. Every chunk carries a CRC-32C, one shard file has one chunk of
samples at one site (writers never share a file), and a `done` flag is written behind the numbers of its
chunk. Zarr replaces files atomically: a killed writer leaves the old file or the new one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from zarr.codecs import Crc32cCodec

from workbench.activations.activations import STORE_KEY, Activations
from workbench.activations.spec import StoreSpec, bytes_needed, require_disk
from workbench.errors import ActivationsError, is_text, reason
from workbench.files import DIGEST, check_digest, digest_of, disk_errors, draft_in

_VERIFY_AT_ONCE = 512 << 20  # bytes; larger stores are verified piece by piece, as they are read
_REDO = "Delete this file and run the same capture again: it does only what is missing"
_RESTART = "Delete the store and capture again"
_FLOAT16_MAX = 65_504.0


class UnusableStore(ActivationsError):
    """A store that is foreign, of another capture, or damaged: a deleted `file` is made again."""

    file: Path | None = None


def open_activations(path: Path | str, *, verify: bool | None = None) -> Activations:
    """Return the activations of a finished store; numbers are read when they are needed.

    With `verify`, by default for stores up to 512 MB, everything is read once and compared with its
    checksums; every later read is in any case. ActivationsError where there is no store, chunks are
    unfinished, or a file is damaged, which it names.

    >>> open_activations("nowhere")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    workbench.errors.ActivationsError: The activations of nowhere were asked for, but there is no store. ...
    """
    path = Path(path)
    group = _open_group(path)
    with _damage_named(path):
        if missing := _missing_chunks(path, group):
            total = array_of(group, "done").size
            found = f"{len(missing)} of {total} chunks are unfinished (the first is {missing[0]})"
            do = "Run the same capture again: it does only what is missing"
            raise ActivationsError(f"The activations of {path} were asked for", found, do)
        activations = Activations(_labelled(path, group), path)
        if verify or (verify is None and activations.data.nbytes <= _VERIFY_AT_ONCE):
            _verify(path, group)
    return activations


def share_done(path: Path | str) -> float:
    """Return how much of a store is captured, 0 to 1; ActivationsError where the folder is another thing."""
    if not (path := Path(path)).exists():
        return 0.0
    group = _open_group(path)
    return 1 - len(_missing_chunks(path, group)) / int(array_of(group, "done").size)


@contextmanager
def _damage_named(path: Path, file: Path | None = None, do: str = _RESTART) -> Iterator[None]:
    """Turn whatever a damaged file of the store (by default a description) raises into an UnusableStore."""
    try:
        yield
    except ActivationsError:
        raise
    except Exception as error:  # a damaged file can be wrong in any way
        found = f"{file or path / 'zarr.json or one below it'} is damaged ({error})"
        made = UnusableStore(f"The activations of {path} were asked for", found, do)
        made.file = file if do == _REDO else None
        raise made from error


def _open_group(path: Path, mode: Any = "r") -> zarr.Group:
    """Return the Zarr group of a store, or raise ActivationsError where the folder is none."""
    asked, do = f"The activations of {path} were asked for", "Give the path of a capture"
    if not path.exists():
        raise ActivationsError(asked, "there is no store", "Capture them first, or check the path")
    try:
        group = zarr.open_group(path, mode=mode, zarr_format=3)
        own = STORE_KEY in group.attrs and "done" in group
    except Exception as error:  # a damaged description can be wrong in any way
        raise UnusableStore(asked, f"it cannot be opened as a store ({reason(error)})", do) from error
    if not own:
        raise UnusableStore(asked, "the folder is no store of the workbench", do)
    if mode == "r":
        with _damage_named(path):
            _check_descriptions(path, group)
    return group


def _descriptions(path: Path) -> dict[str, Any]:
    """Return the descriptions of the store and its arrays by name, without the digest of it all."""
    found = {file.parent.name: json.loads(file.read_text("utf-8")) for file in path.glob("*/zarr.json")}
    found[""] = json.loads((path / "zarr.json").read_text("utf-8"))
    found[""]["attributes"][STORE_KEY].pop(DIGEST, None)
    return found


def _check_descriptions(path: Path, group: zarr.Group) -> None:
    """Raise ValueError unless the descriptions are what was written, and fit one another and their files."""
    found, record = _descriptions(path), _record(group)
    if unknown := set(record) - {"sites", "samples", "parts", DIGEST}:  # perhaps the digest's damaged name
        raise ValueError(f"its record has {', '.join(sorted(unknown))}")
    check_digest(path, found | {DIGEST: record[DIGEST]} if DIGEST in record else found)
    sites, samples = record["sites"], record["samples"]
    if not (isinstance(record["parts"], dict) and sites and all(map(is_text, [*sites, *samples]))):
        raise ValueError("its record is none")
    arrays = {name: array_of(group, name) for name in ("done", "layer", "residual_norm", *samples, *sites)}
    shape, chunk = arrays[sites[0]].shape, arrays[sites[0]].shards[0]
    labels = dict.fromkeys(samples, shape[:1]) | dict.fromkeys(("layer", "residual_norm"), shape[1:2])
    wanted = labels | dict.fromkeys(sites, shape) | {"done": (-(-shape[0] // chunk),)}
    for name, array in arrays.items():
        if array.shape != wanted[name] or (name in labels and array.chunks != array.shape):
            raise ValueError(f"{name} has the shape {array.shape} where {wanted[name]} was expected")
        if name in sites and (array.shards != (chunk, *shape[1:]) or array.chunks != (chunk, 1, *shape[2:])):
            raise ValueError(f"{name} lies in pieces of {array.shards}")
        least = 4 * array.size if name in labels else array.dtype.itemsize * math.prod(array.shards or (1,))
        first = path.joinpath(name, "c", *["0"] * array.ndim)
        _check_size(path, first, least, _RESTART if name in labels else _REDO)


def _check_size(path: Path, file: Path, least: int, do: str) -> None:
    """Raise UnusableStore where a file is shorter than its numbers; Zarr reads an empty one as NaN."""
    with _damage_named(path, file, do):
        if file.is_file() and file.stat().st_size < least:
            raise ValueError(f"it has {file.stat().st_size} bytes, and its numbers take {least}")


def array_of(group: zarr.Group, name: str) -> Any:
    """Return an array of the group; typed Any because zarr's own annotation also admits a group."""
    return group[name]


def _record(group: zarr.Group) -> dict[str, Any]:
    """Return the store's record: "sites" and "samples" by name, and "parts", digests of its spec."""
    record: Any = group.attrs[STORE_KEY]
    return dict(record)


def _missing_chunks(path: Path, group: zarr.Group) -> tuple[int, ...]:
    """Return the chunks without a done flag, or whose files are gone."""
    flags = array_of(group, "done")
    try:
        done = np.asarray(flags[:])
    except Exception:  # one by one, to name the broken one
        done = np.array([_flag(path, flags, chunk) for chunk in range(flags.size)])
    return tuple(chunk for chunk in range(len(done)) if not (done[chunk] and _filled(path, group, chunk)))


def _filled(path: Path, group: zarr.Group, chunk: int) -> bool:
    """Return whether a chunk's files are there and not empty: Zarr reads an empty one as missing numbers."""
    return all(shard.is_file() and shard.stat().st_size > 0 for shard in _shards(path, group, chunk))


def _flag(path: Path, flags: Any, chunk: int) -> bool:
    with _damage_named(path, path / "done" / "c" / str(chunk), _REDO):
        return bool(flags[chunk])


def _shards(path: Path, group: zarr.Group, chunk: int) -> list[Path]:
    """Return the files of one chunk, one per site."""
    sites = _record(group)["sites"]
    inner = ["0"] * (array_of(group, sites[0]).ndim - 1)
    return [path.joinpath(site, "c", str(chunk), *inner) for site in sites]


def _labelled(path: Path, group: zarr.Group) -> xr.Dataset:
    """Return the store as a dataset with its coordinates in memory and its activations on disk."""
    small: dict[str, np.ndarray] = {}
    for name in ("layer", "residual_norm", *_record(group)["samples"]):
        file = path / name / "c" / "0"
        with _damage_named(path, file):
            if not file.is_file():  # Zarr would give zeros and empty text for it
                raise FileNotFoundError("it is gone")
            values = array_of(group, name)[:]
        # text of fixed width: numpy's StringDType, which Zarr gives, is not understood everywhere
        small[name] = np.array(values.tolist(), dtype=str) if values.dtype.kind == "T" else values
    data = xr.open_zarr(path, consolidated=False, chunks=None, zarr_format=3)
    # Zarr lists a group in the order in which its files answer, which differs from one opening to the next.
    data = data.drop_vars(["done", *small])[list(_record(group)["sites"])]
    layers, norms = small.pop("layer"), small.pop("residual_norm")
    samples = {name: ("sample", values) for name, values in small.items()}
    return data.assign_coords({"layer": layers, **samples}).assign(residual_norm=("layer", norms))


def _verify(path: Path, group: zarr.Group) -> None:
    """Read every chunk once, so that checksums are compared; raise ActivationsError naming a bad file."""
    for chunk in range(array_of(group, "done").size):
        for site, shard in zip(_record(group)["sites"], _shards(path, group, chunk), strict=True):
            array = array_of(group, site)
            rows = slice(chunk * array.shards[0], (chunk + 1) * array.shards[0])
            _check_size(path, shard, array.dtype.itemsize * math.prod(array.shards), _REDO)
            with _damage_named(path, shard, _REDO):
                array[rows]


@dataclass(frozen=True, eq=False)
class ActivationStore:
    """A store that is being written. It keeps no file open: threads and worker processes may share it."""

    path: Path
    spec: StoreSpec

    @classmethod
    def open_or_create(cls, path: Path | str, spec: StoreSpec) -> ActivationStore:
        """Return the store at `path`: a new one, or the one that an earlier capture of the same spec began.

        Raises:
            ActivationsError: The disk is too full, another capture is there, or the folder is no store.
            DiskError: The folder cannot be written.
        """
        store = cls(Path(path), spec)
        if not store.path.exists() or (store.path.is_dir() and not any(store.path.iterdir())):
            require_disk(store.path, bytes_needed(spec))
            _create(store.path, spec)
            return store
        with _damage_named(store.path):
            parts = _record(_open_group(store.path))["parts"]
            differing = sorted(name for name, digest in spec.parts().items() if parts.get(name) != digest)
        if differing:
            asked, do = f"A capture into {path} was asked for", "Give another path, or delete it"
            raise UnusableStore(asked, f"another one stands there, with other {', '.join(differing)}", do)
        left = len(store.missing()) / spec.n_chunks
        require_disk(store.path, int(left * bytes_needed(spec)))
        return store

    def missing(self) -> tuple[int, ...]:
        """Return the chunks that are still to be written."""
        group = _open_group(self.path)
        with _damage_named(self.path):
            return _missing_chunks(self.path, group)

    def write_chunk(self, chunk: int, arrays: Mapping[str, np.ndarray]) -> bool:
        """Write all sites of one chunk; return False, and change nothing, where it is already done.

        Different chunks may be written at the same time, from threads or processes. Values have the shape
        (rows, layer, [frame,] feature) and any float dtype.

        Raises:
            ActivationsError: A site is missing, a shape is wrong, a number is not finite or beyond float16.
            DiskError: The disk is full or the store cannot be written.
        """
        rows = self.spec.rows(chunk)
        if set(arrays) != set(self.spec.sites):
            asked = f"The sites {', '.join(self.spec.sites)} were asked for"
            found = f"{', '.join(arrays) or 'none'} were given"
            raise ActivationsError(asked, found, "Write all sites of a chunk at once")
        checked = {site: _checked(self.spec, rows, site, values) for site, values in arrays.items()}
        group = _open_group(self.path, mode="r+")
        if _flag(self.path, array_of(group, "done"), chunk) and _filled(self.path, group, chunk):
            return False
        with disk_errors(self.path, sum(values.nbytes for values in checked.values())):
            for site, values in checked.items():
                array_of(group, site)[rows] = values
            array_of(group, "done")[chunk] = True  # last: a chunk without it is missing
        return True

    def finish(self) -> Activations:
        """Return the finished activations; ActivationsError where chunks are missing."""
        return open_activations(self.path)


def _create(path: Path, spec: StoreSpec) -> None:
    """Build the empty store beside its place and move it there: it is seen whole or not at all."""
    parts = spec.parts()  # before anything is written: it refuses what is no JSON
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    # A shard has one chunk of samples, in pieces of one layer that are read alone.
    shard, piece = (spec.chunk, *spec.shape[1:]), (spec.chunk, 1, *spec.shape[2:])
    pieces: dict[str, Any] = {"shards": shard, "chunks": piece, "fill_value": np.nan}
    norms = np.full(len(spec.layers), np.nan) if spec.residual_norm is None else spec.residual_norm
    try:
        with draft_in(path.parent) as draft:
            group = zarr.open_group(draft, mode="w-", zarr_format=3)
            for site in spec.sites:
                _new(group, site, spec.shape, dims=spec.dims, dtype=spec.dtype, **pieces)
            _new(group, "done", (spec.n_chunks,), dtype=bool, dims=("chunk",), chunks=(1,), fill_value=False)
            _write_whole(group, "layer", np.asarray(spec.layers, np.int64), dim="layer")
            _write_whole(group, "residual_norm", np.asarray(norms, np.float64), dim="layer")
            for name, values in spec.samples.items():
                _write_whole(group, name, np.asarray(values), dim="sample")
            record: Any = {"sites": list(spec.sites), "samples": list(spec.samples), "parts": parts}
            group.attrs.update({**spec.attrs, "coordinates": " ".join(spec.samples), STORE_KEY: record})
            group.attrs[STORE_KEY] = {**record, DIGEST: digest_of(_descriptions(draft))}
            draft.rename(path)
    except OSError:
        if not path.exists():  # otherwise another writer was first, and its store is as good
            with disk_errors(path, bytes_needed(spec)):
                raise


def _new(group: zarr.Group, name: str, shape: tuple[int, ...], *, dims: tuple[str, ...], **how: Any) -> Any:
    config: Any = {"write_empty_chunks": True}  # zeros and empty text are data, not an absent file
    return group.create_array(
        name, shape=shape, dimension_names=dims, compressors=(Crc32cCodec(),), config=config, **how
    )


def _write_whole(group: zarr.Group, name: str, values: np.ndarray, *, dim: str) -> None:
    """Write a small array that is complete from the start: text, or numbers of 8 bytes."""
    dtype: Any = {"f": np.float64, "i": np.int64, "u": np.int64, "b": np.int64}.get(values.dtype.kind, str)
    array = _new(group, name, values.shape, dims=(dim,), dtype=dtype, chunks=values.shape)
    array[:] = values.astype(object if dtype is str else dtype)


def _checked(spec: StoreSpec, rows: slice, site: str, values: np.ndarray) -> np.ndarray:
    """Return the values in the store's dtype, or raise ActivationsError."""
    values, absent = np.asarray(values), np.zeros((), bool)
    expected = (rows.stop - rows.start, *spec.shape[1:])
    if values.shape != expected:
        found, do = f"the shape is {values.shape}", f"The dimensions are {', '.join(spec.dims)}"
        raise ActivationsError(f"{site} of shape {expected} was asked for", found, do)
    if spec.frames is not None and "frames_held" in spec.samples:  # frames behind the end of a clip are NaN
        behind = np.arange(spec.frames) >= np.asarray(spec.samples["frames_held"])[rows, None]
        absent = np.broadcast_to(behind[:, None, :, None], values.shape)
    if not (np.isfinite(values) | absent).all():
        do = "Load the model with dtype='float32', or look at the clip"
        raise ActivationsError(f"Finite {site} was asked for", "some numbers are NaN or infinite", do)
    largest = float(np.max(np.abs(values), where=~absent, initial=0.0))
    if spec.dtype == np.float16 and largest > _FLOAT16_MAX:
        asked, found = f"{site} per frame is stored as float16", f"a value of {largest:.0f} lies beyond its"
        do = "Capture pooled activations, which are float32"
        raise ActivationsError(asked, f"{found} {_FLOAT16_MAX:.0f}", do)
    return values.astype(spec.dtype)
