"""How far ahead of the ear music is made, and what is held back where the model is slower than real time."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from workbench.errors import GenerationError

STRETCH_S = 10.0
"""What a model slower than real time is to play without a gap, before sound is held back again."""

_ENOUGH = 25  # steps, before the speed is believed
_SLOWER, _FASTER = 1.0, 1.15  # real-time factors between which the mode that is on stays on


def held_back(total_s: float, speed: float) -> float:
    """Return the seconds to hold back so that `total_s`, made at `speed` times real time, never stutters.

    The last chunk is made after total / speed seconds and cannot be heard earlier, so playing may begin
    total * (1 / speed - 1) seconds after making; by then total * (1 - speed) seconds of sound are there.
    """
    return max(0.0, total_s * (1.0 - speed))


@dataclass(frozen=True)
class Pace:
    """How far ahead of the ear a session may draw, and how much sound has to be there before it plays.

    lead_s  seconds from the step that is drawn to the sound that is heard: the longest way from knob to ear
    hold_s  seconds of finished sound
    slow    whether this is the pace of a model that is slower than real time
    """

    lead_s: float
    hold_s: float
    slow: bool = False


class Pacing:
    """The pace of a session, by the speed that was measured over its last steps.

    Args:
        lead_s: the lead that is kept while the model is fast enough.
        latency_s: from the step that begins a frame to its sound: delay pattern, look-ahead of the codec.
        piece_s: length of a piece of sound.
        frame_rate_hz: steps per second of sound.
    """

    def __init__(self, lead_s: float, *, latency_s: float, piece_s: float, frame_rate_hz: float) -> None:
        least = latency_s + 2 * piece_s
        if not lead_s >= least:
            raise GenerationError(
                f"A lead of {lead_s:g} s was asked for",
                f"a sound takes {latency_s:g} s from its first step to its last, and comes in pieces of "
                f"{piece_s:g} s",
                f"Use lead_s={least + 0.05:.2f} or more, or shorter pieces",
            )
        self._latency_s, self._piece_s, self._rate_hz = latency_s, piece_s, frame_rate_hz
        self._fast = Pace(lead_s, lead_s - latency_s - piece_s)
        self._busy: deque[float] = deque(maxlen=100)
        self._slow = False

    def worked(self, seconds: float) -> None:
        """Note how long one step kept the worker busy, waiting left out."""
        self._busy.append(seconds)

    @property
    def steps_per_second(self) -> float:
        """What the model makes when nothing holds it back, over the last 100 steps; 0 before there is one."""
        spent = sum(self._busy)
        return len(self._busy) / spent if spent else 0.0

    @property
    def real_time_factor(self) -> float:
        """Seconds of sound made in a second of work."""
        return self.steps_per_second / self._rate_hz

    def now(self) -> Pace:
        """The pace for the next step."""
        speed = self.real_time_factor
        if len(self._busy) >= _ENOUGH:
            self._slow = speed < (_FASTER if self._slow else _SLOWER)
        if not self._slow:
            return self._fast
        hold_s = self._fast.hold_s + held_back(STRETCH_S, speed)
        return Pace(hold_s + self._latency_s + self._piece_s, hold_s, True)
