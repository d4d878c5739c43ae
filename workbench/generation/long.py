"""Music that is longer than the model's window: drawn in windows that slide on, as one take."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, overload

from workbench.errors import GenerationError
from workbench.generation.audio_prompt import Audio
from workbench.generation.draw import Calls, OnFrame, Readable, draw_all
from workbench.generation.melody_prompt import Tune
from workbench.generation.request import Plan, check_prompt, check_room, rows_of, settings_of
from workbench.generation.spans import Windows
from workbench.generation.take import Take
from workbench.model.musicgen import Model


@overload
def generate_long(
    model: Model, prompt: str, *, seconds: float = ..., window_seconds: float | None = ...,
    overlap_seconds: float | None = ..., changes: Sequence[tuple[float, str]] = ..., steering: Plan = ...,
    seed: int = ..., audio: Audio | None = ..., audio_seconds: float | None = ..., melody: Tune | None = ...,
    batch: int = ..., progress: bool = ..., on_frame: OnFrame | None = ...,
    cancel: threading.Event | None = ..., probes: Sequence[Readable] | None = ..., **settings: Any,
) -> Take: ...  # fmt: skip


@overload
def generate_long(
    model: Model, prompt: str | Sequence[str], *, seconds: float = ..., window_seconds: float | None = ...,
    overlap_seconds: float | None = ..., changes: Sequence[tuple[float, str]] = ...,
    steering: Plan | Sequence[Plan] = ..., seed: int | Sequence[int] = ...,
    audio: Audio | Sequence[Audio | None] | None = ..., audio_seconds: float | None = ...,
    melody: Tune | Sequence[Tune | None] | None = ..., batch: int = ..., progress: bool = ...,
    on_frame: OnFrame | None = ..., cancel: threading.Event | None = ...,
    probes: Sequence[Readable] | None = ..., **settings: Any,
) -> list[Take]: ...  # fmt: skip


def generate_long(
    model: Model,
    prompt: str | Sequence[str],
    *,
    seconds: float = 60.0,
    window_seconds: float | None = None,
    overlap_seconds: float | None = None,
    changes: Sequence[tuple[float, str]] = (),
    steering: Plan | Sequence[Plan] = None,
    seed: int | Sequence[int] = 0,
    audio: Audio | Sequence[Audio | None] | None = None,
    audio_seconds: float | None = None,
    melody: Tune | Sequence[Tune | None] | None = None,
    batch: int = 32,
    progress: bool = True,
    on_frame: OnFrame | None = None,
    cancel: threading.Event | None = None,
    probes: Sequence[Readable] | None = None,
    **settings: Any,
) -> Take | list[Take]:
    """A take of any length (a list of them where `generate` gives one), drawn in windows that slide on.

    Each window hears the end of what is there already and goes on from it. Schedules, gates and chance count
    the time of the whole new part; each row's private generator is carried on. A window ends with a few steps
    that finish its last frames, and the next one passes through their times again, so a receipt has these
    steps twice (`Take.windows` says where).

    Args:
        model: The model.
        prompt: Text.
        seconds: Length of the new part.
        window_seconds: The most that is heard and made in one window; what the checkpoint's own settings say
            when None (30 s for the published ones). Beyond what a model was trained for, it loses the thread.
        overlap_seconds: How much of the end each window hears; 0.4 of a window when None.
        changes: (seconds of the new part, prompt): from there on this prompt stands for every row. A window
            ends there, so that the change comes in time.
        steering: As in `generate`, and so are seed, batch, progress, on_frame, cancel and probes.
        seed: One per row, or one for all.
        audio: To go on from, of any length: its last `overlap_seconds` are heard, all of it begins the take.
        audio_seconds: How much of the end of the audio is used; all of it when None.
        melody: As in `generate`; each window is told what the melody does from there on.
        batch: The most clips drawn at once.
        progress: Whether to show a progress bar.
        on_frame: Called after each finished frame, with the codes of the whole.
        cancel: Set it to stop before the next step.
        probes: Probes to read meanwhile.
        settings: guidance, temperature and top_k, as in `generate`.

    Raises:
        As `generate`, and GenerationError for windows that leave nothing new.
    """
    heard: dict[str, Any] = {"audio": audio, "audio_seconds": audio_seconds, "melody": melody}
    rows, many = rows_of(model, prompt, steering, seed, **heard)
    lengths = {"window_seconds": window_seconds, "overlap_seconds": overlap_seconds}
    windows = Windows.of(model, seconds, **lengths, changes=changes)
    for _at_s, text in changes:
        check_prompt(text)
    check_room(model, [text for _at_s, text in changes])
    calls = Calls(on_frame=on_frame, cancel=cancel, probes=probes or ())
    drawn = settings_of(model, **settings)
    takes = draw_all(model, rows, windows.spans, drawn, calls, batch=batch, progress=progress)
    return takes if many else takes[0]


def extend(
    model: Model,
    take: Take,
    *,
    seconds: float = 10.0,
    prompt: str | None = None,
    steering: Plan = None,
    **settings: Any,
) -> Take:
    """A take that begins with `take` and goes on for `seconds`, by `generate_long`.

    Args:
        model: The model that made it.
        take: What is gone on from; all of it is kept, its end is heard.
        seconds: Length of the new part, from whose beginning the plan's schedules count.
        prompt: The take's own when None.
        steering: A plan for the new part; `take.plan` goes on with its own.
        settings: Those of `generate_long`; seed, guidance, temperature, top_k and melody are the take's own
            unless given.

    Raises:
        GenerationError: When another model made the take, and as `generate_long`.
    """
    if take.model_id and take.model_id != model.id:
        raise GenerationError(
            f"A take of {take.model_id} was to be extended by {model.id}",
            "codes mean nothing to another model",
            "Give its sound instead: generate_long(..., audio=take.clip)",
        )
    own = {name: getattr(take, name) for name in ("seed", "guidance", "temperature", "top_k", "melody")}
    text = take.prompt if prompt is None else prompt
    fixed = {"seconds": seconds, "steering": steering, "audio": take.codes}
    return generate_long(model, text, **{**own, **settings, **fixed})
