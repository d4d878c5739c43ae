"""Checks of the live desk's exercises; the right answer comes from what the reader has played."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workbench.show.exercises import Verdict

if TYPE_CHECKING:
    from workbench.generation.recording import Recording


def first_touch(recording: Recording, name: str, answer: float | None) -> Verdict:
    """Check at which second of the recording a step first read that a knob was not at 0."""
    knobs = recording.knobs()
    if name not in knobs:
        return Verdict(False, f"There is no knob {name!r}; there are {', '.join(knobs.columns[1:])}.")
    touched = knobs.loc[knobs[name] != 0, "seconds"]
    if answer is None:
        return Verdict(None, "Give seconds, for example 3.2: recording.knobs() has a line for every change.")
    if not len(touched):
        return Verdict(False, f"Nobody turned {name} in this recording: play again, and turn it.")
    first = float(touched.iloc[0])
    if abs(float(answer) - first) > 0.05:
        return Verdict(False, f"You say {float(answer):g} s. Look for the first line whose {name} is not 0.")
    more = "You turned it a little earlier: what is drawn lies ahead of what is heard."
    return Verdict(True, f"The step that makes the sound at {first:.2f} s was the first to read it. {more}")


def parting(moved: Recording, still: Recording, answer: float | None) -> Verdict:
    """Check at which second two recordings of one seed part: the first frame whose codes differ."""
    frames = min(moved.codes.shape[-1], still.codes.shape[-1])
    differ = np.flatnonzero((moved.codes[:, :frames] != still.codes[:, :frames]).any(axis=0))
    if answer is None:
        return Verdict(None, "Compare moved.codes with still.codes: frames count from 0 in the last axis.")
    if not len(differ):
        return Verdict(False, "The two are equal throughout: turn a knob in one of them, and play again.")
    first = differ[0] / moved.frame_rate_hz
    told = f"The first frame that differs is number {differ[0]}, which sounds at {first:.2f} s"
    if abs(float(answer) - first) > 0.05:
        found = f"You say {float(answer):g} s, and that is not where the first different frame lies."
        return Verdict(False, f"{found} np.flatnonzero tells it from (a != b).any(axis=0).")
    more = "Until then the same seed makes the same music, bit for bit; after it, every code that differs "
    return Verdict(True, f"{told}. {more}is heard by all that follow.")
