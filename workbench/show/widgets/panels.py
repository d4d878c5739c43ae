"""Views of probes, of a prompt before and after a push, and of patches: a click on a figure shows more."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

import ipywidgets
import traitlets

from workbench.activations import Activations
from workbench.errors import ProbeError, SteeringError
from workbench.evidence.causal import PatchMap
from workbench.evidence.judge import Judge, load_judge
from workbench.evidence.trials import Trial
from workbench.generation.take import Take
from workbench.model.musicgen import Model
from workbench.probing.diagnosis import RidgeToMeans
from workbench.probing.fit import fit_probes
from workbench.probing.probe import ProbeSweep
from workbench.show.page import table
from workbench.show.plots import accuracy_per_layer, confusion, judged_genres, path_accuracy, path_cosines
from workbench.show.widgets import ui
from workbench.show.widgets.base import Job, JobPanel, LookupPanel, PlotPanel, Points
from workbench.show.widgets.fader import Fader
from workbench.show.widgets.players import ComparisonPlayer, shortened
from workbench.show.widgets.steer_lab_takes import GeneratePanel, wanted_takes
from workbench.sound import Clip
from workbench.steering.plan import Direction, Steering


class ProbePanel(LookupPanel[str, ProbeSweep]):
    """Accuracy per layer with a choice of target; a target not fitted yet is fitted in a worker thread.

    Args:
        acts: pooled activations with labels; may be left out when only fitted `sweeps` are shown.
        targets: the labels to choose from, fitted or to be fitted on `acts` (else a ProbeError); by default
            those of `sweeps`, else "genre".
        sweeps: target -> fitted sweep, shown without fitting.
        options: of `fit_probes` (method, folds, seed, ...).

    `layer` is the layer whose confusions are shown, the best one until another is clicked; other panels may
    observe it.
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
        self.sweeps = self.made = dict(sweeps or {})
        names = list(targets or self.sweeps or ["genre"])
        if acts is None and not set(names) <= set(self.sweeps):
            found = f"there are no activations and sweeps of {list(self.sweeps)} only"
            do = "Pass activations, or a sweep for every target"
            raise ProbeError(f"A view of the targets {names} was asked for", found, do)
        self.target = ui.control(ipywidgets.Dropdown, "target", options=names, value=names[0])
        self.status = ipywidgets.HTML()
        clips = 0 if acts is None else len(acts)
        self.job = self._make_job(self._fit, "Fit probes", kind=("Fit probes", clips))
        self.job.layout.display = "none" if acts is None else ""
        self.accuracy, self.confusions = PlotPanel(), PlotPanel()
        self.accuracy.on_click(self._clicked)
        parts = [self.target, self.job, self.accuracy, self.status, self.confusions]
        super().__init__(parts)
        ui.follow([self.target], self.start)
        self.start()

    def _ask(self) -> str:
        return str(self.target.value)

    def _fit(self, job: Job) -> str:
        assert self.acts is not None
        target = self._ask()
        self.made[target] = fit_in(job, self.acts, target, **self.options)
        return target

    def _draw(self, target: str) -> None:
        self._draw_layer(target, int(self.made[target].best.layer))

    def _clicked(self, points: Points) -> None:
        for point in points[:1]:
            self.choose(round(point["x"]))

    def choose(self, layer: int) -> None:
        """Say in words how well one layer is read, and draw its confusions (else a ProbeError)."""
        self._draw_layer(str(self.shown), layer)

    def _draw_layer(self, target: str, layer: int) -> None:
        counts = self.made[target].confusion(layer)
        table = self.made[target].table()
        score = table.set_index("layer").loc[layer]
        self.layer = layer
        drawn = accuracy_per_layer(table, target=target, chosen=layer)
        self.accuracy.show(drawn, table=table, name=f"accuracy_{target}")
        interval = f"(95 % interval {score['low']:.1%} to {score['high']:.1%})"
        self.status.value = ui.note_html(
            f"Layer {layer}: accuracy {score['accuracy']:.1%} {interval}, macro F1 {score['macro_f1']:.2f}; "
            f"majority class {score['chance']:.1%}. Click another layer to compare."
        )
        counted, name = counts.rename_axis(index="truth").reset_index(), f"confusion_{target}_layer_{layer}"
        self.confusions.show(confusion(counts), table=counted, name=name)


def fit_in(job: Job, acts: Activations, target: str, *, most: float = 1.0, **options: Any) -> ProbeSweep:
    """Return `fit_probes`; a job, of which it is the share `most`, shows its progress and can cancel it."""

    def report(done: int, layers: int) -> None:
        job.progress(most * done / layers, f"{target}: {done} of {layers} layers")

    job.progress(0.0, f"fitting probes of {target}")
    return fit_probes(acts, target, on_layer=report, **{"progress": False, **options})


