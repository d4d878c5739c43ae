"""What several tests of probing use."""

from __future__ import annotations

import numpy as np
import pytest
from planted import activations, labels_and_groups, planted

from workbench.probing import fit_multilabel, fit_probes, fit_regression


@pytest.fixture(scope="module")
def acts():
    rng = np.random.default_rng(0)
    labels, groups = labels_and_groups(clips=3)
    x = rng.standard_normal((len(labels), 2, 12))
    x[:, 1, 0] += labels == "jazz"
    tags = np.where(labels == "jazz", "live|loud", np.where(rng.random(len(labels)) < 0.5, "loud", ""))
    return activations(x, labels, groups, tags=tags, bpm=110 + 20 * x[:, 1, 1])


@pytest.fixture(scope="module")
def probes(acts):
    """One fitted probe of each kind."""
    return {
        "probe": fit_probes(acts, l2=[0.1], shuffles=0).best,
        "number probe": fit_regression(acts, "bpm", l2=[0.1], shuffles=0).best,
        "label probe": fit_multilabel(acts, l2=[0.1]).best,
    }


D = 24


NAMES = ("drums", "guitar", "live", "voice")


def tagged(strength: float = 3.0, *, seed: int = 0, groups: int = 40, clips: int = 3):
    """Return (activations, held (n, 4), directions (4, d)); layer 1 holds a direction per tag."""
    rng = np.random.default_rng(seed)
    held = np.repeat(rng.random((groups, 4)) < [0.5, 0.3, 0.15, 0.4], clips, 0)
    vectors = np.linalg.qr(rng.standard_normal((D, 4)))[0].T
    x = rng.standard_normal((len(held), 2, D)) + 2
    x[:, 1] += strength * held @ vectors
    tags = np.array(["|".join(name for name, has in zip(NAMES, row, strict=True) if has) for row in held])
    names = np.array([f"track{number}" for number in np.repeat(np.arange(groups), clips)])
    return activations(x, tags, names, tags=tags), held, vectors


def uneven():
    """Return activations whose features are correlated and have deviations from 0.05 to 20."""
    acts, _ = planted(1.5, d=24)
    rng = np.random.default_rng(1)
    x = acts.matrix(1) @ rng.standard_normal((24, 24)) * np.geomspace(0.05, 20, 24)
    return activations(x[:, None], acts.labels(), acts.groups)
