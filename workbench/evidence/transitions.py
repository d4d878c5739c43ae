"""Does music turn into another style as it goes on? The gain in P(target) from the first part to the second.

Made for continuations: the first part is what was given, the second what the model added, once steered and
once only prompted. Both continue the same beginnings, so the comparison is paired.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from workbench.errors import EvidenceError
from workbench.evidence.damage import damage
from workbench.generation.generate import generate
from workbench.stats import Estimate, means

if TYPE_CHECKING:
    from workbench.evidence.judge import Judge
    from workbench.model.musicgen import Model
    from workbench.sound import Clip
    from workbench.steering import Steering

SHORTEST_S = 1.0
"""A judge needs as much as this of each part."""


@dataclass(frozen=True)
class Way:
    """One way to go on from a beginning: under a prompt, steered or not."""

    name: str
    prompt: str
    plan: Steering | None = None


@dataclass(frozen=True)
class Gains:
    """Mean gains of two ways to the same target, and their difference; paired bootstrap over clips.

    steered      mean gain under steering
    prompted     mean gain under the prompt alone
    difference   steered minus prompted
    share        of the clips in which steering gains more
    n            pairs
    """

    steered: Estimate
    prompted: Estimate
    difference: Estimate
    share: float
    n: int

    def __str__(self) -> str:
        return f"steered {self.steered}, prompted {self.prompted}, difference {self.difference}, n = {self.n}"


def go_on(
    model: Model,
    beginnings: Sequence[Clip],
    ways: Sequence[Way],
    judge: Judge,
    target: str,
    *,
    seeds: Sequence[int],
    given_seconds: float = 5.0,
    seconds: float = 5.0,
    guidance: float | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Return what becomes of beginnings that are gone on from in several ways, a row per way and beginning.

    Columns: way, beginning (its number), seed, ok (the receipt), gain (see below), judged (the class heard in
    the new part) and the guards of `damage` for the new part.

    Args:
        model: the model.
        beginnings: music to go on from.
        ways: prompts and plans; the names must differ.
        judge: hears both parts, each by itself.
        target: the class that the music is to turn into.
        seeds: one per beginning; every way uses the same.
        given_seconds: how much of the end of each beginning is heard.
        seconds: length of the new part.
        guidance: classifier-free guidance; by default what the checkpoint says.
        progress: whether to show a progress bar.

    Raises:
        EvidenceError: not one seed per beginning, nothing to go on from, two ways of one name, or a judge
        that does not hear the target.
    """
    names = [way.name for way in ways]
    if not beginnings or len(seeds) != len(beginnings) or len(set(names)) != len(names) or not names:
        found = f"there are {len(beginnings)} beginnings, {len(seeds)} seeds and the ways {names}"
        raise EvidenceError(
            "Music was to be gone on from", found, "Give a seed per beginning, and ways by name"
        )
    _check(judge, beginnings, target)
    asked = [(way, number) for way in ways for number in range(len(beginnings))]
    takes = generate(
        model, [way.prompt for way, _ in asked], steering=[way.plan for way, _ in asked],
        seed=[int(seeds[number]) for _, number in asked], audio=[beginnings[number] for _, number in asked],
        audio_seconds=given_seconds, seconds=seconds, guidance=guidance, progress=progress,
    )  # fmt: skip
    odds = _odds(judge, [take.clip for take in takes], target, [take.given_s for take in takes])
    gains = (odds[1] - odds[0])[:, judge.classes.index(target)]
    judged = np.array(judge.classes)[odds[1].argmax(axis=1)]
    return pd.DataFrame(
        {"way": way.name, "beginning": number, "seed": take.seed, "ok": take.receipt.ok, "gain": gained,
         "judged": heard, **damage(take.new)}
        for (way, number), take, gained, heard in zip(asked, takes, gains, judged, strict=True)
    )  # fmt: skip


def gain(judge: Judge, clips: Sequence[Clip], target: str, *, at_s: float | None = None) -> np.ndarray:
    """Return P(target) in the second part minus P(target) in the first, for each clip (clips,).

    Args:
        judge: hears each part by itself.
        clips: of at least two seconds.
        target: a class of the judge.
        at_s: where the second part begins; by default in the middle of each clip. In a continuation: the
            length of what was given.

    Raises:
        EvidenceError: there is no clip, the judge does not hear the target, or a part is under a second.
    """
    cuts = [clip.seconds / 2 if at_s is None else at_s for clip in clips]
    first, second = _odds(judge, clips, target, cuts)[:, :, judge.classes.index(target)]
    return np.asarray(second - first)


def _check(judge: Judge, clips: Sequence[Clip], target: str) -> None:
    if target not in judge.classes or not clips:
        found = (
            f"there are {len(clips)} clips, and the judge of {judge.target} hears {', '.join(judge.classes)}"
        )
        raise EvidenceError(f"A gain in {target!r} was asked for", found, "Give clips and one of these")


def _odds(judge: Judge, clips: Sequence[Clip], target: str, cuts: Sequence[float]) -> np.ndarray:
    """Return what the judge hears before and after the cut of each clip (2, clips, classes)."""
    _check(judge, clips, target)
    shortest = min(min(cut, clip.seconds - cut) for clip, cut in zip(clips, cuts, strict=True))
    if shortest < SHORTEST_S:
        found = f"the shortest part lasts {max(shortest, 0):.2f} s"
        do = f"Give parts of at least {SHORTEST_S:g} s"
        raise EvidenceError(f"A gain in {target!r} was asked for", found, do)
    parts = [clip.section(0.0, cut) for clip, cut in zip(clips, cuts, strict=True)]
    parts += [clip.section(cut, clip.seconds) for clip, cut in zip(clips, cuts, strict=True)]
    return judge.probabilities(parts).reshape(2, len(clips), -1)


def compare_gains(
    steered: np.ndarray, prompted: np.ndarray, *, groups: Sequence[object] | None = None
) -> Gains:
    """Return mean gains and their difference with 95 % intervals that keep the pairs.

    Args:
        steered: gains (n,) under steering.
        prompted: gains (n,) of the same beginnings, in the same order, under the prompt alone.
        groups: group of each pair (n,), for example the track that a beginning is from; by default each pair
            is its own.

    Raises:
        EvidenceError: the two are not equally many, or there is none.
    """
    both = [np.asarray(values, np.float64) for values in (steered, prompted)]
    count = len(both[0])
    if both[0].shape != both[1].shape or both[0].ndim != 1 or not count:
        found = f"there are {both[0].shape} steered and {both[1].shape} prompted ones"
        raise EvidenceError("Gains were to be compared", found, "Give one of each per beginning")
    difference = both[0] - both[1]
    names = np.arange(count) if groups is None else np.array([str(group) for group in groups])
    first, second, apart = means(np.column_stack([*both, difference]), names)
    return Gains(first, second, apart, float((difference > 0).mean()), count)
