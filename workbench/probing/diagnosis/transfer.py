"""Transfer: whether probes that were trained on real music read generated music, and the other way round."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from workbench.errors import ProbeError
from workbench.probing.diagnosis.case import Case
from workbench.probing.diagnosis.estimate import Estimate, mean_over_groups, rate_over_groups


@dataclass(frozen=True)
class Transfer:
    """Accuracy of probes trained on one set of clips and tested on another, and back.

    Each is judged on clips of groups that the probe did not see: `here` and `there` within a set,
    `out` trained here and tested there, `back` the reverse.
    """

    target: str
    layer: int
    names: tuple[str, str]
    here: Estimate
    there: Estimate
    out: Estimate
    back: Estimate
    loss: Estimate

    @property
    def effect(self) -> float:
        """What probes trained elsewhere lose against probes trained there: `there` minus `out`."""
        return self.loss.value

    @property
    def p_value(self) -> None:
        """None: nothing is tested."""
        return

    def table(self) -> pd.DataFrame:
        """Return one row per pair: trained_on, tested_on, accuracy, low, high."""
        here, there = self.names
        pairs = [
            (here, here, self.here),
            (here, there, self.out),
            (there, there, self.there),
            (there, here, self.back),
        ]
        return pd.DataFrame(
            [
                {"trained_on": one, "tested_on": two, "accuracy": e.value, "low": e.low, "high": e.high}
                for one, two, e in pairs
            ]
        )

    def sentence(self) -> str:
        """Return what was found, with its number."""
        here, there = self.names
        return (
            f"At layer {self.layer}, probes of the {self.target} trained on {here} clips read {there} ones "
            f"with accuracy {self.out.value:.2f} ({self.there.value:.2f} when trained on {there} clips, loss "
            f"{self.loss}); back from {there} to {here} it is {self.back.value:.2f} ({self.here.value:.2f})."
        )


def transfer(here: Case, there: Case, *, names: tuple[str, str] = ("real", "generated")) -> Transfer:
    """Return the accuracy of the probes of one case on the clips of another, and back.

    A group that both sets share is judged by probes that did not see it on either side.

    Raises ProbeError where the two cases have other classes, layers or sites.
    """
    for what in ("classes", "layer", "site"):
        one, two = getattr(here, what), getattr(there, what)
        if one != two:
            asked = f"Probes of {names[0]} clips were to read {names[1]} ones"
            raise ProbeError(asked, f"their {what} are {one} and {two}", "Examine both alike")
    out = here.read(there.x, there.groups).argmax(1) == there.y
    back = there.read(here.x, here.groups).argmax(1) == here.y
    return Transfer(
        target=here.target,
        layer=here.layer,
        names=names,
        here=here.accuracy,
        there=there.accuracy,
        out=rate_over_groups(out, there.groups),
        back=rate_over_groups(back, here.groups),
        loss=mean_over_groups(there.correct.astype(np.float64) - out, there.groups),
    )
