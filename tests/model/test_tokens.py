"""The delay pattern and the clock: ours against transformers' own, and there and back."""

from __future__ import annotations

import pytest
import torch
from fixture_model import CODEBOOK_SIZE, build, decoder_config

from workbench.model.sampling import (
    apply_delay,
    delay_pattern,
    frames_for,
    seconds_at,
    write_step,
)

BOS = CODEBOOK_SIZE


def codes_of(rows: int, codebooks: int, frames: int) -> torch.Tensor:
    return torch.randint(
        0, CODEBOOK_SIZE, (rows, codebooks, frames), generator=torch.Generator().manual_seed(5)
    )


def test_mono_pattern_has_the_documented_shape_and_places() -> None:
    codes = codes_of(2, 4, 6)
    ids = apply_delay(codes, BOS)
    assert ids.shape == (2, 4, 10)
    for codebook in range(4):
        for frame in range(6):
            assert torch.equal(ids[:, codebook, 1 + codebook + frame], codes[:, codebook, frame])
    assert int((ids == BOS).sum()) == 2 * 4 * 4


@pytest.mark.parametrize(("codebooks", "channels"), [(4, 1), (8, 2), (1, 1)])
@pytest.mark.parametrize("frames", [1, 2, 17])
def test_each_codebook_lies_whole_behind_its_delay(codebooks: int, channels: int, frames: int) -> None:
    codes, delays = codes_of(3, codebooks, frames), delay_pattern(codebooks, channels)
    ids = apply_delay(codes, BOS, delays)
    back = [ids[:, index, 1 + delay : 1 + delay + frames] for index, delay in enumerate(delays)]
    assert torch.equal(torch.stack(back, dim=1), codes)


@pytest.mark.parametrize(("codebooks", "channels"), [(4, 1), (8, 2)])
def test_pattern_equals_the_model_s_own(codebooks: int, channels: int) -> None:
    decoder = build(decoder=decoder_config(num_codebooks=codebooks, audio_channels=channels)).decoder
    codes, delays = codes_of(1, codebooks, 12), delay_pattern(codebooks, channels)
    ours = apply_delay(codes, BOS, delays)
    with_bos = torch.cat([torch.full_like(codes[..., :1], BOS), codes], dim=-1)[0]
    first, second = decoder.build_delay_pattern_mask(with_bos, pad_token_id=BOS, max_length=ours.shape[-1])
    assert torch.equal(ours[0], second)
    assert first.shape[-1] < second.shape[-1], "the first return value cuts the tails: it must not be used"


def test_writing_step_by_step_gives_the_pattern() -> None:
    codes, delays = codes_of(2, 4, 5), delay_pattern(4)
    ids, written = apply_delay(codes, BOS), torch.full_like(codes, BOS)
    for step in range(ids.shape[-1] - 1):
        drawn = ids[..., step + 1].clone()
        drawn[drawn == BOS] = 7  # what is drawn where the pattern has no room must be dropped
        assert torch.equal(write_step(drawn, written, step, delays, BOS), ids[..., step + 1])
    assert torch.equal(written, codes)


def test_ten_seconds_of_musicgen_are_503_steps() -> None:
    assert frames_for(10, 50.0) + max(delay_pattern(4)) == 503
    assert seconds_at(25, 25.0) == 1.0
    assert frames_for(1e-9, 50.0) == 1
