"""Reading a sound file into a Clip, and refusing what is broken, cut short, not finite or absurd."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile

from workbench.errors import AudioError
from workbench.sound.clip import SILENT_LEVEL_DB, Clip, level_db
from workbench.sound.layout import Part, Splice, is_padding
from workbench.sound.truncation import examine

SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au")
RATES_HZ = (1_000, 768_000)
MAX_CHANNELS = 24
MAX_SECONDS = 3 * 3600.0
CANCELLED_DB = 20.0  # channels without relation lose 14 dB in a mean of 24: more is one against the other
_BLOCK = 1 << 20
_READ_AHEAD = 4096
_REPAIR = "Copy or export the file again, or leave it out"


def read_clip(
    path: Path | str, *, rate_hz: int | None = None, seconds: float | None = None, offset_s: float = 0
) -> Clip:
    """Return the sound of a file as mono: the mean of its channels.

    Args:
        path: WAV, FLAC, OGG, Opus, MP3, AIFF or AU file; its content counts, not its suffix. Sounds that
            were joined into one file (such as two MP3 files, or a chained Ogg) are read one after another.
        rate_hz: rate of the clip; the file's own when None.
        seconds: at most this much of the file; all of it when None.
        offset_s: where to start, in seconds.

    Silence is allowed here: it is legal sound. Datasets and capture refuse it.

    Warns:
        UserWarning: bytes that are no sound were passed over; all sound that the file counts was read.

    Raises:
        AudioError: the file is missing, cannot be opened, is not sound, cut short, empty, holds NaN or
            channels that cancel each other, or declares an absurd rate, number of channels or length. The
            message names the file.
    """
    path = Path(path)
    _check_window(path, seconds, offset_s)
    try:
        samples, file_rate_hz, notes = _read(path, seconds, offset_s)
    except FileNotFoundError as error:
        raise AudioError(f"{shown(path)} was asked for", "there is no such file", "Check the path") from error
    except (OSError, ValueError) as error:
        told = getattr(error, "strerror", None) or str(error)
        raise _refused(path, f"it cannot be read ({told})", "Check the file and its permissions") from error
    except (soundfile.LibsndfileError, RuntimeError, MemoryError) as error:
        raise _refused(path, f"it cannot be decoded ({_reason(error)})") from error
    if len(samples) == 0:
        raise _refused(path, f"it holds no sound after {offset_s:g} s")
    try:
        clip = Clip(samples, file_rate_hz)
    except AudioError as error:
        raise AudioError(f"{shown(path)}: {error}") from error
    for note in notes:
        warnings.warn(f"{shown(path)}: {note}", stacklevel=2)
    return clip if rate_hz is None else clip.resample(rate_hz)


def on_disk(path: Path | str) -> Path:
    """Return the path as this system takes it, also where its encoding (ASCII) lacks letters of the name.

    Raises:
        UnicodeError: the name has characters that no encoding writes.
    """
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


def _read(path: Path, seconds: float | None, offset_s: float) -> tuple[np.ndarray, int, tuple[str, ...]]:
    """Return the mean of the channels over the window (n,), its rate, and what is to be said of the file."""
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
        window = _Window(path, seconds, offset_s)
        for part in layout.parts:
            if window.open:
                window.take(file, part)
    if layout.damage is not None:
        raise _refused(path, layout.damage)
    return window.samples(), window.rate_hz, layout.notes + window.notes


class _Window:
    """Collects the stretch of a file that is wanted, over all its parts."""

    def __init__(self, path: Path, seconds: float | None, offset_s: float) -> None:
        self.rate_hz = 0
        self._path, self._seconds, self._offset_s = path, seconds, offset_s
        self._passed = 0  # samples of the parts before
        self._wanted = 0.0  # samples still to come, infinite without `seconds`
        self.notes: tuple[str, ...] = ()
        self._mono: list[np.ndarray] = []
        self._power = 0.0  # of the channels, summed over samples and averaged over channels

    @property
    def open(self) -> bool:
        """Whether more is wanted."""
        return self.rate_hz == 0 or self._wanted > 0

    def take(self, file: BinaryIO, part: Part) -> None:
        """Read what is wanted of one part."""
        source = Splice(file, part.pieces)
        try:
            with soundfile.SoundFile(source) as sound:
                self._check(sound, part)
                start = max(0, round(self._offset_s * self.rate_hz) - self._passed)
                self._passed += sound.frames
                if start < sound.frames:
                    self._collect(sound, start, part.slack)
                    if self.open:  # decoded to its end
                        self._look_behind(source)
        except (soundfile.LibsndfileError, RuntimeError):
            if source.error is not None:
                raise source.error from None
            raise
        if source.error is not None:
            raise source.error

    def samples(self) -> np.ndarray:
        """Return the mean of the channels, shape (n,).

        Raises:
            AudioError: the channels cancel each other.
        """
        if not self._mono:
            return np.zeros(0, np.float32)
        mono = np.concatenate(self._mono)
        channels_db = level_db(self._power / len(mono))
        mean_db = level_db(float(np.mean(np.square(mono, dtype=np.float64))))
        if channels_db >= SILENT_LEVEL_DB and mean_db <= channels_db - CANCELLED_DB:
            raise _refused(
                self._path,
                f"its channels cancel each other: they have {channels_db:.0f} dBFS and their mean "
                f"{mean_db:.0f}, as when one is the other upside down",
                "Export one channel as mono, or turn one over",
            )
        return mono

    def _collect(self, sound: soundfile.SoundFile, start: int, slack: int) -> None:
        sound.seek(start)
        expected = int(min(sound.frames - start, self._wanted))
        held = 0
        for block in _blocks(sound, expected):
            held += len(block)
            self._power += float(np.sum(np.square(block, dtype=np.float64))) / block.shape[1]
            self._mono.append(block.mean(axis=1))
        self._wanted -= expected
        if held < expected - slack:
            raise RuntimeError(f"{expected} samples were declared and {held} could be decoded")

    def _look_behind(self, source: Splice) -> None:
        """Note bytes that the decoder left unread; it reads a little ahead, so a few may go unseen."""
        rest = source.unread()
        if len(rest) > _READ_AHEAD and not is_padding(rest):
            self.notes += (f"{len(rest)} bytes behind its sound were not read",)

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
            told = f"it joins sounds of {self.rate_hz} Hz and {sound.samplerate} Hz"
            raise _refused(self._path, told, "Cut it into one file for each")
        if part.samples is not None and sound.frames < part.samples:
            told = f"its frames hold at least {part.samples} samples and the decoder counts {sound.frames}"
            raise _refused(self._path, told)
        if self.rate_hz == 0:
            self.rate_hz = sound.samplerate
            self._wanted = math.inf if self._seconds is None else max(1, round(self._seconds * self.rate_hz))
        length_s = (
            min(self._passed + sound.frames - self._offset_s * self.rate_hz, self._wanted) / self.rate_hz
        )
        if length_s > MAX_SECONDS:
            raise _refused(
                self._path,
                f"it declares {length_s / 3600:.1f} h of sound, more than {MAX_SECONDS / 3600:g} h",
                "Read a part of it with seconds=, cut it, or leave it out",
            )


def _blocks(sound: soundfile.SoundFile, expected: int) -> Iterator[np.ndarray]:
    """Yield the sound in blocks of shape (n, channels).

    An Ogg file is read in one call: in pieces, one with a hole comes back at full length, the hole filled
    with anything. The others come in pieces, so that a header which lies does not claim memory.
    """
    size = expected if sound.format == "OGG" else _BLOCK
    while expected > 0:
        block = sound.read(min(size, expected), dtype="float32", always_2d=True)
        if len(block) == 0:
            return
        yield block
        expected -= len(block) if sound.format != "OGG" else expected


def _check_window(path: Path, seconds: float | None, offset_s: float) -> None:
    if not (math.isfinite(offset_s) and offset_s >= 0) or (seconds is not None and not seconds > 0):
        raise AudioError(
            f"{seconds} s from {offset_s} s of {path.name} were asked for",
            "that is no stretch of time",
            "Give offset_s >= 0 and seconds > 0",
        )


def _reason(error: Exception) -> str:
    """Return the decoder's own words, without the path that the message already names."""
    return str(getattr(error, "error_string", error)).strip().rstrip(".") or type(error).__name__


def _refused(path: Path, found: str, do: str = _REPAIR) -> AudioError:
    return AudioError(f"The sound of {shown(path)} was asked for", found, do)
