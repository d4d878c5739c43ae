"""What a store of activations will contain, and what a capture takes of memory and disk: decided beforehand.

Where a capture does not fit into memory or on the disk it is refused before the first number is computed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from workbench.errors import ActivationsError, WorkbenchError
from workbench.files import free_on_disk, size_text
from workbench.sound.dataset import missing

LABEL = "label_"  # what the names of label coordinates begin with
RESERVED = ("sample", "layer", "frame", "feature", "residual_norm", "done")
_SHARD_BYTES = 32 << 20  # of one chunk of samples at one site: what an interrupted capture loses at most
_MAX_SAMPLES_PER_CHUNK = 64
_CRC_BYTES = 4
_INDEX_BYTES = 16  # offset and length of one inner chunk in a shard's index
_METADATA_BYTES = 2048  # a zarr.json is 0.5 to 1.5 kB
_CGROUPS = (  # version 2, then version 1: folder, limit, use
    ("/sys/fs/cgroup", "memory.max", "memory.current"),
    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
)
_FILE_CACHE = ("inactive_file", "total_inactive_file")  # counted as used, but free on demand


@dataclass(frozen=True, eq=False, kw_only=True)
class StoreSpec:
    """The shape and the labels of a store.

    The sample coordinates, each of shape (n,), are "clip" and "group", and as many of "label_<name>", "text",
    "row", "source" as are known. "frames_held" says how many frames of a sample are sound, others are NaN.
    The attributes describe the capture in JSON values: model_id, dataset_fingerprint, pool, frame_rate_hz ...
    """

    sites: tuple[str, ...]
    layers: tuple[int, ...]  # 0-based blocks, ascending
    d_model: int
    samples: Mapping[str, np.ndarray]
    frames: int | None = None  # per sample; None when the activations are pooled over time
    attrs: Mapping[str, Any] = field(default_factory=dict)
    residual_norm: np.ndarray | None = None  # R_l per layer (len(layers),); None if it was not measured
    samples_per_chunk: int | None = None  # that are written at once; chosen from the sizes when None

    def __post_init__(self) -> None:
        check_parts(self.sites, self.layers, self.samples)
        if self.d_model < 1 or (self.frames is not None and self.frames < 1):
            asked = f"{self.d_model} features and {self.frames} frames were asked for"
            do = "Use the model's d_model, and frames=None for pooled activations"
            raise ActivationsError(asked, "a store has at least one of each", do)
        norms = self.residual_norm
        if norms is not None and np.shape(norms) != (len(self.layers),):
            asked = f"A residual norm for each of {len(self.layers)} layers was asked for"
            found, do = f"the shape is {np.shape(norms)}", "Take the norms at the captured layers only"
            raise ActivationsError(asked, found, do)
        if self.samples_per_chunk is None:
            fitting = _SHARD_BYTES // self.bytes_per_sample
            object.__setattr__(self, "samples_per_chunk", max(1, min(_MAX_SAMPLES_PER_CHUNK, fitting)))

    @property
    def n_samples(self) -> int:
        """Number of samples."""
        return len(self.samples["clip"])

    @property
    def chunk(self) -> int:
        """Samples per chunk."""
        return int(self.samples_per_chunk or 1)

    @property
    def n_chunks(self) -> int:
        """Number of chunks, the last one possibly smaller."""
        return -(-self.n_samples // self.chunk)

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 for pooled activations, float16 per frame (where range is checked at writing)."""
        return np.dtype(np.float32 if self.frames is None else np.float16)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of each site, as `dims` names it."""
        sizes = {"sample": self.n_samples, "layer": len(self.layers), "feature": self.d_model}
        return tuple(sizes.get(name, self.frames or 0) for name in self.dims)

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the dimensions of each site: (sample, layer, [frame,] feature)."""
        return ("sample", "layer", *(() if self.frames is None else ("frame",)), "feature")

    @property
    def bytes_per_sample(self) -> int:
        """Bytes of one sample at one site."""
        return int(np.prod(self.shape[1:])) * self.dtype.itemsize

    def rows(self, chunk: int) -> slice:
        """Return which samples a chunk has."""
        if not 0 <= chunk < self.n_chunks:
            found, do = f"the store has chunks 0-{self.n_chunks - 1}", "Use one of store.missing()"
            raise ActivationsError.lookup(f"Chunk {chunk} was asked for", found, do)
        return slice(chunk * self.chunk, min((chunk + 1) * self.chunk, self.n_samples))

    def parts(self) -> dict[str, str]:
        """Return a digest of each part by name, to compare two specs."""
        norms = None if self.residual_norm is None else np.asarray(self.residual_norm, np.float64).tolist()
        samples = {name: np.asarray(values).tolist() for name, values in self.samples.items()}
        record: dict[str, Any] = {"sites": list(self.sites), "layers": [int(one) for one in self.layers]}
        record |= {"shape": [*self.shape, self.chunk], "samples": samples}
        record |= {"attrs": dict(self.attrs), "residual_norm": norms}
        for name, value in record.items():
            try:
                record[name] = hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
            except TypeError as error:
                asked, found = f"{name} of a store were given", f"they are no JSON values ({error})"
                raise ActivationsError(asked, found, "Use text and numbers") from error
        return record


def bytes_needed(spec: StoreSpec) -> int:
    """Return the bytes on disk that a finished store takes, exact to the size of its metadata."""
    layers, labels = len(spec.layers), 0
    for values in map(np.asarray, spec.samples.values()):
        if values.dtype.kind in "OUST":  # text takes its length and its UTF-8
            labels += 2 * _CRC_BYTES + sum(4 + len(str(value).encode()) for value in values.tolist())
        else:
            labels += _CRC_BYTES + 8 * len(values)
    shard = spec.chunk * spec.bytes_per_sample + layers * (_CRC_BYTES + _INDEX_BYTES) + _CRC_BYTES
    arrays = len(spec.sites) + len(spec.samples) + 4  # layer, residual_norm, done, the group itself
    flags = spec.n_chunks * (1 + _CRC_BYTES)
    return shard * spec.n_chunks * len(spec.sites) + labels + flags + arrays * _METADATA_BYTES + 16 * layers


