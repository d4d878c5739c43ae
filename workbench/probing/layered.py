"""What all sweeps share: the same work at every layer, and one probe per layer, found by its number."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from workbench.errors import ProbeError, reason
from workbench.files import check_digest, file_in, pack_arrays, unpack_arrays, write_together
from workbench.probing.linear import LinearProbe
from workbench.probing.parallel import in_order

if TYPE_CHECKING:
    from workbench.activations import Activations


P = TypeVar("P", bound=LinearProbe)
Result = TypeVar("Result")
SWEEP = "sweep.safetensors"


@dataclass(frozen=True, eq=False)
class Layered(Generic[P]):
    """One probe per layer, in the order of layers."""

    probes: tuple[P, ...]

    probe_type: ClassVar[type[Any]]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, type(self)):
            return NotImplemented
        (words, arrays), (their_words, their_arrays) = self._held(), other._held()
        return self.probes == other.probes and words == their_words and _same(arrays, their_arrays)

    def __hash__(self) -> int:
        return hash((type(self).__name__, self.probes))

    def __iter__(self) -> Iterator[P]:
        return iter(self.probes)

    def __len__(self) -> int:
        return len(self.probes)

    def __getitem__(self, layer: int) -> P:
        """Return the probe of `layer` (the number of the decoder block, not a position in the list)."""
        for probe in self.probes:
            if probe.layer == layer:
                return probe
        raise ProbeError(
            f"The probe of layer {layer} was asked for",
            f"the layers probed are {', '.join(str(held) for held in self.layers)}",
            "Use one of those, or fit again with layers=[...]",
        )

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that were probed."""
        return tuple(probe.layer for probe in self.probes)

    def save(self, folder: Path | str) -> Path:
        """Write one file per probe, as its own `save` does, and what was held out; return the folder.

        Raises DiskError when the disk is full or the folder cannot be written; an older sweep is then whole.
        """
        folder = Path(folder)
        files = {f"layer-{probe.layer}.safetensors": probe.packed() for probe in self.probes}
        words, arrays = self._held()
        digests = [hashlib.sha256(data).hexdigest() for data in files.values()]
        record = {"format": self._format(), "layers": self.layers, "probes": digests, "columns": words}
        files[SWEEP] = pack_arrays(record, arrays)
        older = {path.name: b"" for path in folder.glob("layer-*.safetensors")}  # of a sweep of more layers
        return write_together(folder, older | files)

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Return the sweep that `save` wrote; raise ProbeError for another kind, or one that is damaged."""
        folder = Path(folder)
        try:
            record, arrays = unpack_arrays(file_in(folder, SWEEP))
            if record["format"] != cls._format():
                raise ValueError(f"it is of the format {record['format']!r}, not {cls._format()!r}")
            check_digest(folder, record, arrays)
            probes = []
            for layer, digest in zip(record["layers"], record["probes"], strict=True):
                path = file_in(folder, f"layer-{layer}.safetensors")
                if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
                    raise ValueError(f"{path.name} is not the file that was saved with it")
                probes.append(cls.probe_type.load(path))
            return cls(tuple(probes), **_fields(record["columns"], arrays))
        except Exception as error:  # a damaged file can be wrong in any way
            found, do = f"it cannot be read ({reason(error)})", f"Use a folder that {cls.__name__}.save wrote"
            raise ProbeError(f"The probes in {folder} were asked for", found, do) from error

    @classmethod
    def _format(cls) -> str:
        return f"musicgen-workbench {cls.probe_type.kind} sweep 1"

    def _held(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return all but the probes: columns of tables (text; None where they are arrays), and arrays."""
        words: dict[str, Any] = {}
        arrays: dict[str, np.ndarray] = {}
        for one in fields(self):
            value = getattr(self, one.name)
            if isinstance(value, np.ndarray):
                arrays[one.name] = value
            elif isinstance(value, pd.DataFrame):
                numbers = [pd.api.types.is_numeric_dtype(value[name]) for name in value]
                words[one.name] = {
                    name: None if number else value[name].astype(str).tolist()
                    for name, number in zip(value, numbers, strict=True)
                }
                arrays |= {
                    f"{one.name}.{name}": value[name].to_numpy()
                    for name, number in zip(value, numbers, strict=True)
                    if number
                }
        return words, arrays


def _fields(columns: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return the tables and arrays that `_held` took apart."""
    tables = {
        table: pd.DataFrame(
            {
                name: arrays[f"{table}.{name}"] if words is None else np.array(words, dtype=str)
                for name, words in held.items()
            }
        )
        for table, held in columns.items()
    }
    return tables | {name: array for name, array in arrays.items() if "." not in name}


def _same(mine: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]) -> bool:
    """Return whether arrays have the same names and values; NaN equals NaN."""
    return mine.keys() == theirs.keys() and all(
        np.array_equal(mine[name], theirs[name], equal_nan=mine[name].dtype.kind == "f") for name in mine
    )


def layers_asked(acts: Activations, layers: Sequence[int] | None) -> list[int]:
    """Return the layers to be probed, all that are held when None; raise ProbeError for an empty list."""
    chosen = [int(layer) for layer in (acts.layers if layers is None else layers)]
    if not chosen:
        raise ProbeError("Probes were asked for", "the list of layers is empty", "Name at least one")
    return chosen


def each_layer(
    work: Callable[[int], Result], layers: Sequence[int], target: str, *, threads: int, progress: bool
) -> list[Result]:
    """Return `work(layer)` of every layer, in order; a bar that names the target shows after two seconds."""
    found, told = in_order(work, layers, threads=threads), f"Probing {target}"
    return list(tqdm(found, told, len(layers), unit="layer", disable=not progress, leave=False, delay=2))
