"""Tables of trials as a judge would fill them: a shift of each direction, of each clip, and noise."""

from __future__ import annotations

import numpy as np
import pandas as pd

PAIRS = [("a tune" if seed % 2 else "a song", seed) for seed in range(12)]
BETWEEN, WITHIN = 0.6, 0.8  # standard deviations of log-odds: between directions, and of a direction's clips


def clips(method: str, shift: float, seed: int, *, aim: str = "jazz", dose: float = 0.5) -> pd.DataFrame:
    """Return the clips of one direction on all pairs, with P(aim) around log-odds of -1.5 + `shift`."""
    own = np.random.default_rng(99).normal(0, 1, len(PAIRS))  # what a pair brings along, in every method
    noise = np.random.default_rng([seed, 7]).normal(0, WITHIN, len(PAIRS))
    prompts, seeds = zip(*PAIRS, strict=True)
    odds = 1 / (1 + np.exp(1.5 - own - shift - noise))
    return pd.DataFrame(
        {"method": method, "aim": aim, "dose": dose, "prompt": prompts, "seed": seeds, "p": odds}
    )


def controls(seed: int, *, directions: int = 5, aim: str = "jazz") -> pd.DataFrame:
    """Return unsteered clips and those of random directions, each with a shift of its own."""
    shifts = np.random.default_rng([seed, 1]).normal(0, BETWEEN, directions)
    some = [clips("random", shift, 1000 * seed + k, aim=aim) for k, shift in enumerate(shifts)]
    return pd.concat(
        [clips("unsteered", 0.0, 1000 * seed + 500, aim=aim, dose=0.0), *some], ignore_index=True
    )


def steered(seed: int, shift: float | None = None, *, aim: str = "jazz") -> pd.DataFrame:
    """Return the clips of a direction with this shift, by default of one more random direction."""
    own = float(np.random.default_rng([seed, 2]).normal(0, BETWEEN)) if shift is None else shift
    return clips("probe", own, 1000 * seed + 600, aim=aim)
