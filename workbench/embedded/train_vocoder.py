"""Trains the codec's decoder (a transformers EnCodec decoder) to turn codes back into sound.

Encoder and codebooks stay fixed, so the language model can be trained at the same time. The loss compares
spectra at several resolutions; phases are left to the decoder. Resumable: a checkpoint every 500 steps.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from workbench.embedded.corpus import Corpus, corpus
from workbench.embedded.fit_codec import encode_corpus, fit_codec, load_codec
from workbench.model.codec import WorkbenchCodec

SEGMENT_FRAMES, WARM_UP_FRAMES = 30, 4
RESOLUTIONS = (128, 256, 512, 1024, 2048)


class SpectralLoss(nn.Module):
    """Distance of two waveforms (B, n): log-mel and linear magnitudes at five window lengths."""

    def __init__(self, rate_hz: int) -> None:
        super().__init__()
        from librosa.filters import mel as mel_filters

        for size in RESOLUTIONS:
            bands = {128: 16, 256: 32, 512: 64, 1024: 80, 2048: 100}[size]
            mel = mel_filters(sr=rate_hz, n_fft=size, n_mels=bands, norm=None)
            self.register_buffer(f"mel_{size}", torch.from_numpy(mel))
            self.register_buffer(f"window_{size}", torch.hann_window(size))

    def forward(self, made: Tensor, wanted: Tensor) -> Tensor:
        """Return the loss, a scalar."""
        total = made.new_zeros(())
        for size in RESOLUTIONS:
            a, b = (self._spectrum(x, size) for x in (made, wanted))
            convergence = (a - b).norm() / b.norm().clamp(min=1e-3)
            mel = getattr(self, f"mel_{size}")
            total = (
                total
                + (torch.log10(mel @ a + 1e-3) - torch.log10(mel @ b + 1e-3)).abs().mean()
                + 0.3 * convergence
            )
        return total / len(RESOLUTIONS)

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
            first = int(self.rng.integers(self.codes[piece].shape[1] - SEGMENT_FRAMES))
            tokens.append(self.codes[piece][:, first : first + SEGMENT_FRAMES].astype(np.int64))
            at = int(self.pieces.starts[piece]) + first * self.hop
            waves.append(self.pieces.samples[at : at + SEGMENT_FRAMES * self.hop].astype(np.float32) / 32768)
        return torch.from_numpy(np.stack(tokens, axis=1)), torch.from_numpy(np.stack(waves))


def train_vocoder(
    build: Path, *, minutes: float, device: str = "cpu", batch: int = 8, lr: float = 5e-4, seed: int = 0
) -> WorkbenchCodec:
    """Return the codec with its decoder trained for so many more minutes; kept in ``build/vocoder``."""
    codec, optimiser, done = _resume(build, device, lr)
    codes = encode_corpus(codec, "train", build)
    segments = Segments(
        corpus("train", build), codes, codec.config.hop_length, np.random.default_rng([seed, done])
    )
    loss_of = SpectralLoss(codec.config.sampling_rate).to(device)
    begin, step = time.time(), done
    recent: list[float] = []
    while (used := (time.time() - begin) / 60) < minutes:
        for group in optimiser.param_groups:
            group["lr"] = lr * max(0.05, 1 - used / minutes) * min(1.0, (step - done + 1) / 100)
        loss = _loss(codec, loss_of, *(t.to(device) for t in segments.draw(batch)))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(codec.decoder.parameters(), 1.0)
        optimiser.step()
        step += 1
        recent.append(float(loss.detach()))
        if step % 500 == 0:
            _save(build, codec, optimiser, (step, float(np.mean(recent)), used))
            recent = []
    _save(build, codec, optimiser, (step, float(np.mean(recent or [np.nan])), minutes))
    return codec.eval()


def _loss(codec: WorkbenchCodec, loss_of: SpectralLoss, tokens: Tensor, wanted: Tensor) -> Tensor:
    """Return the loss of a batch, its first frames left out: the decoder has not heard what came before."""
    with torch.autocast(tokens.device.type, dtype=torch.bfloat16):
        made = codec.decoder(codec.quantizer.decode(tokens))
    skip = WARM_UP_FRAMES * codec.config.hop_length
    loss: Tensor = loss_of(made[:, 0, skip:], wanted[:, skip:])
    return loss


def _resume(build: Path, device: str, lr: float) -> tuple[WorkbenchCodec, torch.optim.Optimizer, int]:
    """Return codec and optimiser as the last run left them, or fresh ones, and the steps done."""
    folder = build / "vocoder"
    begun = (folder / "progress.json").exists()
    codec = load_codec(folder) if begun else fit_codec(build)
    codec.to(device).train()
    codec.decoder.requires_grad_(True)
    optimiser = torch.optim.AdamW(codec.decoder.parameters(), lr=lr, betas=(0.8, 0.99), weight_decay=0.0)
    if not begun:
        return codec, optimiser, 0
    optimiser.load_state_dict(torch.load(folder / "optimiser.pt", weights_only=True))
    return codec, optimiser, int(json.loads((folder / "progress.json").read_text())["step"])


def _save(
    build: Path, codec: WorkbenchCodec, optimiser: torch.optim.Optimizer, line: tuple[int, float, float]
) -> None:
    """Write codec and optimiser, and a line of the log: step, mean loss, minutes."""
    folder = build / "vocoder"
    codec.save_pretrained(folder)
    torch.save(optimiser.state_dict(), folder / "optimiser.pt")
    (folder / "progress.json").write_text(json.dumps({"step": line[0]}))
    with (folder / "log.csv").open("a") as log:
        log.write(f"{line[0]},{line[1]:.5f},{line[2]:.2f}\n")
