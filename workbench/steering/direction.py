"""A direction in the residual stream of one layer: a vector that knows its origin, with plain algebra."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from workbench.activations.heads import HEAD_SITE, head_name, head_slice
from workbench.errors import SteeringError, is_nan, is_number, is_text, reason, whole_number
from workbench.files import DIGEST, check_digest, pack_arrays, unpack_arrays, write_atomically
from workbench.steering.gate import Gate
from workbench.steering.plan import Steering
from workbench.steering.schedule import Schedule, constant
from workbench.steering.term import Term

Vector = np.ndarray[tuple[int], np.dtype[np.float32]]
_FORMAT = "musicgen-workbench direction 1"


@dataclass(frozen=True, eq=False)
class Direction:
    """A vector at one layer and site of one model. Algebra leaves its length alone; `.unit()` makes it 1.

    vector         (d,) float32, read-only
    residual_norm  R: the mean norm of the residual stream at this layer, the unit that a dose is counted in
    centre         <mu, vector>, the mean projection of the data it is from; `remove` moves the stream there
    origin         where it is from: method, model_id, dataset_fingerprint, score ... (of these only model_id
                   is part of its identity)
    """

    vector: Vector
    layer: int
    site: str = "resid_post"
    name: str = field(default="direction", kw_only=True)
    residual_norm: float = field(default=math.nan, kw_only=True)
    centre: float = field(default=0.0, kw_only=True)
    origin: Mapping[str, str] = field(default_factory=dict, kw_only=True)

    # `np.ones(3) * direction` must fail here instead of becoming an array of three directions.
    __array_ufunc__ = None

    def __post_init__(self) -> None:
        vector = _as_vector(self.vector)
        if vector.ndim != 1 or vector.size == 0 or not np.isfinite(vector).all():
            raise SteeringError(
                f"A direction {self.name!r} was asked for",
                f"its vector has the shape {vector.shape} and {(~np.isfinite(vector)).sum()} bad numbers",
                "Pass one finite vector of the model's width",
            )
        if problem := _problem(self):
            raise SteeringError("A direction was asked for", *problem)
        vector.setflags(write=False)
        layer = whole_number(self.layer, f"A direction {self.name!r} at the layer", SteeringError)
        object.__setattr__(self, "layer", layer)
        object.__setattr__(self, "vector", vector)
        object.__setattr__(self, "origin", {str(key): str(value) for key, value in self.origin.items()})

    @cached_property
    def norm(self) -> float:
        """The length |v|."""
        return float(np.linalg.norm(self.vector.astype(np.float64)))

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the name and all that acts: vector, layer, site, residual norm, centre, model."""
        acting = [
            self.name,
            self.layer,
            self.site,
            self.residual_norm,
            self.centre,
            self.origin.get("model_id", ""),
        ]
        digest = hashlib.sha256(json.dumps(acting).encode())
        digest.update(self.vector.tobytes())
        return digest.hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Direction) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __add__(self, other: Direction) -> Direction:
        return self._joined(other, 1.0, f"{self.name} + {other.name}")

    def __sub__(self, other: Direction) -> Direction:
        return self._joined(other, -1.0, f"{self.name} - {_bracketed(other.name, ' ')}")

    def __mul__(self, factor: float) -> Direction:
        return self._scaled(float(factor), f"{float(factor):g}*{_bracketed(self.name, ' ')}")

    __rmul__ = __mul__

    def __neg__(self) -> Direction:
        return self._scaled(-1.0, f"-{_bracketed(self.name, ' ')}")

    def unit(self) -> Direction:
        """Return the direction at length 1, same name; raise SteeringError when it has no length."""
        if self.norm < 1e-12:
            raise SteeringError(
                f"{self.name!r} was to be made length 1",
                "its length is 0: what was combined cancels out",
                "Combine directions that differ",
            )
        return self._scaled(1.0 / self.norm, self.name)

    def named(self, name: str) -> Direction:
        """Return the same direction under another name."""
        return replace(self, name=name)

    def cosine(self, other: Direction) -> float:
        """Return the cosine of the angle to `other`, from -1 to 1."""
        self._same_space(other, "compared")
        along = float(self.vector.astype(np.float64) @ other.vector.astype(np.float64))
        return along / max(self.norm * other.norm, 1e-30)

    def orthogonal_to(self, other: Direction) -> Direction:
        """Return what is left of this direction when its part along `other` is taken out (unnormalised)."""
        self._same_space(other, "made orthogonal")
        axis = other.unit()
        along = float(self.vector.astype(np.float64) @ axis.vector.astype(np.float64))
        return (self + axis._scaled(-along, other.name)).named(
            f"{self.name} without {_bracketed(other.name, ' ')}"
        )

    def head(self, head: int, n_heads: int) -> Direction:
        """Return the part of a `head_out` direction that lies in one attention head, 0 elsewhere.

        Its length is what it is (`.unit()` before `.at`). How far the data project on a part is not known,
        so its centre is 0: `remove` takes the part out instead of moving it to the average.
        Raises SteeringError for another site, ActivationsError for a head that does not exist.
        """
        if self.site != HEAD_SITE:
            raise SteeringError(
                f"Head {head} of {self.name!r} was asked for",
                f"it is a direction at {self.site!r}, where heads are mixed",
                f"Make a direction at {HEAD_SITE!r}",
            )
        part = np.zeros_like(self.vector)
        own = head_slice(self.vector.size, n_heads, head)
        part[own] = self.vector[own]
        name = f"{self.name} {head_name(self.layer, head)}"
        return replace(self, vector=part, name=name, centre=0.0, origin={**self.origin, "head": str(head)})

    def at(
        self,
        dose: float,
        *,
        schedule: Schedule | None = None,
        operation: str = "add",
        rows: str = "cond",
        layer: int | None = None,
        chance: float = 1.0,
        gate: Gate | None = None,
    ) -> Steering:
        """Return the plan with this one term. The direction must have length 1 (`.unit()`).

        dose   multiples of `residual_norm` for add and keep_norm; a for paper; weight 0-1 for remove; target
               for clamp
        layer  where it acts; None is the layer that it was made at
        chance the probability with which each step acts, 1 is always
        gate   steers only while a probe reads what the gate says (`probe.gate`); None always
        Raises SteeringError for a length other than 1 and for doses, operations and rows that do not exist.
        """
        when = schedule or constant()
        return Steering((Term(self, dose, when, operation, layer, rows, chance=chance, gate=gate),))

    def save(self, path: Path | str) -> Path:
        """Write the vector as safetensors, all else as JSON in its metadata; return the path.

        Raises DiskError when the disk is full or the folder cannot be written; an older file is then whole.
        """
        kept = {
            "format": _FORMAT,
            "layer": self.layer,
            "site": self.site,
            "name": self.name,
            "centre": self.centre,
        }
        kept |= {"residual_norm": self.residual_norm, "origin": self.origin}
        return write_atomically(path, pack_arrays(kept, {"vector": self.vector}))

    @classmethod
    def load(cls, path: Path | str, *, notice: bool = True) -> Direction:
        """Return the direction that `save` wrote; raise SteeringError for another file, or a damaged one.

        notice  whether to warn of a file from an older version, which carries no digest
        """
        try:
            kept, arrays = unpack_arrays(path)
            if kept["format"] != _FORMAT:
                raise KeyError("format")
            plain = {name: value for name, value in kept.items() if name not in ("format", DIGEST)}
            direction = cls(arrays["vector"], **plain)
            check_digest(path, kept, arrays, notice=notice)
            return direction
        except Exception as error:  # a damaged file can be wrong in any way
            found = f"the file holds none ({reason(error)})"
            raise SteeringError(
                f"A direction was asked for from {path}", found, "Use a file that Direction.save wrote"
            ) from error

    def _scaled(self, factor: float, name: str) -> Direction:
        if not math.isfinite(factor):
            raise SteeringError(
                f"{factor} times {self.name!r} was asked for",
                "a factor must be finite",
                "Use a number such as 0.6",
            )
        vector = (self.vector.astype(np.float64) * factor).astype(np.float32)
        return replace(self, vector=vector, centre=self.centre * factor, name=name)

    def _joined(self, other: Direction, sign: float, name: str) -> Direction:
        self._same_space(other, "added")
        model_id = self.origin.get("model_id") or other.origin.get("model_id", "")
        origin = {"method": "algebra", "expression": name, "model_id": model_id}
        centre = self.centre + sign * other.centre
        return replace(
            self, vector=self.vector + sign * other.vector, centre=centre, name=name, origin=origin
        )

    def _same_space(self, other: Direction, verb: str) -> None:
        """Raise SteeringError unless both directions live in the same stream of the same model."""
        for what, mine, theirs in (
            ("layer", self.layer, other.layer),
            ("site", self.site, other.site),
            ("width", self.vector.size, other.vector.size),
            ("model", self.origin.get("model_id") or None, other.origin.get("model_id") or None),
        ):
            if mine != theirs and None not in (mine, theirs):
                raise SteeringError(
                    f"{self.name!r} and {other.name!r} were to be {verb}",
                    f"their {what}s differ: {mine} and {theirs}",
                    "Use directions of one layer and site of one model",
                )


