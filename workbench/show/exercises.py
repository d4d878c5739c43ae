"""Checks of the notebooks' exercises: an answer in, what is right or wrong with it in words out.

Every check takes what the notebook has made and the reader's answer, and returns a Verdict. The right answer
is computed from the reader's own figures, so it stays right for another model and other music.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from workbench.steering import Direction, Steering

if TYPE_CHECKING:
    from workbench.activations import Activations
    from workbench.probing.projection import Projection
    from workbench.probing.sweep import ProbeSweep
    from workbench.sound import LintReport

_SIGNS = {True: ("Right.", "#009E73"), False: ("Not yet.", "#D55E00"), None: ("No answer yet.", "#777777")}


@dataclass(frozen=True)
class Verdict:
    """What a check says: `right` is True, False, or None where there is no answer yet; `words` say why."""

    right: bool | None
    words: str

    def __str__(self) -> str:
        return f"{_SIGNS[self.right][0]} {self.words}"

    def _repr_html_(self) -> str:
        sign, colour = _SIGNS[self.right]
        style = f"border-left: 5px solid {colour}; padding: 6px 12px; max-width: 75ch"
        return f"<div style='{style}'><b>{sign}</b> {html.escape(self.words)}</div>"


def tied_layers(probes: ProbeSweep, answer: Iterable[int] | None) -> Verdict:
    """Check which layers cannot be told from the best one: those whose 95 % interval reaches its accuracy."""
    best = probes.best
    tied = {probe.layer for probe in probes if probe.scores.high >= best.accuracy}
    if answer is None:
        return Verdict(None, "Give the layers as a list, for example [2, 3], and run the cell again.")
    given = set(answer)
    strange = given - set(probes.layers)
    if strange:
        return Verdict(False, f"{_listed(strange)} were not probed; the layers are {_listed(probes.layers)}.")
    why = f"The best accuracy is {best.accuracy:.1%}, at layer {best.layer}."
    if given == tied:
        more = "Choosing among these by accuracy alone would be choosing by luck."
        return Verdict(True, f"{why} The intervals of layers {_listed(tied)} reach it. {more}")
    if given - tied:
        short = min(given - tied)
        end = probes[short].scores.high
        return Verdict(False, f"{why} The interval of layer {short} ends at {end:.1%}, below it.")
    return Verdict(False, f"{why} The intervals of {len(tied - given)} more layer(s) reach it: look again.")


def late_push(plan: object, *, towards: str, after_s: float) -> Verdict:
    """Check a plan that leaves the beginning alone and pushes towards a class only from `after_s` on."""
    if plan is None:
        hint = f"Write a plan such as directions[{towards!r}].at(0.6, schedule=...)."
        return Verdict(None, f"{hint} wb.ramp and wb.window make schedules.")
    if not isinstance(plan, Steering):
        return _no_plan(plan)
    told = f"Your plan reads: {plan.text()}."
    pushes = _pushes(plan, towards)
    if not pushes(1e6) > 0:
        return Verdict(False, f"{told} In the end nothing pushes towards {towards}.")
    early = [s for s in np.linspace(0, after_s, 41)[:-1] if any(t.acts(float(s), 1) for t in plan.terms)]
    if early:
        return Verdict(False, f"{told} It already acts at {early[0]:.1f} s, before {after_s:g} s.")
    return Verdict(
        True,
        f"{told} Nothing is touched before {after_s:g} s, so until then you hear the unsteered tune, note "
        "for note, if prompt and seed are the same.",
    )


def crossfade(plan: object, *, out_of: str, into: str) -> Verdict:
    """Check a plan in which one class fades while another one rises, and both add up to one dose."""
    if plan is None:
        return Verdict(None, "Join two plans with +, one scheduled by wb.fade(start, end), one by wb.ramp.")
    if not isinstance(plan, Steering):
        return _no_plan(plan)
    told = f"Your plan reads: {plan.text()}."
    leaving, coming = _pushes(plan, out_of), _pushes(plan, into)
    if not leaving(0) > 0 or leaving(1e6) > 0:
        return Verdict(False, f"{told} {out_of} should push at the start and be gone in the end.")
    if coming(0) > 0 or not coming(1e6) > 0:
        return Verdict(False, f"{told} {into} should be silent at the start and push in the end.")
    sums = [leaving(s) + coming(s) for s in np.linspace(0, 30, 301)]
    if max(sums) > min(sums) * 1.05:
        return Verdict(
            False,
            f"{told} Together the two doses lie between {min(sums):.2f} and {max(sums):.2f}: give both the "
            "same dose and the same two times, and the push stays equally strong throughout.",
        )
    return Verdict(True, f"{told} At every moment the two doses add up to {sums[0]:.2f}.")


def readable_targets(sweeps: Mapping[str, ProbeSweep], answer: Iterable[str] | None) -> Verdict:
    """Check which labels are read better than chance: the interval lies above what shuffled labels reach."""
    if answer is None:
        return Verdict(None, f"Give the names in a list, some of {_listed(sweeps)}.")
    given, strange = set(answer), set(answer) - set(sweeps)
    if strange:
        return Verdict(False, f"{_listed(strange)} were not probed; there are {_listed(sweeps)}.")
    scores = {target: sweep.best.scores for target, sweep in sweeps.items()}
    right = {t for t, s in scores.items() if s.low > max(s.chance, s.shuffled_high)}
    wrong = sorted(given ^ right)
    if not wrong:
        lines = [f"{t}: {s.low:.0%} against {max(s.chance, s.shuffled_high):.0%}" for t, s in scores.items()]
        told = "Lower end of the interval against the line to beat: " + "; ".join(lines) + "."
        return Verdict(True, f"{told} And yet 'readable' does not mean 'used': only steering can tell that.")
    name, found = wrong[0], scores[wrong[0]]
    verb = "lies above" if name in right else "does not clear"
    return Verdict(
        False,
        f"Look at {name} again: its interval begins at {found.low:.0%}, which {verb} the majority class "
        f"({found.chance:.0%}) and the luckiest shuffled runs ({found.shuffled_high:.0%}).",
    )


def flattery(grouped: ProbeSweep, random: ProbeSweep, answer: float | None) -> Verdict:
    """Check by how many percentage points the random split flatters, at the best layer of each."""
    gap = 100 * (random.best.accuracy - grouped.best.accuracy)
    if answer is None:
        return Verdict(None, "Give a number of percentage points, for example 12.")
    told = f"{random.best.accuracy:.1%} with the random split, {grouped.best.accuracy:.1%} with whole groups"
    if abs(float(answer) - gap) > 1:
        return Verdict(False, f"You say {float(answer):g} points. Compare the best accuracies: {told}.")
    return Verdict(
        True,
        f"{told}: {gap:.1f} points, won by recognising tracks. A coin has nothing to do with the sound, so "
        "everything above one half is the leak.",
    )


def nearest_class(acts: Activations, layer: int, class_: str, answer: str | None) -> Verdict:
    """Check which genre lies nearest to `class_` in the residual stream itself, not on the map."""
    if answer is None:
        return Verdict(None, f"Look at the map: which genre's points lie nearest to those of {class_}?")
    x, labels = acts.matrix(layer).astype(float), acts.labels("genre")
    x = (x - x.mean(0)) / np.maximum(x.std(0), 1e-9)
    middles = {name: x[labels == name].mean(0) for name in acts.classes("genre")}
    away = {n: float(np.linalg.norm(m - middles[class_])) for n, m in middles.items() if n != class_}
    if answer not in away:
        return Verdict(False, f"{answer!r} is not one of {_listed(away)}.")
    order = sorted(away, key=away.__getitem__)
    told = ", ".join(f"{name} {away[name]:.1f}" for name in order)
    if answer == order[0]:
        return Verdict(True, f"Distances from {class_} between class means, all dimensions: {told}.")
    return Verdict(
        False,
        f"On the map perhaps, but in the residual stream {order[0]} is nearer ({told}). A map in two "
        "dimensions keeps who is whose neighbour, and gives up the distances between clusters.",
    )


def more_trusted(maps: Mapping[str, Projection], answer: str | None) -> Verdict:
    """Check which map keeps more of the true neighbours."""
    if answer is None:
        return Verdict(None, f"Name one of {_listed(maps)}.")
    if answer not in maps:
        return Verdict(False, f"{answer!r} is not one of {_listed(maps)}.")
    trust = {name: made.trustworthiness for name, made in maps.items()}
    best = max(trust, key=trust.__getitem__)
    told = ", ".join(f"{name} {value:.3f}" for name, value in trust.items())
    if answer != best:
        return Verdict(False, f"Trustworthiness says otherwise: {told} (1 = no false neighbour on the map).")
    return Verdict(
        True,
        f"{told}. It asks only whether neighbours on the map are true neighbours; straight distances, and "
        "how wide a cluster is, are shown more honestly by PCA.",
    )


def smallest_dose(rates: pd.DataFrame, answer: float | None) -> Verdict:
    """Check the smallest dose that clears the control: its interval begins above the control's hit rate.

    rates   rows of `hit_rates`: method ("probe", "random"), dose, hit_rate, low, high
    answer  a dose, or 0 for "none of those measured"
    """
    if answer is None:
        return Verdict(None, "Give one of the doses in the table, or 0 if none of them does it.")
    control = float(rates.loc[rates["method"] == "random", "hit_rate"].max())
    steered = rates[rates["method"] == "probe"].sort_values("dose")
    enough = steered.loc[steered["low"] > control, "dose"]
    wanted = float(enough.iloc[0]) if len(enough) else 0.0
    lines = [f"dose {r.dose:g}: {r.hit_rate:.0%} ({r.low:.0%} to {r.high:.0%})" for r in steered.itertuples()]
    told = f"Random directions reach {control:.0%}; steering: {'; '.join(lines)}."
    if math.isclose(float(answer), wanted):
        more = "" if wanted else " None clears the control; more seeds would narrow the intervals."
        return Verdict(True, told + more)
    return Verdict(False, f"{told} Which is the first interval that begins above the control?")


def culprit(report: LintReport, answer: str | None) -> Verdict:
    """Check which clip has to go: it stands in a finding that is an error."""
    if answer is None:
        return Verdict(None, "Give the id of one clip, for example 'jazz/first.wav'.")
    told = [f for f in report.findings if f.severity == "error" and answer in f.ids]
    if told:
        return Verdict(True, f"{told[0].message}.")
    faulty = sum(f.severity == "error" for f in report.findings)
    return Verdict(False, f"{answer!r} stands in none of the report's {faulty} errors: read their messages.")


def same_direction(ours: Direction, theirs: Direction, answer: bool | None) -> Verdict:
    """Check whether two directions agree more than chance explains: cosine above 4 / sqrt(d)."""
    if answer is None:
        return Verdict(None, "Answer True or False: do both directions point the same way, beyond chance?")
    cosine, width = ours.cosine(theirs), ours.vector.size
    agree = cosine > 4 / math.sqrt(width)
    told = (
        f"Their cosine is {cosine:.2f}. Two random directions in {width} dimensions have cosines around 0, "
        f"give or take {1 / math.sqrt(width):.2f}"
    )
    if bool(answer) == agree:
        more = "so this is agreement" if agree else "so this is no agreement"
        return Verdict(True, f"{told}, {more}. A cosine well below 1 is normal: few clips leave much noise.")
    return Verdict(False, f"{told}. Compare the cosine with four times that.")


def _no_plan(answer: object) -> Verdict:
    kind = type(answer).__name__
    return Verdict(False, f"This is a {kind}, not a plan. A direction becomes one by .at(dose).")


def _pushes(plan: Steering, name: str) -> Callable[[float], float]:
    """Return the dose (positive: towards) that a plan gives to the direction of that name at each second."""
    terms = [term for term in plan.terms if term.direction.name == name]
    return lambda seconds: sum(term.dose * term.schedule.factor(float(seconds), 1) for term in terms)


def _listed(names: Iterable[object]) -> str:
    return ", ".join(str(name) for name in sorted(names, key=str)) or "none"
