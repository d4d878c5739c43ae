"""What `workbench steer` does beside generating: a plan from words, a warning, what a judge hears."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from workbench.errors import SteeringError
from workbench.evidence.judge import Judge
from workbench.model.musicgen import Model
from workbench.sound import Clip
from workbench.steering import Direction, Steering
from workbench.steering.operations import find_operation


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
