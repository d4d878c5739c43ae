"""Confusion: which class is taken for which."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from workbench.probing.diagnosis.case import Case


@dataclass(frozen=True)
class Confusion:
    """Counts of held-out samples, true class down, called class across."""

    target: str
    layer: int
    counts: pd.DataFrame = field(compare=False)

    def table(self) -> pd.DataFrame:
        """Return one row per class: clips, recall, precision, f1, and the class it is most taken for."""
        counts = self.counts.to_numpy(dtype=float)
        hits, present, named = np.diag(counts), counts.sum(1), counts.sum(0)
        missed = counts - np.diag(hits)
        names = self.counts.index.to_numpy()
        return pd.DataFrame(
            {
                "class": names,
                "clips": present.astype(int),
                "recall": hits / present,
                "precision": np.divide(hits, named, out=np.zeros_like(hits), where=named > 0),
                "f1": 2 * hits / (present + named),
                "taken_for": np.where(missed.sum(1) > 0, names[missed.argmax(1)], ""),
            }
        )

    @property
    def worst(self) -> tuple[str, str, float]:
        """The pair that is confused most: true class, called class, share of the true class's clips."""
        shares = self.counts.to_numpy(dtype=float)
        shares = shares / shares.sum(1, keepdims=True)
        np.fill_diagonal(shares, 0.0)
        row, column = divmod(int(shares.argmax()), len(shares))
        return str(self.counts.index[row]), str(self.counts.columns[column]), float(shares[row, column])

    @property
    def effect(self) -> float:
        """Share of the worst pair."""
        return self.worst[2]

    @property
    def p_value(self) -> None:
        """None: nothing is tested."""
        return

    def sentence(self) -> str:
        """Return what was found, with its number."""
        true, called, share = self.worst
        if share == 0:
            return f"At layer {self.layer} no {self.target} is taken for another."
        return f"At layer {self.layer}, {true} is misread most: {share:.0%} of its clips are called {called}."


def confusion(case: Case) -> Confusion:
    """Return which class is taken for which by probes that saw nothing of the clip's group."""
    size = len(case.classes)
    counts = np.bincount(case.y * size + case.held.predicted, minlength=size * size).reshape(size, size)
    names = list(case.classes)
    return Confusion(case.target, case.layer, pd.DataFrame(counts, index=names, columns=names))
