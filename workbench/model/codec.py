"""Sound to codes and codes to sound, whole or piece by piece, through whatever codec the checkpoint carries.

Stereo checkpoints interleave left and right codebooks: each side has its own, and both go through one codec.
They become a stereo clip. A clip is encoded from its `samples`, the mean of its sides, for both sides alike.

Pieces together are the sound of the whole. EnCodec's decoder begins with an LSTM, which remembers without
end, and goes on with convolutions, which do not. So the LSTM's state is carried from piece to piece, and only
the convolutions read a few frames again. A codec with a ``player()`` (`band_codec`) remembers by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.models.encodec.modeling_encodec import EncodecLSTM

from workbench.sound.clip import Clip

# EnCodec's batch sounds the same as its rows to 1e-7, not bit for bit, and gains nothing on a CPU: there rows
# are decoded one by one. On a GPU the bound is memory: 100 times the sound that comes out.
_DECODE_BATCH = 8
CONTEXT_FRAMES = 8  # read again by the convolutions on either side of the LSTM; they reach back 6 at most
AHEAD_FRAMES = 6  # to be known beyond a piece where convolutions look ahead, or mirror the beginning


@torch.no_grad()
def encode_clip(musicgen: Any, clip: Clip) -> torch.Tensor:
    """Return the codes (k, frames) of `clip`, which is resampled to the codec's rate first."""
    codec = musicgen.audio_encoder
    samples = torch.tensor(clip.resample(int(codec.config.sampling_rate)).samples)
    codes: torch.Tensor = codec.encode(samples[None, None].to(codec.device)).audio_codes[0, 0]
    channels = musicgen.decoder.config.audio_channels
    wanted = musicgen.decoder.config.num_codebooks // channels
    return codes[:wanted].repeat_interleave(channels, dim=0)


@torch.no_grad()
def decode_codes(musicgen: Any, batch: Sequence[torch.Tensor]) -> list[Clip]:
    """Return one clip for each codes (k, frames) in `batch`; equal lengths share a pass of the codec."""
    codec, channels = musicgen.audio_encoder, musicgen.decoder.config.audio_channels
    size, clips = 1 if codec.device.type == "cpu" else _DECODE_BATCH, dict[int, Clip]()
    for length in {codes.shape[-1] for codes in batch}:
        indices = [index for index, codes in enumerate(batch) if codes.shape[-1] == length]
        for chunk in (indices[start : start + size] for start in range(0, len(indices), size)):
            codes = torch.stack([batch[index] for index in chunk]).long().to(codec.device)
            parts = (codes[None, :, side::channels] for side in range(channels))
            sides = [codec.decode(part, audio_scales=[None]).audio_values for part in parts]
            sounds = torch.cat(sides, dim=1).squeeze(1).float().cpu().numpy()  # (clips, n) or (clips, 2, n)
            made = [Clip(samples, int(codec.config.sampling_rate)) for samples in sounds]
            clips |= zip(chunk, made, strict=True)
    return [clips[index] for index in range(len(batch))]


class PieceDecoder:
    """Decodes a growing row of codes, the next piece with each call; of two `channels` it is stereo."""

    def __init__(self, codec: Any, *, channels: int = 1) -> None:
        self.codec, self.channels = codec, channels
        self.done = 0  # frames decoded so far
        self.ahead = 0  # frames that have to be known beyond a piece, unless the sound ends there
        self._players = [codec.player() for _ in range(channels)] if hasattr(codec, "player") else []
        if self._players:
            return
        causal = codec.config.use_causal_conv and codec.config.pad_mode != "reflect"
        self.ahead = 0 if causal else AHEAD_FRAMES
        layers: Sequence[Any] = list(codec.decoder.layers)
        self._place = max((i for i, layer in enumerate(layers) if isinstance(layer, EncodecLSTM)), default=-1)
        self._layers = layers
        self._states: list[Any] = [None] * channels  # of the LSTM
        self._hidden: list[Any] = [None] * channels  # its output for the last frames

    @torch.no_grad()
    def decode(self, codes: Tensor, end: int) -> Clip:
        """Return the sound from the last piece's end up to the frame `end`, of known codes (k, frames)."""
        if self._players:
            new = codes[:, self.done : end].cpu().numpy()
            played = [player.play(new[side :: self.channels]) for side, player in enumerate(self._players)]
            sound = played[0] if self.channels == 1 else np.stack(played)
        else:
            codes = codes.long().to(self.codec.device)
            sounds = [self._piece(side, codes[side :: self.channels], end) for side in range(self.channels)]
            sound = torch.stack(sounds).squeeze(0).float().cpu().numpy()
        self.done = end
        return Clip(sound, int(self.codec.config.sampling_rate))

    def _piece(self, side: int, codes: Tensor, end: int) -> Tensor:
        before = min(self.done, CONTEXT_FRAMES)
        values = self.codec.quantizer.decode(codes[:, None, self.done - before : end + self.ahead])
        for layer in self._layers[: max(self._place, 0)]:
            values = layer(values)
        values = values[..., before:]
        hidden, count = values, end - self.done
        if self._place >= 0:  # the LSTM remembers the frames of the piece, not those ahead
            lstm, steps = self._layers[self._place].lstm, values.permute(2, 0, 1)
            now, self._states[side] = lstm(steps[:count], self._states[side])
            ahead = lstm(steps[count:], self._states[side])[0] if len(steps) > count else steps[:0]
            hidden = (torch.cat([now, ahead]) + steps).permute(1, 2, 0)
        sound = hidden if self._hidden[side] is None else torch.cat([self._hidden[side], hidden], dim=-1)
        past = sound.shape[-1] - hidden.shape[-1]
        self._hidden[side] = sound[..., : past + count][..., -CONTEXT_FRAMES:]
        for layer in self._layers[self._place + 1 :]:
            sound = layer(sound)
        hop = int(self.codec.config.hop_length)
        return sound[0, 0, past * hop : (past + count) * hop]
