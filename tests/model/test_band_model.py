"""A model whose codec is the band: it loads, generates, streams exactly and is steered like every other."""

from __future__ import annotations

from typing import Any

import band_fixture
import numpy as np
import pytest
import torch
from live_fixture import Heard, session, until
from steering_fixture import direction

from workbench.generation.generate import generate, stream
from workbench.generation.live.recording import Recording
from workbench.generation.live.window import LiveSound
from workbench.model.band import PARTS, read_score
from workbench.model.band_sampler import FRAME, RATE_HZ
from workbench.model.codec import PieceDecoder, decode_codes
from workbench.model.generated import capture_generated
from workbench.model.load import load


def test_it_loads_with_its_sounds_in_the_weights(band_model: Any) -> None:
    codec = band_model.musicgen.audio_encoder
    assert (band_model.n_codebooks, band_model.rate_hz, band_model.frame_rate_hz) == (len(PARTS), RATE_HZ, 25)
    assert codec.bank_ogg.dtype == torch.uint8 and codec.bank_ogg.float().std() > 50
    assert "teacher forcing repeats generation" in band_model.notes
    own = band_fixture.tiny_bank()
    assert {name: sorted(tones) for name, tones in codec.bank.sounds.items()} == {
        name: sorted(tones) for name, tones in own.sounds.items()
    }


def test_a_coarser_precision_leaves_its_sounds_as_they_are(band_model: Any, tmp_path: Any) -> None:
    before = band_model.musicgen.audio_encoder.bank_ogg
    coarse = load(band_model.folder, device="cpu", dtype="bfloat16")
    assert torch.equal(coarse.musicgen.audio_encoder.bank_ogg, before)
    coarse.musicgen.to(torch.bfloat16).save_pretrained(tmp_path)
    coarse.tokenizer.save_pretrained(tmp_path)
    again = load(tmp_path, device="cpu")
    assert torch.equal(again.musicgen.audio_encoder.bank_ogg, before)
    codes = torch.tensor(band_fixture.small_piece())
    assert again.decode(codes) == band_model.decode(codes)


@pytest.mark.parametrize("piece", [1, 7, 25, 200])
def test_the_pieces_of_a_band_are_the_whole_bit_for_bit(band_model: Any, piece: int) -> None:
    codes = torch.tensor(band_fixture.random_codes(90, 3, invalid=False))
    decoder = band_model.piece_decoder()
    assert decoder.ahead == 0, "nothing to wait for"
    ends = [min(first + piece, 90) for first in range(0, 90, piece)]
    pieces = [decoder.decode(codes[:, :end], end).samples for end in ends]
    assert np.array_equal(np.concatenate(pieces), band_model.decode(codes).samples)
    live = LiveSound(band_model, piece)
    heard = [clip.samples for frame in codes.T for clip in live.add(frame[:, None])]
    heard += [clip.samples for clip in live.rest()]
    assert np.array_equal(np.concatenate(heard), band_model.decode(codes).samples)


def test_two_bands_side_by_side_are_averaged(band_model: Any) -> None:
    left, right = (torch.tensor(band_fixture.random_codes(30, seed)) for seed in (1, 2))
    both = torch.stack([left, right], dim=1).flatten(0, 1)
    sound = PieceDecoder(band_model.musicgen.audio_encoder, channels=2).decode(both, 30).samples
    mean = (band_model.decode(left).samples + band_model.decode(right).samples) / 2
    np.testing.assert_allclose(sound, mean, atol=1e-7)


def test_a_batch_of_scores_sounds_as_its_rows(band_model: Any) -> None:
    rows = [torch.tensor(band_fixture.random_codes(n, n)) for n in (20, 20, 35)]
    batch = decode_codes(band_model.musicgen, rows)
    assert batch == [band_model.decode(codes) for codes in rows]
    assert [len(clip.samples) for clip in batch] == [20 * FRAME, 20 * FRAME, 35 * FRAME]


def test_its_stream_is_the_take_bit_for_bit(band_model: Any) -> None:
    settings = {"steering": direction(band_model, 1).at(0.5), "seed": 3, "seconds": 1.1}
    pieces, clips = stream(band_model, "a calm tune", piece_seconds=0.3, **settings), []
    while True:
        try:
            clips.append(next(pieces))
        except StopIteration as stop:
            take = stop.value
            break
    assert take == generate(band_model, "a calm tune", progress=False, **settings)
    assert np.array_equal(np.concatenate([clip.samples for clip in clips]), take.clip.samples)
    assert len(clips) == 4


def test_dose_0_changes_nothing_and_a_dose_changes_notes(band_model: Any) -> None:
    settings = {"seed": 1, "seconds": 1.0, "progress": False}
    plain = generate(band_model, "a calm tune", **settings)
    nothing = generate(band_model, "a calm tune", steering=direction(band_model, 1).at(0.0), **settings)
    steered = generate(band_model, "a calm tune", steering=direction(band_model, 1).at(2.0), **settings)
    assert np.array_equal(nothing.codes, plain.codes) and nothing.clip == plain.clip
    assert read_score(steered.codes) != read_score(plain.codes)
    assert len(steered.receipt) > 0


def test_its_activations_are_captured_while_it_plays(band_model: Any) -> None:
    acts = capture_generated(
        band_model, ["a calm jazz tune", "rock"], seeds=[1, 2], seconds=1.0, progress=False
    )
    assert len(acts) == 2
    assert np.isfinite(acts.matrix(1)).all() and acts.matrix(1).shape == (2, band_model.d_model)


def test_a_live_knob_is_heard_after_the_delay_pattern_alone(band_model: Any, tmp_path: Any) -> None:
    pieces, steps = Heard(), list[int]()

    def moved(piece: Any) -> None:
        pieces(piece)
        steps.append(live.figures().steps)
        live.slide("jazz", 0.5)

    live = session(band_model, on_piece=moved)
    live.record(tmp_path / "one")
    live.start()
    until(lambda: live.figures().frames >= 30)
    live.stop()
    recording = Recording.load(tmp_path / "one")
    # The first piece of 5 frames needs 5 + 6 steps (delays, nothing ahead); it is decoded beside the next.
    begun, seconds = recording.knobs()["seconds"].tolist()
    assert begun == 0.0 and round(25 * seconds) in (steps[0], steps[0] + 1) and 25 * seconds >= 11
    whole = band_model.decode(torch.tensor(recording.codes.astype(int))).samples
    assert np.array_equal(pieces.samples, whole[: len(pieces.samples)])
