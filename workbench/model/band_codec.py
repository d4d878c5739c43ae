"""The built-in model's audio codec: codes are a band's score, and a sampler plays them.

It speaks like transformers' ``EncodecModel`` (``encode``, ``decode``, ``config``), and importing this module
registers it with transformers. The recorded samples are in the weights, as the bytes of Ogg files.

The band's ear is a small network that says what the band would play to sound like a recording. In each frame
it sees four log-mel spectra (timbre), eight coarse spectra of 5 ms (hits) and two semitone spectra (notes;
bass needs a long window), with more than a second on either side. It was trained on what the band itself
plays (`recipe.train_hearing`). Two things are decided over longer stretches than a frame: bars go on at one
tempo, and instruments and kits stay what they mostly are in the seconds around.
"""

from __future__ import annotations

import json
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.models.encodec.modeling_encodec import EncodecDecoderOutput, EncodecEncoderOutput

from workbench.errors import ModelError
from workbench.model import band
from workbench.model.band import BEAT_FRAMES, FIRST, FRAME_RATE_HZ, INSTRUMENT_TOKENS, PARTS, TOKENS
from workbench.model.band_sampler import FRAME, RATE_HZ, Bank, Player, unpack_bank

HANDS = {  # drums have a head a hand
    "kick": 2, "snare_hand": len(band.SNARE_HAND), "cymbal_hand": len(band.CYMBAL_HAND), "kit": len(band.KITS)
}  # fmt: skip
_AROUND = 3 * FRAME_RATE_HZ  # frames on either side in which instruments stay what they mostly are
_LEVEL, _SILENCE = 0.125, 0.001  # RMS that the ear expects, that of most music; what is softer is not raised
_MELS, _HITS, _LOWEST, _SEMITONES = 48, 16, 28, 72
_SPECTRA = ((1024, 320, "mel"), (320, 160, "hits"), (8192, 1280, "semitones"), (4096, 1280, "semitones"))
FEATURES = 4 * _MELS + 8 * _HITS + 2 * _SEMITONES


