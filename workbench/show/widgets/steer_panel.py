"""The steering view: sliders for genres, one button, and the same prompt heard before and after."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import ipywidgets

from workbench.errors import SteeringError
from workbench.show.plots import judged_genres
from workbench.show.widgets.job_panel import Job, JobPanel, note_html
from workbench.show.widgets.player import ComparisonPlayer, shortened
from workbench.show.widgets.plot_panel import PlotPanel
from workbench.steering.direction import Direction
from workbench.steering.plan import Steering
from workbench.steering.together import randomised

if TYPE_CHECKING:
    from workbench.evidence.judge import Judge
    from workbench.generation.take import Take
    from workbench.model.musicgen import Model
    from workbench.probing.sweep import ProbeSweep

UNSTEERED = "unsteered"
CONTROL = "random direction"
WIDE: dict[str, Any] = {"width": "min(100%, 380px)"}
NARROW: dict[str, Any] = {"width": "200px"}


class SteerPanel(ipywidgets.VBox):
    """Prompt, one dose per direction, settings and Generate; then both versions in one comparison player.

    Args:
        model: the loaded model.
        directions: name -> unit Direction, or a ProbeSweep, which makes the layer a choice.
        judge: hears the results; its verdicts are drawn under the player.
        prompt, seconds, seed: what the controls begin with.

    `start()` and `wait()` do what the button does; `sliders["jazz"].value = 0.6` moves a slider.
    Doses are in multiples of the layer's mean residual norm.
    """

    def __init__(
        self,
        model: Model,
        directions: Mapping[str, Direction] | ProbeSweep,
        judge: Judge | None = None,
        *,
        prompt: str = "a calm tune",
        seconds: float = 5.0,
        seed: int = 0,
        guidance: float | None = None,
    ) -> None:
        self.model, self.judge, self._given = model, judge, directions
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
