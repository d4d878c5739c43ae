"""The published checkpoints' configurations, as far as they are facts: shapes, not weights.

Written by hand from the published model cards and configuration files. What is not named here is what
transformers takes where a configuration says nothing, which is so for the published ones, too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from generation_samples import CODEC, MELODY, PLAIN, save_filled
from transformers import T5Config

# size -> layers, width, heads, width of the feed-forward part
SIZES = {
    "small": (24, 1024, 16, 4096),
    "medium": (48, 1536, 24, 6144),
    "large": (48, 2048, 32, 8192),
    "melody": (48, 1536, 24, 6144),
    "melody-large": (48, 2048, 32, 8192),
}
GOLDEN = {f"facebook/musicgen-{side}{size}": (size, side != "") for side in ("", "stereo-") for size in SIZES}
DECODER = {
    "vocab_size": 2048, "max_position_embeddings": 2048, "activation_function": "gelu",
    "scale_embedding": False, "pad_token_id": 2048, "bos_token_id": 2048, "tie_word_embeddings": False,
}  # fmt: skip
TEXT = {
    "vocab_size": 32_128, "d_model": 768, "d_kv": 64, "d_ff": 3072, "num_layers": 12, "num_heads": 12,
    "feed_forward_proj": "relu",
}  # fmt: skip
MOST_WIDE_LAYERS = 8  # of the large ones, in checks that run them


def configuration(name: str, *, layers: int | None = None) -> tuple[type, Any]:
    """Return the class of a published checkpoint and its configuration, perhaps cut to so many layers."""
    size, stereo = GOLDEN[name]
    depth, width, heads, wide = SIZES[size]
    melody = "melody" in size
    model_of, config_of, decoder_of = MELODY if melody else PLAIN
    decoder = decoder_of(
        num_hidden_layers=layers or depth, hidden_size=width, num_attention_heads=heads, ffn_dim=wide,
        num_codebooks=8 if stereo else 4, audio_channels=2 if stereo else 1, **DECODER,
    )  # fmt: skip
    more = {"num_chroma": 12, "chroma_length": 235} if melody else {}
    return model_of, config_of(text_encoder=T5Config(**TEXT), audio_encoder=CODEC, decoder=decoder, **more)


def save_golden(folder: Path, name: str, *, layers: int | None = None) -> Path:
    """Write a bfloat16 checkpoint of this shape with random weights."""
    return save_filled(folder, *configuration(name, layers=layers))
