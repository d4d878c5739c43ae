"""By how much numbers may differ that a test calls equal: the policy of all tests, in one place.

To the bit (`torch.equal`, `np.array_equal`, `==`) a test compares what one machine computes twice from the
same values in the same shapes with the same number of threads, and what is only copied, cut, counted or exact
in its type. Everything else is a sum that another processor, batch or program may take in another order, and
is compared within one of the tolerances below. A sum of n numbers of size s, each rounded by half a step u,
differs by at most n u s between two orders; u is 6e-8 in float32 and 1e-16 in float64. A test with another
tolerance says why beside it.

`pytest.approx` without a tolerance (1e-6) is for what Python, numpy or pandas compute in float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

from workbench.model import network, sampling

# float64: a million terms of size 1 in another order are 1e6 x 1e-16 = 1e-10 apart, and ten times that.
DOUBLE = {"rtol": 1e-9, "atol": 1e-9}
# float32, sixteen roundings of numbers of size 1 (shares, unit vectors): 16 x 6e-8.
ROUNDED = {"rtol": 1e-6, "atol": 1e-6}
# float32, a sum of up to 160 products of size 1, such as a tiny model's row times a matrix: 160 x 6e-8.
SUMMED = {"rtol": 1e-5, "atol": 1e-5}
# float32, the residual stream of a tiny model in another batch: 1e-5 of numbers of size 10 (law 12).
NETWORK = {"rtol": 1e-4, "atol": 1e-4}
# float32, the length of a push as a receipt tells it: the stream, of norm 100 at most, is rounded before and
# after, 2 x 100 x 6e-8, and a push is 0.2 or longer; where none is planned it is exactly 0.
PUSHED = {"rtol": 1e-4, "atol": 0.0}

# The residual stream in each precision, of its norm: where activations are rounded before a product (to 6e-5
# of a row's largest in int8, 4e-3 of each in bfloat16 and int4), a last bit decides to which side.
STREAM = {"float32": 1e-5, "bfloat16": 1e-2, "int8": 1e-3, "int4": 1e-2}

# Law 12 says that residuals agree to 1e-5, and codes unless two candidates tie within it. Logits are sums
# over the residual, of size 4 at most; guidance 3 takes 3 of the conditional and 2 of the null: 5 x 4 x 1e-5.
RESIDUALS = 1e-5
TIE = 2e-4


@contextmanager
def draws() -> Iterator[list[float]]:
    """Yield a list that collects, for each draw of a code, by how much the chosen one won (0: another did).

    torch draws the candidate with the largest p / q, where q is exponential noise from the row's generator: a
    p that differs a little makes another one win only where two candidates lie close together.
    """
    gaps: list[float] = []

    def watched(logits: torch.Tensor, run: Any) -> torch.Tensor:
        states = [generator.get_state() for generator in run.generators]
        codes = sampling.draw(logits, run)
        for row, state, drawn in zip(logits / run.temperature, states, codes, strict=True):
            gaps.extend(_gaps(row, state, drawn, run.top_k))
        return codes

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "draw", watched)
        yield gaps


def _gaps(logits: torch.Tensor, state: torch.Tensor, drawn: torch.Tensor, top_k: int) -> list[float]:
    """Return per codebook how far the second candidate lies behind `drawn`, 0 where `drawn` is not first."""
    noise = torch.empty_like(logits).exponential_(generator=torch.Generator().set_state(state))
    scores = logits - noise.log()
    if 0 < top_k < logits.shape[-1]:  # who misses the cut by less than a tie may come in elsewhere
        cut = logits.topk(top_k).values[..., -1:]
        scores = scores.masked_fill(logits < cut - TIE, -torch.inf)
    first, second = scores.topk(2).values.unbind(-1)
    return torch.where(scores.argmax(-1) == drawn, first - second, torch.zeros_like(first)).tolist()


def same_codes(found: np.ndarray, expected: np.ndarray, gaps: list[float]) -> bool:
    """Return whether codes of two batch shapes are equal; where they are not, two candidates have tied."""
    if np.array_equal(found, expected):
        return True
    assert gaps and min(gaps) <= TIE, f"codes differ, yet no draw was closer than {min(gaps, default=0):.2g}"
    return False
