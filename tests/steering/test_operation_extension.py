"""An operation of one's own in generate, plan text, files and the lab."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from contributing import example_file
from steering_fixture import direction
from tolerances import SUMMED

from workbench.cli import main
from workbench.errors import SteeringError
from workbench.generation.generate import generate
from workbench.generation.take import Take
from workbench.show.widgets.steer_lab import SteerLab
from workbench.steering import OPERATIONS, Operation, Steering, split_dose
from workbench.steering.operations import UnknownOperationError

EXAMPLE = example_file("An operation")


@pytest.fixture
def saturate(forget_extensions: None) -> Operation:
    runpy.run_path(str(EXAMPLE))
    return OPERATIONS["saturate"]


def forget() -> None:
    """As in a process where the example was not run."""
    from workbench.steering import operations

    del operations._registered["saturate"]


def test_the_example_is_short() -> None:
    assert len(EXAMPLE.read_text().splitlines()) <= 30


def test_its_push_saturates_and_a_dose_of_0_changes_nothing(saturate: Operation) -> None:
    h, v = torch.randn(4, 1, 16), torch.eye(16)[3]
    assert torch.equal(saturate(h, v, 0.0, residual_norm=8.0), h)
    small, huge = (saturate(h, v, dose, residual_norm=8.0) - h for dose in (1e-3, 1e3))
    assert torch.allclose(small[..., 3], torch.tensor(8e-3), **SUMMED)
    assert torch.allclose(huge[..., 3], h.norm(dim=-1) / 4, **SUMMED)


def test_it_steers_by_name_or_itself_and_its_receipt_says_so(tiny_model: Any, saturate: Operation) -> None:
    jazz = direction(tiny_model, 1)
    plan = jazz.at(0.3, operation=saturate)
    assert plan == jazz.at(0.3, operation="saturate")
    settings: dict[str, Any] = {"seconds": 0.4, "seed": 3, "progress": False}
    take = generate(tiny_model, "a tune", steering=plan, **settings)
    assert take.receipt.ok and take.receipt.changed == len(take.receipt)
    assert not np.array_equal(take.codes, generate(tiny_model, "a tune", **settings).codes)
    assert take.receipt.cells.norm_change.max() < 0.3 * jazz.residual_norm, "less than add would have pushed"


def test_plan_text_files_and_shared_doses_know_it(
    tiny_model: Any, saturate: Operation, tmp_path: Path
) -> None:
    plan = direction(tiny_model, 1).at(0.3, operation=saturate)
    assert plan.text() == "saturate(0.3*jazz@1) | constant | cond"
    assert Steering.parse(plan.text(), plan.directions) == plan
    assert json.loads(plan.to_json())[0]["operation"] == "saturate", "the name, never the code"
    assert (-plan).terms[0].dose == -0.3
    split = split_dose([direction(tiny_model, layer) for layer in (1, 2)], 0.4, operation=saturate)
    assert [term.operation for term in split.terms] == ["saturate"] * 2
    plan.save(tmp_path / "plan.safetensors")
    take = generate(tiny_model, "a tune", steering=plan, seconds=0.4, progress=False)
    take.save(tmp_path / "take")
    packed, directions = plan.pack(), plan.directions
    forget()
    for read in (
        lambda: Steering.load(tmp_path / "plan.safetensors"),
        lambda: Steering.unpack(packed),
        lambda: Steering.parse("saturate(0.3*jazz@1)", directions),
        lambda: Take.load(tmp_path / "take"),
    ):
        with pytest.raises(UnknownOperationError, match=r"'saturate'.*register_operation"):
            read()
    runpy.run_path(str(EXAMPLE))
    assert Steering.load(tmp_path / "plan.safetensors").text() == "saturate(0.3*jazz@1) | constant | cond"
    assert Take.load(tmp_path / "take") == take


def test_the_lab_lists_it_and_pushes_by_it(tiny_model: Any, saturate: Operation) -> None:
    lab = SteerLab(tiny_model, {"genre": {"jazz": direction(tiny_model, 1)}}, seconds=0.4)
    assert ("saturate: a push that saturates", "saturate") in lab.options.operation.options
    lab.options.operation.value = "saturate"
    lab.sliders["jazz"].value = 0.2
    assert lab.text == "saturate(0.2*jazz@1) | constant | cond"
    lab.text = "saturate(0.1*jazz@1)"
    assert lab.steering is not None and lab.steering.terms[0].operation == "saturate"


def test_an_unregistered_operation_is_registered_where_it_is_used(
    tiny_model: Any, forget_extensions: None
) -> None:
    twice = Operation("twice", lambda h, v, a: h + 2 * a * v)
    plan = direction(tiny_model, 1).at(0.3, operation=twice)
    assert OPERATIONS["twice"] is twice
    assert Steering.parse(plan.text(), plan.directions) == plan
    with pytest.raises(SteeringError, match="another one is registered"):
        direction(tiny_model, 1).at(0.3, operation=Operation("twice", torch.add))


def test_the_command_line_steers_by_it(
    tiny_model: Any, tiny_folder: Path, tmp_path: Path, forget_extensions: None
) -> None:
    file = direction(tiny_model, 1).save(tmp_path / "jazz.safetensors")
    words = ["steer", "a tune", "--model", str(tiny_folder), "--direction", str(file), "--seconds", "0.4"]
    words += ["--operation", "saturate", "-o", str(tmp_path / "steered.wav")]
    assert main(words) == 1, "nobody has registered it"
    assert main([*words, "--extension", str(EXAMPLE)]) == 0
    assert (tmp_path / "steered.wav").is_file()
