"""The linear solvers, each for a whole list of penalties at once, and the methods that one asks for by name.

Wherever a method is asked for by its name, a `ProbeMethod` is accepted, and so is a plain function. A probe
loads and reads without the method that fitted it. CONTRIBUTING.md has a worked example.

A penalty `l2` counts per sample, on weights of standardised features, the same scale for both solvers:
ridge minimises |Z W - Y|^2 + l2 n |W|^2 (Y one-hot), logistic minimises mean cross-entropy + l2/2 |W|^2, the
bias free (scikit-learn's C is 1 / (l2 n)). As l2 grows, both tend to the difference in means of the
standardised features. The difference in means itself is taken in raw space and has no penalty.

On the principal axes of the samples the Hessian of the logistic solver is near c spread / n + l2, a diagonal
(c: mean of p (1 - p)), and L-BFGS that starts from it needs 5 to 40 steps of two products.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import NamedTuple

import numpy as np
from scipy.linalg import solve
from scipy.special import expit, softmax

from workbench.activations import Activations
from workbench.errors import ProbeError, is_text, renamed_keywords
from workbench.steering import Direction

Array = np.ndarray
EXACT, NEAR = 4e-9, 1e-7
"""What of the objective may be left to win: for a probe, and for choosing among penalties."""
_STEPS, _MEMORY = 2000, 10


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


class Axes(NamedTuple):
    """Samples `z` (n, r) on the principal axes of their features, with the sum of squares `spread` (r,)."""

    z: Array
    spread: Array


@dataclass(frozen=True, eq=False)
class Design:
    """Training samples as solvers need them; what is costly is made once, when it is first asked for."""

    x: Array  # raw features (n, d)
    scaling: Scaling
    centre: Array  # weighted mean of the standardised features (d,)
    z: Array  # standardised features (n, d), weighted mean 0
    counts: Array  # what each sample counts for (n,), mean 1

    @classmethod
    def of(cls, x: Array, counts: Array | None = None) -> Design:
        """Return the design of raw features `x` (n, d); `counts` (n,) weigh samples, all above 0."""
        scaling = Scaling.of(x)
        counts = np.ones(len(x)) if counts is None else counts / counts.mean()
        z = scaling.apply(x)
        centre = counts @ z / len(z)
        return cls(x, scaling, centre, z - centre, counts)

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
        """The samples on their principal axes: one decomposition solves ridge for all penalties."""
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


def one_hot(y: Array, classes: int) -> Array:
    """Return (n, classes) with a 1 in the column of each sample's class."""
    return np.asarray(np.eye(classes)[y])


def ridge_path(design: Design, truth: Array, l2: Sequence[float]) -> list[tuple[Array, Array]]:
    """Return the ridge solutions for all columns of `truth` (n, m), which may be any numbers."""
    centre = design.counts @ truth / len(truth)
    wanted = design.root * (truth - centre)
    penalties = [one * len(truth) for one in l2]
    # The principal axes serve every penalty, and cost as much as a dozen factorisations.
    if "axes" in vars(design) or len(l2) > 8:
        axes = design.axes
        seen = axes.z.T @ (design.root * wanted)
        return [design.turn_back(seen / (axes.spread + one)[:, None], centre) for one in penalties]
    z = design.z * design.root
    seen = wanted if design.wide else z.T @ wanted
    path = []
    for penalty in penalties:
        gram = design.gram.copy()
        gram[np.diag_indices_from(gram)] += penalty
        weights = solve(gram, seen, assume_a="pos", overwrite_a=True, check_finite=False)
        path.append(design.fold_back((z.T @ weights if design.wide else weights).T, centre))
    return path


