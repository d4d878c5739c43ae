"""The same clips under several texts, for the question whether a probe reads the music or the words.

null     no text: the null condition of guidance
neutral  a text that names no class
correct  a text that names the clip's own class
wrong    a text that names another class, drawn by the seed, each of the others about equally often
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from workbench.activations import Activations
from workbench.errors import ActivationsError
from workbench.model.capture import Keeping, capture_cases, job_for
from workbench.model.cases import Cases
from workbench.model.musicgen import Model
from workbench.sound.dataset import Dataset

CONDITIONS = ("null", "neutral", "correct", "wrong")
NEUTRAL_TEXT, NAMING_TEXT = "a tune", "a {} tune"
_KEEPING = ("cache", "path", "progress", "client", "cancel")


def capture_conditions(
    model: Model,
    dataset: Dataset,
    target: str = "genre",
    *,
    conditions: Sequence[str] = CONDITIONS,
    prompts: Mapping[str, str] | None = None,
    neutral: str = NEUTRAL_TEXT,
    seed: int = 0,
    **settings: Any,
) -> Activations:
    """The activations of every clip under each condition: first all clips under the first one, then the next.

    Besides the coordinates of `capture` each sample has `condition`, and `named`, the class that its text
    names ("" where it names none). `where(condition=...)` gives the clips in the dataset's order.

    Args:
        model: The model.
        dataset: Clips with the label `target`, of at least two classes.
        target: The label that texts name.
        conditions: Some of null, neutral, correct, wrong.
        prompts: A text for each class; by default "a {class} tune".
        neutral: The text that names no class; by default the same words without a class.
        seed: Which wrong class a clip is told.
        settings: Those of `capture`, but text and rows.

    Raises:
        ActivationsError: When a condition does not exist, a class has no text, or there is no other class.
        DatasetError: When the target is a number, or some clip lacks it.
    """
    classes = dataset.classes(target)
    texts = {name: NAMING_TEXT.format(name) for name in classes} if prompts is None else dict(prompts)
    _check(conditions, classes, texts)
    own = dataset.labels(target)
    nothing = np.full(len(dataset), "", dtype=own.dtype)
    named = {"null": nothing, "neutral": nothing, "correct": own}
    if "wrong" in conditions:
        named["wrong"] = wrong_classes(own, seed=seed)
    told: list[str | None] = []
    for condition in conditions:
        plain = None if condition == "null" else neutral
        told += [texts[name] if name else plain for name in named[condition].tolist()]
    cases = Cases(
        np.tile(np.arange(len(dataset)), len(conditions)),
        tuple(told),
        {
            "condition": np.repeat(np.array(conditions), len(dataset)),
            "named": np.concatenate([named[condition] for condition in conditions]),
        },
    )
    keeping = Keeping(**{name: settings.pop(name) for name in _KEEPING if name in settings})
    return capture_cases(model, dataset, cases, job_for(model, dataset, **settings), keeping)


def wrong_classes(own: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """A class (n,) other than the one in `own` (n,); clips of a class share the others out evenly."""
    rng = np.random.default_rng(seed)
    wrong = own.copy()
    classes = np.unique(own)
    for name in classes:
        members, others = (
            rng.permutation(np.flatnonzero(own == name)),
            rng.permutation(classes[classes != name]),
        )
        wrong[members] = np.resize(others, len(members))
    return wrong


def _check(conditions: Sequence[str], classes: Sequence[str], texts: Mapping[str, str]) -> None:
    unknown = [name for name in conditions if name not in CONDITIONS]
    if unknown or not conditions or len(set(conditions)) < len(conditions):
        raise ActivationsError(
            f"The text conditions {', '.join(conditions) or '(none)'} were asked for",
            f"there are {', '.join(CONDITIONS)}",
            "Use some of these, each once",
        )
    if len(classes) < 2 or any(name not in texts for name in classes):
        raise ActivationsError(
            f"Texts that name the classes {', '.join(classes)} were asked for",
            f"there are texts for {', '.join(texts) or 'none'}",
            "Give at least two classes, and a text for each: prompts={'jazz': 'a jazz tune', ...}",
        )
