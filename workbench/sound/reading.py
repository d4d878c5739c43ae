"""Reading a sound file into a Clip, and refusing what is broken, cut short, not finite or absurd."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import soundfile

from workbench.errors import AudioError
from workbench.sound.clip import Clip
from workbench.sound.mp3 import with_length
from workbench.sound.truncation import missing_end

SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au")
RATES_HZ = (1_000, 768_000)
MAX_CHANNELS = 24
MAX_SECONDS = 3 * 3600.0


def read_clip(
    path: Path | str, *, rate_hz: int | None = None, seconds: float | None = None, offset_s: float = 0
) -> Clip:
    """Return the sound of a file as mono: the mean of its channels.

    Args:
        path: WAV, FLAC, OGG, Opus, MP3, AIFF or AU file.
        rate_hz: rate of the clip; the file's own when None.
        seconds: at most this much of the file; all of it when None.
        offset_s: where to start, in seconds.

    Silence is allowed here: it is legal sound. Datasets and capture refuse it.

    Raises:
        AudioError: the file is missing, not sound, cut short, empty, holds NaN, or declares an absurd rate,
            number of channels or length. The message names the file.
    """
    path = Path(path)
    _check_window(path, seconds, offset_s)
    if not path.is_file():
        raise AudioError(f"{path} was asked for", "there is no such file", "Check the path")
    try:
        _check_complete(path)
        with soundfile.SoundFile(_source(path)) as file:
            _check_header(path, file)
            samples = _read(file, seconds, offset_s)
            file_rate_hz = file.samplerate
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise _refused(path, f"it cannot be decoded ({_reason(error)})") from error
    if len(samples) == 0:
        raise _refused(path, f"it holds no sound after {offset_s:g} s")
    try:
        clip = Clip(samples, file_rate_hz)
    except AudioError as error:
        raise AudioError(f"{path}: {error}") from error
    return clip if rate_hz is None else clip.resample(rate_hz)


def _source(path: Path) -> Path | io.BytesIO:
    """Return the file itself, or an MP3's bytes with their length declared, which libsndfile must know."""
    return io.BytesIO(with_length(path.read_bytes())) if path.suffix.lower() == ".mp3" else path


def _read(file: soundfile.SoundFile, seconds: float | None, offset_s: float) -> np.ndarray:
    """Return the mean of the channels over the window, shape (n,)."""
    start = round(offset_s * file.samplerate)
    if start >= file.frames:
        return np.zeros(0, np.float32)
    file.seek(start)
    expected = file.frames - start
    if seconds is not None:
        expected = min(expected, max(1, round(seconds * file.samplerate)))
    # one call: read in pieces, a file with a hole comes back at full length, the hole filled with anything
    samples: np.ndarray = file.read(expected, dtype="float32", always_2d=True).mean(axis=1)
    if len(samples) < 0.98 * expected:  # MP3 lengths are declared to the frame, so a little less is no fault
        raise RuntimeError(f"{expected} samples were declared and {len(samples)} could be decoded")
    return samples


def _check_window(path: Path, seconds: float | None, offset_s: float) -> None:
    if not (math.isfinite(offset_s) and offset_s >= 0) or (seconds is not None and not seconds > 0):
        raise AudioError(
            f"{seconds} s from {offset_s} s of {path.name} were asked for",
            "that is no stretch of time",
            "Give offset_s >= 0 and seconds > 0",
        )


def _check_header(path: Path, file: soundfile.SoundFile) -> None:
    """Raise AudioError when the declared rate, channels or length cannot be music."""
    low, high = RATES_HZ
    if not low <= file.samplerate <= high:
        raise _refused(path, f"it declares {file.samplerate} Hz, outside {low}-{high} Hz")
    if not 1 <= file.channels <= MAX_CHANNELS:
        raise _refused(path, f"it declares {file.channels} channels, more than {MAX_CHANNELS}")
    if file.frames == 0:
        raise _refused(path, "it is empty: it holds no samples")
    if file.frames / file.samplerate > MAX_SECONDS:
        raise _refused(
            path,
            f"it declares {file.frames / file.samplerate / 3600:.1f} h of sound, "
            f"more than {MAX_SECONDS / 3600:g} h",
        )


def _check_complete(path: Path) -> None:
    missing = missing_end(path)
    if missing is not None:
        raise _refused(path, f"it is truncated: {missing}")


def _reason(error: Exception) -> str:
    """Return the decoder's own words, without the path that the message already names."""
    return str(getattr(error, "error_string", error)).strip().rstrip(".")


def _refused(path: Path, found: str) -> AudioError:
    return AudioError(
        f"The sound of {path} was asked for", found, "Copy or export the file again, or leave it out"
    )
