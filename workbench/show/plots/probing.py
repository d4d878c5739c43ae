"""Figures about probes: accuracy per layer, and which class is taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from workbench.errors import ProbeError
from workbench.show.colours import GENRE_COLOURS, UNSTEERED
from workbench.show.plots.grammar import INK, SEQUENTIAL, band, figure, scale_bar

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
