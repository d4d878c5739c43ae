"""Capture while generating: the activations of the decoder's rows, step by step, unsteered.

From a prompt alone (`capture_generated`), or going on from the first seconds of a clip, whose codes are given
(`capture_continued`): the decoder's first visit reads these at once, and what is drawn at visit v is step
v + prompt frames.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from workbench.activations import Activations
from workbench.activations.activations import window_times
from workbench.errors import ActivationsError, number_or_nan, renamed_keywords, whole_number
from workbench.model.capture_plan import drawn_cost, free_on_device
from workbench.model.musicgen import Model
from workbench.model.network import Place, live
from workbench.model.sampling import Sampling, frames_for
from workbench.model.teacher_forcing import Reading, codes_for, codes_match_codec, reading_attrs, reading_of
from workbench.sound.dataset import Dataset

PARTS = ("new", "all")
OnCodes = Callable[[int, np.ndarray], None]
"""Called with a clip's number and its finished codes (k, frames), for those who want to hear it."""


@dataclass(frozen=True)
class Drawing:
    """How activations are read while a model draws codes.

    Args:
        reading: What is read.
        rows: "cond", "null" or "both" kinds of rows.
        skipped: Frames at the beginning that are left out of the result.
        batch: Clips drawn at once.
        progress: Whether to show a bar.
        on_codes: Called with each clip's codes.
    """

    reading: Reading
    rows: str = "cond"
    skipped: int = 0
    batch: int = 8
    progress: bool = True
    on_codes: OnCodes | None = None

    def capture(
        self,
        model: Model,
        begin: Callable[[slice], Sampling],
        clips: Mapping[str, np.ndarray],
        attrs: Mapping[str, Any],
    ) -> Activations:
        """Return the activations of all clips, in memory; of both rows, all cond rows come first.

        `begin` gives the run of some clips; `clips` are coordinates (clips,), among them clip, group and
        text. Raises as `capture_generated` does.
        """
        whole_number(self.batch, "A batch of", ActivationsError, least=1)
        total, kinds = len(clips["clip"]), ("cond", "null") if self.rows == "both" else (self.rows,)
        parts: dict[str, list[dict[str, np.ndarray]]] = {kind: [] for kind in kinds}
        with tqdm(desc="Drawing", unit="clip", total=total, disable=not self.progress, leave=False) as bar:
            for start in range(0, total, self.batch):
                run = begin(slice(start, min(start + self.batch, total)))
                if start == 0:  # before anything is drawn
                    shape = {"clips": total, "rows": len(kinds), "frames": run.frames, "batch": self.batch}
                    cost = drawn_cost(model, self.reading, **shape, guided=run.guided)
                    cost.check(free_device=free_on_device(model))
                read = read_while_sampling(model, run, self.reading, rows=self.rows, skipped=self.skipped)
                lengths = np.full(run.batch * len(kinds), run.frames - self.skipped)
                split = {site: self.reading.samples(values, lengths) for site, values in read.items()}
                for number, kind in enumerate(kinds):
                    own = slice(number * run.batch, (number + 1) * run.batch)
                    parts[kind].append({site: np.concatenate(rows[own]) for site, rows in split.items()})
                if self.on_codes is not None:
                    for row, codes in enumerate(run.codes.cpu().numpy()):
                        self.on_codes(start + row, codes)
                bar.update(run.batch)
        blocks = [part for kind in kinds for part in parts[kind]]
        start_s = {"start_s": self.skipped / model.frame_rate_hz} if self.skipped else {}
        return Activations.from_arrays(
            {site: np.concatenate([block[site] for block in blocks]) for site in self.reading.sites},
            layers=self.reading.layers,
            samples=self._samples(model, clips, kinds, run.frames - self.skipped),
            attrs={**attrs, **start_s, **reading_attrs(model, self.reading)},
            residual_norm=model.residual_norms()[list(self.reading.layers)],
        )

    def _samples(
        self, model: Model, clips: Mapping[str, np.ndarray], kinds: tuple[str, ...], frames: int
    ) -> dict[str, np.ndarray]:
        """Return the sample coordinates; the text of a null row is empty."""
        samples = {name: np.tile(values, len(kinds)) for name, values in clips.items()}
        samples["row"] = np.repeat(kinds, len(clips["clip"]))
        samples["text"] = np.where(samples["row"] == "null", "", samples["text"])
        if self.reading.window is None:
            return samples
        lengths, rate = np.full(len(samples["row"]), frames), model.frame_rate_hz
        samples = {name: np.repeat(values, self.reading.counts(lengths)) for name, values in samples.items()}
        return samples | window_times(lengths, self.reading.window, rate, start_s=self.skipped / rate)


