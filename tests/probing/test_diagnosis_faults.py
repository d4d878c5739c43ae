"""Each diagnosis of a fault, against a witness that counts by hand."""

from __future__ import annotations

import numpy as np
import planted_faults as pf
import pytest
from planted import activations
from scipy.special import softmax

from workbench.errors import ProbeError
from workbench.probing import fit_probes
from workbench.probing.diagnosis import (
    Estimate,
    class_imbalance,
    confound,
    control_task,
    evaluate_probe,
    group_leak,
    label_noise,
    learning_curve,
    text_leak,
)
from workbench.probing.diagnosis.faults import _fitted, _likelihood, _overlap


def case_of(acts, **settings):
    return evaluate_probe(acts, pf.probes(acts)[0], **settings)


@pytest.fixture(scope="module")
def clean():
    planted = pf.clean(0)
    return case_of(planted.acts), planted


@pytest.fixture(scope="module")
def leaky():
    return case_of(pf.group_leak(0).acts)


# ------------------------------------------------------------------------------------------------ groups


def test_the_gap_is_the_mean_difference_of_the_two_kinds_of_split(leaky):
    found = group_leak(leaky, repeats=1)
    (random,) = leaky.predicted([leaky.random_splits()])
    assert found.random.value == pytest.approx((random == leaky.y).mean())
    assert found.grouped.value == pytest.approx(leaky.correct.mean())
    assert found.effect == pytest.approx(found.random.value - found.grouped.value)
    assert found.p_value < 0.001
    assert group_leak(leaky, repeats=3).gap.value != found.gap.value


def test_a_group_of_one_clip_cannot_leak(clean):
    case, planted = clean
    alone = activations(case.x[:, None], planted.acts.labels(), planted.acts.clips)
    found = group_leak(case_of(alone))
    assert found.p_value is None
    assert "single clip" in found.sentence()


def test_only_a_probe_that_memorises_groups_reads_a_control_task(leaky, clean):
    memory, none = control_task(leaky), control_task(clean[0])
    assert memory.control.value > 0.45
    assert memory.selectivity.value == pytest.approx(memory.real.value - memory.control.value)
    assert none.control.low < 1 / 3 + 0.05
    assert none.effect > memory.effect + 0.2


# -------------------------------------------------------------------------------------------------- text


def test_flips_are_counted_clip_by_clip_against_the_neutral_text():
    planted = pf.text_leak(0)
    case, four = case_of(planted.acts), planted.given["conditions"]
    found = text_leak(case, four)
    wrong, neutral = four.where(condition="wrong"), four.where(condition="neutral")
    called = [
        np.array(case.classes)[case.read(part.matrix(0), part.groups).argmax(1)] for part in (wrong, neutral)
    ]
    named = wrong.coordinate("named")
    assert found.flipped == pytest.approx((called[0] == named).mean())
    assert found.before == pytest.approx((called[1] == named).mean())
    assert found.excess.value == pytest.approx(found.flipped - found.before)
    assert found.effect == pytest.approx((found.flipped - found.before) / (1 - found.before))
    assert found.accuracy["neutral"].value == pytest.approx((called[1] == neutral.labels()).mean())
    assert found.table()["condition"].tolist() == ["null", "neutral", "correct", "wrong"]
    assert "reads text" in found.sentence()


def test_twins_are_found_in_any_order_and_without_a_neutral_text(clean):
    case, planted = clean
    four = planted.given["conditions"]
    shuffled = four.subset(np.random.default_rng(0).permutation(len(four)))
    assert text_leak(case, shuffled).excess == text_leak(case, four).excess
    bare = four.subset(np.isin(four.coordinate("condition"), ["null", "wrong"]))
    assert list(text_leak(case, bare).accuracy) == ["null", "wrong"]


def test_conditions_that_cannot_be_compared_are_refused(clean):
    case, planted = clean
    four = planted.given["conditions"]
    names = four.coordinate("condition")
    with pytest.raises(ProbeError, match="correct, neutral, null"):
        text_leak(case, four.subset(names != "wrong"))
    lone = np.flatnonzero(names == "neutral")[0]
    with pytest.raises(ProbeError, match="1 of 360 clips with a wrong text have no neutral one"):
        text_leak(case, four.subset(np.arange(len(four)) != lone))


# --------------------------------------------------------------------------------------------- confounds


def test_overlap_weights_make_the_classes_alike():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 3000)
    z = 0.8 * (y - 1) + rng.standard_normal(3000)
    weights = _overlap(z, y)
    means = [np.average(z[y == c], weights=weights[y == c]) for c in range(3)]
    spreads = [np.average((z[y == c] - means[c]) ** 2, weights=weights[y == c]) for c in range(3)]
    assert np.ptp(means) < 0.05
    assert np.ptp(spreads) < 0.1
    assert np.ptp([z[y == c].mean() for c in range(3)]) > 1.4


