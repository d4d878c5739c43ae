"""Music without an end, steered while it plays: windows drawn one after another by a thread."""

from __future__ import annotations

import statistics
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import torch

from workbench.errors import GenerationError, renamed_keywords
from workbench.files import require_room
from workbench.generation.engine import Readable, Span, Windows
from workbench.generation.live.journal import NONE, Doses, Journal, added
from workbench.generation.live.pacing import LiveFigures, Pacing, Playback, Rate, Score, Scores
from workbench.generation.live.recording import begin_recording, check_free
from workbench.generation.live.window import KnobTimer, LiveSetup, LiveSliders, LiveSound, draw_window
from workbench.generation.receipt import ReceiptWriter
from workbench.generation.request import Tune, melody_of, rows_of, settings_of
from workbench.model.musicgen import Model
from workbench.model.network import TIMED, Place, timed
from workbench.model.sampling import frames_for
from workbench.sound.clip import Clip
from workbench.steering.operations import Operation
from workbench.steering.plan import Direction

OVER = ("stopped", "failed")
LEAD_S, PIECE_S = 0.85, 0.2
_READ = 16  # positions that are read at once to time how a window opens
_RATES: weakref.WeakKeyDictionary[Model, dict[tuple[int, ...], Rate]] = weakref.WeakKeyDictionary()
_GLANCE_S = 0.02  # how often a thread that waits looks up
_FIRST_MINUTES = 1 << 20  # bytes of a recording
_PATIENCE_S = 30.0  # for the last step and sound when Python ends


def measure_rate(model: Model, *, guidance: float | None = None, **settings: Any) -> Rate:
    """Return how fast a `LiveSession` with these settings makes sound, from about two seconds of work.

    Timed are the decoder's visits at the end of a window, where they take longest, how it reads the overlap,
    and the codec. It is done once per model and settings, whatever else the computer does at that moment.
    """
    _check_numbers({name: settings.get(name, 1.0) for name in ("lead_s", "piece_seconds", "stretch_s")})
    lengths: dict[str, Any] = {name: settings.get(name) for name in ("window_seconds", "overlap_seconds")}
    windows = Windows.of(model, 1.0, **lengths)
    piece = frames_for(settings.get("piece_seconds", PIECE_S), model.frame_rate_hz)
    guidance = settings_of(model, guidance=guidance).guidance
    known, key = _RATES.setdefault(model, {}), (windows.window, windows.overlap, guidance > 1, piece)
    if key not in known:
        run = model.sampling(["a tune"], seeds=[0], frames=windows.window, guidance=guidance)
        with model.exclusive():
            step_s = statistics.median(model.network.time_visits(run.text, max(0, windows.window - TIMED)))
            read_s = min(model.network.time_visits(run.text, 0, _READ)) * windows.overlap / _READ
        new, opening_s = windows.window - windows.overlap, read_s + max(model.delays) * step_s
        busy_s = opening_s + new * (step_s + _piece_seconds(model, piece) / piece)
        known[key] = Rate(new / model.frame_rate_hz / busy_s, opening_s)
    return known[key]


def _piece_seconds(model: Model, piece: int) -> float:
    """Return how long the codec takes for a piece, as `LiveSound` has it decoded."""
    sound, generator = LiveSound(model, piece), torch.Generator().manual_seed(0)

    def decode(count: int) -> list[Clip]:
        size = model.n_codebooks, count
        return list(sound.add(torch.randint(model.codebook_size, size, generator=generator)))

    decode(piece + sound.ahead)
    return statistics.median(timed(lambda: decode(piece)))


