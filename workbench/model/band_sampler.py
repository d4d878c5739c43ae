"""Plays the band: notes become sound with recorded samples, frame by frame, the same whole or streamed.

A release fades as a squared cosine, sustained sounds loop about their last half second, and a small room of a
few echoes follows. The little unevenness of hands is a function of frame and part, so that equal codes give
equal sound. Every sample comes from the same operations in the same order however the music is cut into
pieces, so that sound in pieces equals the whole bit for bit.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from io import BytesIO
from typing import Any
from zlib import crc32

import numpy as np
import soundfile
import soxr
from scipy.signal import correlate

from workbench.model.band import FRAME_RATE_HZ, INSTRUMENTS, KITS, Instrument, Note, ScoreReader

RATE_HZ = 32_000
FRAME = RATE_HZ // FRAME_RATE_HZ
# Level of each part; every sound is recorded at one loudness.
LEVELS_DB = {"drums": 0.0, "bass": 0.0, "accompaniment": -5.0, "colour": -8.0, "harmony": -15.0, "lead": 0.0}
_STRUMMED = {"nylon guitar", "steel guitar", "clean guitar", "harp", "banjo", "overdriven guitar"}
_MASTER = 0.8
_KNEE = 0.7
_BLOCK = 16  # frames mixed at once: what a block needs fits into a processor's cache
_KEPT = 384  # tuned tones that a bank remembers, about a quarter of a megabyte each
_LOOP_S = (0.4, 0.6)  # a loop may be this long: as long as makes its ends most alike
_FADE_S = 0.2


def sound_name(instrument: Instrument) -> str:
    """Return the key of an instrument's samples in a `Bank`: instruments of one program share them."""
    return f"kit{instrument.program}" if instrument in KITS else f"program{instrument.program}"


@dataclass(frozen=True)
class Tone:
    """What a voice plays."""

    samples: np.ndarray  # (n,) float32
    loop: int = 0  # how many samples at the end are repeated while the tone is held, 0 for none


class Bank:
    """Recorded sounds: name -> MIDI pitch -> samples (n,) float32 at `RATE_HZ`; it remembers tuned tones."""

    def __init__(self, sounds: Mapping[str, Mapping[int, np.ndarray]]) -> None:
        self.sounds = sounds
        self.tone = lru_cache(maxsize=_KEPT)(self._tone)

    def _tone(self, instrument: Instrument, pitch: int, glide: float = 0.0) -> Tone:
        """Return the tone of an instrument at a MIDI pitch, reached from `glide` semitones below."""
        recorded = self.sounds[sound_name(instrument)]
        near = min(recorded, key=lambda p: (abs(p - pitch), p))
        samples = recorded[near]
        if instrument in KITS:
            return Tone(samples)
        if near != pitch:
            factor = 2 ** ((near - pitch) / 12)
            samples = soxr.resample(samples, RATE_HZ, RATE_HZ * factor).astype(np.float32)
        tone = looped(samples) if instrument.sustained else Tone(samples)
        return Tone(_glided(tone.samples, glide), tone.loop) if glide else tone


def looped(samples: np.ndarray) -> Tone:
    """Return a tone whose end cross-fades into what precedes its loop, where the two are most alike."""
    shortest, longest = (round(seconds * RATE_HZ) for seconds in _LOOP_S)
    fade = min(round(_FADE_S * RATE_HZ), len(samples) - longest)
    if fade <= 0:
        return Tone(samples)
    end = samples[-fade:].astype(np.float64)
    before = samples[len(samples) - fade - longest : len(samples) - shortest].astype(np.float64)
    alike = correlate(before, end, "valid", "fft")
    power = np.concatenate([[0.0], np.cumsum(before**2)])
    norm = np.sqrt(np.maximum((power[fade:] - power[:-fade]) * (end @ end), 1e-20))
    best = int((alike / norm).argmax())
    likeness = float(np.clip((alike / norm)[best], 0.0, 1.0))
    come = np.arange(1, fade + 1) / fade
    go = 1 - come
    power = come**2 + go**2 + 2 * likeness * come * go
    mixed = (end * go + before[best : best + fade] * come) / np.sqrt(power)
    return Tone(np.concatenate([samples[:-fade], mixed]).astype(np.float32), longest - best)


def _glided(samples: np.ndarray, semitones: float, seconds: float = 0.11) -> np.ndarray:
    """Return samples whose pitch rises from `semitones` below within `seconds`; the rest is as it was."""
    span = round(seconds * RATE_HZ)
    where = np.concatenate([[0.0], np.cumsum(2 ** (-semitones * (1 - np.arange(span) / span) / 12))])
    whole = round(where[-1])
    risen = np.interp(where[:-1] * (whole / where[-1]), np.arange(whole + 1), samples[: whole + 1])
    return np.concatenate([risen.astype(np.float32), samples[whole:]])


@dataclass
class _Voice:
    """One sounding note; times are samples since the music began."""

    tone: Tone
    gain: float
    start: int
    fade: np.ndarray  # what it is multiplied with from its release on
    release: int = sys.maxsize  # until it is let go

    def over(self, now: int) -> bool:
        """Whether nothing more will sound."""
        ended = not self.tone.loop and self.start + len(self.tone.samples) <= now
        return ended or self.release + len(self.fade) <= now

    def add_to(self, out: np.ndarray, first: int) -> None:
        """Add what sounds from sample `first` on."""
        samples, loop = self.tone.samples, self.tone.loop
        at, stop = max(first, self.start), min(first + len(out), self.release + len(self.fade))
        while at < stop:
            place = at - self.start
            if place >= len(samples):
                if not loop:
                    return
                place = len(samples) - loop + (place - len(samples)) % loop
            count = min(stop - at, len(samples) - place)
            if at < self.release:
                count = min(count, self.release - at)
            piece = samples[place : place + count] * np.float32(self.gain)
            if at >= self.release:
                piece *= self.fade[at - self.release : at - self.release + count]
            out[at - first : at - first + count] += piece
            at += count


