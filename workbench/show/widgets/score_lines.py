"""What probes read while music plays, as a small picture: cheap enough to be drawn anew every second."""

from __future__ import annotations

import html
from collections.abc import Sequence

from workbench.generation.live_figures import Score
from workbench.show.colours import colours_for

SHOWN_S = 60.0
_WIDTH, _HEIGHT = 420, 90


def score_lines(scores: Sequence[Score]) -> str:
    """Return HTML: per probe a line for each class over the last minute, and what it reads now, in words."""
    targets = dict.fromkeys(score.target for score in scores)
    return "".join(_picture([score for score in scores if score.target == name]) for name in targets)


def _picture(scores: Sequence[Score]) -> str:
    last = scores[-1]
    begin = max(0.0, last.seconds - SHOWN_S)
    shown = [score for score in scores if score.seconds >= begin]
    shades = colours_for(last.probabilities)
    lines = "".join(_line(shown, name, shades[name], begin) for name in last.probabilities)
    told = ", ".join(
        f"<span style='border-left: 5px solid {shades[name]}; padding: 0 5px'>"
        f"{html.escape(name)} {share:.0%}</span>"
        for name, share in sorted(last.probabilities.items(), key=lambda item: -item[1])
    )
    title = f"What does the probe hear? ({html.escape(last.target)}, the last minute)"
    return (
        f"<div class='wb-note'><b>{title}</b><br>"
        f"<svg role='img' aria-label='{title}' viewBox='0 0 {_WIDTH} {_HEIGHT}' "
        f"style='width: min(100%, {_WIDTH}px); border: 1px solid #bbb; background: white'>{lines}"
        f"<text x='3' y='11' font-size='10'>100 %</text>"
        f"<text x='3' y='{_HEIGHT - 3}' font-size='10'>0 %</text>"
        f"<text x='{_WIDTH - 3}' y='11' font-size='10' text-anchor='end'>{begin + SHOWN_S:.0f} s</text></svg>"
        f"<br>{told}</div>"
    )


def _line(scores: Sequence[Score], name: str, colour: str, begin: float) -> str:
    """One class over time: probability 1 is the top edge."""
    points = " ".join(
        f"{(score.seconds - begin) / SHOWN_S * _WIDTH:.0f},{(1 - score.probabilities[name]) * _HEIGHT:.0f}"
        for score in scores
    )
    return f"<polyline fill='none' stroke='{colour}' stroke-width='2' points='{points}'/>"
