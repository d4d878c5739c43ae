"""The live desk without a browser: what its sliders do, what it says, and a page that is played by hand."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from generation_samples import Reader
from live_fixture import WINDOWS, knobs, until
from steering_fixture import direction

from workbench.errors import GenerationError, SteeringError, WorkbenchError
from workbench.generation import steer as steer_loop
from workbench.generation.live import session as live_session
from workbench.generation.live.pacing import Playback, Rate, Score
from workbench.generation.live.recording import replay
from workbench.show.widgets import live_desk
from workbench.show.widgets.fader import BlendPad
from workbench.show.widgets.live_desk import LiveDesk, score_lines
from workbench.show.widgets.players import LivePlayer
from workbench.sound import read_clip

FOUR = ("jazz", "rock", "classical", "reggae")


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of a desk that nobody hears runs fast."""
    monkeypatch.setattr(LiveDesk, "_new_session", _fast_session(LiveDesk._new_session))


def _fast_session(made: Any) -> Any:
    def fast(desk: LiveDesk) -> Any:
        desk._settings["playback"] = Playback(speed=100)
        return made(desk)

    return fast


def desk(model: Any, folder: Path, **settings: Any) -> LiveDesk:
    return LiveDesk(model, knobs(model), folder=folder, seed=3, **{**WINDOWS, **settings})


@pytest.mark.usefixtures("fast")
def test_a_desk_plays_records_and_replays_without_a_browser(tiny_model: Any, tmp_path: Path) -> None:
    live = desk(tiny_model, tmp_path)
    live.knobs["rock"].value = 0.1
    live.start()
    assert live.play.description == "❚❚ Pause"
    live.wait(1.0)
    live.knobs["jazz"].value = 0.30000000000000004
    live.prompt.value = "sad jazz piano"
    live.wait(2.0)
    live.stop()
    recording = live.recording
    assert np.array_equal(replay(tiny_model, recording), recording.codes)
    assert recording.knobs().to_numpy()[:, 1:].tolist() == [[0.0, 0.1], [0.3, 0.1]]
    assert [text for _seconds, text in recording.prompts] == ["a calm tune", "sad jazz piano"]
    assert live.figures().state == "stopped" and "stopped" in live.status.value
    assert live.play.description == "▶ Play"
    assert live.save() == tmp_path / "001" / "sound.wav"
    assert read_clip(tmp_path / "001" / "sound.wav").seconds == pytest.approx(recording.seconds)
    assert "Saved" in live.status.value


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Rate:
    """Every model is measured to be slower than real time, and is so: a step waits for its time."""
    rate, worked = Rate(0.55, opening_s=2.0), live_session.Pacing.worked

    def slowly(pacing: Any, took_s: float) -> None:
        step_s = max(took_s, 0.04 / rate.speed)  # 25 steps are a second of sound
        time.sleep(step_s - took_s)
        worked(pacing, step_s)

    monkeypatch.setattr(live_session.Pacing, "worked", slowly)
    for module in (live_desk, live_session):
        monkeypatch.setattr(module, "measure_rate", lambda _model, **_settings: rate)
    monkeypatch.setattr(live_desk, "speeds", lambda _width: {"int8": 4.56, "bfloat16": 1.1})
    return rate


def test_a_slow_model_is_told_before_play_with_choices(tiny_model: Any, tmp_path: Path, slow: Rate) -> None:
    live = desk(tiny_model, tmp_path)
    assert "This model makes 0.55 s of sound in a second here" in live.pace.value
    assert "dtype=&quot;int8&quot;" in live.pace.value and "4.6 x as fast" in live.pace.value
    assert [label for label, _stretch in live.buffer.options] == [
        "wait 12 s, then 10 s without a gap",
        "wait 28 s, then 30 s without a gap",
        "wait 53 s, then 60 s without a gap",
    ]
    assert live.buffer.value == 10.0 and live.buffer.layout.display == live.pace.layout.display == ""
    live.buffer.value = 30.0
    live.start()
    assert live.session.rate is slow
    holds = live.figures().hold_s
    assert holds == pytest.approx(30 * 0.45 + 2 * 0.55, abs=0.6) and live.player.lead_s > holds - 0.02
    until(lambda: f"of {holds:.0f} s" in live.status.value)
    assert "filling: " in live.status.value and "30 s play without a gap" in live.status.value
    assert live.session.playback.played_s == 0
    live.stop()
    assert "filling" not in live.status.value
    chosen = desk(tiny_model, tmp_path, stretch_s=45.0)
    assert chosen.buffer.value == 45.0 and len(chosen.buffer.options) == 4


