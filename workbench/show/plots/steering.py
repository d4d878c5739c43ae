"""Figures about steering: what a dose does, and what the judge hears before and after."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go

from workbench.errors import EvidenceError
from workbench.show.colours import UNSTEERED, colours_for, colours_of_clips
from workbench.show.plots.grammar import SEQUENTIAL, figure, scale_bar
from workbench.sound.labels import in_order

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
