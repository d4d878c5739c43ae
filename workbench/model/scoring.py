"""How likely a model finds codes: the negative log-likelihood of each, teacher-forced with the delay pattern.

Code c of frame t is written at step t + delay[c], and step p is what position p predicts (tokens.py), so its
probability stands in the logits of codebook c at position t + delay[c].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from workbench.model.reading import padded_ids
from workbench.model.text import TextStates

if TYPE_CHECKING:
    from workbench.model.musicgen import Model


def score_codes(model: Model, codes: Sequence[np.ndarray], text: TextStates) -> list[np.ndarray]:
    """Negative log-likelihoods in nats, (k, frames) float32 per row: temperature 1, all codes, no guidance.

    Rows of different lengths share a batch: padding comes after a row and attention is causal, so that no
    code that counts sees it.

    Args:
        model: The model.
        codes: One array (k, frames) per row.
        text: The text states of as many rows.
    """
    ids, held = padded_ids(model, codes, behind=max(model.delays))
    with model.exclusive():
        chances = model.network.score(ids[:, :, :-1], text).log_softmax(-1)  # (rows, k, positions, V)
    # BOS is no code: where the pattern leaves room it stands in for one, and is never read below.
    said = ids[:, :, 1:].masked_fill(ids[:, :, 1:] == model.bos, 0)[..., None]
    nats = -chances.gather(-1, said)[..., 0].cpu()  # (rows, k, positions)
    return [
        np.stack([row[c, delay : delay + frames].numpy() for c, delay in enumerate(model.delays)])
        for row, frames in zip(nats, held.tolist(), strict=True)
    ]
