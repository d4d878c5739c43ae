"""From doses and settings to one plan: several directions, perhaps orthogonal, at one layer or at many."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import ipywidgets
import traitlets

from workbench.errors import SteeringError, WorkbenchError
from workbench.probing.probe import ProbeSweep
from workbench.show.widgets.base import note_html, problem_html
from workbench.steering.plan import Direction, Steering
from workbench.steering.schedule import Gate, ReadOut, Schedule, constant, parse_schedule
from workbench.steering.term import Reads
from workbench.steering.together import orthogonalise, split_dose

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workbench.model.musicgen import Model

# Groups of directions for the steering lab: their names, their layers, and how they were found.


GIVEN = "as given"
ALONE = "directions"


@dataclass(frozen=True, eq=False)
class Group:
    """Directions of one quality, such as genre: given one by one, or read from probes of every layer.

    sweeps  how they were found -> probes; empty where directions were given
    given   name -> direction; empty where probes were given
    """

    name: str
    sweeps: Mapping[str, ProbeSweep]
    given: Mapping[str, Direction]

    @property
    def names(self) -> tuple[str, ...]:
        """What can be steered."""
        return tuple(self.given) or next(iter(self.sweeps.values())).classes

    @property
    def methods(self) -> tuple[str, ...]:
        """The ways in which its directions were found."""
        return tuple(self.sweeps) or (GIVEN,)

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers to choose from; none where every direction has its own."""
        held = [set(sweep.layers) for sweep in self.sweeps.values()]
        return tuple(sorted(set.intersection(*held))) if held else ()

    def by_layer(self, name: str, method: str) -> dict[int, Direction]:
        """Return the directions of one name by layer; of given ones there is one."""
        if not self.sweeps:
            return {self.given[name].layer: self.given[name]}
        return {layer: self.sweeps[method][layer].direction(name) for layer in self.layers}


def groups_of(directions: Any) -> list[Group]:
    """Return the groups of what a lab was given.

    Args:
        directions: group -> name -> Direction; group -> ProbeSweep; group -> how it was found -> ProbeSweep;
            or just name -> Direction, which is one group.

    Raises:
        SteeringError: there is nothing, something of another kind, or one name stands in two groups.
    """
    if isinstance(directions, ProbeSweep):
        directions = {directions.target: directions}
    if isinstance(directions, Mapping) and directions and _all(directions, Direction):
        directions = {ALONE: directions}
    if not isinstance(directions, Mapping) or not directions:
        raise _refusal(f"{type(directions).__name__} holds no direction")
    groups = [_group(str(name), held) for name, held in directions.items()]
    names = [name for group in groups for name in group.names]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise _refusal(f"{', '.join(twice)} stands in two groups")
    return groups


def _group(name: str, held: Any) -> Group:
    if isinstance(held, ProbeSweep):
        return Group(name, {held.method: held}, {})
    if isinstance(held, Mapping) and held and _all(held, Direction):
        return Group(name, {}, dict(held))
    if isinstance(held, Mapping) and held and _all(held, ProbeSweep):
        group = Group(name, dict(held), {})
        if group.layers and len({sweep.classes for sweep in held.values()}) == 1:
            return group
        raise _refusal(f"the probes of {name!r} share no layer, or know different classes")
    raise _refusal(f"{name!r} holds no directions and no probes")


def _all(held: Mapping[Any, Any], kind: type) -> bool:
    return all(isinstance(one, kind) for one in held.values())


def _refusal(found: str) -> SteeringError:
    do = 'Give {"genre": probes, "tempo": {"slow": direction, ...}}, every name once'
    return SteeringError("A steering lab was asked for", found, do)


PLAIN = ""
"""Directions are left as they are."""

WORDS = {"gram-schmidt": "without", "symmetric": "apart from"}
"""What stands in the name of a direction that was made orthogonal to others, by method."""


def plain_name(name: str) -> str:
    """Return the name of a direction before it was made orthogonal to others."""
    for word in WORDS.values():
        name = name.split(f" {word} ")[0]
    return name


