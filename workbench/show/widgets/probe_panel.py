"""The probe view: how well each layer lets a linear probe read a label, and which classes it confuses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import ipywidgets
import traitlets

from workbench.errors import ProbeError
from workbench.show.plots import accuracy_per_layer, confusion
from workbench.show.widgets.job_panel import Job, JobPanel, note_html
from workbench.show.widgets.plot_panel import PlotPanel, Points

if TYPE_CHECKING:
    from workbench.activations import Activations
    from workbench.probing.sweep import ProbeSweep


class ProbePanel(ipywidgets.VBox):
    """Accuracy per layer with a choice of target; a target not fitted yet is fitted in a worker thread.

    Args:
        acts: pooled activations with labels; may be left out when only fitted `sweeps` are shown.
        targets: the labels to choose from; by default those of `sweeps`, else "genre".
        sweeps: target -> fitted sweep, shown without fitting.
        options: passed on to `fit_probes` (method, folds, seed, ...).

    `layer` is the layer whose confusions are shown: the best one until another is clicked; other panels may
    observe it.

    Raises:
        ProbeError: a target is neither fitted nor can it be, since there are no activations.
    """

    layer = traitlets.Int(0)

    def __init__(
        self,
        acts: Activations | None = None,
        *,
        targets: Sequence[str] | None = None,
        sweeps: Mapping[str, ProbeSweep] | None = None,
        **options: Any,
    ) -> None:
        self.acts, self.options = acts, options
        self.sweeps: dict[str, ProbeSweep] = dict(sweeps or {})
        names = list(targets or self.sweeps or ["genre"])
        if acts is None and not set(names) <= set(self.sweeps):
            raise ProbeError(
                f"A view of the targets {names} was asked for",
                f"there are no activations and sweeps of {list(self.sweeps)} only",
                "Pass activations, or a sweep for every target",
            )
        self.target = ipywidgets.Dropdown(
            description="target", options=names, value=names[0], layout={"width": "260px"}
        )
        self.status = ipywidgets.HTML()
        self.job: JobPanel[str] = JobPanel(self._fit, label="Fit probes", on_done=self._show)
        self.job.layout.display = "none" if acts is None else ""
        self.accuracy: PlotPanel | None = None
        self.confusions: PlotPanel | None = None
        self.shown = ""
        super().__init__([self.target, self.job, self.status], layout={"width": "100%"})
        self.target.observe(lambda _change: self.start(), "value")
        self.job.observe(lambda _change: self._catch_up(), "state")
        self.start()

    def start(self) -> ProbePanel:
        """Show the chosen target, fitting it first where that was not done yet."""
        if self.target.value in self.sweeps:
            self._show(self.target.value)
        else:
            self.job.start()
        return self

    def wait(self, timeout_s: float | None = None) -> ProbeSweep:
        """Return the sweep of the chosen target once it is fitted."""
        while self.shown != self.target.value:  # another round begins when the choice changed meanwhile
            self.job.wait(timeout_s)
        return self.sweeps[self.target.value]

    def _fit(self, job: Job) -> str:
        """Fit the chosen target and return its name."""
        from workbench.probing.fit import fit_probes

        assert self.acts is not None
        target = str(self.target.value)
        job.progress(0.1, f"fitting {target} at every layer")
        self.sweeps[target] = fit_probes(self.acts, target, **self.options)
        return target

    def _catch_up(self) -> None:
        """Go on with a target that was chosen while another was being fitted."""
        if self.job.state == "done" and self.shown != self.target.value:
            self.start()

    def _show(self, target: str) -> None:
        """Draw a fitted target, and the confusions of its best layer."""
        sweep = self.sweeps[target]
        table = sweep.table()
        figure = accuracy_per_layer(table, target=target)
        if self.accuracy is None or self.confusions is None:
            self.accuracy = PlotPanel(figure, table=table, name=f"accuracy_{target}")
            self.confusions = PlotPanel(confusion(sweep.confusion()), name=f"confusion_{target}")
            self.accuracy.on_click(self._clicked)
        self.accuracy.show(figure, table=table, name=f"accuracy_{target}")
        self._tell(target, int(sweep.best.layer))
        self.children = [self.target, self.job, self.accuracy, self.status, self.confusions]
        self.shown = target  # last: whoever waits for it may look at the figures

    def _clicked(self, points: Points) -> None:
        for point in points[:1]:
            self.choose(round(point["x"]))

    def choose(self, layer: int) -> None:
        """Tell about one layer in words and draw its confusions.

        Raises:
            ProbeError: the layer was not probed.
        """
        self._tell(self.shown, layer)

    def _tell(self, target: str, layer: int) -> None:
        sweep = self.sweeps[target]
        counts = sweep.confusion(layer)
        row = sweep.table().set_index("layer").loc[layer]
        self.layer = layer
        self.status.value = note_html(
            f"Layer {layer}: accuracy {row['accuracy']:.1%} "
            f"(95 % interval {row['low']:.1%} to {row['high']:.1%}), macro F1 {row['macro_f1']:.2f}; "
            f"majority class {row['chance']:.1%}. Click another layer to compare."
        )
        assert self.confusions is not None
        counted = counts.rename_axis(index="truth").reset_index()
        self.confusions.show(confusion(counts), table=counted, name=f"confusion_{target}_layer_{layer}")
