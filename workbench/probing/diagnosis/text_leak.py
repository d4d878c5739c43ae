"""Text leak: whether the probe reads the sound, or the prompt under which it was captured.

The same audio is read under four texts. Where the words of the *wrong* class make the probe name that class,
it reads words (METHODS, section 4).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from workbench.errors import ProbeError
from workbench.probing.diagnosis.case import TOLERATED, Case
from workbench.probing.diagnosis.estimate import SURE, Estimate, mean_over_groups, rate_over_groups
from workbench.sound.labels import as_text

if TYPE_CHECKING:
    from workbench.activations import Activations

CONDITIONS = ("null", "neutral", "correct", "wrong")


@dataclass(frozen=True)
class TextLeak:
    """What a probe says of the same clips under different texts.

    accuracy  held-out accuracy under each condition
    flipped   share of clips that are called what the wrong text names
    before    share of the same clips that are called so under the neutral text
    excess    the difference
    """

    target: str
    layer: int
    accuracy: Mapping[str, Estimate] = field(hash=False)
    flipped: float
    before: float
    excess: Estimate

    @property
    def effect(self) -> float:
        """Share of clips that follow the text, corrected for those called so anyway (Abbott's formula)."""
        return self.excess.value / (1 - self.before) if self.before < 1 else 0.0

    @property
    def p_value(self) -> float:
        """Chance of so many where the text does not matter."""
        return self.excess.p_value

    def table(self) -> pd.DataFrame:
        """Return one row per condition: condition, accuracy, low, high."""
        rows = [
            {"condition": name, "accuracy": one.value, "low": one.low, "high": one.high}
            for name, one in self.accuracy.items()
        ]
        return pd.DataFrame(rows)

    def sentence(self, alarm: bool | None = None) -> str:
        """Return what was found; `alarm` is the battery's verdict, by default that of its own p-value."""
        told = ", ".join(f"{name} {one.value:.2f}" for name, one in self.accuracy.items())
        leaks = self.p_value <= SURE if alarm is None else alarm
        verdict = "the probe reads text" if leaks else "the probe does not follow the text"
        return (
            f"With the wrong {self.target} in the prompt {self.flipped:.0%} of the clips are called what "
            f"the text names, {self.before:.0%} without it (difference {self.excess}; accuracy by "
            f"text: {told}): {verdict}."
        )


def text_leak(case: Case, conditions: Activations) -> TextLeak:
    """Return how far the case's probes follow the text, clip by clip, tested over groups.

    The probes are those of the case, trained on the activations it was given; each clip is read by probes
    that saw nothing of its group. The p-value tests whether more than two points of the clips follow.

    conditions  the same clips under texts: sample coordinates `condition` ("null", "neutral", "correct",
                "wrong") and `named`, the class that the text names ("" for none)

    Raises ProbeError where "wrong" or both "neutral" and "null" are missing, or a clip lacks its twin.
    """
    names = conditions.coordinate("condition")
    calm = "neutral" if "neutral" in names else "null"
    lacking = [name for name in ("wrong", calm) if name not in names]
    if lacking:
        found = f"there are {', '.join(np.unique(names).tolist())}"
        do = "Capture the clips under these conditions too"
        raise ProbeError(f"The conditions wrong and {calm} were asked for", found, do)
    groups = conditions.groups
    logits = case.read(conditions.matrix(case.layer, site=case.site), groups)
    called = np.array(case.classes)[logits.argmax(1)]
    right = called == as_text(conditions.labels(case.target))
    held = [name for name in CONDITIONS if name in names]
    accuracy = {name: rate_over_groups(right[names == name], groups[names == name]) for name in held}
    wrong, twin = _twins(conditions.clips, names, calm)
    aim = conditions.coordinate("named")[wrong]
    now, before = called[wrong] == aim, called[twin] == aim
    excess = mean_over_groups(now.astype(float) - before, groups[wrong], tolerated=TOLERATED)
    return TextLeak(case.target, case.layer, accuracy, float(now.mean()), float(before.mean()), excess)


def _twins(clips: np.ndarray, names: np.ndarray, calm: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of samples under the wrong text, and of the same samples under the calm one.

    A clip may have several samples (windows); they come in the same order under each condition.
    """
    frame = pd.DataFrame({"clip": clips, "condition": names, "position": np.arange(len(clips))})
    frame["turn"] = frame.groupby(["condition", "clip"]).cumcount()
    wrong, twin = (frame[frame["condition"] == name] for name in ("wrong", calm))
    pairs = wrong.merge(twin, on=["clip", "turn"], suffixes=("", "_twin"))
    if len(pairs) < len(wrong):
        found = f"{len(wrong) - len(pairs)} of {len(wrong)} clips with a wrong text have no {calm} one"
        do = "Capture the same clips under every condition"
        raise ProbeError("A clip and its twin were to be compared", found, do)
    return pairs["position"].to_numpy(), pairs["position_twin"].to_numpy()
