"""Widgets without a browser: traits, messages, and work in threads."""

from __future__ import annotations

import base64
import gzip
import io
import json
import threading

import numpy as np
import pandas as pd
import pytest
import soundfile
from show_samples import JUDGED, sent_by, tone
from tolerances import ROUNDED

from workbench.errors import AudioError, Cancelled, WorkbenchError
from workbench.generation.live.pacing import held_back
from workbench.show import plots
from workbench.show.plots.grammar import GENRE_COLOURS, UNSTEERED
from workbench.show.widgets import ui
from workbench.show.widgets.players import ComparisonPlayer, StreamPlayer
from workbench.show.widgets.takes import compare
from workbench.show.widgets.ui import JobPanel, PlotlyLibrary, PlotPanel, shared_library
from workbench.sound.clip import Clip


def test_all_panels_share_one_plotly_library():
    first, second = (PlotPanel(plots.judged_genres(JUDGED)) for _ in range(2))
    assert first.library is second.library
    script = gzip.decompress(base64.b64decode(first.library.source)).decode()
    assert "plotly.js v" in script[:100]
    assert "source" not in first.get_state() and len(json.dumps(first.get_state()["figure"])) < 20_000


def test_a_closed_library_is_made_anew():
    closed = shared_library()
    closed.close()
    assert shared_library() is not closed
    assert isinstance(shared_library(), PlotlyLibrary)


def test_csv_holds_the_points_but_not_the_decoration():
    table = pd.DataFrame(
        {
            "layer": [0, 1],
            "accuracy": [0.5, 0.75],
            "low": 0.4,
            "high": 0.8,
            "chance": 0.25,
            "macro_f1": 0.5,
            "shuffled_low": 0.1,
            "shuffled_high": 0.3,
        }
    )
    csv = pd.read_csv(io.StringIO(PlotPanel(plots.accuracy_per_layer(table)).csv))
    assert set(csv["trace"]) == {"majority class", "probe, 95 % interval"}
    assert csv.loc[csv["trace"] != "majority class", "y"].tolist() == [0.5, 0.75]
    own = PlotPanel(plots.accuracy_per_layer(table), table=table)
    pd.testing.assert_frame_equal(pd.read_csv(io.StringIO(own.csv)), table)


def test_csv_of_a_heat_map_names_row_and_column():
    counts = pd.DataFrame([[3, 1], [0, 2]], index=["jazz", "rock"], columns=["jazz", "rock"])
    csv = pd.read_csv(io.StringIO(PlotPanel(plots.confusion(counts)).csv)).set_index(["y", "x"])
    assert csv.loc[("jazz", "rock"), "value"] == 0.25 and csv.loc[("rock", "rock"), "value"] == 1


def test_clicks_reach_python_and_a_new_figure_replaces_the_old():
    panel = PlotPanel(plots.judged_genres(JUDGED))
    clicked, selected = [], []
    panel.on_click(clicked.extend)
    panel.on_select(selected.extend)
    point = {"curve": 0, "index": 1, "x": "rock", "y": 0.75, "data": None}
    panel._handle_custom_msg({"kind": "click", "points": [point]}, [])
    panel._handle_custom_msg({"kind": "unknown", "points": [point]}, [])
    assert clicked == [point] and selected == []
    panel.show(plots.judged_genres({"before": {"jazz": 1.0}}), name="second")
    assert [trace["name"] for trace in panel.figure["data"]] == ["before"]
    assert panel.csv.splitlines()[1].startswith("before") and panel.name == "second"


