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

from workbench.steering import Direction, Steering, Term
from workbench.steering.operations import OPERATIONS

if TYPE_CHECKING:
    from workbench.activations import Activations
    from workbench.evidence.crosstalk import Crosstalk
    from workbench.generation.live.recording import Recording
    from workbench.probing.diagnosis import ProbeReport
    from workbench.probing.probe import ProbeSweep
    from workbench.probing.projection import Projection
    from workbench.sound import LintReport

_SIGNS = {True: ("Right.", "#009E73"), False: ("Not yet.", "#D55E00"), None: ("No answer yet.", "#777777")}


@dataclass(frozen=True)
class Verdict:
    """What a check says: `right` is True, False, or None where there is no answer yet; `words` say why.

    >>> print(Verdict(False, "Layer 3 ends below the best."))
    Not yet. Layer 3 ends below the best.
    """

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
    text = f"Your plan reads: {plan.text()}."
    if not _pushes(plan, towards)(1e6) > 0:
        return Verdict(False, f"{text} In the end nothing pushes towards {towards}.")
    early = _early(plan, after_s)
    if early is not None:
        return Verdict(False, f"{text} It already acts at {early:.1f} s, before {after_s:g} s.")
    more = "you hear the unsteered tune, note for note, if prompt and seed are the same."
    return Verdict(True, f"{text} Nothing is touched before {after_s:g} s, so until then {more}")


def gated_push(plan: object, *, towards: str, after_s: float) -> Verdict:
    """Check a plan that pushes towards a class from `after_s` on, and only until a probe reads it."""
    if plan is None:
        hint = "Move sliders and settings of the lab, or edit its line, then answer with lab.steering."
        return Verdict(None, f"{hint} A gate and a schedule are under 'How, when, where'.")
    if not isinstance(plan, Steering):
        return _no_plan(plan, "Answer with lab.steering.")
    text = f"Your plan reads: {plan.text()}."
    if not plan.terms:
        return Verdict(False, "Your plan does nothing.")
    early = _early(plan, after_s)
    if early is not None:
        return Verdict(False, f"{text} It already acts at {early:.1f} s, before {after_s:g} s.")
    mine = [term for term in plan.terms if term.direction.name == towards and _pushes_towards(term)]
    if not mine:
        return Verdict(False, f"{text} In the end nothing pushes towards {towards}.")
    gates = [term.gate for term in mine if term.gate is not None and term.gate.class_ == towards]
    if len(gates) < len(mine):
        return Verdict(False, f"{text} Nothing ends the push once {towards} is heard: give it a gate.")
    if any(gate.side != "below" for gate in gates):
        return Verdict(False, f"{text} Its gate opens only once {towards} is heard: it must open below.")
    return Verdict(
        True,
        f"{text} Nothing is touched before {after_s:g} s, and the push rests while the probe of layer "
        f"{gates[0].read_out.layer} reads {towards} with {gates[0].threshold:.0%} or more.",
    )


def crossfade(plan: object, *, out_of: str, into: str) -> Verdict:
    """Check a plan in which one class fades while another one rises, and both add up to one dose."""
    if plan is None:
        return Verdict(None, "Join two plans with +, one scheduled by wb.fade(start, end), one by wb.ramp.")
    if not isinstance(plan, Steering):
        return _no_plan(plan)
    text = f"Your plan reads: {plan.text()}."
    leaving, coming = _pushes(plan, out_of), _pushes(plan, into)
    if not leaving(0) > 0 or leaving(1e6) > 0:
        return Verdict(False, f"{text} {out_of} should push at the start and be gone in the end.")
    if coming(0) > 0 or not coming(1e6) > 0:
        return Verdict(False, f"{text} {into} should be silent at the start and push in the end.")
    sums = [leaving(s) + coming(s) for s in np.linspace(0, 30, 301)]
    if max(sums) <= min(sums) * 1.05:
        return Verdict(True, f"{text} At every moment the two doses add up to {sums[0]:.2f}.")
    do = "give both the same dose and the same two times, and the push stays equally strong throughout"
    return Verdict(False, f"{text} Together they lie between {min(sums):.2f} and {max(sums):.2f}: {do}.")


