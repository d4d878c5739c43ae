"""Tiny CLAP, AudioSet and Discogs checkpoints with random weights, saved as those of the hub are."""

from __future__ import annotations

from pathlib import Path

import torch
from fixture_model import tokenizer
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    ASTForAudioClassification,
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
)

from workbench.evidence.judges_hub import AUDIOSET, GENRES

RATE_HZ = 16_000
LONGEST_S = 2  # of a window of the tiny CLAP
AST_FRAMES, MAEST_FRAMES = 100, 60
SHARP = 1.0  # weights large enough to hear differences


def save_clap(folder: Path, *, same_captions: bool = False) -> Path:
    """Save a tiny CLAP, if asked with a text tower that reads all words as one, and return its folder."""
    torch.manual_seed(0)
    words = tokenizer()
    audio = {
        "patch_embeds_hidden_size": 8, "hidden_size": 16, "depths": [1, 1], "num_hidden_layers": 2,
        "num_attention_heads": [2, 2], "spec_size": 64, "num_mel_bins": 16, "window_size": 4, "patch_size": 4,
        "patch_stride": [4, 4], "num_classes": 4, "mlp_ratio": 1.0, "enable_fusion": False,
    }  # fmt: skip
    text = {
        "vocab_size": len(words), "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 16, "max_position_embeddings": 40, "pad_token_id": 0, "initializer_range": SHARP,
    }  # fmt: skip
    network = ClapModel(ClapConfig(text_config=text, audio_config=audio, projection_dim=16))
    with torch.no_grad():
        network.logit_scale_a.fill_(1.0)
        if same_captions:
            network.text_model.embeddings.word_embeddings.weight.copy_(torch.ones(len(words), 16))
    how = {"feature_size": 16, "sampling_rate": RATE_HZ, "max_length_s": LONGEST_S, "frequency_max": 8000}
    network.save_pretrained(folder)
    ClapFeatureExtractor(truncation="rand_trunc", **how).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def save_tagger(folder: Path, labels: list[str], *, frames: int, bands: int) -> Path:
    """Save a tiny tagger of these labels with the shape of AST and return its folder."""
    torch.manual_seed(1)
    config = ASTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, max_length=frames,
        num_mel_bins=bands, patch_size=8, frequency_stride=8, time_stride=8, initializer_range=0.2,
        id2label=dict(enumerate(labels)), label2id={name: i for i, name in enumerate(labels)},
    )  # fmt: skip
    ASTForAudioClassification(config).save_pretrained(folder)
    return folder


def save_ast(folder: Path) -> Path:
    """Save a tiny tagger with AudioSet's names of genres, and others, and return its folder."""
    labels = ["Speech", *(label for some in AUDIOSET.values() for label in some), "Music"]
    save_tagger(folder, labels, frames=AST_FRAMES, bands=16)
    ASTFeatureExtractor(num_mel_bins=16, max_length=AST_FRAMES).save_pretrained(folder)
    return folder


def save_maest(folder: Path) -> Path:
    """Save a tiny tagger with Discogs' names of styles and return its folder."""
    plain = [
        f"{genre.title()}---{style}" for genre in GENRES for style in ("Old", "New") if genre != "country"
    ]
    return save_tagger(folder, [*plain, "Folk, World, & Country---Country"], frames=MAEST_FRAMES, bands=24)
