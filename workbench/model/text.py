"""Prompts as the states that the decoder's cross-attention reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class TextStates:
    """What cross-attention reads: `states` (rows, L, d_model), zero where `mask` (rows, L) is zero."""

    states: torch.Tensor
    mask: torch.Tensor

    def with_null(self) -> TextStates:
        """2B rows: these B, then B null rows, whose states and mask are zero (classifier-free guidance)."""
        return TextStates(
            torch.cat([self.states, torch.zeros_like(self.states)]),
            torch.cat([self.mask, torch.zeros_like(self.mask)]),
        )


@torch.no_grad()
def encode_text(musicgen: Any, tokenizer: Any, prompts: Sequence[str]) -> TextStates:
    """The states of `prompts`, padded to the longest: T5's states, projected to d_model, masked."""
    batch = tokenizer(list(prompts), padding=True, return_tensors="pt")
    device = musicgen.decoder.device
    ids, mask = batch["input_ids"].to(device), batch["attention_mask"].to(device)
    states = musicgen.text_encoder(input_ids=ids, attention_mask=mask).last_hidden_state
    if hasattr(musicgen, "enc_to_dec_proj"):
        states = musicgen.enc_to_dec_proj(states)
    return TextStates(states * mask[..., None], mask)


def null_text(musicgen: Any, rows: int) -> TextStates:
    """The null condition of guidance for `rows` rows: one masked state of zeros each."""
    decoder = musicgen.decoder
    states = torch.zeros((rows, 1, decoder.config.hidden_size), device=decoder.device, dtype=decoder.dtype)
    return TextStates(states, torch.zeros((rows, 1), device=decoder.device, dtype=torch.long))
