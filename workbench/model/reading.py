"""Teacher-forced reading: codes go in with BOS and delay pattern, activations come out, pooled in fp32.

Frame t is read at position t + 1, the first position that has heard frame t (its first codebook, and the
other codebooks of the frames just before). Clips of different lengths share a batch: padding comes after a
clip and attention is causal, so no real position sees it, and pooling runs over real frames only.

The frames of a batch become arrays in the same way whatever their source is: here, while sampling
(generated.py) and while continuing a clip (continued.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from workbench.activations.windows import window_counts, window_frames
from workbench.errors import ActivationsError, ModelError
from workbench.model.sites import Place, live, places_for
from workbench.model.text import TextStates
from workbench.model.tokens import apply_delay

if TYPE_CHECKING:
    from workbench.model.musicgen import Model

POOLS = ("mean", "last", "max", None)


@dataclass(frozen=True)
class Reading:
    """What to read: sites at layers (ascending), and how frames are pooled (None keeps them).

    With a `window`, in frames, every stretch of that length is pooled apart (workbench.activations.windows).
    """

    sites: tuple[str, ...]
    layers: tuple[int, ...]
    pool: str | None = "mean"
    window: int | None = None

    def __post_init__(self) -> None:
        if self.pool not in POOLS:
            raise ModelError(
                f"The pool {self.pool!r} was asked for", f"there are {POOLS}", "Use one of these"
            )
        if self.pool is None and self.window is not None:
            raise ModelError(
                "Windows without a pool were asked for",
                "pool=None keeps every frame as it is",
                'Use pool="mean" with the window, or no window',
            )
        places_for(self.sites, self.layers)

    @property
    def places(self) -> list[Place]:
        """Where to read, in the order of the forward pass."""
        return places_for(self.sites, self.layers)

    def counts(self, held: np.ndarray) -> np.ndarray:
        """Samples (n,) that clips of `held` (n,) frames give: one each, or one per window."""
        return np.ones(len(held), int) if self.window is None else window_counts(held, self.window)

    def pooled(self, frames: torch.Tensor, held: torch.Tensor) -> torch.Tensor:
        """`frames` (rows, frames, d_model) pooled: (rows, d_model), or (rows, windows or frames, d_model)."""
        if self.window is None:
            return pooled(frames, held, self.pool)
        return _windowed(frames, held, self.pool, self.window)

    def samples(self, values: np.ndarray, held: np.ndarray) -> list[np.ndarray]:
        """Each row's samples (samples, layers, ...) from what `stacked` gave (rows, layers, ...)."""
        if self.window is None:
            return [row[None] for row in values]
        counts = self.counts(held)
        return [row[:, :count].swapaxes(0, 1) for row, count in zip(values, counts, strict=True)]

    def stacked(self, read: dict[Place, torch.Tensor]) -> dict[str, np.ndarray]:
        """Arrays by site, (rows, layers, ...) fp32; `embed` exists once and is repeated over the layers."""
        return {
            site: torch.stack(
                [read[0 if site == "embed" else layer, site] for layer in self.layers], dim=1
            ).numpy()
            for site in self.sites
        }


def reading_of(
    model: Model,
    *,
    sites: Sequence[str],
    layers: Sequence[int] | None,
    pool: str | None,
    window: float | None,
) -> Reading:
    """The reading that was asked for: layers ascending, all when None; the window in seconds.

    Raises:
        ModelError: When a layer, site or pool does not exist, or a window has no pool.
        ActivationsError: When the window is no length of time.
    """
    asked = list(layers) if isinstance(layers, Iterable) else model.layers if layers is None else [layers]
    wanted = tuple(sorted({int(layer) for layer in asked if _is_layer(model, layer)}))
    if not wanted or not all(_is_layer(model, layer) for layer in asked):
        raise ModelError(
            f"The layers {list(asked)} were asked for",
            f"{model.id} has layers 0-{model.n_layers - 1}",
            "Use some of model.layers",
        )
    frames = None if window is None else window_frames(window, model.frame_rate_hz)
    return Reading(tuple(sites), wanted, pool, frames)


