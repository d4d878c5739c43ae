"""Labelled activations: an xarray dataset with the few questions that probes and plots ask of it.

Dimensions are (sample, layer, [frame,] feature); `layer` carries the 0-based block. Sample coordinates say
what each row is: clip, group, label_<name>, text, row (cond or null), source (teacher-forced, generated ...).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from workbench.activations.pooling import POOLS, pool
from workbench.activations.spec import LABEL, check_held, check_parts, refusal
from workbench.sound.labels import as_text, in_order, missing, numbered

STORE_KEY = "workbench_store"  # the attribute in which a store keeps its own record


@dataclass(frozen=True, eq=False)
class Activations:
    """Activations of a model on labelled samples; numbers stay on disk until they are asked for.

    Args:
        data: one variable per site, and `residual_norm` over the layers.
        path: the store they come from; None for those that live in memory.
    """

    data: xr.Dataset
    path: Path | None = None

    @classmethod
    def from_arrays(
        cls,
        arrays: Mapping[str, np.ndarray],
        *,
        layers: Iterable[int],
        samples: Mapping[str, Any],
        attrs: Mapping[str, Any] | None = None,
        residual_norm: np.ndarray | None = None,
    ) -> Activations:
        """Return activations in memory.

        Args:
            arrays: site to values, shape (sample, layer, feature) or (sample, layer, frame, feature).
            layers: 0-based block of each row of the layer dimension.
            samples: coordinates of shape (sample,); "clip" and "group" at least.
            attrs: what describes the capture.
            residual_norm: R_l per layer, shape (layer,).
        """
        layers = tuple(int(layer) for layer in layers)
        coordinates = {name: np.asarray(values) for name, values in samples.items()}
        check_parts(tuple(arrays), layers, coordinates)
        shapes = {site: np.shape(values) for site, values in arrays.items()}
        expected = (len(coordinates["clip"]), len(layers))
        if any(shape[:2] != expected or len(shape) not in (3, 4) for shape in shapes.values()):
            raise refusal(
                f"Arrays of shape {(*expected, '...')} were asked for",
                f"{shapes} were given",
                "Order the dimensions (sample, layer, [frame,] feature)",
            )
        norms = np.full(len(layers), np.nan) if residual_norm is None else np.asarray(residual_norm, float)
        dims = {3: ("sample", "layer", "feature"), 4: ("sample", "layer", "frame", "feature")}
        variables: dict[str, Any] = {site: (dims[np.ndim(values)], values) for site, values in arrays.items()}
        variables["residual_norm"] = ("layer", norms)
        coords: dict[str, Any] = {name: ("sample", values) for name, values in coordinates.items()}
        return cls(xr.Dataset(variables, {**coords, "layer": list(layers)}, dict(attrs or {})))

    def __len__(self) -> int:
        return int(self.data.sizes["sample"])

    def __repr__(self) -> str:
        where = f", {self.path}" if self.path else ""
        return (
            f"Activations({len(self)} samples, layers {self.layers[0]}-{self.layers[-1]}, "
            f"d_model {self.d_model}, sites {', '.join(self.sites)}{where})"
        )

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of the sites."""
        return tuple(str(name) for name in self.data.data_vars if name != "residual_norm")

    @property
    def layers(self) -> np.ndarray:
        """0-based blocks that are held, ascending, shape (layer,)."""
        return np.asarray(self.data["layer"].values, dtype=int)

    @property
    def d_model(self) -> int:
        """Size of the feature dimension."""
        return int(self.data.sizes["feature"])

    @property
    def per_frame(self) -> bool:
        """Whether time is kept (True) or pooled (False)."""
        return "frame" in self.data.sizes

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the labels."""
        return tuple(str(name)[len(LABEL) :] for name in self.data.coords if str(name).startswith(LABEL))

    @property
    def clips(self) -> np.ndarray:
        """Clip id of each sample, shape (sample,)."""
        return self.coordinate("clip")

    @property
    def groups(self) -> np.ndarray:
        """Group of each sample, shape (sample,): what a split must never cut."""
        groups = self.coordinate("group")
        check_held("group", groups)
        return groups

    def labels(self, target: str = "genre") -> np.ndarray:
        """Return the label of each sample, shape (sample,), as text or float64."""
        if target not in self.targets:
            raise refusal(
                f"The label {target!r} was asked for",
                f"labels are {', '.join(self.targets) or 'none'}",
                "Use one of these, or capture a dataset that carries it",
            )
        labels = self.coordinate(LABEL + target)
        check_held(LABEL + target, labels)
        return labels

    def numbered(self, target: str = "genre") -> tuple[tuple[str, ...], np.ndarray]:
        """Return the class names of a label in rising order, and the class number of each sample (sample,).

        Numbers are classes, too: 1.0 is called "1", and "2" stands before "10".

        Raises:
            ActivationsError: the label is not held, or some samples have none.
        """
        labels = self.labels(target)
        lacking = int(missing(labels).sum())
        if lacking:
            raise refusal(
                f"The classes of {target!r} were asked for",
                f"{lacking} of {len(labels)} samples have none (NaN or empty)",
                "Leave them out with acts.subset",
            )
        return numbered(labels)

    def classes(self, target: str = "genre") -> tuple[str, ...]:
        """Return the distinct labels, in rising order."""
        labels = self.labels(target)
        if labels.dtype.kind == "f":
            raise refusal(
                f"The classes of {target!r} were asked for",
                "its values are numbers",
                "Label the dataset with text, for example in bins",
            )
        return in_order(labels.tolist())

    def coordinate(self, name: str) -> np.ndarray:
        """Return a sample coordinate, shape (sample,), as text or float64."""
        if name not in self.data.coords:
            raise refusal(
                f"The sample coordinate {name!r} was asked for",
                f"there are {', '.join(str(name) for name in self.data.coords)}",
                "Use one of these",
            )
        values = self.data[name].values
        return np.array(values.tolist(), dtype=str if values.dtype.kind in "OUST" else np.float64)

    def matrix(self, layer: int, *, site: str = "resid_post") -> np.ndarray:
        """Return pooled activations of one layer, shape (sample, feature) float32; only this layer is read.

        Raises:
            ActivationsError: layer or site is not held, time is not pooled, or the store is damaged.
        """
        if self.per_frame:
            raise refusal(
                "One vector per sample was asked for",
                "these activations keep their frames",
                'Use .pooled("mean").matrix(layer), or .frames(layer) for all of them',
            )
        values = self._read(layer, site)
        if not np.isfinite(values).all():
            raise refusal(
                f"Layer {layer} of {site!r} was asked for",
                "it holds numbers that are not finite",
                "Capture again: a chunk of the store is missing or damaged",
            )
        return values

    def frames(self, layer: int, *, site: str = "resid_post") -> np.ndarray:
        """Return one layer over time, shape (sample, frame, feature) float32; NaN behind a clip's end."""
        if not self.per_frame:
            raise refusal(
                "Frames were asked for",
                "these activations are pooled over time",
                "Capture with pool=None, or use .matrix(layer)",
            )
        return self._read(layer, site)

    def pooled(self, how: str = "mean", *, window: float | None = None) -> Activations:
        """Return activations pooled in memory over each sample's own frames: "mean", "max" or "last".

        With a `window` in seconds each stretch of that length becomes a sample of its own, with the
        coordinates start_s and length_s (windows.py).
        """
        if how not in POOLS:
            raise refusal(
                f"The pool {how!r} was asked for", f"there are {', '.join(POOLS)}", "Use one of these"
            )
        if window is not None:
            from workbench.activations.windows import pool_windows

            return pool_windows(self, how, window)
        if not self.per_frame:
            return self
        arrays = {}
        for site in self.sites:
            stack = [pool(self.frames(int(layer), site=site), how) for layer in self.layers]
            arrays[site] = np.stack(stack, axis=1)
        samples = {str(name): self.coordinate(str(name)) for name in self.data.coords if name != "layer"}
        samples.pop("frames_held", None)
        return Activations.from_arrays(
            arrays,
            layers=self.layers,
            samples=samples,
            attrs={**self.data.attrs, "pool": how},
            residual_norm=self.data["residual_norm"].values,
        )

    def residual_norm(self, layer: int) -> float:
        """Return R_l, the mean residual norm at the layer, which is the unit of dose."""
        norm = float(self.data["residual_norm"].values[self._position(layer)])
        if not np.isfinite(norm):
            raise refusal(
                f"The residual norm of layer {layer} was asked for",
                "the capture did not measure it",
                "Use model.residual_norms()[layer]",
            )
        return norm

    @property
    def fingerprint(self) -> str:
        """Hexadecimal SHA-256 of what was captured: description, sites, layers, samples; not the numbers."""
        names = [str(name) for name in self.data.coords if name != "layer"]
        told = {
            "attrs": {str(key): value for key, value in self.data.attrs.items() if key != STORE_KEY},
            "sites": self.sites,
            "layers": self.layers.tolist(),
            "samples": {name: self.coordinate(name).tolist() for name in names},
        }
        return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()

    def subset(self, mask: np.ndarray) -> Activations:
        """Return the samples that a boolean mask (sample,) or indices name."""
        mask = np.asarray(mask)
        if mask.dtype == bool and len(mask) != len(self):
            raise refusal(
                f"A mask of {len(mask)} was given",
                f"there are {len(self)} samples",
                "Make it from .labels(), .groups or .clips",
            )
        positions = np.flatnonzero(mask) if mask.dtype == bool else mask.astype(int)
        return replace(self, data=self.data.isel(sample=positions))

    def where(self, **values: str | float) -> Activations:
        """Return the samples with these labels or coordinates, e.g. `where(genre="jazz", row="cond")`."""
        mask = np.ones(len(self), dtype=bool)
        for name, value in values.items():
            held = self.labels(name) if name in self.targets else self.coordinate(name)
            mask &= (as_text(held) if isinstance(value, str) else held) == value
        if not mask.any():
            asked = ", ".join(f"{name}={value!r}" for name, value in values.items())
            do = "Look at acts.labels(name) and acts.coordinate(name)"
            raise refusal(f"Samples with {asked} were asked for", "there are none", do)
        return self.subset(mask)

    def _position(self, layer: int) -> int:
        found = np.flatnonzero(self.layers == layer)
        if len(found) == 0:
            raise refusal(
                f"Layer {layer} was asked for",
                f"layers {self.layers.tolist()} are held",
                "Use one of acts.layers, or capture this layer",
            )
        return int(found[0])

    def _read(self, layer: int, site: str) -> np.ndarray:
        """Return one layer of a site as float32, with damage told in the house's words."""
        if site not in self.sites:
            raise refusal(
                f"The site {site!r} was asked for",
                f"the sites are {', '.join(self.sites)}",
                "Use one of these, or capture this site",
            )
        position = self._position(layer)
        try:
            values = self.data[site].isel(layer=position).values
        except (
            ValueError,
            OSError,
            RuntimeError,
        ) as error:  # zarr: "Stored and computed checksum do not match"
            raise refusal(
                f"Layer {layer} of {site!r} was asked for",
                f"{self.path} is damaged ({error})",
                "Open it with open_activations(path, verify=True), which names the damaged file",
            ) from error
        return np.asarray(values, dtype=np.float32)
