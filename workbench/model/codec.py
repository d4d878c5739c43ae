"""The built-in model's audio codec: an EnCodec whose encoder is computed instead of learned.

Training a small EnCodec end to end on a laptop fails (its quantiser collapses). Here the encoder is analytic
and has two halves, 25 times a second. The *texture* half is a log-mel spectrogram, a frame every 10 ms, four
stacked: loudness, drums, timbre. The *pitch* half is a semitone spectrum from a longer window with its
envelope taken away: which notes sound. Each is projected by principal components into its own half of the
embedding, and codebooks lie in one half each, in turn (texture, pitch, texture, pitch). So a drum hit and a
chord are two tokens instead of one of their many combinations.

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
    """EnCodec's configuration plus the analytic encoder's numbers."""

    model_type = "workbench_codec"

    window: int = 1024  # samples of the texture half's Fourier window
    mel_bands: int = 40
    stack: int = 4  # log-mel frames in one codec frame
    pitch_window: int = 2048
    semitones: int = 0  # bands of the pitch half; 0: there is no pitch half
    lowest_pitch: int = 40  # MIDI number of the first


class AnalyticEncoder(nn.Module):
    """Texture and pitch of a waveform (B, 1, n) as embeddings (B, hidden, n / hop)."""

    def __init__(self, config: WorkbenchCodecConfig) -> None:
        super().__init__()
        self.hop = config.hop_length // config.stack
        self.window = config.window
        self.stack = config.stack
        stacked = config.mel_bands * config.stack
        self.textures = config.hidden_size // 2 if config.semitones else config.hidden_size
        self.mel = nn.Buffer(torch.zeros(config.mel_bands, config.window // 2 + 1))
        self.mean = nn.Buffer(torch.zeros(stacked))
        self.projection = nn.Buffer(torch.zeros(self.textures, stacked))
        self.pitch_window = config.pitch_window
        if config.semitones:
            bins = config.pitch_window // 2 + 1
            self.semitone = nn.Buffer(torch.zeros(config.semitones, bins))
            self.pitch_mean = nn.Buffer(torch.zeros(config.semitones))
            self.pitch_projection = nn.Buffer(
                torch.zeros(config.hidden_size - self.textures, config.semitones)
            )

    @property
    def hears_pitch(self) -> bool:
        """Whether there is a pitch half."""
        return hasattr(self, "semitone")

    def texture(self, waveform: Tensor) -> Tensor:
        """Return stacked log-mel frames (B, frames, bands * stack) of a waveform (B, 1, n).

        The waveform is padded with silence to whole codec frames; each 10 ms frame is centred on its hop.
        """
        spectrum = self._magnitudes(waveform, self.window, self.hop)
        mel = torch.log10(self.mel.float() @ spectrum + 1e-3).transpose(1, 2)
        return mel.reshape(mel.shape[0], -1, mel.shape[-1] * self.stack)

    def pitch(self, waveform: Tensor) -> Tensor:
        """Return how far each semitone stands out of its octave (B, frames, semitones), in log10 units."""
        spectrum = self._magnitudes(waveform, self.pitch_window, self.hop * self.stack)
        level = torch.log10(self.semitone.float() @ spectrum + 1e-2)
        return (level - _octave_mean(level)).transpose(1, 2)

    def forward(self, waveform: Tensor) -> Tensor:
        """Return embeddings (B, hidden, frames) of a waveform (B, 1, n)."""
        parts = [(self.texture(waveform) - self.mean.float()) @ self.projection.float().T]
        if self.hears_pitch:
            parts.append((self.pitch(waveform) - self.pitch_mean.float()) @ self.pitch_projection.float().T)
        return torch.cat(parts, dim=-1).transpose(1, 2).to(self.projection.dtype)

    def spectrum_estimate(self, embeddings: Tensor) -> Tensor:
        """Return magnitudes (B, window // 2 + 1, hops) that embeddings (B, hidden, frames) stand for.

        The texture half gives the envelope (pseudo-inverses of projection and mel bands, floored at zero),
        the pitch half the fine structure where it has bands. What a vocoder has to beat: Griffin-Lim on this.
        """
        rows = embeddings.float().transpose(1, 2)
        stacked = rows[..., : self.textures] @ torch.linalg.pinv(self.projection.float().T)
        mel = (stacked + self.mean.float()).reshape(rows.shape[0], -1, self.mel.shape[0])
        energy = (10**mel - 1e-3).clamp(min=0).transpose(1, 2)
        spectrum = (torch.linalg.pinv(self.mel.float()) @ energy).clamp(min=0)
        if not self.hears_pitch:
            return spectrum
        detail = rows[..., self.textures :] @ torch.linalg.pinv(self.pitch_projection.float().T)
        detail = (detail + self.pitch_mean.float()).repeat_interleave(self.stack, dim=1).transpose(1, 2)
        step = (self.pitch_window // 2) // (self.window // 2)
        bands = self.semitone.float()[:, ::step]
        heard = bands.sum(dim=0)
        weights = bands / heard.clamp(min=1e-6) * (heard > 1e-4)
        fine = spectrum * 10 ** (weights.T @ detail)
        mel = self.mel.float()
        correction = energy / (mel @ fine).clamp(min=1e-6)  # the mel bands' energy stays what the codes say
        return fine * ((mel.T @ correction) / mel.sum(dim=0)[:, None].clamp(min=1e-6))

    def _magnitudes(self, waveform: Tensor, window: int, hop: int) -> Tensor:
        """Return |STFT| (B, bins, hops), windows centred on hops, padded to whole codec frames."""
        samples = waveform[:, 0].float()
        frame = self.hop * self.stack
        whole = -(-samples.shape[-1] // frame) * frame
        margin = (window - hop) // 2
        padded = nn.functional.pad(samples, (margin, whole - samples.shape[-1] + margin))
        shape = torch.hann_window(window, device=padded.device)
        return torch.stft(padded, window, hop, window=shape, center=False, return_complex=True).abs()


def _octave_mean(level: Tensor) -> Tensor:
    """Return the mean over thirteen neighbouring bands (B, bands, frames), fewer at the edges."""
    columns = level.transpose(1, 2)
    return nn.functional.avg_pool1d(columns, 13, 1, padding=6, count_include_pad=False).transpose(1, 2)


class WorkbenchCodec(EncodecModel):
    """An ``EncodecModel`` with the analytic encoder; ``encode`` and ``decode`` are EnCodec's own."""

    config_class = WorkbenchCodecConfig

    def __init__(self, config: WorkbenchCodecConfig) -> None:
        super().__init__(config)
        self.encoder = AnalyticEncoder(config)


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
