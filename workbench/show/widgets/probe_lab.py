"""The probe lab: everything that can be asked of a probe, behind a layer slider and tabs."""

from __future__ import annotations

import html
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import ipywidgets

from workbench.errors import DatasetError, WorkbenchError
from workbench.show.page import figure_of, write_probe_page
from workbench.show.plots import cosines
from workbench.show.plots.grammar import colours_for
from workbench.show.widgets.base import STYLE, ClipList, Job, JobPanel, PlotPanel, note_html, problem_html
from workbench.show.widgets.panels import RegularizationPanel
from workbench.show.widgets.players import ComparisonPlayer

if TYPE_CHECKING:
    from workbench.activations import Activations
    from workbench.probing.diagnosis import Finding, ProbeReport, RidgeToMeans
    from workbench.probing.probe import ProbeSweep
    from workbench.sound.dataset import Dataset
    from workbench.steering import Direction

TABS: dict[str, tuple[str, ...]] = {
    "Accuracy": ("accuracy", "confusion"),
    "Leaks": ("group leak", "control task", "text leak"),
    "Confounds": ("confound",),
    "Baselines": ("baselines", "transfer"),
    "Labels": ("label noise",),
    "Numbers": ("too few clips", "class imbalance", "calibration"),
    "Directions": ("direction stability",),
    "Ridge to means": (),
}
"""Tab -> the findings that it shows; "confound" stands for all of them."""
HARDEST = 30
FITTING = ("method", "folds", "seed", "class_weights")
"""Options of the lab by which probes are fitted, too."""


