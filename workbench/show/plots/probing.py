"""Figures about probes: accuracy per layer, and which class is taken for which."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from workbench.errors import ProbeError
from workbench.show.plots.grammar import (
    GENRE_COLOURS,
    INK,
    SEQUENTIAL,
    UNSTEERED,
    band,
    colours_for,
    figure,
    scale_bar,
)

if TYPE_CHECKING:
    from workbench.probing.diagnosis import RidgeToMeans

# Figures of a few numbers with intervals: what is compared stands side by side, chance dashed.


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


NEEDED = ("layer", "accuracy", "low", "high", "chance")


def accuracy_per_layer(table: pd.DataFrame, *, target: str = "genre") -> go.Figure:
    """Return held-out accuracy over layers, with its 95 % interval, the majority line and the shuffled band.

    Args:
        table: one row per layer, as `ProbeSweep.table()` gives it: layer, accuracy, low, high, chance and,
            where labels were shuffled, shuffled_mean, shuffled_low, shuffled_high; all accuracies 0-1.
        target: the label that the probes read, for the title.

    Raises:
        ProbeError: a column is missing or the table is empty.
    """
    missing = [name for name in NEEDED if name not in table]
    if missing or table.empty:
        raise ProbeError(
            "Accuracy per layer was to be drawn",
            f"the table has {len(table)} rows and lacks {missing}",
            "Pass the table of a probe sweep, `sweep.table()`",
        )
    table = table.sort_values("layer")
    best = table.iloc[int(table["accuracy"].to_numpy().argmax())]
    result = figure(
        f"In which layers can a linear probe read the {target}?",
        x="layer (0 = first block)",
        y="held-out accuracy",
        note=_accuracy_note(table, best),
    )
    layers = table["layer"].tolist()
    result.add_traces(_baselines(table))
    result.add_trace(_accuracy_line(table))
    result.update_yaxes(range=[0, 1.04], tickformat=".0%")
    result.update_xaxes(tickmode="array", tickvals=_readable_ticks(layers), range=_room(layers))
    return result


def _baselines(table: pd.DataFrame) -> list[go.Scatter]:
    """Return the band of shuffled labels, where measured, and the dashed line of the majority class."""
    layers = table["layer"].tolist()
    dashes = {"dash": "dash", "color": INK, "width": 1.5}
    chance = go.Scatter(
        x=layers, y=table["chance"].tolist(), mode="lines", name="majority class", line=dashes
    )
    if "shuffled_low" not in table or table["shuffled_low"].isna().any():
        return [chance]
    low, high = table["shuffled_low"], table["shuffled_high"]
    return [band(layers, low, high, colour=UNSTEERED, name="labels shuffled"), chance]


def _accuracy_line(table: pd.DataFrame) -> go.Scatter:
    """Return the accuracy line with asymmetric 95 % bars."""
    accuracy = table["accuracy"]
    return go.Scatter(
        x=table["layer"].tolist(),
        y=accuracy.tolist(),
        mode="lines+markers",
        name="probe, 95 % interval",
        line={"color": GENRE_COLOURS["classical"], "width": 2.5},
        marker={"size": 9},
        error_y={
            "type": "data",
            "symmetric": False,
            "array": (table["high"] - accuracy).tolist(),
            "arrayminus": (accuracy - table["low"]).tolist(),
            "thickness": 1.8,
            "width": 5,
        },
        customdata=np.stack([table["low"], table["high"]], axis=1).tolist(),
        hovertemplate="layer %{x}: %{y:.1%} (%{customdata[0]:.1%} to %{customdata[1]:.1%})<extra></extra>",
    )


def _accuracy_note(table: pd.DataFrame, best: pd.Series[Any]) -> str:
    count = f", n = {int(best['n'])}" if "n" in table else ""
    interval = f"{best['low']:.0%} to {best['high']:.0%}{count}"
    return (
        f"Best: layer {int(best['layer'])} with {best['accuracy']:.0%} ({interval}); "
        f"guessing the commonest class: {best['chance']:.0%}."
    )


def _readable_ticks(layers: Sequence[int]) -> list[int]:
    """Return at most about 13 of the `layers`, so that the labels of a 48-layer model stay apart."""
    return list(layers)[:: max(1, -(-len(layers) // 13))]


def _room(layers: Sequence[int]) -> list[float]:
    margin = max(0.3, 0.03 * (max(layers) - min(layers)))
    return [min(layers) - margin, max(layers) + margin]


def confusion(counts: pd.DataFrame) -> go.Figure:
    """Return how often each true class (row) was called each class (column), as shares of the row.

    Args:
        counts: (k, k) held-out samples, true classes down, predicted ones across, in the same order; as
            `ProbeSweep.confusion()` gives it.

    Raises:
        ProbeError: rows and columns differ, or nothing was counted.
    """
    names, values = [str(name) for name in counts.index], counts.to_numpy(dtype=float)
    if names != [str(name) for name in counts.columns] or not values.sum():
        raise ProbeError(
            "A confusion matrix was to be drawn",
            f"the true classes are {names}, the predicted ones {list(counts.columns)}",
            "Pass counts of the same classes, `sweep.confusion()`",
        )
    totals = values.sum(axis=1, keepdims=True)
    shares = np.divide(values, totals, out=np.zeros_like(values), where=totals > 0)
    right = float(np.trace(values) / values.sum())
    note = f"{right:.0%} of {values.sum():.0f} on the diagonal; each row sums to 100 %."
    result = figure(
        "Which class is taken for which?", x="called", y="is really", note=note, height=180 + 52 * len(names)
    )
    result.add_trace(
        go.Heatmap(
            z=shares,
            x=names,
            y=names,
            zmin=0,
            zmax=1,
            colorscale=SEQUENTIAL,
            xgap=2,
            ygap=2,
            customdata=values,
            texttemplate="%{z:.0%}",
            textfont={"size": 13},
            hovertemplate="%{y} called %{x}: %{customdata} (%{z:.0%})<extra></extra>",
            colorbar=scale_bar("share of row", tickformat=".0%"),
        )
    )
    result.update_yaxes(autorange="reversed")
    return result


# Figures of the path from ridge to means: how one class's direction turns, and what it is worth.


PENALTY = "L2 penalty λ per sample (log scale; ∞: difference in means)"


def path_cosines(walk: RidgeToMeans, class_: str, strength: float) -> go.Figure:
    """Return the cosines of a class's direction to the probe's weight and to the difference in means, over λ.

    Args:
        walk: the paths of a layer (`ridge_to_means`).
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


def path_accuracy(walk: RidgeToMeans, class_: str, strength: float) -> go.Figure:
    """Return the held-out accuracy of a class's direction alone, over λ, with its 95 % interval and chance.

    Args:
        walk: the paths of a layer (`ridge_to_means`).
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
    result.add_vline(x=places[walk.l2.index(strength)], line={"color": INK, "width": 1.5})
    return result


def _places(walk: RidgeToMeans) -> list[float]:
    """Return where strengths stand on the axis: their decades, infinity one beyond the last."""
    finite = [math.log10(one) for one in walk.l2 if math.isfinite(one)]
    return [*finite, *[max(finite, default=-1.0) + 1] * (len(walk.l2) - len(finite))]
