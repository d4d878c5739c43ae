"""From the ridge probe to the difference in means, and the difference in means as a probe."""

from __future__ import annotations

import math

import numpy as np
import pytest
from planted import activations
from probing_samples import uneven
from tolerances import ROUNDED, SUMMED

from workbench.errors import ProbeError, SteeringError
from workbench.probing import fit_probes, regularization_path
from workbench.probing.solvers import Design, Scaling, means_path, one_hot, probabilities, ridge_path
from workbench.steering import difference_in_means


def cosine(one: np.ndarray, two: np.ndarray) -> float:
    return float(one @ two / np.linalg.norm(one) / np.linalg.norm(two))


@pytest.mark.parametrize("wide", [False, True])
def test_a_huge_l2_turns_ridge_into_the_difference_in_means(wide):
    acts = uneven()
    kept = np.arange(0, 240, 11) if wide else np.arange(240)  # 22 samples of 24 features
    x, labels = acts.matrix(0).astype(float)[kept], acts.labels()[kept]
    y = np.unique(labels, return_inverse=True)[1]
    scaling = Scaling.of(x)
    z = scaling.apply(x)
    (huge, _), (small, _) = ridge_path(Design.of(x), one_hot(y, 3), [1e6, 1e-2])
    for number in range(3):
        difference = z[y == number].mean(0) - z[y != number].mean(0)
        assert cosine(huge[number] * scaling.deviation, difference) > 0.999
        assert cosine(small[number] * scaling.deviation, difference) < 0.9


@pytest.mark.parametrize("wide", [False, True])
def test_few_strengths_and_many_give_the_same_ridge(wide):
    x, y = uneven().matrix(0).astype(float), np.arange(240) % 3
    x, y = (x[:20], y[:20]) if wide else (x, y)
    counts = np.where(y == 0, 4.0, 1.0)
    few = ridge_path(Design.of(x, counts), one_hot(y, 3), [1.0, 0.1])
    many = ridge_path(Design.of(x, counts), one_hot(y, 3), [1.0, 0.1, *np.arange(2.0, 10.0)])
    for one, two in zip(few, many, strict=False):
        np.testing.assert_allclose(one[0], two[0], **ROUNDED)
        np.testing.assert_allclose(one[1], two[1], **ROUNDED)


def test_the_trail_is_the_ridge_probes_directions_from_one_decomposition(monkeypatch):
    acts = uneven()
    strengths = [0.01, 1.0, 100.0]
    expected = [fit_probes(acts, method="ridge", l2=[one], shuffles=0)[0] for one in strengths]
    counted, decompose = [], np.linalg.eigh
    monkeypatch.setattr(np.linalg, "eigh", lambda gram: counted.append(1) or decompose(gram))
    path = regularization_path(acts, 0, "jazz", [*strengths, 1e9, math.inf])
    assert len(counted) == 1
    for probe, found in zip(expected, path, strict=False):
        wanted = probe.direction("jazz")
        np.testing.assert_allclose(found.vector, wanted.vector, **SUMMED)
        assert np.isclose(found.centre, wanted.centre, **SUMMED)
        assert (found.layer, found.name, found.residual_norm) == (0, "jazz", 10.0)
        assert found.origin["strength"] == f"{probe.l2:g}"
    *_, huge, endless = path
    assert huge.cosine(endless) > 0.9999
    assert "difference in means" in endless.origin["method"]
    # A strength counts per sample: the same path from the same music heard twice.
    twice = activations(
        np.vstack([acts.matrix(0)] * 2)[:, None], np.tile(acts.labels(), 2), np.tile(acts.groups, 2)
    )
    assert regularization_path(twice, 0, "jazz", [1.0])[0].cosine(path[1]) > 0.99999


def test_trails_that_do_not_exist_are_refused():
    acts = uneven()
    with pytest.raises(ProbeError, match=r"'blues'.*classical, jazz, rock"):
        regularization_path(acts, 0, "blues", [1.0])
    for strengths in ([], [0.0], [math.nan]):
        with pytest.raises(ProbeError, match="number above 0"):
            regularization_path(acts, 0, "jazz", strengths)


def test_the_probe_of_means_points_along_the_difference_in_means():
    acts = uneven()
    probe = fit_probes(acts, method="means", shuffles=0)[0]
    for class_ in probe.classes:
        wanted = difference_in_means(acts, class_, layer=0)
        assert probe.direction(class_).cosine(wanted) > 0.999999
        assert np.isclose(probe.direction(class_).centre, wanted.centre, **SUMMED)
    assert math.isnan(probe.l2)
    balanced = fit_probes(acts.subset(np.arange(200)), method="means", shuffles=0, class_weights="balanced")[
        0
    ]
    x, labels = acts.matrix(0)[:200].astype(float), acts.labels()[:200]
    means = np.stack([x[labels == class_].mean(0) for class_ in probe.classes])
    for number, class_ in enumerate(probe.classes):
        others = np.delete(means, number, 0).mean(0)
        assert cosine(balanced.direction(class_).vector, means[number] - others) > 0.999999


def test_the_logits_of_means_are_true_for_round_classes_of_one_size():
    rng = np.random.default_rng(0)
    share, centres = np.array([0.5, 0.3, 0.2]), 2 * rng.standard_normal((3, 4)) + 7
    y = rng.choice(3, 20_000, p=share)
    x = centres[y] + 1.5 * rng.standard_normal((20_000, 4))
    ((weights, bias),) = means_path(Design.of(x), one_hot(y, 3), [math.nan])
    density = share * np.exp(-((x[:, None] - centres) ** 2).sum(2) / (2 * 1.5**2))
    truth = density / density.sum(1, keepdims=True)
    found = probabilities(x @ weights.T + bias, "softmax")
    assert np.abs(found - truth).mean() < 0.01
    assert np.abs(found - truth).max() < 0.1


def test_a_class_without_a_difference_has_no_direction():
    x = np.tile(np.random.default_rng(0).standard_normal((6, 1, 5)), (2, 1, 1))
    labels, groups = np.repeat(["a", "b"], 6), np.arange(12).astype(str)
    probe = fit_probes(activations(x, labels, groups), method="means", folds=2, shuffles=0)[0]
    assert np.isfinite(probe.logits(x[:, 0])).all()
    with pytest.raises(SteeringError, match="length is 0"):
        probe.direction("a")
