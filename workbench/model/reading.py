"""Teacher-forced reading: codes go in with BOS and delay pattern, activations come out, pooled in fp32.

Frame t is read at position t + 1, the first position that has heard frame t (its first codebook, and the
other codebooks of the frames just before). Clips of different lengths share a batch: padding comes after a
clip and attention is causal, so no real position sees it, and pooling runs over real frames only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from workbench.errors import ModelError, message
from workbench.model.sites import Place, live, places_for
from workbench.model.text import TextStates
from workbench.model.tokens import apply_delay

if TYPE_CHECKING:
    from workbench.model.musicgen import Model

POOLS = ("mean", "last", "max", None)


@dataclass(frozen=True)
class Reading:
    """What to read: sites at layers (ascending), and how frames are pooled (None keeps them)."""

    sites: tuple[str, ...]
    layers: tuple[int, ...]
    pool: str | None = "mean"

    def __post_init__(self) -> None:
        if self.pool not in POOLS:
            raise ModelError(
                message(f"The pool {self.pool!r} was asked for", f"there are {POOLS}", "Use one of these")
            )
        places_for(self.sites, self.layers)

    @property
    def places(self) -> list[Place]:
        """Where to read, in the order of the forward pass."""
        return places_for(self.sites, self.layers)

    def stacked(self, read: dict[Place, torch.Tensor]) -> dict[str, np.ndarray]:
        """Arrays by site, (rows, layers, ...) fp32; `embed` exists once and is repeated over the layers."""
        return {
            site: torch.stack(
                [read[0 if site == "embed" else layer, site] for layer in self.layers], dim=1
            ).numpy()
            for site in self.sites
        }


def read_codes(
    model: Model, codes: Sequence[np.ndarray], text: TextStates, reading: Reading
) -> dict[str, np.ndarray]:
    """Activations of one batch: by site (rows, layers, [frames,] d_model) fp32, NaN behind the end of a clip.

    Args:
        model: The model.
        codes: One array (k, frames) per row.
        text: The text states of as many rows.
        reading: What to read.
    """
    network, places = model.network, reading.places
    ids, held = _pad(model, codes)
    read: dict[Place, torch.Tensor] = {}
    with model.exclusive(), network.read(ids, text) as tracer:
        for place in places:
            read[place] = pooled(live(network, place)[:, 1:], held, reading.pool)
        tracer.stop()  # what lies behind the last place is not needed
    return reading.stacked(read)


def pooled(frames: torch.Tensor, held: torch.Tensor, pool: str | None) -> torch.Tensor:
    """Vectors (rows, d_model) from `frames` (rows, frames, d_model), over the first `held` (rows,).

    Without a pool (rows, frames, d_model), NaN behind each row's end. Always fp32, on the CPU, and a copy.
    """
    values = frames.float()
    behind = (torch.arange(values.shape[1], device=values.device) >= held[:, None])[..., None]
    if pool == "mean":
        result = values.masked_fill(behind, 0).sum(1) / held[:, None]
    elif pool == "max":
        result = values.masked_fill(behind, -torch.inf).amax(1)
    elif pool == "last":
        result = values[torch.arange(len(held), device=held.device), held - 1]
    else:
        result = values.masked_fill(behind, torch.nan)
    return result.detach().cpu().clone()


def _pad(model: Model, codes: Sequence[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    """Delayed ids (rows, k, 1 + longest), and the number of frames (rows,) that each row holds."""
    held = torch.tensor([array.shape[-1] for array in codes], device=model.device)
    longest = int(held.max())
    ids = torch.full((len(codes), model.n_codebooks, 1 + longest), model.bos, device=model.device)
    for row, array in zip(ids, codes, strict=True):
        one = apply_delay(torch.as_tensor(array, device=model.device)[None].long(), model.bos, model.delays)
        used = min(one.shape[-1], ids.shape[-1])
        row[:, :used] = one[0, :, :used]
    return ids, held
