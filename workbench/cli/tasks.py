"""What `workbench probe`, `steer` and `evaluate` do beside calling the library."""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Iterable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from workbench.activations import Activations
from workbench.datasets import dataset
from workbench.errors import ActivationsError, SteeringError
from workbench.evidence.judge import Judge
from workbench.model.musicgen import Model
from workbench.probing import ProbeSweep
from workbench.probing.directions import METHODS, directions_by
from workbench.show.plots.grammar import UNSTEERED
from workbench.show.plots.probing import BLUE
from workbench.sound import Clip, LintReport, lint
from workbench.steering import Direction, Steering, difference_in_means
from workbench.steering.operations import find_operation


def regroup(acts: Activations, rule: str) -> Activations:
    """Return activations whose groups, which no split cuts, come from a label, a coordinate or a pattern.

    `rule` is a name such as "band" or "clip"; or a regular expression with parentheses, which are found in
    every clip's id: `"(.*?)_"` makes a group of all clips whose ids begin alike. An ActivationsError where
    there is no such name, or the pattern is none or is not found in an id.
    """
    if "(" not in rule:
        values = acts.labels(rule) if rule in acts.targets else acts.coordinate(rule)
        return Activations(acts.data.assign_coords(group=("sample", values.astype(str))), acts.path)
    asked, do = f"Groups by the pattern {rule!r} were asked for", 'Give one such as "(.*?)_", or a label'
    try:
        found = [re.search(rule, name) for name in acts.clips]
    except re.error as error:
        raise ActivationsError(asked, f"it is no regular expression ({error})", do) from error
    if missed := [name for name, match in zip(acts.clips, found, strict=True) if match is None]:
        told = f"it is not found in {len(missed)} of {len(found)} ids, such as {missed[0]!r}"
        raise ActivationsError(asked, told, do)
    groups = ["|".join(part or "" for part in match.groups()) for match in found if match]
    return Activations(acts.data.assign_coords(group=("sample", groups)), acts.path)


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
    counts["recall"] = (np.diag(counts) / counts.sum(axis=1).clip(lower=1)).map("{:.0%}".format)
    with pd.option_context("display.width", 200):
        return f"Layer {layer}, held-out samples: true {probes.target} down, predicted across.\n{counts}"


WIDTH, HEIGHT = 1200, 700
LEFT, RIGHT, TOP, BOTTOM = 120, 1160, 110, 590  # the axes: accuracy 0 at the bottom, 1 at the top
_INK, _GRID, _BAND = "#222222", "#e4e4e4", "#d9d9d9"


def accuracy_png(table: pd.DataFrame, target: str) -> bytes:
    """Return a PNG of 1200 x 700 pixels: what `show.plots.accuracy_per_layer` draws of the same table."""
    table = table.sort_values("layer")
    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw = ImageDraw.Draw(image)
    x = [across(number, len(table)) for number in range(len(table))]
    small, large = ImageFont.load_default(22), ImageFont.load_default(30)
    draw.text((LEFT, 30), f"In which layers can a linear probe read the {target}?", _INK, large)
    for share in (0, 0.25, 0.5, 0.75, 1):
        draw.line((LEFT, up(share), RIGHT, up(share)), _GRID, 2)
        draw.text((LEFT - 14, up(share)), f"{share:.0%}", _INK, small, anchor="rm")
    every = max(1, -(-len(table) // 24))
    for at, layer in [*zip(x, table["layer"], strict=True)][::every]:
        draw.text((at, BOTTOM + 14), str(layer), _INK, small, anchor="mt")
    draw.text(((LEFT + RIGHT) / 2, BOTTOM + 48), "layer (0 = first block)", _INK, small, anchor="mt")
    told = "held-out accuracy with its 95 % interval; dashed: majority class; grey: labels shuffled"
    draw.text((LEFT, TOP - 34), told, UNSTEERED, small)
    if {"shuffled_low", "shuffled_high"} <= set(table) and table["shuffled_low"].notna().all():
        edges = [[*zip(x, table[f"shuffled_{end}"], strict=True)] for end in ("high", "low")]
        draw.polygon([(at, up(share)) for at, share in [*edges[0], *reversed(edges[1])]], fill=_BAND)
    chance = up(table["chance"].iloc[0])
    for left in range(LEFT, RIGHT, 18):
        draw.line((left, chance, left + 10, chance), _INK, 2)
    draw.line([(at, up(share)) for at, share in zip(x, table["accuracy"], strict=True)], BLUE, 3)
    shares = table[["accuracy", "low", "high"]].to_numpy(float).tolist()
    for at, (accuracy, low, high) in zip(x, shares, strict=True):
        draw.line((at, up(low), at, up(high)), BLUE, 3)
        draw.ellipse((at - 8, up(accuracy) - 8, at + 8, up(accuracy) + 8), BLUE)
    file = BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def across(number: int, layers: int) -> float:
    """Return the pixel at which the layer with this number in the table stands."""
    return LEFT + (RIGHT - LEFT) * (number + 0.5) / layers


def up(share: float) -> float:
    """Return the pixel at which an accuracy stands."""
    return BOTTOM - (BOTTOM - TOP) * share


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


def directions_in(places: Iterable[Path]) -> dict[str, Direction]:
    """Return the directions in files and folders by `name@layer`; SteeringError where there are none."""
    found = {}
    for place in places:
        files = sorted(place.glob("*.safetensors")) if place.is_dir() else [place]
        if not files:
            do = "Name a folder that `workbench probe -o` wrote"
            raise SteeringError(f"Directions from {place} were asked for", "it holds none", do)
        for direction in map(Direction.load, files):
            found[f"{direction.name}@{direction.layer}"] = direction
    return found


def planned(directions: Mapping[str, Direction], asked: Namespace, usual: Mapping[str, Any]) -> Steering:
    """Return the plan that was written, else the one direction with its dose, branch and operation."""
    if asked.plan is not None:
        more = [f"--{name}" for name, value in usual.items() if getattr(asked, name) != value]
        if more:
            found, do = f"{', '.join(more)} was given too", "Say it in the plan"
            raise SteeringError(f"The plan {asked.plan!r} was asked for", found, do)
        return Steering.parse(asked.plan, directions)
    if len(directions) > 1:
        found = f"there are {', '.join(directions)}"
        raise SteeringError("One direction was asked for", found, "Name one file, or write a --plan")
    (push,) = directions.values()
    return push.at(asked.dose, branch=asked.branch, operation=asked.operation)


def breaking_warning(plan: Steering, model: Model) -> str:
    """Return a warning where a push is as strong as those that break this model's music, else ""."""
    pushes = [abs(term.dose) for term in plan.terms if find_operation(term.operation).unit == "R"]
    most, breaks = max(pushes, default=0.0), model.breaking_dose
    if breaks is None or most < breaks:
        return ""
    return f"the music tends to break from {breaks:.2f} on; asked: {most:.2f}."


def heard_table(name: str, judge: Judge, clips: Mapping[str, Clip]) -> str:
    """Return what a judge hears in clips: a row per clip, a column per class."""
    odds = pd.DataFrame(judge.probabilities(list(clips.values())), index=list(clips), columns=judge.classes)
    return f"The judge {name} hears:\n{odds.map('{:.0%}'.format)}"
