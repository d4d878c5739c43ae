"""Accuracy over layers: where a label can be read, beside the lines that must be beaten."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from workbench.probing.sweep import ProbeSweep


@dataclass(frozen=True)
class AccuracyByLayer:
    """The table of a sweep (accuracy, macro-F1, intervals, chance lines) and its best layer."""

    target: str
    best: int
    rows: pd.DataFrame = field(repr=False, compare=False)

    def table(self) -> pd.DataFrame:
        """Return one row per layer."""
        return self.rows

    @property
    def _row(self) -> pd.Series[Any]:
        return self.rows[self.rows["layer"] == self.best].iloc[0]

    @property
    def effect(self) -> float:
        """The best layer's accuracy above always naming the most frequent class."""
        return float(self._row["accuracy"] - self._row["chance"])

    @property
    def p_value(self) -> None:
        """None: what can be read is no fault."""
        return

    def sentence(self) -> str:
        """Return what was found, with its number."""
        row = self._row
        band = row["shuffled_high"]
        shuffled = f", shuffled labels reach {band:.2f}" if band == band else ""
        beaten = (
            "can be read" if row["low"] > max(row["chance"], band if band == band else 0) else "is not shown"
        )
        verdict = (
            f"the {self.target} {beaten}" if beaten == "can be read" else f"it {beaten} that it can be read"
        )
        return (
            f"The {self.target} is read best at layer {self.best}, with accuracy {row['accuracy']:.2f} "
            f"({row['low']:.2f} to {row['high']:.2f}) and macro-F1 {row['macro_f1']:.2f} over "
            f"{int(row['groups'])} held-out groups; always naming the commonest class gives "
            f"{row['chance']:.2f}{shuffled}: {verdict}."
        )


def accuracy_by_layer(sweep: ProbeSweep) -> AccuracyByLayer:
    """Return accuracy, macro-F1, intervals and chance lines of every layer of a sweep."""
    return AccuracyByLayer(sweep.best.target, sweep.best.layer, sweep.table())
