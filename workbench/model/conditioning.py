"""Text and melody as states that the decoder reads: by cross-attention, or as positions before the music.

The decoder of MusicGen's melody checkpoints has no cross-attention: a fixed number of chroma frames and the
states of the text come before BOS, and the first visit of the decoder reads them together with it. Steps,
frames and edits count the music's positions.

Rows with shorter texts begin with padding that nobody attends to. The decoder would number their positions
from the padding on, and its position embeddings are absolute: so what goes in carries the difference to the
row's own numbers, and a row is what it would be alone (to rounding; exactly, where texts are equally long).

A melody is the pitch class that is strongest in each eighth of a second, as in transformers' feature
extractor (which needs torchaudio). Meta's own demo first removes drums and bass (Demucs), which is not done
here: a solo line or a separated stem is followed better than a full mix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from typing import Any

import numpy as np
import torch
from transformers.audio_utils import chroma_filter_bank

from workbench.errors import ModelError, is_whole
from workbench.sound.clip import Clip

NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
RATE_HZ, WINDOW, HOP = 32_000, 16_384, 4_096
FRAMES_PER_SECOND = RATE_HZ / HOP
TEXT_ROOM = 256  # positions kept free for a text: of 2048 there remain 31 s of music, behind 235 of chroma
_BLOCK = 64  # frames that are transformed at once


@dataclass(frozen=True)
class TextStates:
    """What cross-attention reads: `states` (rows, L, d_model), zero where `mask` (rows, L) is zero."""

    states: torch.Tensor
    mask: torch.Tensor

    @property
    def prefix(self) -> int:
        """Positions of the decoder before the music: none, where text is cross-attended."""
        return 0

    def words(self) -> TextStates:
        """Return the text's own states."""
        return self

    def with_null(self) -> TextStates:
        """Return 2B rows: these, then B null rows of zero states and mask (classifier-free guidance)."""
        pairs = [torch.cat([part, torch.zeros_like(part)]) for part in (self.states, self.mask)]
        return TextStates(*pairs)

    def arguments(self, decoder: Any, ids: torch.Tensor, past: int = 0) -> dict[str, Any]:
        """Return how the decoder is called for delayed ids (rows, k, positions) after `past` positions."""
        return {
            "input_ids": ids.reshape(-1, ids.shape[-1]),
            "encoder_hidden_states": self.states,
            "encoder_attention_mask": self.mask,
        }


def prompt_problem(prompt: object) -> str:
    """Return what is wrong with a prompt, "" if nothing: it is text, and can be written in UTF-8."""
    if not isinstance(prompt, str):
        return "a prompt is text"
    try:
        prompt.encode()
    except UnicodeEncodeError as error:  # half of a pair, as cut or badly decoded text has it
        return f"its letter {error.start + 1} is no character ({prompt[error.start]!r})"
    return ""


@torch.no_grad()
def encode_text(musicgen: Any, tokenizer: Any, prompts: Sequence[str]) -> TextStates:
    """Return the states of `prompts`, padded to the longest: T5's states, projected to d_model, masked."""
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


