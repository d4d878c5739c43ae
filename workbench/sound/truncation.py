"""Whether a sound file stops before its own end, read from its container alone, without decoding.

Decoders forgive: half an MP3, WAV or Ogg file reads as a shorter sound and nobody notices. Each format says
how long it should be in its own way, and `missing_end` compares that with what is there. FLAC is left out,
because its decoder already refuses.
"""

from __future__ import annotations

from pathlib import Path

from workbench.sound import mp3

_UNKNOWN_SIZES = (0, 0xFFFFFFFF)  # what a program writes into a WAV header when it streams


def missing_end(path: Path) -> str | None:
    """Return what is missing at the end of the file in words, None when nothing is known to be missing."""
    data = path.read_bytes()
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        return _wav(data)
    if data[:4] == b"OggS":
        return _ogg(data)
    return mp3.missing_end(data) if path.suffix.lower() == ".mp3" else None


def _wav(data: bytes) -> str | None:
    """Compare the declared size of the data chunk with the bytes behind it."""
    position = 12
    while position + 8 <= len(data):
        size = int.from_bytes(data[position + 4 : position + 8], "little")
        held = len(data) - position - 8
        if data[position : position + 4] == b"data":
            if size in _UNKNOWN_SIZES or held >= size:
                return None
            return f"the header declares {size} bytes of sound and {held} are there"
        position += 8 + size + size % 2
    return None


def _ogg(data: bytes) -> str | None:
    """Look for the end-of-stream mark (RFC 3533, section 6: header type 0x04) on the last page."""
    last = data.rfind(b"OggS")
    if last + 6 <= len(data) and data[last + 5] & 0x04:
        return None
    return "the last page does not carry the end-of-stream mark"
