"""Figures about probes: accuracy per layer, confusions, the path to the means, and the map of the clips."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from workbench.errors import ProbeError
from workbench.show.plots import grammar as g
from workbench.sound.dataset import as_text

if TYPE_CHECKING:
    from workbench.probing.diagnosis import RidgeToMeans
    from workbench.probing.projection import Projection

BLUE = g.GENRE_COLOURS["classical"]
MANY_POINTS = 2000  # from here on WebGL; SVG takes 16 s at 100,000 points
MANY_VALUES = 12  # more different numbers than this are a scale, not classes
EDGE = {"width": 1, "color": g.UNSTEERED}  # the ends of the scale are as light and dark as paper
RING: dict[str, Any] = {
    "mode": "markers", "hoverinfo": "skip", "showlegend": False,
    "marker": {"size": 18, "symbol": "circle-open", "color": "#000000", "line": {"width": 3}},
}  # fmt: skip


def shares(
    rows: pd.DataFrame, question: str, *, axis: str = "held-out accuracy", chance: float | None = None,
    marked: Sequence[str] = (), note: str = "",
) -> go.Figure:  # fmt: skip
    """Return points with 95 % bars, one line each, from top to bottom.

    `rows` have the columns name, value, low, high (shares, such as accuracies); `axis` says what the value
    is. `chance` is drawn dashed; names that are `marked` have a colour, the others are grey (unless none is).
    """
    result = g.figure(question, x=axis, y="", note=note, height=150 + 46 * len(rows))
    for name, value, low, high in rows[["name", "value", "low", "high"]].itertuples(index=False):
        result.add_trace(
            go.Scatter(
                x=[value], y=[str(name)], name=str(name), mode="markers+text", text=[f"{value:.0%}"],
                textposition="top center", cliponaxis=False, error_x=g.interval([value], [low], [high]),
                marker={"size": 11, "color": BLUE if not marked or name in marked else g.UNSTEERED},
                hovertemplate=f"%{{y}}: %{{x:.1%}} ({low:.1%} to {high:.1%})<extra></extra>",
            )
        )  # fmt: skip
    if chance is not None:
        result.add_vline(x=chance, line=dict(g.DASHED), annotation_text="chance", annotation_position="top")
    low, high = (rows[end].fillna(rows["value"]) for end in ("low", "high"))
    reach = [min(-0.02, float(low.min()) - 0.03), max(1.02, float(high.max()) + 0.03)]
    result.update_xaxes(range=reach, tickformat=".0%")
    result.update_yaxes(categoryorder="array", categoryarray=list(rows["name"])[::-1], showgrid=False)
    result.update_yaxes(range=[-0.6, len(rows) - 0.25])  # the highest number has room too
    result.update_layout(showlegend=False)
    return result


def rows_from(estimates: Mapping[str, Any]) -> pd.DataFrame:
    """Return the rows of a mapping of estimates (value, low, high); those without a value are left out."""
    rows = [(name, one.value, one.low, one.high) for name, one in estimates.items()]
    return pd.DataFrame(rows, columns=["name", "value", "low", "high"]).dropna(subset="value")


NEEDED = ("layer", "accuracy", "low", "high", "chance")


def accuracy_per_layer(table: pd.DataFrame, *, target: str = "genre", chosen: int | None = None) -> go.Figure:
    """Return held-out accuracy over layers, with its 95 % interval, the majority line and the shuffled band.

    `table` has one row per layer, as `ProbeSweep.table()` gives it, else it is a ProbeError: layer, accuracy,
    low, high, chance and, where labels were shuffled, shuffled_low, shuffled_high; all accuracies 0-1. The
    layer that is `chosen` gets a ring and a frame; `target` is the label that is read.
    """
    missing = [name for name in NEEDED if name not in table]
    if missing or table.empty:
        found, do = f"the table has {len(table)} rows and lacks {missing}", "Pass `sweep.table()`"
        raise ProbeError("Accuracy per layer was to be drawn", found, do)
    table = table.sort_values("layer")
    layers, accuracy, low, high = (table[name] for name in ("layer", "accuracy", "low", "high"))
    best = table.iloc[int(accuracy.to_numpy().argmax())]
    count = f", n = {int(best['n'])}" if "n" in table else ""
    note = (
        f"Best: layer {int(best['layer'])} with {best['accuracy']:.1%} ({best['low']:.1%} to "
        f"{best['high']:.1%}{count}); guessing the commonest class: {best['chance']:.0%}."
    )
    question = f"In which layers can a linear probe read the {target}?"
    across = "layer (0 = first block)"
    result = g.figure(question, x=across, y="held-out accuracy", note=note, shares=[0, 1.04])
    if "shuffled_low" in table and not table["shuffled_low"].isna().any():
        ends = table["shuffled_low"], table["shuffled_high"]
        result.add_trace(g.band(layers, *ends, colour=g.UNSTEERED, name="labels shuffled"))
    result.add_trace(g.dashed(layers, table["chance"], "majority class"))
    look = {
        "error_y": g.interval(accuracy, low, high), "customdata": np.stack([low, high], axis=1).tolist(),
        "hover": "layer %{x}: %{y:.1%} (%{customdata[0]:.1%} to %{customdata[1]:.1%})",
    }  # fmt: skip
    result.add_trace(g.curve(layers, accuracy, "probe, 95 % interval", BLUE, **look))
    ticks = layers.tolist()[:: max(1, -(-len(layers) // 13))]  # the labels of 48 layers stay apart
    margin = max(0.3, 0.03 * (max(layers) - min(layers)))
    room = [min(layers) - margin, max(layers) + margin]
    if chosen is not None:
        height = table.loc[table["layer"] == chosen, "accuracy"].tolist()
        result.add_trace(go.Scatter(x=[chosen], y=height, name="chosen layer", **RING))
        result.add_vrect(chosen - margin, chosen + margin, line={"color": BLUE, "width": 1.5})
    return result.update_xaxes(tickmode="array", tickvals=ticks, range=room)


def confusion(counts: pd.DataFrame) -> go.Figure:
    """Return how often each true class (row) was called each class (column), as shares of the row.

    `counts` are (k, k) held-out samples, true classes down, predicted ones across, in the same order, as
    `ProbeSweep.confusion()` gives it; a ProbeError where they differ, or nothing was counted.
    """
    names, values = [str(name) for name in counts.index], counts.to_numpy(dtype=float)
    if names != [str(name) for name in counts.columns] or not values.sum():
        found = f"the true classes are {names}, the predicted ones {list(counts.columns)}"
        raise ProbeError("A confusion matrix was to be drawn", found, "Pass `sweep.confusion()`")
    totals = values.sum(axis=1, keepdims=True)
    shares = np.divide(values, totals, out=np.zeros_like(values), where=totals > 0)
    note = f"{np.trace(values):.0f} of {values.sum():.0f} on the diagonal; each row sums to 100 %."
    question, height = "Which class is taken for which?", 180 + 52 * len(names)
    result = g.figure(question, x="called", y="is really", note=note, height=height)
    hover = "%{y} called %{x}: %{customdata} (%{z:.0%})"
    return g.add_heat(result, shares, names, names, "share of row", hover=hover, customdata=values)


PENALTY = "L2 penalty λ per sample (log scale; ∞: difference in means)"


def path_cosines(walk: RidgeToMeans, class_: str, strength: float) -> go.Figure:
    """Return the cosines of a class's direction to probe and means over λ; a line marks `strength`."""
    note = f"Layer {walk.layer}. 1: the same direction; 0: nothing in common."
    question = f"Does the {class_} direction turn on the way from ridge to means?"
    result = g.figure(question, x=PENALTY, y="cosine (no unit)", note=note, height=340)
    look: dict[str, Any] = {"customdata": list(walk.labels), "hover": "λ = %{customdata}: %{y:.2f}"}
    places, colour = _places(walk), g.colours_for(walk.classes)[class_]
    probe, means = walk.to_probe[class_], walk.to_means[class_]
    for name, values, symbol, dash in (
        ("to the probe's weight", probe, "circle", "solid"),
        ("to the difference in means", means, "diamond-open", "dot"),
    ):
        look |= {"line": {"dash": dash}, "marker": {"size": 8, "symbol": symbol}}
        result.add_trace(g.curve(places, values, name, colour, **look))
    result.update_yaxes(range=[min(*probe, *means, 0.0) - 0.05, 1.05])
    return _along_penalties(result, walk, strength)


