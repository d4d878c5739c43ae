"""Prompts, plans, seeds and sound to go on from in, takes out.

The way to the line that steers: `generate` checks what was asked for, `draw_all` (engine.py) cuts it into
batches, `draw_takes` draws one batch span by span, `run_steered` (steer.py) runs the model under one trace.
"""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, TypedDict, Unpack, overload

import torch

from workbench.errors import GenerationError
from workbench.generation.engine import (
    ENGINES,
    Callbacks,
    OnFrame,
    Readable,
    SliderFunction,
    Span,
    Windows,
    draw_all,
    one_span,
)
from workbench.generation.live.window import LiveSound
from workbench.generation.request import Audio, Plan, Tune, check_prompts, rows_of, settings_of
from workbench.generation.take import Take
from workbench.model.musicgen import Model
from workbench.model.sampling import frames_for
from workbench.sound.clip import Clip
from workbench.sound.dataset import Dataset, Entry, Label


class Common(TypedDict, total=False):
    """What means the same for one clip and for many."""

    seconds: float | Windows
    guidance: float | None
    temperature: float | None
    top_k: int | None
    progress: bool
    on_frame: OnFrame | None
    cancel: threading.Event | None
    probes: Sequence[Readable] | None
    batch: int
    audio_seconds: float | None
    sliders: Mapping[str, SliderFunction] | None
    engine: str


@overload
def generate(  # type: ignore[overload-overlap]  # a str is a Sequence[str] to the type checker
    model: Model, prompt: str, *, steering: Plan = ..., seed: int = ..., audio: Audio | None = ...,
    melody: Tune | None = ..., **common: Unpack[Common],
) -> Take: ...  # fmt: skip


@overload
def generate(
    model: Model, prompt: str | Sequence[str], *, steering: Plan | Sequence[Plan] = ...,
    seed: int | Sequence[int] = ..., audio: Audio | Sequence[Audio | None] | None = ...,
    melody: Tune | Sequence[Tune | None] | None = ..., **common: Unpack[Common],
) -> list[Take]: ...  # fmt: skip


def generate(
    model: Model, prompt: str | Sequence[str], *, steering: Plan | Sequence[Plan] = None,
    seed: int | Sequence[int] = 0, seconds: float | Windows = 5.0, guidance: float | None = None,
    temperature: float | None = None, top_k: int | None = None, progress: bool = True,
    on_frame: OnFrame | None = None, cancel: threading.Event | None = None,
    probes: Sequence[Readable] | None = None, batch: int = 32,
    audio: Audio | Sequence[Audio | None] | None = None, audio_seconds: float | None = None,
    melody: Tune | Sequence[Tune | None] | None = None, sliders: Mapping[str, SliderFunction] | None = None,
    engine: str = "nnsight",
) -> Take | list[Take]:  # fmt: skip
    """A take, or a list when prompt, steering, seed, audio or melody is one; single values go with all.

    Args:
        model: The model; one generation runs at a time.
        prompt: Text.
        steering: A plan, or None. Its schedules count seconds of the new part.
        seed: The same prompt, plan and seed give the same codes in any batch, unless two candidates of a draw
            tie within the rounding of float32.
        seconds: Length of the new part (or the windows that `generate_long` cuts it into).
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
            (`Take.prompt_seconds`), its codes unchanged, its sound as the codec gives it back: of a clip from
            elsewhere the built-in model plays its band's arrangement.
        audio_seconds: How much of the end of the audio is used, as context and in the take; all when None.
        melody: A clip of which only the melody is followed, or the melody of a take, for models with
            `takes_melody`. It runs from the beginning of the take, audio included, again and again.
        sliders: Direction's name -> a function of the seconds of the new part, by which the dose of that
            direction's terms is multiplied at every step: with `jazz.at(1.0)` it gives the dose itself.
        engine: "nnsight" runs the model under a trace. "compiled" has torch compile the same step (it needs a
            C++ compiler or a GPU, and its first steps take a minute), for models slower than real time.

    Raises:
        GenerationError: For requests that make no sense, and when a planned edit did not happen.
        SteeringError: When a plan does not fit the model.
        Cancelled: When `cancel` was set; the model is left clean.
    """
    sound: dict[str, Any] = {"audio": audio, "audio_seconds": audio_seconds, "melody": melody}
    rows, many = rows_of(model, prompt, steering, seed, **sound)
    settings = settings_of(model, guidance=guidance, temperature=temperature, top_k=top_k)
    steered = {term.direction.name for row in rows if row.plan for term in row.plan.terms}
    for name in sliders or ():
        GenerationError.among(name, sorted(steered), "A slider for", held="the plans have the directions")
    if engine not in ENGINES:
        found = f"there are {' and '.join(ENGINES)}"
        raise GenerationError.lookup(f"The engine {engine!r} was asked for", found, "Use one of these")
    calls: dict[str, Any] = {"on_frame": on_frame, "cancel": cancel, "engine": engine}
    callbacks = Callbacks(probes=probes or (), sliders=sliders or {}, **calls)

    def spans_after(context: int) -> list[Span]:
        return seconds.spans(context) if isinstance(seconds, Windows) else [one_span(model, seconds, context)]

    takes = draw_all(model, rows, spans_after, settings, callbacks, batch=batch, progress=progress)
    return takes if many else takes[0]


@overload
def generate_long(model: Model, prompt: str, **more: Any) -> Take: ...


@overload
def generate_long(model: Model, prompt: str | Sequence[str], **more: Any) -> list[Take]: ...


