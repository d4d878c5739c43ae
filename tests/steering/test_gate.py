"""Gates and read-outs: equal to the probes they come from, refused where they cannot work."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from planted import activations, planted
from probing_samples import tagged
from tolerances import ROUNDED, SUMMED

from workbench.errors import ProbeError, SteeringError
from workbench.probing import fit_multilabel, fit_probes
from workbench.steering import Gate, ReadOut, Steering

W = np.random.default_rng(0).standard_normal((3, 16))


def reads(**changes) -> ReadOut:
    kept = {"classes": ("a", "b", "c"), "weights": W, "bias": np.array([0.1, -0.2, 0.3]), "layer": 2}
    return ReadOut(**(kept | changes))


@pytest.mark.parametrize("method", ["logistic", "ridge", "means"])
def test_a_read_out_gives_the_probabilities_of_its_probe(method):
    acts, _ = planted()
    probe = fit_probes(acts, method=method, shuffles=0, folds=3).best
    x = acts.matrix(probe.layer)
    found = probe.read_out().probabilities(torch.tensor(x, dtype=torch.float32)).numpy()
    np.testing.assert_allclose(found, probe.predict_proba(x), **SUMMED)
    assert np.ptp(found, axis=0).min() > 0.1, "the readings must differ"
    gate = probe.gate("jazz", below=0.8, over=0.5)
    assert gate == Gate(probe.read_out(), "jazz", "below", 0.8, 0.5)
    assert probe.gate("jazz", above=0.2) == Gate(probe.read_out(), "jazz", "above", 0.2, 1.0)
    for thresholds in ({}, {"below": 0.5, "above": 0.5}):
        with pytest.raises(ProbeError, match="Give one of both"):
            probe.gate("jazz", **thresholds)


@pytest.mark.parametrize("method", ["logistic", "ridge", "means"])
def test_a_label_s_probability_gates_as_a_class_s_does(method):
    acts, held, _ = tagged()
    probe = fit_multilabel(acts, method=method, l2=[0.1], folds=3).best
    x = acts.matrix(probe.layer)
    read = probe.read_out().probabilities(torch.tensor(x, dtype=torch.float32))
    np.testing.assert_allclose(read.numpy(), probe.predict_proba(x), **SUMMED)
    assert (probe.predict(x) == (probe.predict_proba(x) > 0.5)).all()
    gate = probe.gate("live", below=0.5, over=0.25)
    assert gate == Gate(probe.read_out(), "live", "below", 0.5, 0.25)
    closed = held[:, probe.labels.index("live")]
    assert (gate.is_open(read).numpy() != closed).mean() > 0.8, "open where the label is not"
    assert (probe.gate("live", above=0.5).is_open(read).numpy() == closed).mean() > 0.8
    with pytest.raises(ProbeError, match="Give one of both"):
        probe.gate("live")
    with pytest.raises(SteeringError, match="the probe knows drums, guitar, live, voice"):
        probe.gate("blues", below=0.5)
    directions = {"guitar": probe.direction("guitar")}
    plan = directions["guitar"].at(0.5, gate=gate)
    assert f"gate(live@{probe.layer} < 0.5 over 0.25s)" in plan.text()
    for probes in ([probe], plan.read_outs):
        assert Steering.parse(plan.text(), directions, probes) == plan
        assert Steering.from_json(plan.to_json(), directions, probes) == plan


def test_a_ridge_label_s_probability_is_what_ridge_fits_to_0_and_1():
    acts, held, _ = tagged()
    labels = np.where(held[:, 2], "with", "without")
    one = fit_probes(replaced(acts, labels), method="ridge", l2=[0.1], shuffles=0, folds=3)[1]
    many = fit_multilabel(acts, method="ridge", l2=[0.1], folds=3, class_weights=None)[1]
    x = acts.matrix(1)
    np.testing.assert_allclose(many.predict_proba(x)[:, 2], one.predict_proba(x)[:, 0], **ROUNDED)


def replaced(acts, labels):
    return activations(np.stack([acts.matrix(layer) for layer in acts.layers], 1), labels, acts.groups)


def test_a_sigmoid_read_out_reads_each_class_against_its_absence():
    x = np.random.default_rng(1).standard_normal((5, 16)).astype(np.float32)
    found = reads(link="sigmoid").probabilities(torch.tensor(x)).numpy()
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-(x @ W.T + reads().bias))), **SUMMED)


def test_a_row_s_reading_does_not_depend_on_its_neighbours():
    """To the bit in any batch: each row is multiplied and summed by itself, in the order of its terms."""
    x = torch.randn(7, 16, generator=torch.Generator().manual_seed(0))
    together = reads().probabilities(x)
    assert all(torch.equal(together[i], reads().probabilities(x[i : i + 1])[0]) for i in range(7))


def test_a_gate_is_open_on_its_side_of_the_threshold():
    read = torch.tensor([[0.2, 0.5, 0.3], [0.6, 0.1, 0.3]])
    assert Gate(reads(), "a", "below", 0.4).is_open(read).tolist() == [True, False]
    assert Gate(reads(), "a", "above", 0.4).is_open(read).tolist() == [False, True]


def test_read_outs_are_equal_when_they_read_the_same():
    assert reads() == reads(target="another word")
    changed = {"weights": 2 * W, "bias": np.zeros(3), "layer": 1, "site": "embed", "link": "sigmoid"}
    for name, value in (changed | {"classes": ("a", "b", "d"), "model_id": "m"}).items():
        assert reads(**{name: value}) != reads(), name


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Gate(reads(), "d"), "the probe knows a, b, c"),
        (lambda: Gate(reads(), "a", "beside"), "the sides are below and above"),
        (lambda: Gate(reads(), "a", "below", 1.5), "a threshold is a probability"),
        (lambda: Gate(reads(), "a", "below", 0.5, -1), "averaged over"),
        (lambda: Gate(reads(), "a", "below", 0.5, float("inf")), "averaged over"),
        (lambda: reads(classes=("a", "b")), "the shape"),
        (lambda: reads(classes=("a", "b", "a")), "one name"),
        (lambda: reads(weights=W * np.nan), "not all finite"),
        (lambda: reads(link="exp"), "'exp' is none of"),
        (lambda: reads(layer=-1), "negative"),
    ],
)
def test_what_cannot_work_is_refused(make, says):
    with pytest.raises(SteeringError, match=says):
        make()
