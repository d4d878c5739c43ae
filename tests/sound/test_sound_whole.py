"""Sound that decoders read in part is read whole or refused: joined, tagged, misnamed, streamed files."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from workbench.errors import AudioError
from workbench.sound import Clip, containers, read_clip

RATE_HZ = 16_000
FIRST_S, SECOND_S = 2.0, 1.5
STREAMED = (0, 0x7FFFEFFF, 0x7FFFF000, 0x7FFFF024, 0x7FFFFFFE, 0x7FFFFFFF, 0x80000000, 0x80000001)
STREAMED += (0xFFFFF000, 0xFFFFFFDB, 0xFFFFFFFE, 0xFFFFFFFF)


def tone(hz: float, seconds: float, *, seed: int = 0) -> np.ndarray:
    time_s = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    detail = 0.02 * np.random.default_rng(seed).standard_normal(time_s.size)
    return (0.4 * np.sin(2 * np.pi * hz * time_s) + detail).astype(np.float32)


def encoded(samples: np.ndarray, format: str, **options: object) -> bytes:  # noqa: A002  # the word of the field
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, RATE_HZ, format=format, **options)
    return buffer.getvalue()


LOW, HIGH = tone(440, FIRST_S), tone(880, SECOND_S)
MP3 = (encoded(LOW, "MP3"), encoded(HIGH, "MP3"))
VARIABLE = encoded(LOW, "MP3", bitrate_mode="VARIABLE", compression_level=0.5)


def uncounted(stream: bytes) -> bytes:
    """An MP3 stream without the first frame, which says how many follow."""
    return stream[containers.frame_at(stream, 0).size :]


def frames(stream: bytes) -> Iterator[int]:
    """Where the frames of a clean MP3 stream begin."""
    position = 0
    while (frame := containers.frame_at(stream, position)) is not None:
        yield position
        position += frame.size


def tag(size: int, *, declared: int | None = None) -> bytes:
    """An ID3v2 tag with `size` bytes inside, which may declare another size."""
    told = size if declared is None else declared
    return b"ID3\x04\0\0" + bytes(told >> shift & 0x7F for shift in (21, 14, 7, 0)) + b"T".ljust(size, b"\1")


def read(folder: Path, data: bytes, name: str = "music.mp3", **window: float) -> Clip:
    """The clip of a file, which must come without a warning."""
    (folder / name).write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return read_clip(folder / name, **window)  # type: ignore[arg-type]


def pitch_hz(clip: Clip, start_s: float, end_s: float) -> float:
    part = clip.section(start_s, end_s).samples
    return float(np.abs(np.fft.rfft(part * np.hanning(len(part)))).argmax() * clip.rate_hz / len(part))


def assert_both(clip: Clip, *, slack_s: float = 0.0) -> None:
    """The clip holds LOW, then HIGH, whole."""
    assert clip.seconds == pytest.approx(FIRST_S + SECOND_S, abs=slack_s + 1e-6)
    # a bin of the spectrum is 1 Hz wide or less
    assert pitch_hz(clip, 0.1, FIRST_S - 0.1) == pytest.approx(440, abs=2)
    assert pitch_hz(clip, FIRST_S + 0.2, FIRST_S + SECOND_S - 0.1) == pytest.approx(880, abs=2)


@pytest.mark.parametrize(
    "between",
    [b"", tag(200), b"TAG".ljust(128, b"x") + tag(5000), tag(200, declared=9000), tag(3000, declared=200)],
)
@pytest.mark.parametrize("counts", ["both", "first", "second", "none"])
def test_two_mp3_files_in_one_are_read_one_after_the_other(
    tmp_path: Path, between: bytes, counts: str
) -> None:
    first = MP3[0] if counts in ("both", "first") else uncounted(MP3[0])
    second = MP3[1] if counts in ("both", "second") else uncounted(MP3[1])
    clip = read(tmp_path, first + between + second)
    # without its count an encoder's delay and padding (three frames of 36 ms) cannot be told from sound
    assert_both(clip, slack_s=0.0 if counts == "both" else 0.2)
    assert clip.seconds >= FIRST_S + SECOND_S


def test_a_window_over_the_joint_is_the_same_stretch_of_the_whole(tmp_path: Path) -> None:
    for name, data in {"a.mp3": MP3[0] + MP3[1], "a.ogg": encoded(LOW, "OGG") + encoded(HIGH, "OGG")}.items():
        part, whole = read(tmp_path, data, name, offset_s=1.5, seconds=1.0), read(tmp_path, data, name)
        assert np.abs(part.samples - whole.section(1.5, 2.5).samples).max() < 1e-3
        assert read(tmp_path, data, name, offset_s=2.5).seconds == pytest.approx(1.0)


def test_joined_sounds_of_two_rates_are_refused(tmp_path: Path) -> None:
    faster = io.BytesIO()
    soundfile.write(faster, HIGH, 44_100, format="MP3")
    with pytest.raises(AudioError, match=r"joins sounds of 16000 Hz and 44100 Hz"):
        read(tmp_path, MP3[0] + faster.getvalue())


@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize("inside", [0, 30], ids=["between frames", "inside a frame"])
def test_junk_inside_an_mp3_is_passed_over_and_told(tmp_path: Path, counted: bool, inside: int) -> None:
    stream = MP3[0] if counted else uncounted(MP3[0])
    places = list(frames(stream))
    middle = places[len(places) // 2] + inside
    path = tmp_path / "music.mp3"
    path.write_bytes(stream[:middle] + b"\x13" * 300 + stream[middle:])
    with pytest.warns(UserWarning, match=r"music\.mp3: 300 bytes at \d\.\d\d s are no MPEG frames"):
        clip = read_clip(path)
    clean = read(tmp_path, stream, "clean.mp3")
    assert clip.seconds == clean.seconds
    if not inside:
        assert np.array_equal(clip.samples, clean.samples)


def test_junk_in_the_place_of_frames_is_refused(tmp_path: Path) -> None:
    for stream in MP3[0], uncounted(MP3[0]):
        middle = len(stream) // 3
        for filling in (b"\x13", b"\x00"):
            data = stream[:middle] + filling * middle + stream[2 * middle :]
            if stream is MP3[0]:
                with pytest.raises(AudioError, match="the header declares 58 frames and"):
                    read(tmp_path, data)
            else:
                with pytest.warns(UserWarning, match="are no MPEG frames"):
                    (tmp_path / "a.mp3").write_bytes(data)
                    read_clip(tmp_path / "a.mp3")
    long = uncounted(encoded(tone(440, 8), "MP3"))
    part = len(long) // 3
    with pytest.raises(AudioError, match=r"no MPEG frames, the place of about \d\.\d s of sound"):
        read(tmp_path, long[:part] + b"\x13" * part + long[2 * part :])


@pytest.mark.parametrize(
    "before",
    [
        tag(200) + tag(300),
        tag(200, declared=3000),
        tag(200, declared=1_000_000),
        tag(3000, declared=200),
        tag(200, declared=0),
    ],
    ids=["two tags", "too large", "beyond the file", "too small", "none"],
)
@pytest.mark.parametrize("counted", [True, False])
def test_wrong_and_doubled_tags_hide_no_sound(tmp_path: Path, before: bytes, counted: bool) -> None:
    stream = MP3[0] if counted else uncounted(MP3[0])
    plain = read(tmp_path, stream, "plain.mp3")
    assert read(tmp_path, before + stream) == plain


@pytest.mark.parametrize("name", ["music.mp3", "music.wav", "music.flac", "music"])
@pytest.mark.parametrize("format", ["WAV", "FLAC", "OGG", "AIFF", "AU", "MP3"])
def test_a_file_is_what_it_holds_whatever_its_name(tmp_path: Path, name: str, format: str) -> None:  # noqa: A002
    clip = read(tmp_path, encoded(LOW, format), name)
    assert clip.seconds == pytest.approx(FIRST_S, abs=1e-6)
    assert np.corrcoef(clip.samples, LOW)[0, 1] > 0.99


@pytest.mark.parametrize("name", ["music.wav", "music.mp3", "music.ogg"])
def test_a_variable_mp3_of_another_name_is_whole(tmp_path: Path, name: str) -> None:
    # three frames of 36 ms are delay and padding
    assert read(tmp_path, uncounted(VARIABLE), name).seconds == pytest.approx(FIRST_S, abs=0.12)


def test_an_mp3_inside_a_wav_is_read(tmp_path: Path) -> None:
    form = struct.pack("<HHIIHHH", 0x55, 1, RATE_HZ, 4000, 1, 0, 0)
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(VARIABLE))
    data = b"RIFF" + struct.pack("<I", len(body) + len(VARIABLE)) + body + VARIABLE
    assert read(tmp_path, data, "music.wav").seconds == pytest.approx(FIRST_S, abs=1e-6)


@pytest.mark.parametrize(
    ("start", "told"),
    [
        (b"\0\0\0\x20ftypM4A \0\0\0\0", "an MP4 or M4A file"),
        (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "a WMA file"),
        (b"\xff\xf1\x50\x80\x2e\x7f\xfc\x21", "an AAC file"),
        (b"MThd\0\0\0\6\0\1\0\1", "a MIDI file"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
    ],
)
def test_what_cannot_be_read_is_named_by_its_content(tmp_path: Path, start: bytes, told: str) -> None:
    with pytest.raises(AudioError, match=rf"music\.mp3.*by its content it is .*{told}.*WAV or FLAC"):
        read(tmp_path, start + bytes(3000))


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_a_chained_ogg_is_read_to_its_last_link(tmp_path: Path, subtype: str) -> None:
    links = [encoded(samples, "OGG", subtype=subtype) for samples in (LOW, HIGH)]
    assert_both(read(tmp_path, links[0] + links[1], "a.ogg"))
    with pytest.raises(AudioError, match="end-of-stream mark"):
        read(tmp_path, links[0][: len(links[0]) // 2] + links[1], "a.ogg")


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_broken_page_of_an_ogg_is_refused(tmp_path: Path, subtype: str, share: float) -> None:
    data = bytearray(encoded(tone(440, 4), "OGG", subtype=subtype))
    data[int(share * len(data))] ^= 0xFF
    with pytest.raises(AudioError, match=r"a\.ogg.*(damaged|could be decoded)"):
        read(tmp_path, bytes(data), "a.ogg")


@pytest.mark.parametrize("format", ["WAV", "FLAC", "AIFF", "AU"])
def test_other_files_in_one_are_read_one_after_the_other(tmp_path: Path, format: str) -> None:  # noqa: A002
    assert_both(read(tmp_path, encoded(LOW, format) + encoded(HIGH, format), "a.bin"))


@pytest.mark.parametrize("format", ["WAV", "FLAC"])
def test_mono_sound_joined_with_stereo_goes_to_both_sides(tmp_path: Path, format: str) -> None:  # noqa: A002
    (tmp_path / "a.bin").write_bytes(encoded(LOW, format) + encoded(np.stack([HIGH, 0 * HIGH], 1), format))
    clip = read_clip(tmp_path / "a.bin", stereo=True)
    first = len(LOW)
    assert np.array_equal(clip.heard[0, :first], clip.heard[1, :first])
    assert not clip.heard[1, first:].any()
    assert np.array_equal(clip.samples, read_clip(tmp_path / "a.bin").samples)


@pytest.mark.parametrize("behind", ["MP3", "WAV", "FLAC", "OGG"])
@pytest.mark.parametrize("format", ["MP3", "WAV", "FLAC", "OGG", "AIFF", "AU"])
def test_another_format_behind_a_sound_is_told_or_refused(tmp_path: Path, format: str, behind: str) -> None:  # noqa: A002
    path = tmp_path / "a.bin"
    path.write_bytes(encoded(LOW, format) + encoded(HIGH, behind))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            whole = read_clip(path).seconds > FIRST_S + SECOND_S - 0.1
        except AudioError as error:
            whole = "belong to no chunk" in str(error)
    assert whole or "bytes" in str(said[0].message)


@pytest.mark.parametrize("declared", [0, 1000, len(LOW) - 1])
def test_a_flac_is_read_to_its_last_frame_whatever_it_declares(tmp_path: Path, declared: int) -> None:
    data = bytearray(encoded(LOW, "FLAC"))
    data[21] &= 0xF0
    data[22:26] = declared.to_bytes(4, "big")
    for behind in (b"", b"TAG".ljust(128, b"x"), tag(500)):
        if declared == 0 or not behind:
            assert len(read(tmp_path, bytes(data) + behind, "a.flac").samples) == len(LOW)
    if declared == 0:
        with pytest.raises(AudioError, match="does not say how long it is"):
            read(tmp_path, bytes(data[: len(data) // 2]), "a.flac")


def patched(data: bytes, place: int, size: int, order: str) -> bytes:
    return data[:place] + size.to_bytes(4, order) + data[place + 4 :]  # type: ignore[arg-type]


@pytest.mark.parametrize("outer", [True, False], ids=["file size too", "sound size alone"])
@pytest.mark.parametrize("size", STREAMED, ids=hex)
@pytest.mark.parametrize("format", ["WAV", "AIFF", "AU"])
def test_a_streamed_header_is_read_to_the_end(tmp_path: Path, format: str, size: int, outer: bool) -> None:  # noqa: A002
    data, order = encoded(LOW, format), "little" if format == "WAV" else "big"
    place = {"WAV": data.find(b"data") + 4, "AIFF": data.find(b"SSND") + 4, "AU": 8}[format]
    streamed = patched(data, place, size, order)
    if outer and format != "AU":
        streamed = patched(streamed, 4, min(size + place - 4, 0xFFFFFFFF), order)
    clip = read(tmp_path, streamed, "a.bin")
    assert len(clip.samples) == len(LOW)
    assert np.abs(clip.samples - LOW).max() < 1e-4


def test_a_streamed_wav_that_begins_with_silence_is_read_to_the_end(tmp_path: Path) -> None:
    data = encoded(np.concatenate([np.zeros(4000, np.float32), LOW]), "WAV")
    assert len(read(tmp_path, patched(data, 40, 0, "little"), "a.wav").samples) == 4000 + len(LOW)


@pytest.mark.parametrize("size", [0x10000000, 0x7FFE0000, 0x90000000, 0xFFFE0000], ids=hex)
def test_a_size_that_no_streaming_program_writes_is_a_cut(tmp_path: Path, size: int) -> None:
    with pytest.raises(AudioError, match=f"truncated: the header declares {size} bytes"):
        read(tmp_path, patched(encoded(LOW, "WAV"), 40, size, "little"), "a.wav")


@pytest.mark.parametrize("size", [2, 1000, 32_000])
def test_sound_behind_the_counted_bytes_of_a_wav_is_refused(tmp_path: Path, size: int) -> None:
    with pytest.raises(AudioError, match=r"\d+ bytes behind the sound that its header counts"):
        read(tmp_path, patched(encoded(LOW, "WAV"), 40, size, "little"), "a.wav")


def test_chunks_and_tags_behind_a_wav_are_no_sound(tmp_path: Path) -> None:
    data = encoded(LOW, "WAV")
    for behind in (
        b"LIST\4\0\0\0INFO",
        b"id3 " + struct.pack("<I", 30) + bytes(30),
        b"TAG" + bytes(125),
        bytes(512),
    ):
        assert len(read(tmp_path, data + behind, "a.wav").samples) == len(LOW)
    empty = patched(data[:44], 40, 0, "little") + b"LIST\4\0\0\0INFO"
    with pytest.raises(AudioError, match="empty"):
        read(tmp_path, empty, "a.wav")


@pytest.mark.parametrize("format", ["RF64", "W64", "CAF"])
def test_formats_of_long_files_are_read_whole_and_refused_when_cut(tmp_path: Path, format: str) -> None:  # noqa: A002
    data = encoded(LOW, format, subtype="PCM_16")
    assert len(read(tmp_path, data, "a.wav").samples) == len(LOW)
    with pytest.raises(AudioError, match="truncated"):
        read(tmp_path, data[: len(data) // 2], "a.wav")


def test_channels_that_cancel_are_named_and_not_called_silent(tmp_path: Path) -> None:
    for share in (1.0, 0.97):
        soundfile.write(tmp_path / "a.wav", np.stack([LOW, -share * LOW], axis=1), RATE_HZ)
        with pytest.raises(
            AudioError, match=r"a\.wav.*channels cancel each other: .*-11 dBFS.*one channel"
        ) as raised:
            read_clip(tmp_path / "a.wav")
        assert "silent" not in str(raised.value)
        assert read_clip(tmp_path / "a.wav", stereo=True).level_db == pytest.approx(-11, abs=0.5)
    soundfile.write(tmp_path / "b.wav", np.zeros((800, 2)), RATE_HZ)
    assert read_clip(tmp_path / "b.wav").silent
    many = np.stack([tone(440, 0.5, seed=n) if n == 0 else 0 * LOW[:8000] for n in range(24)], axis=1)
    soundfile.write(tmp_path / "c.wav", many, RATE_HZ)
    assert read_clip(tmp_path / "c.wav").seconds == 0.5  # one of 24 channels sounds: that is no cancelling


@pytest.mark.parametrize("format", ["WAV", "FLAC", "MP3"])
def test_ten_seconds_of_a_four_hour_file_are_read(tmp_path: Path, format: str) -> None:  # noqa: A002
    rate_hz, hours = 1000 if format == "FLAC" else 8000, 4
    path = tmp_path / "long"
    if format == "MP3":
        buffer = io.BytesIO()
        soundfile.write(buffer, tone(440, 20), rate_hz, format="MP3", bitrate_mode="CONSTANT")
        second = uncounted(buffer.getvalue())
        path.write_bytes(second * (hours * 3600 // 40 + 1))
    elif format == "WAV":
        size = 2 * rate_hz * 3600 * hours
        head = encoded(LOW[:1], "WAV")[:44]
        head = head[:24] + struct.pack("<II", rate_hz, 2 * rate_hz) + head[32:]
        with path.open("wb") as file:
            file.write(patched(patched(head, 4, size + 36, "little"), 40, size, "little"))
            file.truncate(44 + size)
    else:
        with soundfile.SoundFile(path, "w", rate_hz, 1, format="FLAC") as sound:
            for _ in range(hours * 6):
                sound.write(np.zeros(rate_hz * 600, np.int16))
    assert read_clip(path, seconds=10).seconds == 10
    if format != "MP3":  # whose frames are all walked each time
        assert read_clip(path, seconds=1, offset_s=60).seconds == 1
        with pytest.raises(AudioError, match=r"4\.0 h of sound, more than 3 h.*seconds="):
            read_clip(path)


def test_a_disk_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(encoded(LOW, "WAV"))

    def fail(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(AudioError, match=r"a\.wav.*cannot be read \(Permission denied\)"):
        read_clip(path)
    monkeypatch.undo()
    with pytest.raises(AudioError, match="a folder or a device"):
        read_clip(tmp_path)
    with pytest.raises(AudioError, match=r"cannot be read|no such file"):
        read_clip(tmp_path / ("x" * 5000))


def test_a_disk_that_fails_while_decoding_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from workbench.sound.containers import Splice

    def fail(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Splice, "_part", fail)
    with pytest.raises(AudioError, match=r"a\.flac.*cannot be read \(Input/output error\)"):
        read(tmp_path, encoded(LOW, "FLAC"), "a.flac")
