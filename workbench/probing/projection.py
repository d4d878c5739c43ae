"""Maps: the activations of one layer in two dimensions, and how far such a map can be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from workbench.errors import ProbeError, message
from workbench.probing.solvers import Scaling

if TYPE_CHECKING:
    from workbench.activations import Activations

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class Projection:
    """A map of samples.

    points           (n, 2) float32, no unit; distances far apart mean little in UMAP
    clips            (n,) clip id of each point
    labels           one column per label of the activations, one row per point
    trustworthiness  0 to 1: how many neighbours on the map are neighbours in the residual stream (1: all;
                     about 0.5: as in a random map)
    explained        share of the variance that each axis holds (PCA), or None (UMAP)
    """

    points: Array
    clips: Array
    labels: pd.DataFrame
    layer: int
    site: str
    method: str
    seed: int
    trustworthiness: float
    explained: tuple[float, float] | None = None

    def table(self) -> pd.DataFrame:
        """Return one row per point: clip, x, y and all labels."""
        places = pd.DataFrame({"clip": self.clips, "x": self.points[:, 0], "y": self.points[:, 1]})
        return pd.concat([places, self.labels], axis=1)


def project(
    acts: Activations,
    layer: int,
    *,
    method: str = "umap",
    seed: int = 0,
    neighbours: int = 15,
    min_distance: float = 0.1,
    site: str = "resid_post",
) -> Projection:
    """Return the activations at `layer` as points of a plane; same input and seed, same map.

    Features are standardised first: a few residual features are tens of times larger than the rest and would
    be the whole map. UMAP (McInnes et al. 2018, arXiv 1802.03426) keeps neighbourhoods, PCA keeps variance.
    Trustworthiness is that of Venna and Kaski (2001) at the same number of neighbours.

    neighbours    size of the neighbourhood that UMAP keeps (made smaller when there are few samples)
    min_distance  how tight UMAP packs points

    Raises ProbeError for an unknown method and fewer than 4 samples, ActivationsError for a layer not held.
    """
    if method not in ("umap", "pca"):
        raise ProbeError(
            message(f"A map by {method!r} was asked for", "there are umap and pca", "Use one of those")
        )
    x = acts.matrix(layer, site=site).astype(np.float64)
    if len(x) < 4:
        raise ProbeError(
            message("A map was asked for", f"there are {len(x)} samples", "Capture 4 clips or more")
        )
    z = Scaling.of(x).apply(x)
    # Trustworthiness is defined for neighbourhoods of less than half of the samples.
    neighbours = max(2, min(neighbours, (len(x) - 1) // 2))
    points, explained = _pca(z) if method == "pca" else (_umap(z, seed, neighbours, min_distance), None)
    return Projection(
        points=points.astype(np.float32),
        clips=acts.clips,
        labels=pd.DataFrame({target: acts.labels(target) for target in acts.targets}),
        layer=layer,
        site=site,
        method=method,
        seed=seed,
        trustworthiness=_trust(z, points, neighbours),
        explained=explained,
    )


def _pca(z: Array) -> tuple[Array, tuple[float, float]]:
    """Return the first two principal components (n, 2) and their shares of the variance."""
    left, sizes, right = np.linalg.svd(z - z.mean(0), full_matrices=False)
    # A component's sign is arbitrary; with the largest loading positive the map is the same everywhere.
    signs = np.sign(right[np.arange(2), np.abs(right[:2]).argmax(1)])
    shares = sizes**2 / max(float((sizes**2).sum()), 1e-30)
    return left[:, :2] * sizes[:2] * signs, (float(shares[0]), float(shares[1]))


def _umap(z: Array, seed: int, neighbours: int, min_distance: float) -> Array:
    import umap
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # comes with scikit-learn

    # n_jobs=1 is what a fixed seed forces anyway; saying so keeps umap from warning about it.
    mapper = umap.UMAP(n_neighbors=neighbours, min_dist=min_distance, random_state=seed, n_jobs=1)
    # umap's compiler raises the process's OpenMP threads to the number of cores, PyTorch's among them; where
    # another program keeps a core busy, generation then takes a hundred times as long. The limit undoes it.
    with threadpool_limits(limits=1, user_api="openmp"):
        return np.asarray(mapper.fit_transform(z.astype(np.float32)))


def _trust(z: Array, points: Array, neighbours: int) -> float:
    from sklearn.manifold import trustworthiness

    return float(trustworthiness(z, points, n_neighbors=neighbours))
