"""Figures about steering: what a dose does, and what the judge hears before and after."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from workbench.errors import EvidenceError
from workbench.show.plots.grammar import (
    DIVERGING,
    INK,
    LEFT,
    RIGHT,
    SEQUENTIAL,
    UNSTEERED,
    colours_for,
    colours_of_clips,
    figure,
    scale_bar,
)
from workbench.sound.dataset import in_order

if TYPE_CHECKING:
    from workbench.evidence.crosstalk import BlendCurve, Crosstalk
    from workbench.generation.take import ProbeTrace

# Figures of takes beside each other: what a probe read in each while it was made.


MEAN_S = 0.5
"""Seconds of readings that the drawn line averages; the readings themselves are drawn faint."""
DASHES = ("solid", "dot", "dashdot", "longdash", "longdashdot")


def take_scores(traces: Mapping[str, ProbeTrace], class_: str, *, seconds: float) -> go.Figure:
    """Return P(class) along several takes, a line per take in its colour in the player.

    Args:
        traces: name of the take -> what one probe read in it.
        class_: one of that probe's classes.
        seconds: the length of the time axis, that of the longest clip in the player.

    Raises:
        EvidenceError: there is no trace, or one does not know the class.
    """
    if not traces or any(class_ not in trace.classes for trace in traces.values()):
        raise EvidenceError(
            f"The readings of {class_!r} were to be drawn",
            f"the traces know {', '.join(sorted({c for t in traces.values() for c in t.classes}))}",
            "Pass traces of one probe, and one of its classes",
        )
    first = next(iter(traces.values()))
    chance = 1 / len(first.classes)
    result = figure(
        f"When does the probe read {class_}?",
        x="seconds",
        y=f"P({class_})",
        note=f"{first.target}, layer {first.layer}; means of {MEAN_S} s over single readings; "
        f"dashed: an even guess, {chance:.0%}.",
        height=300,
    )
    styles = _styles(traces)
    for name, trace in traces.items():
        read = np.asarray(trace.probabilities)[:, trace.classes.index(class_)]
        for line in _lines(name, np.asarray(trace.seconds), read, styles[name]):
            result.add_trace(line)
    result.add_hline(y=chance, line={"dash": "dash", "color": INK, "width": 1.5})
    result.update_yaxes(range=[-0.02, 1.04], tickformat=".0%", automargin=False)
    result.update_xaxes(range=[0, seconds], automargin=False)
    result.update_layout(
        margin={"l": LEFT, "r": RIGHT, "t": 100},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
    )
    return result


def _styles(names: Mapping[str, object]) -> dict[str, dict[str, Any]]:
    """Return a line style per take; takes that share a colour differ in their dashes."""
    colours = colours_of_clips(names)
    shades = list(colours.values())
    return {
        name: {"color": colour, "dash": DASHES[shades[:place].count(colour) % len(DASHES)], "width": 2.5}
        for place, (name, colour) in enumerate(colours.items())
    }


def _lines(name: str, seconds: np.ndarray, read: np.ndarray, style: dict[str, Any]) -> list[go.Scatter]:
    """Return the faint line of the readings and the strong one of their running mean."""
    apart = float(np.diff(seconds).mean()) if len(seconds) > 1 else 1.0
    width = min(len(read), max(1, round(MEAN_S / apart)))
    counts = np.convolve(np.ones(len(read)), np.ones(width), "same")
    mean = np.convolve(read, np.ones(width), "same") / counts
    faint = {"color": style["color"], "width": 1}
    return [
        go.Scatter(
            x=seconds, y=read, mode="lines", line=faint, opacity=0.3, hoverinfo="skip", showlegend=False,
            legendgroup=name,
        ),
        go.Scatter(
            x=seconds, y=mean, mode="lines", line=style, name=name, legendgroup=name,
            hovertemplate="%{x:.2f} s: %{y:.0%}<extra>%{fullData.name}</extra>",
        ),
    ]  # fmt: skip


HATCHES = ("", "/", ".", "x")
NEEDED = ("dose", "hit_rate", "low", "high")


def dose_response(table: pd.DataFrame, *, chance: float | None = None) -> go.Figure:
    """Return the hit rate over the dose, a line per genre with its 95 % interval, and the random directions.

    Args:
        table: one row per measurement: dose (multiples of the layer's mean residual norm R), hit_rate, low,
            high (all 0-1); optional `genre` (one line each) and `kind` ("steered" or "random", the control of
            equal norm, drawn grey and dotted).
        chance: the judge's chance level, drawn dashed.

    Raises:
        EvidenceError: a column is missing or the table is empty.
    """
    missing = [name for name in NEEDED if name not in table]
    if missing or table.empty:
        raise EvidenceError(
            "A dose-response figure was asked for",
            f"the table has {len(table)} rows and lacks {missing}",
            "Pass the table of a dose sweep",
        )
    genre = table["genre"].astype(str) if "genre" in table else pd.Series("steered", index=table.index)
    kind = table["kind"].astype(str) if "kind" in table else pd.Series("steered", index=table.index)
    result = figure(
        "How much steering does it take to change the genre?",
        y="hit rate",
        x="dose (multiples of the layer's mean residual norm)",
        note="Share of clips that the judge hears as the wanted genre; bars are 95 % intervals.",
    )
    colours = colours_for(genre)
    for (who, what), rows in table.groupby([genre, kind], sort=True):
        line = _dose_line(rows.sort_values("dose"), str(who), colours[str(who)], random=what == "random")
        result.add_trace(line)
    if chance is not None:
        _add_chance(result, table["dose"], chance)
    result.update_yaxes(range=[-0.03, 1.05], tickformat=".0%")
    return result


def _dose_line(rows: pd.DataFrame, name: str, colour: str, *, random: bool) -> go.Scatter:
    """Return one line with asymmetric 95 % bars; the control is dotted and grey."""
    ink = UNSTEERED if random else colour
    return go.Scatter(
        x=rows["dose"].tolist(),
        y=rows["hit_rate"].tolist(),
        mode="lines+markers",
        name=f"{name}: random direction" if random else name,
        line={"color": ink, "width": 1.8 if random else 2.5, "dash": "dot" if random else "solid"},
        marker={"size": 7 if random else 9, "symbol": "x" if random else "circle"},
        error_y={
            "type": "data",
            "symmetric": False,
            "array": (rows["high"] - rows["hit_rate"]).tolist(),
            "arrayminus": (rows["hit_rate"] - rows["low"]).tolist(),
            "thickness": 1.5,
            "width": 4,
        },
        hovertemplate="dose %{x}: %{y:.0%}<extra>%{fullData.name}</extra>",
    )


def _add_chance(result: go.Figure, doses: pd.Series[float], chance: float) -> None:
    ends = [float(doses.min()), float(doses.max())]
    result.add_trace(
        go.Scatter(
            x=ends,
            y=[chance, chance],
            mode="lines",
            name="chance",
            hoverinfo="name+y",
            line={"color": "#222222", "dash": "dash", "width": 1.5},
        )
    )


def judged_genres(
    probabilities: Mapping[str, Mapping[str, float]], *, wanted: str | None = None, target: str = "genre"
) -> go.Figure:
    """Return what the judge hears in each clip: bars per genre, in the colour of the clip in the player.

    Args:
        probabilities: clip name -> {genre: probability 0-1}; all clips share their genres.
        wanted: the genre steered towards; its bars are outlined in black.
        target: what the judge tells apart, where it is not the genre.

    Raises:
        EvidenceError: nothing is given, or clips have different genres.
    """
    genres = _judged(probabilities)
    note = "A judge that hears audio only, never the model's activations."
    result = figure(_question(target), x=target, y="probability", note=note, height=340)
    colours = colours_of_clips(probabilities)
    shades = list(colours.values())
    for place, (clip, colour) in enumerate(colours.items()):
        values = probabilities[clip]
        hatch = HATCHES[shades[:place].count(colour) % len(HATCHES)]  # clips of one colour stay apart
        edge = [2.5 if genre == wanted else 0 for genre in genres]
        result.add_trace(
            go.Bar(
                x=genres,
                y=[values[genre] for genre in genres],
                name=clip,
                marker={
                    "color": colour,
                    "line": {"width": edge, "color": "#222222"},
                    "pattern": {"shape": hatch, "fillmode": "overlay", "fgcolor": "white", "size": 7},
                },
                text=[f"{values[genre]:.0%}" for genre in genres],
                textposition="outside",
                cliponaxis=False,
                hovertemplate="%{x}: %{y:.1%}<extra>%{fullData.name}</extra>",
            )
        )
    result.update_layout(barmode="group", bargap=0.25, bargroupgap=0.05)
    result.update_yaxes(range=[0, 1.12], tickformat=".0%", tickvals=[0, 0.25, 0.5, 0.75, 1])
    return result


def judged_table(probabilities: Mapping[str, Mapping[str, float]], *, target: str = "genre") -> go.Figure:
    """Return what the judge hears in each clip as a table of shades: for more clips than bars can show.

    Args:
        probabilities: clip name -> {genre: probability 0-1}; all clips share their genres.
        target: what the judge tells apart, where it is not the genre.

    Raises:
        EvidenceError: nothing is given, or clips have different genres.
    """
    genres, clips = _judged(probabilities), list(probabilities)
    result = figure(
        _question(target).replace("?", " in each clip?"),
        x="heard as",
        y="",
        note="A judge that hears audio only, never the model's activations; each row sums to 100 %.",
        height=170 + 36 * len(clips),
    )
    result.add_trace(
        go.Heatmap(
            z=[[probabilities[clip][genre] for genre in genres] for clip in clips],
            x=genres,
            y=clips,
            zmin=0,
            zmax=1,
            colorscale=SEQUENTIAL,
            xgap=2,
            ygap=2,
            texttemplate="%{z:.0%}",
            textfont={"size": 13},
            hovertemplate="%{y} is heard as %{x}: %{z:.1%}<extra></extra>",
            colorbar=scale_bar("probability", tickformat=".0%"),
        )
    )
    result.update_yaxes(autorange="reversed")
    return result


def _question(target: str) -> str:
    return "What does the judge hear?" if target == "genre" else f"What does the judge of {target} hear?"


def _judged(probabilities: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return the genres that all clips share, in rising order."""
    genres = list(in_order(genre for values in probabilities.values() for genre in values))
    if not genres or any(set(values) != set(genres) for values in probabilities.values()):
        raise EvidenceError(
            "Judged genres were to be drawn",
            f"the clips carry {dict(probabilities)}",
            "Pass the same genres for every clip",
        )
    return genres


# Figures that compare plans: what every judge hears under each, and what a blend becomes.


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
        note="Change of the judge's probability against the unsteered baseline; aims are framed, "
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


def blend_line(value: BlendCurve) -> go.Figure:
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
