"""The training curves of the model card, from the log that training wrote, as one small SVG."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

Log = Sequence[dict[str, float]]
"""Lines of a training log, each with step, loss, one loss per codebook and minutes."""

_SIZE, _LEFT, _RIGHT, _TOP, _BOTTOM = (640, 300), 52, 110, 20, 40
_COLOURS = ("#1E1E1E", "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#777777")


def read_log(path: Path) -> list[dict[str, float]]:
    """Return the lines of a log: step, loss, one loss per codebook, minutes; with or without a header.

    Steps that were logged twice, because training was stopped between two checkpoints, keep the later line.
    """
    with path.open(newline="") as file:
        lines = [line for line in csv.reader(file) if line]
    if not lines:
        return []
    names = ["step", "loss", *(f"codebook {k}" for k in range(1, len(lines[0]) - 2)), "minutes"]
    if not lines[0][0].replace(".", "", 1).isdigit():
        names, lines = lines[0], lines[1:]
    rows = [dict(zip(names, map(float, line), strict=True)) for line in lines]
    return [row for _, row in sorted({row["step"]: row for row in rows}.items())]


def draw_curves(log: Log, path: Path) -> Path:
    """Write the losses of a log (at least one line) against its steps, and return the file's path."""
    names = [name for name in log[0] if name not in ("step", "minutes")]
    steps = np.array([line["step"] for line in log])
    values = np.array([[line[name] for name in names] for line in log])
    highest = float(np.ceil(values.max()))
    across = _LEFT + (steps - steps[0]) / max(1.0, steps[-1] - steps[0]) * (_SIZE[0] - _LEFT - _RIGHT)
    down = _height(values, highest)
    parts = _frame(highest, steps)
    for i, name in enumerate(names):
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across, down[:, i], strict=True))
        colour = _COLOURS[i % len(_COLOURS)]
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        parts.append(_text(name, _SIZE[0] - _RIGHT + 6, 34 + 18 * i, colour))
    path.write_text("\n".join([*parts, "</svg>"]) + "\n")
    return path


def _height(values: np.ndarray, highest: float) -> np.ndarray:
    """Return where values stand, in pixels from the top."""
    return np.asarray((_SIZE[1] - _BOTTOM) - values / highest * (_SIZE[1] - _BOTTOM - _TOP))


def _frame(highest: float, steps: np.ndarray) -> list[str]:
    """Return the head of the picture: grid lines and axes with their names."""
    width, height = _SIZE
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        'font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#FFFFFF"/>',
    ]
    for level in np.linspace(0, highest, 5):
        y = float(_height(level, highest))
        parts.append(f'<path d="M{_LEFT} {y:.1f}H{width - _RIGHT}" stroke="#DDDDDD"/>')
        parts.append(_text(f"{level:g}", _LEFT - 6, y + 4, anchor="end"))
    parts.append(_text(f"{steps[0]:g}", _LEFT, height - 22))
    parts.append(_text(f"{steps[-1]:g}", width - _RIGHT, height - 22, anchor="end"))
    parts.append(_text("training step", (_LEFT + width - _RIGHT) / 2, height - 8, anchor="middle"))
    turned = f'<g transform="rotate(-90 14 {height / 2})">'
    return [*parts, turned + _text("cross-entropy, nats", 14, height / 2, anchor="middle") + "</g>"]


def _text(words: str, x: float, y: float, colour: str = _COLOURS[0], *, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" text-anchor="{anchor}">{words}</text>'
