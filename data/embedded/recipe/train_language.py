"""Trains the built-in language model on composed scores. Resumable; logs its curve.

In long windows the music so far tells nearly all, and the decoder never learns to listen to the text. So
windows grow from 2.4 s to a mixture of 2.4, 5 and 10 s, the first frames weigh
more, the cross-attention learns four times as fast, and in half of the rows a random share of what was
played so far is blanked, up to all of it: then only the text can tell. In a quarter of the rows the music
hangs for a while, a few frames played over and over while the targets go on: a model that has only ever
read flawless music does not know how to leave a chord it once got stuck on. The conductor never hangs: a
model that learned to mistrust the beat jumps about in the bar when it is steered. Tokens that begin something
weigh more than rests and holds. Text is dropped in a fifth of the rows, so that guidance works. The
decoder's matrices are trained by Muon, everything else by AdamW.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import MusicgenForConditionalGeneration, PreTrainedTokenizerFast

from recipe.corpus import scores
from recipe.factors import Factors
from recipe.language import build_model, build_tokenizer, delayed
from recipe.muon import Muon
from recipe.prompts import prompt
from workbench.model.band import BEAT_FRAMES, FIRST, FRAME_RATE_HZ
from workbench.model.band_codec import BandCodec, BandCodecConfig

Batch = tuple[Tensor, Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train: 100 steps up to the peak rates, then a cosine down to 2 % of them."""

    steps: int = 4500
    batch_frames: int = 2000
    window_s: tuple[tuple[float, tuple[float, ...]], ...] = (
        (0.0, (2.4,)),
        (0.25, (2.4, 5.0, 10.0)),
    )  # from this share of the steps on; of several lengths one is drawn for each step
    muon_lr: float = 2.5e-3
    muon_lr_listening: float = 1e-2  # of the cross-attention
    adam_lr: float = 4e-3
    text_dropout: float = 0.2
    unaligned_rows: float = 0.4
    blanked_rows: float = 0.5
    hanging_rows: float = 0.25
    first_frames: int = 40
    first_weight: float = 3.0
    onset_weight: float = 2.0
    codebook_weights: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0, 1.0, 0.8, 1.2)

    def rate_at(self, step: int) -> float:
        """Return the share of the peak learning rates that a step takes."""
        fall = 0.5 * (1 + np.cos(np.pi * min(1.0, step / self.steps)))
        return float(min(1.0, (step + 1) / 100) * (0.02 + 0.98 * fall))

    def window_frames(self, step: int, rng: np.random.Generator) -> int:
        """Return the length in frames of the windows of a step."""
        lengths = [s for share, s in self.window_s if step >= share * self.steps][-1]
        return round(FRAME_RATE_HZ * lengths[int(rng.integers(len(lengths)))])