def _problem(one: Direction) -> tuple[str, str] | None:
    """Return (found, do) when what stands beside the vector is no place, name or number."""
    norm = one.residual_norm
    if not one.name:
        return "its name is empty", "Give it a name"
    if not (is_text(one.name) and is_text(one.site) and one.site):
        return f"its name is {one.name!r} and its site {one.site!r}", "Give text"
    if not (is_number(norm, 0) or is_nan(norm)):
        return f"its residual norm is {norm!r}", "Give a number from 0, or NaN where it is not known"
    if not is_number(one.centre):
        return f"its centre is {one.centre!r}", "Give a finite number"
    return None if isinstance(one.origin, Mapping) else (f"its origin is {one.origin!r}", "Give a mapping")


def _as_vector(values: Any) -> Vector:
    """Return a copy of `values` as float32, of tensors in any precision and on any device too.

    What holds no numbers comes back as one NaN.
    """
    if type(values).__module__ == "torch":  # numpy has no bfloat16; torch need not be imported to be told
        values = values.detach().float().cpu()
    try:
        return np.array(np.nan if np.iscomplexobj(values) else values, dtype=np.float32)
    except (TypeError, ValueError):
        return np.array([np.nan], dtype=np.float32)


def _bracketed(name: str, sign: str) -> str:
    """Return the name in brackets when it is itself a sum or difference."""
    return f"({name})" if sign in name else name


def random_direction(like: Direction, seed: int) -> Direction:
    """Return a unit Gaussian direction in the place of `like`: the control that an effect must beat."""
    gaussian = np.random.default_rng(seed).standard_normal(like.vector.size)
    origin = {"method": "random", "seed": str(seed), "model_id": like.origin.get("model_id", "")}
    vector: Vector = (gaussian / np.linalg.norm(gaussian)).astype(np.float32)
    return replace(like, vector=vector, name=f"random_{seed}", centre=0.0, origin=origin)
