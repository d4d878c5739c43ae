"""Takes beside each other: heard on one clock, read by probes, judged, measured, and how each was made."""

from __future__ import annotations

import html
import threading
from collections.abc import Mapping
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

import ipywidgets
import numpy as np
import pandas as pd

from workbench.errors import AudioError, EvidenceError, GenerationError
from workbench.evidence.damage import damage
from workbench.evidence.judge import Judges, as_judges
from workbench.generation.reproduce import reproduction_code
from workbench.show.plots import judged_genres, judged_table, piano_roll, take_scores
from workbench.show.widgets.base import PlotPanel, Points, shown_in
from workbench.show.widgets.parts import FULL, STYLE, control, follow, in_row
from workbench.show.widgets.players import ComparisonPlayer, shortened
from workbench.sound.clip import Clip

if TYPE_CHECKING:
    from workbench.evidence.damage import Likelihood
    from workbench.generation.take import ProbeTrace, Take
    from workbench.model.musicgen import Model


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
    plain: dict[tuple[object, ...], str] = {}
    for name, take in takes.items():
        if not take.steering:
            plain.setdefault(_same(take), name)
    steered = {name: plain.get(_same(take)) for name, take in takes.items() if take.steering}
    return {name: twin for name, twin in steered.items() if twin is not None}


def _same(take: Take) -> tuple[object, ...]:
    """Return what a take and its unsteered twin must have in common."""
    given = round(take.prompt_seconds * take.codes.shape[-1] / take.seconds)
    sound = (take.codes[:, :given].tobytes(), take.melody, take.windows)
    settings = (take.guidance, take.temperature, take.top_k, take.codes.shape)
    return (take.model_id, take.prompt, take.seed, *settings, *sound)


def damage_html(takes: Mapping[str, Take], twins: Mapping[str, str], likely: Mapping[str, Likelihood]) -> str:
    """Return the measures of each take as a table, with the difference to its twin in brackets.

    Args:
        takes: by name.
        twins: name -> name of the take that it is measured beside.
        likely: name -> likelihood, where it was measured.
    """
    measured = {name: dict(damage(take.new)) for name, take in takes.items()}
    for name, one in likely.items():
        measured[name]["nll"] = one.nll
    shown = [name for name in MEASURES if any(name in values for values in measured.values())]
    head = "".join(f"<th scope='col'>{MEASURES[name][0]}</th>" for name in shown)
    rows = ""
    for name, values in measured.items():
        beside = measured.get(twins.get(name, ""), {})
        cells = "".join(f"<td>{_cell(measure, values, beside)}</td>" for measure in shown)
        rows += f"<tr><th scope='row'>{html.escape(name)}</th>{cells}</tr>"
    alone = [name for name, take in takes.items() if take.steering and name not in twins]
    note = f"In brackets: the change from {' and '.join(sorted(set(twins.values())))}." if twins else ""
    if alone:
        note += f" No unsteered take of the same prompt, seed and settings is here for {', '.join(alone)}."
    note = f"{note} None of these is a verdict: music may be loud, sparse or full of loops.".strip()
    return (
        f"<style>{STYLE}</style><div class='wb-takes'><table><thead><tr><th scope='col'>take</th>{head}</tr>"
        f"</thead><tbody>{rows}</tbody></table><div class='wb-note'>{html.escape(note)}</div></div>"
    )


def _cell(measure: str, values: Mapping[str, float], twin: Mapping[str, float]) -> str:
    if measure not in values:
        return ""
    _heading, times, form, unit = MEASURES[measure]
    number = f"{values[measure] * times:{form}}{unit}"
    return f"{number} ({(values[measure] - twin[measure]) * times:+z{form}})" if measure in twin else number


def made_html(takes: Mapping[str, Take]) -> str:
    """Return how each take was made, folded: plan, receipt, prompt, settings, code."""
    parts = "".join(_made(name, take) for name, take in takes.items())
    return f"<style>{STYLE}</style><div class='wb-takes'>{parts}</div>"


