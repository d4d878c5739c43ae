"""The journal of a session: what happened, line by line, and the codes, appended as they are drawn.

Nothing is buffered: every line and frame is handed to the operating system at once, so a process that is
killed loses the frames that were not finished, and nothing else. A line that was cut off is not read.

    {"window": [start, frames, heard], "prompt": ...}   a window begins
    {"visit": v, "doses": [...]}                        what visit v of it read at the knobs, where it changed
    {"cut": v}                                          it was cut after v visits
    {"pushes": [changed, alone, failed]}                what its pushes did, at its end
    {"end": "stopped", "frames": n}                     the recording ended on request, or by an error

Each line ends with `"check"`, the CRC-32 of its file up to there without the checks. Each frame, k codes of
16 bits, is followed by how many lines there were before it and by such a check, 32 bits each. So damage is
noticed in a recording that never came to its end, too, and it is known which frames do not depend on a line.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from workbench.errors import GenerationError
from workbench.generation.spans import Span

EVENTS, CODES = "journal.jsonl", "codes.i16"
_CHECK, _FRAME_ENDS = b', "check": ', 8  # before a line's check; bytes behind the codes of a frame

Doses = tuple[float, ...]

NONE: Mapping[str, int] = {"changed": 0, "alone": 0, "failed": 0}
"""What pushes did before there were any."""


def added(first: Mapping[str, int], second: Mapping[str, int]) -> dict[str, int]:
    """What two lots of pushes did together."""
    return {what: first[what] + second[what] for what in NONE}


@dataclass
class RecordedWindow:
    """One window of a recording: its span, the knobs' doses where they changed, and where it was cut.

    changes  (visit, doses) in order; the first window has one for visit 0
    cut      after how many visits it was cut; None when it came to its end, or the recording just stops
    pushes   how many of them "changed" the stream, were left "alone" (dose 0), "failed"
    """

    span: Span
    changes: list[tuple[int, Doses]] = field(default_factory=list)
    cut: int | None = None
    pushes: Mapping[str, int] = field(default_factory=lambda: NONE)


class Journal:
    """Writes the journal of one recording into a folder that holds none yet."""

    def __init__(self, folder: Path) -> None:
        # Without buffers on our side: what is written here survives the process.
        self._events = (folder / EVENTS).open("xb", buffering=0)
        self._codes = (folder / CODES).open("xb", buffering=0)
        self._doses: Doses | None = None
        self.frames = self._lines = 0
        self._frame_check = self._line_check = 0

    def window(self, span: Span) -> None:
        """Note that a window begins."""
        self._write({"window": [span.start, span.frames, span.heard], "prompt": span.prompt})

    def doses(self, visit: int, doses: Doses) -> None:
        """Note what a visit of the present window read at the knobs, if it is not what the last one read."""
        if doses != self._doses:
            self._write({"visit": visit, "doses": list(doses)})
            self._doses = doses

    def cut(self, visits: int) -> None:
        """Note that the present window was cut after so many visits."""
        self._write({"cut": visits})

    def pushes(self, counts: Mapping[str, int]) -> None:
        """Note what the pushes of the present window did."""
        self._write({"pushes": [counts[what] for what in NONE]})

    def add(self, codes: np.ndarray) -> None:
        """Append finished frames, codes (k, n)."""
        data = b""
        for frame in np.ascontiguousarray(codes.T, dtype="<i2"):
            own = frame.tobytes() + self._lines.to_bytes(4, "little")
            self._frame_check = zlib.crc32(own, self._frame_check)
            data += own + self._frame_check.to_bytes(4, "little")
        self._codes.write(data)
        self.frames += codes.shape[-1]

    def end(self, how: str) -> None:
        """Note how the recording ended, and close the files."""
        if not self._events.closed:
            self._write({"end": how, "frames": self.frames})
            self._events.close()
            self._codes.close()

    def discard(self) -> None:
        """Close and remove the files of a recording that could not begin."""
        for file in (self._events, self._codes):
            file.close()
            Path(file.name).unlink(missing_ok=True)

    def _write(self, event: dict[str, object]) -> None:
        body = json.dumps(event, ensure_ascii=False).encode()[:-1]
        self._line_check = zlib.crc32(body, self._line_check)
        self._events.write(body + _CHECK + b'"%08x"}\n' % self._line_check)
        self._lines += 1


class Events(NamedTuple):
    """What a journal says.

    ended    how the recording ended: empty when its process was killed, or a line is damaged
    frames   how many there were at its end; None when it was not seen
    lines    how many lines are whole; None for an older journal, whose lines and frames carry no checks
    damage   which line is damaged, in words; nothing behind it was read
    """

    windows: list[RecordedWindow]
    ended: str
    frames: int | None
    lines: int | None
    damage: str = ""


def read_events(folder: Path, *, checked: bool = True) -> Events:
    """What the journal of a recording says, up to the first line that is damaged.

    `checked` says whether its lines carry checks; older ones do not.

    Raises:
        GenerationError: When a line is none that `Journal` writes.
    """
    windows: list[RecordedWindow] = []
    ended, total, damage = "", None, ""
    lines = (folder / EVENTS).read_bytes().split(b"\n")[:-1]  # what follows the last line end was cut off
    if checked:
        good = _undamaged_lines(lines)
        damage = f"line {good + 1} of its journal is damaged" if good < len(lines) else ""
        lines = lines[:good]
    for number, line in enumerate(lines, start=1):
        try:
            event = json.loads(line)
            if "window" in event:
                start, frames, heard = event["window"]
                windows.append(RecordedWindow(Span(start, frames, heard, event["prompt"])))
            elif "visit" in event:
                windows[-1].changes.append((int(event["visit"]), tuple(map(float, event["doses"]))))
            elif "cut" in event:
                windows[-1].cut = int(event["cut"])
            elif "pushes" in event:
                windows[-1].pushes = dict(zip(NONE, map(int, event["pushes"]), strict=True))
            else:
                ended, total = str(event["end"]), event.get("frames")
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise GenerationError(
                f"The recording in {folder} was to be read",
                f"line {number} of its journal makes no sense ({type(error).__name__})",
                "Use a folder that a session recorded, unchanged",
            ) from error
    return Events(windows, ended, total, len(lines) if checked else None, damage)


def _undamaged_lines(lines: Sequence[bytes]) -> int:
    """How many lines there are before the first that is damaged."""
    check = 0
    for number, line in enumerate(lines):
        body, _, own = line.rpartition(_CHECK)
        check = zlib.crc32(body, check)
        if own != b'"%08x"}' % check:
            return number
    return len(lines)


def read_codes(folder: Path, n_codebooks: int, events: Events) -> np.ndarray:
    """The codes (k, frames) int16 that were written before the first line of the journal that cannot be read.

    Raises:
        ValueError: When a frame is damaged, or frames are missing. Of a recording that never came to its end
            the last may be cut off or unfinished; they are left out.
    """
    data, width = (folder / CODES).read_bytes(), 2 * n_codebooks
    whole = width + _FRAME_ENDS if events.lines is not None else width
    held = len(data) // whole
    if events.lines is not None:
        held = _undamaged_frames(data, whole, events)
    values = np.frombuffer(data[: held * whole], dtype="<i2").reshape(-1, whole // 2)
    codes = np.ascontiguousarray(values[:, :n_codebooks].T.astype(np.int16))
    codes.setflags(write=False)
    return codes


def _undamaged_frames(data: bytes, size: int, events: Events) -> int:
    """How many frames of `size` bytes, checks included, can be read with these lines of the journal."""
    fit, lines, check = [], [], 0
    for end in range(size, len(data) + 1, size):
        expected = zlib.crc32(data[end - size : end - 4], check)
        check = int.from_bytes(data[end - 4 : end], "little")
        fit.append(check == expected)
        lines.append(int.from_bytes(data[end - 8 : end - 4], "little"))
    held = fit.index(False) if False in fit else len(fit)
    if any(fit[held:]):
        raise ValueError(f"frame {held + 1} of {CODES} is damaged")
    if events.frames is not None and (held != events.frames or len(data) != held * size):
        raise ValueError(f"{CODES} holds {held} whole frames of {events.frames}")
    return next((number for number in range(held) if lines[number] > (events.lines or 0)), held)


def doses_at(changes: Sequence[tuple[int, Doses]], visits: int, before: Doses) -> list[Doses]:
    """What each of `visits` visits read, given the changes in its window and what was read before it."""
    told, read = dict(changes), []
    for visit in range(visits):
        before = told.get(visit, before)
        read.append(before)
    return read
