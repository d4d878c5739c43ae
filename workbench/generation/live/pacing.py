"""How far ahead of the ear music is made, and what is held back where the model is slower than real time."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from workbench.errors import GenerationError, message
from workbench.generation.engine import Readable
from workbench.model.network import Place

FASTER = 1.15  # the real-time factor from which a model is fast enough to hold nothing back
_ENOUGH = 25  # steps, before the speed is believed
_SLOWER = 1.0  # the real-time factor under which a model that was fast enough is so no more


def held_back(total_s: float, speed: float) -> float:
    """The seconds to hold back so that `total_s`, made at `speed` times real time, never stutters.

    The last chunk is made after total / speed seconds and cannot be heard earlier, so playing may begin
    total * (1 / speed - 1) seconds after making; by then total * (1 - speed) seconds of sound are there.
    """
    return max(0.0, total_s * (1.0 - speed))


@dataclass(frozen=True)
class Rate:
    """How fast music is made: `speed` times real time, `opening_s` without sound where a window begins."""

    speed: float
    opening_s: float = 0.0

    def hold_s(self, stretch_s: float) -> float:
        """Seconds of sound to hold back so that `stretch_s` seconds play without a gap."""
        return held_back(stretch_s, self.speed) + min(1.0, self.speed) * self.opening_s

    def wait_s(self, stretch_s: float, lead_s: float) -> float:
        """Seconds until it plays: what is held back is made, and the lead that a session has anyway."""
        return (self.hold_s(stretch_s) + lead_s) / self.speed


@dataclass(frozen=True)
class Pace:
    """How far ahead of the ear a session may draw, and how much sound has to be there before it plays."""

    lead_s: float
    hold_s: float
    slow: bool = False


class Pacing:
    """The pace of a session, by the speed of its last steps; `lead_s` while the model is fast enough.

    `latency_s` is the way from the step that begins a frame to its sound: delay pattern, look-ahead of the
    codec. Sound comes in pieces of `piece_s`, and has `frame_rate_hz` steps per second. A model that is
    slower than real time holds back what `stretch_s` seconds without a gap need. A `rate` that was measured
    before counts from the first step on: no more is expected of the model before a window is faster. The
    speed is that of the last `steps`; those of a window have its opening among them.
    """

    def __init__(
        self,
        lead_s: float, *, latency_s: float, piece_s: float, frame_rate_hz: float,
        stretch_s: float = 10.0, rate: Rate | None = None, steps: int = 100,
    ) -> None:  # fmt: skip
        GenerationError.number(stretch_s, "A stretch_s of", above=0, do="Use such as stretch_s=10")
        least = latency_s + 2 * piece_s
        if not lead_s >= least:
            found = f"a sound takes {latency_s:g} s from first to last step, and has pieces of {piece_s:g} s"
            do = f"Use lead_s={least + 0.05:.2f} or more, or shorter pieces"
            raise GenerationError(f"A lead of {lead_s:g} s was asked for", found, do)
        self._latency_s, self._piece_s, self._rate_hz = latency_s, piece_s, frame_rate_hz
        self._fast = Pace(lead_s, lead_s - latency_s - piece_s)
        self._busy: deque[float] = deque(maxlen=steps)
        self.stretch_s, self._rate = stretch_s, rate or Rate(math.inf)
        self._slow = self._rate.speed < FASTER

    def worked(self, seconds: float) -> None:
        """Note how long one step kept the worker busy, waiting left out."""
        self._busy.append(seconds)

    @property
    def steps_per_second(self) -> float:
        """What the model makes when nothing holds it back, over its last steps; 0 before there is one."""
        spent = sum(self._busy)
        return len(self._busy) / spent if spent else 0.0

    @property
    def real_time_factor(self) -> float:
        """Seconds of sound made in a second of work."""
        return self.steps_per_second / self._rate_hz

    def now(self) -> Pace:
        """The pace for the next step."""
        measured = self.real_time_factor if len(self._busy) >= _ENOUGH else math.inf
        if len(self._busy) == self._busy.maxlen and measured >= FASTER:
            self._rate = Rate(math.inf)  # a whole window says otherwise
        now = replace(self._rate, speed=min(measured, self._rate.speed))
        self._slow = now.speed < (FASTER if self._slow else _SLOWER)
        if not self._slow:
            return self._fast
        hold_s = self._fast.hold_s + now.hold_s(self.stretch_s)
        return Pace(hold_s + self._latency_s + self._piece_s, hold_s, True)


PATIENCE_S = 1.5
"""How long a player may be silent before the clock goes on without it."""


class Playback:
    """What was delivered, what of it was heard, and how often there was a gap.

    Without a player the clock plays, `speed` times as fast as real time: it begins when `hold_s` seconds are
    there, and again after a gap. Between two reports of a player the clock runs on, because they come late or
    not at all while a notebook's cell runs. A player that says nothing for a while is taken to play.
    """

    def __init__(
        self, hold_s: float = 0.0, *, speed: float = 1.0, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.hold_s, self._speed, self._now = hold_s, speed, now
        self._lock = threading.Lock()
        self._delivered = self._played = self._base = 0.0
        self._since = self._told_at = now()
        self._running = self._paused = self._finished = self._attached = False
        self._gaps = self._heard_gaps = 0

    @property
    def played_s(self) -> float:
        """Seconds heard, never more than were delivered."""
        with self._settled():
            return self._played

    @property
    def ahead_s(self) -> float:
        """Seconds delivered and not heard yet."""
        with self._settled():
            return self._delivered - self._played

    @property
    def underruns(self) -> int:
        """Gaps: how often sound was wanted and none was there."""
        with self._settled():
            return self._gaps

    @property
    def running(self) -> bool:
        """Whether sound is heard now."""
        with self._settled():
            return self._running

    def deliver(self, seconds: float) -> None:
        """Note that so much more sound is there."""
        with self._settled():
            self._delivered += seconds
            self._settle()

    def pause(self) -> None:
        """Stop the clock; what is there stays there."""
        with self._settled():
            self._running, self._paused = False, True

    def resume(self) -> None:
        """Let the clock go on."""
        with self._settled():
            self._paused, self._told_at = False, self._since
            self._running = not self._attached and self._delivered > self._played

    def finish(self) -> None:
        """Note that nothing more comes: what is held back plays, and the end is no gap."""
        with self._settled():
            self._finished = True
            self._settle()

    def join(self) -> None:
        """Note that a player is there: it hears what is delivered from now on, and its reports count."""
        with self._settled():
            self._attached, self._running, self._told_at = True, False, self._since
            self._base = self._played = self._delivered
            self._heard_gaps = 0

    def leave(self) -> None:
        """Note that the player is gone: the clock plays on alone."""
        with self._settled():
            self._attached = False

    def report(self, played_s: float, *, playing: bool, underruns: int = 0) -> None:
        """Take over what the player says: seconds heard and gaps since it joined."""
        with self._settled():
            self._played = min(self._base + played_s, self._delivered)
            self._running, self._told_at = playing and not self._paused, self._since
            self._gaps += max(0, underruns - self._heard_gaps)
            self._heard_gaps = underruns

    @contextmanager
    def _settled(self) -> Iterator[None]:
        with self._lock:
            self._settle()
            yield

    def _settle(self) -> None:
        """Move the clock's hand to now."""
        now = self._now()
        passed, self._since = (now - self._since) * self._speed, now
        if self._running:
            self._played += passed
            if self._played >= self._delivered:
                self._played = self._delivered
                if not self._attached:  # a player counts its gaps itself
                    self._running = False
                    self._gaps += not self._finished
        elif not self._paused and (not self._attached or now - self._told_at > PATIENCE_S):
            ahead = self._delivered - self._played
            self._running = ahead > 0 and (ahead >= self.hold_s - 1e-9 or self._finished)


