"""What several tests of steering use."""

from __future__ import annotations

import numpy as np

from workbench.steering import Direction
from workbench.steering.schedule import Schedule, constant, decay, fade, knots, pulse, ramp, window


def direction(name: str) -> Direction:
    vector = np.eye(16, dtype=np.float32)[len(name) % 16]
    return Direction(vector, 2, name=name, residual_norm=5.0)


def unit(name: str, layer: int = 5, seed: int = 0, **changes) -> Direction:
    vector = np.random.default_rng([seed, *name.encode()]).standard_normal(16).astype(np.float32)
    kept = {"name": name, "residual_norm": 20.0, "origin": {"model_id": "m"}}
    return Direction(vector, layer, **(kept | changes)).unit()


JAZZ, ROCK = unit("jazz"), unit("rock")


def random_schedule(rng: np.random.Generator) -> Schedule:
    """Return a schedule of a random kind with random numbers of awkward sizes."""
    start, length = abs(float(rng.normal())) * 10.0 ** rng.integers(-6, 4), 0.01 + abs(float(rng.normal()))
    times = np.cumsum(rng.random(int(rng.integers(1, 6))) + 1e-3)
    makers = [
        constant,
        lambda: window(start, start + length),
        lambda: ramp(start, start + length),
        lambda: fade(start, start + length),
        lambda: pulse(length, width_s=length * float(rng.random())),
        lambda: pulse(every_steps=int(rng.integers(1, 500))),
        lambda: decay(length),
        lambda: knots([(float(t), float(rng.normal())) for t in times]),
    ]
    return makers[int(rng.integers(len(makers)))]()
