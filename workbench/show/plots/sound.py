"""Figures of sound on shared scales, so that clips can be compared: waveforms, spectrograms, piano rolls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from workbench.errors import AudioError
from workbench.model.band import DRUM_HITS, FRAME_RATE_HZ, SOUNDING
from workbench.show.plots.grammar import (
    SEQUENTIAL,
    colours_for,
    colours_of_clips,
    figure,
    on_player_clock,
    scale_bar,
)

if TYPE_CHECKING:
    from workbench.generation.score import Score
    from workbench.model.band import Note
    from workbench.sound.clip import Clip

FLOOR_DB = -80.0  # 80 dB below full scale is drawn as silence
HOP_S = 0.02


def log_mel(clip: Clip, *, bands: int = 64) -> np.ndarray:
    """Return (bands, frames) float32 in dB below a full-scale sine, within FLOOR_DB..0, one frame per HOP_S.

    The reference is fixed, so that two clips drawn side by side can be compared.
    """
    import librosa  # slow to import, and many never look

    window = 2048 if clip.rate_hz >= 22_050 else 1024
    hop = max(1, round(HOP_S * clip.rate_hz))
    samples = np.asarray(clip.samples, dtype=np.float32)
    power = librosa.feature.melspectrogram(
        y=samples, sr=clip.rate_hz, n_fft=window, hop_length=hop, n_mels=bands, fmin=30.0, norm=None
    )
    full_scale = (window / 4) ** 2  # power of a full-scale sine in its bin under a Hann window
    decibels = 10 * np.log10(np.maximum(power / full_scale, 1e-12))
    return np.asarray(np.clip(decibels, FLOOR_DB, 0), dtype=np.float32)


def mel_frequencies(rate_hz: int, bands: int = 64) -> np.ndarray:
    """Return the (bands,) centre frequencies of `log_mel` in Hz."""
    import librosa

    edges = librosa.mel_frequencies(n_mels=bands + 2, fmin=30.0, fmax=rate_hz / 2)
    return np.asarray(edges[1:-1], dtype=np.float32)


def outline(clip: Clip, *, columns: int = 600) -> np.ndarray:
    """Return (columns, 2) float32: lowest and highest sample of each of `columns` equal stretches."""
    samples = np.asarray(clip.samples, dtype=np.float32)
    edges = np.linspace(0, len(samples), columns + 1).astype(int)
    starts = np.minimum(edges[:-1], len(samples) - 1)
    low, high = np.minimum.reduceat(samples, starts), np.maximum.reduceat(samples, starts)
    return np.stack([low, high], axis=1)


def waveform(clips: Mapping[str, Clip]) -> go.Figure:
    """Return the waveforms of named `clips`, one below the other, on one amplitude scale (full scale = 1)."""
    result = _stacked(clips, "How do the waveforms differ?", row_height=130)
    colours = colours_of_clips(clips)
    for row, (name, clip) in enumerate(clips.items(), start=1):
        edges = outline(clip, columns=800)
        times = np.repeat(np.linspace(0, clip.seconds, len(edges)), 2)
        look = {"mode": "lines", "line": {"width": 1, "color": colours[name]}, "hoverinfo": "skip"}
        line = go.Scatter(x=times, y=edges.reshape(-1), name=name, showlegend=False, **look)
        result.add_trace(line, row=row, col=1)
    reach = max(float(np.abs(clip.samples).max()) for clip in clips.values()) or 1.0
    result.update_yaxes(range=[-reach * 1.05, reach * 1.05], nticks=5)
    result.update_yaxes(title={"text": "amplitude"}, row=(len(clips) + 1) // 2, col=1)
    return result


def spectrogram(clips: Mapping[str, Clip]) -> go.Figure:
    """Return the log-mel spectrograms of named `clips`, below each other, on one dB scale and one clock."""
    result = _stacked(clips, "Where in pitch does the energy lie?", row_height=190)
    for row, (name, clip) in enumerate(clips.items(), start=1):
        levels = log_mel(clip)
        picture = go.Heatmap(
            z=levels, x=np.arange(levels.shape[1]) * HOP_S, y=mel_frequencies(clip.rate_hz, len(levels)),
            zmin=FLOOR_DB, zmax=0, colorscale=SEQUENTIAL, colorbar=scale_bar("level (dB)"), name=name,
            showscale=row == 1, hovertemplate="%{x:.2f} s, %{y:.0f} Hz: %{z:.0f} dB<extra></extra>",
        )  # fmt: skip
        result.add_trace(picture, row=row, col=1)
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


_NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
_DRUM_SHARE = 0.3  # of the height


def piano_roll(score: Score, *, name: str = "", seconds: float | None = None) -> go.Figure:
    """Return the notes of a score as bars over time, a colour per part; drums below, a row per hit.

    Args:
        score: the notes.
        name: of the take, for the title.
        seconds: length of the time axis; by default the score's.
    """
    question = f"What does each part of {name} play?" if name else "What does each part play?"
    result = figure(question, x="seconds", y="pitch", height=460)
    colours = colours_for(SOUNDING)
    drummed = sorted({note.pitch for note in score.notes if note.part == "drums"})
    pitched = sorted({note.pitch for note in score.notes if note.part != "drums"})
    for part in SOUNDING:
        notes = [note for note in score.notes if note.part == part]
        if not notes:
            continue
        drums = part == "drums"
        rows = [drummed.index(note.pitch) if drums else note.pitch for note in notes]
        result.add_trace(_bars(part, notes, rows, colours[part]).update(yaxis="y2" if drums else "y"))
    above = (_DRUM_SHARE + 0.05 if drummed else 0.0, 1.0)
    ticks = [pitch for pitch in range(128) if pitch % 12 == 0 and pitched and pitched[0] - 12 < pitch]
    names = [f"C{pitch // 12 - 1}" for pitch in ticks]
    reach = [pitched[0] - 2, pitched[-1] + 2] if pitched else [48, 72]
    result.update_yaxes(domain=above, tickvals=ticks, ticktext=names, range=reach)
    if drummed:
        hits = [DRUM_HITS.get(pitch, str(pitch)) for pitch in drummed]
        below = result.layout.yaxis.to_plotly_json()
        result.update_layout(
            yaxis2={
                **below, "domain": [0, _DRUM_SHARE], "tickvals": list(range(len(hits))), "ticktext": hits,
                "range": [-0.7, len(hits) - 0.3], "title": {"text": ""},
            },
            xaxis={"anchor": "y2"},
        )  # fmt: skip
    return on_player_clock(result, seconds or max(score.seconds, 0.1))


def _bars(part: str, notes: Sequence[Note], rows: Sequence[int], colour: str) -> go.Scatter:
    """Return a thick line per note, broken between notes."""
    x: list[float | None] = []
    y: list[int | None] = []
    words: list[str] = []
    for note, row in zip(notes, rows, strict=True):
        name = f"{_NAMES[note.pitch % 12]}{note.pitch // 12 - 1}"
        if part == "drums":
            name = DRUM_HITS.get(note.pitch, "")
        x += [note.start / FRAME_RATE_HZ, (note.start + note.length) / FRAME_RATE_HZ, None]
        y += [row, row, None]
        words += [f"{name}, {note.instrument}, velocity {note.velocity}"] * 3
    return go.Scatter(
        x=x, y=y, mode="lines", line={"color": colour, "width": 6}, name=part, text=words, connectgaps=False,
        hovertemplate="%{x:.2f} s: %{text}<extra>%{fullData.name}</extra>",
    )  # fmt: skip
