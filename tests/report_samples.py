"""Directions, a design and made tables for the tests of the evidence report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from toy_judges import DOSE, planted

from workbench.evidence.report import CONTROLS, PROMPTED, UNSTEERED, Design
from workbench.evidence.search import COSTS, DamageBudget
from workbench.generation.generate import generate
from workbench.sound import Dataset, Entry
from workbench.steering import Direction, random_direction

NAMES = {"jazz": 3, "rock": 9}
HEARD = {**NAMES, "country": 1, "reggae": 12}  # what the judge tells apart
SHORT = Design(
    doses=(0.5, 2.0), clips=(2, 12), seconds=1.0, full=1, budget=DamageBudget(nll_rise=9, level_change_db=60)
)

FEW = replace(SHORT, doses=(2.0,), clips=(1, 3))


def methods(model: Any) -> dict[str, dict[str, Direction]]:
    """Return planted directions, random ones in their place, and others for shuffled labels."""
    good = {name: planted(model, number, name=name) for name, number in NAMES.items()}

    def wild(seed: int) -> dict[str, Direction]:
        return {
            name: random_direction(one, seed + n).named(name) for n, (name, one) in enumerate(good.items())
        }

    return {"planted": good, "wild": wild(5), "shuffled labels": wild(5)}


def planted_music(model: Any) -> Dataset:
    """Return eight clips of 2 s per genre, in four groups each, that sound as the planted directions do."""
    plans = [planted(model, number, name=name).at(DOSE) for name, number in NAMES.items() for _ in range(8)]
    seeds = list(range(500, 500 + len(plans)))
    takes = generate(model, "a tune", steering=plans, seed=seeds, seconds=2.0, progress=False)
    genres = [name for name in NAMES for _ in range(8)]
    entries = tuple(
        Entry(f"{genre}-{i}", {"genre": genre}, f"{genre}-{i % 4}", f"test:{i}", str(i))
        for i, genre in enumerate(genres)
    )
    return Dataset(entries, "planted", lambda entry: takes[int(entry.digest)].clip)


def study_clips(
    rates: Mapping[str, tuple[float, float]], count: int, *, seed: int = 0, dose: float = 0.2,
    controls: Sequence[str] = CONTROLS,
) -> pd.DataFrame:  # fmt: skip
    """Return made clips at the chosen settings: hit rates of "probe" and of every control by aim."""
    rng, rows = np.random.default_rng(seed), []
    for aim, (own, control) in rates.items():
        for method in ("probe", *controls, PROMPTED):
            hits = rng.permutation(np.arange(count) < round((own if method == "probe" else control) * count))
            if seed:
                hits = rng.random(count) < (own if method == "probe" else control)
            for number, hit in enumerate(hits):
                at = 0.0 if method == UNSTEERED else dose
                rows.append(
                    {"aim": aim, "method": method, "dose": at, "layer": 3, "chosen": True, "hit": bool(hit),
                     "p": float(hit), "gain": float(hit) - 0.2, "seed": number, "base": "a tune",
                     **dict.fromkeys(COSTS, 0.0)}
                )  # fmt: skip
    return pd.DataFrame(rows)
