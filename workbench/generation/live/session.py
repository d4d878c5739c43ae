"""Music without an end, steered while it plays: windows drawn one after another by a worker thread.

    session = LiveSession(model, {"jazz": jazz, "rock": rock}, on_piece=...)
    session.start()
    session.slide("jazz", 0.15)
    session.wait(10)
    session.stop()

Each window is one trace and continues from the last seconds of codes with the same generator. Between
windows, and while the session is paused, the model is free for others.
"""

from __future__ import annotations

import math
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from workbench.errors import GenerationError, number_or_nan, renamed_keywords
from workbench.generation.engine import Readable, Windows
from workbench.generation.live.journal import NONE, Doses, Journal, added
from workbench.generation.live.pacing import LiveFigures, Pacing, Playback, Score, Scores
from workbench.generation.live.recording import begin_recording, check_free, check_room
from workbench.generation.live.window import (
    KnobTimer,
    Listener,
    LiveSetup,
    LiveSliders,
    LiveSound,
    WindowState,
    draw_window,
)
from workbench.generation.receipt import ReceiptWriter
from workbench.generation.request import Tune, melody_of, rows_of, settings_of
from workbench.model.musicgen import Model
from workbench.model.network import Place
from workbench.model.sampling import frames_for, private_generators
from workbench.sound.clip import Clip
from workbench.steering.operations import Operation
from workbench.steering.plan import Direction

_GLANCE_S = 0.02  # how often a worker that waits looks up


@dataclass
class SessionRequests:
    """What the user wants: set from any thread, followed by the worker.

    Set `cut` after each other wish that cannot wait for the end of the window.
    """

    prompt: str
    folder: Path | None = None
    cut: threading.Event = field(default_factory=threading.Event)
    pausing: threading.Event = field(default_factory=threading.Event)
    stopping: threading.Event = field(default_factory=threading.Event)


