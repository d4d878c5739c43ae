"""The probe lab: everything that can be asked of a probe, behind a layer slider and tabs."""

from __future__ import annotations

import html
from collections import defaultdict
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import ipywidgets

from workbench.activations import Activations
from workbench.errors import DatasetError, ProbeError, WorkbenchError, renamed_attribute
from workbench.probing import ProbeSweep
from workbench.probing import diagnosis as d
from workbench.show.broken_probes import CAUSES, BrokenProbe, check_cause
from workbench.show.exercises import Verdict
from workbench.show.page import figure_of, part, write_probe_page
from workbench.show.plots import cosines, path_accuracy, path_cosines
from workbench.show.widgets import ui
from workbench.show.widgets.panels import fit_in
from workbench.show.widgets.players import ComparisonPlayer
from workbench.sound import Dataset
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
UNANSWERED = "wb-unanswered"
HIDDEN = f".{UNANSWERED} .wb-verdict, .{UNANSWERED} .wb-alarm {{ display: none; }}"
FITTING = ("method", "folds", "seed", "class_weights")
"""Options of the lab by which probes are fitted, too."""


class RegularizationPanel(ui.Panel):
    """The path of one class at one layer, empty before `show`; λ picks what `direction` returns."""

    def __init__(self) -> None:
        self.walk: d.RidgeToMeans | None = None
        self.cosines = ui.PlotPanel(name="ridge_to_means_cosines")
        self.accuracy = ui.PlotPanel(name="ridge_to_means_accuracy")
        self.words = ipywidgets.HTML()
        self.class_ = ui.control(ipywidgets.Dropdown, "class")
        self.strength = ui.control(ipywidgets.SelectionSlider, "λ", "420px", options=[("none yet", 0.0)])
        head, meaning = ui.in_row(self.class_, self.strength), ipywidgets.HTML(part("meaning_of_path"))
        super().__init__([head, self.words, meaning, self.cosines, self.accuracy])
        ui.follow([self.class_, self.strength], self._redraw)

    def show(self, walk: d.RidgeToMeans) -> None:
        """Show the paths of a layer; class and λ stay where they were if it has them."""
        self.walk = None  # setting options moves the values, which must not draw
        ui.offer(self.class_, walk.classes, walk.classes[0])
        ui.offer(self.strength, list(zip(walk.labels, walk.l2, strict=True)), walk.l2[len(walk.l2) // 2])
        self.walk = walk
        self._redraw()

    def direction(self, class_: str | None = None) -> Direction:
        """Return the direction of a class (by default the one shown) at the slider's λ; else a ProbeError."""
        if self.walk is None:
            found = "nothing has been examined yet"
            raise ProbeError("A direction of the path was asked for", found, "Call show(...) first")
        return self.walk.direction(class_ or self.class_.value, self.strength.value)

    def _redraw(self) -> None:
        if self.walk is None:
            return
        chosen, paths = (self.class_.value, self.strength.value), self.walk.table()
        rows = paths[paths["l2"] == chosen[1]].to_dict("records")
        self.words.value = part("place_on_path", self.walk.sentence(*chosen), rows)
        self.cosines.show(path_cosines(self.walk, *chosen))
        self.accuracy.show(path_accuracy(self.walk, *chosen))


class ProbeLab(ui.LookupPanel[int, d.ProbeReport]):
    """Diagnoses of the probe of one layer; another layer is examined when the slider moves.

    Args:
        acts: pooled activations with the label `target`.
        dataset: where the clips' sound comes from, so that hard clips can be heard; may be left out.
        sweep: probes fitted on `acts`; fitted here when None.
        layer: the first layer examined; the best one when None.
        options: of `diagnose`: method, conditions, confounds, baselines, generated, unit, seed, folds ...

    `wait()` returns the report that is shown.
    """

    def __init__(
        self, acts: Activations, dataset: Dataset | None = None, *, target: str = "genre",
        sweep: ProbeSweep | None = None, layer: int | None = None, **options: Any,
    ) -> None:  # fmt: skip
        self.acts, self.dataset, self.target, self.options = acts, dataset, target, options
        self.sweep, self._first = sweep, layer
        self.made: dict[int, d.ProbeReport] = {}
        self._paths: dict[int, d.RidgeToMeans] = {}
        self._findings: dict[str, list[Any]] = defaultdict(lambda: [ipywidgets.HTML(), ui.PlotPanel()])
        layers = [int(each) for each in (acts.layers if sweep is None else sweep.layers)]
        self.layer = ui.control(ipywidgets.SelectionSlider, "layer", "320px", options=layers, value=layers[0])
        self.verdict, self.status = ipywidgets.HTML(), ipywidgets.HTML()
        self.player, self.tabs = ComparisonPlayer(), ipywidgets.Tab()
        self.regularization = RegularizationPanel()
        self.list = ui.ClipList(ui.shows_errors(self._play, self.status))
        timed = {"kind": ("Examine", len(acts))}
        self.job = self._make_job(self._examine, "Examine", lambda: int(self.layer.value), **timed)
        hint = "Write the report as one HTML page"
        self._save = ui.button("Save as page", hint, self._save_page, self.status)
        self._save.disabled = True
        head = ui.in_row(self.layer, self._save)
        super().__init__([head, self.job, self.verdict, self.tabs, self.status])
        if sweep is not None:
            self.layer.value = sweep.best.layer if layer is None else layer
        ui.follow([self.layer], self.start)
        self.start()

    @property
    def report(self) -> d.ProbeReport | None:
        """The report that is shown; None while the first layer is being examined."""
        return None if self.shown is None else self.made[self.shown]

    def direction(self, class_: str) -> Direction:
        """Return the direction of a class (else a ProbeError) at the chosen layer and λ."""
        self.wait()
        return self.regularization.direction(class_)

    def save(self, path: Path | str) -> Path:
        """Write the report that is shown (else a WorkbenchError) as one HTML page and return its path."""
        if self.report is None:
            asked = "A page about a probe was asked for"
            raise WorkbenchError(asked, "nothing has been examined yet", "Call wait() first")
        return write_probe_page(path, self.report)

    def _examine(self, job: ui.Job) -> int:
        """Examine the chosen layer (the best one the first time) and return it."""
        if self.sweep is None:
            kept = {name: self.options[name] for name in FITTING if name in self.options}
            self.sweep = fit_in(job, self.acts, self.target, most=0.4, **kept)
            self.layer.value = self.sweep.best.layer if self._first is None else self._first
        layer, begun = self._ask(), float(self.job.bar.value)

        def look(name: str, share: float) -> None:
            job.progress(begun + (0.9 - begun) * share, f"examining layer {layer}: {name}")

        look("the fold of every clip", 0.0)
        if layer not in self.made:
            given = {"layer": layer, "sweep": self.sweep, "on_finding": look, **self.options}
            report = d.diagnose(self.acts, self.target, **given)
            look("from ridge to means", 1.0)
            self._paths[layer] = d.ridge_to_means(self.acts, report.evaluation, self.sweep[layer])
            self.made[layer] = report
        return layer

    def _draw(self, layer: int) -> None:
        """Put a report into the tabs; alarms are marked in word and weight, not in colour alone."""
        report = self.made[layer]
        self.verdict.value = part("verdict", report)
        for finding in report:
            words, panel = self._findings[finding.name]
            words.value, figure = part("finding", finding), figure_of(finding)
            if figure is not None:
                panel.show(figure, name=finding.name.replace(" ", "_").replace(":", ""))
        if not self.tabs.children:
            self._fill_tabs()
        self._list_hardest(report)
        self.regularization.show(self._paths[layer])
        self._save.disabled = False

    def _fill_tabs(self) -> None:
        """Lay the panels out; a tab without findings is left out."""
        own: dict[str, list[Any]] = {"Directions": self._cosines(), "Ridge to means": [self.regularization]}
        if self.dataset is not None:
            own["Labels"] = [self.list, self.player]
        tabs = {}
        for title, names in TABS.items():
            found = [name for name in self._findings if name in names or name.split(":")[0] in names]
            inside = [*chain.from_iterable(self._findings[name] for name in found), *own.get(title, ())]
            if inside:
                tabs[title] = ui.Panel(inside)
        self.tabs.children, self.tabs.titles = list(tabs.values()), list(tabs)

    def _cosines(self) -> list[ui.PlotPanel]:
        assert self.sweep is not None
        name, layer = self.sweep.classes[0], self.sweep.best.layer
        question = f"How do the {self.target} directions lie to one another at layer {layer}?"
        figure = cosines(d.cosine_classes(self.sweep), question, axis=self.target)
        panels = [ui.PlotPanel(figure, name="cosines_of_classes")]
        if len(self.sweep) > 1:
            question = f"Is {name} the same direction in every layer?"
            figure = cosines(d.cosine_layers(self.sweep, name), question, axis="layer")
            panels.append(ui.PlotPanel(figure, name="cosines_of_layers"))
        return panels

    def _list_hardest(self, report: d.ProbeReport) -> None:
        hardest = report["label noise"].value.table().head(HARDEST)  # type: ignore[attr-defined]
        words = [
            f"{one['clip']}: labelled {one['label']}, read as {one['suggested']} "
            f"(its own label {one['confidence']:.0%})"
            for one in hardest.to_dict("records")
        ]
        title = f"The {len(hardest)} clips whose label is hardest to believe; choose one to hear it."
        self.list.show(hardest["clip"].tolist(), words, title=title)

    def _play(self, clip: str) -> None:
        if self.dataset is None:
            do = "Make the lab with the dataset that was captured"
            raise DatasetError(f"The clip {clip!r} was to be played", "there is no sound", do)
        label = str(self.dataset.subset([clip]).entries[0].labels.get(self.target, ""))
        self.player.play_one(clip, self.dataset.clip(clip), label)
        self.status.value = ui.note_html(f"Playing {clip}")

    def _save_page(self) -> None:
        self.status.value = ui.note_html(f"Written to {self.save(Path('out') / 'probe.html')}")


class BrokenProbes(ui.Panel):
    """A choice of broken probes by name; the lab of each is made when it is first chosen.

    `chosen` is the control that chooses one, `lab` the lab of the chosen one; `options` are of `ProbeLab`.
    Verdict and alarms of a lab are hidden until a cause is named, by the control `cause` or by `check`.
    """

    patient = renamed_attribute("patient", "chosen")

    def __init__(self, broken_probes: Mapping[str, BrokenProbe], **options: Any) -> None:
        self.broken_probes, self.options = dict(broken_probes), options
        self.labs: dict[str, ProbeLab] = {}
        self.answers: dict[str, str] = {}
        names = list(self.broken_probes)
        self.chosen = ipywidgets.ToggleButtons(options=names, value=names[0], description="probe")
        causes = [("your diagnosis ...", ""), *((words, name) for name, words in CAUSES.items())]
        self.cause = ui.control(ipywidgets.Dropdown, "it is", "520px", options=causes)
        self.claim, self.told = ipywidgets.HTML(), ipywidgets.HTML()
        super().__init__([self.chosen, self.claim, self.cause, self.told])
        ui.follow([self.chosen], self._open)
        ui.follow([self.cause], self._answer)
        self._open()

    @property
    def lab(self) -> ProbeLab:
        """The lab of the chosen probe."""
        return self.labs[self.chosen.value]

    def check(self, name: str, answer: object) -> Verdict:
        """Check a cause of a probe; once one of CAUSES was named, its lab shows its verdict and alarms."""
        answer = answer.strip().lower() if isinstance(answer, str) else answer
        told = check_cause(self.broken_probes[name], answer, lambda: self._make(name).wait())
        if isinstance(answer, str) and answer in CAUSES:
            self.answers[name] = answer
            self._make(name).remove_class(UNANSWERED)
        return told

    def _make(self, name: str) -> ProbeLab:
        if name not in self.labs:
            one = self.broken_probes[name]
            options = {**one.options, **self.options}
            self.labs[name] = ProbeLab(one.acts, one.songs, target=one.target, **options)
            self.labs[name].add_class(UNANSWERED)
        return self.labs[name]

    def _answer(self) -> None:
        if self.cause.value:
            self.told.value = self.check(self.chosen.value, self.cause.value)._repr_html_()

    def _open(self) -> None:
        name = self.chosen.value
        self.told.value = ""
        self.cause.value = self.answers.get(name, "")
        claim = html.escape(self.broken_probes[name].claim)
        self.claim.value = f"<style>{HIDDEN}</style><p><b>Its claim:</b> {claim}</p>"
        self.children = [self.chosen, self.claim, self.cause, self.told, self._make(name)]
