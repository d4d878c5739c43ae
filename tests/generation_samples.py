"""What several tests of generation use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fixture_model
import numpy as np
import torch
from transformers import (
    EncodecConfig,
    EncodecModel,
    MusicgenConfig,
    MusicgenDecoderConfig,
    MusicgenMelodyConfig,
    MusicgenMelodyDecoderConfig,
    T5Config,
)
from transformers import MusicgenForConditionalGeneration as Musicgen
from transformers import MusicgenMelodyForConditionalGeneration as MusicgenMelody


def _residuals(musicgen: Any) -> list[torch.Tensor]:
    """Every block's output for fixed codes and no text, by plain hooks."""
    kept: list[torch.Tensor] = []
    blocks = musicgen.decoder.model.decoder.layers
    handles = [block.register_forward_hook(lambda _b, _a, out: kept.append(out.clone())) for block in blocks]
    ids = torch.arange(4 * 9).remainder(64).view(4, 9)
    states = torch.ones(1, 3, musicgen.decoder.config.hidden_size)
    with torch.no_grad():
        musicgen.decoder(input_ids=ids, encoder_hidden_states=states, use_cache=False)
    for handle in handles:
        handle.remove()
    return kept


WINDOWS = {"window_seconds": 0.8, "overlap_seconds": 0.4}  # 20 frames, of which 10 are heard again


class Reader:
    """A probe that reads which of two random halves of the stream is larger."""

    layer, site, target, classes = 2, "resid_post", "genre", ("jazz", "rock")

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        scores = np.stack([x[:, :16].sum(1), x[:, 16:].sum(1)], axis=1)
        exp = np.exp(scores - scores.max(1, keepdims=True))
        return exp / exp.sum(1, keepdims=True)


SHAPES = {
    "shallow": (2, 1024, 16),
    "small": (24, 1024, 16),
    "medium": (48, 1536, 24),
    "large": (48, 2048, 32),
    "melody": (48, 1536, 24),
}


PLAIN = Musicgen, MusicgenConfig, MusicgenDecoderConfig


MELODY = MusicgenMelody, MusicgenMelodyConfig, MusicgenMelodyDecoderConfig


CODEC = EncodecConfig(
    sampling_rate=32_000,
    target_bandwidths=[2.2],
    upsampling_ratios=[8, 5, 4, 4],
    codebook_size=2048,
    num_filters=64,
    hidden_size=128,
    codebook_dim=128,
    use_causal_conv=False,
    normalize=False,
    chunk_length_s=None,
)


def save_true_shape(folder: Path, size: str) -> Path:
    """A bfloat16 checkpoint of the true shape, as `save_filled` fills it."""
    layers, width, heads = SHAPES[size]
    model_of, config_of, decoder_of = MELODY if size == "melody" else PLAIN
    decoder = decoder_of(
        num_hidden_layers=layers, hidden_size=width, ffn_dim=4 * width, num_attention_heads=heads
    )
    text = T5Config(d_model=768, d_kv=64, d_ff=3072, num_layers=12, num_heads=12, vocab_size=32_128)
    return save_filled(folder, model_of, config_of(text_encoder=text, audio_encoder=CODEC, decoder=decoder))


def save_filled(folder: Path, model_of: Any, config: Any) -> Path:
    """A bfloat16 checkpoint of this configuration, filled from one block of noise (drawing all is slow)."""
    with torch.device("meta"):
        model = model_of(config)
    model = model.to(torch.bfloat16).to_empty(device="cpu").eval()
    noise = 0.02 * torch.randn(1 << 20, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            flat = tensor.view(-1)
            repeats = -(-flat.numel() // len(noise))
            flat.copy_(noise.repeat(repeats)[: flat.numel()] if repeats > 1 else noise[: flat.numel()])
            if "norm" in name and name.endswith("weight"):
                tensor.fill_(1)
    model.audio_encoder = EncodecModel(CODEC).eval()  # it computes with buffers that no file holds
    fixture_model.randomise_codebooks(model.audio_encoder, seconds=1.0)
    model.audio_encoder.to(torch.bfloat16)
    return fixture_model.save(model, folder)
