"""The steering lab: one plan in words for several attributes, takes on one beginning and seed, searches."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import ipywidgets
import numpy as np
import traitlets

from workbench.errors import SteeringError, WorkbenchError, renamed_attribute
from workbench.evidence.damage import damage, likelihood
from workbench.evidence.judge import Judge, Judges, as_judges
from workbench.evidence.search import COSTS, DOSES, AutoDose, DamageBudget, Space, auto_dose
from workbench.evidence.trials import UNSTEERED, Trial, make_takes
from workbench.generation.request import prompt_codes_of
from workbench.generation.take import Take
from workbench.model.musicgen import Model
from workbench.show.widgets import steer_lab_plan as p
from workbench.show.widgets import ui
from workbench.show.widgets.fader import LIMIT, DoseDesk
from workbench.show.widgets.history import TakeHistory
from workbench.show.widgets.players import ComparisonPlayer
from workbench.show.widgets.takes import TakeComparison, plan_words
from workbench.sound import Clip
from workbench.steering import Direction, Steering
from workbench.steering.together import randomised

CONTROL = "random direction"
KEPT = 16  # unsteered takes that are kept
DRAWN = 0.9  # share of a run that is drawing; the rest is decoding, measuring, judging
NOTHING = "silence"  # the beginning of a take that continues from nothing


class GeneratePanel(ui.WorkPanel[dict[str, Take]]):
    """Prompt, seconds, guidance, seed, a control of random directions, and Generate.

    Takes without a plan are kept, since moving a slider changes none. `wait()` returns the takes by name,
    "unsteered" first; `pace` is the seconds of sound made in a second the last time, None before. What was
    made is kept in `history`, whose ticked takes are compared; after its button the newest steered one plays.
    """

    history: TakeHistory
    player: ComparisonPlayer

    def _add_settings(
        self, model: Model, prompt: str, seconds: float, seed: int, guidance: float | None,
        *, folder: Path | str | None = None, judge: Judge | None = None,
    ) -> None:  # fmt: skip
        """Add the controls, the job and the history of what it made."""
        self.model = model
        self.takes: dict[str, Take] = {}
        self.pace: float | None = None
        self._kept: dict[tuple[object, ...], Take] = {}
        longest, follows = float(model.max_seconds), model.guidance if guidance is None else guidance
        slider = ipywidgets.FloatSlider
        lengths = {"min": min(1.0, longest), "max": longest, "step": 0.5, "value": min(seconds, longest)}
        self.prompt = ui.control(ipywidgets.Text, "prompt", "460px", value=prompt)
        self.seconds = ui.control(slider, "seconds", "340px", **lengths)
        self.guidance = ui.control(
            slider, "guidance", "340px", min=1, max=8, step=0.5, value=follows,
            tooltip="how closely the text is followed",
        )  # fmt: skip
        self.seed = ui.control(ipywidgets.BoundedIntText, "seed", "200px", min=0, max=2**31 - 1, value=seed)
        self.control = ui.tick_box("also random directions of equal norm")
        self.prompted = ui.tick_box("also the same in words, without a push")
        self.job = ui.JobPanel(
            self._generate, label="Generate", on_done=self._show,
            size=lambda: float(self.seconds.value) * len(self._missing(self._wanted())),  # seconds of sound
            kind=("Generate", self.model.id, str(self.model.device)),
        )  # fmt: skip
        self.history = TakeHistory(folder, judge, on_play=self._play, on_open=self.set_to)
        ui.follow([self.history], lambda: self._hear_takes(self.history.chosen_takes), "chosen")
        ui.follow([self.seconds, self.prompt, self.seed, self.guidance, self.control], self.job.foretell)

    def set_to(self, take: Take) -> None:
        """Set prompt, seed, seconds, guidance and plan to a take's.

        A SteeringError where the take does not carry its plan, it does not fit, or cannot be said here.
        """
        if take.steering and take.plan is None:
            asked = f"The take steered by {take.steering!r} was to be opened"
            raise SteeringError(asked, "its directions were not kept with it", "Generate it again")
        plan = take.plan or Steering()
        plan.check(self.model)
        self._say_plan(plan)
        self.prompt.value, self.seed.value = take.prompt, take.seed
        self.seconds.value, self.guidance.value = round(take.new.seconds, 2), take.guidance

    def _show(self, takes: dict[str, Take]) -> None:
        self.takes = takes
        listed = {self._listed(name, take): take for name, take in takes.items()}
        kept = [name for name in listed if name in self.history.takes]  # a full list drops some
        self.history.chosen = kept
        if self.job.pressed and kept:
            self._play(next((name for name in kept if listed[name].steering), kept[0]))

    def _listed(self, name: str, take: Take) -> str:
        """Return the name of a take in the history, which gets it unless it is there already."""
        names = (old for old, one in self.history.takes.items() if one == take)
        return next(names, None) or self.history.add(name, take)

    def _play(self, name: str) -> None:
        """Let a take of the history be heard among those that are ticked."""
        if name not in self.history.chosen:
            self.history.chosen = [*self.history.chosen, name]
        self.player.play(name)

    def _missing(self, wanted: Sequence[Trial]) -> list[Trial]:
        return [one for one in wanted if one.plan is not None or self._place(one) not in self._kept]

    def _place(self, one: Trial) -> tuple[object, ...]:
        """Return what an unsteered take is kept by."""
        settings = float(self.seconds.value), float(self.guidance.value)
        return (one.prompt, one.seed, self._beginning(), *settings)

    def _beginning(self) -> Clip | None:
        return None

    @property
    def steering(self) -> Steering | None:
        """The plan; None where nothing is pushed."""
        raise NotImplementedError

    def _wanted(self) -> list[Trial]:
        more = {"prompted": self.prompted.value, "control": self.control.value}
        return wanted_takes(self.prompt.value, self.seed.value, self.steering, **more)

    def _generate(self, job: ui.Job) -> dict[str, Take]:
        return self._make(self._wanted(), job)

    def _hear_takes(self, takes: Mapping[str, Take]) -> None:
        raise NotImplementedError

    def _say_plan(self, plan: Steering) -> None:
        raise NotImplementedError

    def _make(self, wanted: Sequence[Trial], job: ui.Job, **options: Any) -> dict[str, Take]:
        """Return the takes by the trials' methods, drawn in one batch; nothing is kept of a cancelled job."""
        settings = {"seconds": float(self.seconds.value), "guidance": float(self.guidance.value)}
        places, beginning = {one.method: self._place(one) for one in wanted}, self._beginning()
        missing = self._missing(wanted)
        made: dict[str, Take] = {}
        if missing:
            wait_for_model(self.model, job)
            job.progress(0.0, f"generating {len(missing)} version{'s' * (len(missing) > 1)}")
            began, frames = time.monotonic(), settings["seconds"] * self.model.frame_rate_hz
            if beginning is not None:
                codes = prompt_codes_of(self.model, beginning)
                missing = [replace(one, prompt_codes=codes) for one in missing]
                frames += codes.shape[-1]

            def report(done: int, _codes: object) -> None:
                share = min(done / max(frames, 1.0), 1.0)
                if not job.cancel.is_set():  # stopping is the event's affair
                    job.progress(DRAWN * share, f"{share:.0%} of the sound")

            more = {"progress": False, "on_frame": report, "cancel": job.cancel, **options}
            takes = make_takes(self.model, missing, **settings, **more)
            self.pace = settings["seconds"] * len(missing) / max(time.monotonic() - began, 1e-6)
            made = {one.method: take for one, take in zip(missing, takes, strict=True)}
        every = self._kept | {places[one.method]: made[one.method] for one in missing if one.plan is None}
        self._kept = dict(list(every.items())[-KEPT:])
        return {name: made[name] if name in made else every[place] for name, place in places.items()}


