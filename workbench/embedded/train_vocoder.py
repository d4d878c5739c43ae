"""Trains the codec's decoder (a transformers EnCodec decoder) to turn codes back into sound.

Encoder and codebooks stay fixed, so the language model can be trained at the same time. The loss compares
spectra at several resolutions; phases are left to the decoder. Resumable: a checkpoint every 500 steps.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from workbench.embedded.corpus import corpus
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


def train_vocoder(
    build: Path, *, minutes: float, device: str = "cpu", batch: int = 8, lr: float = 5e-4, seed: int = 0
) -> WorkbenchCodec:
    """Return the codec with its decoder trained for so many more minutes; kept in ``build/vocoder``."""
    codec, state, done = _resume(build)
    codec.to(device).train()
    codec.decoder.requires_grad_(True)
    pieces, codes = corpus("train", build), encode_corpus(codec, "train", build)
    loss_of = SpectralLoss(codec.config.sampling_rate).to(device)
    optimiser = torch.optim.AdamW(codec.decoder.parameters(), lr=lr, betas=(0.8, 0.99), weight_decay=0.0)
    if state is not None:
        optimiser.load_state_dict(state)
    rng = np.random.default_rng([seed, done])
    begin, step, recent = time.time(), done, []
    while (used := (time.time() - begin) / 60) < minutes:
        for group in optimiser.param_groups:
            group["lr"] = lr * max(0.05, 1 - used / minutes) * min(1.0, (step - done + 1) / 100)
        tokens, wanted = _draw(rng, pieces.samples, pieces.starts, codes, codec, batch)
        with torch.autocast(device, dtype=torch.bfloat16):
            made = codec.decoder(codec.quantizer.decode(tokens.to(device)))
        skip = WARM_UP_FRAMES * codec.config.hop_length
        loss = loss_of(made[:, 0, skip:], wanted.to(device)[:, skip:])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(codec.decoder.parameters(), 1.0)
        optimiser.step()
        step += 1
        recent.append(float(loss.detach()))
        if step % 500 == 0:
            _save(build, codec, optimiser, step, float(np.mean(recent)), used)
            recent = []
    _save(build, codec, optimiser, step, float(np.mean(recent or [np.nan])), minutes)
    return codec.eval()


def _draw(
    rng: np.random.Generator,
    samples: np.ndarray,
    starts: np.ndarray,
    codes: list[np.ndarray],
    codec: WorkbenchCodec,
    batch: int,
) -> tuple[Tensor, Tensor]:
    """Return codes (codebooks, batch, frames) and the waveforms (batch, n) that they stand for."""
    hop = codec.config.hop_length
    tokens, waves = [], []
    for piece in rng.integers(len(codes), size=batch):
        first = int(rng.integers(codes[piece].shape[1] - SEGMENT_FRAMES))
        tokens.append(codes[piece][:, first : first + SEGMENT_FRAMES].astype(np.int64))
        at = int(starts[piece]) + first * hop
        waves.append(samples[at : at + SEGMENT_FRAMES * hop].astype(np.float32) / 32768)
    return torch.from_numpy(np.stack(tokens, axis=1)), torch.from_numpy(np.stack(waves))


def _resume(build: Path) -> tuple[WorkbenchCodec, dict[str, object] | None, int]:
    folder = build / "vocoder"
    if (folder / "progress.json").exists():
        state = torch.load(folder / "optimiser.pt", weights_only=True)
        return (
            load_codec(folder),
            state,
            json.loads((folder / "progress.json").read_text())["step"],
        )
    return fit_codec(build), None, 0


def _save(
    build: Path, codec: WorkbenchCodec, optimiser: torch.optim.Optimizer, step: int, loss: float, used: float
) -> None:
    folder = build / "vocoder"
    codec.save_pretrained(folder)
    torch.save(optimiser.state_dict(), folder / "optimiser.pt")
    (folder / "progress.json").write_text(json.dumps({"step": step}))
    with (folder / "log.csv").open("a") as log:
        log.write(f"{step},{loss:.5f},{used:.2f}\n")
