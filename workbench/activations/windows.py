"""Windows: a clip cut into stretches of equal length, each pooled into a sample of its own.

Windows follow one another without overlap. What is left at a clip's end makes a window of its own when it is
at least half as long as the others, or when the clip has no other; otherwise it is dropped. Lengths are
counted in frames here, and told in seconds.
"""

from __future__ import annotations

import math

import numpy as np

from workbench.activations.pooling import POOLS, pool
from workbench.activations.spec import refusal
from workbench.activations.values import Activations
from workbench.errors import number_or_nan


def window_frames(seconds: float, frame_rate_hz: float) -> int:
    """Return the frames of a window of `seconds`, at least one.

    Raises:
        ActivationsError: it is no length of time.
    """
    if not 0 < number_or_nan(seconds) < math.inf:
        raise refusal(
            f"Windows of {seconds} s were asked for", "that is no length of time", "Use 1.0, or None for none"
        )
    return max(1, round(seconds * frame_rate_hz))


def window_counts(held: np.ndarray, window: int) -> np.ndarray:
    """Return how many windows (n,) of `window` frames clips of `held` (n,) frames are cut into."""
    full, rest = np.divmod(np.asarray(held, dtype=int), window)
    return np.maximum(1, full + (2 * rest >= window))


def window_times(
    held: np.ndarray, window: int, frame_rate_hz: float, *, start_s: float = 0.0
) -> dict[str, np.ndarray]:
    """Return "start_s" and "length_s" of every window, clip after clip, each of shape (windows,).

    Args:
        held: frames of each clip, shape (clips,).
        window: frames of a window.
        frame_rate_hz: frames per second.
        start_s: when the clips' first frame sounds.
    """
    counts = window_counts(held, window)
    first = window * np.concatenate([np.arange(count) for count in counts])
    length = np.minimum(window, np.repeat(held, counts) - first)
    return {"start_s": start_s + first / frame_rate_hz, "length_s": length / frame_rate_hz}


def pool_windows(acts: Activations, how: str, window_s: float) -> Activations:
    """Return per-frame activations pooled per window, in memory: one sample per window, same clip and group.

    Raises:
        ActivationsError: time is not kept, the frame rate is not known, or the pool or window makes no sense.
    """
    if how not in POOLS or not acts.per_frame or "frame_rate_hz" not in acts.data.attrs:
        raise refusal(
            f"The {how!r} of windows of {window_s} s was asked for",
            f"pools are {', '.join(POOLS)}, and these activations "
            f"{'do not tell their frame rate' if acts.per_frame else 'are pooled over time already'}",
            "Capture with pool=None, or with window=...",
        )
    rate = float(acts.data.attrs["frame_rate_hz"])
    window = window_frames(window_s, rate)
    held = np.isfinite(acts.frames(int(acts.layers[0]), site=acts.sites[0])[:, :, 0]).sum(axis=1)
    counts = window_counts(held, window)
    names = [str(name) for name in acts.data.coords if name not in ("layer", "frames_held")]
    start_s = float(acts.data.attrs.get("start_s", 0.0))
    return Activations.from_arrays(
        {
            site: np.stack(
                [
                    _pooled(acts.frames(int(layer), site=site), counts, window=window, how=how)
                    for layer in acts.layers
                ],
                axis=1,
            )
            for site in acts.sites
        },
        layers=acts.layers,
        samples={name: np.repeat(acts.coordinate(name), counts) for name in names}
        | window_times(held, window, rate, start_s=start_s),
        attrs={**acts.data.attrs, "pool": how, "window": window},
        residual_norm=acts.data["residual_norm"].values,
    )


def _pooled(frames: np.ndarray, counts: np.ndarray, *, window: int, how: str) -> np.ndarray:
    """Return (windows, feature), clip after clip, of (clip, frame, feature)."""
    result = np.empty((counts.sum(), frames.shape[-1]), dtype=np.float32)
    first = np.cumsum(counts) - counts
    for number in range(counts.max()):
        members = np.flatnonzero(counts > number)
        stretch = frames[members, number * window : (number + 1) * window]
        result[first[members] + number] = pool(stretch, how)
    return result