def wait_for_model(model: Model, job: ui.Job) -> None:
    """Return once nobody else uses the model, and say meanwhile that it is waited for; raises `Cancelled`."""
    while not model.lock.acquire(timeout=0.2):
        job.progress(0.0, "waiting: the model plays or works elsewhere")
    model.lock.release()


def wanted_takes(
    prompt: str, seed: int, plan: Steering | None, *, prompted: bool = False, control: bool = False
) -> list[Trial]:
    """Return the trials, unsteered first; also in words (`prompted`) and random directions (`control`)."""
    wanted = [Trial(prompt, seed, None, UNSTEERED)]
    if plan is None:
        return wanted
    wanted.append(Trial(prompt, seed, plan, plan_words(plan)))
    if prompted and (words := in_words(prompt, plan)) != prompt:
        wanted.append(Trial(words, seed, None, f"in words: {words}"))
    if control:
        wanted.append(Trial(prompt, seed, randomised(plan, seed), CONTROL))
    return wanted


def in_words(prompt: str, plan: Steering) -> str:
    """Return the prompt with the names that a plan pushes towards."""
    towards = [
        p.plain_name(term.direction.name)
        for term in plan.terms
        if term.operation != "remove" and (-term.dose if term.branch == "null" else term.dose) > 0
    ]
    return ", ".join([prompt, *dict.fromkeys(towards)])


