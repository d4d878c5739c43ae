"""Builds the untrained built-in MusicGen: a small T5 encoder, a small decoder, the analytic codec.

Token embeddings and output heads start from the codebooks' geometry (a random rotation of the centred code
vectors): similar sounds start as similar tokens. From a blind start, training stays at the unigram loss.
"""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor
from transformers import (
    MusicgenConfig,
    MusicgenDecoderConfig,
    MusicgenForConditionalGeneration,
    PreTrainedTokenizerFast,
    T5Config,
)

from workbench.embedded.prompts import vocabulary
from workbench.model.codec import WorkbenchCodec

TEXT_GAIN = 5.0
"""Gain on the text projection, which makes words about as large as what the cross-attention starts with."""

CONTEXT_GAIN = 0.2
"""Gain on what the text encoder's blocks write: a word's vector keeps a cosine of 0.98 in any sentence (0.7
at gain 1). With it and a faster cross-attention the text was heard twice as well (BENCHMARKS.md)."""


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Return a word-level, lower-case tokenizer; unknown words become one ``<unk>`` token and do no harm."""
    words = {token: i for i, token in enumerate(["<pad>", "</s>", "<unk>", *vocabulary()])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


def build_model(
    codec: WorkbenchCodec,
    *,
    hidden: int = 256,
    layers: int = 6,
    heads: int = 8,
    feed_forward: int = 1024,
    seed: int = 0,
) -> MusicgenForConditionalGeneration:
    """Return the untrained model around a codec.

    Args:
        codec: with fitted codebooks; it is frozen.
        hidden: width of the decoder's residual stream.
        layers: decoder blocks.
        heads: attention heads.
        feed_forward: width of the decoder's MLPs.
        seed: of every initial weight.
    """
    torch.manual_seed(seed)
    size = codec.config.codebook_size
    decoder = MusicgenDecoderConfig(
        vocab_size=size,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        ffn_dim=feed_forward,
        num_codebooks=codec.config.num_quantizers,
        max_position_embeddings=1024,
        pad_token_id=size,
        bos_token_id=size,
        **_NO_DROPOUT,
    )
    # Made from one configuration: a decoder that is built apart gets no attention implementation and with it
    # no causal mask, so that in training it would read its own targets.
    parts = {"text_encoder": _text_config(), "audio_encoder": codec.config, "decoder": decoder}
    model = MusicgenForConditionalGeneration(MusicgenConfig(**{k: v.to_dict() for k, v in parts.items()}))
    model.audio_encoder.load_state_dict(codec.state_dict())
    _start_from_codebooks(model, codec)
    with torch.no_grad():
        model.enc_to_dec_proj.weight.mul_(TEXT_GAIN)
        for name, weight in model.text_encoder.named_parameters():
            if name.endswith((".o.weight", ".wo.weight")):
                weight.mul_(CONTEXT_GAIN)
    ends = {"decoder_start_token_id": size, "pad_token_id": size, "bos_token_id": size}
    model.generation_config.update(do_sample=True, guidance_scale=3.0, top_k=60, max_length=256, **ends)
    model.freeze_audio_encoder()
    # While the text is still noise to the decoder, the quickest gain is to silence it: a trained text encoder
    # gives every word the same vector within a few hundred steps and never recovers. So it stays as it was
    # drawn, a fixed random feature of each word, a little coloured by its context, and the cross-attention
    # learns to read it.
    model.text_encoder.requires_grad_(False)
    model.enc_to_dec_proj.requires_grad_(False)
    return model


_NO_DROPOUT = {"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0, "layerdrop": 0.0}


def _text_config() -> T5Config:
    return T5Config(
        vocab_size=len(vocabulary()) + 3,
        d_model=128,
        d_kv=32,
        d_ff=256,
        num_layers=2,
        num_heads=4,
        dropout_rate=0.0,
        feed_forward_proj="gated-gelu",
        pad_token_id=0,
        eos_token_id=1,
    )


@torch.no_grad()
def _start_from_codebooks(model: MusicgenForConditionalGeneration, codec: WorkbenchCodec) -> None:
    inner = model.decoder.model.decoder
    width = model.config.decoder.hidden_size
    for k, layer in enumerate(codec.quantizer.layers):
        vectors = layer.codebook.embed - layer.codebook.embed.mean(dim=0)
        rotated = vectors @ torch.linalg.qr(torch.randn(width, vectors.shape[1]))[0].T
        unit = rotated / rotated.pow(2).mean().sqrt()
        inner.embed_tokens[k].weight[: len(unit)] = 0.35 * unit
        model.decoder.lm_heads[k].weight[: len(unit)] = unit / width**0.5


def delayed(codes: Tensor, pad: int) -> tuple[Tensor, Tensor]:
    """Return decoder inputs (B, K, T + K - 1) and targets of the same shape, -100 where there is none.

    Position p writes codebook k of frame p - k; the input at p is what was written at p - 1, first the BOS.

    Args:
        codes: (B, K, T).
        pad: the BOS and padding token.
    """
    batch, books, frames = codes.shape
    written = torch.full((batch, books, frames + books - 1), -100, dtype=torch.long)
    for k in range(books):
        written[:, k, k : k + frames] = codes[:, k]
    inputs = torch.nn.functional.pad(written[:, :, :-1], (1, 0), value=-100)
    return inputs.masked_fill(inputs == -100, pad), written


def save_model(
    model: MusicgenForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, folder: Path
) -> Path:
    """Write model (half precision) and tokenizer as ``from_pretrained`` reads them; return the folder."""
    model.audio_encoder.config._name_or_path = ""  # it names the folder of whoever built the codec
    model.half().save_pretrained(folder, max_shard_size="15MB")
    tokenizer.save_pretrained(folder)
    return folder
