"""What a store of activations will hold, decided before the first number is written, and how big it gets."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from workbench.errors import ActivationsError
from workbench.files import size_text
from workbench.sound.dataset import missing

LABEL = "label_"  # what the names of label coordinates begin with
RESERVED = ("sample", "layer", "frame", "feature", "residual_norm", "done")
_SHARD_BYTES = 32 << 20  # of one chunk of samples at one site: what an interrupted capture loses at most
_MAX_SAMPLES_PER_CHUNK = 64
_CRC_BYTES = 4
_INDEX_BYTES = 16  # offset and length of one inner chunk in a shard's index
_METADATA_BYTES = 2048  # a zarr.json is 0.5 to 1.5 kB


@dataclass(frozen=True, eq=False, kw_only=True)
class StoreSpec:
    """The shape and the labels of a store.

    Args:
        sites: names such as "resid_post", one array each.
        layers: 0-based blocks, ascending.
        d_model: size of the feature dimension.
        samples: sample coordinates, each of shape (n,): "clip" and "group", and as many of "label_<name>",
            "text", "row", "source" as are known. "frames_held" says how many frames of a sample are sound;
            the others are NaN.
        frames: frames per sample, None when the activations are pooled over time.
        attrs: what describes the capture, JSON values: model_id, dataset_fingerprint, pool, frame_rate_hz ...
        residual_norm: R_l, mean residual norm per layer, shape (len(layers),); None if it was not measured.
        samples_per_chunk: samples that are written at once; chosen from the sizes when None.

    Raises:
        ActivationsError: a part is empty, doubled, of the wrong length, or cannot be written down as JSON.
    """

    sites: tuple[str, ...]
    layers: tuple[int, ...]
    d_model: int
    samples: Mapping[str, np.ndarray]
    frames: int | None = None
    attrs: Mapping[str, Any] = field(default_factory=dict)
    residual_norm: np.ndarray | None = None
    samples_per_chunk: int | None = None

    def __post_init__(self) -> None:
        check_parts(self.sites, self.layers, self.samples)
        if self.d_model < 1 or (self.frames is not None and self.frames < 1):
            raise refusal(
                f"{self.d_model} features and {self.frames} frames were asked for",
                "a store holds at least one of each",
                "Use the model's d_model, and frames=None for pooled activations",
            )
        norms = self.residual_norm
        if norms is not None and np.shape(norms) != (len(self.layers),):
            raise refusal(
                f"A residual norm for each of {len(self.layers)} layers was asked for",
                f"the shape is {np.shape(norms)}",
                "Take the norms at the captured layers only",
            )
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
        """Shape of each site: (sample, layer, feature) or (sample, layer, frame, feature)."""
        return (self.n_samples, len(self.layers), *self._inner)

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the dimensions of each site."""
        return (
            ("sample", "layer", "feature") if self.frames is None else ("sample", "layer", "frame", "feature")
        )

    @property
    def bytes_per_sample(self) -> int:
        """Bytes of one sample at one site."""
        return int(np.prod(self.shape[1:])) * self.dtype.itemsize

    @property
    def _inner(self) -> tuple[int, ...]:
        return (self.d_model,) if self.frames is None else (self.frames, self.d_model)

    def rows(self, chunk: int) -> slice:
        """Return which samples a chunk holds."""
        return slice(chunk * self.chunk, min((chunk + 1) * self.chunk, self.n_samples))

    def parts(self) -> dict[str, str]:
        """Return a digest of each part, so that two specs can be told apart by name."""
        norms = None if self.residual_norm is None else np.asarray(self.residual_norm, np.float64).tolist()
        told: dict[str, Any] = {
            "sites": list(self.sites),
            "layers": [int(layer) for layer in self.layers],
            "shape": [*self.shape, self.chunk],
            "samples": {name: np.asarray(values).tolist() for name, values in self.samples.items()},
            "attrs": dict(self.attrs),
            "residual_norm": norms,
        }
        return {name: _digest(name, value) for name, value in told.items()}


def bytes_needed(spec: StoreSpec) -> int:
    """Return the bytes on disk that a finished store of this spec takes, exact to the size of its metadata.

    Activations are stored uncompressed (such floats shrink by 8 % at most): the size is known beforehand.
    """
    layers = len(spec.layers)
    shard = spec.chunk * spec.bytes_per_sample + layers * (_CRC_BYTES + _INDEX_BYTES) + _CRC_BYTES
    labels = sum(_label_bytes(np.asarray(values)) for values in spec.samples.values())
    arrays = len(spec.sites) + len(spec.samples) + 4  # layer, residual_norm, done, the group itself
    flags = spec.n_chunks * (1 + _CRC_BYTES)
    return shard * spec.n_chunks * len(spec.sites) + labels + flags + arrays * _METADATA_BYTES + 16 * layers