def readable_targets(sweeps: Mapping[str, ProbeSweep], answer: Iterable[str] | None) -> Verdict:
    """Check which labels are read better than chance: the interval lies above what shuffled labels reach."""
    if answer is None:
        return Verdict(None, f"Give the names in a list, some of {_listed(sweeps)}.")
    given = set(answer)
    if given - set(sweeps):
        strange = _listed(given - set(sweeps))
        return Verdict(False, f"{strange} were not probed; there are {_listed(sweeps)}.")
    scores = {target: sweep.best.scores for target, sweep in sweeps.items()}
    right = {t for t, s in scores.items() if s.low > max(s.chance, s.shuffled_high)}
    if given == right:
        lines = [f"{t}: {s.low:.0%} against {max(s.chance, s.shuffled_high):.0%}" for t, s in scores.items()]
        ends = f"Lower end of the interval against the line to beat: {'; '.join(lines)}."
        return Verdict(True, f"{ends} And yet 'readable' does not mean 'used': only steering can tell that.")
    name = min(given ^ right)
    verb, score = "lies above" if name in right else "does not clear", scores[name]
    return Verdict(
        False,
        f"Look at {name} again: its interval begins at {score.low:.0%}, which {verb} the majority class "
        f"({score.chance:.0%}) and the luckiest shuffled runs ({score.shuffled_high:.0%}).",
    )


def flattery(grouped: ProbeSweep, random: ProbeSweep, answer: float | None) -> Verdict:
    """Check by how many percentage points the random split flatters, at the best layer of each."""
    gap = 100 * (random.best.accuracy - grouped.best.accuracy)
    if answer is None:
        return Verdict(None, "Give a number of percentage points, for example 12.")
    both = f"{random.best.accuracy:.1%} with the random split, {grouped.best.accuracy:.1%} with whole groups"
    if abs(float(answer) - gap) > 1:
        return Verdict(False, f"You say {float(answer):g} points. Compare the best accuracies: {both}.")
    more = "A coin has nothing to do with the sound, so everything above one half is the leak."
    return Verdict(True, f"{both}: {gap:.1f} points, won by recognising tracks. {more}")


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
    distances = ", ".join(f"{name} {away[name]:.1f}" for name in order)
    if answer == order[0]:
        return Verdict(True, f"Distances from {class_} between class means, all dimensions: {distances}.")
    nearer = f"On the map perhaps, but in the residual stream {order[0]} is nearer ({distances})."
    more = "keeps who is whose neighbour, and gives up the distances between clusters."
    return Verdict(False, f"{nearer} A map in two dimensions {more}")


def more_trusted(maps: Mapping[str, Projection], answer: str | None) -> Verdict:
    """Check which map keeps more of the true neighbours."""
    if answer is None:
        return Verdict(None, f"Name one of {_listed(maps)}.")
    if answer not in maps:
        return Verdict(False, f"{answer!r} is not one of {_listed(maps)}.")
    trust = {name: made.trustworthiness for name, made in maps.items()}
    values = ", ".join(f"{name} {value:.3f}" for name, value in trust.items())
    if answer != max(trust, key=trust.__getitem__):
        return Verdict(
            False, f"Trustworthiness says otherwise: {values} (1 = no false neighbour on the map)."
        )
    more = "straight distances, and how wide a cluster is, are shown more honestly by PCA."
    return Verdict(True, f"{values}. It asks only whether neighbours on the map are true neighbours; {more}")


def smallest_dose(rates: pd.DataFrame, answer: float | None) -> Verdict:
    """Check the smallest dose that clears the control: its interval begins above the control's hit rate.

    Args:
        rates: rows of `hit_rates`: method ("probe", "random"), dose, hit_rate, low, high.
        answer: a dose, or 0 for "none of those measured".
    """
    if answer is None:
        return Verdict(None, "Give one of the doses in the table, or 0 if none of them does it.")
    control = float(rates.loc[rates["method"] == "random", "hit_rate"].max())
    steered = rates[rates["method"] == "probe"].sort_values("dose")
    enough = steered.loc[steered["low"] > control, "dose"]
    wanted = float(enough.iloc[0]) if len(enough) else 0.0
    lines = [f"dose {r.dose:g}: {r.hit_rate:.0%} ({r.low:.0%} to {r.high:.0%})" for r in steered.itertuples()]
    table = f"Random directions reach {control:.0%}; steering: {'; '.join(lines)}."
    if not math.isclose(float(answer), wanted):
        return Verdict(False, f"{table} Which is the first interval that begins above the control?")
    more = "" if wanted else " None clears the control; more seeds would narrow the intervals."
    return Verdict(True, table + more)


