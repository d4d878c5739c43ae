"""What is described and not tested: confusion, calibration, directions, scores over time, transfer."""

from __future__ import annotations

import numpy as np
import pytest
from planted import activations, labels_and_groups, planted
from tolerances import ROUNDED, SUMMED

from workbench.activations import Activations
from workbench.errors import ProbeError
from workbench.probing import fit_probes
from workbench.probing.diagnosis import (
    accuracy_by_layer,
    calibration,
    confusion,
    cosine_classes,
    cosine_layers,
    direction_stability,
    evaluate_probe,
    score_over_time,
    transfer,
)


def sweep_of(acts, **settings):
    return fit_probes(acts, l2=[0.1], shuffles=0, progress=False, **settings)


@pytest.fixture(scope="module")
def acts():
    return planted(2.0, clips=4)[0]


@pytest.fixture(scope="module")
def sweep(acts):
    return sweep_of(acts)


@pytest.fixture(scope="module")
def case(acts, sweep):
    return evaluate_probe(acts, sweep[1])


def test_the_best_layer_is_told_with_its_interval(acts):
    sweep = fit_probes(acts, l2=[0.1], shuffles=4, progress=False)
    found = accuracy_by_layer(sweep)
    best = sweep.best.scores
    assert found.table().equals(sweep.table())
    assert found.effect == pytest.approx(best.accuracy - best.chance)
    told = found.sentence()
    assert f"layer 1, with accuracy {best.accuracy:.2f} ({best.low:.2f} to {best.high:.2f})" in told
    assert told.endswith("can be read.")
    noise = accuracy_by_layer(fit_probes(acts, layers=[0], l2=[0.1], shuffles=4, progress=False))
    assert noise.sentence().endswith("is not shown that it can be read.")


def test_confusion_equals_the_sweep_s_and_names_the_worst_pair(case, sweep):
    found = confusion(case)
    assert found.counts.equals(sweep.confusion(1))
    counts = found.counts.to_numpy()
    true, called, share = found.worst
    rows = case.labels == true
    predicted = np.array(case.classes)[case.held_out.predicted]
    assert share == pytest.approx((predicted[rows] == called).mean())
    assert true != called
    table = found.table()
    assert table["recall"].tolist() == pytest.approx(np.diag(counts) / counts.sum(1))
    assert table["precision"].tolist() == pytest.approx(np.diag(counts) / counts.sum(0))
    assert f"{share:.0%} of its clips are called {called}" in found.sentence()


def test_ece_is_the_weighted_distance_and_small_for_honest_probes(case):
    found = calibration(case)
    sure, right = case.probabilities.max(1), case.correct
    distance = 0.0
    for low in np.arange(0, 1, 0.1):
        inside = (sure >= low) & (sure < low + 0.1 + (low > 0.85))
        if inside.any():
            distance += abs(right[inside].mean() - sure[inside].mean()) * inside.mean()
    assert found.ece == pytest.approx(distance, abs=1e-9)
    assert found.excess.value == pytest.approx(sure.mean() - right.mean())
    assert found.table()["clips"].sum() == len(sure)


def test_a_probe_that_is_too_sure_is_called_so(case):
    from dataclasses import replace

    loud = replace(case, held_out=replace(case.held_out, logits=20 * case.held_out.logits))
    found = calibration(loud)
    assert found.ece > found.expected.high
    assert "too sure" in found.sentence()
    rng = np.random.default_rng(0)
    shares = case.probabilities
    drawn = (rng.random(len(shares))[:, None] > shares.cumsum(1)).sum(1)
    honest = calibration(replace(case, y=drawn))
    assert honest.expected.low <= honest.ece <= honest.expected.high
    assert "can be trusted" in honest.sentence()


def test_planted_directions_are_steadier_than_noise(acts, sweep):
    found = direction_stability(*(evaluate_probe(acts, probe) for probe in sweep))
    table = found.table()
    assert table.groupby("layer")["cosine"].mean()[1] > table.groupby("layer")["cosine"].mean()[0] + 0.05
    assert found.effect == pytest.approx(table["cosine"].min())
    weights = evaluate_probe(acts, sweep[1]).held_out.weights[:, 0]
    units = weights / np.linalg.norm(weights, axis=1, keepdims=True)
    cosines = (units @ units.T)[np.triu_indices(5, 1)]
    row = table.query("layer == 1").iloc[0]
    assert (row["cosine"], row["lowest"]) == pytest.approx((cosines.mean(), cosines.min()))


