"""The map, probe and steering views over a real tiny model, without a browser: start, wait, look."""

from __future__ import annotations

import threading

import numpy as np
import pandas as pd
import pytest
from show_samples import sent_by
from tolerances import ROUNDED, draws, same_codes

from workbench.activations import Activations
from workbench.errors import Cancelled, DatasetError, ProbeError, SteeringError
from workbench.evidence.trials import UNSTEERED
from workbench.model.capture import capture
from workbench.probing import fit_probes, project
from workbench.show.plots import GENRE_COLOURS
from workbench.show.widgets.panels import MapPanel, ProbePanel, SteerPanel
from workbench.show.widgets.steer_lab import CONTROL
from workbench.show.widgets.takes import compare
from workbench.steering import Steering, random_direction


@pytest.fixture(scope="module")
def acts(tiny_model, tiny_dataset):
    return capture(tiny_model, tiny_dataset, cache=False, progress=False)


@pytest.fixture(scope="module")
def sweep(acts):
    return fit_probes(acts, folds=3, shuffles=2, l2=[1.0])  # random weights tell nothing by choice


class Judge:
    """Hears nothing: its verdict is the clip's level, so that tests can tell which clip was judged."""

    classes = ("loud", "quiet")

    def probabilities(self, clips):
        loud = np.clip([1 + clip.level_db / 60 for clip in clips], 0, 1)
        return np.stack([loud, 1 - loud], axis=1)


def ids_drawn(panel):
    return [clip for trace in panel.plot.figure["data"] for clip in trace.get("customdata", [])]


def test_the_map_draws_the_layer_that_is_chosen(acts, tiny_dataset):
    panel = MapPanel(acts, tiny_dataset, method="pca", layer=1)
    first = panel.wait(60)
    assert (first.layer, first.method) == (1, "pca")
    assert sorted(ids_drawn(panel)) == sorted(acts.clips)
    panel.layer.value = 3
    second = panel.wait(60)
    assert second.layer == 3 and "layer 3" in panel.plot.figure["layout"]["title"]["text"]
    middle = project(acts, 2, method="pca")  # all maps are laid onto that of the middle layer
    np.testing.assert_allclose(second.points, project(acts, 3, method="pca", near=middle).points, **ROUNDED)
    panel.layer.value = 1
    assert panel.projection is first  # made once, shown again at once


def test_a_click_on_the_map_plays_that_clip(acts, tiny_dataset):
    panel = MapPanel(acts, tiny_dataset, projection=project(acts, 2, method="pca"))
    sent = sent_by(panel.player)
    panel.player.ready = True
    wanted = ids_drawn(panel)[4]
    panel.plot._handle_custom_msg({"kind": "click", "points": [{"data": wanted, "x": 0, "y": 0}]}, [])
    (sound,) = panel.player.sounds.values()
    assert sound == tiny_dataset.clip(wanted)
    assert [content["kind"] for content, _ in sent if "kind" in content] == ["play"]
    ring = panel.plot.figure["data"][-1]
    assert ring["name"] == "playing" and wanted in panel.status.value


def test_a_click_on_a_clip_that_is_gone_is_told(acts, tiny_dataset):
    panel = MapPanel(acts, tiny_dataset, projection=project(acts, 2, method="pca"))
    panel.plot._handle_custom_msg({"kind": "click", "points": [{"data": "nowhere"}]}, [])
    assert "wb-error" in panel.status.value and "nowhere" in panel.status.value
    with pytest.raises(DatasetError):
        panel.play("nowhere")


def test_a_box_lists_its_clips_and_a_line_plays(acts, tiny_dataset):
    panel = MapPanel(acts, tiny_dataset, projection=project(acts, 2, method="pca"))
    wanted = ids_drawn(panel)[2:5]
    points = [{"data": clip, "x": 0, "y": 0} for clip in wanted] + [{"data": None}]
    panel.plot._handle_custom_msg({"kind": "select", "points": points}, [])
    assert panel.list.clips == wanted and panel.list.layout.display == ""
    genre = tiny_dataset.subset([wanted[0]]).entries[0].labels["genre"]
    assert panel.list.lines.options[0][0].startswith(f"{genre}: ")
    assert not panel.player.sounds  # listing plays nothing
    panel.list.lines.value = wanted[1]
    assert next(iter(panel.player.sounds.values())) == tiny_dataset.clip(wanted[1])


