"""How many frames a dataset's clips have: guessed cheaply before any work, counted exactly by their codes."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile
import torch

from workbench.activations.activations import window_counts, window_frames
from workbench.errors import ActivationsError, ModelError
from workbench.files import check_digest, pack_arrays, unpack_arrays
from workbench.model.conditioning import TextStates
from workbench.model.folders import cache_folder, keep, say_damaged
from workbench.model.network import Place, live, places_for
from workbench.model.sampling import apply_delay, frames_for
from workbench.sound.clip import Clip
from workbench.sound.dataset import Dataset, Entry

if TYPE_CHECKING:
    from workbench.model.musicgen import Model

# Teacher-forced reading: codes go in with BOS and delay pattern, activations come out, pooled in fp32.
#
# Frame t is read at position t + 1, the first position that has heard frame t (its first codebook, and the
# other codebooks of the frames just before). Clips of different lengths share a batch: padding comes after a
# clip and attention is causal, so no real position sees it, and pooling runs over real frames only.
#
# The frames of a batch become arrays in the same way whatever their source is: here, while sampling
# (generated.py) and while continuing a clip.


POOLS = ("mean", "last", "max", None)


@dataclass(frozen=True)
class Reading:
    """What to read: sites at layers (ascending), and how frames are pooled (None keeps them).

    With a `window`, in frames, every stretch of that length is pooled apart (activations/activations.py).
    """

    sites: tuple[str, ...]
    layers: tuple[int, ...]
    pool: str | None = "mean"
    window: int | None = None

    def __post_init__(self) -> None:
        if self.pool not in POOLS:
            raise ModelError(
                f"The pool {self.pool!r} was asked for", f"there are {POOLS}", "Use one of these"
            )
        if self.pool is None and self.window is not None:
            raise ModelError(
                "Windows without a pool were asked for",
                "pool=None keeps every frame as it is",
                'Use pool="mean" with the window, or no window',
            )
        places_for(self.sites, self.layers)

    @property
    def places(self) -> list[Place]:
        """Where to read, in the order of the forward pass."""
        return places_for(self.sites, self.layers)

    def counts(self, held: np.ndarray) -> np.ndarray:
        """Samples (n,) that clips of `held` (n,) frames give: one each, or one per window."""
        return np.ones(len(held), int) if self.window is None else window_counts(held, self.window)

    def pooled(self, frames: torch.Tensor, held: torch.Tensor) -> torch.Tensor:
        """`frames` (rows, frames, d_model) pooled: (rows, d_model), or (rows, windows or frames, d_model)."""
        if self.window is None:
            return pooled(frames, held, self.pool)
        return _windowed(frames, held, self.pool, self.window)

    def samples(self, values: np.ndarray, held: np.ndarray) -> list[np.ndarray]:
        """Each row's samples (samples, layers, ...) from what `stacked` gave (rows, layers, ...)."""
        if self.window is None:
            return [row[None] for row in values]
        counts = self.counts(held)
        return [row[:, :count].swapaxes(0, 1) for row, count in zip(values, counts, strict=True)]

    def stacked(self, read: dict[Place, torch.Tensor]) -> dict[str, np.ndarray]:
        """Arrays by site, (rows, layers, ...) fp32; `embed` exists once and is repeated over the layers."""
        return {
            site: torch.stack(
                [read[0 if site == "embed" else layer, site] for layer in self.layers], dim=1
            ).numpy()
            for site in self.sites
        }


def reading_of(
    model: Model,
    *,
    sites: Sequence[str],
    layers: Sequence[int] | None,
    pool: str | None,
    window: float | None,
) -> Reading:
    """The reading that was asked for: layers ascending, all when None; the window in seconds.

    Raises:
        ModelError: When a layer, site or pool does not exist, or a window has no pool.
        ActivationsError: When the window is no length of time.
    """
    asked = list(layers) if isinstance(layers, Iterable) else model.layers if layers is None else [layers]
    wanted = tuple(sorted({int(layer) for layer in asked if _is_layer(model, layer)}))
    if not wanted or not all(_is_layer(model, layer) for layer in asked):
        raise ModelError(
            f"The layers {list(asked)} were asked for",
            f"{model.id} has layers 0-{model.n_layers - 1}",
            "Use some of model.layers",
        )
    frames = None if window is None else window_frames(window, model.frame_rate_hz)
    return Reading(tuple(sites), wanted, pool, frames)


def _is_layer(model: Model, layer: object) -> bool:
    """Whether it is the number of a block; "3", 3.0 and True are none."""
    return isinstance(layer, int | np.integer) and not isinstance(layer, bool) and layer in model.layers