@dataclass(frozen=True)
class Way:
    """How, when and where all directions of a plan act.

    angles  PLAIN, or a method of `orthogonalise`
    spread  whether each dose is shared among all layers of its group
    """

    operation: str = "add"
    schedule: Schedule = field(default_factory=constant)
    rows: str = "cond"
    chance: float = 1.0
    gate: Gate | None = None
    angles: str = PLAIN
    spread: bool = False


@dataclass(frozen=True, eq=False)
class Push:
    """A name, its dose, the layer chosen for it, and its directions by layer."""

    name: str
    dose: float
    layer: int
    directions: Mapping[int, Direction]


def plan_of(pushes: Sequence[Push], way: Way) -> Steering | None:
    """Return the plan of all doses that are not 0, None when all are.

    A direction that was made orthogonal is called so: "slow without jazz", or "slow apart from jazz" where
    both gave way. For `clamp` a dose is turned into the projection that it stands for, dose x R.

    Args:
        pushes: in the order in which they act; of directions at right angles the first keeps its place.
        way: how, when and where.

    Raises:
        SteeringError: the settings do not go together, for example a weight above 1 for `remove`.
    """
    chosen = [push for push in pushes if push.dose]
    held = [
        dict(push.directions) if way.spread else {push.layer: push.directions[push.layer]} for push in chosen
    ]
    if way.angles != PLAIN:
        held = _at_right_angles(held, way.angles)
    plans = [_one(mine, push.dose, way) for push, mine in zip(chosen, held, strict=True)]
    terms = tuple(term for plan in plans for term in plan.terms)
    return Steering(terms) if terms else None


def _at_right_angles(held: Sequence[Mapping[int, Direction]], method: str) -> list[dict[int, Direction]]:
    """Return the directions made orthogonal wherever several act at one layer and site."""
    made = [dict(mine) for mine in held]
    places = {(layer, direction.site) for mine in held for layer, direction in mine.items()}
    for layer, site in places:
        there = [mine for mine in made if layer in mine and mine[layer].site == site]
        old = [mine[layer] for mine in there]
        for number, new in enumerate(orthogonalise(old, method=method)):
            others = old[:number] if method == "gram-schmidt" else old[:number] + old[number + 1 :]
            told = ", ".join(other.name for other in others)
            word = WORDS[method]
            there[number][layer] = new.named(f"{new.name} {word} {told}") if others else new
    return made


def _one(held: Mapping[int, Direction], dose: float, way: Way) -> Steering:
    """Return the plan of one direction, its dose shared where there are several layers."""
    settings: dict[str, Any] = {
        name: getattr(way, name) for name in ("schedule", "operation", "rows", "chance", "gate")
    }
    if len(held) > 1:
        plan = split_dose(held, dose, **settings)
        return Steering(tuple(replace(term, dose=round(term.dose, 4)) for term in plan.terms))
    (direction,) = held.values()
    norm = direction.residual_norm
    if way.operation == "clamp" and math.isfinite(norm):
        dose = round(dose * norm, 3)
    return direction.at(dose, **settings)


# The plan as a line of text: sliders write it, people edit it, and what stands there is generated.


