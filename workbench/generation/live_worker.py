"""The thread behind a session: it draws windows, turns frames into sound, keeps the pace and the journal."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from workbench.errors import GenerationError
from workbench.generation.draw import Readable
from workbench.generation.journal import NONE, Doses, Journal, added
from workbench.generation.live_controls import KnobTimer, LiveControls
from workbench.generation.live_figures import LiveFigures, Scores
from workbench.generation.live_sound import LiveSound
from workbench.generation.live_window import Carried, Listener, LiveSetup, draw_window
from workbench.generation.pacing import Pacing
from workbench.generation.playback import Playback
from workbench.generation.receipt import ReceiptWriter
from workbench.generation.recording import begin_recording
from workbench.model.musicgen import Model
from workbench.model.sampling import private_generators
from workbench.model.sites import Place
from workbench.model.tokens import frames_for
from workbench.sound.clip import Clip

_GLANCE_S = 0.02  # how often a worker that waits looks up


@dataclass
class Wishes:
    """What the user wants: set from any thread, followed by the worker.

    Set `cut` after each other wish that cannot wait for the end of the window.
    """

    prompt: str
    folder: Path | None = None
    cut: threading.Event = field(default_factory=threading.Event)
    pausing: threading.Event = field(default_factory=threading.Event)
    stopping: threading.Event = field(default_factory=threading.Event)


class LiveWorker:
    """Draws until it is told to stop. The arguments are those of `LiveSession`, checked.

    Attributes:
        wishes, controls: what may be changed meanwhile.
        playback, timer, scores: what is known of the listener, the knobs and the probes.
        state, over, error: how it is.
    """

    def __init__(
        self,
        model: Model,
        setup: LiveSetup,
        playback: Playback,
        *,
        prompt: str,
        doses: Sequence[float],
        lead_s: float,
        piece_seconds: float,
        on_piece: Callable[[Clip], object] | None,
        probes: Sequence[Readable],
    ) -> None:
        self.model, self.setup, self.playback, self._on_piece = model, setup, playback, on_piece
        self.wishes, self.timer, self.scores = Wishes(prompt), KnobTimer(), Scores(probes)
        self.controls = LiveControls(doses, self._read)
        rate = self._rate_hz = model.frame_rate_hz
        self.sound = LiveSound(model, frames_for(piece_seconds, rate))
        self.pacing = Pacing(
            lead_s,
            latency_s=(max(model.delays) + self.sound.ahead) / rate,
            piece_s=self.sound.piece / rate,
            frame_rate_hz=rate,
        )
        playback.hold_s = self.pacing.now().hold_s
        (generator,) = private_generators([setup.seed], model.random_device)
        tail = torch.zeros(model.n_codebooks, 0, dtype=torch.long, device=model.device)
        self._carried = Carried(generator, tail, setup.overlap)
        self._journal: Journal | None = None
        self._recorded: Path | None = None
        self._writer: ReceiptWriter | None = None
        self._pushes, self._latest = NONE, NONE
        self._steps = self._frames = self._windows = self._start = self._visits = 0
        self._free_at = 0.0
        self.state, self.over = "ready", threading.Event()
        self.error: BaseException | None = None

    def run(self) -> None:
        """Draw window after window; the thread's outermost function, so it catches everything."""
        try:
            self._draw_on()
            self._deliver(self.sound.rest())
        except BaseException as error:
            self.error = error
        try:
            self._end_journal()
        except (OSError, GenerationError) as error:
            self.error = self.error or error
        self.playback.finish()
        self.end("stopped" if self.error is None else "failed")

    def end(self, state: str) -> None:
        """Say that it is over."""
        self.state = state
        self.over.set()

    def figures(self) -> LiveFigures:
        """How it is doing now."""
        pace = self.pacing.now()
        return LiveFigures(
            state=self.state,
            played_s=self.playback.played_s,
            lead_s=self.playback.ahead_s,
            underruns=self.playback.underruns,
            steps=self._steps,
            frames=self._frames,
            sounding=self.sound.frames,
            windows=self._windows,
            steps_per_second=self.pacing.steps_per_second,
            real_time_factor=self.pacing.real_time_factor,
            hold_s=pace.hold_s,
            slow=pace.slow,
            knob_to_ear_s=self.timer.last_s,
            worst_knob_to_ear_s=self.timer.worst_s,
            pushes=self._counted(),
        )

    def _draw_on(self) -> None:
        """Draw windows until a stop is wished for."""
        fresh = True
        while True:
            self.wishes.cut.clear()  # before looking: a wish that comes later cuts the window
            if self.wishes.stopping.is_set():
                return
            self._follow_recording()
            if self.wishes.pausing.is_set():
                self.state, fresh = "paused", True
                self.wishes.stopping.wait(_GLANCE_S)
                continue
            self.state = "playing"
            if fresh:
                self._free_at, fresh = time.monotonic(), False
            self._draw_window()

    def _draw_window(self) -> None:
        """Draw one window, and count what its pushes did."""
        span = self.setup.span(self._frames, self.wishes.prompt, self._carried.tail.shape[-1])
        if self._journal is not None:
            self._journal.window(span)
        self._start, self._visits = span.start, 0
        self._windows += 1
        self.controls.begin_window()
        listener = Listener(self._add, self._stepped, self.wishes.cut, self.scores.places, self._begun)
        try:
            whole = draw_window(self.model, self.setup, span, self._carried, self.controls, to=listener)
            if self._journal is not None and not whole:
                self._journal.cut(self._visits)
        finally:
            self._count()
            if self._journal is not None:
                self._journal.pushes(self._latest)
            self._pushes, self._latest, self._writer = self._counted(), NONE, None

    def _count(self) -> None:
        """Count what the pushes of the present window did up to now."""
        if self._writer is not None:
            self._latest = self._writer.counts()

    def _counted(self) -> Mapping[str, int]:
        """What all pushes did, as far as they are counted."""
        return added(self._pushes, self._latest)

    def _begun(self, writer: ReceiptWriter, seen: Mapping[Place, list[torch.Tensor]]) -> None:
        self._writer = writer
        self.scores.begin(seen)

    def _read(self, visit: int, doses: Doses, moved: float | None) -> None:
        """Note what a step reads at the knobs, before it is drawn."""
        if self._journal is not None:
            self._journal.doses(visit, doses)
        if moved is not None:
            self.timer.read(moved, (self._start + visit) / self._rate_hz)

    def _add(self, frames: torch.Tensor) -> None:
        """Take over finished frames: into the journal, then into sound."""
        self._frames += frames.shape[-1]
        if self._journal is not None:
            self._journal.add(frames.cpu().numpy())
        self._deliver(self.sound.add(frames))

    def _deliver(self, pieces: Iterable[Clip]) -> None:
        for piece in pieces:
            if self._on_piece is not None:
                self._on_piece(piece)
            self.playback.deliver(piece.seconds)

    def _stepped(self, visits: int) -> None:
        """Do what is due after a step, then wait until the next one may be drawn."""
        self._visits = visits
        position_s = (self._start + visits) / self._rate_hz
        self.scores.step(position_s)
        self.timer.heard(self.playback.played_s)
        if visits % round(self._rate_hz) == 0:
            self._count()
        if self.wishes.folder is None:
            self._end_journal()
        if self._steps:  # the first step of all warms up
            self.pacing.worked(time.monotonic() - self._free_at)
        self._steps += 1
        self._keep_pace(position_s)
        self._free_at = time.monotonic()

    def _keep_pace(self, position_s: float) -> None:
        """Wait while the step that was drawn is further ahead of the ear than the lead."""
        while not self.wishes.cut.is_set():
            pace = self.pacing.now()
            self.playback.hold_s = pace.hold_s
            too_early_s = position_s - self.playback.played_s - pace.lead_s
            if too_early_s <= 0:
                return
            self.timer.heard(self.playback.played_s)
            self.wishes.cut.wait(min(too_early_s, _GLANCE_S))

    def _follow_recording(self) -> None:
        """Begin or end a recording as is wished; only between windows can one begin."""
        if self.wishes.folder == self._recorded:
            return
        self._end_journal()
        if self.wishes.folder is not None:
            self._recorded = self.wishes.folder
            self._journal = begin_recording(self._recorded, self.model, self.setup, self._carried)

    def _end_journal(self) -> None:
        if self._journal is not None:
            if self._writer is not None:  # in the middle of a window
                self._count()
                self._journal.pushes(self._latest)
            self._journal.end("failed" if self.error else "stopped")
        self._journal = self._recorded = None
