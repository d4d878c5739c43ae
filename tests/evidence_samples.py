"""What several tests of evidence use."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from steering_fixture import direction

from workbench.evidence.trials import Trial, trials
from workbench.generation.generate import generate
from workbench.generation.take import Take
from workbench.model import network as network_module

GENRE, MODE = ("jazz", "rock"), ("major", "minor")


CLASSES = {"genre": GENRE, "mode": MODE}


N = 20


def clips(method: str, jazz, minor) -> pd.DataFrame:
    """Return N clips of a method by P(jazz) and P(minor), in an order of its own."""
    seeds = np.arange(N)
    jazz, minor = (np.broadcast_to(np.asarray(p, float), N) for p in (jazz, minor))
    table = pd.DataFrame(
        {
            "method": method, "prompt": np.where(seeds % 2, "a song", "a tune"), "seed": seeds,
            "p_genre_jazz": jazz, "p_genre_rock": 1 - jazz, "p_mode_major": 1 - minor, "p_mode_minor": minor,
            "judged_genre": np.where(jazz > 0.5, "jazz", "rock"),
            "judged_mode": np.where(minor > 0.5, "minor", "major"),
        }
    )  # fmt: skip
    return table.sample(frac=1, random_state=len(method))


def noise(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.2, 0.2, N)


def heard() -> pd.DataFrame:
    """jazz: P(jazz) rises by 0.4 beside noise that the twin shares, and drags minor along by 0.1."""
    return pd.concat(
        [
            clips("unsteered", 0.3 + noise(), 0.3),
            clips("jazz", 0.7 + noise(), 0.4),
            clips("minor", 0.3 + noise(), np.r_[[0.9] * 15, [0.1] * 5]),
            clips("nothing", 0.3 + noise(), 0.3),
        ],
        ignore_index=True,
    )


AIMS = {"jazz": ("genre", "jazz"), "minor": ("mode", "minor")}


def seen_while_drawing(
    model: Any, prompt: str, *, monkeypatch: Any, **more: Any
) -> tuple[Take, torch.Tensor]:
    """Return a take at guidance 1 and the logits (steps, k, V) that each step was drawn from."""
    seen: list[torch.Tensor] = []
    draw = network_module.draw

    def watch(logits: torch.Tensor, run: Any) -> torch.Tensor:
        seen.append(logits[0].clone())
        return draw(logits, run)

    monkeypatch.setattr(network_module, "draw", watch)
    take = generate(model, prompt, seed=3, seconds=1.0, guidance=1.0, progress=False, **more)
    monkeypatch.undo()
    return take, torch.stack(seen)


class Peak:
    """Hears "loud" with the probability of the peak."""

    target, classes, rate_hz = "level", ("loud", "soft"), 16_000

    def probabilities(self, clips) -> np.ndarray:
        peaks = np.array([min(clip.peak, 1.0) for clip in clips])
        return np.stack([peaks, 1 - peaks], axis=1)


def listed(model) -> list[Trial]:
    plans = {"push": direction(model, 1).at(0.5), "pull": direction(model, 1).at(-0.5)}
    return trials(plans, ["a tune", "a song"], [1, 2])
