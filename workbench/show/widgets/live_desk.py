"""The live desk: music that does not end, knobs that are turned while it plays, and a recording."""

from __future__ import annotations

import html
import math
import os
import threading
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets

from workbench.errors import GenerationError, SteeringError, WorkbenchError
from workbench.generation.engine import Readable
from workbench.generation.live.pacing import Playback, Score
from workbench.generation.live.recording import Recording
from workbench.generation.live.session import OVER, LiveSession
from workbench.show.plots.grammar import colours_for
from workbench.show.widgets.parts import (
    FULL,
    button,
    control,
    dose_slider,
    follow,
    in_row,
    note_html,
    problem_html,
    shows_errors,
    value_of,
)
from workbench.show.widgets.players import LivePlayer
from workbench.show.widgets.steer_lab import BlendPad

if TYPE_CHECKING:
    from workbench.generation.live.pacing import LiveFigures
    from workbench.model.musicgen import Model
    from workbench.steering.plan import Direction

SHOWN_S = 60.0
_WIDTH, _HEIGHT = 420, 90


def score_lines(scores: Sequence[Score]) -> str:
    """Return HTML: per probe a line for each class over the last minute, and what it reads now, in words.

    It is cheap enough to be drawn anew every second.
    """
    targets = dict.fromkeys(score.target for score in scores)
    return "".join(_picture([score for score in scores if score.target == name]) for name in targets)


def _picture(scores: Sequence[Score]) -> str:
    last = scores[-1]
    begin = max(0.0, last.seconds - SHOWN_S)
    shades, lines, readings = colours_for(last.probabilities), "", ""
    for name, share in sorted(last.probabilities.items(), key=lambda item: -item[1]):
        points = " ".join(  # probability 1 is the top edge
            f"{(one.seconds - begin) / SHOWN_S * _WIDTH:.0f},{(1 - one.probabilities[name]) * _HEIGHT:.0f}"
            for one in scores
            if one.seconds >= begin
        )
        lines += f"<polyline fill='none' stroke='{shades[name]}' stroke-width='2' points='{points}'/>"
        look = f"border-left: 5px solid {shades[name]}; padding: 0 5px"
        readings += f"<span style='{look}'>{html.escape(name)} {share:.0%}</span> "
    title = f"What does the probe hear? ({html.escape(last.target)}, the last minute)"
    return (
        f"<div class='wb-note'><b>{title}</b><br>"
        f"<svg role='img' aria-label='{title}' viewBox='0 0 {_WIDTH} {_HEIGHT}' "
        f"style='width: min(100%, {_WIDTH}px); border: 1px solid var(--jp-border-color1, #bbb); "
        f"background: var(--jp-layout-color0, white); fill: currentColor'>{lines}"
        f"<text x='3' y='11' font-size='10'>100 %</text>"
        f"<text x='3' y='{_HEIGHT - 3}' font-size='10'>0 %</text>"
        f"<text x='{_WIDTH - 3}' y='11' font-size='10' text-anchor='end'>{begin + SHOWN_S:.0f} s</text></svg>"
        f"<br>{readings}</div>"
    )


_EVERY_S = 0.5  # how often figures are shown


