"""The journal of a session: what happened, line by line, and the codes, appended as they are drawn.

Nothing is buffered: a process that is killed loses the frames that were not finished, and nothing else. A
damaged line ends what is known, so every visit has a line; older recordings have one only where the doses
changed.

    {"window": [start, frames, context], "prompt": ...}   a window begins
    {"visit": v, "doses": [...]}                        what visit v of it read at the knobs
    {"cut": v}                                          it was cut after v visits
    {"pushes": [changed, alone, failed]}                what its pushes did, at its end
    {"end": "stopped", "frames": n}                     the recording ended on request, or by an error

Each line ends with `"check"`, and behind the k codes of each frame, 16 bits each, stands such a check, too:
the CRC-32 of its file up to there, checks left out. So damage is noticed also where nothing was ended.
"""

from __future__ import annotations

import io
import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from workbench.errors import GenerationError, is_number, is_text, is_whole, reason
from workbench.generation.engine import Span

EVENTS, CODES = "journal.jsonl", "codes.i16"
_CHECK, _CHECK_BYTES = b', "check": ', 4  # before the check of a line; of that behind a frame

Doses = tuple[float, ...]

NONE: Mapping[str, int] = {"changed": 0, "alone": 0, "failed": 0}
"""What pushes did before there were any."""


def added(first: Mapping[str, int], second: Mapping[str, int]) -> dict[str, int]:
    """What two lots of pushes did together."""
    return {what: first[what] + second[what] for what in NONE}


@dataclass
class RecordedWindow:
    """One window of a recording: its span, and (visit, doses) wherever the doses changed.

    `visits` are known to have begun, and the last of them read `last`. It was cut after `cut` visits, None
    when it came to its end or the recording just stops. `pushes` are counted as in `LiveFigures`.
    """

    span: Span
    changes: list[tuple[int, Doses]] = field(default_factory=list)
    visits: int = 0
    last: Doses | None = None
    cut: int | None = None
    pushes: Mapping[str, int] = field(default_factory=lambda: NONE)


class Journal:
    """Writes the journal of one recording into a folder that holds none yet."""

    def __init__(self, folder: Path) -> None:
        # Without buffers on our side: what is written here survives the process.
        self.folder = folder
        self._events = (folder / EVENTS).open("xb", buffering=0)
        self._codes = (folder / CODES).open("xb", buffering=0)
        self.frames = self._line_check = self._frame_check = 0

    def note(self, **event: object) -> None:
        """Append an event, one of those above."""
        body = json.dumps(event, ensure_ascii=False).encode()[:-1]
        check = zlib.crc32(body, self._line_check)
        _write_whole(self._events, body + _CHECK + b'"%08x"}\n' % check)
        self._line_check = check

    def add(self, codes: np.ndarray) -> None:
        """Append finished frames, codes (k, n)."""
        check, data = self._frame_check, b""
        for frame in np.ascontiguousarray(codes.T, dtype="<i2"):
            check = zlib.crc32(frame.tobytes(), check)
            data += frame.tobytes() + check.to_bytes(_CHECK_BYTES, "little")
        _write_whole(self._codes, data)
        self._frame_check, self.frames = check, self.frames + codes.shape[-1]

    def end(self, how: str) -> None:
        """Note how the recording ended, and close the files, also when nothing more can be written."""
        if not self._events.closed:
            try:
                self.note(end=how, frames=self.frames)
            finally:
                self._events.close()
                self._codes.close()

    def discard(self) -> None:
        """Close and remove the files of a recording that could not begin."""
        for file in (self._events, self._codes):
            file.close()
            Path(file.name).unlink(missing_ok=True)


def _write_whole(file: io.FileIO, data: bytes) -> None:
    """Append all of `data`, or raise GenerationError and leave the file as it was."""
    begin, left = file.tell(), memoryview(data)
    try:
        while left:
            written = file.write(left)
            if not written:
                raise OSError(f"{len(left)} of {len(data)} bytes were not taken")
            left = left[written:]
    except OSError as error:
        try:
            file.truncate(begin)
            file.seek(begin)
        except OSError:
            file.close()  # nothing may follow half a line
        asked = f"The recording was to go on in {file.name!s}"
        do = "Free space on the disk, and record again; what was recorded before is kept"
        raise GenerationError(asked, f"it cannot be written ({reason(error)})", do) from error


