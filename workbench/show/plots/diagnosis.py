"""A figure for each diagnosis of a probe: `diagnosis_figure` knows which."""

from __future__ import annotations

from functools import singledispatch
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from workbench.errors import ProbeError
from workbench.probing import diagnosis as d
from workbench.show.plots import grammar as g
from workbench.show.plots.probing import BLUE, accuracy_per_layer, confusion, rows_from, shares


@singledispatch
def diagnosis_figure(value: Any) -> go.Figure:
    """Return the figure of what a function of `workbench.probing.diagnosis` returned, else a ProbeError."""
    found = f"a {type(value).__name__} was given"
    raise ProbeError("A figure of a diagnosis was asked for", found, "Pass what a diagnosis returned")


diagnosis_figure.register(d.AccuracyByLayer, lambda one: accuracy_per_layer(one.table(), target=one.target))
diagnosis_figure.register(d.Confusion, lambda one: confusion(one.counts))


@diagnosis_figure.register
def _(value: d.GroupLeak) -> go.Figure:
    rows = rows_from({"random split": value.random, f"{value.unit}s held out": value.grouped})
    note = f"The gap of {value.gap} is what clips of one {value.unit} on both sides are worth."
    return shares(rows, f"Does the probe know the {value.target} or the {value.unit}s?", note=note)


@diagnosis_figure.register
def _(value: d.ControlTask) -> go.Figure:
    rows = rows_from({f"true {value.target}": value.real, f"a random class per {value.unit}": value.control})
    note = f"Selectivity {value.selectivity}: how much better than any labelling of the same {value.unit}s."
    question = "Could the probe have learnt any labels as well?"
    return shares(rows, question, note=note, axis="random-split accuracy")


@diagnosis_figure.register
def _(value: d.TextLeak) -> go.Figure:
    rows = rows_from({f"{name} text": one for name, one in value.accuracy.items()})
    flipped = f"{value.flipped:.0%} of the clips are called what the wrong text names"
    note = f"{flipped}, {value.before:.0%} without it."
    return shares(rows, "Does the probe hear the music or read the prompt?", note=note)


@diagnosis_figure.register
def _(value: d.Confound) -> go.Figure:
    rows = rows_from(
        {
            f"{value.number} alone": value.alone,
            "probe, all clips": value.recall,
            f"probe, clips alike in {value.number}": value.matched,
        }
    )
    note = f"Read from the layer with R2 {value.readable.value:.2f}; matching costs {value.drop.value:.2f}."
    if not np.isfinite(value.drop.value):
        note = "Hardly any clips of different classes are alike in it: the two cannot be parted."
    question = f"Is it the {value.target} or {value.number}?"
    return shares(rows, question, chance=value.chance, note=note, axis="accuracy, mean recall")


@diagnosis_figure.register
def _(value: d.Baselines) -> go.Figure:
    rows = value.table().rename(columns={"features": "name", "accuracy": "value"})
    rows = rows.sort_values("value", ascending=False, kind="stable")
    question = f"What does the model add to what plain features tell of the {value.target}?"
    note = "The same splits and the same kind of probe for all."
    return shares(rows, question, marked=[f"layer {value.layer}"], note=note)


@diagnosis_figure.register
def _(value: d.Transfer) -> go.Figure:
    table = value.table()
    rows = table.assign(name=table["trained_on"] + " to " + table["tested_on"], value=table["accuracy"])
    return shares(rows, "Does a probe of one kind of music read the other?", note="Trained on, to tested on.")


@diagnosis_figure.register
def _(value: d.ClassImbalance) -> go.Figure:
    plain = {
        f"always {value.commonest}": value.majority,
        "mean recall of the classes": value.recall,
        "macro-F1": value.macro_f1,
    }
    others = pd.DataFrame([{"name": name, "value": v, "low": v, "high": v} for name, v in plain.items()])
    rows = pd.concat([rows_from({"accuracy": value.accuracy}), others], ignore_index=True)
    note = f"{value.balance}."
    return shares(rows, "Does accuracy flatter?", note=note, axis="share", marked=["accuracy"])


@diagnosis_figure.register
def _(value: d.Calibration) -> go.Figure:
    bins = value.table()
    question = "Are 80 % right of the clips that the probe is 80 % sure of?"
    note = f"ECE {value.ece:.3f}; perfect calibration would show {value.expected}."
    result = g.figure(question, x="confidence", y="held-out accuracy", note=note, shares=[0, 1.06])
    result.add_trace(g.dashed([0, 1], [0, 1], "perfect").update(hoverinfo="skip"))
    hover = "confidence %{x:.0%}: %{y:.0%} right of %{customdata} clips"
    sizes = {"size": 6 + 14 * np.sqrt(bins["clips"] / bins["clips"].max())}
    result.add_trace(_accuracies(bins, "confidence", hover, marker=sizes, customdata=bins["clips"]))
    return result.update_xaxes(range=[0, 1.03], tickformat=".0%")


