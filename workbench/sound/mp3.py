"""The frames of an MP3 stream: how many there are, how many it declares, whether the last one is cut.

A decoder needs to know how long a stream is. Most encoders write the number of frames into an extra first
frame (marked Xing or Info); without it libsndfile guesses from the first frame's bitrate, and of a stream of
variable bitrate it then reads as little as 30 %, silently. `with_length` writes the missing frame.
"""

from __future__ import annotations

from dataclasses import dataclass

_KBPS_V1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_KBPS_V2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_RATES_V1 = (44100, 48000, 32000)
_MPEG1 = 3  # the version bits: 3 is MPEG 1, 2 is MPEG 2 (half the rates), 0 is MPEG 2.5 (a quarter)
_MONO = 3


@dataclass(frozen=True)
class Mp3Stream:
    """What a walk over the frames found.

    Args:
        start: byte where the first frame begins.
        frames: whole frames that hold sound (the one with the Xing mark holds none).
        declared: number of frames by the Xing or Info mark, None without one.
        cut: "kept of whole" bytes of a last frame that is cut off, None when the last frame is whole.
    """

    start: int
    frames: int
    declared: int | None
    cut: str | None


def walk(data: bytes) -> Mp3Stream | None:
    """Return what the frames of an MP3 file tell (ISO 11172-3, 13818-3, layer III); None if it has none."""
    start = _after_id3(data)
    while frame_bytes(data, start) is None:
        start = data.find(b"\xff", start + 1)
        if start < 0:
            return None
    declared = _declared(data, start)
    position, frames, cut = start, 0, None
    while (size := frame_bytes(data, position)) is not None:
        if position + size > len(data):
            cut = f"{len(data) - position} of {size}"
            break
        position += size
        frames += 1
    return Mp3Stream(start, frames - (declared is not None), declared, cut)


def missing_end(data: bytes) -> str | None:
    """Return what is missing at the end of an MP3 file in words, None when nothing is known to be missing."""
    stream = walk(data)
    if stream is None:
        return None  # no MP3 at all: the decoder says that better
    if stream.cut is not None:
        return f"frame {stream.frames + 1} is cut after {stream.cut} bytes"
    if stream.declared is not None and stream.frames < stream.declared - 1:
        return f"the header declares {stream.declared} frames and {stream.frames} are there"
    return None


def with_length(data: bytes) -> bytes:
    """Return the stream with a first frame that declares its length; as it is where it already has one."""
    stream = walk(data)
    if stream is None or stream.declared is not None:
        return data
    first = data[stream.start : stream.start + 4]
    offset = _mark_offset(first)
    for kbps_index in range(1, 15):  # the smallest frame that holds mark, flags and count
        head = bytes([first[0], first[1] | 1, kbps_index << 4 | first[2] & 0x0C, first[3]])
        size = frame_bytes(head, 0) or 0
        if size >= offset + 12:
            break
    mark = b"Info" + (1).to_bytes(4, "big") + stream.frames.to_bytes(4, "big")
    frame = (head.ljust(offset, b"\x00") + mark).ljust(size, b"\x00")
    return frame + data[stream.start :]


def frame_bytes(data: bytes, position: int) -> int | None:
    """Return the size in bytes of the layer III frame at `position`; None where no frame starts."""
    if position + 4 > len(data) or data[position] != 0xFF or data[position + 1] & 0xE0 != 0xE0:
        return None
    version, layer = data[position + 1] >> 3 & 3, data[position + 1] >> 1 & 3
    kbps_index, rate_index = data[position + 2] >> 4, data[position + 2] >> 2 & 3
    if version == 1 or layer != 1 or kbps_index in (0, 15) or rate_index == 3:
        return None
    rate = _RATES_V1[rate_index] // {_MPEG1: 1, 2: 2, 0: 4}[version]
    kbps = (_KBPS_V1 if version == _MPEG1 else _KBPS_V2)[kbps_index]
    padding = data[position + 2] >> 1 & 1
    return (144 if version == _MPEG1 else 72) * kbps * 1000 // rate + padding


def _after_id3(data: bytes) -> int:
    """Return where an ID3v2 tag at the start ends (its size is written in 7-bit bytes); 0 without one."""
    if data[:3] != b"ID3" or len(data) < 10:
        return 0
    size = 0
    for byte in data[6:10]:
        size = size << 7 | byte & 0x7F
    return 10 + size + (10 if data[5] & 0x10 else 0)


def _mark_offset(head: bytes) -> int:
    """Return where the Xing or Info mark stands in a frame: behind header and (empty) side information."""
    mono = head[3] >> 6 == _MONO
    if head[1] >> 3 & 3 == _MPEG1:
        return 4 + (17 if mono else 32)
    return 4 + (9 if mono else 17)


def _declared(data: bytes, start: int) -> int | None:
    """Return the number of frames that a Xing or Info mark in the first frame declares."""
    mark = start + _mark_offset(data[start : start + 4])
    if data[mark : mark + 4] not in (b"Xing", b"Info") or not data[mark + 7] & 1:
        return None
    return int.from_bytes(data[mark + 8 : mark + 12], "big")
