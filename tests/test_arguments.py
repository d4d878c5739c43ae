"""Arguments that make no sense are the workbench's error, never a library's; sensible spellings are taken."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tones import tone_clip

from workbench.errors import (
    ActivationsError,
    AudioError,
    DatasetError,
    EvidenceError,
    GenerationError,
    ModelError,
    ProbeError,
    SteeringError,
    WorkbenchError,
    number_or_nan,
    whole_number,
)
from workbench.generation.generate import generate, generate_long, stream
from workbench.generation.live.session import LiveSession
from workbench.model.capture import capture
from workbench.model.generated import capture_continued, capture_generated
from workbench.model.teacher_forcing import Reading, check_frames, read_codes
from workbench.sound import Clip, Dataset, from_folder
from workbench.steering import Direction, knots, pulse, ramp

NO_NUMBERS = (None, "3", math.nan, True, [1.0, 2.0])
NO_COUNTS = (None, "3", 0, -1, 1.5, True)
UNIT = Direction(np.eye(32)[0], 2, residual_norm=3.0)


def _generate(model: Any, **settings: Any) -> Any:
    prompt = settings.pop("prompt", "music")
    return generate(model, prompt, **{"seconds": 0.1, "progress": False, **settings})


def _captured(model: Any, **settings: Any) -> Any:
    prompts = [settings.pop("prompt", "music")]
    return capture_generated(model, prompts, **{"seeds": [0], "seconds": 0.1, "progress": False, **settings})


LENGTHS: dict[str, Callable[[Any, Any], Any]] = {
    "seconds": lambda model, value: _generate(model, seconds=value),
    "guidance": lambda model, value: _generate(model, guidance=value),
    "temperature": lambda model, value: _generate(model, temperature=value),
    "long": lambda model, value: generate_long(model, "music", seconds=value, progress=False),
    "changes": lambda model, value: generate_long(model, "music", seconds=0.1, changes=[(value, "a tune")]),
    "pieces": lambda model, value: next(stream(model, "music", seconds=0.1, piece_seconds=value)),
    "lead": lambda model, value: LiveSession(model, {"a": UNIT}, lead_s=value if value is not True else "x"),
    "captured": lambda model, value: _captured(model, seconds=value),
    "captured guidance": lambda model, value: _captured(model, guidance=value),
    "dose": lambda _model, value: UNIT.at(value),
    "chance": lambda _model, value: UNIT.at(1.0, chance=value),
    "ramp": lambda _model, value: ramp(0, value),
    "pulse": lambda _model, value: pulse(value),
    "knots": lambda _model, value: knots([(0, 1), (1, value)]),
}


OWN_SETTING = ("guidance", "temperature", "captured guidance")
"""None stands for the checkpoint's own."""


@pytest.mark.parametrize("name", LENGTHS)
def test_what_is_no_number_is_the_workbench_s_error(tiny_model: Any, name: str) -> None:
    for value in NO_NUMBERS:
        if value is None and name in OWN_SETTING:
            continue
        with pytest.raises(WorkbenchError):
            LENGTHS[name](tiny_model, value)


def test_settings_that_are_not_given_are_the_checkpoint_s_own(tiny_model: Any, monkeypatch: Any) -> None:
    config = tiny_model.musicgen.generation_config
    told = {"guidance_scale": 2.5, "temperature": 0.7, "top_k": 17}
    for name, value in told.items():
        monkeypatch.setattr(config, name, value)
    take = _generate(tiny_model)
    assert (take.guidance, take.temperature, take.top_k) == (2.5, 0.7, 17)
    assert _captured(tiny_model).data.attrs["guidance"] == 2.5
    live = LiveSession(tiny_model, {"a": UNIT}).setup.settings
    assert (live.guidance, live.temperature, live.top_k) == (2.5, 0.7, 17)
    assert _generate(tiny_model, guidance=3.0, temperature=1.0, top_k=0).top_k == 0
    for name in told:
        monkeypatch.setattr(config, name, None)
    take = _generate(tiny_model)
    assert (take.guidance, take.temperature, take.top_k) == (3.0, 1.0, 250)


def test_an_error_keeps_what_was_asked_what_was_found_and_what_to_do() -> None:
    error = ModelError("Layer 30 was asked for", "the model has layers 0-23", "Use one of model.layers")
    assert str(error) == "Layer 30 was asked for, but the model has layers 0-23. Use one of model.layers."
    assert (error.asked, error.found, error.do) == error.args
    of_arguments = (ActivationsError, AudioError, DatasetError, EvidenceError, GenerationError, ProbeError)
    assert all(issubclass(kind, ValueError) for kind in (*of_arguments, SteeringError))
    lost = ModelError.lookup("Layer 9 was asked for", "there are layers 0-5", "Use one of them")
    assert isinstance(lost, KeyError) and isinstance(lost, ModelError)
    assert str(lost) == "Layer 9 was asked for, but there are layers 0-5. Use one of them."


COUNTS: dict[str, Callable[[Any, Any], Any]] = {
    "batch": lambda model, value: _generate(model, batch=value),
    "captured batch": lambda model, value: _captured(model, batch=value),
}


@pytest.mark.parametrize("name", COUNTS)
def test_what_is_no_batch_is_the_workbench_s_error(tiny_model: Any, name: str) -> None:
    for value in NO_COUNTS:
        with pytest.raises(WorkbenchError, match=r"Use a whole number from 1 on"):
            COUNTS[name](tiny_model, value)


