"""How likely the unsteered model finds what was played: a measure of quality that hears no sound at all.

Steering that breaks the music leads it to codes that the model itself would hardly write, and their negative
log-likelihood (NLL) rises. It is measured teacher-forced, under the take's own prompt, on the conditional row
alone: without guidance, at temperature 1, over all codes. A take that was drawn with guidance or top-k has
been drawn from a sharper distribution, so its NLL is no estimate of the model's entropy; what tells is the
difference to the unsteered twin (same prompt, seed and settings).

A low NLL is not good in itself: loops and held tones are likely too. Read it beside `damage`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tqdm.auto import tqdm

from workbench.errors import EvidenceError
from workbench.generation.take import Take
from workbench.model.musicgen import Model
from workbench.model.scoring import score_codes


@dataclass(frozen=True, eq=False)
class Likelihood:
    """What the unsteered model says of one take: `nats` (k, frames), the NLL of each of its codes."""

    nats: np.ndarray

    @property
    def nll(self) -> float:
        """The mean over all codes, in nats per code; who knew nothing would say log(codebook size)."""
        return float(self.nats.mean(dtype=np.float64))

    @property
    def per_codebook(self) -> tuple[float, ...]:
        """The mean of each codebook (k,), the coarsest first."""
        return tuple(float(row.mean(dtype=np.float64)) for row in self.nats)

    def row(self) -> dict[str, float]:
        """Return nll and nll_0, nll_1 ... per codebook, as columns beside those of `damage`."""
        return {"nll": self.nll} | {f"nll_{book}": nll for book, nll in enumerate(self.per_codebook)}


def likelihood(
    model: Model, takes: Sequence[Take], *, batch: int = 8, progress: bool = False
) -> list[Likelihood]:
    """Return what the unsteered model says of each take, however it was made.

    Args:
        model: the model; its conditional row alone is asked, without guidance.
        takes: made by `generate`; each is read under its own prompt and melody.
        batch: takes per forward pass.
        progress: whether to show a progress bar.

    Raises:
        EvidenceError: there is no take, or one holds codes that this model does not have.
    """
    _check(model, takes)
    told: list[Likelihood] = []
    starts = range(0, len(takes), batch)
    for start in tqdm(starts, desc="Scoring", unit="batch", disable=not progress, leave=False):
        some = takes[start : start + batch]
        text = model.text([take.prompt for take in some], [take.melody for take in some])
        told += [Likelihood(nats) for nats in score_codes(model, [take.codes for take in some], text)]
    return told


def _check(model: Model, takes: Sequence[Take]) -> None:
    if not takes:
        raise EvidenceError("A likelihood was asked for", "there are no takes", "Pass at least one")
    for take in takes:
        books, largest = take.codes.shape[0], int(take.codes.max())
        if books != model.n_codebooks or largest >= model.codebook_size:
            held = f"{model.n_codebooks} codebooks of {model.codebook_size}"
            raise EvidenceError(
                f"The likelihood of {take!r} was asked for",
                f"it has {books} codebooks with codes up to {largest}, and {model.id} has {held}",
                "Ask the model that made it",
            )
