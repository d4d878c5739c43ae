"""The linear solvers, each for a whole list of strengths at once, and the way back to residual space.

A strength is the L2 penalty per sample on weights of standardised features, the same scale for both solvers:
ridge minimises |Z W - Y|^2 + strength n |W|^2 (Y one-hot), logistic minimises mean cross-entropy + strength/2
|W|^2 (scikit-learn's C is 1 / (strength n)). As the strength grows, both tend to the difference in means of
the standardised features. The difference in means itself is taken in raw space and has no strength.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from workbench.probing.logistic import EXACT, NEAR, logistic_weights

Array = np.ndarray


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


@dataclass(frozen=True, eq=False)
class Axes:
    """Samples on the principal axes of their standardised features, where Z'Z is diagonal.

    z       (n, r) samples on these axes, weighted mean 0
    spread  (r,) sum of squares along each axis, weighted
    """

    z: Array
    spread: Array


@dataclass(frozen=True, eq=False)
class Design:
    """Training samples as solvers need them; what is costly is made once, when it is first asked for.

    scaling  of the raw features
    centre   (d,) weighted mean of the standardised features
    z        (n, d) standardised features, weighted mean 0
    counts   (n,) what each sample counts for, mean 1
    """

    scaling: Scaling
    centre: Array
    z: Array
    counts: Array

    @classmethod
    def of(cls, x: Array, counts: Array | None = None) -> Design:
        """Return the design of raw features `x` (n, d); `counts` (n,) weigh samples, all above 0."""
        scaling = Scaling.of(x)
        counts = np.ones(len(x)) if counts is None else counts / counts.mean()
        z = scaling.apply(x)
        centre = counts @ z / len(z)
        return cls(scaling, centre, z - centre, counts)

    @cached_property
    def root(self) -> Array:
        """The square roots (n, 1) of what samples count for."""
        return np.asarray(np.sqrt(self.counts)[:, None])

    @cached_property
    def gram(self) -> Array:
        """The smaller of Z'Z and ZZ', weighted."""
        z = self.z * self.root
        return np.asarray(z @ z.T if self.wide else z.T @ z)

    @property
    def wide(self) -> bool:
        """Whether there are more features than samples."""
        return bool(self.z.shape[1] > self.z.shape[0])

    @cached_property
    def axes(self) -> Axes:
        """The samples on their principal axes: one decomposition solves ridge for all strengths."""
        spread, vectors = np.linalg.eigh(self.gram)
        # Axes along which nothing varies but rounding noise cannot be read from, and would be divided by.
        kept = spread > 1e-12 * max(float(spread[-1]), 1e-30)
        spread, vectors = spread[kept], vectors[:, kept]
        return Axes(vectors * np.sqrt(spread) / self.root if self.wide else self.z @ vectors, spread)

    def turn_back(self, turned: Array, bias: Array) -> tuple[Array, Array]:
        """Return raw (weights (m, d), bias (m,)) of weights `turned` (r, m) on the axes."""
        # The axes themselves are Z' counts z / spread; they need not be made for a few columns.
        along = self.axes.z @ (turned / self.axes.spread[:, None])
        return self.fold_back((self.counts[:, None] * along).T @ self.z, bias)

    def fold_back(self, weights: Array, bias: Array) -> tuple[Array, Array]:
        """Return raw (weights (m, d), bias (m,)) of weights (m, d) on the rows of `z`."""
        return self.scaling.fold_back(weights, bias - weights @ self.centre)


Path = Callable[[Design, Array, Sequence[float]], list[tuple[Array, Array]]]
"""(design, truth (n, k) one-hot, strengths) -> raw (weights (k, d), bias (k,)) per strength."""


def one_hot(y: Array, classes: int) -> Array:
    """Return (n, classes) with a 1 in the column of each sample's class."""
    return np.asarray(np.eye(classes)[y])


