"""How well an atlas forecasts its time: python tests/bench_atlas.py [layers [clips a genre]].

musicgen-small's shape, random weights, cut to so many layers; six genres of the built-in music, 4 s a clip,
which goes through the codec.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

from generation_samples import SHAPES, save_true_shape

import workbench as wb
from workbench.evidence.atlas import Forecast


def main(layers: int = 2, per_genre: int = 10) -> None:
    """Print the forecast and what the atlas took."""
    SHAPES["cut"] = (layers, *SHAPES["small"][1:])
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["WORKBENCH_CACHE"] = f"{scratch}/cache"
        model = wb.load(save_true_shape(Path(scratch) / "model", "cut"), device="cpu")
        songs, told = wb.dataset("embedded").take(per_genre), list[tuple[Forecast, float]]()
        model.residual_norms()
        wb.atlas(
            model, songs, path=f"{scratch}/atlas", seconds=4, progress=False,
            on_forecast=lambda forecast: told.append((forecast, time.perf_counter())),
        )  # fmt: skip
        ((forecast, begun),) = told
        took = time.perf_counter() - begun
        share = forecast.seconds / took
        print(f"{len(songs)} clips: {forecast} It took {took:.0f} s: the forecast is {share:.2f} of it.")  # noqa: T201


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
