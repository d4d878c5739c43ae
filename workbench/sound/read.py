"""Reading a sound file into a Clip, and refusing what is broken, cut short, not finite or absurd.

Decoders forgive: half a file reads as a shorter sound, and of two joined files they read the first. So
`examine` first finds out, without decoding, what a file is by its content, where its sound lies, and whether
it stops before its own end. What a decoder then declares and delivers is compared with that.
"""

from __future__ import annotations

import math
import os
import re
import warnings
import zlib
from collections.abc import Iterator
from functools import reduce
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import soundfile

from workbench.errors import AudioError
from workbench.sound import containers
from workbench.sound.clip import SILENT_LEVEL_DB, Clip, level_db
from workbench.sound.containers import Layout, Part, Splice, id3_size, is_padding, read_at, size_of

_FOREIGN = {
    b"\x30\x26\xb2\x75": "a WMA file",
    b"\x1aE\xdf\xa3": "a Matroska or WebM file",
    b"MThd": "a MIDI file, which holds notes and no sound",
    b"MAC ": "a Monkey's Audio file",
    b"wvpk": "a WavPack file",
    b"MPCK": "a Musepack file",
    b"ADIF": "an AAC file",
    b"TTA1": "a True Audio file",
    b"#!AM": "an AMR file",
    b"DSD ": "a DSD file",
    b"PK\x03\x04": "a ZIP archive",
    b"%PDF": "a PDF document",
    b"<!DO": "a web page",
    b"<htm": "a web page",
    b"vers": "a text file, perhaps a Git LFS pointer whose sound was not downloaded",
}
_KNOWN_ELSEWHERE = (b"Crea", b"NIST")  # VOC, NIST: left to the decoder
_FLAC_START = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22")  # the mark, and the length of what follows
_BLOCK = 1 << 20
_TURNED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_CRC16 = [  # of each byte, by the polynomial of FLAC frames
    reduce(lambda crc, _: crc << 1 & 0xFFFF ^ (0x8005 if crc & 0x8000 else 0), range(8), byte << 8)
    for byte in range(256)
]
SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au")
RATES_HZ = (1_000, 768_000)
MAX_CHANNELS = 24
MAX_SECONDS = 3 * 3600.0
CANCELLED_DB = 20.0  # channels without relation lose 14 dB in a mean of 24: more is one against the other
_READ_AHEAD = 4096  # so many bytes behind a sound a decoder may read or leave without a word


def examine(file: BinaryIO) -> Layout:
    """Return where the sound of an open file lies, whatever its name says that it is."""
    base = 0
    while (size := id3_size(read_at(file, base, 10))) > 0:  # the file proper begins behind ID3v2 tags
        base += size
    head = read_at(file, base, 16)
    if head[:4] in (b"RIFF", b"RIFX", b"RF64") and head[8:12] == b"WAVE":
        return containers.riff(file, base)
    if head[:16] == b"riff.\x91\xcf\x11\xa5\xd6(\xdb\x04\xc1\x00\x00":
        return containers.w64(file, base)
    by_mark = containers.BY_MARK | {b"OggS": _ogg, b"fLaC": _flac}
    if head[:4] in by_mark:
        return by_mark[head[:4]](file, base)
    foreign = "an MP4 or M4A file" if head[4:8] == b"ftyp" else _FOREIGN.get(head[:4])
    if int.from_bytes(head[:2]) & 0xFFF6 == 0xFFF0:
        foreign = "an AAC file"
    if foreign is not None:
        return Layout.whole(file, 0, fault=f"it cannot be decoded: by its content it is {foreign}")
    mpeg = None if head[:4] in _KNOWN_ELSEWHERE else containers.mpeg(read_at(file, 0, size_of(file)))
    return mpeg or Layout.whole(file, 0)


class _Page(NamedTuple):
    """A page of an Ogg file: its place, flags, stream and number, and whether it is intact."""

    start: int
    stop: int
    flags: int
    stream: bytes
    number: int
    intact: bool


