"""Checks of exercises: right, wrong and missing answers, each with its reason in words."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from figure_samples import patches
from planted import planted
from steering_samples import direction

from workbench.probing import fit_probes, project
from workbench.show import exercises
from workbench.sound import Finding, LintReport
from workbench.steering import difference_in_means, fade, ramp, random_direction, window


@pytest.fixture(autouse=True)
def _first_attempt():
    exercises.start_again()


@pytest.fixture(scope="module")
def acts():
    return planted(4.0)[0]


@pytest.fixture(scope="module")
def probes(acts):
    return fit_probes(acts, folds=3, shuffles=3, l2=[1.0])


def test_a_verdict_is_said_in_words_and_escaped():
    assert str(exercises.Verdict(True, "It is.")) == "Right. It is."
    assert "<b>Not yet.</b> a &lt; b" in exercises.Verdict(False, "a < b")._repr_html_()


def thrice(check, answers):
    """Return what a check says to three wrong answers in turn."""
    verdicts = [check(answer) for answer in answers]
    assert [verdict.right for verdict in verdicts] == [False] * 3
    return [verdict.words for verdict in verdicts]


def test_a_wrong_answer_gets_a_reason_then_a_hint_then_the_solution(probes):
    first, second, third = thrice(lambda answer: exercises.flattery(probes, probes, answer), [12, 30, -7])
    assert "You say 12 points" in first and "Hint" not in first and "answer:" not in first
    assert "You say 30 points" in second and "Hint: they are" in second and "answer:" not in second
    assert "You say -7 points" in third and "The answer: 0.0 points" in third
    exercises.start_again()
    assert "Hint" not in exercises.flattery(probes, probes, 12).words


def test_the_same_wrong_answer_and_odd_ones_are_no_new_attempt(probes):
    for answer in (12, 12, float("nan"), "twelve", True, 12):
        assert "Hint" not in exercises.flattery(probes, probes, answer).words


def test_tied_layers_are_those_whose_interval_reaches_the_best(probes):
    tied = [p.layer for p in probes if p.scores.high >= probes.best.accuracy]
    assert exercises.tied_layers(probes, None).right is None
    assert exercises.tied_layers(probes, tied).right
    assert exercises.tied_layers(probes, [99]).right is False
    if len(tied) > 1:
        exercises.tied_layers(probes, [])
        fewer = exercises.tied_layers(probes, tied[:1])
        assert fewer.right is False and f"{len(tied) - 1} more layer" in fewer.words
        assert f"layers {', '.join(map(str, tied))} reach it" in exercises.tied_layers(probes, tied[1:]).words
    for wrong in set(probes.layers) - set(tied):
        exercises.start_again()
        exercises.tied_layers(probes, [])
        assert f"layer {wrong} ends at" in exercises.tied_layers(probes, [*tied, wrong]).words


@pytest.mark.parametrize(
    ("plan", "right", "told"),
    [
        (None, None, "wb.ramp"),
        (direction("jazz"), False, "not an answer to this question. Give a plan"),
        (direction("jazz").at(0.6), False, "already acts at 0.0 s"),
        (direction("jazz").at(0.6, schedule=ramp(8, 9)), False, "At 3 s it does not push"),
        (direction("jazz").at(50, schedule=ramp(2, 3)), False, "A dose of 50 drowns"),
        (direction("jazz").at(0.2, schedule=ramp(2, 3), branch="null"), False, "In the end nothing"),
        (direction("jazz").at(0.6, schedule=window(1, 9)), False, "In the end nothing"),
        (direction("jazz").at(0.6, schedule=ramp(1, 9)), False, "before 2 s"),
        (direction("jazz").at(-0.6, schedule=ramp(2, 9)), False, "In the end nothing"),
        (direction("rock").at(0.6, schedule=ramp(2, 9)), False, "towards jazz"),
        (direction("jazz").at(0.6, schedule=ramp(2, 9)) + direction("rock").at(1), False, "already acts"),
        (direction("jazz").at(0.6, schedule=ramp(2, 3)), True, "note for note"),
    ],
)
def test_a_late_push(plan, right, told):
    verdict = exercises.late_push(plan, towards="jazz", after_s=2)
    assert verdict.right is right and told in verdict.words


def test_a_crossfade_keeps_the_push_equally_strong():
    jazz, rock = direction("jazz"), direction("rockabilly").named("rock")
    good = rock.at(0.7, schedule=fade(1, 4)) + jazz.at(0.7, schedule=ramp(1, 4))
    loud = rock.at(7, schedule=fade(1, 4)) + jazz.at(7, schedule=ramp(1, 4))
    hole = rock.at(0.7, schedule=fade(0, 1)) + jazz.at(0.7, schedule=ramp(4, 5))
    for plan, right, told in [
        (None, None, "wb.fade"),
        ("rock to jazz", False, "Give a plan"),
        (loud, False, "drowns the music"),
        (good, True, "add up to 0.70"),
        (hole, False, "between 0.00 and 0.70"),
        (rock.at(0.7) + jazz.at(0.7, schedule=ramp(1, 4)), False, "rock should push at the start"),
        (rock.at(0.7, schedule=fade(1, 4)) + jazz.at(0.7), False, "jazz should be silent"),
    ]:
        verdict = exercises.crossfade(plan, out_of="rock", into="jazz")
        assert verdict.right is right and told in verdict.words


def test_readable_targets_must_clear_chance(acts, probes):
    noise = acts.data.assign_coords(label_coin=("sample", _coin(acts)))
    coin = fit_probes(type(acts)(noise), "coin", folds=3, shuffles=20, l2=[1.0])
    sweeps = {"genre": probes, "coin": coin}
    assert exercises.readable_targets(sweeps, None).right is None
    assert exercises.readable_targets(sweeps, ["genre"]).right
    assert "coin again" in exercises.readable_targets(sweeps, ["genre", "coin"]).words
    assert "genre again" in exercises.readable_targets(sweeps, []).words
    assert "Not probed: key" in exercises.readable_targets(sweeps, ["key"]).words


def _coin(acts):
    drawn = {
        group: str(np.random.default_rng(i).integers(2)) for i, group in enumerate(sorted(set(acts.groups)))
    }
    return [drawn[group] for group in acts.groups]


def test_flattery_is_the_gap_of_the_best_layers(probes):
    assert exercises.flattery(probes, probes, None).right is None
    assert exercises.flattery(probes, probes, 0).right
    assert exercises.flattery(probes, probes, 12).right is False


def test_the_nearest_class_is_measured_in_all_dimensions(acts):
    classes = acts.classes()
    layer = int(acts.layers[0])
    verdicts = {name: exercises.nearest_class(acts, layer, classes[0], name) for name in classes[1:]}
    assert sum(bool(verdict.right) for verdict in verdicts.values()) == 1
    assert exercises.nearest_class(acts, layer, classes[0], None).right is None
    assert "Name one of" in exercises.nearest_class(acts, layer, classes[0], classes[0]).words


def test_the_more_trusted_map(acts):
    good = project(acts, 1, method="pca")
    maps = {"good": good, "bad": type(good)(**{**vars(good), "trustworthiness": good.trustworthiness - 0.1})}
    assert exercises.more_trusted(maps, "good").right
    assert exercises.more_trusted(maps, "bad").right is False
    assert exercises.more_trusted(maps, "ugly").right is False
    assert exercises.more_trusted(maps, None).right is None


def test_the_smallest_dose_clears_the_control():
    rates = pd.DataFrame({
        "method": ["probe", "probe", "probe", "random"], "dose": [0.6, 0.2, 0.4, 0.6],
        "hit_rate": [0.9, 0.3, 0.7, 0.4], "low": [0.7, 0.1, 0.5, 0.2], "high": [1.0, 0.5, 0.9, 0.6],
    })  # fmt: skip
    assert exercises.smallest_dose(rates, 0.4).right
    assert exercises.smallest_dose(rates, 0.6).right is False
    assert exercises.smallest_dose(rates, None).right is None
    hopeless = rates.assign(low=0.0)
    assert (
        exercises.smallest_dose(hopeless, 0).right and exercises.smallest_dose(hopeless, 0.6).right is False
    )


def test_the_culprit_stands_in_an_error():
    findings = (
        Finding("leak", "error", "a and b are the same file. Keep one", ("a", "b")),
        Finding("level", "warning", "c is loud", ("c",)),
    )
    report = LintReport("music", 3, findings)
    assert exercises.culprit(report, "b").right and "same file" in exercises.culprit(report, "b").words
    assert exercises.culprit(report, None).right is None
    words = thrice(lambda answer: exercises.culprit(report, answer), ["c", "none", "d"])
    assert "same file" not in words[0] and "same file" in words[1] and "one of a, b" in words[2]
    clean = LintReport("music", 3, findings[1:])
    assert exercises.culprit(clean, "none").right and exercises.culprit(clean, "c").right is False


def test_the_same_direction_beyond_chance(acts):
    ours = difference_in_means(acts, acts.classes()[0], layer=1)
    for other, agree in ((ours, True), (random_direction(ours, 5), False)):
        assert exercises.same_direction(ours, other, agree).right
        assert exercises.same_direction(ours, other, not agree).right is False
    assert exercises.same_direction(ours, ours, None).right is None


def test_the_strongest_line_of_a_map_is_that_of_all_its_windows():
    found = patches(48, 2)
    found.values[:] = 0.1
    found.values[0, 19] = [2.0, 3.0]
    found.values[0, 20] = [4.0, -4.0]
    assert exercises.strongest_line(found, None).right is None
    assert exercises.strongest_line(found, "L2H3").right
    assert "L2H3 goes 16% of the way" in exercises.strongest_line(found, "L2H3").words
    words = thrice(lambda answer: exercises.strongest_line(found, answer), ["L2H4", "L0H0", "L5H7"])
    assert "Hint" not in words[0] and "Hint: it is in L2." in words[1] and "The answer: L2H3 goes" in words[2]


def acts_table(effect):
    return pd.DataFrame({"layer": [0, 2, 4], "accuracy": [0.5, 0.9, 0.8], "effect": effect})


def test_the_acting_layer_is_where_a_push_moves_most():
    other = acts_table([0.6, 0.1, 0.5])
    assert exercises.acting_layer(other, None).right is None
    assert (
        exercises.acting_layer(other, 0).right and "another layer" in exercises.acting_layer(other, 0).words
    )
    words = thrice(lambda answer: exercises.acting_layer(other, answer), [2, 4, 2.0])
    assert (
        "moves P by +10%" in words[0] and "layer 0 or layer 2" in words[1] and "Layer 0 acts most" in words[2]
    )
    same = exercises.acting_layer(acts_table([0.1, 0.6, 0.5]), 2)
    assert same.right and "That is the same layer" in same.words


def test_the_checkpoints_that_fit_are_those_of_less_memory():
    free = 1_500_000_000
    assert exercises.fitting(free, ["musicgen-small", "facebook/musicgen-stereo-small"]).right
    assert exercises.fitting(10**9, []).right and exercises.fitting(free, None).right is None
    assert "not in the table" in exercises.fitting(free, ["musicgen-tiny"]).words
    words = thrice(
        lambda answer: exercises.fitting(free, answer), [["musicgen-small"], ["musicgen-large"], []]
    )
    assert "you named 1 of these" in words[0] and "takes" not in words[0]
    assert "musicgen-small takes 1.39 GB" in words[1] and "musicgen-small, musicgen-stereo-small." in words[2]


WORDS = {"", "jazz", "genre", "none", "12", "nan", "group leak", "mood: calm"}
ODD = [
    float("nan"), float("inf"), -float("inf"), True, False, np.True_, np.nan, 1e300, -2, -3.5, 10**400, 1j,
    b"jazz", [], [[]], [None], [True], [float("nan")], ["jazz", 1], [["jazz"]], (), {}, {"jazz": 1}, object(),
    int, print, np.array([]), np.array([[1, 2]]), np.array(3), range(0), pd.DataFrame(), *sorted(WORDS),
]  # fmt: skip


def right_answers(check, candidates):
    return [answer for answer in candidates if check(answer).right]


def check_of_rates():
    rates = pd.DataFrame({
        "method": ["probe", "probe", "random"], "dose": [0.2, 0.4, 0.4], "hit_rate": [0.3, 0.9, 0.4],
        "low": [0.1, 0.5, 0.2], "high": [0.5, 1.0, 0.6],
    })  # fmt: skip
    return lambda answer: exercises.smallest_dose(rates, answer)


@pytest.mark.parametrize(
    ("name", "accepted"),
    [
        ("tied_layers", 0),
        ("late_push", 0),
        ("gated_push", 0),
        ("crossfade", 0),
        ("readable_targets", 0),
        ("flattery", 0),
        ("nearest_class", 0),
        ("more_trusted", 0),
        ("smallest_dose", 0),
        ("culprit", 0),
        ("fitting", 0),
        ("same_direction", 2),  # True and numpy's True
        ("strongest_line", 0),
        ("acting_layer", 0),
    ],
)
def test_odd_answers_never_crash_and_never_count_as_right(name, accepted, acts, probes):
    here = project(acts, 1, method="pca")
    ours = difference_in_means(acts, acts.classes()[0], layer=1)
    report = LintReport("music", 1, (Finding("leak", "error", "a is b", ("a", "b")),))
    checks = {
        "tied_layers": lambda answer: exercises.tied_layers(probes, answer),
        "late_push": lambda answer: exercises.late_push(answer, towards="jazz", after_s=2),
        "gated_push": lambda answer: exercises.gated_push(answer, towards="jazz", after_s=1),
        "crossfade": lambda answer: exercises.crossfade(answer, out_of="classical", into="jazz"),
        "readable_targets": lambda answer: exercises.readable_targets({"style": probes}, answer),
        "flattery": lambda answer: exercises.flattery(probes, probes, answer),
        "nearest_class": lambda answer: exercises.nearest_class(acts, 1, acts.classes()[0], answer),
        "more_trusted": lambda answer: exercises.more_trusted({"umap": here}, answer),
        "smallest_dose": check_of_rates(),
        "culprit": lambda answer: exercises.culprit(report, answer),
        "fitting": lambda answer: exercises.fitting(3 * 10**9, answer),
        "same_direction": lambda answer: exercises.same_direction(ours, ours, answer),
        "strongest_line": lambda answer: exercises.strongest_line(patches(), answer),
        "acting_layer": lambda answer: exercises.acting_layer(acts_table([0.1, 0.6, 0.5]), answer),
    }
    assert checks[name](None).right is None
    assert len(right_answers(checks[name], ODD)) == accepted


def test_true_is_no_layer_and_nan_is_no_number(probes):
    one = type(probes)(probes.probes[1:2], probes.held_out, probes.logits)
    assert exercises.tied_layers(one, [1]).right and exercises.tied_layers(one, np.array([1])).right
    assert exercises.tied_layers(one, [True]).right is False
    assert (
        exercises.flattery(probes, probes, 0.0).right
        and exercises.flattery(probes, probes, np.int64(0)).right
    )
    for answer in (False, float("nan"), "0", [0], 0j, -500):
        assert exercises.flattery(probes, probes, answer).right is False
