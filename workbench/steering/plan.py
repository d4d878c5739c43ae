"""Directions, and plans of what to do with them: immutable values that can be written down and read back.

As a file a plan is complete in itself: `about` (JSON as bytes) holds the terms as `Steering.to_json` writes
them and what else directions and read-outs are; their numbers are `vector_0` ..., `weights_0`, `bias_0` ...
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from safetensors.numpy import load, save
from safetensors.torch import load_file as load_tensors

from workbench.activations.activations import HEAD_SITE, head_name, head_slice
from workbench.errors import SteeringError, is_nan, is_number, is_text, reason, renamed_keywords, whole_number
from workbench.files import DIGEST, check_digest, digest_of, letters, pack_arrays, unpacked, write_atomically
from workbench.steering import plan_text
from workbench.steering.operations import Operation, UnknownOperationError, find_operation
from workbench.steering.schedule import Gate, ReadOut, Schedule, Term, constant

if TYPE_CHECKING:
    from workbench.model.musicgen import Model

FORMAT = "musicgen-workbench plan 1"
MOST_BYTES = 16 << 20
"""What packed text may unpack to, 2,000 directions of 2,048 numbers: few letters can ask for gigabytes."""

_FORMAT = "musicgen-workbench direction 1"
_LOAD_TORCH = partial(torch.load, map_location="cpu", weights_only=True)
_READERS = {".npy": np.load, ".safetensors": load_tensors, ".pt": _LOAD_TORCH, ".pth": _LOAD_TORCH}
_FIELDS = ("layer", "site", "name", "residual_norm", "centre", "origin")
_READ_OUT_FIELDS = ("site", "link", "target", "model_id", "classes", "layer")


@dataclass(frozen=True)
class Steering:
    """A plan: terms that act in order. Plans join with `+`, and `-` joins the opposite of a plan's pushes.

    `Steering(x)` also takes another Steering, one Term, or any mixture of both in a sequence.
    """

    terms: tuple[Term, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "terms", tuple(_flat(self.terms)))

    def __add__(self, other: Steering) -> Steering:
        return Steering(self.terms + other.terms)

    def __sub__(self, other: Steering) -> Steering:
        return self + -other

    def __neg__(self) -> Steering:
        return Steering(tuple(-term for term in self.terms))

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that are touched, in rising order."""
        return tuple(sorted({term.at_layer for term in self.terms}))

    def at_layer(self, layer: int) -> tuple[Term, ...]:
        """Return the terms that act at one layer, in order."""
        return tuple(term for term in self.terms if term.at_layer == layer)

    @property
    def directions(self) -> dict[str, Direction]:
        """Every direction used, by the name in `text()`, as `parse` and `from_json` take them."""
        return {"".join(self._names.direction(term)): term.direction for term in self.terms}

    @property
    def read_outs(self) -> dict[str, ReadOut]:
        """Every read-out that a gate reads, by the name in `text()`, as `parse` and `from_json` take them."""
        gates = [term.gate for term in self.terms if term.gate is not None]
        return {"".join(self._names.read_out(gate)): gate.read_out for gate in gates}

    def text(self) -> str:
        """Return the canonical text, e.g. `0.8*jazz@5 - 0.4*rock@5 | ramp(2s,6s) | cond` (plan_text.py)."""
        return plan_text.write(self.terms, self._names)

    __str__ = text

    @classmethod
    def parse(cls, text: str, directions: Mapping[str, Direction], probes: plan_text.Probes = ()) -> Steering:
        """Return the plan that `text` writes, its names looked up in `directions`, its gates in `probes`.

        A name is looked up as `name@layer`, then as `name`; the direction must have been made at that layer.
        A gate's class is looked up among those that the probes of its layer read. A SteeringError says where
        the text is bad or a name is not known.

        >>> jazz = Direction(np.array([0.6, 0.8]), 2, name="jazz", residual_norm=10.0)
        >>> Steering.parse("0.15*jazz@2 | ramp(1s,3s)", {"jazz": jazz}).layers
        (2,)
        """
        return cls(tuple(plan_text.read(text, directions, probes)))

    def to_json(self) -> str:
        """Return the plan as JSON text; directions and gates' read-outs stand by name and fingerprint."""
        return json.dumps([plan_text.as_json(term) for term in self.terms], ensure_ascii=False)

    @classmethod
    def from_json(
        cls,
        text: str,
        directions: Mapping[str, Direction] | Iterable[Direction],
        probes: plan_text.Probes = (),
    ) -> Steering:
        """Return the plan that `to_json` wrote; directions and read-outs are found by fingerprint."""
        known = {direction.fingerprint: direction for direction in plan_text.values(directions)}
        read = {one.fingerprint: one for one in (probe.read_out() for probe in plan_text.values(probes))}
        try:
            return cls(tuple(plan_text.from_json(item, known, read) for item in json.loads(text)))
        except SteeringError:
            raise
        except Exception as error:  # text can be wrong in any way
            found = f"the text is not one ({reason(error)})"
            raise SteeringError("A plan was asked for from JSON", found, "Pass Steering.to_json()") from error

    def save(self, path: Path | str) -> Path:
        """Write the plan as a safetensors file, whole or not at all (DiskError); return the path."""
        return write_atomically(path, to_bytes(self))

    @classmethod
    def load(cls, path: Path | str) -> Steering:
        """Return the plan that `save` wrote; raise SteeringError when the file holds none."""
        try:
            return from_bytes(Path(path).read_bytes(), str(path))
        except OSError as error:
            raise _damaged(str(path), error) from error

    def pack(self) -> str:
        """Return the plan and all its vectors as lines of plain letters, to stand in code."""
        data = to_bytes(self)
        if len(data) > MOST_BYTES:
            found = f"it has {len(data) / 2**20:.0f} MB, and {MOST_BYTES >> 20} MB can be unpacked"
            do = "Use Steering.save, or fewer directions"
            raise SteeringError("A plan was to be packed into text", found, do)
        return letters(data)

    @classmethod
    def unpack(cls, text: str) -> Steering:
        """Return the plan that `pack` wrote; raise SteeringError when letters are missing or changed."""
        try:
            packed, reader = base64.b64decode("".join(text.split()), validate=True), zlib.decompressobj()
            data = reader.decompress(packed, MOST_BYTES)
            if not reader.eof or reader.unused_data:
                raise ValueError(f"it is cut, or larger than {MOST_BYTES >> 20} MB")
        except Exception as error:  # letters can be wrong in any way
            raise _damaged("packed text", error) from error
        return from_bytes(data, "packed text", notice=False)  # zlib compares a checksum of its own

    def _repr_html_(self) -> str:
        columns = ("direction", "dose", "operation", "schedule", "layer", "branch", "chance", "gate")
        names = self._names
        rows = [
            ("".join(names.direction(one)), one.dose, one.operation, str(one.schedule), one.at_layer,
             one.branch, one.chance, "".join(names.read_out(one.gate)) if one.gate else "")
            for one in self.terms
        ]  # fmt: skip
        return pd.DataFrame(rows, columns=columns).to_html(index=False, border=0)

    @cached_property
    def _names(self) -> plan_text.Names:
        return plan_text.Names(self.terms)

    def check(self, model: Model) -> None:
        """Raise SteeringError where a term does not fit `model` (`Term.check`)."""
        for term in self.terms:
            term.check(model)