def _ogg(file: BinaryIO, base: int) -> Layout:
    """Return the links of an Ogg file (RFC 3533): header type 0x02 begins a logical stream, 0x04 ends it."""
    data = read_at(file, base, size_of(file))
    pages = list(_pages(data))
    begins = [page.flags & 0x02 for page in pages]
    firsts = [i for i, mark in enumerate(begins) if mark and not (i and begins[i - 1])]
    if not firsts or pages[-1].stop > len(data):
        return Layout.whole(file, base, "the last page is cut" if pages else None)
    links = [(pages[i], pages[j - 1]) for i, j in zip(firsts, [*firsts[1:], len(pages)], strict=True)]
    parts = tuple(Part((range(base + first.start, base + last.stop),)) for first, last in links)
    if any(not last.flags & 0x04 for _, last in links):
        return Layout(parts, "the last page does not carry the end-of-stream mark")
    rest = data[pages[-1].stop :]
    note = f"{len(rest)} bytes behind the last page are no Ogg pages and were not read"
    return Layout(parts, damage=_ogg_damage(pages), notes=() if is_padding(rest) else (note,))


def _ogg_damage(pages: list[_Page]) -> str | None:
    """Return which page is missing or broken: a decoder passes over both."""
    numbers: dict[bytes, int] = {}
    for at, page in enumerate(pages, 1):
        if not page.intact:
            return f"page {at} of {len(pages)} is damaged: its checksum is another"
        if not page.flags & 0x02 and page.number != numbers.get(page.stream, -2) + 1:
            return f"a page is missing before page {at} of {len(pages)}"
        numbers[page.stream] = page.number
    return None


def _pages(data: bytes) -> Iterator[_Page]:
    """Yield the pages of an Ogg file; the last may reach beyond the data."""
    position = data.find(b"OggS")
    while position >= 0:
        head = data[position : position + 27].ljust(27, b"\x00")
        stop = position + 27 + head[26] + sum(data[position + 27 : position + 27 + head[26]])
        # the checksum (RFC 3533) is zlib's, with the bits of all bytes the other way round, and itself as 0
        turned = (head[:22] + bytes(4) + data[position + 26 : stop]).translate(_TURNED)
        checksum = (zlib.crc32(turned, 0xFFFFFFFF) ^ 0xFFFFFFFF).to_bytes(4, "big").translate(_TURNED)
        number, intact = int.from_bytes(head[18:22], "little"), checksum == head[22:26]
        yield _Page(position, stop, head[5], head[14:18], number, intact)
        # a page that is cut may declare bytes of the one behind it
        position = data.find(b"OggS", stop if intact else position + 4)


def _flac(file: BinaryIO, base: int) -> Layout:
    """Return the sounds of a FLAC file, each under a header with as many samples as its last frame says."""
    starts = list(_flac_starts(file, base))
    parts = []
    for start, stop in zip(starts, [*starts[1:], size_of(file)], strict=True):
        header = bytearray(read_at(file, start, 42))
        declared = int.from_bytes(header[21:26], "big") & 0xFFFFFFFFF
        counted = _flac_samples(file, bytes(header), start, stop)
        if counted is not None and counted > declared:
            header[21] = header[21] & 0xF0 | counted >> 32
            header[22:26] = (counted & 0xFFFFFFFF).to_bytes(4, "big")
        elif declared == 0:
            found = "its header does not say how long it is, and its last frame is not whole"
            return Layout.whole(file, base, fault=found)
        parts.append(Part((bytes(header), range(start + len(header), stop))))
    return Layout(tuple(parts))


def _flac_starts(file: BinaryIO, base: int) -> Iterator[int]:
    """Yield where FLAC streams begin in a file."""
    yield base
    position, size = base + 4, size_of(file)
    while position < size:
        block = read_at(file, position, _BLOCK + 7)  # a mark may lie across two blocks
        yield from (position + one.start() for one in _FLAC_START.finditer(block))
        position += _BLOCK


