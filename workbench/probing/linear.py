"""What probes of every kind share: reading, directions, equality by value, a table, a picture and a file.

A probe's file is safetensors: the arrays as float64, and all else as JSON in its metadata. The probes of all
layers are a folder of such files, and one of what was held out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

import numpy as np
import pandas as pd

from workbench import files
from workbench.errors import ProbeError, is_nan, is_number, is_text, is_whole
from workbench.probing.solvers import LINKS
from workbench.steering import Direction

Array = np.ndarray
SWEEP = "sweep.safetensors"


@dataclass(frozen=True, eq=False, kw_only=True)
class LinearProbe:
    """A linear probe in raw residual space: readings = x W' + b, the scaling of features folded back in."""

    weights: Array  # (*rows, d) float64, read-only; rows is () where one number is read, else (names,)
    bias: Array | float  # (*rows,)
    mean: Array  # of the training samples (d,)
    layer: int  # the decoder block that is read
    site: str  # where in the block
    target: str  # the label that is read
    scores: Any  # held-out figures of the same recipe; the probe itself is fitted on all samples
    residual_norm: float  # mean norm of the residual stream at this layer, for doses
    model_id: str = ""
    dataset_fingerprint: str = ""
    precision: str = ""  # of the model that the activations were read in

    kind: ClassVar[str]
    version: ClassVar[int] = 1
    naming: ClassVar[str] = ""
    tensors: ClassVar[tuple[str, ...]]
    scores_type: ClassVar[type[Any]]
    saved_as: ClassVar[Mapping[str, str]] = {"l2": "strength"}
    axis: ClassVar[str]
    figures: ClassVar[tuple[str, str, str]]

    def __post_init__(self) -> None:
        asked = f"A {self.kind} of the {self.target} at layer {self.layer} was asked for"
        wanted = {"weights": (*self.rows, np.size(self.mean)), "mean": (np.size(self.mean),)}
        for name in self.tensors:
            # Row order matters: safetensors writes the bytes of a transposed array as they lie.
            array = np.array(getattr(self, name), dtype=np.float64, order="C")
            array.setflags(write=False)
            object.__setattr__(self, name, array)
            if array.shape != (expected := wanted.get(name, self.rows)):
                found = f"its {name} have the shape {array.shape} where {expected} was expected"
                raise ProbeError(asked, found, "Pass arrays that fit one another")
        if problem := _problem(self):
            raise ProbeError(asked, problem, "Pass finite numbers, and text for names")
        object.__setattr__(self, "layer", int(self.layer))

    @property
    def rows(self) -> tuple[int, ...]:
        """The shape of one sample's reading: (names,), or () where one number is read."""
        return (len(getattr(self, self.naming)),) if self.naming else ()

    @property
    def headline(self) -> tuple[float, float, float]:
        """The figure by which layers are compared, and its 95 % interval; `axis` says which it is."""
        value, low, high = (float(getattr(self.scores, name)) for name in self.figures)
        return value, low, high

    def summary(self) -> dict[str, Any]:
        """Return the row of this probe in the table of all layers: its scores, and how it was fitted."""
        scores = {name: one for name, one in vars(self.scores).items() if not isinstance(one, pd.DataFrame)}
        fitted = [name for name in ("method", "l2") if name in vars(self) and name not in self.tensors]
        return {"layer": self.layer, **scores, **{name: getattr(self, name) for name in fitted}}

    def _bars(self) -> dict[str, tuple[float, float, float]]:
        """Return what `plot` shows: name -> (value, low, high)."""
        scores = self.scores
        shuffled = scores.shuffled_mean, scores.shuffled_low, scores.shuffled_high
        return {f"layer {self.layer}": self.headline, "shuffled": shuffled}

    def plot(self) -> Any:
        """Return the figure of what the probe is worth, with 95 % intervals."""
        bars = {name: values for name, values in self._bars().items() if not np.isnan(values[0])}
        return plot_bars(bars, self, f"How well does layer {self.layer} tell the {self.target}?")

    def _repr_html_(self) -> str:
        return small_table(f"{self.kind} of the {self.target} at layer {self.layer}", [self.summary()])

    def read(self, x: Array) -> Array:
        """Return the readings (..., *rows) of residuals (..., d); raise ProbeError where these are none."""
        try:
            x = np.asarray(x, dtype=np.float64)
        except (TypeError, ValueError) as error:
            found = f"these are no numbers ({error})"
            raise ProbeError("Residuals were to be read", found, "Pass an array of floats") from error
        read = f"to be read by the probe of layer {self.layer}"
        if x.ndim == 0 or x.shape[-1] != self.mean.size:
            found = f"it reads residuals of width {self.mean.size}"
            do = "Pass residuals of the model it is of"
            raise ProbeError(f"An array of shape {x.shape} was {read}", found, do)
        if broken := int((~np.isfinite(x).all(-1)).sum()):
            found = f"{broken} of them hold NaN or infinite numbers"
            do = "Leave them out (frames behind the end of a clip are NaN)"
            raise ProbeError(f"{x[..., 0].size} sample(s) were {read}", found, do)
        return np.asarray(x @ self.weights.T + self.bias)

    def along(self, weights: Array, name: str, origin: Mapping[str, str]) -> Direction:
        """Return the unit direction of `weights` (d,); `origin` has the method, and the score by its name."""
        noted = ("target", "model_id", "dataset_fingerprint", "precision")
        origin = {one: getattr(self, one) for one in noted} | dict(origin)
        place = {"residual_norm": self.residual_norm, "centre": float(self.mean @ weights)}
        along = weights.astype(np.float32)
        return Direction(along, self.layer, self.site, name=name, origin=origin, **place).unit()

    def save(self, path: Path | str) -> Path:
        """Write the probe and return the path; on a DiskError (full, read-only) an older file stays whole."""
        return files.write_atomically(path, self.packed())

    def packed(self) -> bytes:
        """Return the bytes of the file that `save` writes."""
        arrays = {self.saved_as.get(name, name): getattr(self, name) for name in self.tensors}
        return files.pack_arrays({"format": self._format()} | self._record(), arrays)

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Return the probe that `save` wrote; raise ProbeError for a damaged file or one of another kind."""
        named = {saved: name for name, saved in cls.saved_as.items()}
        asked, do = f"A {cls.kind} was asked for from {path}", f"Use a file that {cls.__name__}.save wrote"
        read = files.unpacked(path, cls._format())
        with ProbeError.damage(asked, do, "the file holds none"), read as (kept, arrays):
            scores = kept.pop("scores").items()
            tables = {name: pd.DataFrame(one) if isinstance(one, dict) else one for name, one in scores}
            record = {named.get(name, name): one for name, one in kept.items()}
            record |= {name: arrays[cls.saved_as.get(name, name)] for name in cls.tensors}
            return cls(scores=cls.scores_type(**tables), **record)

    def __eq__(self, other: object) -> bool:
        # As bytes, because a score that was not measured is NaN, which equals nothing.
        return self.packed() == other.packed() if isinstance(other, type(self)) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.packed())

    @classmethod
    def _format(cls) -> str:
        return f"musicgen-workbench {cls.kind} {cls.version}"

    def _record(self) -> dict[str, Any]:
        """Return everything but the arrays, as JSON holds it; a table of scores becomes its columns."""
        kept = {name: value for name, value in vars(self).items() if name not in (*self.tensors, "scores")}
        scores = vars(self.scores).items()
        tables = {name: one.to_dict("list") if isinstance(one, pd.DataFrame) else one for name, one in scores}
        return {self.saved_as.get(name, name): value for name, value in kept.items()} | {"scores": tables}


def _problem(probe: LinearProbe) -> str:
    """Return what is wrong with the values of a probe, or an empty text."""
    names = [probe.site, probe.target, probe.model_id, probe.dataset_fingerprint, probe.precision]
    names += [getattr(probe, "method", ""), *getattr(probe, probe.naming, ())]
    if not all(is_text(name) for name in names):
        return f"its names are {names!r}"
    if getattr(probe, "link", LINKS[0]) not in LINKS:
        return f"its link {probe.link!r} is none of {', '.join(LINKS)}"  # type: ignore[attr-defined]
    if not is_whole(probe.layer):
        return f"its layer {probe.layer!r} is no whole number from 0"
    if not all(np.isfinite(getattr(probe, name)).all() for name in probe.tensors if name != "l2"):
        return "some of its numbers are not finite"
    numbers = {"residual_norm": probe.residual_norm, **vars(probe.scores)}
    numbers |= {name: getattr(probe, name, 0.0) for name in ("l2", "bias") if name not in probe.tensors}
    for name, value in numbers.items():
        if not (isinstance(value, pd.DataFrame) or is_number(value) or is_nan(value)):
            return f"its {name} is {value!r}"
    return ""


def small_table(title: str, rows: list[dict[str, Any]]) -> str:
    """Return a table as HTML, three digits a number, for a notebook's cell."""
    table = pd.DataFrame(rows).to_html(index=False, border=0, float_format="{:.3g}".format)
    return f"<div><b>{escape(title)}</b>{table}</div>"