def _made(name: str, take: Take) -> str:
    rows = {
        "plan": f"<code>{html.escape(take.steering or 'unsteered')}</code>",
        "receipt": html.escape(str(take.receipt)),
        "prompt": html.escape(repr(take.prompt)),
        "drawn with": html.escape(
            f"seed {take.seed}, guidance {take.guidance:g}, temperature {take.temperature:g}, "
            f"top-k {take.top_k}, {take.seconds:.2f} s by {take.model_id or 'an unknown model'}"
        ),
    }
    if take.prompt_seconds:
        rows["continues from"] = f"{take.prompt_seconds:.2f} s that were given"
    if take.windows:
        rows["windows"] = html.escape(
            "; ".join(f"{one.start_s:.1f}-{one.end_s:.1f} s: {one.prompt}" for one in take.windows)
        )
    table = "".join(f"<tr><th scope='row'>{what}</th><td>{words}</td></tr>" for what, words in rows.items())
    try:
        code = f"<pre>{html.escape(reproduction_code(take))}</pre>"
    except GenerationError as problem:
        code = f"<div class='wb-note'>{html.escape(str(problem))}</div>"
    return (
        f"<details><summary>How <b>{html.escape(name)}</b> was made</summary><table>{table}</table>"
        f"<details><summary>The code that makes it again (one click selects it)</summary>{code}"
        "</details></details>"
    )


Reader = tuple[str, int, tuple[str, ...]]
"""Target, layer and classes of a probe: what tells the traces of one probe from those of others."""


class TakeScores(ipywidgets.VBox):
    """The readings of takes on the clock of their player; a click on a line plays that take from there.

    Empty, and hidden, while no take was watched by a probe.

    Args:
        player: plays the takes, under the same names.
    """

    def __init__(self, player: ComparisonPlayer) -> None:
        self.player = player
        self.traces: dict[Reader, dict[str, ProbeTrace]] = {}
        self.plot: PlotPanel | None = None
        self.probe = control(ipywidgets.Dropdown, "probe")
        self.class_ = control(ipywidgets.Dropdown, "class")
        self._controls = in_row(self.probe, self.class_)
        super().__init__([self._controls], layout={"display": "none", **FULL})
        follow([self.probe], self._list_classes)
        follow([self.class_], self._draw)

    def load(self, takes: Mapping[str, Take]) -> None:
        """Show the traces of these takes; probe and class stay chosen where they are still there."""
        probe, class_ = self.probe.value, self.class_.value
        traces: dict[Reader, dict[str, ProbeTrace]] = {}
        for name, take in takes.items():
            for trace in take.probe_traces:
                traces.setdefault((trace.target, trace.layer, trace.classes), {})[name] = trace
        self.traces = {}  # setting options moves the values, which must not draw
        self.probe.options = [(f"{reader[0]}, layer {reader[1]}", reader) for reader in traces]
        self.class_.options = []
        self.traces = traces
        self.layout.display = "" if traces else "none"
        if traces:
            self.probe.value = probe if probe in traces else next(iter(traces))
            self._list_classes()
            if class_ in self.class_.options:
                self.class_.value = class_

    def _list_classes(self) -> None:
        if self.traces:
            classes = list(self.probe.value[2])
            kept = self.class_.value
            self.class_.options = classes
            self.class_.value = kept if kept in classes else _most_moved(self.traces[self.probe.value])
            self._draw()

    def _draw(self) -> None:
        if not self.traces or self.class_.value is None:
            return
        traces = self.traces[self.probe.value]
        seconds = max(clip.seconds for clip in self.player.sounds.values())
        figure, table = take_scores(traces, self.class_.value, seconds=seconds), _table(traces)
        look = {"table": table, "name": "scores_over_time", "clock": self.player.key}
        self.plot = shown_in(self.plot, figure, on_click=self._play, **look)
        self.children = [self._controls, self.plot]

    def _play(self, points: Points) -> None:
        if self.plot is not None and points:
            name = self.plot.figure["data"][points[0]["curve"]].get("name")
            self.player.play(name, at_s=float(points[0]["x"]))


