"""What every part of the evaluation works with: model, music, judges, the folder of clips, the numbers."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from recipe.prompts import BARE_PROMPTS
from workbench.evidence.features import features
from workbench.evidence.judge import TrainedJudge
from workbench.evidence.trials import OnRow, PerAim, Row, Trial, of_aim
from workbench.generation.generate import generate
from workbench.generation.take import Take
from workbench.model.musicgen import Model
from workbench.sound import Clip, Dataset

FOLDERS = ("prompted", "unsteered", "steered", "random", "real", "against", "attributes")

FIRST_SEED: Mapping[str, int] = {
    "choose steered": 100,
    "choose steered again": 200,
    "choose against": 300,
    "choose attributes": 400,
    "choose attributes again": 500,
    "choose tempo": 600,
    "prompted": 5000,
    "neutral": 6000,
    "steered": 7000,
    "against": 8000,
    "tempo": 9000,
    "tempo random": 9500,
    "mode": 10_000,
    "mood": 11_000,
    "lead": 12_000,
    "choose doses": 30_000,
    "choose transitions": 31_000,
    "choose blends": 32_000,
    "choose pairs": 33_000,
    "doses": 40_000,
    "pairs": 41_000,
    "crosstalk": 42_000,
    "blends": 43_000,
    "transitions": 44_000,
}
"""Uses of seeds, far enough apart that they never meet: what is chosen on some is reported on others."""


@dataclass(frozen=True)
class Budget:
    """How many clips each part makes; everything follows from the judged clips per genre."""

    clips: int = 30
    random_directions: int = 10

    @property
    def neutral(self) -> int:
        """Clips from neutral prompts."""
        return 5 * self.clips

    @property
    def probed(self) -> int:
        """Shipped pieces per genre that are captured, at most."""
        return max(20, 7 * self.clips)

    @property
    def controls(self) -> int:
        """Random directions per aim."""
        return max(1, min(self.random_directions, self.clips // 3))

    @property
    def repeats(self) -> int:
        """Clips per ordered pair of genres, when steering goes against a prompt."""
        return max(1, self.clips // 10)

    def part(self, share: float) -> int:
        """Return a share of the clips per genre, at least one."""
        return max(1, round(share * self.clips))

    def seeds(self, use: str, count: int) -> tuple[int, ...]:
        """Return so many seeds for a use (see FIRST_SEED)."""
        return tuple(range(FIRST_SEED[use], FIRST_SEED[use] + count))


@dataclass(frozen=True)
class Bench:
    """A model to measure, and what it is measured with.

    Attributes:
        model: the model.
        music: labelled pieces; their genres are the genres.
        judges: by target; ``"genre"`` is needed, others are used where they are there.
        data: folder with what is published (weights, music, judges).
        out: folder for the judged clips.
        budget: numbers of clips.
        seconds: length of every clip.
        progress: whether to show progress bars.
    """

    model: Model
    music: Dataset
    judges: Mapping[str, TrainedJudge]
    data: Path
    out: Path
    budget: Budget = field(default_factory=Budget)
    seconds: float = 5.0
    progress: bool = True

    @property
    def genres(self) -> tuple[str, ...]:
        """The genres that the music has and the judge can hear."""
        return tuple(genre for genre in self.music.genres if genre in self.judges["genre"].classes)

    def layers(self, count: int) -> tuple[int, ...]:
        """Return at most so many layers to choose from, evenly spaced over the first three quarters.

        A push at the last layers has no layers left to act on.
        """
        last = 0.75 * (self.model.n_layers - 1)
        return tuple(sorted({round(layer) for layer in np.linspace(0, last, count)}))

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Take]:
        """Return an unsteered take per prompt and seed, with the checkpoint's own sampling."""
        options = {"seconds": self.seconds, "progress": self.progress}
        return generate(self.model, list(prompts), seed=list(seeds), **options)  # type: ignore[call-overload]

    def neutral(self, seeds: Sequence[int]) -> list[str]:
        """Return neutral prompts, taken in turn, one per seed."""
        return [BARE_PROMPTS[i % len(BARE_PROMPTS)] for i in range(len(seeds))]

    def keep(self, folder: str, prompts: PerAim, **subfolders: str) -> OnRow:
        """Return what keeps clips and their codes in `<folder>/<method, or its subfolder>/<aim>/`."""

        def write(trial: Trial, take: Take, _row: Row) -> None:
            place = self.out / folder / subfolders.get(trial.method, trial.method) / str(trial.aim)
            name = f"{trial.plan.terms[0].direction.name}-" if trial.method == "random" and trial.plan else ""
            name += f"prompt-{of_aim(prompts, str(trial.aim)).index(trial.prompt)}-seed-{take.seed}.wav"
            self.write(place / name, take.clip, take.codes)

        return write

    def write(self, path: Path, clip: Clip, codes: np.ndarray) -> None:
        """Keep a clip as WAV, and its codes (k, frames) beside it."""
        clip.write(path)
        np.save(path.with_suffix(".npy"), codes)

    def clear(self) -> None:
        """Remove the clips of an earlier evaluation, so that no two models lie side by side."""
        for name in FOLDERS:
            shutil.rmtree(self.out / name, ignore_errors=True)


@dataclass(frozen=True, eq=False)
class Heard:
    """Clips and what judges hear in them; the features are computed once for all judges."""

    clips: tuple[Clip, ...]
    vectors: np.ndarray  # (clips, n)

    @classmethod
    def of(cls, clips: Sequence[Clip]) -> Heard:
        """Return clips with their features."""
        return cls(tuple(clips), np.stack([features(clip) for clip in clips]))

    def odds(self, judge: TrainedJudge) -> np.ndarray:
        """Return the judge's probability of each class (clips, classes)."""
        return judge.probabilities_of(self.vectors)

    def classes(self, judge: TrainedJudge) -> np.ndarray:
        """Return the class that the judge hears in each clip (clips,)."""
        return np.array(judge.classes)[self.odds(judge).argmax(axis=1)]
