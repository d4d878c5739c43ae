"""The map: one point per clip, near each other where the model's activations are alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from workbench.errors import ProbeError, message
from workbench.show.colours import colours_for
from workbench.show.plots.grammar import SEQUENTIAL, figure

if TYPE_CHECKING:
    from workbench.probing.projection import Projection

MANY_POINTS = 2000  # from here on WebGL; SVG takes 16 s at 100,000 points
MANY_VALUES = 12  # more different numbers than this are a scale, not classes


def map_scatter(projection: Projection, *, colour_by: str = "genre", playing: str | None = None) -> go.Figure:
    """Return the projected points, coloured by a label; hovering names the clip, `customdata` holds its id.

    Args:
        projection: (n, 2) `points` with their `clips` (ids) and `labels` (one column per label).
        colour_by: the label to colour by; numbers with many values get a colour scale.
        playing: id of a clip to ring.

    Raises:
        ProbeError: the label is not held, or there are no points.
    """
    points = np.asarray(projection.points, dtype=float)
    if colour_by not in projection.labels or not len(points):
        raise ProbeError(
            message(
                f"A map coloured by {colour_by!r} was asked for",
                f"{len(points)} points carry the labels {list(projection.labels)}",
                "Choose one of these labels",
            )
        )
    method = projection.method.upper()
    result = figure(
        f"Do clips of one {colour_by} lie together at layer {projection.layer}?",
        x=f"{method} 1 (no unit)",
        y=f"{method} 2 (no unit)",
        note=_note(projection, len(points)),
        height=520,
    )
    values = projection.labels[colour_by]
    kind = go.Scattergl if len(points) >= MANY_POINTS else go.Scatter
    hover = _hover(projection)
    if pd.api.types.is_numeric_dtype(values) and values.nunique() > MANY_VALUES:
        result.add_trace(_scaled(kind, points, values, hover, projection))
    else:
        _add_classes(result, kind, points, values.astype(str), hover, projection)
    if playing is not None:
        result.add_trace(_ring(points[np.asarray(projection.clips) == playing]))
    result.update_layout(uirevision=f"{projection.layer} {projection.method}")  # a redrawn map keeps its zoom
    result.update_xaxes(showticklabels=False, ticks="")
    result.update_yaxes(showticklabels=False, ticks="")
    return result


def _note(projection: Projection, count: int) -> str:
    trust = projection.trustworthiness
    return f"{count} clips. Trustworthiness {trust:.2f} (1 = every neighbour kept)."


def _ring(points: np.ndarray) -> go.Scatter:
    """Return a ring around the clip that is being played."""
    return go.Scatter(
        x=points[:, 0],
        y=points[:, 1],
        mode="markers",
        name="playing",
        hoverinfo="skip",
        showlegend=False,
        marker={"size": 18, "symbol": "circle-open", "color": "#000000", "line": {"width": 3}},
    )


def _hover(projection: Projection) -> np.ndarray:
    """Return (n,) hover texts: the clip's id and all of its labels."""
    labels = projection.labels
    lines = [f"<b>{clip}</b>" for clip in projection.clips]
    for name in labels:
        values = [_short(value) for value in labels[name]]
        lines = [f"{line}<br>{name}: {value}" for line, value in zip(lines, values, strict=True)]
    return np.array(lines, dtype=object)


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _scaled(
    kind: type[go.Scatter],
    points: np.ndarray,
    values: pd.Series[float],
    hover: np.ndarray,
    projection: Projection,
) -> go.Scatter:
    """Return all points as one trace on a colour scale."""
    return kind(
        x=points[:, 0],
        y=points[:, 1],
        mode="markers",
        text=hover,
        hovertemplate="%{text}<extra></extra>",
        customdata=[str(clip) for clip in projection.clips],
        showlegend=False,
        marker={
            "size": 8,
            "color": values.to_numpy(dtype=float),
            "colorscale": SEQUENTIAL,
            "showscale": True,
            "colorbar": {"title": {"text": str(values.name)}, "outlinewidth": 0},
        },
    )


def _add_classes(
    result: go.Figure,
    kind: type[go.Scatter],
    points: np.ndarray,
    values: pd.Series[str],
    hover: np.ndarray,
    projection: Projection,
) -> None:
    """Add one trace per class, so that the legend can hide classes."""
    clips = np.array([str(clip) for clip in projection.clips], dtype=object)
    for name, colour in colours_for(values).items():
        held = (values == name).to_numpy()
        result.add_trace(
            kind(
                x=points[held, 0],
                y=points[held, 1],
                mode="markers",
                name=name,
                text=hover[held],
                customdata=clips[held].tolist(),
                hovertemplate="%{text}<extra></extra>",
                marker={"size": 8, "color": colour, "line": {"width": 0.6, "color": "white"}, "opacity": 0.9},
            )
        )
