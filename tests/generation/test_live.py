"""Live sessions: no frame is lost, the lead is kept, knobs act at the next step, the model stays clean."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from generation_samples import Reader, _residuals
from live_fixture import WINDOWS, Hands, Heard, knobs, session, until
from steering_fixture import untraced
from tolerances import ROUNDED, SUMMED

from workbench.errors import GenerationError, SteeringError
from workbench.generation import steer as steer_loop
from workbench.generation.generate import generate_long
from workbench.generation.live import session as live_session
from workbench.generation.live.pacing import Pacing, Playback, Rate, Scores, held_back
from workbench.generation.live.recording import Recording
from workbench.generation.live.session import LiveSession
from workbench.generation.live.window import KnobTimer, LiveSliders, LiveSound


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def played(model: Any, folder: Path, frames: int, **settings: Any) -> tuple[LiveSession, Recording]:
    live = session(model, **settings)
    live.record(folder)
    live.start()
    until(lambda: live.figures().frames >= frames)
    live.stop()
    return live, Recording.load(folder)


def test_unmoved_knobs_at_0_change_nothing_and_others_act(tiny_model: Any, tmp_path: Path) -> None:
    _live, still = played(tiny_model, tmp_path / "still", 50)
    windows = {"window_seconds": 1.2, "overlap_seconds": 0.4}
    first = generate_long(tiny_model, "a tune", seconds=0.8, seed=3, progress=False, **windows)
    assert np.array_equal(still.codes[:, :20], first.codes), "law 1: dose 0 is bit-identical"
    _live, begun = played(tiny_model, tmp_path / "begun", 30, doses={"rock": 0.7})
    plan = knobs(tiny_model)["rock"].at(0.7)
    steered = generate_long(
        tiny_model, "a tune", seconds=0.8, seed=3, steering=plan, progress=False, **windows
    )
    assert np.array_equal(begun.codes[:, :20], steered.codes)
    assert not np.array_equal(begun.codes[:, :20], first.codes)


def test_windows_go_on_from_the_overlap_with_one_generator(tiny_model: Any, tmp_path: Path) -> None:
    _live, recording = played(tiny_model, tmp_path / "one", 50)
    codes, generators = torch.zeros(1, 4, 0, dtype=torch.long), None
    for heard in (0, 10, 10):
        given = codes[..., -heard:] if heard else None
        run = tiny_model.sampling(["a tune"], seeds=[3], frames=heard + 20, top_k=50, prompt_codes=given)
        run.generators = generators or run.generators
        tiny_model.network.sample(run)
        codes, generators = torch.cat([codes, run.codes[..., heard:]], -1), run.generators
    assert np.array_equal(recording.codes[:, :50], codes[0, :, :50])


def test_a_moved_knob_acts_from_the_next_step_on(tiny_model: Any, tmp_path: Path) -> None:
    steps: list[int] = []

    def move(_piece: Any) -> None:
        steps.append(live.figures().steps)
        live.slide("jazz", 0.5)

    live = session(tiny_model, on_piece=move)
    live.record(tmp_path / "one")
    live.start()
    until(lambda: live.figures().frames >= 30)
    live.stop()
    recording = Recording.load(tmp_path / "one")
    moved = recording.knobs()
    # The first piece of 5 frames needs 5 + 3 + 6 steps (delay, look-ahead); it is decoded beside the next.
    (begun, (seconds, *doses)) = moved.to_numpy().tolist()
    assert begun == [0.0, 0.0, 0.0] and doses == [0.5, 0.0]
    assert round(25 * seconds) in (steps[0], steps[0] + 1) and 25 * seconds >= 14
    _live, still = played(tiny_model, tmp_path / "still", 30)
    assert np.array_equal(recording.codes[:, :11], still.codes[:, :11])
    assert not np.array_equal(recording.codes[:, :30], still.codes[:, :30])


def test_no_frame_is_lost_and_pieces_are_the_sound_of_the_codes(tiny_model: Any, tmp_path: Path) -> None:
    pieces = Heard()
    live, recording = played(tiny_model, tmp_path / "one", 60, on_piece=pieces)
    told = live.figures()
    assert told.frames == told.sounding == recording.codes.shape[-1]
    assert len(pieces.samples) == told.frames * 640
    whole = tiny_model.decode(torch.tensor(recording.codes.astype(int))).samples
    assert np.sqrt(np.mean((pieces.samples - whole) ** 2)) < 1e-3 * np.abs(whole).max()
    assert told.windows == len(recording.windows) >= 3
    assert told.state == live.state == "stopped"


def test_prompts_take_effect_with_the_next_window(tiny_model: Any, tmp_path: Path) -> None:
    live = session(tiny_model)
    live.record(tmp_path / "one")
    live.start()
    until(lambda: live.figures().frames > 3)
    live.prompt = "sad jazz piano"
    heard = live.figures().frames
    until(lambda: live.figures().frames >= heard + 40)
    live.stop()
    recording = Recording.load(tmp_path / "one")
    first, (start_s, prompt) = recording.prompts
    assert first == (0.0, "a tune") and prompt == "sad jazz piano"
    assert start_s in [20 * window / 25 for window in range(1, 9)], "a window has 20 new frames"
    with pytest.raises(GenerationError, match="a prompt is text"):
        live.prompt = 3  # type: ignore[assignment]


def test_the_lead_is_never_longer_than_asked(tiny_model: Any) -> None:
    clock, ahead = Clock(), []
    playback = Playback(now=clock)
    live = session(tiny_model, playback=playback, lead_s=0.9)
    live.start()
    until(lambda: live.figures().steps >= 22)
    time.sleep(0.2)
    for _tick in range(40):
        clock.now += 0.05
        time.sleep(0.03)
        steps, windows = live._steps, live._windows
        ahead.append((steps - 3 * (windows - 1)) / 25 - playback.played_s)
    live.stop()
    assert 0.7 < max(ahead) <= 0.9 + 1.5 / 25, "the step that crosses the line is the last"
    with pytest.raises(GenerationError, match=r"lead_s=0\.81 or more"):
        session(tiny_model, lead_s=0.5)


def test_knob_to_ear_is_measured_by_what_was_heard() -> None:
    clock = Clock()
    timer = KnobTimer(clock)

    def read(visit: int, _doses: Any, moved: float | None) -> None:
        if moved is not None:
            timer.read(moved, visit / 25)

    knobs, keys = LiveSliders([0.0, 0.0], read, now=clock), [(0, 0), (0, 1)]
    clock.now = 0.5
    knobs.slide(0, 0.0)  # it stands where it stood
    knobs.read_sliders(keys)
    clock.now = 1.0
    knobs.slide(0, 0.5)
    clock.now = 1.02
    knobs.slide(1, 0.5)  # of two moves before a step, the first one waits longest
    assert knobs.read_sliders(keys) == [0.5, 0.5]
    assert timer.last_s is None
    clock.now = 1.9
    timer.heard(0.03)
    assert timer.last_s is None, "the step makes the sound at 0.04 s"
    timer.heard(0.14)
    assert timer.last_s == pytest.approx(0.8) and timer.worst_s == pytest.approx(0.8)
    knobs.read_sliders(keys)
    clock.now = 9.0
    timer.heard(9.0)
    assert timer.worst_s == pytest.approx(0.8)
    knobs.slide(1, 0.1)
    knobs.read_sliders(keys)
    timer.forget()
    timer.heard(99.0)
    assert timer.worst_s == pytest.approx(0.8), "a pause is no delay"


def test_a_live_knob_is_heard_within_its_lead(tiny_model: Any) -> None:
    live = session(tiny_model, speed=1.0).start()
    live.wait(0.3)
    for dose in (0.2, 0.4):
        live.slide("jazz", dose)
        live.wait(0.3)
    live.wait(1.0)
    live.stop()
    told = live.figures()
    assert told.worst_knob_to_ear_s is not None and 0.1 < told.worst_knob_to_ear_s < 1.6
    assert "knob to ear" in str(told) and "steps/s" in str(told)


def test_what_pushes_did_is_counted(tiny_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    live = session(tiny_model, doses={"jazz": 0.5}).start()
    until(lambda: live.figures().frames > 25)
    live.stop()
    told = live.figures()
    assert told.pushes == {"changed": told.steps, "alone": told.steps, "failed": 0}

    assert told.lost == "" and "NOT" not in str(told)


def test_pushes_that_do_not_arrive_are_told_live_and_recorded(
    tiny_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steer_loop.Edit, "after", lambda _self, before, _lanes, _factor: before.clone())
    live = session(tiny_model, doses={"jazz": 0.5}, window_seconds=20, overlap_seconds=1)
    live.record(tmp_path / "part")
    live.start()
    until(lambda: live.figures().pushes["failed"] >= 25)
    assert live.figures().windows == 1, "told before the window is over"
    assert "did NOT arrive" in str(live.figures())
    live.end_recording()
    begin = live.figures().frames
    until(lambda: live.figures().frames > begin + 3)
    with pytest.warns(UserWarning, match="did not change the residual stream as planned"):
        live.stop()
    told = live.figures()
    assert told.pushes == {"changed": 0, "alone": told.steps, "failed": told.steps}
    recording = Recording.load(tmp_path / "part")
    assert 25 <= recording.pushes["failed"] < told.steps, "what came after its end is not of the recording"
    assert "Turn the knob further" in recording.lost and "Turn the knob further" in told.lost


def test_a_recording_counts_what_all_its_windows_pushed(tiny_model: Any, tmp_path: Path) -> None:
    live, recording = played(tiny_model, tmp_path / "one", 50, doses={"jazz": 0.5})
    assert len(recording.windows) > 2 and recording.lost == ""
    assert recording.pushes == live.figures().pushes


def test_a_wait_for_what_will_not_be_heard_is_an_error(tiny_model: Any) -> None:
    live = session(tiny_model)
    for seconds in (1.0, None):
        with pytest.raises(GenerationError, match=r"it was not started. Call start\(\) first"):
            live.wait(seconds)
    live.start().wait(0.2)
    threading.Timer(0.3, live.pause).start()
    with pytest.raises(GenerationError, match=r"it is paused. Call start\(\) first"):
        live.wait(1e6)
    ended = threading.Timer(0.3, live.stop)
    ended.start()
    assert live.wait().state == "stopped", "without seconds it waits through a pause"
    ended.join()
    live.wait(1.0)


SCRIPT = """
import sys
from live_fixture import session
from workbench.model.load import load

