"""A dose under the hand: a fader with a number, the zone in which music breaks, perhaps a MIDI knob."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from workbench.errors import SteeringError, number_or_nan
from workbench.show.plots.grammar import colours_for
from workbench.show.widgets.kept import Kept

HERE = Path(__file__).parent
MOST = 0.4
"""Where a fader ends, either way, unless it is asked for more: one range in every panel."""
LIMIT = 2.0
"""The largest dose that can be typed or set; the fader then reaches as far."""


class Fader(Kept, anywidget.AnyWidget):
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

    _esm = HERE / "fader.js"
    _css = HERE / "style.css"
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
        self, name: str, *, most: float = MOST, breaks: float | None = None, live: bool = False, **traits: Any
    ) -> None:
        hint = f"dose of {name}: 0 leaves the model alone, negative steers away"
        if breaks:
            hint += f"; from {breaks:.2g} on (shaded) the music tends to break"
        traits = {"name": name, "hint": hint, "colour": colours_for([name])[name], **traits}
        traits["layout"] = {"width": "min(100%, 400px)"}
        super().__init__(most=most, breaks=breaks or 0.0, live=live, **traits)

    @traitlets.validate("value")  # type: ignore[untyped-decorator]
    def _checked(self, proposal: Any) -> float:
        value = number_or_nan(proposal["value"])
        if not abs(value) <= self.limit or math.isnan(value):
            found, do = f"faders go to {self.limit:g} at most, either way", "Give a dose within"
            raise SteeringError(f"A dose of {proposal['value']!r} was set for {self.name}", found, do)
        self.most = max(self.most, abs(value))
        return round(value, 6)
