"""What linear probes of every kind share: reading, directions, equality by value, and a file of their own.

A file is safetensors: the arrays as float64, and all else as JSON in its metadata, with a format that names
the kind of probe and a version. Files of another kind, another version, or with arrays that do not fit one
another are refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import pandas as pd

from workbench.errors import ProbeError, is_nan, is_number, is_text, is_whole, reason
from workbench.files import DIGEST, check_digest, pack_arrays, unpack_arrays, write_atomically
from workbench.steering import Direction

if TYPE_CHECKING:
    from workbench.activations import Activations

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
