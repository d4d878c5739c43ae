"""Every sound file is read whole, or refused by name with what is wrong."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tolerances import NETWORK

from workbench.errors import AudioError
from workbench.sound import Clip, containers, read_clip
from workbench.sound.read import examine

RATE_HZ = 16_000
SECONDS = 3.0


def music(seconds: float = SECONDS) -> np.ndarray:
    time_s = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    detail = 0.02 * np.random.default_rng(0).standard_normal(time_s.size)
    return (0.4 * np.sin(2 * np.pi * 440 * time_s) + detail).astype(np.float32)


def sound_file(folder: Path, suffix: str) -> Path:
    path = folder / f"music.{suffix}"
    soundfile.write(path, music(), RATE_HZ)
    return path


def cut(path: Path, share: float) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def missing_end(path: Path) -> str | None:
    with path.open("rb") as file:
        return examine(file).missing


def wav_bytes(*, rate_hz: int, channels: int, frames: int, declared: int | None = None) -> bytes:
    """A 16-bit WAV written by hand, so that its header can lie."""
    size = frames * channels * 2 if declared is None else declared
    layout = struct.pack("<HHIIHH", 1, channels, rate_hz, rate_hz * channels * 2, channels * 2, 16)
    sound = b"\x10\x20" * (frames * channels)
    body = b"fmt " + struct.pack("<I", len(layout)) + layout + b"data" + struct.pack("<I", size) + sound
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3", "aiff", "au"])
def test_each_format_is_read_whole(tmp_path: Path, suffix: str) -> None:
    clip = read_clip(sound_file(tmp_path, suffix))
    assert clip.rate_hz == RATE_HZ
    assert clip.seconds == pytest.approx(SECONDS, abs=1e-6)
    assert np.corrcoef(clip.samples, music())[0, 1] > 0.99


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3", "aiff", "au"])
@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9, 0.99])
def test_a_file_that_was_cut_short_is_refused(tmp_path: Path, suffix: str, share: float) -> None:
    path = cut(sound_file(tmp_path, suffix), share)
    with pytest.raises(AudioError, match=rf"music\.{suffix}"):
        read_clip(path)


def test_a_truncated_mp3_says_so(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"truncated: .*frame.*export the file again"):
        read_clip(cut(sound_file(tmp_path, "mp3"), 0.5))


def test_an_mp3_cut_between_two_frames_is_caught_by_its_header(tmp_path: Path) -> None:
    path = sound_file(tmp_path, "mp3")
    told = missing_end(cut(path, 0.5))
    assert told is not None
    found = re.search(r"cut after (\d+) of (\d+) bytes", told)
    assert found is not None
    kept, whole = int(found[1]), int(found[2])
    assert 0 < kept < whole
    path.write_bytes(path.read_bytes()[:-kept])
    told = missing_end(path)
    assert told is not None
    assert "the header declares" in told


def test_a_file_that_lacks_a_piece_inside_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "music.ogg"
    soundfile.write(path, 0.2 * np.random.default_rng(0).standard_normal(6 * RATE_HZ), RATE_HZ)
    pages = path.read_bytes().split(b"OggS")
    path.write_bytes(b"OggS".join([*pages[:5], *pages[6:]]))  # its end is there, its length too
    assert missing_end(path) is None
    with pytest.raises(AudioError, match=r"music\.ogg.*samples were declared and \d+ could be decoded"):
        read_clip(path)


def without_info_frame(path: Path) -> bytes:
    """The MP3 stream without its first frame, which only says how many follow: what older encoders wrote."""
    data = path.read_bytes()
    return data[containers.frame_at(data, 0).size :]


@pytest.mark.parametrize("bitrate", ["CONSTANT", "VARIABLE"])
@pytest.mark.parametrize(
    ("rate_hz", "channels"), [(16_000, 1), (44_100, 2), (44_100, 1), (22_050, 2), (8000, 1)]
)
def test_an_mp3_without_declared_length_is_read_whole(
    tmp_path: Path, bitrate: str, rate_hz: int, channels: int
) -> None:
    path = tmp_path / "music.mp3"
    sound = np.stack([music()] * channels, axis=1)
    soundfile.write(path, sound, rate_hz, bitrate_mode=bitrate, compression_level=0.5)
    path.write_bytes(without_info_frame(path))
    assert missing_end(path) is None
    samples = read_clip(path).samples
    assert len(samples) == pytest.approx(len(music()), abs=3 * 1152)  # an encoder's delay and padding
    loudness = np.abs(samples[: len(samples) // 256 * 256]).reshape(-1, 256).mean(axis=1)
    assert (loudness[8:-12] > 0.2).all()  # sound throughout, no gap where the added frame stands


def test_an_mp3_without_declared_length_that_is_cut_is_refused(tmp_path: Path) -> None:
    path = sound_file(tmp_path, "mp3")
    stream = without_info_frame(path)
    path.write_bytes(stream[: len(stream) // 2])
    with pytest.raises(AudioError, match=r"frame \d+ is cut after"):
        read_clip(path)


def test_tags_around_an_mp3_are_not_taken_for_a_cut(tmp_path: Path) -> None:
    path = sound_file(tmp_path, "mp3")
    picture = b"\xff\xfb\x90\x00" * 100  # looks like frames, but stands inside the tag
    before = b"ID3\x04\x00\x00" + bytes([0, 0, len(picture) >> 7, len(picture) & 0x7F]) + picture
    after = b"TAG" + b"title".ljust(125, b"\x00")
    path.write_bytes(before + path.read_bytes() + after)
    assert missing_end(path) is None
    assert read_clip(path).seconds == pytest.approx(SECONDS, abs=1e-6)


@pytest.mark.parametrize("declared", [0, 0xFFFFFFFF])
def test_a_streamed_wav_of_unknown_length_is_not_taken_for_a_cut(tmp_path: Path, declared: int) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(wav_bytes(rate_hz=8000, channels=1, frames=800, declared=declared))
    assert missing_end(path) is None


def test_channels_are_mixed_to_mono(tmp_path: Path) -> None:
    path = tmp_path / "stereo.wav"
    soundfile.write(path, np.stack([0.5 * music(), -0.25 * music()], axis=1), RATE_HZ)
    assert np.allclose(read_clip(path).samples, 0.125 * music(), **NETWORK)


@pytest.mark.parametrize(("channels", "kept"), [(1, False), (2, True), (3, False)])
def test_two_channels_stay_two_where_stereo_is_asked_for(tmp_path: Path, channels: int, kept: bool) -> None:
    path = tmp_path / "a.wav"
    sides = np.stack([0.5 * music() / (1 + side) for side in range(channels)], axis=1)
    soundfile.write(path, sides, RATE_HZ, subtype="FLOAT")
    clip = read_clip(path, stereo=True, offset_s=0.5, seconds=1)
    assert (clip.sides is not None) == kept
    assert np.array_equal(clip.samples, read_clip(path, offset_s=0.5, seconds=1).samples)
    if kept:
        begin = RATE_HZ // 2
        assert np.array_equal(clip.heard, sides.T[:, begin : begin + RATE_HZ].astype(np.float32))


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_a_window_is_the_same_stretch_of_the_whole(tmp_path: Path, suffix: str) -> None:
    path = sound_file(tmp_path, suffix)
    part, whole = read_clip(path, seconds=0.5, offset_s=1.0), read_clip(path).section(1.0, 1.5)
    assert len(part.samples) == len(whole.samples)
    assert np.abs(part.samples - whole.samples).max() < 1e-3


def test_a_window_and_a_rate_can_be_asked_for(tmp_path: Path) -> None:
    path = sound_file(tmp_path, "flac")
    assert read_clip(path, rate_hz=32_000, seconds=0.5).seconds == pytest.approx(0.5, abs=1e-3)
    assert read_clip(path, offset_s=2.5, seconds=9).seconds == pytest.approx(0.5)
    with pytest.raises(AudioError, match="no sound after 3 s"):
        read_clip(path, offset_s=3.0)
    for seconds, offset_s in [(0, 0), (-1, 0), (float("nan"), 0), (1, -1), (1, float("nan"))]:
        with pytest.raises(AudioError, match="no stretch of time"):
            read_clip(path, seconds=seconds, offset_s=offset_s)


def test_silence_is_legal_sound(tmp_path: Path) -> None:
    assert read_clip(Clip(np.zeros(800), RATE_HZ).write(tmp_path / "a.wav")).silent


def test_nan_in_a_float_file_is_refused_by_name(tmp_path: Path) -> None:
    samples = music()
    samples[7] = np.nan
    soundfile.write(tmp_path / "a.wav", samples, RATE_HZ, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"a\.wav.*1 of 48000 are NaN"):
        read_clip(tmp_path / "a.wav")


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "cannot be decoded"),
        (b"this is not music" * 20, "cannot be decoded"),
        (wav_bytes(rate_hz=0, channels=1, frames=100), "0 Hz|cannot be decoded"),
        (wav_bytes(rate_hz=10, channels=1, frames=100), "declares 10 Hz"),
        (wav_bytes(rate_hz=2_000_000, channels=1, frames=100), "declares 2000000 Hz"),
        (wav_bytes(rate_hz=8000, channels=25, frames=10), "25 channels"),
        (wav_bytes(rate_hz=8000, channels=1, frames=0), "empty"),
        (wav_bytes(rate_hz=1000, channels=1, frames=3 * 3_600_000 + 1000), "more than 3 h"),
    ],
    ids=["no bytes", "text", "0 Hz", "10 Hz", "2 MHz", "25 channels", "no frames", "over 3 h"],
)
def test_broken_empty_and_absurd_files_are_refused_by_name(tmp_path: Path, data: bytes, told: str) -> None:
    path = tmp_path / "odd.wav"
    path.write_bytes(data)
    with pytest.raises(AudioError, match=rf"odd\.wav.*({told})"):
        read_clip(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"nowhere\.wav.*no such file"):
        read_clip(tmp_path / "nowhere.wav")