@dataclass(frozen=True)
class Events:
    """What a journal says: the windows, how the recording ended, and with how many frames, if it is known.

    `damaged` is the number of the first damaged line, behind which nothing is known; 0 where there is none.
    """

    windows: list[RecordedWindow]
    ended: str = ""
    damaged: int = 0
    frames: int | None = None


def read_events(folder: Path, knobs: int, *, checked: bool = True) -> Events:
    """What the journal of a recording with so many knobs says, up to its first damaged line."""
    windows: list[RecordedWindow] = []
    ended, frames, check = "", None, 0
    lines = (folder / EVENTS).read_bytes().split(b"\n")[:-1]  # what follows the last line end was cut off
    for number, line in enumerate(lines, start=1):
        try:
            if checked:
                body, _, own = line.rpartition(_CHECK)
                check = zlib.crc32(body, check)
                _expect(own == b'"%08x"}' % check)
            event = json.loads(line)
            ended, frames = _take_in(event, windows, knobs), event.get("frames")
        except Exception:  # a damaged line can be wrong in any way; its number is kept
            return Events(windows, damaged=number)
    return Events(windows, ended, frames=frames)


def _take_in(event: Mapping[str, Any], windows: list[RecordedWindow], knobs: int) -> str:
    """Add an event to the windows; return how the recording ended, if it tells; raise where it is none."""
    if "window" in event:
        (start, frames, context), prompt = event["window"], event["prompt"]
        first, most = (windows[-1].span.start, windows[-1].span.end) if windows else (0, math.inf)
        _expect(is_whole(start, first, most) and is_whole(frames, 1) and is_whole(context))
        _expect(prompt is None or is_text(prompt))
        last = windows[-1].last if windows else None
        windows.append(RecordedWindow(Span(start, frames, context, prompt), last=last))
    elif "visit" in event:
        window, visit, doses = windows[-1], event["visit"], tuple(event["doses"])
        _expect(is_whole(visit, window.visits) and window.cut is None)
        _expect(len(doses) == knobs and all(map(is_number, doses)))
        if doses != window.last:
            window.changes.append((visit, tuple(map(float, doses))))
        window.visits, window.last = visit + 1, doses
    elif "cut" in event:  # it may come while a visit is being drawn
        _expect(is_whole(event["cut"], windows[-1].visits - 1) and windows[-1].cut is None)
        windows[-1].cut = event["cut"]
    elif "pushes" in event:
        _expect(all(map(is_whole, event["pushes"])))
        windows[-1].pushes = dict(zip(NONE, event["pushes"], strict=True))
    else:
        _expect(event["end"] in ("stopped", "failed"))
        return str(event["end"])
    return ""


def _expect(holds: bool) -> None:
    if not holds:
        raise ValueError


def read_codes(folder: Path, n_codebooks: int, events: Events, *, checked: bool = True) -> np.ndarray:
    """The codes (k, frames) int16 that were written, without a frame that was cut off."""
    if not is_whole(n_codebooks, 1):
        raise ValueError(f"it has {n_codebooks!r} codebooks")
    size = 2 * n_codebooks + _CHECK_BYTES * checked
    data = (folder / CODES).read_bytes()
    whole = _undamaged(data, size) if checked else len(data) // size
    if events.frames not in (None, whole):
        raise ValueError(f"{CODES} holds {whole} whole frames of {events.frames}")
    values = np.frombuffer(data[: whole * size], dtype="<i2").reshape(-1, size // 2)
    codes = np.ascontiguousarray(values[:, :n_codebooks].T.astype(np.int16))
    codes.setflags(write=False)
    return codes


def _undamaged(data: bytes, size: int) -> int:
    """How many frames of `size` bytes are whole up to the end; one that a whole one follows is damaged."""
    fit, check = [], 0
    for end in range(size, len(data) + 1, size):
        expected = zlib.crc32(data[end - size : end - _CHECK_BYTES], check)
        check = int.from_bytes(data[end - _CHECK_BYTES : end], "little")
        fit.append(check == expected)
    whole = fit.index(False) if False in fit else len(fit)
    if any(fit[whole:]):
        raise ValueError(f"frame {whole + 1} of {CODES} is damaged")
    return whole