def _flac_samples(file: BinaryIO, header: bytes, start: int, stop: int) -> int | None:
    """Return how many samples lie before the end of the last whole FLAC frame (RFC 9639), if there is one."""
    largest = int.from_bytes(header[15:18], "big") or 1 << 17
    tail = read_at(file, max(start + 42, stop - largest - 1024), largest + 1024)
    before_tags = [at for mark in (b"TAG", b"ID3") if (at := tail.rfind(mark)) > 0]
    for end in (len(tail), *before_tags):  # the last frame ends with the data, or before a tag
        at = end
        while (at := tail.rfind(b"\xff", 0, at)) >= 0:
            if tail[at + 1 : at + 2] in (b"\xf8", b"\xf9") and _crc16(tail[at:end]) == 0:
                return _flac_frame_end(tail[at : at + 16], int.from_bytes(header[10:12], "big"))
    return None


def _flac_frame_end(frame: bytes, block: int) -> int:
    """Return the number of the first sample behind a frame; `block` is the block size of the stream."""
    code, ones = frame[2] >> 4, 8 - (frame[4] ^ 0xFF).bit_length()  # as in UTF-8: ones tell the length
    behind = 4 + max(1, ones)
    number = frame[4] & 0x7F >> ones
    for byte in frame[5:behind]:
        number = number << 6 | byte & 0x3F
    if code in (6, 7):  # the size stands behind the number, in one byte or two
        samples = int.from_bytes(frame[behind : behind + code - 5]) + 1
    else:
        samples = 192 if code == 1 else 576 << code - 2 if code < 6 else 256 << code - 8
    return number + samples if frame[1] & 1 else number * block + samples


def _crc16(data: bytes) -> int:
    """Return the CRC of FLAC frames (polynomial 0x8005); 0 for a whole frame with its own."""
    return reduce(lambda crc, byte: crc << 8 & 0xFFFF ^ _CRC16[crc >> 8 ^ byte], data, 0)


def read_clip(
    path: Path | str,
    *,
    rate_hz: int | None = None,
    seconds: float | None = None,
    offset_s: float = 0,
    stereo: bool = False,
) -> Clip:
    """Return the sound of a file, by default as mono: the mean of its channels. Silence is legal sound.

    Args:
        path: WAV, FLAC, OGG, Opus, MP3, AIFF or AU file; its content counts, not its suffix. Sounds that
            were joined into one file (such as two MP3 files, or a chained Ogg) are read one after another.
        rate_hz: rate of the clip; the file's own when None.
        seconds: at most this much of the file; all of it when None.
        offset_s: where to start, in seconds.
        stereo: whether two channels stay two; any other number of them is mixed to mono.

    Raises AudioError where the file is missing, cannot be opened, is not sound, cut short, empty, holds NaN
    or channels that would cancel each other in mono, or declares an absurd rate, number of channels or
    length. A UserWarning tells of bytes that were passed over because they are no sound.

    >>> from tempfile import mkdtemp
    >>> path = Clip(0.5 * np.sin(np.arange(8000) / 10), 8000).write(Path(mkdtemp(), "tone.wav"))
    >>> read_clip(path, seconds=0.5)
    Clip(0.50 s, 8000 Hz, -9.0 dBFS)
    """
    path = Path(path)
    if not (math.isfinite(offset_s) and offset_s >= 0) or (seconds is not None and not seconds > 0):
        asked = f"{seconds} s from {offset_s} s of {path.name} were asked for"
        raise AudioError(asked, "that is no stretch of time", "Give offset_s >= 0 and seconds > 0")
    try:
        samples, file_rate_hz, notes = _read(path, _Window(path, seconds, offset_s, stereo=stereo))
    except AudioError:
        raise
    except FileNotFoundError as error:
        raise AudioError(f"{shown(path)} was asked for", "there is no such file", "Check the path") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise _refused(path, f"it cannot be read ({reason})", "Check the file and its permissions") from error
    except (RuntimeError, MemoryError) as error:
        # the decoder's own words, without the path that the message already names
        reason = str(getattr(error, "error_string", error)).strip().rstrip(".") or type(error).__name__
        raise _refused(path, f"it cannot be decoded ({reason})") from error
    if samples.size == 0:
        raise _refused(path, f"it holds no sound after {offset_s:g} s")
    try:
        clip = Clip(samples, file_rate_hz)
    except AudioError as error:
        raise AudioError(f"{shown(path)}: {error}") from error
    for note in notes:
        warnings.warn(f"{shown(path)}: {note}", stacklevel=2)
    return clip if rate_hz is None else clip.resample(rate_hz)


