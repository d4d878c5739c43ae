"""Trains the codec's decoder (a transformers EnCodec decoder) to turn codes back into sound.

Encoder and codebooks stay fixed, so the language model can be trained at the same time. First the loss only
compares spectra at several resolutions; then, where there is a GPU or it is asked for, a discriminator joins
(`train_adversary`). The command is the same everywhere. Resumable: everything is kept every 250 steps.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from workbench.embedded.corpus import Corpus, corpus
from workbench.embedded.fit_codec import encode_corpus, fit_codec, load_codec
from workbench.embedded.train_adversary import UPDATE_SHARE, Adversary
from workbench.model.codec import WorkbenchCodec, WorkbenchCodecConfig

SEGMENT_FRAMES, WARM_UP_FRAMES, TAIL_FRAMES = 30, 4, 2
RESOLUTIONS = (128, 256, 512, 1024, 2048)
SPECTRAL_SHARE = 0.4
"""Share of a fresh run's minutes before the adversary joins; a resumed run has it from the start."""
SAVE_EVERY = 250
COLUMNS = ("step", "minutes", "rate", "spectral", "adversarial", "features", "discriminator")


class SpectralLoss(nn.Module):
    """Distance of two waveforms (B, n): log-mel and linear magnitudes at five window lengths.

    Args:
        rate_hz: of the waveforms.
        partials: weight of the mean absolute difference of natural-log magnitudes (power floored at 1e-7),
            which tells partials from the gaps between them, where mel bands are blind.
    """

    def __init__(self, rate_hz: int, *, partials: float = 0.0) -> None:
        super().__init__()
        self.partials = partials
        from librosa.filters import mel as mel_filters

        for size in RESOLUTIONS:
            bands = {128: 16, 256: 32, 512: 64, 1024: 80, 2048: 100}[size]
            mel = mel_filters(sr=rate_hz, n_fft=size, n_mels=bands, norm=None)
            self.register_buffer(f"mel_{size}", torch.from_numpy(mel))
            self.register_buffer(f"window_{size}", torch.hann_window(size))

    def forward(self, made: Tensor, wanted: Tensor, sizes: Sequence[int] = RESOLUTIONS) -> Tensor:
        """Return the loss, a scalar, over some of the window lengths."""
        total = made.new_zeros(())
        for size in sizes:
            a, b = (self._spectrum(x, size) for x in (made, wanted))
            convergence = (a - b).norm() / b.norm().clamp(min=1e-3)
            mel = getattr(self, f"mel_{size}")
            total = (
                total
                + (torch.log10(mel @ a + 1e-3) - torch.log10(mel @ b + 1e-3)).abs().mean()
                + 0.3 * convergence
            )
            if self.partials:
                fine = (a.clamp(min=1e-7**0.5).log() - b.clamp(min=1e-7**0.5).log()).abs().mean()
                total = total + self.partials * fine
        return total / len(sizes)

    def _spectrum(self, waveform: Tensor, size: int) -> Tensor:
        stft = torch.stft(
            waveform.float(), size, size // 4, window=getattr(self, f"window_{size}"), return_complex=True
        )
        return (stft.real**2 + stft.imag**2 + 1e-9).sqrt()


@dataclass(frozen=True)
class Segments:
    """Draws segments of pieces as codes and as sound."""

    pieces: Corpus
    codes: list[np.ndarray]
    hop: int
    rng: np.random.Generator

    def draw(self, batch: int) -> tuple[Tensor, Tensor]:
        """Return codes (codebooks, batch, frames) and the waveforms (batch, n) that they stand for."""
        tokens, waves = [], []
        for piece in self.rng.integers(len(self.codes), size=batch):
            first = int(self.rng.integers(self.codes[piece].shape[1] - SEGMENT_FRAMES + 1))
            tokens.append(self.codes[piece][:, first : first + SEGMENT_FRAMES].astype(np.int64))
            at = int(self.pieces.starts[piece]) + first * self.hop
            waves.append(self.pieces.samples[at : at + SEGMENT_FRAMES * self.hop].astype(np.float32) / 32768)
        return torch.from_numpy(np.stack(tokens, axis=1)), torch.from_numpy(np.stack(waves))


