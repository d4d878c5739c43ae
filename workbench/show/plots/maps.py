"""The map: one point per clip, near each other where the model's activations are alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from workbench.errors import ProbeError
from workbench.probing.projection import Projection
from workbench.show.plots import grammar as g
from workbench.sound.dataset import as_text

MANY_POINTS = 2000  # from here on WebGL; SVG takes 16 s at 100,000 points
MANY_VALUES = 12  # more different numbers than this are a scale, not classes
EDGE = {"width": 1, "color": g.UNSTEERED}  # the ends of the scale are as light and dark as paper
RING: dict[str, Any] = {
    "mode": "markers", "hoverinfo": "skip", "showlegend": False,
    "marker": {"size": 18, "symbol": "circle-open", "color": "#000000", "line": {"width": 3}},
}  # fmt: skip


def map_scatter(
    projection: Projection,
    *,
    colour_by: str = "genre",
    playing: str | None = None,
    joined: Projection | None = None,
) -> go.Figure:
    """Return the projected points, coloured by a label; hovering names the clip, `customdata` holds its id.

    Args:
        projection: (n, 2) `points` (no unit) with their `clips` (ids) and `labels` (one column per label).
        colour_by: the label, else a ProbeError; numbers with many values get a colour scale.
        playing: id of a clip to ring.
        joined: other clips placed on the same map (`Projection.place`), drawn as diamonds with a dark edge.
    """
    points = np.asarray(projection.points, dtype=float)
    if colour_by not in projection.labels or not len(points):
        found = f"{len(points)} points carry the labels {list(projection.labels)}"
        asked = f"A map coloured by {colour_by!r} was asked for"
        raise ProbeError.lookup(asked, found, "Choose one of these labels")
    method = projection.method.upper()
    question = f"Do clips of one {colour_by} lie together at layer {projection.layer}?"
    trust = f"Trustworthiness {projection.trustworthiness:.2f} (1 = every neighbour kept)."
    more = "Neighbours mean something; distances and sizes of clusters do not."
    if projection.explained is not None:
        more = f"The axes hold {sum(projection.explained):.0%} of the variance."
    note = f"{len(points)} clips. {trust} {more}"
    result = g.figure(question, x=f"{method} 1 (no unit)", y=f"{method} 2 (no unit)", note=note, height=520)
    table = _table(projection, colour_by)
    kind = go.Scattergl if len(points) >= MANY_POINTS else go.Scatter
    scaled = pd.api.types.is_numeric_dtype(table["value"]) and table["value"].nunique() > MANY_VALUES
    if scaled:
        look = {"size": 8, "color": table["value"].to_numpy(dtype=float), "colorscale": g.SEQUENTIAL}
        look |= {"showscale": True, "colorbar": g.scale_bar(colour_by), "line": EDGE}
        result.add_trace(_points(kind, table, look, showlegend=False))
    else:
        look = {"size": 8, "line": {"width": 0.6, "color": "white"}}
        result.add_traces(_by_class(kind, table, table, look))
    if joined is not None:
        look = {"size": 13, "symbol": "diamond", "line": {"width": 2, "color": g.INK}}
        result.add_traces(_by_class(kind, _table(joined, colour_by), table, look, suffix=" (joined)"))
    if playing is not None:
        places = [shown.points[np.asarray(shown.clips) == playing] for shown in (projection, joined) if shown]
        x, y = np.concatenate(places).T
        result.add_trace(go.Scatter(x=x, y=y, name="playing", **RING))
    result.update_layout(
        uirevision=projection.method,  # a redrawn map keeps its zoom
        dragmode="select" if kind is go.Scatter else "zoom",
        transition={"duration": 600, "easing": "cubic-in-out"},  # from layer to layer points move, not jump
    )
    bare = {"showticklabels": False, "ticks": ""}
    return result.update_xaxes(**bare).update_yaxes(**bare)


def _table(projection: Projection, colour_by: str) -> pd.DataFrame:
    """Return one row per point: x, y, clip, value (what colours it), and hover, the id with all labels."""
    labels = projection.labels
    lines = [f"<b>{clip}</b>" for clip in projection.clips]
    for name in labels:
        values = [f"{value:g}" if isinstance(value, float) else str(value) for value in labels[name]]
        lines = [f"{line}<br>{name}: {value}" for line, value in zip(lines, values, strict=True)]
    return pd.DataFrame({
        "x": np.asarray(projection.points[:, 0], dtype=float),
        "y": np.asarray(projection.points[:, 1], dtype=float),
        "clip": [str(clip) for clip in projection.clips],
        "value": np.asarray(labels.get(colour_by, pd.Series("generated", labels.index))),
        "hover": lines,
    })  # fmt: skip


def _by_class(
    kind: type[go.Scatter], table: pd.DataFrame, first: pd.DataFrame, look: dict[str, Any], suffix: str = ""
) -> list[go.Scatter]:
    """Return a trace per class, which the legend can hide; classes of `first` keep their colours."""
    names = as_text(table["value"].to_numpy())
    colours = g.colours_for([*as_text(first["value"].to_numpy()), *names])
    return [
        _points(kind, table[names == name], {**look, "color": colour}, name=f"{name}{suffix}")
        for name, colour in colours.items()
        if name in names
    ]


def _points(kind: type[go.Scatter], table: pd.DataFrame, marker: dict[str, Any], **more: Any) -> go.Scatter:
    return kind(
        x=table["x"].to_numpy(), y=table["y"].to_numpy(), mode="markers", marker=marker,
        text=table["hover"].tolist(), customdata=table["clip"].tolist(),
        hovertemplate="%{text}<extra></extra>", **more,
    )  # fmt: skip
