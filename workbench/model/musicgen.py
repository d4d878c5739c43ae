"""The model as the rest of the workbench sees it: a few measured facts, text in, codes and clips out."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from workbench.errors import GenerationError, ModelError, number_or_nan
from workbench.files import DIGEST, check_digest, digest_of
from workbench.model import sampling as tokens
from workbench.model.codec import PieceDecoder, decode_codes, encode_clip
from workbench.model.conditioning import (
    FRAMES_PER_SECOND,
    TEXT_ROOM,
    Melody,
    TextStates,
    encode_text,
    null_text,
    prefix_of,
)
from workbench.model.folders import (
    cache_folder,
    folder_fingerprint,
    keep,
    module_fingerprint,
    say_damaged,
    weight_files,
)
from workbench.model.network import Network, live
from workbench.model.sampling import Sampling, private_generators
from workbench.sound.clip import Clip

# R_l, the mean residual norm of each layer: the unit of dose.
#
# R_l is the mean of |h[l, t]| over unsteered generation from neutral prompts, conditional rows, after the
# first step (whose input is BOS alone), at guidance 3, temperature 1 and the 250 likeliest codes, whatever
# the
# checkpoint's own settings are. Measured once per model and kept: in the model's own folder
# (`workbench.json`, key "residual_norms") when it was shipped with it, else in the user's cache.


NEUTRAL_PROMPTS = ("a tune", "a piece of music", "a song", "a track")
SEED, SECONDS, GUIDANCE, SHIPPED, KEY = 0, 2.0, 3.0, "workbench.json", "residual_norms"


def residual_norms(model: Model, measured: np.ndarray | None = None, *, cache: bool = True) -> np.ndarray:
    """R_l, shape (n_layers,) float32: shipped with the model, or cached, or measured now and cached.

    Args:
        model: The model.
        measured: What was measured before; None: nothing was.
        cache: Whether to keep what is measured now in the user's cache.
    """
    places = [cache_folder("norms") / f"{model.fingerprint}.json"]
    if model.folder is not None:
        places.insert(0, model.folder / SHIPPED)
    for path in places:
        held = _stored(path, model.n_layers)
        if held is not None:
            return held
    norms = measure_residual_norms(model) if measured is None else measured
    if cache:
        record = {KEY: norms.tolist()}
        keep(places[-1], json.dumps(record | {DIGEST: digest_of(record)}).encode())
    return norms


def _stored(path: Path, n_layers: int) -> np.ndarray | None:
    """The norms in `path`; None where there are none for this number of layers, with notice of damage."""
    try:
        if not path.is_file():
            return None
        record = json.loads(path.read_bytes())
        if (
            path.name == SHIPPED and isinstance(record, dict) and KEY not in record
        ):  # it may say other things of the model only
            return None
        check_digest(path, record, notice=False)
        norms = np.array(record[KEY], dtype=np.float32)
        if norms.shape != (n_layers,) or not (np.isfinite(norms) & (norms > 0)).all():
            raise ValueError(f"it holds no norms of {n_layers} layers")
    except (OSError, ValueError, TypeError, LookupError, RecursionError) as error:
        say_damaged(path, error)
        return None
    return norms


def measure_residual_norms(model: Model, *, seconds: float = SECONDS) -> np.ndarray:
    """R_l, shape (n_layers,) float32, from one unsteered batch of the neutral prompts."""
    frames = model.frames_for(min(seconds, model.max_seconds))
    seeds = [SEED + index for index in range(len(NEUTRAL_PROMPTS))]
    run = model.sampling(NEUTRAL_PROMPTS, seeds=seeds, frames=frames, guidance=GUIDANCE)
    totals = torch.zeros(model.n_layers, device=model.device)
    network, layers = model.network, model.layers
    with model.exclusive(), network.sample(run) as tracer:
        for step in tracer.iter[: run.steps]:
            for layer in layers:
                norms = live(network, (layer, "resid_post"))[: run.batch].float().norm(dim=-1)
                if step > 0:
                    totals[layer] += norms.mean()
    means: np.ndarray = (totals / max(1, run.steps - 1)).cpu().numpy().astype(np.float32)
    return means


class Model:
    """A MusicGen under nnsight.

    `network` is the nnsight wrapper and `musicgen` the untouched transformers model inside it, for those
    who want to trace by hand. Only one trace may run at a time; `exclusive()` sees to it.

    Attributes:
        random_device: Where random numbers are drawn: on the CPU, so that a seed means the same codes on
            every device. Set it to `model.device` to save a copy per step; seeds then mean other codes there.
    """

    def __init__(
        self,
        musicgen: Any,
        tokenizer: Any,
        *,
        id: str,  # noqa: A002  (the word of the field)
        folder: Path | None = None,
        fingerprint: str | None = None,
        notes: str = "",
    ) -> None:
        """Wrap `musicgen`, a MusicgenForConditionalGeneration in evaluation mode; `load` is the usual way."""
        self.id = id
        self.folder = folder
        self.notes = notes
        self.musicgen = musicgen
        self.tokenizer = tokenizer
        self.network = Network(musicgen)
        self.random_device = torch.device("cpu")
        self.lock = threading.RLock()
        self._tracing = False
        self._fingerprint = fingerprint
        self._norms: np.ndarray | None = None

    @property
    def _config(self) -> Any:
        return self.musicgen.decoder.config

    @property
    def n_layers(self) -> int:
        """The number of decoder blocks."""
        return int(self._config.num_hidden_layers)

    @property
    def layers(self) -> range:
        """The decoder blocks, counted from 0."""
        return range(self.n_layers)

    @property
    def d_model(self) -> int:
        """The width of the residual stream."""
        return int(self._config.hidden_size)

    @property
    def n_heads(self) -> int:
        """Self-attention heads of a block."""
        return int(self._config.num_attention_heads)

    @property
    def n_codebooks(self) -> int:
        """Codes per frame, k: 4 for mono MusicGen, 8 for stereo, 7 for the built-in model."""
        return int(self._config.num_codebooks)

    @property
    def codebook_size(self) -> int:
        """Codes per codebook: 2048 for MusicGen, 512 for the built-in model."""
        return int(self._config.vocab_size)

    @property
    def delays(self) -> tuple[int, ...]:
        """Steps by which each codebook lags behind the first."""
        return tokens.delay_pattern(self.n_codebooks, int(self._config.audio_channels))

    @property
    def bos(self) -> int:
        """The id that stands where no code has been written."""
        return int(self._config.bos_token_id)

    @property
    def codec(self) -> str:
        """The kind of its codec, as transformers calls it: "encodec", "workbench_band"."""
        return str(self.musicgen.audio_encoder.config.model_type)

    @property
    def rate_hz(self) -> int:
        """Samples per second of the sound that comes out."""
        return int(self.musicgen.audio_encoder.config.sampling_rate)

    @property
    def frame_rate_hz(self) -> float:
        """Codec frames, and so decoding steps, per second of sound."""
        return float(self.musicgen.audio_encoder.config.frame_rate)

    @property
    def takes_melody(self) -> bool:
        """Whether it can be given a melody; text and melody then stand before the music (conditioning.py)."""
        return bool(self.musicgen.config.model_type == "musicgen_melody")

    @property
    def prefix_room(self) -> int:
        """Positions that are kept free for melody and text, where the decoder reads them before the music."""
        return int(self.musicgen.config.chroma_length) + TEXT_ROOM if self.takes_melody else 0

    @property
    def max_seconds(self) -> float:
        """The longest sound whose steps fit the decoder's positions."""
        return float(self.max_frames / self.frame_rate_hz)

    @property
    def max_frames(self) -> int:
        """The most frames whose steps fit the decoder's positions."""
        return int(self._config.max_position_embeddings) - self.prefix_room - max(self.delays)

    @property
    def guidance(self) -> float:
        """Classifier-free guidance unless told otherwise: the checkpoint's setting, else MusicGen's 3."""
        return float(_unless_none(self.musicgen.generation_config.guidance_scale, 3.0))

    @property
    def temperature(self) -> float:
        """Temperature of the draws unless told otherwise: the checkpoint's setting, else 1."""
        return float(_unless_none(self.musicgen.generation_config.temperature, 1.0))

    @property
    def top_k(self) -> int:
        """Codes that each draw keeps unless told otherwise: the checkpoint's setting, else MusicGen's 250."""
        return int(_unless_none(self.musicgen.generation_config.top_k, 250))

    @property
    def draws(self) -> dict[str, Any]:
        """Temperature and top-k of the draws unless told otherwise, as `sampling` takes them."""
        return {"temperature": self.temperature, "top_k": self.top_k}

    @property
    def device(self) -> torch.device:
        """Where the decoder runs."""
        return torch.device(self.musicgen.decoder.device)

    @property
    def dtype(self) -> torch.dtype:
        """The decoder's precision; the codec always runs in float32."""
        dtype: torch.dtype = self.musicgen.decoder.dtype
        return dtype

    @cached_property
    def fingerprint(self) -> str:
        """A hash of configuration and weights, 64 hex digits; the same in every precision."""
        if self._fingerprint is not None:
            return self._fingerprint
        if self.folder is not None and weight_files(self.folder):
            return folder_fingerprint(self.folder)
        return module_fingerprint(self.musicgen)  # a hash of config.json alone would stand for any weights

    def frames_for(self, seconds: float) -> int:
        """The number of codec frames that last `seconds`.

        Raises:
            GenerationError: When `seconds` is not a positive number or does not fit the model's window.
        """
        if not 0 < number_or_nan(seconds) <= self.max_seconds:
            raise GenerationError(
                f"{seconds} seconds of sound were asked for",
                f"{self.id} makes more than 0 and at most {self.max_seconds:.1f} s at a time",
                "Use a length in that range",
            )
        return tokens.frames_for(seconds, self.frame_rate_hz)

    def encode(self, clip: Clip) -> torch.Tensor:
        """The codes (k, frames), long, of `clip`, resampled to the codec's rate.

        The built-in model's are what its band would play to sound like the clip.
        """
        return encode_clip(self.musicgen, clip).cpu()

    def decode(self, codes: torch.Tensor | np.ndarray) -> Clip:
        """The sound of `codes` (k, frames)."""
        return self.decode_batch([codes])[0]

    def decode_batch(self, batch: Sequence[torch.Tensor | np.ndarray]) -> list[Clip]:
        """The sounds of several codes (k, frames); equal lengths are decoded together."""
        return decode_codes(self.musicgen, [_as_tensor(codes) for codes in batch])

    def piece_decoder(self) -> PieceDecoder:
        """A decoder that turns a growing row of codes into sound, piece by piece."""
        return PieceDecoder(self.musicgen.audio_encoder, channels=self._config.audio_channels)

    def text(self, prompts: Sequence[str], melodies: Sequence[Melody | None] | None = None) -> TextStates:
        """What the decoder is told: `prompts` and, where the model takes them, a melody or None for each."""
        with self.lock:  # a fast tokenizer may not be used by two threads at once
            text = encode_text(self.musicgen, self.tokenizer, prompts)
        if self.takes_melody:
            return prefix_of(self.musicgen, text, melodies)
        if any(melody is not None for melody in melodies or ()):
            raise ModelError("A melody was given", f"{self.id} takes none", "Load facebook/musicgen-melody")
        return text

    def null_text(self, rows: int) -> TextStates:
        """The null condition for `rows` rows: no melody, and no text, whose length counts as 1."""
        text = null_text(self.musicgen, rows)
        if not self.takes_melody:
            return text
        return prefix_of(self.musicgen, TextStates(text.states, torch.ones_like(text.mask)))

    def sampling(
        self,
        prompts: Sequence[str],
        *,
        seeds: Sequence[int],
        frames: int,
        melodies: Sequence[Melody | None] | None = None,
        **settings: Any,
    ) -> Sampling:
        """A run for `prompts` with one private generator per row; `settings` are those of Sampling."""
        text = self.text(prompts, melodies)
        run = Sampling(
            text, private_generators(seeds, self.random_device), frames, self.delays, self.bos, **settings
        )
        run.text = text.with_null() if run.guided else text
        return run

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the model for one trace; other threads wait, the same thread may not start a second one.

        Raises:
            ModelError: When a trace is already running on this thread (for example from inside `on_frame`).
        """
        with self.lock:
            if self._tracing:
                raise ModelError(
                    "A second run of the model was asked for from inside a running one",
                    f"{self.id} can run one trace at a time",
                    "Collect what the callback needs and start the second run afterwards",
                )
            self._tracing = True
            try:
                yield
            finally:
                self._tracing = False

    def residual_norms(self, *, cache: bool = True) -> np.ndarray:
        """R_l, shape (n_layers,): the mean norm of the residual stream, the unit in which doses are given.

        Measured once, and kept in the user's cache unless `cache` is False.
        """
        self._norms = residual_norms(self, self._norms, cache=cache)
        return self._norms.copy()

    def describe(self) -> str:
        """What this model is and how it runs, in a few lines."""
        weights = sum(parameter.numel() for parameter in self.musicgen.decoder.parameters())
        precision, more = str(self.dtype).removeprefix("torch."), ""
        if self._config.audio_channels == 2:
            more += "stereo: left and right are drawn apart and averaged where they become sound\n"
        if self.takes_melody:
            heard_s = self.musicgen.config.chroma_length / FRAMES_PER_SECOND
            more += f"takes a melody: of each run's first {heard_s:.1f} s\n"
        return (
            f"{self.id}: {self.n_layers} blocks x {self.d_model}, {weights / 1e6:.1f} M decoder parameters\n"
            f"codec: {self.n_codebooks} codebooks x {self.codebook_size}, "
            f"{self.frame_rate_hz:g} frames/s, {self.rate_hz} Hz, at most {self.max_seconds:.0f} s\n{more}"
            f"runs on {self.device} in {precision} ({self.notes or 'as given'})"
        )

    def __repr__(self) -> str:
        return f"Model({self.id!r}, {self.n_layers} layers x {self.d_model})"


def _as_tensor(codes: torch.Tensor | np.ndarray) -> torch.Tensor:
    """The codes as a tensor; arrays are copied, for those of a take are read-only."""
    return codes if isinstance(codes, torch.Tensor) else torch.tensor(codes)


def _unless_none(value: float | None, default: float) -> float:
    return default if value is None else value
