"""Plays the band: notes become sound with recorded samples, frame by frame, the same whole or streamed.

A deterministic sampler instead of a neural decoder: notes are mixed in the order in which they begin, a release
fades as a squared cosine, sustained sounds loop their last half second, a small room of a few echoes follows,
and what is too loud is bent smoothly below 1. The little unevenness of hands (a few milliseconds, a strummed
chord's strings one after the other) is a function of frame and part, so that equal codes give equal sound.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from io import BytesIO
from zlib import crc32

import numpy as np
import soundfile
import soxr

from workbench.model.band import (
    ACCOMPANIMENTS,
    BASSES,
    FRAME_RATE_HZ,
    KITS,
    LEADS,
    PADS,
    Instrument,
    Note,
    ScoreReader,
)

RATE_HZ = 32_000
FRAME = RATE_HZ // FRAME_RATE_HZ
LOOP_S = 0.5
LEVELS_DB = {"drums": 0.0, "bass": 0.0, "accompaniment": -5.0, "colour": -8.0, "harmony": -15.0, "lead": 0.0}
"""Level of each part; every sound is recorded at one loudness."""

_BY_NAME: dict[tuple[str, str], Instrument] = {
    **{("drums", i.name): i for i in KITS},
    **{("bass", i.name): i for i in BASSES},
    **{("harmony", i.name): i for i in PADS},
    **{("accompaniment", i.name): i for i in ACCOMPANIMENTS},
    **{("colour", i.name): i for i in ACCOMPANIMENTS},
    **{("lead", i.name): i for i in LEADS},
}
_STRUMMED = {"nylon guitar", "steel guitar", "clean guitar", "harp", "banjo", "overdriven guitar"}
_MASTER = 0.9
_KNEE = 0.7


def sound_name(instrument: Instrument) -> str:
    """Return the key of an instrument's samples in a `Bank`: instruments of one program share them."""
    return f"kit{instrument.program}" if instrument in KITS else f"program{instrument.program}"


@dataclass(frozen=True)
class Bank:
    """Recorded sounds.

    Attributes:
        sounds: Sound name -> MIDI pitch -> samples (n,) float32 at `RATE_HZ`. Sustained sounds end in a loop of
            `LOOP_S`.
    """

    sounds: Mapping[str, Mapping[int, np.ndarray]]
    _tuned: dict[tuple[str, int, float], np.ndarray] = field(default_factory=dict, repr=False, compare=False)

    def tone(self, instrument: Instrument, pitch: int, glide: float = 0.0) -> np.ndarray:
        """Return samples (n,) of an instrument at a pitch, reached from `glide` semitones below."""
        key = (sound_name(instrument), pitch, glide)
        if key not in self._tuned:
            recorded = self.sounds[key[0]]
            near = min(recorded, key=lambda p: (abs(p - pitch), p))
            samples = recorded[near]
            if instrument not in KITS and near != pitch:
                factor = 2 ** ((near - pitch) / 12)
                samples = soxr.resample(samples, RATE_HZ, RATE_HZ * factor).astype(np.float32)
            self._tuned[key] = _glided(samples, glide) if glide else samples
        return self._tuned[key]


def _glided(samples: np.ndarray, semitones: float, seconds: float = 0.11) -> np.ndarray:
    """Return samples whose pitch rises from `semitones` below to its own within `seconds`."""
    span = round(seconds * RATE_HZ)
    shift = -semitones * (1 - np.arange(span) / span)
    where = np.concatenate([[0.0], np.cumsum(2 ** (shift / 12))])
    rest = np.arange(where[-1] + 1, len(samples) - 1)
    return np.interp(np.concatenate([where, rest]), np.arange(len(samples)), samples).astype(np.float32)


@dataclass
class _Voice:
    """One sounding note."""

    samples: np.ndarray
    gain: float
    delay: int  # samples until it begins
    release: int  # length of its release in samples
    loop: int  # length of the loop at its end, 0 for none
    position: int = 0
    released: int = -1  # samples of the release that have passed, -1 while it is held

    @property
    def over(self) -> bool:
        """Whether nothing more will sound."""
        ended = not self.loop and self.position >= len(self.samples)
        return ended or (self.released >= self.release and self.delay == 0)

    def add_to(self, out: np.ndarray) -> None:
        """Add the next ``len(out)`` samples."""
        begin = min(self.delay, len(out))
        self.delay -= begin
        wanted = len(out) - begin
        if wanted == 0:
            return
        heard = self._next(wanted) * self.gain
        if self.released >= 0:
            passed = (self.released + np.arange(len(heard))) / self.release
            heard *= np.cos(np.minimum(passed, 1.0) * (np.pi / 2)) ** 2
            self.released += wanted
        out[begin : begin + len(heard)] += heard

    def _next(self, wanted: int) -> np.ndarray:
        parts = []
        while wanted > 0:
            if self.loop and self.position >= len(self.samples):
                self.position -= self.loop
            part = self.samples[self.position : self.position + wanted]
            if len(part) == 0:
                break
            parts.append(part)
            self.position += len(part)
            wanted -= len(part)
        return np.concatenate(parts).astype(np.float64) if parts else np.zeros(0)


