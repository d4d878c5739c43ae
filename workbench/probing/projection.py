"""Maps: activations of one layer in two dimensions, how far they can be trusted, and who joins them later."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import numpy as np
import pandas as pd
from scipy.linalg import orthogonal_procrustes
from threadpoolctl import threadpool_limits

from workbench.activations import Activations
from workbench.errors import ProbeError, is_whole, renamed_keywords
from workbench.probing.solvers import Scaling

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class Projection:
    """A map of samples."""

    points: Array  # (n, 2) float32, no unit; distances far apart mean little in UMAP
    clips: Array  # id of each point's clip (n,)
    labels: pd.DataFrame  # one column per label of the activations, one row per point
    layer: int
    site: str
    method: str
    seed: int
    trustworthiness: float  # how many neighbours here are neighbours there: 1: all; about 0.5: a random map
    explained: tuple[float, float] | None = None  # share of the variance along each axis (PCA)
    mapper: Callable[[Array], Array] | None = None  # from samples (n, d) to their points (n, 2)

    def table(self) -> pd.DataFrame:
        """Return one row per point: clip, x, y and all labels."""
        places = pd.DataFrame({"clip": self.clips, "x": self.points[:, 0], "y": self.points[:, 1]})
        return pd.concat([places, self.labels], axis=1)

    def with_label(self, name: str, values: Sequence[Any] | Array) -> Projection:
        """Return the same map with one more label; raise ProbeError unless there is a value per point."""
        if len(values) != len(self.points):
            asked = f"A label for {len(self.points)} points was asked for"
            raise ProbeError(asked, f"{len(values)} values were given", "Give one per point")
        return replace(self, labels=self.labels.assign(**{name: np.asarray(values)}))

    def place(self, acts: Activations) -> Projection:
        """Return where other samples of the same model, such as generated clips, fall on this map.

        ProbeError where this map was not made by `project`, or the samples have another width.
        """
        if self.mapper is None:
            found = "this map holds points only, not how they were found"
            raise ProbeError("Other samples were to be placed on a map", found, "Make it by project()")
        points = self.mapper(acts.matrix(self.layer, site=self.site).astype(np.float64))
        return replace(self, points=points, clips=acts.clips, labels=_labels(acts), mapper=None)


@renamed_keywords(seed="random_state")
def project(
    acts: Activations,
    layer: int,
    *,
    method: str = "umap",
    random_state: int = 0,
    neighbours: int = 15,
    min_distance: float = 0.1,
    site: str = "resid_post",
    near: Projection | None = None,
) -> Projection:
    """Return the activations at `layer` as points of a plane; same input and random state, same map.

    Features are standardised first: a few residual features are tens of times larger than the rest and would
    be the whole map. UMAP (McInnes et al. 2018, arXiv 1802.03426) keeps neighbourhoods, PCA keeps variance.
    Trustworthiness is that of Venna and Kaski (2001) at the same number of neighbours.

    The method is "umap" or "pca". UMAP, with the seed `random_state`, keeps neighbourhoods of so many
    `neighbours` (fewer when there are few samples) and packs points as tight as `min_distance`. `near` is a
    map of the same samples, such as another layer's: UMAP begins from its points, and the turn, mirror image
    and size of the result, which are accidents, are those nearest to it (Procrustes).

    Raises:
        ProbeError: an unknown method, fewer than 4 samples, or a `near` of other samples.
        ActivationsError: the layer is not among the activations.

    >>> x = np.random.default_rng(0).standard_normal((8, 1, 4)).astype(np.float32)
    >>> samples = {"clip": np.arange(8).astype(str), "group": np.arange(8).astype(str)}
    >>> acts = Activations.from_arrays({"resid_post": x}, layers=[0], samples=samples, residual_norm=[2.0])
    >>> project(acts, 0, method="pca").points.shape
    (8, 2)
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import trustworthiness

    x = acts.matrix(layer, site=site).astype(np.float64)
    _check_settings(method, random_state, neighbours, min_distance)
    if len(acts) < 4:
        raise ProbeError("A map was asked for", f"there are {len(acts)} samples", "Capture 4 clips or more")
    if method == "pca" and x.shape[1] < 2:
        found = f"the samples have {x.shape[1]} feature(s)"
        raise ProbeError("A map in two dimensions was asked for", found, 'Use method="umap"')
    if near is not None and not np.array_equal(near.clips, acts.clips):
        found = f"that one shows {len(near.clips)} other samples"
        raise ProbeError("A map near another one was asked for", found, "Use a map of the same clips")
    scaling = Scaling.of(x)
    z = scaling.apply(x)
    # Trustworthiness is defined for neighbourhoods of less than half of the samples.
    neighbours = max(1, min(neighbours, (len(x) - 1) // 2))
    explained = None
    if method == "pca":
        fitted: Any = PCA(2, svd_solver="full").fit(z)  # makes the largest loading of a component positive
        first, second = map(float, fitted.explained_variance_ratio_)
        points, explained = np.asarray(fitted.transform(z)), (first, second)
    else:
        fitted = _umap(random_state, max(2, neighbours), min_distance, near)
        points = _run(lambda: fitted.fit_transform(z.astype(np.float32)))
    turn, shift = (np.eye(2), np.zeros(2)) if near is None else _onto(points, near.points.astype(np.float64))
    points = points @ turn + shift
    return Projection(
        points=points.astype(np.float32), clips=acts.clips, labels=_labels(acts), layer=layer, site=site,
        method=method, seed=random_state, mapper=partial(_placed, scaling, fitted, turn, shift),
        trustworthiness=float(trustworthiness(z, points, n_neighbors=neighbours)), explained=explained,
    )  # fmt: skip


def _placed(scaling: Scaling, fitted: Any, turn: Array, shift: Array, x: Array) -> Array:
    """Return the points (n, 2) of samples (n, d): scaled, projected as was `fitted`, turned onto the map."""
    if x.shape[1] != (width := len(scaling.mean)):
        found = f"the map was made of residuals of width {width}"
        do = "Pass activations of the same model"
        raise ProbeError(f"Samples of width {x.shape[1]} were to be placed on a map", found, do)
    z = scaling.apply(x).astype(np.float32)
    return (_run(lambda: fitted.transform(z)) @ turn + shift).astype(np.float32)


def _labels(acts: Activations) -> pd.DataFrame:
    return pd.DataFrame({target: acts.labels(target) for target in acts.targets})


def project_layers(
    acts: Activations, layers: Sequence[int] | None = None, **options: Any
) -> dict[int, Projection]:
    """Return one map per layer (all when None), aligned to that of the middle layer; options of `project`."""
    middle = int(acts.layers[len(acts.layers) // 2])
    anchor = project(acts, middle, **options)
    wanted = [int(layer) for layer in (acts.layers if layers is None else layers)]
    return {one: anchor if one == middle else project(acts, one, near=anchor, **options) for one in wanted}


def _check_settings(method: str, random_state: int, neighbours: int, min_distance: float) -> None:
    if method not in ("umap", "pca"):
        raise ProbeError(f"A map by {method!r} was asked for", "there are umap and pca", "Use one of those")
    given = f"A map with {neighbours=}, {min_distance=}, {random_state=} was asked for"
    if not is_whole(neighbours, 1):
        raise ProbeError(given, "neighbours is out of range", "Use a whole number from 1")
    if not 0 <= min_distance <= 1:
        raise ProbeError(given, "min_distance is out of range", "Use a number from 0 to 1")
    if not is_whole(random_state, 0, 2**32 - 1):
        raise ProbeError(given, "random_state is out of range", "Use a whole number from 0 of 32 bits")


def _umap(random_state: int, neighbours: int, min_distance: float, near: Projection | None) -> Any:
    import umap

    _keep_compiled()
    start = "spectral" if near is None else near.points.astype(np.float32)
    # n_jobs=1 is what a fixed seed forces anyway; saying so keeps umap from warning about it.
    return umap.UMAP(
        n_neighbors=neighbours, min_dist=min_distance, random_state=random_state, n_jobs=1, init=start
    )


@cache
def _keep_compiled() -> None:
    """Have numba keep what it compiles of umap, which does so for few of its functions: 10 s a process."""
    from numba.core.dispatcher import Dispatcher

    modules = [one for name, one in sys.modules.items() if name.partition(".")[0] in ("umap", "pynndescent")]
    for function in [one for module in modules for one in vars(module).values()]:
        if isinstance(function, Dispatcher):
            function.enable_caching()


def _run(work: Any) -> Array:
    """Do what may run umap's compiler, and leave the process's threads as they were."""
    # The compiler raises the OpenMP threads to the number of cores, PyTorch's among them; where another
    # program keeps a core busy, generation then takes a hundred times as long.
    with threadpool_limits(limits=1, user_api="openmp"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Cannot cache compiled function")  # two of pynndescent's
        return np.asarray(work(), dtype=np.float64)


def _onto(points: Array, goal: Array) -> tuple[Array, Array]:
    """Return the turn (2, 2) and shift (2,) that lay points (n, 2) onto a goal (n, 2) with least squares."""
    centre, target = points.mean(0), goal.mean(0)
    turn, scale = orthogonal_procrustes(points - centre, goal - target)
    turn *= scale / max(float(((points - centre) ** 2).sum()), 1e-30)
    return turn, target - centre @ turn