def path_accuracy(walk: RidgeToMeans, class_: str, strength: float) -> go.Figure:
    """Return the held-out accuracy of a class's direction alone over λ; a line marks that of `strength`."""
    note = f"Cut half-way between the means of {class_} and the rest; both sides count alike."
    question = f"How well does the {class_} direction alone read new {walk.unit}s?"
    places, colour, rates = _places(walk), g.colours_for(walk.classes)[class_], walk.accuracy[class_]
    low, high = [one.low for one in rates], [one.high for one in rates]
    reach = [min(0.4, *low), 1.04]
    result = g.figure(question, x=PENALTY, y="held-out accuracy", note=note, height=340, shares=reach)
    result.add_trace(g.band(places, low, high, colour=colour, name="95 % interval"))
    look: dict[str, Any] = {"customdata": list(walk.labels), "marker": {"size": 8}}
    values, hover = [one.value for one in rates], "λ = %{customdata}: %{y:.1%}"
    result.add_trace(g.curve(places, values, class_, colour, hover=hover, **look))
    result.add_trace(g.dashed([places[0], places[-1]], [walk.chance] * 2, "chance"))
    return _along_penalties(result, walk, strength)


def _along_penalties(result: go.Figure, walk: RidgeToMeans, strength: float) -> go.Figure:
    """Return the figure with decades as ticks, infinity at the end, and a line where the slider stands."""
    places = _places(walk)
    named = zip(places, walk.labels, strict=True)
    ticks = {place: label for place, label in named if label == "∞" or np.isclose(place, round(place))}
    room = [places[0] - 0.3, places[-1] + 0.3]
    result.update_xaxes(tickmode="array", tickvals=[*ticks], ticktext=[*ticks.values()], range=room)
    return result.add_vline(x=places[walk.l2.index(strength)], line={"color": g.INK, "width": 1.5})


def _places(walk: RidgeToMeans) -> list[float]:
    """Return where strengths stand on the axis: their decades, infinity one beyond the last."""
    finite = [math.log10(one) for one in walk.l2 if math.isfinite(one)]
    return [*finite, *[max(finite, default=-1.0) + 1] * (len(walk.l2) - len(finite))]


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
