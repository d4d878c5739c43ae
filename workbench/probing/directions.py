"""Directions of every method from one set of activations, and the methods that look for one axis per class.

`directions_by` is what steering by different methods is compared with. A method that finds an axis is a probe
method like any other: along its axis a class is told from the others by their means and one variance
(Fisher's discriminant in one dimension), which also says to which side the class lies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from scipy.linalg import solve

from workbench.activations import Activations
from workbench.activations.spec import LABEL
from workbench.errors import ProbeError
from workbench.probing.fit import fit_probes, shuffled_classes
from workbench.probing.solvers import Design, PlainFit, ProbeMethod, find_method, register_probe_method
from workbench.steering.plan import Direction, random_direction
from workbench.steering.together import difference_in_means, pair_pca

Array = np.ndarray
Axis = Callable[[Design, Array], Array]
"""(design, whether each sample has the class (n,)) -> an axis (d,) in raw space, of any length and sign."""
METHODS = ("logistic", "ridge", "unit-ridge", "means", "pairs", "rfm", "random", "shuffled")
"""What `directions_by` compares. Prompting alone, the other rival, needs no direction."""
ROUNDS, MOST = 5, 2000


def directions_by(
    acts: Activations,
    target: str = "genre",
    *,
    layer: int,
    methods: Sequence[str | ProbeMethod | PlainFit] = METHODS,
    site: str = "resid_post",
    folds: int = 5,
    seed: int = 0,
) -> dict[str, dict[str, Direction]]:
    """Return the unit direction of every class by every method: name of the method -> class -> direction.

    All are made at one layer from pooled activations with a label `target`, whose values are the classes. The
    methods are "pairs" (`pair_pca`), "random", "shuffled" (a logistic probe of labels shuffled between
    groups), and all that `fit_probes` takes: "logistic", "rfm", `decoder_rows(...)`, ridge of one penalty as
    `replace(PROBE_METHODS["ridge"], name="ridge 10", l2=(10,))` ... The folds are those of the held-out
    accuracy that directions of probes carry in their origin.

    Raises:
        ProbeError: an unknown method.
        SteeringError: there is a single class.
        DatasetError, ActivationsError: as in `fit_probes`.

    >>> x = np.random.default_rng(0).standard_normal((40, 1, 8)).astype(np.float32)
    >>> samples = {"clip": np.arange(40).astype(str), "group": np.arange(40).astype(str)}
    >>> samples["label_genre"] = np.where(x[:, 0, 3] > 0, "jazz", "rock")
    >>> acts = Activations.from_arrays({"resid_post": x}, layers=[0], samples=samples, residual_norm=[3.0])
    >>> found = directions_by(acts, layer=0, methods=("ridge", "means", "rfm"))
    >>> [int(of["jazz"].vector.argmax()) for of in found.values()]
    [3, 3, 3]
    """
    names, y = acts.numbered(target)
    place: dict[str, Any] = {"layer": layer, "site": site}

    def probed(held: Activations, method: Any) -> dict[str, Direction]:
        fit: dict[str, Any] = {"folds": folds, "seed": seed, "shuffles": 0, "progress": False}
        return fit_probes(held, target, method=method, layers=[layer], site=site, **fit).directions()

    def by(method: Any) -> dict[str, Direction]:
        if method == "pairs":
            return {name: pair_pca(acts, name, target=target, **place) for name in names}
        if method == "random":
            like = difference_in_means(acts, names[0], target=target, **place)
            return {name: random_direction(like, seed + number) for number, name in enumerate(names)}
        if method != "shuffled":
            return probed(acts, method)
        (drawn,) = shuffled_classes(y, acts.groups, [(np.arange(0), np.arange(len(y)))], 1, seed)
        labels = {LABEL + target: ("sample", np.array(names)[drawn])}
        made = probed(replace(acts, data=acts.data.assign_coords(labels)), "logistic")
        method = "probe weight, logistic, shuffled labels"
        return {name: replace(one, name=f"shuffled {name}", origin={**one.origin, "method": method})
                for name, one in made.items()}  # fmt: skip

    return {one if isinstance(one, str) else find_method(one).name: by(one) for one in methods}


def _axis_path(axis: Axis, design: Design, truth: Array, l2: Sequence[float]) -> list[tuple[Array, Array]]:
    """Return weights and bias of the discriminant along the axis of each class."""
    weights, bias = [], []
    for inside in truth.T.astype(bool):
        along = axis(design, inside)
        share = design.counts @ inside / len(inside)
        mine, other, variance = _told_apart(design.x @ along, inside, design.counts)
        slope = (mine - other) / variance
        weights.append(slope * along)
        bias.append(np.log(share / (1 - share)) - slope * (mine + other) / 2)
    return [(np.array(weights), np.array(bias))] * len(l2)


def _told_apart(read: Array, inside: Array, counts: Array) -> tuple[Array, Array, Array]:
    """Return the mean of a class, that of the others, and the variance within, of readings (n, ...)."""
    mine, other = (np.average(read[side], axis=0, weights=counts[side]) for side in (inside, ~inside))
    rest = np.concatenate([read[inside] - mine, read[~inside] - other])
    ordered = np.concatenate([counts[inside], counts[~inside]])
    variance = np.average(rest**2, axis=0, weights=ordered)
    return mine, other, np.maximum(variance, 1e-9 * (mine - other) ** 2 + 1e-30)


def rfm_axis(design: Design, inside: Array, *, l2: float = 1e-3, rounds: int = ROUNDS) -> Array:
    """Return the top eigenvector (d,) of the average gradient outer product of a recursive feature machine.

    Radhakrishnan et al. 2024 (Science 383, 1461), for music arXiv 2510.19127: kernel ridge f with the Laplace
    kernel exp(-|x - z|_M / width), |x - z|_M^2 = (x - z)' M (x - z), then M <- mean of grad f grad f', again
    and again from M = 1 on standardised features. The width is the median distance, the ridge `l2` n; of more
    than 2,000 samples every k-th is used.
    """
    kept = np.arange(0, len(inside), -(-len(inside) // MOST))
    z, counts = design.z[kept], design.counts[kept]
    wanted = inside[kept] - np.average(inside[kept], weights=counts)
    slopes_of = np.eye(z.shape[1])  # rows g with M = g'g
    for _ in range(rounds):
        mapped = z @ slopes_of.T
        square = (mapped**2).sum(1)
        gaps = np.sqrt(np.maximum(square[:, None] + square - 2 * mapped @ mapped.T, 0))
        apart = gaps > 1e-6 * gaps.max()
        gaps /= np.median(gaps[apart]) if apart.any() else 1.0
        kernel = np.exp(-gaps)
        pull = solve(kernel + np.diag(l2 * len(z) / counts), wanted, assume_a="pos")
        # grad f(x_i) = M sum_j pull_j kernel_ij (x_j - x_i) / |x_j - x_i|_M: 0 where both are one point
        pulls = np.divide(kernel * pull, gaps, out=np.zeros_like(gaps), where=apart)
        slopes = ((pulls @ z - pulls.sum(1)[:, None] * z) @ slopes_of.T) @ slopes_of
        # At most d rows with the same g'g: distances then take n n d products, not n n n.
        slopes_of = np.asarray(np.linalg.qr(slopes / max(float(np.linalg.norm(slopes)), 1e-30), mode="r"))
    return np.asarray(np.linalg.svd(slopes_of / design.scaling.deviation, full_matrices=False)[2][0])


def _unit_ridge_path(design: Design, truth: Array, l2: Sequence[float]) -> list[tuple[Array, Array]]:
    """Return the genre paper's probe (arXiv 2506.10225): ridge without bias on x / |x|, one-hot targets."""
    size = np.linalg.norm(design.x, axis=1, keepdims=True)
    rows = design.x / np.maximum(size, 1e-30) * design.root
    seen, gram, n = rows.T @ (design.root * truth), rows.T @ rows, len(rows)
    path = [solve(gram + one * n * np.eye(len(gram)), seen, assume_a="pos").T for one in l2]
    # Divided by the mean length, it reads raw features with the same order of classes for each sample.
    return [(weights / size.mean(), np.zeros(truth.shape[1])) for weights in path]


