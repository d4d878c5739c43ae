"""A clip is one row or two, finite and not empty, and what is written is what was heard."""

from __future__ import annotations

import base64
import io
import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tolerances import SUMMED

from workbench.errors import AudioError
from workbench.sound import Clip, read_clip

RATE_HZ = 16_000
STEP = 1 / 32768


def noise(seconds: float = 0.5, *, size: float = 0.9, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).uniform(-size, size, int(seconds * RATE_HZ))
    return values.astype(np.float32)


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_law_09_a_clip_written_and_read_back_differs_by_at_most_one_step(tmp_path: Path, suffix: str) -> None:
    samples = noise()
    samples[:6] = [1.0, -1.0, 0.99999, -0.99999, STEP, 0.0]
    back = read_clip(Clip(samples, RATE_HZ).write(tmp_path / f"a.{suffix}"))
    assert back.rate_hz == RATE_HZ
    assert np.abs(back.samples - samples).max() <= STEP
    below = samples <= 1 - STEP  # only full scale itself loses more than half a step
    assert np.abs(back.samples - samples)[below].max() <= STEP / 2


def test_a_second_round_trip_changes_nothing(tmp_path: Path) -> None:
    once = read_clip(Clip(noise(), RATE_HZ).write(tmp_path / "a.wav"))
    assert read_clip(once.write(tmp_path / "b.flac")) == once


def test_sound_beyond_full_scale_is_kept_in_memory_and_clipped_in_a_file(tmp_path: Path) -> None:
    clip = Clip(np.array([1.7, -2.0, 0.1], np.float32), RATE_HZ)
    assert clip.peak == 2.0
    back = read_clip(clip.write(tmp_path / "a.wav")).samples
    assert np.allclose(back, [1 - STEP, -1, 0.1], atol=STEP)


def test_ogg_comes_back_close_and_long_clips_do_not_crash_the_encoder(tmp_path: Path) -> None:
    time_s = np.arange(40 * RATE_HZ) / RATE_HZ
    samples = 0.5 * np.sin(2 * np.pi * 330 * time_s)
    back = read_clip(Clip(samples, RATE_HZ).write(tmp_path / "a.ogg"))
    assert len(back.samples) == len(samples)
    assert np.corrcoef(back.samples, samples)[0, 1] > 0.999


def test_write_makes_folders_and_refuses_other_formats(tmp_path: Path) -> None:
    clip = Clip(noise(), RATE_HZ)
    assert clip.write(tmp_path / "new" / "folder" / "a.wav").is_file()
    with pytest.raises(AudioError, match=r"'aac'.*wav, flac, ogg"):
        clip.write(tmp_path / "a.aac")


@pytest.mark.parametrize(
    ("samples", "rate_hz", "told"),
    [
        (np.zeros(0), RATE_HZ, "no samples"),
        (np.zeros((8, 2)), RATE_HZ, r"shape is \(8, 2\)"),
        (np.zeros((3, 8)), RATE_HZ, r"shape is \(3, 8\)"),
        (np.zeros((1, 8)), RATE_HZ, r"shape is \(1, 8\)"),
        (np.zeros((2, 2, 8)), RATE_HZ, r"shape is \(2, 2, 8\)"),
        (np.zeros((2, 0)), RATE_HZ, "no samples"),
        (np.array([[0.0, 1, 2, 3], [0, 1, 2, np.nan]]), 2, "1 of 8 are NaN or infinite, the first at 1.5"),
        (np.array([0.0, np.nan, np.inf]), RATE_HZ, "2 of 3 are NaN or infinite"),
        (np.zeros(8), 0, "0 was given"),
        (np.zeros(8), -5, "-5 was given"),
        (np.zeros(8), 22_050.5, "22050.5 was given"),
        (np.zeros(8), float("nan"), "nan was given"),
    ],
)
def test_a_clip_refuses_what_is_not_finite_sound_of_one_row_or_two(
    samples: np.ndarray, rate_hz: int, told: str
) -> None:
    with pytest.raises(AudioError, match=told):
        Clip(samples, rate_hz)


def test_samples_are_a_read_only_copy() -> None:
    mine = noise()
    clip = Clip(mine, RATE_HZ)
    mine[0] = 0.123
    assert clip.samples[0] != np.float32(0.123)
    with pytest.raises(ValueError, match="read-only"):
        clip.samples[0] = 0.5
    assert clip.samples.dtype == np.float32


