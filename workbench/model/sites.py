"""Where in a decoder block a value can be read or edited, in the order in which the block computes them.

embed       what enters block 0: the sum of the codebook embeddings plus the position (layer 0 only)
resid_pre   the residual stream before the block
head_out    what each self-attention head gives to the output projection, before it mixes them: head after
            head, d_model / n_heads numbers each (workbench.activations.head_slice says where a head lies)
attn_out    what self-attention adds to it (after the output projection)
mlp_out     what the feed-forward part adds to it
resid_post  the residual stream after the block: the workbench's default everywhere

All have the shape (rows, positions, d_model). The order matters: nnsight serves values as the model reaches
them, and a value that is asked for too late binds to the *next* step without a warning.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch

from workbench.errors import ModelError

SITES = ("embed", "resid_pre", "head_out", "attn_out", "mlp_out", "resid_post")

Place = tuple[int, str]
"""(layer, site)."""


def live(network: Any, place: Place) -> torch.Tensor:
    """The model's own tensor (rows, positions, d_model) at `place`, inside a trace; edit it in place.

    Where the text stands before the music (prefix.py), its positions come first at the first visit.
    """
    layer, site = place
    block = network.block(layer)
    if site in ("embed", "resid_pre"):
        value: torch.Tensor = block.input
    elif site == "head_out":
        value = block.self_attn.out_proj.input
    elif site == "attn_out":
        value = block.self_attn.output[0]
    elif site == "mlp_out":
        value = block.fc2.output
    else:
        output = block.output
        value = output[0] if isinstance(output, tuple) else output  # melody models give attention beside it
    return value


def in_order(places: Iterable[Place]) -> list[Place]:
    """The distinct `places` in the order in which a forward pass reaches them."""
    return sorted(set(places), key=lambda place: (place[0], SITES.index(place[1])))


def places_for(sites: Sequence[str], layers: Sequence[int]) -> list[Place]:
    """Every (layer, site) to visit; `embed` exists at layer 0 only.

    Raises:
        ModelError: For a site that does not exist.
    """
    unknown = [site for site in sites if site not in SITES]
    if unknown or not sites:
        raise ModelError(
            f"The sites {', '.join(sites) or '(none)'} were asked for",
            f"{unknown or 'nothing'} cannot be captured",
            f"Use one or more of {', '.join(SITES)}",
        )
    return in_order((0 if site == "embed" else layer, site) for site in sites for layer in layers)