def test_player_carries_each_clip_losslessly():
    clips = {"unsteered": tone(220), "0.6*jazz@3": tone(330, 2.0)}
    player = ComparisonPlayer(clips)
    assert [clip["name"] for clip in player.clips] == list(clips)
    assert [clip["colour"] for clip in player.clips] == [UNSTEERED, GENRE_COLOURS["jazz"]]
    for shown, clip in zip(player.clips, clips.values(), strict=True):
        samples, rate_hz = soundfile.read(io.BytesIO(base64.b64decode(shown["audio"])), dtype="float32")
        assert rate_hz == clip.rate_hz and np.abs(samples - clip.samples).max() <= 1 / 32768
        levels = base64.b64decode(shown["spectrum"]["levels"])
        assert len(levels) == shown["spectrum"]["bands"] * shown["spectrum"]["frames"]
    json.dumps(player.get_state()["clips"])  # plain text only: some front ends drop binary buffers


def test_too_loud_clips_lower_all_by_one_factor():
    player = ComparisonPlayer({"unsteered": tone(220, level=0.5), "over": tone(220, level=2.0)})
    peaks = [np.abs(np.array(clip["outlines"])).max() for clip in player.clips]
    assert peaks == pytest.approx([0.25, 1.0], abs=2e-3)
    assert np.abs(player.sounds["over"].samples).max() == pytest.approx(2.0, abs=1e-3)


def test_player_carries_and_draws_both_sides():
    sides = np.stack([tone(220, 0.5).samples, 4 * tone(330, 0.5).samples])
    for factor in (1, 0.1):  # what is too loud is lowered, and stays stereo
        player = ComparisonPlayer({"both": Clip(factor * sides, 24000), "left": Clip(sides[0], 24000)})
        both, left = player.clips
        samples, _rate = soundfile.read(io.BytesIO(base64.b64decode(both["audio"])), dtype="float32")
        gain = min(1, 1 / np.abs(factor * sides).max())
        assert np.abs(samples.T - gain * factor * sides).max() <= 1 / 32768
        peaks = [np.abs(np.array(outline)).max() for outline in both["outlines"]]
        assert peaks == pytest.approx((gain * factor * np.abs(sides)).max(axis=1).tolist(), abs=1e-3)
        assert len(left["outlines"]) == 1


def test_player_orders_wait_for_the_page():
    player = ComparisonPlayer({"a": tone(220), "b": tone(330)})
    sent = sent_by(player)
    player.play("b", at_s=0.5)
    player.stop()
    assert sent == []
    player.ready = True
    assert [content for content, _ in sent] == [{"kind": "play", "index": 1, "at_s": 0.5}, {"kind": "stop"}]
    with pytest.raises(AudioError, match="'c' was to be played"):
        player.play("c")


def test_player_saves_wav_files(tmp_path):
    paths = ComparisonPlayer({"unsteered": tone(220), "a/b: c": tone(330)}).save(tmp_path / "new")
    assert [path.name for path in paths] == ["unsteered.wav", "a_b_ c.wav"]
    assert soundfile.info(paths[1]).frames == 24000


def test_player_saves_every_clip_whatever_two_names_share(tmp_path):
    sounds = {"jazz?": tone(220), "jazz!": tone(330), "A": tone(440), "a": tone(550), "x" * 300: tone(110)}
    paths = ComparisonPlayer(sounds).save(tmp_path)
    assert [path.name for path in paths[:4]] == ["jazz_.wav", "jazz_ 2.wav", "A.wav", "a 2.wav"]
    assert len(list(tmp_path.iterdir())) == 5
    assert all(len(path.name) <= 100 for path in paths)


def test_compare_names_what_it_plays():
    assert list(compare(tone(220), tone(330)).sounds) == ["clip 1", "clip 2"]
    assert list(compare(tone(220), tone(330), names=["same", "same"]).sounds) == ["same", "same (2)"]
    for wrong in ([], [tone(220), tone(330)]):
        with pytest.raises(AudioError, match="comparison"):
            compare(*wrong, names=["one"])


