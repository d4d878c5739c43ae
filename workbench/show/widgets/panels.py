"""The steering view: sliders for genres, one button, and the same prompt heard before and after."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import ipywidgets
import traitlets

from workbench.errors import ProbeError, SteeringError
from workbench.evidence.judge import load_judge
from workbench.show.plots import accuracy_per_layer, confusion, judged_genres, path_accuracy, path_cosines
from workbench.show.widgets.base import Job, JobPanel, PlotPanel, Points, note_html
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

# The probe view: how well each layer lets a linear probe read a label, and which classes it confuses.


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


# A slider from the ridge probe to the difference in means: the direction turns, its worth is drawn.


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
        self.class_ = ipywidgets.Dropdown(description="class", layout={"width": "260px"})
        self.strength = ipywidgets.SelectionSlider(
            description="λ", options=[("none yet", 0.0)], continuous_update=False,
            layout={"width": "420px"},
        )  # fmt: skip
        controls = ipywidgets.HBox([self.class_, self.strength], layout={"flex_flow": "row wrap"})
        meaning = ipywidgets.HTML(f"<div class='wb-note' style='line-height:1.45'>{MEANING}</div>")
        self._above = [controls, self.words, meaning]
        super().__init__(self._above, layout={"width": "100%"})
        for control in (self.class_, self.strength):
            control.observe(lambda _change: self._redraw(), "value")

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
        shown = self.class_.value, self.strength.value
        figures = path_cosines(self.walk, *shown), path_accuracy(self.walk, *shown)
        self.words.value = _words(self.walk, *shown)
        if self.cosines is None or self.accuracy is None:
            self.cosines = PlotPanel(figures[0], name="ridge_to_means_cosines")
            self.accuracy = PlotPanel(figures[1], name="ridge_to_means_accuracy")
            self.children = [*self._above, self.cosines, self.accuracy]
        else:
            self.cosines.show(figures[0])
            self.accuracy.show(figures[1])


def _words(walk: RidgeToMeans, class_: str, strength: float) -> str:
    """Return the sentence about the class that is shown, and a small table of all classes at this λ."""
    table = walk.table()
    rows = "".join(
        f"<tr><td><b>{html.escape(str(row['class']))}</b></td><td>{row['to_probe']:.2f}</td>"
        f"<td>{row['to_means']:.2f}</td>"
        f"<td>{row['accuracy']:.0%} ({row['low']:.0%} to {row['high']:.0%})</td></tr>"
        for row in table[table["l2"] == strength].to_dict("records")
    )
    head = "<tr><td></td><td>cosine to probe</td><td>to means</td><td>held-out accuracy</td></tr>"
    told = html.escape(walk.sentence(class_, strength))
    cells = "<style>.wb-path td{padding:1px 14px 1px 0}</style>"
    return f"<div style='line-height:1.45'>{told}</div>{cells}<table class='wb-path'>{head}{rows}</table>"


UNSTEERED = "unsteered"
CONTROL = "random direction"
WIDE: dict[str, Any] = {"width": "min(100%, 380px)"}
NARROW: dict[str, Any] = {"width": "200px"}


class SteerPanel(ipywidgets.VBox):
    """Prompt, one dose per direction, settings and Generate; then both versions in one comparison player.

    Args:
        model: the loaded model.
        directions: name -> unit Direction, or a ProbeSweep, which makes the layer a choice.
        judge: hears the results, as it is or by its name; its verdicts are drawn under the player.
        prompt, seconds, seed: what the controls begin with.

    `start()` and `wait()` do what the button does; `sliders["jazz"].value = 0.6` moves a slider.
    Doses are in multiples of the layer's mean residual norm.
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
        self.model, self._given = model, directions
        self.judge = load_judge(judge) if isinstance(judge, str) else judge
        self.takes: dict[str, Take] = {}
        self._unsteered: dict[tuple[Any, ...], Take] = {}
        self._add_settings(prompt, seconds, seed, model.guidance if guidance is None else guidance)
        self.sliders = {name: _slider(name) for name in self.directions}
        self.plan_text = ipywidgets.HTML()
        self.player = ComparisonPlayer()
        self.job: JobPanel[dict[str, Take]] = JobPanel(self._generate, label="Generate", on_done=self._show)
        self.verdict: PlotPanel | None = None
        sliders = ipywidgets.Box(list(self.sliders.values()), layout={"flex_flow": "row wrap"})
        settings = ipywidgets.HBox(
            [self.layer, self.guidance, self.seconds, self.seed, self.control],
            layout={"flex_flow": "row wrap"},
        )
        self._parts = [self.prompt, sliders, settings, self.plan_text, self.job, self.player]
        super().__init__(self._parts, layout={"width": "100%"})
        for control in (self.layer, *self.sliders.values()):
            control.observe(lambda _change: self._tell_plan(), "value")
        self._tell_plan()

    def _add_settings(self, prompt: str, seconds: float, seed: int, guidance: float) -> None:
        layers, chosen = _layers(self._given)
        longest = float(self.model.max_seconds)
        self.prompt = ipywidgets.Text(
            description="prompt", value=prompt, layout={"width": "min(100%, 620px)"}
        )
        self.layer = ipywidgets.Dropdown(
            description="layer", options=layers, value=chosen, layout=NARROW, disabled=len(layers) < 2
        )
        self.guidance = ipywidgets.FloatSlider(
            description="guidance",
            min=1,
            max=8,
            step=0.5,
            value=guidance,
            tooltip="how closely the text is followed",
            layout=WIDE,
        )
        self.seconds = ipywidgets.FloatSlider(
            description="seconds",
            min=min(1.0, longest),
            max=longest,
            step=0.5,
            value=min(seconds, longest),
            layout=WIDE,
        )
        self.seed = ipywidgets.BoundedIntText(
            description="seed", min=0, max=2**31 - 1, value=seed, layout=NARROW
        )
        self.control = ipywidgets.Checkbox(
            description="also a random direction of equal norm",
            value=False,
            indent=False,
            layout={"width": "auto"},
        )

    @property
    def directions(self) -> dict[str, Direction]:
        """The directions in force, by name; of the chosen layer if they come from probes."""
        if isinstance(self._given, Mapping):
            return dict(self._given)
        return dict(self._given.directions(self.layer.value))

    @property
    def steering(self) -> Steering | None:
        """The plan that the sliders say, None when all doses are 0."""
        # The page adds steps of 0.05 in binary and sends back 0.6000000000000001.
        doses = {name: round(slider.value, 6) for name, slider in self.sliders.items()}
        terms = [self.directions[name].at(dose) for name, dose in doses.items() if dose]
        return sum(terms[1:], terms[0]) if terms else None

    def start(self) -> SteerPanel:
        """Begin to generate, as the button does."""
        self.job.start()
        return self

    def wait(self, timeout_s: float | None = None) -> dict[str, Take]:
        """Return the takes by name, "unsteered" first, once generation has ended."""
        return self.job.wait(timeout_s)

    def _generate(self, job: Job) -> dict[str, Take]:
        """Return the takes; the unsteered one is kept, since moving a slider does not change it."""
        from workbench.generation.generate import generate

        settings = {"seed": self.seed.value, "seconds": self.seconds.value, "guidance": self.guidance.value}
        same = (self.prompt.value, *settings.values())
        wanted = self._wanted()
        missing = {
            name: plan for name, plan in wanted.items() if name != UNSTEERED or same not in self._unsteered
        }
        job.progress(0.02, f"generating {len(missing)} versions")
        takes = generate(
            self.model,
            [self.prompt.value] * len(missing),
            steering=list(missing.values()),
            progress=False,
            on_frame=frame_reporter(job, self.seconds.value * self.model.frame_rate_hz),
            cancel=job.cancel,
            **settings,
        )
        made = dict(zip(missing, takes, strict=True))
        self._unsteered = {same: made.get(UNSTEERED) or self._unsteered[same]}
        return {name: made.get(name) or self._unsteered[same] for name in wanted}

    def _wanted(self) -> dict[str, Steering | None]:
        """Return what to generate, by name."""
        plan = self.steering
        if plan is None:
            return {UNSTEERED: None}
        wanted: dict[str, Steering | None] = {UNSTEERED: None, shortened(plan.text()): plan}
        if self.control.value:
            wanted[CONTROL] = randomised(plan, self.seed.value)
        return wanted

    def _show(self, takes: dict[str, Take]) -> None:
        self.takes = takes
        clips = {name: take.clip for name, take in takes.items()}
        self.player.load(clips)
        if self.judge is not None:
            self._show_verdict({name: self.judge.probabilities([clip])[0] for name, clip in clips.items()})

    def _show_verdict(self, probabilities: Mapping[str, Any]) -> None:
        assert self.judge is not None
        figure = judged_genres(
            {
                name: dict(zip(self.judge.classes, map(float, row), strict=True))
                for name, row in probabilities.items()
            }
        )
        if self.verdict is None:
            self.verdict = PlotPanel(figure, name="judged")
            self.children = [*self._parts, self.verdict]
        else:
            self.verdict.show(figure)

    def _tell_plan(self) -> None:
        plan = self.steering
        text = "no steering: all doses are 0" if plan is None else f"plan: {shortened(plan.text())}"
        self.plan_text.value = note_html(f"{text} (doses in multiples of the layer's mean residual norm)")


