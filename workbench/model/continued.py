"""Continuation: the first seconds of a clip are given as codes, and the model goes on from there.

`begin_continuation` makes the run; whoever draws it (capture here, steering elsewhere) visits the decoder
`run.visits` times, and what is drawn at visit v is step v + run.given_frames.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from workbench.activations import Activations
from workbench.errors import ActivationsError, number_or_nan
from workbench.model.codes import codes_for, speaks_our_codes
from workbench.model.drawing import Drawing, OnCodes
from workbench.model.musicgen import Model
from workbench.model.reading import reading_of
from workbench.model.sampling import Sampling
from workbench.model.tokens import frames_for
from workbench.sound.dataset import Dataset, Entry

PARTS = ("new", "all")


def begin_continuation(
    model: Model,
    codes: Sequence[np.ndarray],
    prompts: Sequence[str],
    *,
    seeds: Sequence[int],
    frames: int,
    **settings: Any,
) -> Sampling:
    """A run that goes on from `codes`, as in `model.sampling`.

    Args:
        model: The model.
        codes: One array (k, given frames) per clip, equally long.
        prompts: As many texts.
        seeds: As many.
        frames: Length of the whole, given frames included.
        settings: Those of Sampling: guidance, temperature, top_k, on_step, cancel.

    Raises:
        ModelError: When nothing would be left to be drawn.
    """
    given = torch.tensor(np.stack(codes), dtype=torch.long, device=model.device)
    return model.sampling(prompts, seeds=seeds, frames=frames, given=given, **settings)


def capture_continued(
    model: Model,
    dataset: Dataset,
    prompts: str | Sequence[str],
    *,
    heard: float = 2.0,
    seconds: float = 3.0,
    part: str = "new",
    seeds: Sequence[int] | None = None,
    sites: Sequence[str] = ("resid_post",),
    layers: Sequence[int] | None = None,
    pool: str | None = "mean",
    window: float | None = None,
    rows: str = "cond",
    guidance: float | None = None,
    batch: int = 8,
    progress: bool = True,
    cancel: threading.Event | None = None,
    on_codes: OnCodes | None = None,
) -> Activations:
    """Activations while the model continues each clip of `dataset`, unsteered, in memory.

    prompts  one text, or one per clip
    heard    seconds of each clip that are given
    seconds  how long the model goes on
    part     "new" reads the frames that the model made, "all" the given ones too
    seeds    one per clip; 0, 1, 2 ... when None
    sites, layers, pool, window  as in `capture`; windows start with the part that is read, and start_s counts
             from the beginning of the clip
    rows, guidance, batch, progress, cancel, on_codes  as in `capture_generated`; codes hold the whole

    Groups and labels are those of the clips. Raises ActivationsError for a clip that is silent or shorter
    than `heard`, for lists that do not match, and where memory would not do; ModelError and Cancelled as
    `capture_generated` does; GenerationError when the whole does not fit the model's window.
    """
    texts = (prompts,) * len(dataset) if isinstance(prompts, str) else tuple(prompts)
    seeds = tuple(range(len(dataset))) if seeds is None else tuple(seeds)
    _check(dataset, texts, seeds, part)
    reading = reading_of(model, sites=sites, layers=layers, pool=pool, window=window)
    heard, seconds = number_or_nan(heard), number_or_nan(seconds)
    model.frames_for(heard)  # each is refused by itself before both are added
    model.frames_for(seconds)
    given, frames = frames_for(heard, model.frame_rate_hz), model.frames_for(heard + seconds)
    codes = _openings(model, dataset, heard, given)
    guidance = model.guidance if guidance is None else guidance

    def begin(some: slice) -> Sampling:
        settings = {"guidance": guidance, **model.draws, "cancel": cancel}
        return begin_continuation(
            model, codes[some], texts[some], seeds=seeds[some], frames=frames, **settings
        )

    clips = {"clip": dataset.ids, "group": dataset.groups, "text": np.array(texts)}
    clips |= {f"label_{target}": dataset.labels(target) for target in dataset.targets}
    clips["source"] = np.full(len(dataset), "continued")
    attrs = {"guidance": guidance, "seconds": seconds, "heard_s": heard, "part": part}
    attrs |= {"dataset": dataset.name, "dataset_fingerprint": dataset.fingerprint}
    skipped = given if part == "new" else 0
    drawing = Drawing(reading, rows, skipped, batch=batch, progress=progress, on_codes=on_codes)
    return drawing.capture(model, begin, clips, attrs)


def _openings(model: Model, dataset: Dataset, heard: float, given: int) -> list[np.ndarray]:
    """The first `given` frames of each clip's codes."""
    stored = speaks_our_codes(model, dataset)
    codes = [codes_for(model, dataset, entry, seconds=heard, stored=stored) for entry in dataset.entries]
    for entry, array in zip(dataset.entries, codes, strict=True):
        if array.shape[-1] < given:
            _refuse_short(entry, array.shape[-1] / model.frame_rate_hz, heard)
    return [array[:, :given] for array in codes]


def _refuse_short(entry: Entry, held_s: float, heard: float) -> None:
    raise ActivationsError(
        f"A continuation of the first {heard:g} s of the clip {entry.id!r} was asked for",
        f"it lasts {held_s:.1f} s",
        "Give less of each clip (heard=...), or leave this one out",
    )


def _check(dataset: Dataset, texts: Sequence[str], seeds: Sequence[int], part: str) -> None:
    if not len(texts) == len(seeds) == len(dataset):
        raise ActivationsError(
            f"Continuations with {len(texts)} prompts and {len(seeds)} seeds were asked for",
            f"the dataset has {len(dataset)} clips",
            "Give one prompt or one per clip, and one seed per clip",
        )
    if part not in PARTS:
        raise ActivationsError(
            f"The part {part!r} was asked for", f"there are {', '.join(PARTS)}", "Use one of these"
        )
