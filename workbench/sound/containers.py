"""Where the sound lies in a file, and files made of chunks: WAV (RIFF, RIFX, RF64, W64), AIFF, CAF and AU.

A decoder stops where the first counted stretch of sound ends, and a joined file, a wrong header or a piece of
junk makes it stop early without a word. So each container is walked first. What the walk found is a `Layout`:
one `Part` for each sound that was put into the file.

Chunks declare their sizes. A program that streams does not know that of the sound when it writes the header,
and leaves a number that means "to the end of the file"; any other size that is not there is a cut.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import accumulate
from typing import Any, BinaryIO, Literal, Self

Piece = bytes | range
Order = Literal["little", "big"]

_TAGS = (b"TAG", b"ID3", b"APETAGEX", b"LYRICSBEGIN")
_UNKNOWN = (0x7FFFF000, 0x7FFFFFFF, 0xFFFFFFFF)  # sox, arecord, ffmpeg; what follows decides about 0
_NEAR = 0x10000  # some subtract the size of the header, or round
_MOST = 0xFFFFFFFE  # the largest size that four bytes declare
_TAIL_S = 0.1  # bytes behind the sound that would be longer than this are not ignored
_MAX_PADDING = 1 << 20
_MPEG_FORMAT = 0x55


@dataclass(frozen=True)
class Part:
    """One sound of a file: pieces for the decoder, which are bytes or ranges of positions in the file.

    The decoder must declare `samples` or more (None: not known), and may give `slack` fewer than it declares.
    """

    pieces: tuple[Piece, ...]
    samples: int | None = None
    slack: int = 0


@dataclass(frozen=True)
class Layout:
    """What is known of a file before it is decoded: its sounds in order and, in words, what is wrong with it.

    `missing` says what is missing at the end, `fault` what else makes it unusable, `damage` what is broken
    inside (the decoder's own finding comes first), and `notes` are for who hears a file that is read.
    """

    parts: tuple[Part, ...]
    missing: str | None = None
    fault: str | None = None
    damage: str | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def whole(cls, file: BinaryIO, base: int, missing: str | None = None, fault: str | None = None) -> Self:
        """Return the layout of a file that is one sound, from `base` to its end."""
        return cls((Part((range(base, size_of(file)),)),), missing, fault)


class Splice(io.RawIOBase):
    """A file made of pieces of another; `error` keeps that of the disk, which decoders take for the end."""

    def __init__(self, file: BinaryIO, pieces: Sequence[Piece]) -> None:
        super().__init__()
        self.error: OSError | None = None
        self._file, self._pieces = file, pieces
        self._ends = list(accumulate(map(len, pieces)))
        self._position = self._furthest = 0

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move to a position and return it."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._ends[-1]}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        """Fill the buffer as far as the pieces reach and return the number of bytes."""
        view, data = memoryview(buffer).cast("B"), b""
        start, stop = self._position, self._position + len(view)
        try:
            for piece, end in zip(self._pieces, self._ends, strict=True):
                begin = end - len(piece)
                if begin < stop and start < end:
                    data += self._part(piece[max(start - begin, 0) : stop - begin])
        except OSError as error:
            self.error = error
        view[: len(data)] = data
        self._position += len(data)
        self._furthest = max(self._furthest, self._position)
        return len(data)

    def unread(self) -> bytes:
        """Return what lies behind the furthest position that was read."""
        self.seek(self._furthest)
        return self.read()

    def _part(self, piece: Piece) -> bytes:
        return piece if isinstance(piece, bytes) else read_at(self._file, piece.start, len(piece))


def size_of(file: BinaryIO) -> int:
    """Return the size of an open file in bytes."""
    return file.seek(0, io.SEEK_END)


def read_at(file: BinaryIO, position: int, size: int) -> bytes:
    """Return up to `size` bytes of an open file from a position."""
    file.seek(position)
    return file.read(size)


def _number_at(file: BinaryIO, position: int, size: int, order: Order) -> int:
    return int.from_bytes(read_at(file, position, size), order)


def id3_size(head: bytes) -> int:
    """Return the size that the first ten bytes of an ID3v2 tag declare; 0 without a tag."""
    if len(head) < 10 or head[:3] != b"ID3" or 0xFF in head[3:5]:
        return 0
    bits = 8 if max(head[6:10]) > 0x7F else 7  # seven bits of each byte count; some programs use all eight
    size = reduce(lambda size, byte: size << bits | byte, head[6:10])
    return 10 + size + (10 if head[5] & 0x10 else 0)


def is_padding(rest: bytes) -> bool:
    """Return whether bytes behind a sound are tags or zeros, as programs leave them, and not unread sound."""
    return not rest.strip(b"\x00") or rest.lstrip(b"\x00").startswith(_TAGS) or b"APETAGEX" in rest[-160:]


def _is_unknown(size: int) -> bool:
    """Return whether a size of 4 bytes stands for "until the end of the file" (0 does so at times)."""
    return any(abs(size - mark) <= _NEAR for mark in _UNKNOWN)


def riff(file: BinaryIO, base: int) -> Layout:
    """Return where the sound of a RIFF, RIFX or RF64 file lies; `base` is where the RIFF mark is."""
    order: Order = "big" if read_at(file, base, 4) == b"RIFX" else "little"
    header = _until(file, base + 12, order, b"data")
    if b"data" not in header:
        return Layout.whole(file, base, "it ends before the chunk that holds the sound")
    data, wide = header[b"data"], header.get(b"ds64")
    declared = len(data)
    if wide is not None and _is_unknown(declared):
        declared = _number_at(file, wide.start + 8, 8, order)
        declared = 0xFFFFFFFF if declared >= 1 << 62 or declared == 0 else declared
    size, missing = _reach(file, data.start, declared, order)
    if missing is not None or wide is not None:
        return Layout.whole(file, base, missing)
    form = read_at(file, header[b"fmt "].start, 14) if b"fmt " in header else b""
    if size != declared:  # whole samples of all channels
        size -= size % max(1, int.from_bytes(form[12:14], order))
    second = int.from_bytes(form[8:12], order) or None
    return _with_tail(file, _counted(file, base, data.start, size, order), order, second)


def mpeg_in_riff(file: BinaryIO, base: int) -> range | None:
    """Return where the MPEG stream of a RIFF file lies; None where the file holds other sound."""
    header = _until(file, base + 12, "little", b"data")
    form, data = header.get(b"fmt "), header.get(b"data")
    if form is None or data is None or _number_at(file, form.start, 2, "little") != _MPEG_FORMAT:
        return None
    size, missing = _reach(file, data.start, len(data), "little")
    return range(data.start, data.start + size) if missing is None else None


def w64(file: BinaryIO, base: int) -> Layout:
    """Return where the sound of a W64 file lies, or what is missing of it."""
    declared, present = _number_at(file, base + 16, 8, "little"), size_of(file) - base
    missing = None if present >= declared or declared >= 1 << 62 else _short(declared, present)
    return Layout.whole(file, base, missing)


def caf(file: BinaryIO, base: int) -> Layout:
    """Return where the sound of a CAF file lies, or what is missing of it."""
    end, position = size_of(file), base + 8
    while len(head := read_at(file, position, 12)) == 12:
        declared, present = int.from_bytes(head[4:], "big", signed=True), end - position - 12
        if declared > present:
            return Layout.whole(file, base, _short(declared, present))
        if declared < 0:  # -1: to the end of the file
            break
        position += 12 + declared
    return Layout.whole(file, base)


def aiff(file: BinaryIO, base: int) -> Layout:
    """Return where the sound of an AIFF or AIFC file lies."""
    form, present = _number_at(file, base + 4, 4, "big"), size_of(file) - base - 8
    if not _is_unknown(form) and form > present:
        return Layout.whole(file, base, _short(form, present))
    header = _until(file, base + 12, "big", b"SSND")
    if not {b"SSND", b"COMM"} <= set(header):
        return Layout.whole(file, base)
    sound = header[b"SSND"]
    size, missing = _reach(file, sound.start, len(sound), "big", least=8)
    if missing is not None:
        return Layout.whole(file, base, missing)
    return _with_tail(file, _counted(file, base, sound.start, size, "big"), "big", None)


def au(file: BinaryIO, base: int) -> Layout:
    """Return where the sound of an AU file lies."""
    head = bytearray(read_at(file, base, 24))
    offset, size, _, rate_hz, channels = (int.from_bytes(head[at : at + 4], "big") for at in range(4, 24, 4))
    present = size_of(file) - base - offset
    if len(head) < 24 or present < 0:
        return Layout.whole(file, base, "its header is cut")
    if size == 0 or (_is_unknown(size) and size > present):
        size = present
    if size > present:
        return Layout.whole(file, base, _short(size, present))
    head[8:12] = min(size, _MOST).to_bytes(4, "big")
    own = Part((bytes(head), range(base + 24, base + offset + size)))
    return _with_tail(file, own, None, max(1, rate_hz * channels))


def _until(file: BinaryIO, position: int, order: Order, name: bytes) -> dict[bytes, range]:
    """Return where the chunks from a position up to the one named `name` declare their content."""
    chunks: dict[bytes, range] = {}
    while name not in chunks and len(head := read_at(file, position, 8)) == 8:
        size = int.from_bytes(head[4:], order)
        chunks.setdefault(head[:4], range(position + 8, position + 8 + size))
        position += 8 + size + size % 2
    return chunks


def _counted(file: BinaryIO, base: int, start: int, size: int, order: Order) -> Part:
    """Return the sound of a chunk behind its own header, in which both sizes are set right."""
    head = bytearray(read_at(file, base, start - base))
    head[4:8] = min(len(head) + size - 8, _MOST).to_bytes(4, order)
    head[-4:] = min(size, _MOST).to_bytes(4, order)
    return Part((bytes(head), range(start, start + size)))


def _reach(file: BinaryIO, start: int, declared: int, order: Order, least: int = 0) -> tuple[int, str | None]:
    """Return how many bytes the sound that starts at `start` has, and what is missing of it in words."""
    present = size_of(file) - start
    if declared > present:
        return present, None if _is_unknown(declared) else _short(declared, present)
    tail = _tail(file, start + declared, order)
    if declared <= least < present and tail < start + present and not _is_start(read_at(file, tail, 4)):
        return present, None
    return declared, None


def _tail(file: BinaryIO, position: int, order: Order | None) -> int:
    """Return how far well-formed chunks reach from a position on: to the end, or to what is no chunk."""
    end = size_of(file)
    while order is not None and position < end:
        start = position + (read_at(file, position, 1) == b"\x00")  # a chunk of odd size is filled up with 0
        head = read_at(file, start, 8)
        if len(head) < 8 or _is_start(head) or not (head[:4].isascii() and head[:4].decode().isprintable()):
            return start if _is_start(head) else position
        stop = start + 8 + int.from_bytes(head[4:], order)
        if stop > end:
            return position
        position = stop
    return min(position, end)


def _is_start(head: bytes) -> bool:
    """Return whether another sound file of this family begins here."""
    return head[:4] in (b"RIFF", b"RIFX", b"FORM", b".snd")


def _with_tail(file: BinaryIO, own: Part, order: Order | None, second: int | None) -> Layout:
    """Return the layout of a sound, of which `second` bytes last 1 s, and of what follows it."""
    sound = own.pieces[-1]
    assert isinstance(sound, range)
    position = _tail(file, sound.stop, order)
    head = read_at(file, position, 4)
    if _is_start(head):  # another file was joined to it
        more = {b"FORM": aiff, b".snd": au}.get(head, riff)(file, position)
        return replace(more, parts=(own, *more.parts))
    rest = size_of(file) - position
    if rest < 8 or (rest <= _MAX_PADDING and is_padding(read_at(file, position, rest))):
        return Layout((own,))
    note = f"{rest} bytes behind the sound that its header counts belong to no chunk"
    if second is None or rest > _TAIL_S * second:
        return Layout((own,), fault=f"{note}, so sound may lie in them")
    return Layout((own,), notes=(f"{note} and were not read",))


def _short(declared: int, present: int) -> str:
    return f"the header declares {declared} bytes and {present} are there"
