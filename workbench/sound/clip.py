"""A clip: mono or stereo sound in memory, and how it becomes a file, bytes or a player.

Whatever analyses a clip takes its `samples`, one row; whatever plays or writes it takes what is `heard`.

Samples are float32 in [-1, 1] (more is kept, so that over-driven sound stays visible; a file clips it), rates
are in Hz, times in seconds, levels in dB relative to full scale (RMS).
"""

from __future__ import annotations

import base64
import hashlib
import io
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

from workbench.errors import AudioError
from workbench.files import write_atomically

FORMATS = {"wav": "PCM_16", "flac": "PCM_16", "ogg": "VORBIS"}
SILENT_LEVEL_DB = -60.0
_FLOOR_DB = -120.0
_PCM16_STEPS = 32768
_INTEGER_SCALES = {"int8": (0, 1 << 7), "uint8": (128, 1 << 7), "int16": (0, 1 << 15), "int32": (0, 1 << 31)}
_OGG_BLOCK = 65536  # libsndfile's Vorbis encoder overflows its stack on one very long write


@dataclass(frozen=True, eq=False)
class Clip:
    """Finite, non-empty sound, mono (n,) or stereo (2, n), left first; anything else is refused.

    Samples are floats, or whole numbers of 8, 16 or 32 bits as sound files hold them, which are divided by
    the range of their type (int64, bool, complex have no full scale); they are kept as read-only float32. The
    rate is a whole number. Of a stereo clip `sides` (2, n) are kept, and `samples` (n,) is their mean.

    >>> clip = Clip(0.5 * np.sin(np.arange(8000) / 10), 8000)
    >>> clip, clip.section(0, 0.25).seconds
    (Clip(1.00 s, 8000 Hz, -9.0 dBFS), 0.25)
    >>> Clip(np.stack([clip.samples, 0 * clip.samples]), 8000)
    Clip(1.00 s, 8000 Hz, stereo, -12.0 dBFS)
    """

    samples: np.ndarray
    rate_hz: int
    sides: np.ndarray | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        given = _as_float(self.samples)  # a copy: the caller's array stays writable
        _check_rate(self.rate_hz)
        if given.ndim != 1 and (given.ndim != 2 or len(given) != 2):
            found = f"the shape is {given.shape}"
            do = "Give two channels as (2, n), and average more of them first"
            raise AudioError("A clip needs samples of shape (n,) or (2, n)", found, do)
        if given.size == 0:
            raise AudioError("A clip needs sound", "it has no samples", "Check the file or the section")
        bad = np.argwhere(~np.isfinite(given))
        if len(bad):
            what = f"{len(bad)} of {given.size} are NaN or infinite"
            found = f"{what}, the first at {bad[:, -1].min() / self.rate_hz:.3f} s"
            raise AudioError("A clip needs finite samples", found, "Repair or re-export the sound")
        samples = given if given.ndim == 1 else given.mean(axis=0, dtype=np.float64).astype(np.float32)
        for array in (given, samples):
            array.flags.writeable = False
        object.__setattr__(self, "samples", samples)
        object.__setattr__(self, "sides", None if given is samples else given)
        object.__setattr__(self, "rate_hz", int(self.rate_hz))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Clip):
            return NotImplemented
        return self.rate_hz == other.rate_hz and np.array_equal(self.heard, other.heard)

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        stereo = "" if self.sides is None else "stereo, "
        return f"Clip({self.seconds:.2f} s, {self.rate_hz} Hz, {stereo}{self.level_db:.1f} dBFS)"

    @property
    def heard(self) -> np.ndarray:
        """What a loudspeaker gets: the samples (n,), or both sides (2, n); a clip of it is the same clip."""
        return self.samples if self.sides is None else self.sides

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.rate_hz

    @property
    def peak(self) -> float:
        """Largest absolute sample of either side; above 1 a file or a loudspeaker clips."""
        return float(np.abs(self.heard).max())

    @property
    def level_db(self) -> float:
        """Root-mean-square level in dBFS, over both sides, never below -120 (digital silence)."""
        return level_db(_power(self.heard))

    @property
    def silent(self) -> bool:
        """Whether the samples lie below -60 dBFS: nothing that a judge or a model could use."""
        return level_db(_power(self.samples)) < SILENT_LEVEL_DB

    @property
    def digest(self) -> str:
        """Hexadecimal SHA-256 of rate and samples, or sides."""
        kind = str(self.rate_hz) if self.sides is None else f"{self.rate_hz} stereo"
        return hashlib.sha256(kind.encode() + self.heard.tobytes()).hexdigest()

    def resample(self, rate_hz: int) -> Clip:
        """Return the same sound at `rate_hz` (soxr, high quality); the clip itself when the rate is equal."""
        if rate_hz == self.rate_hz:
            return self
        _check_rate(rate_hz)
        resampled = soxr.resample(self.heard.T, self.rate_hz, rate_hz).T  # soxr has a column per side
        if resampled.size == 0:
            found = f"{len(self.samples)} samples are too few for it"
            raise AudioError(f"Resampling to {rate_hz} Hz was asked for", found, "Use a longer clip")
        return Clip(resampled, rate_hz)

    def section(self, start_s: float, end_s: float) -> Clip:
        """Return the sound from `start_s` to `end_s` s, or to the clip's end; AudioError if it is empty."""
        if not 0 <= start_s < min(end_s, self.seconds):
            asked = f"The section {start_s:g}-{end_s:g} s was asked for"
            do = "Ask for 0 <= start_s < end_s inside the clip"
            raise AudioError(asked, f"the clip lasts {self.seconds:.2f} s", do)
        end = len(self.samples) if math.isinf(end_s) else round(end_s * self.rate_hz)
        return Clip(self.heard[..., round(start_s * self.rate_hz) : end], self.rate_hz)

    def write(self, path: Path | str) -> Path:
        """Write a .wav, .flac (16 bit) or .ogg file, whole or not at all (DiskError), and return its path.

        A stereo clip is written with two channels; `read_clip(path, stereo=True)` reads both.
        WAV and FLAC read back to within half a step of 1/32768; samples from +1 on read back as 1 - 1/32768.
        """
        path = Path(path)
        return write_atomically(path, self.encode(path.suffix.lstrip(".").lower()))

    def encode(self, format: str = "flac") -> bytes:  # noqa: A002  # the word of the field
        """Return the bytes of a file in `format`: "wav", "flac" or "ogg"."""
        AudioError.among(format, FORMATS, "The format")
        buffer, pcm = io.BytesIO(), self.heard.T
        channels = pcm.ndim  # (n,) or (n, 2)
        if format != "ogg":  # rounded here: libsndfile scales floats by 32767, up to 1.5 steps off
            steps = np.rint(pcm.astype(np.float64) * _PCM16_STEPS)
            pcm = np.clip(steps, -_PCM16_STEPS, _PCM16_STEPS - 1).astype(np.int16)
        try:
            with soundfile.SoundFile(
                buffer, "w", self.rate_hz, channels, FORMATS[format], format=format
            ) as file:
                for start in range(0, len(pcm), _OGG_BLOCK):
                    file.write(pcm[start : start + _OGG_BLOCK])
        except soundfile.LibsndfileError as error:
            asked = f"Writing {format} at {self.rate_hz} Hz was asked for"
            raise AudioError(asked, f"the encoder says: {error}", "Resample first, or choose wav") from error
        return buffer.getvalue()

    def _repr_html_(self) -> str:
        """Return a plain player; peaks are not normalised, so that a level jump stays audible."""
        sound = base64.b64encode(self.encode("flac")).decode()
        return f'<audio controls preload="metadata" src="data:audio/flac;base64,{sound}"></audio>'


