"""Does a dose along the tempo direction make music faster? Rank correlation of dose and measured tempo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from recipe.evaluation.attributes import why_not
from recipe.evaluation.bench import Bench, Heard
from recipe.evaluation.rows import Bar, Row, absent, seeds_text
from workbench.activations import Activations
from workbench.generation.generate import generate
from workbench.generation.take import Take
from workbench.probing import fit_probes
from workbench.sound import Clip
from workbench.stats import bootstrap, spearman
from workbench.steering import Direction, random_direction

LEVELS = (0.05, 0.1, 0.2, 0.3)  # tried with both signs; the largest dose is one of the last three
SHARES = (-1.0, -2 / 3, -1 / 3, 0.0, 1 / 3, 2 / 3, 1.0)
CONTROL_SHARES = (-1.0, -0.5, 0.0, 0.5, 1.0)
CONTROLS = 4
FASTER = "faster"
STEERED, RANDOM = Bar(at_least=0.6), Bar(under=0.2)
_WHAT = "tempo steering: Spearman correlation of dose and tempo heard by the judge"
_SECOND = "tempo steering: Spearman correlation of dose and tempo by librosa"
_CONTROL = "tempo steering, random directions: mean absolute correlation"


@dataclass(frozen=True)
class Setting:
    """The direction that was chosen, and the largest dose."""

    direction: Direction
    largest: float


def measure_tempo(bench: Bench, acts: Activations) -> tuple[list[Row], dict[str, Any]]:
    """Return the correlation for the tempo direction (two ways of measuring) and for random directions."""
    why = why_not(bench, acts, "tempo")
    if not why and "tempo_bpm" not in acts.targets:
        why = "the shipped music does not say its beats a minute (label tempo_bpm)"
    if why:
        return [absent("tempo.steered", _WHAT, STEERED, why), absent("tempo.librosa", _SECOND, Bar(), why),
                absent("tempo.random", _CONTROL, RANDOM, why)], {}  # fmt: skip
    setting, tried = _choose(bench, _directions(bench, acts))
    seeds = bench.budget.seeds("tempo", bench.budget.part(0.4))
    doses = [share * setting.largest for share in SHARES]
    table = _play(bench, setting.direction, doses, seeds, keep=True)
    randoms = _random(bench, setting)
    details = {
        "layer": setting.direction.layer,
        "largest_dose": setting.largest,
        "by_dose": _by_dose(table),
        "tried": tried,
        "random": [round(correlation(part), 4) for part in randoms],
    }
    return [*_rows(table), _random_row(randoms)], details


def correlation(table: pd.DataFrame, measured: str = "bpm") -> float:
    """Return the rank correlation of dose and a measured tempo; 0 where the tempo never changes."""
    return spearman(table["dose"].to_numpy(), table[measured].to_numpy())


def bpm_of_classes(bench: Bench) -> dict[str, float]:
    """Return the mean beats a minute of the shipped pieces of each tempo class."""
    pieces = bench.music.table()
    return {str(name): float(part.mean()) for name, part in pieces.groupby("tempo")["tempo_bpm"]}


def librosa_bpm(clip: Clip, slowest: float, fastest: float) -> float:
    """Return librosa's tempo of a clip, looked for within a quarter octave beyond slowest and fastest.

    In so narrow a range there is little doubt between a tempo and its double, librosa's usual error.
    """
    import librosa
    from scipy.stats import uniform

    low, high = slowest / 2**0.25, fastest * 2**0.25
    prior = uniform(low, high - low)
    return float(librosa.feature.tempo(y=clip.samples, sr=clip.rate_hz, hop_length=256, prior=prior)[0])


def _directions(bench: Bench, acts: Activations) -> list[Direction]:
    """Return, per layer to choose from, the unit direction from the slowest to the fastest class."""
    bpm = bpm_of_classes(bench)
    slow, fast = min(bpm, key=bpm.__getitem__), max(bpm, key=bpm.__getitem__)
    probes = fit_probes(acts, "tempo", layers=bench.layers(5), shuffles=0)
    return [(p.direction(fast) - p.direction(slow)).unit().named(FASTER) for p in probes]


def _play(
    bench: Bench, direction: Direction, doses: Sequence[float], seeds: Sequence[int], *, keep: bool = False
) -> pd.DataFrame:
    """Return a row per dose and seed: dose, seed, bpm (the judge's), librosa; same seeds at each dose."""
    pairs = list(zip(bench.neutral(seeds), seeds, strict=True))
    cells = [(dose, prompt, seed) for dose in doses for prompt, seed in pairs]
    takes = generate(
        bench.model,
        [prompt for _, prompt, _ in cells],
        steering=[direction.at(dose) if dose else None for dose, _, _ in cells],
        seed=[seed for _, _, seed in cells],
        seconds=bench.seconds,
        progress=bench.progress,
    )
    if keep:
        _keep(bench, direction, takes, [dose for dose, _, _ in cells])
    bpm = bpm_of_classes(bench)
    judge = bench.judges["tempo"]
    clips = [take.clip for take in takes]
    judged = Heard.of(clips).odds(judge) @ np.array([bpm[name] for name in judge.classes])
    second = [librosa_bpm(clip, min(bpm.values()), max(bpm.values())) for clip in clips]
    columns = {"dose": [dose for dose, _, _ in cells], "seed": [seed for _, _, seed in cells]}
    return pd.DataFrame(columns | {"bpm": judged, "librosa": second})


def _keep(bench: Bench, direction: Direction, takes: Sequence[Take], doses: Sequence[float]) -> None:
    """Write clips under ``attributes/tempo/{slower,unchanged,faster,random}/``."""
    for dose, take in zip(doses, takes, strict=True):
        aim = ("unchanged", "faster", "slower")[int(np.sign(dose))]
        folder = bench.out / "attributes" / "tempo" / (aim if direction.name == FASTER else "random")
        take.clip.write(folder / f"{direction.name}-dose{dose:+.2f}-seed-{take.seed}.wav")


def _choose(bench: Bench, directions: Sequence[Direction]) -> tuple[Setting, list[dict[str, float]]]:
    """Return what gives the highest correlation on the seeds that choose, and all that was tried."""
    seeds = bench.budget.seeds("choose tempo", bench.budget.part(0.1))
    tried: list[tuple[float, Setting]] = []
    for direction in directions:
        table = _play(bench, direction, [-level for level in LEVELS] + [0.0, *LEVELS], seeds)
        for largest in LEVELS[1:]:
            part = table[table["dose"].abs() <= largest + 1e-9]
            tried.append((correlation(part), Setting(direction, largest)))
    # Of equals the smaller dose, which is tried first.
    best = max(tried, key=lambda one: one[0])[1]
    names = ("layer", "largest_dose", "spearman")
    told = [(s.direction.layer, s.largest, round(r, 3)) for r, s in tried]
    return best, [dict(zip(names, one, strict=True)) for one in told]


def _random(bench: Bench, setting: Setting) -> list[pd.DataFrame]:
    """Return the table of each random direction at the chosen layer and doses."""
    seeds = bench.budget.seeds("tempo random", bench.budget.part(8 / 30))
    doses = [share * setting.largest for share in CONTROL_SHARES]
    count = max(1, min(CONTROLS, bench.budget.clips // 2))
    others = [random_direction(setting.direction, seed=number) for number in range(count)]
    return [_play(bench, other, doses, seeds, keep=True) for other in others]


def _rows(table: pd.DataFrame) -> list[Row]:
    rows = []
    for id_, measured, what, bar in (
        ("tempo.steered", "bpm", _WHAT, STEERED),
        ("tempo.librosa", "librosa", _SECOND, Bar()),
    ):
        drawn = partial(_drawn, table["dose"].to_numpy(), table[measured].to_numpy())
        low, high = bootstrap(drawn, table["seed"].to_numpy())
        rows.append(Row(id_, what, bar, correlation(table, measured), low, high, len(table),
                        seeds_text(table["seed"].tolist()), "interval: bootstrap of seeds"))  # fmt: skip
    return rows


def _drawn(doses: np.ndarray, measured: np.ndarray, chosen: np.ndarray) -> float:
    return spearman(doses[chosen], measured[chosen])


def _random_row(tables: Sequence[pd.DataFrame]) -> Row:
    """Return the mean absolute correlation over random directions."""
    found = np.abs([correlation(table) for table in tables])
    low, high = bootstrap(lambda chosen: float(found[chosen].mean()), np.arange(len(found)))
    each = len(tables[0])
    idle = float(np.sqrt(2 / (np.pi * max(1, each - 1))))
    note = f"{len(tables)} directions of {each} clips, of which {idle:.2f} is expected without any effect"
    return Row("tempo.random", _CONTROL, RANDOM, float(found.mean()), low,
               high, sum(map(len, tables)), seeds_text(tables[0]["seed"].tolist()),
               f"{note}; interval: bootstrap of directions")  # fmt: skip


def _by_dose(table: pd.DataFrame) -> list[dict[str, float]]:
    means = table.groupby("dose")[["bpm", "librosa"]].mean().round(3).reset_index()
    return [{str(key): float(value) for key, value in row.items()} for row in means.to_dict("records")]
