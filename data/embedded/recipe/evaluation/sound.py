"""What the sound itself shows: groove, damage, speed, size."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from recipe.evaluation.bench import Bench, Heard
from recipe.evaluation.rows import Bar, Row
from workbench.evidence.damage import damage
from workbench.evidence.features import FRAMES_A_SECOND, onset_strength
from workbench.generation.generate import generate
from workbench.sound import Clip
from workbench.stats import bootstrap

GROOVE, SPEED, SIZE = Bar(at_least=0.9), Bar(at_least=5), Bar(at_most=45)
_REPEATS = 5
BEAT_SECONDS = (0.42, 0.9)  # 143 to 67 beats a minute


def measure_groove(generated: Mapping[str, Heard], real: Heard) -> tuple[Row, dict[str, float]]:
    """Return the median groove score of generated clips over that of real ones, and each set's median.

    Args:
        generated: sets of clips, by name; all count together.
        real: decoded renders.
    """
    scores = {name: _scores(heard.clips) for name, heard in {**generated, "real": real}.items()}
    ours = np.concatenate([scores[name] for name in generated])
    values = np.concatenate([ours, scores["real"]])
    is_real = np.arange(len(values)) >= len(ours)

    def ratio(chosen: np.ndarray) -> float:
        renders = np.median(values[chosen[is_real[chosen]]])
        return float(np.median(values[chosen[~is_real[chosen]]]) / max(renders, 1e-9))

    everything = np.arange(len(values))
    low, high = bootstrap(ratio, everything, strata=is_real)
    row = Row("groove.ratio", "groove: beat peak of the onset autocorrelation, generated over real (medians)",
              GROOVE, ratio(everything), low, high, len(ours),
              note=f"{len(scores['real'])} real clips; interval: bootstrap of clips")  # fmt: skip
    return row, {name: round(float(np.median(found)), 4) for name, found in scores.items()}


def measure_damage(sets: Mapping[str, Heard]) -> dict[str, dict[str, float]]:
    """Return the medians of the guards against broken audio, by set of clips."""
    told = {}
    for name, heard in sets.items():
        found = [damage(clip) for clip in heard.clips]
        told[name] = {key: round(float(np.median([one[key] for one in found])), 4) for key in found[0]}
    return told


def measure_speed(bench: Bench) -> Row:
    """Return how many times faster than it sounds one guided clip is made, decoding included.

    The median of five runs after one that is not counted; its interval is the slowest and fastest run. The
    number of threads is the machine's.
    """
    times = []
    for seed in range(_REPEATS + 1):
        begin = time.perf_counter()
        generate(bench.model, "a tune", seed=seed, seconds=bench.seconds, progress=False)
        times.append(bench.seconds / (time.perf_counter() - begin))
    runs = np.array(times[1:])
    note = f"{torch.get_num_threads()} threads; interval: slowest and fastest run"
    return Row("speed", "generation with guidance, one clip, decoding included, times real time", SPEED,
               float(np.median(runs)), float(runs.min()), float(runs.max()), _REPEATS,
               f"1-{_REPEATS}", note)  # fmt: skip


def measure_size(data: Path) -> tuple[Row, dict[str, float]]:
    """Return the size in MB (1e6 bytes) of all files of the built-in model, and of each folder."""
    files = [path for path in data.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    sizes: dict[str, float] = {}
    for path in files:
        top = path.relative_to(data).parts
        name = f"{top[0]}/" if len(top) > 1 else "cards and figures"
        sizes[name] = sizes.get(name, 0.0) + path.stat().st_size / 1e6
    total = sum(sizes.values())
    what = "size of everything that ships with the model, MB (n: files)"
    row = Row("size", what, SIZE, total, total, total, len(files))
    return row, {name: round(size, 2) for name, size in sorted(sizes.items())}


def _scores(clips: Sequence[Clip]) -> np.ndarray:
    return np.array([groove_score(clip) for clip in clips])


def groove_score(clip: Clip) -> float:
    """Return the largest autocorrelation of the onset strength at lags of 0.42 to 0.9 s, from 0 to 1.

    A drum loop scores 0.6 to 1, noise about 0.1 (the largest of fifty chance correlations), a held tone or a
    clip shorter than two of the longest beats 0. At each lag both stretches are normalised by themselves, so
    that the score does not fall with the lag.
    """
    onsets = onset_strength(clip)
    shortest, longest = (round(seconds * FRAMES_A_SECOND) for seconds in BEAT_SECONDS)
    if len(onsets) < 2 * longest:
        return 0.0
    return max(0.0, *(_correlation(onsets[lag:], onsets[:-lag]) for lag in range(shortest, longest + 1)))


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 1e-9 else 0.0
