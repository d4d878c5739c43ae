"""From doses and settings to one plan: groups of directions, the plan's line, how, when and where it acts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ipywidgets
import traitlets

from workbench.errors import SteeringError, WorkbenchError
from workbench.model.musicgen import Model
from workbench.probing import Probe, ProbeSweep
from workbench.show.widgets import ui
from workbench.steering import OPERATIONS, Direction, Gate, ReadOut, Schedule, Steering, Term, constant
from workbench.steering.plan_text import Reads, parse_schedule
from workbench.steering.together import orthogonalise, split_dose

GIVEN = "as given"
ALONE = "directions"


@dataclass(frozen=True, eq=False)
class Group:
    """Directions of one quality, such as genre: given one by one, or read from probes of every layer.

    `found` is method -> name -> layer -> direction; `layers` are those to choose from, none where every
    direction has its own; `probe` reads the quality at the last layer, where probes were given.
    """

    name: str
    found: Mapping[str, Mapping[str, Mapping[int, Direction]]]
    layers: tuple[int, ...] = ()
    probe: Probe | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """What can be steered."""
        return tuple(next(iter(self.found.values())))

    @property
    def methods(self) -> tuple[str, ...]:
        """The ways in which its directions were found."""
        return tuple(self.found)


def groups_of(directions: Any) -> list[Group]:
    """Return the groups of what a lab was given; a SteeringError where it makes none.

    That is group -> name -> Direction; group -> ProbeSweep; group -> how it was found -> ProbeSweep; or just
    name -> Direction, which is one group. No name may stand in two.
    """
    if isinstance(directions, ProbeSweep):
        directions = {directions.target: directions}
    if _all(directions, Direction):
        directions = {ALONE: directions}
    if not isinstance(directions, Mapping) or not directions:
        raise _refusal(f"{type(directions).__name__} holds no direction")
    groups = [_group(str(name), members) for name, members in directions.items()]
    names = [name for group in groups for name in group.names]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise _refusal(f"{', '.join(twice)} stands in two groups")
    return groups


def every_place(groups: Sequence[Group]) -> Iterator[tuple[Direction, Group, str, str, int]]:
    """Yield every direction with where it stands: group, and method, name and layer in it."""
    for group in groups:
        for method, names in group.found.items():
            for name, layers in names.items():
                for layer, direction in layers.items():
                    yield direction, group, method, name, layer


def fader_dose(term: Term) -> float:
    """Return the dose of a term as a fader says it, which turns no dose into a projection (`plan_of`)."""
    if OPERATIONS[term.operation].unit == "projection":
        return round(term.dose / term.direction.residual_norm, 4)
    return term.dose


def _group(name: str, members: Any) -> Group:
    if isinstance(members, ProbeSweep):
        members = {members.method: members}
    if _all(members, Direction):
        return Group(name, {GIVEN: {one: {made.layer: made} for one, made in members.items()}})
    if not _all(members, ProbeSweep):
        raise _refusal(f"{name!r} holds no directions and no probes")
    sweeps: list[ProbeSweep] = list(members.values())
    layers = tuple(sorted(set.intersection(*(set(sweep.layers) for sweep in sweeps))))
    if not layers or len({sweep.classes for sweep in sweeps}) > 1:
        raise _refusal(f"the probes of {name!r} share no layer, or know different classes")
    found = {
        method: {one: {layer: sweep[layer].direction(one) for layer in layers} for one in sweep.classes}
        for method, sweep in members.items()
    }
    return Group(name, found, layers, sweeps[0][layers[-1]])


def _all(members: Any, kind: type) -> bool:
    some = members.values() if isinstance(members, Mapping) else ()
    return bool(some) and all(isinstance(one, kind) for one in some)


def _refusal(found: str) -> SteeringError:
    do = 'Give {"genre": probes, "tempo": {"slow": direction, ...}}, every name once'
    return SteeringError("A steering lab was asked for", found, do)


PLAIN = ""  # directions are left as they are
WORDS = {"gram-schmidt": "without", "symmetric": "apart from"}
"""What stands in the name of a direction that was made orthogonal to others, by method."""


def plain_name(name: str) -> str:
    """Return the name of a direction before it was made orthogonal to others."""
    for word in WORDS.values():
        name = name.split(f" {word} ")[0]
    return name


def plan_of(
    pushes: Iterable[tuple[float, Mapping[int, Direction]]],
    *,
    angles: str = PLAIN,
    operation: str = "add",
    **settings: Any,
) -> Steering | None:
    """Return the plan of all pushes, None without any; a SteeringError if settings do not go together.

    `pushes` are doses with their directions by layer, in the order in which they act; a dose is shared among
    several layers. For `clamp` it is turned into the projection that it stands for, dose x R. `angles` is
    PLAIN or a method of `orthogonalise`, whose directions are called so: "slow without jazz", or "slow apart
    from jazz" where both gave way. `operation` and `settings` are those of `Direction.at`.
    """
    pushed = [(dose, dict(by_layer)) for dose, by_layer in pushes if dose]
    if angles != PLAIN:
        _make_orthogonal([by_layer for _dose, by_layer in pushed], angles)
    terms = []
    for dose, by_layer in pushed:
        if len(by_layer) > 1:
            plan = split_dose(by_layer, dose, operation=operation, **settings)
            terms += [replace(term, dose=round(term.dose, 4)) for term in plan.terms]
        else:
            (direction,) = by_layer.values()
            if OPERATIONS[operation].unit == "projection" and math.isfinite(direction.residual_norm):
                dose = round(dose * direction.residual_norm, 3)
            terms += direction.at(dose, operation=operation, **settings).terms
    return Steering(tuple(terms)) if terms else None


def _make_orthogonal(directions: Sequence[dict[int, Direction]], method: str) -> None:
    """Make directions orthogonal, in place, wherever several act at one layer and site."""
    places = {(layer, one.site) for by_layer in directions for layer, one in by_layer.items()}
    for layer, site in places:
        there = [by_layer for by_layer in directions if layer in by_layer and by_layer[layer].site == site]
        old = [by_layer[layer] for by_layer in there]
        for number, new in enumerate(orthogonalise(old, method=method)):
            others = old[:number] if method == "gram-schmidt" else old[:number] + old[number + 1 :]
            names = ", ".join(other.name for other in others)
            there[number][layer] = new.named(f"{new.name} {WORDS[method]} {names}") if others else new


WRITTEN = "The sliders write this line; edit it and press Enter. What stands here is generated."
NOT_SHOWN = "Read as: {}. The sliders do not show it; moving one writes the line anew."


class PlanLine(ui.Panel):
    """One line with the canonical text of a plan, written by sliders or by people, and what was understood.

    `text` is the line, `steering` the plan that was last understood; `fault` says what is wrong with the
    text, and is None where it was understood. The text may name the directions of all groups at every layer,
    those found by another method than `method_of` says with their fingerprint (`jazz#1a2b3c@3`), and what
    any plan of this line has used.
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
        self.steering: Steering | None = None
        self.fault: WorkbenchError | None = None
        look = {"tooltip": "the plan: edit it and press Enter", "continuous_update": False}
        self.box = ui.control(ipywidgets.Text, "plan", "98%", value=self.text, **look)
        self.note = ipywidgets.HTML()
        super().__init__([self.box, self.note])
        traitlets.link((self, "text"), (self.box, "value"))
        self.observe(lambda _change: self._read(), "text")

    def write(self, plan_of: Callable[[], Steering | None], words: str = WRITTEN) -> None:
        """Write the plan that `plan_of` makes; where it raises, say why and leave the text as it is."""
        if self._accept(plan_of, words):
            self.text = self._canonical()

    def _canonical(self) -> str:
        return "none" if self.steering is None else self.steering.text()

    def _read(self) -> None:
        if self.fault is not None or self.text != self._canonical():
            text = self.text if self.text.strip() else "none"
            self._accept(lambda: Steering.parse(text, self.directions(), self.readers), NOT_SHOWN)

    def _accept(self, plan_of: Callable[[], Steering | None], words: str) -> bool:
        """Take over a plan and note the words, "{}" in them its text; else note what is wrong with it."""
        try:
            plan = plan_of() or Steering()
            plan.check(self.model)
        except WorkbenchError as error:
            self.fault = error
            self.note.value = ui.problem_html(error)
            return False
        self.steering, self.fault = plan if plan.terms else None, None
        self._met |= plan.directions
        self.note.value = ui.note_html(words.format(plan.text()))
        return True

    def directions(self) -> dict[str, Direction]:
        """Return every direction that the text may name, by name and layer."""
        known = {
            f"{name}@{layer}{'' if method == self._method_of(group.name) else f'#{one.fingerprint}'}": one
            for one, group, method, name, layer in every_place(self.groups)
        }
        used = {} if self.steering is None else self.steering.directions
        return {**known, **self._met, **known, **used}  # what is known now is listed first, and wins


