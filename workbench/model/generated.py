"""Capture while generating: what the decoder's rows held, step by step, unsteered."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from workbench.activations import Activations
from workbench.errors import ActivationsError
from workbench.model.drawing import Drawing, OnCodes
from workbench.model.musicgen import Model
from workbench.model.reading import reading_of
from workbench.model.sampling import Sampling


def capture_generated(
    model: Model,
    prompts: Sequence[str],
    *,
    seeds: Sequence[int],
    seconds: float = 5.0,
    sites: Sequence[str] = ("resid_post",),
    layers: Sequence[int] | None = None,
    pool: str | None = "mean",
    window: float | None = None,
    rows: str = "cond",
    guidance: float | None = None,
    labels: Mapping[str, Sequence[str]] | None = None,
    batch: int = 8,
    progress: bool = True,
    cancel: threading.Event | None = None,
    on_codes: OnCodes | None = None,
) -> Activations:
    """Activations of unsteered generations, one sample per prompt and seed, in memory.

    prompts  one per clip; the prompt is also the clip's group
    seeds    as many
    seconds  length of each generation
    sites, layers, pool, window  as in `capture`; frame t is what step t + 1 held
    rows     "cond", "null" (the rows of guidance without text), or "both": first all cond, then all null
    guidance classifier-free guidance, by default the checkpoint's; null rows exist above 1 only
    labels   values per clip by target, for example the genre that each prompt names
    batch    clips drawn at once
    cancel   set it (from any thread) to stop before the next step
    on_codes called with each clip's number and codes (k, frames)

    Raises ActivationsError when there are no prompts, or not as many seeds, and where memory would not do;
    ModelError for a layer, site, pool or row that does not exist; Cancelled.
    """
    if not prompts or len(prompts) != len(seeds):
        raise ActivationsError(
            f"Generations of {len(prompts)} prompts with {len(seeds)} seeds were asked for",
            "each needs one of both",
            "Give equally long lists",
        )
    reading = reading_of(model, sites=sites, layers=layers, pool=pool, window=window)
    frames = model.frames_for(seconds)
    guidance = model.guidance if guidance is None else guidance

    def begin(some: slice) -> Sampling:
        settings: dict[str, Any] = {"guidance": guidance, **model.draws, "cancel": cancel}
        return model.sampling(prompts[some], seeds=seeds[some], frames=frames, **settings)

    clips = {
        "clip": np.array([f"{prompt} (seed {seed})" for prompt, seed in zip(prompts, seeds, strict=True)]),
        "group": np.array(prompts),
        "text": np.array(prompts),
        "source": np.full(len(prompts), "generated"),
        **{f"label_{target}": np.asarray(values) for target, values in (labels or {}).items()},
    }
    drawing = Drawing(reading, rows, batch=batch, progress=progress, on_codes=on_codes)
    return drawing.capture(model, begin, clips, {"guidance": guidance, "seconds": seconds})