def cost_words(model: Model, takes: Mapping[str, Take]) -> list[str]:
    """Return for each take but the unsteered what was changed, and whether the music holds together."""
    found = likelihood(model, list(takes.values()))
    rows = {name: {"nll": one.nll} | damage(takes[name].new) for name, one in zip(takes, found, strict=True)}
    before, told = rows.pop(UNSTEERED), []
    for name, row in rows.items():
        cost = {cost: row[column] - before[column] for cost, column in COSTS.items()}
        holds = DamageBudget().used(cost) <= 1
        verdict = "the music holds" if holds else "this breaks the music: use a smaller dose"
        figures = (
            f"{cost['nll_rise']:+.2f} nats per code, {cost['level_change_db']:+.1f} dB, "
            f"{cost['repetition_rise']:+.2f} repetition"
        )
        told.append(f"{name}: {takes[name].receipt}; {verdict} ({figures})")
    return told


_SEEDS = {"quick": (3, 6), "usual": (6, 12), "thorough": (12, 24)}
EFFORTS = {f"{name} ({few} and {more} seeds)": (few, more) for name, (few, more) in _SEEDS.items()}
"""Words -> seeds that choose, further seeds that prove."""
FURTHER = 1000  # the first of the further seeds


@dataclass(frozen=True)
class Aim:
    """What is searched for: a class of the judge of `target`, pushed by the direction of this name."""

    group: str
    name: str
    target: str


