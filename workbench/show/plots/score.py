"""Piano rolls: what each part of a band plays, and when."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import plotly.graph_objects as go

from workbench.model.band import FRAME_RATE_HZ
from workbench.model.score import DRUM_HITS, SOUNDING
from workbench.show.colours import colours_for
from workbench.show.plots.grammar import figure
from workbench.show.plots.takes import LEFT, RIGHT

if TYPE_CHECKING:
    from workbench.model.band import Note
    from workbench.model.score import Score

_NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
_DRUM_SHARE = 0.3  # of the height


def piano_roll(score: Score, *, name: str = "", seconds: float | None = None) -> go.Figure:
    """Return the notes of a score as bars over time, a colour per part; drums below, a row per hit.

    Args:
        score: The notes.
        name: Of the take, for the title.
        seconds: Length of the time axis; by default the score's.
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
    result.update_yaxes(automargin=False)
    result.update_xaxes(range=[0, seconds or max(score.seconds, 0.1)], automargin=False)
    result.update_layout(
        margin={"l": LEFT, "r": RIGHT, "t": 90},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
    )
    return result


def _bars(part: str, notes: Sequence[Note], rows: Sequence[int], colour: str) -> go.Scatter:
    """Return a thick line per note, broken between notes."""
    x: list[float | None] = []
    y: list[int | None] = []
    told: list[str] = []
    for note, row in zip(notes, rows, strict=True):
        name = DRUM_HITS.get(note.pitch, "") if part == "drums" else _named(note.pitch)
        x += [note.start / FRAME_RATE_HZ, (note.start + note.length) / FRAME_RATE_HZ, None]
        y += [row, row, None]
        told += [f"{name}, {note.instrument}, velocity {note.velocity}"] * 3
    return go.Scatter(
        x=x, y=y, mode="lines", line={"color": colour, "width": 6}, name=part, text=told, connectgaps=False,
        hovertemplate="%{x:.2f} s: %{text}<extra>%{fullData.name}</extra>",
    )  # fmt: skip


def _named(pitch: int) -> str:
    return f"{_NAMES[pitch % 12]}{pitch // 12 - 1}"