def means_path(design: Design, truth: Array, l2: Sequence[float]) -> list[tuple[Array, Array]]:
    """Return, per penalty (all the same), weights along the raw difference in means.

    The nearest class mean, as logits: (mu_c - mu) x / s^2 - |mu_c - mu|^2 / 2 s^2 + log P(c), with x counted
    from mu. These are the true logits for Gaussian classes of one variance s^2 in all directions; s^2 is
    measured along the differences. With few samples for many features the logits are too sure.
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
    return [(weights, bias)] * len(l2)


def logistic_path(
    design: Design,
    truth: Array,
    l2: Sequence[float],
    *,
    counts: Array | None = None,
    tolerance: float = EXACT,
) -> list[tuple[Array, Array]]:
    """Return the multinomial logistic solutions; those of two classes are scikit-learn's binary ones.

    The truth is one-hot (n, k), with every class. Penalties come strong first: each descent starts from the
    optimum of the one before. Other counts (n,) than the design's cost more steps. The tolerance is what of
    the objective may be left to win. ProbeError where a penalty is too weak for the optimum to be reached.
    """
    # Two classes: scikit-learn penalises one weight w; here -w/2 and w/2 say the same at half the |W|^2.
    factor = 2.0 if truth.shape[1] == 2 else 1.0
    z, counts = design.axes.z, design.counts if counts is None else counts
    spread = counts @ z**2
    state = _State(np.zeros((z.shape[1] + 1, truth.shape[1])), np.zeros(truth.shape))
    path = []
    for penalty in l2:
        state = _descend(_Problem(z, truth, counts, spread, factor * penalty), state, tolerance)
        path.append(design.turn_back(state.theta[:-1], state.theta[-1]))
    return path


class _State(NamedTuple):
    """Where the descent stands: `theta` (r + 1, k), the last row the bias, and its logits (n, k)."""

    theta: Array
    logits: Array


@dataclass(frozen=True, eq=False)
class _Problem:
    z: Array
    truth: Array
    counts: Array
    spread: Array
    l2: float

    def gradient(self, theta: Array, shares: Array) -> Array:
        """Return the gradient (r + 1, k) where the classes have the given probabilities (n, k)."""
        residual = (shares - self.truth) * (self.counts / len(self.z))[:, None]
        return np.vstack([self.z.T @ residual + self.l2 * theta[:-1], residual.sum(0)])

    def diagonal(self, shares: Array) -> Array:
        """Return about how steep the objective is (r + 1, 1) along each axis, for the given probabilities."""
        classes = shares.shape[1]
        bend = float((self.counts @ (shares * (1 - shares))).sum()) / len(self.z) / max(classes - 1, 1)
        bend = max(bend, 1e-6)
        return np.append(bend * self.spread / len(self.z) + self.l2, bend)[:, None]

    def stride(self, state: _State, step: Array, change: Array, slope: float) -> float:
        """Return how far to go along `step`, whose logits are `change`; `slope` is that at 0, negative."""
        # Newton's method on the line, between the last points on either side of the minimum.
        weighted = change * (self.counts / len(self.z))[:, None]
        wanted = float(np.vdot(self.truth, weighted))
        pull = self.l2 * float(np.vdot(state.theta[:-1], step[:-1]))
        bend = self.l2 * float(np.vdot(step[:-1], step[:-1]))
        low, high, at = 0.0, np.inf, 1.0
        for _ in range(50):
            leaning = softmax(state.logits + at * change, axis=1) * weighted
            rise = float(leaning.sum()) - wanted + pull + at * bend
            if abs(rise) <= 0.3 * abs(slope):
                break
            low, high = (at, high) if rise < 0 else (low, at)
            mean = leaning.sum(1) ** 2 / np.maximum(self.counts / len(self.z), 1e-300)
            steep = float(np.vdot(leaning, change)) - float(mean.sum()) + bend
            at -= rise / max(steep, 1e-300)
            if not low < at < high:
                at = 2 * low if np.isinf(high) else (low + high) / 2
        return at


def _descend(problem: _Problem, state: _State, tolerance: float) -> _State:
    """Return the optimum, looked for from `state` by L-BFGS."""
    shares = softmax(state.logits, axis=1)
    diagonal = problem.diagonal(shares)
    gradient = problem.gradient(state.theta, shares)
    past: list[tuple[Array, Array, float]] = []
    # A strong penalty confines the weights: for equally exact ones less of the objective has to be won.
    hold = np.clip(np.sqrt(problem.l2 / 1e-3), 1.0, 30.0)
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
        shares = softmax(state.logits, axis=1)
        before, gradient = gradient, problem.gradient(state.theta, shares)
        turn = gradient - before
        past = [*past, (step, turn, 1 / float(np.vdot(step, turn)))][-_MEMORY:]
        # As samples are told apart p (1 - p) falls; a few looks at it are enough.
        if count in (2, 4, 8, 16, 32, 64):
            diagonal = problem.diagonal(shares)
    found = f"it did not settle in {_STEPS} steps: the penalty hardly confines the weights"
    asked = f"A logistic probe with l2={problem.l2:g} was asked for"
    raise ProbeError(asked, found, "Use a larger l2, such as 0.001")


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


Path = Callable[[Design, Array, Sequence[float]], Sequence[tuple[Array, Array]]]
"""(design, truth (n, classes) one-hot, l2) -> raw (weights (classes, d), bias (classes,)) per l2."""
PlainFit = Callable[[Array, Array, int], tuple[Array, Array]]
"""(x (n, d), y (n,) class numbers, number of classes) -> raw (weights (classes, d), bias (classes,))."""
LINKS = ("softmax", "shares", "sigmoid")


def check_l2(l2: Sequence[float]) -> None:
    """Raise ProbeError unless there is at least one penalty and all are finite and above 0."""
    for one in list(l2) or [math.nan]:
        ProbeError.number(one, "A probe with an l2 of", above=0)


@dataclass(frozen=True)
class ProbeMethod:
    """A way to fit a linear probe.

    `fit(design, truth, l2)` returns one pair (weights (classes, d), bias (classes,)) per value of `l2`, for
    raw features. The design has the training samples as `x` (n, d), standardised as `z`, and what each of
    them counts for as `counts` (n,); truth (n, classes) is one-hot. ProbeError where the name is no text,
    `fit` is no function, the link is unknown, or an l2 is not above 0.

    >>> ProbeMethod("zeros", lambda design, truth, l2: [(0 * truth.T @ design.x, truth.mean(0))]).link
    'softmax'
    """

    name: str  # what probes, tables and files call it
    fit: Path
    link: str = "softmax"  # how logits become probabilities, one of `LINKS` (`probabilities`)
    l2: tuple[float, ...] = ()  # to choose from where none are given; () for a method without: it gets NaN
    fit_roughly: Path | None = None  # `fit` as near to its optimum as the choice of l2 needs; None: `fit`

    def __post_init__(self) -> None:
        if not (is_text(self.name) and self.name and callable(self.fit) and self.link in LINKS):
            found = f"its name is {self.name!r}, its fit {self.fit!r:.60}, its link {self.link!r}"
            do = f"Give text, a function and one of {', '.join(LINKS)}"
            raise ProbeError("A probe method was asked for", found, do)
        object.__setattr__(self, "l2", tuple(self.l2))
        if self.l2:
            check_l2(self.l2)


PROBE_METHODS = {
    "logistic": ProbeMethod(
        "logistic", logistic_path, "softmax", (1.0, 0.1, 0.01, 0.001), partial(logistic_path, tolerance=NEAR)
    ),
    "ridge": ProbeMethod("ridge", ridge_path, "shares", (10.0, 1.0, 0.1, 0.01)),
    "means": ProbeMethod("means", means_path),
}
"""Every method that can be asked for by name; `register_probe_method` adds to it."""
BUILT_IN = tuple(PROBE_METHODS)


def register_probe_method(method: ProbeMethod) -> None:
    """Let a method be asked for by its name; raise ProbeError where that is the name of a built-in one."""
    if not isinstance(method, ProbeMethod):
        raise ProbeError(f"{method!r:.60} was to be registered", "it is no ProbeMethod", "Make one of it")
    if method.name in BUILT_IN:
        found = "a built-in method has this name"
        raise ProbeError(f"The method {method.name!r} was to be registered", found, "Choose another name")
    PROBE_METHODS[method.name] = method


def find_method(method: ProbeMethod | PlainFit | str) -> ProbeMethod:
    """Return the method of this name, or of this plain function; raise ProbeError where there is none."""
    if isinstance(method, ProbeMethod):
        return method
    if callable(method):
        return ProbeMethod(getattr(method, "__name__", type(method).__name__), partial(_plain_path, method))
    do = "Use one of these, or register_probe_method another"
    ProbeError.among(method, PROBE_METHODS, "The probe method", do=do)
    return PROBE_METHODS[method]


def _plain_path(
    plain: PlainFit, design: Design, truth: Array, l2: Sequence[float]
) -> list[tuple[Array, Array]]:
    if np.ptp(design.counts) > 1e-9:
        found = "a plain function is not told what a sample counts for"
        do = "Use class_weights=None, or a ProbeMethod, whose design has the counts"
        raise ProbeError("Class weights were asked for", found, do)
    return [plain(design.x, truth.argmax(1), truth.shape[1])] * len(l2)


def checked_path(
    method: ProbeMethod, path: Sequence[tuple[Array, Array]], count: int, shape: tuple[int, int]
) -> list[tuple[Array, Array]]:
    """Return what `method.fit` gave as arrays; raise ProbeError unless there are `count` finite pairs."""
    pairs = [(np.asarray(weights, np.float64), np.asarray(bias, np.float64)) for weights, bias in path]
    if len(pairs) != count:
        found = f"there are {len(pairs)} pairs of weights and bias for {count} values of l2"
    elif any(weights.shape != shape or bias.shape != shape[:1] for weights, bias in pairs):
        weights, bias = pairs[0]
        found = f"its weights have the shape {weights.shape} and its bias {bias.shape}"
    elif not all(np.isfinite(part).all() for pair in pairs for part in pair):
        found = "its weights or bias are not finite"
    else:
        return pairs
    do = f"Return finite weights {shape} and bias {shape[:1]} for every value of l2"
    raise ProbeError(f"A probe by {method.name!r} was asked for", found, do)


def probabilities(logits: Array, link: str) -> Array:
    """Return P(class) (..., classes) from logits (..., classes), by the link of a method.

    "softmax"; "sigmoid", each class for itself; or "shares", for fits of 0 and 1: cut to 0-1, summing to 1.
    """
    if link == "sigmoid":
        return np.asarray(expit(logits))
    if link != "shares":
        return np.asarray(softmax(logits, axis=-1))
    shares = np.clip(logits, 0, 1)
    shares = np.where(shares.sum(-1, keepdims=True) > 0, shares, 1.0)
    return np.asarray(shares / shares.sum(-1, keepdims=True))


@renamed_keywords(strengths="l2")
def regularization_path(
    acts: Activations,
    layer: int,
    class_: str,
    l2: Sequence[float],
    *,
    target: str = "genre",
    site: str = "resid_post",
) -> tuple[Direction, ...]:
    """Return the unit direction of a class at every penalty, from ridge to the difference in means.

    The penalties are above 0; at math.inf stands what they tend to: the difference in means of the
    standardised features, folded back to raw space as all the others are. ProbeError where the class is
    unknown or all samples are of it, or a penalty is no number above 0.
    """
    return regularization_paths(acts, layer, l2, classes=[class_], target=target, site=site)[class_]


@renamed_keywords(strengths="l2")
def regularization_paths(
    acts: Activations,
    layer: int,
    l2: Sequence[float],
    *,
    classes: Sequence[str] | None = None,
    target: str = "genre",
    site: str = "resid_post",
) -> dict[str, tuple[Direction, ...]]:
    """Return the path of each class (all when None), from one decomposition; raises as for one path."""
    names, y = acts.numbered(target)
    classes = list(names if classes is None else classes)
    for class_ in classes:
        if class_ not in names or len(names) < 2:
            found = f"the values of {target!r} are {', '.join(names)}"
            raise ProbeError(f"A path of {class_!r} was asked for", found, "Use one of at least two")
    if not (len(l2) and all(one > 0 for one in l2)):
        asked = f"A path with l2={list(l2)} was asked for"
        raise ProbeError(asked, "a penalty is a number above 0", "Use such numbers")
    x = acts.matrix(layer, site=site).astype(np.float64)
    truth = (np.array(names)[y][:, None] == np.array(classes)).astype(np.float64)
    weights, (norm, origin) = path_weights(Design.of(x), truth, l2), acts.origin(layer)

    def direction(class_: str, vector: Array, penalty: float) -> Direction:
        endless = "difference in means of standardised features"
        method = endless if math.isinf(penalty) else "probe weight, ridge"
        known = {"method": method, "target": target, "strength": f"{penalty:g}", **origin}
        centre, vector = float(x.mean(0) @ vector), vector.astype(np.float32)
        more = {"residual_norm": norm, "centre": centre}
        return Direction(vector, layer, site, name=class_, origin=known, **more).unit()

    return {
        class_: tuple(direction(class_, *pair) for pair in zip(weights[:, number], l2, strict=True))
        for number, class_ in enumerate(classes)
    }


def path_weights(design: Design, truth: Array, l2: Sequence[float]) -> Array:
    """Return raw weights (penalties, m, d) of ridge for columns of `truth` (n, m), times l2 n each."""
    # So that they do not shrink to nothing on the way to math.inf; only their direction is meant.
    seen = design.axes.z.T @ (truth - truth.mean(0))
    columns = np.hstack([seen / (design.axes.spread / one / len(truth) + 1)[:, None] for one in l2])
    weights, _ = design.turn_back(columns, np.zeros(columns.shape[1]))
    return np.asarray(weights.reshape(len(l2), truth.shape[1], -1))
