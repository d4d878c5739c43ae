"""Every published checkpoint's shape: its size as it is said before fetching, and its whole way through.

Weights are random. Of the large ones eight blocks are run, and the memory that all would take is predicted;
`make verify-shapes` runs them one after another, each in a process of its own.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden import GOLDEN, MOST_WIDE_LAYERS, SIZES, configuration, save_golden
from tones import tone_clip

from workbench.errors import DiskError, ModelError
from workbench.generation.generate import extend, generate
from workbench.model import checkpoints
from workbench.model.capture import capture
from workbench.model.checkpoints import CHECKPOINTS, cached, facts, fetch
from workbench.model.load import load
from workbench.probing import fit_probes
from workbench.sound.clip import Clip
from workbench.sound.dataset import Dataset, Entry

MOST_GB = 20


def one_second_clips() -> Dataset:
    """Four clips of 1 s, two genres."""
    sounds = {f"{genre} {i}": Clip(tone_clip(n, i, seconds=1.0), 16_000)
              for n, genre in enumerate(("jazz", "rock")) for i in range(2)}  # fmt: skip
    entries = (
        Entry(name, {"genre": name.split()[0]}, name, name, one.digest) for name, one in sounds.items()
    )
    return Dataset(tuple(entries), "short clips", lambda entry: sounds[entry.id])


@pytest.mark.parametrize("name", GOLDEN)
def test_a_published_checkpoint_has_the_size_that_is_told(name: str) -> None:
    model_of, config = configuration(name)
    with torch.device("meta"):
        model: Any = model_of(config)
    own, (layers, width, heads, wide) = CHECKPOINTS[name], SIZES[GOLDEN[name][0]]
    assert (own.layers, own.width, own.heads, 4 * own.width) == (layers, width, heads, wide)
    assert own.codebooks == model.decoder.config.num_codebooks == 4 * model.decoder.config.audio_channels
    assert own.parameters == sum(parameter.numel() for parameter in model.parameters())
    decoder = sum(p.numel() for n, p in model.named_parameters() if "_encoder." not in n)
    assert own.decoder == decoder


def test_every_published_checkpoint_is_in_the_table() -> None:
    assert set(CHECKPOINTS) == set(GOLDEN)
    table = facts()
    assert set(table["licence"]) == {"CC-BY-NC 4.0"}
    small = ["0.59 billion", "2.35 GB", "2.55 GB", "1.39 GB", "1.31 GB", "1.16 GB"]
    assert list(table.loc["facebook/musicgen-small"])[:6] == small


def run_golden(name: str, folder: Path, *, layers: int | None = None) -> None:
    """Load a published shape, and read, steer and continue it, a second each."""
    model: Any = load(save_golden(folder, name, layers=layers), device="cpu", dtype="bfloat16")
    assert (model.n_layers, model.d_model) == (
        layers or CHECKPOINTS[name].layers,
        CHECKPOINTS[name].width,
    )
    acts = capture(model, one_second_clips(), progress=False, cache=False)
    middle = model.n_layers // 2
    plan = (
        fit_probes(acts, folds=2, layers=[middle], shuffles=2, progress=False)[middle]
        .direction("jazz")
        .at(0.5)
    )
    melody = Clip(tone_clip(1, 0), 16_000) if model.takes_melody else None
    take = generate(model, "a calm tune", steering=plan, seconds=1.0, melody=melody, progress=False)
    stereo = GOLDEN[name][1]
    assert take.codes.shape == (8 if stereo else 4, 50) and (take.clip.sides is not None) == stereo
    assert take.receipt.changed == 53 and np.isfinite(take.clip.samples).all()
    longer = extend(model, take, seconds=1.0, progress=False)
    assert longer.codes.shape[1] == 100 and np.array_equal(longer.codes[:, :50], take.codes)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", GOLDEN)
def test_a_published_shape_is_loaded_read_steered_and_continued(name: str, tmp_path: Path) -> None:
    layers = MOST_WIDE_LAYERS if "large" in name else None
    try:
        run_golden(name, tmp_path / "model", layers=layers)
    finally:
        shutil.rmtree(tmp_path / "model", ignore_errors=True)  # gigabytes, which pytest would keep
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    whole = {one: CHECKPOINTS[name].memory(one) / 1e9 for one in checkpoints.PRECISIONS}
    told = ", ".join(f"{gb:.1f} GB in {one}" for one, gb in whole.items())
    print(f"{name}, {layers or 'all'} layers: at most {used:.1f} GB; all layers: {told}")  # noqa: T201
    assert used < MOST_GB


@pytest.mark.long
def test_a_stereo_melody_shape_of_two_layers_is_steered_and_continued(tmp_path: Path) -> None:
    try:
        run_golden("facebook/musicgen-stereo-melody", tmp_path / "model", layers=2)
    finally:
        shutil.rmtree(tmp_path / "model", ignore_errors=True)


def test_a_checkpoint_is_cached_only_with_all_its_weights(tiny_folder: Path, tmp_path: Path) -> None:
    """In fresh processes, for the hub's library reads where its cache is when it is imported."""
    place = tmp_path / "models--someone--tiny"
    shutil.copytree(tiny_folder, place / "snapshots" / "0")
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("0")
    code = "from workbench.model.checkpoints import *\nprint(cached('someone/tiny'), cached('someone/else'))"
    offline = {**os.environ, "HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}

    def told() -> str:
        done = subprocess.run([sys.executable, "-c", code], env=offline, capture_output=True, text=True)
        return done.stdout.strip() or done.stderr

    assert told() == f"{place / 'snapshots' / '0'} None"
    (place / "snapshots" / "0" / "model.safetensors").unlink()
    assert told() == "None None"


def test_fetching_is_asked_only_where_nothing_is_here(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[tuple[str, Any]] = []

    def give(name: str, **how: Any) -> str:
        asked.append((name, how))
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", give)
    assert fetch(str(tmp_path)) == tmp_path and fetch("embedded").name == "model" and not asked
    assert cached("facebook/musicgen-small") is None, "nothing is fetched in tests"
    monkeypatch.setattr(checkpoints, "free_on_disk", lambda _path: 10**9)
    with pytest.raises(DiskError, match=r"it takes 2.35 GB, and 1.00 GB are free"):
        fetch("facebook/musicgen-small")
    monkeypatch.setattr(checkpoints, "free_on_disk", lambda _path: 10**10)
    assert fetch("facebook/musicgen-small") == tmp_path
    assert [name for name, _how in asked] == ["facebook/musicgen-small"]
    assert "*.safetensors" in asked[0][1]["allow_patterns"]


def test_what_the_hub_does_not_give_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_name: str, **_how: Any) -> str:
        raise ConnectionError("no route to the hub")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    with pytest.raises(ModelError, match=r"no route to the hub.*what has arrived is kept"):
        fetch("someone/else")