def on_disk(path: Path | str) -> Path:
    """Return the path as this system takes it, also where its encoding (ASCII) lacks letters of the name."""
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        return Path(os.fsdecode(os.fspath(path).encode("utf-8", "surrogateescape")))
    return Path(path)


def portable(path: Path) -> str:
    """Return a path by UTF-8, the same whatever this system's encoding; as it is where it is not UTF-8."""
    try:
        return os.fsencode(path).decode("utf-8")
    except UnicodeError:
        return str(path)


def shown(path: Path | str) -> str:
    r"""Return a path that can be printed: bytes that are not UTF-8 as "\xff"."""
    try:
        name = os.fsencode(path)
    except UnicodeEncodeError:
        name = os.fspath(path).encode("utf-8", "backslashreplace")
    return name.decode("utf-8", "backslashreplace")


def _read(path: Path, window: _Window) -> tuple[np.ndarray, int, tuple[str, ...]]:
    """Return the sound of the window, (n,) or (2, n), its rate, and what is to be said of the file."""
    place = on_disk(path)
    if not place.is_file():
        place.stat()  # says why it cannot be reached, if that is the reason
        raise OSError("it is a folder or a device, not a file")
    with place.open("rb") as file:
        layout = examine(file)
        if layout.missing is not None:
            raise _refused(path, f"it is truncated: {layout.missing}")
        if layout.fault is not None:
            raise _refused(path, layout.fault, "Convert or export it again as WAV or FLAC, or leave it out")
        for part in layout.parts:
            if window.wanted > 0:
                window.take(file, part)
    if layout.damage is not None:
        raise _refused(path, layout.damage)
    return window.samples(), window.rate_hz, layout.notes + window.notes


