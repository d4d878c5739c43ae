"""The frames of an MPEG audio stream: which belong together, how many there are, whether any is missing.

Most encoders write the number of frames into an extra first frame (marked Xing or Info); without it
libsndfile may read 30 % of a stream of variable bitrate, silently. With it, whatever follows the counted
frames is never read, such as the second of two joined files. So the frames are walked here, junk and tags are
passed over, and each encoder's run is decoded by itself under a true count.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from workbench.sound.containers import Layout, Part, Piece, id3_size, is_padding

_MPEG1 = 3  # the version bits: 3 is MPEG 1, 2 is MPEG 2 (half the rates), 0 is MPEG 2.5 (a quarter)
_MONO = 3
_LAYER_I, _LAYER_II, _LAYER_III = 3, 2, 1  # the layer bits
_RATES_V1 = (44100, 48000, 32000)
_KBPS_LOW = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_KBPS = {
    (True, _LAYER_I): tuple(range(0, 449, 32)),
    (True, _LAYER_II): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, _LAYER_III): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, _LAYER_I): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, _LAYER_II): _KBPS_LOW,
    (False, _LAYER_III): _KBPS_LOW,
}
_SYNC = re.compile(rb"\xff(?=[\xe2-\xff][\x10-\xef])")
_CHAIN = 4  # frames in a row that prove a stream: three false headers in a row do not happen by chance
_TRIMMED_FRAMES = 5  # at most so much is an encoder's delay and padding, which a decoder trims
_SLACK_FRAMES = 2  # a count may include the frame that holds it
_PADDING, _TAG_PADDING = 256, 4096
_MAX_LOST_S = 1.0  # junk that may stand for more sound than this is refused where no count confirms it


class Frame(NamedTuple):
    """What the four bytes of a frame's header say: its size in bytes, how many samples it holds, their rate.

    `kind` is what all frames of a run share: version, layer, rate, and whether it is mono. `mark` is where
    the Xing or Info mark stands, behind header and (empty) side information; 0 for layer I or II.
    """

    size: int
    samples: int
    rate_hz: int
    kind: bytes
    mark: int


@dataclass
class Run:
    """Frames that one encoder wrote, and the header of the first; `frames` counts those with sound.

    A first frame with the Xing or Info mark holds no sound: it has `marked` bytes (0 without), lies in the
    `stretches` too, and may say how many frames are `declared`.
    """

    header: Frame
    marked: int
    declared: int | None
    stretches: list[range]
    frames: int = 0


class Junk(NamedTuple):
    """Bytes that are neither frames nor a tag: how many, after how many seconds, and whether behind a tag."""

    size: int
    second: float
    behind_tag: bool


def layout(data: bytes, base: int = 0) -> Layout | None:
    """Return where the sound of an MPEG audio stream lies that begins at `base`; None where it holds none."""
    runs, junk, missing = walk(data)
    if not runs:
        return None
    parts = tuple(_part(data, run, base) for run in runs if run.frames)
    what = "are no MPEG frames and were passed over"
    notes = tuple(f"{size} bytes at {second:.2f} s {what}" for size, second, _ in junk)
    for run in runs:
        if missing is None and run.declared is not None and run.frames < run.declared - 1:
            missing = f"the header declares {run.declared} frames and {run.frames} are there"
    return Layout(parts, missing, fault=_lost(runs, junk), notes=notes)


def walk(data: bytes) -> tuple[list[Run], list[Junk], str | None]:
    """Return the runs of frames (ISO 11172-3, 13818-3) and the junk of a stream, and where it is cut."""
    runs: list[Run] = []
    junk: list[Junk] = []
    position, seconds, kind, tagged = 0, 0.0, b"", False
    while position < len(data):
        frame = frame_at(data, position)
        if frame is None or (frame.kind != kind and not _chain(data, position)):
            tag = _behind_tag(data, position)
            starts = (found.start() for found in _SYNC.finditer(data, position + 1))
            behind = tag or next((start for start in starts if _chain(data, start)), len(data))
            # tags leave padding; more zeros than that may be in the place of lost sound
            most = _TAG_PADDING if tagged else _PADDING if is_padding(data[position:behind]) else 0
            if tag is None and behind - position > most:
                junk.append(Junk(behind - position, seconds, tagged))
            position, tagged = behind, tag is not None
            continue
        end = position + frame.size
        if end > len(data):
            number = sum(run.frames for run in runs) + 1
            return runs, junk, f"frame {number} is cut after {len(data) - position} of {frame.size} bytes"
        marked = _mark(data, position, frame)
        if marked is not None or frame.kind != kind or _is_new(data, position, runs[-1]):
            runs.append(Run(frame, frame.size if marked is not None else 0, marked or None, []))
        stretches = runs[-1].stretches
        touches = stretches and stretches[-1].stop == position
        stretches.append(range(stretches.pop().start if touches else position, end))
        if marked is None:
            runs[-1].frames += 1
            seconds += frame.samples / frame.rate_hz
        position, kind, tagged = end, frame.kind, False
    return runs, junk, None


def frame_at(data: bytes, position: int) -> Frame | None:
    """Return the header of the MPEG audio frame at `position`; None where no frame starts."""
    return _frame(data[position : position + 4])


@lru_cache(4096)  # a stream has few different headers
def _frame(head: bytes) -> Frame | None:
    """Return what a frame's header says; None where the bytes are none."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    kbps_index, rate_index = head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer == 0 or kbps_index in (0, 15) or rate_index == 3:
        return None
    first, mono, padding = version == _MPEG1, head[3] >> 6 == _MONO, head[2] >> 1 & 1
    rate_hz = _RATES_V1[rate_index] // {_MPEG1: 1, 2: 2, 0: 4}[version]
    bits = _KBPS[first, layer][kbps_index] * 1000
    samples = 384 if layer == _LAYER_I else 1152 if first or layer == _LAYER_II else 576
    words = 12 * bits // rate_hz + padding
    size = 4 * words if layer == _LAYER_I else samples // 8 * bits // rate_hz + padding
    mark = (21 if mono else 36) if first else (13 if mono else 21)
    kind = bytes([head[1] & 0x1E, head[2] & 0x0C, mono])
    return Frame(size, samples, rate_hz, kind, mark if layer == _LAYER_III else 0)