def _flat(parts: object) -> Iterable[Term]:
    """Yield the terms of a Term, a Steering, or a sequence of them."""
    if isinstance(parts, Term):
        yield parts
    elif isinstance(parts, Steering):
        yield from parts.terms
    elif isinstance(parts, list | tuple):
        for part in parts:
            yield from _flat(part)
    else:
        found = f"{type(parts).__name__} is no part of one"
        raise SteeringError("A plan was asked for", found, "Use direction.at(dose)")


Vector = np.ndarray[tuple[int], np.dtype[np.float32]]


@dataclass(frozen=True, eq=False)
class Direction:
    """A vector at one layer and site of one model. Algebra leaves its length alone; `.unit()` makes it 1.

    Args:
        vector: (d_model,) float32, read-only.
        layer: The decoder block, from 0.
        site: The place in the block.
        name: What it stands for, such as "jazz".
        residual_norm: R, the mean norm of the residual stream at this layer: the unit of a dose.
        centre: <mu, vector>, the mean projection of the data it is from; `remove` moves the stream there.
        origin: Where it is from: method, dataset_fingerprint ... (only model_id is part of its identity).

    >>> jazz, rock = (Direction(np.eye(3)[n], 2, name=name) for n, name in enumerate(("jazz", "rock")))
    >>> (jazz - rock).unit().name, round(jazz.cosine(jazz - rock), 3)
    ('jazz - rock', 0.707)
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
            found = f"its vector has the shape {vector.shape} and {(~np.isfinite(vector)).sum()} bad numbers"
            do = "Pass one finite vector of the model's width"
            raise SteeringError(f"A direction {self.name!r} was asked for", found, do)
        asked = "A direction was asked for"
        if not self.name:
            raise SteeringError(asked, "its name is empty", "Give it a name")
        if not (is_text(self.name) and is_text(self.site) and self.site):
            raise SteeringError(asked, f"its name is {self.name!r} and its site {self.site!r}", "Give text")
        if not (is_number(self.residual_norm, 0) or is_nan(self.residual_norm)):
            found = f"its residual norm is {self.residual_norm!r}"
            raise SteeringError(asked, found, "Give a number from 0, or NaN where it is not known")
        if not (is_number(self.centre) and isinstance(self.origin, Mapping)):
            found = f"its centre is {self.centre!r} and its origin {self.origin!r}"
            raise SteeringError(asked, found, "Give a finite number and a mapping")
        vector.setflags(write=False)
        layer = whole_number(self.layer, f"A direction {self.name!r} at the layer", SteeringError)
        object.__setattr__(self, "layer", layer)
        object.__setattr__(self, "vector", vector)
        object.__setattr__(self, "origin", {str(key): str(value) for key, value in self.origin.items()})

    @classmethod
    def from_numpy(
        cls,
        model: Model,
        vector: Any,
        layer: int,
        *,
        name: str = "direction",
        site: str = "resid_post",
        counted: str = "blocks",
    ) -> Direction:
        """Return a unit direction of `model` along any vector, measured against the model's residual norms.

        `vector` is (d_model,) numbers; SteeringError when they or the layer are not the model's, or all 0.
        Layers are `counted` in "blocks", from 0, whose output is `resid_post`; or in "hidden_states", the
        tuple of transformers: 0 is the embedding, i the output of block i - 1, the last one is normalised; or
        "from_end", as music-rfm does: -1 is the last block.
        """
        asked, n = f"A direction {name!r} at layer {layer!r} of {model.id} was asked for", model.n_layers
        countings = {"blocks": range(n), "hidden_states": range(1, n), "from_end": range(-n, 0)}
        SteeringError.among(counted, countings, "A direction at layers counted in")
        if layer not in (given := countings[counted]):
            hidden = f"only hidden states 1-{n - 1} are outputs of blocks"
            found = hidden if counted == "hidden_states" else f"it has layers 0-{n - 1}"
            raise SteeringError(asked, found, "Use one of model.layers, or a vector made at one of them")
        if np.shape(vector) != (model.d_model,):
            found = f"the vector has the shape {np.shape(vector)}"
            raise SteeringError(asked, found, f"Pass {model.d_model} numbers")
        layer = given.index(layer)
        origin = {"method": "from numpy", "model_id": model.id}
        norm = float(model.residual_norms()[layer])
        return cls(vector, layer, site, name=name, residual_norm=norm, origin=origin).unit()

    @classmethod
    def from_file(
        cls,
        model: Model,
        path: Path | str,
        layer: int,
        *,
        row: int = 0,
        key: str | int | None = None,
        **place: Any,
    ) -> Direction:
        """Return a unit direction along a row of a file of another program, such as a decoder's feature.

        `file_vectors` reads the file (and takes `key`), `from_numpy` makes the direction (and takes `place`:
        name, site, counted); SteeringError as for both, or where there is no such row.
        """
        rows = file_vectors(path, model.d_model, key=key)
        if row not in range(len(rows)):
            asked = f"Row {row!r} of {path} was asked for"
            raise SteeringError(asked, f"it has {len(rows)} rows", "Count them from 0")
        made = cls.from_numpy(model, rows[row], layer, **place)
        return replace(made, origin={**made.origin, "method": f"row {row} of {Path(path).name}"})

    @cached_property
    def norm(self) -> float:
        """The length |v|."""
        return float(np.linalg.norm(self.vector.astype(np.float64)))

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the name and all that acts: vector, layer, site, residual norm, centre, model."""
        plain = [self.name, self.layer, self.site, self.residual_norm, self.centre]
        acting = json.dumps([*plain, self.origin.get("model_id", "")]).encode()
        return hashlib.sha256(acting + self.vector.tobytes()).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Direction) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __add__(self, other: Direction) -> Direction:
        return self._joined(other, 1.0, f"{self.name} + {other.name}")

    def __sub__(self, other: Direction) -> Direction:
        return self._joined(other, -1.0, f"{self.name} - {_bracketed(other.name)}")

    def __mul__(self, factor: float) -> Direction:
        return self._scaled(float(factor), f"{float(factor):g}*{_bracketed(self.name)}")

    __rmul__ = __mul__

    def __neg__(self) -> Direction:
        return self._scaled(-1.0, f"-{_bracketed(self.name)}")

    def unit(self) -> Direction:
        """Return the direction at length 1, same name; raise SteeringError when it has no length."""
        if self.norm < 1e-12:
            asked = f"{self.name!r} was to be made length 1"
            raise SteeringError(asked, "its length is 0: it cancels out", "Combine directions that differ")
        return self._scaled(1.0 / self.norm, self.name)

    def named(self, name: str) -> Direction:
        """Return the same direction under another name."""
        return replace(self, name=name)

    def cosine(self, other: Direction) -> float:
        """Return the cosine of the angle to `other`, from -1 to 1."""
        self._same_space(other, "compared")
        return self._along(other) / max(self.norm * other.norm, 1e-30)

    def orthogonal_to(self, other: Direction) -> Direction:
        """Return what is left of this direction when its part along `other` is taken out (unnormalised)."""
        self._same_space(other, "made orthogonal")
        axis = other.unit()
        rest = self + axis._scaled(-self._along(axis), other.name)
        return rest.named(f"{self.name} without {_bracketed(other.name)}")

    def head(self, head: int, n_heads: int) -> Direction:
        """Return the part of a `head_out` direction that lies in one attention head, 0 elsewhere.

        Its length is what it is (`.unit()` before `.at`). How far the data project on a part is not known,
        so its centre is 0: `remove` takes the part out instead of moving it to the average. Raises
        SteeringError for another site, ActivationsError for a head that does not exist.
        """
        if self.site != HEAD_SITE:
            found = f"it is a direction at {self.site!r}, where heads are mixed"
            do = f"Make a direction at {HEAD_SITE!r}"
            raise SteeringError(f"Head {head} of {self.name!r} was asked for", found, do)
        part = np.zeros_like(self.vector)
        own = head_slice(self.vector.size, n_heads, head)
        part[own] = self.vector[own]
        name = f"{self.name} {head_name(self.layer, head)}"
        return replace(self, vector=part, name=name, centre=0.0, origin={**self.origin, "head": str(head)})

    @renamed_keywords(rows="branch")
    def at(
        self, dose: float, *, schedule: Schedule | None = None, operation: str | Operation = "add",
        branch: str = "cond", layer: int | None = None, chance: float = 1.0, gate: Gate | None = None,
    ) -> Steering:  # fmt: skip
        """Return the plan with this one term, whose settings and errors `Term` explains.

        The direction must have length 1 (`.unit()`). The schedule is constant when None, and `probe.gate`
        makes a gate.

        >>> jazz = Direction(np.array([0.6, 0.8]), 2, name="jazz", residual_norm=10.0)
        >>> print(jazz.at(0.15) + jazz.at(0.5, operation="remove", branch="both"))
        0.15*jazz@2 | constant | cond ; remove(0.5*jazz@2) | constant | both
        """
        name, when = find_operation(operation).name, schedule or constant()
        return Steering((Term(self, dose, when, name, layer, branch, chance=chance, gate=gate),))

    def _repr_html_(self) -> str:
        facts = {"name": self.name, "layer": self.layer, "site": self.site, "numbers": self.vector.size}
        facts |= {"length": f"{self.norm:.4g}", "residual norm": f"{self.residual_norm:.4g}", **self.origin}
        return pd.Series(facts).to_frame().to_html(header=False, border=0)

    def save(self, path: Path | str) -> Path:
        """Write the direction as a safetensors file, whole or not at all (DiskError); return the path."""
        kept = {"format": _FORMAT, **_about(self, _FIELDS)}
        return write_atomically(path, pack_arrays(kept, {"vector": self.vector}))

    @classmethod
    def load(cls, path: Path | str, *, notice: bool = True) -> Direction:
        """Return what `save` wrote, or raise SteeringError; with `notice` a missing digest is a warning."""
        asked, do = f"A direction was asked for from {path}", "Use a file that Direction.save wrote"
        read = unpacked(path, _FORMAT, notice=notice)
        with SteeringError.damage(asked, do, "the file holds none"), read as (kept, arrays):
            return cls(arrays["vector"], **kept)

    def _scaled(self, factor: float, name: str) -> Direction:
        SteeringError.number(factor, f"{self.name!r} times", found="a factor must be finite")
        vector = (self.vector.astype(np.float64) * factor).astype(np.float32)
        return replace(self, vector=vector, centre=self.centre * factor, name=name)

    def _joined(self, other: Direction, sign: float, name: str) -> Direction:
        self._same_space(other, "added")
        known = {key: self.origin.get(key) or other.origin.get(key, "") for key in ("model_id", "precision")}
        origin = {"method": "algebra", "expression": name, **known}
        vector, centre = self.vector + sign * other.vector, self.centre + sign * other.centre
        return replace(self, vector=vector, centre=centre, name=name, origin=origin)

    def _along(self, other: Direction) -> float:
        """Return <self, other>."""
        return float(self.vector.astype(np.float64) @ other.vector.astype(np.float64))

    def _same_space(self, other: Direction, verb: str) -> None:
        """Raise SteeringError unless both directions live in the same stream of the same model."""
        for what, mine, theirs in (
            ("layer", self.layer, other.layer),
            ("site", self.site, other.site),
            ("width", self.vector.size, other.vector.size),
            ("model", self.origin.get("model_id") or None, other.origin.get("model_id") or None),
        ):
            if mine != theirs and None not in (mine, theirs):
                asked = f"{self.name!r} and {other.name!r} were to be {verb}"
                do = "Use directions of one layer and site of one model"
                raise SteeringError(asked, f"their {what}s differ: {mine} and {theirs}", do)