class _Window:
    """Collects the stretch of a file that is wanted, over all its parts."""

    def __init__(self, path: Path, seconds: float | None, offset_s: float, *, stereo: bool) -> None:
        self._path, self._seconds, self._offset_s, self._stereo = path, seconds, offset_s, stereo
        self.rate_hz = 0
        self._passed, self.wanted = 0, math.inf  # samples of the parts before, and still to come
        self.notes: tuple[str, ...] = ()
        self._blocks: list[np.ndarray] = []  # (n, 2) where two channels are kept, else (n, 1)
        self._power = 0.0  # of the channels, summed over samples and averaged over channels

    def take(self, file: BinaryIO, part: Part) -> None:
        source = Splice(file, part.pieces)
        try:
            with soundfile.SoundFile(source) as sound:
                self._check(sound, part)
                start = max(0, round(self._offset_s * self.rate_hz) - self._passed)
                self._passed += sound.frames
                if start < sound.frames:
                    self._collect(sound, start, part.slack)
                    rest = source.unread() if self.wanted > 0 else b""  # decoded to its end
                    if len(rest) > _READ_AHEAD and not is_padding(rest):
                        self.notes += (f"{len(rest)} bytes behind its sound were not read",)
        finally:  # the decoder takes an error of the disk for the end of the file, or for nonsense
            if source.error is not None:
                raise source.error from None

    def samples(self) -> np.ndarray:
        """Return both channels (2, n), or the mean of all (n,), where AudioError says that they cancel."""
        if not self._blocks:
            return np.zeros(0, np.float32)
        most = max(block.shape[1] for block in self._blocks)  # of joined sounds one may be mono
        if most == 2:
            return np.concatenate([np.broadcast_to(one, (len(one), 2)) for one in self._blocks]).T
        mono = np.concatenate(self._blocks)[:, 0]
        channels_db = level_db(self._power / len(mono))
        mean_db = level_db(float(np.mean(np.square(mono, dtype=np.float64))))
        if channels_db >= SILENT_LEVEL_DB and mean_db <= channels_db - CANCELLED_DB:
            levels = f"they have {channels_db:.0f} dBFS, and their mean {mean_db:.0f}"
            do = "Export one channel as mono, or turn one over"
            raise _refused(self._path, f"its channels cancel each other: {levels}", do)
        return mono

    def _collect(self, sound: soundfile.SoundFile, start: int, slack: int) -> None:
        """Decode from `start` on what is wanted; up to `slack` samples fewer than declared are no fault."""
        sound.seek(start)
        expected = int(min(sound.frames - start, self.wanted))
        # In pieces, an Ogg file with a hole comes back at full length, the hole filled with anything; all
        # others come in pieces, so that a header which lies does not claim memory.
        size, decoded, more = expected if sound.format == "OGG" else _BLOCK, 0, True
        while more and decoded < expected:
            block = sound.read(min(size, expected - decoded), dtype="float32", always_2d=True)
            more = len(block) > 0 and sound.format != "OGG"
            decoded += len(block)
            self._power += float(np.sum(np.square(block, dtype=np.float64))) / block.shape[1]
            both = self._stereo and block.shape[1] == 2
            self._blocks.append(block if both else block.mean(axis=1, keepdims=True))
        self.wanted -= expected
        if decoded < expected - slack:
            raise RuntimeError(f"{expected} samples were declared and {decoded} could be decoded")

    def _check(self, sound: soundfile.SoundFile, part: Part) -> None:
        """Raise AudioError when what a part declares cannot be music, or does not fit what is wanted."""
        low, high = RATES_HZ
        if not low <= sound.samplerate <= high:
            raise _refused(self._path, f"it declares {sound.samplerate} Hz, outside {low}-{high} Hz")
        if not 1 <= sound.channels <= MAX_CHANNELS:
            raise _refused(self._path, f"it declares {sound.channels} channels, more than {MAX_CHANNELS}")
        if sound.frames == 0:
            raise _refused(self._path, "it is empty: it holds no samples")
        if self.rate_hz not in (0, sound.samplerate):
            found = f"it joins sounds of {self.rate_hz} Hz and {sound.samplerate} Hz"
            raise _refused(self._path, found, "Cut it into one file for each")
        if part.samples is not None and sound.frames < part.samples:
            found = f"of {part.samples} samples at least the decoder counts {sound.frames}"
            raise _refused(self._path, found)
        if self.rate_hz == 0:
            self.rate_hz = sound.samplerate
            if self._seconds is not None:
                self.wanted = max(1, round(self._seconds * self.rate_hz))
        end = self._passed + sound.frames - self._offset_s * self.rate_hz
        length_s = min(end, self.wanted) / self.rate_hz
        if length_s > MAX_SECONDS:
            found = f"it declares {length_s / 3600:.1f} h of sound, more than {MAX_SECONDS / 3600:g} h"
            raise _refused(self._path, found, "Read a part of it with seconds=, cut it, or leave it out")


def _refused(path: Path, found: str, do: str = "Copy or export the file again, or drop it") -> AudioError:
    """Return the error that names the file."""
    return AudioError(f"The sound of {shown(path)} was asked for", found, do)
