"""Activations by plain PyTorch forward hooks on a model that nnsight never touched.

transformers' own `generate` draws the codes, so that nothing of the workbench's loop is used either.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from steering_fixture import prompt_ids

from workbench.model.network import SITES

Kept = dict[str, list[list[torch.Tensor]]]
"""By site and layer: one tensor (rows, positions, d_model) for every forward pass."""


@contextmanager
def recording(musicgen: Any) -> Iterator[Kept]:
    """Hooks on every site of every block, removed at the end."""
    blocks = musicgen.decoder.model.decoder.layers
    kept: Kept = {site: [[] for _block in blocks] for site in SITES}
    handles = []

    def keep(site: str, layer: int) -> Any:
        def hook(_module: Any, args: Any, output: Any = None) -> None:
            value = args[0] if output is None else output[0] if isinstance(output, tuple) else output
            kept[site][layer].append(value.detach().clone())

        return hook

    for layer, block in enumerate(blocks):
        handles += [
            block.register_forward_pre_hook(keep("resid_pre", layer)),
            block.self_attn.out_proj.register_forward_pre_hook(keep("head_out", layer)),
            block.self_attn.register_forward_hook(keep("attn_out", layer)),
            block.fc2.register_forward_hook(keep("mlp_out", layer)),
            block.register_forward_hook(keep("resid_post", layer)),
            blocks[0].register_forward_pre_hook(keep("embed", layer)),  # exists once, told for every layer
        ]
    try:
        yield kept
    finally:
        for handle in handles:
            handle.remove()


def forced(musicgen: Any, ids: torch.Tensor, text: Any) -> dict[str, torch.Tensor]:
    """Activations (rows, layers, positions, d_model) by site for delayed `ids` (rows, k, positions)."""
    with recording(musicgen) as kept, torch.no_grad():
        musicgen.decoder(
            input_ids=ids.reshape(-1, ids.shape[-1]),
            encoder_hidden_states=text.states,
            encoder_attention_mask=text.mask,
            use_cache=False,
        )
    return _joined(kept, skip=0)


def drawn(
    musicgen: Any,
    model: Any,
    prompt: str,
    *,
    seed: int,
    frames: int,
    given: torch.Tensor | None = None,
    guidance: float = 3.0,
    features: torch.Tensor | None = None,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Codes (k, frames) that transformers draws, and its activations: rows cond then null.

    Args:
        musicgen: The untouched model.
        model: Its Model, for the tokenizer.
        prompt: Text.
        seed: Of the global generator.
        frames: Length of the whole.
        given: Codes (k, given frames) to go on from; none when None.
        guidance: Above 1 with null rows.
        features: Chroma (1, frames, 12) for a melody model; none when None. What such a model reads before
            the music is cut off.
    """
    ids: dict[str, Any] = dict(prompt_ids(model, prompt))
    given_frames = 0
    if given is not None:
        given_frames, ids["decoder_input_ids"] = given.shape[-1], given
    if features is not None:
        ids["input_features"] = features
    delay = musicgen.decoder.num_codebooks // musicgen.decoder.config.audio_channels - 1
    found: list[torch.Tensor] = []
    decode = musicgen.audio_encoder.decode
    musicgen.audio_encoder.decode = lambda codes, **more: (found.append(codes), decode(codes, **more))[1]
    try:
        torch.manual_seed(seed)
        with recording(musicgen) as kept, torch.no_grad():
            musicgen.generate(
                **ids,
                do_sample=True,
                guidance_scale=guidance,
                max_new_tokens=frames - given_frames + delay,
            )
    finally:
        musicgen.audio_encoder.decode = decode
    twice = len(kept["embed"][0]) - (frames - given_frames + delay)  # plain models run the prefill twice
    assert twice == int(musicgen.config.model_type == "musicgen")
    held = _joined(kept, skip=twice)
    codes = torch.stack([side[0, 0] for side in found], dim=1).flatten(0, 1)  # left and right take turns
    return codes, {site: values[:, :, -(frames + delay) :] for site, values in held.items()}


def _joined(kept: Kept, *, skip: int) -> dict[str, torch.Tensor]:
    """All passes one after another, without the first `skip`."""
    return {
        site: torch.stack([torch.cat(passes[skip:], dim=1) for passes in layers], dim=1)
        for site, layers in kept.items()
    }
