"""Opening a store: what is finished, what is missing, what is damaged."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr

from workbench.activations.spec import refusal
from workbench.activations.values import STORE_KEY, Activations
from workbench.errors import ActivationsError, is_text, reason
from workbench.files import DIGEST, check_digest

_VERIFY_AT_ONCE = 512 << 20  # bytes; larger stores are verified piece by piece, as they are read
_BROKEN = (ValueError, OSError, RuntimeError, KeyError)  # what zarr raises on damaged files
_REDO = "Delete this file and run the same capture again: it does only what is missing"
_RESTART = "Delete the store and capture again"


class UnusableStore(ActivationsError):
    """A store that is damaged, foreign or of another capture.

    `file` is the one that is damaged; the capture does it again once it is deleted. None: all of the store.
    """

    file: Path | None = None


def open_activations(path: Path | str, *, verify: bool | None = None) -> Activations:
    """Return the activations of a finished store; numbers are read when they are asked for.

    Args:
        path: folder of the store.
        verify: read everything once and compare checksums; by default stores up to 512 MB. Every later read
            is compared in any case.

    Raises:
        ActivationsError: there is no store, chunks are unfinished, or a file is damaged and named.
    """
    path = Path(path)
    group = open_group(path)
    with telling_damage(path):
        return _opened(path, group, verify=verify)


def _opened(path: Path, group: zarr.Group, *, verify: bool | None) -> Activations:
    """Return the activations of a group whose description holds together."""
    missing = missing_chunks(path, group)
    if missing:
        total = array_of(group, "done").size
        raise refusal(
            f"The activations of {path} were asked for",
            f"{len(missing)} of {total} chunks are unfinished (the first is {missing[0]})",
            "Run the same capture again: it does only what is missing",
        )
    activations = Activations(_labelled(path, group), path)
    if verify or (verify is None and activations.data.nbytes <= _VERIFY_AT_ONCE):
        _verify(path, group)
    return activations


@contextmanager
def telling_damage(path: Path) -> Iterator[None]:
    """Turn whatever a damaged description raises into an ActivationsError that names the store."""
    try:
        yield
    except ActivationsError:
        raise
    except Exception as error:  # a damaged description can be wrong in any way
        raise _damaged(path, path / "zarr.json or one below it", error, _RESTART) from error


def open_group(path: Path, mode: Any = "r") -> zarr.Group:
    """Return the Zarr group of a store, or raise ActivationsError when the folder is none."""
    asked = f"The activations of {path} were asked for"
    if not path.exists():
        raise refusal(asked, "there is no store", "Capture them first, or check the path")
    try:
        group = zarr.open_group(path, mode=mode, zarr_format=3)
        own = STORE_KEY in group.attrs and "done" in group
    except Exception as error:  # a damaged description can be wrong in any way
        found = f"it cannot be opened as a store ({reason(error)})"
        raise UnusableStore(asked, found, "Give the path of a capture") from error
    if not own:
        raise UnusableStore(asked, "the folder is no store of the workbench", "Give the path of a capture")
    if mode == "r":
        with telling_damage(path):
            _compare_descriptions(path, group)
            _check_described(path, group)
    return group


def descriptions(path: Path) -> dict[str, Any]:
    """Return what the store and its arrays say of themselves, by name; the digest of it all is left out."""
    told = {file.parent.name: json.loads(file.read_text("utf-8")) for file in path.glob("*/zarr.json")}
    told[""] = json.loads((path / "zarr.json").read_text("utf-8"))
    told[""]["attributes"][STORE_KEY].pop(DIGEST, None)
    return told


def _compare_descriptions(path: Path, group: zarr.Group) -> None:
    """Raise ValueError where the description of a store is not what it was when the store was made."""
    told, record = descriptions(path), record_of(group)
    unknown = set(record) - {"sites", "samples", "parts", DIGEST}
    if unknown:  # a name of the record that is damaged, perhaps that of the digest itself
        raise ValueError(f"its record holds {', '.join(sorted(unknown))}")
    check_digest(path, told | {DIGEST: record[DIGEST]} if DIGEST in record else told)


def _check_described(path: Path, group: zarr.Group) -> None:
    """Raise an error unless the arrays fit one another and their files: a shape may ask for any memory."""
    record = record_of(group)
    sites, samples = record["sites"], record["samples"]
    if not (isinstance(record["parts"], dict) and sites and all(map(is_text, [*sites, *samples]))):
        raise ValueError("its record is none")
    held = {name: array_of(group, name) for name in ("done", "layer", "residual_norm", *samples, *sites)}
    shape, chunk = held[sites[0]].shape, held[sites[0]].shards[0]
    labels = dict.fromkeys(samples, shape[:1]) | dict.fromkeys(("layer", "residual_norm"), shape[1:2])
    wanted = labels | dict.fromkeys(sites, shape) | {"done": (-(-shape[0] // chunk),)}
    for name, array in held.items():
        if array.shape != wanted[name] or (name in labels and array.chunks != array.shape):
            raise ValueError(f"{name} has the shape {array.shape} where {wanted[name]} was expected")
        if name in sites and (array.shards != (chunk, *shape[1:]) or array.chunks != (chunk, 1, *shape[2:])):
            raise ValueError(f"{name} lies in pieces of {array.shards}")
        least = 4 * array.size if name in labels else array.dtype.itemsize * math.prod(array.shards or (1,))
        first = path.joinpath(name, "c", *["0"] * array.ndim)
        _check_size(path, first, least, _RESTART if name in labels else _REDO)


def _check_size(path: Path, file: Path, least: int, do: str) -> None:
    """Raise ActivationsError where a file is shorter than its numbers; Zarr reads an empty one as NaN."""
    if file.is_file() and file.stat().st_size < least:
        error = ValueError(f"it has {file.stat().st_size} bytes, and its numbers take {least}")
        raise _damaged(path, file, error, do)


def array_of(group: zarr.Group, name: str) -> Any:
    """Return an array of the group; typed Any because zarr's own annotation also admits a group."""
    return group[name]