def culprit(report: LintReport, answer: str | None) -> Verdict:
    """Check which clip has to go: it stands in a finding that is an error."""
    if answer is None:
        return Verdict(None, "Give the id of one clip, for example 'jazz/first.wav'.")
    errors = [finding for finding in report.findings if finding.severity == "error"]
    message = next((finding.message for finding in errors if answer in finding.ids), None)
    if message is not None:
        return Verdict(True, f"{message}.")
    return Verdict(
        False, f"{answer!r} stands in none of the report's {len(errors)} errors: read their messages."
    )


def same_direction(ours: Direction, theirs: Direction, answer: bool | None) -> Verdict:
    """Check whether two directions agree more than chance explains: cosine above 4 / sqrt(d)."""
    if answer is None:
        return Verdict(None, "Answer True or False: do both directions point the same way, beyond chance?")
    cosine, chance = ours.cosine(theirs), 1 / math.sqrt(ours.vector.size)
    agree = cosine > 4 * chance
    why = (
        f"Their cosine is {cosine:.2f}. Two random directions in {ours.vector.size} dimensions have cosines "
        f"around 0, give or take {chance:.2f}"
    )
    if bool(answer) != agree:
        return Verdict(False, f"{why}. Compare the cosine with four times that.")
    more = "so this is agreement" if agree else "so this is no agreement"
    return Verdict(True, f"{why}, {more}. A cosine well below 1 is normal: few clips leave much noise.")


def alarms(report: ProbeReport, answer: Iterable[str] | None) -> Verdict:
    """Check which findings of a report are alarms."""
    tested = [finding.name for finding in report if finding.adjusted is not None]
    if answer is None:
        return Verdict(None, f"Give a list, [] if there is none; tested were: {', '.join(tested)}.")
    given, raised = set(answer), {finding.name for finding in report.alarms}
    strange = sorted(given - set(tested))
    if strange:
        return Verdict(False, f"{', '.join(strange)} was not tested; tested were: {', '.join(tested)}.")
    if given != raised:
        wrong = min(given ^ raised)
        verb = "is" if wrong in raised else "is not"
        return Verdict(False, f"{wrong} {verb} an alarm: {report[wrong].sentence()}")
    chances = "; ".join(f"{name}: corrected p = {report[name].adjusted:.2g}" for name in tested)
    return Verdict(True, f"{chances}. An alarm needs p at or below 0.05, and a size that matters.")


def owed_to_the_model(report: ProbeReport, answer: float | None) -> Verdict:
    """Check how many points of accuracy the model adds to the strongest baseline."""
    lead = report["baselines"].value
    if answer is None:
        return Verdict(None, "Give a number of percentage points, for example 12.")
    if abs(float(answer) - 100 * lead.effect) > 1:
        return Verdict(False, f"You say {float(answer):g} points. Read the Baselines tab: {lead.sentence()}")
    more = "The rest was in the sound, or in the codes, before the model heard anything."
    return Verdict(True, f"{lead.sentence()} {more}")


def first_touch(recording: Recording, name: str, answer: float | None) -> Verdict:
    """Check at which second of the recording a step first read that a knob was not at 0."""
    knobs = recording.knobs()
    if name not in knobs:
        return Verdict(False, f"There is no knob {name!r}; there are {', '.join(knobs.columns[1:])}.")
    touched = knobs.loc[knobs[name] != 0, "seconds"]
    if answer is None:
        return Verdict(None, "Give seconds, for example 3.2: recording.knobs() has a line for every change.")
    if not len(touched):
        return Verdict(False, f"Nobody turned {name} in this recording: play again, and turn it.")
    first = float(touched.iloc[0])
    if abs(float(answer) - first) > 0.05:
        return Verdict(False, f"You say {float(answer):g} s. Look for the first line whose {name} is not 0.")
    more = "You turned it a little earlier: what is drawn lies ahead of what is heard."
    return Verdict(True, f"The step that makes the sound at {first:.2f} s was the first to read it. {more}")


