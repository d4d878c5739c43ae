"""Doses under the hand: faders, scenes between which they fade, the pad that blends, and a desk of these."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any

import ipywidgets
import traitlets

from workbench.errors import SteeringError, number_or_nan
from workbench.show.plots.grammar import colours_for
from workbench.show.widgets import ui
from workbench.show.widgets.kept import ScriptedWidget, script

MOST = 0.4
"""Where a fader ends, either way, unless it is asked for more: one range in every panel."""
LIMIT = 2.0
"""The largest dose that can be typed or set; the fader then reaches as far."""
MOST_SCENES = 9  # one for each digit of the keyboard
_EVERY_S = 0.05  # how often a fade moves the faders


class Fader(ScriptedWidget):
    """The dose of one direction, in multiples of the layer's mean residual norm; `value` is what it says.

    Args:
        name: of the direction.
        most: where the fader ends, either way.
        breaks: the dose from which music breaks, either way, which is shaded; None where it is not known.
        live: whether the kernel hears of a fader that is still being dragged.

    A double click, Home or Delete sets it to 0. `m` on the fader, or a right click on its name, binds it to
    the MIDI knob that is turned next. A SteeringError where a value is set that is no number, or beyond 2.

    >>> fader = Fader("jazz", breaks=0.3)
    >>> fader.value = 0.15
    >>> fader.value, fader.most
    (0.15, 0.4)
    """

    _esm = script("fader.js")
    name = traitlets.Unicode().tag(sync=True)
    hint = traitlets.Unicode().tag(sync=True)
    colour = traitlets.Unicode().tag(sync=True)
    value = traitlets.Float(0.0).tag(sync=True)
    most = traitlets.Float(MOST).tag(sync=True)
    limit = traitlets.Float(LIMIT).tag(sync=True)
    step = traitlets.Float(0.01).tag(sync=True)
    breaks = traitlets.Float(0.0).tag(sync=True)
    live = traitlets.Bool(False).tag(sync=True)

    def __init__(
        self, name: str, *, most: float = MOST, breaks: float | None = None, live: bool = False
    ) -> None:
        hint = f"dose of {name}: 0 leaves the model alone, negative steers away"
        if breaks:
            hint += f"; from {breaks:.2g} on (shaded) the music tends to break"
        look = {"colour": colours_for([name])[name], "layout": {"width": "min(100%, 400px)"}}
        super().__init__(name=name, hint=hint, most=most, breaks=breaks or 0.0, live=live, **look)

    @traitlets.validate("value")  # type: ignore[untyped-decorator]
    def _checked(self, proposal: Any) -> float:
        value = number_or_nan(proposal["value"])
        if not abs(value) <= self.limit or math.isnan(value):
            found, do = f"faders go to {self.limit:g} at most, either way", "Give a dose within"
            raise SteeringError(f"A dose of {proposal['value']!r} was set for {self.name}", found, do)
        self.most = max(self.most, abs(value))
        return round(value, 6)


def scene_name(doses: Mapping[str, float]) -> str:
    """Return a setting in words and two decimals: the strongest push first, "off" where there is none.

    >>> scene_name({"jazz": 0.15, "rock": -0.05, "reggae": 0.0003})
    'jazz 0.15, rock -0.05'
    """
    rounded = {name: round(dose, 2) for name, dose in doses.items()}
    pushed = sorted((item for item in rounded.items() if item[1]), key=lambda item: -abs(item[1]))
    return ", ".join(f"{name} {dose:g}" for name, dose in pushed) or "off"


class Scenes(ipywidgets.VBox):
    """Buttons for settings of faders; the first scenes are each direction alone.

    Args:
        faders: name -> fader, those of the desk.
        preset: the dose of the first scenes.
        problem: shows what goes wrong with a button.

    `choose(2)` fades to the second scene within `seconds.value`, `store()` keeps the faders as they stand as
    a new scene, `zero()` sets every fader to 0 at once. A fader that is moved by hand leaves a fade.
    """

    def __init__(
        self, faders: Mapping[str, Fader], *, preset: float, problem: ipywidgets.HTML | None = None
    ) -> None:
        self.faders = dict(faders)
        self.scenes: list[dict[str, float]] = []
        self._fade = 0  # counts fades: an older one ends when a newer begins
        self._moving = threading.RLock()  # no step of an older one may come after the newer's first
        hint = "Seconds that a change of scene takes; 0 is at once"
        self.seconds = ui.control(
            ipywidgets.BoundedFloatText, "fade (s)", "160px", value=2, min=0, max=60, step=0.5, tooltip=hint
        )
        self.buttons, self._problem = ui.in_row(), problem or ipywidgets.HTML()
        keep = ui.button("+ Store scene", "Keep the faders as they stand", self.store, self._problem)
        off = ui.button("0 All off", "Every dose to 0 at once (key 0)", self.zero, self._problem)
        super().__init__([ui.in_row(off, keep, self.seconds), self.buttons])
        for name in list(self.faders)[:MOST_SCENES]:
            self._add({name: preset})

    @property
    def doses(self) -> dict[str, float]:
        """What the faders say."""
        return {name: ui.value_of(fader) for name, fader in self.faders.items()}

    def store(self) -> int:
        """Keep the faders as they stand, in place of the last of nine scenes; return its number."""
        if len(self.scenes) == MOST_SCENES:
            self.scenes.pop()
            self.buttons.children = self.buttons.children[:-1]
        return self._add(self.doses)

    def choose(self, number: int) -> None:
        """Fade to a scene, counted from 1 (else a SteeringError), in `seconds.value`; return at once."""
        if not 1 <= number <= len(self.scenes):
            found = f"there are {len(self.scenes)}"
            raise SteeringError.lookup(f"Scene {number} was asked for", found, "Store it first")
        self.fade(self.scenes[number - 1], float(self.seconds.value))

    def zero(self) -> None:
        """Set every fader to 0 at once."""
        self.fade({}, 0)

    def fade(self, doses: Mapping[str, float], seconds: float) -> None:
        """Move all faders to `doses` (0 where none is named) within so many seconds; return at once."""
        with self._moving:
            self._fade += 1
            ways = {name: (ui.value_of(one), doses.get(name, 0.0)) for name, one in self.faders.items()}
            if seconds <= 0:
                for name, (_start, goal) in ways.items():
                    self.faders[name].value = goal
                return
            moved = (ways, seconds, self._fade)
        threading.Thread(target=self._glide, args=moved, daemon=True, name="workbench fade").start()

    def _glide(self, ways: dict[str, tuple[float, float]], seconds: float, mine: int) -> None:
        begin, last = time.monotonic(), {name: start for name, (start, _goal) in ways.items()}
        share = 0.0
        while share < 1:
            share = min(1.0, (time.monotonic() - begin) / seconds)
            with self._moving:
                if mine != self._fade:
                    return
                for name, (start, goal) in ways.items():
                    fader = self.faders[name]
                    if ui.value_of(fader) == last[name]:  # else a hand is on it
                        fader.value = last[name] = round(start + share * (goal - start), 4)
            time.sleep(_EVERY_S)

    def _add(self, doses: Mapping[str, float]) -> int:
        self.scenes.append(dict(doses))
        number = len(self.scenes)
        words, hint = f"{number} {scene_name(doses)}", f"Fade to this scene (key {number})"
        button = ui.button(words, hint, partial(self.choose, number), self._problem)
        self.buttons.children = (*self.buttons.children, button)
        return number


class BlendPad(ScriptedWidget):
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

    _esm = script("blend_pad.js")
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
        parts: list[ipywidgets.Widget] = []
        for column in _packed(groups):
            inside: list[ipywidgets.Widget] = []
            for heading, names in column.items():
                inside += [ipywidgets.Label(heading, style={"font_weight": "bold"})] if heading else []
                inside += [self.sliders[name] for name in names]
            parts.append(ipywidgets.VBox(inside, layout={"width": "min(100%, 400px)"}))
        if self.pad is not None:
            self.pad.layout.width, self.pad.now = "250px", self.doses
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
