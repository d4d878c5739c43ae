"""What all sweeps share: the same work at every layer, and one probe per layer, found by its number."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from tqdm.auto import tqdm

from workbench.errors import ProbeError
from workbench.probing.parallel import in_order

if TYPE_CHECKING:
    from workbench.activations import Activations


class OfLayer(Protocol):
    """Anything that knows its layer."""

    @property
    def layer(self) -> int:
        """The number of the decoder block."""
        ...


P = TypeVar("P", bound=OfLayer)
Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class Layered(Generic[P]):
    """One probe per layer, in the order of layers."""

    probes: tuple[P, ...]

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