class LiveSession:
    """One stretch of music without an end. It is used once: what was stopped stays stopped.

    Between the windows that it is drawn in, and while it is paused, the model is free for others. How fast
    the model is, is measured when its first session is made (a second or two), so that one that is slower
    than real time holds enough back from the start, with a desk or without. The codec works beside the next
    step, in a thread of its own; the measured rate counts it as if it did not.

        session = LiveSession(model, {"jazz": jazz, "rock": rock}, on_piece=...)
        session.start().wait(10)
        session.slide("jazz", 0.15)
        session.stop()

    Args:
        model: The model; while a window is drawn nobody else can use it.
        directions: Name -> unit direction, a knob each.
        prompt: Text; it may be changed at any time and takes effect with the next window.
        doses: Where the knobs begin, 0 for those that are left out.
        seed: Of the private generator.
        window_seconds, overlap_seconds: As in `generate_long`.
        stretch_s: A model slower than real time holds back what so many seconds without a gap need.
        lead_s: How far the step that is drawn may be ahead of the ear: the longest way from knob to ear.
        piece_seconds: Length of the pieces in which sound is delivered.
        on_piece: Called with each piece, from the thread that draws.
        playback: Knows what has been heard; by default the clock.
        probes: Read meanwhile, see `scores`.
        melody: A clip or melody to follow, again and again, where the model takes one.
        operation, branch: How and on which branch of guidance the knobs push, as in `Direction.at`.
        guidance, temperature, top_k: As in `generate`.

    Attributes:
        rate: How fast the model was measured to be, by `measure_rate`.
        state: "ready", "playing", "paused", "stopped" or "failed".
        error: What went wrong in the thread, if something did.

    Raises:
        GenerationError: For lengths, doses and settings that make no sense.
        SteeringError: When a direction does not fit the model.
    """

    state = "ready"
    error: BaseException | None = None
    _thread: threading.Thread | None = None
    _folder: Path | None = None  # to record into, as is wished
    _journal: Journal | None = None
    _writer: ReceiptWriter | None = None
    _decoding: Future[list[Clip]] | None = None  # pieces of the latest frames
    _pushes = _latest = NONE  # of the windows before, and of the present one
    _steps = _frames = _windows = _start = 0
    _free_at = 0.0

    @renamed_keywords(rows="branch")
    def __init__(
        self, model: Model, directions: Mapping[str, Direction], *, prompt: str = "a tune",
        doses: Mapping[str, float] | None = None, seed: int = 0, window_seconds: float | None = None,
        overlap_seconds: float | None = None, lead_s: float = LEAD_S, piece_seconds: float = PIECE_S,
        stretch_s: float = 10.0, on_piece: Callable[[Clip], object] | None = None,
        playback: Playback | None = None, probes: Sequence[Readable] = (), melody: Tune | None = None,
        operation: str | Operation = "add", branch: str = "cond", guidance: float | None = None,
        temperature: float | None = None, top_k: float | None = None,
    ) -> None:  # fmt: skip
        lengths: dict[str, Any] = {"window_seconds": window_seconds, "overlap_seconds": overlap_seconds}
        windows = Windows.of(model, 1.0, **lengths)
        drawn = settings_of(model, guidance=guidance, temperature=temperature, top_k=top_k)
        more: dict[str, Any] = {"operation": operation, "branch": branch, "melody": melody_of(model, melody)}
        knobs = tuple(directions.items())
        setup = LiveSetup(knobs, seed, drawn, windows.window, windows.overlap, **more)
        rows_of(model, [prompt], setup.plan, seed)  # raises where something does not fit
        self.model, self.setup, self.names = model, setup, tuple(directions)
        begin = {self._known(name): dose for name, dose in (doses or {}).items()}
        _check_numbers({"lead_s": lead_s, "piece_seconds": piece_seconds, "stretch_s": stretch_s, **begin})
        self._prompt, self._on_piece, self._scores = prompt, on_piece, Scores(probes)
        self._sliders = LiveSliders([begin.get(name, 0.0) for name in self.names], self._read)
        self._timer = KnobTimer()
        self._sound = LiveSound(model, frames_for(piece_seconds, model.frame_rate_hz))
        self._to_decode: SimpleQueue[tuple[torch.Tensor, Future[list[Clip]]] | None] = SimpleQueue()
        self.rate = measure_rate(model, piece_seconds=piece_seconds, guidance=guidance, **lengths)
        rate_hz = model.frame_rate_hz
        self._pacing = Pacing(
            lead_s, latency_s=(max(model.delays) + self._sound.ahead) / rate_hz, frame_rate_hz=rate_hz,
            piece_s=self._sound.piece / rate_hz, stretch_s=stretch_s, rate=self.rate,
            steps=max(100, windows.window - windows.overlap),
        )  # fmt: skip
        self.playback = playback or Playback()
        self.playback.hold_s = self._pacing.now().hold_s
        self._carried = setup.begin(model)
        self._cut, self._pausing, self._stopping, self._over = (threading.Event() for _ in range(4))

    @property
    def prompt(self) -> str:
        """The text that the next window is drawn under."""
        return self._prompt

    @prompt.setter
    def prompt(self, text: str) -> None:
        rows_of(self.model, [text], None, 0)  # raises where it is no text
        self._prompt = text

    def start(self) -> LiveSession:
        """Begin to play, or go on after a pause; return at once. GenerationError where it is over."""
        if self.state in OVER:
            asked = f"A session that has {self.state} was to be started"
            raise GenerationError(asked, "it is over", "Make a new one")
        self._pausing.clear()
        self.playback.resume()
        if self._thread is None:
            self.state = "playing"
            self._thread = threading.Thread(target=self._run, daemon=True, name="workbench-live")
            self._thread.start()
            told = self._sound, self._to_decode
            threading.Thread(target=_decode, args=told, daemon=True, name="workbench-codec").start()
            weakref.finalize(self, _end, self._thread, self._stopping, self._cut)
        return self

    def pause(self) -> None:
        """Stop the music until `start`; the window is cut, so that the model is free for others."""
        self._pausing.set()
        self._cut.set()  # after the wish, here and below
        self.playback.pause()
        self._timer.forget()

    def stop(self) -> None:
        """End session and recording, and return once the model is clean; warn as `figures().lost` does.

        Raises:
            BaseException: What went wrong in the thread, if something did.
        """
        self._stopping.set()
        self._cut.set()
        if self._thread is None:
            self._finish("stopped")
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
            GenerationError: Nothing will be heard: it was not started, or it is paused and has `seconds`.
            BaseException: What went wrong in the thread, if something did.
        """
        until_s = None if seconds is None else self.playback.played_s + seconds
        while not self.wait_over(_GLANCE_S):
            if until_s is not None and self.playback.played_s >= until_s:
                break
            if self._thread is None or (until_s is not None and self._pausing.is_set()):
                found = "it was not started" if self._thread is None else "it is paused"
                raise GenerationError("More of the music was to be waited for", found, "Call start() first")
        if self.error is not None:
            raise self.error
        return self

    def wait_over(self, timeout_s: float) -> bool:
        """Return whether the session is over, after at most `timeout_s` seconds."""
        return self._over.wait(timeout_s)

    def slide(self, name: str, dose: float) -> None:
        """Set a knob's dose for the next step, from any thread; GenerationError where either is none."""
        self._sliders.slide(self.names.index(self._known(name)), dose)

    @property
    def doses(self) -> dict[str, float]:
        """Where the knobs stand."""
        return dict(zip(self.names, self._sliders.doses, strict=True))

    def record(self, folder: Path | str) -> Path:
        """Begin to record into `folder`, with the next step; return the folder.

        Raises:
            GenerationError: There is a recording in it already.
            DiskError: The folder cannot be written, or the disk is too full for the first minutes.
        """
        check_free(Path(folder))
        directions = sum(direction.vector.nbytes for _name, direction in self.setup.directions)
        require_room(folder, directions + _FIRST_MINUTES)
        self._folder = Path(folder)
        self._cut.set()  # a recording begins with a window
        return self._folder

    def end_recording(self) -> None:
        """End the recording with what is drawn now; the music goes on."""
        self._folder = None

    @property
    def recording(self) -> bool:
        """Whether a recording is going on, or about to begin."""
        return self._folder is not None

    @property
    def scores(self) -> list[Score]:
        """What the probes read, for each second and probe, of the last minutes."""
        return list(self._scores.lines)

    def figures(self) -> LiveFigures:
        """How it is doing now."""
        pace = self._pacing.now()
        return LiveFigures(
            state=self.state,
            played_s=self.playback.played_s,
            lead_s=self.playback.ahead_s,
            underruns=self.playback.underruns,
            steps=self._steps,
            frames=self._frames,
            sounding=self._sound.frames,
            windows=self._windows,
            steps_per_second=self._pacing.steps_per_second,
            real_time_factor=self._pacing.real_time_factor,
            hold_s=pace.hold_s,
            slow=pace.slow,
            knob_to_ear_s=self._timer.last_s,
            worst_knob_to_ear_s=self._timer.worst_s,
            pushes=added(self._pushes, self._latest),
            stretch_s=self._pacing.stretch_s,
            filling=pace.slow and self.state == "playing" and not self.playback.running,
        )

    def _known(self, name: str) -> str:
        GenerationError.among(name, self.names, "The knob", held="the knobs are")
        return name

    # What follows runs in the thread that draws.

    def _run(self) -> None:
        """Draw window after window; the thread's outermost function, so it catches everything."""
        try:
            self._draw_on()
            self._deliver(self._sound.rest())
        except BaseException as error:
            self.error = error
        self._to_decode.put(None)
        try:
            self._end_journal()
        except (OSError, GenerationError) as error:
            self.error = self.error or error
        self.playback.finish()
        self._finish("stopped" if self.error is None else "failed")

    def _finish(self, state: str) -> None:
        self.state = state
        self._over.set()

    def _draw_on(self) -> None:
        """Draw windows until a stop is wished for."""
        fresh = True
        while True:
            self._cut.clear()  # before looking: a wish that comes later cuts the window
            if self._stopping.is_set():
                return
            self._follow_recording()
            if self._pausing.is_set():
                self.state, fresh = "paused", True
                self._stopping.wait(_GLANCE_S)
                continue
            self.state = "playing"
            if fresh:
                self._free_at, fresh = time.monotonic(), False
            self._draw_window()

    def _draw_window(self) -> None:
        """Draw one window, and count what its pushes did."""
        new, context = self.setup.window - self.setup.overlap, self._carried.tail.shape[-1]
        span = Span(self._frames, new, context, self._prompt)
        if self._journal is not None:
            self._journal.note(window=[span.start, span.frames, span.context], prompt=span.prompt)
        self._start = span.start
        self._windows += 1
        self._sliders.begin_window()
        calls: dict[str, Any] = {"on_frames": self._add, "on_step": self._stepped, "begun": self._begun}
        drawn = self.model, self.setup, span, self._carried, self._sliders
        try:
            cut = draw_window(*drawn, **calls, cancel=self._cut, watched=self._scores.places)
            if self._journal is not None and cut is not None:
                self._journal.note(cut=cut)
            self._hear(wait=True)
        finally:
            self._count()
            if self._journal is not None:
                self._journal.note(pushes=[*self._latest.values()])
            self._pushes, self._latest, self._writer = added(self._pushes, self._latest), NONE, None

    def _count(self) -> None:
        """Count what the pushes of the present window did up to now."""
        if self._writer is not None:
            self._latest = self._writer.counts()

    def _begun(self, writer: ReceiptWriter, seen: Mapping[Place, list[torch.Tensor]]) -> None:
        self._writer = writer
        self._scores.begin(seen)

    def _read(self, visit: int, doses: Doses, moved: float | None) -> None:
        """Note what a step reads at the knobs, before it is drawn."""
        if self._journal is not None:
            self._journal.note(visit=visit, doses=doses)
        if moved is not None:
            self._timer.read(moved, (self._start + visit) / self.model.frame_rate_hz)

    def _add(self, frames: torch.Tensor) -> None:
        """Take over finished frames: into the journal, and to the codec, which works beside the next step."""
        self._frames += frames.shape[-1]
        if self._journal is not None:
            self._journal.add(frames.cpu().numpy())
        self._hear(wait=True)
        self._decoding = Future()
        self._to_decode.put((frames, self._decoding))

    def _hear(self, *, wait: bool = False) -> None:
        """Deliver the pieces that the codec has made; those that it still makes if it is to be waited for."""
        if self._decoding is not None and (wait or self._decoding.done()):
            pieces, self._decoding = self._decoding.result(), None
            self._deliver(pieces)

    def _deliver(self, pieces: Iterable[Clip]) -> None:
        for piece in pieces:
            if self._on_piece is not None:
                self._on_piece(piece)
            self.playback.deliver(piece.seconds)

    def _stepped(self, visits: int) -> None:
        """Do what is due after a step, then wait until the next one may be drawn."""
        position_s = (self._start + visits) / self.model.frame_rate_hz
        self._scores.step(position_s)
        self._hear()
        self._timer.heard(self.playback.played_s)
        if visits % round(self.model.frame_rate_hz) == 0:
            self._count()
        if self._folder is None:
            self._end_journal()
        if self._steps:  # the first step of all warms up
            self._pacing.worked(time.monotonic() - self._free_at)
        self._steps += 1
        self._keep_pace(position_s)
        self._free_at = time.monotonic()

    def _keep_pace(self, position_s: float) -> None:
        """Wait while the step that was drawn is further ahead of the ear than the lead."""
        while not self._cut.is_set():
            self._hear()
            pace = self._pacing.now()
            self.playback.hold_s = pace.hold_s
            too_early_s = position_s - self.playback.played_s - pace.lead_s
            if too_early_s <= 0:
                return
            self._timer.heard(self.playback.played_s)
            self._cut.wait(min(too_early_s, _GLANCE_S))

    def _follow_recording(self) -> None:
        """Begin or end a recording as is wished; only between windows can one begin."""
        folder = self._folder
        if folder == (self._journal.folder if self._journal is not None else None):
            return
        self._end_journal()
        if folder is not None:
            self._journal = begin_recording(folder, self.model, self.setup, self._carried)

    def _end_journal(self) -> None:
        if self._journal is not None:
            if self._writer is not None:  # in the middle of a window
                self._count()
                self._journal.note(pushes=[*self._latest.values()])
            self._journal.end("failed" if self.error else "stopped")
        self._journal = None


def _decode(sound: LiveSound, wanted: SimpleQueue[tuple[torch.Tensor, Future[list[Clip]]] | None]) -> None:
    """Turn frames into pieces as they come, until None does; a thread's outermost function."""
    while (one := wanted.get()) is not None:
        frames, pieces = one
        try:
            pieces.set_result(list(sound.add(frames)))
        except BaseException as error:
            pieces.set_exception(error)


def _end(thread: threading.Thread, *wishes: threading.Event) -> None:
    """Stop a thread that still draws when Python ends: torch does not survive one that is frozen."""
    for wish in wishes:
        wish.set()
    if thread is not threading.current_thread():
        thread.join(_PATIENCE_S)


def _check_numbers(numbers: Mapping[str, object]) -> None:
    """Raise GenerationError unless all of these are finite."""
    do = "Use such as lead_s=0.85, piece_seconds=0.2 and doses of 0.1"
    for name, one in numbers.items():
        GenerationError.number(one, f"A session with {name} of", do=do)
