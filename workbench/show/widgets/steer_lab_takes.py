"""Makes the takes of the steering lab: steered, unsteered, prompted and random, on one beginning and seed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import ipywidgets

from workbench.errors import WorkbenchError
from workbench.evidence.damage import damage, likelihood
from workbench.evidence.search import COSTS, DOSES, AutoDose, DamageBudget, Space, auto_dose
from workbench.evidence.trials import Trial, make_takes
from workbench.generation.request import prompt_codes_of
from workbench.show.widgets.base import Job, JobPanel, WorkPanel
from workbench.show.widgets.panels import CONTROL, UNSTEERED, frame_reporter
from workbench.show.widgets.parts import FULL, control, follow, in_row, note_html, renamed
from workbench.show.widgets.steer_lab_plan import Group, plain_name
from workbench.steering.plan import Steering
from workbench.steering.together import randomised

if TYPE_CHECKING:
    from workbench.evidence.judge import Judge
    from workbench.generation.engine import Readable
    from workbench.generation.take import Take
    from workbench.model.musicgen import Model
    from workbench.sound.clip import Clip
    from workbench.steering.plan import Direction

NOTHING = "silence"
"""The beginning of a take that continues from nothing."""
KEPT = 16  # unsteered takes that are kept
LONGEST = 48  # letters of a take's name


@dataclass(frozen=True)
class TakeSettings:
    """What all takes of one Generate share; `beginning` is the name of the sound that they go on from."""

    seconds: float
    guidance: float
    beginning: str = NOTHING


class TakeMaker:
    """Generates takes in one batch; those without a plan are kept, since moving a slider changes none.

    Args:
        model: the model.
        beginnings: name -> clip to go on from.
        probes: read while the takes are made.

    Attributes:
        pace: seconds of sound that it made in a second the last time, None before.
    """

    def __init__(self, model: Model, beginnings: Mapping[str, Clip], probes: Sequence[Readable]) -> None:
        self.model, self.beginnings, self.probes = model, dict(beginnings), tuple(probes)
        self.pace: float | None = None
        self._kept: dict[tuple[TakeSettings, str, int], Take] = {}

    def make(self, settings: TakeSettings, wanted: Sequence[Trial], job: Job) -> dict[str, Take]:
        """Return the takes by the trials' methods, in their order.

        Raises:
            Cancelled: the job was cancelled; nothing is kept of it.
        """
        places = {one.method: (settings, one.prompt, one.seed) for one in wanted}
        missing = [one for one in wanted if one.plan is not None or places[one.method] not in self._kept]
        made = self._generate(settings, missing, job) if missing else {}
        kept = {places[one.method]: made[one.method] for one in missing if one.plan is None}
        every = {**self._kept, **kept}
        self._kept = dict(list(every.items())[-KEPT:])
        return {name: made[name] if name in made else every[place] for name, place in places.items()}

    def _generate(self, settings: TakeSettings, wanted: Sequence[Trial], job: Job) -> dict[str, Take]:
        wait_for_model(self.model, job)
        job.progress(0.02, f"generating {len(wanted)} versions")
        began, frames = time.monotonic(), settings.seconds * self.model.frame_rate_hz
        if settings.beginning in self.beginnings:
            codes = prompt_codes_of(self.model, self.beginnings[settings.beginning])
            wanted, frames = [replace(one, prompt_codes=codes) for one in wanted], frames + codes.shape[-1]
        takes = make_takes(
            self.model, wanted, seconds=settings.seconds, guidance=settings.guidance, probes=self.probes,
            progress=False, on_frame=frame_reporter(job, frames), cancel=job.cancel,
        )  # fmt: skip
        self.pace = settings.seconds * len(wanted) / max(time.monotonic() - began, 1e-6)
        return {one.method: take for one, take in zip(wanted, takes, strict=True)}


def wait_for_model(model: Model, job: Job) -> None:
    """Return once nobody else uses the model, and say meanwhile that it is waited for.

    Raises:
        Cancelled: the job was cancelled.
    """
    while not model.lock.acquire(timeout=0.2):
        job.progress(0.0, "waiting: the model plays or works elsewhere")
    model.lock.release()


def wanted_takes(
    prompt: str, seed: int, plan: Steering | None, *, prompted: bool = False, control: bool = False
) -> list[Trial]:
    """Return what is to be made, the unsteered baseline first; methods are the takes' names.

    Args:
        prompt: text of all but the prompted one.
        seed: of the takes, and of the random directions.
        plan: what is pushed, or None.
        prompted: whether the names are also said in words, without a push.
        control: whether random directions of equal norm are also pushed.
    """
    wanted = [Trial(prompt, seed, None, UNSTEERED)]
    if plan is None:
        return wanted
    wanted.append(Trial(prompt, seed, plan, name_of(plan)))
    if prompted and (words := in_words(prompt, plan)) != prompt:
        wanted.append(Trial(words, seed, None, f"in words: {words}"))
    if control:
        wanted.append(Trial(prompt, seed, randomised(plan, seed), CONTROL))
    return wanted


def in_words(prompt: str, plan: Steering) -> str:
    """Return the prompt with the names that a plan pushes towards."""
    towards = [
        plain_name(term.direction.name)
        for term in plan.terms
        if term.operation != "remove" and (-term.dose if term.branch == "null" else term.dose) > 0
    ]
    return ", ".join([prompt, *dict.fromkeys(towards)])


def name_of(plan: Steering) -> str:
    """Return a plan's text without what goes without saying, cut where it would fill the page."""
    text = plan.text().replace(" | constant | cond", "")
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 2]} …"


