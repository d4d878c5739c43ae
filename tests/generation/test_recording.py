"""Recordings: whatever was played, and however it ended, is drawn again bit for bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import fixture_model
import numpy as np
import pytest
from live_fixture import Hands, Heard, session, until
from saved_kinds import recorded
from steering_fixture import direction

from workbench.errors import Cancelled, GenerationError
from workbench.generation.engine import Span
from workbench.generation.live.journal import CODES, EVENTS, Journal, RecordedWindow
from workbench.generation.live.recording import Recording, replay
from workbench.generation.reproduce import reproduce
from workbench.generation.take import Take


def performed(model: Any, folder: Path, seed: int, *, moves: int = 20, **settings: Any) -> Any:
    """A recorded session with at least so many moves by another thread."""
    live = session(model, seed=seed, **settings)
    live.record(folder)
    hands = Hands(live, seed)
    live.start()
    until(lambda: live.figures().steps > 0)
    hands.start()
    until(lambda: hands.moves >= moves and live.figures().frames >= 60)
    hands.done.set()
    hands.join()
    live.stop()
    return live


def untouched(model: Any, folder: Path) -> Take:
    """The take of a recording in which no knob was turned."""
    live = session(model)
    live.record(folder)
    live.start()
    until(lambda: live.figures().frames >= 20)
    live.stop()
    return Recording.load(folder).take(model)


@pytest.mark.parametrize("seed", range(10))
def test_random_performances_replay_to_the_bit(tiny_model: Any, tmp_path: Path, seed: int) -> None:
    live = performed(tiny_model, tmp_path / "one", seed)
    recording = Recording.load(tmp_path / "one")
    assert recording.codes.shape[-1] == live.figures().frames >= 60
    read = recording.knobs()
    assert len(read) > 10, "the steps read many of the moves"
    assert np.array_equal(replay(tiny_model, recording), recording.codes)


def test_the_knobs_that_were_read_make_the_codes(tiny_model: Any, tmp_path: Path) -> None:
    performed(tiny_model, tmp_path / "one", 4)
    whole = Recording.load(tmp_path / "one")
    windows = tuple(replace(window, changes=[]) for window in whole.windows)
    recording = replace(whole, windows=windows)
    assert not np.array_equal(replay(tiny_model, recording), recording.codes)


def test_a_recording_of_a_part_begins_and_ends_in_the_middle(tiny_model: Any, tmp_path: Path) -> None:
    live = session(tiny_model, doses={"rock": 0.5}).start()
    until(lambda: live.figures().frames > 30)
    live.record(tmp_path / "one")
    until(lambda: (tmp_path / "one" / CODES).exists())
    begin = live.figures().frames
    live.slide("jazz", 0.4)
    until(lambda: live.figures().frames > begin + 30)
    live.end_recording()
    assert not live.recording
    until(lambda: live.figures().frames > begin + 45)
    live.record(tmp_path / "two")
    until(lambda: (tmp_path / "two" / CODES).exists())
    more = live.figures().frames
    until(lambda: live.figures().frames > more + 5)
    live.stop()
    for name in ("one", "two"):
        recording = Recording.load(tmp_path / name)
        assert recording.ended == "stopped" and recording.context.shape[-1] == 10
        assert 5 <= recording.codes.shape[-1] < live.figures().frames
        assert np.array_equal(replay(tiny_model, recording), recording.codes)
    assert recording.knobs().iloc[0].tolist() == [0.0, 0.4, 0.5]


def test_a_recording_ends_with_the_step_at_which_it_is_ended(tiny_model: Any, tmp_path: Path) -> None:
    pieces, drawn = Heard(), 0

    def end(piece: Any) -> None:
        nonlocal drawn
        pieces(piece)
        if len(pieces) == 3:
            drawn = live.figures().frames
            live.end_recording()

    live = session(tiny_model, on_piece=end)
    live.record(tmp_path / "one")
    live.start()
    until(lambda: live.figures().frames > 50)
    live.stop()
    recording = Recording.load(tmp_path / "one")
    assert recording.codes.shape[-1] in (drawn, drawn + 1), "between two steps the next one ends it"
    assert drawn >= 15 + 6, "the codec looks 6 ahead, and decodes beside the steps"
    assert np.array_equal(replay(tiny_model, recording), recording.codes)


@pytest.mark.parametrize("frames", [1, 25, 41])
def test_a_cut_recording_replays(tiny_model: Any, tmp_path: Path, frames: int) -> None:
    live = session(tiny_model)
    live.record(tmp_path / "one")
    hands = Hands(live, frames)
    hands.start()
    live.start()
    until(lambda: live.figures().frames >= frames)
    live.pause()
    until(lambda: live.state == "paused")
    hands.done.set()
    live.start()
    more = live.figures().frames
    until(lambda: live.figures().frames >= more + 22)
    live.stop()
    recording = Recording.load(tmp_path / "one")
    assert [window.cut is None for window in recording.windows].count(False) >= 1
    assert np.array_equal(replay(tiny_model, recording), recording.codes)


def test_a_failed_recording_replays(tiny_model: Any, tmp_path: Path) -> None:
    pieces, drawn = Heard(), 0

    def fail(piece: Any) -> None:
        nonlocal drawn
        pieces(piece)
        if len(pieces) == 7:
            drawn = live.figures().frames
            raise ZeroDivisionError("planted")

    live = session(tiny_model, on_piece=fail)
    live.record(tmp_path / "one")
    hands = Hands(live, 1)
    hands.start()
    with pytest.raises(ZeroDivisionError):
        live.start().wait()
    hands.done.set()
    recording = Recording.load(tmp_path / "one")
    assert recording.ended == "failed" and recording.codes.shape[-1] == drawn >= 35 + 6
    assert np.array_equal(replay(tiny_model, recording), recording.codes)


KILLED = """
import sys, time
sys.path.insert(0, {tests!r})
import torch
torch.set_num_threads(1)
from live_fixture import Hands, session
from workbench.model.load import load
live = session(load({model!r}, device="cpu", dtype="float32"), speed=1.0)
live.record({folder!r})
hands = Hands(live, 5)
hands.start()
live.start()
while True:
    time.sleep(0.01)
    print(live.figures().frames, flush=True)
