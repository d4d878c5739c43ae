"""Builds the untrained built-in MusicGen: a small T5 encoder, a small decoder, the band as codec.

Token embeddings and output heads start from what the tokens mean: a token's vector is the sum of random
vectors of its attributes (instrument, pitch, pitch class, chord root, hits ...) and half as much noise of
its own, so that similar music starts as similar tokens. The conductor's tokens start as sines of beat and
bar.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
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

from recipe.prompts import vocabulary
from workbench.model import band
from workbench.model.band_codec import BandCodec

SAMPLING = {"guidance_scale": 2.0, "temperature": 0.9, "top_k": 60}
"""What the model is drawn with unless told otherwise."""

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
    codec: BandCodec,
    *,
    hidden: int = 256,
    layers: int = 6,
    heads: int = 8,
    feed_forward: int = 1024,
    seed: int = 0,
    conductor_sines: bool = True,
) -> MusicgenForConditionalGeneration:
    """Return the untrained model around a codec.

    Args:
        codec: the band; it is frozen.
        hidden: width of the decoder's residual stream.
        layers: decoder blocks.
        heads: attention heads.
        feed_forward: width of the decoder's MLPs.
        seed: of every initial weight.
        conductor_sines: whether the conductor's tokens start as sines; random otherwise.
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
    _start_from_attributes(model, conductor_sines=conductor_sines)
    with torch.no_grad():
        model.enc_to_dec_proj.weight.mul_(TEXT_GAIN)
        for name, weight in model.text_encoder.named_parameters():
            if name.endswith((".o.weight", ".wo.weight")):
                weight.mul_(CONTEXT_GAIN)
    ends = {"decoder_start_token_id": size, "pad_token_id": size, "bos_token_id": size}
    model.generation_config.update(do_sample=True, max_length=256, **SAMPLING, **ends)
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
def _start_from_attributes(model: MusicgenForConditionalGeneration, *, conductor_sines: bool) -> None:
    inner = model.decoder.model.decoder
    width = model.config.decoder.hidden_size
    drawn: dict[str, Tensor] = {}
    for book, part in enumerate(band.PARTS):
        rows = []
        for token in range(band.VOCABULARY):
            vector = 0.5 * torch.randn(width)
            for attribute in token_attributes(part, token):
                vector += drawn.setdefault(attribute, torch.randn(width))
            if part == "conductor" and conductor_sines:
                vector += 1.5 * _beat_sines(token, width)
            rows.append(vector / vector.pow(2).mean().sqrt())
        unit = torch.stack(rows)
        inner.embed_tokens[book].weight[: len(unit)] = 0.35 * unit
        model.decoder.lm_heads[book].weight[: len(unit)] = unit / width**0.5


def token_attributes(part: str, token: int) -> list[str]:
    """Return what a token of a part means, as names: equal names mean equal things in all parts."""
    if token in (band.REST, band.HOLD):
        return [f"{part} {token}"]
    if part == "conductor":
        beat = band.beat_of(token)
        return [] if beat is None else [f"tempo {beat[0]}"]
    if part == "drums":
        kit, hits = band.drum_hits(token)
        return [f"kit {kit}", *[f"hit {pitch} {velocity > 80}" for pitch, velocity in hits]] if hits else []
    if part == "harmony":
        chord = band.chord_of(token)
        return [] if chord is None else [f"root {chord[0]}", f"quality {chord[1]}", f"pad {chord[2]}"]
    if part in ("bass", "lead"):
        table = band.BASSES if part == "bass" else band.LEADS
        index, offset = divmod(token - band.FIRST, band.PITCHES)
        if index >= len(table):
            return []
        pitch = table[index].low + offset
        return [f"instrument {table[index].name}", f"{part} pitch {pitch}", f"root {pitch % 12}"]
    index, action = divmod(token - band.FIRST, len(band.STRUMS) + band.TONES)
    if index >= len(band.ACCOMPANIMENTS):
        return []
    kind = "strum" if action < len(band.STRUMS) else "tone"
    return [f"instrument {band.ACCOMPANIMENTS[index].name}", f"action {action}", kind]


def _beat_sines(token: int, width: int) -> Tensor:
    """Return sines and cosines of the places in beat and bar of a conductor token, tiled to a width."""
    beat = band.beat_of(token)
    if beat is None:
        return torch.zeros(width)
    tempo, frame = beat
    length = band.BEAT_FRAMES[tempo]
    phases = [2 * torch.pi * harmonic * frame / length for harmonic in (0.25, 0.5, 1, 2, 3, 4)]
    waves = torch.tensor(
        [wave for phase in phases for wave in (np.sin(phase), np.cos(phase))], dtype=torch.float32
    )
    generator = torch.Generator().manual_seed(7)
    return waves @ torch.randn(len(waves), width, generator=generator) / len(waves) ** 0.5 * 2**0.5


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
    """Write model (bfloat16) and tokenizer as ``from_pretrained`` reads them; return the folder."""
    model.audio_encoder.config._name_or_path = ""  # it names the folder of whoever built the codec
    model.to(torch.bfloat16).save_pretrained(folder, max_shard_size="15MB")
    tokenizer.save_pretrained(folder)
    return folder
