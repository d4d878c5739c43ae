"""A tiny MusicGen of the true architecture with random weights, saved the way real checkpoints are saved.

Two decisions matter for every test that uses it: the codec's codebooks are *randomised* (a fresh EncodecModel
has all-zero codebooks, so every code would decode to the same sound and audio tests would pass vacuously);
and the codec runs at 25 frames/s and 16 kHz, so that code which assumes 50 frames/s and 32 kHz breaks here.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    EncodecConfig,
    EncodecModel,
    GenerationConfig,
    MusicgenConfig,
    MusicgenDecoderConfig,
    MusicgenForConditionalGeneration,
    MusicgenMelodyConfig,
    MusicgenMelodyDecoderConfig,
    MusicgenMelodyForConditionalGeneration,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    T5Config,
)

WORDS = (  # noqa: SIM905 (a sentence is easier to read than a list of words)
    "a the tune calm happy sad energetic piece of music song with and for in "
    "jazz rock classical electronic country reggae piano guitar drums slow fast track neutral"
).split()

D_MODEL, N_LAYERS, N_CODEBOOKS, CODEBOOK_SIZE = 32, 4, 4, 64
RATE_HZ, FRAME_RATE_HZ = 16_000, 25


def tokenizer() -> PreTrainedTokenizerFast:
    """A word-level tokenizer whose prompts end in </s>, as T5's do."""
    specials = ["<pad>", "</s>", "<unk>"]
    vocabulary = {word: index for index, word in enumerate([*specials, *WORDS])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


@torch.no_grad()
def randomise_codebooks(codec: EncodecModel, seed: int = 0, seconds: float = 4.0) -> None:
    """Fill the codec's all-zero codebooks: different codes sound different, different sounds get other codes.

    Entries are drawn from what the encoder makes of noise and tones, later codebooks from what is left.
    """
    generator = torch.Generator().manual_seed(seed)
    rate_hz = codec.config.sampling_rate
    time_s = torch.arange(int(seconds * rate_hz)) / rate_hz
    sound = torch.randn(time_s.shape, generator=generator) * (0.5 + 0.5 * torch.sin(3 * time_s))
    sound = 0.1 * sound + 0.3 * torch.sin(200 * time_s * (1 + time_s))
    left = codec.encoder(sound[None, None])[0].T  # (frames, hidden)
    for layer in codec.quantizer.layers:
        book = layer.codebook.embed
        chosen = torch.randint(len(left), (len(book),), generator=generator)
        book.copy_(left[chosen] + 0.1 * left.std() * torch.randn(book.shape, generator=generator))
        left = left - book[torch.cdist(left, book).argmin(1)]


def codec_config(**changes: object) -> EncodecConfig:
    """A 25 frames/s codec with 4 codebooks of 64 entries (6 bits each, 0.6 kbit/s)."""
    settings: dict[str, object] = {
        "sampling_rate": RATE_HZ,
        "target_bandwidths": [N_CODEBOOKS * 6 * FRAME_RATE_HZ / 1000],
        "upsampling_ratios": [8, 5, 4, 4],
        "codebook_size": CODEBOOK_SIZE,
        "num_filters": 4,
        "hidden_size": 16,
        "codebook_dim": 16,
        "num_lstm_layers": 1,
        "num_residual_layers": 1,
        "audio_channels": 1,
        "normalize": False,
        "chunk_length_s": None,
    }
    return EncodecConfig(**{**settings, **changes})


def text_config(**changes: object) -> T5Config:
    """A one-layer T5 encoder, narrower than the decoder so that the text projection exists."""
    settings: dict[str, object] = {
        "vocab_size": 3 + len(WORDS),
        "d_model": 16,
        "d_kv": 8,
        "d_ff": 32,
        "num_layers": 1,
        "num_heads": 2,
    }
    return T5Config(**{**settings, **changes})


def decoder_config(**changes: object) -> MusicgenDecoderConfig:
    """A four-block decoder; pad and BOS lie one past the codebook, as in every MusicGen."""
    settings: dict[str, object] = {
        "vocab_size": CODEBOOK_SIZE,
        "max_position_embeddings": 512,
        "num_hidden_layers": N_LAYERS,
        "ffn_dim": 64,
        "num_attention_heads": 4,
        "hidden_size": D_MODEL,
        "num_codebooks": N_CODEBOOKS,
        "pad_token_id": CODEBOOK_SIZE,
        "bos_token_id": CODEBOOK_SIZE,
        "initializer_factor": 0.3,
    }
    return MusicgenDecoderConfig(**{**settings, **changes})


def build(
    seed: int = 0,
    *,
    decoder: MusicgenDecoderConfig | None = None,
    text: T5Config | None = None,
    codec: PreTrainedConfig | None = None,
) -> MusicgenForConditionalGeneration:
    """A random-weight model in evaluation mode with random codebooks; the global generator is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = MusicgenConfig(
            text_encoder=text or text_config(), audio_encoder=codec or codec_config(),
            decoder=decoder or decoder_config(),
        )  # fmt: skip
        model = MusicgenForConditionalGeneration(config).eval()
    return _ready(model, seed)


def build_melody(
    seed: int = 0, *, codec: EncodecConfig | None = None, **decoder: object
) -> MusicgenMelodyForConditionalGeneration:
    """The same for the melody kind: 12 frames of chroma and the text stand before the music.

    The published ones have 235 frames; 12 are enough to be seen, and no multiple of what melodies here last.
    """
    settings = decoder_config(**decoder).to_dict()
    for name in ("model_type", "transformers_version"):
        settings.pop(name, None)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = MusicgenMelodyConfig(
            text_encoder=text_config(), audio_encoder=codec or codec_config(),
            decoder=MusicgenMelodyDecoderConfig(**settings), chroma_length=12,
        )  # fmt: skip
        model = MusicgenMelodyForConditionalGeneration(config).eval()
        for projection in (model.audio_enc_to_dec_proj, model.enc_to_dec_proj):
            torch.nn.init.normal_(projection.weight, std=0.5)
    return _ready(model, seed)


def _ready(model: Any, seed: int) -> Any:
    """The model with random codebooks, and with the settings that checkpoints carry."""
    if isinstance(model.audio_encoder, EncodecModel):
        randomise_codebooks(model.audio_encoder, seed)
    bos = model.config.decoder.bos_token_id
    model.generation_config = GenerationConfig(
        do_sample=True, guidance_scale=3.0, max_length=256, top_k=50,
        pad_token_id=bos, bos_token_id=bos, decoder_start_token_id=bos,
    )  # fmt: skip
    return model


def save(model: Any, folder: Path) -> Path:
    """Write weights, configuration and tokenizer to `folder`, as a real checkpoint has them."""
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def save_tiny(folder: Path, seed: int = 0) -> Path:
    """The tiny model in `folder`; the name of the folder becomes part of the model's id."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    return save(build(seed), folder)
