"""Checks of the notebooks' exercises: an answer in, what is right or wrong with it in words out.

The right answer is computed from what the notebook has made, so it stays right for other models and music. An
answer of the wrong kind (a word where a number is asked, nan, True ...) is refused and counts as no attempt.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from workbench.files import size_text
from workbench.model.checkpoints import CHECKPOINTS
from workbench.steering import OPERATIONS, Direction, Steering

if TYPE_CHECKING:
    from workbench.activations import Activations
    from workbench.evidence.causal import PatchMap
    from workbench.evidence.crosstalk import Crosstalk
    from workbench.generation.live.recording import Recording
    from workbench.probing import ProbeSweep, Projection
    from workbench.probing.diagnosis import ProbeReport
    from workbench.sound import LintReport

SANE_DOSE = 1.0
"""A push longer than the residual stream itself is no music any more: it does not count as right."""

_attempts: dict[tuple[str, str], list[str]] = {}  # (exercise, solution) -> the wrong answers given so far
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


def start_again() -> None:
    """Forget all wrong answers: the next one gets no hint yet."""
    _attempts.clear()


def wrong(exercise: str, answer: object, *, reason: str, hint: str, solution: str) -> Verdict:
    """Return the verdict on a wrong answer: the reason; then a hint, too; then the solution, too.

    Answers that were given before do not count again; another solution (other figures) begins anew.

    >>> start_again()
    >>> told = {"reason": "Too low.", "hint": "It is even.", "solution": "It is 4."}
    >>> [wrong("sum", answer, **told).words for answer in (1, 2, 3)]
    ['Too low.', 'Too low. Hint: It is even.', 'Too low. The answer: It is 4.']
    """
    given = _attempts.setdefault((exercise, solution), [])
    if repr(answer) not in given:
        given.append(repr(answer))
    more = ("", f" Hint: {hint}", f" The answer: {solution}")[min(len(given), 3) - 1]
    return Verdict(False, f"{reason}{more}")


def tied_layers(probes: ProbeSweep, answer: object) -> Verdict:
    """Check which layers cannot be told from the best one: those whose 95 % interval reaches its accuracy."""
    best = probes.best
    tied = {probe.layer for probe in probes if probe.scores.high >= best.accuracy}
    if (given := _members(answer, int)) is None:
        return _unread(answer, "Give a list of layers, for example [2, 3]")
    if strange := given - set(probes.layers):
        return Verdict(False, f"Not probed: {_listed(strange)}; the layers are {_listed(probes.layers)}.")
    why = f"The best accuracy is {best.accuracy:.1%}, at layer {best.layer}."
    reached = f"The intervals of layers {_listed(tied)} reach it."
    if given == tied:
        more = "Choosing among these by accuracy alone would be choosing by luck."
        return Verdict(True, f"{why} {reached} {more}")
    hint = f"{len(tied - given)} more layer(s) reach it."
    if given - tied:
        short = min(given - tied)
        hint = f"The interval of layer {short} ends at {probes[short].scores.high:.1%}, below it."
    reason = f"{why} Which intervals reach that height, and which end below it?"
    return wrong("tied_layers", answer, reason=reason, hint=hint, solution=reached)


def late_push(plan: object, *, towards: str, after_s: float) -> Verdict:
    """Check a plan that does nothing before `after_s`, and pushes towards a class from then to the end."""
    if not isinstance(plan, Steering):
        none = f"Write a plan such as directions[{towards!r}].at(0.2, schedule=...)."
        none += " wb.ramp and wb.window make schedules."
        return _unread(plan, "Give a plan: a direction becomes one by .at(dose)", none)
    pushed, reason = _pushes(plan, towards), _early(plan, after_s)
    if not pushed(1e6) > 0:
        reason = f"In the end nothing pushes towards {towards}."
    elif reason is None and not pushed(after_s + 1) > 0:
        reason = f"At {after_s + 1:g} s it does not push towards {towards} yet."
    reason = reason or _drowning(plan)
    text = f"Your plan reads: {plan.text()}."
    if reason is None:
        more = "you hear the unsteered tune, note for note, if prompt and seed are the same."
        return Verdict(True, f"{text} Nothing is touched before {after_s:g} s, so until then {more}")
    ramp = f"wb.ramp({after_s:g}, {after_s + 1:g})"
    hint = f"{ramp} is 0 until {after_s:g} s, rises to 1, and stays there; a window ends."
    solution = f"for example directions[{towards!r}].at(0.2, schedule={ramp})."
    return wrong("late_push", plan, reason=f"{text} {reason}", hint=hint, solution=solution)


def gated_push(plan: object, *, towards: str, after_s: float) -> Verdict:
    """Check a plan that pushes towards a class from `after_s` on, and only until a probe reads it."""
    if not isinstance(plan, Steering):
        none = "Move sliders and settings of the lab, or edit its line, then answer with lab.steering."
        none += " A gate and a schedule are under 'How, when, where'."
        return _unread(plan, "Give a plan: answer with lab.steering", none)
    # each term that pushes towards the class in the end, and its gate
    gates = [term.gate for term in plan.terms if _pushes(Steering((term,)), towards)(1e6) > 0]
    text, reason = f"Your plan reads: {plan.text()}.", _early(plan, after_s)
    if not plan.terms:
        reason = "Your plan does nothing."
    elif reason is None and not gates:
        reason = f"In the end nothing pushes towards {towards}."
    elif reason is None and any(gate is None or gate.class_ != towards for gate in gates):
        reason = f"Nothing ends the push once {towards} is heard: give it a gate."
    elif reason is None and any(gate.side != "below" for gate in gates if gate):
        reason = f"Its gate opens only once {towards} is heard: it must open below."
    reason = reason or _drowning(plan)
    if reason is None and gates[0] is not None:
        return Verdict(
            True,
            f"{text} Nothing is touched before {after_s:g} s, and the push rests while the probe of layer "
            f"{gates[0].read_out.layer} reads {towards} with {gates[0].threshold:.0%} or more.",
        )
    ramp = f"ramp({after_s:g}s,{after_s + 1:g}s)"
    hint = f"the line needs a schedule, such as {ramp}, and gate({towards}@... < 0.8)."
    solution = (
        f"move the slider {towards} to 0.2, choose the schedule {ramp} and the gate {towards} under "
        "'How, when, where', then answer with lab.steering."
    )
    return wrong("gated_push", plan, reason=f"{text} {reason}", hint=hint, solution=solution)


def crossfade(plan: object, *, out_of: str, into: str) -> Verdict:
    """Check a plan in which one class fades while another one rises, and both add up to one dose."""
    if not isinstance(plan, Steering):
        none = "Join two plans with +, one scheduled by wb.fade(start, end), one by wb.ramp."
        return _unread(plan, "Give a plan: a direction becomes one by .at(dose)", none)
    leaving, coming = _pushes(plan, out_of), _pushes(plan, into)
    sums = [leaving(s) + coming(s) for s in np.linspace(0, 30, 301)]
    if not leaving(0) > 0 or leaving(1e6) > 0:
        reason = f"{out_of} should push at the start and be gone in the end."
    elif coming(0) > 0 or not coming(1e6) > 0:
        reason = f"{into} should be silent at the start and push in the end."
    elif max(sums) > min(sums) * 1.05:
        reason = f"Together they lie between {min(sums):.2f} and {max(sums):.2f}, so the push is not steady."
    else:
        reason = _drowning(plan) or ""
    text = f"Your plan reads: {plan.text()}."
    if not reason:
        return Verdict(True, f"{text} At every moment the two doses add up to {sums[0]:.2f}.")
    hint = "give both the same dose and the same two times: the push then stays equally strong throughout."
    solution = (
        f"for example directions[{out_of!r}].at(0.2, schedule=wb.fade(1, 4)) + "
        f"directions[{into!r}].at(0.2, schedule=wb.ramp(1, 4))."
    )
    return wrong("crossfade", plan, reason=f"{text} {reason}", hint=hint, solution=solution)


def readable_targets(sweeps: Mapping[str, ProbeSweep], answer: object) -> Verdict:
    """Check which labels are read better than chance: the interval lies above what shuffled labels reach."""
    if (given := _members(answer, str)) is None:
        return _unread(answer, f"Give a list of names, some of {_listed(sweeps)}")
    if strange := given - set(sweeps):
        return Verdict(False, f"Not probed: {_listed(strange)}; there are {_listed(sweeps)}.")
    scores = {target: sweep.best.scores for target, sweep in sweeps.items()}
    lines = {t: max(s.chance, np.nan_to_num(s.shuffled_high)) for t, s in scores.items()}
    right = {t for t, s in scores.items() if s.low > lines[t]}
    if given == right:
        told = "; ".join(f"{t}: {s.low:.0%} against {lines[t]:.0%}" for t, s in scores.items())
        ends = f"Lower end of the interval against the line to beat: {told}."
        return Verdict(True, f"{ends} And yet 'readable' does not mean 'used': only steering can tell that.")
    name = min(given ^ right)
    verb, score = "lies above" if name in right else "does not clear", scores[name]
    hint = (
        f"the interval of {name} begins at {score.low:.0%}, which {verb} the majority class "
        f"({score.chance:.0%}) and the luckiest shuffled runs ({score.shuffled_high:.0%})."
    )
    reason, solution = f"Look at {name} again.", f"{_listed(right)}."
    return wrong("readable_targets", answer, reason=reason, hint=hint, solution=solution)


def flattery(grouped: ProbeSweep, random: ProbeSweep, answer: object) -> Verdict:
    """Check by how many percentage points the random split flatters, at the best layer of each."""
    gap = 100 * (random.best.accuracy - grouped.best.accuracy)
    if (given := _number(answer, -100, 100)) is None:
        return _unread(answer, "Give a number of percentage points, for example 30")
    both = f"{random.best.accuracy:.1%} with the random split, {grouped.best.accuracy:.1%} with whole groups"
    if abs(given - gap) <= 1:
        more = "A coin has nothing to do with the sound."
        if gap > 0:
            more += " What the random split adds was won by recognising tracks."
        return Verdict(True, f"{both}: {gap:.1f} points. {more}")
    reason = f"You say {given:g} points. Compare the best accuracy of each split."
    solution = f"{gap:.1f} points: {both}."
    return wrong("flattery", answer, reason=reason, hint=f"they are {both}.", solution=solution)


def nearest_class(acts: Activations, layer: int, class_: str, answer: object) -> Verdict:
    """Check which genre lies nearest to `class_` in the residual stream itself, not on the map."""
    x, labels = acts.matrix(layer).astype(float), acts.labels("genre")
    x = (x - x.mean(0)) / np.maximum(x.std(0), 1e-9)
    middles = {name: x[labels == name].mean(0) for name in acts.classes("genre")}
    away = {n: float(np.linalg.norm(m - middles[class_])) for n, m in middles.items() if n != class_}
    if not isinstance(answer, str) or answer not in away:
        none = f"Look at the map: which genre's points lie nearest to those of {class_}?"
        return _unread(answer, f"Name one of {_listed(away)}", none)
    order = sorted(away, key=away.__getitem__)
    distances = ", ".join(f"{name} {away[name]:.1f}" for name in order)
    if answer == order[0]:
        return Verdict(True, f"Distances from {class_} between class means, all dimensions: {distances}.")
    reason = (
        f"On the map perhaps, but in the residual stream another genre is nearer to {class_} than {answer}. "
        "A map in two dimensions keeps who is whose neighbour, and gives up the distances between clusters."
    )
    others = [name for name in order if name != answer]
    hint = f"it is {' or '.join(sorted({others[0], others[-1]}))}."
    solution = f"{order[0]} ({distances})."
    return wrong(f"nearest_class {class_}", answer, reason=reason, hint=hint, solution=solution)


def more_trusted(maps: Mapping[str, Projection], answer: object) -> Verdict:
    """Check which map keeps more of the true neighbours."""
    if not isinstance(answer, str) or answer not in maps:
        return _unread(answer, f"Name one of {_listed(maps)}")
    trust = {name: made.trustworthiness for name, made in maps.items()}
    values = ", ".join(f"{name} {value:.3f}" for name, value in trust.items())
    best = max(trust, key=trust.__getitem__)
    if trust[answer] == trust[best]:
        asked = f"{values}. It asks only whether neighbours on the map are true neighbours;"
        more = "straight distances, and how wide a cluster is, are shown more honestly by PCA."
        return Verdict(True, f"{asked} {more}")
    reason = "Trustworthiness says otherwise (1 = no false neighbour on the map)."
    return wrong("more_trusted", answer, reason=reason, hint=f"{values}.", solution=f"{best}: {values}.")


def smallest_dose(rates: pd.DataFrame, answer: object) -> Verdict:
    """Check the smallest dose whose interval begins above the control's hit rate; 0 where none does.

    `rates` are rows of `hit_rates`: method ("probe", "random"), dose, hit_rate, low, high.
    """
    control = float(rates.loc[rates["method"] == "random", "hit_rate"].max())
    steered = rates[rates["method"] == "probe"].sort_values("dose")
    if (given := _number(answer, 0, float(steered["dose"].max()))) is None:
        return _unread(answer, "Give one of the doses in the table, or 0 if none of them does it")
    enough = steered.loc[steered["low"] > control, "dose"]
    wanted = float(enough.iloc[0]) if len(enough) else 0.0
    lines = [f"dose {r.dose:g}: {r.hit_rate:.0%} ({r.low:.0%} to {r.high:.0%})" for r in steered.itertuples()]
    table = f"Random directions reach {control:.0%}; steering: {'; '.join(lines)}."
    if math.isclose(given, wanted):
        more = "" if wanted else " None clears the control; more seeds would narrow the intervals."
        return Verdict(True, table + more)
    reason = "Which is the first interval that begins above the best that random directions reach?"
    solution = f"{wanted:g}. {table}"
    return wrong("smallest_dose", answer, reason=reason, hint=table, solution=solution)


def culprit(report: LintReport, answer: object) -> Verdict:
    """Check which clip has to go: it stands in a finding that is an error; "none" where there is no error."""
    if not isinstance(answer, str):
        return _unread(answer, "Give the id of one clip as the report writes it, or 'none'")
    errors = [finding for finding in report.findings if finding.severity == "error"]
    if not errors and answer == "none":
        return Verdict(True, "The report has no error: every clip may stay.")
    message = next((finding.message for finding in errors if answer in finding.ids), None)
    if message is not None:
        return Verdict(True, f"{message}.")
    named = sorted({name for finding in errors for name in finding.ids})
    solution = f"one of {', '.join(named[:4])}." if errors else "'none': there is no error in the report."
    reason = f"{answer!r} stands in none of the report's {len(errors)} errors."
    first = f"the first error reads: {errors[0].message}." if errors else ""
    hint = first or "are there lines that begin with error?"
    return wrong("culprit", answer, reason=reason, hint=hint, solution=solution)


def fitting(free: int, answer: object) -> Verdict:
    """Check which public checkpoints run, in bfloat16, in so many bytes of free memory."""
    needed = {name.rpartition("/")[2]: one.memory("bfloat16") for name, one in CHECKPOINTS.items()}
    fits = {name for name, size in needed.items() if size <= free}
    if (names := _members(answer, str)) is None:
        return _unread(answer, "Give a list of names, for example ['musicgen-small'], or [] for none")
    given = {name.rpartition("/")[2] for name in names}
    if strange := given - set(needed):
        return Verdict(False, f"{_listed(strange)} is not in the table.")
    room = f"{size_text(free)} are free"
    if given == fits:
        return Verdict(True, f"{room}: {_listed(fits)}. Its sound, and a capture, come on top.")
    first = min(given ^ fits, key=needed.__getitem__)
    hint = f"{first} takes {size_text(needed[first])}."
    reason = f"{room}; {len(fits)} of the {len(needed)} fit, and you named {len(given & fits)} of these."
    return wrong("fitting", answer, reason=reason, hint=hint, solution=f"{_listed(fits)}.")


def same_direction(ours: Direction, theirs: Direction, answer: object) -> Verdict:
    """Check whether two directions agree more than chance explains: cosine above 4 / sqrt(d)."""
    if not isinstance(answer, bool | np.bool_):
        none = "Answer True or False: do both directions point the same way, beyond chance?"
        return _unread(answer, "Answer True or False", none)
    cosine, chance = ours.cosine(theirs), 1 / math.sqrt(ours.vector.size)
    agree = cosine > 4 * chance
    why = (
        f"Their cosine is {cosine:.2f}. Two random directions in {ours.vector.size} dimensions have cosines "
        f"around 0, give or take {chance:.2f}"
    )
    more = "so this is agreement" if agree else "so this is no agreement"
    if bool(answer) == agree:
        return Verdict(True, f"{why}, {more}. A cosine well below 1 is normal: few clips leave much noise.")
    reason = "Compare the cosine with four times what two random directions have."
    return wrong("same_direction", answer, reason=reason, hint=f"{why}.", solution=f"{agree}. {why}, {more}.")


def alarms(report: ProbeReport, answer: object) -> Verdict:
    """Check which findings of a report are alarms."""
    tested = [finding.name for finding in report if finding.adjusted is not None]
    if (given := _members(answer, str)) is None:
        return _unread(answer, f"Give a list of names, [] if there is none; tested were: {', '.join(tested)}")
    raised = {finding.name for finding in report.alarms}
    if strange := given - set(tested):
        return Verdict(False, f"{_listed(strange)} was not tested; tested were: {', '.join(tested)}.")
    if given == raised:
        chances = "; ".join(f"{name}: corrected p = {report[name].adjusted:.2g}" for name in tested)
        return Verdict(True, f"{chances}. An alarm needs p at or below 0.05, and a size that matters.")
    odd = min(given ^ raised)
    reason = "Read the first sentence of the verdict again: it names the alarms."
    hint = f"{odd} {'is' if odd in raised else 'is not'} an alarm: {report[odd].sentence()}"
    return wrong("alarms", answer, reason=reason, hint=hint, solution=f"{sorted(raised)}.")


def owed_to_the_model(report: ProbeReport, answer: object) -> Verdict:
    """Check how many points of accuracy the model adds to the strongest baseline."""
    lead = report["baselines"].value
    if (given := _number(answer, -100, 100)) is None:
        return _unread(answer, "Give a number of percentage points, for example 12")
    if abs(given - 100 * lead.effect) <= 1:
        more = "What the baseline reads was in the sound, or in the codes, before the model heard anything."
        return Verdict(True, f"{lead.sentence()} {more}")
    reason = f"You say {given:g} points. Read the Baselines tab."
    solution = f"{100 * lead.effect:.1f} points."
    return wrong("owed_to_the_model", answer, reason=reason, hint=lead.sentence(), solution=solution)


def first_touch(recording: Recording, name: str, answer: object) -> Verdict:
    """Check at which second of the recording a step first read that a knob was not at 0."""
    knobs = recording.knobs()
    if name not in knobs:
        return Verdict(False, f"There is no knob {name!r}; there are {', '.join(knobs.columns[1:])}.")
    touched = knobs.loc[knobs[name] != 0, "seconds"]
    if not len(touched) and answer is not None:
        return Verdict(False, f"Nobody turned {name} in this recording: play again, and turn it.")
    if (given := _number(answer, 0, 1e6)) is None:
        none = "Give seconds, for example 3.2: recording.knobs() has a line for every change."
        return _unread(answer, "Give seconds, for example 3.2", none)
    first = float(touched.iloc[0])
    if abs(given - first) <= 0.05:
        read = f"The step that makes the sound at {first:.2f} s was the first to read it."
        more = "You turned it a little earlier: what is drawn lies ahead of what is heard."
        return Verdict(True, f"{read} {more}")
    reason = f"You say {given:g} s. Look at the lines of recording.knobs()."
    hint = f"it is the first line whose {name} is not 0."
    return wrong("first_touch", answer, reason=reason, hint=hint, solution=f"{first:.2f} s.")


def parting(moved: Recording, still: Recording, answer: object) -> Verdict:
    """Check at which second two recordings of one seed part: the first frame whose codes differ."""
    frames = min(moved.codes.shape[-1], still.codes.shape[-1])
    differ = np.flatnonzero((moved.codes[:, :frames] != still.codes[:, :frames]).any(axis=0))
    if not len(differ) and answer is not None:
        return Verdict(False, "The two are equal throughout: turn a knob in one of them, and play again.")
    if (given := _number(answer, 0, 1e6)) is None:
        none = "Compare moved.codes with still.codes: frames count from 0 in the last axis."
        return _unread(answer, "Give seconds, for example 3.2", none)
    first = differ[0] / moved.frame_rate_hz
    if abs(given - first) <= 0.05:
        frame = f"The first frame that differs is number {differ[0]}, which sounds at {first:.2f} s."
        more = "the same seed makes the same music, bit for bit; after it, every code that differs changes"
        return Verdict(True, f"{frame} Until then {more} all that follow.")
    reason = f"The frame at {given:g} s is not the first one that differs."
    hint = "np.flatnonzero finds it in (a != b).any(axis=0)."
    solution = f"{first:.2f} s (frame {differ[0]})."
    return wrong("parting", answer, reason=reason, hint=hint, solution=solution)


def side_effect(table: Crosstalk, plan: str, answer: object) -> Verdict:
    """Check which class of another target a plan of a table moves most, such as "mood: calm"."""
    cells = table.cells[table.cells["plan"] == plan]
    others = cells[~cells["target"].isin(set(cells.loc[cells["own"], "target"]))]
    names = (others["target"] + ": " + others["class"]).tolist()
    if not isinstance(answer, str) or answer not in names:
        return _unread(answer, f"Look along the row {plan}. Give one of: {', '.join(names)}")
    place = int(others["change"].abs().to_numpy().argmax())
    most, given = others.iloc[place], others.iloc[names.index(answer)]
    moves = f"{plan} moves {answer} by {100 * given['change']:+.0f} points"
    if abs(given["change"]) >= abs(most["change"]):
        interval = f"{100 * most['change_low']:+.0f} to {100 * most['change_high']:+.0f}"
        more = "But the interval holds 0: with more seeds you would know."
        if most["change_low"] > 0 or most["change_high"] < 0:
            more = "That is more than chance."
        return Verdict(True, f"{moves} ({interval}). {more}")
    solution = f"{names[place]} ({100 * most['change']:+.0f} points)."
    hint = f"it is a class of the judge of {most['target']}."
    reason = f"{moves}; another class moves more."
    return wrong("side_effect", answer, reason=reason, hint=hint, solution=solution)


def strongest_line(found: PatchMap, answer: object) -> Verdict:
    """Check which line of a map moves the read-out most in the prompted half, all its windows together."""
    sums = dict(zip(map(str, found.lines), found.values[0].sum(-1) / (found.goal - found.start), strict=True))
    best = max(sums, key=sums.__getitem__)
    if not isinstance(answer, str) or answer not in sums:
        return _unread(answer, f"Name one of {', '.join(sums)}, as text")
    values = f"{best} goes {sums[best]:.0%} of the way; the mean of all is {np.mean([*sums.values()]):.0%}."
    if answer == best:
        return Verdict(True, f"{values} What a head writes here moves the reading: it carries a cause.")
    reason = f"{answer} goes {sums[answer]:.0%} of the way. Which goes farther?"
    hint = f"it is in {best[: best.index('H')] if 'H' in best else best}."
    return wrong("strongest_line", answer, reason=reason, hint=hint, solution=values)


def acting_layer(table: pd.DataFrame, answer: object) -> Verdict:
    """Check in which layer a push moves the music most, in a table of `acts_per_layer`."""
    effects = dict(zip(table["layer"].astype(int), table["effect"], strict=True))
    given = _number(answer, min(effects), max(effects))
    if given is None or given not in effects:
        return _unread(answer, f"Give one layer, of {_listed(effects)}")
    best, read = max(effects, key=effects.__getitem__), int(table.nlargest(1, "accuracy")["layer"].iloc[0])
    both = f"Layer {best} acts most ({effects[best]:+.0%}); layer {read} reads best."
    more, hint = "the same layer", "it reads best there."
    if best != read:
        more = "another layer: what can be read need not be what is used"
        hint = f"it is layer {min(best, read)} or layer {max(best, read)}."
    if given == best:
        return Verdict(True, f"{both} That is {more}.")
    moved = effects[int(given)]
    reason = f"In layer {given:.0f} the push moves P by {moved:+.0%}. Where does it move it more?"
    return wrong("acting_layer", answer, reason=reason, hint=hint, solution=both)


def _unread(answer: object, do: str, none: str = "") -> Verdict:
    """Return the verdict on no answer, told `none` or what to `do`, or on a wrong kind: it is no attempt."""
    if answer is None:
        return Verdict(None, none or f"{do}.")
    shown = repr(answer)
    shown = shown if len(shown) <= 40 else f"This {type(answer).__name__}"
    return Verdict(False, f"{shown} is not an answer to this question. {do}.")


def _number(answer: object, low: float, high: float) -> float | None:
    """Return an answer as a number between two bounds; None for nan, True, words, lists and the like."""
    if isinstance(answer, bool) or not isinstance(answer, int | float | np.integer | np.floating):
        return None
    return float(answer) if low <= answer <= high else None


def _members(answer: object, kind: type[int] | type[str]) -> set[Any] | None:
    """Return the members of a list, a tuple or a set, all of one kind; None for anything else."""
    if isinstance(answer, np.ndarray):
        answer = answer.tolist()
    if not isinstance(answer, list | tuple | set | frozenset | range):
        return None
    wanted = (int, np.integer) if kind is int else (str,)
    sound = all(isinstance(one, wanted) and not isinstance(one, bool) for one in answer)
    return {kind(one) for one in answer} if sound else None


def _drowning(plan: Steering) -> str | None:
    """Return that a dose of a plan is beyond all reason, None where each is sane."""
    doses = [float(term.dose) for term in plan.terms]
    mad = next((dose for dose in doses if not abs(dose) <= SANE_DOSE), None)
    if mad is None:
        return None
    return f"A dose of {mad:g} drowns the music: stay within {SANE_DOSE:g}; 0.1 to 0.3 is usual."


def _early(plan: Steering, after_s: float) -> str | None:
    """Return that a plan acts before `after_s`, and when first; None where it does not."""
    seconds = map(float, np.linspace(0, after_s, 41)[:-1])
    first = next((s for s in seconds if any(term.acts(s, 1) for term in plan.terms)), None)
    return None if first is None else f"It already acts at {first:.1f} s, before {after_s:g} s."


def _pushes(plan: Steering, name: str) -> Callable[[float], float]:
    """Return the dose (positive: towards) that a plan gives to the direction of that name at each second."""
    named = (term for term in plan.terms if term.direction.name == name and term.branch != "null")
    terms = [term for term in named if not OPERATIONS[term.operation].has_target]
    return lambda seconds: sum(term.dose * term.schedule.factor(float(seconds), 1) for term in terms)


def _listed(names: Iterable[object]) -> str:
    return ", ".join(str(name) for name in sorted(names, key=str)) or "none"
