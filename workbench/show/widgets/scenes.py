"""Scenes of a desk: settings of all faders under a name, between which one can fade in seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

import ipywidgets

from workbench.errors import SteeringError
from workbench.show.widgets import ui
from workbench.show.widgets.fader import Fader

MOST_SCENES = 9  # one for each digit of the keyboard
_EVERY_S = 0.05  # how often a fade moves the faders


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

    `choose(2)` fades to the second scene within `seconds.value`, `store()` keeps the faders as they stand as
    a new scene, `zero()` sets every fader to 0 at once. A fader that is moved by hand leaves a fade.
    """

    def __init__(self, faders: Mapping[str, Fader], *, preset: float) -> None:
        self.faders = dict(faders)
        self.scenes: list[dict[str, float]] = []
        self._fade = 0  # counts fades: an older one ends when a newer begins
        self._moving = threading.RLock()  # no step of an older one may come after the newer's first
        hint = "Seconds that a change of scene takes; 0 is at once"
        self.seconds = ui.control(
            ipywidgets.BoundedFloatText, "fade (s)", "160px", value=2, min=0, max=60, step=0.5, tooltip=hint
        )
        self.buttons = ui.in_row()
        keep = ipywidgets.Button(
            description="+ Store scene", tooltip="Keep the faders as they stand", layout={"width": "auto"}
        )
        keep.on_click(lambda _button: self.store())
        off = ipywidgets.Button(
            description="0 All off", tooltip="Every dose to 0 at once (key 0)", layout={"width": "auto"}
        )
        off.on_click(lambda _button: self.zero())
        super().__init__([ui.in_row(off, keep, self.seconds), self.buttons])
        for name in list(self.faders)[:MOST_SCENES]:
            self._add({name: preset})

    @property
    def doses(self) -> dict[str, float]:
        """What the faders say."""
        return {name: ui.value_of(fader) for name, fader in self.faders.items()}

    def store(self) -> int:
        """Keep the faders as they stand; return the number of the scene.

        Where there are nine, the last is written over.
        """
        if len(self.scenes) == MOST_SCENES:
            self.scenes.pop()
            self.buttons.children = self.buttons.children[:-1]
        return self._add(self.doses)

    def choose(self, number: int) -> None:
        """Fade to a scene, counted from 1, in `seconds.value`; return at once.

        Raises:
            SteeringError: there is no such scene.
        """
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
        hint = f"Fade to this scene (key {number})"
        button = ipywidgets.Button(
            description=f"{number} {scene_name(doses)}", tooltip=hint, layout={"width": "auto"}
        )
        button.on_click(lambda _button: self.choose(number))
        self.buttons.children = (*self.buttons.children, button)
        return number
