"""The built-in model's audio codec: an EnCodec whose encoder is computed instead of learned.

Training a small EnCodec end to end on a laptop fails (its quantiser collapses). Here the encoder is analytic:
log-mel frames every 10 ms, four stacked, projected by principal components to 64 numbers, 25 times a second.
Quantiser and decoder are transformers' own EnCodec classes, so everything that speaks to an ``EncodecModel``
(``encode``, ``decode``, ``MusicgenForConditionalGeneration``) speaks to this one. Importing this module
registers the codec with ``AutoConfig`` and ``AutoModel``.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, EncodecConfig, EncodecModel


class WorkbenchCodecConfig(EncodecConfig):
    """EnCodec's configuration plus the analytic encoder's three numbers."""

    model_type = "workbench_codec"

    window: int = 1024  # samples of the Fourier window
    mel_bands: int = 80
    stack: int = 4  # log-mel frames in one codec frame


class LogMelEncoder(nn.Module):
    """Log-mel frames, stacked and projected: waveform (B, 1, n) -> embeddings (B, hidden, n / hop)."""

    def __init__(self, config: WorkbenchCodecConfig) -> None:
        super().__init__()
        self.hop = config.hop_length // config.stack
        self.window = config.window
        self.stack = config.stack
        stacked = config.mel_bands * config.stack
        self.mel = nn.Buffer(torch.zeros(config.mel_bands, config.window // 2 + 1))
        self.mean = nn.Buffer(torch.zeros(stacked))
        self.projection = nn.Buffer(torch.zeros(config.hidden_size, stacked))

    def log_mel(self, waveform: Tensor) -> Tensor:
        """Return stacked log-mel frames (B, frames, bands * stack) of a waveform (B, 1, n).

        The waveform is padded with silence to whole codec frames; each 10 ms frame is centred on its hop.
        """
        samples = waveform[:, 0].float()
        whole = -(-samples.shape[-1] // (self.hop * self.stack)) * self.hop * self.stack
        margin = (self.window - self.hop) // 2
        padded = nn.functional.pad(samples, (margin, whole - samples.shape[-1] + margin))
        spectrum = torch.stft(
            padded,
            self.window,
            self.hop,
            window=torch.hann_window(self.window, device=padded.device),
            center=False,
            return_complex=True,
        ).abs()
        mel = torch.log10(self.mel.float() @ spectrum + 1e-3).transpose(1, 2)
        return mel.reshape(mel.shape[0], -1, mel.shape[-1] * self.stack)

    def forward(self, waveform: Tensor) -> Tensor:
        """Return embeddings (B, hidden, frames) of a waveform (B, 1, n)."""
        centred = self.log_mel(waveform) - self.mean.float()
        return (centred @ self.projection.float().T).transpose(1, 2).to(self.projection.dtype)


class WorkbenchCodec(EncodecModel):
    """An ``EncodecModel`` with the analytic encoder; ``encode`` and ``decode`` are EnCodec's own."""

    config_class = WorkbenchCodecConfig

    def __init__(self, config: WorkbenchCodecConfig) -> None:
        super().__init__(config)
        self.encoder = LogMelEncoder(config)


AutoConfig.register(WorkbenchCodecConfig.model_type, WorkbenchCodecConfig, exist_ok=True)
AutoModel.register(WorkbenchCodecConfig, WorkbenchCodec, exist_ok=True)


def codec_of(folder: Path) -> WorkbenchCodec:
    """Return only the codec of a saved built-in model, in float32 (a tenth of the weights, half a second).

    Args:
        folder: written by ``MusicgenForConditionalGeneration.save_pretrained`` with this codec inside.
    """
    prefix = "audio_encoder."
    config = WorkbenchCodecConfig(**json.loads((folder / "config.json").read_text())["audio_encoder"])
    codec = WorkbenchCodec(config)
    weights = {
        key.removeprefix(prefix): value.float()
        for shard in sorted(folder.glob("*.safetensors"))
        for key, value in load_file(shard).items()
        if key.startswith(prefix)
    }
    codec.load_state_dict(weights)
    return codec.eval()