def test_the_map_shows_where_the_probe_errs_and_who_joined(acts, sweep, tiny_dataset):
    other = acts.subset(np.arange(4))
    named = other.data.assign_coords(clip=("sample", [f"made {i}" for i in range(4)]))
    sounds = {f"made {i}": tiny_dataset.clip(i) for i in range(4)}
    joined = Activations(named)
    panel = MapPanel(acts, tiny_dataset, method="pca", layer=2, sweep=sweep, joined=joined, sounds=sounds)
    shown = panel.wait(60)
    held = sweep.held_out[sweep.held_out["layer"] == 2]
    right = dict(zip(held["clip"], held["truth"] == held["predicted"], strict=True))
    table = shown.table().set_index("clip")
    assert {clip: said == "yes" for clip, said in table["probe is right"].items()} == right
    panel.colour.value = "probe is right"
    diamonds = [t for t in panel.plot.figure["data"] if t.get("marker", {}).get("symbol") == "diamond"]
    assert sorted(clip for trace in diamonds for clip in trace["customdata"]) == sorted(sounds)
    panel.play("made 1")
    assert next(iter(panel.player.sounds.values())) == sounds["made 1"]


def test_the_map_is_recoloured_without_a_new_projection(acts, tiny_dataset):
    panel = MapPanel(acts, tiny_dataset, projection=project(acts, 2, method="pca"))
    assert "genre" in panel.colour.options
    shown = panel.projection
    panel.projection.labels.insert(0, "half", ["first", "second"] * 9)
    panel.start()  # the new label becomes a choice; what was chosen stays
    assert panel.colour.options == ("half", "genre") and panel.colour.value == "genre"
    assert {trace["name"] for trace in panel.plot.figure["data"]} == {"classical", "jazz", "rock"}
    panel.colour.value = "half"
    assert {trace["name"] for trace in panel.plot.figure["data"]} == {"first", "second"}
    assert panel.projection is shown
    del panel.projection.labels["half"]


def test_the_probe_view_shows_the_sweep_and_the_clicked_layer(sweep):
    panel = ProbePanel(sweeps={"genre": sweep})
    assert panel.wait() is sweep and panel.layer == sweep.best.layer
    panel.accuracy._handle_custom_msg({"kind": "click", "points": [{"x": 0.0, "y": 0.5}]}, [])
    assert panel.layer == 0 and panel.status.value.count("Layer 0") == 1
    drawn = pd.DataFrame(sweep.confusion(0))
    assert panel.confusions.csv.splitlines()[1].split(",")[1:] == [str(n) for n in drawn.iloc[0]]
    with pytest.raises(ProbeError, match="layers"):
        panel.choose(99)


def test_the_probe_view_fits_what_is_not_fitted_yet(acts):
    panel = ProbePanel(acts, folds=3, shuffles=1, layers=[1, 2])
    fitted = panel.wait(60)
    assert fitted.layers == (1, 2) and panel.shown == "genre"
    with pytest.raises(ProbeError, match="no activations"):
        ProbePanel(sweeps={"genre": fitted}, targets=["genre", "mood"])


def test_steering_is_heard_beside_the_unsteered(tiny_model, sweep):
    panel = SteerPanel(tiny_model, sweep, Judge(), prompt="a calm tune", seconds=1.0, seed=3)
    assert panel.steering is None and "no steering" in panel.plan_text.value
    panel.sliders["jazz"].value = 0.8000000000000002  # as the page rounds
    takes = panel.start().wait(120)
    layer = sweep.best.layer
    assert list(takes) == [UNSTEERED, "jazz 0.8"]
    assert takes[UNSTEERED].steering == "" and takes["jazz 0.8"].receipt.ok
    assert takes["jazz 0.8"].steering.startswith(f"0.8*jazz@{layer} ")
    assert takes["jazz 0.8"].steering == panel.player.clips[1]["detail"]
    assert list(panel.player.sounds) == list(takes)
    bars = panel.verdict.figure["data"]
    assert [bar["name"] for bar in bars] == list(takes)
    assert panel.children[-1] is panel.verdict
    panel.history.drop()
    assert panel.verdict.layout.display == "none", "no verdict on what was dropped"


