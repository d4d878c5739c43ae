"""What an evaluation works with, small: the tiny model, tones with labels, judges that know nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from recipe.evaluation.bench import Bench, Budget
from tones import tone_clip

from workbench.evidence.features import features
from workbench.sound import Clip, Dataset, Entry

RATE_HZ = 16_000


@dataclass(frozen=True)
class DeafJudge:
    """What the evaluation needs of a judge, without any training: a fixed random reading of the features."""

    target: str
    classes: tuple[str, ...]

    @property
    def card(self) -> dict[str, object]:
        return {"confusion (rows: truth)": np.eye(len(self.classes), dtype=int).tolist()}

    def probabilities(self, clips) -> np.ndarray:
        return self.probabilities_of(np.stack([features(clip) for clip in clips]))

    def probabilities_of(self, vectors) -> np.ndarray:
        weights = np.random.default_rng(0).normal(0, 0.3, (vectors.shape[1], len(self.classes)))
        odds = np.exp((logits := vectors @ weights) - logits.max(axis=1, keepdims=True))
        return odds / odds.sum(axis=1, keepdims=True)


def labelled_tones() -> Dataset:
    """Return 40 two-second tones: two genres, five grooves each, the other labels independent of both."""
    entries, sounds = [], {}
    for genre, name in enumerate(("jazz", "rock")):
        for i in range(20):
            id_ = f"{name}-{i}"
            labels = {"genre": name, "tempo": ("slow", "fast")[i % 2], "tempo_bpm": (75.0, 125.0)[i % 2],
                      "mode": ("major", "minor")[i // 2 % 2]}  # fmt: skip
            entries.append(Entry(id_, labels, f"{name}-groove-{i // 4}", f"test:{id_}", id_))
            sounds[id_] = Clip(tone_clip(genre, i), RATE_HZ)
    return Dataset(tuple(entries), "tones", lambda entry: sounds[entry.id])


def tiny_bench(model: Any, folder: Path) -> Bench:
    """Return a bench for the tiny model; `folder` gets a data folder and one for clips."""
    classes = {"genre": ("jazz", "rock"), "tempo": ("fast", "slow"), "mode": ("major", "minor")}
    judges = {target: DeafJudge(target, names) for target, names in classes.items()}
    data = folder / "repo" / "data" / "embedded"
    data.mkdir(parents=True)
    (folder / "repo" / "docs").mkdir()
    music, out = labelled_tones(), folder / "out"
    return Bench(model, music, judges, data, out, Budget(2), seconds=1.0, progress=False)