def reading_attrs(model: Model, reading: Reading) -> dict[str, Any]:
    """What a capture says about the model and the way it was read; heads and windows only where there are."""
    told: dict[str, Any] = {
        "model_id": model.id,
        "model_fingerprint": model.fingerprint,
        "dtype": str(model.dtype).removeprefix("torch."),
        "n_layers": model.n_layers,
        "frame_rate_hz": model.frame_rate_hz,
        "pool": reading.pool,
    }
    if "head_out" in reading.sites:
        told["n_heads"] = model.n_heads
    if reading.window is not None:
        told["window"] = reading.window
    return told


def read_codes(
    model: Model, codes: Sequence[np.ndarray], text: TextStates, reading: Reading
) -> dict[str, np.ndarray]:
    """Activations of one batch: by site (rows, layers, [frames,] d_model) fp32, NaN behind the end of a clip.

    With windows (rows, layers, windows, d_model); `reading.samples` makes samples of them.

    Args:
        model: The model.
        codes: One array (k, frames) per row.
        text: The text states of as many rows.
        reading: What to read.

    Raises:
        ActivationsError: For codes that are longer than what the decoder has positions for.
    """
    network, places = model.network, reading.places
    check_frames(model, max(array.shape[-1] for array in codes))
    ids, held = padded_ids(model, codes)
    read: dict[Place, torch.Tensor] = {}
    with model.exclusive(), network.read(ids, text) as tracer:
        for place in places:
            read[place] = reading.pooled(live(network, place)[:, text.prefix + 1 :], held)
        tracer.stop()  # what lies behind the last place is not needed
    return reading.stacked(read)


def check_frames(model: Model, frames: int, clip: str = "a clip") -> None:
    """Raise ActivationsError where a clip has more frames than the decoder has positions for.

    Positions are computed, so the decoder would read on without a word, where it was never trained.
    """
    if frames > model.max_frames:
        most_s = math.floor(10 * model.max_seconds) / 10
        raise ActivationsError(
            f"Activations of {frames / model.frame_rate_hz:.1f} s of {clip} were asked for",
            f"{model.id} reads at most {most_s:g} s at a time",
            f"Use seconds={most_s:g} for the beginning of each clip, or shorter clips",
        )


def pooled(frames: torch.Tensor, held: torch.Tensor, pool: str | None) -> torch.Tensor:
    """Vectors (rows, d_model) from `frames` (rows, frames, d_model), over the first `held` (rows,).

    Without a pool (rows, frames, d_model), NaN behind each row's end. Always fp32, on the CPU, and a copy.
    """
    values = frames.float()
    behind = (torch.arange(values.shape[1], device=values.device) >= held[:, None])[..., None]
    if pool == "mean":
        result = values.masked_fill(behind, 0).sum(1) / held[:, None]
    elif pool == "max":
        result = values.masked_fill(behind, -torch.inf).amax(1)
    elif pool == "last":
        result = values[torch.arange(len(held), device=held.device), held - 1]
    else:
        result = values.masked_fill(behind, torch.nan)
    return result.detach().cpu().clone()


def _windowed(frames: torch.Tensor, held: torch.Tensor, pool: str | None, window: int) -> torch.Tensor:
    """Vectors (rows, windows, d_model), pooled over each window's own frames; NaN behind a row's last."""
    counts = torch.as_tensor(window_counts(held.cpu().numpy(), window))
    most = int(counts.max())
    even = torch.nn.functional.pad(
        frames, (0, 0, 0, most * window - frames.shape[1])
    )  # or cut, to whole windows
    stretches = even.reshape(-1, window, frames.shape[-1])
    inside = (held[:, None] - window * torch.arange(most, device=held.device)).clamp(1, window)
    result = pooled(stretches, inside.flatten(), pool).reshape(len(held), most, -1)
    result[torch.arange(most) >= counts[:, None]] = torch.nan
    return result


