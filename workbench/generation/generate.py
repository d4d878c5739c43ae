"""Generation: prompts, plans, seeds and sound to go on from in, takes out.

The steering itself happens in `steer_loop`, one batch of takes is put together in `draw`.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, overload

from workbench.generation.audio_prompt import Audio
from workbench.generation.draw import Calls, OnFrame, Readable, draw_all
from workbench.generation.melody_prompt import Tune
from workbench.generation.request import Plan, rows_of, settings_of
from workbench.generation.spans import Span, one_span
from workbench.generation.take import Take
from workbench.model.musicgen import Model

__all__ = ["OnFrame", "Readable", "generate"]


@overload
def generate(  # type: ignore[overload-overlap]  # a str is a Sequence[str] to the type checker
    model: Model, prompt: str, *, steering: Plan = ..., seed: int = ..., seconds: float = ...,
    guidance: float | None = ..., temperature: float | None = ..., top_k: int | None = ...,
    progress: bool = ..., on_frame: OnFrame | None = ..., cancel: threading.Event | None = ...,
    probes: Sequence[Readable] | None = ..., batch: int = ..., audio: Audio | None = ...,
    audio_seconds: float | None = ..., melody: Tune | None = ...,
) -> Take: ...  # fmt: skip


@overload
def generate(
    model: Model, prompt: str | Sequence[str], *, steering: Plan | Sequence[Plan] = ...,
    seed: int | Sequence[int] = ..., seconds: float = ..., guidance: float | None = ...,
    temperature: float | None = ..., top_k: int | None = ...,
    progress: bool = ..., on_frame: OnFrame | None = ..., cancel: threading.Event | None = ...,
    probes: Sequence[Readable] | None = ..., batch: int = ...,
    audio: Audio | Sequence[Audio | None] | None = ..., audio_seconds: float | None = ...,
    melody: Tune | Sequence[Tune | None] | None = ...,
) -> list[Take]: ...  # fmt: skip


def generate(
    model: Model,
    prompt: str | Sequence[str],
    *,
    steering: Plan | Sequence[Plan] = None,
    seed: int | Sequence[int] = 0,
    seconds: float = 5.0,
    guidance: float | None = None,
    temperature: float | None = None,
    top_k: int | None = None,
    progress: bool = True,
    on_frame: OnFrame | None = None,
    cancel: threading.Event | None = None,
    probes: Sequence[Readable] | None = None,
    batch: int = 32,
    audio: Audio | Sequence[Audio | None] | None = None,
    audio_seconds: float | None = None,
    melody: Tune | Sequence[Tune | None] | None = None,
) -> Take | list[Take]:
    """A take, or a list of takes when prompt, steering, seed, audio or melody is a list.

    Single values go with all.

    Args:
        model: The model; one generation runs at a time.
        prompt: Text.
        steering: A plan, or None. Rows with different plans are drawn in one batch, under one trace. Their
            schedules count seconds from the beginning of the new part.
        seed: Belongs to the row: the same prompt, plan and seed give the same codes in any batch,
            unless two candidates of a draw tie within the rounding of float32.
        seconds: Length of what is made, which comes after the audio where there is one.
        guidance: Classifier-free guidance g; 1 or less runs without null rows. This and the next two are by
            default what the checkpoint's generation config says, else 3, 1 and 250.
        temperature: Divides the logits.
        top_k: Codes kept per draw; 0 keeps all.
        progress: Whether to show a progress bar.
        on_frame: Called from the running loop after each finished frame.
        cancel: Set it (from any thread) to stop before the next step.
        probes: Probes to read while the clip is made, after steering; see `Take.probe_traces`.
        batch: The most clips drawn at once.
        audio: A clip, or codes (k, frames) of this model, to go on from. It becomes the beginning of the take
            (`Take.given_s` says how long it is), its codes unchanged, its sound as the codec gives it back:
            of a clip from elsewhere the built-in model plays its band's arrangement.
        audio_seconds: How much of the end of the audio is used: the model hears the last seconds before the
            new part, and what lies before them is left out of the take. All of it when None.
        melody: A clip to follow, of which only the melody is heard (workbench.model.melody), or the melody of
            a take. It runs from the beginning of the take, given sound included, and again from its own where
            it is shorter. For models with `takes_melody`.

    Raises:
        GenerationError: For requests that make no sense, and when the receipt shows that a planned edit
        failed.
        SteeringError: When a plan does not fit the model.
        Cancelled: When `cancel` was set; the model is left clean.
    """
    heard: dict[str, Any] = {"audio": audio, "audio_seconds": audio_seconds, "melody": melody}
    rows, many = rows_of(model, prompt, steering, seed, **heard)
    settings = settings_of(model, guidance=guidance, temperature=temperature, top_k=top_k)
    calls = Calls(on_frame=on_frame, cancel=cancel, probes=probes or ())

    def spans(given: int) -> list[Span]:
        return [one_span(model, seconds, given)]

    takes = draw_all(model, rows, spans, settings, calls, batch=batch, progress=progress)
    return takes if many else takes[0]
