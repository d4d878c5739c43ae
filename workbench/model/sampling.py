"""What one sampling run is asked to do, and how the next codes are drawn from logits.

The arithmetic is transformers' own, in the same order (guidance, temperature, top-k, softmax, multinomial),
so that a batch of one with the same seed gives the same codes as
`MusicgenForConditionalGeneration.generate`. The one
difference: every row owns a private generator, so that a batch of k gives the same codes as k single runs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from workbench.model.text import TextStates

OnStep = Callable[[int, torch.Tensor], None]


@dataclass
class Sampling:
    """One sampling run: its settings, and `codes` (B, k, T), which fills up while the loop runs.

    Not frozen: it is the control object of a run, and nnsight copies plain lists that cross into a trace.
    `text` holds B rows without guidance and 2B with it: [:B] conditional, [B:] null.
    """

    text: TextStates
    generators: Sequence[torch.Generator]
    frames: int
    delays: tuple[int, ...]
    bos: int
    guidance: float = 3.0
    temperature: float = 1.0
    top_k: int = 250
    on_step: OnStep | None = None
    cancel: threading.Event | None = None
    codes: torch.Tensor = field(init=False)

    def __post_init__(self) -> None:
        device = self.text.states.device
        self.codes = torch.full(
            (len(self.generators), len(self.delays), self.frames), self.bos, device=device
        )

    @property
    def steps(self) -> int:
        """How often the decoder runs: frames + max delay."""
        return self.frames + max(self.delays)

    @property
    def batch(self) -> int:
        """B, the number of clips; the decoder sees 2B rows under guidance."""
        return len(self.generators)

    @property
    def guided(self) -> bool:
        """Whether the batch is doubled for classifier-free guidance."""
        return self.guidance > 1


def guide(logits: torch.Tensor, guidance: float) -> torch.Tensor:
    """Guidance, null + g (cond - null): logits (B, k, V) from both halves (2B, k, V). Ho & Salimans 2022."""
    conditional, null = logits.chunk(2)
    return null + (conditional - null) * guidance


def draw(logits: torch.Tensor, run: Sampling) -> torch.Tensor:
    """Codes (B, k) drawn from fp32 logits (B, k, V) after temperature and top-k, one generator a row."""
    if run.temperature != 1.0:
        logits = logits / run.temperature
    top_k = min(run.top_k, logits.shape[-1])
    if top_k:
        smallest_kept = torch.topk(logits, top_k).values[..., -1:]
        logits = logits.masked_fill(logits < smallest_kept, -torch.inf)
    probabilities = logits.softmax(dim=-1)
    rows = [
        torch.multinomial(row, 1, generator=generator).squeeze(-1)
        for row, generator in zip(probabilities, run.generators, strict=True)
    ]
    return torch.stack(rows)


def private_generators(seeds: Sequence[int], device: torch.device) -> list[torch.Generator]:
    """One freshly seeded generator per row, so that a row's luck never depends on its neighbours."""
    return [torch.Generator(device=device).manual_seed(int(seed)) for seed in seeds]
