"""Capture while generating: the activations of the decoder's rows, step by step, unsteered, in memory.

From a prompt alone (`capture_generated`), or going on from the first seconds of a clip, whose codes the
decoder reads at its first visit (`capture_continued`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from workbench.activations import Activations
from workbench.errors import ActivationsError, number_or_nan, renamed_keywords, whole_number
from workbench.model.capture_plan import check_batch, drawn_cost, free_on_device, in_halves
from workbench.model.musicgen import Model
from workbench.model.network import Place, live
from workbench.model.sampling import Sampling, frames_for
from workbench.model.teacher_forcing import Reading, codes_for, codes_match_codec, reading_attrs, reading_of
from workbench.sound.dataset import Dataset

PARTS = ("new", "all")
_READING = ("sites", "layers", "pool", "window_seconds")
OnCodes = Callable[[int, np.ndarray], None]  # called with a clip's number and its finished codes (k, frames)


def read_while_sampling(
    model: Model, run: Sampling, reading: Reading, *, rows: str = "cond", skipped: int = 0
) -> dict[str, np.ndarray]:
    """Return activations (rows, layers, [frames,] d_model) fp32 by site, read while `run` draws its codes."""
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
    model: Model, prompts: Sequence[str], *, seeds: Sequence[int], seconds: float = 5.0,
    sites: Sequence[str] = ("resid_post",), layers: Sequence[int] | None = None, pool: str | None = "mean",
    window_seconds: float | None = None, rows: str = "cond", guidance: float | None = None,
    labels: Mapping[str, Sequence[str]] | None = None, batch: int = 8, progress: bool = True,
    cancel: threading.Event | None = None, on_codes: OnCodes | None = None,
) -> Activations:  # fmt: skip
    """Return activations of unsteered generations, one sample per prompt and seed.

    Args:
        model: The model.
        prompts: One per clip; the prompt is also the clip's group.
        seeds: As many.
        seconds: Length of each generation.
        sites: As in `capture`, like layers, pool, window_seconds, progress and cancel.
        layers: All when None.
        pool: None keeps the frames; frame t is read at step t + 1.
        window_seconds: Length of the windows that become samples of their own.
        rows: "cond", "null" (the rows of guidance without text), or "both": first all cond, then all null.
        guidance: Classifier-free guidance, by default the checkpoint's; null rows exist above 1 only.
        labels: Values per clip by target, for example the genre that each prompt names.
        batch: Clips drawn at once.
        progress: Whether to show a bar.
        cancel: Set it to stop before the next step.
        on_codes: Called with each clip's number and codes (k, frames).

    Raises:
        ActivationsError: There are no prompts, or not as many seeds, or memory would not do.
        ModelError: A layer, site, pool or row does not exist.
        Cancelled: On request.
    """
    if not prompts or len(prompts) != len(seeds):
        asked = f"Generations of {len(prompts)} prompts with {len(seeds)} seeds were asked for"
        raise ActivationsError(asked, "each needs one of both", "Give equally long lists")
    reading = reading_of(model, sites=sites, layers=layers, pool=pool, window_seconds=window_seconds)
    clips = {
        "clip": np.array([f"{prompt} (seed {seed})" for prompt, seed in zip(prompts, seeds, strict=True)]),
        "group": np.array(prompts),
        "text": np.array(prompts),
        "source": np.full(len(prompts), "generated"),
        **{f"label_{target}": np.asarray(values) for target, values in (labels or {}).items()},
    }
    guidance = model.guidance if guidance is None else guidance
    run = {"seeds": seeds, "frames": model.frames_for(seconds), "guidance": guidance, "cancel": cancel}
    how: dict[str, Any] = {"rows": rows, "batch": batch, "progress": progress, "on_codes": on_codes}
    return _draw(model, reading, prompts, clips, {"guidance": guidance, "seconds": seconds}, run=run, **how)


@renamed_keywords(window="window_seconds", heard="context_seconds")
def capture_continued(
    model: Model, dataset: Dataset, prompts: str | Sequence[str], *, context_seconds: float = 2.0,
    seconds: float = 3.0, part: str = "new", seeds: Sequence[int] | None = None,
    guidance: float | None = None, cancel: threading.Event | None = None, **settings: Any,
) -> Activations:  # fmt: skip
    """Return activations while the model continues each clip of `dataset`, with the clips' groups and labels.

    Args:
        model: The model.
        dataset: The clips.
        prompts: One text, or one per clip.
        context_seconds: How much of each clip the model continues.
        seconds: How long the model goes on.
        part: "new" reads the frames that the model made, "all" those of the context too; start_s counts from
            the beginning of the clip.
        seeds: One per clip; 0, 1, 2 ... when None.
        guidance: Classifier-free guidance, by default the checkpoint's.
        cancel: Set it (from any thread) to stop before the next step.
        settings: Those of `capture_generated`: sites, layers, pool, window_seconds, rows, batch, progress,
            and on_codes, which gets the codes of the whole.

    Raises:
        ActivationsError: As above, or a clip is silent or shorter than the context.
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
    ActivationsError.among(part, PARTS, "The part")
    context_s, seconds = number_or_nan(context_seconds), number_or_nan(seconds)
    reading = reading_of(model, **{name: settings.pop(name) for name in _READING if name in settings})
    model.frames_for(context_s)  # each is refused by itself before both are added
    model.frames_for(seconds)
    context, frames = frames_for(context_s, model.frame_rate_hz), model.frames_for(context_s + seconds)
    codes = torch.tensor(_openings(model, dataset, context_s, context), device=model.device)
    clips = {"clip": dataset.ids, "group": dataset.groups, "text": np.array(texts)}
    clips |= {f"label_{target}": dataset.labels(target) for target in dataset.targets}
    clips["source"] = np.full(len(dataset), "continued")
    guidance = model.guidance if guidance is None else guidance
    attrs = {"guidance": guidance, "seconds": seconds, "heard_s": context_s, "part": part}
    attrs |= {"dataset": dataset.name, "dataset_fingerprint": dataset.fingerprint}
    run = {"seeds": seeds, "frames": frames, "guidance": guidance, "cancel": cancel}
    skipped = context if part == "new" else 0
    return _draw(model, reading, texts, clips, attrs, run=run, codes=codes, skipped=skipped, **settings)


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


