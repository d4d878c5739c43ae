"""The knobs of a session: doses that hands move while every step writes down what it read."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from workbench.generation.controls import Controls, Slider
from workbench.generation.journal import Doses


class LiveControls(Controls):
    """Sliders that begin at given doses instead of 1; what a step read is told, not kept: music has no end.

    Args:
        doses: one per term of the plan, whose own doses are 1.
        on_read: called at each step, in the thread that draws, with the visit of the window, the doses, and
            when the first of the moves was made that this step is the first to read (None: nothing moved).
        now: the clock, in seconds.
    """

    def __init__(
        self,
        doses: Sequence[float],
        on_read: Callable[[int, Doses, float | None], object],
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._on_read, self._visit, self._now = on_read, 0, now
        self._moving = threading.Lock()
        self._doses: Doses = tuple(float(dose) for dose in doses)
        self._moved_at: float | None = None

    def slide(self, term: int, value: float, *, clip: int | None = None) -> None:
        """Set the dose of a knob from the next step on.

        Raises:
            GenerationError: When the value is not finite.
        """
        super().slide(term, value, clip=clip)
        with self._moving:  # two hands at once: neither move may be lost
            doses = (*self._doses[:term], float(value), *self._doses[term + 1 :])
            if doses != self._doses:
                self._doses = doses
                self._moved_at = self._now() if self._moved_at is None else self._moved_at

    @property
    def doses(self) -> Doses:
        """Where the knobs stand."""
        return self._doses

    def begin_window(self) -> None:
        """Count the visits from 0 again."""
        self._visit = 0

    def read_sliders(self, keys: Sequence[Slider]) -> list[float]:
        """Return the doses that this step uses, after telling of them."""
        with self._moving:  # one glance: a move takes effect for a whole step or not yet
            doses, moved, self._moved_at = self._doses, self._moved_at, None
        self._on_read(self._visit, doses, moved)
        self._visit += 1
        return [doses[term] for _clip, term in keys]


class KnobTimer:
    """How long it takes from a knob that is moved to the sound that was made with it.

    `last_s` and `worst_s` are None until a move was heard. The page's own part of the way (some 10 ms from
    the mouse to Python) comes on top.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._underway: deque[tuple[float, float]] = deque(maxlen=1000)
        self.last_s: float | None = None
        self.worst_s: float | None = None

    def read(self, moved: float, position_s: float) -> None:
        """Note that the step that makes the sound at `position_s` is the first to read what moved then."""
        self._underway.append((moved, position_s))

    def heard(self, played_s: float) -> None:
        """Note how much has been heard."""
        while self._underway and self._underway[0][1] <= played_s:
            moved, position_s = self._underway.popleft()
            self.last_s = max(0.0, self._now() - moved - (played_s - position_s))
            self.worst_s = max(self.last_s, self.worst_s or 0.0)

    def forget(self) -> None:
        """Leave out moves that are underway: a pause is no delay."""
        self._underway.clear()
