"""The model as the rest of the workbench sees it: a few measured facts, text in, codes and clips out.

R_l, the mean residual norm of each layer, is the unit of dose: the mean of |h[l, t]| over unsteered
generation from neutral prompts, conditional rows, after the first step (whose input is BOS alone), at
guidance 3, temperature 1 and the 250 likeliest codes, whatever the checkpoint's own settings are.
"""

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

from workbench.errors import GenerationError, ModelError, renamed_keywords
from workbench.files import DIGEST, check_digest, digest_of
from workbench.model import conditioning, folders, sampling
from workbench.model.codec import PieceDecoder, decode_codes, encode_clip
from workbench.model.conditioning import Melody, TextStates
from workbench.model.network import Network, live
from workbench.model.sampling import Sampling
from workbench.sound.clip import Clip

NEUTRAL_PROMPTS = ("a tune", "a piece of music", "a song", "a track")
SEED, SECONDS, GUIDANCE, SHIPPED, KEY = 0, 2.0, 3.0, "workbench.json", "residual_norms"


def _stored_norms(path: Path, n_layers: int) -> np.ndarray | None:
    """Return the norms in `path`; None where it has none for so many layers, with notice of damage."""
    try:
        if not path.is_file():
            return None
        record = json.loads(path.read_bytes())
        if path.name == SHIPPED and isinstance(record, dict) and KEY not in record:
            return None  # it may say other things of the model only
        check_digest(path, record, notice=False)
        norms = np.array(record[KEY], dtype=np.float32)
        if norms.shape != (n_layers,) or not (np.isfinite(norms) & (norms > 0)).all():
            raise ValueError(f"it has no norms of {n_layers} layers")
    except (OSError, ValueError, TypeError, LookupError, RecursionError) as error:
        folders.say_damaged(path, error)
        return None
    return norms


def measure_residual_norms(model: Model, *, seconds: float = SECONDS) -> np.ndarray:
    """Return R_l, shape (n_layers,) float32, from one unsteered batch of the neutral prompts."""
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
                    totals[layer] += norms.mean().to(totals.device)
    return (totals / max(1, run.steps - 1)).cpu().numpy().astype(np.float32)


