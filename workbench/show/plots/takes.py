"""Figures of takes beside each other: what a probe read in each while it was made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from workbench.errors import EvidenceError
from workbench.show.colours import colours_of_clips
from workbench.show.plots.grammar import INK, figure

if TYPE_CHECKING:
    from workbench.generation.take import ProbeTrace

MEAN_S = 0.5
"""Seconds of readings that the drawn line averages; the readings themselves are drawn faint."""
DASHES = ("solid", "dot", "dashdot", "longdash", "longdashdot")
LEFT, RIGHT = 152, 66
"""Pixels left and right of a waveform in the comparison player, so that figure and player share a clock."""


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
