"""The lens: what plays when the model stops after an earlier block.

Its final norm and its heads read that block's stream, as in DecoderLens (Langedijk et al. 2023, arXiv
2310.03686); what they say is drawn, decoded and heard.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch

from workbench.evidence.causal import Passage, final_place, read_states
from workbench.generation.take import Take
from workbench.model.musicgen import Model
from workbench.model.network import live
from workbench.model.sampling import Sampling, draw, guide, write_step
from workbench.model.teacher_forcing import check_frames, reading_of
from workbench.sound import Clip


def code_logits(model: Model, stream: torch.Tensor) -> torch.Tensor:
    """Return the logits (..., k, steps, V) fp32 that the final norm and the heads give a block's stream."""
    decoder = model.musicgen.decoder
    with torch.no_grad():
        normed = decoder.model.decoder.layer_norm(stream.to(model.dtype))
        return torch.stack([head(normed) for head in decoder.lm_heads], dim=-3).float()


@dataclass(frozen=True, eq=False)
class Lens:
    """What plays where the model stops after a block: its final norm and heads read that block's stream.

    `clips` and `codes` (layers, k, frames) are drawn with the take's own seed, text and settings. `table` has
    for each layer `nll`, how unlikely it finds the take's codes (nats per code, without guidance), and
    `same`, the share of the take's codes that it plays, too.
    """

    clips: Mapping[int, Clip]
    codes: np.ndarray
    table: pd.DataFrame = field(repr=False)


def lens(model: Model, take: Take, layers: Sequence[int] | None = None, *, forced: bool = True) -> Lens:
    """Return what the model would have played had it stopped after each of `layers` (all when None).

    With `forced` each step hears the take up to there; without, the codes that the block itself has played.
    """
    one, chosen = Passage.of(model, take), reading_of(model, layers=layers).layers
    places = [(layer, "resid_post") for layer in chosen]
    check_frames(model, one.codes.shape[1])
    read = [read_states(model, one, places, branch=branch) for branch in one.weights()]
    if forced:
        codes = torch.stack([_forced(model, one, [states[place][0] for states in read]) for place in places])
    else:
        codes = _stopped(model, one, chosen)
    nll = [_nll(model, one.codes, read[0][place][0]) for place in places]
    same = (codes.cpu().numpy() == one.codes)[:, :, one.given or 0 :].mean((1, 2))
    table = pd.DataFrame({"layer": chosen, "nll": nll, "same": same})
    clips = dict(zip(chosen, model.decode_batch(list(codes)), strict=True))
    return Lens(clips, codes.cpu().numpy(), table)


def _sampling(model: Model, one: Passage, rows: int) -> Sampling:
    """Return a run that draws the passage again, in so many equal rows."""
    given = torch.as_tensor(one.codes[:, : one.given or 0]).expand(rows, -1, -1) if one.given else None
    more: dict[str, Any] = {"melodies": [one.melody] * rows, "prompt_codes": given, **vars(one.settings)}
    frames = one.codes.shape[1]
    return model.sampling([one.prompt] * rows, seeds=[one.seed] * rows, frames=frames, **more)


def _forced(model: Model, one: Passage, streams: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the codes (k, frames) drawn from a block's streams (steps, d_model), one for each branch."""
    run = _sampling(model, one, 1)
    logits = torch.stack([code_logits(model, stream) for stream in streams])  # (branches, k, steps, V)
    logits = guide(logits, run.guidance) if run.guided else logits
    for step in range(run.prompt_frames, run.steps):
        tokens = draw(logits[:, :, step], run)
        write_step(tokens, run.codes, step, run.delays, run.bos, prompt=run.prompt_frames)
    return run.codes[0]


def _stopped(model: Model, one: Passage, layers: Sequence[int]) -> torch.Tensor:
    """Return the codes (layers, k, frames) of runs whose last stream is that of each of `layers`."""
    run, last, network = _sampling(model, one, len(layers)), final_place(model), model.network
    with model.exclusive(), network.sample(run) as tracer:
        for _step in tracer.iter[: run.visits]:
            early = []
            for number, layer in enumerate(layers):
                rows = slice(number, None, len(layers))  # its conditional and, under guidance, null row
                if layer != last[0]:
                    early.append((rows, live(network, (layer, "resid_post"))[rows]))
            stream = live(network, last)
            for rows, state in early:
                stream[rows] = state
    return run.codes


def _nll(model: Model, codes: np.ndarray, stream: torch.Tensor) -> float:
    """Return the mean negative log-likelihood of codes (k, frames) by a stream (steps, d_model), in nats."""
    odds, frames = code_logits(model, stream).log_softmax(-1), codes.shape[1]
    each = [
        odds[book, delay : delay + frames].gather(-1, torch.as_tensor(row).long().to(odds.device)[:, None])
        for book, (row, delay) in enumerate(zip(codes, model.delays, strict=True))
    ]
    return -float(torch.stack(each).double().mean())