def _chain(data: bytes, position: int) -> bool:
    """Return whether a stream starts here: frames of one kind in a row, or as many as there are."""
    kind = b""
    for count in range(_CHAIN):
        frame = frame_at(data, position)
        if frame is None or kind not in (b"", frame.kind):
            return count > 0 and (position >= len(data) or _behind_tag(data, position) is not None)
        if position + frame.size > len(data):
            return count > 0
        position, kind = position + frame.size, frame.kind
    return True


def _behind_tag(data: bytes, position: int) -> int | None:
    """Return where the tag at `position` ends; None where no tag starts."""
    head = data[position : position + 32]
    if (size := id3_size(head)) > 0:
        return _behind_id3(data, position, position + size)
    if head[:8] == b"APETAGEX" and len(head) == 32:
        return min(len(data), position + 32 + int.from_bytes(head[12:16], "little"))
    if head[:4] == b"TAG+":
        return min(len(data), position + 227)
    return min(len(data), position + 128) if head[:3] == b"TAG" else None


def _behind_id3(data: bytes, start: int, declared: int) -> int:
    """Return where an ID3v2 tag ends: before its end where sound begins in it and runs on behind it."""
    for found in _SYNC.finditer(data, start + 10, min(declared, len(data))):
        position, count, kind = found.start(), 0, b""
        while (frame := frame_at(data, position)) and kind in (b"", frame.kind):
            kind, count, position = frame.kind, count + 1, position + frame.size
            if count >= _CHAIN and position > declared:
                return found.start()
        if count and position >= len(data):
            return found.start()
    return min(declared, len(data))


def _mark(data: bytes, position: int, frame: Frame) -> int | None:
    """Return how many frames a Xing or Info mark declares, 0 when it does not; None without a mark."""
    mark = position + frame.mark
    if data[mark : mark + 4] not in (b"Xing", b"Info") or frame.mark == 0 or frame.mark + 12 > frame.size:
        return None
    return int.from_bytes(data[mark + 8 : mark + 12], "big") if data[mark + 7] & 1 else 0


def _is_new(data: bytes, position: int, run: Run) -> bool:
    """Return whether another encoder's frames start here: more than were counted, using no bits before."""
    if run.declared is None or run.frames < run.declared:
        return False
    # the side information begins with how many bits of the frames before are used
    side = position + (4 if data[position + 1] & 1 else 6)
    long = data[position + 1] >> 3 & 3 == _MPEG1
    return data[side] == 0 and not (long and data[side + 1] & 0x80)


def _lost(runs: list[Run], junk: list[Junk]) -> str | None:
    """Return what is wrong where junk may stand for sound and no count tells that all of it is there."""
    size = sum(one.size for one in junk if not one.behind_tag)
    seconds = sum(run.frames * run.header.samples / run.header.rate_hz for run in runs)
    lost_s = size * seconds / sum(len(stretch) for run in runs for stretch in run.stretches)
    if lost_s <= _MAX_LOST_S or all(run.declared for run in runs):
        return None
    return f"{size} of its bytes are no MPEG frames, the place of about {lost_s:.1f} s of sound"


def _part(data: bytes, run: Run, base: int) -> Part:
    """Return what a decoder is given of a run: its frames under a count that is true."""
    frame, start = run.header, run.stretches[0].start
    pieces: list[Piece] = [range(base + one.start, base + one.stop) for one in run.stretches]
    if frame.mark and run.declared not in (run.frames, run.frames + 1):
        first = bytearray(data[start : start + max(run.marked, 4)])
        if run.marked and first[frame.mark + 7] & 1:
            first[frame.mark + 8 : frame.mark + 12] = run.frames.to_bytes(4, "big")
        else:  # no mark, or one without a count, which has no room for one
            first[:] = _count_frame(bytes(first[:4]), run.frames)
        pieces[:1] = [bytes(first), pieces[0][run.marked :]]
    least = max(0, run.frames - _TRIMMED_FRAMES) * frame.samples
    return Part(tuple(pieces), least, _SLACK_FRAMES * frame.samples)


def _count_frame(head: bytes, frames: int) -> bytes:
    """Return a frame without sound that declares how many follow; `head` is the header of one of them."""
    for kbps_index in range(1, 15):  # the smallest frame that holds mark, flags and count
        start = bytes([head[0], head[1] | 1, kbps_index << 4 | head[2] & 0x0C, head[3]])
        frame = _frame(start)
        if frame is not None and frame.size >= frame.mark + 12:
            mark = b"Info" + (1).to_bytes(4, "big") + frames.to_bytes(4, "big")
            return (start.ljust(frame.mark, b"\x00") + mark).ljust(frame.size, b"\x00")
    raise AssertionError("the largest frame of layer III holds a mark")
