"""What a notebook user tries first: directions from arrays, functions as sliders, values in a cell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from live_fixture import session
from steering_fixture import direction

from workbench.errors import GenerationError, RenamedWarning, SteeringError
from workbench.generation.generate import generate, generate_long
from workbench.generation.live.recording import Recording
from workbench.generation.take import Take
from workbench.steering import Direction, Gate, ReadOut, ramp

ODD = "<b>jazz & rock</b>"


def drawn(model: Any, **settings: Any) -> Take:
    return generate(model, "a tune", **{"seconds": 0.4, "seed": 3, "progress": False, **settings})


def test_a_direction_from_any_array_is_measured_and_ready_to_steer(tiny_model: Any) -> None:
    numbers = np.linspace(-1, 3, tiny_model.d_model)
    made = Direction.from_numpy(tiny_model, numbers, 2, name="line")
    assert made.norm == pytest.approx(1) and made.name == "line"
    assert made.residual_norm == float(tiny_model.residual_norms()[2])
    for same in (list(numbers), torch.tensor(numbers) * 2, numbers.astype(np.float32)):
        assert made.cosine(Direction.from_numpy(tiny_model, same, 2)) == pytest.approx(1)
    assert drawn(tiny_model, steering=made.at(0.3)).receipt.ok


@pytest.mark.parametrize(
    ("numbers", "layer", "says"),
    [
        (np.ones(5), 1, r"shape \(5,\)"),
        (np.ones(32), 9, "layers 0-3"),
        (np.zeros(32), 1, "length is 0"),
        (np.full(32, np.nan), 1, "bad numbers"),
    ],
)
def test_what_makes_no_direction_is_refused(tiny_model: Any, numbers: Any, layer: int, says: str) -> None:
    with pytest.raises(SteeringError, match=says):
        Direction.from_numpy(tiny_model, numbers, layer)


def test_a_function_gives_the_dose_at_every_step(tiny_model: Any) -> None:
    jazz, rock = direction(tiny_model, 1), direction(tiny_model, 2, name="rock")
    asked: list[float] = []

    def rising(seconds: float) -> float:
        asked.append(seconds)
        return 2 * seconds

    plan = jazz.at(1.0) + rock.at(0.5)
    take = drawn(tiny_model, steering=plan, sliders={"jazz": rising})
    cells = take.receipt.cells
    assert asked == sorted(asked) and asked[:3] == pytest.approx([0, 0.04, 0.08])
    assert cells[cells.term == 0].planned.to_numpy() == pytest.approx(2 * np.array(asked))
    assert set(cells[cells.term == 1].planned) == {1.0}
    assert cells.reason.tolist()[:2] == ["slider", ""] and take.receipt.ok
    one = drawn(tiny_model, steering=jazz.at(1.0), sliders={"jazz": lambda _seconds: 0.4})
    assert np.array_equal(one.codes, drawn(tiny_model, steering=jazz.at(0.4)).codes)
    long = generate_long(
        tiny_model, "a tune", steering=plan, sliders={"jazz": rising}, seconds=1.0, window_seconds=0.8,
        overlap_seconds=0.4, progress=False,
    )  # fmt: skip
    cells = long.receipt.cells[long.receipt.cells.term == 0]
    assert cells.planned.to_numpy() == pytest.approx(2 * cells.seconds.to_numpy()), "also where windows meet"
    both = drawn(tiny_model, steering=[plan, None, rock.at(1.0)], sliders={"rock": lambda s: float(s < 0.2)})
    assert [len(take.receipt) > 0 for take in both] == [True, False, True]
    assert set(both[2].receipt.cells.planned) == {0.0, 1.0}


def test_sliders_that_steer_nothing_or_give_no_number_are_refused(tiny_model: Any) -> None:
    plan = direction(tiny_model, 1).at(1.0)
    with pytest.raises(GenerationError, match=r"'rock'.*directions jazz"):
        drawn(tiny_model, steering=plan, sliders={"rock": float})
    with pytest.raises(KeyError):
        drawn(tiny_model, sliders={"jazz": float})
    before = drawn(tiny_model)
    with pytest.raises(GenerationError, match="finite"):
        drawn(tiny_model, steering=plan, sliders={"jazz": lambda _seconds: float("nan")})
    assert drawn(tiny_model) == before, "the model is left clean"


def test_values_show_themselves_as_small_escaped_tables(tiny_model: Any, tmp_path: Path) -> None:
    jazz = direction(tiny_model, 1, name=ODD)
    read_out = ReadOut(("a", "<i>"), np.zeros((2, tiny_model.d_model)), np.zeros(2), 1)
    plan = jazz.at(0.5, schedule=ramp(0, 1), gate=Gate(read_out, "<i>")) + jazz.at(0.2, branch="both")
    take = drawn(tiny_model, steering=plan)
    live = session(tiny_model)
    live.record(tmp_path / "recording")
    live.start().wait(1.0).stop()
    recording = Recording.load(tmp_path / "recording")
    shown = [one._repr_html_() for one in (jazz, plan, take.receipt, take, recording)]
    for text in shown:
        assert "<b>jazz" not in text and "<i>" not in text and len(text) < 200_000
    assert "ramp(0s,1s)" in shown[1] and "both" in shown[1] and "residual norm" in shown[0]
    assert str(take.receipt) in shown[2] and str(take.receipt) in shown[3]
    assert "stopped" in shown[4] and "jazz" in shown[4]
    assert "no steering" in drawn(tiny_model).receipt._repr_html_()


def test_old_names_of_a_take_and_a_recording_warn(tiny_model: Any) -> None:
    take = drawn(tiny_model)
    with pytest.warns(RenamedWarning, match="prompt_seconds"):
        assert take.given_s == take.prompt_seconds == 0.0
