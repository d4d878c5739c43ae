"""The figure of accuracy per layer as a PNG, drawn without a browser from the table of a sweep."""

from __future__ import annotations

from io import BytesIO

import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from workbench.show.plots.grammar import UNSTEERED
from workbench.show.plots.probing import BLUE

WIDTH, HEIGHT = 1200, 700
LEFT, RIGHT, TOP, BOTTOM = 120, 1160, 110, 590  # the axes: accuracy 0 at the bottom, 1 at the top
_INK, _GRID, _BAND = "#222222", "#e4e4e4", "#d9d9d9"


def accuracy_png(table: pd.DataFrame, target: str) -> bytes:
    """Return a PNG of 1200 x 700 pixels: what `show.plots.accuracy_per_layer` draws of the same table.

    Held-out accuracy per layer with its 95 % interval, the majority class dashed and, where labels were
    shuffled, the band of their runs.
    """
    table = table.sort_values("layer")
    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw = ImageDraw.Draw(image)
    x = [across(number, len(table)) for number in range(len(table))]
    _axes(draw, x, table["layer"].tolist(), target)
    if {"shuffled_low", "shuffled_high"} <= set(table) and table["shuffled_low"].notna().all():
        edges = [[*zip(x, table[f"shuffled_{end}"], strict=True)] for end in ("high", "low")]
        draw.polygon([(at, up(share)) for at, share in [*edges[0], *reversed(edges[1])]], fill=_BAND)
    chance = up(table["chance"].iloc[0])
    for left in range(LEFT, RIGHT, 18):
        draw.line((left, chance, left + 10, chance), _INK, 2)
    draw.line([(at, up(share)) for at, share in zip(x, table["accuracy"], strict=True)], BLUE, 3)
    shares = table[["accuracy", "low", "high"]].to_numpy(float).tolist()
    for at, (accuracy, low, high) in zip(x, shares, strict=True):
        draw.line((at, up(low), at, up(high)), BLUE, 3)
        draw.ellipse((at - 8, up(accuracy) - 8, at + 8, up(accuracy) + 8), BLUE)
    file = BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def across(number: int, layers: int) -> float:
    """Return the pixel at which the layer with this number in the table stands."""
    return LEFT + (RIGHT - LEFT) * (number + 0.5) / layers


def up(share: float) -> float:
    """Return the pixel at which an accuracy stands."""
    return BOTTOM - (BOTTOM - TOP) * share


def _axes(draw: ImageDraw.ImageDraw, x: list[float], layers: list[int], target: str) -> None:
    small, large = ImageFont.load_default(22), ImageFont.load_default(30)
    draw.text((LEFT, 30), f"In which layers can a linear probe read the {target}?", _INK, large)
    for share in (0, 0.25, 0.5, 0.75, 1):
        draw.line((LEFT, up(share), RIGHT, up(share)), _GRID, 2)
        draw.text((LEFT - 14, up(share)), f"{share:.0%}", _INK, small, anchor="rm")
    every = max(1, -(-len(layers) // 24))
    for at, layer in [*zip(x, layers, strict=True)][::every]:
        draw.text((at, BOTTOM + 14), str(layer), _INK, small, anchor="mt")
    draw.text(((LEFT + RIGHT) / 2, BOTTOM + 48), "layer (0 = first block)", _INK, small, anchor="mt")
    told = "held-out accuracy with its 95 % interval; dashed: majority class; grey: labels shuffled"
    draw.text((LEFT, TOP - 34), told, UNSTEERED, small)
