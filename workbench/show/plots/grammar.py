"""The visual grammar of all figures: the question as title, axes with units, fit for a notebook column."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.colors import sample_colorscale
from plotly.offline import get_plotlyjs

from workbench.sound.dataset import in_order

# Okabe and Ito's colour-blind-safe palette (2008), shifted so that each colour has a contrast of 3 on white
# and on the paper of dark themes, and pairs stay as far apart for every kind of colour vision as they were.
# One colour per genre in every figure, player and panel.
GENRE_COLOURS: Mapping[str, str] = MappingProxyType(
    {
        "classical": "#0262B5",
        "jazz": "#C68700",
        "electronic": "#B9759C",
        "rock": "#B44205",
        "country": "#1B8B56",
        "reggae": "#3A9CD3",
    }
)
UNSTEERED = "#777777"
# Labels beyond the six genres, of the same contrast.
OTHERS = ("#107B0C", "#8670DE", "#EA525C", "#8A5A38", "#D659B8", "#769B7B", "#655B86", "#A4903B")


def colours_for(labels: Iterable[object]) -> dict[str, str]:
    """Return one colour per label: fixed for genres and "unsteered", the cycle in rising order for others."""
    names = in_order(str(label) for label in labels)
    fixed = {**GENRE_COLOURS, "unsteered": UNSTEERED}
    others = [name for name in names if name not in fixed]
    cycle = OTHERS if any(name in fixed for name in names) else (*GENRE_COLOURS.values(), *OTHERS)
    chosen = {name: cycle[i % len(cycle)] for i, name in enumerate(others)}
    return {name: fixed.get(name) or chosen[name] for name in names}


def colours_of_clips(names: Iterable[str]) -> dict[str, str]:
    """Return one colour per clip: grey for the unsteered, else the genre named first, else another."""
    chosen: dict[str, str] = {}
    for name in names:
        places = {name.lower().find(genre): colour for genre, colour in GENRE_COLOURS.items()}
        named = [place for place in places if place >= 0]
        if name.lower().startswith(("unsteered", "before")):
            chosen[name] = UNSTEERED
        else:
            chosen[name] = places[min(named)] if named else ""
    others = colours_for(name for name, colour in chosen.items() if not colour)
    return {name: colour or others[name] for name, colour in chosen.items()}


INK = "#222222"
GRID = "#E6E6E6"
DIVERGING = [[0.0, "#0072B2"], [0.5, "#FFFFFF"], [1.0, "#D55E00"]]  # blue against orange, white is none
LEFT, RIGHT = 152, 66
"""Pixels left and right of a waveform in the comparison player, so that figure and player share a clock."""
SEQUENTIAL = "Cividis"
DASHED: Mapping[str, Any] = MappingProxyType({"dash": "dash", "color": INK, "width": 1.5})
"""The line of what chance, or nothing at all, would give."""
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


def figure(
    question: str, *, x: str, y: str, note: str = "", height: int = 400, shares: Sequence[float] = ()
) -> go.Figure:
    """Return an empty figure in one look: `question` as title, `note` under it, axes with units.

    Font sizes are chosen for a notebook column of 600-900 pixels. It is dark on white; panels and pages turn
    the greys round where they are dark, and break title and note into lines (figure.js). `shares` is the
    range of an axis y of shares, shown in per cent.
    """
    title: dict[str, Any] = {
        "text": f"<b>{question}</b>", "font": {"size": 16}, "pad": {"l": 16, "t": 16},
        "x": 0, "xref": "container", "xanchor": "left", "y": 1, "yref": "container", "yanchor": "top",
    }  # fmt: skip
    if note:
        title["subtitle"] = {"text": note, "font": {"size": 12.5, "color": "#555555"}}
    layout = {
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
    axis = {
        "gridcolor": GRID, "zeroline": False, "linecolor": "#888888", "ticks": "outside", "ticklen": 4,
        "tickcolor": "#888888", "automargin": True,
    }  # fmt: skip
    result = go.Figure(layout=layout)
    result.update_xaxes(title={"text": x, "font": {"size": 13.5}, "standoff": 8}, **axis)
    result.update_yaxes(title={"text": y, "font": {"size": 13.5}, "standoff": 12}, **axis)
    return result.update_yaxes(range=shares, tickformat=".0%") if shares else result


def on_player_clock(result: go.Figure, seconds: float) -> go.Figure:
    """Return the figure with its time axis of `seconds` exactly below that of a comparison player."""
    result.update_yaxes(automargin=False)
    result.update_xaxes(range=[0, seconds], automargin=False)
    legend = {"orientation": "h", "x": 0, "y": -0.3, "yanchor": "top"}
    return result.update_layout(margin={"l": LEFT, "r": RIGHT}, legend=legend)


def curve(x: Any, y: Any, name: str, colour: str, *, hover: str = "%{y}", **more: Any) -> go.Scatter:
    """Return a line with a marker at each of (n,) points; `more` adds to the usual look of `go.Scatter`."""
    line = {"color": colour, "width": 2.5, **more.pop("line", {})}
    marker = {"size": 9, **more.pop("marker", {})}
    settings = {"mode": "lines+markers", "hovertemplate": f"{hover}<extra>%{{fullData.name}}</extra>", **more}
    x, y = np.asarray(x).tolist(), np.asarray(y).tolist()
    return go.Scatter(x=x, y=y, name=name, line=line, marker=marker, **settings)


def interval(value: Any, low: Any, high: Any) -> dict[str, Any]:
    """Return error bars (`error_x` or `error_y` of a trace) from `low` to `high`, (n,) each like `value`."""
    value, low, high = (np.asarray(one, dtype=float) for one in (value, low, high))
    above, below = (np.maximum(length, 0).tolist() for length in (high - value, value - low))
    bars = {"array": above, "arrayminus": below, "thickness": 1.8, "width": 5}
    return {"type": "data", "symmetric": False, **bars}


def dashed(x: Iterable[float], y: Iterable[float], name: str) -> go.Scatter:
    """Return the dashed line of a chance level, with a place in the legend."""
    return go.Scatter(x=list(x), y=list(y), mode="lines", name=name, hoverinfo="name+y", line=dict(DASHED))


def band(x: Iterable[float], low: Iterable[float], high: Iterable[float], *, colour: str, name: str) -> Any:
    """Return the filled area (a trace) between `low` and `high` over `x`, all of one length."""
    xs, lows, highs = list(x), list(low), list(high)
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return go.Scatter(
        x=xs + xs[::-1], y=highs + lows[::-1], mode="lines", name=name, hoverinfo="skip",
        fill="toself", fillcolor=f"rgba({red}, {green}, {blue}, 0.22)",
        line={"width": 1, "color": f"rgba({red}, {green}, {blue}, 0.35)"},  # seen also where it has no height
    )  # fmt: skip


ON_SHADES = "on shades"
"""`meta` of a trace, `name` of a shape, whose colours belong to a heat map's: the same in every theme."""


