"""A generation that cannot fit into memory is refused, and one for which it runs out goes on in halves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from steering_fixture import direction
from tolerances import NETWORK

import workbench as wb
from workbench.errors import GenerationError
from workbench.generation.generate import generate
from workbench.model import capture_plan, network, teacher_forcing
from workbench.model.capture_plan import generation_cost
from workbench.model.sampling import draw

SHAPE: dict[str, Any] = {"clips": 8, "context": 0, "frames": 10, "whole": 10, "guided": True}
SETTINGS: dict[str, Any] = {"seconds": 0.4, "progress": False, "seed": [1, 2, 3, 4, 5]}


def full_beyond(rows: int, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Let memory be exhausted where more than so many clips are drawn at once."""

    def limited(logits: torch.Tensor, run: Any) -> torch.Tensor:
        if run.batch > rows:
            raise error
        return draw(logits, run)

    monkeypatch.setattr(network, "draw", limited)


def test_a_batch_that_cannot_fit_is_refused_with_one_that_does(tiny_model: Any, monkeypatch: Any) -> None:
    free = generation_cost(tiny_model, batch=4, **SHAPE).memory
    monkeypatch.setattr("workbench.activations.spec.free_memory", lambda: free)
    with pytest.raises(GenerationError, match=r"8 clip.*of 0\.4 s were asked for.*Use batch=4, which fits"):
        generate(tiny_model, "a tune", seconds=0.4, seed=[*range(8)], progress=False)
    takes = generate(tiny_model, "a tune", seconds=0.4, seed=[*range(8)], batch=4, progress=False)
    assert len(takes) == 8


def test_the_forecast_grows_with_rows_length_and_the_stream_s_precision(tiny_model: Any) -> None:
    def memory(**changes: Any) -> int:
        return generation_cost(tiny_model, **{**SHAPE, "batch": 4, **changes}).memory

    assert memory() < memory(batch=8) < memory(batch=8, frames=100)
    assert memory(guided=False) < memory() < memory(context=200) and memory() < memory(whole=100)


ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory."),
    MemoryError(),
    RuntimeError("not enough memory: you tried"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_batch_that_runs_out_goes_on_in_halves(tiny_model: Any, monkeypatch: Any, error: Exception) -> None:
    plan = direction(tiny_model, 1).at(0.5)
    whole = generate(tiny_model, "a tune", steering=plan, **SETTINGS)
    full_beyond(3, monkeypatch, error)
    with pytest.warns(UserWarning, match="batch of 5, so 3 are done at once. Use batch=3"):
        halves = generate(tiny_model, "a tune", steering=plan, **SETTINGS)
    assert [take.seed for take in halves] == [1, 2, 3, 4, 5]
    assert all(np.array_equal(one.codes, other.codes) for one, other in zip(whole, halves, strict=True))


def test_a_half_that_runs_out_and_other_errors_are_raised(tiny_model: Any, monkeypatch: Any) -> None:
    full_beyond(1, monkeypatch, torch.OutOfMemoryError("CUDA out of memory."))
    with pytest.warns(UserWarning, match="batch of 5"), pytest.raises(RuntimeError, match="out of memory"):
        generate(tiny_model, "a tune", **SETTINGS)
    full_beyond(1, monkeypatch, RuntimeError("a fault of another kind"))
    with pytest.raises(RuntimeError, match="another kind"):
        generate(tiny_model, "a tune", **SETTINGS)
    monkeypatch.undo()
    assert len(generate(tiny_model, "a tune", **SETTINGS)) == 5


def test_captures_go_on_in_halves(tiny_model: Any, monkeypatch: Any) -> None:
    prompts = ["a tune", "a song", "a track"]
    how: dict[str, Any] = {"seeds": [1, 2, 3], "seconds": 0.4, "progress": False}
    drawn = wb.capture_generated(tiny_model, prompts, **how)
    full_beyond(2, monkeypatch, torch.OutOfMemoryError("CUDA out of memory."))
    with pytest.warns(UserWarning, match="batch of 3"):
        again = wb.capture_generated(tiny_model, prompts, **how)
    assert np.allclose(drawn.matrix(1), again.matrix(1), **NETWORK)
    assert again.coordinate("text").tolist() == prompts


def test_a_capture_of_clips_goes_on_in_halves(tiny_model: Any, tiny_dataset: Any, monkeypatch: Any) -> None:
    whole = wb.capture(tiny_model, tiny_dataset, cache=False, progress=False)
    score, sizes = teacher_forcing.read_codes, []

    def limited(model: Any, codes: Any, *more: Any) -> Any:
        sizes.append(len(codes))
        if len(codes) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return score(model, codes, *more)

    monkeypatch.setattr(capture_plan, "read_codes", limited)
    with pytest.warns(UserWarning, match="batch of 4, so 2 are done at once"):
        again = wb.capture(tiny_model, tiny_dataset, batch=4, cache=False, progress=False)
    assert np.allclose(whole.matrix(1), again.matrix(1), **NETWORK)
    assert sizes[:3] == [4, 2, 2]