def _most_moved(traces: Mapping[str, ProbeTrace]) -> str:
    """Return the class in whose mean the takes differ most: what steering has moved, as a rule."""
    means = np.stack([np.asarray(trace.probabilities).mean(axis=0) for trace in traces.values()])
    classes = next(iter(traces.values())).classes
    return classes[int(np.ptp(means, axis=0).argmax() if len(means) > 1 else means[0].argmax())]


def _table(traces: Mapping[str, ProbeTrace]) -> pd.DataFrame:
    """Return a row per take and reading: take, seconds, P of each class."""
    parts = {
        name: pd.DataFrame(trace.probabilities, index=list(trace.seconds), columns=list(trace.classes))
        for name, trace in traces.items()
    }
    return pd.concat(parts, names=["take", "seconds"]).reset_index()


BARS = 30  # more are no longer read as bars
ROLLS = 4  # more are no longer compared by eye


class TakeComparison(ipywidgets.VBox):
    """Takes on one clock; below, as far as there is any: notes, probe scores, verdicts, damage, plans, code.

    Args:
        takes: name -> take; clips may stand among them, which are heard and judged.
        judges: by name, or just judges; each hears all clips.
        reference: name of the take that damage is measured beside; when None each steered take's unsteered
            twin (same prompt, seed and settings), where it is here.

    `play`, `stop`, `save`, `sounds`, `current`, `playing` and `level` are those of `player`.

    Raises:
        EvidenceError: there is no take of the reference's name.
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
        self.verdicts: dict[str, PlotPanel] = {}
        self.rolls: list[PlotPanel] = []
        self.damage, self.made = ipywidgets.HTML(), ipywidgets.HTML()
        self.likelihoods: dict[str, Likelihood] = {}
        self._heard: dict[tuple[str, int], dict[str, float]] = {}
        self._judged: Mapping[str, Clip] = {}  # held, so that no other clip takes over an id
        super().__init__(layout=FULL)
        self.load(takes or {}, reference=reference)

    def load(self, takes: Mapping[str, Take | Clip], *, reference: str | None = None) -> None:
        """Replace what is compared; what plays stops.

        Raises:
            EvidenceError: there is no take of the reference's name.
        """
        made = {name: one for name, one in takes.items() if not isinstance(one, Clip)}
        if reference is not None and reference not in made:
            asked, found = f"Takes were to be compared with {reference!r}", ", ".join(made) or "none"
            raise EvidenceError.lookup(asked, f"the takes are {found}", "Name one of them")
        with self.loading:  # a worker may bring takes while somebody ticks others
            self.takes, self.twins = made, twins_of(made, reference)
            self.player.load({n: one if isinstance(one, Clip) else one.clip for n, one in takes.items()})
            self.scores.load(made)
            self._judge()
            self.rolls = self._rolls()
            self.likelihoods = {}
            self._describe()
            verdicts = list(self.verdicts.values()) if takes else []
            words = [self.damage, self.made] if made else []
            self.children = [self.player, *self.rolls, self.scores, *verdicts, *words]

    def measure_likelihood(self, model: Model) -> None:
        """Add to the table how likely the unsteered `model` finds each take; `likelihoods` has it by name.

        Raises:
            EvidenceError: there is no take, or one is not this model's.
        """
        from workbench.evidence.damage import likelihood

        likely = likelihood(model, list(self.takes.values()))
        self.likelihoods = dict(zip(self.takes, likely, strict=True))
        self._describe()

    def _judge(self) -> None:
        """Draw what each judge hears; a clip that was there before is not judged again."""
        clips = self.player.sounds
        new_parts = {name: take.new for name, take in self.takes.items()}  # nobody made the given ones
        parts = {id(clip): new_parts.get(name, clip) for name, clip in clips.items()}
        heard: dict[tuple[str, int], dict[str, float]] = {}
        for judge_name, judge in self.judges.items() if clips else ():
            keys = {name: (judge_name, id(clip)) for name, clip in clips.items()}
            new = list({key: None for key in keys.values() if key not in self._heard})
            rows = judge.probabilities([parts[clip] for _judge, clip in new]) if new else ()
            fresh = [dict(zip(judge.classes, row.tolist(), strict=True)) for row in rows]
            known = {**self._heard, **dict(zip(new, fresh, strict=True))}
            shown = {name: known[key] for name, key in keys.items()}
            heard |= {key: known[key] for key in keys.values()}
            many = len(shown) * len(judge.classes) > BARS
            figure = (judged_table if many else judged_genres)(shown, target=judge_name)
            panel = self.verdicts.get(judge_name)
            self.verdicts[judge_name] = shown_in(panel, figure, name=f"judged_{judge_name}")
        self._heard, self._judged = heard, clips

    def _rolls(self) -> list[PlotPanel]:
        """The notes of the first takes whose codes are a score, on the player's clock."""
        seconds = max((clip.seconds for clip in self.player.sounds.values()), default=0.0)
        scores = {name: take.score() for name, take in self.takes.items() if take.has_score}
        return [
            PlotPanel(
                piano_roll(score, name=name, seconds=seconds),
                table=score.table, name=f"notes_{name}", clock=self.player.key,
            )
            for name, score in list(scores.items())[:ROLLS]
        ]  # fmt: skip

    def _describe(self) -> None:
        self.damage.value = damage_html(self.takes, self.twins, self.likelihoods) if self.takes else ""
        self.made.value = made_html(self.takes) if self.takes else ""

    def play(self, name: str | None = None, *, at_s: float = 0.0) -> None:
        """Start at `at_s` seconds, with the clip of that name open (else the current one)."""
        self.player.play(name, at_s=at_s)

    def stop(self) -> None:
        """Stop the sound and keep the place."""
        self.player.stop()

    def save(self, folder: Path | str) -> list[Path]:
        """Write every clip as `<name>.wav` into `folder` and return the paths."""
        return self.player.save(folder)

    sounds = property(attrgetter("player.sounds"), doc="The clips by name.")
    playing = property(attrgetter("player.playing"), doc="Whether the sound runs.")
    level = property(attrgetter("player.level"), doc="The loudest RMS (0-1) since the sound began.")

    @property
    def current(self) -> int:
        """Which clip is open."""
        return int(self.player.current)

    @current.setter
    def current(self, index: int) -> None:
        self.player.current = index


