"""What `workbench probe` and `evaluate` do beside fitting: groups by a rule, lint, directions by method."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from workbench.activations import Activations
from workbench.datasets import dataset
from workbench.errors import ActivationsError
from workbench.probing import ProbeSweep
from workbench.probing.directions import METHODS, directions_by
from workbench.sound import LintReport, lint
from workbench.steering import Direction, difference_in_means


def regroup(acts: Activations, rule: str) -> Activations:
    """Return activations whose groups, which no split cuts, come from a label, a coordinate or a pattern.

    Args:
        acts: the activations.
        rule: a name such as "band" or "clip"; or a regular expression with parentheses, which are found in
            every clip's id: `"(.*?)_"` makes a group of all clips whose ids begin alike.

    Raises:
        ActivationsError: there is no such name, or the pattern is none or is not found in an id.
    """
    if "(" in rule:
        groups = _matched(acts.clips.tolist(), rule)
    else:
        values = acts.labels(rule) if rule in acts.targets else acts.coordinate(rule)
        groups = [str(value) for value in values]
    return Activations(acts.data.assign_coords(group=("sample", groups)), acts.path)


def _matched(ids: list[str], rule: str) -> list[str]:
    asked, do = f"Groups by the pattern {rule!r} were asked for", 'Give one such as "(.*?)_", or a label'
    try:
        found = [re.search(rule, name) for name in ids]
    except re.error as error:
        raise ActivationsError(asked, f"it is no regular expression ({error})", do) from error
    missed = [name for name, match in zip(ids, found, strict=True) if match is None]
    if missed:
        told = f"it is not found in {len(missed)} of {len(ids)} ids, such as {missed[0]!r}"
        raise ActivationsError(asked, told, do)
    return ["|".join(part or "" for part in match.groups()) for match in found if match is not None]


def lint_of(acts: Activations, music: str, target: str) -> LintReport:
    """Return what is wrong with the music that was captured; ActivationsError where it is other music."""
    songs = dataset(music)
    strange = set(acts.clips) - set(songs.ids)
    if strange:
        found = f"{len(strange)} of the captured clips are not in it, such as {min(strange)!r}"
        do = "Name what `workbench capture` was given as --music"
        raise ActivationsError(f"The lint of {music} was asked for", found, do)
    return lint(songs.subset(set(acts.clips)), target)


def confusion_text(probes: ProbeSweep, layer: int) -> str:
    """Return the confusion of a layer (true classes down, predicted across) with the recall of each class."""
    counts = probes.confusion(layer)
    counts["recall"] = [
        f"{counts.loc[name, name] / max(counts.loc[name].sum(), 1):.0%}" for name in counts.index
    ]
    with pd.option_context("display.width", 200):
        return f"Layer {layer}, held-out samples: true {probes.target} down, predicted across.\n{counts}"


SHUFFLES = 12  # directions from shuffled labels, which take turns as controls


def directions_by_method(acts: Activations) -> dict[str, dict[str, tuple[Direction, ...]]]:
    """Return method -> genre -> its directions at the layers of the activations, shuffled labels last."""
    labels, names, layers = acts.labels("genre"), acts.classes("genre"), [int(layer) for layer in acts.layers]
    folds = min(5, *(len(set(acts.groups[labels == name])) for name in names))
    kinds = [name for name in METHODS if name not in ("random", "shuffled")]  # both are drawn afresh
    every = [directions_by(acts, layer=layer, methods=kinds, folds=folds) for layer in layers]
    made = {kind: {name: tuple(one[kind][name] for one in every) for name in names} for kind in kinds}
    rng = np.random.default_rng(0)
    shuffled = [rng.permutation(labels) for _ in range(SHUFFLES)]
    mixed = [Activations(acts.data.assign_coords(label_genre=("sample", one))) for one in shuffled]
    made["shuffled labels"] = {
        name: tuple(difference_in_means(one, name, layer=layer) for one in mixed for layer in layers)
        for name in names
    }
    return made
