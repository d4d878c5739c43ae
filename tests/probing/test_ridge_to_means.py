"""The slider from ridge to means: its numbers are those of a witness, its figures and panel show them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from planted import planted
from probing_samples import uneven
from tolerances import ROUNDED

from workbench.errors import ProbeError
from workbench.probing import fit_probes, regularization_path, regularization_paths
from workbench.probing.diagnosis import evaluate_probe, ridge_to_means
from workbench.show import plots
from workbench.show.plots.grammar import GENRE_COLOURS
from workbench.show.widgets.probe_lab import RegularizationPanel
from workbench.steering import difference_in_means

STEPS = (0.01, 1.0, 100.0, math.inf)


@pytest.fixture(scope="module")
def acts():
    return uneven()


@pytest.fixture(scope="module")
def case_and_probe(acts):
    probe = fit_probes(acts, method="ridge", l2=[1.0], shuffles=0)[0]
    return evaluate_probe(acts, probe, unit="track"), probe


@pytest.fixture(scope="module")
def walk(acts, case_and_probe):
    return ridge_to_means(acts, *case_and_probe, l2=reversed(STEPS))


def test_paths_of_all_classes_equal_those_of_each_alone(acts, monkeypatch):
    counted, decompose = [], np.linalg.eigh
    monkeypatch.setattr(np.linalg, "eigh", lambda gram: counted.append(1) or decompose(gram))
    together = regularization_paths(acts, 0, STEPS)
    assert len(counted) == 1
    assert list(together) == ["classical", "jazz", "rock"]
    for class_, path in together.items():
        for one, alone in zip(path, regularization_path(acts, 0, class_, STEPS), strict=True):
            np.testing.assert_allclose(one.vector, alone.vector, **ROUNDED)
            assert one.name == class_
    with pytest.raises(ProbeError, match=r"'blues'.*classical, jazz, rock"):
        regularization_paths(acts, 0, STEPS, classes=["jazz", "blues"])


def test_cosines_are_taken_to_the_probe_and_to_the_difference_in_means(acts, case_and_probe, walk):
    _, probe = case_and_probe
    assert walk.l2 == STEPS  # in rising order, however they were given
    for class_ in walk.classes:
        assert np.isclose(walk.to_probe[class_][1], 1, **ROUNDED)  # the probe is ridge of strength 1
        means = difference_in_means(acts, class_, layer=0)
        for place, strength in enumerate(STEPS):
            found = walk.direction(class_, strength)
            assert walk.to_probe[class_][place] == pytest.approx(found.cosine(probe.direction(class_)))
            assert walk.to_means[class_][place] == pytest.approx(found.cosine(means))
    assert walk.direction("jazz", 100.0).origin["strength"] == "100"
    table = walk.table()
    assert len(table) == 3 * len(STEPS)
    row = table[(table["class"] == "rock") & (table["l2"] == 100.0)].iloc[0]
    assert row["to_probe"] == walk.to_probe["rock"][2]
    assert (row["accuracy"], row["low"]) == (walk.accuracy["rock"][2].value, walk.accuracy["rock"][2].low)


def test_accuracy_is_that_of_directions_fitted_without_the_tested_groups(acts, case_and_probe, walk):
    case, _ = case_and_probe
    inside = acts.labels() == "jazz"
    for place, strength in enumerate(STEPS):
        right = np.empty(len(inside), bool)
        for train, test in case.splits:
            assert not set(case.groups[train]) & set(case.groups[test])
            (direction,) = regularization_path(acts.subset(train), 0, "jazz", [strength])
            along = acts.matrix(0).astype(float) @ direction.vector.astype(float)
            seen = along[train], inside[train]
            cut = (seen[0][seen[1]].mean() + seen[0][~seen[1]].mean()) / 2
            right[test] = (along[test] > cut) == inside[test]
        expected = (right[inside].mean() + right[~inside].mean()) / 2
        found = walk.accuracy["jazz"][place]
        assert found.value == pytest.approx(expected, abs=0.005)  # directions are held in float32
        assert 0 <= found.low < found.value < found.high <= 1


def test_noise_reads_as_chance_however_uneven_the_classes_are():
    acts, _ = planted(0.0, seed=3)
    kept = np.flatnonzero((acts.labels() != "rock") | (np.arange(len(acts)) % 4 == 0))
    acts = acts.subset(kept)
    probe = fit_probes(acts, method="ridge", l2=[1.0], shuffles=0, layers=[0])[0]
    found = ridge_to_means(acts, evaluate_probe(acts, probe), probe, l2=[1e-2, 1e4, math.inf])
    for class_ in found.classes:
        assert all(abs(one.value - found.chance) < 0.12 for one in found.accuracy[class_]), class_


def test_the_sentence_has_the_numbers_and_what_is_not_there_is_refused(walk):
    told = walk.sentence("jazz", math.inf)
    right = walk.accuracy["jazz"][-1]
    for number in (
        f"{walk.to_probe['jazz'][-1]:.2f}",
        f"{right.value:.0%}",
        "λ = ∞",
        "new tracks",
        "chance 50%",
    ):
        assert number in told
    with pytest.raises(ProbeError, match=r"'blues' was asked for, but there are classical, jazz, rock"):
        walk.direction("blues", 1.0)
    with pytest.raises(ProbeError, match=r"l2=2 was asked for, but the path has 0.01, 1, 100, inf"):
        walk.direction("jazz", 2.0)


def test_path_figures_have_the_class_colour_interval_and_chance(walk):
    turned = plots.path_cosines(walk, "jazz", 100.0)
    lines = {trace.name: trace for trace in turned.data}
    assert tuple(lines["to the probe's weight"].y) == walk.to_probe["jazz"]
    assert tuple(lines["to the difference in means"].y) == walk.to_means["jazz"]
    assert tuple(turned.data[0].x) == (-2.0, 0.0, 2.0, 3.0)  # decades, infinity beyond the last
    read = plots.path_accuracy(walk, "jazz", 100.0)
    lines = {trace.name: trace for trace in read.data}
    rates = walk.accuracy["jazz"]
    assert list(lines["jazz"].y) == [one.value for one in rates]
    assert list(lines["95 % interval"].y) == [*[r.high for r in rates], *[r.low for r in rates][::-1]]
    assert set(lines["chance"].y) == {0.5}
    assert lines["chance"].line.dash == "dash"
    for figure in (turned, read):
        assert "?" in figure.layout.title.text
        assert figure.data[0].line.color in (GENRE_COLOURS["jazz"], "rgba(198, 135, 0, 0.35)")
        assert list(figure.layout.xaxis.ticktext) == ["0.01", "1", "100", "∞"]
        assert "λ" in figure.layout.xaxis.title.text
        assert figure.layout.shapes[0].x0 == 2.0  # where the slider stands


def test_the_panel_follows_its_slider_and_keeps_it_across_layers(walk, acts, case_and_probe):
    panel = RegularizationPanel()
    with pytest.raises(ProbeError, match="nothing has been examined yet"):
        panel.direction()
    panel.show(walk)
    assert [value for _, value in panel.strength.options] == list(STEPS)
    panel.class_.value, panel.strength.value = "rock", math.inf
    assert panel.direction() == walk.direction("rock", math.inf)
    assert panel.direction("jazz") == walk.direction("jazz", math.inf)
    assert panel.words.value.startswith("<div") and "λ = ∞" in panel.words.value
    assert all(class_ in panel.words.value for class_ in walk.classes)
    drawn = (
        panel.cosines.figure["layout"]["shapes"][0]["x0"],
        panel.accuracy.figure["layout"]["title"]["text"],
    )
    assert drawn == (3.0, "<b>How well does the rock direction alone read new tracks?</b>")
    other = ridge_to_means(acts, *case_and_probe, l2=[0.5, math.inf])
    panel.show(other)
    assert (panel.class_.value, panel.strength.value) == ("rock", math.inf)
    panel.show(walk)
    panel.strength.value = 0.01
    panel.show(other)
    assert panel.strength.value in other.l2
    assert panel.direction() == other.direction("rock", panel.strength.value)
