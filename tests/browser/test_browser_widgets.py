"""What a browser draws and plays, measured in a bare page: sound at the loudspeaker, clicks, downloads."""

from __future__ import annotations

import io
import re
import struct

import numpy as np
import plotly.graph_objects as go
import pytest
import soundfile
from browser import figures_that_stay, until
from figure_samples import patches
from show_samples import JUDGED, projection, tone

from workbench.generation.live.pacing import Playback
from workbench.show import plots
from workbench.show.page import write_page
from workbench.show.widgets.players import ComparisonPlayer, LivePlayer, StreamPlayer
from workbench.show.widgets.ui import PlotPanel
from workbench.sound.clip import Clip

pytestmark = pytest.mark.browser


def downloaded(stage, press) -> bytes:
    with stage.page.expect_download() as waiting:
        press()
    return waiting.value.path().read_bytes()


def level_of(stage, widget) -> float:
    stage.deliver(widget)
    return widget.level


def test_figures_are_drawn_with_one_plotly_for_all_and_redrawn(stage):
    first, second = PlotPanel(plots.judged_genres(JUDGED)), PlotPanel(plots.map_scatter(projection()))
    stage.show(first)
    stage.page.evaluate("async () => { window.before = await window.__workbenchPlotly; }")
    stage.show(second)
    assert stage.page.evaluate("async () => window.before === await window.__workbenchPlotly")
    assert stage.page.locator(".main-svg").count() >= 2
    assert stage.page.locator(".scatterlayer .point").count() == 60
    first.show(plots.judged_genres({"only": {"jazz": 0.5, "rock": 0.5}}))
    until(lambda: stage.page.locator(".bars .point").count() == 2, what="the redrawn bars")


BARS = {"data": [{"type": "bar", "x": ["a", "b"], "y": [1, 2]}]}


def test_no_figure_has_a_button_that_shares_edits_or_uploads(stage, tmp_path):
    """In panels, on pages, and where plotly itself shows a figure of the house; every button is pressed."""
    house, foreign = plots.judged_genres(JUDGED), go.Figure(BARS)
    for figure in (house, foreign):
        stage.show(PlotPanel(figure))
    assert figures_that_stay(stage.page) == 2
    _press_every_button(stage.page)
    path = write_page(tmp_path, {}, {"house": house, "foreign": foreign}, {})
    stage.page.goto(path.as_uri())
    assert figures_that_stay(stage.page) == 2
    _press_every_button(stage.page)
    stage.page.set_content(house.to_html())
    until(lambda: stage.page.locator(".modebar-btn").count(), what="plotly's own toolbar")
    titles = [button.get_attribute("data-title") for button in stage.page.locator(".modebar-btn").all()]
    assert [title for title in titles if title and re.search("share|studio|cloud|edit", title, re.I)] == []
    stage.page.set_content("")
    assert [url for url in stage.requests if url == path.as_uri()] == [path.as_uri()]
    stage.requests.remove(path.as_uri())


def _press_every_button(page):
    opened = []
    page.on("popup", lambda popup: opened.append(popup.url))
    for button in page.locator(".modebar-btn").all():
        button.dispatch_event("click")
    page.wait_for_timeout(200)
    assert opened == [] and page.locator("[class*=dialog]").count() == 0


def test_a_click_on_a_cell_of_patches_names_its_line_and_window(stage):
    panel, clicked = PlotPanel(plots.patch_heat(patches())), []
    panel.on_click(clicked.extend)
    stage.show(panel)
    plot = stage.page.locator(".nsewdrag")
    plot.wait_for()
    box = plot.bounding_box()
    stage.page.mouse.click(box["x"] + box["width"] * 0.75, box["y"] + box["height"] * 0.25)
    until(lambda: stage.deliver(panel) or clicked, what="the click")
    assert [point["data"] for point in clicked] == [[1, 7]]


def test_a_click_on_a_map_point_names_its_clip(stage):
    panel = PlotPanel(plots.map_scatter(projection()))
    clicked = []
    panel.on_click(clicked.extend)
    stage.show(panel)
    point = stage.page.locator(".scatterlayer .trace").first.locator(".point").nth(3)
    box = point.bounding_box()
    stage.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    until(lambda: stage.page.locator(".hoverlayer .hovertext").count(), what="the hover text")
    stage.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    until(lambda: stage.deliver(panel) or clicked, what="the click")
    expected = panel.figure["data"][0]["customdata"]
    assert clicked[0]["data"] in expected
    hover = panel.figure["data"][0]["text"][clicked[0]["index"]]
    assert clicked[0]["data"] in hover