def _draw(
    model: Model, reading: Reading, texts: Sequence[str], clips: Mapping[str, np.ndarray],
    attrs: Mapping[str, Any], *, run: Mapping[str, Any], codes: torch.Tensor | None = None, skipped: int = 0,
    rows: str = "cond", batch: int = 8, progress: bool = True, on_codes: OnCodes | None = None,
) -> Activations:  # fmt: skip
    """Return activations of clips with these coordinates while they are drawn, without `skipped` frames."""
    whole_number(batch, "A batch of", ActivationsError, least=1)
    kinds, frames = ("cond", "null") if rows == "both" else (rows,), run["frames"]
    found: dict[str, dict[int, np.ndarray]] = {site: {} for site in reading.sites}  # of each row of each clip
    bar = tqdm(desc="Drawing", unit="clip", total=len(texts), disable=not progress, leave=False)

    def draw(numbers: Sequence[int]) -> list[int]:
        some = slice(numbers[0], numbers[-1] + 1)
        own = {**run, "seeds": run["seeds"][some], "prompt_codes": None if codes is None else codes[some]}
        drawn = model.sampling(texts[some], **own, **model.draws)
        if some.start == 0:  # before anything is drawn
            shape: dict[str, Any] = {"clips": len(texts), "rows": len(kinds), "frames": frames}
            cost_of = partial(drawn_cost, model, reading, **shape, guided=drawn.guided)
            check_batch(len(numbers), cost_of, free_device=free_on_device(model))
        read = [place * len(texts) + number for place in range(len(kinds)) for number in numbers]
        lengths = np.full(len(read), frames - skipped)
        for site, values in read_while_sampling(model, drawn, reading, rows=rows, skipped=skipped).items():
            found[site].update(zip(read, reading.samples(values, lengths), strict=True))
        if on_codes is not None:
            for number, made in zip(numbers, drawn.codes.cpu().numpy(), strict=True):
                on_codes(number, made)
        bar.update(drawn.batch)
        return [*numbers]

    with bar:
        for start in range(0, len(texts), batch):
            in_halves(draw, range(len(texts))[start : start + batch])
    samples = {name: np.tile(values, len(kinds)) for name, values in clips.items()}
    samples["row"] = np.repeat(kinds, len(texts))
    samples["text"] = np.where(samples["row"] == "null", "", samples["text"])
    lengths, start_s = np.full(len(samples["row"]), frames - skipped), skipped / model.frame_rate_hz
    return Activations.from_arrays(
        {site: np.concatenate([own[row] for row in sorted(own)]) for site, own in found.items()},
        layers=reading.layers,
        samples=reading.coordinates(samples, lengths, model.frame_rate_hz, start_s=start_s),
        attrs={**attrs, **({"start_s": start_s} if skipped else {}), **reading_attrs(model, reading)},
        residual_norm=model.residual_norms()[list(reading.layers)],
    )