def test_stream_sends_chunks_in_order_once_the_page_is_there():
    player = StreamPlayer(24000)
    sent = sent_by(player)
    chunks = [np.full(10, value, dtype=np.float64) for value in (0.1, 0.2)]
    player.push(chunks[0])
    player.ready = True
    player.push(chunks[1])
    player.push(np.zeros(0))
    player.finish()
    assert [content["kind"] for content, _ in sent] == ["chunk", "chunk", "finish"]
    assert np.allclose(np.frombuffer(sent[1][1][0], "<f4"), 0.2, **ROUNDED)
    assert player.clip() == Clip(np.concatenate(chunks), 24000)


def test_stream_sends_one_side_after_the_other():
    player = StreamPlayer(24000)
    sent, sides = sent_by(player), np.random.default_rng(0).uniform(-1, 1, (2, 8)).astype(np.float32)
    player.ready = True
    for chunk in np.split(sides, 2, axis=1):
        player.push(chunk)
    assert [content for content, _ in sent] == [{"kind": "chunk", "sides": 2}] * 2
    assert np.array_equal(np.frombuffer(sent[1][1][0], "<f4"), [*sides[0, 4:], *sides[1, 4:]])
    assert player.clip() == Clip(sides, 24000)


def test_stream_refuses_bad_chunks_and_reset_forgets():
    player = StreamPlayer(24000)
    for bad in (np.zeros((1, 3)), np.zeros((3, 2)), np.array([np.nan]), np.zeros((2, 2, 2))):
        with pytest.raises(AudioError, match="finite"):
            player.push(bad)
    for good, bad in ((np.zeros(4), np.zeros((2, 4))), (np.zeros((2, 4)), np.zeros(4))):
        player.push(good)
        with pytest.raises(AudioError, match="either all"):
            player.push(bad)
        player.reset()
    with pytest.raises(AudioError, match="nothing has been pushed"):
        player.clip()


def test_held_back_is_enough_and_not_more():
    assert held_back(10, 2.0) == 0
    # At half real time 10 s take 20 s to make; begun with 5 s in hand, that is after 10 s, it just suffices.
    assert held_back(10, 0.5) == pytest.approx(5)


def test_job_runs_in_a_thread_and_gives_its_result():
    seen = []

    def work(job):
        job.progress(0.5, "half")
        seen.append((panel.state, panel.bar.value, panel.text.value, threading.current_thread().name))
        return 42

    panel = JobPanel(work, on_done=seen.append)
    assert panel.start().wait(10) == 42
    assert seen == [("running", 0.5, "half", "workbench job"), 42]
    assert (panel.state, panel.bar.value, panel.cancel_button.disabled) == ("done", 1.0, True)


def test_job_that_is_cancelled_stops_at_its_next_look():
    started = threading.Event()

    def work(job):
        started.set()
        job.cancel.wait(10)
        job.progress(0.9)

    panel = JobPanel(work).start()
    assert started.wait(10)
    panel.cancel_button.click()
    with pytest.raises(Cancelled):
        panel.wait(10)
    assert panel.state == "cancelled" and panel.bar.value < 0.9


def test_job_shows_errors_escaped_and_can_run_again():
    outcomes = [ValueError("<script>alert(1)</script>"), None]

    def work(job):
        outcome = outcomes.pop(0)
        if outcome:
            raise outcome
        return "fine"

    panel = JobPanel(work)
    with pytest.raises(ValueError, match="script"):
        panel.start().wait(10)
    assert panel.state == "failed" and panel.problem.layout.display == ""
    assert "<script>" not in panel.problem.value and "&lt;script&gt;" in panel.problem.value
    assert panel.start().wait(10) == "fine"
    assert panel.problem.layout.display == "none"


def test_workbench_errors_are_shown_without_traceback():
    def work(job):
        raise AudioError("Nothing to hear.")

    panel = JobPanel(work)
    with pytest.raises(AudioError):
        panel.start().wait(10)
    assert "Nothing to hear." in panel.problem.value and "Traceback" not in panel.problem.value


