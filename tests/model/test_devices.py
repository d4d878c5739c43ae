"""A decoder on several devices: two fake ones, which know shapes only and refuse whatever mixes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from steering_fixture import direction
from torch._subclasses.fake_tensor import FakeTensorMode

import workbench as wb
from workbench.errors import GenerationError, ModelError
from workbench.evidence import causal
from workbench.evidence.causal import Cell, Line, Passage, read_states
from workbench.generation.edits import Sliders, compile_plans
from workbench.generation.request import settings_of
from workbench.generation.steer import run_steered
from workbench.model.network import spread_blocks
from workbench.model.teacher_forcing import reading_of
from workbench.steering import Gate, ReadOut

TWO = [torch.device("cpu"), torch.device("cpu:1")]  # torch has numbers for processors, too
SETTINGS: dict[str, Any] = {"seconds": 0.4, "seed": 3, "progress": False}


def move(module: torch.nn.Module, *, device: torch.device) -> torch.nn.Module:
    """Do what `Module.to` does, which cannot swap the fake parameters of a CPU-only torch."""
    for part in module.modules():
        for name, one in part.named_parameters(recurse=False):
            part.register_parameter(name, torch.nn.Parameter(one.to(device), requires_grad=False))
        for name, one in part.named_buffers(recurse=False):
            part.register_buffer(name, one.to(device), persistent=False)
    return module


@pytest.fixture
def spread(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A model of fake tensors, the second half of its blocks on another device than the first."""
    model = wb.load(tiny_folder)
    model.residual_norms()
    plain = torch.tensor  # it does not tell processors apart

    def tensor(values: Any, *, device: Any = None, **more: Any) -> torch.Tensor:
        made = plain(values, **more)
        return made if device is None else torch.zeros(made.shape, dtype=made.dtype, device=device)

    monkeypatch.setattr(torch, "tensor", tensor)
    monkeypatch.setattr(torch.nn.Module, "to", move)
    with FakeTensorMode(allow_non_fake_inputs=True):
        model.musicgen.to(device=TWO[0])
        spread_blocks(model.musicgen.decoder, TWO)
        yield model


def test_blocks_are_shared_evenly_and_in_order(spread: Any) -> None:
    where = [spread.device_of(layer) for layer in spread.layers]
    assert where == sorted(where, key=str) and list(spread.devices) == TWO
    assert abs(where.count(TWO[0]) - where.count(TWO[1])) <= 1
    assert spread.device == TWO[0] and "runs on cpu, cpu:1" in spread.describe()


def test_a_vector_a_gate_and_a_slider_follow_their_block(spread: Any) -> None:
    last = spread.n_layers - 1
    read_out = ReadOut(("jazz", "rock"), np.eye(2, spread.d_model), np.zeros(2), last)
    gate = Gate(read_out, "jazz", "below", 0.5, 0.1)
    plan = direction(spread, 0).at(0.1) + direction(spread, last, seed=1, name="rock").at(0.2, gate=gate)
    run = spread.sampling(["a tune"], seeds=[0], frames=4)
    edits = compile_plans([plan], [0.0] * run.visits, guided=True, device_of=spread.device_of)
    sliders = Sliders()
    sliders.slide(0, 0.5)
    watched = [(0, "embed"), (last, "mlp_out")]
    _receipt, seen = run_steered(spread, run, edits, watched, sliders)
    assert [seen[place].device for place in watched] == TWO
    assert [group[0].weights.device for group in edits.values()] == TWO


def test_a_vector_on_the_wrong_device_is_what_these_tests_find(spread: Any) -> None:
    plan = direction(spread, spread.n_layers - 1).at(0.1)
    run = spread.sampling(["a tune"], seeds=[0], frames=4)
    edits = compile_plans([plan], [0.0] * run.visits, guided=True, device_of=lambda _layer: TWO[0])
    with pytest.raises(RuntimeError, match="device"):
        run_steered(spread, run, edits)


def test_patches_and_captures_follow_their_block(spread: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = torch.zeros(1, spread.n_codebooks, 10, dtype=torch.long)  # which a fake model cannot count out
    monkeypatch.setattr(causal, "padded_ids", lambda *_of, **_more: (ids, None))
    passage = Passage(np.zeros((spread.n_codebooks, 5), int), "a tune", settings_of(spread))
    places = [(0, "resid_post"), (spread.n_layers - 1, "resid_post")]
    states = {place: torch.ones(9, spread.d_model, device=TWO[0]) for place in places}
    patches = [[Cell(Line(*place), 1, 3)] for place in places]
    read = read_states(spread, passage, places, variants=patches, donor=states)
    assert {one.device for one in read.values()} == {TWO[0]}
    frames, lengths = torch.ones(2, 5, 8, device=TWO[1]), torch.tensor([5, 3], device=TWO[0])
    assert reading_of(spread, pool="mean").pooled(frames, lengths).device.type == "cpu"


def test_a_model_spread_by_load_draws_the_same(tiny_folder: Path, tiny_model: Any) -> None:
    model = wb.load(tiny_folder, device=["cpu", "cpu"])
    plan = direction(tiny_model, 1).at(0.3)
    one, other = (wb.generate(each, "a tune", steering=plan, **SETTINGS) for each in (model, tiny_model))
    assert np.array_equal(one.codes, other.codes) and one.receipt.ok


def test_devices_that_are_not_there_and_engines_for_one_are_refused(spread: Any, tiny_folder: Path) -> None:
    with pytest.raises(ModelError, match="tpu"):
        wb.load(tiny_folder, device=["cpu", "tpu"])
    with pytest.raises(GenerationError, match="its blocks are on 2 devices"):
        wb.generate(spread, "a tune", engine="compiled", **SETTINGS)