def _as_vector(values: Any) -> Vector:
    """Return a copy of `values` as float32; what holds no numbers comes back as one NaN."""
    if isinstance(values, torch.Tensor):  # numpy has no bfloat16
        values = values.detach().float().cpu()
    try:
        return np.array(np.nan if np.iscomplexobj(values) else values, dtype=np.float32)
    except (TypeError, ValueError):
        return np.array([np.nan], dtype=np.float32)


def file_vectors(path: Path | str, width: int, *, key: str | int | None = None) -> np.ndarray:
    """Return the vectors (n, width) of a `.npy`, `.safetensors`, `.pt` or `.pth` file; nothing is unpickled.

    A matrix (width, n), as PyTorch holds a decoder's weight, is turned; a square one is taken by its rows.
    `key` names the array where there are several. SteeringError for a file without, or of another width.
    """
    path, asked = Path(path), f"Vectors of {width} numbers were asked for from {path}"
    try:
        if path.suffix not in _READERS:
            raise ValueError(f"its suffix is {path.suffix!r}")
        held: Any = _READERS[path.suffix](path)
    except Exception as error:  # a foreign file can be wrong in any way
        pickled = type(error).__name__ == "UnpicklingError"  # its text tells how to run the code within
        found = "it holds pickled objects, which may run code" if pickled else reason(error)
        do = "Save plain tensors or arrays as .npy, .safetensors or .pt"
        raise SteeringError(asked, f"the file cannot be read ({found})", do) from error
    if isinstance(held, Mapping):
        tensors = {name: one for name, one in held.items() if isinstance(one, torch.Tensor)}
        if key not in tensors and (key is not None or len(tensors) != 1):
            found = f"the file holds {', '.join(map(str, tensors))[:200] or 'no tensors'}"
            raise SteeringError(asked, found, "Pass one of these names as key")
        held = tensors[next(iter(tensors)) if key is None else key]
    rows = np.atleast_2d(_as_vector(held))
    rows = rows.T if rows.ndim == 2 and rows.shape[1] != width else rows
    if rows.ndim != 2 or rows.shape[1] != width:
        raise SteeringError(asked, f"the array has the shape {np.shape(held)}", f"Pass {width} numbers a row")
    return rows


