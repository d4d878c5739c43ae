"""The probes of all layers side by side: which layer reads best, by how much, and where it errs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from workbench.probing.layered import Layered
from workbench.probing.probe import Probe
from workbench.steering import Direction

if TYPE_CHECKING:
    from workbench.activations import Activations
    from workbench.probing.diagnosis import ProbeReport


@dataclass(frozen=True, eq=False)
class ProbeSweep(Layered[Probe]):
    """One probe per layer, in the order of layers.

    held_out  one row per layer and sample: layer, clip, group, truth, predicted, confidence (probability
              given to the true class), fold; every row by a probe that saw nothing of the sample's group
    logits    (layers, n, classes) of the same probes, samples in the order of the activations
    """

    held_out: pd.DataFrame
    logits: np.ndarray

    probe_type: ClassVar[type[Probe]] = Probe

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that all probes tell apart."""
        return self.probes[0].classes

    @property
    def target(self) -> str:
        """The label that is read."""
        return self.probes[0].target

    @property
    def method(self) -> str:
        """The solver of all probes."""
        return self.probes[0].method

    @property
    def best(self) -> Probe:
        """The probe with the highest held-out accuracy, the earliest of equals.

        Its accuracy is the highest of several, hence a little too good; where that matters, choose the layer
        on one set of clips and quote the accuracy on another.
        """
        return max(self.probes, key=lambda probe: probe.scores.accuracy)

    def table(self) -> pd.DataFrame:
        """Return one row per layer: accuracy with 95 % interval, macro-F1, chance lines, strength, counts."""
        rows = []
        for probe in self.probes:
            found = probe.scores
            row: dict[str, float | int | str] = {"layer": probe.layer}
            row |= {name: getattr(found, name) for name in ("accuracy", "low", "high", "macro_f1", "chance")}
            row |= {name: getattr(found, name) for name in ("shuffled_mean", "shuffled_low", "shuffled_high")}
            row |= {
                "n": found.samples,
                "groups": found.groups,
                "method": probe.method,
                "strength": probe.strength,
            }
            rows.append(row)
        return pd.DataFrame(rows)

    def directions(self, layer: int | None = None) -> dict[str, Direction]:
        """Return the unit direction of every class at `layer` (default: the best layer), by class."""
        probe = self.best if layer is None else self[layer]
        return {class_: probe.direction(class_) for class_ in probe.classes}

    def report(self, acts: Activations, **options: Any) -> ProbeReport:
        """Return what holds of these probes and what does not, in sentences with numbers (see `diagnose`).

        acts     the activations that the probes were fitted on
        options  those of `diagnose`: layer, conditions, confounds, baselines, generated, unit ...
        """
        from workbench.probing.diagnosis import diagnose

        return diagnose(acts, self.target, sweep=self, **options)

    def confusion(self, layer: int | None = None) -> pd.DataFrame:
        """Return counts of held-out samples: true class down, predicted across (default: best layer)."""
        probe = self.best if layer is None else self[layer]
        rows = self.held_out[self.held_out["layer"] == probe.layer]
        counts = pd.crosstab(rows["truth"], rows["predicted"])
        classes = list(probe.classes)
        return counts.reindex(index=classes, columns=classes, fill_value=0)
