"""One window of a music that does not end, live or replayed: both go through `draw_window`.

Its codes are decided by setup, span, what the window before handed over, and what the sliders said.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from workbench.errors import Cancelled, GenerationError, is_whole
from workbench.generation.edits import Slider, Sliders
from workbench.generation.engine import Span, lay_out
from workbench.generation.live.journal import Doses
from workbench.generation.request import Row, Settings
from workbench.generation.steer import run_steered
from workbench.model.codec import CONTEXT_FRAMES
from workbench.model.conditioning import Melody
from workbench.model.musicgen import Model
from workbench.model.sampling import private_generators
from workbench.sound.clip import Clip
from workbench.steering.operations import OPERATIONS, find_operation
from workbench.steering.plan import Direction, Steering


class LiveSliders(Sliders):
    """Sliders that begin at given doses, one per term of the plan, whose own doses are 1.

    What a step read is not kept: `on_read` is called, in the thread that draws, with the visit of the window,
    the doses, and when the first of the moves was made that this step is the first to read (None: nothing
    moved). `now` is the clock, in seconds.
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
        self.doses: Doses = tuple(float(dose) for dose in doses)
        self._moved_at: float | None = None

    def slide(self, term: int, value: float, *, clip: int | None = None) -> None:
        """Set the dose of a knob from the next step on."""
        super().slide(term, value, clip=clip)
        with self._moving:  # two hands at once: neither move may be lost
            doses = (*self.doses[:term], float(value), *self.doses[term + 1 :])
            if doses != self.doses:
                self.doses = doses
                self._moved_at = self._now() if self._moved_at is None else self._moved_at

    def begin_window(self) -> None:
        """Count the visits from 0 again."""
        self._visit = 0

    def read_sliders(self, keys: Sequence[Slider]) -> list[float]:
        """Return the doses that this step uses, after telling of them."""
        with self._moving:  # one glance: a move takes effect for a whole step or not yet
            doses, moved, self._moved_at = self.doses, self._moved_at, None
        self._on_read(self._visit, doses, moved)
        self._visit += 1
        return [doses[term] for _clip, term in keys]


class KnobTimer:
    """How long it takes from a moved knob to its sound: `last_s`, `worst_s`, None before one is heard.

    The page's own part of the way (some 10 ms from the mouse to Python) comes on top.
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


class LiveSound:
    """Turns frames into pieces of `piece` frames as soon as each can be decoded; keeps the last frames only.

    `frames` says how many have been turned into sound.
    """

    def __init__(self, model: Model, piece: int) -> None:
        self.piece, self.frames = piece, 0
        self._decoder = model.piece_decoder()
        self.ahead = self._decoder.ahead  # frames that have to be known beyond a piece
        self._known = torch.zeros(model.n_codebooks, 0, dtype=torch.long)

    def add(self, frames: torch.Tensor) -> Iterator[Clip]:
        """Yield the pieces that `frames` (k, n) complete."""
        self._known = torch.cat([self._known, frames.cpu()], dim=-1)
        while self._known.shape[-1] >= self._decoder.done + self.piece + self.ahead:
            yield self._decode(self._decoder.done + self.piece)

    def rest(self) -> Iterator[Clip]:
        """Yield what is left at the end."""
        while self._decoder.done < self._known.shape[-1]:
            yield self._decode(min(self._decoder.done + self.piece, self._known.shape[-1]))

    def _decode(self, end: int) -> Clip:
        """The sound up to frame `end` of the known ones; what the decoder hears no more is forgotten."""
        begin = self._decoder.done
        clip = self._decoder.decode(self._known, end)
        self.frames += end - begin
        past = max(0, end - CONTEXT_FRAMES)
        self._known = self._known[:, past:].clone()
        self._decoder.done -= past  # it counts in the codes that it is given
        return clip


@dataclass(frozen=True)
class LiveSetup:
    """What stays the same throughout a session; the operation has no target.

    The plan has each knob's direction with dose 1, and the knob's dose is the slider that it is multiplied
    by, so that a knob that begins at 0 can be turned up later. `window` and `overlap` are frames, as in
    `Windows`.
    """

    directions: tuple[tuple[str, Direction], ...]
    seed: int
    settings: Settings
    window: int
    overlap: int
    operation: str = "add"
    branch: str = "cond"
    melody: Melody | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "operation", find_operation(self.operation).name)
        if OPERATIONS[self.operation].has_target:
            pushes = ", ".join(name for name, one in OPERATIONS.items() if not one.has_target)
            found = f"a knob's dose multiplies a push, which are {pushes}"
            raise GenerationError(f"Knobs that {self.operation} were asked for", found, "Use one of these")
        whole = is_whole(self.seed, 0, 2**63 - 1) and is_whole(self.window, 2) and is_whole(self.overlap, 1)
        if not (whole and self.overlap < self.window):
            asked = f"The seed {self.seed!r}, windows of {self.window!r} frames that share {self.overlap!r}"
            found = "a window shares some of its frames, and a seed is a whole number from 0 to 2**63 - 1"
            raise GenerationError(f"{asked} were asked for", found, "Use 0 < overlap < window")

    @property
    def plan(self) -> Steering:
        """Every direction with dose 1."""
        parts = [one.at(1.0, operation=self.operation, branch=self.branch) for _name, one in self.directions]
        return Steering(tuple(term for part in parts for term in part.terms))

    def begin(self, model: Model) -> WindowState:
        """What the first window begins with: the seeded generator, and no codes."""
        (generator,) = private_generators([self.seed], model.random_device)
        tail = torch.zeros(model.n_codebooks, 0, dtype=torch.long, device=model.device)
        return WindowState(generator, tail, self.overlap)


@dataclass
class WindowState:
    """What one window hands to the next: the end of the codes (k, at most `most`), and the generator."""

    generator: torch.Generator
    tail: torch.Tensor
    most: int


def draw_window(
    model: Model, setup: LiveSetup, span: Span, carried: WindowState, sliders: Sliders, *,
    on_frames: Callable[[torch.Tensor], object], on_step: Callable[[int], object], cancel: threading.Event,
    **more: Any,
) -> int | None:  # fmt: skip
    """Draw a window; say after how many visits it was cut by `cancel`, None where it came to its end.

    `on_frames` is called with each finished frame, codes (k, 1), and `on_step` after each visit of the
    decoder, with how many there have been; it may block. More is for `run_steered`. A window that was cut
    keeps its finished frames; the next one goes on with the generator where it is.
    """
    delay, made, done = max(model.delays), 0, span.context

    def stepped(step: int, codes: torch.Tensor) -> None:
        nonlocal made, done
        made += 1
        whole = step + 1 - delay
        if whole > done:
            frames = codes[0, :, done:whole].clone()
            done = whole
            carried.tail = torch.cat([carried.tail, frames], dim=-1)[:, -carried.most :].clone()
            on_frames(frames)
        on_step(made)

    row, known = Row("", setup.plan, setup.seed, melody=setup.melody), carried.tail[None]
    calls = {"cancel": cancel, "on_step": stepped}
    run, edits, _seconds = lay_out(model, [row], span, known, setup.settings, **calls)
    run.generators = [carried.generator]
    try:
        run_steered(model, run, edits, sliders=sliders, **more)
    except Cancelled:
        return made
    return None