class DoseFinder(ui.WorkPanel["AutoDose"]):
    """Searches the layer and dose at which one aim of a lab is best reached within a damage budget.

    Aims are the lab's directions whose names one of its judges knows as a class. What kept within the budget
    is set in the lab; `result` is what was found last.
    """

    found = renamed_attribute("found", "result")

    def __init__(self, lab: SteerLab) -> None:
        self.lab = lab
        self.result: AutoDose | None = None
        self.aim, self.effort = p.choice("aim", aims_of(lab.groups, lab.judges)), p.choice("effort", EFFORTS)
        self.aim.disabled = not self.aims
        self.nll_rise = _cost("nats lost", DamageBudget.nll_rise, "nats per code that may be lost")
        self.level_db = _cost("level (dB)", DamageBudget.level_change_db, "decibels that it may change")
        self.repetition = _cost("repetition", DamageBudget.repetition_rise, "share that may be added")
        self.note, self.verdict = ipywidgets.HTML(), ipywidgets.HTML()
        self.job = ui.JobPanel(self._search, label="Find layer and dose", on_done=self._show)
        budget = ipywidgets.HTML("<b>Budget</b>"), self.nll_rise, self.level_db, self.repetition
        above = [ui.in_row(self.aim, self.effort), ui.in_row(*budget)]
        super().__init__([*above, self.note, self.job, self.verdict])
        ui.follow([self.aim, self.effort], self.describe)
        self.describe()

    def aim_at(self, name: str) -> DoseFinder:
        """Choose an aim by its name; a WorkbenchError where no judge hears a direction of this name."""
        aims = {aim.name: aim for aim in self.aims}
        if name not in aims:
            asked, found = f"A dose for {name!r} was to be searched", ", ".join(aims) or "nothing"
            raise WorkbenchError(asked, f"judges hear directions of: {found}", "Aim at one of these")
        self.aim.value = aims[name]
        return self

    @property
    def aims(self) -> list[Aim]:
        """What can be aimed at."""
        return [aim for _words, aim in self.aim.options]

    @property
    def budget(self) -> DamageBudget:
        """What steering may cost."""
        return DamageBudget(*(float(one.value) for one in (self.nll_rise, self.level_db, self.repetition)))

    def describe(self) -> None:
        """Say how many clips the search makes as a rule, and at most how long that takes."""
        if not self.aims:
            self.note.value = ui.note_html("No judge hears any of these directions: give judges to the lab.")
            return
        clips, seconds, pace = self._space().clips, self.lab.seconds.value, self.lab.pace
        length = "how long that takes is known once something has been generated"
        if pace is not None:
            length = f"about {ui.spoken(clips * seconds / pace)}, or less, at the pace of the last run"
        self.note.value = ui.note_html(
            f"About {clips} clips of {seconds:g} s from neutral prompts and seeds of their own; {length}. "
            "Layer and dose are chosen on some seeds and proved on others."
        )

    def _space(self) -> Space:
        few, further = self.effort.value
        layers = tuple(self.lab.directions_of(self.aim.value.name))
        return Space(layers, DOSES, tuple(range(few)), tuple(range(FURTHER, FURTHER + further)))

    def _search(self, job: ui.Job) -> AutoDose:
        if not self.aims:
            asked, missing = "A dose was to be searched", "no judge hears any of the directions"
            raise WorkbenchError(asked, missing, "Give judges to the lab")
        lab, space, budget, aim = self.lab, self._space(), self.budget, self.aim.value
        self._sought = aim
        directions = lab.directions_of(aim.name)  # now: the controls may move while the model is waited for
        settings = {"seconds": lab.seconds.value, "guidance": lab.guidance.value}
        wait_for_model(lab.model, job)
        job.progress(0.0, f"about {space.clips} clips")

        def report(made: float) -> None:
            share = min(made / space.clips, 0.99)
            if not job.cancel.is_set():
                job.progress(share, f"clip {made:.0f} of about {space.clips}")

        return auto_dose(
            lab.model, directions, aim.name, lab.judges[aim.target], budget=budget,
            seeds=space.seeds, further_seeds=space.further_seeds, doses=space.doses, progress=False,
            on_clips=report, cancel=job.cancel, **settings,
        )  # fmt: skip

    def _show(self, result: AutoDose) -> None:
        self.result, done = result, "Nothing was set."
        if result.within:
            done = "Layer and slider are set, the rest to how it was tried."
            self.lab.use(self._sought, result)
        self.verdict.value = ui.note_html(f"{result.verdict} {done}")


def aims_of(groups: Sequence[p.Group], judges: Mapping[str, Judge]) -> dict[str, Aim]:
    """Return what can be aimed at, by its words: names that a judge knows, the group's own judge first."""
    aims = {}
    for group in groups:
        own = [group.name] if group.name in judges else []
        for name in group.names:
            heard = [target for target in [*own, *judges] if name in judges[target].classes]
            if heard:
                aims[f"{heard[0]}: {name}"] = Aim(group.name, name, heard[0])
    return aims


def _cost(name: str, value: float, tooltip: str) -> ipywidgets.BoundedFloatText:
    return p.number(name, value, min=0.01, max=100, tooltip=f"{name}: {tooltip}")


