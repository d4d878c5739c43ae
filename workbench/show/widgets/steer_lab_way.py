"""How, when and where a plan acts, as controls: operation, schedule, chance, gate, angles, layers, rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import ipywidgets

from workbench.show.widgets.job_panel import note_html
from workbench.show.widgets.steer_lab_groups import Group
from workbench.show.widgets.steer_lab_plan import PLAIN, Way
from workbench.steering.gate import Gate, ReadOut
from workbench.steering.schedule import Schedule, constant, parse_schedule
from workbench.steering.written import Reads

if TYPE_CHECKING:
    from collections.abc import Iterator

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
