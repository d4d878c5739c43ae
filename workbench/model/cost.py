"""Forecasts of what a capture takes, from the shapes of the model and of what is read.

They are upper bounds for the usual implementation of attention, which keeps no table of positions by
positions for each head. Checked where an array would not fit anyway: a forecast cannot know what other
programs will take meanwhile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from workbench.activations import Cost, StoreSpec, bytes_needed
from workbench.model.reading import Reading

if TYPE_CHECKING:
    from workbench.model.musicgen import Model

_FLOAT = 4
_ENCODING = 100  # bytes that the codec needs at once, per byte of the sound that goes in
_OVERHEAD = 64 << 20  # what libraries take on the way, whatever is asked


def free_on_device(model: Model) -> int | None:
    """Free bytes on the model's accelerator; None where it runs on the CPU, or the device does not tell."""
    if model.device.type != "cuda":
        return None
    unused = torch.cuda.memory_reserved(model.device) - torch.cuda.memory_allocated(model.device)
    return int(torch.cuda.mem_get_info(model.device)[0] + unused)


def forced_cost(
    model: Model, spec: StoreSpec, reading: Reading, *, longest: int, batch: int, on_disk: bool, encodes: bool
) -> Cost:
    """The cost of a teacher-forced capture.

    Args:
        model: The model.
        spec: What the capture gives.
        reading: What is read.
        longest: Frames of the longest clip.
        batch: Clips per forward pass.
        on_disk: Whether finished chunks are written, or all stay in memory.
        encodes: Whether sounds have to be turned into codes first.
    """
    per_sample = len(spec.sites) * int(np.prod(spec.shape[1:])) * _FLOAT
    result = spec.n_samples * len(spec.sites) * spec.bytes_per_sample
    chunk, whole = min(spec.chunk, spec.n_samples) * per_sample, spec.n_samples * per_sample
    held = 3 * chunk if on_disk else whole + max(whole, 2 * chunk)  # parts, the parts joined, what is written
    vectors = longest if reading.pool is None else int(reading.counts(np.array([longest]))[0])
    captured = 2 * len(reading.places) * batch * vectors * model.d_model * _FLOAT
    working = 3 * batch * longest * model.d_model * _FLOAT
    working += _forward(model, batch, model.prefix_room + longest + 1)
    if encodes:
        working += int(_ENCODING * _FLOAT * longest / model.frame_rate_hz * model.rate_hz)
    disk = bytes_needed(spec) if on_disk else 0
    return _placed(model, spec.n_samples, result, here=held + captured, there=working, disk=disk)


def drawn_cost(
    model: Model, reading: Reading, *, clips: int, rows: int, frames: int, batch: int, guided: bool
) -> Cost:
    """The cost of a capture while codes are drawn: every frame of a batch is kept until its clips are done.

    Args:
        model: The model.
        reading: What is read.
        clips: Clips that are made.
        rows: Kinds of rows that are read: 1, or 2 for both.
        frames: Frames that are made, given ones included.
        batch: Clips drawn at once.
        guided: Whether the decoder sees null rows too.
    """
    d_model, batch = model.d_model, min(batch, clips)
    steps = model.prefix_room + frames + max(model.delays)
    vectors = frames if reading.pool is None else int(reading.counts(np.array([frames]))[0])
    samples = clips * rows * (1 if reading.pool is None else vectors)
    per_clip = len(reading.sites) * len(reading.layers) * rows * vectors * d_model * _FLOAT
    size, lanes = model.dtype.itemsize, batch * (2 if guided else 1)
    collected = (len(reading.places) + 1) * rows * batch * steps * d_model * size
    states = 2 * (model.n_layers + 1) * lanes * steps * d_model * size  # keys and values of self-attention
    working = collected + states + 3 * rows * batch * frames * d_model * _FLOAT
    working += _forward(model, lanes, model.prefix_room + frames)
    here = (2 * clips + batch) * per_clip
    return _placed(model, samples, clips * per_clip, here=here, there=working, disk=0)


def _forward(model: Model, rows: int, positions: int) -> int:
    """Bytes of one forward pass: a block's tensors, and the mask of attention."""
    wide = int(model.musicgen.decoder.config.ffn_dim)
    block = rows * positions * (12 * model.d_model + 2 * wide) * model.dtype.itemsize
    return block + 2 * rows * positions**2 * model.dtype.itemsize


def _placed(model: Model, samples: int, result: int, *, here: int, there: int, disk: int) -> Cost:
    """The cost, with the model's share in main memory where it runs on the CPU."""
    on_cpu = model.device.type == "cpu"
    return Cost(samples, result, _OVERHEAD + here + (there if on_cpu else 0), 0 if on_cpu else there, disk)
