"""One sampling run: its settings, how codes are delayed, and how the next ones are drawn from logits.

MusicGen writes codebook c of frame t at step t + delay[c] (the delay pattern; delays are 0, 1, 2, 3 for four
mono codebooks and 0, 0, 1, 1, 2, 2, 3, 3 for stereo, where left and right interleave). The decoder's
*position* 0 is BOS in every codebook, and position p has what step p - 1 wrote, so that reading position p
yields step p (Copet et al. 2023, arXiv 2306.05284, section 2.2).

A draw is computed as in transformers' `generate`, so that a batch of one with the same seed gives the same
codes; but every row has a private generator, so that a batch of k gives the same codes as k single runs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from workbench.errors import ModelError, whole_number
from workbench.model.conditioning import TextStates


def delay_pattern(n_codebooks: int, audio_channels: int = 1) -> tuple[int, ...]:
    """Return the delay of each codebook in steps: (0, 1, 2, 3) for four mono codebooks."""
    return tuple(index // audio_channels for index in range(n_codebooks))


def apply_delay(codes: torch.Tensor, bos: int, delays: Sequence[int] | None = None) -> torch.Tensor:
    """Return decoder input ids (B, k, T + 1 + max delay) for `codes` (B, k, T), `bos` where none is."""
    rows, n_codebooks, frames = codes.shape
    delays = delay_pattern(n_codebooks) if delays is None else delays
    ids = codes.new_full((rows, n_codebooks, frames + 1 + max(delays)), bos)
    for codebook, delay in enumerate(delays):
        ids[:, codebook, 1 + delay : 1 + delay + frames] = codes[:, codebook]
    return ids


def write_step(
    tokens: torch.Tensor, codes: torch.Tensor, step: int, delays: Sequence[int], bos: int, *, prompt: int = 0
) -> torch.Tensor:
    """Return the ids (B, k) that the next position reads; write `tokens` (B, k) into `codes` (B, k, T).

    As in transformers' `apply_delay_pattern_mask`, a token is dropped where the pattern has no code (BOS is
    read instead) and in the first `prompt` frames (the code that is there is read).
    """
    ids = tokens.clone()
    for codebook, delay in enumerate(delays):
        frame = step - delay
        if 0 <= frame < prompt:
            ids[:, codebook] = codes[:, codebook, frame]
        elif 0 <= frame < codes.shape[-1]:
            codes[:, codebook, frame] = tokens[:, codebook]
        else:
            ids[:, codebook] = bos
    return ids


def frames_for(seconds: float, frame_rate_hz: float) -> int:
    """Return the number of codec frames that last `seconds`, at least one."""
    return max(1, round(seconds * frame_rate_hz))


def seconds_at(step: int, frame_rate_hz: float) -> float:
    """Return when the frame whose first codebook `step` writes begins to sound."""
    return step / frame_rate_hz


@dataclass
class Sampling:
    """One sampling run: its settings, and `codes` (B, k, T), which fills up while the loop runs.

    Not frozen: it is the control object of a run, and nnsight copies plain lists that cross into a trace.
    With `prompt_codes`, the decoder's first visit reads BOS and these frames at once (P + 1 positions), and
    each later visit one position, as always. What is drawn at visit v is step v + P.
    """

    text: TextStates  # B rows without guidance and 2B with it: [:B] conditional, [B:] null
    generators: Sequence[torch.Generator]  # one per clip
    frames: int  # length T of the whole
    delays: tuple[int, ...]  # steps by which each codebook lags
    bos: int  # the id that stands where no code has been written
    guidance: float = 3.0  # scale of classifier-free guidance; none up to 1
    temperature: float = 1.0
    top_k: int = 250  # codes that each draw keeps; 0 keeps all
    on_step: Callable[[int, torch.Tensor], None] | None = None  # called with each step and the codes
    cancel: threading.Event | None = None  # stops the run when it is set
    prompt_codes: torch.Tensor | None = None  # (B, k, P) of the first P frames, which the run continues
    codes: torch.Tensor = field(init=False)

    def __post_init__(self) -> None:
        for name in ("guidance", "temperature"):
            do = "Use 3.0 for guidance, 1.0 for temperature"
            ModelError.number(getattr(self, name), f"A {name} of", least=0, do=do)
        shape, prompt = (len(self.generators), len(self.delays), self.frames), self.prompt_codes
        self.codes = torch.full(shape, self.bos, device=self.text.states.device)
        if prompt is None:
            return
        if prompt.shape[:2] != self.codes.shape[:2] or not 0 < self.prompt_frames < self.frames:
            asked = f"{self.frames} frames after codes {tuple(prompt.shape)} were asked for"
            found = f"there are {self.batch} clips of {len(self.delays)} codebooks"
            do = "Give codes (clips, codebooks, frames) with fewer frames than the whole"
            raise ModelError(asked, found, do)
        self.codes[:, :, : self.prompt_frames] = prompt.to(self.codes.device)

    @property
    def steps(self) -> int:
        """How many steps the whole takes, the prompt included: frames + max delay."""
        return self.frames + max(self.delays)

    @property
    def prompt_frames(self) -> int:
        """P, how many frames were there before the run."""
        return 0 if self.prompt_codes is None else int(self.prompt_codes.shape[-1])

    @property
    def visits(self) -> int:
        """How often the decoder runs: once per step, but the prompt's frames take no step of their own."""
        return self.steps - self.prompt_frames

    def opening(self) -> torch.Tensor:
        """Return the ids (B, k, 1 + P) of the decoder's first visit: BOS and the prompt's frames, delayed."""
        prompt = self.codes[:, :, : self.prompt_frames]
        return apply_delay(prompt, self.bos, self.delays)[:, :, : 1 + self.prompt_frames]

    def rows(self, which: str) -> slice:
        """Return which rows of the decoder's batch are "cond", "null", or "both"; ModelError for others."""
        if which == "cond":
            return slice(0, self.batch)
        if which not in ("null", "both") or not self.guided:
            found = "there are cond, null and both, the last two with a guidance above 1 only"
            asked = f"The rows {which!r} of a generation were asked for"
            raise ModelError(asked, found, "Use one, or raise the guidance")
        return slice(self.batch if which == "null" else 0, 2 * self.batch)

    @property
    def batch(self) -> int:
        """B, the number of clips; the decoder sees 2B rows under guidance."""
        return len(self.generators)

    @property
    def guided(self) -> bool:
        """Whether the batch is doubled for classifier-free guidance."""
        return self.guidance > 1


