"""What the codes of the kept clips show as music: stuck leads, a conductor that jumps, chords that change."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from recipe.evaluation.rows import Bar, Row, rate_row
from workbench.evidence.intervals import bootstrap
from workbench.model.band import (
    BEAT_FRAMES,
    FRAME_RATE_HZ,
    HOLD,
    PARTS,
    REST,
    beat_of,
    chord_of,
    conductor_token,
)

KINDS = ("real", "prompted", "unsteered", "steered", "random")
LONG_S = 2.0
STUCK, JUMPS, CHORDS = Bar(at_most=0.05), Bar(under=0.02), Bar(at_least=0.8)

Table = dict[str, dict[str, dict[str, float]]]
"""kind -> genre -> n, share of clips with a stuck lead, share of frames that jump, chord changes a second."""


def stuck_lead_seconds(codes: np.ndarray) -> float:
    """Return how long the longest tone of the lead is told to be held, in codes (parts, frames)."""
    longest = now = 0
    for token in codes[PARTS.index("lead")].tolist():
        now = 0 if token == REST else now + 1 if token == HOLD and now else 1 if token != HOLD else 0
        longest = max(longest, now)
    return longest / FRAME_RATE_HZ


def jumps(codes: np.ndarray) -> float:
    """Return the share of frames whose conductor does not follow on the one before; codes (parts, frames)."""
    told = codes[PARTS.index("conductor")].tolist()
    return float(np.mean([_next(before) != now for before, now in pairwise(told)]))


def _next(token: int) -> int:
    """Return the conductor's token that follows one; -1 after what is none."""
    beat = beat_of(token)
    return -1 if beat is None else conductor_token(beat[0], (beat[1] + 1) % (4 * BEAT_FRAMES[beat[0]]))


def chord_changes(codes: np.ndarray) -> float:
    """Return how often a second another chord is said, in codes (parts, frames)."""
    said = [chord_of(token) for token in codes[PARTS.index("harmony")].tolist() if token != HOLD]
    chords = [None if one is None else one[:2] for one in said]
    return sum(a != b for a, b in pairwise(chords)) * FRAME_RATE_HZ / codes.shape[1]


def measure_scores(out: Path, genres: Sequence[str]) -> tuple[list[Row], Table]:
    """Return rows and a table of what the codes show that were kept beside the clips under `out`."""
    codes = {kind: {genre: _codes(out / kind / genre) for genre in genres} for kind in KINDS}
    table = {kind: {genre: _figures(some) for genre, some in found.items()} for kind, found in codes.items()}
    made = [one for kind in ("prompted", "steered") for some in codes[kind].values() for one in some]
    steered = [one for some in codes["steered"].values() for one in some]
    real = [one for some in codes["real"].values() for one in some]
    if not (made and steered and real):
        return [], table
    stuck = np.array([stuck_lead_seconds(one) > LONG_S for one in made])
    share = np.array([jumps(one) for one in steered])
    low, high = bootstrap(lambda chosen: float(share[chosen].mean()), np.arange(len(share)))
    changes = np.array([chord_changes(one) for one in (*made, *real)])
    is_real = np.arange(len(changes)) >= len(made)

    def ratio(chosen: np.ndarray) -> float:
        own = changes[chosen[is_real[chosen]]].mean()
        return float(changes[chosen[~is_real[chosen]]].mean() / max(float(own), 1e-9))

    everything = np.arange(len(changes))
    least, most = bootstrap(ratio, everything, strata=is_real)
    note = "prompted and steered clips"
    return [
        rate_row("scores.stuck", f"clips whose lead holds a tone for over {LONG_S:g} s", STUCK, stuck,
                 note=note),
        Row("scores.jumps", "frames in which the conductor of a steered clip jumps", JUMPS,
            float(share.mean()), low, high, len(share), note="interval: bootstrap of clips"),
        Row("scores.chords", "chord changes a second, generated over real", CHORDS, ratio(everything),
            least, most, len(made), note=f"{note}; {len(real)} real clips; interval: bootstrap of clips"),
    ], table  # fmt: skip


def _codes(folder: Path) -> list[np.ndarray]:
    return [np.load(path) for path in sorted(folder.glob("*.npy"))]


def _figures(codes: Sequence[np.ndarray]) -> dict[str, float]:
    if not codes:
        return {"n": 0, "stuck": 0.0, "jumps": 0.0, "chord_changes": 0.0}
    return {
        "n": len(codes),
        "stuck": round(float(np.mean([stuck_lead_seconds(one) > LONG_S for one in codes])), 3),
        "jumps": round(float(np.mean([jumps(one) for one in codes])), 4),
        "chord_changes": round(float(np.mean([chord_changes(one) for one in codes])), 2),
    }