@dataclass(frozen=True)
class Windows:
    """Draws training windows, and a true prompt for each.

    Most begin on bar lines, as music from nothing does. The others begin anywhere, as music does that goes on
    from other music; what they begin with is no target. Were all aligned, the model would read the beat from
    the position instead of the conductor, and lose it where it goes on.
    """

    factors: tuple[Factors, ...]
    codes: list[np.ndarray]
    tokenizer: PreTrainedTokenizerFast
    rng: np.random.Generator
    schedule: Schedule
    bar_frames: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "bar_frames", tuple(4 * BEAT_FRAMES[f.tempo] for f in self.factors))

    def draw(self, batch: int, frames: int) -> Batch:
        """Return codes (B, K, frames), token ids (B, n), attention mask (B, n), alignment (B,).

        The mask is 0 where text is dropped; alignment tells which rows begin on a bar line.
        """
        rows, prompts = [], []
        aligned = self.rng.random(batch) >= self.schedule.unaligned_rows
        for i, on_bar in zip(self.rng.integers(len(self.codes), size=batch), aligned, strict=True):
            step = self.bar_frames[i] if on_bar else 1
            start = int(self.rng.integers((self.codes[i].shape[1] - frames) // step + 1)) * step
            rows.append(self.codes[i][:, start : start + frames].astype(np.int64))
            prompts.append(prompt(self.factors[i], self.rng))
        text = self.tokenizer(prompts, padding=True, return_tensors="pt")
        kept = torch.from_numpy(self.rng.random(batch) >= self.schedule.text_dropout).long()
        mask = text.attention_mask * kept[:, None]
        return torch.from_numpy(np.stack(rows)), text.input_ids, mask, torch.from_numpy(aligned)


def language_loss(
    model: MusicgenForConditionalGeneration,
    batch: Batch,
    schedule: Schedule,
    rng: np.random.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the weighted training loss and the plain cross-entropy per codebook (K,), in nats.

    Args:
        model: in training.
        batch: codes, token ids, attention mask and alignment, as `Windows.draw` gives them.
        schedule: weights, and how many rows have blanks.
        rng: draws what is blanked and what hangs; by default nothing does.
    """
    codes, ids, mask, aligned = batch
    pad = model.config.decoder.pad_token_id
    inputs, targets = delayed(codes, pad)
    for book in range(codes.shape[1]):
        targets[~aligned, book, book] = -100
    if rng is not None:
        inputs = hang(inputs, schedule.hanging_rows, rng)
        inputs = inputs.masked_fill(torch.from_numpy(_blanks(inputs.shape, schedule.blanked_rows, rng)), pad)
    rows, books, positions = inputs.shape
    device = model.device
    text = model.text_encoder(
        ids.to(device), attention_mask=torch.ones_like(ids).to(device)
    ).last_hidden_state
    logits = model(
        encoder_outputs=(text,),
        attention_mask=mask.to(device),
        decoder_input_ids=inputs.reshape(rows * books, positions).to(device),
    ).logits
    targets = targets.to(device)
    losses = nn.functional.cross_entropy(
        logits.flatten(0, 1).float(), targets.reshape(-1), ignore_index=-100, reduction="none"
    ).reshape(rows, books, positions)
    weight = torch.where(
        torch.arange(positions, device=device) < schedule.first_frames, schedule.first_weight, 1.0
    )
    weight = weight * torch.tensor(schedule.codebook_weights, device=device)[:, None] * (targets != -100)
    weight = weight * torch.where(targets >= FIRST, schedule.onset_weight, 1.0)
    per_book = losses.sum(dim=(0, 2)) / (targets != -100).sum(dim=(0, 2))
    return (losses * weight).sum() / weight.sum(), per_book.detach()


def _blanks(shape: torch.Size, share: float, rng: np.random.Generator) -> np.ndarray:
    """Return which inputs (B, K, positions) are blanked: in a share of the rows, each with a drawn chance."""
    rows, books, positions = shape
    chance = rng.random((rows, 1, 1)) * (rng.random((rows, 1, 1)) < share)
    return np.asarray(rng.random((rows, books, positions)) < chance)


def hang(inputs: Tensor, share: float, rng: np.random.Generator) -> Tensor:
    """Return inputs (B, K, positions); in a share of the rows up to 12 frames repeat for up to 2 s.

    They repeat in all parts but the conductor.
    """
    inputs = inputs.clone()
    positions = inputs.shape[2]
    for row in np.flatnonzero(rng.random(len(inputs)) < share):
        cycle = int(rng.integers(1, 13))
        begin = int(rng.integers(cycle, positions - 8))
        end = min(positions, begin + int(rng.integers(8, round(2 * FRAME_RATE_HZ))))
        inputs[row, 1:, begin:end] = inputs[row, 1:, begin - cycle + torch.arange(end - begin) % cycle]
    return inputs


def train_language(
    build: Path, *, minutes: float, schedule: Schedule | None = None, device: str = "cpu", seed: int = 0
) -> MusicgenForConditionalGeneration:
    """Return the model after training for at most so many minutes; run again to continue where it stopped."""
    schedule = schedule or Schedule()
    tokenizer = build_tokenizer()
    model = build_model(BandCodec(BandCodecConfig()), seed=seed).to(device)
    fast_bfloat16 = device != "cpu" or torch.cpu._is_avx512_bf16_supported()
    if device == "cpu":  # scaled_dot_product_attention's backward pass is so slow there that steps take 2.5 x
        model.decoder.set_attn_implementation("eager")
    optimisers = _optimisers(model, schedule)
    step = _resume(build, model, optimisers)
    pieces = scores("train", build)
    windows = Windows(
        pieces.factors,
        list(pieces.codes),
        tokenizer,
        np.random.default_rng([seed, step]),
        schedule,
    )
    begin, recent = time.time(), []
    while step < schedule.steps and (time.time() - begin) / 60 < minutes:
        for group in (g for o in optimisers for g in o.param_groups):
            group["lr"] = group["peak_lr"] * schedule.rate_at(step)
        frames = schedule.window_frames(step, windows.rng)
        batch = windows.draw(max(1, schedule.batch_frames // frames), frames)
        with torch.autocast(device, dtype=torch.bfloat16, enabled=fast_bfloat16):
            loss, per_book = language_loss(model, batch, schedule, windows.rng)
        model.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser in optimisers:
            optimiser.step()
        step += 1
        recent.append([float(loss.detach()), *per_book.tolist()])
        if step % 100 == 0 or step == schedule.steps:
            _save(build, model, optimisers, [step, *np.mean(recent, axis=0), (time.time() - begin) / 60])
            recent = []
    return model.eval()


def _optimisers(
    model: MusicgenForConditionalGeneration, schedule: Schedule
) -> tuple[torch.optim.Optimizer, ...]:
    """Return Muon for the matrices of the decoder's blocks and AdamW for the rest."""
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    matrices = {name: p for name, p in trained.items() if ".layers." in name and p.ndim == 2}
    listening = [p for name, p in matrices.items() if "encoder_attn" in name]
    others = [p for name, p in matrices.items() if "encoder_attn" not in name]
    rest = [p for name, p in trained.items() if name not in matrices]
    muon = Muon(
        [
            {"params": others, "peak_lr": schedule.muon_lr},
            {"params": listening, "peak_lr": schedule.muon_lr_listening},
        ],
        lr=schedule.muon_lr,
        weight_decay=0.05,
    )
    adam = torch.optim.AdamW(
        [{"params": rest, "peak_lr": schedule.adam_lr}],
        lr=schedule.adam_lr,
        betas=(0.9, 0.98),
        weight_decay=0.0,
    )
    return muon, adam


def _resume(
    build: Path, model: MusicgenForConditionalGeneration, optimisers: tuple[torch.optim.Optimizer, ...]
) -> int:
    path = build / "language" / "checkpoint.pt"
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"], strict=False)
    for optimiser, saved in zip(optimisers, state["optimisers"], strict=True):
        optimiser.load_state_dict(saved)
    return int(state["step"])


def _save(
    build: Path,
    model: MusicgenForConditionalGeneration,
    optimisers: tuple[torch.optim.Optimizer, ...],
    line: list[float],
) -> None:
    """Write the checkpoint, whole or not at all, and a line of the log: step, losses, minutes."""
    folder = build / "language"
    folder.mkdir(parents=True, exist_ok=True)
    weights = {k: v for k, v in model.state_dict().items() if not k.startswith("audio_encoder.")}
    state = {"model": weights, "optimisers": [o.state_dict() for o in optimisers], "step": line[0]}
    torch.save(state, folder / "checkpoint.tmp")
    (folder / "checkpoint.tmp").replace(folder / "checkpoint.pt")
    with (folder / "log.csv").open("a") as log:
        log.write(",".join(f"{value:g}" for value in line) + "\n")
