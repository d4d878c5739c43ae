"""The steering lab: several attributes at once, in any manner, written as one plan, heard side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets
import numpy as np
import traitlets

from workbench.errors import SteeringError, renamed_attribute
from workbench.evidence.judge import Judges, as_judges
from workbench.evidence.search import AutoDose
from workbench.generation.request import prompt_codes_of
from workbench.generation.take import Take
from workbench.model.musicgen import Model
from workbench.show.plots.grammar import colours_for
from workbench.show.widgets import steer_lab_plan as p
from workbench.show.widgets import ui
from workbench.show.widgets.base import Job
from workbench.show.widgets.fader import LIMIT, Fader
from workbench.show.widgets.kept import Kept
from workbench.show.widgets.steer_lab_takes import Aim, DoseFinder, GeneratePanel, cost_words
from workbench.show.widgets.takes import TakeComparison
from workbench.sound import Clip
from workbench.steering import Direction, Steering

HERE = Path(__file__).parent
NOTHING = "silence"  # the beginning of a take that continues from nothing


class BlendPad(Kept, anywidget.AnyWidget):
    """A square with a name in each corner; the nearer the point is to one, the larger its share.

    Args:
        names: of the corners top left, top right, bottom left, bottom right; four, else a SteeringError.
        strength: the sum of the doses, 0 or more; a share is multiplied by it.

    `doses` follows the point (`x` and `y` from 0 to 1, y upwards): observe it. The shares are bilinear. The
    legend shows `now`, the doses in truth, where faders beside the pad have moved them.

    >>> pad = BlendPad(["jazz", "rock", "classical", "reggae"], strength=0.2)
    >>> pad.move(0.25, 1)
    >>> pad.doses
    {'jazz': 0.15, 'rock': 0.05, 'classical': 0.0, 'reggae': 0.0}
    """

    _esm = HERE / "blend_pad.js"
    _css = HERE / "style.css"
    names = traitlets.List(traitlets.Unicode()).tag(sync=True)
    colours = traitlets.List(traitlets.Unicode()).tag(sync=True)
    x = traitlets.Float(0.5).tag(sync=True)
    y = traitlets.Float(0.5).tag(sync=True)
    strength = traitlets.Float(0.15).tag(sync=True)
    now = traitlets.Dict().tag(sync=True)
    doses = traitlets.Dict()

    def __init__(self, names: Sequence[str], *, strength: float = 0.15) -> None:
        names = [str(name) for name in names]
        if len(names) != 4 or len(set(names)) != 4 or not strength >= 0:
            asked = f"A blend of {', '.join(names) or 'nothing'} with strength {strength:g} was asked for"
            found = "a pad has four corners with different names, and a strength of 0 or more"
            raise SteeringError(asked, found, "Give four names")
        shades = colours_for(names)
        super().__init__(names=names, colours=[shades[name] for name in names], strength=strength)
        self.observe(lambda _change: self._follow(), ["x", "y", "strength"])
        self._follow()

    @property
    def shares(self) -> dict[str, float]:
        """What each name has of the whole; together 1."""
        x, y = (min(1.0, max(0.0, value)) for value in (self.x, self.y))
        return dict(zip(self.names, ((1 - x) * y, x * y, (1 - x) * (1 - y), x * (1 - y)), strict=True))

    def move(self, x: float, y: float) -> None:
        """Put the point at x (0 left, 1 right) and y (0 bottom, 1 top), both at once."""
        with self.hold_trait_notifications():
            self.x, self.y = float(x), float(y)

    def _follow(self) -> None:
        self.doses = {name: round(self.strength * share, 6) for name, share in self.shares.items()}


class DoseDesk(ui.Together, ipywidgets.Box):
    """A fader for every direction, in columns by group, and a pad or none; `doses` is what they say.

    Args:
        groups: heading -> names of directions; small groups share a column.
        pad: four of the names (else a SteeringError), or None.
        on_change: called after faders were moved.
        settings: of `Fader`: most, breaks, live.
    """

    def __init__(
        self,
        groups: Mapping[str, Sequence[str]],
        pad: Sequence[str] | None,
        on_change: Callable[[], object],
        **settings: Any,
    ) -> None:
        self._on_change = on_change
        self.sliders = {name: Fader(name, **settings) for name in chain.from_iterable(groups.values())}
        self._check("A pad of", pad or ())
        self.pad = None if pad is None else BlendPad(pad)
        parts: list[ipywidgets.Widget] = [self._column(each) for each in _packed(groups)]
        if self.pad is not None:
            self.pad.layout.width = "250px"
            self.pad.observe(lambda change: self.move(change["new"]), "doses")
            parts.append(self.pad)
        look = {"flex_flow": "row wrap", "align_items": "flex-start", "grid_gap": "4px 24px"}
        super().__init__(parts, layout=look)
        ui.follow(self.sliders.values(), self._changed)

    @property
    def doses(self) -> dict[str, float]:
        """What the sliders say, by name."""
        return {name: ui.value_of(slider) for name, slider in self.sliders.items()}

    def move(self, doses: Mapping[str, float]) -> None:
        """Move several faders, reported once; refuse names without a fader and what is no dose."""
        self._check("A push towards", doses)
        beyond = [f"{name}={dose:g}" for name, dose in doses.items() if not abs(dose) <= LIMIT]
        if beyond:
            found, do = f"faders go to {LIMIT:g} either way", "Write larger doses into the plan's line"
            raise SteeringError(f"Doses of {', '.join(beyond)} were asked for", found, do)
        with self.together():
            for name, dose in doses.items():
                self.sliders[name].value = dose

    def _changed(self) -> None:
        if self.pad is not None:
            self.pad.now = self.doses
        super()._changed()

    def _column(self, groups: Mapping[str, Sequence[str]]) -> ipywidgets.VBox:
        parts: list[ipywidgets.Widget] = []
        for heading, names in groups.items():
            head = [ipywidgets.Label(heading, style={"font_weight": "bold"})] if heading else []
            parts += [*head, *(self.sliders[name] for name in names)]
        return ipywidgets.VBox(parts, layout={"width": "min(100%, 400px)"})

    def _check(self, asked: str, names: Mapping[str, float] | Sequence[str]) -> None:
        strange = [name for name in names if name not in self.sliders]
        if strange or not self.sliders:
            found = ", ".join(self.sliders) or "none"
            asked = f"{asked} {', '.join(strange) or 'directions'} was asked for"
            raise SteeringError.lookup(asked, f"the directions are {found}", "Use these names")


def _packed(groups: Mapping[str, Sequence[str]]) -> list[dict[str, Sequence[str]]]:
    """Return the groups in columns, none of which is much higher than the largest group."""
    highest = max(map(len, groups.values())) + 3
    columns: list[dict[str, Sequence[str]]] = [{}]
    for heading, names in groups.items():
        if columns[-1] and sum(len(each) + 1 for each in [*columns[-1].values(), names]) > highest:
            columns.append({})
        columns[-1][heading] = names
    return columns


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
        self.finder = DoseFinder(
            model, self.groups, self.judges, method_of=self._method_of,
            settings=lambda: {"seconds": self.seconds.value, "guidance": self.guidance.value},
            pace=lambda: self.pace, on_found=self._use,
        )  # fmt: skip
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
                directions = dict(group.found[self._method_of(group.name)][name])
                if group.layers and not self.options.spread.value:
                    layer = self.options.layers[group.name].value
                    directions = {layer: directions[layer]}
                pushes.append((doses[name], directions))
        return pushes

    def _use(self, aim: Aim, found: AutoDose) -> None:
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
        with self.comparison.loading:
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
