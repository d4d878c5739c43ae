"""Directions, a design and made tables for the tests of the evidence report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from toy_judges import planted

from workbench.evidence.report import CONTROLS, PROMPTED, Design
from workbench.evidence.search import COSTS, DamageBudget
from workbench.steering import Direction, random_direction

NAMES = {"jazz": 3, "rock": 9}
SHORT = Design(
    doses=(0.5, 2.0), clips=(2, 12), seconds=1.0, full=1, budget=DamageBudget(nll_rise=9, level_change_db=60)
)


def methods(model: Any) -> dict[str, dict[str, Direction]]:
    """Return planted directions, random ones in their place, and others for shuffled labels."""
    good = {name: planted(model, number, name=name) for name, number in NAMES.items()}

    def wild(seed: int) -> dict[str, Direction]:
        return {
            name: random_direction(one, seed + n).named(name) for n, (name, one) in enumerate(good.items())
        }

    return {"planted": good, "wild": wild(5), "shuffled labels": wild(50)}


def study_clips(rates: Mapping[str, tuple[float, float]], count: int, *, seed: int = 0) -> pd.DataFrame:
    """Return made clips at the chosen settings: hit rates of "probe" and of every control by aim."""
    rng, rows = np.random.default_rng(seed), []
    for aim, (own, control) in rates.items():
        for method in ("probe", *CONTROLS, PROMPTED):
            hits = rng.permutation(np.arange(count) < round((own if method == "probe" else control) * count))
            if seed:
                hits = rng.random(count) < (own if method == "probe" else control)
            for number, hit in enumerate(hits):
                rows.append(
                    {"aim": aim, "method": method, "dose": 0.2, "layer": 3, "chosen": True, "hit": bool(hit),
                     "p": float(hit), "gain": float(hit) - 0.2, "seed": number, "base": "a tune",
                     **dict.fromkeys(COSTS, 0.0)}
                )  # fmt: skip
    return pd.DataFrame(rows)
