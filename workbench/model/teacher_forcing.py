"""Teacher forcing: codes go in with BOS and delay pattern; pooled activations or likelihoods come out.

Frame t is read at position t + 1, the first position whose input includes frame t (its first codebook, and
the other codebooks of the frames just before). Clips of different lengths share a batch: padding comes after
a clip and attention is causal, so no real position sees it, and pooling (in fp32) runs over real frames only.
Codes are those that a dataset stores, else the codec's, kept in the user's cache.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from workbench.activations.activations import POOLS, pool_frames, window_counts, window_frames, window_times
from workbench.errors import ActivationsError, ModelError, is_whole
from workbench.files import pack_arrays, unpacked
from workbench.model.conditioning import TextStates
from workbench.model.folders import cache_folder, keep, say_damaged
from workbench.model.musicgen import Model
from workbench.model.network import Place, live, places_for
from workbench.model.sampling import apply_delay, frames_for
from workbench.sound.dataset import Dataset, Entry

_SAME_SOUND = 1e-2  # two decodings by one codec differ by rounding only; by another codec, by everything
_LONGEST_S = 3 * 3600.0  # what a header declares beyond this is not believed
_READ_AT_MOST = 16  # clips that are read to guess the lengths of all


@dataclass(frozen=True)
class Reading:
    """What to read, and how frames are pooled."""

    sites: tuple[str, ...]  # some of `network.SITES`
    layers: tuple[int, ...]  # 0-based blocks, ascending
    pool: str | None = "mean"  # None keeps the frames
    window: int | None = None  # frames of each stretch that is pooled apart; None pools whole clips

    def __post_init__(self) -> None:
        ModelError.among(self.pool, (*POOLS, None), "The pool")
        if self.pool is None and self.window is not None:
            asked, found = "Windows without a pool were asked for", "pool=None keeps every frame as it is"
            raise ModelError(asked, found, 'Use pool="mean" with the window, or no window')
        places_for(self.sites, self.layers)

    @property
    def places(self) -> list[Place]:
        """Where to read, in the order of the forward pass."""
        return places_for(self.sites, self.layers)

    def counts(self, lengths: np.ndarray) -> np.ndarray:
        """Return how many samples (n,) clips of `lengths` (n,) frames give: one each, or one per window."""
        return np.ones(len(lengths), int) if self.window is None else window_counts(lengths, self.window)

    def pooled(self, frames: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Pool `frames` to (rows, [windows or frames,] d_model), fp32 on the CPU, NaN behind `lengths`."""
        return pool_frames(frames, lengths.to(frames.device), self.pool, self.window)

    def stacked(self, read: dict[Place, torch.Tensor]) -> dict[str, np.ndarray]:
        """Return arrays by site, (rows, layers, ...) fp32; `embed` exists once and is repeated per layer."""
        found = {}
        for site in self.sites:
            places = [(0 if site == "embed" else layer, site) for layer in self.layers]
            found[site] = torch.stack([read[place] for place in places], dim=1).numpy()
        return found

    def samples(self, values: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
        """Return for each row of a stacked array (rows, layers, ...) its samples (samples, layers, ...)."""
        if self.window is None:
            return [row[None] for row in values]
        return [row[:, :n].swapaxes(0, 1) for row, n in zip(values, self.counts(lengths), strict=True)]

    def coordinates(
        self, clips: dict[str, np.ndarray], lengths: np.ndarray, rate_hz: float, *, start_s: float = 0.0
    ) -> dict[str, np.ndarray]:
        """Return the coordinates of all samples: those of their clips (n,), and the times of windows."""
        if self.window is None:
            return clips
        samples = {name: np.repeat(values, self.counts(lengths)) for name, values in clips.items()}
        return samples | window_times(lengths, self.window, rate_hz, start_s=start_s)


def reading_of(
    model: Model,
    *,
    sites: Sequence[str] = ("resid_post",),
    layers: Sequence[int] | None = None,
    pool: str | None = "mean",
    window_seconds: float | None = None,
) -> Reading:
    """Return the reading for a model; ModelError where a layer, site or pool does not exist."""
    asked = list(layers if isinstance(layers, Iterable) else model.layers if layers is None else [layers])
    if not asked or not all(is_whole(layer, 0, model.n_layers - 1) for layer in asked):
        found = f"{model.id} has layers 0-{model.n_layers - 1}"
        raise ModelError.lookup(f"The layers {asked} were asked for", found, "Use some of model.layers")
    frames = None if window_seconds is None else window_frames(window_seconds, model.frame_rate_hz)
    return Reading(tuple(sites), tuple(sorted({int(layer) for layer in asked})), pool, frames)


def reading_attrs(model: Model, reading: Reading) -> dict[str, Any]:
    """Return what a capture records of its model and reading; of heads and windows only if they are read."""
    heads = {"n_heads": model.n_heads} if "head_out" in reading.sites else {}
    window = {} if reading.window is None else {"window": reading.window}
    return {
        "model_id": model.id,
        "model_fingerprint": model.fingerprint,
        "dtype": model.precision,
        "n_layers": model.n_layers,
        "frame_rate_hz": model.frame_rate_hz,
        "pool": reading.pool,
        **heads,
        **window,
    }


def read_codes(
    model: Model, codes: Sequence[np.ndarray], text: TextStates, reading: Reading
) -> dict[str, np.ndarray]:
    """Return activations (rows, layers, [frames or windows,] d_model) fp32 by site, NaN behind a clip."""
    network, places = model.network, reading.places
    check_frames(model, max(array.shape[-1] for array in codes))
    ids, lengths = padded_ids(model, codes)
    read: dict[Place, torch.Tensor] = {}
    with model.exclusive(), network.read(ids, text) as tracer:
        for place in places:
            # Here the residual stream is stored.
            read[place] = reading.pooled(live(network, place)[:, text.prefix + 1 :], lengths)
        tracer.stop()  # what lies behind the last place is not needed
    return reading.stacked(read)


def check_frames(model: Model, frames: int, clip: str = "a clip") -> None:
    """Raise ActivationsError where a clip has more frames than the decoder was trained on positions for."""
    if frames > model.max_frames:
        most = f"{math.floor(10 * model.max_seconds) / 10:g}"
        asked = f"Activations of {frames / model.frame_rate_hz:.1f} s of {clip} were asked for"
        do = f"Use seconds={most} for the beginning of each clip, or shorter clips"
        raise ActivationsError(asked, f"{model.id} reads at most {most} s at a time", do)


def padded_ids(
    model: Model, codes: Sequence[np.ndarray], *, behind: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return delayed ids (rows, k, 1 + longest + behind), and the frames (rows,) of `codes` (k, frames)."""
    lengths = torch.tensor([array.shape[-1] for array in codes], device=model.device)
    size = 1 + int(lengths.max()) + behind
    ids = torch.full((len(codes), model.n_codebooks, size), model.bos, device=model.device)
    for row, array in zip(ids, codes, strict=True):
        one = apply_delay(torch.tensor(array, device=model.device)[None].long(), model.bos, model.delays)
        used = min(one.shape[-1], size)
        row[:, :used] = one[0, :, :used]
    return ids, lengths


def score_codes(model: Model, codes: Sequence[np.ndarray], text: TextStates) -> list[np.ndarray]:
    """Return the negative log-likelihoods in nats, (k, frames) float32, of each row's codes (k, frames).

    At temperature 1, over all codes, without guidance. The code of codebook c at frame t is predicted by the
    logits of codebook c at position t + delay[c] (sampling.py).
    """
    ids, lengths = padded_ids(model, codes, behind=max(model.delays))  # all codes of the last frames, too
    with model.exclusive():
        odds = model.network.score(ids[:, :, :-1], text).log_softmax(-1)  # (rows, k, positions, V)
    # BOS has no logit; it stands only where the pattern has no code, which is not read below
    written = ids[:, :, 1:].masked_fill(ids[:, :, 1:] == model.bos, 0)[..., None]
    nats = -odds.gather(-1, written)[..., 0].cpu()  # (rows, k, positions)
    return [
        np.stack([row[c, delay : delay + frames].numpy() for c, delay in enumerate(model.delays)])
        for row, frames in zip(nats, lengths.tolist(), strict=True)
    ]


def codes_for(
    model: Model, dataset: Dataset, entry: Entry, *, seconds: float | None, stored: bool, cache: bool = True
) -> np.ndarray:
    """Return the codes (k, frames) int64 of the first `seconds` of one entry, of all of it when None.

    Its own codes where they are `stored` by this model's codec (see `codes_match_codec`); else its sound,
    which must not be silent, is encoded, and with `cache` kept for the next time.
    """
    known = _known_codes(model, entry, seconds=seconds, stored=stored)
    if known is not None:
        return known.astype(np.int64)
    clip = dataset.reader(entry)
    if clip.silent:
        do = f"Leave it out ({entry.source}); lint(dataset) lists all silent clips"
        found = f"it is silent ({clip.level_db:.0f} dBFS)"
        raise ActivationsError(f"Activations of the clip {entry.id!r} were asked for", found, do)
    codes = model.encode(clip if seconds is None else clip.section(0, seconds)).numpy()
    if cache:
        keep(_codes_path(model, entry, seconds), pack_arrays({}, {"codes": codes.astype(np.int16)}))
    return codes


def _known_codes(
    model: Model, entry: Entry, *, seconds: float | None, stored: bool, notice: bool = True
) -> np.ndarray | None:
    """Return the codes (k, frames) that an entry has, or the cache for it; None where they are to be made."""
    if stored and entry.codes is not None:
        return entry.codes[:, : None if seconds is None else frames_for(seconds, model.frame_rate_hz)]
    path = _codes_path(model, entry, seconds)
    try:
        if not path.is_file():
            return None
        with unpacked(path) as (_fields, arrays):
            codes = arrays["codes"]
        fitting = codes.dtype.kind == "i" and codes.ndim == 2 and codes.shape[0] == model.n_codebooks
        if not fitting or not codes.size or codes.min() < 0 or codes.max() >= model.codebook_size:
            raise ValueError("it has no codes of this model's codec")
    except Exception as error:  # a foreign file can be wrong in any way; all of them are made again
        if notice:
            say_damaged(path, error)
        return None
    return np.asarray(codes)


def _codes_path(model: Model, entry: Entry, seconds: float | None) -> Path:
    """Return where the codes of the first `seconds` of an entry are kept in the user's cache."""
    key = hashlib.sha256(f"{entry.digest} {seconds}".encode()).hexdigest()[:32]
    return cache_folder("codes", model.fingerprint[:16]) / f"{key}.safetensors"


def codes_match_codec(model: Model, dataset: Dataset) -> bool:
    """Return whether the dataset's stored codes are this model's: its codec must give the same sound."""
    first = next((entry for entry in dataset.entries if entry.codes is not None), None)
    if first is None:
        return False
    codes = np.asarray(first.codes)
    if codes.shape[0] != model.n_codebooks or codes.max() >= model.codebook_size:
        return False
    theirs, ours = dataset.reader(first), model.decode(codes)
    if theirs.rate_hz != ours.rate_hz or abs(len(theirs.samples) - len(ours.samples)) > ours.rate_hz // 10:
        return False
    n = min(len(theirs.samples), len(ours.samples))
    difference = np.abs(theirs.samples[:n] - ours.samples[:n]).mean()
    return bool(difference <= _SAME_SOUND * np.abs(theirs.samples[:n]).mean() + 1e-6)


def guessed_frames(model: Model, dataset: Dataset, *, seconds: float | None, stored: bool) -> np.ndarray:
    """Return the frames (clips,) without encoding a sound: from codes where there are any, else headers.

    Clips that have neither are taken to be as long as the longest of a few of them, which are read.
    """
    entries = dataset.entries
    known = (_known_codes(model, entry, seconds=seconds, stored=stored, notice=False) for entry in entries)
    frames = [None if codes is None else codes.shape[-1] for codes in known]
    lengths = {n: _declared_s(entries[n]) for n, count in enumerate(frames) if count is None}
    unread = [number for number, length_s in lengths.items() if length_s is None]
    few = unread[:: max(1, -(-len(unread) // _READ_AT_MOST))]
    longest_s = max((dataset.reader(entries[number]).seconds for number in few), default=0.0)
    limits = [limit for limit in (seconds, getattr(dataset.reader, "seconds", None)) if limit is not None]
    for number, declared_s in lengths.items():
        length_s = min([longest_s if declared_s is None else declared_s, *limits])
        frames[number] = math.ceil(length_s * model.frame_rate_hz - 1e-6)
    return np.array(frames, dtype=int)


def fitting_frames(model: Model, dataset: Dataset, *, seconds: float | None, stored: bool) -> np.ndarray:
    """Return the guessed frames (clips,); a clip that seems too long is read, and refused if it is."""
    frames = guessed_frames(model, dataset, seconds=seconds, stored=stored)
    for number in np.flatnonzero(frames > model.max_frames):
        entry = dataset.entries[number]
        if _known_codes(model, entry, seconds=seconds, stored=stored, notice=False) is None:
            length_s = min(dataset.reader(entry).seconds, math.inf if seconds is None else seconds)
            frames[number] = frames_for(length_s, model.frame_rate_hz)
        check_frames(model, frames[number], repr(entry.id))
    return frames


def _declared_s(entry: Entry) -> float | None:
    """Return the length that a sound file's header declares; None without a file, or a sane header."""
    try:
        length_s = float(soundfile.info(entry.source).duration) if Path(entry.source).is_file() else 0.0
    except (soundfile.LibsndfileError, RuntimeError):
        return None
    return length_s if 0 < length_s <= _LONGEST_S else None
