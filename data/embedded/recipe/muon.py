"""Muon; in single precision where the processor has no units for bfloat16, in which torch's always works."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic iteration of Jordan (2024), which torch.optim.Muon uses, too."""


class Muon(torch.optim.Optimizer):
    """Momentum whose matrices are made nearly orthogonal (https://kellerjordan.github.io/posts/muon).

    Args:
        params: Groups of matrices.
        lr: Learning rate; each matrix's step is scaled so that its RMS is that of AdamW.
        momentum: Of Nesterov's kind.
        weight_decay: Decoupled.
    """

    def __init__(
        self, params: Iterable[Any], lr: float, momentum: float = 0.95, weight_decay: float = 0.05
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Change every matrix once; matrices of one shape are orthogonalised together."""
        for group in self.param_groups:
            by_shape: dict[tuple[int, ...], list[tuple[Tensor, Tensor]]] = defaultdict(list)
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                momentum = self.state[matrix].setdefault("momentum", torch.zeros_like(matrix))
                momentum.lerp_(matrix.grad, 1 - group["momentum"])
                ahead = matrix.grad.lerp(momentum, group["momentum"])
                by_shape[tuple(matrix.shape)].append((matrix, ahead))
            for shape, pairs in by_shape.items():
                steps = orthogonalised(torch.stack([ahead for _matrix, ahead in pairs]))
                scale = 0.2 * max(shape) ** 0.5
                for (matrix, _ahead), step in zip(pairs, steps, strict=True):
                    matrix.mul_(1 - group["lr"] * group["weight_decay"])
                    matrix.add_(step, alpha=-group["lr"] * scale)


def orthogonalised(matrices: Tensor, iterations: int = 5) -> Tensor:
    """Return matrices (n, rows, columns) with all singular values near 1."""
    a, b, c = _COEFFICIENTS
    wide = matrices if matrices.shape[1] <= matrices.shape[2] else matrices.transpose(1, 2)
    if matrices.is_cuda or torch.cpu._is_avx512_bf16_supported():
        wide = wide.bfloat16()
    wide = wide / wide.flatten(1).norm(dim=1).clamp(min=1e-7)[:, None, None]
    for _ in range(iterations):
        gram = wide @ wide.transpose(1, 2)
        wide = a * wide + (b * gram + c * gram @ gram) @ wide
    wide = wide.to(matrices.dtype)
    return wide if matrices.shape[1] <= matrices.shape[2] else wide.transpose(1, 2)
