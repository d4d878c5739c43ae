"""Do clips stand still? The longest hold in every kept clip, so that no genre is won by one long chord."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from workbench.evidence.hold import longest_hold
from workbench.sound import read_clip

KINDS = ("real", "prompted", "steered")
LONG_S = 2.0

Held = dict[str, dict[str, dict[str, float]]]
"""kind -> genre -> n, median_s, share of clips with a hold of more than LONG_S."""


def measure_held(out: Path, genres: Sequence[str]) -> Held:
    """Return how long the kept clips under `out` stand still, by kind and genre."""
    return {kind: {genre: _held(out / kind / genre) for genre in genres} for kind in KINDS}


def _held(folder: Path) -> dict[str, float]:
    holds = np.array([longest_hold(read_clip(path)) for path in sorted(folder.glob("*.wav"))])
    if not len(holds):
        return {"n": 0, "median_s": 0.0, "long": 0.0}
    return {
        "n": len(holds),
        "median_s": round(float(np.median(holds)), 2),
        "long": round(float((holds > LONG_S).mean()), 3),
    }
