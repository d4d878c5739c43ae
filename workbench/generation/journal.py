"""The journal of a session: what happened, line by line, and the codes, appended as they are drawn.

Nothing is buffered: every line and frame is handed to the operating system at once, so a process that is
killed loses the frames that were not finished, and nothing else. A line that was cut off is not read.

    {"window": [start, frames, heard], "prompt": ...}   a window begins
    {"visit": v, "doses": [...]}                        what visit v of it read at the knobs, where it changed
    {"cut": v}                                          it was cut after v visits
    {"pushes": [changed, alone, failed]}                what its pushes did, at its end
    {"end": "stopped"}                                  the recording ended on request, or by an error
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from workbench.errors import GenerationError
from workbench.generation.spans import Span

EVENTS, CODES = "journal.jsonl", "codes.i16"

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
        self.frames = 0

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
        self._codes.write(np.ascontiguousarray(codes.T, dtype="<i2").tobytes())
        self.frames += codes.shape[-1]

    def end(self, how: str) -> None:
        """Note how the recording ended, and close the files."""
        if not self._events.closed:
            self._write({"end": how})
            self._events.close()
            self._codes.close()

    def _write(self, event: dict[str, object]) -> None:
        self._events.write(json.dumps(event, ensure_ascii=False).encode() + b"\n")


def read_events(folder: Path) -> tuple[list[RecordedWindow], str]:
    """The windows of a recording, and how it ended: empty when its process was killed.

    Raises:
        GenerationError: When a line is none that `Journal` writes.
    """
    windows: list[RecordedWindow] = []
    ended = ""
    lines = (folder / EVENTS).read_bytes().split(b"\n")[:-1]  # what follows the last line end was cut off
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
                ended = str(event["end"])
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise GenerationError(
                f"The recording in {folder} was to be read",
                f"line {number} of its journal makes no sense ({type(error).__name__})",
                "Use a folder that a session recorded, unchanged",
            ) from error
    return windows, ended


def read_codes(folder: Path, n_codebooks: int) -> np.ndarray:
    """The codes (k, frames) int16 that were written; a frame that was cut off is left out."""
    values = np.frombuffer((folder / CODES).read_bytes()[: _whole(folder, n_codebooks)], dtype="<i2")
    codes = np.ascontiguousarray(values.reshape(-1, n_codebooks).T.astype(np.int16))
    codes.setflags(write=False)
    return codes


def _whole(folder: Path, n_codebooks: int) -> int:
    """The bytes of all whole frames."""
    held, frame = (folder / CODES).stat().st_size, 2 * n_codebooks
    return held - held % frame


def doses_at(changes: Sequence[tuple[int, Doses]], visits: int, before: Doses) -> list[Doses]:
    """What each of `visits` visits read, given the changes in its window and what was read before it."""
    told, read = dict(changes), []
    for visit in range(visits):
        before = told.get(visit, before)
        read.append(before)
    return read
