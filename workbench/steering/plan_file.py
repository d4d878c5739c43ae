"""A plan complete in itself: its terms, and the vectors of its directions and gates, as one safetensors file.

`about` (JSON as bytes) holds the terms as `Steering.to_json` writes them and what else directions and
read-outs are; their numbers are `vector_0`, `vector_1` ... and `weights_0`, `bias_0` ...
"""

from __future__ import annotations

import base64
import json
import textwrap
import zlib
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from workbench.errors import SteeringError
from workbench.files import DIGEST, check_digest, digest_of
from workbench.steering.direction import Direction
from workbench.steering.gate import ReadOut
from workbench.steering.plan import Steering

FORMAT = "musicgen-workbench plan 1"
_COLUMNS = 96  # of packed text


def to_bytes(plan: Steering) -> bytes:
    """Return the plan as the bytes of a safetensors file."""
    directions = list(dict.fromkeys(term.direction for term in plan.terms))
    read_outs = list(dict.fromkeys(term.gate.read_out for term in plan.terms if term.gate is not None))
    about = {
        "format": FORMAT,
        "plan": plan.to_json(),
        "directions": [_about_direction(one) for one in directions],
        "read_outs": [_about_read_out(one) for one in read_outs],
    }
    arrays: dict[str, np.ndarray] = {f"vector_{number}": one.vector for number, one in enumerate(directions)}
    for number, one in enumerate(read_outs):
        arrays |= {f"weights_{number}": one.weights, f"bias_{number}": one.bias}
    text = json.dumps({**about, DIGEST: digest_of(about, arrays)}, ensure_ascii=False)
    return bytes(save({"about": np.frombuffer(text.encode(), dtype=np.uint8), **arrays}))


def from_bytes(data: bytes, source: str, *, notice: bool = True) -> Steering:
    """Return the plan that `to_bytes` wrote; `source` says where it is from, for errors.

    `notice` says whether the reader is warned of an older plan, which carries no digest.

    Raises:
        SteeringError: When it is damaged.
    """
    try:
        arrays = load(data)
        about = json.loads(arrays.pop("about").tobytes())
        if about["format"] != FORMAT:
            raise KeyError("format")
        directions = [
            Direction(arrays[f"vector_{number}"], **kept) for number, kept in enumerate(about["directions"])
        ]
        read_outs = [
            ReadOut(weights=arrays[f"weights_{number}"], bias=arrays[f"bias_{number}"], **kept)
            for number, kept in enumerate(about["read_outs"])
        ]
        plan = Steering.from_json(about["plan"], directions, read_outs)
        check_digest(source, about, arrays, notice=notice)
        return plan
    except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise _damaged(source, error) from error


def pack(plan: Steering) -> str:
    """Return the plan as lines of plain letters, to stand in code."""
    packed = base64.b64encode(zlib.compress(to_bytes(plan), 9)).decode()
    return "\n".join(textwrap.wrap(packed, _COLUMNS))


def unpack(text: str) -> Steering:
    """Return the plan that `pack` wrote.

    Raises:
        SteeringError: When letters are missing or changed.
    """
    try:
        data = zlib.decompress(base64.b64decode("".join(text.split()), validate=True))
    except (ValueError, zlib.error) as error:
        raise _damaged("packed text", error) from error
    return from_bytes(data, "packed text", notice=False)  # zlib compares a checksum of its own


def _about_direction(one: Direction) -> dict[str, Any]:
    names = ("layer", "site", "name", "residual_norm", "centre")
    return {**{name: getattr(one, name) for name in names}, "origin": dict(one.origin)}


def _about_read_out(one: ReadOut) -> dict[str, Any]:
    kept = {name: getattr(one, name) for name in ("site", "link", "target", "model_id")}
    return {**kept, "classes": list(one.classes), "layer": int(one.layer)}


def _damaged(source: str, error: Exception) -> SteeringError:
    found = f"it holds none ({type(error).__name__}: {error})"
    asked = f"A plan with its directions was asked for from {source}"
    return SteeringError(asked, found, "Use what Steering.save or Steering.pack wrote")
