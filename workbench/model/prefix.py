"""Melody and text as positions before the music: how MusicGen's melody checkpoints are told what to play.

Their decoder has no cross-attention. A fixed number of chroma frames and the states of the text stand before
BOS, and the first visit of the decoder reads them together with it. All of this stays in this room: steps,
frames, cells and edits count the music's positions only.

Rows with shorter texts begin with padding that nobody attends to. The decoder would number their positions
from the padding on, and its position embeddings are absolute: so what goes in carries the difference to the
row's own numbers, and a row is what it would be alone (to rounding; exactly, where texts are equally long).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch

from workbench.errors import ModelError
from workbench.model.melody import Melody
from workbench.model.text import TextStates

TEXT_ROOM = 256
"""Positions that are kept free for a text: of 2048 there remain 31 s of music behind it and 235 of chroma."""


@dataclass(frozen=True)
class Prefix(TextStates):
    """`states` (rows, n, d_model): `chroma` frames of melody, then text; padding in front, `mask` zero there.

    `null` (d_model,) is a frame of the null melody.
    """

    chroma: int
    null: torch.Tensor

    @property
    def prefix(self) -> int:
        """Positions before the music, padding included."""
        return int(self.states.shape[1])

    @cached_property
    def padding(self) -> torch.Tensor | None:
        """How much padding each row (rows,) begins with; None where no row does."""
        padding = (self.mask == 0).sum(1)
        return padding if bool(padding.any()) else None

    def words(self) -> TextStates:
        """The text's own states, zero at the melody."""
        said = ((self.mask > 0) & (self.mask.cumsum(1) > self.chroma)).long()
        return TextStates(self.states * said[..., None], said)

    def with_null(self) -> Prefix:
        """2B rows: these B, then B null rows with the null melody and a text of zeros.

        As in transformers, such a null text is not masked: it is as long as the row's own.
        """
        melody = (self.mask > 0) & (self.mask.cumsum(1) <= self.chroma)
        nothing = torch.where(melody[..., None], self.null, torch.zeros_like(self.states))
        return replace(self, states=torch.cat([self.states, nothing]), mask=torch.cat([self.mask, self.mask]))

    def arguments(self, decoder: Any, ids: torch.Tensor, past: int = 0) -> dict[str, Any]:
        """What a visit of the decoder is given: the prefix at the first one only; arguments as above."""
        if self.padding is None:
            plain = {"input_ids": ids.reshape(-1, ids.shape[-1])}
            return plain if past else {**plain, "encoder_hidden_states": self.states}
        inner, end = decoder.model.decoder, (past or self.prefix) + ids.shape[-1]
        moved = _moved(inner, self.padding, past, end).to(self.states.dtype)
        embedded = sum(embed(ids[:, book]) for book, embed in enumerate(inner.embed_tokens))
        given = {"inputs_embeds": embedded + moved[:, -ids.shape[-1] :]}
        if past:
            music = self.mask.new_ones((len(self.mask), end - self.prefix))
            return {**given, "attention_mask": torch.cat([self.mask, music], dim=1)}
        states = self.states + moved[:, : self.prefix]
        return {**given, "encoder_hidden_states": states, "encoder_attention_mask": self.mask}


def _moved(inner: Any, padding: torch.Tensor, begin: int, end: int) -> torch.Tensor:
    """What turns the embeddings of positions (rows, end - begin, d_model) into those without the padding."""
    inner.embed_positions(
        padding.new_empty((1, 1, 0)), end - 1
    )  # makes the table longer where it is too short
    table, numbers = inner.embed_positions.weights, torch.arange(begin, end, device=padding.device)
    return table[(numbers - padding[:, None]).clamp(min=0)] - table[numbers]


@torch.no_grad()
def prefix_of(musicgen: Any, text: TextStates, melodies: Sequence[Melody | None] | None = None) -> Prefix:
    """The prefix of as many rows as `text` has; None is the null melody.

    Raises:
        ModelError: When a text is longer than the room for it.
    """
    longest = int(text.mask.sum(1).max())
    if longest > TEXT_ROOM:
        raise ModelError(
            f"A prompt of {longest} tokens was asked for",
            f"this model reads its text before the music and has room for {TEXT_ROOM}",
            "Use a shorter prompt",
        )
    frames, classes = int(musicgen.config.chroma_length), int(musicgen.config.num_chroma)
    told = [None] * len(text.mask) if melodies is None else melodies
    pitches = [[0] * frames if melody is None else melody.frames(frames) for melody in told]
    chroma = _projected(musicgen, torch.tensor(pitches, device=text.mask.device), classes)
    texts = zip(chroma, text.states, text.mask, strict=True)
    rows = [torch.cat([melody, words[held > 0]]) for melody, words, held in texts]
    states = chroma.new_zeros((len(rows), max(map(len, rows)), chroma.shape[-1]))
    mask = text.mask.new_zeros(states.shape[:2])
    for row, own in enumerate(rows):
        states[row, -len(own) :] = own
        mask[row, -len(own) :] = 1
    null = _projected(musicgen, torch.zeros(1, dtype=torch.long, device=mask.device), classes)[0]
    return Prefix(states, mask, frames, null)


def _projected(musicgen: Any, pitches: torch.Tensor, classes: int) -> torch.Tensor:
    """States (..., d_model) of pitch classes (...)."""
    chroma = torch.nn.functional.one_hot(pitches, classes).to(musicgen.decoder.dtype)
    return musicgen.audio_enc_to_dec_proj(chroma) if hasattr(musicgen, "audio_enc_to_dec_proj") else chroma