def costs_of(model: Model, takes: Mapping[str, Take], baseline: Take) -> dict[str, dict[str, float]]:
    """Return, by name, what each take costs against its unsteered baseline (see `DamageBudget`).

    nll_rise in nats per code, level_change_db in decibels, repetition_rise as a share; the given part of a
    continuation is left out of the sound.
    """
    every = [baseline, *takes.values()]
    found = likelihood(model, every)
    rows = [{"nll": one.nll} | damage(take.new) for one, take in zip(found, every, strict=True)]
    return {
        name: {cost: row[column] - rows[0][column] for cost, column in COSTS.items()}
        for name, row in zip(takes, rows[1:], strict=True)
    }


def cost_sentence(name: str, take: Take, cost: Mapping[str, float]) -> str:
    """Return in a sentence what the push changed, and whether the music still holds together."""
    used = DamageBudget().used(cost)
    verdict = "the music holds" if used <= 1 else "this breaks the music: use a smaller dose"
    figures = (
        f"{cost['nll_rise']:+.2f} nats per code, {cost['level_change_db']:+.1f} dB, "
        f"{cost['repetition_rise']:+.2f} repetition"
    )
    return f"{name}: {take.receipt}; {verdict} ({figures})"


EFFORTS = {
    "quick (3 and 6 seeds)": (3, 6),
    "usual (6 and 12 seeds)": (6, 12),
    "thorough (12 and 24 seeds)": (12, 24),
}
"""Words -> seeds that choose, further seeds that prove."""
FURTHER = 1000  # the first of the further seeds
_LABEL = {"style": {"description_width": "96px"}}


@dataclass(frozen=True)
class Aim:
    """What is searched for: a class of the judge of `target`, pushed by the direction of this name."""

    group: str
    name: str
    target: str


