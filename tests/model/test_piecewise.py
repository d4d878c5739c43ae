"""Sound decoded piece by piece is the sound of the whole, however long the decoder remembers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import EncodecConfig, EncodecModel

from workbench.model.codec import PieceDecoder, decode_codes

FRAMES = 60


def codec(*, causal: bool, lstm_layers: int = 1, pad_mode: str = "reflect") -> EncodecModel:
    config = EncodecConfig(
        sampling_rate=16_000, upsampling_ratios=[8, 5, 4, 4], num_filters=4, hidden_size=16, codebook_dim=16,
        codebook_size=32, target_bandwidths=[0.5], use_causal_conv=causal, num_lstm_layers=lstm_layers,
        num_residual_layers=1, normalize=False, pad_mode=pad_mode,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = EncodecModel(config).eval()
        for book in made.quantizer.layers:
            book.codebook.embed.normal_()
        for name, weight in made.decoder.named_parameters():
            if "lstm.weight" in name:
                weight.data *= 4  # what is remembered is heard
            if "lstm.bias_hh" in name:
                weight.data[len(weight) // 4 : len(weight) // 2] += 3.0  # open forget gates: a long memory
    return made


def codes(rows: int) -> torch.Tensor:
    return torch.randint(0, 32, (rows, FRAMES), generator=torch.Generator().manual_seed(1))


def in_pieces(decoder: PieceDecoder, told: torch.Tensor, piece: int) -> np.ndarray:
    ends = [min(first + piece, FRAMES) for first in range(0, FRAMES, piece)]
    known = [min(end + decoder.ahead, FRAMES) for end in ends]
    parts = [decoder.decode(told[:, :n], end).samples for n, end in zip(known, ends, strict=True)]
    return np.concatenate(parts)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("lstm_layers", [1, 2])
@pytest.mark.parametrize("piece", [1, 7, 25, FRAMES])
@pytest.mark.parametrize("pad_mode", ["reflect", "constant"])
def test_the_pieces_are_the_whole(causal: bool, lstm_layers: int, piece: int, pad_mode: str) -> None:
    made = codec(causal=causal, lstm_layers=lstm_layers, pad_mode=pad_mode)
    told = codes(made.quantizer.num_quantizers)[: len(made.quantizer.layers)]
    with torch.no_grad():
        whole = made.decode(told[None, None], [None]).audio_values[0, 0].numpy()
    pieces = in_pieces(PieceDecoder(made), told, piece)
    assert np.abs(pieces - whole).max() < 1e-4 * np.abs(whole).max()


def test_a_decoder_that_forgets_is_another_sound() -> None:
    made = codec(causal=True, pad_mode="constant")
    told = codes(len(made.quantizer.layers))
    decoder = PieceDecoder(made)
    assert decoder.ahead == 0  # nothing to wait for
    good = in_pieces(decoder, told, 10)
    decoder = PieceDecoder(made)
    parts = []
    for end in range(10, FRAMES + 1, 10):
        parts.append(decoder.decode(told[:, :end], end).samples)
        decoder._states[0] = None
    assert np.abs(np.concatenate(parts) - good).max() > 1e-3 * np.abs(good).max()  # ten times what is allowed


def test_stereo_sides_are_decoded_apart(tiny_model: Any) -> None:
    made = codec(causal=False)
    told = codes(2 * len(made.quantizer.layers))
    apart = [in_pieces(PieceDecoder(made), told[side::2], 15) for side in (0, 1)]
    decoder = PieceDecoder(made, channels=2)
    pieces = [decoder.decode(told, end) for end in range(15, FRAMES + 15, 15)]
    assert np.array_equal(np.concatenate([piece.heard for piece in pieces], axis=1), apart)
    mono = tiny_model.piece_decoder()
    own = torch.randint(0, 64, (4, 30), generator=torch.Generator().manual_seed(2))
    (whole,) = decode_codes(tiny_model.musicgen, [own])
    assert np.abs(mono.decode(own, 30).samples - whole.samples).max() < 1e-5
