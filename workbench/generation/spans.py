"""Which stretches of new music are drawn one after another, and how much before each of them is heard.

One stretch is the ordinary case. Music that is longer than the model's positions is drawn in windows that
slide on: each hears the last seconds of what is there already and goes on from them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from workbench.errors import GenerationError, number_or_nan
from workbench.model.musicgen import Model
from workbench.model.tokens import frames_for

OVERLAP_SHARE = 0.4
"""Of a window, unless told otherwise: MusicGen's own extension hears 12 of its 30 s again."""


@dataclass(frozen=True)
class Span:
    """One run: `frames` new ones, the first of which is number `start` of the new part.

    heard   how many frames before it the model hears
    prompt  replaces the rows' own; None leaves them
    """

    start: int
    frames: int
    heard: int = 0
    prompt: str | None = None

    @property
    def end(self) -> int:
        """The first frame after it."""
        return self.start + self.frames


def most_frames(model: Model) -> int:
    """The most frames, heard and new, that one run can hold."""
    return round(model.max_seconds * model.frame_rate_hz)


def one_span(model: Model, seconds: float, given: int) -> Span:
    """The span of one run that goes on from `given` frames.

    Raises:
        GenerationError: When both do not fit the model's positions.
    """
    frames = model.frames_for(seconds)
    if given + frames > most_frames(model):
        raise GenerationError(
            f"{seconds:g} s of sound after {given / model.frame_rate_hz:g} s were asked for",
            f"{model.id} holds at most {model.max_seconds:.1f} s at a time",
            "Let it hear less (audio_seconds=...), or use generate_long",
        )
    return Span(0, frames, given)


@dataclass(frozen=True)
class Windows:
    """How long music is cut: `window` frames at most in one run, of which `overlap` are heard again.

    changes  (frame of the new part, prompt): a window ends where the prompt changes
    """

    frames: int
    window: int
    overlap: int
    changes: tuple[tuple[int, str], ...] = ()

    @classmethod
    def of(
        cls,
        model: Model,
        seconds: float,
        *,
        window_seconds: float | None = None,
        overlap_seconds: float | None = None,
        changes: Sequence[tuple[float, str]] = (),
    ) -> Windows:
        """The windows for `seconds` of new music; the checkpoint's own length is the window when None.

        Raises:
            GenerationError: When lengths are not above 0, a window does not fit the model or leaves nothing
            new, or changes do not rise.
        """
        rate, most = model.frame_rate_hz, most_frames(model)
        if window_seconds is None:
            window_seconds = own_window(model) / rate
        if overlap_seconds is None:
            overlap_seconds = OVERLAP_SHARE * number_or_nan(window_seconds)
        lengths = [number_or_nan(one) for one in (seconds, window_seconds, overlap_seconds)]
        fine = all(0 < length < math.inf for length in lengths)
        window, overlap = (round(length * rate) if fine else 0 for length in lengths[1:])
        if not fine or not 0 < overlap < window <= most:
            raise GenerationError(
                f"{seconds} s in windows of {window_seconds} s that share {overlap_seconds} s were asked for",
                f"{model.id} makes more than 0 and at most {model.max_seconds:.1f} s at a time",
                "Use 0 < overlap_seconds < window_seconds in that range",
            )
        times = [0.0, *(number_or_nan(at_s) for at_s, _prompt in changes)]
        if not all(earlier < later < math.inf for earlier, later in pairwise(times)):
            asked = f"Prompts that change at {', '.join(f'{at_s:g}' for at_s in times[1:])} s were asked for"
            raise GenerationError(
                asked, "the times do not rise from 0", "Give rising times in seconds of the new part"
            )
        cuts = tuple((round(at_s * rate), prompt) for at_s, prompt in changes)
        return cls(frames_for(seconds, rate), window, overlap, cuts)

    def spans(self, given: int) -> list[Span]:
        """The spans after `given` frames that are there already."""
        spans: list[Span] = []
        start, prompt, waiting = 0, None, list(self.changes)
        while start < self.frames:
            while waiting and waiting[0][0] <= start:
                prompt = waiting.pop(0)[1]
            heard = min(self.overlap, given + start)
            end = min(start + self.window - heard, self.frames, *(at for at, _prompt in waiting[:1]))
            spans.append(Span(start, end - start, heard, prompt))
            start = end
        return spans


def own_window(model: Model) -> int:
    """The frames that the checkpoint itself makes at most in one go, as its generation settings say."""
    own = model.musicgen.generation_config.max_length
    return min(int(own), most_frames(model)) if own else most_frames(model)
