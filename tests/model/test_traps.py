"""Every trap of transformers and nnsight that was met has a test that falls in when we do."""

from __future__ import annotations

import base64
import dataclasses
import io
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from fixture_model import build, codec_config
from steering_fixture import direction, prompt_ids, untraced
from transformers import EncodecModel

from workbench.generation.edits import compile_plans
from workbench.generation.generate import generate
from workbench.generation.steer import run_steered
from workbench.model.load import load
from workbench.sound.clip import Clip


def make(model: Any, **settings: Any) -> Any:
    return generate(model, "a calm tune", **{"seconds": 0.8, "progress": False, "seed": 3, **settings})


def visits_during(model: Any, block: int, work: Any) -> int:
    seen: list[int] = []
    layer = model.decoder.model.decoder.layers[block]
    handle = layer.register_forward_hook(lambda *_args: seen.append(1))
    try:
        work()
    finally:
        handle.remove()
    return len(seen)


def test_our_loop_visits_each_step_once(tiny_model: Any, tiny_folder: Path) -> None:
    ids, model = prompt_ids(tiny_model, "a calm tune"), untraced(tiny_folder)
    theirs = visits_during(model, 1, lambda: model.generate(**ids, do_sample=True, max_new_tokens=23))
    ours = visits_during(tiny_model.musicgen, 1, lambda: make(tiny_model))
    assert ours == 23
    assert theirs == 24, "transformers no longer runs the prefill twice: tell so in network.py"


def test_an_edit_reaches_every_step_and_not_only_the_first(tiny_model: Any) -> None:
    take = make(tiny_model, steering=direction(tiny_model, 1).at(0.5))
    assert take.receipt.cells.step.tolist() == list(range(23))
    assert (take.receipt.cells.norm_change > 0).all()


def test_fresh_codecs_have_zero_codebooks_and_the_fixture_does_not() -> None:
    codes = torch.zeros(1, 1, 4, 10, dtype=torch.long)
    with torch.no_grad():
        fresh = EncodecModel(codec_config()).eval()
        assert torch.equal(fresh.decode(codes, [None])[0], fresh.decode(codes + 5, [None])[0])
        ours = build().audio_encoder
        assert not torch.equal(ours.decode(codes, [None])[0], ours.decode(codes + 5, [None])[0])


def test_players_do_not_normalise_peaks(tiny_model: Any) -> None:
    take = make(tiny_model)
    quiet = dataclasses.replace(take, clip=Clip(take.clip.samples * 0.1, take.clip.rate_hz))
    sound = base64.b64decode(re.search(r"base64,([^\"]+)", quiet._repr_html_()).group(1))
    played, _rate_hz = soundfile.read(io.BytesIO(sound))
    assert np.abs(played).max() == pytest.approx(0.1 * take.clip.peak, abs=1e-4)  # FLAC of 16 bits


def test_layers_written_in_falling_order_are_visited_in_rising_order(tiny_model: Any) -> None:
    low, high = direction(tiny_model, 0), direction(tiny_model, 3, name="rock")
    falling = make(tiny_model, steering=high.at(0.5) + low.at(0.5))
    rising = make(tiny_model, steering=low.at(0.5) + high.at(0.5))
    assert np.array_equal(falling.codes, rising.codes)
    assert falling.receipt.changed == 46


def test_the_loop_has_an_exact_bound_so_that_the_last_step_is_measured(tiny_model: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nnsight warns about a loop that outruns the model
        take = make(tiny_model, steering=direction(tiny_model, 2).at(0.5))
    assert take.receipt.cells.iloc[-1].step == 22
    assert take.receipt.cells.iloc[-1].norm_change > 0


def test_a_running_loop_sees_changes_of_its_control_object(tiny_model: Any) -> None:
    """Names rebound outside are not seen inside a trace; attributes of the run are."""

    def drawn(change: bool) -> torch.Tensor:
        run = tiny_model.sampling(["a calm tune"], seeds=[3], frames=20)

        def on_step(step: int, _codes: torch.Tensor) -> None:
            if change and step == 9:
                run.temperature = 5.0

        run.on_step = on_step
        run_steered(tiny_model, run, {})
        return run.codes[0]

    plain, changed = drawn(False), drawn(True)
    assert torch.equal(plain[:, :7], changed[:, :7])
    assert not torch.equal(plain[:, 10:], changed[:, 10:])


def test_what_is_watched_is_a_copy_without_gradient(tiny_model: Any) -> None:
    """`resid_post` of a block and `resid_pre` of the next are one tensor: a later edit changes both."""
    run = tiny_model.sampling(["a calm tune"], seeds=[3], frames=10)
    plan = direction(tiny_model, 2, site="resid_pre").at(3.0)
    seconds = [step / 25 for step in range(run.steps)]
    edits = compile_plans([plan], seconds, guided=True, device_of=tiny_model.device_of)
    _receipt, seen = run_steered(tiny_model, run, edits, [(1, "resid_post"), (2, "resid_pre")])
    moved = (seen[2, "resid_pre"] - seen[1, "resid_post"]).norm(dim=-1)
    # a difference of two residuals about as long as itself, each stored to 6e-8, over 32 coordinates
    assert torch.allclose(
        moved, torch.full_like(moved, 3.0 * plan.terms[0].direction.residual_norm), rtol=1e-3
    )
    assert not any(values.requires_grad for values in seen.values())


@pytest.mark.parametrize("operation", ["add", "norm_scaled_add", "keep_norm", "remove", "clamp"])
def test_a_bfloat16_stream_takes_a_float32_direction(tiny_folder: Path, operation: str) -> None:
    model = load(tiny_folder, device="cpu", dtype="bfloat16")
    take = make(model, steering=direction(model, 1).at(0.6, operation=operation))
    assert take.receipt.ok
    assert take.receipt.changed == 23


def test_a_dose_that_vanishes_in_bfloat16_is_an_error_and_not_silence(tiny_folder: Path) -> None:
    from workbench.errors import GenerationError

    model = load(tiny_folder, device="cpu", dtype="bfloat16")
    with pytest.raises(GenerationError, match="may vanish in the model's precision"):
        make(model, steering=direction(model, 1).at(1e-9))


def test_only_what_is_read_is_instrumented(tiny_model: Any, tiny_folder: Path) -> None:
    model, one = load(tiny_folder, device="cpu", check=False), direction(tiny_model, 1)
    make(model, steering=one.at(0.5))
    wrapped = [name for name, module in model.musicgen.named_modules() if "__nnsight__" in module.__dict__]
    blocks = {name for name in wrapped if re.fullmatch(r".*layers\.\d+", name)}
    assert blocks == {"decoder.model.decoder.layers.1"}
    assert len(wrapped) == 6, wrapped  # the block and the path to it: root, decoder, model, decoder, layers


def test_a_failed_load_leaves_transformers_as_it_was(tmp_path: Path) -> None:
    from transformers import logging

    before = logging.get_verbosity()
    with pytest.raises(Exception, match="was asked for"):
        load(tmp_path)
    assert logging.get_verbosity() == before
