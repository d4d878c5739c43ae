"""Spectrograms and piano rolls of real, prompted and steered clips of each genre, for the model card."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from workbench.model.band import FRAME_RATE_HZ, PARTS, read_score
from workbench.show.plots.sound import FLOOR_DB, log_mel, mel_frequencies
from workbench.sound import Clip, read_clip

COLUMNS = ("real", "prompted", "steered")
_PANEL = (330, 128)  # width, height in pixels
_LEFT, _TOP, _GAP, _FOOT = 130, 28, 14, 58  # names and Hz, titles, between panels, seconds and scale
_FONT = 13
_SHADES = 32  # so few keep the file small and are more than the eye tells apart here
SECONDS = 5.0
_PITCHES = (96, 28)  # highest and lowest of a piano roll
_HITS = (36, 37, 38, 39, 42, 43, 44, 46, 47, 49, 50, 51)
# one a part; distinguishable by most colour-blind people
_PARTS = (
    (119, 119, 119), (30, 30, 30), (204, 187, 68), (0, 114, 178), (0, 158, 115), (204, 121, 167),
    (213, 94, 0),
)  # fmt: skip
_TICKS_HZ = (100, 500, 2000, 6000)
# dark to light through purple and orange, so that louder is lighter also in grey
_ANCHORS = ((8, 6, 30), (74, 16, 100), (150, 40, 98), (218, 86, 58), (250, 160, 44), (252, 250, 180))


def draw_spectrograms(out: Path, genres: Sequence[str], path: Path) -> Path | None:
    """Write one PNG with the first clip of each genre (rows) of each kind (columns); None without any clip.

    The first by name, not the best: nothing was picked.

    Args:
        out: folder with ``<kind>/<genre>/*.wav``.
        genres: rows.
        path: of the PNG.
    """

    def panel(page: Any, draw: Any, file: Path, corner: tuple[int, int], *, labelled: bool) -> None:
        _panel(page, draw, read_clip(file), corner, labelled=labelled)

    return _draw(out, genres, path, files="*.wav", palette=_palette(), panel=panel, foot=_scale)


def draw_rolls(out: Path, genres: Sequence[str], path: Path) -> Path | None:
    """Write one PNG with piano rolls of the same clips, from the codes ``<kind>/<genre>/*.npy``."""
    return _draw(out, genres, path, files="*.npy", palette=_colours(), panel=_roll, foot=_legend)


def _draw(
    out: Path,
    genres: Sequence[str],
    path: Path,
    *,
    files: str,
    palette: list[int],
    panel: Callable[..., None],
    foot: Callable[[Any, int], None],
) -> Path | None:
    from PIL import Image, ImageDraw, ImageFont

    found = {(g, kind): sorted((out / kind / g).glob(files))[:1] for g in genres for kind in COLUMNS}
    if not any(found.values()):
        return None
    size = (_LEFT + len(COLUMNS) * (_PANEL[0] + _GAP), _TOP + len(genres) * (_PANEL[1] + _GAP) + _FOOT)
    page = Image.new("P", size, 0)
    page.putpalette(palette)
    draw = ImageDraw.Draw(page)
    draw.font = ImageFont.load_default(_FONT)
    draw.fontmode = "1"  # hard edges: a palette has no greys to smooth them with
    for row, genre in enumerate(genres):
        y = _TOP + row * (_PANEL[1] + _GAP)
        draw.text((6, y + _PANEL[1] // 2), genre, fill=1, anchor="lm")
        for column, kind in enumerate(COLUMNS):
            x = _LEFT + column * (_PANEL[0] + _GAP)
            for file in found[genre, kind]:
                panel(page, draw, file, (x, y), labelled=column == 0)
    foot(draw, _frame(draw, len(genres)))
    path.parent.mkdir(parents=True, exist_ok=True)
    page.save(path, optimize=True)
    return path


def _panel(page: Any, draw: Any, clip: Clip, corner: tuple[int, int], *, labelled: bool) -> None:
    """Draw one spectrogram at a corner, with its frequencies where it is labelled."""
    from PIL import Image

    levels = log_mel(clip, bands=_PANEL[1] // 2)[::-1]
    shades = ((levels - FLOOR_DB) / -FLOOR_DB * (_SHADES - 1)).round().astype(np.uint8) + 2
    page.paste(Image.fromarray(shades).resize(_PANEL, Image.Resampling.NEAREST), corner)
    if not labelled:
        return
    centres = mel_frequencies(clip.rate_hz, _PANEL[1] // 2)
    for hertz in _TICKS_HZ:
        if hertz > centres[-1]:
            continue
        place = float(np.interp(hertz, centres, np.arange(len(centres)))) / (len(centres) - 1)
        y = corner[1] + round((1 - place) * (_PANEL[1] - 1))
        name = f"{hertz / 1000:g} kHz" if hertz >= 1000 else f"{hertz} Hz"
        draw.line([(corner[0] - 4, y), (corner[0] - 1, y)], fill=1)
        draw.text((corner[0] - 6, y), name, fill=1, anchor="rm")


def _roll(_page: Any, draw: Any, file: Path, corner: tuple[int, int], *, labelled: bool) -> None:
    """Draw the notes of codes at a corner, higher notes higher; drum hits in a strip below."""
    codes = np.load(file)
    across = _PANEL[0] / (SECONDS * FRAME_RATE_HZ)
    draw.rectangle([corner, (corner[0] + _PANEL[0] - 1, corner[1] + _PANEL[1] - 1)], fill=2)
    for note in read_score(codes[:, : round(SECONDS * FRAME_RATE_HZ)]):
        x = corner[0] + round(note.start * across)
        if note.part == "drums":
            y = corner[1] + _PANEL[1] - 4 - 2 * (_HITS.index(note.pitch) if note.pitch in _HITS else 0)
            draw.rectangle([(x, y), (x + 1, y + 1)], fill=3 + PARTS.index(note.part))
            continue
        high, low = _PITCHES
        y = corner[1] + round((high - note.pitch) / (high - low) * (_PANEL[1] - 32))
        end = max(x + 1, corner[0] + round((note.start + note.length) * across) - 1)
        draw.rectangle([(x, y), (end, y + 1)], fill=3 + PARTS.index(note.part))
    if labelled:
        for pitch, name in ((84, "C6"), (60, "C4"), (36, "C2")):
            y = corner[1] + round((_PITCHES[0] - pitch) / (_PITCHES[0] - _PITCHES[1]) * (_PANEL[1] - 32))
            draw.line([(corner[0] - 4, y), (corner[0] - 1, y)], fill=1)
            draw.text((corner[0] - 6, y), name, fill=1, anchor="rm")
        draw.text((corner[0] - 6, corner[1] + _PANEL[1] - 12), "drums", fill=1, anchor="rm")


def _colours() -> list[int]:
    """Return paper, ink, ground and a colour a part, as a palette."""
    return [value for colour in ((255, 255, 255), (30, 30, 30), (244, 244, 244), *_PARTS) for value in colour]


def _legend(draw: Any, bottom: int) -> None:
    """Write which colour is which part."""
    x = _LEFT
    for number, part in enumerate(PARTS):
        if part != "conductor":
            draw.rectangle([(x, bottom + 48), (x + 12, bottom + 56)], fill=3 + number)
            draw.text((x + 17, bottom + 52), part, fill=1, anchor="lm")
            x += 40 + 7 * len(part)


def _frame(draw: Any, rows: int) -> int:
    """Write titles and seconds; return where the panels end."""
    bottom = _TOP + rows * (_PANEL[1] + _GAP) - _GAP
    for column, kind in enumerate(COLUMNS):
        x = _LEFT + column * (_PANEL[0] + _GAP)
        title = {"real": "real (decoded piece)", "prompted": "prompted", "steered": "steered, neutral prompt"}
        draw.text((x + _PANEL[0] / 2, 7), title[kind], fill=1, anchor="mt")
        for second in range(6):
            place = x + second / 5 * (_PANEL[0] - 1)
            draw.line([(place, bottom), (place, bottom + 3)], fill=1)
            draw.text((place, bottom + 5), str(second), fill=1, anchor="mt")
        draw.text((x + _PANEL[0] / 2, bottom + 22), "seconds", fill=1, anchor="mt")
    return bottom


def _scale(draw: Any, bottom: int) -> None:
    """Write the scale of levels."""
    for shade in range(_SHADES):
        x = _LEFT + 4 * shade
        draw.rectangle([(x, bottom + 46), (x + 3, bottom + 58)], fill=shade + 2)
    draw.text((_LEFT - 6, bottom + 52), f"{FLOOR_DB:g} dB", fill=1, anchor="rm")
    draw.text((_LEFT + 4 * _SHADES + 6, bottom + 52), "0 dB (a full-scale sine)", fill=1, anchor="lm")


def _palette() -> list[int]:
    """Return paper, ink, and the shades, as a palette."""
    shares = np.linspace(0, len(_ANCHORS) - 1, _SHADES)
    anchors = np.array(_ANCHORS, float)
    shades = [np.interp(shares, np.arange(len(anchors)), anchors[:, channel]) for channel in range(3)]
    colours = [(255, 255, 255), (30, 30, 30), *np.stack(shades, axis=1).round().astype(int).tolist()]
    return [int(value) for colour in colours for value in colour]
