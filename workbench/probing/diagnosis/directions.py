"""Directions: whether they are the same over folds and layers, and how classes lie to one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from workbench.probing.diagnosis.case import Case
from workbench.probing.sweep import ProbeSweep

Array = np.ndarray


@dataclass(frozen=True)
class DirectionStability:
    """Cosines between the directions of a class that were found without one fold and without another.

    Training parts of two folds share most of their clips, so that even a direction of pure noise has a cosine
    of about 0.5 to 0.7 over five folds; what is meant by stable is 0.9 and more.

    rows  one row per layer and class: layer, class, cosine (mean over pairs of folds), lowest
    """

    target: str
    rows: pd.DataFrame = field(compare=False)

    def table(self) -> pd.DataFrame:
        """Return one row per layer and class."""
        return self.rows

    @property
    def effect(self) -> float:
        """The lowest mean cosine of a class."""
        return float(self.rows["cosine"].min())

    @property
    def p_value(self) -> None:
        """None: nothing is tested."""
        return

    def sentence(self) -> str:
        """Return what was found, with its number."""
        row = self.rows.iloc[int(self.rows["cosine"].to_numpy().argmin())]
        verdict = "stable" if row["cosine"] >= 0.9 else "unsure" if row["cosine"] >= 0.7 else "mostly noise"
        return (
            f"Over folds the {self.target} directions agree with cosine {self.rows['cosine'].mean():.2f}; "
            f"least {row['class']} at layer {row['layer']} with {row['cosine']:.2f}: {verdict}."
        )


def direction_stability(*cases: Case) -> DirectionStability:
    """Return how well the folds of each case agree on the direction of each class; one case per layer."""
    rows = []
    for case in cases:
        units = _units(case.held.weights)
        pairs = np.triu_indices(case.folds, 1)
        for number, class_ in enumerate(case.classes):
            cosines = (units[:, number] @ units[:, number].T)[pairs]
            rows.append(
                {
                    "layer": case.layer,
                    "class": class_,
                    "cosine": float(cosines.mean()),
                    "lowest": float(cosines.min()),
                }
            )
    return DirectionStability(cases[0].target, pd.DataFrame(rows))


def cosine_layers(sweep: ProbeSweep, class_: str) -> pd.DataFrame:
    """Return the cosines (layers x layers) between the directions of a class.

    The residual stream carries a direction on from block to block, so that neighbours are alike.
    """
    units = np.stack([probe.direction(class_).vector for probe in sweep])
    return _square(units @ units.T, [str(layer) for layer in sweep.layers])


def cosine_classes(sweep: ProbeSweep, layer: int | None = None) -> pd.DataFrame:
    """Return the cosines (classes x classes) between directions at a layer (default: the best).

    k classes that have nothing to do with one another lie at -1 / (k - 1), for softmax logits sum to zero.
    """
    units = np.stack([one.vector for one in sweep.directions(layer).values()])
    return _square(units @ units.T, sweep.classes)


def _units(weights: Array) -> Array:
    return np.asarray(weights / np.maximum(np.linalg.norm(weights, axis=-1, keepdims=True), 1e-30))


def _square(values: Array, names: Sequence[str]) -> pd.DataFrame:
    return pd.DataFrame(values, index=list(names), columns=list(names))