def ridge_path(design: Design, truth: Array, strengths: Sequence[float]) -> list[tuple[Array, Array]]:
    """Return the ridge solutions for all columns of `truth` (n, m), which may be any numbers.

    The principal axes serve every strength. Where they are not known yet, a factorisation for each of a few
    strengths is quicker: a dozen of these cost as much as the axes do.
    """
    centre = design.counts @ truth / len(truth)
    wanted = design.root * (truth - centre)
    penalties = [strength * len(truth) for strength in strengths]
    if "axes" in vars(design) or len(strengths) > 8:
        axes = design.axes
        seen = axes.z.T @ (design.root * wanted)
        return [design.turn_back(seen / (axes.spread + one)[:, None], centre) for one in penalties]
    z = design.z * design.root
    seen = wanted if design.wide else z.T @ wanted
    found = [_solve(design.gram, one, seen) for one in penalties]
    return [design.fold_back((z.T @ one if design.wide else one).T, centre) for one in found]


def _solve(gram: Array, penalty: float, seen: Array) -> Array:
    """Return (gram + penalty 1)^-1 seen."""
    from scipy.linalg import solve

    penalised = gram.copy()
    penalised[np.diag_indices_from(penalised)] += penalty
    return np.asarray(solve(penalised, seen, assume_a="pos", overwrite_a=True, check_finite=False))


def logistic_path(
    design: Design,
    truth: Array,
    strengths: Sequence[float],
    *,
    counts: Array | None = None,
    tolerance: float = EXACT,
) -> list[tuple[Array, Array]]:
    """Return the multinomial logistic solutions; those of two classes are scikit-learn's binary ones.

    `counts` (n,) may replace those of the design, whose axes then are a guess of the curvature, which costs
    steps but does not change the optimum.
    """
    # Two classes: scikit-learn penalises one weight w; here -w/2 and w/2 say the same at half the |W|^2.
    factor = 2.0 if truth.shape[1] == 2 else 1.0
    counts = design.counts if counts is None else counts
    penalties = [factor * one for one in strengths]
    found = logistic_weights(design.axes.z, truth, counts, penalties, tolerance=tolerance)
    return [design.turn_back(turned, bias) for turned, bias in found]


def means_path(design: Design, truth: Array, strengths: Sequence[float]) -> list[tuple[Array, Array]]:
    """Return, per strength (all the same), weights along the raw difference in means.

    The nearest class mean, as logits: (mu_c - mu) x / s^2 - |mu_c - mu|^2 / 2 s^2 + log P(c), with x counted
    from mu. mu_c - mu has the direction of mu_c minus the mean of the rest. These are the true logits for
    Gaussian classes of one variance s^2 in all directions; s^2 is measured along the differences themselves.
    With few samples for many features the differences are partly noise, and the logits too sure.
    """
    deviation = design.scaling.deviation
    share = design.counts @ truth / len(truth)
    means = (truth * design.counts[:, None]).T @ design.z / (len(truth) * share)[:, None]
    offsets = means * deviation
    along = (design.z - truth @ means) @ (deviation * offsets).T
    size = float((offsets**2).sum())
    variance = float(design.counts @ (along**2).sum(1)) / len(truth) / max(size, 1e-30)
    variance = max(variance, 1e-12 * size, 1e-30)
    weights = offsets / variance
    raw_mean = design.scaling.mean + deviation * design.centre
    bias = np.log(share) - (offsets**2).sum(1) / (2 * variance) - weights @ raw_mean
    return [(weights, bias)] * len(strengths)


def probabilities(logits: Array, method: str) -> Array:
    """Return P(class) (..., classes) from the logits of a solver.

    Logistic, means: the softmax of the logits. Ridge fits 0 and 1 directly (a linear probability model), so
    its logits are cut to 0-1 and made to sum to 1; where all are cut to 0 the classes are equally likely.
    """
    if method == "ridge":
        shares = np.clip(logits, 0, 1)
        shares = np.where(shares.sum(-1, keepdims=True) > 0, shares, 1.0)
    else:
        shares = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(shares / shares.sum(-1, keepdims=True))


PATHS: dict[str, Path] = {"logistic": logistic_path, "ridge": ridge_path, "means": means_path}
CHOOSING: dict[str, Path] = PATHS | {"logistic": partial(logistic_path, tolerance=NEAR)}
"""The same, as near to the optimum as choosing among strengths needs."""
STRENGTHS: dict[str, tuple[float, ...]] = {
    "logistic": (1.0, 0.1, 0.01, 0.001),
    "ridge": (10.0, 1.0, 0.1, 0.01),
    "means": (float("nan"),),
}
"""What is tried when no strengths are given, strong first; the difference in means has none."""