def test_the_unsteered_take_is_made_once_and_equals_a_single_run(tiny_model, sweep):
    from workbench.generation.generate import generate

    panel = SteerPanel(tiny_model, sweep, prompt="a calm tune", seconds=1.0, seed=3)
    alone = panel.start().wait(120)
    assert list(alone) == [UNSTEERED]
    panel.layer.value = 1
    panel.sliders["rock"].value = -0.5
    panel.control.value = True
    takes = panel.start().wait(120)
    assert list(takes) == [UNSTEERED, "rock -0.5", CONTROL]
    assert takes[UNSTEERED] is alone[UNSTEERED]
    plan = Steering.parse("-0.5*rock@1", sweep.directions(1))
    with draws() as gaps:  # the panel draws its takes in one batch
        again = generate(tiny_model, "a calm tune", steering=plan, seed=3, seconds=1.0, progress=False)
    same_codes(again.codes, takes["rock -0.5"].codes, gaps)
    assert "random" in takes[CONTROL].steering and takes[CONTROL].receipt.ok
    panel.seed.value = 4
    assert panel.start().wait(120)[UNSTEERED] is not alone[UNSTEERED]


def test_generation_can_be_cancelled_and_runs_again(tiny_model, sweep):
    panel = SteerPanel(tiny_model, sweep, seconds=4.0)
    moved = threading.Event()
    panel.job.bar.observe(lambda change: change["new"] > 0.05 and moved.set(), "value")
    panel.start()
    assert moved.wait(60)
    panel.job.cancel_button.click()
    with pytest.raises(Cancelled):
        panel.wait(60)
    assert panel.job.state == "cancelled" and panel.takes == {}
    panel.seconds.value = 1.0
    assert UNSTEERED in panel.start().wait(120)


def test_own_directions_fix_the_layer(tiny_model, sweep):
    jazz = sweep.directions(2)["jazz"]
    panel = SteerPanel(tiny_model, {"jazz": jazz, "dice": random_direction(jazz, 1)}, seconds=1.0)
    panel.sliders["dice"].value = 0.5
    panel.sliders["jazz"].value = 0.25
    assert panel.steering.layers == (2,) and len(panel.steering.terms) == 2
    assert panel.layer.disabled
    with pytest.raises(SteeringError, match="no direction"):
        SteerPanel(tiny_model, {})


def test_compare_takes_names_them_by_their_plans(tiny_model, sweep):
    from workbench.generation.generate import generate

    plan = sweep.directions(2)["jazz"].at(0.5)
    takes = generate(tiny_model, "a tune", steering=[None, plan], seconds=0.5, progress=False)
    comparison = compare(*takes)
    assert list(comparison.sounds) == ["unsteered", "jazz 0.5"]
    assert [clip["colour"] for clip in comparison.player.clips] == ["#777777", GENRE_COLOURS["jazz"]]


def test_another_map_or_an_empty_click_takes_the_box_and_its_list_away(acts, tiny_dataset):
    panel = MapPanel(acts, tiny_dataset, method="pca", layer=1)
    panel.wait(60)

    def draw_box():
        points = [{"data": clip} for clip in ids_drawn(panel)[:3]]
        panel.plot._handle_custom_msg({"kind": "select", "points": points}, [])
        assert len(panel.list.clips) == 3 and panel.list.layout.display == ""
        return panel.plot.figure["layout"]["selectionrevision"]

    before = draw_box()
    panel.play(panel.list.clips[0])
    assert panel.plot.figure["layout"]["selectionrevision"] == before, "the ring of a clip leaves the box"
    assert panel.list.clips
    panel.layer.value = 3
    panel.wait(60)
    assert panel.list.clips == [] and panel.list.layout.display == "none"
    assert draw_box() > before, "the page keeps no box of another revision"
    panel.plot._handle_custom_msg({"kind": "select", "points": []}, [])
    assert panel.list.clips == [] and panel.list.layout.display == "none"
    panel.projection.labels.insert(0, "half", ["first", "second"] * 9)
    panel.start()
    draw_box()
    panel.colour.value = "half"
    assert panel.list.clips == [], "its words named the other colour"


