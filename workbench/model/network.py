"""The native transformers model inside an nnsight wrapper, with its own sampling loop and reading pass.

Nothing of MusicGen is re-implemented: `sample`, `read` and `score` call the checkpoint's own decoder. The
loop is our own because transformers' `generate` runs the prefill twice (hooks see N + 1 visits), cannot stop
early and reports no frames while it works; here one iteration *is* one step, so `tracer.iter[step]` means
what it says.
"""

from __future__ import annotations

from typing import Any

import torch
from nnsight import NNsight
from nnsight.intervention.envoy import Envoy, traceable
from transformers.cache_utils import DynamicCache, EncoderDecoderCache

from workbench.errors import Cancelled
from workbench.model.sampling import Sampling, draw, guide
from workbench.model.text import TextStates
from workbench.model.tokens import write_step


class _OnDemand(Envoy):
    """An envoy that wraps a child module only when somebody reads it.

    nnsight instruments the whole tree by default, about a thousand modules that nobody reads here; wrapping
    on demand cuts its cost to a third. It leans on an internal (`_add_envoy` is what `Envoy.__init__` calls
    per child), which is why pyproject pins nnsight below 0.9 and a test compares every capture with plain
    forward hooks.
    """

    def _add_envoy(self, name: str, module: torch.nn.Module) -> None:
        """Do nothing now: `Envoy.__getattr__` wraps the child at its first use."""


class Network(_OnDemand, NNsight):
    """MusicGen under nnsight: `with network.sample(run) as tracer:` traces a whole generation.

    Paths mirror the wrapped model; `network.block(5)` is decoder block 5, whose `.output` is the residual
    stream after it: a bare tensor (rows, positions, d_model) in transformers 5, the first part of a tuple in
    its melody models (`sites.live` tells both apart).
    """

    def __init__(self, musicgen: torch.nn.Module) -> None:
        super().__init__(musicgen, envoys=_OnDemand)

    def block(self, layer: int) -> Any:
        """The envoy of decoder block `layer`."""
        return self.decoder.model.decoder.layers[layer]

    @traceable  # type: ignore[untyped-decorator]
    @torch.no_grad()
    def sample(self, run: Sampling) -> torch.Tensor:
        """Codes (B, k, T) drawn step by step; attention states are kept, text is encoded once.

        One visit of the decoder is one step; where frames were given, the first visit reads them all.

        Raises:
            Cancelled: When `run.cancel` is set; what was drawn until then stays in `run.codes`.
        """
        decoder = self._module.decoder
        cache = EncoderDecoderCache(DynamicCache(config=decoder.config), DynamicCache(config=decoder.config))
        ids = run.opening()
        for step in range(run.given_frames, run.steps):
            if run.cancel is not None and run.cancel.is_set():
                raise Cancelled(f"Stopped on request before step {step} of {run.steps}.")
            rows = ids.repeat(2, 1, 1) if run.guided else ids
            logits = self._next_logits(decoder, rows, run.text, cache)
            tokens = draw(guide(logits, run.guidance) if run.guided else logits, run)
            ids = write_step(tokens, run.codes, step, run.delays, run.bos, given=run.given_frames)[..., None]
            if run.on_step is not None:
                run.on_step(step, run.codes)
        return run.codes

    @staticmethod
    def _next_logits(decoder: Any, ids: torch.Tensor, text: TextStates, cache: Any) -> torch.Tensor:
        """Logits (rows, k, V) in fp32 for the position after `ids` (rows, k, positions)."""
        told = text.arguments(decoder, ids, cache.get_seq_length())
        out = decoder(**told, past_key_values=cache, use_cache=True)
        logits: torch.Tensor = out.logits[:, -1].float()
        return logits.view(*ids.shape[:2], -1)

    @traceable  # type: ignore[untyped-decorator]
    @torch.no_grad()
    def read(self, ids: torch.Tensor, text: TextStates) -> torch.Tensor:
        """Final states (rows, positions, d_model) for delayed `ids` (rows, k, positions): teacher forcing.

        The output heads are left out: nobody reads logits here. Blocks see the text's prefix too, if any.
        """
        decoder = self._module.decoder
        out = decoder.model.decoder(**text.arguments(decoder, ids), use_cache=False)
        states: torch.Tensor = out.last_hidden_state[:, text.prefix :]
        return states

    @traceable  # type: ignore[untyped-decorator]
    @torch.no_grad()
    def score(self, ids: torch.Tensor, text: TextStates) -> torch.Tensor:
        """Logits (rows, k, positions, V) in fp32 for delayed `ids` (rows, k, positions): teacher forcing.

        Like `read`, but with the output heads: what stands at position p is said of step p.
        """
        decoder = self._module.decoder
        out = decoder(**text.arguments(decoder, ids), use_cache=False)
        logits: torch.Tensor = out.logits[:, text.prefix :].float()
        return logits.view(*ids.shape, -1)
