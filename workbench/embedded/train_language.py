"""Trains the built-in language model on the codes of the training split. Resumable; logs its curve.

Windows begin on bar lines and grow from 1 s to 10 s: in long windows the music so far tells nearly all, and
the decoder never learns to listen to the text. For the same reason the first frames weigh more, and the
cross-attention learns three times as fast. Text is dropped in 12 % of the rows, so that guidance works.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import MusicgenForConditionalGeneration, PreTrainedTokenizerFast

from workbench.embedded.corpus import corpus
from workbench.embedded.factors import BEAT_FRAMES, FRAME_RATE_HZ, Factors
from workbench.embedded.fit_codec import encode_corpus, fit_codec
from workbench.embedded.language import build_model, build_tokenizer, delayed
from workbench.embedded.prompts import prompt


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train: 100 steps up to the peak rate, then a cosine down to 2 % of it."""

    steps: int = 6500
    batch_frames: int = 1000
    window_s: tuple[tuple[float, float], ...] = (
        (0.0, 1.0),
        (0.4, 5.0),
        (0.85, 10.0),
    )  # from this share of the steps on
    lr: float = 1.5e-3
    text_dropout: float = 0.12
    first_frames: int = 16
    first_weight: float = 4.0
    codebook_weights: tuple[float, ...] = (1.6, 1.0, 0.8, 0.6)

    def lr_at(self, step: int) -> float:
        """Return the learning rate of a step."""
        fall = 0.5 * (1 + np.cos(np.pi * min(1.0, step / self.steps)))
        return float(self.lr * min(1.0, (step + 1) / 100) * (0.02 + 0.98 * fall))

    def window_frames(self, step: int) -> int:
        """Return the length in frames of the windows of a step."""
        return round(FRAME_RATE_HZ * [s for share, s in self.window_s if step >= share * self.steps][-1])


@dataclass(frozen=True)
class Windows:
    """Draws training windows that begin on bar lines, and a true prompt for each."""

    factors: tuple[Factors, ...]
    codes: list[np.ndarray]
    tokenizer: PreTrainedTokenizerFast
    rng: np.random.Generator
    text_dropout: float
    bar_frames: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "bar_frames", tuple(4 * BEAT_FRAMES[f.tempo] for f in self.factors))

    def draw(self, batch: int, frames: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return codes (B, K, frames), token ids (B, n), attention mask (B, n): 0 where text is dropped."""
        rows, prompts = [], []
        for i in self.rng.integers(len(self.codes), size=batch):
            bars = (self.codes[i].shape[1] - frames) // self.bar_frames[i] + 1
            start = int(self.rng.integers(max(1, bars))) * self.bar_frames[i]
            rows.append(self.codes[i][:, start : start + frames].astype(np.int64))
            prompts.append(prompt(self.factors[i], self.rng))
        text = self.tokenizer(prompts, padding=True, return_tensors="pt")
        kept = torch.from_numpy(self.rng.random(batch) >= self.text_dropout).long()
        return torch.from_numpy(np.stack(rows)), text.input_ids, text.attention_mask * kept[:, None]


def language_loss(
    model: MusicgenForConditionalGeneration, batch: tuple[Tensor, Tensor, Tensor], schedule: Schedule
) -> tuple[Tensor, Tensor]:
    """Return the weighted training loss and the plain cross-entropy per codebook (K,), in nats."""
    codes, ids, mask = batch
    inputs, targets = delayed(codes, model.config.decoder.pad_token_id)
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
    per_book = losses.sum(dim=(0, 2)) / (targets != -100).sum(dim=(0, 2))
    return (losses * weight).sum() / weight.sum(), per_book.detach()


def train_language(
    build: Path, *, minutes: float, schedule: Schedule | None = None, device: str = "cpu", seed: int = 0
) -> MusicgenForConditionalGeneration:
    """Return the model after training for at most so many minutes; run again to go on where it stopped."""
    schedule = schedule or Schedule()
    codec = fit_codec(build)
    tokenizer = build_tokenizer()
    model = build_model(codec, seed=seed).to(device)
    optimiser = torch.optim.AdamW(_groups(model, schedule.lr), betas=(0.9, 0.98), weight_decay=0.05)
    step = _resume(build, model, optimiser)
    windows = Windows(
        corpus("train", build).factors,
        encode_corpus(codec, "train", build),
        tokenizer,
        np.random.default_rng([seed, step]),
        schedule.text_dropout,
    )
    begin, recent = time.time(), []
    while step < schedule.steps and (time.time() - begin) / 60 < minutes:
        for group in optimiser.param_groups:
            group["lr"] = group["gain"] * schedule.lr_at(step)
        frames = schedule.window_frames(step)
        batch = windows.draw(max(1, schedule.batch_frames // frames), frames)
        with torch.autocast(device, dtype=torch.bfloat16):
            loss, per_book = language_loss(model, batch, schedule)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        step += 1
        recent.append([float(loss.detach()), *per_book.tolist()])
        if step % 200 == 0 or step == schedule.steps:
            _save(build, model, optimiser, [step, *np.mean(recent, axis=0), (time.time() - begin) / 60])
            recent = []
    return model.eval()


def _groups(model: MusicgenForConditionalGeneration, lr: float) -> list[dict[str, object]]:
    """Return parameter groups: cross-attention learns three times as fast, embeddings do not decay."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        listens = "encoder_attn" in name
        decays = parameter.ndim > 1 and "embed" not in name
        groups.setdefault((3.0 if listens else 1.0, 0.05 if decays else 0.0), []).append(parameter)
    return [
        {"params": p, "gain": gain, "lr": lr, "weight_decay": decay} for (gain, decay), p in groups.items()
    ]


def _resume(build: Path, model: MusicgenForConditionalGeneration, optimiser: torch.optim.Optimizer) -> int:
    path = build / "language" / "checkpoint.pt"
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"], strict=False)
    optimiser.load_state_dict(state["optimiser"])
    return int(state["step"])


def _save(
    build: Path,
    model: MusicgenForConditionalGeneration,
    optimiser: torch.optim.Optimizer,
    line: list[float],
) -> None:
    """Write the checkpoint, whole or not at all, and a line of the log: step, losses, minutes."""
    folder = build / "language"
    folder.mkdir(parents=True, exist_ok=True)
    weights = {k: v for k, v in model.state_dict().items() if not k.startswith("audio_encoder.")}
    state = {"model": weights, "optimiser": optimiser.state_dict(), "step": line[0]}
    torch.save(state, folder / "checkpoint.tmp")
    (folder / "checkpoint.tmp").replace(folder / "checkpoint.pt")
    with (folder / "log.csv").open("a") as log:
        log.write(",".join(f"{value:g}" for value in line) + "\n")
