"""What a sound file is, by its content; where its sound lies; and whether it stops before its own end.

Decoders forgive: half an MP3, WAV, AIFF, AU or Ogg file reads as a shorter sound and nobody notices, and of
two files that were joined they read the first. Each format says how long it should be in its own way, and
`examine` compares that with what is there, without decoding.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from workbench.sound import chunks, mp3
from workbench.sound.layout import Layout, Part, Piece, id3_size, is_padding, read_at, size_of

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
_FLAC_STARTS = (b"fLaC\x00\x00\x00\x22", b"fLaC\x80\x00\x00\x22")  # the mark, and the length of what follows
_BLOCK = 1 << 20
_TURNED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def missing_end(path: Path) -> str | None:
    """Return what is missing at the end of the file in words, None when nothing is known to be missing."""
    with path.open("rb") as file:
        return examine(file).missing


def examine(file: BinaryIO) -> Layout:
    """Return where the sound of an open file lies, whatever its name says that it is."""
    base = _behind_tags(file)
    head = read_at(file, base, 16)
    if head[:4] in (b"RIFF", b"RIFX", b"RF64") and head[8:12] == b"WAVE":
        stream = chunks.mpeg_in_riff(file, base)
        if stream is None:
            return chunks.riff(file, base)
        return mp3.layout(read_at(file, stream.start, len(stream)), stream.start) or chunks.riff(file, base)
    if head[:4] == b"FORM":
        return chunks.aiff(file, base)
    if head[:4] == b".snd":
        return chunks.au(file, base)
    if head[:16] == b"riff.\x91\xcf\x11\xa5\xd6(\xdb\x04\xc1\x00\x00":
        return chunks.w64(file, base)
    if head[:4] == b"caff":
        return chunks.caf(file, base)
    if head[:4] == b"OggS":
        return _ogg(read_at(file, base, size_of(file)), base)
    if head[:4] == b"fLaC":
        return _flac(file, base)
    return _mpeg_or_foreign(file, head)


def _mpeg_or_foreign(file: BinaryIO, head: bytes) -> Layout:
    """Return the layout of an MPEG stream, or of what libsndfile alone may know; name what is not read."""
    whole = (Part((range(size_of(file)),)),)
    if head[:4] in _KNOWN_ELSEWHERE:
        return Layout(whole)
    foreign = "an MP4 or M4A file" if head[4:8] == b"ftyp" else _FOREIGN.get(head[:4])
    if foreign is None and len(head) > 1 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:
        foreign = "an AAC file"
    if foreign is not None:
        return Layout(whole, fault=f"it cannot be decoded: by its content it is {foreign}")
    return mp3.layout(read_at(file, 0, size_of(file))) or Layout(whole)


def _behind_tags(file: BinaryIO) -> int:
    """Return where the file proper begins, behind ID3v2 tags."""
    position = 0
    while (size := id3_size(read_at(file, position, 10))) > 0:
        position += size
    return position


@dataclass(frozen=True)
class _Page:
    """A page of an Ogg file: its place, flags, stream and number, and whether it is intact."""

    start: int
    stop: int
    flags: int
    stream: bytes
    number: int
    intact: bool


def _ogg(data: bytes, base: int) -> Layout:
    """Return the links of an Ogg file: sounds in a chain, each with its own mark of the end.

    RFC 3533, section 6: of a page's header type, 0x02 begins a logical stream and 0x04 ends it.
    """
    pages = list(_pages(data))
    firsts = [
        i for i, page in enumerate(pages) if page.flags & 0x02 and not (i and pages[i - 1].flags & 0x02)
    ]
    whole = (Part((range(base, base + len(data)),)),)
    if not firsts or pages[-1].stop > len(data):
        return Layout(whole, "the last page is cut" if pages else None)
    lasts = [i - 1 for i in [*firsts[1:], len(pages)]]
    parts = tuple(
        Part((range(base + pages[first].start, base + pages[last].stop),))
        for first, last in zip(firsts, lasts, strict=True)
    )
    if any(not pages[last].flags & 0x04 for last in lasts):
        return Layout(parts, "the last page does not carry the end-of-stream mark")
    rest = data[pages[-1].stop :]
    told = f"{len(rest)} bytes behind the last page are no Ogg pages and were not read"
    return Layout(parts, damage=_ogg_damage(pages), notes=() if is_padding(rest) else (told,))


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
        segments = data[position + 26] if position + 26 < len(data) else 0
        stop = position + 27 + segments + sum(data[position + 27 : position + 27 + segments])
        head = data[position : position + 27].ljust(27, b"\x00")
        intact = _ogg_checksum(data[position:stop]) == int.from_bytes(head[22:26], "little")
        number = int.from_bytes(head[18:22], "little")
        yield _Page(position, stop, head[5], head[14:18], number, intact)
        # a page that is cut may declare bytes of the one behind it
        position = data.find(b"OggS", stop if intact else position + 4)


def _ogg_checksum(page: bytes) -> int:
    """Return the checksum of a page (RFC 3533: polynomial 0x04c11db7, its own field as zeros).

    zlib's has the same polynomial with the bits of each byte, and of the sum, the other way round.
    """
    turned = (page[:22] + bytes(4) + page[26:]).translate(_TURNED)
    return int.from_bytes(
        (zlib.crc32(turned, 0xFFFFFFFF) ^ 0xFFFFFFFF).to_bytes(4, "little").translate(_TURNED)
    )


def _flac(file: BinaryIO, base: int) -> Layout:
    """Return the sounds of a FLAC file, each under a header with as many samples as its last frame says.

    A program that streams leaves the number 0; and a decoder stops at a number that is too small.
    """
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
            told = "its header does not say how long it is, and its last frame is not whole"
            return Layout((Part((range(base, size_of(file)),)),), fault=told)
        pieces: tuple[Piece, ...] = (bytes(header), range(start + len(header), stop))
        parts.append(Part(pieces))
    return Layout(tuple(parts))


def _flac_starts(file: BinaryIO, base: int) -> Iterator[int]:
    """Yield where FLAC streams begin in a file."""
    yield base
    position, size = base + 4, size_of(file)
    while position < size:
        block = read_at(file, position, _BLOCK + 7)  # a mark may lie across two blocks
        found = sorted(at for mark in _FLAC_STARTS for at in _all(block, mark))
        yield from (position + at for at in found if at < _BLOCK)
        position += _BLOCK


def _all(block: bytes, mark: bytes) -> Iterator[int]:
    at = block.find(mark)
    while at >= 0:
        yield at
        at = block.find(mark, at + 1)


def _flac_samples(file: BinaryIO, header: bytes, start: int, stop: int) -> int | None:
    """Return how many samples lie before the end of the last whole FLAC frame; None where it is not found.

    RFC 9639, section 9: a frame begins with a sync code and its number, and ends with a CRC of all its bytes.
    """
    largest = int.from_bytes(header[15:18], "big") or 1 << 17
    tail = read_at(file, max(start + 42, stop - largest - 1024), largest + 1024)
    for end in _flac_ends(tail):
        at = end
        while (at := tail.rfind(b"\xff", 0, at)) >= 0:
            if tail[at + 1 : at + 2] in (b"\xf8", b"\xf9") and _crc16(tail[at:end]) == 0:
                return _flac_frame_end(tail[at : at + 16], int.from_bytes(header[10:12], "big"))
    return None


def _flac_ends(tail: bytes) -> Iterator[int]:
    """Yield where the last frame may end: at the end of the data, or before a tag."""
    yield len(tail)
    for mark in (b"TAG", b"ID3"):
        if (at := tail.rfind(mark)) > 0:
            yield at


def _flac_frame_end(frame: bytes, block: int) -> int | None:
    """Return the number of the first sample behind a frame; `block` is the block size of the stream."""
    lead, code = frame[4], frame[2] >> 4
    more = next((n for n in range(7) if not lead << n & 0x80), 7)  # as in UTF-8: ones tell the length
    size = max(1, more)
    number = lead & (0x7F if more == 0 else 0x7F >> more)
    for byte in frame[5 : 4 + size]:
        number = number << 6 | byte & 0x3F
    behind = frame[4 + size :]
    samples = {6: behind[0] + 1, 7: int.from_bytes(behind[:2], "big") + 1, 1: 192}.get(code)
    if samples is None:
        samples = 576 << code - 2 if code < 6 else 256 << code - 8
    return number + samples if frame[1] & 1 else number * block + samples


def _crc16(data: bytes) -> int:
    """Return the CRC of FLAC frames (polynomial 0x8005); 0 for a whole frame with its own."""
    crc = 0
    for byte in data:
        crc = crc << 8 & 0xFFFF ^ _CRC16[crc >> 8 ^ byte]
    return crc


def _crc16_table() -> list[int]:
    table = []
    for byte in range(256):
        crc = byte << 8
        for _ in range(8):
            crc = crc << 1 & 0xFFFF ^ (0x8005 if crc & 0x8000 else 0)
        table.append(crc)
    return table


_CRC16 = _crc16_table()
