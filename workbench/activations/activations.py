"""Activations of several sources as one array: real clips beside generated ones, for one map or one probe."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from workbench.activations.spec import LABEL, check_held, check_parts, refusal
from workbench.errors import number_or_nan
from workbench.sound.dataset import as_text, in_order, missing, numbered

# Pooling of per-frame activations over each sample's own frames.


POOLS = ("mean", "max", "last")


def pool(frames: np.ndarray, how: str) -> np.ndarray:
    """Return (sample, feature) of (sample, frame, feature); frames of NaN lie behind the end of a clip."""
    if how == "mean":
        return np.asarray(np.nanmean(frames, axis=1), dtype=np.float32)
    if how == "max":
        return np.asarray(np.nanmax(frames, axis=1), dtype=np.float32)
    held = np.isfinite(frames[:, :, 0]).sum(axis=1)
    return np.asarray(frames[np.arange(len(frames)), held - 1])


# Labelled activations: an xarray dataset with the few questions that probes and plots ask of it.
#
# Dimensions are (sample, layer, [frame,] feature); `layer` carries the 0-based block. Sample coordinates say
# what each row is: clip, group, label_<name>, text, row (cond or null), source (teacher-forced, generated
# ...).


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
        coordinates start_s and length_s (`pool_windows`).
        """
        if how not in POOLS:
            raise refusal(
                f"The pool {how!r} was asked for", f"there are {', '.join(POOLS)}", "Use one of these"
            )
        if window is not None:
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


# Windows: a clip cut into stretches of equal length, each pooled into a sample of its own.
#
# Windows follow one another without overlap. What is left at a clip's end makes a window of its own when
# it is
# at least half as long as the others, or when the clip has no other; otherwise it is dropped. Lengths are
# counted in frames here, and told in seconds.


def window_frames(seconds: float, frame_rate_hz: float) -> int:
    """Return the frames of a window of `seconds`, at least one.

    Raises:
        ActivationsError: it is no length of time.
    """
    if not 0 < number_or_nan(seconds) < math.inf:
        raise refusal(
            f"Windows of {seconds} s were asked for", "that is no length of time", "Use 1.0, or None for none"
        )
    return max(1, round(seconds * frame_rate_hz))


def window_counts(held: np.ndarray, window: int) -> np.ndarray:
    """Return how many windows (n,) of `window` frames clips of `held` (n,) frames are cut into."""
    full, rest = np.divmod(np.asarray(held, dtype=int), window)
    return np.maximum(1, full + (2 * rest >= window))


def window_times(
    held: np.ndarray, window: int, frame_rate_hz: float, *, start_s: float = 0.0
) -> dict[str, np.ndarray]:
    """Return "start_s" and "length_s" of every window, clip after clip, each of shape (windows,).

    Args:
        held: frames of each clip, shape (clips,).
        window: frames of a window.
        frame_rate_hz: frames per second.
        start_s: when the clips' first frame sounds.
    """
    counts = window_counts(held, window)
    first = window * np.concatenate([np.arange(count) for count in counts])
    length = np.minimum(window, np.repeat(held, counts) - first)
    return {"start_s": start_s + first / frame_rate_hz, "length_s": length / frame_rate_hz}


def pool_windows(acts: Activations, how: str, window_s: float) -> Activations:
    """Return per-frame activations pooled per window, in memory: one sample per window, same clip and group.

    Raises:
        ActivationsError: time is not kept, the frame rate is not known, or the pool or window makes no sense.
    """
    if how not in POOLS or not acts.per_frame or "frame_rate_hz" not in acts.data.attrs:
        raise refusal(
            f"The {how!r} of windows of {window_s} s was asked for",
            f"pools are {', '.join(POOLS)}, and these activations "
            f"{'do not tell their frame rate' if acts.per_frame else 'are pooled over time already'}",
            "Capture with pool=None, or with window=...",
        )
    rate = float(acts.data.attrs["frame_rate_hz"])
    window = window_frames(window_s, rate)
    held = np.isfinite(acts.frames(int(acts.layers[0]), site=acts.sites[0])[:, :, 0]).sum(axis=1)
    counts = window_counts(held, window)
    names = [str(name) for name in acts.data.coords if name not in ("layer", "frames_held")]
    start_s = float(acts.data.attrs.get("start_s", 0.0))
    return Activations.from_arrays(
        {
            site: np.stack(
                [
                    _pooled(acts.frames(int(layer), site=site), counts, window=window, how=how)
                    for layer in acts.layers
                ],
                axis=1,
            )
            for site in acts.sites
        },
        layers=acts.layers,
        samples={name: np.repeat(acts.coordinate(name), counts) for name in names}
        | window_times(held, window, rate, start_s=start_s),
        attrs={**acts.data.attrs, "pool": how, "window": window},
        residual_norm=acts.data["residual_norm"].values,
    )


def _pooled(frames: np.ndarray, counts: np.ndarray, *, window: int, how: str) -> np.ndarray:
    """Return (windows, feature), clip after clip, of (clip, frame, feature)."""
    result = np.empty((counts.sum(), frames.shape[-1]), dtype=np.float32)
    first = np.cumsum(counts) - counts
    for number in range(counts.max()):
        members = np.flatnonzero(counts > number)
        stretch = frames[members, number * window : (number + 1) * window]
        result[first[members] + number] = pool(stretch, how)
    return result


# Single attention heads: where a head's numbers lie in a row of the site `head_out`, and its name.
#
# `head_out` is what the heads give to the output projection, before it mixes them: a row of d_model
# numbers in
# which head 0 has the first d_model / n_heads, head 1 the next, and so on.


HEAD_SITE = "head_out"


def head_slice(d_model: int, n_heads: int, head: int) -> slice:
    """Return where head `head` of `n_heads` lies in a row of `d_model` numbers.

    Raises:
        ActivationsError: there is no such head, or the heads do not divide the row.
    """
    if n_heads < 1 or d_model % n_heads or not 0 <= head < n_heads:
        raise refusal(
            f"Head {head} was asked for",
            f"there are heads 0-{n_heads - 1} in rows of {d_model} numbers",
            "Use one of these",
        )
    width = d_model // n_heads
    return slice(head * width, (head + 1) * width)


def head_name(layer: int, head: int) -> str:
    """Return the usual name of a head.

    >>> head_name(5, 3)
    'L5H3'
    """
    return f"L{layer}H{head}"


def cut_head(acts: Activations, head: int, *, n_heads: int | None = None) -> Activations:
    """Return one head of every layer: the site `head_out` alone, with d_model / n_heads features.

    Probes are fitted to it as to any other: `fit_probes(cut_head(acts, 3), site="head_out")`.

    Args:
        acts: activations that hold `head_out`.
        head: 0-based number of the head.
        n_heads: heads of a block; what the capture wrote down when None.

    Raises:
        ActivationsError: `head_out` is not held, the number of heads is not known, or there is no such head.
    """
    known = acts.data.attrs.get("n_heads") if n_heads is None else n_heads
    if HEAD_SITE not in acts.sites or known is None:
        raise refusal(
            f"Head {head} was asked for",
            f"the sites are {', '.join(acts.sites)}, with {known or 'an unknown number of'} heads",
            f"Capture with sites=({HEAD_SITE!r},)",
        )
    part = acts.data.isel(feature=head_slice(acts.d_model, int(known), head))
    others = [site for site in acts.sites if site != HEAD_SITE]
    return replace(acts, data=part.drop_vars(others).assign_attrs(head=head))


_SAME = ("model_fingerprint", "pool", "window")


def concat_activations(parts: Sequence[Activations]) -> Activations:
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
