"""Continuation: given frames stay, laws hold in the time of the new part, a batch equals single runs."""

from __future__ import annotations

import dataclasses
import json
import threading
from pathlib import Path
from typing import Any

import fixture_model
import numpy as np
import pytest
import torch
from plain_hooks import drawn
from steering_fixture import direction, untraced
from tolerances import NETWORK, PUSHED, draws, same_codes
from tones import tone_clip

from workbench.errors import Cancelled, GenerationError
from workbench.generation.engine import Callbacks, Span, draw_takes
from workbench.generation.generate import generate, stream
from workbench.generation.request import Row, Settings
from workbench.generation.take import Take
from workbench.model.load import load
from workbench.model.sampling import private_generators
from workbench.sound.clip import Clip
from workbench.steering import window

PROMPT, RATE, GIVEN = "a calm tune", 25, 9
OPENING = np.random.default_rng(5).integers(0, 64, (4, GIVEN))


def go_on(model: Any, prompt: Any = PROMPT, **settings: Any) -> Any:
    return generate(
        model, prompt, **{"seconds": 0.6, "progress": False, "seed": 3, "audio": OPENING, **settings}
    )


def test_a_continuation_equals_transformers_own(tiny_model: Any, tiny_folder: Path) -> None:
    codes, _ = drawn(
        untraced(tiny_folder), tiny_model, PROMPT, seed=3, frames=GIVEN + 15, given=torch.as_tensor(OPENING)
    )
    assert np.array_equal(go_on(tiny_model).codes, codes)


def test_the_take_holds_the_whole_and_says_where_the_new_part_begins(tiny_model: Any, tmp_path: Path) -> None:
    take = go_on(tiny_model, steering=direction(tiny_model, 1).at(1.0))
    assert np.array_equal(take.codes[:, :GIVEN], OPENING), "given frames are untouched"
    assert take.codes.shape == (4, GIVEN + 15)
    assert (take.prompt_seconds, take.seconds) == (GIVEN / RATE, pytest.approx((GIVEN + 15) / RATE))
    assert take.new.seconds == pytest.approx(0.6)
    assert np.array_equal(take.new.samples, take.clip.samples[-len(take.new.samples) :])
    assert Take.load(take.save(tmp_path)) == take
    assert dataclasses.replace(take, prompt_seconds=0.0) != take


def test_older_takes_are_still_read(tiny_model: Any, tmp_path: Path) -> None:
    take = generate(tiny_model, PROMPT, seconds=0.4, progress=False)
    kept = json.loads((take.save(tmp_path) / "take.json").read_text())
    assert kept.pop("given_s") == 0.0
    assert kept.pop("windows") == []
    assert len(kept.pop("digest")) == 64
    (tmp_path / "take.json").write_text(json.dumps(kept))
    with pytest.warns(UserWarning, match="older version and carries no digest"):
        assert Take.load(tmp_path) == take


@pytest.mark.parametrize("rows", ["cond", "null", "both"])
def test_law_01_dose_0_is_bit_identical_in_a_continuation(tiny_model: Any, rows: str) -> None:
    take, plain = go_on(tiny_model, steering=direction(tiny_model, 1).at(0.0, branch=rows)), go_on(tiny_model)
    assert np.array_equal(take.codes, plain.codes)
    assert take.clip == plain.clip
    assert set(take.receipt.cells.reason) == {"dose 0"}


@pytest.mark.parametrize(
    ("how", "stop_at"),
    [("finish", 99), ("raise", 0), ("raise", 8), ("cancel", 0), ("cancel", 8), ("cancel", 17)],
)
def test_law_02_nothing_is_left_on_the_model(
    tiny_model: Any, tiny_folder: Path, how: str, stop_at: int
) -> None:
    before, cancel, steps = go_on(tiny_model), threading.Event(), iter(range(99))

    def stop() -> None:
        if next(steps) == stop_at:
            cancel.set()
            if how == "raise":
                raise ZeroDivisionError

    row = Row(PROMPT, direction(tiny_model, 1).at(2.0, branch="both"), 3, OPENING)
    arguments = [row], [Span(0, 15, GIVEN)], Settings(top_k=50), Callbacks(stop, cancel=cancel)
    if stop_at >= 17:  # set too late to stop anything
        draw_takes(tiny_model, *arguments)
    else:
        with pytest.raises(ZeroDivisionError if how == "raise" else Cancelled):
            draw_takes(tiny_model, *arguments)
    for traced, clean in zip(_outputs(tiny_model.musicgen), _outputs(untraced(tiny_folder)), strict=True):
        assert torch.equal(traced, clean)
    assert np.array_equal(go_on(tiny_model).codes, before.codes)