class ProbeLab(ipywidgets.VBox):
    """Diagnoses of the probe of one layer; another layer is examined when the slider moves.

    Args:
        acts: pooled activations with the label `target`.
        dataset: where the clips' sound comes from, so that hard clips can be heard; may be left out.
        target: the label.
        sweep: probes fitted on `acts`; fitted here when None.
        layer: the first layer examined; the best one when None.
        options: of `diagnose`: method, conditions, confounds, baselines, generated, unit, seed, folds ...

    `report` is the one shown; `wait()` returns it. `direction("jazz")` is the direction at the λ of the tab
    "Ridge to means", ready for steering.
    """

    def __init__(
        self,
        acts: Activations,
        dataset: Dataset | None = None,
        *,
        target: str = "genre",
        sweep: ProbeSweep | None = None,
        layer: int | None = None,
        **options: Any,
    ) -> None:
        self.acts, self.dataset, self.target, self.options = acts, dataset, target, options
        self.sweep, self._first = sweep, layer
        self.report: ProbeReport | None = None
        self._reports: dict[int, ProbeReport] = {}
        self._paths: dict[int, RidgeToMeans] = {}
        self._panels: dict[str, PlotPanel] = {}
        self._words: dict[str, ipywidgets.HTML] = {}
        layers = [int(each) for each in (acts.layers if sweep is None else sweep.layers)]
        self.layer = ipywidgets.SelectionSlider(
            description="layer", options=layers, value=layers[0], continuous_update=False,
            layout={"width": "320px"},
        )  # fmt: skip
        self.verdict = ipywidgets.HTML()
        self.player = ComparisonPlayer()
        self.regularization = RegularizationPanel()
        self.list = ClipList(self._play)
        self.status = ipywidgets.HTML()
        self.tabs = ipywidgets.Tab()
        self.job: JobPanel[int] = JobPanel(self._examine, label="Examine", on_done=self._show)
        self._save = ipywidgets.Button(description="Save as page", disabled=True, layout={"width": "auto"})
        self._save.on_click(lambda _button: self._save_page())
        head = ipywidgets.HBox([self.layer, self._save], layout={"flex_flow": "row wrap"})
        super().__init__([head, self.job, self.verdict, self.tabs, self.status], layout={"width": "100%"})
        if sweep is not None:
            self.layer.value = sweep.best.layer if layer is None else layer
        self.layer.observe(lambda _change: self.start(), "value")
        self.job.observe(lambda _change: self._catch_up(), "state")
        self.job.start()

    def start(self) -> ProbeLab:
        """Show the chosen layer, examining it first where that was not done yet."""
        if self.layer.value in self._reports and self.job.state != "running":
            self._show(self.layer.value)
        else:
            self.job.start()
        return self

    def wait(self, timeout_s: float | None = None) -> ProbeReport:
        """Return the report of the chosen layer once it is there."""
        while self.report is None or self.report.evaluation.layer != self.layer.value:
            self.job.wait(timeout_s)
        return self.report

    def direction(self, class_: str) -> Direction:
        """Return the direction of a class at the chosen layer and at the λ of the tab "Ridge to means".

        Raises:
            ProbeError: there is no such class.
        """
        self.wait()
        return self.regularization.direction(class_)

    def save(self, path: Path | str) -> Path:
        """Write the report that is shown as one HTML page and return its path.

        Raises:
            WorkbenchError: nothing has been examined yet.
        """
        if self.report is None:
            found = "nothing has been examined yet"
            raise WorkbenchError("A page about a probe was asked for", found, "Call wait() first")
        return write_probe_page(path, self.report)

    def _examine(self, job: Job) -> int:
        """Examine the chosen layer (the best one the first time) and return it."""
        from workbench.probing.diagnosis import diagnose, ridge_to_means
        from workbench.probing.fit import fit_probes

        if self.sweep is None:
            job.progress(0.05, f"fitting probes of {self.target} at every layer")
            kept = {name: self.options[name] for name in FITTING if name in self.options}
            self.sweep = fit_probes(self.acts, self.target, **kept)
            self.layer.value = self.sweep.best.layer if self._first is None else self._first
        layer = int(self.layer.value)
        job.progress(0.4, f"examining layer {layer}")
        if layer not in self._reports:
            made = diagnose(self.acts, self.target, layer=layer, sweep=self.sweep, **self.options)
            self._paths[layer] = ridge_to_means(self.acts, made.evaluation, self.sweep[layer])
            self._reports[layer] = made
        return layer

    def _catch_up(self) -> None:
        """Go on with a layer that was chosen while another was being examined."""
        done = self.report is not None and self.report.evaluation.layer == self.layer.value
        if self.job.state == "done" and not done:
            self.start()

    def _show(self, layer: int) -> None:
        """Put a report into the tabs."""
        report = self._reports[layer]
        self.verdict.value = verdict_html(report)
        for finding in report:
            self._put(finding)
        if not self.tabs.children:
            self._fill_tabs()
        self._list_hardest(report)
        self.regularization.show(self._paths[layer])
        self._save.disabled = False
        self.report = report  # last: whoever waits for it may look at the figures

    def _put(self, finding: Finding) -> None:
        """Draw a finding, in its own panel."""
        words = self._words.setdefault(finding.name, ipywidgets.HTML())
        words.value = finding_html(finding)
        figure = figure_of(finding)
        if figure is None:
            return
        name = finding.name.replace(" ", "_").replace(":", "")
        if finding.name in self._panels:
            self._panels[finding.name].show(figure, name=name)
        else:
            self._panels[finding.name] = PlotPanel(figure, name=name)

    def _fill_tabs(self) -> None:
        """Lay the panels out; a tab without findings is left out."""
        children, titles = [], []
        for title, names in TABS.items():
            held = [one for one in self._words if one in names or one.split(":")[0] in names]
            inside = [w for one in held for w in (self._words[one], self._panels.get(one)) if w is not None]
            if title == "Labels" and self.dataset is not None:
                inside += [self.list, self.player]
            if title == "Directions":
                inside += self._cosines()
            if title == "Ridge to means":
                inside.append(self.regularization)
            if inside:
                children.append(ipywidgets.VBox(inside, layout={"width": "100%"}))
                titles.append(title)
        self.tabs.children = children
        self.tabs.titles = titles

    def _cosines(self) -> list[PlotPanel]:
        from workbench.probing.diagnosis import cosine_classes, cosine_layers

        assert self.sweep is not None
        classes = cosine_classes(self.sweep)
        question = f"How do the {self.target} directions lie to one another at layer {self.sweep.best.layer}?"
        panels = [PlotPanel(cosines(classes, question, axis=self.target), name="cosines_of_classes")]
        if len(self.sweep) > 1:
            name = self.sweep.classes[0]
            table = cosine_layers(self.sweep, name)
            question = f"Is {name} the same direction in every layer?"
            panels.append(PlotPanel(cosines(table, question, axis="layer"), name="cosines_of_layers"))
        return panels

    def _list_hardest(self, report: ProbeReport) -> None:
        """List the clips whose label is hardest to believe."""
        rows = report["label noise"].value.table().head(HARDEST)  # type: ignore[attr-defined]
        words = [
            f"{row['clip']}: labelled {row['label']}, read as {row['suggested']} "
            f"(its own label {row['confidence']:.0%})"
            for row in rows.to_dict("records")
        ]
        title = f"The {len(rows)} clips whose label is hardest to believe; choose one to hear it."
        self.list.show(rows["clip"].tolist(), words, title=title)

    def _play(self, clip: str) -> None:
        """Play a clip; what goes wrong is shown, since nobody sees a callback's traceback."""
        try:
            if self.dataset is None:
                do = "Make the lab with the dataset that was captured"
                raise DatasetError(f"The clip {clip!r} was to be played", "there is no sound", do)
            entry = self.dataset.subset([clip]).entries[0]
            label = str(entry.labels.get(self.target, ""))
            name = f"{label}: {clip}" if label else clip
            colours = {name: colours_for([label])[label]} if label else None
            self.player.load({name: self.dataset.clip(clip)}, colours=colours)
            self.player.play(name)
            self.status.value = note_html(f"Playing {clip}")
        except Exception as error:
            self.status.value = problem_html(error)

    def _save_page(self) -> None:
        try:
            self.status.value = note_html(f"Written to {self.save(Path('out') / 'probe.html')}")
        except Exception as error:
            self.status.value = problem_html(error)