def decoder_rows(rows: Array, name: str = "decoder row") -> ProbeMethod:
    """Return the method that reads each class by the row of a dictionary that tells it best from the others.

    `rows` (n, d) are directions, such as a sparse autoencoder's decoder (`file_vectors`). The best one has
    the largest difference of means, in standard deviations within. ProbeError where rows are not finite.

    >>> decoder_rows(np.eye(3)).name
    'decoder row'
    """
    rows = np.asarray(rows, dtype=np.float64)
    if rows.ndim != 2 or not rows.size or not np.isfinite(rows).all():
        found = f"its rows have the shape {rows.shape}, or are not finite"
        raise ProbeError("A dictionary of directions was asked for", found, "Pass finite rows (n, d)")

    def best(design: Design, inside: Array) -> Array:
        if rows.shape[1] != design.x.shape[1]:
            found = f"its rows have {rows.shape[1]} numbers, and samples {design.x.shape[1]}"
            raise ProbeError(f"A probe by {name!r} was asked for", found, "Use rows made for this model")
        mine, other, variance = _told_apart(design.x @ rows.T, inside, design.counts)
        return np.asarray(rows[np.argmax((mine - other) ** 2 / variance)])

    return ProbeMethod(name, partial(_axis_path, best), link="sigmoid")


register_probe_method(ProbeMethod("rfm", partial(_axis_path, rfm_axis), link="sigmoid"))
register_probe_method(ProbeMethod("unit-ridge", _unit_ridge_path, "shares", (0.1, 0.01, 0.001, 0.0001)))