def _outputs(musicgen: Any) -> list[torch.Tensor]:
    """Every block's output for fixed codes, by plain hooks."""
    from generation_samples import _residuals

    return _residuals(musicgen)


@pytest.mark.parametrize("start_s", [0.2, 0.4])
def test_law_03_a_schedule_counts_the_time_of_the_new_part(tiny_model: Any, start_s: float) -> None:
    plain = go_on(tiny_model)
    steered = go_on(tiny_model, steering=direction(tiny_model, 1).at(6.0, schedule=window(start_s, 9)))
    untouched = GIVEN + round(start_s * RATE) - 3
    assert np.array_equal(plain.codes[:, :untouched], steered.codes[:, :untouched])
    assert not np.array_equal(plain.codes[:, untouched:], steered.codes[:, untouched:])
    cells = steered.receipt.cells
    assert cells.seconds.tolist() == pytest.approx([step / RATE for step in range(18)])
    assert ((cells.reason == "schedule") == (cells.seconds < start_s - 1e-9)).all()


def test_law_04_only_the_last_position_of_the_first_visit_is_edited(
    tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = direction(tiny_model, 1)
    kept: list[torch.Tensor] = []
    block = tiny_model.musicgen.decoder.model.decoder.layers[2]
    handle = block.register_forward_pre_hook(lambda _b, args: kept.append(args[0].clone()))
    go_on(tiny_model)
    plain = kept[0]
    kept.clear()
    take = go_on(tiny_model, steering=one.at(0.7))
    handle.remove()
    assert plain.shape == (2, GIVEN + 1, 32)
    assert torch.equal(kept[0][:, :-1], plain[:, :-1])
    assert torch.equal(kept[0][1], plain[1])
    moved = (kept[0] - plain)[0, -1]
    assert torch.allclose(moved, 0.7 * one.residual_norm * torch.tensor(one.vector), **NETWORK)
    assert np.allclose(take.receipt.cells.norm_change, 0.7 * one.residual_norm, **PUSHED)
    assert len(take.receipt) == take.receipt.changed == 18


def test_law_11_cond_only_steering_leaves_null_rows_alone(tiny_model: Any) -> None:
    """At the first visit both runs read the same tokens."""
    kept: list[torch.Tensor] = []
    blocks = tiny_model.musicgen.decoder.model.decoder.layers
    handles = [block.register_forward_hook(lambda _b, _a, out: kept.append(out.clone())) for block in blocks]
    go_on(tiny_model)
    plain = torch.stack(kept[:4])
    kept.clear()
    go_on(tiny_model, steering=direction(tiny_model, 1).at(2.0))
    for handle in handles:
        handle.remove()
    assert torch.equal(torch.stack(kept[:4])[:, 1:], plain[:, 1:])
    assert not torch.equal(torch.stack(kept[:4])[:, :1], plain[:, :1])


def test_law_12_a_batch_of_continuations_gives_the_codes_of_single_runs(tiny_model: Any) -> None:
    plan = direction(tiny_model, 1).at(0.8, chance=0.6) + direction(tiny_model, 2).at(0.3, branch="both")
    sounds = [OPENING, None, OPENING[:, :5], OPENING[:, ::-1].copy()]
    plans, seeds = [plan, plan, None, plan], [3, 4, 5, 6]
    together = go_on(tiny_model, audio=sounds, steering=plans, seed=seeds)
    for index, take in enumerate(together):
        with draws() as gaps:
            alone = go_on(tiny_model, audio=sounds[index], steering=plans[index], seed=seeds[index])
        same_codes(take.codes, alone.codes, gaps)
        assert take.prompt_seconds == alone.prompt_seconds
        assert take.receipt.cells.reason.equals(alone.receipt.cells.reason)
    assert [take.codes.shape[-1] for take in together] == [24, 15, 20, 24]


@pytest.mark.parametrize("given", [1, 2, 7])
def test_a_take_s_own_beginning_goes_on_as_it_did_if_luck_does(tiny_model: Any, given: int) -> None:
    """With its generator moved on by one draw per given frame, the rest of the take comes out again."""
    whole = generate(tiny_model, PROMPT, seconds=0.8, seed=3, progress=False)
    run = tiny_model.sampling(
        [PROMPT],
        seeds=[3],
        frames=20,
        top_k=50,
        prompt_codes=torch.tensor(whole.codes[None, :, :given]).long(),
    )
    for _ in range(given):
        torch.multinomial(torch.ones(4, 64), 1, generator=run.generators[0])
    with torch.no_grad():
        tiny_model.network.sample(run)
    assert np.array_equal(run.codes[0].numpy(), whole.codes)
    fresh = go_on(tiny_model, audio=whole.codes[:, :given], seconds=0.8 - given / RATE)
    assert fresh.codes.shape == whole.codes.shape
    assert not np.array_equal(fresh.codes, whole.codes), "luck begins anew otherwise"
    assert private_generators([3], torch.device("cpu"))[0].initial_seed() == 3


def test_a_clip_is_encoded_and_its_last_seconds_are_heard(tiny_model: Any) -> None:
    clip = Clip(tone_clip(1, 0, rate_hz=22_050, seconds=2.0), 22_050)
    codes = tiny_model.encode(clip.section(1.52, 2.0)).numpy()[:, -12:]
    take = go_on(tiny_model, audio=clip, audio_seconds=0.48)
    assert np.array_equal(take.codes[:, :12], codes)
    assert take.prompt_seconds == 0.48
    whole = go_on(tiny_model, audio=clip)
    assert whole.prompt_seconds == pytest.approx(2.0, abs=0.05)  # a frame more or less
    assert np.array_equal(go_on(tiny_model, audio_seconds=0.12).codes[:, :3], OPENING[:, -3:])
    assert go_on(tiny_model, audio_seconds=99).prompt_seconds == GIVEN / RATE
    assert np.array_equal(go_on(tiny_model, audio=torch.tensor(OPENING)).codes, go_on(tiny_model).codes)


def test_probes_read_the_new_frames_in_the_time_of_the_whole(tiny_model: Any) -> None:
    from generation_samples import Reader

    (trace,) = go_on(tiny_model, probes=[Reader()]).probe_traces
    assert trace.seconds == pytest.approx((GIVEN + np.arange(15)) / RATE)
    assert trace.probabilities.shape == (15, 2)


def test_frames_are_reported_and_streamed_with_the_given_part(tiny_model: Any) -> None:
    seen: list[tuple[int, np.ndarray]] = []
    take = go_on(tiny_model, on_frame=lambda done, codes: seen.append((done, codes[0, :, :done].numpy())))
    assert [done for done, _ in seen] == list(range(GIVEN + 1, GIVEN + 16))
    assert all(np.array_equal(codes, take.codes[:, :done]) for done, codes in seen)
    pieces = stream(tiny_model, PROMPT, seconds=0.6, seed=3, audio=OPENING, piece_seconds=0.2)
    whole = np.concatenate([piece.samples for piece in pieces])
    assert np.sqrt(np.mean((whole - take.clip.samples) ** 2)) < 1e-3 * np.abs(take.clip.samples).max()


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ({"audio": OPENING[:3]}, r"has whole numbers \(4, frames\)"),
        ({"audio": OPENING[0]}, "has whole numbers"),
        ({"audio": OPENING[:, :0]}, "has whole numbers"),
        ({"audio": OPENING / 2}, "has whole numbers"),
        ({"audio": OPENING + 60}, "codes from 0 to 63"),
        ({"audio": OPENING - 60}, "codes from 0 to 63"),
        ({"audio": "song.wav"}, "neither a clip nor codes"),
        ({"audio": 7}, "neither a clip nor codes"),
        ({"audio": ["song.wav"]}, "neither a clip nor codes"),
        ({"audio": []}, "makes nothing"),
        ({"audio": [OPENING, OPENING], "seed": [1, 2, 3]}, "equally long"),
        ({"audio_seconds": 0}, "more than 0 s"),
        ({"audio_seconds": float("nan")}, "more than 0 s"),
        ({"seconds": 20.2}, r"after 0.36 s were asked for.*at most 20\.4 s"),
    ],
)
def test_what_cannot_be_gone_on_from_is_named(tiny_model: Any, request_: dict[str, Any], says: str) -> None:
    with pytest.raises(GenerationError, match=says):
        go_on(tiny_model, **request_)


def test_a_stereo_checkpoint_goes_on_in_stereo(tmp_path: Path) -> None:
    decoder = fixture_model.decoder_config(num_codebooks=8, audio_channels=2)
    model: Any = load(fixture_model.save(fixture_model.build(decoder=decoder), tmp_path / "stereo"))
    clip = Clip(tone_clip(1, 0), 16_000)
    take = generate(model, PROMPT, audio=clip, audio_seconds=0.4, seconds=0.4, progress=False,
                    steering=direction(model, 1).at(0.5))  # fmt: skip
    assert take.codes.shape == (8, 20)
    left, right = take.codes[0::2], take.codes[1::2]
    assert np.array_equal(left[:, :10], right[:, :10]), "a mono clip goes to both sides"
    assert not np.array_equal(left[:, 10:], right[:, 10:])
    assert take.receipt.changed == 13