def padded_ids(
    model: Model, codes: Sequence[np.ndarray], *, behind: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Delayed ids (rows, k, 1 + longest + behind), and the number of frames (rows,) that each row holds.

    Args:
        model: The model.
        codes: One array (k, frames) per row.
        behind: Positions after the longest row's last frame began, where its other codebooks still sound.
    """
    held = torch.tensor([array.shape[-1] for array in codes], device=model.device)
    size = 1 + int(held.max()) + behind
    ids = torch.full((len(codes), model.n_codebooks, size), model.bos, device=model.device)
    for row, array in zip(ids, codes, strict=True):
        one = apply_delay(torch.tensor(array, device=model.device)[None].long(), model.bos, model.delays)
        used = min(one.shape[-1], ids.shape[-1])
        row[:, :used] = one[0, :, :used]
    return ids, held


# How likely a model finds codes: the negative log-likelihood of each, teacher-forced with the delay pattern.
#
# Code c of frame t is written at step t + delay[c], and step p is what position p predicts (sampling.py), so
# its
# probability stands in the logits of codebook c at position t + delay[c].


def score_codes(model: Model, codes: Sequence[np.ndarray], text: TextStates) -> list[np.ndarray]:
    """Negative log-likelihoods in nats, (k, frames) float32 per row: temperature 1, all codes, no guidance.

    Rows of different lengths share a batch: padding comes after a row and attention is causal, so that no
    code that counts sees it.

    Args:
        model: The model.
        codes: One array (k, frames) per row.
        text: The text states of as many rows.
    """
    ids, held = padded_ids(model, codes, behind=max(model.delays))
    with model.exclusive():
        chances = model.network.score(ids[:, :, :-1], text).log_softmax(-1)  # (rows, k, positions, V)
    # BOS is no code: where the pattern leaves room it stands in for one, and is never read below.
    said = ids[:, :, 1:].masked_fill(ids[:, :, 1:] == model.bos, 0)[..., None]
    nats = -chances.gather(-1, said)[..., 0].cpu()  # (rows, k, positions)
    return [
        np.stack([row[c, delay : delay + frames].numpy() for c, delay in enumerate(model.delays)])
        for row, frames in zip(nats, held.tolist(), strict=True)
    ]


# The codes of a dataset's clips: those that are stored, else the codec's, kept in the user's cache.


_SAME_SOUND = 1e-2  # two decodings by one codec differ by rounding only; by another codec, by everything


def codes_for(
    model: Model, dataset: Dataset, entry: Entry, *, seconds: float | None, stored: bool, cache: bool = True
) -> np.ndarray:
    """The codes (k, frames) int64 of one entry, at most `seconds` long.

    Args:
        model: Whose codec encodes the sound.
        dataset: Where the sound comes from.
        entry: One of its entries.
        seconds: How much of the clip's beginning is used; all of it when None.
        stored: Whether the entry's own codes are this model's (see `codes_match_codec`).
        cache: Whether to keep what is encoded now in the user's cache.

    Raises:
        ActivationsError: When the clip is silent.
    """
    if stored and entry.codes is not None:
        frames = entry.codes.shape[-1] if seconds is None else frames_for(seconds, model.frame_rate_hz)
        return np.asarray(entry.codes[:, :frames], dtype=np.int64)
    path = codes_path(model, entry, seconds)
    kept = kept_codes(model, path)
    if kept is not None:
        return kept.astype(np.int64)
    clip = dataset.reader(entry)
    _refuse_silence(entry, clip)
    codes = model.encode(clip if seconds is None else clip.section(0, seconds)).numpy()
    if cache:
        keep(path, pack_arrays({}, {"codes": codes.astype(np.int16)}))
    return codes


def kept_codes(model: Model, path: Path, *, notice: bool = True) -> np.ndarray | None:
    """The codes (k, frames) int16 in a file of the cache; None where there are none, or they are damaged."""
    try:
        if not path.is_file():
            return None
        fields, arrays = unpack_arrays(path)
        check_digest(path, fields, arrays)
        codes = arrays["codes"]
        sound = codes.dtype.kind == "i" and codes.ndim == 2 and codes.shape[0] == model.n_codebooks
        if not sound or not codes.size or codes.min() < 0 or codes.max() >= model.codebook_size:
            raise ValueError("it holds no codes of this model's codec")
    except Exception as error:  # a foreign file can be wrong in any way; all of them are made again
        if notice:
            say_damaged(path, error)
        return None
    return np.asarray(codes)


def codes_path(model: Model, entry: Entry, seconds: float | None) -> Path:
    """Where the codes of the first `seconds` of an entry lie, or will lie, in the user's cache."""
    key = hashlib.sha256(f"{entry.digest} {seconds}".encode()).hexdigest()[:32]
    return cache_folder("codes", model.fingerprint[:16]) / f"{key}.safetensors"


def codes_match_codec(model: Model, dataset: Dataset) -> bool:
    """Whether the dataset's stored codes are codes of this model's codec: both must give the same sound.

    Codes are numbers without meaning outside their codec: fed to another model they would be accepted in
    silence.
    """
    coded = [entry for entry in dataset.entries if entry.codes is not None]
    if not coded:
        return False
    first = coded[0]
    codes = np.asarray(first.codes)
    if codes.shape[0] != model.n_codebooks or codes.max() >= model.codebook_size:
        return False
    theirs, ours = dataset.reader(first), model.decode(codes)
    if theirs.rate_hz != ours.rate_hz or abs(len(theirs.samples) - len(ours.samples)) > ours.rate_hz // 10:
        return False
    n = min(len(theirs.samples), len(ours.samples))
    apart = np.abs(theirs.samples[:n] - ours.samples[:n]).mean()
    return bool(apart <= _SAME_SOUND * np.abs(theirs.samples[:n]).mean() + 1e-6)


def _refuse_silence(entry: Entry, clip: Clip) -> None:
    if clip.silent:
        raise ActivationsError(
            f"Activations of the clip {entry.id!r} were asked for",
            f"it is silent ({clip.level_db:.0f} dBFS)",
            f"Leave it out ({entry.source}); lint(dataset) lists all silent clips",
        )


_LONGEST_S = 3 * 3600.0  # what a header declares beyond this is not believed
_READ_AT_MOST = 16


def counted_frames(model: Model, dataset: Dataset, *, seconds: float | None, stored: bool) -> np.ndarray:
    """Frames of each clip's first `seconds` (clips,); clips without codes are encoded, which is kept."""
    codes = (codes_for(model, dataset, entry, seconds=seconds, stored=stored) for entry in dataset.entries)
    return np.array([array.shape[-1] for array in codes])


def encoded(model: Model, dataset: Dataset, *, seconds: float | None) -> Dataset:
    """The dataset with the codes of each clip's first `seconds` in memory; nothing is kept on disk."""
    how: dict[str, Any] = {"seconds": seconds, "stored": False, "cache": False}
    entries = (replace(one, codes=codes_for(model, dataset, one, **how)) for one in dataset.entries)
    return replace(dataset, entries=tuple(entries))


def guessed_frames(model: Model, dataset: Dataset, *, seconds: float | None, stored: bool) -> np.ndarray:
    """The same without encoding a sound: from codes where there are some, else from the file's header.

    Of clips that could only be measured by reading them, a few are read, and all are taken to be as long as
    the longest of these.
    """
    known = [_known(model, entry, seconds, stored) for entry in dataset.entries]
    unknown = [number for number, frames in enumerate(known) if frames is None]
    heard = [limit for limit in (seconds, getattr(dataset.reader, "seconds", None)) if limit is not None]
    declared = {number: _declared_s(dataset.entries[number]) for number in unknown}
    silent = [number for number, length_s in declared.items() if length_s is None]
    few = silent[:: -(-len(silent) // _READ_AT_MOST)] if silent else []
    longest_s = max((dataset.reader(dataset.entries[number]).seconds for number in few), default=0.0)
    lengths = {number: longest_s if length is None else length for number, length in declared.items()}
    frames = [
        math.ceil(min([lengths[number], *heard]) * model.frame_rate_hz - 1e-6) if told is None else told
        for number, told in enumerate(known)
    ]
    return np.array(frames)


def fitting_frames(model: Model, dataset: Dataset, *, seconds: float | None, stored: bool) -> np.ndarray:
    """The guessed frames (clips,) of clips that all fit the decoder's positions.

    Headers may lie: a clip that seems too long is read before it is refused.

    Raises:
        ActivationsError: For the first such clip.
    """
    frames = guessed_frames(model, dataset, seconds=seconds, stored=stored)
    for number in np.flatnonzero(frames > model.max_frames):
        entry = dataset.entries[number]
        exact = _known(model, entry, seconds, stored)
        if exact is None:
            length_s = min(dataset.reader(entry).seconds, math.inf if seconds is None else seconds)
            exact = frames_for(length_s, model.frame_rate_hz)
        check_frames(model, exact, repr(entry.id))
        frames[number] = exact
    return frames


def _known(model: Model, entry: Entry, seconds: float | None, stored: bool) -> int | None:
    """Frames of an entry whose codes are there; None where they are not."""
    if stored and entry.codes is not None:
        held = int(entry.codes.shape[-1])
        return held if seconds is None else min(held, frames_for(seconds, model.frame_rate_hz))
    kept = kept_codes(model, codes_path(model, entry, seconds), notice=False)
    return None if kept is None else int(kept.shape[-1])


def _declared_s(entry: Entry) -> float | None:
    """Length of the sound as the header of its file says; None where there is no file, or no sane header."""
    try:
        length_s = float(soundfile.info(entry.source).duration) if Path(entry.source).is_file() else 0.0
    except (soundfile.LibsndfileError, RuntimeError):
        return None
    return length_s if 0 < length_s <= _LONGEST_S else None
