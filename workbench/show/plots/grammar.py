"""The visual grammar of all figures: the question as title, axes with units, fit for a notebook column."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from workbench.sound.dataset import in_order

# One colour-blind-safe colour per genre, the same in every figure, player and panel.


# Okabe and Ito's colour-blind-safe palette, one colour per genre everywhere.
GENRE_COLOURS: Mapping[str, str] = MappingProxyType(
    {
        "classical": "#0072B2",
        "jazz": "#E69F00",
        "electronic": "#CC79A7",
        "rock": "#D55E00",
        "country": "#009E73",
        "reggae": "#56B4E9",
    }
)
UNSTEERED = "#777777"
# Labels beyond the six genres: the palette's last colour, then darker shades that stay apart in grey scale.
OTHERS = ("#8A7A00", "#4B2E83", "#882255", "#332288", "#117733", "#661100", "#44AA99", "#AA4499")


def colours_for(labels: Iterable[object]) -> dict[str, str]:
    """Return one colour per label: fixed for genres and "unsteered", the cycle in rising order for others."""
    names = in_order(str(label) for label in labels)
    fixed = {**GENRE_COLOURS, "unsteered": UNSTEERED}
    others = [name for name in names if name not in fixed]
    cycle = OTHERS if any(name in fixed for name in names) else (*GENRE_COLOURS.values(), *OTHERS)
    chosen = {name: cycle[i % len(cycle)] for i, name in enumerate(others)}
    return {name: fixed.get(name) or chosen[name] for name in names}


def colours_of_clips(names: Iterable[str]) -> dict[str, str]:
    """Return one colour per clip: grey for the unsteered, else the first genre named, else the cycle.

    A steered clip is named by its plan ("0.6*jazz@3"), so player, bars and waveforms agree untold.
    """
    chosen = {name: _colour_of_clip(name.lower()) for name in names}
    others = colours_for(name for name, colour in chosen.items() if colour is None)
    return {name: colour or others[name] for name, colour in chosen.items()}


def _colour_of_clip(name: str) -> str | None:
    if name.startswith(("unsteered", "before")):
        return UNSTEERED
    places = {name.find(genre): colour for genre, colour in GENRE_COLOURS.items() if genre in name}
    return places[min(places)] if places else None


INK = "#222222"
GRID = "#E6E6E6"
DIVERGING = [[0.0, "#0072B2"], [0.5, "#FFFFFF"], [1.0, "#D55E00"]]  # blue against orange, white is none
LEFT, RIGHT = 152, 66
"""Pixels left and right of a waveform in the comparison player, so that figure and player share a clock."""
SEQUENTIAL = "Cividis"
FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"

# Buttons of plotly, of any version, that would send a figure to a server or open it elsewhere. Figures name
# them in their layout too, so that they are gone also where plotly itself shows a figure.
LEAVING = ["sendChartToCloud", "sendDataToCloud", "editInChartStudio"]
CONFIG: dict[str, Any] = {
    "displaylogo": False,
    "responsive": True,
    "plotlyServerURL": "",
    "showSendToCloud": False,
    "modeBarButtonsToRemove": LEAVING,
}


def plotly_source() -> str:
    """Return plotly.js of the installed plotly, so that no figure asks the network for it."""
    return str(get_plotlyjs())


def scale_bar(title: str, **more: Any) -> dict[str, Any]:
    """Return a colour bar's settings, titled with what it measures and its unit."""
    return {"title": {"text": title, "font": {"size": 12.5}}, "outlinewidth": 0, "thickness": 16, **more}


def shade(colour: str, alpha: float) -> str:
    """Return the hex `colour` as an rgba string with opacity `alpha` (0-1), for bands."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {alpha})"


def figure(question: str, *, x: str, y: str, note: str = "", height: int = 400) -> go.Figure:
    """Return an empty figure in the house's look: `question` as title, `note` under it, axes with units.

    Font sizes are chosen for a notebook column of 600-900 pixels; the paper is white in every theme, so that
    the colours keep their contrast.
    """
    title: dict[str, Any] = {
        "text": f"<b>{question}</b>",
        "x": 0,
        "xref": "container",
        "xanchor": "left",
        "pad": {"l": 16},
        "y": 1,
        "yref": "container",
        "yanchor": "top",
        "font": {"size": 16},
    }
    title["pad"]["t"] = 16
    if note:
        title["subtitle"] = {"text": note, "font": {"size": 12.5, "color": "#555555"}}
    result = go.Figure(
        layout={
            "template": "none",
            "autotypenumbers": "strict",  # a class called "10" is a name, not a place on a scale
            "title": title,
            "font": {"family": FONT, "size": 13, "color": INK},
            "height": height,
            "margin": {"l": 64, "r": 20, "t": 76 if note else 60, "b": 60},
            "paper_bgcolor": "white",
            "plot_bgcolor": "white",
            "hoverlabel": {"font": {"size": 13}},
            "modebar": {"remove": LEAVING},
            "legend": {"orientation": "v", "x": 1.01, "xanchor": "left", "y": 1, "font": {"size": 12.5}},
        }
    )
    axis = {
        "gridcolor": GRID,
        "zeroline": False,
        "linecolor": "#888888",
        "ticks": "outside",
        "ticklen": 4,
        "tickcolor": "#888888",
        "automargin": True,
    }
    result.update_xaxes(title={"text": x, "font": {"size": 13.5}, "standoff": 8}, **axis)
    result.update_yaxes(title={"text": y, "font": {"size": 13.5}, "standoff": 12}, **axis)
    return result


def band(
    x: Iterable[float], low: Iterable[float], high: Iterable[float], *, colour: str, name: str
) -> go.Scatter:
    """Return the filled area between `low` and `high` over `x` (all of one length)."""
    xs, lows, highs = list(x), list(low), list(high)
    return go.Scatter(
        x=xs + xs[::-1],
        y=highs + lows[::-1],
        fill="toself",
        fillcolor=shade(colour, 0.22),
        mode="lines",
        line={"width": 1, "color": shade(colour, 0.35)},  # a band of no height stays visible
        name=name,
        hoverinfo="skip",
    )