def read_while_sampling(
    model: Model, run: Sampling, reading: Reading, *, rows: str = "cond", skipped: int = 0
) -> dict[str, np.ndarray]:
    """Return activations (rows, layers, [frames,] d_model) fp32 by site, read while `run` draws its codes.

    A prompt's frames are read at the first visit. `rows` are "cond" (B), "null" (B) or "both" (2B, cond
    first); `skipped` frames at the beginning are left out.
    """
    network, places, chosen = model.network, reading.places, run.rows(rows)
    seen: dict[Place, list[torch.Tensor]] = {place: [] for place in places}
    with model.exclusive(), network.sample(run) as tracer:
        for _visit in tracer.iter[: run.visits]:
            for place in places:
                seen[place].append(live(network, place)[chosen].clone())
    lengths = torch.full((chosen.stop - chosen.start,), run.frames - skipped, device=model.device)
    read: dict[Place, torch.Tensor] = {}
    begin = run.text.prefix + 1  # position 1 of the music is the first whose input includes a frame
    for place in places:  # one after another: frames that are pooled make room for the next
        frames = torch.cat(seen.pop(place), dim=1)[:, begin + skipped : begin + run.frames]
        read[place] = reading.pooled(frames, lengths)
    return reading.stacked(read)


@renamed_keywords(window="window_seconds")
def capture_generated(
    model: Model,
    prompts: Sequence[str],
    *,
    seeds: Sequence[int],
    seconds: float = 5.0,
    sites: Sequence[str] = ("resid_post",),
    layers: Sequence[int] | None = None,
    pool: str | None = "mean",
    window_seconds: float | None = None,
    rows: str = "cond",
    guidance: float | None = None,
    labels: Mapping[str, Sequence[str]] | None = None,
    batch: int = 8,
    progress: bool = True,
    cancel: threading.Event | None = None,
    on_codes: OnCodes | None = None,
) -> Activations:
    """Return activations of unsteered generations, one sample per prompt and seed, in memory.

    Args:
        model: The model.
        prompts: One per clip; the prompt is also the clip's group.
        seeds: As many.
        seconds: Length of each generation.
        sites: As in `capture`, like layers, pool and window_seconds; frame t is read at step t + 1.
        layers: Blocks counted from 0; all when None.
        pool: "mean", "max" or "last"; None keeps the frames.
        window_seconds: Length of the windows that become samples of their own.
        rows: "cond", "null" (the rows of guidance without text), or "both": first all cond, then all null.
        guidance: Classifier-free guidance, by default the checkpoint's; null rows exist above 1 only.
        labels: Values per clip by target, for example the genre that each prompt names.
        batch: Clips drawn at once.
        progress: Whether to show a bar.
        cancel: Set it (from any thread) to stop before the next step.
        on_codes: Called with each clip's number and codes (k, frames).

    Raises:
        ActivationsError: There are no prompts, or not as many seeds, or memory would not do.
        ModelError: A layer, site, pool or row does not exist.
        Cancelled: On request.
    """
    if not prompts or len(prompts) != len(seeds):
        asked = f"Generations of {len(prompts)} prompts with {len(seeds)} seeds were asked for"
        raise ActivationsError(asked, "each needs one of both", "Give equally long lists")
    shape: dict[str, Any] = {"sites": sites, "layers": layers, "pool": pool, "window_seconds": window_seconds}
    drawing = _drawing(model, **shape, rows=rows, batch=batch, progress=progress, on_codes=on_codes)
    frames = model.frames_for(seconds)
    guidance = model.guidance if guidance is None else guidance
    how: dict[str, Any] = {"frames": frames, "guidance": guidance, **model.draws, "cancel": cancel}

    def begin(some: slice) -> Sampling:
        return model.sampling(prompts[some], seeds=seeds[some], **how)

    clips = {
        "clip": np.array([f"{prompt} (seed {seed})" for prompt, seed in zip(prompts, seeds, strict=True)]),
        "group": np.array(prompts),
        "text": np.array(prompts),
        "source": np.full(len(prompts), "generated"),
        **{f"label_{target}": np.asarray(values) for target, values in (labels or {}).items()},
    }
    return drawing.capture(model, begin, clips, {"guidance": guidance, "seconds": seconds})


