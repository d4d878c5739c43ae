"""R_l, the mean residual norm of each layer: the unit of dose.

R_l is the mean of |h[l, t]| over unsteered generation from neutral prompts, conditional rows, after the
first step (whose input is BOS alone), at guidance 3, temperature 1 and the 250 likeliest codes, whatever the
checkpoint's own settings are. Measured once per model and kept: in the model's own folder
(`workbench.json`, key "residual_norms") when it was shipped with it, else in the user's cache.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from workbench.files import DIGEST, check_digest, digest_of
from workbench.model.folders import cache_folder, keep, say_damaged
from workbench.model.sites import live

if TYPE_CHECKING:
    from workbench.model.musicgen import Model

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
