"""What linear probes of every kind share: reading, directions, equality by value, and a file of their own.

A file is safetensors: the arrays as float64, and all else as JSON in its metadata, with a format that names
the kind of probe and a version. Files of another kind, another version, or with arrays that do not fit one
another are refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from workbench.errors import ProbeError, is_nan, is_number, is_text, is_whole, reason
from workbench.files import (
    DIGEST,
    check_digest,
    file_in,
    pack_arrays,
    unpack_arrays,
    write_atomically,
    write_together,
)
from workbench.probing.crossval import in_order
from workbench.steering import Direction, Gate, ReadOut

if TYPE_CHECKING:
    from workbench.activations import Activations

# From a probe's read-out to a gate: what probes of every kind say alike.


def one_sided(read_out: ReadOut, name: str, below: float | None, above: float | None, over: float) -> Gate:
    """Return the gate on P(`name`) with the one threshold that is given.

    over  how many seconds of readings are averaged
    Raises ProbeError unless one threshold is given, SteeringError for a name that is not known.
    """
    if below is not None and above is None:
        return Gate(read_out, name, "below", below, over)
    if above is not None and below is None:
        return Gate(read_out, name, "above", above, over)
    found = f"below={below} and above={above} were given"
    raise ProbeError(f"A gate on {name!r} was asked for", found, "Give one of both")


Array = np.ndarray


@dataclass(frozen=True, eq=False, kw_only=True)
class LinearProbe:
    """A linear probe in raw residual space: readings = x W' + b, the scaling of features folded back in.

    weights  (*rows, d) float64, read-only; rows is () where one number is read, else (names,)
    bias     (*rows,)
    mean     (d,) the average of the training samples
    """

    weights: Array
    bias: Array | float
    mean: Array
    layer: int
    site: str
    target: str
    scores: Any
    residual_norm: float
    model_id: str = ""
    dataset_fingerprint: str = ""

    kind: ClassVar[str]
    version: ClassVar[int] = 1
    tensors: ClassVar[tuple[str, ...]]
    scores_type: ClassVar[type[Any]]

    def __post_init__(self) -> None:
        for name in self.tensors:
            # Row order matters: safetensors writes the bytes of a transposed array as they lie.
            array = np.array(getattr(self, name), dtype=np.float64, order="C")
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        wanted = {"weights": (*self.rows, self.mean.size), "mean": (self.mean.size,)}
        for name in self.tensors:
            shape = getattr(self, name).shape
            if shape != wanted.get(name, self.rows):
                asked = f"A {self.kind} of the {self.target} at layer {self.layer} was asked for"
                found = f"its {name} have the shape {shape} where {wanted.get(name, self.rows)} was expected"
                raise ProbeError(asked, found, "Pass arrays that fit one another")
        if problem := _problem(self):
            asked = f"A {self.kind} of the {self.target} at layer {self.layer} was asked for"
            raise ProbeError(asked, problem, "Pass finite numbers, and text for names")
        object.__setattr__(self, "layer", int(self.layer))

    @property
    def rows(self) -> tuple[int, ...]:
        """The shape of one sample's reading."""
        raise NotImplementedError

    def read(self, x: Array) -> Array:
        """Return the readings (..., *rows) of residuals (..., d); raise ProbeError for others and for NaN."""
        try:
            x = np.asarray(x, dtype=np.float64)
        except (TypeError, ValueError) as error:
            found = f"these are no numbers ({error})"
            raise ProbeError("Residuals were to be read", found, "Pass an array of floats") from error
        if x.ndim == 0 or x.shape[-1] != self.mean.size:
            raise ProbeError(
                f"An array of shape {x.shape} was to be read by the probe of layer {self.layer}",
                f"it reads residuals of width {self.mean.size}",
                "Pass residuals of the model that it was fitted on",
            )
        broken = int((~np.isfinite(x).all(-1)).sum())
        if broken:
            raise ProbeError(
                f"{x[..., 0].size} sample(s) were to be read by the probe of layer {self.layer}",
                f"{broken} of them hold NaN or infinite numbers",
                "Leave them out (frames behind the end of a clip are NaN)",
            )
        return np.asarray(x @ self.weights.T + self.bias)

    def along(self, weights: Array, name: str, origin: Mapping[str, str]) -> Direction:
        """Return the unit direction of `weights` (d,), with all that the probe knows of its origin.

        origin  method, and held-out score by name
        """
        known = {
            "target": self.target,
            "model_id": self.model_id,
            "dataset_fingerprint": self.dataset_fingerprint,
        }
        return Direction(
            weights.astype(np.float32),
            self.layer,
            self.site,
            name=name,
            residual_norm=self.residual_norm,
            centre=float(self.mean @ weights),
            origin={**known, **origin},
        ).unit()

    def save(self, path: Path | str) -> Path:
        """Write the arrays as safetensors, all else as JSON in its metadata; return the path.

        Raises DiskError when the disk is full or the folder cannot be written; an older file is then whole.
        """
        return write_atomically(path, self.packed())

    def packed(self) -> bytes:
        """Return the bytes of the file that `save` writes."""
        arrays = {name: getattr(self, name) for name in self.tensors}
        return pack_arrays({"format": self._format()} | self._record(), arrays)

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Return the probe that `save` wrote; raise ProbeError for another kind of file, or a damaged one."""
        try:
            kept, arrays = unpack_arrays(path)
            held, wanted = kept["format"], cls._format()
            if held != wanted:
                raise ValueError(f"it is of the format {held!r}, not {wanted!r}")
            record = {name: value for name, value in kept.items() if name not in ("format", DIGEST)}
            record |= {name: arrays[name] for name in cls.tensors}
            probe = cls(scores=_scores_from(cls.scores_type, record.pop("scores")), **record)
            check_digest(path, kept, arrays)
            return probe
        except Exception as error:  # a damaged file can be wrong in any way
            found = f"the file holds none ({reason(error)})"
            do = f"Use a file that {cls.__name__}.save wrote"
            raise ProbeError(f"A {cls.kind} was asked for from {path}", found, do) from error

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, type(self)):
            return NotImplemented
        same = all(np.array_equal(getattr(self, name), getattr(other, name)) for name in self.tensors)
        # Compared as text, because a score that was not measured is NaN, which equals nothing.
        return same and json.dumps(self._record()) == json.dumps(other._record())

    def __hash__(self) -> int:
        return hash((json.dumps(self._record()), self.weights.tobytes()))

    @classmethod
    def _format(cls) -> str:
        return f"musicgen-workbench {cls.kind} {cls.version}"

    def _record(self) -> dict[str, Any]:
        """Return everything but the arrays, as JSON holds it."""
        kept = {name: value for name, value in vars(self).items() if name not in (*self.tensors, "scores")}
        return kept | {"scores": _scores_record(self.scores)}


def _problem(probe: LinearProbe) -> str:
    """Return what is wrong with the values of a probe, or an empty text."""
    names: dict[str, Any] = {
        name: getattr(probe, name) for name in ("site", "target", "model_id", "dataset_fingerprint")
    }
    for name in ("method", "classes", "labels"):
        value = getattr(probe, name, "")
        names |= dict.fromkeys(value, "") if isinstance(value, tuple) else {name: value}
    if not all(is_text(text) for pair in names.items() for text in pair):
        return f"its names are {names!r}"
    if not is_whole(probe.layer):
        return f"its layer {probe.layer!r} is no whole number from 0"
    if not all(np.isfinite(getattr(probe, name)).all() for name in probe.tensors if name != "strengths"):
        return "some of its numbers are not finite"
    numbers = {"residual_norm": probe.residual_norm, **vars(probe.scores)}
    numbers |= {name: getattr(probe, name, 0.0) for name in ("strength", "bias") if name not in probe.tensors}
    for name, value in numbers.items():
        if not (isinstance(value, pd.DataFrame) or is_number(value) or is_nan(value)):
            return f"its {name} is {value!r}"
    return ""


def origin_of(acts: Activations, layer: int) -> dict[str, Any]:
    """Return what a probe notes of the activations it is fitted on: R at its layer, model, dataset."""
    return {
        # Reading needs no R; where it was not measured it stays NaN, and only a dose refuses that.
        "residual_norm": float(acts.data["residual_norm"].sel(layer=layer)),
        "model_id": str(acts.data.attrs.get("model_id", "")),
        "dataset_fingerprint": str(acts.data.attrs.get("dataset_fingerprint", "")),
    }


def _scores_record(scores: Any) -> dict[str, Any]:
    """Return scores as JSON holds them; a table becomes its columns."""
    held = vars(scores).items()
    return {name: one.to_dict("list") if isinstance(one, pd.DataFrame) else one for name, one in held}


def _scores_from(kind: type[Any], record: dict[str, Any]) -> Any:
    return kind(**{name: pd.DataFrame(one) if isinstance(one, dict) else one for name, one in record.items()})


# What all sweeps share: the same work at every layer, and one probe per layer, found by its number.


P = TypeVar("P", bound=LinearProbe)
Result = TypeVar("Result")
SWEEP = "sweep.safetensors"


@dataclass(frozen=True, eq=False)
class Layered(Generic[P]):
    """One probe per layer, in the order of layers."""

    probes: tuple[P, ...]

    probe_type: ClassVar[type[Any]]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, type(self)):
            return NotImplemented
        (words, arrays), (their_words, their_arrays) = self._held(), other._held()
        return self.probes == other.probes and words == their_words and _same(arrays, their_arrays)

    def __hash__(self) -> int:
        return hash((type(self).__name__, self.probes))

    def __iter__(self) -> Iterator[P]:
        return iter(self.probes)

    def __len__(self) -> int:
        return len(self.probes)

    def __getitem__(self, layer: int) -> P:
        """Return the probe of `layer` (the number of the decoder block, not a position in the list)."""
        for probe in self.probes:
            if probe.layer == layer:
                return probe
        raise ProbeError(
            f"The probe of layer {layer} was asked for",
            f"the layers probed are {', '.join(str(held) for held in self.layers)}",
            "Use one of those, or fit again with layers=[...]",
        )

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that were probed."""
        return tuple(probe.layer for probe in self.probes)

    def save(self, folder: Path | str) -> Path:
        """Write one file per probe, as its own `save` does, and what was held out; return the folder.

        Raises DiskError when the disk is full or the folder cannot be written; an older sweep is then whole.
        """
        folder = Path(folder)
        files = {f"layer-{probe.layer}.safetensors": probe.packed() for probe in self.probes}
        words, arrays = self._held()
        digests = [hashlib.sha256(data).hexdigest() for data in files.values()]
        record = {"format": self._format(), "layers": self.layers, "probes": digests, "columns": words}
        files[SWEEP] = pack_arrays(record, arrays)
        older = {path.name: b"" for path in folder.glob("layer-*.safetensors")}  # of a sweep of more layers
        return write_together(folder, older | files)

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Return the sweep that `save` wrote; raise ProbeError for another kind, or one that is damaged."""
        folder = Path(folder)
        try:
            record, arrays = unpack_arrays(file_in(folder, SWEEP))
            if record["format"] != cls._format():
                raise ValueError(f"it is of the format {record['format']!r}, not {cls._format()!r}")
            check_digest(folder, record, arrays)
            probes = []
            for layer, digest in zip(record["layers"], record["probes"], strict=True):
                path = file_in(folder, f"layer-{layer}.safetensors")
                if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
                    raise ValueError(f"{path.name} is not the file that was saved with it")
                probes.append(cls.probe_type.load(path))
            return cls(tuple(probes), **_fields(record["columns"], arrays))
        except Exception as error:  # a damaged file can be wrong in any way
            found, do = f"it cannot be read ({reason(error)})", f"Use a folder that {cls.__name__}.save wrote"
            raise ProbeError(f"The probes in {folder} were asked for", found, do) from error

    @classmethod
    def _format(cls) -> str:
        return f"musicgen-workbench {cls.probe_type.kind} sweep 1"

    def _held(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return all but the probes: columns of tables (text; None where they are arrays), and arrays."""
        words: dict[str, Any] = {}
        arrays: dict[str, np.ndarray] = {}
        for one in fields(self):
            value = getattr(self, one.name)
            if isinstance(value, np.ndarray):
                arrays[one.name] = value
            elif isinstance(value, pd.DataFrame):
                numbers = [pd.api.types.is_numeric_dtype(value[name]) for name in value]
                words[one.name] = {
                    name: None if number else value[name].astype(str).tolist()
                    for name, number in zip(value, numbers, strict=True)
                }
                arrays |= {
                    f"{one.name}.{name}": value[name].to_numpy()
                    for name, number in zip(value, numbers, strict=True)
                    if number
                }
        return words, arrays


