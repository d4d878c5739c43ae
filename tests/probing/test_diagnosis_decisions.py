"""The lines that decide a diagnosis: what is paired, matched, tolerated and counted, against a witness."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import planted_faults as pf
import pytest
from scipy.stats import t

from workbench.probing.crossval import cross_validate
from workbench.probing.diagnosis import (
    Estimate,
    calibration,
    confound,
    control_task,
    diagnose,
    evaluate_probe,
    group_leak,
    text_leak,
)
from workbench.probing.diagnosis.baselines import _random_classes
from workbench.probing.diagnosis.evaluation import TOLERATED
from workbench.probing.diagnosis.faults import _curved, _matching
from workbench.sound.dataset import grouped_folds
from workbench.stats import mean_over_groups


def case_of(acts, **settings):
    return evaluate_probe(acts, pf.probes(acts)[0], **settings)


@pytest.fixture(scope="module")
def clean():
    planted = pf.clean(0)
    return case_of(planted.acts), planted


@pytest.fixture(scope="module")
def leaky():
    return case_of(pf.group_leak(0).acts)


def against(estimate: Estimate, groups: int) -> float:
    """Return the value against which an estimate was tested, from its interval and its p-value."""
    error = (estimate.high - estimate.value) / t.ppf(0.975, groups - 1)
    return float(estimate.value - t.isf(estimate.p_value, groups - 1) * error)


def weakly(case, share: float):
    """Return the case with another share of its clips read rightly, so that p-values are not extreme."""
    rng = np.random.default_rng(0)
    other = np.where(rng.random(len(case.y)) < share, case.y, (case.y + 1) % len(case.classes))
    return replace(case, held_out=replace(case.held_out, logits=np.eye(len(case.classes))[other]))


def test_the_group_leak_holds_out_and_tests_over_whole_groups(leaky):
    found = group_leak(leaky, repeats=2)
    again = grouped_folds(leaky.labels, leaky.groups, folds=leaky.folds, seed=leaky.seed + 1)
    random = [leaky.random_splits(0), leaky.random_splits(1)]
    right = leaky.predicted([*random, again]) == leaky.y
    grouped = (leaky.correct.astype(float) + right[2]) / 2
    assert found.grouped.value == pytest.approx(grouped.mean())
    gap = right[:2].mean(0) - grouped
    assert found.gap == mean_over_groups(gap, leaky.groups, tolerated=TOLERATED)
    assert found.gap != mean_over_groups(gap, leaky.groups)
    assert found.gap != mean_over_groups(gap, leaky.clips, tolerated=TOLERATED)


def test_the_control_task_gives_the_real_one_the_same_kind_of_split(leaky):
    (called,) = leaky.predicted([leaky.random_splits()])
    assert control_task(leaky).real.value == pytest.approx((called == leaky.y).mean())


def test_random_classes_are_as_frequent_as_the_real_ones():
    rng = np.random.default_rng(0)
    drawn = [_random_classes(np.repeat([0, 1, 2], [14, 4, 2]), 3, rng) for _ in range(5)]
    assert all(np.bincount(one).tolist() == [14, 4, 2] for one in drawn)
    assert any((one != drawn[0]).any() for one in drawn)
    # No group stands for class 2 (they are mixed): then every class is drawn as often.
    assert np.bincount(_random_classes(np.repeat([0, 1], [7, 2]), 3, rng)).tolist() == [3, 3, 3]


def test_windows_of_a_clip_are_paired_in_turn_and_two_points_are_tolerated():
    planted = pf.text_leak(0, share=0.04)
    case, four = case_of(planted.acts), planted.given["conditions"]
    twice = np.isin(four.clips, [f"clip{number}" for number in range(90)])
    rows = np.concatenate([np.arange(len(four)), np.flatnonzero(twice)])  # these clips have two windows
    some = four.subset(rows)
    found = text_leak(case, some)
    called = np.array(case.classes)[case.read(four.matrix(0), four.groups).argmax(1)]
    name = four.coordinate("condition")
    aim = four.coordinate("named")[name == "wrong"]
    follows = (called[name == "wrong"] == aim).astype(float) - (called[name == "neutral"] == aim)
    often = np.where(twice[name == "wrong"], 2, 1)
    assert found.excess.value == pytest.approx(np.average(follows, weights=often))
    groups = len(np.unique(four.groups))
    assert against(found.excess, groups) == pytest.approx(TOLERATED, abs=1e-6)


def test_a_confidence_of_1_lies_in_the_last_bin(clean):
    case, _ = clean
    logits = np.where(np.arange(len(case.y))[:, None] % 2, [0.0, -1e3, -1e3], np.log([0.95, 0.025, 0.025]))
    table = calibration(replace(case, held_out=replace(case.held_out, logits=logits)), draws=5).table()
    assert len(table) == 1
    assert table["confidence"][0] == pytest.approx(0.975)


def test_what_perfect_calibration_would_show_is_95_percent_of_simulations(clean):
    case, _ = clean
    sure, rng = case.probabilities.max(1), np.random.default_rng(5)
    where = np.minimum((10 * sure).astype(int), 9)
    drawn = (rng.random((2000, len(sure))) < sure) - sure
    eces = [np.abs(np.bincount(where, weights=one)).sum() / len(sure) for one in drawn]
    found = calibration(case).expected  # of 500 draws, which know an end to 0.001
    assert (found.low, found.high) == pytest.approx(np.quantile(eces, [0.025, 0.975]), abs=0.004)
    assert found.value == pytest.approx(np.mean(eces), abs=0.002)


def weighing(case, *clips: int, heavy: float = 1 / 3, rest: float = 1e-9):
    """Return weights that are `heavy` for so many clips of each class, in turn, and `rest` for the others."""
    weights = np.full(len(case.y), rest)
    for class_, count in enumerate(clips):
        weights[np.flatnonzero(case.y == class_)[:count]] = heavy
    return weights


def test_too_few_clips_that_are_alike_match_nothing(clean):
    case, _ = clean  # 120 clips of each class, of which 5 % are 6
    for weights, clips in (
        (weighing(case, 5, 5, 5), 5),
        (weighing(case, 5, 90, 90), 5),  # the class that has fewest decides
        (weighing(case, 3, 60, 60, heavy=1.0), 3),  # a few heavy clips are a few, whatever they weigh
        (weighing(case, 120, 120, 120, heavy=0.01), 3.6),  # clips that are hardly alike count for little
    ):
        recall, matched, drop, held = _matching(case, weights)
        assert held == pytest.approx(clips, rel=1e-3)
        assert np.isnan([matched.value, drop.value]).all()
        assert recall.value == pytest.approx(case.correct.mean())
    _, matched, drop, held = _matching(case, weighing(case, 8, 8, 8))
    assert held == pytest.approx(8, rel=1e-3)
    assert np.isfinite([matched.value, drop.value]).all()


def test_three_clips_per_class_are_the_fewest_however_small_the_set(clean):
    _, planted = clean
    small = case_of(planted.acts.subset(np.flatnonzero(np.arange(360) % 6 < 2)))  # 5 % of 40 are 2
    few = _matching(small, weighing(small, 2, 2, 2, rest=0.002))
    assert 2 < few[3] < 3
    assert np.isnan(few[1].value)
    assert np.isfinite(_matching(small, weighing(small, 4, 4, 4))[1].value)


def test_a_drop_of_two_points_is_tolerated(clean):
    case, _ = clean
    rng = np.random.default_rng(1)
    _, _, drop, _ = _matching(weakly(case, 0.7), rng.random(len(case.y)))
    assert against(drop, len(np.unique(case.groups))) == pytest.approx(TOLERATED, abs=1e-6)


def test_classes_that_differ_only_in_a_numbers_spread_are_told_apart(clean):
    case, _ = clean
    spread = np.array([0.1, 1.0, 5.0])[case.y]
    found = confound(case, "level_db", spread * np.random.default_rng(0).standard_normal(len(case.y)))
    assert found.alone.low > case.chance + 0.1


def test_a_number_alone_is_held_out_as_the_probe_is(clean):
    case, _ = clean
    values = pf.level(np.random.default_rng(1), case.y, 0.6)
    found = confound(case, "level_db", values, permutations=99)
    z = (values - values.mean()) / values.std()
    held = cross_validate(_curved(z), case.y, case.splits, groups=case.groups, l2=[1e-3])
    assert found.alone.value == pytest.approx((held.predicted == case.y).mean())
    assert found.linked == 1 / 100  # no shuffle reached it, and the true order counts as one


def test_diagnosis_uses_the_class_weights_of_the_probes(clean):
    _, planted = clean
    report = diagnose(planted.acts, sweep=planted.sweep(), class_weights="balanced", views=False)
    assert report.evaluation.class_weights == "balanced"