live = session(load(sys.argv[1], device="cpu", dtype="float32"), speed=1.0, doses={"jazz": 0.5})
live.record(sys.argv[2])
live.start().wait(0.3)
"""


def test_a_script_that_ends_while_it_plays_ends_well(tiny_folder: Path, tmp_path: Path) -> None:
    tests = Path(__file__).parents[1]
    paths = os.pathsep.join([str(tests), str(tests.parent)])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tiny_folder), str(tmp_path / "one")],
        env={**os.environ, "PYTHONPATH": paths, "TRANSFORMERS_VERBOSITY": "error"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    recording = Recording.load(tmp_path / "one")
    assert recording.ended == "stopped" and recording.seconds > 0.3


@pytest.mark.parametrize("how", ["stop", "pause", "raise", "raise in the sound", "before"])
def test_law_02_nothing_is_left_on_the_model(
    tiny_model: Any, tiny_folder: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if how == "raise in the sound":
        monkeypatch.setattr(live_session.LiveSound, "add", _fail)
    live = session(tiny_model, doses={"jazz": 2.0}, on_piece=_fail if how == "raise" else None)
    if how == "before":
        live.stop()
    elif how.startswith("raise"):
        with pytest.raises(ZeroDivisionError, match="planted"):
            live.start().wait()
        assert live.state == "failed" and isinstance(live.error, ZeroDivisionError)
    else:
        live.start()
        until(lambda: live.figures().steps > 10)
        getattr(live, how)()
    if how == "pause":
        until(lambda: live.state == "paused")
    assert tiny_model.lock.acquire(timeout=5), "also while it is paused, the model is free"
    tiny_model.lock.release()
    for traced, clean in zip(_residuals(tiny_model.musicgen), _residuals(untraced(tiny_folder)), strict=True):
        assert torch.equal(traced, clean)
    if how == "pause":
        live.start()
        before = live.figures().frames
        until(lambda: live.figures().frames > before)
        live.stop()
    if how != "pause":
        with pytest.raises(GenerationError, match="it is over"):
            live.start()


def _fail(*_parts: Any) -> Any:
    raise ZeroDivisionError("planted")


def test_others_use_the_model_between_windows_and_after_a_stop(tiny_model: Any) -> None:
    live = session(tiny_model).start()
    hands = Hands(live, 0)
    hands.start()
    take = generate_long(tiny_model, "rock", seconds=0.4, progress=False, **WINDOWS)
    assert take.codes.shape == (4, 10)
    hands.done.set()
    live.stop()


def test_what_makes_no_sense_is_named(tiny_model: Any) -> None:
    with pytest.raises(GenerationError, match="'blues' was asked for, but the knobs are jazz, rock"):
        session(tiny_model, doses={"blues": 1.0})
    live = session(tiny_model)
    with pytest.raises(GenerationError, match="the knobs are"):
        live.slide("blues", 1.0)
    with pytest.raises(GenerationError, match="finite"):
        live.slide("jazz", float("nan"))
    with pytest.raises(GenerationError, match="a knob's dose multiplies a push"):
        session(tiny_model, operation="clamp")
    with pytest.raises(GenerationError, match="prompt is text"):
        session(tiny_model, prompt=3)
    with pytest.raises(GenerationError, match="above 0"):
        session(tiny_model, temperature=0)
    from dataclasses import replace

    stranger = replace(knobs(tiny_model)["jazz"], layer=9)
    with pytest.raises(SteeringError, match="layers 0-3"):
        LiveSession(tiny_model, {"jazz": stranger})


def test_probes_are_read_once_a_second(tiny_model: Any) -> None:
    live = session(tiny_model, probes=[Reader()]).start()
    until(lambda: live.figures().frames > 80)
    live.stop()
    lines = live.scores
    assert [round(line.seconds) for line in lines[:3]] == [1, 2, 3]
    assert np.isclose(sum(lines[0].probabilities.values()), 1, **ROUNDED)


def test_a_score_is_the_mean_of_what_came_since_the_one_before() -> None:
    probe, rows = Reader(), [torch.randn(1, 32, generator=torch.Generator().manual_seed(n)) for n in range(9)]
    place = (probe.layer, probe.site)
    seen: dict[Any, list[torch.Tensor]] = {place: rows[:4]}
    scores = Scores([probe])
    scores.begin(seen)
    scores.step(0.9)
    assert not scores.lines, "a second is not over"
    scores.step(1.0)
    seen[place] += rows[4:7]
    scores.step(2.0)
    scores.begin({place: rows[7:]})  # another window: its lists are new
    scores.step(3.0)
    parts = [torch.cat(rows[a:b]).numpy() for a, b in ((0, 4), (4, 7), (7, 9))]
    expected = [probe.predict_proba(part).mean(0)[0] for part in parts]
    assert len(scores.lines) == len(expected)
    assert np.allclose([line.probabilities["jazz"] for line in scores.lines], expected, **SUMMED)


def test_the_last_piece_of_sound_may_be_short_and_is_not_lost(tiny_model: Any) -> None:
    sound = LiveSound(tiny_model, 5)
    codes = torch.zeros(tiny_model.n_codebooks, 12, dtype=torch.long)
    pieces = [*sound.add(codes), *sound.rest()]
    assert sound.frames == 12
    assert sum(piece.seconds for piece in pieces) == pytest.approx(12 / tiny_model.frame_rate_hz)


def test_the_worst_delay_of_a_knob_is_that_of_all_moves() -> None:
    clock = Clock()
    timer = KnobTimer(clock)
    for moved, position_s, heard in ((0.0, 1.0, 5.0), (5.0, 2.0, 6.0)):
        timer.read(moved, position_s)
        clock.now = heard
        timer.heard(position_s)
    assert (timer.last_s, timer.worst_s) == (1.0, 5.0)


def test_a_move_is_heard_where_its_step_sounds_also_in_later_windows(tiny_model: Any) -> None:
    live = session(tiny_model)
    live._start = 20  # where the window begins
    live._read(5, (0.0, 0.0), 0.0)
    live._timer.heard(24.9 / tiny_model.frame_rate_hz)
    assert live.figures().knob_to_ear_s is None
    live._timer.heard(25 / tiny_model.frame_rate_hz)
    assert live.figures().knob_to_ear_s is not None
    live.stop()


def test_a_pause_is_no_delay_of_the_knob_that_was_moved_before_it(tiny_model: Any) -> None:
    live = session(tiny_model)
    live._timer.read(0.0, 1.0)  # moved long ago, and not heard yet
    live.pause()
    live._timer.heard(2.0)
    assert live.figures().knob_to_ear_s is None
    live.stop()


def test_the_clock_plays_where_nobody_listens() -> None:
    clock = Clock()
    playback = Playback(0.5, now=clock)
    playback.deliver(0.4)
    clock.now = 1.0
    assert playback.played_s == 0 and not playback.running, "less than is to be held back"
    playback.deliver(0.2)
    clock.now = 1.25
    assert playback.played_s == pytest.approx(0.25) and playback.ahead_s == pytest.approx(0.35)
    playback.pause()
    clock.now = 5.0
    assert playback.played_s == pytest.approx(0.25)
    playback.resume()
    clock.now = 6.0
    assert playback.played_s == pytest.approx(0.6) and playback.underruns == 1
    playback.deliver(0.3)
    assert not playback.running, "after a gap, sound is held back again"
    playback.finish()
    clock.now = 9.0
    assert playback.played_s == pytest.approx(0.9) and playback.underruns == 1, "the end is no gap"


def test_a_player_that_joins_says_what_is_heard() -> None:
    clock = Clock()
    playback = Playback(now=clock)
    playback.deliver(2.0)
    clock.now = 1.0
    playback.join()
    assert playback.played_s == 2.0, "it hears what comes from now on"
    playback.deliver(1.0)
    clock.now = 1.9
    assert playback.played_s == 2.0, "it waits for the page, which may want a click first"
    playback.report(0.0, playing=False)
    clock.now = 2.8
    assert playback.played_s == 2.0, "it still waits, and says so"
    clock.now = 4.9
    assert playback.running, "a page that says nothing is taken to play: its reports wait for a cell to end"
    clock.now = 5.0
    playback.report(0.2, playing=True, underruns=0)
    clock.now = 5.3
    assert playback.played_s == pytest.approx(2.5), "between reports the clock runs on"
    playback.report(0.4, playing=True, underruns=1)
    assert playback.played_s == pytest.approx(2.4) and playback.underruns == 1
    clock.now = 99.0
    assert playback.played_s == 3.0 and playback.underruns == 1
    playback.join()  # another page: its gaps are counted from 0
    playback.report(0.0, playing=True, underruns=1)
    assert playback.underruns == 2
    playback.leave()
    playback.deliver(1.0)
    clock.now = 100.0
    assert playback.played_s == 4.0


def test_a_player_tells_all_its_gaps_each_time_and_none_starts_a_pause() -> None:
    clock = Clock()
    playback = Playback(now=clock)
    playback.join()
    playback.deliver(3.0)
    for _report in range(3):
        playback.report(0.5, playing=True, underruns=2)
    assert playback.underruns == 2, "two gaps, told three times"
    playback.pause()
    playback.report(0.6, playing=True, underruns=2)  # it was underway when the pause began
    clock.now = 1.0
    assert playback.played_s == pytest.approx(0.6) and not playback.running


@pytest.mark.parametrize("speed", [0.3, 0.8, 1.0])
def test_what_is_held_back_is_what_is_not_made_while_it_plays(speed: float) -> None:
    assert held_back(10.0, speed) + 10.0 * speed == pytest.approx(10.0)
    assert held_back(10.0, 1.5) == 0, "a fast model holds nothing back"


def test_the_shortest_lead_is_the_latency_and_two_pieces() -> None:
    lengths = {"latency_s": 0.12, "piece_s": 0.2, "frame_rate_hz": 25}
    assert Pacing(0.5201, **lengths).now().hold_s > 0.2, "a piece can play while the next is made"
    with pytest.raises(GenerationError, match=r"Use lead_s=0\.57"):
        Pacing(0.51, **lengths)


def test_a_slow_model_holds_back_as_planned() -> None:
    pacing = Pacing(0.9, latency_s=0.12, piece_s=0.2, frame_rate_hz=25)
    fast = pacing.now()
    assert (fast.lead_s, fast.hold_s, fast.slow) == (0.9, pytest.approx(0.58), False)
    for _step in range(24):
        pacing.worked(0.08)
    assert pacing.now() == fast, "too early to tell"
    pacing.worked(0.08)
    slow = pacing.now()
    assert pacing.real_time_factor == pytest.approx(0.5)
    assert slow.slow and slow.hold_s == pytest.approx(0.58 + held_back(10.0, 0.5))
    assert slow.lead_s == pytest.approx(slow.hold_s + 0.32)
    for _step in range(100):
        pacing.worked(0.037)
    assert pacing.now().slow, "just above real time is not enough to change back"
    for _step in range(100):
        pacing.worked(0.02)
    assert pacing.now() == fast


def test_a_rate_that_is_known_counts_from_the_first_step() -> None:
    lengths = {"latency_s": 0.12, "piece_s": 0.2, "frame_rate_hz": 25}
    pacing = Pacing(0.9, **lengths, stretch_s=60.0, rate=Rate(0.5, opening_s=4.0))
    begun = pacing.now()
    assert begun.slow and begun.hold_s == pytest.approx(0.58 + held_back(60, 0.5) + 4 * 0.5)
    for _step in range(25):
        pacing.worked(0.02)
    assert pacing.now() == begun, "the first steps of a window are its fastest"
    for _step in range(100):
        pacing.worked(0.16)
    assert pacing.now().hold_s == pytest.approx(0.58 + held_back(60, 0.25) + 4 * 0.25)
    for _step in range(100):
        pacing.worked(0.02)
    assert not pacing.now().slow, "a whole window was made in time"
    assert not Pacing(0.9, **lengths, rate=Rate(1.2)).now().slow
    assert Pacing(0.9, **lengths, rate=Rate(1.1)).now().slow, "the window that opens has no time to spare"


@pytest.mark.parametrize("stretch_s", [0.0, -1.0, float("inf"), float("nan")])
def test_a_stretch_is_a_length_of_time(stretch_s: float) -> None:
    with pytest.raises(GenerationError, match="stretch_s=10"):
        Pacing(0.9, latency_s=0.12, piece_s=0.2, frame_rate_hz=25, stretch_s=stretch_s)


@pytest.mark.parametrize("speed", [0.2, 0.55, 0.9])
@pytest.mark.parametrize("stretch_s", [10.0, 60.0])
@pytest.mark.parametrize("phase", [0, 30, 59])
def test_what_a_rate_holds_back_lasts(speed: float, stretch_s: float, phase: int) -> None:
    """Windows of 6 s, in pieces of 0.1 s, a tenth of whose time passes before the first: no gap."""
    clock, piece_s, pieces = Clock(), 0.1, 60
    window_s = pieces * piece_s / speed
    rate = Rate(speed, opening_s=window_s / 10)
    playback = Playback(rate.hold_s(stretch_s) + 2 * piece_s, now=clock)
    made, begun_s = phase, None
    while playback.played_s < stretch_s:
        clock.now += window_s * 0.9 / pieces + rate.opening_s * (made % pieces == 0)
        made += 1
        playback.deliver(piece_s)
        if begun_s is None and playback.running:
            begun_s = clock.now
    assert playback.underruns == 0
    assert begun_s is not None and begun_s <= rate.wait_s(stretch_s, 3 * piece_s) + rate.opening_s


def test_a_model_s_rate_is_that_of_whole_windows(tiny_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []

    def visits(_self: Any, _text: Any, context: int, positions: int = 1) -> list[float]:
        asked.append((context, positions))
        return [0.9, 0.02, 0.02] if positions == 1 else [0.9, 0.08, 0.16]

    monkeypatch.setattr(live_session, "_RATES", {})
    monkeypatch.setattr(type(tiny_model.network), "time_visits", visits)
    monkeypatch.setattr(live_session, "_piece_seconds", lambda _model, piece: 0.01 * piece)
    found = live_session.measure_rate(tiny_model, **WINDOWS)
    assert asked == [(30 - 12, 1), (0, 16)], "the end of a window, and how an overlap is read"
    opening_s = 0.08 / 16 * 10 + 3 * 0.02  # and the delay pattern
    assert found.opening_s == pytest.approx(opening_s)
    assert found.speed == pytest.approx(20 / 25 / (opening_s + 20 * (0.02 + 0.01)))
    assert live_session.measure_rate(tiny_model, seed=3, **WINDOWS) is found and len(asked) == 2
    assert session(tiny_model).rate is found
    assert live_session.measure_rate(tiny_model, guidance=1.0, **WINDOWS) is not found


def test_timing_visits_changes_nothing(tiny_model: Any) -> None:
    run = tiny_model.sampling(["a tune"], seeds=[3], frames=20)
    before = tiny_model.network.sample(run).clone()
    state = torch.get_rng_state()
    for context, positions in ((500, 1), (0, 16)):
        taken = tiny_model.network.time_visits(run.text, context, positions)
        assert 3 <= len(taken) <= 12 and min(taken) > 0
    assert live_session._piece_seconds(tiny_model, 5) > 0
    again = tiny_model.sampling(["a tune"], seeds=[3], frames=20)
    assert torch.equal(tiny_model.network.sample(again), before)
    assert torch.equal(torch.get_rng_state(), state)


def test_slowness_is_told(tiny_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_session.Pacing, "worked", lambda self, _seconds: self._busy.append(0.1))
    live = session(tiny_model).start()
    until(lambda: live.figures().frames > 40)
    live.stop()
    assert "slower than real time" in str(live.figures()) and live.playback.hold_s > 4
    assert "10 s play without a gap" in str(live.figures()) and "filling" not in str(live.figures())


def test_sessions_leave_no_thread(tiny_model: Any) -> None:
    live = session(tiny_model).start()
    until(lambda: live.figures().frames > 5)
    live.stop()
    assert "workbench-live" not in [thread.name for thread in threading.enumerate()]


@pytest.mark.parametrize(
    "seconds", [pytest.param(600, marks=[pytest.mark.long, pytest.mark.timeout(900)]), pytest.param(4)]
)
def test_memory_stays_flat_and_no_frame_is_lost(tiny_model: Any, tmp_path: Path, seconds: int) -> None:
    """Headless in real time: knobs moved all the time, everything recorded, nothing kept."""
    me, counted = psutil.Process(), []
    live = session(tiny_model, speed=1.0, on_piece=lambda _piece: counted.append(None))
    live.record(tmp_path / "one")
    hands = Hands(live, 0, pause_s=0.2)
    hands.start()
    live.start()
    live.wait(seconds / 10)
    settled = me.memory_info().rss
    peak = settled
    for _part in range(9):
        live.wait(seconds / 10)
        peak = max(peak, me.memory_info().rss)
    hands.done.set()
    live.stop()
    told = live.figures()
    grown_mb = (peak - settled) / 1e6
    (tmp_path / "told.txt").write_text(f"{told} grown by {grown_mb:.1f} MB")
    recording = Recording.load(tmp_path / "one")
    assert told.frames == told.sounding == recording.codes.shape[-1] >= seconds * 25
    assert len(counted) == -(-told.frames // 5)
    assert hands.moves > seconds
    assert grown_mb < 20, f"{grown_mb:.1f} MB more than after the first tenth"