def level_db(power: float) -> float:
    """Return the level in dBFS of a mean square, never below -120 (digital silence)."""
    return max(10 * math.log10(power), _FLOOR_DB) if power > 0 else _FLOOR_DB


def _power(sound: np.ndarray) -> float:
    """Return the mean square, over all sides."""
    return float(np.mean(np.square(sound, dtype=np.float64)))


def _as_float(samples: Any) -> np.ndarray:
    """Return a float32 copy; whole numbers of 8, 16 and 32 bits are divided by the range of their type."""
    try:
        given = np.asarray(samples)
        if given.dtype.kind == "f":
            with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and refused as that
                return np.array(given, dtype=np.float32, order="C")
        kind = given.dtype.name
        found = f"the type is {kind}, whose full scale is unknown"
    except (TypeError, ValueError, RuntimeError) as error:
        kind, found = "", f"{type(samples).__name__} was given ({error})"
    if kind not in _INTEGER_SCALES:
        do = "Give floats in [-1, 1], or int16 as a sound file holds them"
        raise AudioError("A clip needs real samples", found, do)
    zero, scale = _INTEGER_SCALES[kind]
    return ((given.astype(np.float64) - zero) / scale).astype(np.float32)


def _check_rate(rate_hz: Any) -> None:
    """Raise AudioError unless the rate is a positive whole number."""
    if isinstance(rate_hz, bool) or not math.isfinite(rate_hz) or rate_hz != int(rate_hz) or rate_hz <= 0:
        do = "Give a positive whole number such as 32000"
        raise AudioError("A clip needs a rate in Hz", f"{rate_hz!r} was given", do)