def test_a_number_that_tells_the_classes_but_is_not_used_raises_no_alarm(clean):
    case, _ = clean
    rng = np.random.default_rng(0)
    found = confound(case, "level_db", pf.level(rng, case.y, 0.9))
    assert found.linked <= 0.01
    assert found.alone.value > 0.5
    assert found.readable.value > 0.2  # the class is in the activations, and with it the level
    assert found.p_value > 0.2
    assert abs(found.effect) < 0.05


def test_a_number_that_nobody_links_to_the_label_raises_no_alarm(clean):
    case, planted = clean
    found = confound(case, "seconds", planted.given["confounds"]["seconds"])
    assert found.linked > 0.01
    assert found.alone.low < 1 / 3 + 0.05
    assert found.readable.value < 0.05
    constant = confound(case, "rate_hz", np.full(len(case.y), 16_000.0))
    assert constant.linked == 1.0
    assert constant.effect == pytest.approx(0, abs=1e-6)


def test_r2_is_about_0_for_what_is_not_there_and_1_for_what_is():
    rng = np.random.default_rng(0)
    x, y, group, _ = pf.drawn(rng, groups=12, clips=4, strength=1.0, d=120)
    case = case_of(pf.made(x, y, group))
    assert -0.15 < confound(case, "noise", rng.standard_normal(len(y))).readable.value < 0.1
    planted = pf.loudness(0)
    assert (
        confound(case_of(planted.acts), "level_db", planted.given["confounds"]["level_db"]).readable.low > 0.7
    )


def test_the_link_is_tested_between_groups_and_not_between_clips():
    # A level that belongs to the track, and classes that belong to the track: few witnesses, many clips.
    p_values = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        x, y, group, _ = pf.drawn(rng, groups=6, clips=8, strength=2.0)
        case = case_of(pf.made(x, y, group))
        values = rng.standard_normal(18)[group]
        p_values.append(confound(case, "level_db", values, permutations=199).linked)
    assert np.mean(np.array(p_values) <= 0.1) <= 0.2


def test_an_alarm_needs_the_link_and_the_drop(clean):
    from dataclasses import replace

    case, planted = clean
    found = confound(case, "level_db", planted.given["confounds"]["level_db"])
    big = Estimate(0.3, 0.2, 0.4, 0.001)
    assert replace(found, linked=0.5, drop=big).p_value == 0.5
    assert replace(found, linked=0.002, drop=replace(big, p_value=0.7)).p_value == 0.7


def test_a_number_that_is_the_class_cannot_be_matched(clean):
    case, _ = clean
    values = 100.0 * case.y + np.random.default_rng(0).standard_normal(len(case.y))
    found = confound(case, "year", values)
    assert np.isnan(found.drop.value)
    assert found.effect == pytest.approx(found.alone.value - found.chance)
    assert found.p_value == found.linked < 0.01
    assert "cannot be parted" in found.sentence()


def test_numbers_that_do_not_fit_are_refused(clean):
    case, _ = clean
    with pytest.raises(ProbeError, match=r"360 finite numbers were asked for 'level_db'.*\(5,\)"):
        confound(case, "level_db", np.zeros(5))
    with pytest.raises(ProbeError, match="1 that are not finite"):
        confound(case, "level_db", np.where(np.arange(360) == 3, np.nan, 1.0))


# ------------------------------------------------------------------------------------------------ labels


def test_the_lapse_model_finds_what_it_was_drawn_from():
    rng = np.random.default_rng(0)
    logits = 3 * rng.standard_normal((6000, 4))
    shares = softmax(0.7 * logits, axis=1)
    drawn = (rng.random(6000)[:, None] > shares.cumsum(1)).sum(1)
    flipped = rng.random(6000) < 0.2
    y = np.where(flipped, (drawn + rng.integers(1, 4, 6000)) % 4, drawn)
    a, e = _fitted(logits, y, lapse=True)
    assert a == pytest.approx(0.7, rel=0.1)  # 6000 samples know both to a few hundredths
    assert e == pytest.approx(0.2, abs=0.03)
    assert _fitted(logits, y, lapse=False)[1] == 0


def test_the_scores_are_the_gradient_of_the_log_likelihood():
    rng = np.random.default_rng(1)
    logits, y, step = rng.standard_normal((9, 3)), rng.integers(0, 3, 9), 1e-6
    _, found = _likelihood(logits, y, 1.3, 0.1)

    def change(by_a, by_e):
        ahead = _likelihood(logits, y, 1.3 * np.exp(by_a), 0.1 + by_e)[0]
        return ahead - _likelihood(logits, y, 1.3 * np.exp(-by_a), 0.1 - by_e)[0]

    by_a, by_e = change(step, 0), change(0, step)
    # 1e-16 of a likelihood of size 1, over a step of 1e-6, and the step squared
    np.testing.assert_allclose(found, np.stack([by_a, by_e], 1) / (2 * step), rtol=1e-5, atol=1e-7)


