"""Makes the takes of the steering lab: steered, unsteered, prompted and random, on one beginning and seed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.evidence.damage import damage
from workbench.evidence.dose_search import COSTS, Quality
from workbench.evidence.likelihood import likelihood
from workbench.generation.generate import generate
from workbench.show.widgets.job_panel import Job
from workbench.show.widgets.steer_lab_plan import plain_name
from workbench.show.widgets.steer_panel import CONTROL, UNSTEERED, frame_reporter
from workbench.steering.plan import Steering
from workbench.steering.together import randomised

if TYPE_CHECKING:
    from workbench.generation.draw import Readable
    from workbench.generation.take import Take
    from workbench.model.musicgen import Model
    from workbench.sound.clip import Clip

NOTHING = "silence"
"""The beginning of a take that goes on from nothing."""
KEPT = 16  # unsteered takes that are kept
LONGEST = 48  # letters of a take's name


@dataclass(frozen=True)
class Scene:
    """What all takes of one Generate share; `beginning` is the name of the sound that they go on from."""

    prompt: str
    seed: int
    seconds: float
    guidance: float
    beginning: str = NOTHING


@dataclass(frozen=True)
class Wanted:
    """One take: its prompt and its plan, None where nothing is pushed."""

    prompt: str
    plan: Steering | None


class TakeMaker:
    """Generates takes in one batch; those without a plan are kept, since moving a slider changes none.

    Args:
        model: the model.
        beginnings: name -> clip to go on from.
        probes: read while the takes are made.

    `pace` is how many seconds of sound it made in a second the last time, None before.
    """

    def __init__(self, model: Model, beginnings: Mapping[str, Clip], probes: Sequence[Readable]) -> None:
        self.model, self.beginnings, self.probes = model, dict(beginnings), tuple(probes)
        self.pace: float | None = None
        self._kept: dict[tuple[Scene, str], Take] = {}

    def make(self, scene: Scene, wanted: Mapping[str, Wanted], job: Job) -> dict[str, Take]:
        """Return the takes by name, in the order wanted.

        Raises:
            Cancelled: the job was cancelled; nothing is kept of it.
        """
        missing = {
            name: one
            for name, one in wanted.items()
            if one.plan is not None or (scene, one.prompt) not in self._kept
        }
        made = self._generate(scene, missing, job) if missing else {}
        kept = {(scene, wanted[n].prompt): take for n, take in made.items() if wanted[n].plan is None}
        every = {**self._kept, **kept}
        self._kept = dict(list(every.items())[-KEPT:])
        return {
            name: made[name] if name in made else every[scene, one.prompt] for name, one in wanted.items()
        }

    def _generate(self, scene: Scene, wanted: Mapping[str, Wanted], job: Job) -> dict[str, Take]:
        wait_for_model(self.model, job)
        job.progress(0.02, f"generating {len(wanted)} versions")
        began = time.monotonic()
        takes = generate(
            self.model,
            [one.prompt for one in wanted.values()],
            steering=[one.plan for one in wanted.values()],
            seed=scene.seed,
            seconds=scene.seconds,
            guidance=scene.guidance,
            audio=self.beginnings.get(scene.beginning),
            probes=self.probes,
            progress=False,
            on_frame=frame_reporter(job, self._frames(scene)),
            cancel=job.cancel,
        )
        self.pace = scene.seconds * len(wanted) / max(time.monotonic() - began, 1e-6)
        return dict(zip(wanted, takes, strict=True))

    def _frames(self, scene: Scene) -> float:
        """How many frames a take has, the given ones included."""
        given = self.beginnings.get(scene.beginning)
        return (scene.seconds + (given.seconds if given is not None else 0.0)) * self.model.frame_rate_hz


def wait_for_model(model: Model, job: Job) -> None:
    """Return once nobody else uses the model, and say meanwhile that it is waited for.

    Raises:
        Cancelled: the job was cancelled.
    """
    while not model.lock.acquire(timeout=0.2):
        job.progress(0.0, "waiting: the model plays or works elsewhere")
    model.lock.release()


def wanted_takes(
    scene: Scene, plan: Steering | None, *, prompted: bool = False, control: bool = False
) -> dict[str, Wanted]:
    """Return what is to be made, by name: the unsteered twin first.

    Args:
        scene: its seed also draws the random directions.
        plan: what is pushed, or None.
        prompted: whether the names are also said in words, without a push.
        control: whether random directions of equal norm are also pushed.
    """
    wanted = {UNSTEERED: Wanted(scene.prompt, None)}
    if plan is None:
        return wanted
    wanted[name_of(plan)] = Wanted(scene.prompt, plan)
    if prompted and in_words(scene.prompt, plan) != scene.prompt:
        told = in_words(scene.prompt, plan)
        wanted[f"in words: {told}"] = Wanted(told, None)
    if control:
        wanted[CONTROL] = Wanted(scene.prompt, randomised(plan, scene.seed))
    return wanted


def in_words(prompt: str, plan: Steering) -> str:
    """Return the prompt with the names that a plan pushes towards."""
    towards = [
        plain_name(term.direction.name)
        for term in plan.terms
        if term.operation != "remove" and (-term.dose if term.rows == "null" else term.dose) > 0
    ]
    return ", ".join([prompt, *dict.fromkeys(towards)])


def name_of(plan: Steering) -> str:
    """Return a plan's text without what goes without saying, cut where it would fill the page."""
    text = plan.text().replace(" | constant | cond", "")
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 2]} …"


def costs_of(model: Model, takes: Mapping[str, Take], twin: Take) -> dict[str, dict[str, float]]:
    """Return, by name, what each take costs against its unsteered twin (see `Quality`).

    nll_rise in nats per code, level_change_db in decibels, repetition_rise as a share; the given part of a
    continuation is left out of the sound.
    """
    every = [twin, *takes.values()]
    found = likelihood(model, every)
    rows = [{"nll": one.nll} | damage(take.new) for one, take in zip(found, every, strict=True)]
    return {
        name: {cost: row[column] - rows[0][column] for cost, column in COSTS.items()}
        for name, row in zip(takes, rows[1:], strict=True)
    }


def told(name: str, take: Take, cost: Mapping[str, float]) -> str:
    """Return in a sentence what the push changed, and whether the music still holds together."""
    used = Quality().used(cost)
    verdict = "the music holds" if used <= 1 else "this breaks the music: use a smaller dose"
    figures = (
        f"{cost['nll_rise']:+.2f} nats per code, {cost['level_change_db']:+.1f} dB, "
        f"{cost['repetition_rise']:+.2f} repetition"
    )
    return f"{name}: {take.receipt}; {verdict} ({figures})"
