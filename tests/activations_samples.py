"""What several tests of activations use."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tones import tone_clip

from workbench.activations import ActivationStore, StoreSpec
from workbench.sound.clip import Clip
from workbench.sound.dataset import Dataset, Entry

N, LAYERS, D, CHUNK = 22, (0, 1, 3), 16, 5  # five chunks, the last of two samples


SITES = ("resid_post", "mlp_out")


def spec(**changes: Any) -> StoreSpec:
    samples = {
        "clip": np.array([f"jazz/naïve {n}" for n in range(N)]),
        "group": np.array([f"track {n // 2}" for n in range(N)]),
        "label_genre": np.array(["jazz", "rock"] * (N // 2)),
        "label_tempo": np.linspace(60, 120, N),
    }
    whole = StoreSpec(
        sites=SITES, layers=LAYERS, d_model=D, samples=samples, samples_per_chunk=CHUNK,
        attrs={"model_id": "tiny", "frame_rate_hz": 25.0}, residual_norm=np.array([1.0, 2.0, 3.0]),
    )  # fmt: skip
    return replace(whole, **changes)


def numbers(of: StoreSpec) -> dict[str, np.ndarray]:
    """What a capture would give: the same at every run."""
    rng = np.random.default_rng(7)
    return {site: rng.standard_normal(of.shape).astype(np.float32) for site in of.sites}


def write(store: ActivationStore, chunks: Any) -> None:
    whole = numbers(store.spec)
    for chunk in chunks:
        store.write_chunk(chunk, {site: whole[site][store.spec.rows(chunk)] for site in store.spec.sites})


def finished(path: Path, of: StoreSpec | None = None) -> ActivationStore:
    store = ActivationStore.open_or_create(path, of or spec())
    write(store, store.missing())
    return store


SECONDS = (0.4, 2.0, 0.72, 1.0, 0.08)  # 10, 50, 18, 25 and 2 frames


def of_lengths(*seconds: float) -> Dataset:
    """Clips of these lengths, two genres, two clips a group."""
    entries = tuple(
        Entry(f"clip {n}", {"genre": "jazz" if n % 2 else "rock"}, f"group {n // 2}", "made", f"{n} {length}")
        for n, length in enumerate(seconds)
    )
    return Dataset(entries, "lengths", lambda entry: _sound(int(entry.id.split()[1]), seconds))


def _sound(number: int, seconds: tuple[float, ...]) -> Clip:
    return Clip(tone_clip(number % 2, number, seconds=seconds[number]), 16_000)