@dataclass(frozen=True)
class Melody:
    """A tune as the pitch class of each frame, 0 = C to 11 = B, 7.8125 frames a second.

    A short one begins again, as in the model's training. Something else than pitch classes is a ModelError.

    >>> print(Melody((0, 0, 4, 7)), Melody((0, 4, 7)).frames(5))
    C*2 E G (0, 4, 7, 0, 4)
    """

    pitches: tuple[int, ...]

    def __post_init__(self) -> None:
        pitches = tuple(self.pitches)
        if not pitches or not all(is_whole(pitch, 0, len(NAMES) - 1) for pitch in pitches):
            asked = f"A melody of the pitch classes {sorted(set(map(str, pitches)))} was asked for"
            do = "Give such numbers, 7.8125 a second, or Melody.of(clip)"
            raise ModelError(asked, "it is one or more of 0 (C) to 11 (B)", do)
        object.__setattr__(self, "pitches", tuple(map(int, pitches)))

    @classmethod
    def of(cls, clip: Clip) -> Melody:
        """Return the melody of a clip; silence counts as C, as no melody does for the model."""
        return cls(tuple(pitch_classes(clip).tolist()))

    @property
    def seconds(self) -> float:
        """How long it lasts before it begins again."""
        return len(self.pitches) / FRAMES_PER_SECOND

    def later(self, seconds: float) -> Melody:
        """Return the melody as it goes on `seconds` after its beginning, to the nearest frame (0.128 s)."""
        shift = round(seconds * FRAMES_PER_SECOND) % len(self.pitches)
        return Melody(self.pitches[shift:] + self.pitches[:shift])

    def frames(self, count: int) -> tuple[int, ...]:
        """Return the first `count` pitch classes, from the beginning again where it is shorter."""
        return (self.pitches * -(-count // len(self.pitches)))[:count]

    def __str__(self) -> str:
        runs = [(NAMES[pitch], len(list(run))) for pitch, run in groupby(self.pitches)]
        return " ".join(name if count == 1 else f"{name}*{count}" for name, count in runs)


def pitch_classes(clip: Clip) -> np.ndarray:
    """Return the strongest pitch class of each frame (1 + samples // 4096,) of `clip` at 32 kHz."""
    samples = clip.resample(RATE_HZ).samples
    missing = max(0, WINDOW - len(samples))
    samples = np.pad(samples, (missing // 2, missing - missing // 2))
    samples = np.pad(samples, WINDOW // 2, mode="reflect")
    filters = torch.tensor(chroma_filter_bank(WINDOW, len(NAMES), RATE_HZ)).float()
    blocks = torch.split(torch.tensor(samples).unfold(0, WINDOW, HOP), _BLOCK)
    spectra = (torch.fft.rfft(block * torch.hann_window(WINDOW)).abs().square() for block in blocks)
    return np.concatenate([(spectrum @ filters.T).numpy().argmax(-1) for spectrum in spectra])


def shifted(melodies: Sequence[Melody | None], seconds: float) -> list[Melody | None]:
    """Return each melody as it goes on `seconds` later; none stays none."""
    return [None if melody is None else melody.later(seconds) for melody in melodies]


@dataclass(frozen=True)
class Prefix(TextStates):
    """States (rows, n, d_model) of melody, then text; padding in front, `mask` zero there."""

    chroma: int  # frames of melody
    null: torch.Tensor  # a frame (d_model,) of the null melody

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
        """Return the text's own states, zero at the melody."""
        words = ((self.mask > 0) & (self.mask.cumsum(1) > self.chroma)).long()
        return TextStates(self.states * words[..., None], words)

    def with_null(self) -> Prefix:
        """Return 2B rows: these, then B with the null melody and an unmasked text of zeros."""
        melody = (self.mask > 0) & (self.mask.cumsum(1) <= self.chroma)
        nothing = torch.where(melody[..., None], self.null, torch.zeros_like(self.states))
        return replace(self, states=torch.cat([self.states, nothing]), mask=torch.cat([self.mask, self.mask]))

    def arguments(self, decoder: Any, ids: torch.Tensor, past: int = 0) -> dict[str, Any]:
        """Return the arguments of a visit, as above; the prefix is given at the first one only."""
        if self.padding is None:
            visit: dict[str, Any] = {"input_ids": ids.reshape(-1, ids.shape[-1])}
            return visit if past else {**visit, "encoder_hidden_states": self.states}
        inner, end = decoder.model.decoder, (past or self.prefix) + ids.shape[-1]
        inner.embed_positions(self.mask.new_empty((1, 1, 0)), end - 1)  # lengthens a table that is too short
        table, numbers = inner.embed_positions.weights, torch.arange(past, end, device=self.mask.device)
        shifted_back = (numbers - self.padding[:, None]).clamp(min=0)
        moved = (table[shifted_back] - table[numbers]).to(self.states.dtype)  # to positions without padding
        embedded = sum(embed(ids[:, book]) for book, embed in enumerate(inner.embed_tokens))
        visit = {"inputs_embeds": embedded + moved[:, -ids.shape[-1] :]}
        if past:
            music = self.mask.new_ones((len(self.mask), end - self.prefix))
            return {**visit, "attention_mask": torch.cat([self.mask, music], dim=1)}
        states = self.states + moved[:, : self.prefix]
        return {**visit, "encoder_hidden_states": states, "encoder_attention_mask": self.mask}


@torch.no_grad()
def prefix_of(musicgen: Any, text: TextStates, melodies: Sequence[Melody | None] | None = None) -> Prefix:
    """Return the prefix of as many rows as `text` has, ModelError if it is long; None is the null melody."""
    longest = int(text.mask.sum(1).max())
    if longest > TEXT_ROOM:
        found = f"this model reads its text before the music and has room for {TEXT_ROOM}"
        raise ModelError(f"A prompt of {longest} tokens was asked for", found, "Use a shorter prompt")
    frames, classes = int(musicgen.config.chroma_length), int(musicgen.config.num_chroma)
    tunes = [None] * len(text.mask) if melodies is None else melodies
    pitches = [[0] * frames if tune is None else tune.frames(frames) for tune in tunes]
    chroma = _projected(musicgen, torch.tensor(pitches, device=text.mask.device), classes)
    texts = zip(chroma, text.states, text.mask, strict=True)
    rows = [torch.cat([melody, words[mask > 0]]) for melody, words, mask in texts]
    states = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_side="left")
    lengths = torch.tensor([[len(row)] for row in rows], device=states.device)
    mask = (torch.arange(-states.shape[1], 0, device=states.device) >= -lengths).to(text.mask.dtype)
    null = _projected(musicgen, torch.zeros(1, dtype=torch.long, device=mask.device), classes)[0]
    return Prefix(states, mask, frames, null)


def _projected(musicgen: Any, pitches: torch.Tensor, classes: int) -> torch.Tensor:
    """Return states (..., d_model) of pitch classes (...)."""
    chroma = torch.nn.functional.one_hot(pitches, classes).to(musicgen.decoder.dtype)
    return musicgen.audio_enc_to_dec_proj(chroma) if hasattr(musicgen, "audio_enc_to_dec_proj") else chroma