class DoseFinder(WorkPanel["AutoDose"]):
    """Searches the layer and dose at which one aim is best reached within a damage budget.

    Args:
        model: the model.
        groups: the directions; names that a judge knows as a class can be aimed at.
        judges: by target; may be empty, then there is nothing to aim at.
        method_of: the method chosen for a group.
        settings: seconds and guidance of the clips.
        pace: seconds of sound made in a second, None while that is unknown.
        on_found: called with the aim and what was found, where it kept within the budget.

    `start()` and `wait()` do what the button does; `result` is the last result.
    """

    found = renamed("DoseFinder", "found", "result")

    def __init__(
        self,
        model: Model,
        groups: Sequence[Group],
        judges: Mapping[str, Judge],
        *,
        method_of: Callable[[str], str],
        settings: Callable[[], dict[str, Any]],
        pace: Callable[[], float | None],
        on_found: Callable[[Aim, AutoDose], object],
    ) -> None:
        self.model, self.groups, self.judges = model, {group.name: group for group in groups}, dict(judges)
        self._method_of, self._settings, self._pace, self._on_found = method_of, settings, pace, on_found
        self.result: AutoDose | None = None
        aims = aims_of(groups, judges)
        efforts, kind = list(EFFORTS.items()), ipywidgets.Dropdown
        self.aim = control(kind, "aim", "320px", options=aims, disabled=not aims, **_LABEL)
        self.effort = control(kind, "effort", "320px", options=efforts, **_LABEL)
        self.nll_rise = _cost("nats lost", DamageBudget.nll_rise, "nats per code that may be lost")
        self.level_db = _cost("level (dB)", DamageBudget.level_change_db, "decibels that it may change")
        self.repetition = _cost("repetition", DamageBudget.repetition_rise, "share that may be added")
        self.note, self.verdict = ipywidgets.HTML(), ipywidgets.HTML()
        self.job = JobPanel(self._search, label="Find layer and dose", on_done=self._show)
        head = ipywidgets.HTML("<b>Budget</b>")
        budget = in_row(head, self.nll_rise, self.level_db, self.repetition)
        parts = [in_row(self.aim, self.effort), budget, self.note, self.job, self.verdict]
        super().__init__(parts, layout=FULL)
        follow([self.aim, self.effort], self.describe)
        self.describe()

    def wait(self, timeout_s: float | None = None) -> AutoDose:
        """Return the result once the search has ended; raises what the search raised."""
        return self.job.wait(timeout_s)[1]

    def aim_at(self, name: str) -> DoseFinder:
        """Choose an aim by its name.

        Raises:
            WorkbenchError: no judge hears a direction of this name.
        """
        for aim in self.aims:
            if aim.name == name:
                self.aim.value = aim
                return self
        names = ", ".join(aim.name for aim in self.aims) or "nothing"
        asked = f"A dose for {name!r} was to be searched"
        raise WorkbenchError(asked, f"judges hear directions of: {names}", "Aim at one of these")

    @property
    def aims(self) -> list[Aim]:
        """What can be aimed at."""
        return [aim for _words, aim in self.aim.options]

    @property
    def budget(self) -> DamageBudget:
        """What steering may cost."""
        return DamageBudget(
            float(self.nll_rise.value), float(self.level_db.value), float(self.repetition.value)
        )

    def describe(self) -> None:
        """Say how many clips the search makes as a rule, and at most how long that takes."""
        if not self.aims:
            self.note.value = note_html("No judge hears any of these directions: give judges to the lab.")
            return
        clips, seconds, pace = self._space().clips, self._settings()["seconds"], self._pace()
        length = "how long that takes is known once something has been generated"
        if pace is not None:
            length = f"about {spoken(clips * seconds / pace)}, or less, at the pace of the last run"
        self.note.value = note_html(
            f"About {clips} clips of {seconds:g} s from neutral prompts and seeds of their own; {length}. "
            "Layer and dose are chosen on some seeds and proved on others."
        )

    def _directions(self, aim: Aim) -> dict[int, Direction]:
        return self.groups[aim.group].by_layer(aim.name, self._method_of(aim.group))

    def _space(self) -> Space:
        few, further = self.effort.value
        layers = tuple(self._directions(self.aim.value))
        return Space(layers, DOSES, tuple(range(few)), tuple(range(FURTHER, FURTHER + further)))

    def _search(self, job: Job) -> tuple[Aim, AutoDose]:
        if not self.aims:
            asked, missing = "A dose was to be searched", "no judge hears any of the directions"
            raise WorkbenchError(asked, missing, "Give judges to the lab")
        aim, space, settings, budget = self.aim.value, self._space(), self._settings(), self.budget
        directions = self._directions(aim)  # now: the controls may move while the model is waited for
        wait_for_model(self.model, job)
        began = time.monotonic()

        def report(made: float) -> None:
            share = min(made / space.clips, 0.99)
            left = (time.monotonic() - began) * (1 / share - 1) if share > 0.02 else math.nan
            about = f", about {spoken(left)} left" if math.isfinite(left) else ""
            if not job.cancel.is_set():
                job.progress(share, f"clip {made:.0f} of about {space.clips}{about}")

        result = auto_dose(
            self.model, directions, aim.name, self.judges[aim.target], budget=budget,
            seeds=space.seeds, further_seeds=space.further_seeds, doses=space.doses, progress=False,
            on_clips=report, cancel=job.cancel, **settings,
        )  # fmt: skip
        return aim, result

    def _show(self, result: tuple[Aim, AutoDose]) -> None:
        aim, self.result = result
        done = "Layer and slider are set, the rest to how it was tried."
        set_ = done if self.result.within else "Nothing was set."
        self.verdict.value = note_html(f"{self.result.verdict} {set_}")
        if self.result.within:
            self._on_found(aim, self.result)


def aims_of(groups: Sequence[Group], judges: Mapping[str, Judge]) -> list[tuple[str, Aim]]:
    """Return what can be aimed at, with its words: names of directions that a judge knows as a class.

    A class of the judge of the group's own name comes before one of the same name elsewhere.
    """
    aims = []
    for group in groups:
        targets = sorted(judges, key=lambda target, own=group.name: target != own)  # type: ignore[misc]
        for name in group.names:
            heard = [target for target in targets if name in judges[target].classes]
            aims += [(f"{heard[0]}: {name}", Aim(group.name, name, heard[0]))] if heard else []
    return aims


def spoken(seconds: float) -> str:
    """Return a time as people say it.

    >>> spoken(42.3), spoken(200)
    ('42 s', '3.3 min')
    """
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"


def _cost(name: str, value: float, tooltip: str) -> ipywidgets.BoundedFloatText:
    numbers = {"min": 0.01, "max": 100, "step": 0.1, "value": value}
    hint = f"{name}: {tooltip}"
    return control(ipywidgets.BoundedFloatText, name, "190px", tooltip=hint, **numbers, **_LABEL)