@pytest.mark.usefixtures("slow")
def test_lower_precision_is_advised_where_it_pays(tiny_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = SimpleNamespace(id="x/y#12", d_model=8, precision="bfloat16", device=SimpleNamespace(type="cpu"))
    assert "wb.load('x/y', dtype=\"int8\")" in live_desk.faster_precision(model)
    assert "4.1 x as fast" in live_desk.faster_precision(model), "bfloat16 is faster than float32 itself"
    model.precision = "int8"
    assert live_desk.faster_precision(model) == ""
    monkeypatch.setattr(live_desk, "speeds", lambda _width: {"int8": 1.1, "bfloat16": 1.0})
    assert live_desk.faster_precision(tiny_model) == ""


def test_a_fast_model_is_offered_no_choice(tiny_model: Any, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live_desk, "measure_rate", lambda _model, **_settings: Rate(1.15))
        live = desk(tiny_model, tmp_path)
    assert live.buffer.layout.display == live.pace.layout.display == "none" and live.pace.value == ""


@pytest.mark.usefixtures("fast")
def test_each_play_after_a_stop_is_a_new_recording(tiny_model: Any, tmp_path: Path) -> None:
    live = desk(tiny_model, tmp_path)
    live.start().wait(0.5).stop()
    live.start().wait(0.5).stop()
    assert [folder.name for folder in live.folders] == ["001", "002"]
    live.record.value = False
    live.start().wait(0.5)
    assert "Recording into" not in live.status.value
    live.record.value = True
    until(lambda: (tmp_path / "003" / "header.json").exists())
    live.wait(0.5)
    live.record.value = False
    live.stop()
    recording = live.recording
    assert recording.folder.name == "003"
    assert np.array_equal(replay(tiny_model, recording), recording.codes)


@pytest.mark.usefixtures("fast")
def test_buttons_play_pause_and_stop(tiny_model: Any, tmp_path: Path) -> None:
    live = desk(tiny_model, tmp_path)
    live.play.click()
    live.wait(0.3)
    live.play.click()
    until(lambda: live.figures().state == "paused")
    assert tiny_model.lock.acquire(timeout=5)
    tiny_model.lock.release()
    live.play.click()
    live.wait(0.3)
    live.halt.click()
    assert live.figures().state == "stopped"
    live.keep.click()
    until(lambda: (tmp_path / "001" / "sound.wav").exists())


@pytest.mark.usefixtures("fast")
def test_a_piece_that_comes_while_the_desk_stops_is_not_heard(tiny_model: Any, tmp_path: Path) -> None:
    live = desk(tiny_model, tmp_path)
    page = Page(live.player)
    page.join()
    stop = live.start().session.stop
    live.session.stop = lambda: (live.player.push(np.zeros(1600)), stop())
    live.stop()
    assert page.sent[-1][0]["kind"] == "reset"


@pytest.mark.usefixtures("fast")
def test_the_record_button_says_what_it_does_where_nothing_plays(tiny_model: Any, tmp_path: Path) -> None:
    live = desk(tiny_model, tmp_path)
    live.record.value = False
    assert "next Play is not recorded" in live.status.value
    live.start().wait(0.3).stop()
    assert not live.folders
    live.record.value = True
    assert "next Play is recorded" in live.status.value


@pytest.mark.usefixtures("fast")
def test_errors_are_shown_escaped(tiny_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    live = desk(tiny_model, tmp_path)

    def fail(_self: Any, _chunk: Any) -> None:
        raise ValueError("<b>planted</b>")

    monkeypatch.setattr(LivePlayer, "push", fail)
    live.start()
    with pytest.raises(ValueError, match="planted"):
        live.wait()
    until(lambda: "&lt;b&gt;planted&lt;/b&gt;" in live.problem.value)
    assert live.figures().state == "failed"
    monkeypatch.undo()
    other = desk(tiny_model, tmp_path, temperature=0)
    other.play.click()
    assert "temperature" in other.problem.value


@pytest.mark.usefixtures("fast")
def test_pushes_that_do_not_arrive_are_shown(
    tiny_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steer_loop.Edit, "after", lambda _self, before, _lanes, _factor: before.clone())
    live = desk(tiny_model, tmp_path)
    live.knobs["jazz"].value = 0.01
    live.start()
    until(lambda: "did not change the residual stream" in live.problem.value)
    assert "did NOT arrive" in live.status.value and live.figures().state == "playing"
    with pytest.warns(UserWarning, match="did not change the residual stream"):
        live.stop()
    live.save()
    assert "did not change the residual stream" in live.status.value
    monkeypatch.undo()
    live.start().wait(0.5).stop()
    assert live.problem.value == ""


def test_a_knob_turns_itself_alone(tiny_model: Any, tmp_path: Path) -> None:
    live, moves = desk(tiny_model, tmp_path), []
    live.knobs["jazz"].value = 0.2
    live.session = SimpleNamespace(slide=lambda name, dose: moves.append((name, dose)))
    live.knobs["rock"].value = 0.1
    assert moves == [("rock", 0.1)], "another's dose may be out of date by now: a fade moves it"


def test_a_desk_that_has_not_played_says_so(tiny_model: Any, tmp_path: Path) -> None:
    live = desk(tiny_model, tmp_path)
    for ask in (live.wait, live.figures, lambda: live.recording):
        with pytest.raises(WorkbenchError, match=r"nothing (plays|was recorded)"):
            ask()
    live.stop()
    live.pause()
    with pytest.raises(SteeringError, match="the directions are none"):
        LiveDesk(tiny_model, {})
    with pytest.raises(SteeringError, match="pad of blues"):
        desk(tiny_model, tmp_path, pad=["blues"])


def test_the_pad_turns_four_knobs(tiny_model: Any, tmp_path: Path) -> None:
    four = {name: direction(tiny_model, 1, seed=place, name=name) for place, name in enumerate(FOUR)}
    live = LiveDesk(tiny_model, four, folder=tmp_path, pad=FOUR)
    assert live.pad is not None
    assert live.pad.now == dict.fromkeys(FOUR, 0.0), "the legend says what the knobs are"
    live.pad.move(0.25, 1.0)
    assert {name: knob.value for name, knob in live.knobs.items()} == pytest.approx(
        {"jazz": 0.1125, "rock": 0.0375, "classical": 0, "reggae": 0}
    )


def test_shares_of_a_blend_are_bilinear() -> None:
    pad = BlendPad(FOUR, strength=0.2)
    assert pad.doses == dict.fromkeys(FOUR, 0.05)
    corners = {(0, 1): "jazz", (1, 1): "rock", (0, 0): "classical", (1, 0): "reggae"}
    for (x, y), name in corners.items():
        pad.move(x, y)
        assert pad.doses == {other: 0.2 * (other == name) for other in FOUR}
    rng = np.random.default_rng(0)
    for x, y in rng.uniform(0, 1, (20, 2)):
        pad.move(x, y)
        assert sum(pad.doses.values()) == pytest.approx(0.2, abs=1e-5)
        assert pad.doses["rock"] == pytest.approx(0.2 * x * y, abs=1e-6)
    pad.strength = 0.0
    assert set(pad.doses.values()) == {0.0}
    with pytest.raises(SteeringError, match="four corners"):
        BlendPad(["jazz", "rock", "jazz", "reggae"])


class Page:
    """What a page does, by hand: it collects messages and reports."""

    def __init__(self, player: LivePlayer) -> None:
        self.player = player
        self.sent: list[tuple[Any, Any]] = []
        player.send = lambda content, buffers=None: self.sent.append((content, buffers))

    def join(self) -> None:
        self.player.ready = True
        self.player._handle_custom_msg({"kind": "joined"}, [])

    def report(self, played_s: float, *, playing: bool = True, underruns: int = 0) -> None:
        told = {"played_s": played_s, "playing": playing, "underruns": underruns}
        self.player.heard = {"epoch": self.player.epoch, **told}


def test_a_page_that_joins_late_hears_what_comes_and_its_reports_count() -> None:
    player, playback = LivePlayer(16000), Playback(now=lambda: 0.0)
    page = Page(player)
    player.follow(playback)
    for _piece in range(5):
        player.push(np.zeros(1600))
        playback.deliver(0.1)
    assert page.sent == [] and not player._waiting, "where nobody listens, sound is let go"
    page.join()
    player.push(np.zeros(1600))
    playback.deliver(0.1)
    assert [content["kind"] for content, _buffers in page.sent] == ["chunk"]
    assert playback.played_s == pytest.approx(0.5)
    page.report(0.05, underruns=1)
    assert playback.played_s == pytest.approx(0.55) and playback.underruns == 1
    player.pause()
    player.resume()
    assert [content["kind"] for content, _buffers in page.sent[1:]] == ["pause", "resume"]


def test_reports_of_the_session_before_do_not_count() -> None:
    player, first, second = LivePlayer(16000), Playback(now=lambda: 0.0), Playback(now=lambda: 0.0)
    page = Page(player)
    page.join()
    player.follow(first)
    player.push(np.zeros(1600))
    first.deliver(5.0)
    page.report(3.0)
    player.follow(second)
    assert page.sent[-1][0] == {"kind": "reset", "epoch": 2}
    player.push(np.zeros(1600))
    second.deliver(5.0)
    player.heard = {"epoch": 1, "played_s": 3.5, "playing": True, "underruns": 0}
    assert second.played_s == 0
    page.report(0.5)
    assert second.played_s == 0.5
    player._handle_custom_msg({"kind": "left"}, [])
    player.push(np.zeros(1600))
    assert len(page.sent) == 4, "after the page has left, sound is let go"


@pytest.mark.usefixtures("fast")
def test_another_player_on_the_page_pauses_the_desk(tiny_model: Any, tmp_path: Path) -> None:
    live = desk(tiny_model, tmp_path).start().wait(0.2)
    live.player._handle_custom_msg({"kind": "silenced"}, [])
    until(lambda: live.figures().state == "paused")
    live.stop()


@pytest.mark.usefixtures("fast")
def test_probes_are_drawn(tiny_model: Any, tmp_path: Path) -> None:
    live = desk(tiny_model, tmp_path, probes=[Reader()]).start().wait(3.0)
    live.stop()
    assert "<svg" in live.scores.value and "What does the probe hear?" in live.scores.value


def test_score_lines_show_the_last_minute_escaped() -> None:
    scores = [Score(float(s), "<genre>", {"jazz": s / 100, "<b>": 1 - s / 100}) for s in range(100)]
    drawn = score_lines(scores)
    assert "&lt;genre&gt;" in drawn and "&lt;b&gt; 1%" in drawn and "<b>rock" not in drawn
    assert drawn.count("<polyline") == 2 and drawn.count("points='0,55") == 1
    assert score_lines([]) == ""


def test_a_recording_is_not_written_over(tiny_model: Any, tmp_path: Path) -> None:
    (tmp_path / "header.json").write_text("{}")
    from live_fixture import session

    with pytest.raises(GenerationError, match="there is one already"):
        session(tiny_model).record(tmp_path)
