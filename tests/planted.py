"""Activations with a known answer in them: what a probe must find, and what it must not."""

from __future__ import annotations

import numpy as np

from workbench.activations import Activations

D = 48


def activations(
    x: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    *,
    layers: list[int] | None = None,
    **more: np.ndarray,
) -> Activations:
    """Return activations of features `x` (samples, layers, d), held in memory."""
    layers = list(range(x.shape[1])) if layers is None else layers
    samples = {"clip": np.array([f"clip{i}" for i in range(len(x))]), "group": groups, "label_genre": labels}
    return Activations.from_arrays(
        {"resid_post": x.astype(np.float32)},
        layers=layers,
        samples=samples | {f"label_{name}": values for name, values in more.items()},
        attrs={"model_id": "m", "dataset_fingerprint": "f00"},
        residual_norm=np.linspace(10, 20, len(layers)),
    )


def labels_and_groups(classes: int = 3, groups: int = 10, clips: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Return the label and group of each sample: every class has its own groups, every group its clips."""
    group = np.repeat(np.arange(classes * groups), clips)
    names = np.array(["classical", "jazz", "rock", "reggae", "country", "electronic"][:classes])
    return names[group % classes], np.array([f"track{number:03d}" for number in group])


def planted(strength: float = 2.0, *, seed: int = 0, layers: int = 2, d: int = D, **sizes: int):
    """Return (activations, directions by class): unit directions planted in white noise of deviation 1.

    Layer 0 holds noise only, later layers the directions too, and each layer has an offset and scales of its
    own.
    """
    rng = np.random.default_rng(seed)
    labels, groups = labels_and_groups(**sizes)
    names = np.unique(labels)
    vectors = rng.standard_normal((len(names), d))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    x = rng.standard_normal((len(labels), layers, d)) + 5 * rng.standard_normal((layers, d))
    x[:, 1:] += strength * vectors[np.searchsorted(names, labels)][:, None]
    return activations(x, labels, groups), dict(zip(names.tolist(), vectors, strict=True))