class Player:
    """Turns tokens into sound, one frame after the other, and remembers what sounds.

    Args:
        bank: The samples.
    """

    def __init__(self, bank: Bank) -> None:
        self.bank = bank
        self._reader = ScoreReader()
        self._voices: dict[Note, _Voice] = {}
        self._fading: list[_Voice] = []
        self._delays, self._echoes = _room()
        self._past = np.zeros(int(self._delays.max()))

    def play(self, codes: np.ndarray) -> np.ndarray:
        """Return samples (frames * `FRAME`,) float32 of the next frames, tokens (parts, frames)."""
        frames = [self._frame(tokens) for tokens in np.asarray(codes).T]
        return np.concatenate(frames).astype(np.float32) if frames else np.zeros(0, np.float32)

    def _frame(self, tokens: np.ndarray) -> np.ndarray:
        frame = self._reader.frame
        begin, end = self._reader.read(tokens)
        for note in end:
            voice = self._voices.pop(note, None)
            if voice is not None:
                voice.released = 0
                self._fading.append(voice)
        strings: dict[str, int] = {}
        for note in begin:
            order = strings.setdefault(note.part, 0)
            strings[note.part] += 1
            self._start(note, frame, order)
        dry = np.zeros(FRAME)
        for voice in [*self._fading, *self._voices.values()]:
            voice.add_to(dry)
        self._fading = [voice for voice in self._fading if not voice.over]
        self._voices = {note: voice for note, voice in self._voices.items() if not voice.over}
        return _bent(self._in_room(dry) * _MASTER)

    def _start(self, note: Note, frame: int, order: int) -> None:
        instrument = _BY_NAME[note.part, note.instrument]
        glide = instrument.glide if note.part == "lead" and note.velocity >= 103 else 0.0
        samples = self.bank.tone(instrument, note.pitch, glide)
        chance = crc32(f"{frame % 400}/{note.part}".encode())
        late = chance % 190 + (260 * order if instrument.name in _STRUMMED else 0)
        level = LEVELS_DB[note.part] + instrument.level_db + (chance // 256 % 100 - 50) / 40
        gain = float(10 ** (level / 20) * (note.velocity / 100) ** 1.6)
        loop = round(LOOP_S * RATE_HZ * len(samples) / len(samples)) if instrument.sustained else 0
        voice = _Voice(samples, gain, late, round(instrument.release_s * RATE_HZ), loop)
        if note.part == "drums":
            self._fading.append(voice)
        else:
            self._voices[note] = voice

    def _in_room(self, dry: np.ndarray) -> np.ndarray:
        """Return the frame with its echoes; what has been played is remembered for the next ones."""
        heard = np.concatenate([self._past, dry])
        wet = dry.copy()
        start = len(self._past)
        for delay, gain in zip(self._delays, self._echoes, strict=True):
            wet += gain * heard[start - delay : start - delay + FRAME]
        self._past = heard[FRAME:] if len(heard) - FRAME >= start else heard[-start:]
        return wet


@lru_cache(maxsize=1)
def _room(taps: int = 28, decay_s: float = 0.45, wet: float = 0.07) -> tuple[np.ndarray, np.ndarray]:
    """Return delays in samples and gains of a room's echoes (T60 `decay_s`)."""
    rng = np.random.default_rng(7)
    seconds = np.sort(rng.uniform(0.008, 0.30, taps))
    gains = wet * 10 ** (-3 * seconds / decay_s) * rng.choice([-1.0, 1.0], taps)
    return (seconds * RATE_HZ).astype(int), gains * 3.0


def _bent(samples: np.ndarray) -> np.ndarray:
    """Return the samples with what lies above the knee bent smoothly below 1 (no hard clipping)."""
    over = np.maximum(np.abs(samples) - _KNEE, 0.0)
    bent = _KNEE + (1 - _KNEE) * np.tanh(over / (1 - _KNEE))
    return np.where(over > 0, np.sign(samples) * bent, samples)


def pack_bank(bank: Bank, quality: float = 0.5) -> tuple[bytes, list[list[object]]]:
    """Return all samples as Ogg files end to end, and [sound, pitch, bytes] of each in order.

    Args:
        bank: The samples.
        quality: Of the Vorbis coder, 0 to 1 (0.5: about 60 kbit/s).
    """
    blob, index = b"", []
    for name, tones in sorted(bank.sounds.items()):
        for pitch, samples in sorted(tones.items()):
            file = BytesIO()
            soundfile.write(file, samples, RATE_HZ, format="OGG", subtype="VORBIS", compression_level=1 - quality)
            blob += file.getvalue()
            index.append([name, pitch, len(file.getvalue())])
    return blob, index


def unpack_bank(blob: bytes, index: list[list[object]]) -> Bank:
    """Return the bank that `pack_bank` packed."""
    sounds: dict[str, dict[int, np.ndarray]] = {}
    begin = 0
    for name, pitch, size in index:
        end = begin + int(str(size))
        samples, _rate = soundfile.read(BytesIO(blob[begin:end]), dtype="float32")
        sounds.setdefault(str(name), {})[int(str(pitch))] = samples
        begin = end
    return Bank(sounds)
