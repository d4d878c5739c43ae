"""The live desk: music that does not end, knobs that are turned while it plays, and a recording."""

from __future__ import annotations

import io
import math
import os
import threading
import zipfile
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import ipywidgets

from workbench.errors import GenerationError, WorkbenchError
from workbench.generation.engine import Readable
from workbench.generation.live.pacing import FASTER, LiveFigures, Playback, Score
from workbench.generation.live.recording import Recording
from workbench.generation.live.session import LEAD_S, OVER, LiveSession, measure_rate
from workbench.model.lowbit import speeds
from workbench.model.musicgen import Model
from workbench.show.page import render
from workbench.show.plots.grammar import colours_for
from workbench.show.widgets import ui
from workbench.show.widgets.fader import MOST, DoseDesk, Scenes
from workbench.show.widgets.players import LivePlayer
from workbench.steering.plan import Direction

SHOWN_S = 60.0  # of the scores
STRETCHES_S = (10.0, 30.0, 60.0)  # to play without a gap, of which a slow model offers the choice
PRESET = 0.2  # of the scenes that a desk begins with: each direction alone
_EVERY_S = 0.5  # how often figures are shown
_GAIN = 1.2  # times as fast, from which a lower precision is worth a word
_WIDTH, _HEIGHT = 420, 90


def faster_precision(model: Model) -> str:
    """Return what to type for a precision that is measured to be faster on this CPU; empty for none."""
    if model.device.type != "cpu" or model.precision not in ("float32", "bfloat16"):
        return ""
    measured = {"float32": 1.0, **speeds(model.d_model)}
    gain = measured["int8"] / measured[model.precision]
    typed = f'wb.load({model.id.partition("#")[0]!r}, dtype="int8")'
    return f" Lower precision: {typed}; its products measure {gain:.1f} x as fast." if gain >= _GAIN else ""


def score_lines(scores: Sequence[Score]) -> str:
    """Return HTML: per probe a line for each class over the last minute, and what it reads now, in words."""
    pictures = []
    for target in dict.fromkeys(score.target for score in scores):
        own = [score for score in scores if score.target == target]
        now, end_s = own[-1].probabilities, max(SHOWN_S, own[-1].seconds)
        colours, lines = colours_for(now), []
        for name in sorted(now, key=now.__getitem__, reverse=True):
            x = [(1 - (end_s - one.seconds) / SHOWN_S) * _WIDTH for one in own]
            y = [(1 - one.probabilities[name]) * _HEIGHT for one in own]
            points = " ".join(f"{at:.0f},{up:.0f}" for at, up in zip(x, y, strict=True) if at >= 0)
            lines.append((name, colours[name], now[name], points))
        pictures.append((target, end_s, lines))
    return render("scores.html", pictures=pictures, width=_WIDTH, height=_HEIGHT)


