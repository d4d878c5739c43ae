"""What coarser numbers cost a model: how far its odds of the next codes move.

Rounding is judged where it matters, at the odds that codes are drawn from. A former built-in model (four
codebooks of a neural codec) lost 0.0014 nats per code to bfloat16, on codes drawn at random as on its own
(BENCHMARKS.md), and its judged music stayed the same; a model that loses more than ten times that is kept in
float32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from workbench.model.tokens import apply_delay

if TYPE_CHECKING:
    from workbench.model.musicgen import Model

FRAMES = 8
MOST_NATS = 0.02
"""Divergence per code up to which a coarser precision is chosen without being asked for."""


def next_codes(model: Model, *, seed: int = 0) -> torch.Tensor:
    """The log-probabilities (k, positions, V) of the next codes after a few random ones, fp32 on the CPU."""
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(model.codebook_size, (1, model.n_codebooks, FRAMES), generator=generator)
    ids = apply_delay(codes.to(model.device), model.bos, model.delays)[..., :FRAMES]
    with model.exclusive():
        logits = model.network.score(ids, model.text(["music"]))
    return logits[0].log_softmax(-1).cpu()


def divergence(exact: torch.Tensor, coarse: torch.Tensor) -> float:
    """The mean Kullback-Leibler divergence, nats per code, of two results of `next_codes`."""
    return float((exact.exp() * (exact - coarse)).sum(-1).mean())
