"""Whether a sound file stops before its own end, read from its container alone, without decoding.

Decoders forgive: half an MP3, WAV, AIFF, AU or Ogg file reads as a shorter sound and nobody notices. Each
format says how long it should be in its own way, and `missing_end` compares that with what is there. FLAC is
left out, because its decoder already refuses.
"""

from __future__ import annotations

from pathlib import Path

from workbench.sound import mp3

_UNKNOWN_SIZES = (0, 0xFFFFFFFF)  # what a program writes into a header when it streams


def missing_end(path: Path) -> str | None:
    """Return what is missing at the end of the file in words, None when nothing is known to be missing."""
    data = path.read_bytes()
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        return _wav(data)
    if data[:4] == b"OggS":
        return _ogg(data)
    if data[:4] == b".snd":
        return _compare(declared=_number(data, 8), held=len(data) - _number(data, 4))
    if data[:4] == b"FORM":
        return _compare(declared=_number(data, 4), held=len(data) - 8)
    return mp3.missing_end(data) if path.suffix.lower() == ".mp3" else None


def _wav(data: bytes) -> str | None:
    """Compare the declared size of the data chunk with the bytes behind it."""
    position = 12
    while position + 8 <= len(data):
        size = int.from_bytes(data[position + 4 : position + 8], "little")
        held = len(data) - position - 8
        if data[position : position + 4] == b"data":
            return _compare(declared=size, held=held)
        position += 8 + size + size % 2
    return None


def _compare(*, declared: int, held: int) -> str | None:
    """Return what a header says in vain."""
    if declared in _UNKNOWN_SIZES or held >= declared:
        return None
    return f"the header declares {declared} bytes and {held} are there"


def _number(data: bytes, position: int) -> int:
    """Return a big-endian number of 4 bytes, as AU and AIFF headers have it."""
    return int.from_bytes(data[position : position + 4], "big")


def _ogg(data: bytes) -> str | None:
    """Look for the end-of-stream mark (RFC 3533, section 6: header type 0x04) on the last page."""
    last = data.rfind(b"OggS")
    if last + 6 <= len(data) and data[last + 5] & 0x04:
        return None
    return "the last page does not carry the end-of-stream mark"