def test_figure_downloads_are_a_picture_and_a_table(stage):
    panel = PlotPanel(plots.judged_genres(JUDGED), name="judged")
    stage.show(panel)
    picture = downloaded(stage, stage.page.get_by_role("button", name="Download the picture as PNG").click)
    width, height = struct.unpack(">II", picture[16:24])
    assert picture[:8] == b"\x89PNG\r\n\x1a\n" and width > 1000 and height > 600
    table = downloaded(stage, stage.page.get_by_role("button", name="Download the data as CSV").click)
    assert table.decode() == panel.csv


def test_the_player_sounds_and_silence_is_silent(stage):
    player = ComparisonPlayer(
        {"unsteered": tone(220, 3.0, level=0.5), "nothing": Clip(np.zeros(72000), 24000)}
    )
    stage.show(player)
    player.play("unsteered")
    until(lambda: level_of(stage, player) > 0.3, what="sound at the loudspeaker")
    assert player.playing and player.level == pytest.approx(0.5 / np.sqrt(2), rel=0.05)
    player.stop()
    until(lambda: stage.deliver(player) is not None and not player.playing, what="the stop")
    player.play("nothing")
    stage.page.wait_for_timeout(600)
    assert level_of(stage, player) < 1e-3


def test_changing_the_clip_keeps_the_clock(stage):
    player = ComparisonPlayer({"quiet": tone(220, 8.0, level=0.05), "loud": tone(220, 8.0, level=0.8)})
    stage.show(player)
    stage.page.get_by_role("button", name="Play").click()
    level = (
        "() => { const [e] = window.__workbench.engines.values();"
        " return [e.output?.level() ?? 0, e.position]; }"
    )
    until(lambda: 0.02 < stage.page.evaluate(level)[0] < 0.06, what="the quiet clip")
    before = stage.page.evaluate(level)[1]
    stage.page.get_by_role("radio", name="loud").click()
    until(lambda: stage.page.evaluate(level)[0] > 0.4, what="the loud clip")
    after = stage.page.evaluate(level)[1]
    assert before < after < before + 3  # it went on, and did not begin anew
    stage.deliver(player)
    assert player.current == 1


def test_a_click_on_a_waveform_seeks_and_plays_and_the_end_stops(stage):
    player = ComparisonPlayer({"a": tone(220, 4.0), "b": tone(330, 4.0)})
    stage.show(player)
    wave = stage.page.get_by_label("b: click to play from there")
    box = wave.bounding_box()
    wave.click(position={"x": box["width"] * 0.75, "y": 20})
    until(lambda: stage.deliver(player) is not None and player.playing, what="playing")
    assert player.current == 1
    position = stage.page.evaluate("() => [...window.__workbench.engines.values()][0].position")
    assert 3.0 <= position < 4.0
    until(lambda: stage.deliver(player) is not None and not player.playing, what="the end")


def test_keys_work_and_a_second_view_shows_the_same(stage):
    player = ComparisonPlayer({"a": tone(220, 5.0), "b": tone(330, 5.0)})
    stage.show(player)
    stage.page.evaluate("id => models[id].view()", player.model_id)
    assert stage.page.get_by_role("button", name="Play").count() == 2
    stage.page.get_by_role("group").first.focus()
    stage.page.keyboard.press("2")
    stage.page.keyboard.press("Space")
    until(lambda: stage.page.get_by_role("button", name="Pause").count() == 2, what="both views")
    until(lambda: level_of(stage, player) > 0.1, what="sound")
    assert player.current == 1
    stage.page.evaluate("id => models[id].close()", player.model_id)
    assert stage.page.get_by_role("button", name="Pause").count() == 1  # the other view goes on playing


def test_only_one_player_sounds_at_a_time(stage):
    first, second = (ComparisonPlayer({name: tone(220, 5.0)}) for name in "ab")
    for player in (first, second):
        stage.show(player)
        player.play()
        until(lambda player=player: level_of(stage, player) > 0.1, what="sound")
    stage.deliver(first)
    assert second.playing and not first.playing