SCHEDULES: Mapping[str, tuple[str, tuple[tuple[str, float], ...]]] = {
    "constant": ("all the time", ()),
    "ramp": ("comes in (ramp)", (("from (s)", 1.0), ("full at (s)", 3.0))),
    "fade": ("goes out (fade)", (("from (s)", 1.0), ("gone at (s)", 3.0))),
    "window": ("only between (window)", (("from (s)", 1.0), ("to (s)", 3.0))),
    "pulse": ("in pulses", (("every (s)", 1.0), ("for (s)", 0.5))),
    "pulse_steps": ("every n-th step", (("every (steps)", 25.0),)),
    "decay": ("dies away (decay)", (("half-life (s)", 2.0),)),
    "knots": ("through points (knots)", ()),
}
"""Schedule -> its words, and its numbers: what they are called, and what they begin with."""
BRANCHES = {"the prompted half": "cond", "both halves": "both", "the unprompted half": "null"}
ANGLES = {"as they are": PLAIN, "later ones give way": "gram-schmidt", "all give way alike": "symmetric"}
SIDES = {"until it reads": "below", "only while it reads": "above"}
_LABEL = {"style": {"description_width": "96px"}}


class SteeringOptions(ui.Together, ui.Panel):
    """How, when and where a plan acts, as controls; `settings` is what they say.

    `layers["genre"]` and `methods["genre"]` are the controls of a group.
    """

    def __init__(
        self, groups: Sequence[Group], readers: Sequence[ReadOut], on_change: Callable[[], object]
    ) -> None:
        self._on_change, self._quiet = on_change, True
        gates = {f"{c} ({one.target}, layer {one.layer})": (one, c) for one in readers for c in one.classes}
        known = {name: one for name, one in OPERATIONS.items() if name != "patch"}  # it needs a state
        operations = {f"{name}: {one.label or name}": name for name, one in known.items()}
        self.operation = choice("operation", operations)
        self.angles = choice("directions", ANGLES, "Several directions share a part: who gives way?")
        self.chance = _share("chance", 1.0, "with which each step acts at all")
        self.schedule = choice("when", {words: kind for kind, (words, _numbers) in SCHEDULES.items()})
        self.first, self.second = number(), number()
        knots = {"value": "0s:0, 2s:1, 4s:0", "continuous_update": False}
        self.points = ui.control(ipywidgets.Text, "points", "320px", **knots)
        self.gate = choice("gate", {"no gate": "", **gates}, "push until a probe reads a class")
        self.side = choice("push", SIDES)
        self.threshold = _share("threshold", 0.8, "P(class) that opens or shuts the gate")
        self.over = number("mean of (s)", 1.0)
        self.branch = choice("branch", BRANCHES, "which half of guidance is pushed")
        self.spread = ui.tick_box("share each dose among all layers")
        self.layers, self.methods = {}, {}
        for one in groups:
            self.methods[one.name] = choice(f"{one.name} by", {way: way for way in one.methods})
            if one.layers:
                layers = {f"layer {each}": each for each in one.layers}
                self.layers[one.name] = choice(f"{one.name} at", layers)
                self.layers[one.name].value = one.layers[len(one.layers) // 2]
        super().__init__(self._parts())
        self._follow_schedule()
        ui.follow([self.schedule], self._follow_schedule)
        ui.follow([self.gate], self._follow_gate)
        plain = [self.operation, self.angles, self.chance, self.first, self.second, self.points, self.branch]
        plain += [self.side, self.threshold, self.over, self.spread]
        ui.follow([*plain, *self.layers.values(), *self.methods.values()], self._changed)
        self._quiet = False

    def _parts(self) -> list[ipywidgets.Widget]:
        several = [method for method in self.methods.values() if len(method.options) > 1]
        self._gate_parts = ui.in_row(self.side, self.threshold, self.over)
        lines = {
            "How": [self.operation, self.angles, self.chance],
            "When": [self.schedule, self.first, self.second, self.points],
            "Until": [self.gate, self._gate_parts],
            "Where": [*self.layers.values(), *several, self.spread, self.branch],
        }
        note = "Seconds count from the beginning of the new sound. R is the layer's mean residual norm."
        rows = [
            ui.in_row(ipywidgets.HTML(f"<b>{head}</b>", layout={"width": "52px"}), *controls)
            for head, controls in lines.items()
        ]
        return [*rows, ipywidgets.HTML(ui.note_html(note))]

    @property
    def settings(self) -> dict[str, Any]:
        """What the controls say, as `plan_of` takes it; a SteeringError if they make no schedule or gate."""
        gate, kind = None, self.schedule.value
        if self.gate.value:
            reader, class_ = self.gate.value
            gate = Gate(reader, class_, self.side.value, ui.value_of(self.threshold), ui.value_of(self.over))
        if kind == "constant":
            schedule = constant()
        elif kind == "knots":
            schedule = parse_schedule(f"knots({self.points.value})")
        else:
            boxes = (self.first, self.second)[: len(SCHEDULES[kind][1])]
            schedule = Schedule(kind, tuple(ui.value_of(box) for box in boxes))
        return {
            "operation": self.operation.value, "angles": self.angles.value, "branch": self.branch.value,
            "chance": ui.value_of(self.chance), "schedule": schedule, "gate": gate,
        }  # fmt: skip

    def follow(self, term: Term) -> None:
        """Put the controls to how, when and on which branch a term acts, as far as they can say it."""
        gate = term.gate
        with self.together():
            self.branch.value, self.chance.value = term.branch, term.chance
            self.schedule.value = term.schedule.kind
            if term.operation in [value for _words, value in self.operation.options]:
                self.operation.value = term.operation
            if term.schedule.kind == "knots":
                self.points.value = term.schedule.text().removeprefix("knots(").removesuffix(")")
            for box, value in zip((self.first, self.second), term.schedule.numbers, strict=False):
                box.value = value
            read = None if gate is None else (gate.read_out, gate.class_)
            if gate is not None and read in [value for _words, value in self.gate.options]:
                self.gate.value = read
                self.side.value, self.threshold.value, self.over.value = gate.side, gate.threshold, gate.over

    def plain(self) -> None:
        """Put every control to a plain push all the time; layers and methods stay."""
        with self.together():
            self.operation.value, self.schedule.value, self.branch.value = "add", "constant", "cond"
            self.chance.value, self.gate.value, self.angles.value, self.spread.value = 1.0, "", PLAIN, False

    def _follow_schedule(self) -> None:
        _words, numbers = SCHEDULES[self.schedule.value]
        with self.together():
            for place, box in enumerate((self.first, self.second)):
                box.layout.display = "" if place < len(numbers) else "none"
                if place < len(numbers):
                    box.description, box.value = numbers[place]
            self.points.layout.display = "" if self.schedule.value == "knots" else "none"
            self._follow_gate()

    def _follow_gate(self) -> None:
        self._gate_parts.layout.display = "" if self.gate.value else "none"
        self._changed()


def readers_of(probes: Iterable[Reads]) -> list[ReadOut]:
    """Return what gates can read; of two that read one class at one layer the first."""
    by_place: dict[tuple[str, int], ReadOut] = {}
    for probe in probes:
        made = probe.read_out()
        places = [(class_, made.layer) for class_ in made.classes]
        if not any(place in by_place for place in places):
            by_place |= dict.fromkeys(places, made)
    return list(dict.fromkeys(by_place.values()))


def choice(name: str, options: Mapping[str, Any], tooltip: str = "") -> ipywidgets.Dropdown:
    """Return a choice among options, by their words."""
    listed = list(options.items())
    return ui.control(ipywidgets.Dropdown, name, "320px", options=listed, tooltip=tooltip or name, **_LABEL)


def _share(name: str, value: float, tooltip: str) -> ipywidgets.FloatSlider:
    hint, numbers = f"{name}: {tooltip}", {"min": 0, "max": 1, "step": 0.05, "value": value}
    return ui.control(ipywidgets.FloatSlider, name, "320px", tooltip=hint, **numbers, **_LABEL)


def number(name: str = "", value: float = 1.0, **settings: Any) -> ipywidgets.BoundedFloatText:
    """Return a box for a number from 0 to 600, unless `settings` say otherwise."""
    usual = {"min": 0, "max": 600, "step": 0.1, "value": value, **_LABEL}
    return ui.control(ipywidgets.BoundedFloatText, name, "190px", **{**usual, **settings})