class LiveWorker:
    """The thread behind a session: draws windows, turns frames into sound, keeps the pace and the journal.

    The arguments are those of `LiveSession`, checked.

    Attributes:
        requests, sliders: what may be changed meanwhile.
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
        self.requests, self.timer, self.scores = SessionRequests(prompt), KnobTimer(), Scores(probes)
        self.sliders = LiveSliders(doses, self._read)
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
        self._carried = WindowState(generator, tail, setup.overlap)
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
            self.requests.cut.clear()  # before looking: a wish that comes later cuts the window
            if self.requests.stopping.is_set():
                return
            self._follow_recording()
            if self.requests.pausing.is_set():
                self.state, fresh = "paused", True
                self.requests.stopping.wait(_GLANCE_S)
                continue
            self.state = "playing"
            if fresh:
                self._free_at, fresh = time.monotonic(), False
            self._draw_window()

    def _draw_window(self) -> None:
        """Draw one window, and count what its pushes did."""
        span = self.setup.span(self._frames, self.requests.prompt, self._carried.tail.shape[-1])
        if self._journal is not None:
            self._journal.window(span)
        self._start, self._visits = span.start, 0
        self._windows += 1
        self.sliders.begin_window()
        listener = Listener(self._add, self._stepped, self.requests.cut, self.scores.places, self._begun)
        try:
            whole = draw_window(self.model, self.setup, span, self._carried, self.sliders, to=listener)
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
        if self.requests.folder is None:
            self._end_journal()
        if self._steps:  # the first step of all warms up
            self.pacing.worked(time.monotonic() - self._free_at)
        self._steps += 1
        self._keep_pace(position_s)
        self._free_at = time.monotonic()

    def _keep_pace(self, position_s: float) -> None:
        """Wait while the step that was drawn is further ahead of the ear than the lead."""
        while not self.requests.cut.is_set():
            pace = self.pacing.now()
            self.playback.hold_s = pace.hold_s
            too_early_s = position_s - self.playback.played_s - pace.lead_s
            if too_early_s <= 0:
                return
            self.timer.heard(self.playback.played_s)
            self.requests.cut.wait(min(too_early_s, _GLANCE_S))

    def _follow_recording(self) -> None:
        """Begin or end a recording as is wished; only between windows can one begin."""
        if self.requests.folder == self._recorded:
            return
        self._end_journal()
        if self.requests.folder is not None:
            self._recorded = self.requests.folder
            self._journal = begin_recording(self._recorded, self.model, self.setup, self._carried)

    def _end_journal(self) -> None:
        if self._journal is not None:
            if self._writer is not None:  # in the middle of a window
                self._count()
                self._journal.pushes(self._latest)
            self._journal.end("failed" if self.error else "stopped")
        self._journal = self._recorded = None


OVER = ("stopped", "failed")
_PATIENCE_S = 30.0  # for a worker's last step and sound when Python ends


class LiveSession:
    """One stretch of music without an end. It is used once: what was stopped stays stopped.

    Args:
        model: the model; while a window is drawn nobody else can use it.
        directions: name -> unit direction, a knob each.
        prompt: text; it may be changed at any time and takes effect with the next window.
        doses: where the knobs begin, 0 for those that are left out.
        seed: of the private generator.
        window_seconds: the most that is heard and made in one window; the checkpoint's own length when None.
        overlap_seconds: how much each window hears of what is there already; 0.4 of a window when None.
        lead_s: how far the step that is drawn may be ahead of the ear: the longest way from knob to ear.
        piece_seconds: how long the pieces are in which sound is delivered.
        on_piece: called with each piece, from the worker thread.
        playback: knows what has been heard; by default the clock.
        probes: read meanwhile, see `scores`.
        melody: a clip or melody to follow, again and again, where the model takes one.
        operation, branch: how and on which branch of guidance the knobs push, as in `Direction.at`.
        guidance, temperature, top_k: as in `generate`.

    Raises:
        GenerationError: for lengths, doses and settings that make no sense.
        SteeringError: when a direction does not fit the model.
    """

    @renamed_keywords(rows="branch")
    def __init__(
        self,
        model: Model,
        directions: Mapping[str, Direction],
        *,
        prompt: str = "a tune",
        doses: Mapping[str, float] | None = None,
        seed: int = 0,
        window_seconds: float | None = None,
        overlap_seconds: float | None = None,
        lead_s: float = 0.85,
        piece_seconds: float = 0.2,
        on_piece: Callable[[Clip], object] | None = None,
        playback: Playback | None = None,
        probes: Sequence[Readable] = (),
        melody: Tune | None = None,
        operation: str | Operation = "add",
        branch: str = "cond",
        guidance: float | None = None,
        temperature: float | None = None,
        top_k: float | None = None,
    ) -> None:
        windows = Windows.of(model, 1.0, window_seconds=window_seconds, overlap_seconds=overlap_seconds)
        drawn = settings_of(model, guidance=guidance, temperature=temperature, top_k=top_k)
        knobs = tuple(directions.items())
        more: dict[str, Any] = {"operation": operation, "branch": branch, "melody": melody_of(model, melody)}
        setup = LiveSetup(knobs, seed, drawn, windows.window, windows.overlap, **more)
        rows_of(model, [prompt], setup.plan, seed)  # raises where something does not fit
        self.names = tuple(directions)
        begin = {self._known(name): number_or_nan(dose) for name, dose in (doses or {}).items()}
        _check_numbers({"lead_s": lead_s, "piece_seconds": piece_seconds, **begin})
        self.worker = LiveWorker(
            model,
            setup,
            playback or Playback(),
            prompt=prompt,
            doses=[begin.get(name, 0.0) for name in self.names],
            lead_s=lead_s,
            piece_seconds=piece_seconds,
            on_piece=on_piece,
            probes=probes,
        )
        self._thread: threading.Thread | None = None

    @property
    def state(self) -> str:
        """What it is: "ready", "playing", "paused", "stopped" or "failed"."""
        return self.worker.state

    @property
    def error(self) -> BaseException | None:
        """What went wrong in the worker, if something did."""
        return self.worker.error

    @property
    def prompt(self) -> str:
        """The text that the next window is drawn under."""
        return self.worker.requests.prompt

    @prompt.setter
    def prompt(self, text: str) -> None:
        rows_of(self.worker.model, [text], None, 0)  # raises where it is no text
        self.worker.requests.prompt = text

    def start(self) -> LiveSession:
        """Begin to play, or go on after a pause; return at once.

        Raises:
            GenerationError: the session is over.
        """
        if self.state in OVER:
            raise GenerationError(
                f"A session that has {self.state} was to be started", "it is over", "Make a new one"
            )
        self.worker.requests.pausing.clear()
        self.worker.playback.resume()
        if self._thread is None:
            self.worker.state = "playing"
            self._thread = threading.Thread(target=self.worker.run, daemon=True, name="workbench-live")
            self._thread.start()
            weakref.finalize(self.worker, _end, self.worker.requests, self._thread)
        return self

    def pause(self) -> None:
        """Stop the music until `start`; the window is cut, so that the model is free for others."""
        self.worker.requests.pausing.set()
        self.worker.requests.cut.set()
        self.worker.playback.pause()
        self.worker.timer.forget()

    def stop(self) -> None:
        """End the session, the recording with it, and return once the model is clean.

        It warns where pushes did not arrive in the model; `figures().lost` says the same.

        Raises:
            BaseException: what went wrong in the worker, if something did.
        """
        self.worker.requests.stopping.set()
        self.worker.requests.cut.set()
        if self._thread is None:
            self.worker.end("stopped")
        elif self._thread is not threading.current_thread():
            self._thread.join()
            if self.error is not None:
                raise self.error
            if lost := self.figures().lost:
                warnings.warn(lost, stacklevel=2)

    def wait(self, seconds: float | None = None) -> LiveSession:
        """Return when `seconds` more of the music have been heard, or when the session is over.

        Without `seconds` it waits through pauses too.

        Raises:
            GenerationError: nothing will be heard: the session was not started, or it is paused and `seconds`
                of the music were asked for.
            BaseException: what went wrong in the worker, if something did.
        """
        playback = self.worker.playback
        until_s = None if seconds is None else playback.played_s + seconds
        while not self.worker.over.wait(0.02):
            if until_s is not None and playback.played_s >= until_s:
                break
            if self._thread is None or (until_s is not None and self.worker.requests.pausing.is_set()):
                found = "it was not started" if self._thread is None else "it is paused"
                raise GenerationError("More of the music was to be waited for", found, "Call start() first")
        if self.error is not None:
            raise self.error
        return self

    def wait_over(self, timeout_s: float) -> bool:
        """Return whether the session is over, after at most `timeout_s` seconds."""
        return self.worker.over.wait(timeout_s)

    def slide(self, name: str, dose: float) -> None:
        """Set the dose of a knob, from any thread; the next step reads it.

        Raises:
            GenerationError: there is no such knob, or the dose is not finite.
        """
        place = self.names.index(self._known(name))
        self.worker.sliders.slide(place, dose)

    @property
    def doses(self) -> dict[str, float]:
        """Where the knobs stand."""
        return dict(zip(self.names, self.worker.sliders.doses, strict=True))

    def record(self, folder: Path | str) -> Path:
        """Begin to record into `folder`, with the next step; return the folder.

        Raises:
            GenerationError: there is a recording in it already.
            DiskError: the folder cannot be written, or the disk is too full for the first minutes.
        """
        check_free(Path(folder))
        check_room(Path(folder), self.worker.setup)
        self.worker.requests.folder = Path(folder)
        self.worker.requests.cut.set()  # a recording begins with a window
        return Path(folder)

    def end_recording(self) -> None:
        """End the recording with what is drawn now; the music goes on."""
        self.worker.requests.folder = None

    @property
    def recording(self) -> bool:
        """Whether a recording is going on, or about to begin."""
        return self.worker.requests.folder is not None

    @property
    def scores(self) -> list[Score]:
        """What the probes read, for each second and probe, of the last minutes."""
        return list(self.worker.scores.lines)

    def figures(self) -> LiveFigures:
        """How it is doing now."""
        return self.worker.figures()

    def _known(self, name: str) -> str:
        if name not in self.names:
            raise GenerationError(
                f"The knob {name!r} was asked for",
                f"the knobs are {', '.join(self.names) or 'none'}",
                "Use one of these",
            )
        return name


def _end(requests: SessionRequests, thread: threading.Thread) -> None:
    """Stop a worker that still plays when Python ends: torch does not survive a thread that is frozen."""
    requests.stopping.set()
    requests.cut.set()
    if thread is not threading.current_thread():
        thread.join(_PATIENCE_S)


def _check_numbers(numbers: Mapping[str, float]) -> None:
    """Raise GenerationError unless all of these are finite."""
    bad = [name for name, number in numbers.items() if not math.isfinite(number_or_nan(number))]
    if bad:
        raise GenerationError(
            f"A session with {', '.join(f'{name}={numbers[name]!r}' for name in bad)} was asked for",
            "these are no finite numbers",
            "Use such as lead_s=0.85, piece_seconds=0.2 and doses of 0.1",
        )
