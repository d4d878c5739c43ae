"""Takes in words, and beside each other: on one clock, read by probes, judged, and how each was made."""

from __future__ import annotations

import html
import threading
from collections.abc import Collection, Mapping, Sequence
from itertools import chain, count
from operator import attrgetter
from pathlib import Path
from typing import Any

import ipywidgets
import numpy as np
import pandas as pd

from workbench.errors import AudioError, EvidenceError, GenerationError
from workbench.evidence.damage import Likelihood, damage, likelihood
from workbench.evidence.judge import Judges, as_judges
from workbench.evidence.trials import UNSTEERED
from workbench.generation.reproduce import reproduction_code
from workbench.generation.take import ProbeTrace, Take
from workbench.model.musicgen import Model
from workbench.show.page import part
from workbench.show.plots import judged_genres, judged_table, piano_roll, take_scores
from workbench.show.widgets import ui
from workbench.show.widgets.fader import scene_name
from workbench.show.widgets.players import ComparisonPlayer, shortened
from workbench.show.widgets.steer_lab_plan import plain_name
from workbench.sound import Clip
from workbench.steering import Steering, Term
from workbench.steering.schedule import written_number

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


# name in `damage` or of the likelihood -> heading, what it is multiplied by, format, unit
MEASURES = {
    "level_db": ("level", 1.0, ".1f", " dB"),
    "clipping": ("clipping", 100.0, ".1f", " %"),
    "silence": ("silence", 100.0, ".0f", " %"),
    "flatness": ("flatness", 1.0, ".3f", ""),
    "repetition": ("repetition", 100.0, ".0f", " %"),
    "nll": ("likelihood (NLL)", 1.0, ".2f", " nats"),
}


def twins_of(takes: Mapping[str, Take], reference: str | None) -> dict[str, str]:
    """Return name -> name of the take that each is measured beside.

    A named `reference` serves all. Otherwise a steered take's twin is the first unsteered one of the same
    model, prompt, seed and settings; takes without a twin are left out.
    """
    if reference is not None:
        return {name: reference for name in takes if name != reference}
    plain = {_same(take): name for name, take in reversed([*takes.items()]) if not take.steering}
    steered = {name: _same(take) for name, take in takes.items() if take.steering}
    return {name: plain[same] for name, same in steered.items() if same in plain}


def _same(take: Take) -> tuple[object, ...]:
    given = round(take.prompt_seconds * take.codes.shape[-1] / take.seconds)
    sound = (take.codes[:, :given].tobytes(), take.melody, take.windows)
    settings = (take.guidance, take.temperature, take.top_k, take.codes.shape)
    return (take.model_id, take.prompt, take.seed, *settings, *sound)


def damage_html(takes: Mapping[str, Take], twins: Mapping[str, str], likely: Mapping[str, Likelihood]) -> str:
    """Return the measures of each take as a table, with the difference to its twin (by name) in brackets."""
    measured = {name: dict(damage(take.new)) for name, take in takes.items()}
    for name, one in likely.items():
        measured[name]["nll"] = one.nll
    shown = [name for name in MEASURES if any(name in values for values in measured.values())]
    rows = [
        [name, *(_cell(one, values, measured.get(twins.get(name, ""), {})) for one in shown)]
        for name, values in measured.items()
    ]
    alone = [name for name, take in takes.items() if take.steering and name not in twins]
    note = f"In brackets: the change from {' and '.join(sorted(set(twins.values())))}." if twins else ""
    if alone:
        note += f" No unsteered take of the same prompt, seed and settings is here for {', '.join(alone)}."
    note = f"{note} None of these is a verdict: music may be loud, sparse or full of loops.".strip()
    measures = part("table", ["take", *(MEASURES[name][0] for name in shown)], rows, True)
    return ui.box_html("wb-takes", f"{measures}<div class='wb-note'>{html.escape(note)}</div>")


def _cell(measure: str, values: Mapping[str, float], twin: Mapping[str, float]) -> str:
    if measure not in values:
        return ""
    _heading, times, form, unit = MEASURES[measure]
    number = f"{values[measure] * times:{form}}{unit}"
    return f"{number} ({(values[measure] - twin[measure]) * times:+z{form}})" if measure in twin else number


def _made(take: Take) -> dict[str, str]:
    """Return how a take was made: plan, receipt, prompt, settings."""
    rows = {
        "plan": take.steering or "unsteered",
        "receipt": str(take.receipt),
        "prompt": repr(take.prompt),
        "drawn with": f"seed {take.seed}, guidance {take.guidance:g}, temperature {take.temperature:g}, "
        f"top-k {take.top_k}, {take.seconds:.2f} s by {take.model_id or 'an unknown model'}",
    }
    if take.prompt_seconds:
        rows["continues from"] = f"{take.prompt_seconds:.2f} s that were given"
    if take.windows:
        windows = (f"{one.start_s:.1f}-{one.end_s:.1f} s: {one.prompt}" for one in take.windows)
        rows["windows"] = "; ".join(windows)
    return rows