@dataclass
class VocoderTraining:
    """Decoder, optimiser and, once it has joined, the adversary: what a step changes and a file keeps."""

    codec: WorkbenchCodec
    optimiser: torch.optim.Optimizer
    spectral: SpectralLoss
    rng: np.random.Generator
    adversary: Adversary | None = None
    step: int = 0
    minutes: float = 0.0
    recent: list[dict[str, float]] = field(default_factory=list)

    def take_step(self, tokens: Tensor, wanted: Tensor, *, rate: float, resolutions: int) -> dict[str, float]:
        """Return the losses of a batch, after the decoder (and the discriminator) learned from it.

        The segment's first frames are left out, for the decoder has not heard what came before, and so are
        its last ones, where it looks ahead.

        Args:
            tokens: codes (codebooks, B, frames).
            wanted: the waveforms (B, n) that they stand for.
            rate: the decoder's learning rate.
            resolutions: of the spectral loss, drawn anew for each step.
        """
        with torch.autocast(tokens.device.type, dtype=torch.bfloat16):
            made = self.codec.decoder(self.codec.quantizer.decode(tokens))[:, 0].float()
        hop = self.codec.config.hop_length
        tail = 0 if self.codec.config.use_causal_conv else TAIL_FRAMES
        inside = slice(WARM_UP_FRAMES * hop, (tokens.shape[-1] - tail) * hop)
        made, wanted = made[:, inside], wanted[:, inside]
        heard = made.detach().requires_grad_()
        sizes = [int(size) for size in self.rng.choice(RESOLUTIONS, resolutions, replace=False)]
        gradient, losses = self._judge(heard, wanted, self.spectral(heard, wanted, sizes))
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad(set_to_none=True)
        made.backward(gradient)
        nn.utils.clip_grad_norm_(self.codec.decoder.parameters(), 1.0)
        self.optimiser.step()
        self.step += 1
        self.recent.append({**losses, "rate": rate})
        return losses

    def _judge(self, heard: Tensor, wanted: Tensor, spectral: Tensor) -> tuple[Tensor, dict[str, float]]:
        """Return the gradient at the decoder's output, and the losses that it comes from."""
        if self.adversary is None:
            (gradient,) = torch.autograd.grad(spectral, heard)
            return gradient, {"spectral": float(spectral.detach())}
        learned = {}
        if self.rng.random() < UPDATE_SHARE:
            learned["discriminator"] = self.adversary.learn(heard, wanted)
        gradient, losses = self.adversary.teach(heard, wanted, spectral)
        return gradient, {**losses, **learned}

    def save(self, folder: Path) -> None:
        """Write everything, and a line of the log: means since the last one, empty where there is none."""
        self.codec.save_pretrained(folder)
        torch.save(self.optimiser.state_dict(), folder / "optimiser.pt")
        if self.adversary is not None:
            self.adversary.save(folder / "adversary.pt")
        (folder / "progress.json").write_text(json.dumps({"step": self.step, "minutes": self.minutes}))
        means = {name: [line[name] for line in self.recent if name in line] for name in COLUMNS[2:]}
        line = [str(self.step), f"{self.minutes:.2f}"]
        line += [f"{np.mean(values):.6f}" if values else "" for values in means.values()]
        log, self.recent = folder / "log.csv", []
        head = "" if log.exists() else ",".join(COLUMNS) + "\n"
        with log.open("a") as file:
            file.write(head + ",".join(line) + "\n")