def record_of(group: zarr.Group) -> dict[str, Any]:
    """Return the store's record: "sites" and "samples" by name, and "parts", digests of its spec."""
    record: Any = group.attrs[STORE_KEY]
    return dict(record)


def missing_chunks(path: Path, group: zarr.Group) -> tuple[int, ...]:
    """Return the chunks without a done flag, or whose files are gone."""
    flags = array_of(group, "done")
    try:
        done = np.asarray(flags[:])
    except _BROKEN:
        done = np.array(
            [_flag(path, flags, chunk) for chunk in range(flags.size)]
        )  # says which one is broken
    files = {chunk: _shards(path, group, chunk) for chunk in np.flatnonzero(done).tolist()}
    held = {chunk for chunk, shards in files.items() if all(map(_filled, shards))}
    return tuple(chunk for chunk in range(len(done)) if chunk not in held)


def is_done(path: Path, group: zarr.Group, chunk: int) -> bool:
    """Return whether one chunk is finished and its files are there."""
    done = _flag(path, array_of(group, "done"), chunk)
    return done and all(map(_filled, _shards(path, group, chunk)))


def _filled(shard: Path) -> bool:
    """Return whether a file is there and not empty: Zarr reads an empty one as numbers that are missing."""
    return shard.is_file() and shard.stat().st_size > 0


def _flag(path: Path, flags: Any, chunk: int) -> bool:
    try:
        return bool(flags[chunk])
    except _BROKEN as error:
        raise _damaged(path, path / "done" / "c" / str(chunk), error, _REDO) from error


def _shards(path: Path, group: zarr.Group, chunk: int) -> list[Path]:
    """Return the files that hold one chunk, one per site."""
    sites = record_of(group)["sites"]
    inner = ["0"] * (array_of(group, sites[0]).ndim - 1)
    return [path.joinpath(site, "c", str(chunk), *inner) for site in sites]


def _labelled(path: Path, group: zarr.Group) -> xr.Dataset:
    """Return the store as a dataset with its coordinates in memory and its activations on disk."""
    held: dict[str, np.ndarray] = {}
    for name in ("layer", "residual_norm", *record_of(group)["samples"]):
        file = path / name / "c" / "0"
        if not file.is_file():  # Zarr would give zeros and empty text for it
            raise _damaged(path, file, FileNotFoundError("it is gone"), _RESTART)
        try:
            held[name] = array_of(group, name)[:]
        except _BROKEN as error:
            raise _damaged(path, file, error, _RESTART) from error
    data = xr.open_zarr(path, consolidated=False, chunks=None, zarr_format=3)
    data = data.drop_vars(["done", *held])
    layers, norms = held.pop("layer"), held.pop("residual_norm")
    samples = {name: ("sample", _plain(values)) for name, values in held.items()}
    return data.assign_coords({"layer": layers, **samples}).assign(residual_norm=("layer", norms))


def _plain(values: np.ndarray) -> np.ndarray:
    """Return text of fixed width: numpy's StringDType, which Zarr gives, is not understood everywhere."""
    return np.array(values.tolist(), dtype=str) if values.dtype.kind == "T" else values


def _verify(path: Path, group: zarr.Group) -> None:
    """Read every chunk once, so that checksums are compared; raise ActivationsError naming a bad file."""
    for chunk in range(array_of(group, "done").size):
        for site, shard in zip(record_of(group)["sites"], _shards(path, group, chunk), strict=True):
            array = array_of(group, site)
            rows = slice(chunk * array.shards[0], (chunk + 1) * array.shards[0])
            _check_size(path, shard, array.dtype.itemsize * math.prod(array.shards), _REDO)
            try:
                array[rows]
            except _BROKEN as error:
                raise _damaged(path, shard, error, _REDO) from error


def _damaged(path: Path, file: Path, error: Exception, do: str) -> UnusableStore:
    made = UnusableStore(f"The activations of {path} were asked for", f"{file} is damaged ({error})", do)
    made.file = file if do == _REDO else None
    return made
