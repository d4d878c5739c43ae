"""Labelled activations: an xarray dataset with the few questions that probes and plots ask of it.

Dimensions are (sample, layer, [frame,] feature); `layer` carries the 0-based block. Sample coordinates say
what each row is: clip, group, label_<name>, text, row (cond or null), source (teacher-forced, generated ...).

A clip may be cut into windows that do not overlap, each pooled into a sample of its own. What is left at its
end makes a window if it is at least half as long as the others, or if the clip has no other.
"""

from __future__ import annotations

import hashlib
import html
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr

from workbench.activations.spec import LABEL, check_complete, check_parts
from workbench.errors import ActivationsError, renamed_keywords
from workbench.sound.dataset import as_text, in_order, missing, numbered

POOLS = ("mean", "max", "last")
STORE_KEY = "workbench_store"  # the attribute in which a store keeps its own record
HEAD_SITE = "head_out"  # a row of d_model numbers, head after head: what the output projection reads
_SHOWN = 6  # samples that a notebook shows
_SAME = ("model_fingerprint", "pool", "window")  # attributes in which joined parts must agree


@dataclass(frozen=True, eq=False)
class Activations:
    """Activations of a model on labelled samples; numbers stay on disk until they are needed.

    `data` has one variable per site, and `residual_norm` over the layers; `path` is the store they come from.

    >>> samples = {"clip": ["a", "b"], "group": ["x", "y"], "label_genre": ["jazz", "rock"]}
    >>> acts = Activations.from_arrays({"resid_post": np.zeros((2, 3, 4))}, layers=range(3), samples=samples)
    >>> acts
    Activations(2 samples, layers 0-2, d_model 4, sites resid_post)
    >>> acts.sel(layer=1).matrix(1).shape, acts.labels("genre").tolist()
    ((2, 4), ['jazz', 'rock'])
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
        """Return activations in memory, from values (sample, layer, [frame,] feature) by site.

        Samples are coordinates (sample,), "clip" and "group" at least; attrs describe the capture, and the
        residual norm R_l has the shape (layer,). ActivationsError where the parts do not fit one another.
        """
        layers = tuple(int(layer) for layer in layers)
        coordinates = {name: np.asarray(values) for name, values in samples.items()}
        check_parts(tuple(arrays), layers, coordinates)
        shapes = {site: np.shape(values) for site, values in arrays.items()}
        expected = (len(coordinates["clip"]), len(layers))
        if any(shape[:2] != expected or len(shape) not in (3, 4) for shape in shapes.values()):
            asked = f"Arrays of shape {(*expected, '...')} were asked for"
            do = "Order the dimensions (sample, layer, [frame,] feature)"
            raise ActivationsError(asked, f"{shapes} were given", do)
        norms = np.full(len(layers), np.nan) if residual_norm is None else np.asarray(residual_norm, float)
        dims = {3: ("sample", "layer", "feature"), 4: ("sample", "layer", "frame", "feature")}
        variables: dict[str, Any] = {site: (dims[np.ndim(values)], values) for site, values in arrays.items()}
        coords: dict[str, Any] = {name: ("sample", values) for name, values in coordinates.items()}
        variables["residual_norm"], coords["layer"] = ("layer", norms), list(layers)
        return cls(xr.Dataset(variables, coords, dict(attrs or {})))

    def __len__(self) -> int:
        return int(self.data.sizes["sample"])

    def __repr__(self) -> str:
        where = f", {self.path}" if self.path else ""
        sizes = f"{len(self)} samples, layers {self.layers[0]}-{self.layers[-1]}, d_model {self.d_model}"
        return f"Activations({sizes}, sites {', '.join(self.sites)}{where})"

    def _repr_html_(self) -> str:
        first = self.subset(np.arange(min(_SHOWN, len(self)))).to_dataframe()
        more = f"<p>... and {len(self) - _SHOWN} more samples</p>" if len(self) > _SHOWN else ""
        return f"<p>{html.escape(repr(self))}</p>{first.to_html(max_cols=12)}{more}"

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of the sites."""
        return tuple(str(name) for name in self.data.data_vars if name != "residual_norm")

    @property
    def layers(self) -> np.ndarray:
        """0-based blocks, ascending, shape (layer,)."""
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
    def coordinates(self) -> tuple[str, ...]:
        """Names of the sample coordinates, labels included."""
        return tuple(str(name) for name in self.data.coords if name != "layer")

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the labels."""
        return tuple(name[len(LABEL) :] for name in self.coordinates if name.startswith(LABEL))

    @property
    def clips(self) -> np.ndarray:
        """Clip id of each sample, shape (sample,)."""
        return self.coordinate("clip")

    @property
    def groups(self) -> np.ndarray:
        """Group of each sample, shape (sample,): what a split must never cut."""
        groups = self.coordinate("group")
        check_complete("group", groups)
        return groups

    def labels(self, target: str = "genre") -> np.ndarray:
        """Return the label of each sample, shape (sample,), as text or float64."""
        ActivationsError.among(target, self.targets, "The label", held="labels are")
        labels = self.coordinate(LABEL + target)
        check_complete(LABEL + target, labels)
        return labels

    def numbered(self, target: str = "genre") -> tuple[tuple[str, ...], np.ndarray]:
        """Return the class names of a label in rising order, and the class number of each sample (sample,).

        Numbers are classes, too: 1.0 is called "1", and "2" stands before "10". ActivationsError where there
        is no such label, or some samples have none.
        """
        labels = self.labels(target)
        if lacking := int(missing(labels).sum()):
            asked = f"The classes of {target!r} were asked for"
            found = f"{lacking} of {len(labels)} samples have none (NaN or empty)"
            raise ActivationsError(asked, found, "Leave them out with acts.subset")
        return numbered(labels)

    def classes(self, target: str = "genre") -> tuple[str, ...]:
        """Return the distinct labels, in rising order."""
        labels = self.labels(target)
        if labels.dtype.kind == "f":
            do = "Label the dataset with text, for example in bins"
            raise ActivationsError(f"The classes of {target!r} were asked for", "its values are numbers", do)
        return in_order(labels.tolist())

    def coordinate(self, name: str) -> np.ndarray:
        """Return a sample coordinate, shape (sample,), as text or float64."""
        ActivationsError.among(name, self.coordinates, "The coordinate")
        values = self.data[name].values
        return np.array(values.tolist(), dtype=str if values.dtype.kind in "OUST" else np.float64)

    def matrix(self, layer: int, *, site: str = "resid_post") -> np.ndarray:
        """Return pooled activations of one layer, shape (sample, feature) float32; only this layer is read.

        ActivationsError for no such layer or site, frames that are not pooled, or a damaged store.
        """
        if self.per_frame:
            found = "these activations keep their frames"
            do = 'Use .pooled("mean").matrix(layer) or .frames(layer)'
            raise ActivationsError("One vector per sample was asked for", found, do)
        values = self._read(layer, site)
        if not np.isfinite(values).all():
            asked, found = f"Layer {layer} of {site!r} was asked for", "it holds numbers that are not finite"
            raise ActivationsError(asked, found, "Capture again: a chunk of the store is missing or damaged")
        return values

    def frames(self, layer: int, *, site: str = "resid_post") -> np.ndarray:
        """Return one layer over time, shape (sample, frame, feature) float32; NaN behind a clip's end."""
        if not self.per_frame:
            do = "Capture with pool=None, or use .matrix(layer)"
            raise ActivationsError("Frames were asked for", "these activations are pooled over time", do)
        return self._read(layer, site)

    @renamed_keywords(window="window_seconds")
    def pooled(self, how: str = "mean", *, window_seconds: float | None = None) -> Activations:
        """Return activations in memory, pooled ("mean", "max" or "last") over each sample's own frames.

        With `window_seconds` each stretch of this length becomes a sample of its own, with the coordinates
        start_s and length_s. ActivationsError where time is not kept, its rate is not known, or the pool or
        window makes no sense.
        """
        rate: Any = self.data.attrs.get("frame_rate_hz")
        ActivationsError.among(how, POOLS, "The pool")
        if window_seconds is None and not self.per_frame:
            return self
        if window_seconds is not None and (not self.per_frame or rate is None):
            asked = f"Windows of {window_seconds} s were asked for"
            found = "do not tell their frame rate" if self.per_frame else "are pooled over time already"
            do = "Capture with pool=None, or with window_seconds=..."
            raise ActivationsError(asked, f"these activations {found}", do)
        samples = {name: self.coordinate(name) for name in self.coordinates if name != "frames_held"}
        attrs = {**self.data.attrs, "pool": how}
        lengths = np.isfinite(self.frames(int(self.layers[0]), site=self.sites[0])[:, :, 0]).sum(axis=1)
        window, counts = None, np.ones(len(self), int)
        if window_seconds is not None:
            attrs["window"] = window = window_frames(window_seconds, float(rate))
            counts, start_s = window_counts(lengths, window), float(self.data.attrs.get("start_s", 0.0))
            samples = {name: np.repeat(values, counts) for name, values in samples.items()}
            samples |= window_times(lengths, window, float(rate), start_s=start_s)
        kept = np.arange(counts.max()) < counts[:, None]
        arrays = {}
        for site in self.sites:
            layers = (torch.tensor(self.frames(layer, site=site)) for layer in self.layers.tolist())
            made = [pool_frames(one, torch.tensor(lengths), how, window) for one in layers]
            arrays[site] = np.stack([one.view(*kept.shape, -1).numpy()[kept] for one in made], axis=1)
        norms = self.data["residual_norm"].values
        return self.from_arrays(arrays, layers=self.layers, samples=samples, attrs=attrs, residual_norm=norms)

    def residual_norm(self, layer: int) -> float:
        """Return R_l, the mean residual norm at the layer, which is the unit of dose."""
        norm, _known = self.origin(layer)
        if not np.isfinite(norm):
            asked = f"The residual norm of layer {layer} was asked for"
            do = "Use model.residual_norms()[layer]"
            raise ActivationsError(asked, "the capture did not measure it", do)
        return norm

    def origin(self, layer: int) -> tuple[float, dict[str, str]]:
        """Return R_l, NaN where it was not measured, and what is known: model, dataset, model's precision."""
        # Reading needs no R; only a dose refuses that it is not there.
        attrs = self.data.attrs | {"precision": self.data.attrs.get("dtype", "")}
        known = {name: str(attrs.get(name, "")) for name in ("model_id", "dataset_fingerprint", "precision")}
        return float(self.data["residual_norm"].values[self._position(layer)]), known

    @property
    def fingerprint(self) -> str:
        """Hexadecimal SHA-256 of what was captured: description, sites, layers, samples; not the numbers."""
        attrs = {str(key): value for key, value in self.data.attrs.items() if key != STORE_KEY}
        samples = {name: self.coordinate(name).tolist() for name in self.coordinates}
        record = {"attrs": attrs, "sites": self.sites, "layers": self.layers.tolist(), "samples": samples}
        return hashlib.sha256(json.dumps(record, sort_keys=True, default=str).encode()).hexdigest()

    def sel(
        self,
        *,
        layer: int | Sequence[int] | None = None,
        site: str | Sequence[str] | None = None,
        sample: int | Sequence[int] | np.ndarray | None = None,
    ) -> Activations:
        """Return the activations of some layers, sites or samples (see `subset`); no numbers are read.

        What is not there is an ActivationsError and a KeyError.

        >>> samples = {"clip": ["a", "b"], "group": ["x", "y"]}
        >>> acts = Activations.from_arrays({"mlp_out": np.zeros((2, 3, 4))}, layers=range(3), samples=samples)
        >>> acts.sel(layer=[0, 2], sample=1)
        Activations(1 samples, layers 0-2, d_model 4, sites mlp_out)
        """
        data = self.data
        if layer is not None:
            data = data.isel(layer=np.unique([self._position(one) for one in np.atleast_1d(layer).tolist()]))
        if site is not None:
            sites = [site] if isinstance(site, str) else site
            data = data[[*map(self._known_site, sites), "residual_norm"]]
        part = replace(self, data=data)
        return part if sample is None else part.subset(np.atleast_1d(sample))

    def to_dataframe(self, layer: int | None = None, *, site: str = "resid_post") -> pd.DataFrame:
        """Return a table with a row per sample: its labels under their names, and what else is known of it.

        With a layer its features (see `matrix`) become the columns feature_0, feature_1 ...

        >>> samples = {"clip": ["a", "b"], "group": ["x", "y"], "label_genre": ["jazz", "rock"]}
        >>> acts = Activations.from_arrays({"resid_post": np.zeros((2, 1, 2))}, layers=[0], samples=samples)
        >>> acts.to_dataframe(layer=0).columns.tolist()
        ['clip', 'group', 'genre', 'feature_0', 'feature_1']
        """
        plain = {name: name.removeprefix(LABEL) for name in self.coordinates}
        names = {name: name if short in plain else short for name, short in plain.items()}
        table = pd.DataFrame({names[name]: self.coordinate(name) for name in names})
        if layer is None:
            return table
        features = [f"feature_{number}" for number in range(self.d_model)]
        return table.join(pd.DataFrame(self.matrix(layer, site=site), columns=features))

    def subset(self, mask: np.ndarray) -> Activations:
        """Return the samples that a boolean mask (sample,) or positions name."""
        mask = np.asarray(mask)
        if mask.dtype == bool and len(mask) != len(self):
            do = "Make it from .labels(), .groups or .clips"
            raise ActivationsError(f"A mask of {len(mask)} was given", f"there are {len(self)} samples", do)
        positions = np.flatnonzero(mask) if mask.dtype == bool else mask.astype(int)
        if positions.size and not -len(self) <= positions.min() <= positions.max() < len(self):
            asked = f"Sample {positions.max()} was asked for"
            raise ActivationsError.lookup(asked, f"there are {len(self)}", "Count them from 0")
        return replace(self, data=self.data.isel(sample=positions))

    def where(self, **values: str | float) -> Activations:
        """Return the samples with these labels or coordinates, e.g. `where(genre="jazz", row="cond")`."""
        mask = np.ones(len(self), dtype=bool)
        for name, value in values.items():
            own = self.labels(name) if name in self.targets else self.coordinate(name)
            mask &= (as_text(own) if isinstance(value, str) else own) == value
        if not mask.any():
            asked = ", ".join(f"{name}={value!r}" for name, value in values.items())
            do = "Look at acts.labels(name) and acts.coordinate(name)"
            raise ActivationsError.lookup(f"Samples with {asked} were asked for", "there are none", do)
        return self.subset(mask)

    def _position(self, layer: int) -> int:
        layers = self.layers.tolist()
        if layer not in layers:
            found, do = f"the layers are {layers}", "Use one of acts.layers, or capture this layer"
            raise ActivationsError.lookup(f"Layer {layer} was asked for", found, do)
        return layers.index(layer)

    def _known_site(self, site: str) -> str:
        do = "Use one of these, or capture this site"
        ActivationsError.among(site, self.sites, "The site", held="the sites are", do=do)
        return site

    def _read(self, layer: int, site: str) -> np.ndarray:
        """Return one layer of a site as float32; damage of the store becomes an ActivationsError."""
        part = self.data[self._known_site(site)].isel(layer=self._position(layer))
        try:
            values = part.values
        except (ValueError, OSError, RuntimeError) as error:  # "Stored and computed checksum do not match"
            asked, found = f"Layer {layer} of {site!r} was asked for", f"{self.path} is damaged ({error})"
            do = "Open it with open_activations(path, verify=True), which names the damaged file"
            raise ActivationsError(asked, found, do) from error
        return np.asarray(values, dtype=np.float32)