def test_captures_refuse_batches_and_lengths_that_are_none(tiny_model: Any, tiny_dataset: Dataset) -> None:
    for value in NO_COUNTS:
        with pytest.raises(ActivationsError, match="A batch of"):
            capture(tiny_model, tiny_dataset, batch=value, cache=False)
    for value in ("3", math.nan, True, 0, -1, math.inf):
        with pytest.raises(ActivationsError, match="that is no length of time"):
            capture(tiny_model, tiny_dataset, seconds=value, cache=False)
    for lengths in ({"context_seconds": None}, {"seconds": "1"}):
        with pytest.raises(WorkbenchError):
            capture_continued(tiny_model, tiny_dataset, "music", **lengths)


@pytest.mark.parametrize("layers", ["3", ["3"], [3.0], [True], [None], [1, "3"], [-1], [4], []])
def test_layers_are_whole_numbers_of_blocks(tiny_model: Any, layers: Any) -> None:
    with pytest.raises(ModelError, match="has layers 0-3"):
        _captured(tiny_model, layers=layers)


def test_one_layer_may_be_a_number_and_numpy_s_numbers_do(tiny_model: Any) -> None:
    for layers in (2, np.int64(2), np.array([2])):
        assert _captured(tiny_model, layers=layers).layers == (2,)


@pytest.mark.parametrize("layer", ["3", "x", None, 1.5, -1, True])
def test_a_direction_and_a_term_act_at_whole_layers(layer: Any) -> None:
    with pytest.raises(SteeringError, match="Use a whole number from 0 on"):
        Direction(np.ones(3), layer)
    if layer is not None:
        with pytest.raises(SteeringError, match="Use a whole number from 0 on"):
            UNIT.at(1.0, layer=layer)


def test_temperature_0_is_told_to_be_top_k_1(tiny_model: Any) -> None:
    with pytest.raises(GenerationError, match="top_k=1 to take the likeliest code"):
        _generate(tiny_model, temperature=0)
    first, second = (_generate(tiny_model, top_k=1, seed=seed).codes for seed in (1, 2))
    assert np.array_equal(first, second)
    for value in ("5", 1.5, -1, math.nan, True):
        with pytest.raises(GenerationError, match="top_k"):
            _generate(tiny_model, top_k=value)


def test_lone_surrogates_in_texts_are_named(tiny_model: Any) -> None:
    for make in (_generate, _captured, lambda model, prompt: model.text([prompt])):
        with pytest.raises(WorkbenchError, match=r"its letter 6 is no character \('\\ud800'\)"):
            make(tiny_model, prompt="jazz \ud800 tune")
    with pytest.raises(GenerationError, match="no character"):
        generate_long(tiny_model, "music", seconds=0.1, changes=[(0.05, "\udfff")])
    assert _generate(tiny_model, prompt="jazz \U0001f3b7").codes.size


def test_vectors_of_any_precision_make_directions() -> None:
    values = torch.linspace(-1, 1, 5, dtype=torch.bfloat16, requires_grad=True)
    assert Direction(values, 1).vector.tolist() == values.detach().float().tolist()
    for vector in ("abc", None, [None, 1.0], [[1.0], [1.0, 2.0]], np.ones(3) * 1j):
        with pytest.raises(SteeringError, match="bad numbers"):
            Direction(vector, 1)  # type: ignore[arg-type]


def test_numbers_are_those_that_can_be_reckoned_with() -> None:
    assert [number_or_nan(value) for value in (1, 2.5, np.float32(0.5), torch.tensor(3))] == [1, 2.5, 0.5, 3]
    assert all(math.isnan(number_or_nan(value)) for value in (*NO_NUMBERS, b"1", {}, torch.ones(2)))
    assert whole_number(np.int8(3), "A batch of", ModelError, least=1) == 3


@pytest.fixture(scope="module")
def long_music(tmp_path_factory: pytest.TempPathFactory, tiny_model: Any) -> Dataset:
    """A clip of 1 s, and one that is a second longer than the tiny model's positions."""
    root = tmp_path_factory.mktemp("long")
    for number, seconds in enumerate((1.0, tiny_model.max_seconds + 1)):
        folder = root / f"genre_{number}"
        folder.mkdir()
        Clip(tone_clip(1, number, seconds=seconds), 16_000).write(folder / f"clip_{number}.wav")
    return from_folder(root)


def test_captures_beyond_the_positions_are_refused_before_work(
    tiny_model: Any, long_music: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = r"21\.4 s of '.*clip_1.*' were asked for, but tiny.* reads at most 20\.3 s .*seconds=20\.3"
    with monkeypatch.context() as patch:
        patch.setattr(type(tiny_model), "encode", lambda *_: pytest.fail("a sound was encoded"))
        for settings in ({}, {"seconds": 60.0}):
            with pytest.raises(ActivationsError, match=found):
                capture(tiny_model, long_music, cache=False, progress=False, **settings)
    acts = capture(tiny_model, long_music, seconds=20.3, layers=[0], cache=False, progress=False)
    assert len(acts) == 2


def test_a_header_that_lies_does_not_refuse_a_clip(
    tiny_model: Any, long_music: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = long_music.subset(np.array([0]))
    monkeypatch.setattr("workbench.model.teacher_forcing._declared_s", lambda _entry: 1000.0)
    acts = capture(tiny_model, short, layers=[0], cache=False, progress=False)
    assert len(acts) == 1


def test_codes_beyond_the_positions_are_refused_where_they_are_read(tiny_model: Any, tmp_path: Path) -> None:
    codes = np.zeros((4, tiny_model.max_frames + 1), dtype=np.int64)
    with pytest.raises(ActivationsError, match=r"reads at most 20\.3 s at a time"):
        read_codes(tiny_model, [codes], tiny_model.null_text(1), Reading(("resid_post",), (0,)))
    check_frames(tiny_model, tiny_model.max_frames)