def _bracketed(name: str) -> str:
    """Return the name in brackets when it is itself a sum or difference."""
    return f"({name})" if " " in name else name


def random_direction(like: Direction, seed: int) -> Direction:
    """Return a unit Gaussian direction in the place of `like`: the control that an effect must beat."""
    gaussian = np.random.default_rng(seed).standard_normal(like.vector.size)
    origin = {"method": "random", "seed": str(seed), "model_id": like.origin.get("model_id", "")}
    vector: Vector = (gaussian / np.linalg.norm(gaussian)).astype(np.float32)
    return replace(like, vector=vector, name=f"random_{seed}", centre=0.0, origin=origin)


def to_bytes(plan: Steering) -> bytes:
    """Return the plan as the bytes of a safetensors file."""
    directions = list(dict.fromkeys(term.direction for term in plan.terms))
    read_outs = list(dict.fromkeys(term.gate.read_out for term in plan.terms if term.gate is not None))
    about = {
        "format": FORMAT,
        "plan": plan.to_json(),
        "directions": [_about(one, _FIELDS) for one in directions],
        "read_outs": [_about(one, _READ_OUT_FIELDS) for one in read_outs],
    }
    arrays: dict[str, np.ndarray] = {f"vector_{number}": one.vector for number, one in enumerate(directions)}
    for number, one in enumerate(read_outs):
        arrays |= {f"weights_{number}": one.weights, f"bias_{number}": one.bias}
    text = json.dumps({**about, DIGEST: digest_of(about, arrays)}, ensure_ascii=False)
    return bytes(save({"about": np.frombuffer(text.encode(), dtype=np.uint8), **arrays}))