def _is_layer(model: Model, layer: object) -> bool:
    """Whether it is the number of a block; "3", 3.0 and True are none."""
    return isinstance(layer, int | np.integer) and not isinstance(layer, bool) and layer in model.layers


def reading_attrs(model: Model, reading: Reading) -> dict[str, Any]:
    """What a capture says about the model and the way it was read; heads and windows only where there are."""
    told: dict[str, Any] = {
        "model_id": model.id,
        "model_fingerprint": model.fingerprint,
        "dtype": str(model.dtype).removeprefix("torch."),
        "n_layers": model.n_layers,
        "frame_rate_hz": model.frame_rate_hz,
        "pool": reading.pool,
    }
    if "head_out" in reading.sites:
        told["n_heads"] = model.n_heads
    if reading.window is not None:
        told["window"] = reading.window
    return told


def read_codes(
    model: Model, codes: Sequence[np.ndarray], text: TextStates, reading: Reading
) -> dict[str, np.ndarray]:
    """Activations of one batch: by site (rows, layers, [frames,] d_model) fp32, NaN behind the end of a clip.

    With windows (rows, layers, windows, d_model); `reading.samples` makes samples of them.

    Args:
        model: The model.
        codes: One array (k, frames) per row.
        text: The text states of as many rows.
        reading: What to read.

    Raises:
        ActivationsError: For codes that are longer than what the decoder has positions for.
    """
    network, places = model.network, reading.places
    check_frames(model, max(array.shape[-1] for array in codes))
    ids, held = padded_ids(model, codes)
    read: dict[Place, torch.Tensor] = {}
    with model.exclusive(), network.read(ids, text) as tracer:
        for place in places:
            read[place] = reading.pooled(live(network, place)[:, text.prefix + 1 :], held)
        tracer.stop()  # what lies behind the last place is not needed
    return reading.stacked(read)


def check_frames(model: Model, frames: int, clip: str = "a clip") -> None:
    """Raise ActivationsError where a clip has more frames than the decoder has positions for.

    Positions are computed, so the decoder would read on without a word, where it was never trained.
    """
    if frames > model.max_frames:
        most_s = math.floor(10 * model.max_seconds) / 10
        raise ActivationsError(
            f"Activations of {frames / model.frame_rate_hz:.1f} s of {clip} were asked for",
            f"{model.id} reads at most {most_s:g} s at a time",
            f"Use seconds={most_s:g} for the beginning of each clip, or shorter clips",
        )


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


def _windowed(frames: torch.Tensor, held: torch.Tensor, pool: str | None, window: int) -> torch.Tensor:
    """Vectors (rows, windows, d_model), pooled over each window's own frames; NaN behind a row's last."""
    counts = torch.as_tensor(window_counts(held.cpu().numpy(), window))
    most = int(counts.max())
    even = torch.nn.functional.pad(
        frames, (0, 0, 0, most * window - frames.shape[1])
    )  # or cut, to whole windows
    stretches = even.reshape(-1, window, frames.shape[-1])
    inside = (held[:, None] - window * torch.arange(most, device=held.device)).clamp(1, window)
    result = pooled(stretches, inside.flatten(), pool).reshape(len(held), most, -1)
    result[torch.arange(most) >= counts[:, None]] = torch.nan
    return result


def padded_ids(
    model: Model, codes: Sequence[np.ndarray], *, behind: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Delayed ids (rows, k, 1 + longest + behind), and the number of frames (rows,) that each row holds.

    Args:
        model: The model.
        codes: One array (k, frames) per row.
        behind: Positions after the longest row's last frame began, where its other codebooks still sound.
    """
    held = torch.tensor([array.shape[-1] for array in codes], device=model.device)
    size = 1 + int(held.max()) + behind
    ids = torch.full((len(codes), model.n_codebooks, size), model.bos, device=model.device)
    for row, array in zip(ids, codes, strict=True):
        one = apply_delay(torch.tensor(array, device=model.device)[None].long(), model.bos, model.delays)
        used = min(one.shape[-1], ids.shape[-1])
        row[:, :used] = one[0, :, :used]
    return ids, held
