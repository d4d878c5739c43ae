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
        on_read: called at each step, in the thread that draws, with the visit of the window and the doses.
    """

    def __init__(self, doses: Sequence[float], on_read: Callable[[int, Doses], object]) -> None:
        super().__init__()
        self._on_read, self._visit = on_read, 0
        self._doses: Doses = tuple(0.0 for _dose in doses)
        for term, dose in enumerate(doses):
            self.slide(term, dose)

    def slide(self, term: int, value: float, *, clip: int | None = None) -> None:
        """Set the dose of a knob from the next step on.

        Raises:
            GenerationError: When the value is not finite.
        """
        super().slide(term, value, clip=clip)
        with _MOVING:  # two hands at once: neither move may be lost
            self._doses = (*self._doses[:term], float(value), *self._doses[term + 1 :])

    @property
    def doses(self) -> Doses:
        """Where the knobs stand."""
        return self._doses

    def begin_window(self) -> None:
        """Count the visits from 0 again."""
        self._visit = 0

    def read_sliders(self, keys: Sequence[Slider]) -> list[float]:
        """Return the doses that this step uses, after telling of them."""
        doses = self._doses  # one glance: a move takes effect for a whole step or not yet
        self._on_read(self._visit, doses)
        self._visit += 1
        return [doses[term] for _clip, term in keys]


_MOVING = threading.Lock()


class KnobTimer:
    """How long it takes from a knob that is moved to the sound that was made with it.

    `last_s` and `worst_s` are None until a move was heard. The page's own part of the way (some 10 ms from
    the mouse to Python) comes on top.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._moved: float | None = None
        self._before: Doses | None = None
        self._underway: deque[tuple[float, float]] = deque(maxlen=1000)
        self.last_s: float | None = None
        self.worst_s: float | None = None

    def moved(self) -> None:
        """Note that a knob moves now; the first of several moves before the next step counts."""
        if self._moved is None:
            self._moved = self._now()

    def read(self, doses: Doses, position_s: float) -> None:
        """Note what the step that makes the sound at `position_s` read."""
        if self._moved is not None and self._before not in (None, doses):
            self._underway.append((self._moved, position_s))
            self._moved = None
        self._before = doses

    def heard(self, played_s: float) -> None:
        """Note how much has been heard."""
        while self._underway and self._underway[0][1] <= played_s:
            moved, position_s = self._underway.popleft()
            self.last_s = max(0.0, self._now() - moved - (played_s - position_s))
            self.worst_s = max(self.last_s, self.worst_s or 0.0)

    def forget(self) -> None:
        """Leave out moves that are underway: a pause is no delay."""
        self._underway.clear()
        self._moved = None
