"""How much of the sound has been heard: by what a player reports, or by the clock where nobody listens.

Between two reports the clock runs on, because reports come late or not at all while a notebook's cell runs.
A player that says nothing for a while is taken to play; one that waits (for a click, for more) says so.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

PATIENCE_S = 1.5
"""How long a player may be silent before the clock goes on without it."""


class Playback:
    """What was delivered, what of it was heard, and how often there was a gap.

    Without a player the clock plays: it begins when `hold_s` seconds are there, and again after a gap.

    Args:
        hold_s: seconds that must be there before sound begins; may be changed meanwhile.
        speed: how fast the clock plays, 1 is real time.
        now: the clock, in seconds.
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
        with self._lock:
            self._settle()
            return self._played

    @property
    def ahead_s(self) -> float:
        """Seconds delivered and not heard yet."""
        with self._lock:
            self._settle()
            return self._delivered - self._played

    @property
    def underruns(self) -> int:
        """Gaps: how often sound was wanted and none was there."""
        with self._lock:
            self._settle()
            return self._gaps

    @property
    def running(self) -> bool:
        """Whether sound is heard now."""
        with self._lock:
            self._settle()
            return self._running

    def deliver(self, seconds: float) -> None:
        """Note that so much more sound is there."""
        with self._lock:
            self._settle()
            self._delivered += seconds
            self._settle()

    def pause(self) -> None:
        """Stop the clock; what is there stays there."""
        with self._lock:
            self._settle()
            self._running, self._paused = False, True

    def resume(self) -> None:
        """Let the clock go on."""
        with self._lock:
            self._settle()
            self._paused, self._told_at = False, self._since
            self._running = not self._attached and self._delivered > self._played

    def finish(self) -> None:
        """Note that nothing more comes: what is held back plays, and the end is no gap."""
        with self._lock:
            self._settle()
            self._finished = True
            self._settle()

    def join(self) -> None:
        """Note that a player is there: it hears what is delivered from now on, and its reports count."""
        with self._lock:
            self._settle()
            self._attached, self._running, self._told_at = True, False, self._since
            self._base = self._played = self._delivered
            self._heard_gaps = 0

    def leave(self) -> None:
        """Note that the player is gone: the clock plays on alone."""
        with self._lock:
            self._settle()
            self._attached = False

    def report(self, played_s: float, *, playing: bool, underruns: int = 0) -> None:
        """Take over what the player says: seconds heard and gaps since it joined."""
        with self._lock:
            self._settle()
            self._played = min(self._base + played_s, self._delivered)
            self._running, self._told_at = playing and not self._paused, self._since
            self._gaps += max(0, underruns - self._heard_gaps)
            self._heard_gaps = underruns

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
