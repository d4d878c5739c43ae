"""The band's ear: any sound becomes codes of its parts; what the band plays is heard as what was played."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import band_fixture
import numpy as np
import pytest
import torch
from recipe import train_hearing
from recipe.corpus import Scores
from recipe.samples import SHIPPED, pack_bank
from recipe.train_hearing import exact, hands_of

from workbench.errors import ModelError
from workbench.model import band_codec as band_ear
from workbench.model.band import BEAT_FRAMES, FIRST, KITS, PARTS, beat_of, drum_hits, drum_token, read_score
from workbench.model.band_codec import HANDS, TOKENS, BandCodec, BandCodecConfig, BandEar, features_of
from workbench.model.band_sampler import FRAME, RATE_HZ, Player
from workbench.sound.clip import Clip


def noise(seconds: float, rate_hz: int = RATE_HZ) -> Clip:
    samples = np.random.default_rng(0).standard_normal(round(seconds * rate_hz)) * 0.1
    return Clip(samples.astype(np.float32), rate_hz)


@pytest.mark.parametrize("rate_hz", [16_000, 32_000, 44_100])
def test_sound_of_any_rate_becomes_codes_of_its_length(band_model: Any, rate_hz: int) -> None:
    codes = band_model.encode(noise(1.3, rate_hz))
    assert codes.shape == (len(PARTS), 33) and codes.dtype == torch.long
    for index, part in enumerate(PARTS):
        assert codes[index].min() >= 0 and codes[index].max() < TOKENS.get(part, band_model.codebook_size)
    assert torch.equal(codes, band_model.encode(noise(1.3, rate_hz)))
    assert band_model.decode(codes).seconds == pytest.approx(1.32)


def test_a_sound_is_heard_alike_however_loud_it_is(band_model: Any) -> None:
    clip = noise(1.0)
    soft = Clip(clip.samples * np.float32(0.3), clip.rate_hz)
    same = (band_model.encode(clip) == band_model.encode(soft)).float().mean()
    assert same > 0.99
    silence = band_model.encode(Clip(np.zeros(RATE_HZ, np.float32), RATE_HZ))
    assert silence.shape == (len(PARTS), 25)


def test_a_band_without_ear_says_so() -> None:
    codec = BandCodec(BandCodecConfig())
    with pytest.raises(ModelError, match="has no ear"):
        codec.encode(torch.zeros(1, 1, RATE_HZ))


def test_the_ear_learns_to_hear_what_the_band_plays() -> None:
    codes = band_fixture.small_piece()
    sound = torch.from_numpy(Player(band_fixture.tiny_bank()).play(codes))[None]
    told = torch.from_numpy(codes)[None].long()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        ear = BandEar(32)
        optimiser = torch.optim.AdamW(ear.parameters(), lr=5e-3)
        sound *= 0.125 / sound.square().mean().sqrt()
        features = features_of(sound)
        for _ in range(200):
            optimiser.zero_grad()
            train_hearing.hearing_loss(ear, features, told).backward()
            optimiser.step()
    heard = ear.codes(sound)[0].numpy()
    shares = exact(heard, codes)
    assert min(one["begins"] for one in shares.values()) > 0.9, shares
    notes, played = (
        {(n.part, n.instrument, n.pitch, n.start) for n in read_score(c)} for c in (heard, codes)
    )
    assert len(notes & played) > 0.9 * len(played)


def test_hands_are_what_drum_tokens_say() -> None:
    rows = [(k, a, b, c) for k in range(len(KITS)) for a in (0, 1) for b in range(4) for c in range(11)]
    tokens = [drum_token(k, kick=bool(a), snare_hand=b, cymbal_hand=c) for k, a, b, c in rows]
    hands = hands_of(torch.tensor(tokens))
    for (kit, kick, snare, cymbal), *told in zip(rows, *(hands[name] for name in HANDS), strict=True):
        silent = not (kick or snare or cymbal)
        assert [int(x) for x in told] == [kick, snare, cymbal, -1 if silent else kit]
        assert silent or drum_hits(tokens[rows.index((kit, kick, snare, cymbal))])[0] == kit


@pytest.mark.parametrize("tempo", BEAT_FRAMES)
def test_bars_go_on_at_one_tempo_whatever_single_frames_say(tempo: str) -> None:
    rng = np.random.default_rng(3)
    odds = rng.standard_normal((150, TOKENS["conductor"]))
    length = 4 * BEAT_FRAMES[tempo]
    before = FIRST + sum(4 * f for t, f in BEAT_FRAMES.items() if f > BEAT_FRAMES[tempo])
    for frame in range(150):
        odds[frame, before + (7 + frame) % length] += 1.0
    heard = [beat_of(int(token)) for token in band_ear._counted(odds)]
    assert heard == [(tempo, (7 + frame) % length) for frame in range(150)]


def test_an_instrument_is_what_it_mostly_is_around() -> None:
    each = band_ear.INSTRUMENT_TOKENS["bass"]
    probabilities = np.full((60, TOKENS["bass"]), 1e-6)
    probabilities[:, 1] = 1.0
    for onset in range(0, 60, 6):
        wrong = onset == 30
        probabilities[onset, FIRST + each * 1 + 5] = 0.6 if not wrong else 0.45
        probabilities[onset, FIRST + each * 3 + 5] = 0.4 if not wrong else 0.55
        probabilities[onset, 1] = 1e-6
    odds = np.log(probabilities / probabilities.sum(1, keepdims=True))
    heard = band_ear._steady(odds, each)
    assert set(heard[::6].argmax(-1).tolist()) == {FIRST + each + 5}
    assert set(heard[1::6].argmax(-1).tolist()) == {1}
    totals = np.exp(heard).sum(-1)
    assert totals == pytest.approx(np.ones(60))


def test_what_the_ear_sees_has_a_row_a_frame() -> None:
    tone = torch.sin(2 * torch.pi * 440 * torch.arange(10 * FRAME) / RATE_HZ)[None]
    seen = features_of(tone)
    assert seen.shape == (1, 10, band_ear.FEATURES)
    assert features_of(tone[:, : 9 * FRAME + 5]).shape[1] == 10
    semitones = seen[0, 4:6, -band_ear._SEMITONES :].mean(0)
    assert int(semitones.argmax()) == 69 - band_ear._LOWEST


def test_training_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: Any) -> None:
    blob, index = pack_bank(band_fixture.tiny_bank())
    (tmp_path / "banks").mkdir()
    (tmp_path / "banks" / f"{SHIPPED}.ogg").write_bytes(blob)
    (tmp_path / "banks" / f"{SHIPPED}.json").write_text(json.dumps(index))
    pieces = Scores((None,) * 2, (band_fixture.small_piece(32), band_fixture.small_piece(40)))  # type: ignore[arg-type]
    monkeypatch.setattr(train_hearing, "scores", lambda _name, _build: pieces)
    monkeypatch.setattr(train_hearing, "WIDTH", 8)
    begun = train_hearing.train_hearing(tmp_path, minutes=1, steps=2)
    told = {name: value.clone() for name, value in begun.state_dict().items()}
    same = train_hearing.train_hearing(tmp_path, minutes=0, steps=4)
    assert all(torch.equal(value, told[name]) for name, value in same.state_dict().items())
    longer = train_hearing.train_hearing(tmp_path, minutes=1, steps=4)
    assert not all(torch.equal(value, told[name]) for name, value in longer.state_dict().items())
    assert torch.load(tmp_path / "hearing" / "checkpoint.pt", weights_only=True)["step"] == 4
    codec = train_hearing.hearing_codec(tmp_path)
    sound = codec.decode(torch.tensor(pieces.codes[0])[None, None]).audio_values
    assert codec.encode(sound).audio_codes.shape == (1, 1, *pieces.codes[0].shape)
    shares = train_hearing.report(longer, tmp_path, rows=2)
    assert set(shares) == set(PARTS) and all(0 <= one["all"] <= 1 for one in shares.values())