MEANING = (
    "A small penalty λ lets the probe set features against one another; a large one leaves only how far "
    "the class means lie apart, in units of each feature's spread. That is why the right end may still "
    "differ from the difference in means of the raw activations. Where the accuracy stays level while the "
    "direction turns, the clips do not say which direction is the model's own: steer with several, listen. "
    '<code>lab.direction("jazz")</code> is the direction at the slider\'s λ.'
)


class RegularizationPanel(ui.Panel):
    """The path of one class at one layer, empty before `show`; λ picks what `direction` returns."""

    def __init__(self) -> None:
        self.walk: RidgeToMeans | None = None
        self.cosines = PlotPanel(name="ridge_to_means_cosines")
        self.accuracy = PlotPanel(name="ridge_to_means_accuracy")
        self.words = ipywidgets.HTML()
        self.class_ = ui.control(ipywidgets.Dropdown, "class")
        self.strength = ui.control(ipywidgets.SelectionSlider, "λ", "420px", options=[("none yet", 0.0)])
        meaning = ipywidgets.HTML(f"<div class='wb-note wb-words'>{MEANING}</div>")
        head = ui.in_row(self.class_, self.strength)
        super().__init__([head, self.words, meaning, self.cosines, self.accuracy])
        ui.follow([self.class_, self.strength], self._redraw)

    def show(self, walk: RidgeToMeans) -> None:
        """Show the paths of a layer; class and λ stay where they were if it has them."""
        class_, strength = self.class_.value, self.strength.value
        middle = walk.l2[len(walk.l2) // 2]
        self.walk = None  # setting options moves the values, which must not draw
        self.class_.options = walk.classes
        self.class_.value = class_ if class_ in walk.classes else walk.classes[0]
        self.strength.options = list(zip(walk.labels, walk.l2, strict=True))
        self.strength.value = strength if strength in walk.l2 else middle
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
        rows = [
            [one["class"], f"{one['to_probe']:.2f}", f"{one['to_means']:.2f}",
             f"{one['accuracy']:.0%} ({one['low']:.0%} to {one['high']:.0%})"]
            for one in paths[paths["l2"] == chosen[1]].to_dict("records")
        ]  # fmt: skip
        shown = table(["class", "cosine to probe", "to means", "held-out accuracy"], rows, named=True)
        sentence = html.escape(self.walk.sentence(*chosen))
        self.words.value = f"<div class='wb-takes'><div class='wb-words'>{sentence}</div>{shown}</div>"
        self.cosines.show(path_cosines(self.walk, *chosen))
        self.accuracy.show(path_accuracy(self.walk, *chosen))


class SteerPanel(GeneratePanel):
    """Prompt, one dose per direction, settings and Generate; then both versions in one comparison player.

    Args:
        directions: name -> unit Direction (one at least, else a SteeringError), or a ProbeSweep, which makes
            the layer a choice.
        judge: hears the results, as it is or by its name; its verdicts are drawn under the player.
        guidance: of the text; the model's own when None.

    `sliders["jazz"].value = 0.15` moves a slider; doses are in multiples of the layer's mean residual norm.
    What was made stands in `history`; the ticked takes are heard.
    """

    def __init__(
        self,
        model: Model,
        directions: Mapping[str, Direction] | ProbeSweep,
        judge: Judge | str | None = None,
        *,
        prompt: str = "a calm tune",
        seconds: float = 5.0,
        seed: int = 0,
        guidance: float | None = None,
    ) -> None:
        self._directions = directions
        self.judge = load_judge(judge) if isinstance(judge, str) else judge
        self._add_settings(model, prompt, seconds, seed, guidance)
        layers, chosen = _layers(directions)
        self.layer = ui.control(
            ipywidgets.Dropdown, "layer", "200px", options=layers, value=chosen, disabled=len(layers) < 2
        )
        self.sliders = {name: Fader(name, breaks=model.breaking_dose) for name in self.directions}
        self.plan_text, self.player = ipywidgets.HTML(), ComparisonPlayer()
        self.verdict = PlotPanel(name="judged")
        self._add_takes()
        settings = ui.in_row(self.layer, self.guidance, self.seconds, self.seed, self.control)
        above = [self.prompt, ui.in_row(*self.sliders.values()), settings, self.plan_text]
        super().__init__([*above, self.job, self.history, self.player, self.verdict])
        ui.follow([self.layer, *self.sliders.values()], self._write_plan)
        self._write_plan()

    @property
    def directions(self) -> dict[str, Direction]:
        """The directions in force, by name; of the chosen layer if they come from probes."""
        if isinstance(self._directions, Mapping):
            return dict(self._directions)
        return dict(self._directions.directions(self.layer.value))

    @property
    def steering(self) -> Steering | None:
        """The plan that the sliders say, None when all doses are 0."""
        doses = {name: ui.value_of(slider) for name, slider in self.sliders.items()}
        terms = [self.directions[name].at(dose) for name, dose in doses.items() if dose]
        return sum(terms[1:], terms[0]) if terms else None

    def _wanted(self) -> list[Trial]:
        return wanted_takes(self.prompt.value, self.seed.value, self.steering, control=self.control.value)

    def _generate(self, job: Job) -> dict[str, Take]:
        return self._make(self._wanted(), job)

    def _hear_takes(self, takes: Mapping[str, Take]) -> None:
        plans = {name: take.steering for name, take in takes.items()}
        self.player.load({name: take.clip for name, take in takes.items()}, details=plans)
        if self.judge is not None and takes:
            rows = self.judge.probabilities(list(self.player.sounds.values())).tolist()
            shares = [dict(zip(self.judge.classes, row, strict=True)) for row in rows]
            self.verdict.show(judged_genres(dict(zip(takes, shares, strict=True))))
        elif not takes:
            self.verdict.layout.display = "none"  # what it said of them is gone with them

    def _say_plan(self, plan: Steering) -> None:
        before = self.layer.value, {name: slider.value for name, slider in self.sliders.items()}
        layer = plan.layers[0] if plan.layers else self.layer.value
        self.layer.value = layer if layer in self.layer.options else self.layer.value
        names = {direction: name for name, direction in self.directions.items()}
        doses = {names.get(term.direction, ""): term.dose for term in plan.terms}
        for name, slider in self.sliders.items():
            slider.value = doses.get(name, 0.0)
        if set(plan.terms) != set(() if self.steering is None else self.steering.terms):
            self.layer.value = before[0]
            for name, dose in before[1].items():
                self.sliders[name].value = dose
            asked, found = f"The plan {plan.text()} was to be set", "these faders push plainly, at one layer"
            raise SteeringError(asked, found, "Open the take in wb.SteerLab, whose line takes any plan")

    def _write_plan(self) -> None:
        plan = self.steering
        text = "no steering: all doses are 0" if plan is None else f"plan: {shortened(plan.text())}"
        self.plan_text.value = ui.note_html(f"{text} (doses in multiples of the layer's mean residual norm)")


def _layers(directions: Mapping[str, Direction] | ProbeSweep) -> tuple[list[int], int]:
    if not isinstance(directions, Mapping):
        return [int(probe.layer) for probe in directions.probes], int(directions.best.layer)
    if not directions:
        do = "Pass a dict of directions or a probe sweep"
        raise SteeringError("A steering view was asked for", "no direction was given", do)
    lowest = min(int(direction.layer) for direction in directions.values())
    return [lowest], lowest


class PatchPanel(ui.Panel):
    """The heat map of a `PatchMap`; a click on a cell draws the music with that patch, and plays it.

    Args:
        model: the model that the map is of.
        found: the map.
        sounds: what stands beside the patched music in the player, such as both takes of the map.
    """

    def __init__(
        self, model: Model, found: PatchMap, sounds: Mapping[str, Take | Clip] | None = None
    ) -> None:
        self.model, self.found, self.cell = model, found, (0, 0)
        self.take: Take | None = None
        self.sounds = {n: one.clip if isinstance(one, Take) else one for n, one in (sounds or {}).items()}
        halves = {"prompted half": "cond", "unprompted half": "null"}
        shown = [(words, branch) for words, branch in halves.items() if branch in found.branches]
        self.branch = ui.control(ipywidgets.Dropdown, "patched", options=shown)
        self.plot, self.player = PlotPanel(name="patches"), ComparisonPlayer(self.sounds)
        self.job = JobPanel(self._draw_music, label="Play this patch", on_done=self._show_music)
        self.plot.on_click(self._clicked)
        super().__init__([self.branch, self.plot, self.job, self.player])
        ui.follow([self.branch], self._redraw)
        self._redraw()

    def hear(self, line: int, window: int) -> Take:
        """Draw the music with the patch of a cell, play it beside the others, and return it."""
        self.cell = (line, window)
        return self.job.start().wait()

    def _clicked(self, points: Points) -> None:
        for point in points[:1]:
            if isinstance(point.get("data"), list):
                self.cell = (int(point["data"][0]), int(point["data"][1]))
                self.job.start()

    def _draw_music(self, job: Job) -> Take:
        line, window = self.cell
        frames = self.found.onto.codes.shape[1]

        def on_frame(done: int, _codes: object) -> None:
            job.progress(done / frames, self._words())

        options: dict[str, Any] = {"on_frame": on_frame, "cancel": job.cancel}
        return self.found.hear(self.model, line, window, branch=self.branch.value, **options)

    def _show_music(self, take: Take) -> None:
        self.take = take
        name = f"patched: {self._words()}"
        self.player.load({**self.sounds, name: take.clip})
        self.player.play(name)

    def _words(self) -> str:
        line, window = self.cell
        start, end = self.found.seconds(window)
        return f"{self.found.lines[line]}, {start:.1f} to {end:.1f} s"

    def _redraw(self) -> None:
        self.plot.show(self.found.plot(self.branch.value), table=self.found.table())
