"""What the workbench relies on, measured on the model at hand instead of assumed.

A few steps are sampled and the same codes are fed back: that alone shows that the residual stream is a bare
tensor of the expected shape, that every step is visited exactly once, that BOS and the delay pattern are
applied as the model applies them, and that teacher forcing gives the residuals of generation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from workbench.errors import ModelError
from workbench.model.sampling import Sampling
from workbench.model.sites import live
from workbench.model.text import TextStates
from workbench.model.tokens import apply_delay

if TYPE_CHECKING:
    from workbench.model.musicgen import Model

FRAMES = 2
TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}


def check_contract(model: Model) -> float:
    """The largest relative difference between teacher forcing and generation, last block, a few steps.

    Raises:
        ModelError: When the model breaks one of the assumptions in the module's docstring.
    """
    _check_codes(model)
    run = model.sampling(["music"], seeds=[0], frames=FRAMES, guidance=1.0)
    drawn = _residuals_while_sampling(model, run)
    ids = apply_delay(run.codes, model.bos, model.delays)[..., : run.steps]
    forced = _residuals_when_forced(model, ids, run.text)
    difference = float((forced - drawn).norm(dim=-1).div(drawn.norm(dim=-1)).max())
    if not difference <= TOLERANCE[model.dtype]:
        _broken(
            model,
            "teacher forcing to repeat generation",
            f"the residuals differ by {difference:.2g} of their norm",
        )
    return difference


def _residuals_while_sampling(model: Model, run: Sampling) -> torch.Tensor:
    """Residuals (steps, d_model) after the last block, read while the run draws its codes."""
    network, last = model.network, model.n_layers - 1
    seen: list[object] = []
    with model.exclusive(), network.sample(run) as tracer:
        for _step in tracer.iter[: run.steps]:
            seen += [live(network, (last, "resid_post"))]
    shape, begin = (1, 1, model.d_model), (1, 1 + run.text.prefix, model.d_model)
    tensors = [value for value in seen if isinstance(value, torch.Tensor)]
    if [tuple(value.shape) for value in tensors] != [begin, *[shape] * (run.steps - 1)]:
        _broken(
            model,
            f"block {last} to return a tensor of shape {shape} at each step",
            f"it gave {_shapes(seen)}",
        )
    return torch.cat([value[0, -1:] for value in tensors]).float()


def _residuals_when_forced(model: Model, ids: torch.Tensor, text: TextStates) -> torch.Tensor:
    """Residuals (steps, d_model) after the last block for delayed `ids`, all positions at once."""
    network, last = model.network, model.n_layers - 1
    seen: list[torch.Tensor] = []
    with model.exclusive(), network.read(ids, text):
        seen += [live(network, (last, "resid_post"))]
    return seen[0][0, text.prefix :].float()


def _check_codes(model: Model) -> None:
    """Compare our delay pattern and the heads' width with the model's own."""
    decoder, frames = model.musicgen.decoder, 2 * model.n_codebooks
    codes = torch.arange(frames, device=model.device).repeat(1, model.n_codebooks, 1)
    own = apply_delay(codes, model.bos, model.delays)[0]
    with_bos = torch.cat([torch.full_like(codes[..., :1], model.bos), codes], dim=-1)
    _ids, mask = decoder.build_delay_pattern_mask(
        with_bos.reshape(-1, frames + 1), pad_token_id=model.bos, max_length=own.shape[-1]
    )
    if not torch.equal(own, mask):
        _broken(model, "the delay pattern 0, 1, 2, ... with BOS in front", "the model builds another one")
    codebook = int(model.musicgen.audio_encoder.config.codebook_size)
    if decoder.lm_heads[0].out_features != codebook:
        _broken(model, f"{codebook} codes per codebook", f"the heads give {decoder.lm_heads[0].out_features}")


def _shapes(values: list[object]) -> str:
    """The distinct shapes or types of `values`, for a message."""
    return ", ".join(
        sorted({str(tuple(v.shape)) if isinstance(v, torch.Tensor) else type(v).__name__ for v in values})
    )


def _broken(model: Model, asked: str, found: str) -> None:
    raise ModelError(
        f"The workbench needs {asked}",
        f"in {model.id} {found}",
        "Use transformers >=5.17,<5.24 and a MusicGen checkpoint",
    )