def _drawing(
    model: Model,
    *,
    sites: Sequence[str] = ("resid_post",),
    layers: Sequence[int] | None = None,
    pool: str | None = "mean",
    window_seconds: float | None = None,
    **how: Any,
) -> Drawing:
    """Return how a model is read; `how` is rows, batch, progress and on_codes."""
    return Drawing(
        reading_of(model, sites=sites, layers=layers, pool=pool, window_seconds=window_seconds), **how
    )


@renamed_keywords(window="window_seconds", heard="context_seconds")
def capture_continued(
    model: Model,
    dataset: Dataset,
    prompts: str | Sequence[str],
    *,
    context_seconds: float = 2.0,
    seconds: float = 3.0,
    part: str = "new",
    seeds: Sequence[int] | None = None,
    guidance: float | None = None,
    cancel: threading.Event | None = None,
    **settings: Any,
) -> Activations:
    """Return activations while the model continues each clip of `dataset`, unsteered, in memory.

    Groups and labels are those of the clips.

    Args:
        model: The model.
        dataset: The clips.
        prompts: One text, or one per clip.
        context_seconds: How much of each clip the model continues.
        seconds: How long the model goes on.
        part: "new" reads the frames that the model made, "all" those of the context too; windows start with
            it, and start_s counts from the beginning of the clip.
        seeds: One per clip; 0, 1, 2 ... when None.
        guidance: Classifier-free guidance, by default the checkpoint's.
        cancel: Set it (from any thread) to stop before the next step.
        settings: Those of `capture_generated`: sites, layers, pool, window_seconds, rows, batch, progress,
            and on_codes, which gets the codes of the whole.

    Raises:
        ActivationsError: A clip is silent or shorter than the context, lists do not match, or memory would
            not do.
        ModelError: A layer, site, pool or row does not exist.
        GenerationError: The whole does not fit the model's window.
        Cancelled: On request.
    """
    texts = (prompts,) * len(dataset) if isinstance(prompts, str) else tuple(prompts)
    seeds = tuple(range(len(dataset))) if seeds is None else tuple(seeds)
    if not len(texts) == len(seeds) == len(dataset):
        asked = f"Continuations with {len(texts)} prompts and {len(seeds)} seeds were asked for"
        do = "Give one prompt or one per clip, and one seed per clip"
        raise ActivationsError(asked, f"the dataset has {len(dataset)} clips", do)
    if part not in PARTS:
        found = f"there are {', '.join(PARTS)}"
        raise ActivationsError.lookup(f"The part {part!r} was asked for", found, "Use one of these")
    context_s, seconds = number_or_nan(context_seconds), number_or_nan(seconds)
    drawing = _drawing(model, **settings)
    model.frames_for(context_s)  # each is refused by itself before both are added
    model.frames_for(seconds)
    context, frames = frames_for(context_s, model.frame_rate_hz), model.frames_for(context_s + seconds)
    codes = torch.tensor(_openings(model, dataset, context_s, context), device=model.device)
    guidance = model.guidance if guidance is None else guidance
    how: dict[str, Any] = {"frames": frames, "guidance": guidance, **model.draws, "cancel": cancel}

    def begin(some: slice) -> Sampling:
        return model.sampling(texts[some], seeds=seeds[some], prompt_codes=codes[some], **how)

    clips = {"clip": dataset.ids, "group": dataset.groups, "text": np.array(texts)}
    clips |= {f"label_{target}": dataset.labels(target) for target in dataset.targets}
    clips["source"] = np.full(len(dataset), "continued")
    attrs = {"guidance": guidance, "seconds": seconds, "heard_s": context_s, "part": part}
    attrs |= {"dataset": dataset.name, "dataset_fingerprint": dataset.fingerprint}
    drawing = replace(drawing, skipped=context if part == "new" else 0)
    return drawing.capture(model, begin, clips, attrs)


def _openings(model: Model, dataset: Dataset, seconds: float, frames: int) -> np.ndarray:
    """Return the first `frames` of each clip's codes, (clips, k, frames)."""
    stored = codes_match_codec(model, dataset)
    codes = [codes_for(model, dataset, entry, seconds=seconds, stored=stored) for entry in dataset.entries]
    for entry, array in zip(dataset.entries, codes, strict=True):
        if array.shape[-1] < frames:
            asked = f"A continuation of the first {seconds:g} s of the clip {entry.id!r} was asked for"
            do = "Give less of each clip (context_seconds=...), or leave this one out"
            raise ActivationsError(asked, f"it lasts {array.shape[-1] / model.frame_rate_hz:.1f} s", do)
    return np.stack([array[:, :frames] for array in codes])
