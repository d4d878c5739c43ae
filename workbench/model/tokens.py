"""How sound codes become the decoder's positions and back, and how steps relate to seconds.

MusicGen writes codebook c of frame t at step t + delay[c] (the delay pattern; delays are 0, 1, 2, 3 for
four mono codebooks and 0, 0, 1, 1, 2, 2, 3, 3 for stereo, whose left and right codebooks interleave). The
decoder's *position* 0 holds BOS in every codebook, and position p holds what step p - 1 wrote, so that
reading position p yields step p. T frames therefore take T + 1 + max(delay) positions and T + max(delay)
steps: 503 steps are exactly 10 s of mono MusicGen. Formula: Copet et al. 2023, arXiv 2306.05284, section 2.2
("delay" pattern).

transformers' `forward` applies none of this; its `generate` does. Feeding it plain codes gives residuals
that are off by a quarter of their norm, which is why every teacher-forced pass here goes through
`apply_delay`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch


def delay_pattern(n_codebooks: int, audio_channels: int = 1) -> tuple[int, ...]:
    """The delay of each codebook in steps: (0, 1, 2, 3) for four mono codebooks."""
    return tuple(index // audio_channels for index in range(n_codebooks))


def apply_delay(codes: torch.Tensor, bos: int, delays: Sequence[int] | None = None) -> torch.Tensor:
    """Decoder input ids (B, k, T + 1 + max delay) for `codes` (B, k, T); for mono that is (B, k, T + k).

    Args:
        codes: Long tensor (B, k, T), one code per row, codebook and frame.
        bos: The id that stands where no code has been written (BOS = PAD in MusicGen).
        delays: Steps by which each codebook lags; the mono pattern when None.
    """
    rows, n_codebooks, frames = codes.shape
    delays = delay_pattern(n_codebooks) if delays is None else delays
    ids = codes.new_full((rows, n_codebooks, frames + 1 + max(delays)), bos)
    for codebook, delay in enumerate(delays):
        ids[:, codebook, 1 + delay : 1 + delay + frames] = codes[:, codebook]
    return ids


def undo_delay(ids: torch.Tensor, delays: Sequence[int] | None = None) -> torch.Tensor:
    """The codes (B, k, T) that `apply_delay` turned into `ids` (B, k, T + 1 + max delay)."""
    delays = delay_pattern(ids.shape[1]) if delays is None else delays
    frames = ids.shape[-1] - 1 - max(delays)
    lanes = [ids[:, codebook, 1 + delay : 1 + delay + frames] for codebook, delay in enumerate(delays)]
    return torch.stack(lanes, dim=1)


def write_step(
    tokens: torch.Tensor,
    codes: torch.Tensor,
    step: int,
    delays: Sequence[int],
    bos: int,
    *,
    given: int = 0,
) -> torch.Tensor:
    """The ids (B, k) that the next position reads; writes `tokens` (B, k) into `codes` (B, k, T).

    Where the pattern leaves no room (before a codebook has started, after it has ended) the sampled token is
    dropped and BOS goes back to the decoder; in the first `given` frames, which were there before, the code
    that stands there goes back: exactly as transformers' `apply_delay_pattern_mask` does.
    """
    ids = tokens.clone()
    for codebook, delay in enumerate(delays):
        frame = step - delay
        if 0 <= frame < given:
            ids[:, codebook] = codes[:, codebook, frame]
        elif 0 <= frame < codes.shape[-1]:
            codes[:, codebook, frame] = tokens[:, codebook]
        else:
            ids[:, codebook] = bos
    return ids


def frames_for(seconds: float, frame_rate_hz: float) -> int:
    """The number of codec frames that last `seconds`, at least one."""
    return max(1, round(seconds * frame_rate_hz))


def steps_for(seconds: float, frame_rate_hz: float, delays: Sequence[int]) -> int:
    """The number of decoding steps that produce `seconds` of sound: frames + max delay."""
    return frames_for(seconds, frame_rate_hz) + max(delays)


def seconds_at(step: int, frame_rate_hz: float) -> float:
    """When the frame whose first codebook `step` writes begins to sound."""
    return step / frame_rate_hz