def verdict_html(report: ProbeReport) -> str:
    """Return the verdict and the alarms as HTML."""
    alarms = "".join(f"<li>{html.escape(finding.sentence())}</li>" for finding in report.alarms)
    more = "".join(f"<li class='wb-note'>{html.escape(one)}</li>" for one in report.skipped)
    text = f"<b>{html.escape(report.verdict())}</b><ul>{alarms}{more}</ul>"
    return f"<style>{STYLE}</style><div class='wb-verdict' style='line-height:1.45'>{text}</div>"


def finding_html(finding: Finding) -> str:
    """Return a finding's sentence as HTML, alarms marked in word and weight, not in colour alone."""
    mark = "<b>Alarm.</b> " if finding.alarm else ""
    chance = "" if finding.adjusted is None else f" (corrected p = {finding.adjusted:.2g})"
    text = f"{mark}{html.escape(finding.sentence())}{chance}"
    return f"<div style='line-height:1.45;margin-top:10px'>{text}</div>"


# The consulting room: several probes under examination, one lab each, opened when it is asked for.


class BrokenProbe(Protocol):
    """What a lab needs to know of a probe, and what its owner claims."""

    claim: str
    acts: Activations
    target: str
    songs: Dataset
    options: Mapping[str, Any]


class BrokenProbes(ipywidgets.VBox):
    """A choice of broken_probes; each one's lab is made when it is first chosen.

    Args:
        broken_probes: by name.
        options: passed on to every `ProbeLab`.
    """

    def __init__(self, broken_probes: Mapping[str, BrokenProbe], **options: Any) -> None:
        self.broken_probes, self.options = dict(broken_probes), options
        self.labs: dict[str, ProbeLab] = {}
        names = list(self.broken_probes)
        self.patient = ipywidgets.ToggleButtons(options=names, value=names[0], description="patient")
        self.claim = ipywidgets.HTML()
        super().__init__([self.patient, self.claim], layout={"width": "100%"})
        self.patient.observe(lambda _change: self._open(), "value")
        self._open()

    @property
    def lab(self) -> ProbeLab:
        """The lab of the chosen patient."""
        return self.labs[self.patient.value]

    def _open(self) -> None:
        name = self.patient.value
        one = self.broken_probes[name]
        if name not in self.labs:
            self.labs[name] = ProbeLab(
                one.acts, one.songs, target=one.target, **{**one.options, **self.options}
            )
        self.claim.value = f"<p><b>The owner says:</b> {html.escape(one.claim)}</p>"
        self.children = [self.patient, self.claim, self.labs[name]]