def generate_long(
    model: Model, prompt: str | Sequence[str], *, seconds: float = 60.0, window_seconds: float | None = None,
    overlap_seconds: float | None = None, changes: Sequence[tuple[float, str]] = (), **more: Any,
) -> Take | list[Take]:  # fmt: skip
    """A take of any length (a list of them where `generate` gives one), drawn in windows that slide on.

    Each window continues from the end of what is there, with the same generators. Schedules, gates and
    chance count the time of the whole new part. A window ends with a few steps that finish its last frames,
    and the next one passes through their times again: a receipt has them twice (`Take.windows` says where).

    Args:
        model: The model.
        prompt: Text.
        seconds: Length of the new part.
        window_seconds: The most that is read and made in one window; the checkpoint's own length when None
            (30 s for the published ones). Beyond what a model was trained for, it loses the thread.
        overlap_seconds: How much of the end each window has as context; 0.4 of a window when None.
        changes: (seconds of the new part, prompt): from there on, with a new window, this prompt stands for
            every row.
        more: All else that `generate` takes. Audio may have any length: its last `overlap_seconds` are
            context, all of it begins the take.

    Raises:
        GenerationError: As `generate`, and for windows that leave nothing new or changes that do not rise.
    """
    lengths = {"window_seconds": window_seconds, "overlap_seconds": overlap_seconds}
    windows = Windows.of(model, seconds, **lengths, changes=changes)
    check_prompts(model, [text for _at_s, text in changes])
    return generate(model, prompt, seconds=windows, **more)


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
        take: What is gone on from; all of it is kept, its end is context.
        seconds: Length of the new part.
        prompt: The take's own when None.
        steering: A plan for the new part; `take.plan` goes on with its own.
        settings: Those of `generate_long`; by default those of the take, its seed and melody among them.

    Raises:
        GenerationError: When another model made the take, and as `generate_long`.
    """
    if take.model_id and take.model_id != model.id:
        asked, do = f"A take of {take.model_id} was to be extended by {model.id}", "Give its sound instead"
        raise GenerationError(asked, "codes mean nothing to another model", f"{do}: audio=take.clip")
    own = {name: getattr(take, name) for name in ("seed", "guidance", "temperature", "top_k", "melody")}
    text = take.prompt if prompt is None else prompt
    fixed = {"seconds": seconds, "steering": steering, "audio": take.codes}
    return generate_long(model, text, **{**own, **settings, **fixed})


def stream(
    model: Model, prompt: str, *, piece_seconds: float = 0.5, **settings: Any
) -> Generator[Clip, None, Take]:
    """Pieces of the sound in order, as soon as they are known; the generator returns the Take.

    It is the loop of `generate` in a thread. Closing the generator (or leaving its loop) cancels the run and
    leaves the model clean. Together the pieces are the take's sound.

    Args:
        model: The model.
        prompt: Text; one clip at a time.
        piece_seconds: Length of each piece; the last one may be shorter.
        settings: Those of `generate` for one clip (steering, seed, seconds ...), but `cancel` and `on_frame`.

    Raises:
        Whatever `generate` raises, at the next piece.
    """
    GenerationError.number(piece_seconds, "A piece with a length in seconds of", above=0, do="Use 0.5")
    frames: queue.Queue[torch.Tensor | None] = queue.Queue()
    cancel, outcome = threading.Event(), Future[Take]()
    settings = {"progress": False, **settings, "cancel": cancel}
    known = 0

    def hand_over(done: int, codes: torch.Tensor) -> None:
        nonlocal known
        frames.put(codes[0, :, known:done].clone())
        known = done

    def work() -> None:
        try:
            outcome.set_result(generate(model, prompt, on_frame=hand_over, **settings))
        except BaseException as error:  # handed over to the reader, who raises it
            outcome.set_exception(error)
        finally:
            frames.put(None)

    thread = threading.Thread(target=work, name="workbench-stream", daemon=True)
    thread.start()
    sound = LiveSound(model, frames_for(piece_seconds, model.frame_rate_hz))
    try:
        for new in iter(frames.get, None):
            yield from sound.add(new)
        yield from sound.rest()
    finally:
        cancel.set()
        thread.join()
    return outcome.result()


def takes_dataset(
    takes: Sequence[Take],
    *,
    names: Sequence[str] | None = None,
    labels: Mapping[str, Sequence[Label]] | None = None,
    name: str = "takes",
) -> Dataset:
    """The takes as labelled clips with their codes. Takes of one prompt are variations: they are one group.

    Args:
        takes: Made by `generate`.
        names: An id for each; by default "prompt (seed n)", with the plan where there is one.
        labels: Target -> a value for each take; `prompt` and `steering` are always labels.
        name: Of the dataset.

    Raises:
        GenerationError: When names or labels are not as many as the takes.
        DatasetError: When there is no take, or two have one name.
    """
    lengths = {"names": names, **(labels or {})}
    wrong = [what for what, values in lengths.items() if values is not None and len(values) != len(takes)]
    if wrong:
        found = f"{', '.join(wrong)} have another length"
        raise GenerationError(f"A dataset of {len(takes)} takes was asked for", found, "Give one each")
    plans = [f", {take.steering}" if take.steering else "" for take in takes]
    told = [f"{take.prompt} (seed {take.seed}{plan})" for take, plan in zip(takes, plans, strict=True)]
    ids = told if names is None else [str(one) for one in names]
    entries = []
    for place, (id_, take) in enumerate(zip(ids, takes, strict=True)):
        own: dict[str, Label] = {"prompt": take.prompt, "steering": take.steering or "unsteered"}
        own |= {target: values[place] for target, values in (labels or {}).items()}
        digest = hashlib.sha256(take.codes.tobytes() + take.model_id.encode()).hexdigest()
        entries.append(Entry(id_, own, take.prompt, f"take: {id_}", digest, take.codes))
    clips = {id_: take.clip for id_, take in zip(ids, takes, strict=True)}
    return Dataset(tuple(entries), name, lambda entry: clips[entry.id])
