"""Erasure: does the music lose a genre when the model loses the direction, or subspace, it is written in?

Plain projection takes out the span of the differences between class means. LEACE (Belrose et al. 2023, arXiv
2306.03819) makes the means equal, too, so that no linear probe tells the classes apart, and changes the data
least: x' = x - W^+ P W (x - mu), with W the inverse root of the covariance and P the projection on the span
of the whitened differences. In white data both are the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workbench.activations import Activations
from workbench.errors import EvidenceError
from workbench.steering import Direction, Operation, Steering, register_operation
from workbench.steering.operations import Strength

METHODS = ("leace", "projection")
_LEAST = 1e-6  # share of the largest variance, or of the largest singular value, from which on it counts


@dataclass(frozen=True, eq=False)
class Eraser:
    """An affine map that removes classes from the stream of a layer: x' = x - (x - mean) reads' writes.

    It is named after what is removed, such as "jazz", by the method "leace" or "projection". The removed part
    is moved to the `mean` (d_model,) of the data. `reads` (r, d_model) is what is read of the difference to
    it, `writes` (r, d_model) along which it is taken out; for a projection both are one orthonormal basis.
    """

    name: str
    method: str
    layer: int
    site: str
    mean: np.ndarray
    reads: np.ndarray
    writes: np.ndarray
    residual_norm: float
    model_id: str = ""

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return residuals (..., d_model) without what is erased."""
        return np.asarray(x - ((x - self.mean) @ self.reads.T) @ self.writes)

    def plan(self, *, branch: str = "both", weight: float = 1.0) -> Steering:
        """Return the plan that erases at every step; `weight` 0.5 takes out half.

        A projection is one `remove` per dimension. LEACE reads along other directions than it writes, which
        no built-in operation does, so it registers an operation of its own in this process.
        """
        named: dict[str, Any] = {"name": self.name, "residual_norm": self.residual_norm}
        named["origin"] = {"model_id": self.model_id, "method": self.method}
        whole, operation = Steering(), "remove" if self.method == "projection" else self._register()
        for row in self.writes if operation == "remove" else self.writes[:1]:  # LEACE takes all out at once
            unit = row / np.linalg.norm(row)
            one = Direction(unit, self.layer, self.site, centre=float(unit @ self.mean), **named)
            whole += one.at(weight, operation=operation, branch=branch)
        return whole

    def _register(self) -> str:
        arrays = (self.mean, self.reads, self.writes)
        digest = hashlib.sha256(b"".join(one.tobytes() for one in arrays)).hexdigest()
        mean, reads, writes = (torch.tensor(one, dtype=torch.float32) for one in arrays)

        def take_out(h: Tensor, v: Tensor, a: Strength, target: Strength) -> Tensor:
            return h - a * ((h - mean.to(h)) @ reads.to(h).T) @ writes.to(h)

        name, label = f"leace_{digest[:12]}", f"LEACE of {self.name}, layer {self.layer}"
        return register_operation(Operation(name, take_out, "weight", True, label)).name


def fit_eraser(
    acts: Activations,
    layer: int,
    class_: str | None = None,
    *,
    target: str = "genre",
    site: str = "resid_post",
    method: str = "leace",
) -> Eraser:
    """Return what removes a class against the rest, or all classes when None, from one layer.

    Of pooled activations with labels, many short windows tell the covariance better than few clips. The
    method is "leace" or "projection", which takes out the span of the same class means. EvidenceError where
    the method or class is unknown, or class means do not differ.
    """
    labels, x = acts.labels(target).astype(str), acts.matrix(layer, site=site).astype(np.float64)
    classes: Sequence[str] = sorted(set(labels)) if class_ is None else [class_]
    asked = f"An eraser of {class_ or target} by {method!r} was asked for"
    if method not in METHODS or not set(classes) <= set(labels):
        found = f"the methods are {', '.join(METHODS)}, the classes {', '.join(sorted(set(labels)))}"
        raise EvidenceError.lookup(asked, found, "Use one of each")
    mean = x.mean(0)
    member = np.stack([labels == name for name in classes], axis=1).astype(float)
    centred = x - mean
    cross = centred.T @ (member - member.mean(0)) / len(x)  # (d_model, classes)
    if np.abs(cross).max() <= _LEAST * centred.std():
        raise EvidenceError(asked, "the means of the classes do not differ", "Give clips of several classes")
    root = unroot = np.eye(x.shape[1])
    if method == "leace":
        sizes, axes = np.linalg.eigh(centred.T @ centred / len(x))
        kept = sizes > _LEAST * sizes.max()
        axes, sizes = axes[:, kept], np.sqrt(sizes[kept])
        root, unroot = (axes / sizes) @ axes.T, (axes * sizes) @ axes.T
    basis, values, _ = np.linalg.svd(root @ cross, full_matrices=False)
    basis = basis[:, values > _LEAST * values.max()]
    norm, model_id = float(acts.data["residual_norm"].sel(layer=layer)), acts.data.attrs.get("model_id", "")
    arrays = mean, (root @ basis).T, (unroot @ basis).T
    return Eraser(class_ or target, method, layer, site, *arrays, norm, str(model_id))
