"""Long music: windows that slide on, in the time of the whole, with one generator per row."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from generation_samples import WINDOWS, Reader, _residuals
from steering_fixture import direction, untraced
from tolerances import PUSHED, draws, same_codes

from workbench.errors import Cancelled, GenerationError
from workbench.generation.engine import Span, Windows
from workbench.generation.generate import extend, generate, generate_long
from workbench.generation.take import Take
from workbench.steering import Gate, ReadOut, pulse, ramp, window

PROMPT, RATE = "a calm tune", 25
OPENING = np.random.default_rng(5).integers(0, 64, (4, 7))


def long(model: Any, prompt: Any = PROMPT, **settings: Any) -> Any:
    return generate_long(
        model, prompt, **{"seconds": 1.6, "progress": False, "seed": 3, **WINDOWS, **settings}
    )


@pytest.mark.parametrize(
    ("given", "spans"),
    [
        (0, [Span(0, 20), Span(20, 10, 10), Span(30, 10, 10)]),
        (7, [Span(0, 13, 7), Span(13, 10, 10), Span(23, 10, 10), Span(33, 7, 10)]),
        (90, [Span(0, 10, 10), Span(10, 10, 10), Span(20, 10, 10), Span(30, 10, 10)]),
    ],
)
def test_windows_hear_the_overlap_and_fill_up(tiny_model: Any, given: int, spans: list[Span]) -> None:
    assert Windows.of(tiny_model, 1.6, **WINDOWS).spans(given) == spans


def test_a_window_ends_where_the_prompt_changes(tiny_model: Any) -> None:
    windows = Windows.of(tiny_model, 1.6, **WINDOWS, changes=[(0.2, "rock"), (1.2, "jazz"), (9, "country")])
    assert windows.spans(0) == [
        Span(0, 5), Span(5, 15, 5, "rock"), Span(20, 10, 10, "rock"), Span(30, 10, 10, "jazz"),
    ]  # fmt: skip


def test_the_window_is_what_the_checkpoint_says(tiny_model: Any) -> None:
    assert Windows.of(tiny_model, 60) == Windows(1500, 256, 102)


def test_music_that_fits_one_window_is_what_generate_makes(tiny_model: Any) -> None:
    plan = direction(tiny_model, 1).at(0.8, schedule=ramp(0.2, 0.6))
    short = generate(tiny_model, PROMPT, steering=plan, seconds=0.8, seed=3, progress=False)
    assert long(tiny_model, seconds=0.8, steering=plan) == short


def test_each_window_goes_on_from_the_last_with_the_same_generator(tiny_model: Any) -> None:
    take, generators, codes = long(tiny_model), None, torch.zeros(1, 4, 0, dtype=torch.long)
    for heard, frames in ((0, 20), (10, 10), (10, 10)):
        given = codes[..., -heard:] if heard else None
        run = tiny_model.sampling([PROMPT], seeds=[3], frames=heard + frames, top_k=50, prompt_codes=given)
        run.generators = generators or run.generators
        with torch.no_grad():
            tiny_model.network.sample(run)
        codes, generators = torch.cat([codes, run.codes[..., heard:]], -1), run.generators
    assert np.array_equal(take.codes, codes[0])
    assert take.clip == tiny_model.decode(codes[0])


def test_a_long_take_is_one_value_that_says_how_it_was_drawn(tiny_model: Any, tmp_path: Path) -> None:
    plan = direction(tiny_model, 1).at(0.8)
    take = long(tiny_model, steering=plan, audio=OPENING, changes=[(0.6, "rock")], probes=[Reader()])
    assert isinstance(take, Take)
    assert take.seconds == pytest.approx(1.6 + 7 / RATE)
    assert np.array_equal(take.codes[:, :7], OPENING)
    assert [(w.start_s, w.end_s, w.context_s, w.prompt) for w in take.windows] == [
        (0.0, 0.52, 0.28, PROMPT), (0.52, 0.6, 0.4, PROMPT), (0.6, 1.0, 0.4, "rock"),
        (1.0, 1.4, 0.4, "rock"), (1.4, 1.6, 0.4, "rock"),
    ]  # fmt: skip
    assert Take.load(take.save(tmp_path)) == take
    (trace,) = take.probe_traces
    assert trace.seconds == pytest.approx((7 + np.arange(40)) / RATE)
    assert trace.probabilities.shape == (40, 2)


def test_law_03_and_04_schedules_and_receipt_count_from_the_beginning(tiny_model: Any) -> None:
    one = direction(tiny_model, 1)
    plain = long(tiny_model)
    take = long(tiny_model, steering=one.at(6.0, schedule=window(1.0, 1.3)))
    assert np.array_equal(take.codes[:, : 25 - 3], plain.codes[:, : 25 - 3])
    assert not np.array_equal(take.codes, plain.codes)
    cells = take.receipt.cells
    visits = [*range(23), *range(20, 33), *range(30, 43)]
    assert cells.step.tolist() == list(range(49))
    assert cells.seconds.tolist() == pytest.approx([visit / RATE for visit in visits])
    on = [1.0 - 1e-9 <= visit / RATE < 1.3 for visit in visits]
    assert (cells.norm_change > 0).tolist() == on
    expected = np.where(on, 6.0 * one.residual_norm, 0)
    assert np.allclose(cells.norm_change, expected, **PUSHED)
    every = long(tiny_model, steering=one.at(1.0, schedule=pulse(every_steps=7))).receipt.cells
    assert (every.norm_change > 0).tolist() == [visit % 7 == 0 for visit in visits]


def test_law_01_dose_0_is_bit_identical(tiny_model: Any) -> None:
    plain = long(tiny_model)
    assert np.array_equal(long(tiny_model, steering=direction(tiny_model, 1).at(0)).codes, plain.codes)


def test_law_12_a_batch_gives_the_codes_of_single_runs(tiny_model: Any) -> None:
    plan = direction(tiny_model, 1).at(0.8, chance=0.5)
    prompts, seeds, sounds = [PROMPT, "rock", PROMPT], [3, 4, 3], [None, OPENING, OPENING]
    together = long(tiny_model, prompts, steering=[plan, None, plan], seed=seeds, audio=sounds)
    for index, take in enumerate(together):
        with draws() as gaps:
            alone = long(
                tiny_model, prompts[index], steering=[plan, None, plan][index], seed=seeds[index],
                audio=sounds[index],
            )  # fmt: skip
        same_codes(take.codes, alone.codes, gaps)
        assert take.receipt.cells.reason.equals(alone.receipt.cells.reason)


def test_chance_belongs_to_the_time_and_gates_remember(tiny_model: Any) -> None:
    one = direction(tiny_model, 1)
    cells = long(tiny_model, steering=one.at(0.5, chance=0.5)).receipt.cells
    lucky = np.random.default_rng([3, 0, 0]).random(43) < 0.5
    assert (cells.reason == "chance").tolist() == [not lucky[round(s * RATE)] for s in cells.seconds]
    shut = ReadOut(("a", "b"), np.zeros((2, 32)), np.array([9.0, 0.0]), 3)
    cells = long(tiny_model, steering=one.at(0.5, gate=Gate(shut, "a", "below", 0.5))).receipt.cells
    assert cells.reason.tolist() == ["", "", *["gate"] * 47], "the second window begins with readings"


@pytest.mark.parametrize("stop_at", [2, 25, 40])
@pytest.mark.parametrize("how", ["raise", "cancel"])
def test_law_02_nothing_is_left_on_the_model(
    tiny_model: Any, tiny_folder: Path, how: str, stop_at: int
) -> None:
    cancel = threading.Event()

    def stop(done: int, _codes: torch.Tensor) -> None:
        if done == stop_at:
            cancel.set()
            if how == "raise":
                raise ZeroDivisionError

    plan = direction(tiny_model, 1).at(2.0, branch="both")
    if (how, stop_at) == ("cancel", 40):  # too late
        long(tiny_model, steering=plan, on_frame=stop, cancel=cancel)
    else:
        with pytest.raises(ZeroDivisionError if how == "raise" else Cancelled):
            long(tiny_model, steering=plan, on_frame=stop, cancel=cancel)
    for traced, clean in zip(_residuals(tiny_model.musicgen), _residuals(untraced(tiny_folder)), strict=True):
        assert torch.equal(traced, clean)


def test_frames_are_reported_once_and_in_order(tiny_model: Any) -> None:
    seen: list[tuple[int, np.ndarray]] = []
    take = long(
        tiny_model, on_frame=lambda done, codes: seen.append((done, codes[0, :, :done].numpy().copy()))
    )
    assert [done for done, _ in seen] == list(range(1, 41))
    assert all(np.array_equal(codes, take.codes[:, :done]) for done, codes in seen)


def test_a_take_is_extended_and_kept(tiny_model: Any) -> None:
    first = generate(tiny_model, PROMPT, seconds=0.6, seed=8, guidance=2.0, progress=False)
    more = extend(tiny_model, first, seconds=1.0, progress=False, **WINDOWS)
    assert np.array_equal(more.codes[:, :15], first.codes)
    assert (more.prompt_seconds, more.seed, more.guidance, more.prompt) == (0.6, 8, 2.0, PROMPT)
    assert more.codes.shape == (4, 40)
    other = extend(tiny_model, first, seconds=1.0, prompt="rock", seed=9, progress=False, **WINDOWS)
    assert (other.seed, other.prompt) == (9, "rock")
    stranger = Take(first.clip, first.codes, PROMPT, 0, model_id="another")
    with pytest.raises(GenerationError, match="another"):
        extend(tiny_model, stranger)


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ({"seconds": 0}, "0 s in windows"),
        ({"seconds": float("nan")}, "nan s in windows"),
        ({"window_seconds": 30}, "windows of 30 s"),
        ({"overlap_seconds": 0.8}, "0 < overlap_seconds < window_seconds"),
        ({"overlap_seconds": 0}, "0 < overlap_seconds < window_seconds"),
        ({"changes": [(0, "rock")]}, "do not rise from 0"),
        ({"changes": [(1, "rock"), (1, "jazz")]}, "do not rise from 0"),
        ({"temperature": 0}, "above 0"),
    ],
)
def test_windows_that_make_no_sense_are_named(tiny_model: Any, request_: dict[str, Any], says: str) -> None:
    with pytest.raises(GenerationError, match=says):
        long(tiny_model, **request_)
