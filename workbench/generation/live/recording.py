"""A recording: one session on disk, complete in itself, which regenerates its codes bit for bit.

header.json              what was asked for, by which model, on what machine
directions/0.safetensors ... the knobs' directions
begin.safetensors        where it begins: the generator's state, and the codes that were heard before; the
                         digest in the header is over both
journal.jsonl, codes.i16 what happened, and the codes (journal.py)
"""

from __future__ import annotations

import json
import threading
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.numpy import load_file, save

from workbench.errors import Cancelled, GenerationError, is_number, is_text, reason, renamed_attribute
from workbench.files import DIGEST, check_digest, digest_of, disk_errors, write_atomically
from workbench.generation.edits import Sliders
from workbench.generation.live import journal
from workbench.generation.live.pacing import lost_words
from workbench.generation.live.window import LiveSetup, LiveSound, WindowState, draw_window
from workbench.generation.request import Settings
from workbench.generation.take import Take, differences, environment
from workbench.model.conditioning import Melody, shifted
from workbench.model.musicgen import Model
from workbench.model.sampling import seconds_at
from workbench.sound.clip import Clip
from workbench.steering.plan import Direction

FORMAT, UNCHECKED = "musicgen-workbench recording 2", "musicgen-workbench recording 1"
HEADER, BEGIN = "header.json", "begin.safetensors"
_PLAIN = ("seed", "window", "overlap", "operation")  # of a setup, as they are in the header