def _fields(columns: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return the tables and arrays that `_held` took apart."""
    tables = {
        table: pd.DataFrame(
            {
                name: arrays[f"{table}.{name}"] if words is None else np.array(words, dtype=str)
                for name, words in held.items()
            }
        )
        for table, held in columns.items()
    }
    return tables | {name: array for name, array in arrays.items() if "." not in name}


def _same(mine: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]) -> bool:
    """Return whether arrays have the same names and values; NaN equals NaN."""
    return mine.keys() == theirs.keys() and all(
        np.array_equal(mine[name], theirs[name], equal_nan=mine[name].dtype.kind == "f") for name in mine
    )


def layers_asked(acts: Activations, layers: Sequence[int] | None) -> list[int]:
    """Return the layers to be probed, all that are held when None; raise ProbeError for an empty list."""
    chosen = [int(layer) for layer in (acts.layers if layers is None else layers)]
    if not chosen:
        raise ProbeError("Probes were asked for", "the list of layers is empty", "Name at least one")
    return chosen


def each_layer(
    work: Callable[[int], Result], layers: Sequence[int], target: str, *, threads: int, progress: bool
) -> list[Result]:
    """Return `work(layer)` of every layer, in order; a bar that names the target shows after two seconds."""
    found, told = in_order(work, layers, threads=threads), f"Probing {target}"
    return list(tqdm(found, told, len(layers), unit="layer", disable=not progress, leave=False, delay=2))
