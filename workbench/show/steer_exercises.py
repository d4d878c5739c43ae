"""Checks of the steering lab's exercises; the right answer comes from the reader's own plan and figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workbench.show.exercises import Verdict
from workbench.steering import Steering, Term
from workbench.steering.operations import PUSHES

if TYPE_CHECKING:
    from workbench.evidence.crosstalk import Crosstalk


def gated_push(plan: object, *, towards: str, after_s: float) -> Verdict:
    """Check a plan that pushes towards a class from `after_s` on, and only until a probe reads it."""
    if plan is None:
        hint = "Move sliders and settings of the lab, or edit its line, then answer with lab.steering."
        return Verdict(None, f"{hint} A gate and a schedule are under 'How, when, where'.")
    if not isinstance(plan, Steering):
        return Verdict(False, f"This is a {type(plan).__name__}, not a plan. Answer with lab.steering.")
    told = f"Your plan reads: {plan.text()}."
    if not plan.terms:
        return Verdict(False, "Your plan does nothing.")
    early = [s for s in np.linspace(0, after_s, 41)[:-1] if any(t.acts(float(s), 1) for t in plan.terms)]
    if early:
        return Verdict(False, f"{told} It already acts at {early[0]:.1f} s, before {after_s:g} s.")
    mine = [term for term in plan.terms if term.direction.name == towards and _pushes(term)]
    if not mine:
        return Verdict(False, f"{told} In the end nothing pushes towards {towards}.")
    open_ = [term for term in mine if term.gate is None or term.gate.class_ != towards]
    if open_:
        return Verdict(False, f"{told} Nothing ends the push once {towards} is heard: give it a gate.")
    if any(term.gate is not None and term.gate.side != "below" for term in mine):
        return Verdict(False, f"{told} Its gate opens only once {towards} is heard: it must open below.")
    gate = mine[0].gate
    assert gate is not None
    return Verdict(
        True,
        f"{told} Nothing is touched before {after_s:g} s, and the push rests while the probe of layer "
        f"{gate.read_out.layer} reads {towards} with {gate.threshold:.0%} or more.",
    )


def _pushes(term: Term) -> bool:
    """Return whether a term pushes towards its direction at the end; on the unprompted half it is away."""
    return term.operation in PUSHES and term.rows != "null" and term.dose * term.schedule.factor(1e6, 1) > 0


def side_effect(found: Crosstalk, plan: str, answer: str | None) -> Verdict:
    """Check which class of another target a plan moves most, up or down.

    answer  "target: class", for example "mood: calm"
    """
    cells = found.cells[found.cells["plan"] == plan]
    own = set(cells.loc[cells["own"], "target"])
    others = cells[~cells["target"].isin(own)]
    names = (others["target"] + ": " + others["class"]).tolist()
    if answer is None:
        return Verdict(None, f"Look along the row {plan}, and give one of: {', '.join(names)}.")
    if answer not in names:
        return Verdict(False, f"{answer!r} is not one of: {', '.join(names)}.")
    most = others.iloc[int(others["change"].abs().to_numpy().argmax())]
    given = others.iloc[names.index(answer)]
    if abs(given["change"]) < abs(most["change"]):
        change = f"{100 * given['change']:+.0f} points"
        return Verdict(False, f"{plan} moves {answer} by {change}; another class moves more.")
    sure = most["change_low"] > 0 or most["change_high"] < 0
    interval = f"{100 * most['change_low']:+.0f} to {100 * most['change_high']:+.0f}"
    more = (
        "That is more than chance." if sure else "But the interval holds 0: with more seeds you would know."
    )
    return Verdict(True, f"{plan} moves {answer} by {100 * most['change']:+.0f} points ({interval}). {more}")
