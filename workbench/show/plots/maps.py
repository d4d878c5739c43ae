"""The map: one point per clip, near each other where the model's activations are alike."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from workbench.errors import ProbeError
from workbench.show.plots.grammar import INK, SEQUENTIAL, UNSTEERED, colours_for, figure, scale_bar
from workbench.sound.dataset import as_text

if TYPE_CHECKING:
    from workbench.probing.projection import Projection

MANY_POINTS = 2000  # from here on WebGL; SVG takes 16 s at 100,000 points
MANY_VALUES = 12  # more different numbers than this are a scale, not classes
EDGE = {"width": 1, "color": UNSTEERED}  # the ends of the scale are as light and dark as paper
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
        colour_by: the label to colour by; numbers with many values get a colour scale.
        playing: id of a clip to ring.
        joined: other clips placed on the same map (`Projection.place`), drawn as diamonds with a dark edge.

    Raises:
        ProbeError: there is no such label, or there are no points.
    """
    points = np.asarray(projection.points, dtype=float)
    if colour_by not in projection.labels or not len(points):
        found = f"{len(points)} points carry the labels {list(projection.labels)}"
        asked = f"A map coloured by {colour_by!r} was asked for"
        raise ProbeError.lookup(asked, found, "Choose one of these labels")
    method = projection.method.upper()
    question = f"Do clips of one {colour_by} lie together at layer {projection.layer}?"
    note = (
        f"{len(points)} clips. Trustworthiness {projection.trustworthiness:.2f} (1 = every neighbour kept)."
    )
    if projection.explained is not None:
        note += f" The axes hold {sum(projection.explained):.0%} of the variance."
    else:
        note += " Neighbours mean something; distances and sizes of clusters do not."
    result = figure(question, x=f"{method} 1 (no unit)", y=f"{method} 2 (no unit)", note=note, height=520)
    table = _table(projection, colour_by)
    kind = go.Scattergl if len(points) >= MANY_POINTS else go.Scatter
    scaled = pd.api.types.is_numeric_dtype(table["value"]) and table["value"].nunique() > MANY_VALUES
    if scaled:
        look = {"size": 8, "color": table["value"].to_numpy(dtype=float), "colorscale": SEQUENTIAL}
        look |= {"showscale": True, "colorbar": scale_bar(colour_by), "line": EDGE}
        result.add_trace(_points(kind, table, look, showlegend=False))
    else:
        result.add_traces(_classes(kind, table))
    if joined is not None:
        result.add_traces(_joined(kind, joined, colour_by, as_text(table["value"].to_numpy()).tolist()))
    if playing is not None:
        places = [shown.points[np.asarray(shown.clips) == playing] for shown in (projection, joined) if shown]
        x, y = np.concatenate(places).T
        result.add_trace(go.Scatter(x=x, y=y, name="playing", **RING))
    result.update_layout(
        uirevision=projection.method,  # a redrawn map keeps its zoom
        dragmode="select" if kind is go.Scatter else "zoom",
        transition={"duration": 600, "easing": "cubic-in-out"},  # from layer to layer points move, not jump
    )
    result.update_xaxes(showticklabels=False, ticks="")
    result.update_yaxes(showticklabels=False, ticks="")
    return result


def _joined(kind: type[go.Scatter], joined: Projection, colour_by: str, known: list[str]) -> list[go.Scatter]:
    """Return clips placed on a map of others: diamonds, in their label's colour if they have one."""
    labels = joined.labels if colour_by in joined.labels else joined.labels.assign(**{colour_by: "generated"})
    table = _table(replace(joined, labels=labels), colour_by)
    names = as_text(table["value"].to_numpy())
    colours = colours_for([*known, *names])
    look: dict[str, Any] = {"size": 13, "symbol": "diamond", "line": {"width": 2, "color": INK}}
    return [
        _points(kind, table[names == name], {**look, "color": colours[name]}, name=f"{name} (joined)")
        for name in dict.fromkeys(names.tolist())
    ]


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
        "value": np.asarray(labels[colour_by]),
        "hover": lines,
    })  # fmt: skip


def _classes(kind: type[go.Scatter], table: pd.DataFrame) -> list[go.Scatter]:
    """Return one trace per class, so that the legend can hide classes."""
    names = as_text(table["value"].to_numpy())
    look = {"size": 8, "line": {"width": 0.6, "color": "white"}}
    return [
        _points(kind, table[names == name], {**look, "color": colour}, name=name)
        for name, colour in colours_for(names).items()
    ]


def _points(kind: type[go.Scatter], table: pd.DataFrame, marker: dict[str, Any], **more: Any) -> go.Scatter:
    """Return one trace; `customdata` holds the ids of the clips, for clicks."""
    return kind(
        x=table["x"].to_numpy(), y=table["y"].to_numpy(), mode="markers", marker=marker,
        text=table["hover"].tolist(), customdata=table["clip"].tolist(),
        hovertemplate="%{text}<extra></extra>", **more,
    )  # fmt: skip
