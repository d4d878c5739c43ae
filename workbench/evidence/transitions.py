"""Does music turn into another style as it goes on? The gain in P(target) from the first part to the second.

Made for continuations: the first part is what was given, the second what the model added, once steered and
once only prompted. Both continue the same beginnings, so the comparison is paired.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from workbench.errors import EvidenceError, message
from workbench.evidence.intervals import means
from workbench.probing.diagnosis.estimate import Estimate

if TYPE_CHECKING:
    from workbench.evidence.judge import Judge
    from workbench.sound import Clip

SHORTEST_S = 1.0
"""A judge needs as much as this of each part."""


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
    if target not in judge.classes or not clips:
        found = (
            f"there are {len(clips)} clips, and the judge of {judge.target} hears {', '.join(judge.classes)}"
        )
        raise EvidenceError(
            message(f"A gain in {target!r} was asked for", found, "Give clips and one of these")
        )
    cuts = [clip.seconds / 2 if at_s is None else at_s for clip in clips]
    shortest = min(min(cut, clip.seconds - cut) for clip, cut in zip(clips, cuts, strict=True))
    if shortest < SHORTEST_S:
        found = f"the shortest part lasts {max(shortest, 0):.2f} s"
        do = f"Give parts of at least {SHORTEST_S:g} s"
        raise EvidenceError(message(f"A gain in {target!r} was asked for", found, do))
    parts = [clip.section(0.0, cut) for clip, cut in zip(clips, cuts, strict=True)]
    parts += [clip.section(cut, clip.seconds) for clip, cut in zip(clips, cuts, strict=True)]
    first, second = judge.probabilities(parts)[:, judge.classes.index(target)].reshape(2, -1)
    return np.asarray(second - first)


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
        raise EvidenceError(message("Gains were to be compared", found, "Give one of each per beginning"))
    difference = both[0] - both[1]
    names = np.arange(count) if groups is None else np.array([str(group) for group in groups])
    first, second, apart = means(np.column_stack([*both, difference]), names)
    return Gains(first, second, apart, float((difference > 0).mean()), count)