def test_new_clips_replace_the_old_and_play(stage):
    player = ComparisonPlayer()
    stage.show(player)
    assert stage.page.get_by_text("No clip to play yet.").count() == 1
    player.load({"later": tone(440, 2.0)})
    player.play("later")
    until(lambda: level_of(stage, player) > 0.1, what="sound")
    assert stage.page.get_by_role("radio", name="later").count() == 1


def test_the_wav_download_is_the_clip(stage):
    clip = Clip(np.random.default_rng(0).uniform(-1, 1, 20000), 22050)
    stage.show(ComparisonPlayer({"noise": clip}))
    file = downloaded(stage, stage.page.get_by_role("button", name="Download noise as WAV").click)
    samples, rate_hz = soundfile.read(io.BytesIO(file), dtype="float32")
    own, _ = soundfile.read(io.BytesIO(clip.encode("wav")), dtype="float32")
    assert rate_hz == 22050 and np.array_equal(samples, own)


SIDES = Clip(np.stack([tone(440, 3.0, level=0.5).samples, tone(1320, 3.0, level=0.25).samples]), 24000)

LISTEN = """() => {
  const [engine] = window.__workbench.engines.values(), { context, input } = engine.output;
  const splitter = new ChannelSplitterNode(context, { numberOfOutputs: 2 });
  window.ears = [0, 1].map(() => new AnalyserNode(context, { fftSize: 8192, smoothingTimeConstant: 0 }));
  input.connect(splitter);
  ears.forEach((ear, side) => splitter.connect(ear, side));
}"""
HEAR = """() => ears.map((ear) => {
  const wave = new Float32Array(ear.fftSize), spectrum = new Float32Array(ear.frequencyBinCount);
  ear.getFloatTimeDomainData(wave);
  ear.getFloatFrequencyData(spectrum);
  const hz = spectrum.indexOf(Math.max(...spectrum)) * ear.context.sampleRate / ear.fftSize;
  return { rms: Math.sqrt(wave.reduce((sum, v) => sum + v * v, 0) / wave.length), hz };
})"""


def hears_both_sides(stage, clip: Clip) -> bool:
    """Return whether the page's loudspeakers get the sides of a clip of two tones, at their levels."""
    heard, spectra = stage.page.evaluate(HEAR), np.abs(np.fft.rfft(clip.heard))
    pitches = spectra.argmax(axis=1) * clip.rate_hz / clip.heard.shape[1]
    levels = np.sqrt((clip.heard**2).mean(axis=1))
    same = [abs(one["hz"] - hz) < 8 for one, hz in zip(heard, pitches, strict=True)]  # a bin has 6 Hz
    loud = [abs(one["rms"] / rms - 1) < 0.1 for one, rms in zip(heard, levels, strict=True)]
    return all(same + loud)


def test_a_stereo_clip_is_played_drawn_and_downloaded_with_both_sides(stage):
    mono = Clip(SIDES.heard[0], 24000)
    player = ComparisonPlayer({"both": SIDES, "mono": mono})
    stage.show(player)
    player.play("both")
    until(lambda: level_of(stage, player) > 0.1, what="sound")
    stage.page.evaluate(LISTEN)
    until(lambda: hears_both_sides(stage, SIDES), seconds=5, what="both sides")
    player.play("mono")
    to_both = Clip(np.stack([mono.samples, mono.samples]), 24000)
    until(lambda: hears_both_sides(stage, to_both), seconds=5, what="the mono clip on both sides")
    file = downloaded(stage, stage.page.get_by_role("button", name="Download both as WAV").click)
    assert file == SIDES.encode("wav")
    inked = stage.page.evaluate(  # share of the canvas in colour: of its quarters, from top to bottom
        """() => [...document.querySelectorAll(".wb-shape")].map((canvas) => {
          const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          const quarters = [0, 0, 0, 0], share = 4 / (canvas.width * canvas.height);
          for (let i = 3; i < data.length; i += 4) quarters[Math.floor(share * i / 4)] += data[i] ? share : 0;
          return quarters;
        })"""
    )
    assert np.allclose(inked[0], [0.5, 0.5, 0.25, 0.25], atol=0.06), "left over right, each to its own middle"
    assert np.allclose(inked[1], [0, 1, 1, 0], atol=0.06)


