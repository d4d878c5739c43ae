"""Directions, a design and made tables for the tests of the evidence report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from toy_judges import DOSE, planted

from workbench.evidence.report import CONTROLS, PROMPTED, RANDOM, UNSTEERED, Design, adjusted_p, summary
from workbench.evidence.search import COSTS, DamageBudget
from workbench.generation.generate import generate
from workbench.sound import Dataset, Entry
from workbench.steering import Direction, random_direction
from workbench.steering.together import WAYS

NAMES = {"jazz": 3, "rock": 9}
HEARD = {**NAMES, "country": 1, "reggae": 12}  # what the judge tells apart
OTHERS = {
    "away": lambda some, dose: some[0].at(-dose),
    "the same": lambda some, dose: some[0].at(dose),
    "both branches": WAYS["both branches"],
}
SHORT = Design(
    doses=(0.5, 2.0), clips=(2, 12), seconds=1.0, full=1, ways=OTHERS,
    budget=DamageBudget(nll_rise=9, level_change_db=60),
)  # fmt: skip

FEW = replace(SHORT, doses=(2.0,), clips=(1, 3), ways={})


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
    """Return made clips at the chosen settings: hit rates of "probe" and of every control by aim.

    A number of clips is exact without a seed; with one each clip is drawn, and random directions, each of
    them two clips, differ in their rates as the direction of "probe" may.
    """
    rng, rows = np.random.default_rng(seed), []
    for aim, (own, control) in rates.items():
        for method in ("probe", *controls, PROMPTED):
            rate = own if method == "probe" else control
            hits = rng.permutation(np.arange(count) < round(rate * count))
            if seed:
                each = np.clip(rng.normal(rate, 0.15, count), 0, 1)
                each = each[np.arange(count) // 2] if method == RANDOM else each[0]
                hits = rng.random(count) < each
            at = 0.0 if method == UNSTEERED else dose
            rows += [
                {"aim": aim, "method": method, "dose": at, "layer": 3, "chosen": True, "hit": bool(hit),
                 "p": float(hit), "gain": float(hit) - 0.2, "seed": number, "base": "a tune",
                 "prompt": "a tune", "drawn": number // 2 if method == RANDOM else np.nan,
                 **dict.fromkeys(COSTS, 0.0)}
                for number, hit in enumerate(hits)
            ]  # fmt: skip
    return pd.DataFrame(rows)


def judged(aims: Iterable[str], *, low: float = 0.8, codec: float = 0.0) -> pd.DataFrame:
    """Return the validation of a judge of these aims whose AUC has this lower bound."""
    auc = {"figure": "AUC", "value": low + 0.05, "low": low, "high": low + 0.1, "ok": low > 0.5}
    moved = {"figure": "codec", "value": codec, "low": codec - 0.05, "high": codec + 0.05, "ok": codec < 0.1}
    about = {"material": "real clips", "n": 30, "judge": "genre", "first": True}
    return pd.DataFrame([{**about, "class": aim, **one} for aim in aims for one in (auc, moved)])


def judged_table(clips: pd.DataFrame) -> pd.DataFrame:
    """Return the summary of made clips with its p-values."""
    table = summary(clips)
    return table.assign(adjusted_p=table["aim"].map(adjusted_p(clips, "probe")))
