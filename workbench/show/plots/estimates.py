"""Figures of a few numbers with intervals: what is compared stands side by side, chance dashed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from workbench.show.colours import GENRE_COLOURS, UNSTEERED
from workbench.show.plots.grammar import INK, figure

BLUE = GENRE_COLOURS["classical"]


def shares(
    rows: pd.DataFrame,
    question: str,
    *,
    axis: str = "held-out accuracy",
    chance: float | None = None,
    marked: Sequence[str] = (),
    note: str = "",
) -> go.Figure:
    """Return points with 95 % bars, one line each, from top to bottom.

    Args:
        rows: columns name, value, low, high (shares; accuracies lie between 0 and 1).
        question: the title.
        axis: what the value is.
        chance: drawn dashed.
        marked: names that are drawn in colour; all when none are named. The others are grey.
        note: under the title.
    """
    result = figure(question, x=axis, y="", note=note, height=150 + 46 * len(rows))
    values = rows["value"].astype(float)
    colours = [BLUE if not marked or name in marked else UNSTEERED for name in rows["name"]]
    for place, (_, row) in enumerate(rows.iterrows()):
        result.add_trace(_point(row, colours[place]))
    if chance is not None:
        result.add_vline(x=chance, line={"dash": "dash", "color": INK, "width": 1.5})
        result.add_annotation(x=chance, y=1, yref="paper", yanchor="bottom", text="chance", showarrow=False)
    low, high = rows["low"].fillna(values).min(), rows["high"].fillna(values).max()
    result.update_xaxes(
        range=[min(-0.02, float(low) - 0.03), max(1.02, float(high) + 0.03)], tickformat=".0%"
    )
    result.update_yaxes(categoryorder="array", categoryarray=list(rows["name"])[::-1], showgrid=False)
    result.update_layout(showlegend=False)
    return result


def _point(row: Any, colour: str) -> go.Scatter:
    value, low, high = float(row["value"]), float(row["low"]), float(row["high"])
    bars = {
        "type": "data",
        "symmetric": False,
        "array": [max(high - value, 0.0)],
        "arrayminus": [max(value - low, 0.0)],
        "thickness": 2,
        "width": 6,
    }
    return go.Scatter(
        x=[value],
        y=[str(row["name"])],
        mode="markers+text",
        text=[f"{value:.0%}"],
        textposition="top center",
        marker={"size": 11, "color": colour},
        error_x=bars,
        name=str(row["name"]),
        hovertemplate=f"%{{y}}: %{{x:.1%}} ({low:.1%} to {high:.1%})<extra></extra>",
    )


def rows_of(**estimates: Any) -> pd.DataFrame:
    """Return the rows of named estimates (value, low, high); "_" in a name becomes a blank."""
    return rows_from({name.replace("_", " "): one for name, one in estimates.items()})


def rows_from(estimates: Mapping[str, Any]) -> pd.DataFrame:
    """Return the rows of a mapping of estimates (value, low, high); those without a value are left out."""
    found = [
        {"name": name, "value": one.value, "low": one.low, "high": one.high}
        for name, one in estimates.items()
        if one.value == one.value
    ]
    return pd.DataFrame(found, columns=["name", "value", "low", "high"])