def window_frames(seconds: float, frame_rate_hz: float) -> int:
    """Return the frames of a window of `seconds`, at least one; ActivationsError where it is no length."""
    no_time, do = "that is no length of time", "Use 1.0, or None for none"
    seconds = ActivationsError.number(seconds, "A window of", above=0, found=no_time, do=do)
    return max(1, round(seconds * frame_rate_hz))


def window_counts(frames: np.ndarray, window: int) -> np.ndarray:
    """Return how many windows (n,) of `window` frames clips of so many `frames` (n,) are cut into."""
    full, rest = np.divmod(np.asarray(frames, dtype=int), window)
    return np.maximum(1, full + (2 * rest >= window))


def window_times(
    frames: np.ndarray, window: int, frame_rate_hz: float, *, start_s: float = 0.0
) -> dict[str, np.ndarray]:
    """Return "start_s" and "length_s" (windows,) of all windows of clips of so many `frames` (clips,)."""
    counts = window_counts(frames, window)
    first = window * np.concatenate([np.arange(count) for count in counts])
    length = np.minimum(window, np.repeat(frames, counts) - first)
    return {"start_s": start_s + first / frame_rate_hz, "length_s": length / frame_rate_hz}


def pool_frames(
    frames: torch.Tensor, lengths: torch.Tensor, how: str | None, window: int | None = None
) -> torch.Tensor:
    """Return a copy on the CPU, in float32, of frames (rows, frame, feature) pooled as one of POOLS says.

    So many frames of each row are sound as `lengths` (rows,) say. Without a window it is (rows, feature), or
    for None as a pool (rows, frame, feature); with one (rows, windows, feature). NaN lies behind the end.
    """
    if window is not None:
        counts = torch.as_tensor(window_counts(lengths.cpu().numpy(), window))
        most = int(counts.max())
        # padded, or cut, to whole windows
        whole = torch.nn.functional.pad(frames, (0, 0, 0, most * window - frames.shape[1]))
        inside = (lengths[:, None] - window * torch.arange(most, device=lengths.device)).clamp(1, window)
        windows = whole.reshape(-1, window, frames.shape[-1])
        result = pool_frames(windows, inside.flatten(), how).reshape(len(lengths), most, -1)
        result[torch.arange(most) >= counts[:, None]] = torch.nan
        return result
    values = frames.float()
    behind = (torch.arange(values.shape[1], device=values.device) >= lengths[:, None])[..., None]
    if how == "mean":
        result = values.masked_fill(behind, 0).sum(1) / lengths[:, None]
    elif how == "max":
        result = values.masked_fill(behind, -torch.inf).amax(1)
    elif how == "last":
        result = values[torch.arange(len(lengths), device=lengths.device), lengths - 1]
    else:
        result = values.masked_fill(behind, torch.nan)
    return result.detach().cpu().clone()


