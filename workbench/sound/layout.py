"""Where the sound lies in a file: the bytes that a decoder is given, and what a look at the container found.

A decoder stops where the first counted stretch of sound ends, and a joined file, a wrong header or a piece of
junk makes it stop early without a word. So each container is walked first. What the walk found is a `Layout`:
one `Part` for each sound that was put into the file, of stretches of the file and bytes that replace others.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, BinaryIO

Piece = bytes | range

_TAGS = (b"TAG", b"ID3", b"APETAGEX", b"LYRICSBEGIN")


@dataclass(frozen=True)
class Part:
    """One sound of a file.

    Args:
        pieces: what the decoder is given, in order: bytes, or a range of positions in the file.
        samples: samples per channel that a decoder must declare at least; None where nothing counted them.
        slack: how many samples fewer than it declares are no fault.
    """

    pieces: tuple[Piece, ...]
    samples: int | None = None
    slack: int = 0


@dataclass(frozen=True)
class Layout:
    """What is known of a file before it is decoded.

    Args:
        parts: its sounds, in order.
        missing: what is missing at the end, in words; None when nothing is known to be missing.
        fault: what else makes it unusable, in words.
        damage: what is known to be broken inside; the decoder's own finding comes first.
        notes: what the listener should know of a file that is read all the same.
    """

    parts: tuple[Part, ...]
    missing: str | None = None
    fault: str | None = None
    damage: str | None = None
    notes: tuple[str, ...] = ()


class Splice(io.RawIOBase):
    """A read-only file made of pieces of another, so that a decoder sees one sound with a true header.

    An error of the disk is kept in `error`: a decoder would take it for the end of the file.
    """

    def __init__(self, file: BinaryIO, pieces: Sequence[Piece]) -> None:
        super().__init__()
        self.error: OSError | None = None
        self._furthest = 0
        self._file, self._pieces, self._position = file, pieces, 0
        self._ends = list(accumulate(len(piece) for piece in pieces))

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position in the spliced file."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move to a position and return it."""
        size = self._ends[-1] if self._ends else 0
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        """Fill the buffer as far as the pieces reach and return the number of bytes."""
        view, filled, start = memoryview(buffer).cast("B"), 0, 0
        try:
            for piece, end in zip(self._pieces, self._ends, strict=True):
                wanted = min(end - self._position, len(view) - filled)
                if wanted > 0:
                    part = self._part(piece, self._position - start, wanted)
                    view[filled : filled + len(part)] = part
                    filled += len(part)
                    self._position += len(part)
                    if len(part) < wanted:
                        break
                start = end
        except OSError as error:
            self.error = error
        self._furthest = max(self._furthest, self._position)
        return filled

    def unread(self) -> bytes:
        """Return what lies behind the furthest position that was read."""
        self.seek(self._furthest)
        return self.read()

    def _part(self, piece: Piece, start: int, size: int) -> bytes:
        if isinstance(piece, bytes):
            return piece[start : start + size]
        self._file.seek(piece.start + start)
        return self._file.read(size)


def size_of(file: BinaryIO) -> int:
    """Return the size of an open file in bytes."""
    return file.seek(0, io.SEEK_END)


def read_at(file: BinaryIO, position: int, size: int) -> bytes:
    """Return up to `size` bytes of an open file from a position."""
    file.seek(position)
    return file.read(size)


def id3_size(head: bytes) -> int:
    """Return the size that the first ten bytes of an ID3v2 tag declare; 0 without a tag.

    Seven bits of each byte count; some programs use all eight.
    """
    if len(head) < 10 or head[:3] != b"ID3" or 0xFF in head[3:5]:
        return 0
    bits, size = (8 if max(head[6:10]) > 0x7F else 7), 0
    for byte in head[6:10]:
        size = size << bits | byte
    return 10 + size + (10 if head[5] & 0x10 else 0)


def is_padding(rest: bytes) -> bool:
    """Return whether bytes behind a sound are tags or zeros, as programs leave them, and not unread sound."""
    return not rest.strip(b"\x00") or rest.lstrip(b"\x00").startswith(_TAGS) or b"APETAGEX" in rest[-160:]
