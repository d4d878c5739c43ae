"""What the codes of the kept clips show as music: stuck leads, a conductor that jumps, chords that change."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from recipe.evaluation.rows import Bar, Row, absent, rate_row
from workbench.model.band import (
    BAND,
    BEAT_FRAMES,
    FIRST,
    FRAME_RATE_HZ,
    HOLD,
    LEADS,
    PARTS,
    PITCHES,
    beat_of,
    chord_of,
    conductor_token,
)
from workbench.stats import bootstrap

KINDS = ("real", "prompted", "unsteered", "steered", "random")
LONG_S = 2.0
STUCK, JUMPS, CHORDS = Bar(at_most=0.05), Bar(under=0.02), Bar(at_least=0.8)
_STUCK = f"clips whose lead holds a tone for over {LONG_S:g} s"
_JUMPS = "frames in which the conductor of a steered clip jumps"
_CHORDS = "chord changes a second, generated over real"

Table = dict[str, dict[str, dict[str, float]]]
"""kind -> genre -> n, share of clips with a stuck lead, share of frames that jump, chord changes a second."""


def stuck_lead_seconds(codes: np.ndarray) -> float:
    """Return how long the longest tone of the lead is told to be held, in codes (parts, frames)."""
    longest = now = 0
    for token in codes[PARTS.index("lead")].tolist():
        if token == HOLD:
            now += now > 0
        else:
            now = int(FIRST <= token < FIRST + len(LEADS) * PITCHES)
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
    """Return how often a second another chord is said, in codes (parts, frames).

    Neither a pad that changes nor a rest before the same chord is a change of chord.
    """
    said = [chord_of(token) for token in codes[PARTS.index("harmony")].tolist()]
    chords = [one[:2] for one in said if one is not None]
    return sum(a != b for a, b in pairwise(chords)) * FRAME_RATE_HZ / codes.shape[1]


def measure_scores(out: Path, genres: Sequence[str], codec: str) -> tuple[list[Row], Table]:
    """Return rows and a table of what the codes show that were kept beside the clips under `out`.

    Args:
        out: folder with ``<kind>/<genre>/*.npy``.
        genres: the genres.
        codec: the kind of the model's codec; of codes that are no score nothing is measured.
    """
    if codec != BAND:
        return _absent(f"codes of the codec {codec} are no score"), {}
    codes = {kind: {genre: _codes(out / kind / genre) for genre in genres} for kind in KINDS}
    table = {
        kind: {genre: _figures(some) for genre, some in found.items() if some}
        for kind, found in codes.items()
    }
    made, steered, real = (
        [one for kind in kinds for some in codes[kind].values() for one in some]
        for kinds in (("prompted", "steered"), ("steered",), ("real",))
    )
    if not (made and steered and real):
        return _absent("no codes of steered or of real clips were kept"), table
    stuck = np.array([stuck_lead_seconds(one) > LONG_S for one in made])
    share = np.array([jumps(one) for one in steered])
    low, high = bootstrap(lambda chosen: float(share[chosen].mean()), np.arange(len(share)))
    note = "prompted and steered clips"
    return [
        rate_row("scores.stuck", _STUCK, STUCK, stuck, note=note),
        Row("scores.jumps", _JUMPS, JUMPS, float(share.mean()), low, high, len(share),
            note="interval: bootstrap of clips"),
        _chords_row(made, real, note),
    ], table  # fmt: skip


def _absent(why: str) -> list[Row]:
    wanted = (
        ("scores.stuck", _STUCK, STUCK),
        ("scores.jumps", _JUMPS, JUMPS),
        ("scores.chords", _CHORDS, CHORDS),
    )
    return [absent(id_, what, bar, why) for id_, what, bar in wanted]


def _chords_row(made: Sequence[np.ndarray], real: Sequence[np.ndarray], note: str) -> Row:
    """Return how often chords change in generated clips over how often in real ones, of their means."""
    changes = np.array([chord_changes(one) for one in (*made, *real)])
    is_real = np.arange(len(changes)) >= len(made)

    def ratio(chosen: np.ndarray) -> float:
        own = changes[chosen[is_real[chosen]]].mean()
        return float(changes[chosen[~is_real[chosen]]].mean() / max(float(own), 1e-9))

    everything = np.arange(len(changes))
    low, high = bootstrap(ratio, everything, strata=is_real)
    return Row("scores.chords", _CHORDS, CHORDS, ratio(everything), low, high, len(made),
               note=f"{note}; {len(real)} real clips; interval: bootstrap of clips")  # fmt: skip


def _codes(folder: Path) -> list[np.ndarray]:
    return [np.load(path) for path in sorted(folder.glob("*.npy"))]


def _figures(codes: Sequence[np.ndarray]) -> dict[str, float]:
    return {
        "n": len(codes),
        "stuck": round(float(np.mean([stuck_lead_seconds(one) > LONG_S for one in codes])), 3),
        "jumps": round(float(np.mean([jumps(one) for one in codes])), 4),
        "chord_changes": round(float(np.mean([chord_changes(one) for one in codes])), 2),
    }
