"""One window of a music that does not end: drawn under one trace, as often as it takes, live or replayed.

Live drawing and replay both go through `draw_window`. What decides the codes is the setup, the span, what
is carried from window to window, and what the sliders said at each step; nothing else may enter here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

import torch

from workbench.errors import Cancelled, GenerationError, is_whole
from workbench.generation.cells import lay_out
from workbench.generation.controls import Controls
from workbench.generation.request import Settings
from workbench.generation.spans import Span
from workbench.generation.steer_loop import Begun, run_steered
from workbench.model.melody import Melody, shifted
from workbench.model.musicgen import Model
from workbench.model.sites import Place
from workbench.model.tokens import seconds_at
from workbench.steering.direction import Direction
from workbench.steering.operations import PUSHES
from workbench.steering.plan import Steering


@dataclass(frozen=True)
class LiveSetup:
    """What stays the same throughout a session.

    directions  name and unit direction of each knob; the plan holds each with dose 1, and the knob's dose is
                the slider that it is multiplied by, so that a knob that begins at 0 can be turned up later
    seed        of the one private generator
    window      frames that are heard and made in one window, at most
    overlap     frames that are heard again, at most
    melody      what the music follows from the session's beginning, again and again
    """

    directions: tuple[tuple[str, Direction], ...]
    seed: int
    settings: Settings
    window: int
    overlap: int
    operation: str = "add"
    rows: str = "cond"
    melody: Melody | None = None

    def __post_init__(self) -> None:
        if self.operation not in PUSHES:
            raise GenerationError(
                f"Knobs that {self.operation} were asked for",
                f"a knob's dose multiplies a push, which are {', '.join(PUSHES)}",
                "Use one of these",
            )
        whole = is_whole(self.seed, 0, 2**63 - 1) and is_whole(self.window, 2) and is_whole(self.overlap, 1)
        if not (whole and self.overlap < self.window):
            raise GenerationError(
                f"Windows of {self.window!r} frames that share {self.overlap!r} and the seed {self.seed!r} "
                "were asked for",
                "a window shares some of its frames, and a seed is a whole number from 0 to 2**63 - 1",
                "Use 0 < overlap < window",
            )

    @property
    def plan(self) -> Steering:
        """Every direction with dose 1."""
        parts = [one.at(1.0, operation=self.operation, rows=self.rows) for _name, one in self.directions]
        return Steering(tuple(term for part in parts for term in part.terms))

    def span(self, start: int, prompt: str, known: int) -> Span:
        """The window that begins at frame `start`, where `known` frames can be heard."""
        return Span(start, self.window - self.overlap, min(self.overlap, known), prompt)


@dataclass
class Carried:
    """What one window hands to the next: the end of the codes (k, at most `most`), and the generator."""

    generator: torch.Generator
    tail: torch.Tensor
    most: int

    def add(self, frames: torch.Tensor) -> None:
        """Append frames (k, n) and forget what no window hears any more."""
        self.tail = torch.cat([self.tail, frames], dim=-1)[:, -self.most :].clone()


@dataclass(frozen=True)
class Listener:
    """Who is told what while a window is drawn.

    on_frames  each finished frame, codes (k, 1), in order and once
    on_step    after each visit of the decoder, with how many there have been; it may block
    cancel     set it to cut the window before the next step
    """

    on_frames: Callable[[torch.Tensor], object]
    on_step: Callable[[int], object]
    cancel: threading.Event = field(default_factory=threading.Event)
    watched: Sequence[Place] = ()
    begun: Begun | None = None


def draw_window(
    model: Model, setup: LiveSetup, span: Span, carried: Carried, controls: Controls, *, to: Listener
) -> bool:
    """Draw a window; say whether it came to its end, or was cut by the listener's `cancel`.

    A window that was cut keeps its finished frames. The generator stays where it is: the next window, live
    or replayed, goes on from there.
    """
    delay, made, done = max(model.delays), 0, span.heard

    def stepped(step: int, codes: torch.Tensor) -> None:
        nonlocal made, done
        made += 1
        whole = step + 1 - delay
        if whole > done:
            frames = codes[0, :, done:whole].clone()
            done = whole
            carried.add(frames)
            to.on_frames(frames)
        to.on_step(made)

    run = model.sampling(
        [span.prompt or ""],
        seeds=[setup.seed],
        frames=span.heard + span.frames,
        melodies=shifted([setup.melody], seconds_at(span.start - span.heard, model.frame_rate_hz)),
        given=carried.tail[None, :, -span.heard :] if span.heard else None,
        cancel=to.cancel,
        on_step=stepped,
        **asdict(setup.settings),
    )
    run.generators = [carried.generator]
    seconds = [seconds_at(visit, model.frame_rate_hz) for visit in range(run.visits)]
    edits = lay_out([setup.plan], seconds, guided=run.guided, device=model.device, seeds=[setup.seed])
    try:
        run_steered(model, run, edits, to.watched, controls, begun=to.begun)
    except Cancelled:
        return False
    return True