def check_parts(sites: tuple[str, ...], layers: tuple[int, ...], samples: Mapping[str, np.ndarray]) -> None:
    """Raise ActivationsError unless sites, layers and sample coordinates make one consistent table."""
    if not sites or len(set(sites)) < len(sites) or set(sites) & {*RESERVED, *samples}:
        raise refusal(
            "Distinct site names were asked for",
            f"{', '.join(sites) or 'none'} were given",
            "Use e.g. resid_post",
        )
    if not layers or list(layers) != sorted(set(layers)) or min(layers) < 0:
        raise refusal(
            "Ascending 0-based layers were asked for",
            f"{list(layers)} were given",
            "Sort them, each one once",
        )
    missing = [name for name in ("clip", "group") if name not in samples]
    if missing or set(samples) & set(RESERVED):
        raise refusal(
            "The sample coordinates clip and group were asked for",
            f"{', '.join(samples)} were given",
            "Add both",
        )
    lengths = {name: np.shape(values) for name, values in samples.items()}
    if len(set(lengths.values())) > 1 or len(lengths["clip"]) != 1 or lengths["clip"] == (0,):
        raise refusal(
            "One value per sample was asked for",
            f"the shapes are {lengths}",
            "Give each coordinate the shape (n,)",
        )
    for name, values in samples.items():
        if name in ("clip", "group") or name.startswith(LABEL):
            check_held(name, np.asarray(values))


def check_held(name: str, values: np.ndarray) -> None:
    """Raise ActivationsError with the count where clips, groups or labels (n,) are missing.

    A label that is a number may be NaN, and one that is text may be empty: whoever needs all of them says so.
    """
    if name.startswith(LABEL) and values.dtype.kind == "f":
        return
    lacking = int(missing(values, empty=not name.startswith(LABEL)).sum())
    if lacking:
        what = f"label {name[len(LABEL) :]!r}" if name.startswith(LABEL) else name
        raise refusal(
            f"A {what} for each of {len(values)} samples was asked for",
            f"{lacking} of them have none (None, NaN or empty)",
            "Leave these samples out, or fill them in",
        )


def refusal(asked: str, found: str, do: str) -> ActivationsError:
    """Return an ActivationsError that says what was asked, what was found, what to do."""
    return ActivationsError(asked, found, do)


def _label_bytes(values: np.ndarray) -> int:
    """Return the stored size of a sample coordinate: 8 bytes a number, length plus UTF-8 for text."""
    if values.dtype.kind in "OUST":
        return 2 * _CRC_BYTES + sum(4 + len(str(value).encode()) for value in values.tolist())
    return _CRC_BYTES + 8 * len(values)


def _digest(name: str, value: Any) -> str:
    try:
        return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
    except TypeError as error:
        raise refusal(
            f"{name} of a store were given", f"they are no JSON values ({error})", "Use text and numbers"
        ) from error


# What a capture takes of memory and disk: told before it starts, and refused where it does not fit.


_CGROUPS = (  # version 2, then version 1: folder, limit, use
    ("/sys/fs/cgroup", "memory.max", "memory.current"),
    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
)
_FILE_CACHE = ("inactive_file", "total_inactive_file")  # counted as used, and given back when asked for


@dataclass(frozen=True)
class Cost:
    """What a capture needs at most, in bytes; forecasts of memory are rounded up rather than down.

    Args:
        samples: samples of the finished array.
        result: its numbers.
        memory: main memory at once, the result included where it lies there.
        device: memory of the accelerator at once; 0 where the model runs on the CPU.
        disk: size of the store; 0 where the result stays in memory.
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

    def check(self, path: Path | None = None, *, free_device: int | None = None) -> None:
        """Raise ActivationsError where this does not fit into free memory, or on the disk under `path`."""
        if path is not None:
            require_disk(path, self.disk)
        kinds = [("memory", self.memory, free_memory())]
        if free_device is not None:
            kinds.append(("the accelerator's memory", self.device, free_device))
        for kind, needed, free in kinds:
            if needed > free:
                raise refusal(
                    f"A capture of {self.samples} samples was asked for",
                    f"it needs {size_text(needed)} of {kind} and {size_text(free)} are free",
                    "Use a smaller batch, fewer layers or sites, pooled activations"
                    + ("" if self.disk else ", or let the result lie on disk (path=...)"),
                )


def free_memory() -> int:
    """Return the bytes of main memory that can be taken: what the machine and this process's group allow."""
    return min([int(psutil.virtual_memory().available), *_group_allowances()])


def _group_allowances() -> list[int]:
    """Return what the memory limits of a container or a batch job leave; empty where there are none."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    names = {line.split(":", 2)[2].lstrip("/") for line in lines if line.split(":", 2)[1] in ("", "memory")}
    found = []
    for root, limit, use in _CGROUPS:
        folders = {Path(root), *(Path(root) / name for name in names)}
        found += [_allowance(folder / limit, folder / use, folder / "memory.stat") for folder in folders]
    return [free for free in found if free is not None]


def _allowance(limit: Path, use: Path, stat: Path) -> int | None:
    """Return what a group may still take, None where it has no limit."""
    try:
        most, used = limit.read_text().strip(), int(use.read_text())
        told = dict(line.split() for line in stat.read_text().splitlines())
    except (OSError, ValueError):
        return None
    cache = max(int(told.get(name, 0)) for name in _FILE_CACHE)
    return max(0, int(most) - used + cache) if most.isdigit() else None


def require_disk(path: Path, needed: int) -> None:
    """Raise ActivationsError when the disk under `path` has less than `needed` bytes free."""
    parent = path.absolute()
    while not parent.exists():
        parent = parent.parent
    free = shutil.disk_usage(parent).free
    if needed > free:
        raise refusal(
            f"Activations of {size_text(needed)} were asked for at {path}",
            f"the disk has {size_text(free)} free",
            'Pool them (pool="mean"), take fewer layers or clips, or give a path on another disk',
        )