def test_equality_is_of_rate_and_samples() -> None:
    one = Clip(noise(), RATE_HZ)
    assert one == Clip(noise(), RATE_HZ)
    assert hash(one) == hash(Clip(noise(), RATE_HZ))
    assert one != Clip(noise(), RATE_HZ // 2)
    assert one != Clip(noise(seed=1), RATE_HZ)
    assert one != "a clip"


def test_a_full_scale_sine_is_minus_3_db_and_silence_has_a_floor() -> None:
    sine = Clip(np.sin(2 * np.pi * 100 * np.arange(RATE_HZ) / RATE_HZ), RATE_HZ)
    assert sine.level_db == pytest.approx(-3.01, abs=0.01)
    assert sine.seconds == 1.0
    silence = Clip(np.zeros(100), RATE_HZ)
    assert silence.level_db == -120
    assert silence.silent
    assert not sine.silent


def test_resampling_keeps_length_in_seconds_and_pitch() -> None:
    sine = Clip(0.5 * np.sin(2 * np.pi * 440 * np.arange(RATE_HZ) / RATE_HZ), RATE_HZ)
    up = sine.resample(32_000)
    assert up.rate_hz == 32_000
    assert up.seconds == pytest.approx(sine.seconds, abs=1e-3)
    assert np.abs(np.fft.rfft(up.samples)).argmax() == 440
    assert sine.resample(RATE_HZ) is sine
    with pytest.raises(AudioError, match="0 was given"):
        sine.resample(0)


def test_section_counts_in_seconds_and_stays_inside() -> None:
    clip = Clip(noise(1.0), RATE_HZ)
    assert np.array_equal(clip.section(0.25, 0.5).samples, clip.samples[4000:8000])
    assert clip.section(0.5, float("inf")).seconds == 0.5
    for start_s, end_s in [(-0.1, 0.5), (0.5, 0.5), (1.0, 2.0), (float("nan"), 1.0)]:
        with pytest.raises(AudioError, match=r"lasts 1.00 s"):
            clip.section(start_s, end_s)


def test_the_player_holds_the_sound_at_its_own_level() -> None:
    clip = Clip(noise(size=0.05), RATE_HZ)
    found = re.search(r'src="data:audio/flac;base64,([^"]+)"', clip._repr_html_())
    assert found is not None
    samples, rate_hz = soundfile.read(io.BytesIO(base64.b64decode(found[1])))
    assert rate_hz == RATE_HZ
    assert np.abs(samples - clip.samples).max() <= STEP  # a normalising player would bring it to full scale


@pytest.mark.parametrize(
    ("dtype", "low", "zero", "step"),
    [
        ("int8", -128, 0, 1 / 128),
        ("uint8", 0, 128, 1 / 128),
        ("int16", -32768, 0, 1 / 32768),
        (">i2", -32768, 0, 1 / 32768),
        ("int32", -(2**31), 0, 2.0**-31),
    ],
)
def test_whole_numbers_are_scaled_by_the_range_of_their_type(
    dtype: str, low: int, zero: int, step: float
) -> None:
    clip = Clip(np.array([low, zero, zero + 64], dtype), RATE_HZ)
    assert clip.samples.tolist() == [-1, 0, 64 * step]


@pytest.mark.parametrize(
    "samples",
    [
        np.arange(8),
        [0, 1, -1],
        np.arange(8, dtype="uint16"),
        np.array([True, False]),
        np.ones(8, complex),
        np.array(["a"]),
        [[0.1], [0.1, 0.2]],
        None,
    ],
    ids=["int64", "list", "uint16", "bool", "complex", "text", "ragged", "None"],
)
def test_numbers_without_a_full_scale_are_refused(samples: np.ndarray) -> None:
    with pytest.raises(AudioError, match=r"real samples.*floats in \[-1, 1\]"):
        Clip(samples, RATE_HZ)


def test_a_16_bit_array_is_the_clip_that_its_file_is(tmp_path: Path) -> None:
    pcm = (noise() * 32767).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", pcm, RATE_HZ)
    assert Clip(pcm, RATE_HZ) == read_clip(tmp_path / "a.wav")


def stereo(seconds: float = 0.5, *, size: float = 0.9) -> Clip:
    return Clip(np.stack([noise(seconds, size=size), noise(seconds, size=size / 2, seed=1)]), RATE_HZ)


def test_a_stereo_clip_has_both_sides_and_their_mean() -> None:
    left, right = noise(), noise(seed=1)
    clip = Clip(np.stack([left, right], axis=1).T, RATE_HZ)
    assert clip.sides is not None
    assert np.array_equal(clip.sides, [left, right])
    assert np.array_equal(clip.samples, (left + right) / 2)
    assert clip.samples.dtype == clip.sides.dtype == np.float32
    assert clip.heard is clip.sides
    assert (clip.seconds, repr(clip)) == (0.5, "Clip(0.50 s, 16000 Hz, stereo, -5.7 dBFS)")
    for array in (clip.samples, clip.sides):
        with pytest.raises(ValueError, match="read-only"):
            array[..., 0] = 0.5
    mono = Clip(left, RATE_HZ)
    assert mono.sides is None
    assert mono.heard is mono.samples


def test_stereo_sound_is_another_clip_than_its_mean() -> None:
    clip = stereo()
    twice = Clip(np.stack([clip.samples, clip.samples]), RATE_HZ)
    long = Clip(clip.heard.reshape(-1), RATE_HZ)  # the same bytes
    swapped = Clip(clip.heard[::-1], RATE_HZ)
    assert np.array_equal(swapped.samples, clip.samples)
    different = [clip, Clip(clip.samples, RATE_HZ), twice, long, swapped]
    assert len({one.digest for one in different}) == 5
    assert not any(one == other for one, other in combinations(different, 2))
    again = Clip(clip.heard, RATE_HZ)
    assert again == clip
    assert hash(again) == hash(clip)


def test_level_and_peak_are_of_what_is_heard() -> None:
    sine = np.sin(2 * np.pi * 100 * np.arange(RATE_HZ) / RATE_HZ)
    assert Clip(np.stack([sine, 0 * sine]), RATE_HZ).peak == pytest.approx(1, abs=1e-3)
    assert Clip(np.stack([sine, 0 * sine]), RATE_HZ).level_db == pytest.approx(-6.02, abs=0.01)
    against = Clip(np.stack([sine, -sine]), RATE_HZ)
    assert against.level_db == pytest.approx(-3.01, abs=0.01)
    assert against.silent, "a judge and a model get the mean, and it is silent"


def test_stereo_stays_stereo_when_it_is_cut_and_resampled() -> None:
    clip = stereo()
    left, right = (Clip(side, RATE_HZ) for side in clip.heard)
    cut, up = clip.section(0.1, 0.3), clip.resample(22_050)
    assert np.array_equal(cut.heard, [left.section(0.1, 0.3).samples, right.section(0.1, 0.3).samples])
    assert up.rate_hz == 22_050
    assert np.array_equal(up.heard, [left.resample(22_050).samples, right.resample(22_050).samples])
    # sums of some 100 products; the mean may be taken before or after them
    assert np.allclose(up.samples, Clip(clip.samples, RATE_HZ).resample(22_050).samples, **SUMMED)
    assert clip.resample(RATE_HZ) is clip


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg"])
def test_a_stereo_clip_is_written_with_both_sides(tmp_path: Path, suffix: str) -> None:
    time_s = np.arange(40 * RATE_HZ) / RATE_HZ
    clip = Clip(np.stack([0.5 * np.sin(2000 * time_s), 0.25 * np.sin(3000 * time_s)]), RATE_HZ)
    path = clip.write(tmp_path / f"a.{suffix}")
    assert soundfile.info(path).channels == 2
    both, mono = read_clip(path, stereo=True), read_clip(path)
    assert mono.sides is None
    assert np.array_equal(both.samples, mono.samples)
    if suffix == "ogg":
        for back, side in zip(both.heard, clip.heard, strict=True):
            assert np.corrcoef(back, side)[0, 1] > 0.999
        return
    assert np.abs(both.heard - clip.heard).max() <= STEP / 2
    again = read_clip(both.write(tmp_path / f"b.{suffix}"), stereo=True)
    assert again == both


def test_the_player_of_a_stereo_clip_has_two_channels() -> None:
    clip = stereo()
    found = re.search(r'src="data:audio/flac;base64,([^"]+)"', clip._repr_html_())
    assert found is not None
    samples, _rate_hz = soundfile.read(io.BytesIO(base64.b64decode(found[1])))
    assert np.abs(samples.T - clip.heard).max() <= STEP