def from_bytes(data: bytes, source: str, *, notice: bool = True) -> Steering:
    """Return what `to_bytes` wrote, or raise SteeringError; with `notice` a missing digest is a warning."""
    try:
        arrays = load(data)
        about = json.loads(arrays.pop("about").tobytes())
        if about["format"] != FORMAT:
            raise KeyError("format")
        directions = [Direction(arrays[f"vector_{n}"], **kept) for n, kept in enumerate(about["directions"])]
        read_outs = [
            ReadOut(**kept, weights=arrays[f"weights_{n}"], bias=arrays[f"bias_{n}"])
            for n, kept in enumerate(about["read_outs"])
        ]
        check_digest(source, about, arrays, notice=notice)
        return Steering.from_json(about["plan"], directions, read_outs)
    except UnknownOperationError as error:  # the file is sound; what is missing is an extension
        found = f"it needs what is not registered here. {str(error).rstrip('.')}"
        raise UnknownOperationError(f"The plan in {source} was asked for", found) from error
    except Exception as error:  # a damaged file can be wrong in any way
        raise _damaged(source, error) from error


def _about(one: Direction | ReadOut, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(one, name) for name in names}


def _damaged(source: str, error: Exception) -> SteeringError:
    asked, found = f"A plan was asked for from {source}", f"it holds none ({reason(error)})"
    return SteeringError(asked, found, "Use what Steering.save or Steering.pack wrote")