def head_slice(d_model: int, n_heads: int, head: int) -> slice:
    """Return where head `head` of `n_heads` lies in a row of `d_model` numbers.

    >>> head_slice(64, 4, 1)
    slice(16, 32, None)
    """
    if n_heads < 1 or d_model % n_heads or not 0 <= head < n_heads:
        found = f"there are heads 0-{n_heads - 1} in rows of {d_model} numbers"
        raise ActivationsError.lookup(f"Head {head} was asked for", found, "Use one of these")
    width = d_model // n_heads
    return slice(head * width, (head + 1) * width)


def head_name(layer: int, head: int) -> str:
    """Return the usual name of a head.

    >>> head_name(5, 3)
    'L5H3'
    """
    return f"L{layer}H{head}"


def cut_head(acts: Activations, head: int, *, n_heads: int | None = None) -> Activations:
    """Return one 0-based head of every layer: the site `head_out` alone, with d_model / n_heads features.

    Probes are fitted as to any other site: `fit_probes(cut_head(acts, 3), site="head_out")`. ActivationsError
    where there is no such site or head, or neither `n_heads` nor the capture says how many there are.
    """
    known = acts.data.attrs.get("n_heads") if n_heads is None else n_heads
    if HEAD_SITE not in acts.sites or known is None:
        found = f"the sites are {', '.join(acts.sites)}, with {known or 'an unknown number of'} heads"
        raise ActivationsError(f"Head {head} was asked for", found, f"Capture with sites=({HEAD_SITE!r},)")
    part = acts.data.isel(feature=head_slice(acts.d_model, int(known), head))
    others = [site for site in acts.sites if site != HEAD_SITE]
    return replace(acts, data=part.drop_vars(others).assign_attrs(head=head))


