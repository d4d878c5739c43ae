"""Streaming: the pieces are the take, they come while it is made, and leaving early cancels."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np
import pytest
from steering_fixture import direction

from workbench.errors import GenerationError
from workbench.generation.generate import generate, stream
from workbench.generation.take import Take
from workbench.sound.clip import Clip


def drained(pieces: Generator[Clip, None, Take]) -> tuple[list[Clip], Take]:
    clips = []
    while True:
        try:
            clips.append(next(pieces))
        except StopIteration as stop:
            return clips, stop.value


@pytest.mark.parametrize("piece_seconds", [0.2, 0.5, 10])
def test_pieces_are_the_sound_of_the_take(tiny_model: Any, piece_seconds: float) -> None:
    settings = {"steering": direction(tiny_model, 1).at(0.5), "seed": 3, "seconds": 2.1}
    clips, take = drained(stream(tiny_model, "a calm tune", piece_seconds=piece_seconds, **settings))
    assert take == generate(tiny_model, "a calm tune", progress=False, **settings)
    whole = np.concatenate([clip.samples for clip in clips])
    assert whole.shape == take.clip.samples.shape
    assert np.sqrt(np.mean((whole - take.clip.samples) ** 2)) < 1e-3 * np.abs(take.clip.samples).max()
    assert len(clips) == (1 if piece_seconds == 10 else -(-2.1 // piece_seconds))


def test_the_first_piece_comes_before_the_end(tiny_model: Any) -> None:
    seen = []
    pieces = stream(tiny_model, "a calm tune", seconds=20, piece_seconds=0.2)
    seen.append(next(pieces))
    assert tiny_model.lock.acquire(blocking=False) is False, "the model is still at work"
    pieces.close()
    assert tiny_model.lock.acquire(blocking=False), "closing the stream frees the model"
    tiny_model.lock.release()
    assert seen[0].seconds == pytest.approx(0.2)


def test_errors_reach_the_reader(tiny_model: Any) -> None:
    with pytest.raises(GenerationError, match="at most"):
        drained(stream(tiny_model, "a calm tune", seconds=100))
