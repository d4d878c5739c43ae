"""The steering lab: several attributes at once, in any manner, written as one plan, heard side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
import ipywidgets
import traitlets

from workbench.errors import SteeringError
from workbench.evidence.judge import as_judges
from workbench.show.plots.grammar import colours_for
from workbench.show.widgets.base import Job
from workbench.show.widgets.history import TakeHistory
from workbench.show.widgets.panels import UNSTEERED, GeneratePanel
from workbench.show.widgets.parts import (
    FULL,
    Together,
    control,
    dose_slider,
    follow,
    in_row,
    note_html,
    renamed,
    tick_box,
    value_of,
)
from workbench.show.widgets.steer_lab_plan import (
    Group,
    PlanLine,
    SteeringOptions,
    groups_of,
    plan_of,
    readers_of,
)
from workbench.show.widgets.steer_lab_takes import (
    NOTHING,
    Aim,
    DoseFinder,
    TakeMaker,
    TakeSettings,
    cost_sentence,
    costs_of,
    wanted_takes,
)
from workbench.show.widgets.takes import TakeComparison

if TYPE_CHECKING:
    from workbench.evidence.judge import Judges
    from workbench.evidence.search import AutoDose
    from workbench.generation.take import Take
    from workbench.model.musicgen import Model
    from workbench.sound.clip import Clip
    from workbench.steering.plan import Direction, Steering

HERE = Path(__file__).parent
MOST = 1.0
"""The largest dose of a slider; from about 0.4 on the music tends to break."""


class BlendPad(anywidget.AnyWidget):
    """A square with a name in each corner; the nearer the point is to one, the larger its share.

    Args:
        names: of the corners top left, top right, bottom left, bottom right.
        strength: the sum of the doses; a share is multiplied by it.

    `doses` follows the point (`x` and `y` from 0 to 1, y upwards): observe it. The shares are bilinear:
    top left has (1 - x) y, top right x y, bottom left (1 - x)(1 - y), bottom right x (1 - y).

    >>> pad = BlendPad(["jazz", "rock", "classical", "reggae"], strength=0.2)
    >>> pad.move(0.25, 1)
    >>> pad.doses
    {'jazz': 0.15, 'rock': 0.05, 'classical': 0.0, 'reggae': 0.0}

    Raises:
        SteeringError: there are not four different names, or the strength is negative.
    """

    _esm = HERE / "blend_pad.js"
    _css = HERE / "style.css"
    names = traitlets.List(traitlets.Unicode()).tag(sync=True)
    colours = traitlets.List(traitlets.Unicode()).tag(sync=True)
    x = traitlets.Float(0.5).tag(sync=True)
    y = traitlets.Float(0.5).tag(sync=True)
    strength = traitlets.Float(0.15)
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


class DoseDesk(Together, ipywidgets.Box):
    """A slider for every direction, in columns by group, and a pad or none; `doses` is what they say.

    Args:
        groups: a column each; small groups share one.
        pad: four of the names, or None.
        on_change: called after a slider was moved, once where several were moved together.

    Raises:
        SteeringError: the pad names a direction that is not there, or not four.
    """

    def __init__(
        self, groups: Sequence[Group], pad: Sequence[str] | None, on_change: Callable[[], object]
    ) -> None:
        self._on_change = on_change
        names = [name for group in groups for name in group.names]
        self.sliders = {name: dose_slider(name, -MOST, MOST, 0.01, "100% - 4px") for name in names}
        self._check("A pad with", pad or ())
        self.pad = None if pad is None else BlendPad(pad)
        parts: list[ipywidgets.Widget] = [self._column(each) for each in _packed(groups)]
        if self.pad is not None:
            self.pad.layout.width = "250px"
            self.pad.observe(lambda change: self.move(change["new"]), "doses")
            parts.append(self.pad)
        super().__init__(parts, layout={"flex_flow": "row wrap", "align_items": "flex-start"})
        follow(self.sliders.values(), self._changed)

    @property
    def doses(self) -> dict[str, float]:
        """What the sliders say, by name."""
        return {name: value_of(slider) for name, slider in self.sliders.items()}

    def move(self, doses: Mapping[str, float]) -> None:
        """Move several sliders, and report it once.

        Raises:
            SteeringError: there is no slider of a name, or a dose is beyond its end.
        """
        self._check("A push towards", doses)
        beyond = [f"{name}={dose:g}" for name, dose in doses.items() if not abs(dose) <= MOST]
        if beyond:
            found, do = f"sliders go from -{MOST:g} to {MOST:g}", "Write larger doses into the plan's line"
            raise SteeringError(f"Doses of {', '.join(beyond)} were asked for", found, do)
        with self.together():
            for name, dose in doses.items():
                self.sliders[name].value = dose

    def _column(self, groups: Sequence[Group]) -> ipywidgets.VBox:
        parts: list[ipywidgets.Widget] = []
        for group in groups:
            parts.append(ipywidgets.Label(group.name, style={"font_weight": "bold"}))
            parts += [self.sliders[name] for name in group.names]
        return ipywidgets.VBox(parts, layout={"width": "min(100%, 340px)"})

    def _check(self, asked: str, names: Mapping[str, float] | Sequence[str]) -> None:
        strange = [name for name in names if name not in self.sliders]
        if strange:
            found = f"the directions are {', '.join(self.sliders)}"
            raise SteeringError.lookup(
                f"{asked} {', '.join(strange)} was asked for", found, "Use these names"
            )


def _packed(groups: Sequence[Group]) -> list[list[Group]]:
    """Return the groups in columns, none of which is much higher than the largest group."""
    highest = max(len(group.names) for group in groups) + 2
    columns: list[list[Group]] = []
    for group in groups:
        if columns and sum(len(each.names) + 1 for each in [*columns[-1], group]) <= highest + 1:
            columns[-1].append(group)
        else:
            columns.append([group])
    return columns


class SteerLab(GeneratePanel):
    """A dose for every direction, one plan in words, Generate, and all takes side by side.

    Args:
        model: the loaded model.
        directions: group -> name -> unit Direction, or group -> ProbeSweep (its layer is a choice), or group
            -> how they were found -> ProbeSweep; or just name -> Direction. No name may stand twice.
        judges: target -> judge or its name, or just judges; they hear the takes, and a dose can be searched
            for what they know.
        probes: read while the takes are made, and what gates can read; by default the last layer's of every
            group of probes.
        beginnings: name -> clip that a take can go on from.
        prompt: what the text begins with.
        seconds: of a take; the new part where it goes on from a sound.
        seed: of the first takes.
        guidance: of the text; the model's own when None.
        pad: four of the names, for a pad that blends them.
        folder: where takes are kept; see `TakeHistory`.

    `sliders["jazz"].value = 0.15` moves a slider, `text` is the plan as it is written, `steering` the plan as
    it is meant. `options` holds the controls of how, when and where, `finder` searches doses. `start()` and
    `wait()` do what Generate does.

    Raises:
        SteeringError: the directions make no groups, or the pad names one that is not there.
    """

    text = traitlets.Unicode("none")
    way = renamed("SteerLab", "way", "options")

    def __init__(
        self,
        model: Model,
        directions: Any,
        judges: Judges | None = None,
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
        self.judges, self.groups = as_judges(judges or {}), groups_of(directions)
        watched = tuple(probes) or tuple(
            next(iter(group.sweeps.values()))[group.layers[-1]] for group in self.groups if group.sweeps
        )
        self._maker = TakeMaker(model, beginnings or {}, watched)
        self._add_settings(model, prompt, seconds, seed, guidance)
        names = [NOTHING, *self._maker.beginnings]
        hint = "the sound that the take begins with"
        self.beginning = control(ipywidgets.Dropdown, "go on from", options=names, tooltip=hint)
        self.beginning.layout.display = "" if self._maker.beginnings else "none"
        self.prompted = tick_box("also the same in words, without a push")
        self.costs = ipywidgets.HTML()
        self.desk = DoseDesk(self.groups, pad, self._rewrite)
        self.sliders, self.pad, readers = self.desk.sliders, self.desk.pad, readers_of(watched)
        self.options = SteeringOptions(self.groups, readers, self._rewrite)
        self.line = PlanLine(model, self.groups, readers, self._method_of)
        self.finder = DoseFinder(
            model, self.groups, self.judges, method_of=self._method_of,
            settings=lambda: {"seconds": self.seconds.value, "guidance": self.guidance.value},
            pace=lambda: self._maker.pace, on_found=self._use,
        )  # fmt: skip
        self.comparison = TakeComparison(None, judges=self.judges)
        self.history = TakeHistory(folder, judge=next(iter(self.judges.values()), None))
        super().__init__(self._parts(), layout=FULL)
        traitlets.link((self.line, "text"), (self, "text"))
        follow([self.history], self._follow_ticks, "chosen")
        follow([self.seconds], self.finder.describe)
        self._rewrite()

    def _parts(self) -> list[ipywidgets.Widget]:
        more = ipywidgets.Accordion(
            [ipywidgets.VBox([self.options, in_row(self.seed, self.guidance)]), self.finder],
            titles=["How, when, where", "Find the dose for me"], selected_index=None,
        )  # fmt: skip
        return [
            in_row(self.prompt, self.beginning, self.seconds), self.desk, self.line, more,
            in_row(self.prompted, self.control), self.job, self.costs, self.history, self.comparison,
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
        """Set every slider at once: those that are named to their dose, all others to 0.

        Raises:
            SteeringError: there is no slider of this name.
        """
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
        """Write what sliders and settings say into the plan's line."""
        self.line.write(lambda: plan_of(self._pushes(), **self.options.settings))

    def _pushes(self) -> list[tuple[float, dict[int, Direction]]]:
        """Return each dose that is not 0, with its direction by layer: at the chosen one, or at all."""
        pushes, doses = [], self.doses
        for group in self.groups:
            for name in filter(doses.get, group.names):
                directions = group.by_layer(name, self._method_of(group.name))
                layer = self.options.layer_of(group, name)
                everywhere = self.options.spread.value
                pushes.append((doses[name], directions if everywhere else {layer: directions[layer]}))
        return pushes

    def _use(self, aim: Aim, found: AutoDose) -> None:
        """Set the layer and the dose that a search has found, and all else to how it was tried."""
        with self.options.together():
            self.options.plain()
            if aim.group in self.options.layers:
                self.options.layers[aim.group].value = found.layer
            self.desk.move({aim.name: found.dose})

    def _generate(self, job: Job) -> dict[str, Take]:
        """Return the takes, and say what each push changed; a text that is no plan makes none.

        Raises:
            SteeringError: what is wrong with the plan's text.
        """
        if self.line.fault is not None:
            raise self.line.fault
        settings = TakeSettings(self.seconds.value, self.guidance.value, self.beginning.value)
        prompted, control = self.prompted.value, self.control.value
        wanted = wanted_takes(
            self.prompt.value, self.seed.value, self.steering, prompted=prompted, control=control
        )
        takes = self._maker.make(settings, wanted, job)
        job.progress(0.97, "measuring")
        others = {name: take for name, take in takes.items() if name != UNSTEERED}
        costs = costs_of(self.model, others, takes[UNSTEERED]) if others else {}
        self.costs.value = "".join(
            note_html(cost_sentence(name, others[name], cost)) for name, cost in costs.items()
        )
        return takes

    def _show(self, takes: dict[str, Take]) -> None:
        """Put new takes into the history, ticked; the comparison follows the ticks."""
        self.takes = takes
        kept = [self._kept(name, take) for name, take in takes.items()]
        self.history.chosen = [name for name in kept if name in self.history.takes]  # a full list drops some
        self.finder.describe()

    def _kept(self, name: str, take: Take) -> str:
        """Return the name of a take in the history, which gets it unless it is there already."""
        names = (old for old, one in self.history.takes.items() if one == take)
        return next(names, None) or self.history.add(name, take)

    def _follow_ticks(self) -> None:
        with self.comparison.loading:
            self.comparison.load(self.history.chosen_takes)