def concat_activations(parts: Sequence[Activations]) -> Activations:
    """Return the samples of all parts, one part after the other, in memory.

    Kept are the sites that all parts have, the coordinates that all of them have (labels included), and the
    attributes in which they agree. The coordinate `part` (0, 1 ...) says where a sample comes from.
    ActivationsError for no parts, or parts that differ in layers, width, frames, model or pooling.
    """
    shapes = {(tuple(part.layers.tolist()), part.d_model, part.data.sizes.get("frame")) for part in parts}
    differing = [name for name in _SAME if len({part.data.attrs.get(name) for part in parts}) > 1]
    sites = [site for site in parts[0].sites if all(site in part.sites for part in parts)] if parts else []
    if len(shapes) != 1 or differing or not sites:
        found = f"they differ in {', '.join(differing) or 'layers, width, frames or sites'}"
        asked, do = f"{len(parts)} parts were to be joined", "Capture them with the same settings"
        raise ActivationsError(asked, found if parts else "there are none", do)
    first, norms = parts[0].data.attrs.items(), parts[0].data["residual_norm"].values
    arrays = {site: np.concatenate([part.data[site].values for part in parts]) for site in sites}
    attrs = {key: one for key, one in first if all(part.data.attrs.get(key) == one for part in parts)}
    names = [name for name in parts[0].coordinates if all(name in part.data.coords for part in parts)]
    samples = {name: np.concatenate([part.coordinate(name) for part in parts]) for name in names}
    samples["part"] = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    about: Any = {"layers": parts[0].layers, "samples": samples, "attrs": attrs, "residual_norm": norms}
    return Activations.from_arrays(arrays, **about)
