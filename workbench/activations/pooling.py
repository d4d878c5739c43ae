"""Pooling of per-frame activations over each sample's own frames."""

from __future__ import annotations

import numpy as np

POOLS = ("mean", "max", "last")


def pool(frames: np.ndarray, how: str) -> np.ndarray:
    """Return (sample, feature) of (sample, frame, feature); frames of NaN lie behind the end of a clip."""
    if how == "mean":
        return np.asarray(np.nanmean(frames, axis=1), dtype=np.float32)
    if how == "max":
        return np.asarray(np.nanmax(frames, axis=1), dtype=np.float32)
    held = np.isfinite(frames[:, :, 0]).sum(axis=1)
    return np.asarray(frames[np.arange(len(frames)), held - 1])
