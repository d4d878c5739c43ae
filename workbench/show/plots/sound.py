"""Sound to draw on shared scales, so that clips can be compared: mel levels, outlines, piano rolls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from workbench.model.band import DRUM_HITS, FRAME_RATE_HZ, SOUNDING
from workbench.show.plots import grammar as g

if TYPE_CHECKING:
    from workbench.generation.score import Score
    from workbench.model.band import Note
    from workbench.sound.clip import Clip

FLOOR_DB = -80.0  # 80 dB below full scale is drawn as silence
HOP_S = 0.02


def log_mel(clip: Clip, *, bands: int = 64) -> np.ndarray:
    """Return (bands, frames) float32 in dB below a full-scale sine, FLOOR_DB..0, a frame per HOP_S."""
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


_NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
_DRUM_SHARE = 0.3  # of the height


def piano_roll(score: Score, *, name: str = "", seconds: float | None = None) -> go.Figure:
    """Return the notes of a score as bars over `seconds`, a colour per part; drums below, a row per hit."""
    question = f"What does each part of {name} play?" if name else "What does each part play?"
    result = g.figure(question, x="seconds", y="pitch", height=460)
    colours = g.colours_for(SOUNDING)
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
    return g.on_player_clock(result, seconds or max(score.seconds, 0.1))


def _bars(part: str, notes: Sequence[Note], rows: Sequence[int], colour: str) -> go.Scatter:
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
