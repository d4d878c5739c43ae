"""Figures of sound: waveforms and log-mel spectrograms on shared scales, so that clips can be compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from workbench.errors import AudioError
from workbench.show.colours import colours_of_clips
from workbench.show.plots.grammar import SEQUENTIAL, figure, scale_bar
from workbench.show.spectrum import FLOOR_DB, HOP_S, log_mel, mel_frequencies, outline

if TYPE_CHECKING:
    from workbench.sound.clip import Clip


def waveform(clips: Mapping[str, Clip]) -> go.Figure:
    """Return the waveforms of named `clips`, one below the other, on one amplitude scale (full scale = 1)."""
    result = _stacked(clips, "How do the waveforms differ?", row_height=130)
    colours = colours_of_clips(clips)
    for row, (name, clip) in enumerate(clips.items(), start=1):
        edges = outline(clip, columns=800)
        times = np.repeat(np.linspace(0, clip.seconds, len(edges)), 2)
        result.add_trace(
            go.Scatter(
                x=times,
                y=edges.reshape(-1),
                mode="lines",
                name=name,
                showlegend=False,
                line={"width": 1, "color": colours[name]},
                hoverinfo="skip",
            ),
            row=row,
            col=1,
        )
    reach = max(float(np.abs(clip.samples).max()) for clip in clips.values()) or 1.0
    result.update_yaxes(range=[-reach * 1.05, reach * 1.05], nticks=5)
    result.update_yaxes(title={"text": "amplitude"}, row=(len(clips) + 1) // 2, col=1)
    return result


def spectrogram(clips: Mapping[str, Clip]) -> go.Figure:
    """Return the log-mel spectrograms of named `clips`, below each other, on one dB scale and one clock."""
    result = _stacked(clips, "Where in pitch does the energy lie?", row_height=190)
    for row, (name, clip) in enumerate(clips.items(), start=1):
        levels = log_mel(clip)
        result.add_trace(
            go.Heatmap(
                z=levels,
                x=np.arange(levels.shape[1]) * HOP_S,
                y=mel_frequencies(clip.rate_hz, len(levels)),
                zmin=FLOOR_DB,
                zmax=0,
                colorscale=SEQUENTIAL,
                name=name,
                showscale=row == 1,
                colorbar=scale_bar("level (dB)"),
                hovertemplate="%{x:.2f} s, %{y:.0f} Hz: %{z:.0f} dB<extra></extra>",
            ),
            row=row,
            col=1,
        )
    result.update_yaxes(type="log", tickvals=[100, 300, 1000, 3000, 10000], showgrid=False)
    result.update_xaxes(showgrid=False)
    result.update_yaxes(title={"text": "frequency (Hz)"}, row=(len(clips) + 1) // 2, col=1)
    return result


def _stacked(clips: Mapping[str, Clip], question: str, *, row_height: int) -> go.Figure:
    """Return empty rows, one per clip, that share the time axis and are titled with the clips' names."""
    if not clips:
        raise AudioError("Clips were to be drawn", "none were given", "Pass names and clips")
    plain = figure(question, x="", y="")
    rows = len(clips)
    result = make_subplots(
        rows=rows, cols=1, shared_xaxes=True, vertical_spacing=0.24 / (rows + 1), subplot_titles=list(clips)
    )
    result.update_layout(plain.layout)
    for note in result.layout.annotations:
        note.update(x=0, xanchor="left", font={"size": 13})
    result.update_layout(height=110 + row_height * rows, showlegend=False, margin={"t": 84})
    axis = plain.layout.xaxis.to_plotly_json()
    axis.pop("title")
    result.update_xaxes(**axis)
    result.update_yaxes(**axis)
    result.update_xaxes(title={"text": "time (s)"}, row=rows, col=1)
    return result
