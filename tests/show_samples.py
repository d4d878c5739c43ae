"""What several tests of show use."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from workbench.probing import Projection
from workbench.show.plots.grammar import GENRE_COLOURS
from workbench.sound.clip import Clip

GENRES = sorted(GENRE_COLOURS)


def tone(hz: float, seconds: float = 1.0, *, rate_hz: int = 24000, level: float = 0.4) -> Clip:
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    return Clip(level * np.sin(2 * np.pi * hz * time), rate_hz)


def projection(count: int = 60) -> Projection:
    rng = np.random.default_rng(0)
    labels = pd.DataFrame({"genre": np.resize(GENRES, count), "tempo": rng.uniform(60, 180, count)})
    clips = np.array([f"clip-{place}" for place in range(count)])
    return Projection(
        points=rng.normal(size=(count, 2)),
        clips=clips,
        labels=labels,
        layer=2,
        site="resid_post",
        method="umap",
        seed=0,
        trustworthiness=0.9,
    )


EVIL = "<script>alert(1)</script>"


class Ear:
    """A judge that hears how loud a clip is, and counts the clips that it was asked about."""

    def __init__(self, target: str = "genre", classes: tuple[str, ...] = ("jazz", "rock")) -> None:
        self.target, self.classes, self.asked = target, classes, 0

    def probabilities(self, clips: Any) -> np.ndarray:
        self.asked += len(clips)
        loud = np.array([np.abs(clip.samples).mean() for clip in clips])
        odds = np.stack([loud + place for place in range(len(self.classes))], axis=1)
        return odds / odds.sum(1, keepdims=True)


JUDGED = {"unsteered": {"jazz": 0.25, "rock": 0.75}, "0.6*jazz@3": {"jazz": 0.875, "rock": 0.125}}


def sent_by(widget):
    """Return the list in which the widget's messages to the page will arrive."""
    sent = []
    widget.send = lambda content, buffers=None: sent.append((content, buffers))
    return sent