def plot_bars(bars: Mapping[str, tuple[float, float, float]], probe: LinearProbe, question: str) -> Any:
    """Return the figure of named figures (value, low, high) of probes like this one, one line each."""
    from workbench.show.plots.probing import shares

    columns = ["name", "value", "low", "high"]
    rows = pd.DataFrame([(name, *one) for name, one in bars.items()], columns=columns)
    return shares(rows, question, axis=probe.axis, chance=getattr(probe.scores, "chance", None))


P = TypeVar("P", bound=LinearProbe)


@dataclass(frozen=True, eq=False)
class Layered(Generic[P]):
    """One probe per layer, in the order of layers."""

    probes: tuple[P, ...]

    probe_type: ClassVar[type[Any]]
    saved_as: ClassVar[Mapping[str, str]] = {}

    def __eq__(self, other: object) -> bool:
        return self._files() == other._files() if isinstance(other, type(self)) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._files()[SWEEP])

    def __iter__(self) -> Iterator[P]:
        return iter(self.probes)

    def __len__(self) -> int:
        return len(self.probes)

    def __getitem__(self, layer: int) -> P:
        """Return the probe of `layer` (the number of the decoder block, not a position in the list)."""
        words = {"held": "the layers probed are", "do": "Use one of those, or fit again with layers=[...]"}
        ProbeError.among(layer, self.layers, "The probe of layer", **words)
        return self.probes[self.layers.index(layer)]

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that were probed."""
        return tuple(probe.layer for probe in self.probes)

    @property
    def target(self) -> str:
        """The label that is read."""
        return self.probes[0].target

    @property
    def best(self) -> P:
        """The probe of the highest headline, the earliest of equals; of several, it is a little too good."""
        return max(self.probes, key=lambda probe: probe.headline[0])

    def table(self) -> pd.DataFrame:
        """Return one row per layer: its scores with intervals and chance lines, and how it was fitted."""
        return pd.DataFrame([probe.summary() for probe in self.probes])

    def plot(self) -> Any:
        """Return the figure of the held-out figure per layer, with its 95 % interval."""
        bars = {f"layer {probe.layer}": probe.headline for probe in self.probes}
        return plot_bars(bars, self.best, f"Which layer tells the {self.target} best?")

    def _repr_html_(self) -> str:
        title = f"{self.probes[0].kind}s of the {self.target}, best at layer {self.best.layer}"
        return small_table(title, [probe.summary() for probe in self.probes])

    def save(self, folder: Path | str) -> Path:
        """Write one file per probe and what was held out; on a DiskError an older sweep stays whole."""
        older = {path.name: b"" for path in Path(folder).glob("layer-*.safetensors")}  # of more layers
        return files.write_together(folder, older | self._files())

    def _files(self) -> dict[str, bytes]:
        """Return the files that `save` writes, by name."""
        parts = {f"layer-{probe.layer}.safetensors": probe.packed() for probe in self.probes}
        words, arrays = self._tables()
        digests = [hashlib.sha256(data).hexdigest() for data in parts.values()]
        record = {"format": self._format(), "layers": self.layers, "probes": digests, "columns": words}
        return parts | {SWEEP: files.pack_arrays(record, arrays)}

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Return the probes that `save` wrote; raise ProbeError where they are damaged or of another kind."""
        folder, do = Path(folder), f"Use a folder that {cls.__name__}.save wrote"
        read = files.unpacked(files.file_in(folder, SWEEP), cls._format())
        asked = f"The probes in {folder} were asked for"
        with ProbeError.damage(asked, do), read as (record, arrays):
            probes = []
            for layer, digest in zip(record["layers"], record["probes"], strict=True):
                path = files.file_in(folder, f"layer-{layer}.safetensors")
                if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
                    raise ValueError(f"{path.name} is not the file that was saved with it")
                probes.append(cls.probe_type.load(path))
            return cls(tuple(probes), **cls._fields(record["columns"], arrays))

    @classmethod
    def _format(cls) -> str:
        return f"musicgen-workbench {cls.probe_type.kind} sweep 1"

    def _tables(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """Return all but the probes: columns of tables (text; None where they are arrays), and arrays."""
        words: dict[str, Any] = {}
        arrays: dict[str, Array] = {}
        for name, value in vars(self).items():
            saved = self.saved_as.get(name, name)
            if isinstance(value, np.ndarray):
                arrays[saved] = value
            elif isinstance(value, pd.DataFrame):
                words[saved] = {}
                for column, values in value.items():
                    number = pd.api.types.is_numeric_dtype(values)
                    words[saved][column] = None if number else values.astype(str).tolist()
                    if number:
                        arrays[f"{saved}.{column}"] = values.to_numpy()
        return words, arrays

    @classmethod
    def _fields(cls, columns: Mapping[str, Any], arrays: Mapping[str, Array]) -> dict[str, Any]:
        """Return the tables and arrays that `_tables` took apart."""
        named = {saved: name for name, saved in cls.saved_as.items()}
        found: dict[str, Any] = {named.get(one, one): arrays[one] for one in arrays if "." not in one}
        for table, texts in columns.items():
            whole = {one: arrays[f"{table}.{one}"] if text is None else text for one, text in texts.items()}
            found[table] = pd.DataFrame(whole)
        return found