def train_vocoder(
    build: Path,
    *,
    minutes: float,
    device: str = "cpu",
    adversary: bool | None = None,
    filters: int | None = None,
    batch: int | None = None,
    lr: float = 1e-3,
    partials: float = 0.3,
    seed: int = 0,
) -> WorkbenchCodec:
    """Return the codec with its decoder trained for so many more minutes; kept in ``build/vocoder``.

    Args:
        build: folder that holds (or will hold) corpus, codes and ``codec/``.
        minutes: of training. The rate falls to a twentieth; a later run begins anew at half the rate.
        device: "cpu" or "cuda"; the defaults below are all that depends on it.
        adversary: whether a discriminator joins; by default where there is a GPU.
        filters: width of a fresh decoder's last layers; by default the codec's own on a CPU, 32 on a GPU.
        batch: segments of 1.2 s in a step; by default 8 on a CPU, 32 on a GPU.
        lr: highest learning rate.
        partials: see `SpectralLoss`.
        seed: of the draws and the weights.
    """
    gpu = not device.startswith("cpu")
    adversary = gpu if adversary is None else adversary
    batch = batch or (32 if gpu else 8)
    run = resume_training(build, device=device, filters=filters or (32 if gpu else None), seed=seed)
    run.spectral.partials = partials
    codes = encode_corpus(run.codec, "train", build)
    segments = Segments(corpus("train", build), codes, run.codec.config.hop_length, run.rng)
    first, begin, before = run.step, time.time(), run.minutes
    if first:
        lr = lr / 2
    while (used := (time.time() - begin) / 60) < minutes:
        if adversary and run.adversary is None and (first or used >= SPECTRAL_SHARE * minutes):
            run.adversary = Adversary(device, seed=seed)
        rate = lr * max(0.05, 1 - used / minutes) * min(1.0, (run.step - first + 1) / 100)
        tokens, wanted = (t.to(device) for t in segments.draw(batch))
        run.take_step(tokens, wanted, rate=rate, resolutions=len(RESOLUTIONS) if gpu else 2)
        run.minutes = before + used
        if run.step % SAVE_EVERY == 0:
            run.save(build / "vocoder")
    run.save(build / "vocoder")
    return run.codec.cpu().eval()


def resume_training(
    build: Path, *, device: str, filters: int | None = None, seed: int = 0
) -> VocoderTraining:
    """Return the training as the last run left it, or a fresh one with a decoder of so many filters."""
    folder = build / "vocoder"
    begun = (folder / "progress.json").exists()
    codec = load_codec(folder) if begun else with_fresh_decoder(fit_codec(build), filters, seed=seed)
    codec.to(device).train().requires_grad_(False)
    codec.decoder.requires_grad_(True)
    optimiser = torch.optim.AdamW(codec.decoder.parameters(), betas=(0.8, 0.99), weight_decay=0.0)
    spectral = SpectralLoss(codec.config.sampling_rate).to(device)
    progress = json.loads((folder / "progress.json").read_text()) if begun else {"step": 0}
    run = VocoderTraining(codec, optimiser, spectral, np.random.default_rng([seed, progress["step"]]))
    run.step, run.minutes = int(progress["step"]), float(progress.get("minutes", 0.0))
    if begun:
        saved = torch.load(folder / "optimiser.pt", weights_only=True, map_location=device)
        optimiser.load_state_dict(saved)
    if begun and (folder / "adversary.pt").exists():
        run.adversary = Adversary.resume(folder / "adversary.pt", device)
    return run


def with_fresh_decoder(codec: WorkbenchCodec, filters: int | None = None, *, seed: int = 0) -> WorkbenchCodec:
    """Return a codec with the same encoder and codebooks, and an untrained decoder of so many filters."""
    settings = codec.config.to_dict() | {"num_filters": filters or codec.config.num_filters}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = WorkbenchCodec(WorkbenchCodecConfig(**settings))
    fresh.encoder.load_state_dict(codec.encoder.state_dict())
    fresh.quantizer.load_state_dict(codec.quantizer.state_dict())
    return fresh
