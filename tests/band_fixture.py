"""A band with a tiny synthetic bank: decaying sines, the same few for every instrument."""

from __future__ import annotations

from pathlib import Path

import fixture_model
import numpy as np
import torch
from recipe.samples import pack_bank

from workbench.model.band import (
    ACCOMPANIMENTS,
    BASSES,
    BEAT_FRAMES,
    HOLD,
    KITS,
    LEADS,
    PADS,
    PARTS,
    REST,
    VOCABULARY,
    accompaniment_token,
    conductor_token,
    drum_token,
    harmony_token,
    pitch_token,
)
from workbench.model.band_codec import BandCodecConfig
from workbench.model.band_sampler import RATE_HZ, Bank, sound_name

TABLES = (BASSES, PADS, ACCOMPANIMENTS, LEADS)


def tiny_bank() -> Bank:
    """Two sines an instrument, an octave and a half apart; hits are short noises."""
    noise = np.random.default_rng(0).standard_normal(RATE_HZ // 8) * np.exp(-np.arange(RATE_HZ // 8) / 800)
    hits = {pitch: (0.2 * np.roll(noise, 31 * pitch)).astype(np.float32) for pitch in range(35, 52)}
    tones = {pitch: _sine(pitch) for pitch in (48, 66)}
    sounds = {sound_name(one): tones for table in TABLES for one in table}
    return Bank({**sounds, **{sound_name(kit): hits for kit in KITS}})


def _sine(pitch: int, seconds: float = 1.1) -> np.ndarray:
    time_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    hz = 440 * 2 ** ((pitch - 69) / 12)
    sound = sum(np.sin(2 * np.pi * hz * k * time_s) / k**2 for k in (1, 2, 3))
    return np.asarray(0.12 * sound * np.exp(-time_s / 3), np.float32)


def random_codes(frames: int, seed: int = 0, *, invalid: bool = True) -> np.ndarray:
    """Tokens (parts, frames): holds, rests, onsets of all kinds; some that mean nothing."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(
        -3 if invalid else 0, VOCABULARY + 40 if invalid else VOCABULARY, (len(PARTS), frames)
    )
    kind = rng.random(codes.shape)
    return np.where(kind < 0.7, HOLD, np.where(kind < 0.78, REST, codes))


def small_piece(beats: int = 8) -> np.ndarray:
    """A few bars (parts, frames) in which every part plays: known notes at known places."""
    step = BEAT_FRAMES["medium"]
    codes = np.full((len(PARTS), beats * step), HOLD)
    codes[1] = REST
    for beat in range(beats):
        at = beat * step
        codes[0, at : at + step] = [conductor_token("medium", beat % 4 * step + i) for i in range(step)]
        codes[1, at] = drum_token(0, kick=beat % 2 == 0, snare_hand=beat % 2, cymbal_hand=1)
        codes[2, at] = harmony_token((0, 5, 7, 0)[beat // 2 % 4], "maj", pad=1)
        codes[3, at] = pitch_token("bass", 1, 36 + (0, 5, 7, 0)[beat // 2 % 4])
        codes[4, at + step // 2] = accompaniment_token(0, 0)
        codes[5, at] = accompaniment_token(6, 2 + beat % 4)
        codes[6, at] = pitch_token("lead", 12, 72 + beat % 5)
        codes[6, at + 12] = REST
    return codes


def save_tiny(folder: Path, seed: int = 0) -> Path:
    """Write a tiny MusicGen around a band with the tiny bank, as `fixture_model.save` writes models."""
    blob, index = pack_bank(tiny_bank())
    codec = BandCodecConfig(bank_bytes=len(blob), bank_index=index, ear_width=8)
    decoder = fixture_model.decoder_config(
        vocab_size=VOCABULARY, pad_token_id=VOCABULARY, bos_token_id=VOCABULARY, num_codebooks=len(PARTS)
    )
    model = fixture_model.build(seed, decoder=decoder, codec=codec)
    model.audio_encoder.bank_ogg.copy_(torch.frombuffer(bytearray(blob), dtype=torch.uint8))
    return fixture_model.save(model, folder)