class Player:
    """Turns tokens into sound, one frame after the other, and remembers what sounds."""

    def __init__(self, bank: Bank) -> None:
        self.bank = bank
        self._reader = ScoreReader()
        self._voices: list[_Voice] = []  # in the order in which they began
        self._sounding: dict[Note, _Voice] = {}
        self._past = np.zeros(max(delay for delay, _ in _room()), np.float32)

    def play(self, codes: np.ndarray) -> np.ndarray:
        """Return samples (frames * `FRAME`,) float32 of the next frames, tokens (parts, frames)."""
        rows = np.asarray(codes).T.tolist()
        blocks = [self._block(rows[i : i + _BLOCK]) for i in range(0, len(rows), _BLOCK)]
        return np.concatenate([np.zeros(0, np.float32), *blocks])

    def _block(self, rows: list[list[int]]) -> np.ndarray:
        first = self._reader.frame * FRAME
        for tokens in rows:
            self._read(tokens)
        dry = np.zeros(len(rows) * FRAME, np.float32)
        for voice in self._voices:
            voice.add_to(dry, first)
        now = first + len(dry)
        self._voices = [voice for voice in self._voices if not voice.over(now)]
        return _bent(self._in_room(dry) * np.float32(_MASTER))

    def _read(self, tokens: list[int]) -> None:
        """Begin and release the voices of one frame."""
        frame, strings = self._reader.frame, Counter[str]()
        begin, end = self._reader.read(tokens)
        for note in end:
            self._sounding.pop(note).release = frame * FRAME
        for note in begin:
            voice = self._voice(note, frame, strings[note.part])
            strings[note.part] += 1
            self._voices.append(voice)
            if note.part != "drums":
                self._sounding[note] = voice

    def _voice(self, note: Note, frame: int, order: int) -> _Voice:
        instrument = INSTRUMENTS[note.part, note.instrument]
        glide = instrument.glide if note.part == "lead" and note.velocity >= 103 else 0.0
        chance = crc32(f"{frame % 400}/{note.part}".encode())
        late = chance % 190 + (260 * order if instrument.name in _STRUMMED else 0)
        level = LEVELS_DB[note.part] + instrument.level_db + (chance // 256 % 100 - 50) / 40
        gain = float(10 ** (level / 20) * (note.velocity / 100) ** 1.6)
        tone = self.bank.tone(instrument, note.pitch, glide)
        return _Voice(tone, gain, frame * FRAME + late, _fade(instrument.release_s))

    def _in_room(self, dry: np.ndarray) -> np.ndarray:
        """Return the block with its echoes; what has been played is remembered for the next ones."""
        known = np.concatenate([self._past, dry])
        start = len(self._past)
        for delay, gain in _room():
            dry += known[start - delay : len(known) - delay] * gain
        self._past = known[-start:].copy()
        return dry


@lru_cache
def _fade(seconds: float) -> np.ndarray:
    """Return the squared cosine with which a note dies away."""
    count = round(seconds * RATE_HZ)
    return (np.cos(np.arange(count) / count * (np.pi / 2)) ** 2).astype(np.float32)


@lru_cache(maxsize=1)
def _room(taps: int = 28, decay_s: float = 0.45, wet: float = 0.21) -> tuple[tuple[int, np.float32], ...]:
    """Return delays in samples and gains of a room's echoes (T60 `decay_s`)."""
    rng = np.random.default_rng(7)
    seconds = np.sort(rng.uniform(0.008, 0.30, taps))
    gains = wet * 10 ** (-3 * seconds / decay_s) * rng.choice([-1.0, 1.0], taps)
    return tuple(zip((seconds * RATE_HZ).astype(int).tolist(), gains.astype(np.float32), strict=True))


def _bent(samples: np.ndarray) -> np.ndarray:
    """Return the samples with what lies above the knee bent smoothly below 1.

    By square roots, which are rounded correctly everywhere: vectorised tangents depend on the neighbours.
    """
    loud = np.flatnonzero(np.abs(samples) > _KNEE)
    if len(loud):
        over = (np.abs(samples[loud]).astype(np.float64) - _KNEE) / (1 - _KNEE)
        samples[loud] = np.sign(samples[loud]) * (_KNEE + (1 - _KNEE) * over / np.sqrt(1 + over**2))
    return samples


class _Packed(Mapping[int, np.ndarray]):
    """The tones of one sound, unpacked from their Ogg file when the first is asked for."""

    def __init__(self, file: bytes, places: Iterable[Sequence[int]]) -> None:
        self._file = file
        self._places = {int(pitch): (int(first), int(count)) for pitch, first, count in places}

    @cached_property
    def _samples(self) -> np.ndarray:
        samples, _rate = soundfile.read(BytesIO(self._file), dtype="float32")
        return np.asarray(samples, np.float32)

    def __getitem__(self, pitch: int) -> np.ndarray:
        first, count = self._places[pitch]
        return self._samples[first : first + count]

    def __iter__(self) -> Iterator[int]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def unpack_bank(blob: bytes, index: Iterable[Sequence[Any]]) -> Bank:
    """Return the bank in `blob`, an Ogg file a sound, end to end; each is unpacked when it is first played.

    The index says [sound, bytes, [[pitch, first sample, count], ...]] of each.
    """
    sounds, begin = {}, 0
    for name, size, places in index:
        sounds[str(name)] = _Packed(blob[begin : begin + size], places)
        begin += size
    return Bank(sounds)