def _slider(name: str) -> ipywidgets.FloatSlider:
    return ipywidgets.FloatSlider(
        description=name,
        min=-1,
        max=2,
        step=0.05,
        value=0,
        # While it is dragged a slider echoes late, and may undo what a running cell has set meanwhile.
        continuous_update=False,
        readout_format=".2f",
        layout=WIDE,
        tooltip=f"dose of {name}: 0 leaves the model alone, negative steers away",
    )


def _layers(given: Mapping[str, Direction] | ProbeSweep) -> tuple[list[int], int]:
    """Return the layers to choose from and the first choice.

    Raises:
        SteeringError: there is no direction.
    """
    if not isinstance(given, Mapping):
        return [int(probe.layer) for probe in given.probes], int(given.best.layer)
    if not given:
        raise SteeringError(
            "A steering view was asked for",
            "no direction was given",
            "Pass a dict of directions or a probe sweep",
        )
    layers = sorted({int(direction.layer) for direction in given.values()})
    return layers[:1], layers[0]


def frame_reporter(job: Job, frames: float) -> Callable[[int, object], None]:
    """Return what `generate` calls after every frame: it moves the bar; stopping is the event's affair."""

    def report(done: int, _codes: object) -> None:
        share = min(done / max(frames, 1.0), 1.0)
        if not job.cancel.is_set():
            job.progress(share, f"{share:.0%} of the sound")

    return report
