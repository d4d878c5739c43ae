"""How long the probe lab takes on the built-in music: python tests/bench_lab.py [clips per genre]

After capture and imports: probes of all layers, then every diagnosis at every layer. Maps of all layers are
timed first, with umap's import and compilation, in a process that has not seen it yet.
"""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Callable
from datetime import date
from typing import Any

import sklearn.linear_model  # noqa: F401  # imports are not what is measured
import torch

import workbench as wb
from workbench import sound
from workbench.activations import Activations
from workbench.probing import diagnosis
from workbench.probing.crossval import processors
from workbench.probing.projection import project_layers

LIMITS_S = {"maps of all layers, first import included": 60, "the whole lab, all layers": 120}


def inputs(per_genre: int | None) -> tuple[Activations, dict[str, Any]]:
    """Return the activations, and all that the lab can be given besides."""
    songs = wb.dataset("embedded")
    songs = songs if per_genre is None else songs.take(per_genre)
    model = wb.load("embedded")
    plain = {
        "log-mel, MFCC, chroma": diagnosis.sound_statistics(songs, seconds=5),
        "codes": diagnosis.codec_histogram(model, songs, seconds=5),
        "random weights": diagnosis.random_weights(model, songs, layer=model.n_layers // 2, seconds=5),
    }
    given = {
        "conditions": wb.capture_conditions(model, songs, seconds=5),
        "confounds": sound.measures(songs, seconds=5),
        "baselines": plain,
    }
    return wb.capture(model, songs, seconds=5), given


def whole_lab(acts: Activations, given: dict[str, Any]) -> None:
    """Fit the probes of all layers and examine each."""
    sweep = wb.fit_probes(acts, "genre", progress=False)
    for layer in sweep.layers:
        diagnosis.diagnose(acts, sweep.target, sweep=sweep, layer=layer, unit="groove", **given)


def timed(function: Callable[[], Any]) -> float:
    """Return the seconds that a function takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    acts, given = inputs(int(sys.argv[1]) if len(sys.argv) > 1 else None)
    threads = f"{processors()} threads (torch {torch.get_num_threads()})"
    sys.stdout.write(f"{date.today()}, {platform.machine()}, {threads}, {len(acts)} clips\n")
    works = [lambda: project_layers(acts), lambda: whole_lab(acts, given)]
    for (name, limit), work in zip(LIMITS_S.items(), works, strict=True):
        sys.stdout.write(f"{name}: {timed(work):.0f} s (at most {limit})\n")


if __name__ == "__main__":
    main()
