"""The built-in model's audio codec: codes are a band's score, and a sampler plays them.

It speaks like transformers' ``EncodecModel`` (``encode``, ``decode``, ``config``), so everything that takes a
MusicGen takes the built-in one. The recorded samples lie in the weights, as the bytes of Ogg files, and each
is unpacked when it is first heard. Importing this module registers the codec with ``AutoConfig`` and
``AutoModel``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.models.encodec.modeling_encodec import EncodecDecoderOutput, EncodecEncoderOutput

from workbench.errors import ModelError
from workbench.model.band import BAND, PARTS, VOCABULARY
from workbench.model.band_ear import BandEar
from workbench.model.sampler import FRAME, RATE_HZ, Bank, Player, unpack_bank


class BandCodecConfig(PreTrainedConfig):
    """What transformers asks of an audio encoder, and where each recorded sound lies in the weights.

    Attributes:
        bank_bytes: Length of all Ogg files together.
        bank_index: What `unpack_bank` needs to know of each, in order.
        ear_width: Channels of the network that hears sound as codes, 0 for none.
    """

    model_type = BAND

    sampling_rate: int = RATE_HZ
    audio_channels: int = 1
    codebook_size: int = VOCABULARY
    num_quantizers: int = len(PARTS)
    hop_length: int = FRAME
    hidden_size: int = 128
    bank_bytes: int = 0
    bank_index: list[list[Any]] | None = None
    ear_width: int = 0

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
        self.place = nn.Buffer(torch.zeros(1))  # tells on which device the codec lives
        self.ear = BandEar(config.ear_width) if config.ear_width else None
        self._bank: Bank | None = None
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Leave the ear as its layers begin; nothing else is drawn at random."""

    def get_output_embeddings(self) -> None:
        """Return None: a codec has no vocabulary of its own."""

    @property
    def device(self) -> torch.device:
        """Where its weights lie; the sampler plays on the CPU."""
        return self.place.device

    @property
    def bank(self) -> Bank:
        """The recorded sounds."""
        if self._bank is None:
            self._bank = unpack_bank(self.bank_ogg.cpu().numpy().tobytes(), self.config.bank_index or [])
        return self._bank

    def player(self) -> Player:
        """Return a player of new music: what it is given in pieces sounds as if given at once."""
        return Player(self.bank)

    @torch.no_grad()
    def decode(
        self,
        audio_codes: Tensor,
        audio_scales: Any = None,
        padding_mask: Any = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Return the sound (batch, 1, frames x `FRAME`) of codes (1, batch, parts, frames)."""
        sounds = [self.player().play(codes) for codes in audio_codes[0].cpu().numpy()]
        values = torch.from_numpy(np.stack(sounds))[:, None].to(audio_codes.device)
        return EncodecDecoderOutput(values) if return_dict is not False else (values,)

    @torch.no_grad()
    def encode(self, input_values: Tensor, *_settings: Any, **_more: Any) -> EncodecEncoderOutput:
        """Return the codes (1, batch, parts, frames) of what the band would play to sound like this.

        Args:
            input_values: Sound (batch, channels, samples) at the codec's rate.

        Raises:
            ModelError: This band was saved without an ear.
        """
        if self.ear is None:
            raise ModelError(
                "Codes of a sound were asked for",
                "this band has no ear",
                "Load one whose `ear_width` is not 0",
            )
        return EncodecEncoderOutput(self.ear.codes(input_values.mean(1))[None], [None])


def codec_of(folder: Path) -> BandCodec:
    """Return the band of a model's folder alone, without the rest of the model."""
    prefix = "audio_encoder."
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))["audio_encoder"]
    codec = BandCodec(BandCodecConfig(**config))
    weights = {}
    for shard in sorted(folder.glob("*.safetensors")):
        with safe_open(shard, "pt") as file:
            for key in file.keys():  # noqa: SIM118  (a safetensors file is no dictionary)
                if key.startswith(prefix):
                    value = file.get_tensor(key)
                    weights[key.removeprefix(prefix)] = value.float() if value.is_floating_point() else value
    codec.load_state_dict(weights)
    return codec.eval()


AutoConfig.register(BandCodecConfig.model_type, BandCodecConfig, exist_ok=True)
AutoModel.register(BandCodecConfig, BandCodec, exist_ok=True)
