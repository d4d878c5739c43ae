"""Where the sound lies in a file: made of chunks (WAV, RIFX, RF64, W64, AIFF, CAF, AU), or an MPEG stream.

A decoder stops where the first counted stretch of sound ends, and a joined file, a wrong header or a piece of
junk makes it stop early without a word. So each container is walked first. What the walk found is a `Layout`:
one `Part` for each sound that was put into the file.

Chunks declare their sizes. A program that streams does not know that of the sound when it writes the header,
and leaves a number that means "to the end of the file"; any other size that is not there is a cut.

Most encoders of MPEG audio count the frames in an extra first one (marked Xing or Info). Without it
libsndfile may read 30 % of a stream of variable bitrate, silently. With it, whatever follows the counted
frames is never read, such as the second of two joined files. So the frames are walked here, junk and tags are
passed over, and each encoder's run is decoded by itself under a true count.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, reduce
from itertools import accumulate, islice
from typing import Any, BinaryIO, Literal, NamedTuple, Self

Piece = bytes | range
Order = Literal["little", "big"]

_TAGS = (b"TAG", b"ID3", b"APETAGEX", b"LYRICSBEGIN")
_UNKNOWN = (0x7FFFF000, 0x7FFFFFFF, 0xFFFFFFFF)  # sox, arecord, ffmpeg; what follows decides about 0
_NEAR = 0x10000  # some subtract the size of the header, or round
_MOST = 0xFFFFFFFE  # the largest size that four bytes declare
_TAIL_S = 0.1  # bytes behind the sound that would be longer than this are not ignored
_MAX_PADDING = 1 << 20
_MPEG_FORMAT = 0x55

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
    """Return where the sound, or MPEG stream, of a RIFF, RIFX or RF64 file lies whose mark is at `base`."""
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
    form = read_at(file, header[b"fmt "].start, 14) if b"fmt " in header else b""
    coded = missing is None and int.from_bytes(form[:2], "little") == _MPEG_FORMAT
    if coded and (stream := mpeg(read_at(file, data.start, size), data.start)) is not None:
        return stream
    if missing is not None or wide is not None:
        return Layout.whole(file, base, missing)
    if size != declared:  # whole samples of all channels
        size -= size % max(1, int.from_bytes(form[12:14], order))
    second = int.from_bytes(form[8:12], order) or None
    return _with_tail(file, _counted(file, base, data.start, size, order), order, second)


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


BY_MARK = {b"FORM": aiff, b".snd": au, b"caff": caf}


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
        more = BY_MARK.get(head, riff)(file, position)
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


def mpeg(data: bytes, base: int = 0) -> Layout | None:
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


def _row(data: bytes, position: int) -> Iterator[int]:
    """Yield where each of the frames of one kind ends that stand in a row from `position` on."""
    kind = b""
    while (frame := frame_at(data, position)) is not None and kind in (b"", frame.kind):
        kind, position = frame.kind, position + frame.size
        yield position


def _chain(data: bytes, position: int) -> bool:
    """Return whether a stream starts here: frames of one kind in a row, or as many as there are."""
    ends = list(islice(_row(data, position), _CHAIN))
    if not ends or ends[0] > len(data):
        return False
    return len(ends) == _CHAIN or ends[-1] >= len(data) or _behind_tag(data, ends[-1]) is not None


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
        for count, end in enumerate(_row(data, found.start()), 1):
            if end >= len(data) or (count >= _CHAIN and end > declared):
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
