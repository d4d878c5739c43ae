"""Melody to follow, checked: it is a condition, like the text, where audio is the beginning."""

from __future__ import annotations

from workbench.errors import GenerationError
from workbench.model.melody import Melody
from workbench.model.musicgen import Model
from workbench.sound.clip import Clip

Tune = Clip | Melody
"""A clip, of which only the melody is heard, or that melody."""


def heard_melody(model: Model, tune: object) -> Melody | None:
    """The melody of `tune`; None stays None.

    Raises:
        GenerationError: When the model takes no melody, or the tune is silent or neither clip nor melody.
    """
    if tune is None:
        return None
    if not model.takes_melody:
        raise _refusal(
            f"{model.id} follows no melody", 'Load "facebook/musicgen-melody", or give the sound as audio=...'
        )
    if isinstance(tune, Melody):
        return tune
    if not isinstance(tune, Clip):
        raise _refusal(f"{type(tune).__name__} is neither a clip nor a melody", "Give a Clip (read_clip)")
    if tune.silent:
        raise _refusal(f"it is silent ({tune.level_db:.0f} dBFS)", "Give a clip in which something is played")
    return Melody.of(tune)


def _refusal(found: str, do: str) -> GenerationError:
    return GenerationError("Music that follows a melody was asked for", found, do)