def add_heat(
    result: go.Figure, z: Any, x: Sequence[Any], y: Sequence[Any], title: str, *, hover: str,
    words: Any = ".0%", size: int = 13, reach: float = 0.0, tickformat: str | None = ".0%", **more: Any,
) -> go.Figure:  # fmt: skip
    """Return the figure with a matrix of shades added, a number in each cell, black or white as can be read.

    `z` (rows, columns) are shares from 0 to 1 or, with a `reach`, changes of either sign on a scale as long
    on both sides of white; `x` and `y` name columns and rows, the first row on top, `title` what is measured.
    `words` (rows, columns) stand in the cells, `size` pixels high, or say how values are written there;
    `hover` is said of a cell under the mouse, `tickformat` is the colour bar's, `more` the heat map's.
    """
    z, low, high = np.asarray(z, dtype=float), -reach, reach or 1.0
    colours = DIVERGING if reach else SEQUENTIAL
    written = [f"{one:{words}}" for one in z.flat] if isinstance(words, str) else np.ravel(words).tolist()
    bar = scale_bar(title, tickformat=tickformat)
    look = {"zmin": low, "zmax": high, "colorscale": colours, "xgap": 2, "ygap": 2, "colorbar": bar, **more}
    result.add_trace(go.Heatmap(z=z, x=list(x), y=list(y), hovertemplate=f"{hover}<extra></extra>", **look))
    height = np.clip(np.nan_to_num((z - low) / (high - low)), 0, 1)
    shades = sample_colorscale(colours, height.ravel().tolist())
    font = {"size": size, "color": [_readable_on(one) for one in shades]}
    result.add_trace(
        go.Scatter(
            x=[name for _ in y for name in x], y=[name for name in y for _ in x], mode="text",
            text=written, textfont=font, hoverinfo="skip", showlegend=False, meta=ON_SHADES,
        )
    )  # fmt: skip
    result.update_xaxes(range=[-0.5, len(x) - 0.5], showgrid=False)
    return result.update_yaxes(range=[len(y) - 0.5, -0.5], showgrid=False)


def _readable_on(shade: str) -> str:
    """Return black or white, whichever has more contrast on a colour "rgb(r, g, b)"."""
    parts = np.array([float(part) for part in shade[4:-1].split(",")]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return "#000000" if linear @ [0.2126, 0.7152, 0.0722] > 0.179 else "#FFFFFF"
