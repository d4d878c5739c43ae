"""Activations of several sources as one array: real clips beside generated ones, for one map or one probe."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from workbench.activations.spec import refusal
from workbench.activations.values import Activations

_SAME = ("model_fingerprint", "pool", "window")


def join_activations(parts: Sequence[Activations]) -> Activations:
    """Return the samples of all parts, one part after the other, in memory.

    Kept are the sites that all parts hold, the coordinates that all of them have (labels included), and the
    attributes in which they agree. The coordinate `part` (0, 1 ...) says where a sample comes from.

    Raises:
        ActivationsError: there are no parts, or they differ in layers, width, frames, model or pooling.
    """
    shapes = {(tuple(part.layers.tolist()), part.d_model, part.data.sizes.get("frame")) for part in parts}
    differing = [name for name in _SAME if len({part.data.attrs.get(name) for part in parts}) > 1]
    sites = [site for site in parts[0].sites if all(site in part.sites for part in parts)] if parts else []
    if len(shapes) != 1 or differing or not sites:
        raise refusal(
            f"{len(parts)} parts were to be joined",
            f"they differ in {', '.join(differing) or 'layers, width, frames or sites'}"
            if parts
            else "there are none",
            "Capture them with the same model, layers, sites, pool and window",
        )
    first = parts[0]
    names = [str(name) for name in first.data.coords if all(name in part.data.coords for part in parts)]
    samples = {
        name: np.concatenate([part.coordinate(name) for part in parts]) for name in names if name != "layer"
    }
    samples["part"] = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    agreed = {
        name: value
        for name, value in first.data.attrs.items()
        if all(part.data.attrs.get(name) == value for part in parts)
    }
    return Activations.from_arrays(
        {site: np.concatenate([part.data[site].values for part in parts]) for site in sites},
        layers=first.layers,
        samples=samples,
        attrs=agreed,
        residual_norm=first.data["residual_norm"].values,
    )