class LiveDesk(ui.Panel):
    """Knobs, prompt, play, record: everything may be moved while the music plays.

    Args:
        directions: name -> unit Direction, a knob each; at least one, else a SteeringError.
        folder: where recordings go, each into one of its own; by default `live` in WORKBENCH_OUT or out.
        most: where the knobs end, either way; the dose from which music breaks is shaded where it is known.
        pad: four of the names, for a blend pad; None for none.
        probes: what they read is drawn once a second.
        settings: those of `LiveSession`: window_seconds, overlap_seconds, lead_s, guidance, temperature ...

    Where the model is slower than real time, `pace` says so, and `buffer` offers what is made before it
    plays, from the next Play on. The first desk or session of a model measures that for a second or two.

    `start()`, `wait(seconds)`, `pause()` and `stop()` do what the buttons do, also without a browser;
    `knobs["jazz"].value = 0.15` turns a knob, `scenes.choose(2)` fades to a scene. Space plays and pauses,
    digits choose a scene, 0 sets all doses to 0. The whole of each session is recorded, unless the button
    says otherwise.
    """

    def __init__(
        self,
        model: Model,
        directions: Mapping[str, Direction],
        *,
        prompt: str = "a calm tune",
        seed: int = 0,
        folder: Path | str | None = None,
        most: float = MOST,
        pad: Sequence[str] | None = None,
        probes: Sequence[Readable] = (),
        **settings: Any,
    ) -> None:
        self.problem = problem = ipywidgets.HTML()
        look = {"most": most, "breaks": model.breaking_dose, "live": True}
        self.desk = desk = DoseDesk({"": [*directions]}, pad, lambda: None, **look)
        self.knobs, self.pad = desk.sliders, desk.pad
        self.scenes = Scenes(self.knobs, preset=PRESET, problem=problem)
        self.model, self.directions = model, dict(directions)
        out = Path(os.environ.get("WORKBENCH_OUT", "out")) / "live"
        self.folder = out if folder is None else Path(folder)
        self._settings = {"seed": seed, "probes": probes, **settings}
        self.session: LiveSession | None = None
        self.folders: list[Path] = []
        self.status, self.scores = ipywidgets.HTML(), ipywidgets.HTML()
        self.player = LivePlayer(model.rate_hz)
        self.prompt = ui.control(ipywidgets.Text, "prompt", "560px", value=prompt, continuous_update=False)
        self.play = ui.button("▶ Play", "Play or pause (Space)", self._toggle, problem)
        self.play.button_style = "primary"
        self.halt = ui.button("■ Stop", "End the music and the recording", self.stop, problem)
        self.record = ipywidgets.ToggleButton(
            value=True, description="● Record", tooltip="Write down what is played", layout={"width": "auto"}
        )
        hint = "Download the sound of the last recording, which is also written beside it"
        self.keep = ui.button("⤓ WAV", hint, self._save_aside, problem)
        hint = "Download the last recording: what was played and every move, to be replayed note for note"
        self.pack = ui.button("⤓ Recording", hint, self.download, problem)
        self.pace = ipywidgets.HTML()
        self.buffer = self._choice()
        transport = ui.in_row(self.play, self.buffer, self.halt, self.record, self.keep, self.pack)
        above = [transport, self.pace, self.player, self.status, problem, self.prompt]
        super().__init__([*above, self.desk, self.scenes, self.scores])
        self.add_class("wb-desk")
        self._listen()
        self._say("Press Play. A prompt takes effect with the next window, a knob at once.")

    def _choice(self) -> ipywidgets.Dropdown:
        """Return the choice of what is held back, and say why; unseen where the model is fast enough."""
        rate, lead_s = measure_rate(self.model, **self._settings), self._settings.get("lead_s", LEAD_S)
        slow = rate.speed < FASTER
        chosen = self._settings.setdefault("stretch_s", STRETCHES_S[0])
        options = [
            (f"wait {rate.wait_s(one, lead_s):.0f} s, then {one:g} s without a gap", one)
            for one in sorted({*STRETCHES_S, chosen})
        ]
        made = ui.control(ipywidgets.Dropdown, "buffer", "400px", options=options, value=chosen)
        made.layout.display = self.pace.layout.display = "" if slow else "none"
        if slow:
            text = f"This model makes {rate.speed:.2f} s of sound in a second here: some is made before it "
            text += f"plays, and a knob is heard that much later.{faster_precision(self.model)}"
            self.pace.value = ui.note_html(text)
        return made

    def _listen(self) -> None:
        """Let every control but the buttons do what it says."""
        for name, knob in self.knobs.items():  # each alone: a hand and a fade may move two knobs at once
            knob.observe(lambda change, name=name: self._turn(name, change["new"]), "value")
        self.player.on_key(ui.shows_errors(self._press, self.problem))
        ui.follow([self.prompt], self._follow_prompt)
        ui.follow([self.record], ui.shows_errors(self._follow_record, self.problem))
        ui.follow([self.player], self.pause, "silenced")

    def start(self) -> LiveDesk:
        """Begin to play, or go on after a pause; return at once."""
        if self.session is None or self.session.state in OVER:
            self.session = self._new_session()
            self.player.follow(self.session.playback)
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
        """End the music and the recording; return once the model is free. Raises what went wrong, if any."""
        self.play.description = "▶ Play"
        if self.session is not None:
            self.player.follow(Playback())
            try:
                self.session.stop()
            finally:
                self.player.follow(Playback())  # a last piece may have come meanwhile
            self._show(self.session)

    def wait(self, seconds: float | None = None) -> LiveDesk:
        """Return when `seconds` more have been heard, or the music has ended; raises what went wrong."""
        self._started("More music was asked for").wait(seconds)
        return self

    def figures(self) -> LiveFigures:
        """Return how the music is doing, or did; a WorkbenchError before the first start."""
        return self._started("Figures were asked for").figures()

    def _started(self, asked: str) -> LiveSession:
        if self.session is None:
            raise WorkbenchError(asked, "nothing plays", "Call start() first")
        return self.session

    @property
    def recording(self) -> Recording:
        """The last recording, as far as it goes; a WorkbenchError where there is none."""
        if not self.folders:
            asked = "The recording was asked for"
            raise WorkbenchError(asked, "nothing was recorded", "Press Record, then Play")
        return Recording.load(self.folders[-1])

    def save(self) -> Path:
        """Write the sound of the last recording as `sound.wav` beside it, and offer it to the page."""
        recording = self.recording
        path = recording.clip(self.model).write(recording.folder / "sound.wav")
        self._say(f"Saved {recording.seconds:.1f} s as {path}. {recording.lost}")
        self.player.offer(f"live {recording.folder.name}.wav", path.read_bytes())
        return path

    def download(self) -> None:
        """Offer the last recording to the page as a zip file; `Recording.load` reads the folder in it."""
        folder, packed = self.recording.folder, io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(folder.iterdir()):
                if path.suffix != ".wav":
                    archive.write(path, f"{folder.name}/{path.name}")
        self.player.offer(f"live {folder.name}.zip", packed.getvalue())

    def _new_session(self) -> LiveSession:
        return LiveSession(
            self.model, self.directions, prompt=self.prompt.value, doses=self.desk.doses,
            on_piece=lambda piece: self.player.push(piece.heard),
            **{**self._settings, "stretch_s": self.buffer.value},
        )  # fmt: skip

    def _turn(self, name: str, dose: float) -> None:
        if self.session is not None:
            self.session.slide(name, dose)

    def _follow_prompt(self) -> None:
        if self.session is not None:
            self.session.prompt = self.prompt.value

    def _toggle(self) -> None:
        if self.session is not None and self.session.state == "playing":
            self.pause()
        else:
            self.start()

    def _press(self, key: str) -> None:
        """Do what a key of the desk says."""
        if key == " ":
            self._toggle()
        elif key == "0":
            self.scenes.zero()
        elif int(key) <= len(self.scenes.scenes):
            self.scenes.choose(int(key))

    def _follow_record(self) -> None:
        session = self.session
        if session is None or session.state in OVER:
            self._say(f"The next Play is {'recorded' if self.record.value else 'not recorded'}.")
            return
        if self.record.value == session.recording:
            return
        if self.record.value:
            free = (path for n in count(1) if not (path := self.folder / f"{n:03d}").exists())
            self.folders.append(session.record(next(free)))
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
        lit = session.recording and session.state not in OVER
        (self.record.add_class if lit else self.record.remove_class)("wb-recording")
        self.player.lead_s = math.floor(session.playback.hold_s * 100) / 100  # never more than comes
        verb = "Recorded" if session.state in OVER else "Recording"
        where = f" {verb} into {self.folders[-1]}." if session.recording and self.folders else ""
        self._say(f"{session.figures()}{where}")
        if session.scores:
            self.scores.value = score_lines(session.scores)
        if session.error is not None:
            self.problem.value = ui.problem_html(session.error)
        elif lost := session.figures().lost:
            self.problem.value = ui.problem_html(GenerationError(lost))

    def _say(self, text: str) -> None:
        self.status.value = ui.note_html(text)

    def _save_aside(self) -> None:
        """Save in a thread of its own: decoding a long recording takes a while."""
        save = ui.shows_errors(self.save, self.problem)
        threading.Thread(target=save, daemon=True, name="workbench live desk").start()