class PlanLine(ipywidgets.VBox):
    """One line that holds the canonical text of a plan, and under it what was understood.

    Args:
        model: the plan must fit it.
        groups: names that the text may use, at every layer.
        readers: what its gates may read.
        method_of: the method chosen for a group; directions found otherwise need their fingerprint
            (`jazz#1a2b3c@3`).

    `text` is the line, `steering` the plan that was last understood. `fault` says what is wrong with the
    text, and is None where it was understood. What any plan of this line has used stays known by its name.
    """

    text = traitlets.Unicode("none")

    def __init__(
        self,
        model: Model,
        groups: Sequence[Group],
        readers: Sequence[ReadOut],
        method_of: Callable[[str], str],
    ) -> None:
        self.model, self.groups, self.readers = model, groups, readers
        self._method_of = method_of
        self._met: dict[str, Direction] = {}
        self._writing = False
        self.steering: Steering | None = None
        self.fault: WorkbenchError | None = None
        self.box = ipywidgets.Text(
            description="plan", value=self.text, continuous_update=False, layout={"width": "98%"},
            tooltip="the plan: edit it and press Enter",
        )  # fmt: skip
        self.note = ipywidgets.HTML()
        super().__init__([self.box, self.note], layout={"width": "100%"})
        traitlets.link((self, "text"), (self.box, "value"))
        self.observe(lambda _change: self._read(), "text")

    def write(self, plan_of: Callable[[], Steering | None]) -> None:
        """Write the plan that `plan_of` returns; where it raises, say why and leave the text as it is."""
        try:
            plan = plan_of()
            if plan is not None:
                plan.check(self.model)
        except WorkbenchError as error:
            self._complain(error)
            return
        self._writing = True
        try:
            self.text = "none" if plan is None else plan.text()
        finally:
            self._writing = False
        self._accept(
            plan, "The sliders write this line; edit it and press Enter. What stands here is generated."
        )

    def _read(self) -> None:
        """Understand the text, unless it has just been written from the sliders."""
        if self._writing:
            return
        try:
            plan = Steering()
            if self.text.strip():
                plan = Steering.parse(self.text, self.directions(), self.readers)
            plan.check(self.model)
        except WorkbenchError as error:
            self._complain(error)
            return
        more = "The sliders do not show it; moving one writes the line anew."
        self._accept(plan if plan.terms else None, f"Read as: {plan.text()}. {more}")

    def directions(self) -> dict[str, Direction]:
        """Return every direction that the text may name, by name and layer."""
        held: dict[str, Direction] = {}
        for group in self.groups:
            chosen = self._method_of(group.name)
            for method in group.methods:
                for name in group.names:
                    for layer, one in group.by_layer(name, method).items():
                        mark = "" if method == chosen else f"#{one.fingerprint}"
                        held[f"{name}@{layer}{mark}"] = one
        used = self.steering.directions if self.steering is not None else {}
        return {**held, **{key: one for key, one in self._met.items() if key not in held}, **used}

    def _accept(self, plan: Steering | None, words: str) -> None:
        self.steering, self.fault = plan, None
        self._met |= plan.directions if plan is not None else {}
        self.note.value = note_html(words)

    def _complain(self, error: WorkbenchError) -> None:
        self.fault = error
        self.note.value = problem_html(error)


# How, when and where a plan acts, as controls: operation, schedule, chance, gate, angles, layers, rows.


OPERATIONS = {
    "add: push": "add",
    "keep_norm: turn without stretching": "keep_norm",
    "paper: the published update": "paper",
    "remove: take it out (0 to 1)": "remove",
    "clamp: hold it at dose x R": "clamp",
}
SCHEDULES = {
    "all the time": "constant",
    "comes in (ramp)": "ramp",
    "goes out (fade)": "fade",
    "only between (window)": "window",
    "in pulses": "pulse",
    "every n-th step": "pulse_steps",
    "dies away (decay)": "decay",
    "through points (knots)": "knots",
}
NUMBERS: Mapping[str, tuple[tuple[str, float], ...]] = {
    "constant": (),
    "ramp": (("from (s)", 1.0), ("full at (s)", 3.0)),
    "fade": (("from (s)", 1.0), ("gone at (s)", 3.0)),
    "window": (("from (s)", 1.0), ("to (s)", 3.0)),
    "pulse": (("every (s)", 1.0), ("for (s)", 0.5)),
    "pulse_steps": (("every (steps)", 25.0),),
    "decay": (("half-life (s)", 2.0),),
    "knots": (),
}
"""Schedule -> its numbers: what they are called, and what they begin with."""
ROWS = {"the prompted half": "cond", "both halves": "both", "the unprompted half": "null"}
ANGLES = {
    "as they are": PLAIN,
    "later ones give way": "gram-schmidt",
    "all give way alike": "symmetric",
}
SIDES = {"until it reads": "below", "only while it reads": "above"}
_FIELD: dict[str, Any] = {"width": "320px", "max_width": "100%"}
_SHORT: dict[str, Any] = {"width": "190px"}
_NAMED: dict[str, Any] = {"description_width": "96px"}


