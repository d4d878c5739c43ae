"""The two linear solvers, each for a whole list of strengths at once, and the way back to residual space.

A strength is the L2 penalty per sample on weights of standardised features, the same scale for both solvers:
ridge minimises |Z W - Y|^2 + strength n |W|^2 (Y one-hot), logistic minimises mean cross-entropy + strength/2
|W|^2 (scikit-learn's C is 1 / (strength n)). As the strength grows, both tend to the difference in means of
the standardised features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

Array = np.ndarray
Path = Callable[[Array, Array, Sequence[float]], list[tuple[Array, Array]]]
"""(z (n, d) standardised, y (n,) class numbers, strengths) -> (weights (k, d), bias (k,)) per strength."""


@dataclass(frozen=True, eq=False)
class Scaling:
    """Mean and standard deviation (d,) of the training samples; features that never vary have deviation 1."""

    mean: Array
    deviation: Array

    @classmethod
    def of(cls, x: Array) -> Scaling:
        """Return the scaling that standardises `x` (n, d)."""
        deviation = x.std(0, dtype=np.float64)
        # A constant feature's deviation is rounding noise, not 0; dividing by it would blow the noise up.
        constant = deviation <= 1e-6 * np.abs(x).max(0, initial=1e-30)
        return cls(x.mean(0, dtype=np.float64), np.where(constant, 1.0, deviation))

    def apply(self, x: Array) -> Array:
        """Return standardised features (n, d), float64."""
        return np.asarray((x - self.mean) / self.deviation)

    def fold_back(self, weights: Array, bias: Array) -> tuple[Array, Array]:
        """Return (weights, bias) that give on raw features the same logits: W / sigma, b - (W / sigma) mu."""
        raw = weights / self.deviation
        return raw, bias - raw @ self.mean


def one_hot(y: Array, classes: int) -> Array:
    """Return (n, classes) with a 1 in the column of each sample's class."""
    return np.asarray(np.eye(classes)[y])


def ridge_weights(z: Array, targets: Array, strengths: Sequence[float]) -> list[tuple[Array, Array]]:
    """Return per strength the ridge solution (weights (m, d), bias (m,)) for all m target columns at once.

    One Gram matrix, the smaller of Z'Z and ZZ', serves every strength; each costs one Cholesky factorisation,
    of which about thirty cost as much as the eigendecomposition that would serve all strengths at once.
    """
    from scipy.linalg import solve

    samples, features = z.shape
    centre = targets.mean(0)
    wanted = targets - centre
    wide = features > samples
    gram, seen = (z @ z.T, wanted) if wide else (z.T @ z, z.T @ wanted)
    diagonal = np.arange(len(gram))
    solutions = []
    for strength in strengths:
        penalised = gram.copy()
        penalised[diagonal, diagonal] += strength * samples
        found = solve(penalised, seen, assume_a="pos", overwrite_a=True, check_finite=False)
        solutions.append(((z.T @ found if wide else found).T, centre))
    return solutions


def ridge_path(z: Array, y: Array, strengths: Sequence[float]) -> list[tuple[Array, Array]]:
    """Return the ridge solutions on one-hot targets."""
    return ridge_weights(z, one_hot(y, int(y.max()) + 1), strengths)


def logistic_path(z: Array, y: Array, strengths: Sequence[float]) -> list[tuple[Array, Array]]:
    """Return the multinomial logistic solutions, each started from the one before (strong first)."""
    from sklearn.linear_model import LogisticRegression

    # The loss is convex, so the warm start changes the time it takes and not the answer (to the tolerance).
    solver = LogisticRegression(max_iter=2000, tol=1e-4, warm_start=True)
    solutions = []
    for strength in strengths:
        solver.set_params(C=1 / (strength * len(z))).fit(z, y)
        weights, bias = solver.coef_.copy(), solver.intercept_.copy()
        if len(weights) == 1:
            # Two classes: scikit-learn keeps one logit; half of it for each side has the same softmax.
            weights, bias = np.vstack([-weights, weights]) / 2, np.concatenate([-bias, bias]) / 2
        solutions.append((weights, bias))
    return solutions


def probabilities(logits: Array, method: str) -> Array:
    """Return P(class) (..., classes) from the logits of a solver.

    Logistic: the softmax of the logits. Ridge fits 0 and 1 directly (a linear probability model), so its
    logits are cut to 0-1 and made to sum to 1; where all are cut to 0 the classes are equally likely.
    """
    if method == "ridge":
        shares = np.clip(logits, 0, 1)
        shares = np.where(shares.sum(-1, keepdims=True) > 0, shares, 1.0)
    else:
        shares = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(shares / shares.sum(-1, keepdims=True))


PATHS: dict[str, Path] = {"logistic": logistic_path, "ridge": ridge_path}
STRENGTHS: dict[str, tuple[float, ...]] = {
    "logistic": (1.0, 0.1, 0.01, 0.001),
    "ridge": (10.0, 1.0, 0.1, 0.01),
}
"""What is tried when no strengths are given, strong first."""
