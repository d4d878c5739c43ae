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
from safetensors.numpy import load, save

from workbench.errors import SteeringError, reason
from workbench.files import DIGEST, check_digest, digest_of
from workbench.steering.direction import Direction
from workbench.steering.gate import ReadOut
from workbench.steering.plan import Steering

FORMAT = "musicgen-workbench plan 1"
_COLUMNS = 96  # of packed text
MOST_BYTES = 16 << 20
"""What packed text may unpack to, 2,000 directions of 2,048 numbers: few letters can ask for gigabytes."""


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
    except Exception as error:  # a damaged file can be wrong in any way
        raise _damaged(source, error) from error


def pack(plan: Steering) -> str:
    """Return the plan as lines of plain letters, to stand in code."""
    data = to_bytes(plan)
    if len(data) > MOST_BYTES:
        raise SteeringError(
            "A plan was to be packed into text",
            f"it has {len(data) / 2**20:.0f} MB, and {MOST_BYTES >> 20} MB can be unpacked",
            "Use Steering.save, or fewer directions",
        )
    packed = base64.b64encode(zlib.compress(data, 9)).decode()
    return "\n".join(textwrap.wrap(packed, _COLUMNS))


def unpack(text: str) -> Steering:
    """Return the plan that `pack` wrote.

    Raises:
        SteeringError: When letters are missing or changed.
    """
    try:
        packed, reader = base64.b64decode("".join(text.split()), validate=True), zlib.decompressobj()
        data = reader.decompress(packed, MOST_BYTES)
        if not reader.eof or reader.unused_data:
            raise ValueError(f"its end is missing or not its end, or it is larger than {MOST_BYTES >> 20} MB")
    except Exception as error:  # letters can be wrong in any way
        raise _damaged("packed text", error) from error
    return from_bytes(data, "packed text", notice=False)  # zlib compares a checksum of its own


def _about_direction(one: Direction) -> dict[str, Any]:
    names = ("layer", "site", "name", "residual_norm", "centre")
    return {**{name: getattr(one, name) for name in names}, "origin": dict(one.origin)}


def _about_read_out(one: ReadOut) -> dict[str, Any]:
    kept = {name: getattr(one, name) for name in ("site", "link", "target", "model_id")}
    return {**kept, "classes": list(one.classes), "layer": int(one.layer)}


def _damaged(source: str, error: Exception) -> SteeringError:
    found = f"it holds none ({reason(error)})"
    asked = f"A plan with its directions was asked for from {source}"
    return SteeringError(asked, found, "Use what Steering.save or Steering.pack wrote")
