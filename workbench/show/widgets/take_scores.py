"""What probes read in takes while they were made: a choice of probe and class, and a line per take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import ipywidgets
import numpy as np
import pandas as pd

from workbench.show.plots import take_scores
from workbench.show.widgets.player import ComparisonPlayer
from workbench.show.widgets.plot_panel import PlotPanel, Points

if TYPE_CHECKING:
    from workbench.generation.take import ProbeTrace, Take

Reader = tuple[str, int, tuple[str, ...]]
"""Target, layer and classes of a probe: what tells the traces of one probe from those of others."""


class TakeScores(ipywidgets.VBox):
    """The readings of takes on the clock of their player; a click on a line plays that take from there.

    Empty, and hidden, while no take was watched by a probe.

    Args:
        player: plays the takes, under the same names.
    """

    def __init__(self, player: ComparisonPlayer) -> None:
        self.player = player
        self.traces: dict[Reader, dict[str, ProbeTrace]] = {}
        self.plot: PlotPanel | None = None
        self.probe = ipywidgets.Dropdown(description="probe", layout={"width": "260px"})
        self.class_ = ipywidgets.Dropdown(description="class", layout={"width": "260px"})
        self._controls = ipywidgets.HBox([self.probe, self.class_], layout={"flex_flow": "row wrap"})
        super().__init__([self._controls], layout={"width": "100%", "display": "none"})
        self.probe.observe(lambda _change: self._list_classes(), "value")
        self.class_.observe(lambda _change: self._draw(), "value")

    def load(self, takes: Mapping[str, Take]) -> None:
        """Show the traces of these takes; probe and class stay chosen where they are still there."""
        probe, class_ = self.probe.value, self.class_.value
        traces: dict[Reader, dict[str, ProbeTrace]] = {}
        for name, take in takes.items():
            for trace in take.probe_traces:
                reader = (trace.target, trace.layer, trace.classes)
                traces.setdefault(reader, {})[name] = trace
        self.traces = {}  # setting options moves the values, which must not draw
        self.probe.options = [
            (f"{target}, layer {layer}", one) for one in traces for target, layer, _ in [one]
        ]
        self.class_.options = []
        self.traces = traces
        self.layout.display = "" if traces else "none"
        if traces:
            self.probe.value = probe if probe in traces else next(iter(traces))
            self._list_classes()
            if class_ in self.class_.options:
                self.class_.value = class_

    def _list_classes(self) -> None:
        if self.traces:
            classes = list(self.probe.value[2])
            kept = self.class_.value
            self.class_.options = classes
            self.class_.value = kept if kept in classes else _telling(self.traces[self.probe.value])
            self._draw()

    def _draw(self) -> None:
        if not self.traces or self.class_.value is None:
            return
        traces = self.traces[self.probe.value]
        seconds = max(clip.seconds for clip in self.player.sounds.values())
        figure, table = take_scores(traces, self.class_.value, seconds=seconds), _table(traces)
        if self.plot is None:
            self.plot = PlotPanel(figure, table=table, name="scores_over_time", clock=self.player.key)
            self.plot.on_click(self._play)
            self.children = [self._controls, self.plot]
        else:
            self.plot.show(figure, table=table)

    def _play(self, points: Points) -> None:
        if self.plot is not None and points:
            name = self.plot.figure["data"][points[0]["curve"]].get("name")
            self.player.play(name, at_s=float(points[0]["x"]))


def _telling(traces: Mapping[str, ProbeTrace]) -> str:
    """Return the class in whose mean the takes differ most: what steering has moved, as a rule."""
    means = np.stack([np.asarray(trace.probabilities).mean(axis=0) for trace in traces.values()])
    classes = next(iter(traces.values())).classes
    return classes[int(np.ptp(means, axis=0).argmax() if len(means) > 1 else means[0].argmax())]


def _table(traces: Mapping[str, ProbeTrace]) -> pd.DataFrame:
    """Return a row per take and reading: take, seconds, P of each class."""
    parts = [
        pd.DataFrame(trace.probabilities, columns=list(trace.classes)).assign(
            take=name, seconds=trace.seconds
        )
        for name, trace in traces.items()
    ]
    told = pd.concat(parts, ignore_index=True)
    return told[["take", "seconds", *(name for name in told.columns if name not in ("take", "seconds"))]]