def guide(logits: torch.Tensor, guidance: float) -> torch.Tensor:
    """Return null + g (cond - null), logits (B, k, V) from both halves (2B, k, V). Ho & Salimans 2022."""
    conditional, null = logits.chunk(2)
    return null + (conditional - null) * guidance


def draw(logits: torch.Tensor, run: Sampling) -> torch.Tensor:
    """Return codes (B, k) drawn from fp32 logits (B, k, V), on the device of the private generators."""
    if run.temperature != 1.0:
        logits = logits / run.temperature
    top_k = min(run.top_k, logits.shape[-1])
    if top_k:
        smallest_kept = torch.topk(logits, top_k).values[..., -1:]
        logits = logits.masked_fill(logits < smallest_kept, -torch.inf)
    probabilities = logits.softmax(dim=-1).to(run.generators[0].device)
    pairs = zip(probabilities, run.generators, strict=True)
    rows = [torch.multinomial(row, 1, generator=generator).squeeze(-1) for row, generator in pairs]
    return torch.stack(rows).to(logits.device)


def private_generators(seeds: Sequence[int], device: torch.device | str = "cpu") -> list[torch.Generator]:
    """Return a freshly seeded generator per row, so that a row's draws never depend on its neighbours."""
    whole = [whole_number(seed, "The seed", ModelError) for seed in seeds]
    return [torch.Generator(device=device).manual_seed(seed) for seed in whole]