class Model:
    """A MusicGen under nnsight; `load` is the usual way to one.

    Attributes:
        id: What directions and receipts call it.
        network: The nnsight wrapper, to trace by hand; `musicgen` is the transformers model inside it.
        n_layers: Decoder blocks, each with `n_heads` heads; `layers` counts them from 0.
        d_model: Width of the residual stream.
        n_parameters: Of the decoder, counted before its weights were packed.
        n_codebooks: Codes per frame, k: 4 for mono MusicGen, 8 for stereo, 7 for the built-in model.
        codebook_size: Codes per codebook: 2048 for MusicGen, 512 for the built-in model.
        delays: Steps by which each codebook lags behind the first.
        bos: The id that stands where no code has been written.
        codec: The kind of its codec, as transformers calls it: "encodec", "workbench_band".
        rate_hz: Samples per second of the sound that comes out, `frame_rate_hz` the codec's frames.
        takes_melody: Whether text and melody are read before the music, in `prefix_room` positions.
        max_frames: The most frames whose steps fit the decoder's positions.
        random_device: Where random numbers are drawn: on the CPU, so that a seed means the same codes on
            every device. Set it to `model.device` to save a copy per step; seeds then mean other codes there.
    """

    def __init__(
        self,
        musicgen: Any,  # a MusicgenForConditionalGeneration in evaluation mode
        tokenizer: Any,  # that of its text encoder
        *,
        id: str,  # noqa: A002  (the word of the field)
        folder: Path | None = None,  # where its files are; None for a model that was never on disk
        fingerprint: str | None = None,  # computed when it is needed, if None
        notes: str = "",  # how it was loaded, for `describe`
    ) -> None:
        self.id, self.folder, self.notes = id, folder, notes
        self.musicgen, self.tokenizer, self.network = musicgen, tokenizer, Network(musicgen)
        self.random_device = torch.device("cpu")
        self.lock = threading.RLock()
        self._tracing = False
        if fingerprint is not None:
            self.fingerprint = fingerprint
        self._norms: np.ndarray | None = None
        config, codec = musicgen.decoder.config, musicgen.audio_encoder.config
        self.n_layers = int(config.num_hidden_layers)
        self.layers = range(self.n_layers)
        self.n_parameters = sum(one.numel() for one in musicgen.decoder.parameters())
        self.d_model = int(config.hidden_size)
        self.n_heads = int(config.num_attention_heads)
        self.n_codebooks = int(config.num_codebooks)
        self.codebook_size = int(config.vocab_size)
        self.delays = sampling.delay_pattern(self.n_codebooks, int(config.audio_channels))
        self.bos = int(config.bos_token_id)
        self.codec = str(codec.model_type)
        self.rate_hz = int(codec.sampling_rate)
        self.frame_rate_hz = float(codec.frame_rate)
        self.takes_melody = musicgen.config.model_type == "musicgen_melody"
        prefix_room = int(musicgen.config.chroma_length) + conditioning.TEXT_ROOM if self.takes_melody else 0
        self.prefix_room = prefix_room
        self.max_frames = int(config.max_position_embeddings) - prefix_room - max(self.delays)

    @property
    def max_seconds(self) -> float:
        """The longest sound whose steps fit the decoder's positions."""
        return self.max_frames / self.frame_rate_hz

    @property
    def guidance(self) -> float:
        """Classifier-free guidance by default: the checkpoint's setting, else MusicGen's 3."""
        return float(self._setting("guidance_scale", 3.0))

    @property
    def temperature(self) -> float:
        """Temperature of the draws by default: the checkpoint's setting, else 1."""
        return float(self._setting("temperature", 1.0))

    @property
    def top_k(self) -> int:
        """Codes that each draw keeps by default: the checkpoint's setting, else MusicGen's 250."""
        return int(self._setting("top_k", 250))

    def _setting(self, name: str, default: float) -> float:
        value = getattr(self.musicgen.generation_config, name)
        return default if value is None else value

    @property
    def draws(self) -> dict[str, Any]:
        """Temperature and top-k of the draws by default, as `sampling` takes them."""
        return {"temperature": self.temperature, "top_k": self.top_k}

    @property
    def device(self) -> torch.device:
        """Where the decoder runs; of several `devices` the first, which has embeddings and heads."""
        return torch.device(self.musicgen.decoder.device)

    @property
    def devices(self) -> tuple[torch.device, ...]:
        """Where the decoder's blocks are, each device once; more than one where `load` was given several."""
        return tuple(dict.fromkeys(map(self.device_of, self.layers)))

    def device_of(self, layer: int) -> torch.device:
        """Return where a block is, with its residual stream."""
        return next(self.musicgen.decoder.model.decoder.layers[layer].parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """What the residual stream is made of; the codec always runs in float32."""
        return self.musicgen.decoder.dtype

    @property
    def precision(self) -> str:
        """That of the decoder's weights: `dtype` by its name, or "int8" or "int4" with a float32 stream."""
        layer = self.musicgen.decoder.model.decoder.layers[0].fc1
        return str(getattr(layer, "precision", self.dtype)).removeprefix("torch.")

    @cached_property
    def fingerprint(self) -> str:
        """A hash of configuration and weights, 64 hex digits; the same in every precision."""
        if self.folder is not None and folders.weight_files(self.folder):
            return folders.folder_fingerprint(self.folder)
        return folders.module_fingerprint(self.musicgen)  # config.json alone would stand for any weights

    def frames_for(self, seconds: float) -> int:
        """Return how many codec frames last `seconds`; GenerationError beyond what the model makes."""
        found = f"{self.id} makes more than 0 and at most {self.max_seconds:.1f} s at a time"
        GenerationError.number(seconds, "A length in seconds of", above=0, most=self.max_seconds, found=found)
        return sampling.frames_for(seconds, self.frame_rate_hz)

    def encode(self, clip: Clip) -> torch.Tensor:
        """Return the codes (k, frames), long, of `clip`; of the built-in model, what its band would play."""
        return encode_clip(self.musicgen, clip).cpu()

    def decode(self, codes: torch.Tensor | np.ndarray) -> Clip:
        """Return the sound of `codes` (k, frames)."""
        return self.decode_batch([codes])[0]

    def decode_batch(self, batch: Sequence[torch.Tensor | np.ndarray]) -> list[Clip]:
        """Return the sounds of several codes (k, frames); equal lengths are decoded together."""
        tensors = [one if isinstance(one, torch.Tensor) else torch.tensor(one) for one in batch]
        return decode_codes(self.musicgen, tensors)

    def piece_decoder(self) -> PieceDecoder:
        """Return a decoder that turns a growing row of codes into sound, piece by piece."""
        return PieceDecoder(self.musicgen.audio_encoder, channels=self.musicgen.decoder.config.audio_channels)

    def text(self, prompts: Sequence[str], melodies: Sequence[Melody | None] | None = None) -> TextStates:
        """Return the states of `prompts` and, where the model takes them, of a melody or None for each."""
        with self.lock:  # a fast tokenizer may not be used by two threads at once
            text = conditioning.encode_text(self.musicgen, self.tokenizer, prompts)
        if self.takes_melody:
            return conditioning.prefix_of(self.musicgen, text, melodies)
        if any(melody is not None for melody in melodies or ()):
            raise ModelError("A melody was given", f"{self.id} takes none", "Load facebook/musicgen-melody")
        return text

    def null_text(self, rows: int) -> TextStates:
        """Return the null condition of guidance: no melody, and one state of zeros a row for the text."""
        states = torch.zeros((rows, 1, self.d_model), device=self.device, dtype=self.dtype)
        text = TextStates(states, torch.full((rows, 1), int(self.takes_melody), device=self.device))
        return conditioning.prefix_of(self.musicgen, text) if self.takes_melody else text

    @renamed_keywords(given="prompt_codes")
    def sampling(
        self,
        prompts: Sequence[str],
        *,
        seeds: Sequence[int],
        frames: int,
        melodies: Sequence[Melody | None] | None = None,
        **settings: Any,
    ) -> Sampling:
        """Return a run for `prompts`, with a seed and perhaps a melody each, of `frames`, prompt included.

        `settings` are those of Sampling: guidance, temperature, top_k, prompt_codes, on_step, cancel.
        """
        text = self.text(prompts, melodies)
        generators = sampling.private_generators(seeds, self.random_device)
        run = Sampling(text, generators, frames, self.delays, self.bos, **settings)
        run.text = text.with_null() if run.guided else text
        return run

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the model for one trace; another thread waits, a second one on this thread is an error."""
        with self.lock:
            if self._tracing:
                asked = "A second run of the model was asked for from inside a running one"
                do = "Collect what the callback needs and start the second run afterwards"
                raise ModelError(asked, f"{self.id} can run one trace at a time", do)
            self._tracing = True
            try:
                yield
            finally:
                self._tracing = False

    def residual_norms(self, *, cache: bool = True) -> np.ndarray:
        """Return R_l, shape (n_layers,) float32: the mean residual norm, the unit of dose.

        Shipped with the model (`workbench.json`), or measured and, with `cache`, kept in the user's cache.
        """
        coarse = "" if self.precision == "float32" else f"-{self.precision}"
        kept = folders.cache_folder("norms") / f"{self.fingerprint}{coarse}.json"
        places = [kept] if self.folder is None else [self.folder / SHIPPED, kept]
        found = (_stored_norms(path, self.n_layers) for path in places)
        norms = next((one for one in found if one is not None), None)
        if norms is None:
            norms = measure_residual_norms(self) if self._norms is None else self._norms
            if cache:
                record = {KEY: norms.tolist()}
                folders.keep(kept, json.dumps(record | {DIGEST: digest_of(record)}).encode())
        self._norms = norms
        return norms.copy()

    @property
    def breaking_dose(self) -> float | None:
        """The dose from which steering breaks the music, if the folder says it (`evidence.breaking_dose`)."""
        path = None if self.folder is None else self.folder / SHIPPED
        if path is None or not path.is_file():
            return None
        try:
            found = json.loads(path.read_bytes()).get("breaking_dose")
            return None if found is None else float(found)
        except (OSError, ValueError, TypeError, AttributeError) as error:
            folders.say_damaged(path, error)
            return None

    def describe(self) -> str:
        """Return what this model is and how it runs, in a few lines."""
        more = ""
        if self.musicgen.decoder.config.audio_channels == 2:
            more += (
                "stereo: left and right are drawn apart and heard apart; judges and probes get their mean\n"
            )
        if self.takes_melody:
            melody_s = self.musicgen.config.chroma_length / conditioning.FRAMES_PER_SECOND
            more += f"takes a melody: of each run's first {melody_s:.1f} s\n"
        return (
            f"{self.id}: {self.n_layers} blocks x {self.d_model}, "
            f"{self.n_parameters / 1e6:.1f} M decoder parameters\n"
            f"codec: {self.n_codebooks} codebooks x {self.codebook_size}, "
            f"{self.frame_rate_hz:g} frames/s, {self.rate_hz} Hz, at most {self.max_seconds:.0f} s\n{more}"
            f"runs on {', '.join(map(str, self.devices))} in {self.precision} ({self.notes or 'as given'})"
        )

    def __repr__(self) -> str:
        return f"Model({self.id!r}, {self.n_layers} layers x {self.d_model})"
