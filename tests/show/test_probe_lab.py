"""The probe lab: every diagnosis has a figure, a report is a page, the panel follows its slider."""

from __future__ import annotations

import math

import numpy as np
import pytest
from planted import planted
from tolerances import DOUBLE

from workbench.errors import ProbeError
from workbench.model.capture import capture
from workbench.probing import diagnosis as d
from workbench.probing import fit_probes, regularization_path
from workbench.show import exercises as lab_exercises
from workbench.show import plots
from workbench.show.page import write_probe_page
from workbench.show.widgets.probe_lab import HARDEST, ProbeLab


@pytest.fixture(scope="module")
def report():
    acts, _ = planted(1.5, clips=4)
    rng = np.random.default_rng(0)
    sweep = fit_probes(acts, shuffles=2, l2=[1.0])
    confounds = {"level_db": rng.standard_normal(len(acts))}
    other = {"noise": rng.standard_normal((len(acts), 3))}
    made, _ = planted(1.5, clips=4, seed=1)
    return d.diagnose(acts, layer=1, sweep=sweep, confounds=confounds, baselines=other, generated=made)


def drawn_numbers(figure) -> np.ndarray:
    """Every number along x and y of a figure."""
    values = [v for trace in figure.data for axis in (trace.x, trace.y) if axis is not None for v in axis]
    return np.array([v for v in values if isinstance(v, int | float | np.number)], float)


def test_every_finding_has_a_figure_with_a_question_and_numbers(report):
    for finding in report:
        figure = plots.diagnosis_figure(finding.value)
        assert "?" in figure.layout.title.text, finding.name
        assert figure.data, finding.name
    leak = report["group leak"].value
    shown = drawn_numbers(plots.diagnosis_figure(leak))
    assert (
        np.isclose(shown, leak.random.value, **DOUBLE).any()
        and np.isclose(shown, leak.grouped.value, **DOUBLE).any()
    )
    lead = report["baselines"].value
    rows = {trace.name: trace for trace in plots.diagnosis_figure(lead).data}
    assert rows["noise"].x[0] == pytest.approx(lead.accuracy["noise"].value)
    bar = rows["noise"].error_x
    assert rows["noise"].x[0] + bar.array[0] == pytest.approx(lead.accuracy["noise"].high)
    with pytest.raises(ProbeError, match="a str was given"):
        plots.diagnosis_figure("jazz")


def test_cosines_and_scores_over_time_are_drawn_with_their_values():
    acts, _ = planted(3.0)
    sweep = fit_probes(acts, shuffles=0, l2=[1.0])
    table = d.cosine_classes(sweep, 1)
    heat = plots.cosines(table, "How do they lie?", axis="genre").data[0]
    np.testing.assert_allclose(np.asarray(heat.z), table.to_numpy(), **DOUBLE)
    seconds = np.array([[0.0, 1.0, np.nan]])
    odds = np.array([[[0.2, 0.3, 0.5], [0.6, 0.2, 0.2], [np.nan] * 3]])
    score = d.ScoreOverTime("genre", 1, ("a",), ("classical", "jazz", "rock"), seconds, odds)
    lines = {trace.name: trace for trace in plots.score_over_time(score, "a").data}
    assert list(lines["rock"].x) == [0.0, 1.0] and list(lines["rock"].y) == [0.5, 0.2]


def test_a_report_is_a_page_that_stands_alone(report, tmp_path):
    page = write_probe_page(tmp_path / "out", report)
    text = page.read_text()
    assert page.name == "probe.html" and 'src="http' not in text
    assert "after Holm's correction" in text and "with the same seed" not in text, "it says how to read it"
    for finding in report:
        assert finding.name in text
    assert text.count("<figure") == len(list(report))
    assert text.count("Plotly.newPlot(") == len(list(report))


