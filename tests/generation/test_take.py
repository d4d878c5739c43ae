"""A take on disk: an equal value comes back, and damage is named."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from generation_samples import Reader
from steering_fixture import direction
from tolerances import ROUNDED, SUMMED

from workbench.errors import GenerationError
from workbench.generation.generate import generate
from workbench.generation.take import ProbeTrace, Take


@pytest.fixture(scope="module")
def take(tiny_model: Any) -> Take:
    plan = direction(tiny_model, 1).at(0.5)
    return generate(
        tiny_model, "a calm tune", steering=plan, seed=3, seconds=0.6, progress=False, probes=[Reader()]
    )


def test_law_10_take_round_trips_through_disk(take: Take, tmp_path: Path) -> None:
    loaded = Take.load(take.save(tmp_path / "take"))
    assert loaded == take
    assert loaded.receipt == take.receipt
    assert len(loaded.receipt) == 18
    assert loaded.probe_traces == take.probe_traces
    assert {path.name for path in (tmp_path / "take").iterdir()} == {
        "take.wav",
        "codes.safetensors",
        "take.json",
        "plan.safetensors",
    }


@pytest.mark.parametrize("change", ["codes", "seed", "clip", "receipt", "probe_traces", "steering"])
def test_takes_that_differ_anywhere_are_unequal(take: Take, change: str) -> None:
    codes = take.codes.copy()
    codes[0, 0] += 1
    other = {
        "codes": codes,
        "seed": 4,
        "clip": dataclasses.replace(take.clip, samples=take.clip.samples * 0.5),
        "receipt": Take(take.clip, take.codes, "x", 0).receipt,
        "probe_traces": (),
        "steering": "",
    }
    assert dataclasses.replace(take, **{change: other[change]}) != take


def test_provenance_is_kept_but_is_no_part_of_equality(take: Take, tmp_path: Path) -> None:
    kept = json.loads((take.save(tmp_path) / "take.json").read_text())
    assert {"musicgen-workbench", "torch", "transformers", "nnsight"} < set(kept["versions"])
    assert (kept["versions"]["device"], kept["versions"]["precision"]) == ("cpu", "float32")
    assert kept["saved"].startswith("20")
    assert dataclasses.replace(take, versions={}) == take


@pytest.mark.parametrize("damage", ["no take", "cut json", "cut codes", "no sound"])
def test_damage_is_named(take: Take, tmp_path: Path, damage: str) -> None:
    folder = take.save(tmp_path / "take")
    if damage == "no take":
        folder = tmp_path
    elif damage == "no sound":
        (folder / "take.wav").unlink()
    else:
        path = folder / ("take.json" if damage == "cut json" else "codes.safetensors")
        path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(GenerationError, match="was asked for, but it cannot be read"):
        Take.load(folder)


def test_a_take_shows_a_player_and_escapes_its_prompt(take: Take) -> None:
    shown = dataclasses.replace(take, prompt="<script>")._repr_html_()
    assert "<audio" in shown
    assert "<script>" not in shown


def test_probe_trace_has_one_reading_per_frame(take: Take) -> None:
    (trace,) = take.probe_traces
    assert isinstance(trace, ProbeTrace)
    assert trace.probabilities.shape == (15, 2)
    assert np.allclose(trace.probabilities.sum(1), 1, **SUMMED)
    assert np.allclose(np.diff(trace.seconds), 1 / 25, **ROUNDED)