def begin_recording(folder: Path, model: Model, setup: LiveSetup, carried: WindowState) -> journal.Journal:
    """Write what is known at the beginning into `folder`; return the journal for the rest."""
    check_free(folder)
    knobs = []
    for number, (name, direction) in enumerate(setup.directions):
        direction.save(folder / "directions" / f"{number}.safetensors")
        knobs.append({"name": name, "fingerprint": direction.fingerprint})
    begin = {
        "generator": carried.generator.get_state().numpy(),
        "heard": np.ascontiguousarray(carried.tail.cpu().numpy().astype(np.int64)),
    }
    write_atomically(folder / BEGIN, save(begin))
    header: dict[str, Any] = {
        "format": FORMAT,
        "model_id": model.id,
        "model_fingerprint": model.fingerprint,
        "knobs": knobs,
        **{name: getattr(setup, name) for name in _PLAIN},
        "settings": asdict(setup.settings),
        "rows": setup.branch,
        "melody": None if setup.melody is None else list(setup.melody.pitches),
        "frame_rate_hz": model.frame_rate_hz,
        "n_codebooks": model.n_codebooks,
        "delay": max(model.delays),
        "environment": environment(model),
        "begun": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    header[DIGEST] = digest_of(header, begin)
    with disk_errors(folder):
        for name in (journal.EVENTS, journal.CODES):
            (folder / name).unlink(missing_ok=True)  # empty: of a recording that could not begin
        begun = journal.Journal(folder)
    try:  # last: with a header there is all that a recording needs
        write_atomically(folder / HEADER, json.dumps(header, indent=1, ensure_ascii=False).encode())
    except BaseException:
        begun.discard()
        raise
    return begun


def check_free(folder: Path) -> None:
    """Raise GenerationError when `folder` holds a recording already: nothing is overwritten."""
    files = folder / HEADER, folder / journal.EVENTS
    if any(file.is_file() and file.stat().st_size for file in files):  # empty: of one that could not begin
        asked, do = f"A recording into {folder} was asked for", "Name another folder, or remove that one"
        raise GenerationError(asked, "there is one already", do)


@dataclass(frozen=True, eq=False)
class Recording:
    """One recorded session.

    Args:
        folder: Where it is.
        setup: What stayed the same: directions, seed, settings, lengths.
        model_id, model_fingerprint: The model.
        environment: Device, precision, threads and versions: what else the bits may depend on.
        windows: The windows, with the knobs' doses as the steps read them.
        codes: (k, frames) int16, read-only: all that was recorded.
        context: (k, frames) codes that were there before, where recording began in the middle.
        generator_state: Of the private generator at the beginning.
        ended: "stopped", "failed", or empty when the process was killed.

    Raises:
        GenerationError: For values that no session records.
    """

    folder: Path
    setup: LiveSetup
    model_id: str
    model_fingerprint: str
    environment: Mapping[str, str]
    windows: tuple[journal.RecordedWindow, ...]
    codes: np.ndarray
    context: np.ndarray
    generator_state: np.ndarray
    frame_rate_hz: float
    ended: str = ""

    def __post_init__(self) -> None:
        if problem := _problem(self):
            raise GenerationError(f"The recording in {self.folder} was asked for", problem)

    heard = renamed_attribute("heard", "context")

    @property
    def _first(self) -> int:
        """The frame of the session with which it begins."""
        return self.windows[0].span.start if self.windows else 0

    @property
    def seconds(self) -> float:
        """The length of the recorded sound."""
        return seconds_at(self.codes.shape[-1], self.frame_rate_hz)

    @property
    def pushes(self) -> Mapping[str, int]:
        """How many pushes "changed" the stream, were left "alone" (by gate or slider), "failed"."""
        return {what: sum(one.pushes[what] for one in self.windows) for what in journal.NONE}

    @property
    def lost(self) -> str:
        """That pushes did not arrive in the model, and what to do; empty when all did."""
        return lost_words(self.pushes)

    @property
    def prompts(self) -> list[tuple[float, str]]:
        """(seconds, prompt) wherever a window began under another prompt than the one before."""
        runs = groupby(self.windows, key=lambda one: one.span.prompt or "")
        starts = [(next(windows).span.start - self._first, text) for text, windows in runs]
        return [(seconds_at(frame, self.frame_rate_hz), text) for frame, text in starts]

    def knobs(self) -> pd.DataFrame:
        """Where the knobs stood: a line per change, `seconds` of the recording and a dose per knob."""
        lines = [
            [seconds_at(one.span.start - self._first + visit, self.frame_rate_hz), *doses]
            for one in self.windows
            for visit, doses in one.changes
        ]
        return pd.DataFrame(lines, columns=["seconds", *(name for name, _direction in self.setup.directions)])

    def _repr_html_(self) -> str:
        """What was recorded, in a few lines."""
        doses = self.knobs().drop(columns="seconds")
        ranges = {f"knob {name}": f"{doses[name].min():g} to {doses[name].max():g}" for name in doses}
        facts = {
            "seconds": f"{self.seconds:.1f}",
            "prompts": "; ".join(f"{text} ({at_s:.1f} s)" for at_s, text in self.prompts),
            "seed": self.setup.seed,
            "model": self.model_id,
            "windows": len(self.windows),
            "ended": self.ended or "by the end of its process",
            **ranges,
        }
        return pd.Series(facts).to_frame().to_html(header=False, border=0)

    def clip(self, model: Model) -> Clip:
        """The sound, decoded by `model`; GenerationError where another made the codes, or there are none."""
        self.check(model)
        if not self.codes.shape[-1]:
            asked = "The sound of a recording was asked for"
            raise GenerationError(asked, "it holds no frame", "Record for longer")
        sound, given = LiveSound(model, 250), self.context.shape[-1]
        codes = torch.tensor(np.concatenate([self.context, self.codes.astype(np.int64)], axis=-1))
        pieces = [piece.heard for piece in [*sound.add(codes), *sound.rest()]]
        begin = round(given * model.rate_hz / self.frame_rate_hz)
        return Clip(np.concatenate(pieces, axis=-1)[..., begin:], model.rate_hz)

    def take(self, model: Model) -> Take:
        """The recording as a take, which says how far the knobs were turned but cannot be reproduced."""
        clip, frames, rate = self.clip(model), self.codes.shape[-1], self.frame_rate_hz
        spans = [replace(one.span, start=one.span.start - self._first) for one in self.windows]
        spans = [span for span in spans if span.start < frames]
        # A window that was cut ends where the next one begins.
        ends = [*(later.start for later in spans[1:]), min(spans[-1].end, frames)]
        windows = [
            replace(span, frames=end - span.start).window(rate, "")
            for span, end in zip(spans, ends, strict=True)
        ]
        doses = self.knobs().drop(columns="seconds")
        turned = [
            f"{low:g}..{high:g}*{name}"
            for name, (low, high) in doses.agg(["min", "max"]).items()
            if high or low
        ]
        settings = asdict(self.setup.settings)
        settings["melody"] = shifted([self.setup.melody], seconds_at(self._first, rate))[0]
        return Take(
            clip,
            self.codes,
            self.prompts[0][1],
            self.setup.seed,
            steering=f"live: {', '.join(turned) or 'no knob turned'}",
            model_id=self.model_id,
            windows=tuple(windows),
            versions=dict(self.environment),
            **settings,
        )

    def check(self, model: Model) -> None:
        """Raise GenerationError when another model made this recording, saying how they differ."""
        if self.model_fingerprint != model.fingerprint:
            asked = f"The recording in {self.folder} by {self.model_id} was to be used with {model.id}"
            prints = f"{model.fingerprint[:12]}, not {self.model_fingerprint[:12]}"
            found = f"that is another model: its fingerprint is {prints}"
            raise GenerationError(asked, found, "Load the model that made it")

    def doses(self) -> list[list[tuple[float, ...]]]:
        """What every visit of every window read at the knobs, as far as it can have gone."""
        read, last = [], tuple(0.0 for _knob in self.setup.directions)
        for one in self.windows:
            left = self.codes.shape[-1] - (one.span.start - self._first)
            most = max(0, min(one.span.frames, left)) + self.codes.shape[0]
            changed, doses = dict(one.changes), []
            for visit in range(most if one.cut is None else min(one.cut, most)):
                last = changed.get(visit, last)
                doses.append(last)
            read.append(doses)
            last = one.changes[-1][1] if one.changes else last
        return read

    @classmethod
    def load(cls, folder: Path | str) -> Recording:
        """The recording in `folder`, also of a killed process; GenerationError for none, or a damaged one."""
        folder = Path(folder)
        asked, do = f"The recording in {folder} was asked for", "Use a folder that a session recorded"
        with GenerationError.damage(asked, do):
            kept = json.loads((folder / HEADER).read_text(encoding="utf-8"))
            begin = load_file(folder / BEGIN)
            if kept["format"] not in (FORMAT, UNCHECKED):
                raise KeyError("format")
            checked = kept["format"] == FORMAT
            check_digest(folder, kept, begin)
            setup = _setup(folder, kept, notice=checked)
            events = journal.read_events(folder, len(setup.directions), checked=checked)
            codes = journal.read_codes(folder, kept["n_codebooks"], events, checked=checked)
            if events.damaged:
                codes = _explained(folder, events, codes, kept.get("delay", len(codes) - 1))
            elif checked and not events.ended:
                unended = f"The recording in {folder} was not ended: its process was killed, or still goes on"
                warnings.warn(f"{unended}. All frames that were finished are read.", stacklevel=2)
            plain = ("model_id", "model_fingerprint", "environment", "frame_rate_hz")
            return cls(
                folder,
                setup,
                windows=tuple(events.windows),
                codes=codes,
                context=begin["heard"],
                generator_state=begin["generator"],
                ended=events.ended,
                **{name: kept[name] for name in plain},
            )


def _explained(folder: Path, events: journal.Events, codes: np.ndarray, delay: int) -> np.ndarray:
    """The codes up to where a damaged journal, whose last window is cut there, tells how they were drawn."""
    frames = 0
    if events.windows:
        first, last = events.windows[0], events.windows[-1]
        last.cut = last.visits if last.cut is None else min(last.cut, last.visits)
        frames = last.span.start - first.span.start + max(0, last.cut - delay)
    kept = codes[:, :frames]
    warnings.warn(
        f"Line {events.damaged} of {folder / journal.EVENTS} is damaged: it is known how the first "
        f"{kept.shape[-1]} of {codes.shape[-1]} frames were drawn, and the others are left out.",
        stacklevel=4,
    )
    return kept


def _problem(one: Recording) -> str:
    """What is wrong with the values of a recording, or an empty text."""
    if not is_number(one.frame_rate_hz, 1e-6, 1e6):
        return f"its frame rate is {one.frame_rate_hz!r} Hz"
    texts = (one.model_id, one.model_fingerprint, *one.environment, *one.environment.values())
    if not all(map(is_text, texts)):
        return f"its model {one.model_id!r}, the fingerprint or the environment is not text"
    if one.context.ndim != 2 or len(one.context) != len(one.codes) or one.context.dtype.kind != "i":
        return f"the codes before it have the shape {one.context.shape} and are {one.context.dtype}"
    if min(one.codes.min(initial=0), one.context.min(initial=0)) < 0:
        return "some of its codes are negative"
    if one.generator_state.ndim != 1 or one.generator_state.dtype != np.uint8:
        return f"its generator's state has the shape {one.generator_state.shape}"
    longest = max((window.span.frames + window.span.context for window in one.windows), default=0)
    context = max((window.span.context for window in one.windows), default=0)
    if longest > one.setup.window or context > one.setup.overlap:
        return f"a window is longer than the {one.setup.window} frames of its header"
    return ""


def _setup(folder: Path, kept: Mapping[str, Any], *, notice: bool) -> LiveSetup:
    """The setup that a header describes, with each knob's direction checked against it."""
    knobs = []
    for number, knob in enumerate(kept["knobs"]):
        direction = Direction.load(folder / "directions" / f"{number}.safetensors", notice=notice)
        if direction.fingerprint != knob["fingerprint"]:
            raise ValueError(f"the direction of {knob['name']!r} is not the one that was recorded")
        knobs.append((knob["name"], direction))
    more = {name: kept[name] for name in _PLAIN}
    more["melody"] = Melody(tuple(kept["melody"])) if kept.get("melody") is not None else None
    return LiveSetup(tuple(knobs), settings=Settings(**kept["settings"]), branch=kept["rows"], **more)


def replay(model: Model, recording: Recording, *, cancel: threading.Event | None = None) -> np.ndarray:
    """The codes (k, frames) int16 of a recording, drawn again.

    In the same environment they are equal to `recording.codes` bit for bit; a warning says what differs.

    Raises:
        GenerationError: When another model made the recording, or its windows or generator do not fit.
        Cancelled: When `cancel` was set.
    """
    recording.check(model)
    if differ := differences(recording.environment, model):
        words = "The replay may differ from the recording in single bits, and so in codes"
        warnings.warn(f"{words}: {'; '.join(differ)}.", stacklevel=2)
    asked = f"The recording in {recording.folder} was to be replayed"
    if recording.setup.window > model.max_frames:
        found = f"its windows have {recording.setup.window} frames, and {model.id} holds {model.max_frames}"
        raise GenerationError(asked, found, "Use a folder that a session recorded, unchanged")
    state = torch.tensor(recording.generator_state)
    on_cpu = len(state) == len(torch.Generator().get_state())
    generator = torch.Generator(device="cpu" if on_cpu else model.device)  # where the recording drew
    try:
        generator.set_state(state)
    except RuntimeError as error:
        found = f"the state of its generator is none of this device ({reason(error)})"
        raise GenerationError(asked, found, "Replay it on the device that it was recorded on") from error
    context = torch.tensor(recording.context, dtype=torch.long, device=model.device)
    carried = WindowState(generator, context, recording.setup.overlap)
    drawn: list[np.ndarray] = []
    wanted = recording.codes.shape[-1]
    for window, doses in zip(recording.windows, recording.doses(), strict=True):
        if window.cut != 0 and len(drawn) < wanted:
            knobs = Sliders({(0, term): column for term, column in enumerate(zip(*doses, strict=True))})
            calls = _until(drawn, wanted, window.cut, cancel)
            draw_window(model, recording.setup, window.span, carried, knobs, **calls)
        if cancel is not None and cancel.is_set():
            raise Cancelled(f"Stopped on request after {len(drawn)} of {wanted} frames.")
    codes = np.concatenate([np.zeros((model.n_codebooks, 0)), *drawn], axis=-1)
    return codes.astype(np.int16)


def _until(
    drawn: list[np.ndarray], wanted: int, cut: int | None, cancel: threading.Event | None
) -> dict[str, Any]:
    """What collects frames, and cuts the window where it was cut or the recording has no more frames."""
    stop = threading.Event()

    def stepped(visits: int) -> None:
        asked = cancel is not None and cancel.is_set()
        if asked or visits == cut or len(drawn) >= wanted:
            stop.set()

    collect = {"on_frames": lambda frames: drawn.append(frames.cpu().numpy())}
    return {**collect, "on_step": stepped, "cancel": stop}
