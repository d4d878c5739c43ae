"""The steering lab: several attributes at once, in any manner, written as one plan, heard side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import ipywidgets
import numpy as np
import traitlets

from workbench.errors import SteeringError, renamed_attribute
from workbench.evidence.judge import Judges, as_judges
from workbench.evidence.search import AutoDose
from workbench.generation.request import prompt_codes_of
from workbench.generation.take import Take
from workbench.model.musicgen import Model
from workbench.show.widgets import steer_lab_plan as p
from workbench.show.widgets import ui
from workbench.show.widgets.base import Job
from workbench.show.widgets.fader import LIMIT, DoseDesk
from workbench.show.widgets.steer_lab_takes import Aim, DoseFinder, GeneratePanel, cost_words
from workbench.show.widgets.takes import TakeComparison
from workbench.sound import Clip
from workbench.steering import Direction, Steering

NOTHING = "silence"  # the beginning of a take that continues from nothing


class SteerLab(GeneratePanel):
    """A dose for every direction, one plan in words, Generate, and all takes side by side.

    Args:
        directions: group -> name -> unit Direction, or group -> ProbeSweep (its layer is a choice), or group
            -> how they were found -> ProbeSweep; or just name -> Direction. No name may stand twice: where
            they make no groups, it is a SteeringError.
        judges: target -> judge or its name, or just judges; they hear the takes, and doses are searched.
        probes: read while takes are made, also by gates; by default the last layer's of every group.
        beginnings: name -> clip that a take can go on from.
        seconds: of a take; the new part where it continues from a sound.
        pad: four of the names (else a SteeringError), for a pad that blends them.
        folder: where takes are kept; see `TakeHistory`.

    `sliders["jazz"].value = 0.15` moves a slider, `text` is the plan as it is written, `steering` the plan as
    it is meant; `options` are how, when and where it acts, and `finder` searches doses.
    """

    text = traitlets.Unicode("none")
    way = renamed_attribute("way", "options")

    def __init__(
        self, model: Model, directions: Any, judges: Judges | None = None, *, probes: Sequence[Any] = (),
        beginnings: Mapping[str, Clip] | None = None, prompt: str = "a calm tune", seconds: float = 5.0,
        seed: int = 0, guidance: float | None = None, pad: Sequence[str] | None = None,
        folder: Path | str | None = None,
    ) -> None:  # fmt: skip
        self.judges, self.groups = as_judges(judges or {}), p.groups_of(directions)
        watched = tuple(probes) or tuple(group.probe for group in self.groups if group.probe)
        self.beginnings, self.probes = dict(beginnings or {}), watched
        self._add_settings(model, prompt, seconds, seed, guidance)
        names, hint = [NOTHING, *self.beginnings], "the sound that the take begins with"
        self.beginning = ui.control(ipywidgets.Dropdown, "go on from", options=names, tooltip=hint)
        self.beginning.layout.display = "" if self.beginnings else "none"
        self.costs = ipywidgets.HTML()
        named = {group.name: group.names for group in self.groups}
        self.desk = DoseDesk(named, pad, self._rewrite, breaks=model.breaking_dose)
        self.sliders, self.pad, readers = self.desk.sliders, self.desk.pad, p.readers_of(watched)
        self.options = p.SteeringOptions(self.groups, readers, self._rewrite)
        self.line = p.PlanLine(model, self.groups, readers, self._method_of)
        self.finder = DoseFinder(self)
        self.comparison = TakeComparison(None, judges=self.judges)
        self.player = self.comparison.player
        self._add_takes(folder, next(iter(self.judges.values()), None))
        super().__init__(self._parts())
        traitlets.link((self.line, "text"), (self, "text"))
        ui.follow([self.seconds], self.finder.describe)
        ui.follow([self.beginning, self.prompted], self.job.foretell)
        self._rewrite()

    def _parts(self) -> list[ipywidgets.Widget]:
        more = ipywidgets.Accordion(
            [ipywidgets.VBox([self.options, ui.in_row(self.seed, self.guidance)]), self.finder],
            titles=["How, when, where", "Find the dose for me"], selected_index=None,
        )  # fmt: skip
        return [
            ui.in_row(self.prompt, self.beginning, self.seconds), self.desk, self.line, more,
            ui.in_row(self.prompted, self.control), self.job, self.costs, self.history, self.comparison,
        ]  # fmt: skip

    @property
    def steering(self) -> Steering | None:
        """The plan that was last understood, from sliders or text; None where nothing is pushed."""
        return self.line.steering

    @property
    def doses(self) -> dict[str, float]:
        """What the sliders say, by name."""
        return self.desk.doses

    def push(self, **doses: float) -> SteerLab:
        """Set every slider at once, those not named to 0; a SteeringError where there is none of a name."""
        self.desk.move({**dict.fromkeys(self.sliders, 0.0), **doses})
        return self

    def directions_of(self, name: str) -> dict[int, Direction]:
        """Return the directions of a name by layer, as the chosen method of its group has found them."""
        (group,) = (one for one in self.groups if name in one.names)
        return dict(group.found[self._method_of(group.name)][name])

    def close(self) -> None:
        """Stop what is running, then close."""
        if hasattr(self, "job"):
            self.job.cancel()
            self.finder.job.cancel()
        super().close()

    def _method_of(self, group: str) -> str:
        return str(self.options.methods[group].value)

    def _rewrite(self) -> None:
        self.line.write(lambda: p.plan_of(self._pushes(), **self.options.settings))

    def _pushes(self) -> list[tuple[float, dict[int, Direction]]]:
        """Return each dose that is not 0, with its direction by layer: at the chosen one, or at all."""
        pushes, doses = [], self.doses
        for group in self.groups:
            for name in filter(doses.get, group.names):
                directions = self.directions_of(name)
                if group.layers and not self.options.spread.value:
                    layer = self.options.layers[group.name].value
                    directions = {layer: directions[layer]}
                pushes.append((doses[name], directions))
        return pushes

    def use(self, aim: Aim, found: AutoDose) -> None:
        """Set the layer and the dose that a search has found, and all else to how it was tried."""
        with self.options.together():
            self.options.plain()
            if aim.group in self.options.layers:
                self.options.layers[aim.group].value = found.layer
            self.desk.move({aim.name: found.dose})

    def _generate(self, job: Job) -> dict[str, Take]:
        """Return the takes, and say what each push changed; a text that is no plan makes none."""
        if self.line.fault is not None:
            raise self.line.fault
        takes = self._make(self._wanted(), job, probes=self.probes)
        job.progress(0.95, "measuring")
        told = cost_words(self.model, takes) if len(takes) > 1 else []
        self.costs.value = "".join(map(ui.note_html, told))
        return takes

    def _beginning(self) -> Clip | None:
        return self.beginnings.get(self.beginning.value)

    def _show(self, takes: dict[str, Take]) -> None:
        super()._show(takes)
        self.finder.describe()

    def _hear_takes(self, takes: Mapping[str, Take]) -> None:
        self.comparison.load(takes)

    def set_to(self, take: Take) -> None:
        """Set prompt, beginning, seed, seconds, guidance and plan to a take's, by the faders or in the line.

        A SteeringError where the take does not carry its plan, it does not fit, or its beginning is not here.
        """
        begun, given = [NOTHING], round(take.prompt_seconds * self.model.frame_rate_hz)
        if given:
            heard = {name: prompt_codes_of(self.model, clip) for name, clip in self.beginnings.items()}
            begun = [name for name, one in heard.items() if np.array_equal(one, take.codes[:, :given])]
        if not begun:
            asked, found = "A take was to be opened", "the sound that it goes on from is none of the lab's"
            raise SteeringError(asked, found, "Make the lab with that sound among its beginnings")
        super().set_to(take)
        self.beginning.value = begun[0]

    def _say_plan(self, plan: Steering) -> None:
        self._follow_plan(plan)
        now = () if self.steering is None else self.steering.terms
        if self.line.fault is not None or set(plan.terms) != set(now):
            with self.options.together():
                self.options.plain()
                self.push()
            self.line.write(lambda: plan, p.NOT_SHOWN)

    def _follow_plan(self, plan: Steering) -> None:
        """Put faders and options to a plan, as far as they can say it."""
        doses: dict[str, float] = {}
        with self.options.together():
            self.options.plain()
            for term in plan.terms:
                self.options.follow(term)
                places = (place for place in p.every_place(self.groups) if place[0] == term.direction)
                for _direction, group, method, name, layer in islice(places, 1):
                    self.options.methods[group.name].value = method
                    if group.layers:
                        self.options.layers[group.name].value = layer
                    self.options.spread.value |= name in doses
                    doses[name] = round(doses.get(name, 0.0) + p.fader_dose(term), 6)
            self.push(**{name: dose for name, dose in doses.items() if abs(dose) <= LIMIT})
