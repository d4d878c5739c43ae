"""Figures of the trail from ridge to means: how one class's direction turns, and what it is worth."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from workbench.show.colours import colours_for
from workbench.show.plots.grammar import INK, band, figure

if TYPE_CHECKING:
    from workbench.probing.diagnosis import RidgeToMeans

PENALTY = "L2 penalty λ per sample (log scale; ∞: difference in means)"


def trail_cosines(walk: RidgeToMeans, class_: str, strength: float) -> go.Figure:
    """Return the cosines of a class's direction to the probe's weight and to the difference in means, over λ.

    Args:
        walk: the trails of a layer (`ridge_to_means`).
        class_: the class that is shown.
        strength: where the slider stands; marked by a line.
    """
    note = f"Layer {walk.layer}. 1: the same direction; 0: nothing in common."
    question = f"Does the {class_} direction turn on the way from ridge to means?"
    result = figure(question, x=PENALTY, y="cosine (no unit)", note=note, height=340)
    places, colour = _places(walk), colours_for(walk.classes)[class_]
    lines = (
        ("to the probe's weight", walk.to_probe[class_], "circle", "solid"),
        ("to the difference in means", walk.to_means[class_], "diamond-open", "dot"),
    )
    for name, cosines, symbol, line in lines:
        result.add_trace(
            go.Scatter(
                x=places,
                y=list(cosines),
                mode="lines+markers",
                name=name,
                line={"color": colour, "width": 2.5, "dash": line},
                marker={"size": 8, "symbol": symbol},
                customdata=list(walk.labels),
                hovertemplate="λ = %{customdata}: %{y:.2f}<extra></extra>",
            )
        )
    low = min(*walk.to_probe[class_], *walk.to_means[class_], 0.0)
    result.update_yaxes(range=[low - 0.05, 1.05])
    return _along_penalties(result, walk, strength)


def trail_accuracy(walk: RidgeToMeans, class_: str, strength: float) -> go.Figure:
    """Return the held-out accuracy of a class's direction alone, over λ, with its 95 % interval and chance.

    Args:
        walk: the trails of a layer (`ridge_to_means`).
        class_: the class that is shown.
        strength: where the slider stands; marked by a line.
    """
    rates = walk.accuracy[class_]
    note = f"Cut half-way between the means of {class_} and the rest; both sides count alike."
    question = f"How well does the {class_} direction alone read new {walk.unit}s?"
    result = figure(question, x=PENALTY, y="held-out accuracy", note=note, height=340)
    places, colour = _places(walk), colours_for(walk.classes)[class_]
    low, high = [one.low for one in rates], [one.high for one in rates]
    result.add_trace(band(places, low, high, colour=colour, name="95 % interval"))
    result.add_trace(
        go.Scatter(
            x=places,
            y=[one.value for one in rates],
            mode="lines+markers",
            name=class_,
            line={"color": colour, "width": 2.5},
            marker={"size": 8},
            customdata=list(walk.labels),
            hovertemplate="λ = %{customdata}: %{y:.1%}<extra></extra>",
        )
    )
    dashes = {"dash": "dash", "color": INK, "width": 1.5}
    ends = [places[0], places[-1]]
    result.add_trace(go.Scatter(x=ends, y=[walk.chance] * 2, mode="lines", name="chance", line=dashes))
    result.update_yaxes(range=[min(0.4, *low), 1.04], tickformat=".0%")
    return _along_penalties(result, walk, strength)


def _along_penalties(result: go.Figure, walk: RidgeToMeans, strength: float) -> go.Figure:
    """Return the figure with decades as ticks, infinity at the end, and a line where the slider stands."""
    places = _places(walk)
    named = zip(places, walk.labels, strict=True)
    ticks = [(place, told) for place, told in named if told == "∞" or np.isclose(place, round(place))]
    result.update_xaxes(
        tickmode="array",
        tickvals=[place for place, _ in ticks],
        ticktext=[told for _, told in ticks],
        range=[places[0] - 0.3, places[-1] + 0.3],
    )
    result.add_vline(x=places[walk.strengths.index(strength)], line={"color": INK, "width": 1.5})
    return result


def _places(walk: RidgeToMeans) -> list[float]:
    """Return where strengths stand on the axis: their decades, infinity one beyond the last."""
    finite = [math.log10(one) for one in walk.strengths if math.isfinite(one)]
    return [*finite, *[max(finite, default=-1.0) + 1] * (len(walk.strengths) - len(finite))]