def compare(
    *sounds: Clip | Take, names: list[str] | None = None, judges: Judges = (), reference: str | None = None
) -> TakeComparison:
    """Return takes or clips beside each other: changed while they run, with all that is known of them.

    Args:
        sounds: takes (as `generate` gives them) or clips, two or more as a rule.
        names: one name each; by default "unsteered" or the plan of a take, "clip 1" ... for clips.
        judges: whose verdicts are drawn.
        reference: as in `TakeComparison`.

    Raises:
        AudioError: nothing is given, or the names do not fit.
        EvidenceError: there is no take of the reference's name.
    """
    if not sounds or (names is not None and len(names) != len(sounds)):
        found = f"{len(sounds)} sounds and names {names} were given"
        do = "Pass at least one sound, and one name for each or none"
        raise AudioError("A comparison was asked for", found, do)
    chosen = names or [
        f"clip {place}" if isinstance(sound, Clip) else shortened(sound.steering) or "unsteered"
        for place, sound in enumerate(sounds, start=1)
    ]
    return TakeComparison(dict(zip(_distinct(chosen), sounds, strict=True)), judges, reference=reference)


def _distinct(names: list[str]) -> list[str]:
    """Return the names with a number behind every repetition."""
    return [
        name if names.index(name) == i else f"{name} ({names[: i + 1].count(name)})"
        for i, name in enumerate(names)
    ]
