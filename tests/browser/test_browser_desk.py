"""The parts of the live desk in a bare page: faders, keys, downloads, and hosts that drop binary data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from browser import Stage, until
from show_samples import tone

from workbench.generation.live.pacing import Playback
from workbench.show.widgets.fader import BlendPad, Fader
from workbench.show.widgets.players import LivePlayer, StreamPlayer

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


def told(stage: Stage, widget: Any, trait: str = "value") -> Any:
    stage.page.wait_for_timeout(120)  # the page gathers moves for 50 ms
    stage.deliver(widget)
    return getattr(widget, trait)


def test_a_fader_is_moved_by_mouse_keys_and_number(stage: Stage) -> None:
    fader = Fader("jazz", breaks=0.3, live=True)
    stage.show(fader)
    slide = stage.page.get_by_label("dose of jazz", exact=True)
    box = slide.bounding_box()
    stage.page.mouse.click(box["x"] + 0.75 * box["width"], box["y"] + box["height"] / 2)
    assert told(stage, fader) == pytest.approx(0.2, abs=0.03)
    before = fader.value
    slide.press("ArrowRight")
    assert told(stage, fader) == pytest.approx(before + 0.01)
    number = stage.page.get_by_label("dose of jazz, as a number")
    number.fill("0.8")
    number.press("Enter")
    assert told(stage, fader) == 0.8 and fader.most == 0.8
    assert stage.page.locator(".wb-broken").count() == 1, "beyond the dose that breaks music"
    number.fill("7")
    number.press("Enter")
    assert told(stage, fader) == 2.0 and number.input_value() == "2.00", "it says what was taken"
    number.fill("")
    number.press("Enter")
    assert number.input_value() == "2.00"
    stage.page.get_by_text("jazz", exact=True).dblclick()
    assert told(stage, fader) == 0.0
    assert stage.page.locator(".wb-broken").count() == 0
    fader.value = -0.1
    assert number.input_value() == "-0.10" and float(slide.input_value()) == -0.1
    slide.press("Home")
    assert told(stage, fader) == 0.0


def test_the_zone_in_which_music_breaks_is_shaded_where_it_is_known(stage: Stage) -> None:
    edges = {}
    for name, breaks in (("known", 0.3), ("unknown", None), ("beyond", 0.5)):
        stage.show(Fader(name, breaks=breaks))
        slide = stage.page.get_by_label(f"dose of {name}", exact=True)
        edges[name] = slide.evaluate("(el) => el.style.getPropertyValue('--edge')")
    assert edges == {"known": "12.5%", "unknown": "0.0%", "beyond": "0.0%"}


def test_a_midi_knob_is_learnt(stage: Stage) -> None:
    stage.page.evaluate("""() => { window.input = { onmidimessage: null };
      navigator.requestMIDIAccess = async () => ({ inputs: new Map([["one", window.input]]) }); }""")
    jazz, rock = Fader("jazz"), Fader("rock")
    stage.show(jazz)
    stage.show(rock)
    stage.page.get_by_label("dose of jazz", exact=True).press("m")
    assert stage.page.get_by_text("turn a MIDI knob").count() == 1
    until(lambda: stage.page.evaluate("() => !!window.input.onmidimessage"), what="the MIDI listener")
    stage.page.evaluate("() => input.onmidimessage({ data: [0xb0, 21, 127] })")
    stage.page.evaluate("() => input.onmidimessage({ data: [0xb0, 22, 0] })")  # another knob
    assert told(stage, jazz) == 0.4 and told(stage, rock) == 0.0
    assert stage.page.get_by_text("turn a MIDI knob").count() == 0


def test_the_legend_of_a_pad_agrees_with_the_faders(stage: Stage) -> None:
    pad = BlendPad(["a", "b", "c", "d"], strength=0.4)
    stage.show(pad)
    handle = stage.page.get_by_role("slider")
    assert handle.get_attribute("aria-valuetext").replace("\u00a0", " ") == "a 0.10, b 0.10, c 0.10, d 0.10"
    pad.now = {"a": 0.0, "b": 0.25, "c": 0.0, "d": 0.0}
    assert handle.get_attribute("aria-valuetext").replace("\u00a0", " ") == "a 0.00, b 0.25, c 0.00, d 0.00"
    assert stage.page.locator(".wb-away").count() == 1
    handle.press("Home")
    pad.now = dict.fromkeys("abcd", 0.1)
    assert stage.page.locator(".wb-away").count() == 0


def test_keys_of_a_desk_reach_python_unless_one_types(stage: Stage) -> None:
    player, pressed = LivePlayer(16000), []
    player.on_key(pressed.append)
    stage.page.evaluate("""() => { const desk = document.createElement("div"); desk.className = "wb-desk";
      desk.innerHTML = "<input aria-label='prompt'>"; document.body.append(desk);
      const plain = document.body.appendChild.bind(document.body);
      document.body.appendChild = (el) => (el.tagName === "DIV" ? desk.appendChild(el) : plain(el)); }""")
    stage.show(player)
    desk = stage.page.locator(".wb-desk")
    until(lambda: desk.get_attribute("data-keys"), what="the desk's keys")
    desk.focus()
    for key in (" ", "3", "0", "x"):
        stage.page.keyboard.press(key)
    stage.page.get_by_label("prompt").fill("")
    stage.page.get_by_label("prompt").press("5")
    stage.deliver(player)
    assert pressed == [" ", "3", "0"]
    assert stage.page.get_by_label("prompt").input_value() == "5"


def test_a_file_is_downloaded_as_it_was_offered(stage: Stage) -> None:
    player = LivePlayer(16000)
    stage.show(player)
    stage.deliver(player)
    with stage.page.expect_download() as waiting:
        player.offer("live 001.zip", bytes(range(256)))
    assert waiting.value.suggested_filename == "live 001.zip"
    assert waiting.value.path().read_bytes() == bytes(range(256))


@pytest.mark.parametrize("kind", ["empty", "lost"])
def test_where_binary_data_is_dropped_sound_comes_as_text(
    stage: Stage, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workbench.show.widgets.players.ANSWER_S", 0.2)
    player = StreamPlayer(16000)
    stage.show(player)
    honest = player.send

    def lossy(content: Any, buffers: Any = None) -> None:
        if not buffers:
            honest(content)
        elif kind == "empty":  # the message comes, its buffer does not
            honest(content, [])

    player.send = lossy
    stage.deliver(player)
    samples = tone(220, 1.0, rate_hz=16000).samples
    for chunk in np.split(samples, 4):
        player.push(chunk)
        stage.page.wait_for_timeout(150)
        stage.deliver(player)
    player.finish()
    until(lambda: told(stage, player, "received_s") == pytest.approx(1.0), what="all of the sound")
    assert player.level > 0.1


def test_a_live_session_goes_on_as_text(stage: Stage) -> None:
    player, playback = LivePlayer(16000), Playback(0.1)
    stage.show(player)
    stage.deliver(player)
    player.follow(playback)
    honest = player.send
    player.send = lambda content, buffers=None: honest(content, [] if buffers else None)
    samples = tone(220, 2.0, rate_hz=16000).samples
    for chunk in np.split(samples, 20):
        player.push(chunk)
        playback.deliver(len(chunk) / 16000)
        stage.deliver(player)
    until(lambda: stage.deliver(player) is not None and player.heard.get("played_s", 0) > 1.0, what="sound")
    assert player.level > 0.1
