"""The native transformers model inside an nnsight wrapper, with its own sampling loop and reading pass.

`sample`, `read` and `score` call the checkpoint's own decoder. The loop is our own because transformers'
`generate` runs the prefill twice (hooks see N + 1 visits), cannot stop early and reports no frames while it
works; here one iteration *is* one step, so `tracer.iter[step]` means what it says.

A value (rows, positions, d_model) can be read or edited at these sites of a decoder block, in this order: one
that nnsight is asked for too late binds to the *next* step without a warning.

- embed: what enters block 0, the sum of the codebook embeddings plus the position (layer 0 only)
- resid_pre: the residual stream before the block
- head_out: what the self-attention heads give to the output projection, before it mixes them: head after
  head, d_model / n_heads numbers each (`workbench.activations.head_slice`)
- attn_out: what self-attention adds to the stream (after the output projection)
- mlp_out: what the feed-forward part adds to it
- resid_post: the residual stream after the block, the workbench's default everywhere
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
from nnsight import NNsight
from nnsight.intervention.envoy import Envoy, traceable
from torch.utils._pytree import tree_map_only
from transformers.cache_utils import DynamicCache, EncoderDecoderCache

from workbench.errors import Cancelled, ModelError
from workbench.model.conditioning import TextStates
from workbench.model.sampling import Sampling, draw, guide, write_step

SITES = ("embed", "resid_pre", "head_out", "attn_out", "mlp_out", "resid_post")

Place = tuple[int, str]  # layer, site

TIMED = 12


def timed(act: Callable[[], object]) -> list[float]:
    """Return how many seconds `act` takes, as often as half a second holds it, 3 to TIMED times."""
    taken: list[float] = []
    while len(taken) < 3 or (len(taken) < TIMED and sum(taken) < 0.5):
        start = time.perf_counter()
        act()
        taken.append(time.perf_counter() - start)
    return taken


def live(network: Any, place: Place) -> torch.Tensor:
    """Return the model's own tensor (rows, positions, d_model) at `place`, inside a trace; edit it in place.

    Where the text comes before the music (conditioning.py), its positions come first at the first visit.
    """
    layer, site = place
    block = network.block(layer)
    if site in ("embed", "resid_pre"):
        return block.input
    if site == "head_out":
        return block.self_attn.out_proj.input
    if site == "attn_out":
        return block.self_attn.output[0]
    if site == "mlp_out":
        return block.fc2.output
    output = block.output  # melody models give attention beside it
    return output[0] if isinstance(output, tuple) else output


def in_order(places: Iterable[Place]) -> list[Place]:
    """Return the distinct `places` in the order in which a forward pass reaches them."""
    return sorted(set(places), key=lambda place: (place[0], SITES.index(place[1])))


def places_for(sites: Sequence[str], layers: Sequence[int]) -> list[Place]:
    """Return every (layer, site) to visit; `embed` exists at layer 0 only. ModelError for an unknown site."""
    unknown = [site for site in sites if site not in SITES]
    if unknown or not sites:
        asked, found = f"The sites {', '.join(sites) or '(none)'} were", f"{unknown or 'nothing'} cannot be"
        do = f"Use one or more of {', '.join(SITES)}"
        raise ModelError.lookup(f"{asked} asked for", f"{found} captured", do)
    return in_order((0 if site == "embed" else layer, site) for site in sites for layer in layers)


def spread_blocks(decoder: Any, devices: Sequence[torch.device]) -> None:
    """Move the blocks of a decoder to several devices, about as many to each, in the order of the blocks.

    What a block reads follows it, and its keys and values stay with it. All else is on the first device.
    """
    inner = decoder.model.decoder
    for index, block in enumerate(inner.layers):
        place = devices[index * len(devices) // len(inner.layers)]
        block.to(device=place).register_forward_pre_hook(partial(_bring, place), with_kwargs=True)
    inner.layer_norm.register_forward_pre_hook(partial(_bring, devices[0]), with_kwargs=True)


def _bring(place: torch.device, _module: torch.nn.Module, args: Any, kwargs: Any) -> Any:
    """Return what a module is called with, all tensors on a device."""
    return tree_map_only(torch.Tensor, lambda one: one.to(place), (args, kwargs))


def draw_codes(run: Sampling, logits_of: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """Return codes (B, k, T) drawn step by step; what was drawn before a cancel stays in `run.codes`.

    `logits_of` visits the decoder: fp32 logits (rows, k, V) of what follows ids (rows, k, positions).
    """
    ids = run.opening()
    for step in range(run.prompt_frames, run.steps):
        if run.cancel is not None and run.cancel.is_set():
            raise Cancelled(f"Stopped on request before step {step} of {run.steps}.")
        logits = logits_of(ids.repeat(2, 1, 1) if run.guided else ids)
        tokens = draw(guide(logits, run.guidance) if run.guided else logits, run)
        ids = write_step(tokens, run.codes, step, run.delays, run.bos, prompt=run.prompt_frames)[..., None]
        if run.on_step is not None:
            run.on_step(step, run.codes)
    return run.codes


class _OnDemand(Envoy):
    """An envoy that wraps a child module only when somebody reads it, which costs a third of wrapping all.

    `_add_envoy`, which `Envoy.__init__` calls per child, is internal: so pyproject pins nnsight below 0.9.
    """

    def _add_envoy(self, name: str, module: torch.nn.Module) -> None:
        """Do nothing now: `Envoy.__getattr__` wraps the child at its first use."""


class Network(_OnDemand, NNsight):
    """MusicGen under nnsight: `with network.sample(run) as tracer:` traces a whole generation.

    Paths mirror the wrapped model. A block's output is the residual stream (rows, positions, d_model): a bare
    tensor in transformers 5, the first part of a tuple in its melody models (`live` handles both).
    """

    def __init__(self, musicgen: torch.nn.Module) -> None:
        super().__init__(musicgen, envoys=_OnDemand)

    def block(self, layer: int) -> Any:
        """Return the envoy of decoder block `layer`."""
        return self.decoder.model.decoder.layers[layer]

    @traceable  # type: ignore[untyped-decorator]
    @torch.no_grad()
    def sample(self, run: Sampling) -> torch.Tensor:
        """Return codes (B, k, T), as `draw_codes` does."""
        decoder = self._module.decoder
        cache = EncoderDecoderCache(DynamicCache(config=decoder.config), DynamicCache(config=decoder.config))

        def logits_of(ids: torch.Tensor) -> torch.Tensor:
            arguments = run.text.arguments(decoder, ids, cache.get_seq_length())
            out = decoder(**arguments, past_key_values=cache, use_cache=True)
            return out.logits[:, -1].float().view(*ids.shape[:2], -1)

        return draw_codes(run, logits_of)

    @traceable  # type: ignore[untyped-decorator]
    @torch.no_grad()
    def read(self, ids: torch.Tensor, text: TextStates) -> torch.Tensor:
        """Return final states (rows, positions, d_model) for delayed `ids` (rows, k, positions)."""
        decoder = self._module.decoder
        out = decoder.model.decoder(**text.arguments(decoder, ids), use_cache=False)
        return out.last_hidden_state[:, text.prefix :]

    @traceable  # type: ignore[untyped-decorator]
    @torch.no_grad()
    def score(self, ids: torch.Tensor, text: TextStates) -> torch.Tensor:
        """Return logits (rows, k, positions, V) fp32 for delayed `ids`; those at position p are of step p."""
        decoder = self._module.decoder
        out = decoder(**text.arguments(decoder, ids), use_cache=False)
        return out.logits[:, text.prefix :].float().view(*ids.shape, -1)

    @torch.no_grad()
    def time_visits(self, text: TextStates, context: int, positions: int = 1) -> list[float]:
        """Return how many seconds visits take that read `positions` more each, after `context` zeros."""
        decoder, rows = self._module.decoder, len(text.states)
        config, heads = decoder.config, decoder.config.num_attention_heads
        past = text.states.new_zeros(rows, heads, context, config.hidden_size // heads)
        cache = EncoderDecoderCache(DynamicCache(config=config), DynamicCache(config=config))
        for layer in range(config.num_hidden_layers if context else 0):
            cache.self_attention_cache.update(past, past, layer)
        ids = torch.zeros((rows, config.num_codebooks, positions), dtype=torch.long, device=past.device)

        def visit() -> None:
            arguments = text.arguments(decoder, ids, cache.get_seq_length())
            decoder(**arguments, past_key_values=cache, use_cache=True).logits[:1, :1, :1].cpu()  # waits

        return timed(visit)
