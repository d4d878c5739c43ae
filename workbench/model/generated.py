"""Capture while generating: what the conditional rows held, step by step, unsteered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from workbench.activations import Activations
from workbench.errors import ActivationsError, message
from workbench.model.capture import layers_of, model_attrs
from workbench.model.musicgen import Model
from workbench.model.reading import Reading, pooled
from workbench.model.sampling import Sampling
from workbench.model.sites import Place, live


def capture_generated(
    model: Model,
    prompts: Sequence[str],
    *,
    seeds: Sequence[int],
    seconds: float = 5.0,
    sites: Sequence[str] = ("resid_post",),
    layers: Sequence[int] | None = None,
    pool: str | None = "mean",
    guidance: float = 3.0,
    labels: Mapping[str, Sequence[str]] | None = None,
    batch: int = 8,
) -> Activations:
    """Activations of unsteered generations, one sample per prompt and seed (conditional rows), in memory.

    Args:
        model: The model.
        prompts: One per sample; the prompt is also the sample's group.
        seeds: As many.
        seconds: Length of each generation.
        sites: As in `capture`.
        layers: As in `capture`.
        pool: As in `capture`; frame t is what step t + 1 held.
        guidance: Classifier-free guidance while generating.
        labels: Values per sample by target, for example the genre that each prompt names.
        batch: Clips drawn at once.

    Raises:
        ActivationsError: When there are no prompts, or not as many seeds.
    """
    if not prompts or len(prompts) != len(seeds):
        raise ActivationsError(
            message(
                f"Generations of {len(prompts)} prompts with {len(seeds)} seeds were asked for",
                "each needs one of both",
                "Give equally long lists",
            )
        )
    reading, frames = Reading(tuple(sites), layers_of(model, layers), pool), model.frames_for(seconds)
    parts = []
    for start in range(0, len(prompts), batch):
        some = slice(start, start + batch)
        run = model.sampling(prompts[some], seeds=seeds[some], frames=frames, guidance=guidance)
        parts.append(read_while_sampling(model, run, reading))
    return Activations.from_arrays(
        {site: np.concatenate([part[site] for part in parts]) for site in reading.sites},
        layers=reading.layers,
        samples=_samples(prompts, seeds, labels or {}),
        attrs={"guidance": guidance, "seconds": seconds, **model_attrs(model, reading)},
        residual_norm=model.residual_norms()[list(reading.layers)],
    )


def _samples(
    prompts: Sequence[str], seeds: Sequence[int], labels: Mapping[str, Sequence[str]]
) -> dict[str, np.ndarray]:
    """The sample coordinates: the prompt is text and group at once."""
    return {
        "clip": np.array([f"{prompt} (seed {seed})" for prompt, seed in zip(prompts, seeds, strict=True)]),
        "group": np.array(prompts),
        "text": np.array(prompts),
        "row": np.full(len(prompts), "cond"),
        "source": np.full(len(prompts), "generated"),
        **{f"label_{target}": np.asarray(values) for target, values in labels.items()},
    }


def read_while_sampling(model: Model, run: Sampling, reading: Reading) -> dict[str, np.ndarray]:
    """Activations (B, layers, [frames,] d_model) fp32 by site, read while `run` draws its codes."""
    network, places, batch = model.network, reading.places, run.batch
    seen: dict[Place, list[torch.Tensor]] = {place: [] for place in places}
    with model.exclusive(), network.sample(run) as tracer:
        for _step in tracer.iter[: run.steps]:
            for place in places:
                seen[place].append(live(network, place)[:batch, 0].clone())
    held = torch.full((batch,), run.frames, device=model.device)
    return reading.stacked(
        {
            place: pooled(torch.stack(steps[1 : run.frames + 1], dim=1), held, reading.pool)
            for place, steps in seen.items()
        }
    )
