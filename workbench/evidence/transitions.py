"""Does music turn into another style as it goes on? The gain in P(target) from the first part to the second.

Made for continuations: the first part is what was given, the second what the model added, once steered and
once only prompted. Both continue the same beginnings, so the comparison is paired.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Unpack

import numpy as np
import pandas as pd

from workbench.errors import EvidenceError, warn_renamed
from workbench.evidence.judge import Judge, as_judges
from workbench.evidence.trials import RunOptions, Trial, run_trials, without_judge_name
from workbench.generation.request import prompt_codes_of
from workbench.model.musicgen import Model
from workbench.sound import Clip, Dataset
from workbench.stats import Estimate, means
from workbench.steering import Steering

SHORTEST_SECONDS = 1.0  # a judge needs as much as this of each part


@dataclass(frozen=True)
class Gains:
    """Mean gains of two conditions with the same target, and their difference; paired bootstrap over clips.

    `share` is that of the clips in which steering gains more, `n` the number of pairs.
    """

    steered: Estimate
    prompted: Estimate
    difference: Estimate
    share: float
    n: int

    def __str__(self) -> str:
        return f"steered {self.steered}, prompted {self.prompted}, difference {self.difference}, n = {self.n}"


@dataclass(frozen=True, eq=False)
class Beginnings:
    """Pieces to go on from, and the groove of each."""

    clips: tuple[Clip, ...]
    grooves: tuple[str, ...]


def beginnings(music: Dataset, genre: str, count: int) -> Beginnings:
    """Return so many pieces of a genre, grooves taken in turn."""
    table = music.where(genre=genre).table()
    table["turn"] = table.groupby("group").cumcount()
    chosen = table.sort_values(["turn", "group"]).head(count)
    return Beginnings(tuple(music.clip(str(id_)) for id_ in chosen["id"]), tuple(map(str, chosen["group"])))


def transitions(
    model: Model,
    beginnings: Sequence[Clip],
    conditions: Mapping[str, tuple[str, Steering | None]],
    judge: Judge | str,
    target: str,
    *,
    seeds: Sequence[int],
    given_seconds: float = 5.0,
    **options: Unpack[RunOptions],
) -> pd.DataFrame:
    """Return what becomes of beginnings that are continued under several conditions, a row per clip.

    Conditions are name -> (prompt, plan or None), and seeds one per beginning, the same for all of them.
    `given_seconds` of the end of each beginning are heard. Columns and options are those of `sweep`, and:
    method is the condition, beginning the number of the clip, gain the probability of the target in the new
    part minus that in the given part. EvidenceError where there is nothing to continue, compare or hear.
    """
    if not beginnings or len(seeds) != len(beginnings) or not conditions:
        found = f"there are {len(beginnings)} beginnings, {len(seeds)} seeds and {len(conditions)} conditions"
        raise EvidenceError("Music was to be continued", found, "Give a seed per beginning, and conditions")
    ((name, one),) = as_judges(judge).items()
    codes = [prompt_codes_of(model, clip, given_seconds) for clip in beginnings]
    given = min(one.shape[-1] for one in codes) / model.frame_rate_hz
    _check(one, len(beginnings), target, min(given, options.get("seconds", 5.0)))
    some = [
        Trial(prompt, int(seed), plan, method, target, codes[number], {"beginning": number})
        for method, (prompt, plan) in conditions.items() for number, seed in enumerate(seeds)
    ]  # fmt: skip
    options.setdefault("likely", False)
    table = run_trials(model, some, {name: one}, **options)
    return without_judge_name(table.assign(gain=table["p"] - table["p_given"]), name)


def gain(judge: Judge | str, clips: Sequence[Clip], target: str, *, at_s: float | None = None) -> np.ndarray:
    """Return P(target) in the second part minus P(target) in the first, for each clip `(clips,)`.

    The second part begins at `at_s` seconds (in a continuation: the length of what was given), by default in
    the middle of each clip. The judge hears each part by itself. EvidenceError where there is no clip, the
    judge does not know the target, or a part is under a second.
    """
    ((_name, one),) = as_judges(judge).items()
    cuts = [clip.seconds / 2 if at_s is None else at_s for clip in clips]
    shortest = [min(cut, clip.seconds - cut) for clip, cut in zip(clips, cuts, strict=True)]
    _check(one, len(clips), target, min(shortest, default=0.0))
    parts = [clip.section(0.0, cut) for clip, cut in zip(clips, cuts, strict=True)]
    parts += [clip.section(cut, clip.seconds) for clip, cut in zip(clips, cuts, strict=True)]
    first, second = one.probabilities(parts)[:, one.classes.index(target)].reshape(2, -1)
    return np.asarray(second - first)


def _check(judge: Judge, count: int, target: str, shortest: float) -> None:
    asked = f"A gain in {target!r} was asked for"
    if target not in judge.classes or not count:
        found = f"there are {count} clips, and the judge hears {', '.join(judge.classes)}"
        raise EvidenceError(asked, found, "Give clips and one of these")
    if shortest < SHORTEST_SECONDS:
        found = f"the shortest part lasts {max(shortest, 0):.2f} s"
        raise EvidenceError(asked, found, f"Give parts of at least {SHORTEST_SECONDS:g} s")


def compare_gains(
    steered: np.ndarray, prompted: np.ndarray, *, groups: Sequence[object] | None = None
) -> Gains:
    """Return the means of gains `(n,)` of the same beginnings, and of their difference, compared in pairs.

    The group of each pair may be the track of its beginning; by default each is its own. EvidenceError where
    the two are not equally many, or there is none.
    """
    one, other = (np.asarray(values, np.float64) for values in (steered, prompted))
    if one.shape != other.shape or one.ndim != 1 or not len(one):
        found = f"there are {one.shape} steered and {other.shape} prompted ones"
        raise EvidenceError("Gains were to be compared", found, "Give one of each per beginning")
    names = np.arange(len(one)) if groups is None else np.array([str(group) for group in groups])
    first, second, apart = means(np.column_stack([one, other, one - other]), names)
    return Gains(first, second, apart, float((one > other).mean()), len(one))


class Way(NamedTuple):
    """A condition of `go_on`, a name of the version before."""

    name: str
    prompt: str
    plan: Steering | None = None


def go_on(
    model: Model, beginnings: Sequence[Clip], ways: Sequence[Way], *rest: Any, **more: Any
) -> pd.DataFrame:
    """Return what `transitions` does, with the condition in the column `way`."""
    warn_renamed("go_on", "transitions")
    conditions = {way.name: (way.prompt, way.plan) for way in ways}
    return transitions(model, beginnings, conditions, *rest, **more).rename(columns={"method": "way"})