def check_parts(sites: tuple[str, ...], layers: tuple[int, ...], samples: Mapping[str, np.ndarray]) -> None:
    """Raise ActivationsError unless sites, layers and sample coordinates make one consistent table."""
    lengths = {name: np.shape(values) for name, values in samples.items()}
    problem: tuple[str, ...] = ()
    if not sites or len(set(sites)) < len(sites) or set(sites) & {*RESERVED, *samples}:
        found = f"{', '.join(sites) or 'none'} were given"
        problem = "Distinct site names were", found, "Use e.g. resid_post"
    elif not layers or list(layers) != sorted(set(layers)) or min(layers) < 0:
        problem = "Ascending 0-based layers were", f"{list(layers)} were given", "Sort them, each one once"
    elif not {"clip", "group"} <= set(samples) or set(samples) & set(RESERVED):
        problem = "The coordinates clip and group were", f"{', '.join(samples)} were given", "Add both"
    elif len(set(lengths.values())) > 1 or len(lengths["clip"]) != 1 or lengths["clip"] == (0,):
        problem = "One value per sample was", f"the shapes are {lengths}", "Give each the shape (n,)"
    if problem:
        raise ActivationsError(f"{problem[0]} asked for", *problem[1:])
    for name, values in samples.items():
        if name in ("clip", "group") or name.startswith(LABEL):
            check_complete(name, np.asarray(values))


def check_complete(name: str, values: np.ndarray) -> None:
    """Raise ActivationsError with the count where clips, groups or labels (n,) are missing.

    A label that is a number may be NaN, and one that is text may be empty: whoever needs all of them says so.
    """
    label = name.startswith(LABEL)
    if label and values.dtype.kind == "f":
        return
    if lacking := int(missing(values, empty=not label).sum()):
        what = f"label {name[len(LABEL) :]!r}" if label else name
        asked = f"A {what} for each of {len(values)} samples was asked for"
        found = f"{lacking} of them have none (None, NaN or empty)"
        raise ActivationsError(asked, found, "Leave these samples out, or fill them in")


@dataclass(frozen=True)
class Cost:
    """What a capture needs at most, in bytes; forecasts of memory are rounded up rather than down.

    `samples` counts those of the finished array, `result` the bytes of its numbers, which `memory` includes
    where they lie there (`disk` is 0 then); `device` is memory of the accelerator, 0 on the CPU.
    """

    samples: int
    result: int
    memory: int
    device: int = 0
    disk: int = 0

    def sentence(self) -> str:
        """Return the forecast in plain words."""
        extra = f", {size_text(self.device)} of the accelerator's" if self.device else ""
        place = f"{size_text(self.disk)} of disk" if self.disk else "nothing on disk"
        return f"{self.samples} samples: at most {size_text(self.memory)} of memory{extra}, and {place}."

    def fits(self, free_device: int | None = None) -> bool:
        """Return whether there is memory for it, here and on an accelerator with so many free bytes."""
        return self.memory <= free_memory() and (free_device is None or self.device <= free_device)

    def check(
        self,
        path: Path | None = None,
        *,
        asked: str = "",
        do: str = "fewer layers or sites, pooled activations",
        error: type[WorkbenchError] = ActivationsError,
        free_device: int | None = None,
        smaller: Callable[[], int | None] = lambda: None,
    ) -> None:
        """Raise `error` where this does not fit into free memory, or on the disk under `path`.

        It names what was `asked`, the `smaller` batch that would fit, if there is one, and what else to `do`.
        """
        if path is not None:
            require_disk(path, self.disk)
        device = ("the accelerator's memory", self.device, free_device)
        for kind, needed, free in [("memory", self.memory, free_memory()), device]:
            if free is not None and needed > free:
                found = f"it needs {size_text(needed)} of {kind} and {size_text(free)} are free"
                batch = smaller()
                do = f"Use batch={batch}, which fits, {do}" if batch else f"Use a smaller batch, {do}"
                do += "" if self.disk or asked else ", or let the result lie on disk (path=...)"
                asked = asked or f"A capture of {self.samples} samples was asked for"
                raise error(asked, found, do)


def free_memory() -> int:
    """Return the bytes of main memory that are free, for the machine and in this process's group."""
    free = [int(psutil.virtual_memory().available)]
    try:
        lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    except OSError:
        return free[0]
    names = {name.lstrip("/") for _number, kind, name in lines if kind in ("", "memory")}
    for root, limit, use in _CGROUPS:
        for folder in {Path(root), *(Path(root) / name for name in names)}:
            with suppress(OSError, ValueError):  # there is no such group, or its limit is the word "max"
                most, used = (int((folder / file).read_text()) for file in (limit, use))
                counts = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
                cache = max(int(counts.get(name, 0)) for name in _FILE_CACHE)
                free.append(max(0, most - used + cache))
    return min(free)


def require_disk(path: Path, needed: int) -> None:
    """Raise ActivationsError when the disk under `path` has less than `needed` bytes free."""
    if needed > (free := free_on_disk(path)):
        asked = f"Activations of {size_text(needed)} were asked for at {path}"
        do = 'Pool them (pool="mean"), take fewer layers or clips, or give a path on another disk'
        raise ActivationsError(asked, f"the disk has {size_text(free)} free", do)
