"""Blend pad: one point between four names sets four doses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import anywidget
import traitlets

from workbench.errors import SteeringError
from workbench.show.colours import colours_for

HERE = Path(__file__).parent


class BlendPad(anywidget.AnyWidget):
    """A square with a name in each corner; the nearer the point is to one, the larger its share.

    Args:
        names: of the corners top left, top right, bottom left, bottom right.
        strength: the sum of the doses; a share is multiplied by it.

    `doses` follows the point (`x` and `y` from 0 to 1, y upwards): observe it. The shares are bilinear:
    top left has (1 - x) y, top right x y, bottom left (1 - x)(1 - y), bottom right x (1 - y).

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
        told = [str(name) for name in names]
        if len(told) != 4 or len(set(told)) != 4 or not strength >= 0:
            raise SteeringError(
                f"A blend of {', '.join(told) or 'nothing'} with strength {strength:g} was asked for",
                "a pad has four corners with different names, and a strength of 0 or more",
                "Give four names",
            )
        shades = colours_for(told)
        super().__init__(names=told, colours=[shades[name] for name in told], strength=strength)
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