def code_html(take: Take, folder: Path | None = None) -> str:
    """Return the code that makes a take again, from its folder if it was saved, or why there is none."""
    try:
        words = f"<pre>{html.escape(reproduction_code(take, folder))}</pre>"
    except GenerationError as problem:
        words = f"<div class='wb-note'>{html.escape(str(problem))}</div>"
    return ui.box_html("wb-takes", words)


Reader = tuple[str, int, tuple[str, ...]]
"""Target, layer and classes of a probe: what tells the traces of one probe from those of others."""


class TakeScores(ui.Panel):
    """What probes read along takes, on the clock of their player; a click on a line plays from there."""

    def __init__(self, player: ComparisonPlayer) -> None:
        self.player = player
        self.traces: dict[Reader, dict[str, ProbeTrace]] = {}
        self.plot = ui.PlotPanel(name="scores_over_time", clock=player.key)
        self.plot.on_click(self._play)
        self.probe = ui.control(ipywidgets.Dropdown, "probe")
        self.class_ = ui.control(ipywidgets.Dropdown, "class")
        parts = [ui.in_row(self.probe, self.class_), self.plot]
        super().__init__(parts, hidden=True)
        ui.follow([self.probe], self._list_classes)
        ui.follow([self.class_], self._draw)

    def load(self, takes: Mapping[str, Take]) -> None:
        """Show the traces of these takes; probe and class stay chosen where they are still there."""
        traces: dict[Reader, dict[str, ProbeTrace]] = {}
        for name, take in takes.items():
            for trace in take.probe_traces:
                traces.setdefault((trace.target, trace.layer, trace.classes), {})[name] = trace
        self.traces = {}  # setting options moves the values, which must not draw
        readers = [(f"{reader[0]}, layer {reader[1]}", reader) for reader in traces]
        ui.offer(self.probe, readers, next(iter(traces), None))
        self.traces = traces
        self.layout.display = "" if traces else "none"
        self._list_classes()

    def _list_classes(self) -> None:
        if self.traces:
            most = _most_moved(self.traces[self.probe.value])
            ui.offer(self.class_, self.probe.value[2], most)
            self._draw()

    def _draw(self) -> None:
        if not self.traces or self.class_.value is None:
            return
        traces = self.traces[self.probe.value]
        seconds = max(clip.seconds for clip in self.player.sounds.values())
        self.plot.show(take_scores(traces, self.class_.value, seconds=seconds), table=_table(traces))

    def _play(self, points: ui.Points) -> None:
        if points:
            name = self.plot.figure["data"][points[0]["curve"]].get("name")
            self.player.play(name, at_s=float(points[0]["x"]))


def _most_moved(traces: Mapping[str, ProbeTrace]) -> str:
    """Return the class in whose mean the takes differ most: what steering has moved, as a rule."""
    means = np.stack([np.asarray(trace.probabilities).mean(axis=0) for trace in traces.values()])
    classes = next(iter(traces.values())).classes
    return classes[int(np.ptp(means, axis=0).argmax() if len(means) > 1 else means[0].argmax())]


def _table(traces: Mapping[str, ProbeTrace]) -> pd.DataFrame:
    parts = {
        name: pd.DataFrame(trace.probabilities, index=list(trace.seconds), columns=list(trace.classes))
        for name, trace in traces.items()
    }
    return pd.concat(parts, names=["take", "seconds"]).reset_index()


BARS = 30  # more are no longer read as bars
ROLLS = 4  # more are no longer compared by eye


def _of_player(name: str, doc: str) -> Any:
    """Return what a comparison shares with its player."""
    read = attrgetter(f"player.{name}")
    return property(read, lambda one, new: setattr(one.player, name, new), doc=doc)


