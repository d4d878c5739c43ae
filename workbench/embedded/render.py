"""Turns a composed piece into sound with a General MIDI soundfont, one stem a role, mixed to known levels.

Roles are rendered apart and brought to levels of their own, so that drums and bass carry whatever a
soundfont's patches are like, and so that another soundfont changes the timbre but not the mix.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from workbench.embedded import styles
from workbench.embedded.factors import FRAME_RATE_HZ, ROLE_CHANNEL, Note, Piece
from workbench.errors import AudioError

RATE_HZ = 16_000
LEVEL_DB = -19.0
"""RMS level of a rendered piece."""

_OVERSAMPLING = 2
_KITS = (0, 8, 16, 24, 25, 32, 40)
_SOUNDFONT_FOLDERS = ("/usr/share/sounds/sf2", "/usr/share/soundfonts", "/opt/homebrew/share/soundfonts")


def find_soundfont(name: str) -> Path:
    """Return the path of an installed soundfont, or raise with the package that brings it."""
    for folder in _SOUNDFONT_FOLDERS:
        if (Path(folder) / name).is_file():
            return Path(folder) / name
    raise AudioError(
        f"Soundfont {name} was asked for",
        f"it is in none of {', '.join(_SOUNDFONT_FOLDERS)}",
        "Install it (Debian: fluid-soundfont-gm, timgm6mb-soundfont, musescore-general-soundfont-lossless)",
    )


def render(piece: Piece, soundfont: Path, *, seconds: float | None = None) -> np.ndarray:
    """Return the piece as mono samples (n,) float32 at 16 kHz and ``LEVEL_DB``.

    Args:
        piece: what to play.
        soundfont: an SF2 file.
        seconds: length of the clip; by default the whole piece.
    """
    wanted = round((seconds if seconds is not None else piece.frames / FRAME_RATE_HZ) * RATE_HZ)
    mix = np.zeros(wanted, np.float64)
    for role in ROLE_CHANNEL:
        notes = [n for n in piece.notes if n.role == role and n.start * RATE_HZ < wanted * FRAME_RATE_HZ]
        if notes:
            mix += _at_level(
                _stem(notes, role, piece.programs[role], soundfont, wanted),
                styles.LEVELS[role] + piece.gains_db.get(role, 0.0),
            )
    mix *= 10 ** (LEVEL_DB / 20) / max(float(np.sqrt(np.mean(mix**2))), 1e-6)
    return _soft_limit(mix).astype(np.float32)


def vary(piece: Piece) -> Piece:
    """Return the piece with neighbouring General MIDI sounds and other levels: a lesson for judges.

    Half of the roles but the lead, whose sound is a label, change to another program of their family of eight
    (drums: to another kit); every level moves by a normal deviate of 3 dB.
    """
    rng = np.random.default_rng(piece.factors.seed)
    programs = {
        role: program
        if role == "lead" or rng.random() < 0.5
        else int(rng.choice(_KITS) if role == "drums" else program // 8 * 8 + rng.integers(8))
        for role, program in piece.programs.items()
    }
    return replace(piece, programs=programs, gains_db={role: float(rng.normal(0, 3)) for role in programs})


def _at_level(stem: np.ndarray, level_db: float) -> np.ndarray:
    """Return the stem with its loud parts (95th percentile of 50 ms levels) at a level (0 dB: unit RMS)."""
    size = RATE_HZ // 20
    power = np.mean(stem[: len(stem) // size * size].reshape(-1, size) ** 2, axis=1)
    loud = float(np.sqrt(np.percentile(power, 95)))
    return stem * (10 ** (level_db / 20) / loud) if loud > 1e-7 else stem


def _soft_limit(samples: np.ndarray, knee: float = 0.7) -> np.ndarray:
    """Return the samples with what lies above the knee bent smoothly below 1 (no hard clipping)."""
    over = np.maximum(np.abs(samples) - knee, 0.0)
    bent = knee + (1 - knee) * np.tanh(over / (1 - knee))
    return np.where(over > 0, np.sign(samples) * bent, samples)


def _stem(notes: list[Note], role: str, program: int, soundfont: Path, wanted: int) -> np.ndarray:
    """Return one role as float64 samples at ``RATE_HZ``, rendered at twice the rate against aliasing."""
    import soxr

    synth, font = _synth(str(soundfont))
    channel = ROLE_CHANNEL[role]
    _silence(synth)
    synth.program_select(channel, font, 128 if role == "drums" else 0, program, role == "drums")
    samples_a_frame = RATE_HZ * _OVERSAMPLING // FRAME_RATE_HZ
    events = sorted(
        [(n.start, 1, n) for n in notes] + [(n.start + n.length, 0, n) for n in notes],
        key=lambda e: (e[0], e[1], e[2].pitch),
    )
    blocks, now, total = [], 0, wanted * _OVERSAMPLING
    for frame, on, note in events:
        until = min(frame * samples_a_frame, total)
        if until > now:
            blocks.append(_generate(synth, until - now))
            now = until
        if on:
            synth.noteon(channel, note.pitch, note.velocity)
        else:
            synth.noteoff(channel, note.pitch)
    if total > now:
        blocks.append(_generate(synth, total - now))
    return np.asarray(soxr.resample(np.concatenate(blocks), RATE_HZ * _OVERSAMPLING, RATE_HZ), np.float64)[
        :wanted
    ]


def _silence(synth: Any) -> None:
    """Let every voice die, so that a stem does not depend on what was rendered before it."""
    synth.sounds_off()
    synth.generate(RATE_HZ * _OVERSAMPLING // 4)


def _generate(synth: Any, samples: int) -> np.ndarray:
    stereo = np.frombuffer(bytes(synth.generate(samples)), np.float32).reshape(-1, 2)
    return np.asarray(stereo.mean(axis=1), np.float64)


@lru_cache(maxsize=4)
def _synth(soundfont: str) -> tuple[Any, int]:
    """Return a synthesizer with the soundfont loaded (loading takes a second, so once a process)."""
    import tinysoundfont

    synth = tinysoundfont.Synth(samplerate=RATE_HZ * _OVERSAMPLING)
    return synth, synth.sfload(soundfont)