def test_job_waits_honestly():
    panel = JobPanel(lambda job: job.cancel.wait(10))
    with pytest.raises(WorkbenchError, match="has not started"):
        panel.wait()
    panel.start()
    assert panel.start() is panel  # a second press changes nothing
    with pytest.raises(WorkbenchError, match="still at"):
        panel.wait(0.05)
    panel.cancel()
    panel.wait(10)


def test_a_job_that_has_ended_shows_no_bar_and_an_error_stays():
    outcomes = [ValueError("broken"), None]

    def work(job):
        shown.append(panel.bar.layout.display)
        if (outcome := outcomes.pop(0)) is not None:
            raise outcome

    shown, panel = [], JobPanel(work)
    assert panel.bar.layout.display == "none"
    with pytest.raises(ValueError, match="broken"):
        panel.start().wait(10)
    assert shown == [""] and panel.bar.layout.display == "none"
    assert panel.problem.layout.display == "" and "broken" in panel.problem.value
    panel.start().wait(10)
    assert (panel.bar.layout.display, panel.text.value, panel.problem.layout.display) == (
        "none", "done", "none",
    )  # fmt: skip


def test_a_job_says_beforehand_and_meanwhile_how_long_it_takes():
    """The first run is timed; the next one, of twice the size, is foretold by any panel of its kind."""
    kind, begun, go = object(), threading.Event(), threading.Event()
    first = JobPanel(lambda job: job.cancel.wait(1.5), kind=kind)
    first.foretell()
    assert first.text.value == "", "nothing was measured yet"
    first.start().wait(10)

    def work(job):
        begun.set()
        go.wait(10)

    second = JobPanel(work, kind=kind, size=lambda: 2.0)
    second.foretell()
    assert second.text.value == "takes about 3 s"
    second.start()
    assert second.text.value == "starting, about 3 s left" and begun.wait(10)
    said = set()
    second.text.observe(lambda change: said.add(change["new"]), "value")
    threading.Event().wait(1.8)  # the work says nothing, and the panel goes on telling
    assert "starting, about 2 s left" in said
    go.set()
    second.wait(10)
    assert second.text.value == "done"


def test_a_job_reckons_from_what_is_done_and_stops_telling_when_cancelled():
    ticked, look = threading.Event(), threading.Event()

    def work(job):
        job.cancel.wait(1.2)
        job.progress(0.25, "a quarter")
        ticked.set()
        job.cancel.wait(10)
        look.wait(10)
        job.progress(0.3)

    panel = JobPanel(work).start()
    assert ticked.wait(10)
    assert panel.text.value == "a quarter, about 4 s left"
    panel.cancel()
    threading.Event().wait(0.7)
    assert panel.text.value == "stopping"
    look.set()
    with pytest.raises(Cancelled):
        panel.wait(10)
    assert (panel.text.value, panel.bar.layout.display) == ("cancelled", "none")


def test_only_the_button_counts_as_pressed():
    panel = JobPanel(lambda job: None)
    panel.run_button.click()
    panel.wait(10)
    assert panel.pressed
    panel.start().wait(10)
    assert not panel.pressed


def test_notes_do_not_carry_the_stylesheet_but_a_job_brings_it():
    assert ui.note_html("a < b") == "<div class='wb-note'>a &lt; b</div>"
    assert "<style" not in ui.problem_html(ValueError("no"))
    styles = [part for part in JobPanel(lambda job: None).children if isinstance(part, ui.StyleSheet)]
    assert len(styles) == 1 and ".wb-error {" in str(styles[0].get_state()["_css"])


def test_a_job_can_be_begun_again_by_those_who_hear_that_it_ended():
    again = threading.Event()
    panel = JobPanel(lambda job: runs.append(len(runs)))
    runs = []
    panel.observe(lambda change: change["new"] == "done" and len(runs) < 2 and panel.start(), "state")
    panel.observe(lambda change: len(runs) == 2 and change["new"] == "done" and again.set(), "state")
    panel.start()
    assert again.wait(10) and runs == [0, 1]
