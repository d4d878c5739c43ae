"""What else is measured: adherence to the prompt, likeness to the baseline, distance from real music.

`Measure` writes what these need into the rows of `run_trials(measure=...)`, so that they survive a crash like
the rest; `similarity` and `effect_quality` read such tables, `audio_distance` compares sets of embeddings.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from workbench.errors import EvidenceError
from workbench.evidence.features import HIGH, LOW, RATE_HZ, onset_correlations, onset_strength, semitones
from workbench.evidence.judge import Judge, Judges, as_judges
from workbench.evidence.search import COSTS, DamageBudget, with_costs
from workbench.evidence.trials import UNSTEERED, pair_names, pair_with_baseline
from workbench.files import digest_of
from workbench.generation.take import Take
from workbench.sound import Clip
from workbench.stats import Estimate, bootstrap, means, percentile_interval

Array = np.ndarray


def chroma(clip: Clip) -> Array:
    """Return the share (12,) of each pitch class, C first."""
    notes = semitones(clip.resample(RATE_HZ).samples, RATE_HZ).sum(axis=0)
    return np.asarray(np.bincount(np.arange(LOW, HIGH) % 12, notes) / max(float(notes.sum()), 1e-9))


def tempo_bpm(clip: Clip) -> float:
    """Return the beat at which onsets repeat best, from 67 to 143 beats a minute."""
    return 60 / float(onset_correlations(onset_strength(clip)[None])[-1])


def prompt_adherence(clips: Sequence[Clip], prompts: Sequence[str], judges: Judges) -> Array:
    """Return how well each clip keeps to its prompt (clips,).

    Where one of the judges compares sound with text (CLAP), it is their cosine. Else it is the share of the
    classes that the prompt names ("jazz", "slow", "minor") which their judges hear; NaN where it names none.
    """
    every = as_judges(judges).values()
    for one in every:
        if hasattr(one, "similarity"):
            return np.asarray(one.similarity(clips, prompts))
    named, hits = np.zeros((2, len(prompts)))
    for one in every:
        heard = np.asarray(one.probabilities(clips)).argmax(axis=1)
        for row, (prompt, best) in enumerate(zip(prompts, heard, strict=True)):
            asked = {name for name in one.classes if name.lower() in re.findall(r"[\w-]+", prompt.lower())}
            named[row] += bool(asked)
            hits[row] += one.classes[best] in asked
    return np.divide(hits, named, out=np.full(len(prompts), math.nan), where=named > 0)


@dataclass(frozen=True, eq=False)
class Measure:
    """A `measure` of `run_trials`: adherence, tempo_bpm, chroma (12,) and embedding (d,) of what is new.

    The embedding is that of the first judge, where it has any.
    """

    judges: Mapping[str, Judge]

    @property
    def fingerprint(self) -> str:
        """A digest of its judges."""
        return digest_of({name: getattr(one, "fingerprint", repr(one)) for name, one in self.judges.items()})

    def __call__(self, take: Take) -> dict[str, Any]:
        """Return the columns of a take."""
        clip, embed = take.new, getattr(next(iter(self.judges.values())), "embed", None)
        row: dict[str, Any] = {"tempo_bpm": tempo_bpm(clip), "chroma": chroma(clip).tolist()}
        row["adherence"] = float(prompt_adherence([clip], [take.prompt], self.judges)[0])
        return row | ({"embedding": embed([clip])[0].astype(float).tolist()} if embed else {})


def similarity(table: pd.DataFrame, method: str) -> pd.DataFrame:
    """Return how like its baseline each clip of a method is, from rows with the columns of `Measure`.

    Columns: prompt, seed, chroma and embedding (cosines), tempo (1 minus the octaves between both beats).
    """
    mine, others = pair_with_baseline(table, method)
    octaves = np.log2(mine["tempo_bpm"] / others["tempo_bpm"])
    found = mine[["prompt", "seed"]].assign(tempo=1 - np.abs(octaves))
    for name in [name for name in ("chroma", "embedding") if name in mine]:
        a, b = (np.stack(side[name].tolist()) for side in (mine, others))
        lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        found[name] = (a * b).sum(axis=1) / np.maximum(lengths, 1e-12)
    return found


def audio_distance(heard: Array, reference: Array, *, splits: int = 20) -> pd.DataFrame:
    """Return how far embeddings (n, d) of clips lie from those of a reference (m, d), with the noise floor.

    Rows: the Frechet distance (squared; Kilgour et al. 2019) and the kernel distance (unbiased MMD^2 with a
    Gaussian kernel of the reference's median distance; Chung et al. 2025). Columns: distance, value, floor,
    low and high (mean and 95 % range between random halves of the reference: what lies in it is no
    difference), n, reference, dimensions, and a warning where clips are too few. EvidenceError where either
    set has fewer than four clips, or they differ in d.
    """
    if min(len(heard), len(reference)) < 4 or heard.shape[1:] != reference.shape[1:]:
        found = f"the embeddings have the shapes {heard.shape} and {reference.shape}"
        raise EvidenceError("An audio distance was asked for", found, "Give four clips or more, of one judge")
    width = float(np.median(_squared(reference, reference)[np.triu_indices(len(reference), 1)])) or 1.0
    rng, n, (m, d) = np.random.default_rng(0), len(heard), reference.shape
    halves = [np.array_split(reference[rng.permutation(m)], 2) for _ in range(splits)]
    rows = []
    for name, far in (("Frechet", _frechet), ("kernel", lambda a, b: _kernel(a, b, width))):
        floor, warning = np.array([far(*both) for both in halves]), ""
        if min(n, m // 2) <= (d if name == "Frechet" else 20):
            warning = f"{n} clips against {m} in {d} dimensions are few: compare it with its floor alone"
        figures = far(heard, reference), floor.mean(), *percentile_interval(floor)
        rows.append((name, *figures, n, m, d, warning))
    columns = ["distance", "value", "floor", "low", "high", "n", "reference", "dimensions", "warning"]
    return pd.DataFrame(rows, columns=columns)


def _frechet(a: Array, b: Array) -> float:
    """Return |mean a - mean b|^2 + tr(A + B - 2 sqrt(AB)); the trace of the root is a nuclear norm."""
    x, y = ((one - one.mean(axis=0)) / math.sqrt(len(one) - 1) for one in (a, b))
    apart = ((a.mean(axis=0) - b.mean(axis=0)) ** 2).sum() + (x**2).sum() + (y**2).sum()
    return float(apart - 2 * np.linalg.svd(x @ y.T, compute_uv=False).sum())


def _squared(a: Array, b: Array) -> Array:
    return np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T, 0.0)


def _kernel(a: Array, b: Array, width: float) -> float:
    """Return the unbiased estimate of MMD^2 with the kernel exp(-distance^2 / (2 width))."""
    within, other, across = (np.exp(-_squared(*both) / (2 * width)) for both in ((a, a), (b, b), (a, b)))
    alike = sum((one.sum() - len(one)) / (len(one) * (len(one) - 1)) for one in (within, other))
    return float(alike - 2 * across.mean())


def effect_quality(
    table: pd.DataFrame, aim: str, *, method: str = "probe", judge: str | None = None,
    budget: DamageBudget | None = None,
) -> tuple[pd.DataFrame, Estimate]:  # fmt: skip
    """Return effect and quality of a method by dose, and the area under this curve.

    Columns: dose, n, effect (gain in P of the aim over the baseline) with low and high, and quality (1 minus
    the share of the damage budget that is used, at least 0). The area is the mean over qualities from 0 to 1
    of the largest effect at this quality or a better one: 1 is a certain effect that costs nothing. Intervals
    are bootstraps over pairs of prompt and seed.

    The rows need dose, the unsteered baselines, and nll (`run_trials(likely=True)`); `judge` is as for
    `effect`. EvidenceError where something is missing, or doses were not tried on the same pairs.
    """
    column = f"p_{judge}_{aim}" if judge else f"p_{aim}"
    asked = f"Effect and quality of steering to {aim} were asked for"
    if missing := [name for name in ("dose", column, *COSTS.values()) if name not in table]:
        raise EvidenceError(asked, f"there is no {', '.join(missing)}", "Set likely=True, and name the judge")
    baselines = table[table["method"] == UNSTEERED]
    steered = table[(table["method"] == method) & (table["aim"] == aim)]
    key = ["prompt", "seed"]
    every = with_costs(pd.concat([baselines, steered]), method).sort_values(key)
    every = every.merge(baselines[[*key, column]], on=key, suffixes=("", "_before"))
    parts = [part for _, part in every.groupby("dose")]
    groups = [pair_names(part) for part in parts]
    if not parts or any(not np.array_equal(one, groups[0]) for one in groups):
        raise EvidenceError(asked, f"{len(parts)} doses have different clips", "Try all on the same pairs")
    gains = np.stack([(part[column] - part[f"{column}_before"]).to_numpy() for part in parts], axis=1)
    costs, limit = np.stack([part[list(COSTS)] for part in parts], axis=1), budget or DamageBudget()

    def quality(chosen: Array) -> Array:
        used = [limit.used(dict(zip(COSTS, cost, strict=True))) for cost in costs[chosen].mean(axis=0)]
        return np.clip(1 - np.array(used), 0.0, 1.0)

    def area(chosen: Array) -> float:
        return frontier_area(gains[chosen].mean(axis=0), quality(chosen))

    whole, columns = np.arange(len(gains)), ["dose", "n", "effect", "low", "high", "quality"]
    rows = [
        (part["dose"].iloc[0], len(part), one.value, one.low, one.high, good)
        for part, one, good in zip(parts, means(gains, groups[0]), quality(whole), strict=True)
    ]
    return pd.DataFrame(rows, columns=columns), Estimate(area(whole), *bootstrap(area, groups[0]))


def frontier_area(effects: Array, qualities: Array) -> float:
    """Return the mean over q from 0 to 1 of the largest effect (at least 0) whose quality is q or more.

    >>> round(frontier_area(np.array([0.2, 0.8]), np.array([1.0, 0.5])), 2)
    0.5
    """
    order = np.argsort(-qualities)
    best = np.maximum.accumulate(np.maximum(effects[order], 0.0))
    return float((best * -np.diff(qualities[order], append=0.0)).sum())
