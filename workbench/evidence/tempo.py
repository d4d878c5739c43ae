"""Two opinions on tempo: what a tempo judge expects, and librosa's beat estimate, which knows no judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from workbench.errors import EvidenceError

if TYPE_CHECKING:
    from workbench.evidence.judge import Judge
    from workbench.sound import Clip

LOWEST_BPM, HIGHEST_BPM = 60.0, 150.0


def librosa_tempo(clip: Clip) -> float:
    """Return librosa's tempo of a clip in beats a minute, folded by octaves into 60 to 150.

    The fold forgives the classic mistake of counting half or double beats; where both 60 to 75 and its double
    fit, librosa's own prior (around 120) has chosen. A clip without onsets gives 0.
    """
    from librosa.feature import tempo
    from librosa.onset import onset_strength

    strength = onset_strength(y=clip.samples, sr=clip.rate_hz)
    if not float(np.ptp(strength)):
        return 0.0
    return fold_octaves(float(np.ravel(tempo(onset_envelope=strength, sr=clip.rate_hz))[0]))


def fold_octaves(bpm: float) -> float:
    """Return a tempo doubled or halved until it lies between 60 and 150 beats a minute."""
    if not np.isfinite(bpm) or bpm <= 0:
        raise EvidenceError(
            "A tempo was to be folded", f"it is {bpm:g} beats a minute", "Pass a positive tempo"
        )
    while bpm < LOWEST_BPM:
        bpm *= 2
    while bpm > HIGHEST_BPM:
        bpm /= 2
    return bpm


def expected_bpm(judge: Judge, clips: Sequence[Clip], bpm: Mapping[str, float] | None = None) -> np.ndarray:
    """Return the tempo (clips,) that a judge expects: its classes' beats a minute, weighted by probability.

    Args:
        judge: a judge whose classes are tempi.
        clips: what it is to hear.
        bpm: beats a minute of each class; by default what the judge's card says.
    """
    table = judge.card.get("bpm") if bpm is None else bpm
    if not isinstance(table, Mapping) or set(judge.classes) - set(table):
        raise EvidenceError(
            "A tempo in beats a minute was asked for",
            f"the judge of {judge.target} has no such figure for its classes {', '.join(judge.classes)}",
            "Use the judge of tempo, or pass bpm={class: beats a minute}",
        )
    return np.asarray(judge.probabilities(clips) @ np.array([float(table[c]) for c in judge.classes]))