class HowWhenWhere(ipywidgets.VBox):
    """All of a plan but its doses.

    Args:
        groups: each gets a choice of layer, and of method where there are several.
        readers: what gates can read.
        on_change: called after a control was moved.

    `way` is what the controls say; `layers["genre"]` and `methods["genre"]` are the controls of a group.

    Raises:
        SteeringError: `way` was asked for, and the numbers make no schedule or no gate.
    """

    def __init__(
        self, groups: Sequence[Group], readers: Sequence[ReadOut], on_change: Callable[[], object]
    ) -> None:
        self._on_change, self._quiet = on_change, True
        self.operation = _choice("operation", OPERATIONS)
        self.angles = _choice("directions", ANGLES, "Several directions share a part: who gives way?")
        self.chance = _slider("chance", 1.0, "with which each step acts at all")
        self.schedule = _choice("when", SCHEDULES)
        self.first, self.second = _number(), _number()
        self.points = ipywidgets.Text(
            description="points", value="0s:0, 2s:1, 4s:0", continuous_update=False, layout=_FIELD
        )
        self.gate = _choice("gate", {"no gate": None, **_gates(readers)}, "push until a probe reads a class")
        self.side = _choice("push", SIDES)
        self.threshold = _slider("threshold", 0.8, "P(class) that opens or shuts the gate")
        self.over = _number("mean of (s)", 1.0)
        self.rows = _choice("rows", ROWS, "which half of guidance is pushed")
        self.spread = ipywidgets.Checkbox(
            description="share each dose among all layers", indent=False, layout={"width": "auto"}
        )
        self.layers = {group.name: _layers(group) for group in groups if group.layers}
        self.methods = {
            group.name: _choice(f"{group.name} by", {method: method for method in group.methods})
            for group in groups
        }
        super().__init__(self._parts(), layout={"width": "100%"})
        self._follow_kind()
        self._listen()
        self._quiet = False

    def _parts(self) -> list[ipywidgets.Widget]:
        several = [method for method in self.methods.values() if len(method.options) > 1]
        self._gate_parts = _row(self.side, self.threshold, self.over)
        return [
            _row(_head("How"), self.operation, self.angles, self.chance),
            _row(_head("When"), self.schedule, self.first, self.second, self.points),
            _row(_head("Until"), self.gate, self._gate_parts),
            _row(_head("Where"), *self.layers.values(), *several, self.spread, self.rows),
            ipywidgets.HTML(
                note_html(
                    "Seconds count from the beginning of the new sound. R is the layer's mean residual norm."
                )
            ),
        ]

    def _listen(self) -> None:
        controls = [
            self.operation, self.angles, self.chance, self.first, self.second, self.points, self.side,
            self.threshold, self.over, self.rows, self.spread, *self.layers.values(), *self.methods.values(),
        ]  # fmt: skip
        self.schedule.observe(lambda _change: self._follow_kind(), "value")
        self.gate.observe(lambda _change: self._follow_gate(), "value")
        for control in controls:
            control.observe(lambda _change: self._tell(), "value")

    @property
    def way(self) -> Way:
        """What the controls say."""
        return Way(
            self.operation.value, self._schedule(), self.rows.value, _round(self.chance.value), self._gate(),
            self.angles.value, bool(self.spread.value),
        )  # fmt: skip

    def plain(self) -> None:
        """Put every control to a plain push all the time; layers and methods stay."""
        with self.together():
            self.operation.value, self.schedule.value, self.rows.value = "add", "constant", "cond"
            self.chance.value, self.gate.value, self.angles.value, self.spread.value = 1.0, None, PLAIN, False

    def layer_of(self, group: Group, name: str) -> int:
        """Return the layer chosen for a group, or the own layer of a direction that was given."""
        if group.name in self.layers:
            return int(self.layers[group.name].value)
        return group.given[name].layer

    def _schedule(self) -> Schedule:
        kind = self.schedule.value
        if kind == "constant":
            return constant()
        if kind == "knots":
            return parse_schedule(f"knots({self.points.value})")
        boxes = (self.first, self.second)[: len(NUMBERS[kind])]
        return Schedule(kind, tuple(_round(box.value) for box in boxes))

    def _gate(self) -> Gate | None:
        if self.gate.value is None:
            return None
        reader, class_ = self.gate.value
        return Gate(reader, class_, self.side.value, _round(self.threshold.value), _round(self.over.value))

    def _follow_kind(self) -> None:
        """Show the numbers that the chosen schedule has."""
        numbers = NUMBERS[self.schedule.value]
        with self.together():
            for place, box in enumerate((self.first, self.second)):
                box.layout.display = "" if place < len(numbers) else "none"
                if place < len(numbers):
                    box.description, box.value = numbers[place]
            self.points.layout.display = "" if self.schedule.value == "knots" else "none"
            self._follow_gate()

    def _follow_gate(self) -> None:
        self._gate_parts.layout.display = "none" if self.gate.value is None else ""
        self._tell()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Move several controls, and tell of it once."""
        before, self._quiet = self._quiet, True
        try:
            yield
        finally:
            self._quiet = before
        self._tell()

    def _tell(self) -> None:
        if not self._quiet:
            self._on_change()


def readers_of(probes: Iterable[Reads]) -> list[ReadOut]:
    """Return what gates can read; of two that read one class at one layer the first."""
    held: dict[tuple[str, int], ReadOut] = {}
    for probe in probes:
        made = probe.read_out()
        places = [(class_, made.layer) for class_ in made.classes]
        if not any(place in held for place in places):
            held |= dict.fromkeys(places, made)
    return list(dict.fromkeys(held.values()))


def _gates(readers: Sequence[ReadOut]) -> dict[str, tuple[ReadOut, str]]:
    """Return what gates can read, by its words."""
    return {
        f"{class_} ({one.target}, layer {one.layer})": (one, class_)
        for one in readers
        for class_ in one.classes
    }


def _layers(group: Group) -> ipywidgets.Dropdown:
    """Return the choice of a group's layer; the middle one to begin with, as everywhere."""
    middle = group.layers[len(group.layers) // 2]
    return _choice(f"{group.name} at", {f"layer {each}": each for each in group.layers}, value=middle)


def _choice(name: str, options: Mapping[str, Any], tooltip: str = "", **more: Any) -> ipywidgets.Dropdown:
    return ipywidgets.Dropdown(
        description=name, options=list(options.items()), tooltip=tooltip or name, layout=_FIELD,
        style=_NAMED, **more,
    )  # fmt: skip


def _slider(name: str, value: float, tooltip: str) -> ipywidgets.FloatSlider:
    return ipywidgets.FloatSlider(
        description=name, min=0, max=1, step=0.05, value=value, tooltip=f"{name}: {tooltip}", layout=_FIELD,
        style=_NAMED, continuous_update=False,
    )  # fmt: skip


def _number(name: str = "", value: float = 1.0) -> ipywidgets.BoundedFloatText:
    return ipywidgets.BoundedFloatText(
        description=name, min=0, max=600, step=0.1, value=value, layout=_SHORT, style=_NAMED
    )


def _head(text: str) -> ipywidgets.HTML:
    return ipywidgets.HTML(f"<b>{text}</b>", layout={"width": "52px"})


def _row(*parts: ipywidgets.Widget) -> ipywidgets.Box:
    return ipywidgets.Box(list(parts), layout={"flex_flow": "row wrap", "align_items": "center"})


def _round(value: float) -> float:
    """What a control says; the page adds steps in binary and sends back 0.6000000000000001."""
    return round(float(value), 6)
