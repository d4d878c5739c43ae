"""What all sweeps share: one probe per layer, found by the number of the layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from workbench.errors import ProbeError, message


class OfLayer(Protocol):
    """Anything that knows its layer."""

    @property
    def layer(self) -> int:
        """The number of the decoder block."""
        ...


P = TypeVar("P", bound=OfLayer)


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
            message(
                f"The probe of layer {layer} was asked for",
                f"the layers probed are {', '.join(str(held) for held in self.layers)}",
                "Use one of those, or fit again with layers=[...]",
            )
        )

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that were probed."""
        return tuple(probe.layer for probe in self.probes)
