"""The dose from which steering breaks the music: where the model itself no longer believes what it plays.

The yardstick is real music. The unsteered model finds some real pieces likelier than others; steered music
that it finds less likely than all but a few of them is broken. Both are read teacher-forced under a prompt
that names nothing (see `damage`). One number then says where a fader's range stops being musical; a single
direction may break sooner or later, and the table says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from workbench.errors import EvidenceError
from workbench.evidence.damage import likelihood
from workbench.generation.generate import generate
from workbench.model.musicgen import NEUTRAL_PROMPTS, Model
from workbench.model.teacher_forcing import codes_for, codes_match_codec, score_codes
from workbench.sound import Dataset
from workbench.steering import Direction

DOSES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
_BATCH = 8


@dataclass(frozen=True, eq=False)
class BreakingDose:
    """From which dose on the music breaks.

    Attributes:
        dose: the smallest dose, either way, at which the mean over directions is broken, interpolated between
            those that were tried; infinite where none was.
        real: what `share` of the real pieces stay below, in nats per code.
        share: of the real pieces.
        table: a row per direction and dose: direction, dose, n, nll (nats per code), broken (nll > real).
    """

    dose: float
    real: float
    share: float
    table: pd.DataFrame = field(repr=False)

    def sentence(self) -> str:
        """Return what was found, with its numbers."""
        yardstick = f"{self.share:.0%} of the real pieces are likelier than {self.real:.2f} nats per code"
        if not np.isfinite(self.dose):
            return f"{yardstick}, and so is the music at every dose up to {self.table['dose'].abs().max():g}."
        return f"{yardstick}; from dose {self.dose:.2f} on steered music is not."


def breaking_dose(
    model: Model,
    directions: Mapping[str, Direction],
    dataset: Dataset,
    *,
    doses: Sequence[float] = DOSES,
    seeds: Sequence[int] = tuple(range(8)),
    seconds: float = 4.0,
    share: float = 0.95,
    progress: bool = True,
) -> BreakingDose:
    """Return the dose from which steering along these directions breaks the music.

    Args:
        model: the model.
        directions: unit directions by name; each is pushed either way.
        dataset: real music that the model can be asked about, some fifty clips.
        doses: rising, above 0.
        seeds: a clip per seed, direction and signed dose.
        seconds: of each clip, steered and real.
        share: of the real pieces that are to be likelier.
        progress: whether to show a progress bar.

    Raises:
        EvidenceError: there are no directions, no doses that rise above 0, or no share between 0 and 1.
    """
    ladder = [float(dose) for dose in doses]
    rising = ladder and ladder[0] > 0 and all(a < b for a, b in pairwise(ladder))
    if not directions or not rising or not 0 < share < 1:
        found = f"there are {len(directions)} directions, doses {ladder} and a share of {share}"
        raise EvidenceError("A breaking dose was asked for", found, "Give doses that rise above 0")
    real = float(np.quantile(_real(model, dataset, seconds), share))
    prompts = [NEUTRAL_PROMPTS[number % len(NEUTRAL_PROMPTS)] for number in range(len(seeds))]
    rows = []
    signed = [sign * dose for dose in ladder for sign in (1, -1)]
    for dose in tqdm(signed, desc="Breaking dose", unit="dose", disable=not progress, leave=False):
        plans = [one.at(dose=dose) for one in directions.values() for _seed in seeds]
        takes = generate(
            model, prompts * len(directions), steering=plans, seed=list(seeds) * len(directions),
            seconds=seconds, progress=False,
        )  # fmt: skip
        nlls = np.reshape([one.nll for one in likelihood(model, takes)], (len(directions), len(seeds)))
        rows += [
            {"direction": name, "dose": dose, "n": len(seeds), "nll": nll, "broken": nll > real}
            for name, nll in zip(directions, nlls.mean(1), strict=True)
        ]
    table = pd.DataFrame(rows)
    means = table.groupby(table["dose"].abs())["nll"].mean()
    return BreakingDose(_crossing(means.index.to_numpy(), means.to_numpy(), real), real, share, table)


def _real(model: Model, dataset: Dataset, seconds: float) -> np.ndarray:
    """Return nats per code of each real piece (n,) under a neutral prompt."""
    stored = codes_match_codec(model, dataset)
    codes = [codes_for(model, dataset, entry, seconds=seconds, stored=stored) for entry in dataset]
    found: list[float] = []
    for start in range(0, len(codes), _BATCH):
        some = codes[start : start + _BATCH]
        text = model.text([NEUTRAL_PROMPTS[0]] * len(some))
        found += [float(nats.mean()) for nats in score_codes(model, some, text)]
    return np.array(found)


def _crossing(doses: np.ndarray, nats: np.ndarray, real: float) -> float:
    """Return the first dose at which `nats` rises above `real`, linear between neighbours."""
    above = np.flatnonzero(nats > real)
    if not len(above):
        return float("inf")
    first = int(above[0])
    if first == 0:
        return float(doses[0])
    low, high = nats[first - 1], nats[first]
    return float(doses[first - 1] + (real - low) / (high - low) * (doses[first] - doses[first - 1]))
