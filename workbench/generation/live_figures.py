"""What a session says of itself, in numbers and in words; and what probes read while it plays."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from workbench.errors import message
from workbench.generation.draw import Readable
from workbench.generation.pacing import STRETCH_S
from workbench.model.sites import Place


@dataclass(frozen=True)
class LiveFigures:
    """How a session is doing.

    state             "ready", "playing", "paused", "stopped" or "failed"
    played_s          seconds heard
    lead_s            seconds of finished sound that lie ahead of the ear
    underruns         gaps that were heard
    steps, frames, windows
                      what was drawn; `sounding` of the frames have been turned into sound
    steps_per_second  what the model makes when nothing holds it back
    real_time_factor  seconds of sound in a second of work; below 1 the model is slower than real time
    hold_s            seconds of sound that must be there before it plays
    slow              whether sound is held back because the model is slower than real time
    knob_to_ear_s     from the last move of a knob that was heard to its sound; `worst_` of all of them
    pushes            steered cells that "changed", were left "alone" (dose 0), "failed": the receipt, counted
                      once a second
    """

    state: str
    played_s: float
    lead_s: float
    underruns: int
    steps: int
    frames: int
    sounding: int
    windows: int
    steps_per_second: float
    real_time_factor: float
    hold_s: float
    slow: bool = False
    knob_to_ear_s: float | None = None
    worst_knob_to_ear_s: float | None = None
    pushes: Mapping[str, int] = field(default_factory=dict)

    @property
    def lost(self) -> str:
        """That pushes did not arrive in the model, and what to do; empty when all did."""
        return lost_words(self.pushes)

    def __str__(self) -> str:
        gaps = "no gaps" if not self.underruns else f"{self.underruns} gap{'s'[: self.underruns > 1]}"
        told = [f"{self.state}: {self.played_s:.1f} s heard, {self.lead_s:.1f} s ahead, {gaps}"]
        if self.steps_per_second:
            speed = f"{self.steps_per_second:.0f} steps/s, {self.real_time_factor:.1f} x real time"
            told.append(speed)
        if self.knob_to_ear_s is not None and self.worst_knob_to_ear_s is not None:
            told.append(f"knob to ear {self.knob_to_ear_s:.1f} s (at most {self.worst_knob_to_ear_s:.1f} s)")
        if self.lost:
            told.append(f"{self.pushes['failed']} pushes did NOT arrive in the model")
        words = "; ".join(told) + "."
        if self.slow:
            words += (
                f" The model is slower than real time: {self.hold_s:.1f} s of sound are held back, so that "
                f"{STRETCH_S:g} s play without a gap, and a knob is heard that much later."
            )
        return words


def lost_words(pushes: Mapping[str, int]) -> str:
    """What is to be said of pushes that were counted, some of which failed; empty when none did."""
    failed = pushes.get("failed", 0)
    if not failed:
        return ""
    return message(
        f"{failed + pushes.get('changed', 0)} pushes were to act",
        f"{failed} of them did not change the residual stream as planned",
        "Turn the knob further (a small dose may vanish in the model's precision), or report this as a bug",
    )


@dataclass(frozen=True)
class Score:
    """What one probe read over the last second: probabilities by class, at `seconds` of the music."""

    seconds: float
    target: str
    probabilities: Mapping[str, float]


class Scores:
    """What probes read, averaged once a second; the last minutes are kept."""

    def __init__(self, probes: Sequence[Readable], *, every_s: float = 1.0) -> None:
        self.probes, self._every_s, self._next_s = tuple(probes), every_s, every_s
        self.lines: deque[Score] = deque(maxlen=300 * max(1, len(self.probes)))
        self._seen: Mapping[Place, list[torch.Tensor]] = {}
        self._from = 0

    @property
    def places(self) -> list[Place]:
        """Where the probes read."""
        return [(probe.layer, probe.site) for probe in self.probes]

    def begin(self, seen: Mapping[Place, list[torch.Tensor]]) -> None:
        """Read from these lists, which fill while a window is drawn."""
        self._seen, self._from = seen, 0

    def step(self, seconds: float) -> None:
        """Average what came since the last time, when a second of music has passed."""
        if not self.probes or seconds < self._next_s:
            return
        self._next_s = seconds + self._every_s
        for probe in self.probes:
            rows = self._seen[probe.layer, probe.site][self._from :]
            if rows:
                read = np.asarray(probe.predict_proba(torch.cat(rows).cpu().numpy())).mean(0)
                named = dict(zip(map(str, probe.classes), map(float, read), strict=True))
                self.lines.append(Score(seconds, probe.target, named))
        self._from = max((len(rows) for rows in self._seen.values()), default=0)
