"""The steering lab: several attributes at once, in any manner, written as one plan, heard side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets
import traitlets

from workbench.show.widgets.job_panel import Job, JobPanel, note_html
from workbench.show.widgets.steer_lab_desk import DoseDesk
from workbench.show.widgets.steer_lab_dose import Aim, DoseFinder
from workbench.show.widgets.steer_lab_groups import groups_of
from workbench.show.widgets.steer_lab_plan import Push, plan_of
from workbench.show.widgets.steer_lab_takes import NOTHING, Scene, TakeMaker, costs_of, told, wanted_takes
from workbench.show.widgets.steer_lab_text import PlanLine
from workbench.show.widgets.steer_lab_way import HowWhenWhere, readers_of
from workbench.show.widgets.steer_panel import UNSTEERED
from workbench.show.widgets.take_comparison import TakeComparison
from workbench.show.widgets.take_history import TakeHistory

if TYPE_CHECKING:
    from workbench.evidence.auto_dose import AutoDose
    from workbench.evidence.judge import Judge
    from workbench.generation.take import Take
    from workbench.model.musicgen import Model
    from workbench.sound.clip import Clip
    from workbench.steering.plan import Steering

_WRAP: dict[str, Any] = {"flex_flow": "row wrap", "align_items": "center"}


class SteerLab(ipywidgets.VBox):
    """A dose for every direction, one plan in words, Generate, and all takes side by side.

    Args:
        model: the loaded model.
        directions: group -> name -> unit Direction, or group -> ProbeSweep (its layer is a choice), or group
            -> how they were found -> ProbeSweep; or just name -> Direction. No name may stand twice.
        judges: target -> judge; they hear the takes, and a dose can be searched for what they know.
        probes: read while the takes are made, and what gates can read; by default the last layer's of every
            group of probes.
        beginnings: name -> clip that a take can go on from.
        prompt, seconds, seed, guidance: what the controls begin with.
        pad: four of the names, for a pad that blends them.
        folder: where takes are kept; see `TakeHistory`.

    `sliders["jazz"].value = 0.15` moves a slider, `text` is the plan as it is written, `steering` the plan as
    it is meant. `way` holds the controls of how, when and where, `finder` searches doses. `start()` and
    `wait()` do what Generate does.

    Raises:
        SteeringError: the directions make no groups, or the pad names one that is not there.
    """

    text = traitlets.Unicode("none")

    def __init__(
        self,
        model: Model,
        directions: Any,
        judges: Mapping[str, Judge] | None = None,
        *,
        probes: Sequence[Any] = (),
        beginnings: Mapping[str, Clip] | None = None,
        prompt: str = "a calm tune",
        seconds: float = 5.0,
        seed: int = 0,
        guidance: float | None = None,
        pad: Sequence[str] | None = None,
        folder: Path | str | None = None,
    ) -> None:
        self.model, self.judges, self.groups = model, dict(judges or {}), groups_of(directions)
        self.takes: dict[str, Take] = {}
        watched = tuple(probes) or tuple(
            next(iter(group.sweeps.values()))[group.layers[-1]] for group in self.groups if group.sweeps
        )
        self._maker = TakeMaker(model, beginnings or {}, watched)
        self.desk = DoseDesk(self.groups, pad, self._rewrite)
        self.sliders, self.pad = self.desk.sliders, self.desk.pad
        self._add_settings(prompt, seconds, seed, model.guidance if guidance is None else guidance)
        readers = readers_of(watched)
        self.way = HowWhenWhere(self.groups, readers, self._rewrite)
        self.line = PlanLine(model, self.groups, readers, self._method_of)
        self.finder = DoseFinder(
            model, self.groups, self.judges, method_of=self._method_of,
            settings=lambda: {"seconds": self.seconds.value, "guidance": self.guidance.value},
            pace=lambda: self._maker.pace, on_found=self._use,
        )  # fmt: skip
        self.job: JobPanel[dict[str, Take]] = JobPanel(self._generate, label="Generate", on_done=self._show)
        self.comparison = TakeComparison(None, judges=self.judges)
        self.history = TakeHistory(folder, judge=next(iter(self.judges.values()), None))
        super().__init__(self._parts(), layout={"width": "100%"})
        self._listen()
        self._rewrite()

    def _add_settings(self, prompt: str, seconds: float, seed: int, guidance: float) -> None:
        longest = float(self.model.max_seconds)
        self.prompt = ipywidgets.Text(
            description="prompt", value=prompt, layout={"width": "min(100%, 400px)"}
        )
        names = [NOTHING, *self._maker.beginnings]
        self.beginning = ipywidgets.Dropdown(
            description="go on from", options=names, tooltip="the sound that the take begins with",
            layout={"width": "260px", "display": "" if self._maker.beginnings else "none"},
        )  # fmt: skip
        self.seconds = ipywidgets.FloatSlider(
            description="seconds", min=min(1.0, longest), max=longest, step=0.5, value=min(seconds, longest),
            continuous_update=False,
            layout={"width": "min(100%, 300px)"},
        )  # fmt: skip
        self.guidance = ipywidgets.FloatSlider(
            description="guidance", min=1, max=8, step=0.5, value=guidance,
            tooltip="how closely the text is followed", continuous_update=False,
            layout={"width": "min(100%, 340px)"},
        )  # fmt: skip
        self.seed = ipywidgets.BoundedIntText(
            description="seed", min=0, max=2**31 - 1, value=seed, layout={"width": "190px"}
        )
        self.prompted = _tick("also the same in words, without a push")
        self.control = _tick("also random directions of equal norm")
        self.told = ipywidgets.HTML()

    def _parts(self) -> list[ipywidgets.Widget]:
        more = ipywidgets.Accordion(
            [
                ipywidgets.VBox([self.way, ipywidgets.Box([self.seed, self.guidance], layout=_WRAP)]),
                self.finder,
            ],
            titles=["How, when, where", "Find the dose for me"],
            selected_index=None,
        )
        return [
            ipywidgets.Box([self.prompt, self.beginning, self.seconds], layout=_WRAP),
            self.desk, self.line, more,
            ipywidgets.Box([self.prompted, self.control], layout=_WRAP),
            self.job, self.told, self.history, self.comparison,
        ]  # fmt: skip

    def _listen(self) -> None:
        traitlets.link((self.line, "text"), (self, "text"))
        self.history.observe(lambda _change: self._follow_ticks(), "chosen")
        self.seconds.observe(lambda _change: self.finder.tell(), "value")

    @property
    def steering(self) -> Steering | None:
        """The plan that was last understood, from sliders or text; None where nothing is pushed."""
        return self.line.steering

    @property
    def doses(self) -> dict[str, float]:
        """What the sliders say, by name."""
        return self.desk.doses

    def push(self, **doses: float) -> SteerLab:
        """Set every slider at once: those that are named to their dose, all others to 0.

        Raises:
            SteeringError: there is no slider of this name.
        """
        self.desk.move({**dict.fromkeys(self.sliders, 0.0), **doses})
        return self

    def start(self) -> SteerLab:
        """Begin to generate, as the button does."""
        self.job.start()
        return self

    def wait(self, timeout_s: float | None = None) -> dict[str, Take]:
        """Return the takes by name, "unsteered" first, once generation has ended."""
        return self.job.wait(timeout_s)

    def close(self) -> None:
        """Stop what is running, then close."""
        if hasattr(self, "job"):
            self.job.cancel()
            self.finder.job.cancel()
        super().close()

    def _method_of(self, group: str) -> str:
        return str(self.way.methods[group].value)

    def _rewrite(self) -> None:
        """Write what sliders and settings say into the plan's line."""
        self.line.write(lambda: plan_of(self._pushes(), self.way.way))

    def _pushes(self) -> list[Push]:
        """Return what the sliders push towards."""
        doses = self.doses
        return [
            Push(name, doses[name], self.way.layer_of(group, name),
                 group.by_layer(name, self._method_of(group.name)))
            for group in self.groups for name in group.names if doses[name]
        ]  # fmt: skip

    def _use(self, aim: Aim, found: AutoDose) -> None:
        """Set the layer and the dose that a search has found, and all else to how it was tried."""
        with self.way.together():
            self.way.plain()
            if aim.group in self.way.layers:
                self.way.layers[aim.group].value = found.layer
            self.desk.move({aim.name: found.dose})

    def _generate(self, job: Job) -> dict[str, Take]:
        """Return the takes, and say what each push changed; a text that is no plan makes none.

        Raises:
            SteeringError: what is wrong with the plan's text.
        """
        if self.line.fault is not None:
            raise self.line.fault
        scene = Scene(
            self.prompt.value, self.seed.value, self.seconds.value, self.guidance.value, self.beginning.value
        )
        prompted, control = self.prompted.value, self.control.value
        wanted = wanted_takes(scene, self.steering, prompted=prompted, control=control)
        takes = self._maker.make(scene, wanted, job)
        job.progress(0.97, "measuring")
        others = {name: take for name, take in takes.items() if name != UNSTEERED}
        costs = costs_of(self.model, others, takes[UNSTEERED]) if others else {}
        self.told.value = "".join(note_html(told(name, others[name], cost)) for name, cost in costs.items())
        return takes

    def _show(self, takes: dict[str, Take]) -> None:
        """Put new takes into the history, ticked; the comparison follows the ticks."""
        self.takes = takes
        kept = [self._kept(name, take) for name, take in takes.items()]
        self.history.chosen = [name for name in kept if name in self.history.takes]  # a full list drops some
        self.finder.tell()

    def _kept(self, name: str, take: Take) -> str:
        """Return the name of a take in the history, which gets it unless it is there already."""
        names = (old for old, held in self.history.takes.items() if held == take)
        return next(names, None) or self.history.add(name, take)

    def _follow_ticks(self) -> None:
        with self.comparison.loading:
            self.comparison.load(self.history.chosen_takes)


def _tick(words: str) -> ipywidgets.Checkbox:
    return ipywidgets.Checkbox(
        description=words, indent=False, layout={"width": "auto", "margin": "2px 18px 2px 2px"}
    )
