"""Directions for tests, and an independent way to steer: transformers' `generate` with plain hooks."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import MusicgenForConditionalGeneration, MusicgenMelodyForConditionalGeneration

from workbench.steering import Direction

KINDS: Any = {
    "musicgen": MusicgenForConditionalGeneration,
    "musicgen_melody": MusicgenMelodyForConditionalGeneration,
}
Push = Callable[[torch.Tensor, int], None]
"""Changes the residual stream (rows, 1, d_model) of one block in place, given the step."""


def direction(
    model: Any, layer: int, *, seed: int = 0, name: str = "jazz", site: str = "resid_post"
) -> Direction:
    """A random unit direction of `model` with its measured residual norm."""
    vector = np.random.default_rng([seed, layer]).standard_normal(model.d_model).astype(np.float32)
    norm = float(model.residual_norms()[layer])
    made = Direction(vector, layer, site, name=name, residual_norm=norm, origin={"model_id": model.id})
    return made.unit()


def untraced(folder: Path) -> Any:
    """The model of `folder` as transformers gives it, never touched by nnsight."""
    kind = json.loads((folder / "config.json").read_text())["model_type"]
    return KINDS[kind].from_pretrained(folder).eval()


def transformers_codes(
    model: Any, ids: Any, *, seed: int, frames: int, pushes: Mapping[int, Push] | None = None, **settings: Any
) -> np.ndarray:
    """Codes (k, frames) from transformers' `generate`, steered by plain hooks on the blocks in `pushes`.

    `generate` runs the prefill twice, so the hooks count their own visits and leave the first one alone.
    """
    handles = []
    for layer, push in (pushes or {}).items():
        visits = iter(range(-1, 10_000))

        def hook(
            _block: Any, _args: Any, output: torch.Tensor, push: Push = push, visits: Any = visits
        ) -> None:
            step = next(visits)
            if step >= 0:
                push(output, step)

        handles.append(model.decoder.model.decoder.layers[layer].register_forward_hook(hook))
    kept: list[torch.Tensor] = []
    decode = model.audio_encoder.decode
    model.audio_encoder.decode = lambda codes, **kwargs: (kept.append(codes), decode(codes, **kwargs))[1]
    try:
        torch.manual_seed(seed)
        model.generate(
            **ids, do_sample=True, max_new_tokens=frames + model.decoder.num_codebooks - 1, **settings
        )
    finally:
        model.audio_encoder.decode = decode
        for handle in handles:
            handle.remove()
    return kept[0][0, 0].numpy()


def prompt_ids(model: Any, prompt: str) -> dict[str, torch.Tensor]:
    """What transformers' `generate` takes for `prompt`."""
    batch = model.tokenizer([prompt], return_tensors="pt")
    return {name: batch[name] for name in ("input_ids", "attention_mask")}