def test_the_lab_examines_the_layer_of_the_slider(tiny_model, tiny_dataset, tmp_path):
    acts = capture(tiny_model, tiny_dataset, cache=False, progress=False)
    sweep = fit_probes(acts, folds=3, shuffles=2, l2=[1.0])
    lab = ProbeLab(acts, tiny_dataset, sweep=sweep, folds=3, layer=1)
    first = lab.wait(120)
    assert first.evaluation.layer == 1 and first.verdict() in lab.verdict.value
    assert {"Accuracy", "Leaks", "Labels", "Numbers", "Directions", "Ridge to means"} <= set(lab.tabs.titles)
    assert lab.regularization in lab.tabs.children[lab.tabs.titles.index("Ridge to means")].children
    lab.regularization.strength.value = math.inf
    name = sweep.classes[0]
    assert lab.direction(name).cosine(regularization_path(acts, 1, name, [math.inf])[0]) > 0.999999
    assert lab.direction(name).at(dose=0.1).layers == (1,)
    assert "Confounds" not in lab.tabs.titles  # none were given, and the verdict says so
    assert "Confounds: not looked at" in lab.verdict.value
    lab.layer.value = 3
    assert lab.direction(name).cosine(regularization_path(acts, 3, name, [math.inf])[0]) > 0.999999  # λ stays
    assert lab.wait(120).evaluation.layer == 3
    hardest = lab.report["label noise"].value.table()["clip"].tolist()[:HARDEST]
    assert lab.list.clips == hardest
    lab.list.lines.value = hardest[1]
    assert next(iter(lab.player.sounds.values())) == tiny_dataset.clip(hardest[1])
    assert lab.save(tmp_path).read_text().count("layer 3") > 3
    lab.layer.value = 1
    assert lab.wait(10) is first  # examined once, shown again at once


def test_a_lab_without_sound_says_so(tiny_model, tiny_dataset):
    acts = capture(tiny_model, tiny_dataset, cache=False, progress=False)
    sweep = fit_probes(acts, folds=3, shuffles=2, l2=[1.0], layers=[2])
    lab = ProbeLab(acts, sweep=sweep, folds=3)
    lab.wait(120)
    lab.list.lines.value = lab.list.clips[0]
    assert "there is no sound" in lab.status.value


def test_exercises_of_the_lab_know_the_reports_own_answers(report):
    raised = [finding.name for finding in report.alarms]
    assert lab_exercises.alarms(report, None).right is None
    assert lab_exercises.alarms(report, raised).right
    assert lab_exercises.alarms(report, ["astrology"]).right is False
    other = next(f.name for f in report if f.adjusted is not None and not f.alarm)
    lab_exercises.start_again()
    told = [
        lab_exercises.alarms(report, answer).words
        for answer in ([*raised, other], (other,), {other, *raised})
    ]
    assert (
        "is not an alarm" not in told[0] and "is not an alarm" in told[1] and str(sorted(raised)) in told[2]
    )
    points = 100 * report["baselines"].effect
    assert lab_exercises.owed_to_the_model(report, points).right
    assert lab_exercises.owed_to_the_model(report, points + 5).right is False
    assert lab_exercises.owed_to_the_model(report, None).right is None


@pytest.mark.parametrize(
    "answer",
    [math.nan, math.inf, True, False, "12", "text leak", [math.nan], [True], {"a": 1}, 1j, object(), [[]]],
)
def test_odd_answers_about_a_report_never_count_as_right(report, answer):
    told = lab_exercises.alarms(report, answer), lab_exercises.owed_to_the_model(report, answer)
    assert [verdict.right for verdict in told] == [False, False]
    assert all("is not an answer to this question" in verdict.words for verdict in told)


def test_a_method_of_ones_own_fits_the_labs_probes():
    def plain_means(x, y, classes):
        means = np.stack([x[y == one].mean(0) for one in range(classes)])
        return means, -(means**2).sum(1) / 2

    acts, _ = planted(3.0)
    lab = ProbeLab(acts, method=plain_means, folds=3, views=False)
    assert lab.wait(120).evaluation.method.name == lab.sweep.method == "plain_means"
