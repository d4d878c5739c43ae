"""Short live sessions on the tiny model, whose clock runs fast, and hands that move their knobs."""

from __future__ import annotations

import random
import threading
import time
from typing import Any

import numpy as np
from steering_fixture import direction

from workbench.generation.live.pacing import Playback
from workbench.generation.live.session import LiveSession

WINDOWS = {"window_seconds": 1.2, "overlap_seconds": 0.4}  # 30 frames, 20 of them new


def knobs(model: Any) -> dict[str, Any]:
    return {
        "jazz": direction(model, 1),
        "rock": direction(model, 2, seed=1, name="rock"),
    }


class Heard(list):  # type: ignore[type-arg]
    """Collects pieces of sound."""

    def __call__(self, piece: Any) -> None:
        self.append(piece)

    @property
    def samples(self) -> np.ndarray:
        return np.concatenate([piece.samples for piece in self])


def session(model: Any, *, speed: float = 100.0, **settings: Any) -> LiveSession:
    return LiveSession(
        model, knobs(model), **{"playback": Playback(speed=speed), "seed": 3, **WINDOWS, **settings}
    )


class Hands(threading.Thread):
    """Moves knobs at random times until it is told to stop."""

    def __init__(self, live: LiveSession, seed: int, *, pause_s: float = 0.01) -> None:
        super().__init__(daemon=True)
        self.live, self.luck, self.pause_s = live, random.Random(seed), pause_s
        self.moves = 0
        self.done = threading.Event()

    def run(self) -> None:
        while not self.done.is_set():
            name = self.luck.choice(self.live.names)
            self.live.slide(name, round(self.luck.uniform(-1, 2), 3))
            if self.luck.random() < 0.1:
                self.live.prompt = self.luck.choice(["a calm tune", "rock", "sad jazz piano"])
            self.moves += 1
            self.done.wait(self.luck.uniform(0, self.pause_s))


def until(check: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.005)