def test_a_stereo_stream_is_played_and_downloaded_with_both_sides(stage):
    player = StreamPlayer(24000)
    stage.show(player)
    for chunk in np.split(SIDES.heard, 12, axis=1):
        player.push(chunk)
    until(lambda: level_of(stage, player) > 0.1, what="sound")
    stage.page.evaluate(LISTEN)
    until(lambda: hears_both_sides(stage, SIDES), seconds=5, what="both sides")
    player.finish()
    until(lambda: stage.deliver(player) is not None and not player.playing, what="the end of the stream")
    assert player.received_s == pytest.approx(3.0) and player.underruns == 0
    file = downloaded(stage, stage.page.get_by_role("button", name="Download what has come").click)
    samples, rate_hz = soundfile.read(io.BytesIO(file), dtype="float32")
    assert rate_hz == 24000
    assert np.abs(samples.T - SIDES.heard).max() <= 1 / 32768


def test_live_stereo_goes_on_with_both_sides_after_a_pause(stage):
    player, playback = LivePlayer(24000), Playback(0.3)
    stage.show(player)
    stage.deliver(player)
    player.follow(playback)
    for chunk in np.split(SIDES.heard, 12, axis=1):
        player.push(chunk)
        playback.deliver(chunk.shape[1] / 24000)
    until(lambda: level_of(stage, player) > 0.1, what="sound")
    stage.page.evaluate(LISTEN)
    until(lambda: hears_both_sides(stage, SIDES), seconds=5, what="both sides")
    player.pause()
    until(lambda: max(ear["rms"] for ear in stage.page.evaluate(HEAR)) == 0, what="silence")
    player.resume()
    until(lambda: hears_both_sides(stage, SIDES), seconds=5, what="both sides again")
    until(lambda: stage.deliver(player) is not None and playback.played_s > 2.99, what="the rest")
    assert playback.played_s == pytest.approx(3.0, abs=1e-3)


def test_a_stream_plays_without_gaps(stage):
    player = StreamPlayer(24000, lead_s=1.5)
    stage.show(player)
    clip = tone(220, 3.0, level=0.5)
    for chunk in np.split(clip.samples, 12):
        player.push(chunk)
    player.finish()
    until(lambda: level_of(stage, player) > 0.3, what="sound at the loudspeaker")
    until(lambda: stage.deliver(player) is not None and not player.playing, what="the end of the stream")
    assert player.underruns == 0 and player.received_s == pytest.approx(3.0)
    file = downloaded(stage, stage.page.get_by_role("button", name="Download what has come").click)
    samples, _ = soundfile.read(io.BytesIO(file), dtype="float32")
    assert np.abs(samples - clip.samples).max() <= 1 / 32768


def test_a_stream_holds_back_its_lead_and_counts_gaps(stage):
    player = StreamPlayer(24000, lead_s=0.5)
    stage.show(player)
    samples = tone(220, 1.0).samples
    player.push(samples[:6000])  # 0.25 s: less than the lead
    stage.page.wait_for_timeout(400)
    stage.deliver(player)
    assert not player.playing and player.level == 0
    player.push(samples[6000:12000])
    until(lambda: level_of(stage, player) > 0.1, what="sound")
    stage.page.wait_for_timeout(900)  # the half second has run out
    player.push(samples[12000:])
    until(lambda: stage.deliver(player) is not None and player.underruns == 1, what="the gap")


def test_a_figure_that_comes_into_the_page_later_is_drawn(stage):
    stage.show(PlotPanel(plots.judged_genres(JUDGED)))
    until(lambda: stage.page.locator(".main-svg").count(), what="the first figure, and with it plotly")
    stage.page.evaluate("""() => { document.body.appendChild = (el) => {
      if (el.style.left) return Node.prototype.appendChild.call(document.body, el); // plotly makes a picture
      delete document.body.appendChild; // the next one, which is the panel's
      setTimeout(() => document.body.appendChild(el), 500);
      return el;
    }; }""")
    stage.show(PlotPanel(plots.map_scatter(projection())))
    until(lambda: stage.page.locator(".scatterlayer .point").count() == 60, what="the second figure")
