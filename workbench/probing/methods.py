"""Ways to fit a linear probe: the built-in ones, and those that a file of your own adds.

Wherever a method is asked for by its name, a `ProbeMethod` is accepted, and so is a plain function. A probe
loads and reads without the method that fitted it. CONTRIBUTING.md has a worked example.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.special import expit, softmax

from workbench.errors import ProbeError, is_text
from workbench.probing.solvers import NEAR, Design, logistic_path, means_path, ridge_path

Array = np.ndarray
Path = Callable[[Design, Array, Sequence[float]], Sequence[tuple[Array, Array]]]
"""(design, truth (n, classes) one-hot, l2) -> raw (weights (classes, d), bias (classes,)) per l2."""
PlainFit = Callable[[Array, Array, int], tuple[Array, Array]]
"""(x (n, d), y (n,) class numbers, number of classes) -> raw (weights (classes, d), bias (classes,))."""
LINKS = ("softmax", "shares", "sigmoid")


def check_l2(l2: Sequence[float]) -> None:
    """Raise ProbeError unless there is at least one penalty and all are finite and above 0."""
    if not (len(l2) and all(one > 0 and math.isfinite(one) for one in l2)):
        found = "a penalty is a finite number above 0"
        raise ProbeError(f"Probes with l2={list(l2)} were asked for", found, "Give at least one such number")


@dataclass(frozen=True)
class ProbeMethod:
    """A way to fit a linear probe.

    Args:
        name: what probes, tables and files call it.
        fit: `(design, truth, l2)` -> one pair (weights (classes, d), bias (classes,)) per value of `l2`, for
            raw features. The design has the training samples as `x` (n, d), standardised as `z`, and what
            each of them counts for as `counts` (n,); truth (n, classes) is one-hot.
        link: how logits become probabilities, one of `LINKS` (`probabilities`).
        l2: the penalties to choose from where none are given; () for a method without (its `fit` gets NaN).
        fit_roughly: `fit` as near to its optimum as the choice of l2 needs; None: `fit` itself.

    Raises:
        ProbeError: the name is no text, `fit` is no function, the link is unknown, or an l2 is not above 0.

    >>> ProbeMethod("zeros", lambda design, truth, l2: [(0 * truth.T @ design.x, truth.mean(0))]).link
    'softmax'
    """

    name: str
    fit: Path
    link: str = "softmax"
    l2: tuple[float, ...] = ()
    fit_roughly: Path | None = None

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
    if isinstance(method, str) and method in PROBE_METHODS:
        return PROBE_METHODS[method]
    found, do = f"there are {', '.join(PROBE_METHODS)}", "Use one of these, or register_probe_method another"
    raise ProbeError.lookup(f"Probes by {method!r} were asked for", found, do)


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

    "softmax"; "sigmoid", each class for itself; or "shares", for solvers that fit 0 and 1 directly, as ridge
    does: cut to 0-1 and made to sum to 1.
    """
    if link == "sigmoid":
        return np.asarray(expit(logits))
    if link != "shares":
        return np.asarray(softmax(logits, axis=-1))
    shares = np.clip(logits, 0, 1)
    shares = np.where(shares.sum(-1, keepdims=True) > 0, shares, 1.0)
    return np.asarray(shares / shares.sum(-1, keepdims=True))