class TakeComparison(ui.Panel):
    """Takes on one clock; below, as far as there is any: notes, probe scores, verdicts, damage, plans, code.

    Args:
        takes: name -> take; clips may stand among them, which are heard and judged.
        judges: by name, or just judges; each hears all clips.
        reference: name of the take (else an EvidenceError) that damage is measured beside; by default each
            steered take's unsteered twin (same prompt, seed and settings), where it is here.

    `play`, `stop`, `save`, `sounds`, `current`, `playing` and `level` are those of `player`.
    """

    def __init__(
        self,
        takes: Mapping[str, Take | Clip] | None = None,
        judges: Judges = (),
        *,
        reference: str | None = None,
    ) -> None:
        self.judges, self.loading = as_judges(judges), threading.RLock()
        self.player = ComparisonPlayer()
        self.scores = TakeScores(self.player)
        self.verdicts = {name: ui.PlotPanel(name=f"judged_{name}") for name in self.judges}
        self.rolls: list[ui.PlotPanel] = []
        self.damage, self.made = ipywidgets.HTML(), ipywidgets.HTML()
        self.likelihoods: dict[str, Likelihood] = {}
        self._heard: dict[tuple[str, Clip], dict[str, float]] = {}
        super().__init__()
        self.load(takes or {}, reference=reference)

    def load(self, takes: Mapping[str, Take | Clip], *, reference: str | None = None) -> None:
        """Replace what is compared, as when it was made; what plays stops."""
        made = {name: one for name, one in takes.items() if isinstance(one, Take)}
        if reference is not None and reference not in made:
            asked, found = f"Takes were to be compared with {reference!r}", ", ".join(made) or "none"
            raise EvidenceError.lookup(asked, f"the takes are {found}", "Name one of them")
        with self.loading:  # a worker may bring takes while somebody ticks others
            self.takes, self.twins = made, twins_of(made, reference)
            sounds = {n: one if isinstance(one, Clip) else one.clip for n, one in takes.items()}
            self.player.load(sounds, details={name: take.steering for name, take in made.items()})
            self.scores.load(made)
            self._judge()
            self.rolls = self._rolls()
            self.likelihoods = {}
            self._describe()
            verdicts = list(self.verdicts.values()) if takes else []
            words = [self.damage, self.made] if made else []
            self.children = [self.player, *self.rolls, self.scores, *verdicts, *words]

    def measure_likelihood(self, model: Model) -> None:
        """Add to the table how likely the `model` that made them finds each take unsteered."""
        likely = likelihood(model, list(self.takes.values()))
        self.likelihoods = dict(zip(self.takes, likely, strict=True))
        self._describe()

    def _judge(self) -> None:
        """Draw what each judge hears; a sound that was there before is not judged again."""
        clips = self.player.sounds
        parts = clips | {name: take.new for name, take in self.takes.items()}  # nobody made the given ones
        known, self._heard = self._heard, {}
        for target, judge in self.judges.items() if clips else ():
            new = [part for part in dict.fromkeys(parts.values()) if (target, part) not in known]
            rows = judge.probabilities(new).tolist() if new else ()
            fresh = [dict(zip(judge.classes, row, strict=True)) for row in rows]
            known |= {(target, part): shares for part, shares in zip(new, fresh, strict=True)}
            shown = {name: known[target, parts[name]] for name in clips}
            self._heard |= {(target, parts[name]): shares for name, shares in shown.items()}
            draw = judged_table if len(shown) * len(judge.classes) > BARS else judged_genres
            self.verdicts[target].show(draw(shown, target=target))

    def _rolls(self) -> list[ui.PlotPanel]:
        """Return the notes of the first takes whose codes are a score, on the player's clock."""
        seconds = max((clip.seconds for clip in self.player.sounds.values()), default=0.0)
        scores = {name: take.score() for name, take in self.takes.items() if take.has_score}
        return [
            ui.PlotPanel(
                piano_roll(score, name=name, seconds=seconds),
                table=score.table, name=f"notes_{name}", clock=self.player.key,
            )
            for name, score in list(scores.items())[:ROLLS]
        ]  # fmt: skip

    def _describe(self) -> None:
        self.damage.value = damage_html(self.takes, self.twins, self.likelihoods) if self.takes else ""
        made = [(name, _made(take), code_html(take)) for name, take in self.takes.items()]
        self.made.value = part("made", made) if made else ""

    play = _of_player("play", "Start at `at_s` seconds with the clip of a name, by default the open one.")
    stop = _of_player("stop", "Stop the sound and keep the place.")
    save = _of_player("save", "Write every clip as `<name>.wav` into a folder and return the paths.")
    sounds = _of_player("sounds", "The clips by name.")
    current = _of_player("current", "Which clip is open.")
    playing = _of_player("playing", "Whether the sound runs.")
    level = _of_player("level", "The loudest RMS (0-1) since the sound began.")


def compare(
    *sounds: Clip | Take, names: list[str] | None = None, judges: Judges = (), reference: str | None = None
) -> TakeComparison:
    """Return takes or clips beside each other: changed while they run, with all that is known of them.

    Args:
        sounds: takes (as `generate` gives them) or clips, at least one, else it is an AudioError.
        names: one name each; by default the plan of a take in words, or "unsteered", "clip 1" ... for clips.
        judges: as in `TakeComparison`.
        reference: as in `TakeComparison`.
    """
    if not sounds or (names is not None and len(names) != len(sounds)):
        found = f"{len(sounds)} sounds and names {names} were given"
        do = "Pass at least one sound, and one name for each or none"
        raise AudioError("A comparison was asked for", found, do)
    chosen = names or [
        f"clip {place}" if isinstance(sound, Clip) else take_words(sound)
        for place, sound in enumerate(sounds, start=1)
    ]
    return TakeComparison(dict(zip(distinct(chosen), sounds, strict=True)), judges, reference=reference)