def parting(moved: Recording, still: Recording, answer: float | None) -> Verdict:
    """Check at which second two recordings of one seed part: the first frame whose codes differ."""
    frames = min(moved.codes.shape[-1], still.codes.shape[-1])
    differ = np.flatnonzero((moved.codes[:, :frames] != still.codes[:, :frames]).any(axis=0))
    if answer is None:
        return Verdict(None, "Compare moved.codes with still.codes: frames count from 0 in the last axis.")
    if not len(differ):
        return Verdict(False, "The two are equal throughout: turn a knob in one of them, and play again.")
    first = differ[0] / moved.frame_rate_hz
    if abs(float(answer) - first) > 0.05:
        hint = "np.flatnonzero tells it from (a != b).any(axis=0)."
        return Verdict(False, f"At {float(answer):g} s lies not the first frame that differs. {hint}")
    return Verdict(
        True,
        f"The first frame that differs is number {differ[0]}, which sounds at {first:.2f} s. Until then the "
        "same seed makes the same music, bit for bit; after it, every code that differs is heard by all that "
        "follow.",
    )


def side_effect(table: Crosstalk, plan: str, answer: str | None) -> Verdict:
    """Check which class of another target a plan moves most, up or down.

    Args:
        table: as `workbench.evidence.crosstalk.crosstalk` gives it.
        plan: its name in the table.
        answer: "target: class", for example "mood: calm".
    """
    cells = table.cells[table.cells["plan"] == plan]
    others = cells[~cells["target"].isin(set(cells.loc[cells["own"], "target"]))]
    names = (others["target"] + ": " + others["class"]).tolist()
    if answer is None:
        return Verdict(None, f"Look along the row {plan}, and give one of: {', '.join(names)}.")
    if answer not in names:
        return Verdict(False, f"{answer!r} is not one of: {', '.join(names)}.")
    most = others.iloc[int(others["change"].abs().to_numpy().argmax())]
    given = others.iloc[names.index(answer)]
    moves = f"{plan} moves {answer} by {100 * given['change']:+.0f} points"
    if abs(given["change"]) < abs(most["change"]):
        return Verdict(False, f"{moves}; another class moves more.")
    interval = f"{100 * most['change_low']:+.0f} to {100 * most['change_high']:+.0f}"
    more = "But the interval holds 0: with more seeds you would know."
    if most["change_low"] > 0 or most["change_high"] < 0:
        more = "That is more than chance."
    return Verdict(True, f"{moves} ({interval}). {more}")


def _no_plan(answer: object, do: str = "A direction becomes one by .at(dose).") -> Verdict:
    return Verdict(False, f"This is a {type(answer).__name__}, not a plan. {do}")


def _early(plan: Steering, after_s: float) -> float | None:
    """Return the first second before `after_s` at which a plan acts, None where there is none."""
    seconds = map(float, np.linspace(0, after_s, 41)[:-1])
    return next((s for s in seconds if any(term.acts(s, 1) for term in plan.terms)), None)


def _pushes(plan: Steering, name: str) -> Callable[[float], float]:
    """Return the dose (positive: towards) that a plan gives to the direction of that name at each second."""
    terms = [term for term in plan.terms if term.direction.name == name]
    return lambda seconds: sum(term.dose * term.schedule.factor(float(seconds), 1) for term in terms)


def _pushes_towards(term: Term) -> bool:
    """Return whether a term pushes towards its direction at the end; on the unprompted half it is away."""
    push = not OPERATIONS[term.operation].has_target
    return push and term.branch != "null" and term.dose * term.schedule.factor(1e6, 1) > 0


def _listed(names: Iterable[object]) -> str:
    return ", ".join(str(name) for name in sorted(names, key=str)) or "none"