def test_cosines_between_layers_and_classes_are_those_of_the_directions(sweep):
    layers, classes = cosine_layers(sweep, "jazz"), cosine_classes(sweep, 1)
    one, two = (sweep[layer].direction("jazz") for layer in (0, 1))
    assert np.isclose(layers.loc["0", "1"], one.vector @ two.vector, **SUMMED)
    np.testing.assert_allclose(np.diag(layers), 1, **ROUNDED)
    cosine = sweep[1].direction("jazz").cosine(sweep[1].direction("rock"))
    assert np.isclose(classes.loc["jazz", "rock"], cosine, **SUMMED)
    assert classes.to_numpy()[np.triu_indices(3, 1)].mean() == pytest.approx(-0.5, abs=0.1)  # if equally long


def over_time(sweep):
    """Return per-frame activations of two clips: the first turns from classical to rock half-way."""
    probe = sweep[1]
    means = {name: probe.mean + 4 * probe.direction(name).vector for name in probe.classes}
    x = np.full((2, 2, 8, 48), np.nan)
    x[0, 1, :4], x[0, 1, 4:] = means["classical"], means["rock"]
    x[1, 1, :5] = means["jazz"]
    x[:, 0] = x[:, 1]
    samples = {"clip": np.array(["a", "b"]), "group": np.array(["g", "h"])}
    return Activations.from_arrays(
        {"resid_post": x.astype(np.float32)}, layers=[0, 1], samples=samples, attrs={"frame_rate_hz": 4}
    )


def test_frames_are_scored_in_seconds_up_to_the_clip_s_end(sweep):
    found = score_over_time(over_time(sweep), sweep[1])
    table = found.table("a")
    assert table["seconds"].tolist() == [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75]
    assert table["classical"].tolist()[:4] > table["rock"].tolist()[:4]
    assert (table["rock"][4:] > table["classical"][4:]).all()
    assert len(found.table("b")) == 5
    assert len(found.table()) == 13
    np.testing.assert_allclose(table[list(found.classes)].sum(1), 1, **ROUNDED)
    # One clip is classical for half of its 8 frames; the other's 5 frames agree.
    assert found.effect == pytest.approx(4 / 13)
    with pytest.raises(ProbeError, match="'c' was asked for"):
        found.table("c")


def test_windows_are_put_in_order_of_time(sweep, acts):
    frames = over_time(sweep).frames(1)
    rows = np.stack([frames[0, 6], frames[1, 0], frames[0, 0]])[:, None].repeat(2, 1)
    samples = {
        "clip": np.array(["a", "b", "a"]),
        "group": np.array(["g", "h", "g"]),
        "start_s": np.array([1.0, 0.0, 0.0]),
    }
    windows = Activations.from_arrays({"resid_post": rows}, layers=[0, 1], samples=samples)
    found = score_over_time(windows, sweep[1])
    assert found.clips == ("a", "b")
    table = found.table("a")
    assert table["seconds"].tolist() == [0, 1]
    assert table["classical"][0] > table["rock"][0]
    assert table["rock"][1] > table["classical"][1]
    with pytest.raises(ProbeError, match="pooled over whole clips"):
        score_over_time(acts, sweep[1])


def test_transfer_reads_what_is_shared_and_loses_what_is_not(acts, sweep, case):
    labels, groups = labels_and_groups(clips=4)
    made = np.array([f"made {group}" for group in groups])
    rng = np.random.default_rng(1)
    alike = activations(np.stack([case.x, case.x], 1) + 0.3 * rng.standard_normal((120, 2, 48)), labels, made)
    turned = activations(np.stack([case.x, case.x], 1)[..., ::-1].copy(), labels, made)
    same = transfer(case, evaluate_probe(alike, sweep_of(alike)[1]))
    other = transfer(case, evaluate_probe(turned, sweep_of(turned)[1]))
    assert same.out.value > case.accuracy.value - 0.05
    assert other.out.value < 0.5 < other.there.value
    assert other.effect == pytest.approx(other.there.value - other.out.value)
    assert other.table()[["trained_on", "tested_on"]].to_numpy().tolist() == [
        ["real", "real"],
        ["real", "generated"],
        ["generated", "generated"],
        ["generated", "real"],
    ]
    assert f"accuracy {other.out.value:.2f}" in other.sentence()


def test_a_group_on_both_sides_is_read_by_probes_that_did_not_see_it(case):
    assert transfer(case, case).out == case.accuracy


def test_cases_that_do_not_match_are_refused(acts, sweep, case):
    with pytest.raises(ProbeError, match="their layer are 1 and 0"):
        transfer(case, evaluate_probe(acts, sweep[0]))
