"""Sound to codes and codes to sound, through whatever codec the checkpoint carries.

Codes are what the codec can say. EnCodec's give back nearly the sound that went in; those of the built-in
model are what its band would play to sound like it, an arrangement.

Stereo checkpoints interleave left and right codebooks. Clips in the workbench are mono: a mono clip goes to
both sides, and a decoded stereo pair is averaged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from workbench.sound.clip import Clip

# EnCodec's batch sounds the same as its rows to 1e-7, not bit for bit, and gains nothing on a CPU; there a
# sound is a function of its codes alone. On a GPU the bound is memory: about 100 times the sound that comes
# out.
_DECODE_BATCH = {"cpu": 1}
_DECODE_BATCH_ELSEWHERE = 8


@torch.no_grad()
def encode_clip(musicgen: Any, clip: Clip) -> torch.Tensor:
    """The codes (k, frames) of `clip`, which is resampled to the codec's rate first."""
    codec = musicgen.audio_encoder
    samples = torch.tensor(clip.resample(int(codec.config.sampling_rate)).samples)
    codes: torch.Tensor = codec.encode(samples[None, None].to(codec.device)).audio_codes[0, 0]
    channels = musicgen.decoder.config.audio_channels
    wanted = musicgen.decoder.config.num_codebooks // channels
    return codes[:wanted].repeat_interleave(channels, dim=0)


@torch.no_grad()
def decode_codes(musicgen: Any, batch: Sequence[torch.Tensor]) -> list[Clip]:
    """One clip for each codes tensor (k, frames) in `batch`; equal lengths share a pass of the codec."""
    clips: dict[int, Clip] = {}
    by_length: dict[int, list[int]] = {}
    for index, codes in enumerate(batch):
        by_length.setdefault(codes.shape[-1], []).append(index)
    size = _DECODE_BATCH.get(musicgen.audio_encoder.device.type, _DECODE_BATCH_ELSEWHERE)
    for indices in by_length.values():
        for start in range(0, len(indices), size):
            chunk = indices[start : start + size]
            sounds = _decode(musicgen, torch.stack([batch[index] for index in chunk]))
            clips.update(zip(chunk, sounds, strict=True))
    return [clips[index] for index in range(len(batch))]


def _decode(musicgen: Any, codes: torch.Tensor) -> list[Clip]:
    """Clips from codes (B, k, frames) of equal length."""
    codec, channels = musicgen.audio_encoder, musicgen.decoder.config.audio_channels
    codes = codes.long().to(codec.device)
    sides = [
        codec.decode(codes[None, :, side::channels], audio_scales=[None]).audio_values
        for side in range(channels)
    ]
    sound = torch.stack(sides).mean(0)[:, 0].float().cpu().numpy()
    return [Clip(samples, int(codec.config.sampling_rate)) for samples in sound]