class BandEar(nn.Module):
    """Odds of each part's tokens in every frame, from layers of `width` channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv1d(FEATURES, width, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Conv1d(width, width, 5, padding=2 * spread, dilation=spread) for spread in (1, 2, 4, 8)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(len(self.blocks) + 1))
        heads = {name: nn.Linear(width, count) for name, count in (TOKENS | HANDS).items()}
        self.heads = nn.ModuleDict(heads)

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """Return logits (B, frames, tokens) of each head for features (B, frames, `FEATURES`)."""
        x = self.first(features.to(self.first.weight.dtype).transpose(1, 2))
        for norm, block in zip(self.norms, self.blocks, strict=False):
            x = x + block(functional.gelu(_across(norm, x)))
        states = functional.gelu(_across(self.norms[-1], x)).transpose(1, 2)
        return {name: head(states) for name, head in self.heads.items()}

    @torch.no_grad()
    def codes(self, waveform: Tensor) -> Tensor:
        """Return tokens (B, parts, frames) for sound (B, samples) at 32 kHz, however loud it is."""
        level = waveform.float().square().mean(-1, keepdim=True).sqrt()
        logits = self(features_of(waveform.float() * (_LEVEL / level.clamp(min=_SILENCE))))
        odds = {name: functional.log_softmax(head.float(), -1).cpu().numpy() for name, head in logits.items()}
        codes = np.zeros((len(waveform), len(PARTS), logits["lead"].shape[1]), np.int64)
        for row in range(len(waveform)):
            own = {name: one[row] for name, one in odds.items()}
            codes[row, :2] = _counted(own["conductor"]), _hit(own)
            for number, part in enumerate(PARTS[2:], start=2):
                each = INSTRUMENT_TOKENS.get(part)
                codes[row, number] = (_steady(own[part], each) if each else own[part]).argmax(-1)
        return torch.from_numpy(codes).to(waveform.device)


def _across(norm: nn.Module, x: Tensor) -> Tensor:
    return norm(x.transpose(1, 2)).transpose(1, 2)


def features_of(waveform: Tensor) -> Tensor:
    """Return what the ear sees (B, frames, `FEATURES`) of sound (B, samples) at 32 kHz."""
    samples = waveform.float()
    frames = -(-samples.shape[-1] // FRAME)
    found = []
    for window, hop, kind in _SPECTRA:
        whole = frames * FRAME - samples.shape[-1]
        margin = (window - hop) // 2
        padded = functional.pad(samples, (margin, whole + margin))
        shape = torch.hann_window(window, device=samples.device)
        power = torch.stft(padded, window, hop, window=shape, center=False, return_complex=True).abs()
        bands = _bands(window, kind).to(samples.device) @ (power / window**0.5)
        level = torch.log10(bands + 1e-3) + 1.5
        found.append(level.transpose(1, 2).reshape(len(samples), frames, -1))
    return torch.cat(found, dim=-1)


@lru_cache
def _bands(window: int, kind: str) -> Tensor:
    """Return triangular bands (bands, bins) over the bins of a spectrum."""
    if kind == "semitones":
        centres = 440.0 * 2 ** ((np.arange(-1, _SEMITONES + 1) + _LOWEST - 69) / 12)
    else:
        count, low, high = (_MELS, 40.0, 14_000.0) if kind == "mel" else (_HITS, 60.0, 15_500.0)
        first, last = (2595 * np.log10(1 + hz / 700) for hz in (low, high))
        centres = 700 * (10 ** (np.linspace(first, last, count + 2) / 2595) - 1)
    bins = np.arange(window // 2 + 1) * RATE_HZ / window
    half = np.maximum(np.diff(centres), RATE_HZ / window)  # at least the width of a bin
    rising = 1 - (centres[1:-1, None] - bins) / half[:-1, None]
    falling = 1 - (bins - centres[1:-1, None]) / half[1:, None]
    bands = np.clip(np.minimum(rising, falling), 0.0, None)
    return torch.from_numpy(bands / bands.sum(1, keepdims=True)).float()


def _counted(odds: np.ndarray) -> np.ndarray:
    """Return conductor tokens (frames,): the tempo and the place in the bar that fit all frames best."""
    places, best, chosen = np.arange(len(odds)), -np.inf, np.zeros(len(odds), np.int64)
    for tempo, beat in BEAT_FRAMES.items():
        tokens = np.array([band.conductor_token(tempo, frame) for frame in range(4 * beat)])
        for first in range(4 * beat):
            counted = tokens[(first + places) % len(tokens)]
            fit = odds[places, counted].sum()
            if fit > best:
                best, chosen = fit, counted
    return chosen


def _hit(odds: dict[str, np.ndarray]) -> np.ndarray:
    """Return drum tokens (frames,); the kit is what it mostly is around, where something is hit."""
    hands = {name: odds[name].argmax(-1) for name in ("kick", "snare_hand", "cymbal_hand")}
    hit = np.any([hand > 0 for hand in hands.values()], axis=0)
    kits = _around(np.exp(odds["kit"]) * hit[:, None]).argmax(-1)
    rows = zip(kits.tolist(), *(hand.tolist() for hand in hands.values()), strict=True)
    return np.array([band.drum_token(k, kick=a > 0, snare_hand=b, cymbal_hand=c) for k, a, b, c in rows])


def _steady(odds: np.ndarray, each: int) -> np.ndarray:
    """Return log-odds in which instruments (`each` tokens a piece) count as often as they play around."""
    begins = np.exp(odds[:, FIRST:]).reshape(len(odds), -1, each)
    share = _around(begins.sum(-1)) + 1e-9
    weighted = begins * (share / share.sum(-1, keepdims=True))[..., None]
    weighted *= (begins.sum((1, 2)) / np.maximum(weighted.sum((1, 2)), 1e-30))[:, None, None]
    steady = odds.copy()
    steady[:, FIRST:] = np.log(weighted + 1e-30).reshape(len(odds), -1)
    return steady


def _around(values: np.ndarray) -> np.ndarray:
    """Return the sums (frames, n) of `values` over the frames around each."""
    sums = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])
    places = np.arange(len(values))
    return sums[np.minimum(places + _AROUND + 1, len(values))] - sums[np.maximum(places - _AROUND, 0)]


class BandCodecConfig(PreTrainedConfig):
    """What transformers needs of an audio encoder, and where each recorded sound is in the weights."""

    model_type = band.BAND

    sampling_rate: int = RATE_HZ
    audio_channels: int = 1
    codebook_size: int = band.VOCABULARY
    num_quantizers: int = len(PARTS)
    hop_length: int = FRAME
    hidden_size: int = 128
    bank_bytes: int = 0  # length of all Ogg files together
    bank_index: list[list[Any]] | None = None  # what `unpack_bank` needs to know of each, in order
    ear_width: int = 0  # channels of the network that turns sound into codes, 0 for none

    @property
    def frame_rate(self) -> float:
        """Frames a second."""
        return self.sampling_rate / self.hop_length


class BandCodec(PreTrainedModel):
    """Codes (frames of a score) to sound and back."""

    config_class = BandCodecConfig
    main_input_name = "input_values"

    def __init__(self, config: BandCodecConfig) -> None:
        super().__init__(config)
        self.bank_ogg = nn.Buffer(torch.zeros(config.bank_bytes, dtype=torch.uint8))
        self.place = nn.Buffer(torch.zeros(1))  # on the device of the codec
        self.ear = BandEar(config.ear_width) if config.ear_width else None
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Leave the ear as its layers begin; nothing else is drawn at random."""

    def get_output_embeddings(self) -> None:
        """Return None: a codec has no vocabulary of its own."""

    @property
    def device(self) -> torch.device:
        """Where its weights lie; the sampler plays on the CPU."""
        return self.place.device

    @cached_property
    def bank(self) -> Bank:
        """The recorded sounds; each is unpacked when it is first played."""
        return unpack_bank(self.bank_ogg.cpu().numpy().tobytes(), self.config.bank_index or [])

    def player(self) -> Player:
        """Return a player of new music: what it is given in pieces sounds as if given at once."""
        return Player(self.bank)

    @torch.no_grad()
    def decode(
        self, audio_codes: Tensor, audio_scales: Any = None, padding_mask: Any = None, return_dict: Any = None
    ) -> Any:
        """Return the sound (batch, 1, frames x `FRAME`) of codes (1, batch, parts, frames)."""
        sounds = [self.player().play(codes) for codes in audio_codes[0].cpu().numpy()]
        values = torch.from_numpy(np.stack(sounds))[:, None].to(audio_codes.device)
        return EncodecDecoderOutput(values) if return_dict is not False else (values,)

    @torch.no_grad()
    def encode(self, input_values: Tensor, *_settings: Any, **_more: Any) -> EncodecEncoderOutput:
        """Return codes (1, batch, parts, frames), what the band would play for (batch, channels, samples)."""
        if self.ear is None:
            do = "Load one whose `ear_width` is not 0"
            raise ModelError("Codes of a sound were asked for", "this band has no ear", do)
        return EncodecEncoderOutput(self.ear.codes(input_values.mean(1))[None], [None])


def codec_of(folder: Path) -> BandCodec:
    """Return the band of a model's folder alone, without the rest of the model."""
    prefix = "audio_encoder."
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))["audio_encoder"]
    codec = BandCodec(BandCodecConfig(**config))
    stored = [item for shard in folder.glob("*.safetensors") for item in load_file(shard).items()]
    codec.load_state_dict({key.removeprefix(prefix): one for key, one in stored if key.startswith(prefix)})
    return codec.eval()


AutoConfig.register(BandCodecConfig.model_type, BandCodecConfig, exist_ok=True)
AutoModel.register(BandCodecConfig, BandCodec, exist_ok=True)
