"""The true shapes of MusicGen through the real path: saved, loaded, checked, captured, steered, heard.

Weights are random and stored in bfloat16; everything else (widths, depths, heads, codec, frame rate) is what
the published checkpoints have. Every test run has the small one's shape with two of its 24 blocks; the whole
ones belong to `make verify-laws`.
"""

from __future__ import annotations

import json
import resource
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from generation_samples import SHAPES, save_true_shape
from tones import tone_clip

from workbench.generation.generate import generate
from workbench.model.capture import capture
from workbench.model.load import load
from workbench.model.musicgen import measure_residual_norms
from workbench.probing.fit import fit_probes
from workbench.sound.clip import Clip
from workbench.sound.dataset import Dataset, Entry


def short_clips() -> Dataset:
    """Eight clips of 0.4 s, two genres, at another rate than the model's."""
    sounds = {
        f"{genre} {index}": Clip(tone_clip(number, index, seconds=0.4), 16_000)
        for number, genre in enumerate(("jazz", "rock"))
        for index in range(4)
    }
    entries = tuple(
        Entry(name, {"genre": name.split()[0]}, name, name, sound.digest) for name, sound in sounds.items()
    )
    return Dataset(entries, "short clips", lambda entry: sounds[entry.id])


@pytest.mark.long
@pytest.mark.parametrize("size", SHAPES)
@pytest.mark.timeout(1800)
def test_true_shape_loads_captures_probes_and_generates_steered(tmp_path: Path, size: str) -> None:
    layers, width, _heads = SHAPES[size]
    started, folder = time.perf_counter(), tmp_path / f"musicgen-{size}"
    try:
        model: Any = load(save_true_shape(folder, size), device="cpu", dtype="bfloat16")
        norms = measure_residual_norms(model, seconds=0.1)
        (folder / "workbench.json").write_text(json.dumps({"residual_norms": norms.tolist()}))
        assert (model.n_layers, model.d_model) == (layers, width)
        assert (model.n_codebooks, model.codebook_size) == (4, 2048)
        assert (model.rate_hz, model.frame_rate_hz) == (32_000, 50.0)
        assert model.max_seconds > 30
        assert len(np.unique(model.encode(short_clips().clip(0)).numpy())) > 8, (
            "the codec must hear something"
        )
        acts = capture(model, short_clips(), progress=False, cache=False)
        assert acts.matrix(layers - 1).shape == (8, width)
        probe = fit_probes(acts, folds=2, layers=[layers // 2], shuffles=2)[layers // 2]
        plan = probe.direction("jazz").at(0.5)
        assert plan.layers == (layers // 2,)
        melody = Clip(tone_clip(1, 0), 16_000) if size == "melody" else None
        take = generate(model, "a calm tune", steering=plan, seconds=1.0, melody=melody, progress=False)
        assert take.codes.shape == (4, 50)
        assert take.clip.seconds == pytest.approx(1.0)
        assert take.receipt.changed == 53
        assert np.isfinite(take.clip.samples).all()
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # gigabytes, which pytest would keep for three runs
    seconds, gigabytes = (
        time.perf_counter() - started,
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    )
    print(f"musicgen-{size}: {seconds:.0f} s, at most {gigabytes:.1f} GB")  # noqa: T201
    if size == "small":
        assert gigabytes < 8