class LiveDesk(ipywidgets.VBox):
    """Knobs, prompt, play, record: everything may be moved while the music plays.

    Args:
        model: the loaded model.
        directions: name -> unit Direction, a knob each.
        prompt: what the music begins with.
        seed: of what is drawn.
        folder: where recordings go, each into one of its own; when None, `live` in WORKBENCH_OUT or out.
        most: the largest dose of a knob, either way.
        pad: four of the names, for a blend pad; None for none.
        probes: what they read is drawn once a second.
        settings: those of `LiveSession`: window_seconds, overlap_seconds, lead_s, guidance, temperature ...

    `start()`, `wait(seconds)`, `pause()` and `stop()` do what the buttons do, also without a browser;
    `knobs["jazz"].value = 0.15` turns a knob. What is recorded (the whole of each session, unless the
    button says otherwise) is `recording`.

    Raises:
        SteeringError: there is no direction, or the pad names one that is not there.
    """

    def __init__(
        self,
        model: Model,
        directions: Mapping[str, Direction],
        *,
        prompt: str = "a calm tune",
        seed: int = 0,
        folder: Path | str | None = None,
        most: float = 0.4,
        pad: Sequence[str] | None = None,
        probes: Sequence[Readable] = (),
        **settings: Any,
    ) -> None:
        strange = [name for name in pad or () if name not in directions]
        if not directions or strange:
            asked = "A live desk was asked for" + (f" with a pad of {', '.join(pad)}" if pad else "")
            found = f"the directions are {', '.join(directions) or 'none'}"
            raise SteeringError(asked, found, "Give directions by name, and a pad of four of them")
        self.model, self.directions = model, dict(directions)
        out = Path(os.environ.get("WORKBENCH_OUT", "out")) / "live"
        self.folder = out if folder is None else Path(folder)
        self._settings = {"seed": seed, "probes": probes, **settings}
        self.session: LiveSession | None = None
        self.folders: list[Path] = []
        self.status, self.scores, self.problem = ipywidgets.HTML(), ipywidgets.HTML(), ipywidgets.HTML()
        self.knobs = {
            name: dose_slider(name, -most, most, 0.01, "420px", continuous_update=True) for name in directions
        }
        self.pad = None if pad is None else BlendPad(list(pad))
        self.player = LivePlayer(model.rate_hz)
        self.prompt = control(ipywidgets.Text, "prompt", "560px", value=prompt, continuous_update=False)
        self._add_buttons()
        super().__init__(self._parts(), layout=FULL)
        self._listen()
        self._say("Press Play. A prompt takes effect with the next window, a knob at once.")

    def _add_buttons(self) -> None:
        self.play = button("▶ Play", "Begin the music, or go on", self._toggle, self.problem)
        self.play.button_style = "primary"
        self.halt = button("■ Stop", "End the music and the recording", self.stop, self.problem)
        self.record = ipywidgets.ToggleButton(
            value=True, description="● Record", tooltip="Write down what is played", layout={"width": "auto"}
        )
        hint = "Write the sound of the last recording beside it"
        self.keep = button("Save as WAV", hint, self._save_aside, self.problem)

    def _parts(self) -> list[ipywidgets.Widget]:
        rack = ipywidgets.VBox(list(self.knobs.values()), layout={"width": "min(100%, 440px)"})
        sliders = ipywidgets.Box([rack], layout={"flex_flow": "row wrap"})
        if self.pad is not None:
            self.pad.layout.width = "260px"
            sliders.children = [rack, self.pad]
        buttons = in_row(self.play, self.halt, self.record, self.keep)
        return [self.prompt, sliders, buttons, self.player, self.status, self.problem, self.scores]

    def _listen(self) -> None:
        """Let every control but the buttons do what it says."""
        for name, knob in self.knobs.items():
            knob.observe(lambda _change, name=name: self._turn(name), "value")
        follow([self.prompt], self._follow_prompt)
        follow([self.record], shows_errors(self._follow_record, self.problem))
        follow([self.player], self.pause, "silenced")
        if self.pad is not None:
            follow([self.pad], self._blend, "doses")

    def start(self) -> LiveDesk:
        """Begin to play, or go on after a pause; return at once."""
        if self.session is None or self.session.state in OVER:
            self.session = self._new_session()
            self.player.follow(self.session.worker.playback)
            self._follow_record()
            threading.Thread(target=self._watch, args=(self.session,), daemon=True).start()
        self.problem.value = ""
        self.session.start()
        self.player.resume()
        self.play.description = "❚❚ Pause"
        return self

    def pause(self) -> None:
        """Fall silent at once; `start` goes on."""
        if self.session is not None and self.session.state not in OVER:
            self.player.pause()
            self.session.pause()
            self.play.description = "▶ Play"

    def stop(self) -> None:
        """End the music and the recording; return once the model is free.

        Raises:
            BaseException: what went wrong while the music was made, if something did.
        """
        self.play.description = "▶ Play"
        if self.session is not None:
            self.player.follow(Playback())
            self.session.stop()
            self._show(self.session)

    def wait(self, seconds: float | None = None) -> LiveDesk:
        """Return when `seconds` more have been heard, or when the music has ended.

        Raises:
            WorkbenchError: nothing was started.
            BaseException: what went wrong while the music was made, if something did.
        """
        if self.session is None:
            raise WorkbenchError("More music was asked for", "nothing plays", "Call start() first")
        self.session.wait(seconds)
        return self

    def figures(self) -> LiveFigures:
        """Return how the music is doing, or did.

        Raises:
            WorkbenchError: nothing was started.
        """
        if self.session is None:
            raise WorkbenchError("Figures were asked for", "nothing plays", "Call start() first")
        return self.session.figures()

    @property
    def recording(self) -> Recording:
        """The last recording, as far as it goes.

        Raises:
            WorkbenchError: nothing has been recorded.
        """
        if not self.folders:
            found = "nothing was recorded"
            raise WorkbenchError("The recording was asked for", found, "Press Record, then Play")
        return Recording.load(self.folders[-1])

    def save(self) -> Path:
        """Write the sound of the last recording as `sound.wav` beside it; return the path."""
        recording = self.recording
        path = recording.clip(self.model).write(recording.folder / "sound.wav")
        self._say(f"Saved {recording.seconds:.1f} s as {path}. {recording.lost}")
        return path

    def _new_session(self) -> LiveSession:
        doses = {name: value_of(knob) for name, knob in self.knobs.items()}
        settings: dict[str, Any] = {"prompt": self.prompt.value, "doses": doses, **self._settings}
        settings["on_piece"] = lambda piece: self.player.push(piece.samples)
        return LiveSession(self.model, self.directions, **settings)

    def _turn(self, name: str) -> None:
        if self.session is not None:
            self.session.slide(name, value_of(self.knobs[name]))

    def _follow_prompt(self) -> None:
        if self.session is not None:
            self.session.prompt = self.prompt.value

    def _blend(self) -> None:
        assert self.pad is not None
        for name, dose in self.pad.doses.items():
            self.knobs[name].value = dose

    def _toggle(self) -> None:
        if self.session is not None and self.session.state == "playing":
            self.pause()
        else:
            self.start()

    def _follow_record(self) -> None:
        """Begin or end a recording, as the button says."""
        session = self.session
        if session is None or session.state in OVER or self.record.value == session.recording:
            return
        if self.record.value:
            self.folders.append(session.record(_next_folder(self.folder)))
        else:
            session.end_recording()

    def _watch(self, session: LiveSession) -> None:
        """Show figures until the session is over; the thread's outermost function."""
        while session.state not in OVER and session is self.session:
            self._show(session)
            session.wait_over(_EVERY_S)
        if session is self.session:
            self._show(session)
            self.play.description = "▶ Play"

    def _show(self, session: LiveSession) -> None:
        self.player.lead_s = math.floor(session.worker.playback.hold_s * 100) / 100  # never more than comes
        verb = "Recorded" if session.state in OVER else "Recording"
        where = f" {verb} into {self.folders[-1]}." if session.recording and self.folders else ""
        self._say(f"{session.figures()}{where}")
        if session.scores:
            self.scores.value = score_lines(session.scores)
        if session.error is not None:
            self.problem.value = problem_html(session.error)
        elif lost := session.figures().lost:
            self.problem.value = problem_html(GenerationError(lost))

    def _say(self, text: str) -> None:
        self.status.value = note_html(text)

    def _save_aside(self) -> None:
        """Save in a thread of its own: decoding a long recording takes a while."""
        save = shows_errors(self.save, self.problem)
        threading.Thread(target=save, daemon=True, name="workbench live desk").start()


def _next_folder(parent: Path) -> Path:
    """Return the first folder of the form `parent`/001 that is not there yet."""
    return next(path for number in count(1) if not (path := parent / f"{number:03d}").exists())
