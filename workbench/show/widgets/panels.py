"""The probe view and the steering view: layers by accuracy, and a prompt heard before and after a push."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import ipywidgets
import traitlets

from workbench.errors import ProbeError, SteeringError
from workbench.evidence.judge import load_judge
from workbench.show.plots import accuracy_per_layer, confusion, judged_genres, path_accuracy, path_cosines
from workbench.show.widgets.base import Job, JobPanel, LookupPanel, PlotPanel, Points, WorkPanel, shown_in
from workbench.show.widgets.parts import (
    FULL,
    control,
    dose_slider,
    follow,
    in_row,
    note_html,
    tick_box,
    value_of,
)
from workbench.show.widgets.players import ComparisonPlayer, shortened
from workbench.steering.plan import Direction, Steering
from workbench.steering.together import randomised

if TYPE_CHECKING:
    from workbench.activations import Activations
    from workbench.evidence.judge import Judge
    from workbench.generation.take import Take
    from workbench.model.musicgen import Model
    from workbench.probing.diagnosis import RidgeToMeans
    from workbench.probing.probe import ProbeSweep

UNSTEERED = "unsteered"
CONTROL = "random direction"


class ProbePanel(LookupPanel[str, "ProbeSweep"]):
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
        self.sweeps = self.made = dict(sweeps or {})
        names = list(targets or self.sweeps or ["genre"])
        if acts is None and not set(names) <= set(self.sweeps):
            found = f"there are no activations and sweeps of {list(self.sweeps)} only"
            do = "Pass activations, or a sweep for every target"
            raise ProbeError(f"A view of the targets {names} was asked for", found, do)
        self.target = control(ipywidgets.Dropdown, "target", options=names, value=names[0])
        self.status = ipywidgets.HTML()
        self.job = self._make_job(self._fit, "Fit probes")
        self.job.layout.display = "none" if acts is None else ""
        self.accuracy: PlotPanel | None = None
        self.confusions: PlotPanel | None = None
        super().__init__([self.target, self.job, self.status], layout=FULL)
        follow([self.target], self.start)
        self.start()

    def _ask(self) -> str:
        return str(self.target.value)

    def _fit(self, job: Job) -> str:
        """Fit the chosen target and return its name."""
        from workbench.probing.fit import fit_probes

        assert self.acts is not None
        target = self._ask()
        job.progress(0.1, f"fitting {target} at every layer")
        self.made[target] = fit_probes(self.acts, target, **self.options)
        return target

    def _draw(self, target: str) -> None:
        """Draw a fitted target, and the confusions of its best layer."""
        sweep = self.made[target]
        table, name = sweep.table(), f"accuracy_{target}"
        figure = accuracy_per_layer(table, target=target)
        self.accuracy = shown_in(self.accuracy, figure, on_click=self._clicked, table=table, name=name)
        self._draw_layer(target, int(sweep.best.layer))
        self.children = [self.target, self.job, self.accuracy, self.status, self.confusions]

    def _clicked(self, points: Points) -> None:
        for point in points[:1]:
            self.choose(round(point["x"]))

    def choose(self, layer: int) -> None:
        """Say in words how well one layer is read, and draw its confusions.

        Raises:
            ProbeError: the layer was not probed.
        """
        self._draw_layer(str(self.shown), layer)

    def _draw_layer(self, target: str, layer: int) -> None:
        counts = self.made[target].confusion(layer)
        score = self.made[target].table().set_index("layer").loc[layer]
        self.layer = layer
        interval = f"(95 % interval {score['low']:.1%} to {score['high']:.1%})"
        self.status.value = note_html(
            f"Layer {layer}: accuracy {score['accuracy']:.1%} {interval}, macro F1 {score['macro_f1']:.2f}; "
            f"majority class {score['chance']:.1%}. Click another layer to compare."
        )
        counted, name = counts.rename_axis(index="truth").reset_index(), f"confusion_{target}_layer_{layer}"
        self.confusions = shown_in(self.confusions, confusion(counts), table=counted, name=name)


MEANING = (
    "A small penalty λ lets the probe set features against one another; a large one leaves only how far "
    "the class means lie apart, in units of each feature's spread. That is why the right end may still "
    "differ from the difference in means of the raw activations. Where the accuracy stays level while the "
    "direction turns, the clips do not say which direction is the model's own: steer with several, listen. "
    '<code>lab.direction("jazz")</code> is the direction at the slider\'s λ.'
)


class RegularizationPanel(ipywidgets.VBox):
    """The path of one class at one layer; λ on a log scale picks the direction that `direction` returns.

    It is empty until `show` was called.
    """

    def __init__(self) -> None:
        self.walk: RidgeToMeans | None = None
        self.cosines: PlotPanel | None = None
        self.accuracy: PlotPanel | None = None
        self.words = ipywidgets.HTML()
        self.class_ = control(ipywidgets.Dropdown, "class")
        self.strength = control(ipywidgets.SelectionSlider, "λ", "420px", options=[("none yet", 0.0)])
        meaning = ipywidgets.HTML(f"<div class='wb-note' style='line-height:1.45'>{MEANING}</div>")
        self._above = [in_row(self.class_, self.strength), self.words, meaning]
        super().__init__(self._above, layout=FULL)
        follow([self.class_, self.strength], self._redraw)

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
        """Return the direction of a class (the one that is shown when None) at the slider's λ.

        Raises:
            ProbeError: nothing is shown yet, or there is no such class.
        """
        if self.walk is None:
            found = "nothing has been examined yet"
            raise ProbeError("A direction of the path was asked for", found, "Call show(...) first")
        return self.walk.direction(class_ or self.class_.value, self.strength.value)

    def _redraw(self) -> None:
        """Draw class and λ as the controls stand."""
        if self.walk is None:
            return
        chosen = self.class_.value, self.strength.value
        self.words.value = _words(self.walk, *chosen)
        self.cosines = shown_in(self.cosines, path_cosines(self.walk, *chosen), name="ridge_to_means_cosines")
        accuracy = path_accuracy(self.walk, *chosen)
        self.accuracy = shown_in(self.accuracy, accuracy, name="ridge_to_means_accuracy")
        self.children = [*self._above, self.cosines, self.accuracy]


def _words(walk: RidgeToMeans, class_: str, strength: float) -> str:
    """Return the sentence about the class that is shown, and a small table of all classes at this λ."""
    table = walk.table()
    rows = "".join(
        f"<tr><td><b>{html.escape(str(one['class']))}</b></td><td>{one['to_probe']:.2f}</td>"
        f"<td>{one['to_means']:.2f}</td><td>{one['accuracy']:.0%} "
        f"({one['low']:.0%} to {one['high']:.0%})</td></tr>"
        for one in table[table["l2"] == strength].to_dict("records")
    )
    head = "<tr><td></td><td>cosine to probe</td><td>to means</td><td>held-out accuracy</td></tr>"
    sentence = html.escape(walk.sentence(class_, strength))
    look = "<style>.wb-path td{padding:1px 14px 1px 0}</style>"
    return f"<div style='line-height:1.45'>{sentence}</div>{look}<table class='wb-path'>{head}{rows}</table>"


class GeneratePanel(WorkPanel["dict[str, Take]"]):
    """A panel that generates takes: prompt, seconds, guidance, seed, and a control of random directions.

    `wait()` returns the takes by name, "unsteered" first.
    """

    def _add_settings(
        self, model: Model, prompt: str, seconds: float, seed: int, guidance: float | None
    ) -> None:
        self.model = model
        self.takes: dict[str, Take] = {}
        longest, follows = float(model.max_seconds), model.guidance if guidance is None else guidance
        slider = ipywidgets.FloatSlider
        lengths = {"min": min(1.0, longest), "max": longest, "step": 0.5, "value": min(seconds, longest)}
        self.prompt = control(ipywidgets.Text, "prompt", "460px", value=prompt)
        self.seconds = control(slider, "seconds", "340px", **lengths)
        self.guidance = control(
            slider, "guidance", "340px", min=1, max=8, step=0.5, value=follows,
            tooltip="how closely the text is followed",
        )  # fmt: skip
        self.seed = control(ipywidgets.BoundedIntText, "seed", "200px", min=0, max=2**31 - 1, value=seed)
        self.control = tick_box("also random directions of equal norm")
        self.job = JobPanel(self._generate, label="Generate", on_done=self._show)

    def _generate(self, job: Job) -> dict[str, Take]:
        raise NotImplementedError

    def _show(self, takes: dict[str, Take]) -> None:
        raise NotImplementedError


class SteerPanel(GeneratePanel):
    """Prompt, one dose per direction, settings and Generate; then both versions in one comparison player.

    Args:
        model: the loaded model.
        directions: name -> unit Direction, or a ProbeSweep, which makes the layer a choice.
        judge: hears the results, as it is or by its name; its verdicts are drawn under the player.
        prompt: what the text begins with.
        seconds: of a take.
        seed: of the first takes.
        guidance: of the text; the model's own when None.

    `start()` and `wait()` do what the button does; `sliders["jazz"].value = 0.6` moves a slider.
    Doses are in multiples of the layer's mean residual norm.

    Raises:
        SteeringError: there is no direction.
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
        self._unsteered: dict[tuple[Any, ...], Take] = {}
        self._add_settings(model, prompt, seconds, seed, guidance)
        layers, chosen = _layers(directions)
        self.layer = control(
            ipywidgets.Dropdown, "layer", "200px", options=layers, value=chosen, disabled=len(layers) < 2
        )
        self.sliders = {name: dose_slider(name, -1, 2, 0.05, "380px") for name in self.directions}
        self.plan_text = ipywidgets.HTML()
        self.player = ComparisonPlayer()
        self.verdict: PlotPanel | None = None
        settings = in_row(self.layer, self.guidance, self.seconds, self.seed, self.control)
        self._parts = [
            self.prompt, in_row(*self.sliders.values()), settings, self.plan_text, self.job, self.player
        ]  # fmt: skip
        super().__init__(self._parts, layout=FULL)
        follow([self.layer, *self.sliders.values()], self._write_plan)
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
        doses = {name: value_of(slider) for name, slider in self.sliders.items()}
        terms = [self.directions[name].at(dose) for name, dose in doses.items() if dose]
        return sum(terms[1:], terms[0]) if terms else None

    def _generate(self, job: Job) -> dict[str, Take]:
        """Return the takes; the unsteered one is kept, since moving a slider does not change it."""
        from workbench.generation.generate import generate

        settings = {"seed": self.seed.value, "seconds": self.seconds.value, "guidance": self.guidance.value}
        same = (self.prompt.value, *settings.values())
        plan = self.steering
        wanted: dict[str, Steering | None] = {UNSTEERED: None}
        if plan is not None:
            wanted[shortened(plan.text())] = plan
            wanted |= {CONTROL: randomised(plan, self.seed.value)} if self.control.value else {}
        known = same in self._unsteered
        missing = {name: plan for name, plan in wanted.items() if name != UNSTEERED or not known}
        job.progress(0.02, f"generating {len(missing)} versions")
        report = frame_reporter(job, self.seconds.value * self.model.frame_rate_hz)
        takes = generate(
            self.model, [self.prompt.value] * len(missing), steering=list(missing.values()),
            progress=False, on_frame=report, cancel=job.cancel, **settings,
        )  # fmt: skip
        made = dict(zip(missing, takes, strict=True))
        self._unsteered = {same: made.get(UNSTEERED) or self._unsteered[same]}
        return {name: made.get(name) or self._unsteered[same] for name in wanted}

    def _show(self, takes: dict[str, Take]) -> None:
        self.takes = takes
        clips = {name: take.clip for name, take in takes.items()}
        self.player.load(clips)
        if self.judge is not None:
            heard = {}
            for name, clip in clips.items():
                (shares,) = self.judge.probabilities([clip])
                heard[name] = dict(zip(self.judge.classes, map(float, shares), strict=True))
            self.verdict = shown_in(self.verdict, judged_genres(heard), name="judged")
            self.children = [*self._parts, self.verdict]

    def _write_plan(self) -> None:
        plan = self.steering
        text = "no steering: all doses are 0" if plan is None else f"plan: {shortened(plan.text())}"
        self.plan_text.value = note_html(f"{text} (doses in multiples of the layer's mean residual norm)")


def _layers(directions: Mapping[str, Direction] | ProbeSweep) -> tuple[list[int], int]:
    """Return the layers to choose from and the first choice."""
    if not isinstance(directions, Mapping):
        return [int(probe.layer) for probe in directions.probes], int(directions.best.layer)
    if not directions:
        do = "Pass a dict of directions or a probe sweep"
        raise SteeringError("A steering view was asked for", "no direction was given", do)
    lowest = min(int(direction.layer) for direction in directions.values())
    return [lowest], lowest


def frame_reporter(job: Job, frames: float) -> Callable[[int, object], None]:
    """Return what `generate` calls after every frame: it moves the bar; stopping is the event's affair."""

    def report(done: int, _codes: object) -> None:
        share = min(done / max(frames, 1.0), 1.0)
        if not job.cancel.is_set():
            job.progress(share, f"{share:.0%} of the sound")

    return report