def test_suspects_are_the_flipped_clips_with_their_true_labels():
    planted = pf.noise(0)
    found = label_noise(case_of(planted.acts))
    suspects = found.suspects()
    numbers = suspects["clip"].str.removeprefix("clip").astype(int).to_numpy()
    assert planted.flipped[numbers].mean() > 0.9
    assert planted.flipped[numbers].sum() > 0.7 * planted.flipped.sum()
    assert (suspects["suggested"] != suspects["label"]).all()
    assert found.share.low < 0.15 < found.share.high
    table = found.table()
    assert table["confidence"].is_monotonic_increasing
    assert len(table) == len(planted.flipped)
    assert "listen to the suspects" in found.sentence()


def test_one_track_that_sounds_like_another_class_is_one_surprise():
    rng = np.random.default_rng(3)
    x, y, group, means = pf.drawn(rng, groups=20, clips=6, strength=5.0)
    odd = group == 4
    x[odd] += means[(y[odd] + 1) % 3] - means[y[odd]]
    assert label_noise(case_of(pf.made(x, y, group))).p_value > 0.02
    labels = y.copy()
    spread = rng.permutation(np.flatnonzero(np.unique(group, return_index=True)[1] >= 0))[:6] * 6
    labels[spread] = (y[spread] + 1) % 3
    x[odd] -= means[(y[odd] + 1) % 3] - means[y[odd]]
    assert label_noise(case_of(pf.made(x, labels, group))).p_value < 0.02


# ------------------------------------------------------------------------------------------- few clips


def test_the_curve_ends_at_the_case_s_own_accuracy_and_rises_on_the_way(clean):
    case, _ = clean
    found = learning_curve(case)
    sizes = [size for size, _ in found.points]
    assert sizes == [1, 2, 4, 8, 16]
    assert found.points[-1][1].value == pytest.approx(case.correct.mean())
    assert found.points[0][1].value < found.points[2][1].value < found.points[-1][1].value
    assert found.effect == pytest.approx(found.points[-1][1].value - found.points[-2][1].value)
    assert found.table()["groups"].tolist() == sizes
    assert [size for size, _ in learning_curve(case, sizes=[3]).points] == [3, 8, 16]
    with pytest.raises(ProbeError, match="a size is 1 or more"):
        learning_curve(case, sizes=[0])


def test_training_sets_of_the_curve_have_the_groups_that_were_asked_for(clean):
    from workbench.probing.diagnosis.faults import _thinned

    case, _ = clean
    train = case.splits[0][0]
    kept = _thinned(case, train, 0.25, np.random.default_rng(0))
    assert set(kept) <= set(train)
    assert [len(np.unique(case.groups[kept][case.y[kept] == c])) for c in range(3)] == [4, 4, 4]
    whole = [(case.groups[train] == group).sum() for group in np.unique(case.groups[kept])]
    assert len(kept) == sum(whole)


# -------------------------------------------------------------------------------------------- imbalance


def test_accuracy_that_comes_from_the_commonest_class_is_called_flattering():
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(60), 5)
    y = np.array([0] * 48 + [1] * 6 + [2] * 6)[group]
    x = np.eye(6)[y] + rng.standard_normal((300, 6))
    acts = activations(x[:, None], pf.NAMES[y], np.array([f"t{n}" for n in group]))
    probe = fit_probes(acts, l2=[0.1], shuffles=0, progress=False)[0]
    case = evaluate_probe(acts, probe)
    found = class_imbalance(case)
    recalls = [case.correct[y == c].mean() for c in range(3)]
    assert found.recall == pytest.approx(np.mean(recalls))
    assert found.effect == pytest.approx(case.correct.mean() - np.mean(recalls))
    assert (found.commonest, found.ratio, found.majority) == ("classical", 8.0, 0.8)
    assert found.p_value < 0.001
    assert "flatters" in found.sentence()
    assert found.sentence().startswith("classical has 8.0 times as many clips as the rarest class; always")
    balanced = evaluate_probe(acts, probe, class_weights="balanced")
    assert class_imbalance(balanced).effect < found.effect / 2


def test_equal_classes_cannot_flatter(clean):
    found = class_imbalance(clean[0])
    assert found.sentence().startswith("The classes are balanced; always naming")
    assert found.effect == pytest.approx(0, abs=1e-9)
    assert found.p_value == 1
