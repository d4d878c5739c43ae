"""Music without an end, steered while it plays: windows drawn one after another by a worker thread.

    session = LiveSession(model, {"jazz": jazz, "rock": rock}, on_piece=...)
    session.start()
    session.slide("jazz", 0.15)
    session.wait(10)
    session.stop()

Each window is one trace and goes on from the last seconds of codes with the same generator. Between windows,
and while the session is paused, the model is free for others.
"""

from __future__ import annotations

import math
import threading
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from workbench.errors import GenerationError, number_or_nan
from workbench.generation.draw import Readable
from workbench.generation.live_figures import LiveFigures, Score
from workbench.generation.live_window import LiveSetup
from workbench.generation.live_worker import LiveWorker, Wishes
from workbench.generation.melody_prompt import Tune, heard_melody
from workbench.generation.playback import Playback
from workbench.generation.recording import check_free, check_room
from workbench.generation.request import rows_of, settings_of
from workbench.generation.spans import Windows
from workbench.model.musicgen import Model
from workbench.sound.clip import Clip
from workbench.steering.direction import Direction

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
        operation, rows: how and on which rows the knobs push, as in `Direction.at`.
        guidance, temperature, top_k: as in `generate`.

    Raises:
        GenerationError: for lengths, doses and settings that make no sense.
        SteeringError: when a direction does not fit the model.
    """

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
        operation: str = "add",
        rows: str = "cond",
        guidance: float | None = None,
        temperature: float | None = None,
        top_k: float | None = None,
    ) -> None:
        windows = Windows.of(model, 1.0, window_seconds=window_seconds, overlap_seconds=overlap_seconds)
        drawn = settings_of(model, guidance=guidance, temperature=temperature, top_k=top_k)
        knobs = tuple(directions.items())
        more: dict[str, Any] = {"operation": operation, "rows": rows, "melody": heard_melody(model, melody)}
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
        return self.worker.wishes.prompt

    @prompt.setter
    def prompt(self, text: str) -> None:
        rows_of(self.worker.model, [text], None, 0)  # raises where it is no text
        self.worker.wishes.prompt = text

    def start(self) -> LiveSession:
        """Begin to play, or go on after a pause; return at once.

        Raises:
            GenerationError: the session is over.
        """
        if self.state in OVER:
            raise GenerationError(
                f"A session that has {self.state} was to be started", "it is over", "Make a new one"
            )
        self.worker.wishes.pausing.clear()
        self.worker.playback.resume()
        if self._thread is None:
            self.worker.state = "playing"
            self._thread = threading.Thread(target=self.worker.run, daemon=True, name="workbench-live")
            self._thread.start()
            weakref.finalize(self.worker, _end, self.worker.wishes, self._thread)
        return self

    def pause(self) -> None:
        """Stop the music until `start`; the window is cut, so that the model is free for others."""
        self.worker.wishes.pausing.set()
        self.worker.wishes.cut.set()
        self.worker.playback.pause()
        self.worker.timer.forget()

    def stop(self) -> None:
        """End the session, the recording with it, and return once the model is clean.

        It warns where pushes did not arrive in the model; `figures().lost` says the same.

        Raises:
            BaseException: what went wrong in the worker, if something did.
        """
        self.worker.wishes.stopping.set()
        self.worker.wishes.cut.set()
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
            if self._thread is None or (until_s is not None and self.worker.wishes.pausing.is_set()):
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
        self.worker.controls.slide(place, dose)

    @property
    def doses(self) -> dict[str, float]:
        """Where the knobs stand."""
        return dict(zip(self.names, self.worker.controls.doses, strict=True))

    def record(self, folder: Path | str) -> Path:
        """Begin to record into `folder`, with the next step; return the folder.

        Raises:
            GenerationError: there is a recording in it already.
            DiskError: the folder cannot be written, or the disk is too full for the first minutes.
        """
        check_free(Path(folder))
        check_room(Path(folder), self.worker.setup)
        self.worker.wishes.folder = Path(folder)
        self.worker.wishes.cut.set()  # a recording begins with a window
        return Path(folder)

    def end_recording(self) -> None:
        """End the recording with what is drawn now; the music goes on."""
        self.worker.wishes.folder = None

    @property
    def recording(self) -> bool:
        """Whether a recording is going on, or about to begin."""
        return self.worker.wishes.folder is not None

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


def _end(wishes: Wishes, thread: threading.Thread) -> None:
    """Stop a worker that still plays when Python ends: torch does not survive a thread that is frozen."""
    wishes.stopping.set()
    wishes.cut.set()
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
