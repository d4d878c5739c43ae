"""Prompts as the states that the decoder is told: by cross-attention here, before the music in prefix.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from workbench.errors import ModelError


@dataclass(frozen=True)
class TextStates:
    """What cross-attention reads: `states` (rows, L, d_model), zero where `mask` (rows, L) is zero."""

    states: torch.Tensor
    mask: torch.Tensor

    @property
    def prefix(self) -> int:
        """Positions of the decoder that stand before the music: none, where text is cross-attended."""
        return 0

    def words(self) -> TextStates:
        """The text's own states."""
        return self

    def with_null(self) -> TextStates:
        """2B rows: these B, then B null rows, whose states and mask are zero (classifier-free guidance)."""
        return TextStates(
            torch.cat([self.states, torch.zeros_like(self.states)]),
            torch.cat([self.mask, torch.zeros_like(self.mask)]),
        )

    def arguments(self, decoder: Any, ids: torch.Tensor, past: int = 0) -> dict[str, Any]:
        """What a visit of the decoder is given.

        Args:
            decoder: The checkpoint's decoder, with its heads.
            ids: Delayed ids (rows, k, positions).
            past: Positions that earlier visits have read.
        """
        return {
            "input_ids": ids.reshape(-1, ids.shape[-1]),
            "encoder_hidden_states": self.states,
            "encoder_attention_mask": self.mask,
        }


def prompt_problem(prompt: object) -> str:
    """What is wrong with a prompt, "" if nothing: it is text, and can be written in UTF-8."""
    if not isinstance(prompt, str):
        return "a prompt is text"
    try:
        prompt.encode()
    except UnicodeEncodeError as error:  # half of a pair, as cut or badly decoded text has it
        return f"its letter {error.start + 1} is no character ({prompt[error.start]!r})"
    return ""


@torch.no_grad()
def encode_text(musicgen: Any, tokenizer: Any, prompts: Sequence[str]) -> TextStates:
    """The states of `prompts`, padded to the longest: T5's states, projected to d_model, masked.

    Raises:
        ModelError: For what is no text.
    """
    for prompt in prompts:
        if problem := prompt_problem(prompt):
            raise ModelError(f"The text {prompt!r} was to be read", problem, "Give plain text")
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
