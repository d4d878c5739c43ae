"""Takes in words: what is pushed and how far, then when and where; the plan's text is the detail."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import chain, count

from workbench.evidence.trials import UNSTEERED
from workbench.generation.take import Take
from workbench.show.widgets.players import shortened
from workbench.show.widgets.scenes import scene_name
from workbench.show.widgets.steer_lab_plan import plain_name
from workbench.steering.plan import Steering
from workbench.steering.schedule import Term, written_number

_LONGEST = 60  # letters of a name; more are cut
_WHEN = {
    "window": "from {} to {} s", "ramp": "rising {} to {} s", "fade": "fading {} to {} s",
    "pulse": "pulsed", "pulse_steps": "pulsed", "decay": "dying away", "knots": "on a curve",
}  # fmt: skip
_BRANCHES = {"both": "both branches", "null": "unprompted branch"}


def plan_words(plan: Steering) -> str:
    """Return a plan in words, terms of one manner together; its doses are those of the plan's text, rounded.

    >>> import numpy as np
    >>> from workbench.steering import Direction, window
    >>> jazz = Direction(np.array([0.6, 0.8]), 2, name="jazz", residual_norm=10.0)
    >>> plan_words(jazz.at(0.15) + jazz.named("rock").at(-0.05))
    'jazz 0.15, rock -0.05'
    >>> plan_words(jazz.at(0.15, schedule=window(2, 4), branch="both"))
    'jazz 0.15, from 2 to 4 s, both branches'
    """
    manners: dict[tuple[str, ...], list[Term]] = {}
    for term in plan.terms:
        manners.setdefault(_manner(term), []).append(term)
    words = "; ".join(", ".join([*_pushes(terms), *manner]) for manner, terms in manners.items())
    return words if len(words) <= _LONGEST else f"{words[: _LONGEST - 2]} …"


def take_words(take: Take) -> str:
    """Return how a take was steered, in words; "unsteered" where it was not."""
    if take.plan is not None and take.plan.terms:
        return plan_words(take.plan)
    return shortened(take.steering)[:_LONGEST] or UNSTEERED


def free_name(name: str, taken: Collection[str]) -> str:
    """Return the name, with a number behind where it is taken."""
    names = chain([name], (f"{name} ({number})" for number in count(2)))
    return next(one for one in names if one not in taken)


def distinct(names: Sequence[str]) -> list[str]:
    """Return the names, with a number behind those that came before.

    >>> distinct(["jazz 0.1", "jazz 0.1", "rock 0.1"])
    ['jazz 0.1', 'jazz 0.1 (2)', 'rock 0.1']
    """
    made: list[str] = []
    for name in names:
        made.append(free_name(name, [*made, *(other for other in names if other != name)]))
    return made


def _pushes(terms: list[Term]) -> list[str]:
    """Return the doses of terms of one manner, and what else is to be said of their directions."""
    doses: dict[str, float] = {}
    for term in terms:
        name = plain_name(term.direction.name)
        name = name if term.operation == "add" else f"{term.operation.replace('_', ' ')} {name}"
        doses[name] = doses.get(name, 0.0) + term.dose
    layers = {term.at_layer for term in terms}
    turned = any(plain_name(term.direction.name) != term.direction.name for term in terms)
    words = [f"over {len(layers)} layers"] if len(layers) > 1 and len(terms) > len(doses) else []
    return [scene_name(doses), *words, *(["at right angles"] if turned else [])]


def _manner(term: Term) -> tuple[str, ...]:
    """Return when, where and whether a term acts, as far as it does not go without saying."""
    words = [
        _WHEN.get(term.schedule.kind, "").format(*map(written_number, term.schedule.numbers)),
        _BRANCHES.get(term.branch, ""),
        "by chance" if term.chance < 1 else "",
    ]
    if term.gate is not None:
        words.append(f"{'until' if term.gate.side == 'below' else 'while'} {term.gate.class_}")
    return tuple(filter(None, words))
