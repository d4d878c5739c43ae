"""Records the band's samples from a General MIDI soundfont."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import soxr

from workbench.model.band import (
    ACCOMPANIMENTS,
    BASSES,
    KITS,
    LEADS,
    PADS,
    PITCHES,
    Instrument,
)
from workbench.model.sampler import LOOP_S, RATE_HZ, Bank, sound_name

_OVERSAMPLING = 2
_LOUDNESS = 0.09
"""RMS of the loudest 0.2 s of every sound."""

_HITS = (36, 37, 38, 39, 42, 43, 44, 46, 47, 49, 50, 51)
_SECONDS = {"sustained": 1.7, "plucked": 2.4}


def record_bank(soundfont: Path) -> Bank:
    """Return every sound of the band, recorded from a soundfont: every third semitone of its range."""
    import tinysoundfont

    synth = tinysoundfont.Synth(samplerate=RATE_HZ * _OVERSAMPLING)
    font = synth.sfload(str(soundfont))
    sounds = {sound_name(kit): _kit(synth, font, kit) for kit in KITS}
    ranges: dict[str, tuple[Instrument, set[int]]] = {}
    for table in (BASSES, PADS, ACCOMPANIMENTS, LEADS):
        for one in table:
            if table in (BASSES, LEADS):
                wanted = set(range(one.low + 1, one.low + PITCHES, 3))
            elif table is PADS:
                wanted = set(range(50, 76, 3))
            else:
                guitar = one.name in ("overdriven guitar", "distorted guitar", "muted guitar")
                wanted = set(range(41 if guitar else 50, 86, 3))
            ranges.setdefault(sound_name(one), (one, set()))[1].update(wanted)
    for name, (one, wanted) in ranges.items():
        thinned: list[int] = []
        for pitch in sorted(wanted):
            if not thinned or pitch - thinned[-1] >= 3:
                thinned.append(pitch)
        sounds[name] = {pitch: _tone(synth, font, one, pitch) for pitch in thinned}
    return Bank(sounds)


def _kit(synth: Any, font: int, kit: Instrument) -> dict[int, np.ndarray]:
    """Return the hits of a kit; their levels stay in proportion, the snare's loudness is the reference."""
    synth.program_select(9, font, 128, kit.program, True)
    hits = {pitch: _recorded(synth, 9, pitch, 1.2 if pitch in (46, 49, 51) else 0.7) for pitch in _HITS}
    scale = 1.6 * _LOUDNESS / max(_loudness(hits[38]), _loudness(hits[36]) * 0.8)
    return {pitch: _faded(samples * scale, 0.05) for pitch, samples in hits.items()}


def _tone(synth: Any, font: int, instrument: Instrument, pitch: int) -> np.ndarray:
    synth.program_select(0, font, 0, instrument.program, False)
    seconds = _SECONDS["sustained" if instrument.sustained else "plucked"]
    samples = _recorded(synth, 0, pitch, seconds + (LOOP_S if instrument.sustained else 0.0))
    samples *= _LOUDNESS / max(_loudness(samples), 1e-5)
    return _looped(samples) if instrument.sustained else _faded(samples, 0.4)


def _recorded(synth: Any, channel: int, pitch: int, seconds: float, velocity: int = 105) -> np.ndarray:
    synth.sounds_off()
    synth.generate(RATE_HZ * _OVERSAMPLING // 4)
    synth.noteon(channel, pitch, velocity)
    count = round(seconds * RATE_HZ) * _OVERSAMPLING
    stereo = np.frombuffer(bytes(synth.generate(count)), np.float32).reshape(-1, 2)
    synth.noteoff(channel, pitch)
    mono = np.asarray(stereo.mean(axis=1), np.float64)
    return np.asarray(soxr.resample(mono, RATE_HZ * _OVERSAMPLING, RATE_HZ), np.float64)


def _loudness(samples: np.ndarray, window_s: float = 0.2) -> float:
    size = round(window_s * RATE_HZ)
    power = np.convolve(samples**2, np.ones(size) / size, mode="valid")[:: size // 4]
    return float(np.sqrt(power.max())) if len(power) else 0.0


def _looped(samples: np.ndarray) -> np.ndarray:
    """Return samples whose last `LOOP_S` may be repeated: its end is cross-faded into what precedes it."""
    loop = round(LOOP_S * RATE_HZ)
    body = samples[:-loop].copy()
    fade = np.sqrt(np.linspace(0, 1, loop // 2))
    before = body[len(body) - loop - len(fade) : len(body) - loop]
    body[-len(fade) :] = body[-len(fade) :] * fade[::-1] + before * fade
    return body.astype(np.float32)


def _faded(samples: np.ndarray, seconds: float) -> np.ndarray:
    count = min(len(samples), round(seconds * RATE_HZ))
    samples[-count:] *= np.cos(np.linspace(0, np.pi / 2, count)) ** 2
    return samples.astype(np.float32)