class SteerLab(GeneratePanel):
    """A dose for every direction, one plan in words, Generate, and all takes side by side.

    Args:
        directions: group -> name -> unit Direction, or group -> ProbeSweep (its layer is a choice), or group
            -> how they were found -> ProbeSweep; or just name -> Direction. No name may stand twice: where
            they make no groups, it is a SteeringError.
        judges: target -> judge or its name, or just judges; they hear the takes, and doses are searched.
        probes: read while takes are made, also by gates; by default the last layer's of every group.
        beginnings: name -> clip that a take can go on from.
        seconds: of a take; the new part where it continues from a sound.
        pad: four of the names (else a SteeringError), for a pad that blends them.
        folder: where takes are kept; see `TakeHistory`.

    `sliders["jazz"].value = 0.15` moves a slider, `text` is the plan as it is written, `steering` the plan as
    it is meant; `options` are how, when and where it acts, and `finder` searches doses.
    """

    text = traitlets.Unicode("none")
    way = renamed_attribute("way", "options")

    def __init__(
        self, model: Model, directions: Any, judges: Judges | None = None, *, probes: Sequence[Any] = (),
        beginnings: Mapping[str, Clip] | None = None, prompt: str = "a calm tune", seconds: float = 5.0,
        seed: int = 0, guidance: float | None = None, pad: Sequence[str] | None = None,
        folder: Path | str | None = None,
    ) -> None:  # fmt: skip
        self.judges, self.groups = as_judges(judges or {}), p.groups_of(directions)
        watched = tuple(probes) or tuple(group.probe for group in self.groups if group.probe)
        self.beginnings, self.probes = dict(beginnings or {}), watched
        judge = next(iter(self.judges.values()), None)
        self._add_settings(model, prompt, seconds, seed, guidance, folder=folder, judge=judge)
        names, hint = [NOTHING, *self.beginnings], "the sound that the take begins with"
        self.beginning = ui.control(ipywidgets.Dropdown, "go on from", options=names, tooltip=hint)
        self.beginning.layout.display = "" if self.beginnings else "none"
        self.costs = ipywidgets.HTML()
        named = {group.name: group.names for group in self.groups}
        self.desk = DoseDesk(named, pad, self._rewrite, breaks=model.breaking_dose)
        self.sliders, self.pad, readers = self.desk.sliders, self.desk.pad, p.readers_of(watched)
        self.options = p.SteeringOptions(self.groups, readers, self._rewrite)
        self.line = p.PlanLine(model, self.groups, readers, self._method_of)
        self.finder = DoseFinder(self)
        self.comparison = TakeComparison(None, judges=self.judges)
        self.player = self.comparison.player
        more = ipywidgets.Accordion(
            [ipywidgets.VBox([self.options, ui.in_row(self.seed, self.guidance)]), self.finder],
            titles=["How, when, where", "Find the dose for me"], selected_index=None,
        )  # fmt: skip
        super().__init__([
            ui.in_row(self.prompt, self.beginning, self.seconds), self.desk, self.line, more,
            ui.in_row(self.prompted, self.control), self.job, self.costs, self.history, self.comparison,
        ])  # fmt: skip
        traitlets.link((self.line, "text"), (self, "text"))
        ui.follow([self.seconds], self.finder.describe)
        ui.follow([self.beginning, self.prompted], self.job.foretell)
        self._rewrite()

    @property
    def steering(self) -> Steering | None:
        """The plan that was last understood, from sliders or text; None where nothing is pushed."""
        return self.line.steering

    @property
    def doses(self) -> dict[str, float]:
        """What the sliders say, by name."""
        return self.desk.doses

    def push(self, **doses: float) -> SteerLab:
        """Set every slider at once, those not named to 0; a SteeringError where there is none of a name."""
        self.desk.move({**dict.fromkeys(self.sliders, 0.0), **doses})
        return self

    def directions_of(self, name: str) -> dict[int, Direction]:
        """Return the directions of a name by layer, as the chosen method of its group has found them."""
        (group,) = (one for one in self.groups if name in one.names)
        return dict(group.found[self._method_of(group.name)][name])

    def close(self) -> None:
        """Stop what is running, then close."""
        if hasattr(self, "finder"):
            self.job.cancel()
            self.finder.job.cancel()
        super().close()

    def _method_of(self, group: str) -> str:
        return str(self.options.methods[group].value)

    def _rewrite(self) -> None:
        self.line.write(lambda: p.plan_of(self._pushes(), **self.options.settings))

    def _pushes(self) -> list[tuple[float, dict[int, Direction]]]:
        """Return each dose that is not 0, with its direction by layer: at the chosen one, or at all."""
        pushes, doses = [], self.doses
        for group in self.groups:
            for name in filter(doses.get, group.names):
                directions = self.directions_of(name)
                if group.layers and not self.options.spread.value:
                    layer = self.options.layers[group.name].value
                    directions = {layer: directions[layer]}
                pushes.append((doses[name], directions))
        return pushes

    def use(self, aim: Aim, found: AutoDose) -> None:
        """Set the layer and the dose that a search has found, and all else to how it was tried."""
        with self.options.together():
            self.options.plain()
            if aim.group in self.options.layers:
                self.options.layers[aim.group].value = found.layer
            self.desk.move({aim.name: found.dose})

    def _generate(self, job: ui.Job) -> dict[str, Take]:
        """Return the takes, and say what each push changed; a text that is no plan makes none."""
        if self.line.fault is not None:
            raise self.line.fault
        takes = self._make(self._wanted(), job, probes=self.probes)
        job.progress(0.95, "measuring")
        told = cost_words(self.model, takes) if len(takes) > 1 else []
        self.costs.value = "".join(map(ui.note_html, told))
        return takes

    def _beginning(self) -> Clip | None:
        return self.beginnings.get(self.beginning.value)

    def _show(self, takes: dict[str, Take]) -> None:
        super()._show(takes)
        self.finder.describe()

    def _hear_takes(self, takes: Mapping[str, Take]) -> None:
        self.comparison.load(takes)

    def set_to(self, take: Take) -> None:
        """Set prompt, beginning, seed, seconds, guidance and plan to a take's, by the faders or in the line.

        A SteeringError where the take does not carry its plan, it does not fit, or its beginning is not here.
        """
        begun, given = [NOTHING], round(take.prompt_seconds * self.model.frame_rate_hz)
        if given:
            heard = {name: prompt_codes_of(self.model, clip) for name, clip in self.beginnings.items()}
            begun = [name for name, one in heard.items() if np.array_equal(one, take.codes[:, :given])]
        if not begun:
            asked, found = "A take was to be opened", "the sound that it goes on from is none of the lab's"
            raise SteeringError(asked, found, "Make the lab with that sound among its beginnings")
        super().set_to(take)
        self.beginning.value = begun[0]

    def _say_plan(self, plan: Steering) -> None:
        self._follow_plan(plan)
        now = () if self.steering is None else self.steering.terms
        if self.line.fault is not None or set(plan.terms) != set(now):
            with self.options.together():
                self.options.plain()
                self.push()
            self.line.write(lambda: plan, p.NOT_SHOWN)

    def _follow_plan(self, plan: Steering) -> None:
        """Put faders and options to a plan, as far as they can say it."""
        doses: dict[str, float] = {}
        with self.options.together():
            self.options.plain()
            for term in plan.terms:
                self.options.follow(term)
                places = (place for place in p.every_place(self.groups) if place[0] == term.direction)
                for _direction, group, method, name, layer in islice(places, 1):
                    self.options.methods[group.name].value = method
                    if group.layers:
                        self.options.layers[group.name].value = layer
                    self.options.spread.value |= name in doses
                    doses[name] = round(doses.get(name, 0.0) + p.fader_dose(term), 6)
            self.push(**{name: dose for name, dose in doses.items() if abs(dose) <= LIMIT})