@diagnosis_figure.register
def _(value: d.LearningCurve) -> go.Figure:
    points = value.table()
    across, note = f"{value.unit}s per class in training", f"The last doubling brought {value.rise}."
    question = f"Would more {value.unit}s help?"
    result = g.figure(question, x=across, y="held-out accuracy", note=note, shares=[0, 1.06])
    result.add_trace(_accuracies(points, "groups", "%{x:g}: %{y:.1%}"))
    ticks = [round(size, 1) for size in points["groups"]]
    names = [f"{tick:g}" for tick in ticks]
    return result.update_xaxes(type="log", tickmode="array", tickvals=ticks, ticktext=names)


def _accuracies(table: pd.DataFrame, across: str, hover: str, **more: Any) -> go.Scatter:
    accuracy = table["accuracy"]
    bars = g.interval(accuracy, table["low"], table["high"])
    return g.curve(table[across], accuracy, "probe, 95 % interval", BLUE, error_y=bars, hover=hover, **more)


@diagnosis_figure.register
def _(value: d.LabelNoise) -> go.Figure:
    table, share = value.table(), value.share
    likely = table["suspicion"] > 0.5
    note = (
        f"About {share.value:.0%} of the labels look flipped ({share.low:.0%} to {share.high:.0%}); "
        f"{int(likely.sum())} clips are suspects."
    )
    across = "held-out probability of the clip's own label"
    result = g.figure("Which labels can be believed?", x=across, y="clips", note=note)
    parts = ("believed", ~likely, g.UNSTEERED), ("suspect", likely, g.GENRE_COLOURS["rock"])
    for name, which, colour in parts:
        counts, edges = np.histogram(table["confidence"][which], bins=20, range=(0, 1))
        bars = go.Bar(x=(edges[:-1] + edges[1:]) / 2, y=counts, width=0.047, name=name, marker_color=colour)
        result.add_trace(bars)
    return result.update_layout(barmode="stack").update_xaxes(range=[0, 1], tickformat=".0%")


@diagnosis_figure.register
def _(value: d.DirectionStability) -> go.Figure:
    table = value.table()
    question = "Is it the same direction whichever groups are left out?"
    note = "Dots: mean over pairs of folds, bars reach to the lowest pair. 0.9 and more is stable."
    result = g.figure(question, x="cosine between folds", y="", note=note, height=150 + 40 * len(table))
    names = [str(name) for name in table["class"]]
    if table["layer"].nunique() > 1:
        names = [f"{name}, layer {layer}" for name, layer in zip(names, table["layer"], strict=True)]
    colours = g.colours_for(table["class"])
    result.add_trace(
        go.Scatter(
            x=table["cosine"], y=names, mode="markers", name="cosine", showlegend=False,
            marker={"size": 11, "color": [colours[str(name)] for name in table["class"]]},
            error_x={**g.interval(table["cosine"], table["lowest"], table["cosine"]), "color": g.INK},
            hovertemplate="%{y}: %{x:.2f}<extra></extra>",
        )
    )  # fmt: skip
    result.add_vline(x=0.9, line=dict(g.DASHED))
    return result.update_xaxes(range=[min(-0.05, float(table["lowest"].min()) - 0.05), 1.03])


def cosines(table: pd.DataFrame, question: str, *, axis: str) -> go.Figure:
    """Return (k, k) cosines as a heat map, -1 blue, 0 white, 1 orange; `axis` says what the names are."""
    names = [str(name) for name in table.index]
    result = g.figure(question, x=axis, y=axis, height=200 + 44 * len(names))
    look: dict[str, Any] = {"words": ".2f", "size": 12, "reach": 1.0, "tickformat": None}
    g.add_heat(result, table, names, names, "cosine", hover="%{y}, %{x}: %{z:.3f}", **look)
    return result.update_xaxes(type="category").update_yaxes(type="category")


def score_over_time(value: d.ScoreOverTime, clip: str) -> go.Figure:
    """Return P(class) along one clip (by its id, else a ProbeError), a line per class in its colour."""
    table = value.table(clip)
    question = f"When does the probe hear which {value.target}?"
    note = f"{clip}, layer {value.layer}; the dashed line is an even guess."
    result = g.figure(question, x="seconds", y="probability", note=note, height=320, shares=[-0.02, 1.04])
    for name, colour in g.colours_for(value.classes).items():
        trace = go.Scatter(x=table["seconds"], y=table[name], name=name, line={"color": colour, "width": 2})
        result.add_trace(trace)
    return result.add_hline(y=1 / len(value.classes), line=dict(g.DASHED))