@dataclass(frozen=True)
class LiveFigures:
    """How a session is doing.

    Args:
        state: As in `LiveSession`.
        played_s: Seconds heard.
        lead_s: Seconds of finished sound that lie ahead of the ear.
        underruns: Gaps that were heard.
        steps, frames, windows: How many were drawn.
        sounding: How many frames have been turned into sound.
        steps_per_second, real_time_factor: What the model makes when nothing holds it back.
        hold_s, slow: Sound held back before it plays, and whether because the model is slow.
        stretch_s, filling: What a slow model is to play without a gap; whether it waits for that now.
        knob_to_ear_s, worst_knob_to_ear_s: From a knob's move to its sound, of the last and of all moves.
        pushes: Steered cells that "changed", were left "alone" (by gate or slider), "failed": the receipt.
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
    stretch_s: float = 10.0
    filling: bool = False

    @property
    def lost(self) -> str:
        """That pushes did not arrive in the model, and what to do; empty when all did."""
        return lost_words(self.pushes)

    def __str__(self) -> str:
        gaps = "no gaps" if not self.underruns else f"{self.underruns} gap{'s'[: self.underruns > 1]}"
        state = f"filling: {self.lead_s:.0f} of {self.hold_s:.0f} s" if self.filling else self.state
        facts = [f"{state}: {self.played_s:.1f} s heard, {self.lead_s:.1f} s ahead, {gaps}"]
        if self.steps_per_second:
            facts.append(f"{self.steps_per_second:.0f} steps/s, {self.real_time_factor:.1f} x real time")
        if self.knob_to_ear_s is not None:
            facts.append(f"knob to ear {self.knob_to_ear_s:.1f} s (at most {self.worst_knob_to_ear_s:.1f} s)")
        if self.lost:
            facts.append(f"{self.pushes['failed']} pushes did NOT arrive in the model")
        words = "; ".join(facts) + "."
        if self.slow:
            words += f" The model is slower than real time: {self.hold_s:.1f} s of sound are held back, so "
            words += f"that {self.stretch_s:g} s play without a gap, and a knob is heard that much later."
        return words


def lost_words(pushes: Mapping[str, int]) -> str:
    """What is to be said of pushes that were counted, some of which failed; empty when none did."""
    failed = pushes.get("failed", 0)
    found = f"{failed} of them did not change the residual stream as planned"
    do = "Turn the knob further (a small dose may vanish in the model's precision), or report this as a bug"
    return message(f"{failed + pushes.get('changed', 0)} pushes were to act", found, do) if failed else ""


@dataclass(frozen=True)
class Score:
    """What one probe read over the last second: probabilities by class, at `seconds` of the music."""

    seconds: float
    target: str
    probabilities: Mapping[str, float]


class Scores:
    """What probes read, averaged once a second; the last minutes are kept."""

    def __init__(self, probes: Sequence[Readable]) -> None:
        self.probes, self._next_s = tuple(probes), 1.0
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
        self._next_s = seconds + 1
        for probe in self.probes:
            rows = self._seen[probe.layer, probe.site][self._from :]
            if rows:
                read = np.asarray(probe.predict_proba(torch.cat(rows).cpu().numpy())).mean(0)
                named = dict(zip(map(str, probe.classes), map(float, read), strict=True))
                self.lines.append(Score(seconds, probe.target, named))
        self._from = max((len(rows) for rows in self._seen.values()), default=0)
