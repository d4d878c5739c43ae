"""Records the band's samples from a General MIDI soundfont."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

from workbench.errors import AudioError
from workbench.model.band import ACCOMPANIMENTS, BASSES, KITS, LEADS, PADS, PITCHES, Instrument
from workbench.model.band_sampler import RATE_HZ, Bank, sound_name, unpack_bank

_GAP = RATE_HZ // 50  # silence between tones in a packed file
_OVERSAMPLING = 2
_LOUDNESS = 0.09
"""RMS of the loudest 0.2 s of every sound."""

_HITS = (36, 37, 38, 39, 42, 43, 44, 46, 47, 49, 50, 51)
_SECONDS = {"sustained": 1.6, "plucked": 2.2}
_SILENCE = 0.0012
"""RMS of 20 ms below which a sound has died, 37 dB below its loudest."""


SHIPPED = "FluidR3"
SOUNDFONTS = {
    SHIPPED: "FluidR3_GM.sf2",
    "MuseScore": "MuseScore_General_Full.sf2",
    "OPL-3": "OPL-3_FM_128M.sf2",
    "TimGM6mb": "TimGM6mb.sf2",
}
"""The band that ships has the sounds of the first; judges hear all four."""
_FOLDERS = ("/usr/share/sounds/sf2", "/usr/share/soundfonts", "/opt/homebrew/share/soundfonts")


def packed_bank(font: str, build: Path) -> tuple[bytes, list[list[Any]]]:
    """Return a soundfont's band as `pack_bank` packs it, recording it into the build folder if need be."""
    samples, index = (build / "banks" / f"{font}.{suffix}" for suffix in ("ogg", "json"))
    if not index.exists():
        samples.parent.mkdir(parents=True, exist_ok=True)
        blob, places = pack_bank(record_bank(find_soundfont(SOUNDFONTS[font])))
        samples.write_bytes(blob)
        index.write_text(json.dumps(places))
    return samples.read_bytes(), json.loads(index.read_text())


def pack_bank(bank: Bank, quality: float = 0.4) -> tuple[bytes, list[list[Any]]]:
    """Return an Ogg file a sound, end to end, and the index that `unpack_bank` takes.

    `quality` is that of the Vorbis coder, 0 to 1 (0.4: about 45 kbit/s); kits, mostly noise, get more.
    """
    blob, index = b"", []
    for name, tones in sorted(bank.sounds.items()):
        places, row, at = [], [], 0
        for pitch, samples in sorted(tones.items()):
            places.append([pitch, at, len(samples)])
            row += [samples, np.zeros(_GAP, np.float32)]
            at += len(samples) + _GAP
        file = BytesIO()
        level = 1 - quality - (0.3 if name.startswith("kit") else 0.0)
        vorbis: dict[str, Any] = {"format": "OGG", "subtype": "VORBIS", "compression_level": level}
        soundfile.write(file, np.concatenate(row), RATE_HZ, **vorbis)
        blob += file.getvalue()
        index.append([name, len(file.getvalue()), places])
    return blob, index


def bank_of(font: str, build: Path) -> Bank:
    """Return a soundfont's band, unpacked."""
    return unpack_bank(*packed_bank(font, build))


def find_soundfont(name: str) -> Path:
    """Return the path of an installed soundfont, or raise with the packages that bring it."""
    for folder in _FOLDERS:
        if (Path(folder) / name).is_file():
            return Path(folder) / name
    raise AudioError(
        f"Soundfont {name} was asked for",
        f"it is in none of {', '.join(_FOLDERS)}",
        "Install it (Debian: fluid-soundfont-gm, timgm6mb-soundfont, musescore-general-soundfont-lossless, "
        "opl3-soundfont)",
    )


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
    return {pitch: _ended(samples * scale, 0.05) for pitch, samples in hits.items()}


def _tone(synth: Any, font: int, instrument: Instrument, pitch: int) -> np.ndarray:
    synth.program_select(0, font, 0, instrument.program, False)
    samples = _recorded(synth, 0, pitch, _SECONDS["sustained" if instrument.sustained else "plucked"])
    samples *= _LOUDNESS / max(_loudness(samples), 1e-5)
    return samples.astype(np.float32) if instrument.sustained else _ended(samples, 0.3)


def _recorded(synth: Any, channel: int, pitch: int, seconds: float, velocity: int = 105) -> np.ndarray:
    synth.sounds_off()
    synth.generate(RATE_HZ * _OVERSAMPLING // 4)
    synth.noteon(channel, pitch, velocity)
    count = round(seconds * RATE_HZ) * _OVERSAMPLING
    stereo = np.frombuffer(bytes(synth.generate(count)), np.float32).reshape(-1, 2)
    synth.noteoff(channel, pitch)
    mono = np.asarray(stereo.mean(axis=1), np.float64)
    return np.asarray(soxr.resample(mono, RATE_HZ * _OVERSAMPLING, RATE_HZ), np.float64)


def _levels(samples: np.ndarray, window_s: float) -> np.ndarray:
    """Return the RMS of every window."""
    size = round(window_s * RATE_HZ)
    energy = np.concatenate([[0.0], np.cumsum(samples**2)])
    return np.asarray(np.sqrt(np.maximum(energy[size:] - energy[:-size], 0.0) / size))


def _loudness(samples: np.ndarray) -> float:
    return float(_levels(samples, 0.2).max(initial=0.0))


def _ended(samples: np.ndarray, fade_s: float) -> np.ndarray:
    """Return samples without the silence at their end, faded out."""
    heard = np.flatnonzero(_levels(samples, 0.02) > _SILENCE)
    fade = round(fade_s * RATE_HZ)
    end = min(len(samples), (int(heard[-1]) if len(heard) else 0) + fade)
    fade = min(fade, end)
    kept = samples[:end].copy()
    kept[end - fade :] *= np.cos(np.linspace(0, np.pi / 2, fade)) ** 2
    return kept.astype(np.float32)
