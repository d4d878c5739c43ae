"""The band's sampler: equal codes are equal sound, whole or in pieces, without clicks or clipping."""

from __future__ import annotations

from typing import Any

import band_fixture
import numpy as np
import pytest
import soundfile
from recipe import samples
from recipe.samples import pack_bank

from workbench.model import band_sampler as sampler
from workbench.model.band import ACCOMPANIMENTS, BASSES, HOLD, LEADS, PARTS, REST, drum_token, pitch_token
from workbench.model.band_sampler import FRAME, RATE_HZ, Bank, Player, looped, unpack_bank


@pytest.fixture(scope="module")
def bank() -> Bank:
    return band_fixture.tiny_bank()


@pytest.mark.parametrize("seed", range(4))
def test_pieces_of_any_size_are_the_whole_bit_for_bit(bank: Bank, seed: int) -> None:
    codes = band_fixture.random_codes(160, seed)
    whole = Player(bank).play(codes)
    rng, player, pieces, at = np.random.default_rng(seed), Player(bank), [], 0
    while at < codes.shape[1]:
        size = int(rng.integers(0, 40)) if seed else 1
        pieces.append(player.play(codes[:, at : at + size]))
        at += size
    assert whole.dtype == np.float32 and len(whole) == codes.shape[1] * FRAME
    assert np.array_equal(np.concatenate(pieces), whole)
    assert np.abs(whole).max() > 0.01


def test_however_much_sounds_no_sample_is_clipped(bank: Bank) -> None:
    codes = np.full((len(PARTS), 50), HOLD)
    codes[1] = [drum_token(frame % 5, kick=True, snare_hand=1, cymbal_hand=7) for frame in range(50)]
    codes[6, ::2] = [pitch_token("lead", 12, 60 + frame) for frame in range(25)]
    loud = Player(Bank({name: {p: 9 * x for p, x in tones.items()} for name, tones in bank.sounds.items()}))
    sound = loud.play(codes)
    assert 0.9 < np.abs(sound).max() < 1
    steps = np.abs(np.diff(np.sort(np.abs(sound))))
    assert steps[-100:].max() < 0.01, "no two loud samples are cut to one value"


def test_a_bent_sample_does_not_depend_on_its_neighbours() -> None:
    samples = np.random.default_rng(0).standard_normal(999).astype(np.float32) * 2
    apart = np.concatenate([sampler._bent(samples[i : i + 1].copy()) for i in range(len(samples))])
    assert np.array_equal(sampler._bent(samples.copy()), apart)


def test_a_rest_ends_what_sounds_within_its_release(bank: Bank) -> None:
    codes = np.full((len(PARTS), 60), REST)
    codes[6, 0] = pitch_token("lead", 12, 64)
    codes[6, 1:20] = HOLD
    sound = np.abs(Player(bank).play(codes))
    held, after = sound[10 * FRAME : 20 * FRAME], sound[35 * FRAME :]
    assert held.max() > 0.05 and after.max() == 0


@pytest.mark.parametrize("pitch", [48, 51, 60, 66, 71])
def test_a_loop_goes_over_into_itself_without_a_click(bank: Bank, pitch: int) -> None:
    tone = bank.tone(LEADS[12], pitch)
    assert 0.4 * RATE_HZ <= tone.loop <= 0.6 * RATE_HZ
    around = np.concatenate([tone.samples[-4000:], tone.samples[-tone.loop :][:4000]])
    step = np.abs(np.diff(around))
    assert step[3999] <= 1.01 * np.delete(step, 3999).max()
    power = np.convolve(tone.samples[-tone.loop :].astype(np.float64) ** 2, np.ones(1600) / 1600, "valid")
    level = np.sqrt(power)
    assert level.max() / level.min() < 1.5, "the cross-fade keeps the power"


def test_what_is_too_short_to_loop_is_left_alone() -> None:
    short = np.ones(RATE_HZ // 10, np.float32)
    assert looped(short).loop == 0 and np.array_equal(looped(short).samples, short)


def test_a_glide_ends_on_the_tone_itself(bank: Bank) -> None:
    plain, glided = bank.tone(LEADS[4], 66), bank.tone(LEADS[4], 66, 1.0)
    assert glided.loop == plain.loop
    after = RATE_HZ // 5
    assert np.array_equal(glided.samples[-after * 3 :], plain.samples[-after * 3 :])
    rising = np.arange(1600)
    assert not np.allclose(glided.samples[rising], plain.samples[rising], atol=1e-3)


def test_a_bank_is_unpacked_when_it_is_heard(bank: Bank, monkeypatch: Any) -> None:
    few = Bank({name: bank.sounds[name] for name in ("program0", "program33", "kit0")})
    blob, index = pack_bank(few)
    read, opened = soundfile.read, []
    monkeypatch.setattr(soundfile, "read", lambda *a, **k: opened.append(1) or read(*a, **k))
    packed = unpack_bank(blob, index)
    assert not opened
    for pitch in (48, 66, 70):
        near, own = packed.tone(ACCOMPANIMENTS[0], pitch), few.tone(ACCOMPANIMENTS[0], pitch)
        assert len(near.samples) == len(own.samples)
        assert np.abs(near.samples - own.samples).max() < 0.02
    assert len(opened) == 1, "the sound's one file, once"
    packed.tone(BASSES[1], 40)
    assert len(opened) == 2


def test_a_recording_ends_where_it_has_died_away() -> None:
    time_s = np.arange(2 * RATE_HZ) / RATE_HZ
    sound = np.sin(2 * np.pi * 220 * time_s) * np.exp(-time_s * 12)
    kept = samples._ended(sound.copy(), 0.05)
    left = np.sqrt(np.mean(sound[len(kept) :] ** 2))
    assert 0.4 < len(kept) / RATE_HZ < 0.75 and left < 0.001, "cut where nothing is heard any more"
    assert abs(kept[-1]) < 1e-6 and np.array_equal(
        kept[: RATE_HZ // 4], sound[: RATE_HZ // 4].astype(np.float32)
    )
    assert len(samples._ended(np.zeros(RATE_HZ), 0.05)) <= 0.05 * RATE_HZ


def test_the_loudness_of_a_recording_is_that_of_its_loudest_moment() -> None:
    sound = np.zeros(RATE_HZ)
    sound[8000:16000] = 0.3
    slow = np.sqrt(np.convolve(sound**2, np.ones(6400) / 6400, "valid").max())
    assert [samples._loudness(sound), slow] == pytest.approx([0.3, 0.3])
