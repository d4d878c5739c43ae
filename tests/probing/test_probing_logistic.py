"""The logistic solver: scikit-learn's objective to its optimum, in few steps."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression

from workbench.errors import ProbeError
from workbench.probing import solvers as logistic
from workbench.probing.solvers import PROBE_METHODS, Design, Scaling, logistic_path, one_hot

SHAPES = [(60, 90), (150, 20)]  # more features than samples, and fewer


def correlated(samples: int, features: int, classes: int, seed: int = 0):
    """Return (x, y): features whose principal axes differ a hundredfold in size, classes that overlap."""
    rng = np.random.default_rng(seed)
    y = np.arange(samples) % classes
    latent = rng.standard_normal((samples, features)) + 0.8 * rng.standard_normal((classes, features))[y]
    return (latent * np.arange(1, features + 1) ** -1.0) @ rng.standard_normal((features, features)) + 3, y


def objective(x, y, weights, bias, counts, strength):
    """Return mean cross-entropy + strength/2 |W|^2 by the textbook; W in standardised features."""
    classes = len(weights)
    terms = -(one_hot(y, classes) * log_softmax(x @ weights.T + bias, axis=1)).sum(1)
    scaled = weights * Scaling.of(x).deviation
    penalty = (scaled[1] - scaled[0]) ** 2 if classes == 2 else scaled**2
    return counts @ terms / counts.sum() + strength / 2 * penalty.sum()


@pytest.mark.parametrize(("samples", "features"), SHAPES)
@pytest.mark.parametrize("classes", [2, 3, 6])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_optimum_is_scikit_learns(samples, features, classes, weighted):
    x, y = correlated(samples, features, classes)
    counts = np.where(y == 0, 3.0, 1.0) if weighted else np.ones(samples)
    z = Scaling.of(x).apply(x)
    strengths = PROBE_METHODS["logistic"].l2
    path = logistic_path(Design.of(x, counts), one_hot(y, classes), strengths)
    for strength, (weights, bias) in zip(strengths, path, strict=True):
        solver = LogisticRegression(C=1 / (strength * counts.sum()), tol=1e-10, max_iter=100_000)
        solver.fit(z, y, sample_weight=counts)
        best, best_bias = Scaling.of(x).fold_back(solver.coef_, solver.intercept_)
        if classes == 2:
            best, best_bias = np.vstack([-best, best]) / 2, np.append(-best_bias, best_bias) / 2
        reached = objective(x, y, weights, bias, counts, strength)
        assert reached <= objective(x, y, best, best_bias, counts, strength) * (1 + 1e-5)
        scale = Scaling.of(x).deviation
        away = np.linalg.norm((weights - best) * scale) / np.linalg.norm(best * scale)
        assert away < 1e-3, strength
        shares = np.abs(softmax(x @ weights.T + bias, axis=1) - softmax(x @ best.T + best_bias, axis=1))
        assert shares.max() < 2e-3


def test_the_way_along_the_path_does_not_change_where_it_ends():
    x, y = correlated(60, 90, 3)
    design, truth = Design.of(x), one_hot(y, 3)
    weak = logistic_path(design, truth, [1.0, 0.1, 0.01])[-1][0]
    ((alone, _),) = logistic_path(design, truth, [0.01])
    assert np.linalg.norm(weak - alone) < 2e-3 * np.linalg.norm(alone)


@pytest.mark.parametrize(("samples", "features"), SHAPES)
def test_it_takes_fewer_steps_than_scikit_learn(monkeypatch, samples, features):
    x, y = correlated(samples, features, 4)
    counted, gradient = [], logistic._Problem.gradient
    monkeypatch.setattr(logistic._Problem, "gradient", lambda *args: counted.append(1) or gradient(*args))
    strengths = (0.1, 0.01)
    logistic_path(Design.of(x), one_hot(y, 4), strengths)
    z = Scaling.of(x).apply(x)
    solvers = [LogisticRegression(C=1 / (one * samples), tol=1e-4, max_iter=9999) for one in strengths]
    assert len(counted) < 0.7 * sum(int(solver.fit(z, y).n_iter_[0]) for solver in solvers)


def test_an_optimum_that_is_not_reached_is_told(monkeypatch):
    monkeypatch.setattr(logistic, "_STEPS", 3)
    x, y = correlated(60, 90, 3)
    with pytest.raises(ProbeError, match=r"l2=0\.001.*did not settle in 3 steps"):
        logistic_path(Design.of(x), one_hot(y, 3), [0.001])


def test_samples_told_apart_with_hardly_a_penalty_still_settle():
    x, y = correlated(40, 90, 2)
    ((weights, bias),) = logistic_path(Design.of(x), one_hot(y, 2), [1e-7])
    assert ((x @ weights.T + bias).argmax(1) == y).all()


def test_choosing_among_strengths_takes_fewer_steps_and_reads_the_same(monkeypatch):
    x, y = correlated(60, 90, 4)
    design, truth, strengths = Design.of(x), one_hot(y, 4), PROBE_METHODS["logistic"].l2
    counted, gradient = [], logistic._Problem.gradient
    monkeypatch.setattr(logistic._Problem, "gradient", lambda *args: counted.append(1) or gradient(*args))
    near = PROBE_METHODS["logistic"].fit_roughly(design, truth, strengths)
    steps = len(counted)
    exact = logistic_path(design, truth, strengths)
    assert steps < 0.9 * (len(counted) - steps)
    for one, two in zip(near, exact, strict=True):
        shares = [softmax(x @ weights.T + bias, axis=1) for weights, bias in (one, two)]
        assert np.abs(shares[0] - shares[1]).max() < 0.01