"""


def test_a_killed_process_loses_next_to_nothing(tiny_folder: Path, tmp_path: Path) -> None:
    here = Path(__file__).parents[1]
    script = KILLED.format(tests=str(here), model=str(tiny_folder), folder=str(tmp_path / "one"))
    child = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(here.parent)},
    )
    assert child.stdout is not None
    told = 0
    while told < 50:
        line = child.stdout.readline()
        assert line, "the process ended by itself"
        told = int(line)
    child.send_signal(signal.SIGKILL)
    child.wait()
    from workbench.model.load import load

    recording = Recording.load(tmp_path / "one")
    assert recording.ended == "" and told <= recording.codes.shape[-1]
    model = load(tiny_folder, device="cpu", dtype="float32")
    assert np.array_equal(replay(model, recording), recording.codes)
    with (tmp_path / "one" / CODES).open("ab") as codes, (tmp_path / "one" / EVENTS).open("ab") as events:
        codes.write(b"\0\0\0")  # half a frame, half a line
        events.write(b'{"visit": 3, "do')
    torn = Recording.load(tmp_path / "one")
    assert np.array_equal(torn.codes, recording.codes) and torn.windows == recording.windows


def test_a_recording_is_a_take_with_its_sound(tiny_model: Any, tmp_path: Path) -> None:
    pieces = Heard()
    live = performed(tiny_model, tmp_path / "one", 2, on_piece=pieces)
    recording = Recording.load(tmp_path / "one")
    clip, take = recording.clip(tiny_model), recording.take(tiny_model)
    assert np.abs(clip.samples - pieces.samples).max() < 1e-4
    assert [clip.seconds, live.figures().frames / 25] == pytest.approx([recording.seconds] * 2)
    assert isinstance(take, Take) and np.array_equal(take.codes, recording.codes)
    assert take.steering.startswith("live: ") and "*jazz" in take.steering
    assert take.windows[0].start_s == 0 and take.windows[-1].end_s == pytest.approx(recording.seconds)
    assert Take.load(take.save(tmp_path / "take")) == take
    assert recording.prompts[0][1] == "a tune"
    assert take.versions == recording.environment
    still = untouched(tiny_model, tmp_path / "still")
    with pytest.raises(GenerationError, match="only a recording knows"):
        reproduce(tiny_model, still)


def test_a_pause_within_a_window_is_replayed_to_the_step(tiny_model: Any, tmp_path: Path) -> None:
    live = session(tiny_model)
    live.record(tmp_path / "one")
    live.start()
    until(lambda: live.figures().frames >= 25)
    live.pause()
    until(lambda: live.state == "paused")
    live.start()
    until(lambda: live.figures().frames >= 60)
    live.stop()
    recording = Recording.load(tmp_path / "one")
    assert any(window.cut for window in recording.windows[:-1])
    assert np.array_equal(replay(tiny_model, recording), recording.codes)


def test_knobs_that_do_not_move_stand_on_in_the_windows_that_follow(tiny_model: Any, tmp_path: Path) -> None:
    untouched(tiny_model, tmp_path / "one")
    whole, doses = Recording.load(tmp_path / "one"), (0.3, 0.0)
    spans = [Span(start, 20, min(start, 10), "a tune") for start in (0, 20, 40)]
    windows = (RecordedWindow(spans[0], [(4, doses)]), *map(RecordedWindow, spans[1:]))
    read = replace(whole, windows=windows, codes=np.zeros((len(whole.codes), 60), np.int16)).doses()
    assert read[0][:5] == [(0.0, 0.0)] * 4 + [doses]
    assert set(read[1] + read[2]) == {doses} and min(map(len, read)) >= 20


def test_the_sound_of_a_part_is_that_part_of_the_sound(tiny_model: Any, tmp_path: Path) -> None:
    untouched(tiny_model, tmp_path / "one")
    whole = Recording.load(tmp_path / "one")
    part = replace(whole, context=whole.codes[:, :10], codes=whole.codes[:, 10:])
    begin = round(10 * tiny_model.rate_hz / tiny_model.frame_rate_hz)
    expected = whole.clip(tiny_model).samples[begin:]
    assert len(expected) and np.array_equal(part.clip(tiny_model).samples, expected)


def test_another_model_is_refused_and_another_machine_is_warned_of(tiny_model: Any, tmp_path: Path) -> None:
    performed(tiny_model, tmp_path / "one", 0, moves=1)
    recording = Recording.load(tmp_path / "one")
    from workbench.model.load import load

    other = load(fixture_model.save_tiny(tmp_path / "other", seed=1), device="cpu", dtype="float32")
    with pytest.raises(GenerationError, match=r"another model.*fingerprint"):
        replay(other, recording)
    with pytest.raises(GenerationError, match="another model"):
        recording.clip(other)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        replay(tiny_model, recording)
    elsewhere = {**recording.environment, "threads": "7", "torch": "1.0"}
    with pytest.warns(UserWarning, match=r"threads 7 then, 1 now; .*torch 1\.0 then"):
        codes = replay(tiny_model, replace(recording, environment=elsewhere))
    assert np.array_equal(codes, recording.codes)


def test_what_is_no_recording_is_named(tiny_model: Any, tmp_path: Path) -> None:
    with pytest.raises(GenerationError, match="cannot be read"):
        Recording.load(tmp_path)
    performed(tiny_model, tmp_path / "one", 0, moves=1)
    with pytest.raises(GenerationError, match="there is one already"):
        session(tiny_model).record(tmp_path / "one")
    strange = direction(tiny_model, 1, seed=9)
    strange.save(tmp_path / "one" / "directions" / "0.safetensors")
    with pytest.raises(GenerationError, match="not the one that was recorded"):
        Recording.load(tmp_path / "one")


def test_a_replay_can_be_stopped(tiny_model: Any, tmp_path: Path) -> None:
    performed(tiny_model, tmp_path / "one", 0, moves=1)
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled):
        replay(tiny_model, Recording.load(tmp_path / "one"), cancel=cancel)


class Miser:
    """A file that takes at most so many bytes at once, as long as there is room on its disk."""

    def __init__(self, file: Any, most: int, room: list[int]) -> None:
        self.file, self.most, self.room = file, most, room

    def write(self, data: Any) -> int:
        taken = bytes(data)[: min(self.most, self.room[0])]
        if not taken:
            raise OSError(28, "No space left on device")
        self.room[0] -= len(taken)
        return int(self.file.write(taken))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def on_a_disk(monkeypatch: pytest.MonkeyPatch, most: int, room: int) -> None:
    """Let every journal write at most `most` bytes at once into `room` bytes."""
    begin, left = Journal.__init__, [room]

    def limited(self: Journal, folder: Path) -> None:
        begin(self, folder)
        self._events: Any = Miser(self._events, most, left)
        self._codes: Any = Miser(self._codes, most, left)

    monkeypatch.setattr(Journal, "__init__", limited)


def test_short_writes_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded(tmp_path / "whole")
    on_a_disk(monkeypatch, 3, 10**6)
    recorded(tmp_path / "it")
    for name in (EVENTS, CODES):
        assert (tmp_path / "it" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.filterwarnings("ignore")
def test_a_full_disk_leaves_whole_lines_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded(tmp_path / "whole")
    whole = Recording.load(tmp_path / "whole")
    for room in range(100, 800, 61):
        folder = tmp_path / str(room)
        with monkeypatch.context() as patch, pytest.raises(GenerationError, match="No space left"):
            on_a_disk(patch, 7, room)
            recorded(folder)
        kept = (folder / EVENTS).read_bytes()
        assert kept.endswith(b"\n") and (tmp_path / "whole" / EVENTS).read_bytes().startswith(kept)
        cut = Recording.load(folder)
        assert np.array_equal(cut.codes, whole.codes[:, : cut.codes.shape[-1]])
        assert [one.span for one in cut.windows] == [one.span for one in whole.windows[: len(cut.windows)]]


def test_a_damaged_line_costs_its_future_and_never_its_past(tmp_path: Path) -> None:
    recorded(tmp_path / "it")
    whole = Recording.load(tmp_path / "it")
    journal = tmp_path / "it" / EVENTS
    lines = journal.read_bytes().splitlines(keepends=True)
    for number, line in enumerate(lines):
        torn = lines[number][:9] + b"{" + lines[number][10:]
        journal.write_bytes(b"".join([*lines[:number], torn, *lines[number + 1 :]]))
        with pytest.warns(UserWarning, match=rf"Line {number + 1} of .* is damaged"):
            cut = Recording.load(tmp_path / "it")
        visits = [json.loads(one).get("visit", 0) for one in lines[:number]]
        frames = sum(visit >= 3 for visit in visits)  # those that were finished when the line was written
        assert np.array_equal(cut.codes, whole.codes[:, :frames]), line
        doses = [one for window in cut.doses() for one in window]
        assert doses == [one for window in whole.doses() for one in window][: len(doses)]
        assert len(doses) == sum(b"visit" in one for one in lines[:number])


def test_a_recording_with_a_damaged_line_replays_up_to_it(tiny_model: Any, tmp_path: Path) -> None:
    performed(tiny_model, tmp_path / "one", 6, moves=5)
    journal = tmp_path / "one" / EVENTS
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:45], b"{}\n", *lines[46:]]))
    with pytest.warns(UserWarning, match="Line 46"):
        recording = Recording.load(tmp_path / "one")
    assert 30 < recording.codes.shape[-1] < 46
    assert np.array_equal(replay(tiny_model, recording), recording.codes)
    endless = replace(recording, setup=replace(recording.setup, window=10**12))
    with pytest.raises(GenerationError, match="its windows have 1000000000000 frames"):
        replay(tiny_model, endless)
