"""The compiled engine draws what the traced one draws: sites, continuations, windows, melodies, sliders."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from steering_fixture import direction
from tolerances import NETWORK, PUSHED, STREAM

import workbench as wb
from workbench.errors import Cancelled, GenerationError
from workbench.generation import compiled
from workbench.generation.generate import generate, generate_long
from workbench.generation.reproduce import reproduction_code
from workbench.model.conditioning import Melody
from workbench.model.load import load
from workbench.model.network import SITES
from workbench.steering.operations import OPERATIONS

PROMPTS = ["a calm tune", "a very long and fast tune for the dance floor"]
SETTINGS: dict[str, Any] = {"seconds": 0.4, "progress": False, "top_k": 50}


@pytest.fixture(autouse=True)
def only_traced_by_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiler's front, not its code generator, which takes a minute a kind of run."""
    monkeypatch.setattr(compiled, "BACKEND", "eager")


def both(model: Any, prompts: Any = PROMPTS, draw: Any = generate, **settings: Any) -> tuple[Any, Any]:
    """The takes of both engines."""
    traced = draw(model, prompts, **{**SETTINGS, **settings})
    return traced, draw(model, prompts, engine="compiled", **{**SETTINGS, **settings})


def same(one: Any, other: Any) -> bool:
    """Whether two takes have the same codes, and receipts that agree to rounding."""
    cells, others = one.receipt.cells, other.receipt.cells
    exact = ["step", "seconds", "layer", "site", "row", "term", "planned", "reason"]
    assert cells[exact].equals(others[exact])
    assert np.allclose(cells.norm_change, others.norm_change, **PUSHED)
    assert np.allclose(cells.angle, others.angle, atol=0.1)
    return bool(np.array_equal(one.codes, other.codes))


def test_law_12_every_site_and_operation_gives_the_traced_codes(tiny_model: Any) -> None:
    at = {site: direction(tiny_model, 0 if site == "embed" else 1, site=site) for site in SITES}
    plans = [at[site].at(0.4, operation=name) for site, name in zip(SITES * 2, OPERATIONS, strict=False)]
    plans += [one.at(0.5, branch="both") for one in at.values()]
    traced, again = both(tiny_model, "a tune", steering=plans, seed=[*range(len(plans))])
    assert all(map(same, traced, again))
    assert all(take.receipt.changed for take in again)


def test_law_12_prompts_of_different_lengths_and_given_frames(tiny_model: Any) -> None:
    (plain,) = generate(tiny_model, PROMPTS[:1], **SETTINGS)
    plan = direction(tiny_model, 1).at(0.5) + direction(tiny_model, 2, seed=1, name="rock").at(-0.2)
    traced, again = both(tiny_model, steering=plan, audio=plain.codes)
    assert all(map(same, traced, again))
    assert np.array_equal(again[0].codes[:, : plain.codes.shape[1]], plain.codes)


def test_law_12_windows_slide_sliders_move_and_probes_read(tiny_model: Any) -> None:
    class Reader:
        layer, site, target, classes = 2, "mlp_out", "side", ("left", "right")

        def predict_proba(self, x: np.ndarray) -> np.ndarray:
            return x[:, :2]

    plan = direction(tiny_model, 1).at(1.0)
    how: dict[str, Any] = {"window_seconds": 0.4, "overlap_seconds": 0.16, "seconds": 0.8}
    how["sliders"] = {plan.terms[0].direction.name: lambda seconds: 0.2 + seconds}
    how |= {"guidance": 1.0, "probes": [Reader()]}
    traced, again = both(tiny_model, PROMPTS[0], generate_long, steering=plan, **how)
    assert same(traced, again)
    assert len(again.windows) > 1
    read, expected = again.probe_traces[0].probabilities, traced.probe_traces[0].probabilities
    assert np.allclose(read, expected, **NETWORK)


def test_law_12_a_melody_before_texts_of_different_lengths(melody_model: Any) -> None:
    plan, tune = direction(melody_model, 1).at(0.5), Melody((0, 4, 7))
    traced, again = both(melody_model, steering=plan, melody=[tune, None])
    assert all(map(same, traced, again))
    assert not np.array_equal(again[0].codes, again[1].codes)


def test_a_cancelled_run_stops_and_leaves_the_model_free(tiny_model: Any) -> None:
    cancel = threading.Event()
    heard: list[int] = []

    def stop(done: int, codes: torch.Tensor) -> None:
        heard.append(done)
        cancel.set()

    with pytest.raises(Cancelled):
        generate(tiny_model, "a tune", engine="compiled", on_frame=stop, cancel=cancel, **SETTINGS)
    assert heard == [1]
    assert tiny_model.lock.acquire(blocking=False)
    tiny_model.lock.release()
    generate(tiny_model, "a tune", **SETTINGS)


def test_a_take_says_its_engine_and_other_doses_need_no_compiler(tiny_model: Any) -> None:
    settings = {"engine": "compiled", **SETTINGS}
    take = generate(tiny_model, "a tune", steering=direction(tiny_model, 1).at(0.5), **settings)
    assert "engine='compiled'" in reproduction_code(take, model="x")
    torch._dynamo.utils.counters.clear()
    other = direction(tiny_model, 1, seed=4, name="other").at(-0.3, schedule=wb.ramp(0, 0.2))
    generate(tiny_model, "a very calm song", steering=other, seed=7, **settings)
    long = "a very long and fast tune for the dance floor " * 5
    generate(tiny_model, long, steering=other, **{**settings, "seconds": 6.0})
    again = wb.reproduce(tiny_model, take, progress=False)
    assert again.versions["engine"] == take.versions["engine"] == "compiled"
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 0


def test_without_a_compiler_the_other_engine_is_named(
    tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def backend(_graph: Any, _inputs: Any) -> Any:
        raise RuntimeError("No working C++ compiler found")

    monkeypatch.setattr(compiled, "BACKEND", backend)
    with pytest.raises(GenerationError, match=r'No working C\+\+ compiler found.*engine="nnsight"'):
        generate(tiny_model, "a tune", guidance=1.0, engine="compiled", **SETTINGS)
    assert generate(tiny_model, "a tune", **SETTINGS).seconds > 0  # and the model is free


def test_an_engine_that_is_not_there_is_refused_with_the_choices(tiny_model: Any) -> None:
    with pytest.raises(GenerationError, match="nnsight and compiled"):
        generate(tiny_model, "a tune", engine="fast", **SETTINGS)


@pytest.mark.long
@pytest.mark.parametrize("precision", ["float32", "int8", "int4"])
def test_law_12_compiled_to_machine_code_gives_the_traced_codes(
    tiny_folder: Path, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "BACKEND", "inductor")
    model = load(tiny_folder, device="cpu", dtype=precision)
    plan = direction(model, 1).at(0.5) + direction(model, 2, seed=1, name="rock").at(-0.2)
    for traced, again in zip(*both(model, steering=plan), strict=True):
        assert np.array_equal(traced.codes, again.codes)
        changes = traced.receipt.cells.norm_change, again.receipt.cells.norm_change
        assert np.allclose(*changes, rtol=STREAM[precision], atol=50 * STREAM[precision])