def test_a_map_that_is_cancelled_lets_go_at_once(acts, tiny_dataset, monkeypatch):
    begun, go = threading.Event(), threading.Event()

    def slow(*given, **options):
        begun.set()
        assert go.wait(30)
        return project(*given, **options)

    monkeypatch.setattr("workbench.show.widgets.panels.project", slow)
    panel = MapPanel(acts, tiny_dataset, method="pca", layer=2)
    assert begun.wait(10) and panel.job.bar.layout.display == ""
    panel.job.cancel_button.click()
    with pytest.raises(Cancelled):
        panel.job.wait(5)
    assert panel.job.state == "cancelled" and panel.plot.layout.display == "none"
    go.set()
    panel.start()
    assert panel.wait(60).layer == 2


def test_the_probe_view_marks_the_layer_that_it_shows(sweep):
    panel = ProbePanel(sweeps={"genre": sweep})
    for layer in (int(sweep.best.layer), 1):
        panel.choose(layer)
        layout, ring = panel.accuracy.figure["layout"], panel.accuracy.figure["data"][-1]
        (band,) = layout["shapes"]
        assert band["x0"] < layer < band["x1"] and ring["x"] == [layer]
        assert ring["y"] == [sweep[layer].scores.accuracy]
        assert "chosen" not in panel.accuracy.csv and len(panel.accuracy.csv.splitlines()) == 1 + len(sweep)


def test_fitting_shows_each_layer_and_can_be_cancelled(acts, monkeypatch):
    panel, said = ProbePanel(acts, folds=3, shuffles=0, l2=[1.0], threads=1), []
    panel.wait(60)
    monkeypatch.setattr(panel.job, "_show_progress", lambda share, text: said.append((share, text)))
    panel.made.clear()
    panel.start().job.wait(60)
    assert [text for _share, text in said][1:] == [f"genre: {n} of 4 layers" for n in (1, 2, 3, 4)]

    def stop_at_two(_share, text):
        said.append(text)
        if "2 of 4" in text:
            panel.job.cancel()

    said.clear()
    panel.made.clear()
    monkeypatch.setattr(panel.job, "_show_progress", stop_at_two)
    panel.start()
    with pytest.raises(Cancelled):
        panel.job.wait(60)
    assert said[-1] == "genre: 2 of 4 layers" and panel.made == {}


def test_a_take_of_the_steering_view_is_opened_in_it_or_refused(tiny_model, sweep):
    from workbench.generation.generate import generate

    panel = SteerPanel(tiny_model, sweep, Judge(), prompt="a calm tune", seconds=1.0, seed=3)
    panel.layer.value, panel.sliders["jazz"].value = 1, 0.25
    plan = panel.steering
    panel.start().wait(120)
    panel.layer.value, panel.sliders["jazz"].value, panel.sliders["rock"].value = 2, 0.0, 0.1
    panel.prompt.value, panel.seed.value = "another", 9
    panel.set_to(panel.history.takes["jazz 0.25"])
    assert panel.steering == plan and panel.layer.value == 1
    assert (panel.prompt.value, panel.seed.value, panel.seconds.value) == ("a calm tune", 3, 1.0)
    pushed = plan + sweep.directions(2)["rock"].at(0.1, branch="both")
    odd = generate(tiny_model, "a tune", steering=pushed, seconds=0.5, progress=False)
    with pytest.raises(SteeringError, match="SteerLab"):
        panel.set_to(odd)
    assert panel.steering == plan and panel.prompt.value == "a calm tune"


def test_the_steering_view_hears_what_is_ticked(tiny_model, sweep):
    panel = SteerPanel(tiny_model, sweep, Judge(), seconds=0.5)
    panel.sliders["jazz"].value = 0.25
    panel.start().wait(120)
    panel.sliders["jazz"].value = 0.5
    panel.start().wait(120)
    assert list(panel.history.takes) == ["jazz 0.5", "jazz 0.25", UNSTEERED]
    assert list(panel.player.sounds) == [UNSTEERED, "jazz 0.5"]
    panel.history.chosen = ["jazz 0.25", "jazz 0.5"]
    assert list(panel.player.sounds) == ["jazz 0.25", "jazz 0.5"]
    assert [bar["name"] for bar in panel.verdict.figure["data"]] == ["jazz 0.25", "jazz 0.5"]
