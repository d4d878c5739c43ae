"""Figures that compare plans: what every judge hears under each, and what a blend becomes."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import plotly.graph_objects as go

from workbench.evidence.crosstalk import Crosstalk
from workbench.evidence.fusion import Fusion
from workbench.show.colours import UNSTEERED, colours_for
from workbench.show.plots.diagnosis import DIVERGING
from workbench.show.plots.grammar import INK, figure, scale_bar


def crosstalk_matrix(value: Crosstalk) -> go.Figure:
    """Return the mean change of every class's probability under every plan; what a plan aims at is framed.

    Changes whose 95 % interval holds 0 are written in brackets; targets stand apart.
    """
    cells = value.cells
    plans, classes = list(cells["plan"].unique()), _columns(value)
    result = figure(
        "What else does steering change?",
        x="class of a judge",
        y="steered towards",
        note="Change of the judge's probability against the unsteered twin; aims are framed, "
        "brackets: the 95 % interval holds 0.",
        height=230 + 44 * len(plans),
    )
    places = {name: place for place, name in enumerate(classes)}
    shape = (len(plans), len(classes))
    z, words, hover = np.full(shape, np.nan), np.full(shape, "", object), np.full(shape, "", object)
    for row in cells.to_dict("records"):
        at = plans.index(row["plan"]), places[row["target"], row["class"]]
        sure = row["change_low"] > 0 or row["change_high"] < 0
        z[at] = row["change"]
        words[at] = f"{100 * row['change']:+.0f}" if sure else f"({100 * row['change']:+.0f})"
        hover[at] = _hover(row)
        if row["own"]:
            result.add_shape(
                type="rect", x0=at[1] - 0.5, x1=at[1] + 0.5, y0=at[0] - 0.5, y1=at[0] + 0.5,
                line={"color": INK, "width": 2.5},
            )  # fmt: skip
    result.add_trace(_heat(z, words, hover))
    for place, (one, other) in enumerate(pairwise(classes)):
        if one[0] != other[0]:
            result.add_vline(x=place + 0.5, line={"color": INK, "width": 1})
    ticks = [f"{target}<br>{name}" for target, name in classes]
    result.update_xaxes(tickvals=list(range(len(classes))), ticktext=ticks, showgrid=False)
    result.update_yaxes(
        tickvals=list(range(len(plans))), ticktext=plans, autorange="reversed", showgrid=False
    )
    return result


def _columns(value: Crosstalk) -> list[tuple[str, str]]:
    """Return (target, class) in the order of the judges."""
    pairs = zip(value.cells["target"], value.cells["class"], strict=True)
    return list(dict.fromkeys((str(target), str(name)) for target, name in pairs))


def _heat(z: np.ndarray, words: np.ndarray, hover: np.ndarray) -> go.Heatmap:
    """Return the matrix, blue for less and orange for more, numbers in percentage points."""
    return go.Heatmap(
        z=z,
        zmin=-1,
        zmax=1,
        colorscale=DIVERGING,
        xgap=2,
        ygap=2,
        text=words,
        texttemplate="%{text}",
        textfont={"size": 12, "color": INK},
        customdata=hover,
        hovertemplate="%{customdata}<extra></extra>",
        colorbar=scale_bar("change of P", tickformat="+.0%"),
    )


def _hover(row: dict[Any, Any]) -> str:
    return (
        f"{row['plan']}: {row['target']} {row['class']}<br>P {100 * row['change']:+.1f} points "
        f"({100 * row['change_low']:+.1f} to {100 * row['change_high']:+.1f})<br>"
        f"heard in {row['hit_rate']:.0%}, unsteered in {row['unsteered']:.0%}, "
        f"n = {row['n']}"
    )


def fusion_line(value: Fusion) -> go.Figure:
    """Return the log-odds of the first class against the second over its weight: every seed, and the mean."""
    table = value.table()
    colours = colours_for([value.first, value.second])
    result = figure(
        f"Can one play between {value.second} and {value.first}?",
        x=f"weight of {value.first} (the rest is {value.second})",
        y=f"log-odds, {value.first} against {value.second} (nats)",
        note=f"Rank correlation inside a seed: {value.spearman}; bars are 95 % intervals over seeds.",
    )
    for number, row in enumerate(value.odds):
        line = {"color": UNSTEERED, "width": 1}
        result.add_trace(
            go.Scatter(
                x=list(value.weights), y=row.tolist(), mode="lines", line=line, opacity=0.5,
                name="one seed", legendgroup="seeds", showlegend=number == 0, hoverinfo="skip",
            )
        )  # fmt: skip
    bars = {"type": "data", "symmetric": False, "thickness": 1.8, "width": 5,
            "array": (table["high"] - table["log_odds"]).tolist(),
            "arrayminus": (table["log_odds"] - table["low"]).tolist()}  # fmt: skip
    result.add_trace(
        go.Scatter(
            x=table["weight"].tolist(), y=table["log_odds"].tolist(), mode="lines+markers",
            name="mean, 95 % interval", line={"color": colours[value.first], "width": 2.5},
            marker={"size": 9}, error_y=bars,
            hovertemplate="weight %{x}: %{y:.2f}<extra></extra>",
        )
    )  # fmt: skip
    result.add_hline(y=0, line={"dash": "dash", "color": INK, "width": 1.5})
    result.add_annotation(
        x=1, xref="paper", y=0, text="as much of both", showarrow=False, xanchor="right", yanchor="bottom"
    )
    return result
