"""Figures say what the visual grammar promises: intervals, chance lines, one colour per genre, questions."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from figure_samples import samples
from show_samples import GENRES, projection, tone
from tolerances import DOUBLE

from workbench.errors import EvidenceError, ProbeError
from workbench.evidence.report import CONTROLS
from workbench.show import plots
from workbench.show.plots.grammar import GENRE_COLOURS, OTHERS, UNSTEERED, colours_for, colours_of_clips
from workbench.show.plots.sound import FLOOR_DB, log_mel, mel_frequencies, outline
from workbench.sound.clip import Clip

LIGHT = [0.2126, 0.7152, 0.0722]  # what red, green and blue add to the luminance


def sweep_table(layers: int = 4) -> pd.DataFrame:
    accuracy = np.linspace(0.4, 0.9, layers)
    return pd.DataFrame(
        {
            "layer": range(layers),
            "accuracy": accuracy,
            "low": accuracy - 0.05,
            "high": accuracy + 0.02,
            "macro_f1": accuracy,
            "chance": 0.2,
            "shuffled_low": 0.1,
            "shuffled_high": 0.3,
            "n": 80,
        }
    )


def test_colours_are_fixed_for_genres_and_differ_for_others():
    assert colours_for(["rock"]) == {"rock": GENRE_COLOURS["rock"]}
    assert colours_for(["rock", "jazz", "ska"])["rock"] == GENRE_COLOURS["rock"]
    mixed = colours_for([*GENRES, "unsteered", "ska", "dub"])
    assert len(set(mixed.values())) == len(mixed)
    assert len(set(colours_for("abcdefg").values())) == 7


def test_every_colour_stands_out_on_the_paper_of_both_themes():
    def light(colour: str) -> float:
        parts = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
        return float(np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ LIGHT)

    for colour in (*GENRE_COLOURS.values(), *OTHERS, UNSTEERED):
        assert 1.05 / (light(colour) + 0.05) >= 3, f"{colour} on white"
        assert (light(colour) + 0.05) / (light("#111111") + 0.05) >= 3, f"{colour} on the dark paper"


def test_every_plot_and_every_diagnosis_has_a_sample_for_the_browser():
    names = {name.split()[0].rstrip(",") for name in samples()}
    drawing = {name for name, one in vars(plots).items() if callable(one) and name != "colours_for"}
    assert names == drawing
    registered = {kind.__name__ for kind in plots.diagnosis_figure.registry} - {"object"}
    assert registered == {name.split()[1] for name in samples() if name.startswith("diagnosis_figure")}


def test_numbers_in_a_heat_map_are_black_on_light_and_white_on_dark():
    counts = pd.DataFrame([[9, 1], [0, 5]], index=["jazz", "rock"], columns=["jazz", "rock"])
    shades, words = plots.confusion(counts).data
    assert list(words.text) == ["90%", "10%", "0%", "100%"]
    assert list(words.textfont.color) == ["#000000", "#FFFFFF", "#FFFFFF", "#000000"]
    assert list(zip(words.x, words.y, strict=True))[1] == ("rock", "jazz") and shades.z[0][1] == 0.1


def test_clip_names_decide_the_colours():
    names = ["unsteered", "0.6*jazz@3 - 0.2*rock@3", "something"]
    colours = colours_of_clips(names)
    assert colours["unsteered"] == UNSTEERED
    assert colours[names[1]] == GENRE_COLOURS["jazz"]
    assert len(set(colours.values())) == 3


def test_accuracy_draws_interval_chance_and_shuffled_band():
    figure = plots.accuracy_per_layer(sweep_table())
    line = next(trace for trace in figure.data if "interval" in trace.name)
    assert np.allclose(line.error_y.array, 0.02, **DOUBLE) and np.allclose(
        line.error_y.arrayminus, 0.05, **DOUBLE
    )
    chance = next(trace for trace in figure.data if trace.name == "majority class")
    assert chance.line.dash == "dash" and set(chance.y) == {0.2}
    band = next(trace for trace in figure.data if trace.name == "labels shuffled")
    assert (min(band.y), max(band.y)) == (0.1, 0.3)
    assert "?" in figure.layout.title.text and "layer" in figure.layout.xaxis.title.text
    assert "layer 3" in figure.layout.title.subtitle.text


def test_accuracy_without_shuffles_has_no_band_and_ticks_stay_readable():
    figure = plots.accuracy_per_layer(sweep_table(48).drop(columns=["shuffled_low", "shuffled_high"]))
    assert [trace.name for trace in figure.data] == ["majority class", "probe, 95 % interval"]
    assert len(figure.layout.xaxis.tickvals) <= 13


@pytest.mark.parametrize("table", [sweep_table().drop(columns="low"), sweep_table().head(0)])
def test_accuracy_refuses_what_it_cannot_draw(table):
    with pytest.raises(ProbeError, match=r"sweep\.table"):
        plots.accuracy_per_layer(table)


def test_confusion_counts_rows():
    counts = pd.DataFrame([[1, 1], [0, 2]], index=["jazz", "rock"], columns=["jazz", "rock"])
    figure = plots.confusion(counts)
    heat = figure.data[0]
    assert list(heat.y) == ["jazz", "rock"]
    assert np.allclose(heat.z, [[0.5, 0.5], [0, 1]], **DOUBLE)
    assert "3 of 4 on the diagonal" in figure.layout.title.subtitle.text
    with pytest.raises(ProbeError, match=r"sweep\.confusion"):
        plots.confusion(counts[["rock", "jazz"]])


def test_map_has_one_trace_per_genre_with_clip_ids():
    shown = projection()
    figure = plots.map_scatter(shown)
    assert {trace.name: trace.marker.color for trace in figure.data} == dict(GENRE_COLOURS)
    ids = [clip for trace in figure.data for clip in trace.customdata]
    assert sorted(ids) == sorted(shown.clips)
    jazz = next(trace for trace in figure.data if trace.name == "jazz")
    place = list(shown.clips).index(jazz.customdata[0])
    assert (jazz.x[0], jazz.y[0]) == tuple(shown.points[place]) and shown.labels.genre[place] == "jazz"
    assert jazz.customdata[0] in jazz.text[0]


def test_map_by_number_has_a_scale_and_rings_the_playing_clip():
    shown = projection()
    figure = plots.map_scatter(shown, colour_by="tempo", playing="clip-7")
    assert np.allclose(figure.data[0].marker.color, shown.labels.tempo, **DOUBLE)
    assert (figure.data[1].x[0], figure.data[1].y[0]) == tuple(shown.points[7])
    with pytest.raises(ProbeError, match="tempo"):
        plots.map_scatter(shown, colour_by="mood")


def test_clips_placed_on_a_map_are_diamonds_in_their_labels_colours():
    shown = projection()
    labels = pd.DataFrame({"genre": ["rock", "jazz"]})
    two = dataclasses.replace(shown, points=np.ones((2, 2)), clips=np.array(["a", "b"]), labels=labels)
    drawn = {trace.name: trace.marker for trace in plots.map_scatter(shown, joined=two, playing="b").data}
    rock = drawn["rock (joined)"]
    assert (rock.symbol, rock.color) == ("diamond", GENRE_COLOURS["rock"])
    ring = plots.map_scatter(shown, joined=two, playing="b").data[-1]
    assert ring.name == "playing" and tuple(ring.x) == (1.0,)
    told = plots.map_scatter(shown, joined=two, colour_by="tempo").data[-1]  # a label that they do not have
    assert told.name == "generated (joined)"


def test_large_maps_use_webgl():
    assert {trace.type for trace in plots.map_scatter(projection(2400)).data} == {"scattergl"}


def test_dose_response_has_intervals_and_a_dotted_control():
    table = pd.DataFrame(
        {
            "dose": [0, 1, 0, 1],
            "hit_rate": [0.1, 0.8, 0.1, 0.2],
            "low": [0.0, 0.7, 0.0, 0.1],
            "high": [0.2, 0.9, 0.2, 0.3],
            "genre": "jazz",
            "kind": ["steered"] * 2 + ["random"] * 2,
        }
    )
    figure = plots.dose_response(table, chance=1 / 6)
    lines = {trace.name: trace for trace in figure.data}
    assert lines["jazz"].line.color == GENRE_COLOURS["jazz"]
    assert np.allclose(lines["jazz"].error_y.array, 0.1, **DOUBLE)
    control = lines["jazz: random direction"]
    assert control.line.dash == "dot" and control.line.color == UNSTEERED
    assert lines["chance"].line.dash == "dash"
    with pytest.raises(EvidenceError, match="dose sweep"):
        plots.dose_response(table.drop(columns="hit_rate"))


def test_figures_of_the_evidence_show_every_control_with_its_interval():
    figures = samples()
    rows = {trace.name: trace for trace in figures["beside_controls"].data}
    assert set(rows) == {"logistic", *CONTROLS}
    assert all(len(one.x) == len(GENRES) and len(one.error_x.array) == len(GENRES) for one in rows.values())
    assert list(rows["logistic"].marker.color) == [GENRE_COLOURS[name] for name in sorted(GENRES)]
    lines = {trace.name: trace for trace in figures["frontier"].data}
    assert len(lines["logistic"].x) == 2 and len(lines["prompt only"].x) == 1
    assert lines["random directions"].line.dash == "dot" and "unsteered" not in lines
    steered, control = figures["dose_of_aim"].data[::-1]
    assert list(steered.x) == list(control.x) == [0.0, 0.1, 0.2]
    assert steered.line.color == GENRE_COLOURS["jazz"]


def test_judged_bars_have_the_clips_colours():
    judged = {"unsteered": {"jazz": 0.2, "rock": 0.8}, "0.6*jazz@3": {"jazz": 0.9, "rock": 0.1}}
    figure = plots.judged_genres(judged, wanted="jazz")
    assert [bar.marker.color for bar in figure.data] == [UNSTEERED, GENRE_COLOURS["jazz"]]
    assert list(figure.data[1].x) == ["jazz", "rock"] and list(figure.data[1].y) == [0.9, 0.1]
    with pytest.raises(EvidenceError, match="same genres"):
        plots.judged_genres({"a": {"jazz": 1.0}, "b": {"rock": 1.0}})


def test_log_mel_peaks_at_the_tone_and_reads_its_level():
    quiet, loud = log_mel(tone(1000, level=0.01)), log_mel(tone(1000, level=1.0))
    middle = loud[:, loud.shape[1] // 2]
    assert abs(mel_frequencies(24000)[middle.argmax()] - 1000) < 100
    assert -6 < middle.max() <= 0
    assert middle.max() - quiet[:, quiet.shape[1] // 2].max() == pytest.approx(40, abs=0.01)
    assert log_mel(Clip(np.zeros(24000), 24000)).max() == FLOOR_DB


@pytest.mark.parametrize("length", [5, 600, 24001])
def test_outline_spans_every_sample(length):
    samples = np.random.default_rng(0).normal(size=length)
    edges = outline(Clip(samples, 24000), columns=600)
    assert edges.shape == (600, 2)
    assert edges[:, 0].min() == np.float32(samples.min()) and edges[:, 1].max() == np.float32(samples.max())
