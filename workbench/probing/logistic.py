"""Multinomial logistic regression for samples on their principal axes, for a whole list of strengths.

It minimises mean cross-entropy + strength/2 |W|^2, the bias free: the objective of scikit-learn, to its
optimum. What makes it quick are the axes: with c the mean of p (1 - p), the Hessian is near c spread / n +
strength, a diagonal. L-BFGS that starts from this diagonal instead of from a multiple of 1 needs 5 to 40
steps where features are correlated, at two small products each; looking along a line costs no product.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from workbench.errors import ProbeError

Array = np.ndarray
EXACT, NEAR = (
    4e-9,
    1e-7,
)  # what of the objective may be left to win: for a probe, for choosing among strengths
_STEPS, _MEMORY = 2000, 10


@dataclass(frozen=True, eq=False)
class _State:
    """Where the descent stands: `theta` (r + 1, k), the last row the bias, and its logits (n, k)."""

    theta: Array
    logits: Array


@dataclass(frozen=True, eq=False)
class _Problem:
    z: Array
    truth: Array
    counts: Array
    spread: Array
    strength: float

    def gradient(self, theta: Array, shares: Array) -> Array:
        """Return the gradient (r + 1, k) where the classes have the given probabilities (n, k)."""
        residual = (shares - self.truth) * (self.counts / len(self.z))[:, None]
        return np.vstack([self.z.T @ residual + self.strength * theta[:-1], residual.sum(0)])

    def diagonal(self, shares: Array) -> Array:
        """Return about how steep the objective is (r + 1, 1) along each axis, for the given probabilities."""
        classes = shares.shape[1]
        bend = float((self.counts @ (shares * (1 - shares))).sum()) / len(self.z) / max(classes - 1, 1)
        bend = max(bend, 1e-6)
        return np.append(bend * self.spread / len(self.z) + self.strength, bend)[:, None]

    def stride(self, state: _State, step: Array, change: Array, slope: float) -> float:
        """Return how far to go along `step`, whose logits are `change`; `slope` is the slope at 0, negative.

        Newton's method on the line, kept between the last points on either side of the minimum, until the
        slope is less than a third. The objective is convex, so this ends.
        """
        weighted = change * (self.counts / len(self.z))[:, None]
        wanted = float(np.vdot(self.truth, weighted))
        pull = self.strength * float(np.vdot(state.theta[:-1], step[:-1]))
        bend = self.strength * float(np.vdot(step[:-1], step[:-1]))
        low, high, at = 0.0, np.inf, 1.0
        for _ in range(50):
            leaning = softmax(state.logits + at * change) * weighted
            found = float(leaning.sum()) - wanted + pull + at * bend
            if abs(found) <= 0.3 * abs(slope):
                break
            low, high = (at, high) if found < 0 else (low, at)
            mean = leaning.sum(1) ** 2 / np.maximum(self.counts / len(self.z), 1e-300)
            steep = float(np.vdot(leaning, change)) - float(mean.sum()) + bend
            at -= found / max(steep, 1e-300)
            if not low < at < high:
                at = 2 * low if np.isinf(high) else (low + high) / 2
        return at


def logistic_weights(
    z: Array, truth: Array, counts: Array, strengths: Sequence[float], *, tolerance: float = EXACT
) -> list[tuple[Array, Array]]:
    """Return (weights (r, k), bias (k,)) per strength, each started from the one before (strong first).

    z       (n, r) samples on their principal axes, weighted mean 0
    truth   (n, k) one-hot, every class present
    counts  (n,) what each sample counts for, mean 1

    Raises ProbeError where a strength is so weak that the optimum is not reached.
    """
    spread = counts @ z**2
    state = _State(np.zeros((z.shape[1] + 1, truth.shape[1])), np.zeros(truth.shape))
    found = []
    for strength in strengths:
        state = _descend(_Problem(z, truth, counts, spread, strength), state, tolerance)
        found.append((state.theta[:-1], state.theta[-1]))
    return found


def _descend(problem: _Problem, state: _State, tolerance: float) -> _State:
    """Return the optimum, looked for from `state` by L-BFGS."""
    shares = softmax(state.logits)
    diagonal = problem.diagonal(shares)
    gradient = problem.gradient(state.theta, shares)
    past: list[tuple[Array, Array, float]] = []
    # A strong penalty holds the weights: for equally exact ones less of the objective has to be won.
    hold = np.clip(np.sqrt(problem.strength / 1e-3), 1.0, 30.0)
    enough = tolerance * hold * np.log(problem.truth.shape[1])
    for count in range(_STEPS):
        step = _direction(gradient, diagonal, past)
        slope = float(np.vdot(gradient, step))
        # Half the slope is what the step would gain if the curvature were right: what is left to gain.
        if -slope / 2 <= enough:
            return state
        change = problem.z @ step[:-1] + step[-1]
        stride = problem.stride(state, step, change, slope)
        step = stride * step
        state = _State(state.theta + step, state.logits + stride * change)
        shares = softmax(state.logits)
        before, gradient = gradient, problem.gradient(state.theta, shares)
        turn = gradient - before
        past = [*past, (step, turn, 1 / float(np.vdot(step, turn)))][-_MEMORY:]
        # As samples are told apart p (1 - p) falls; a few looks at it are enough.
        if count in (2, 4, 8, 16, 32, 64):
            diagonal = problem.diagonal(shares)
    raise ProbeError(
        f"A logistic probe of strength {problem.strength:g} was asked for",
        f"it did not settle in {_STEPS} steps: the penalty hardly holds the weights",
        "Use a larger strength, such as 0.001",
    )


def _direction(gradient: Array, diagonal: Array, past: list[tuple[Array, Array, float]]) -> Array:
    """Return the L-BFGS step (Nocedal and Wright, algorithm 7.4) with a given diagonal to start from."""
    rest, sizes = gradient.copy(), []
    for step, turn, scale in reversed(past):
        sizes.append(scale * float(np.vdot(step, rest)))
        rest -= sizes[-1] * turn
    rest /= diagonal
    for (step, turn, scale), size in zip(past, reversed(sizes), strict=True):
        rest += (size - scale * float(np.vdot(turn, rest))) * step
    return -rest


def softmax(logits: Array) -> Array:
    """Return the probabilities (n, k) of logits (n, k)."""
    shares = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(shares / shares.sum(1, keepdims=True))
