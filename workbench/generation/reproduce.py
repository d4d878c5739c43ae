"""A take regenerated from what it carries, and the code that does so in a fresh process."""

from __future__ import annotations

import hashlib
import threading
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from workbench.errors import GenerationError
from workbench.files import letters
from workbench.generation.engine import ENGINES, Callbacks, OnFrame, Readable, Span, Windows, draw_all
from workbench.generation.request import Settings, rows_of
from workbench.generation.take import Take, differences
from workbench.model.musicgen import Model


def reproduce(
    model: Model,
    take: Take,
    *,
    probes: Sequence[Readable] | None = None,
    progress: bool = True,
    on_frame: OnFrame | None = None,
    cancel: threading.Event | None = None,
) -> Take:
    """The take drawn again: in the environment of the first time its codes are the same bit for bit.

    Where they are not, a warning says from when on they differ, and what is different here.

    Args:
        model: The model that made it.
        take: A take of `generate`, `generate_long` or `extend`, also one loaded from disk.
        probes: Probes to read meanwhile; those of the first time are not kept.
        progress: Whether to show a progress bar.
        on_frame: As in `generate`.
        cancel: As in `generate`.

    Raises:
        GenerationError: When another model made the take, or it does not carry its plan.
        Cancelled: When `cancel` was set.
    """
    _check(take)
    if take.model_id != model.id:
        asked = f"A take of {take.model_id or 'an unknown model'} was to be drawn again by {model.id}"
        raise GenerationError(asked, "another model draws other codes", "Load the model that made it")
    spans, given = _spans(take, model.frame_rate_hz), round(take.prompt_seconds * model.frame_rate_hz)
    audio = take.codes[:, :given] if given else None
    rows, _many = rows_of(model, take.prompt, take.plan, take.seed, audio=audio, melody=take.melody)
    settings = Settings(take.guidance, take.temperature, take.top_k)
    engine = take.versions.get("engine", ENGINES[0])
    callbacks = Callbacks(on_frame=on_frame, cancel=cancel, probes=probes or (), engine=engine)
    (again,) = draw_all(model, rows, lambda _given: spans, settings, callbacks, batch=1, progress=progress)
    _compare(model, take, again)
    return again


def reproduction_code(take: Take, folder: Path | str | None = None, *, model: str | None = None) -> str:
    """Python text that draws the take again in a fresh process and prints whether the codes are the same.

    Args:
        take: As in `reproduce`.
        folder: Where `take.save` has written it; None packs plan and given codes as letters into the text.
        model: What `load` is to be given; by default the take's `model_id`, which of a folder is its name.

    Raises:
        GenerationError: When the take does not carry its plan, or only a saved folder can tell its windows.
    """
    _check(take)
    if not (model or take.model_id):
        found = "it does not say which model made it"
        raise GenerationError("The code of a take was asked for", found, "Name the model (model=...)")
    name = repr(model or take.model_id.rsplit("#", 1)[0])
    known = {"device": take.versions.get("device"), "dtype": take.versions.get("precision")}
    place = "".join(f", {name}={value!r}" for name, value in known.items() if value is not None)
    load = f"model = wb.load({name}{place})  # {take.model_id!r}"
    if folder is not None:
        read = [
            f"take = wb.Take.load({str(folder)!r})",
            "again = wb.reproduce(model, take)  # warns where a code differs",
            "print((again.codes == take.codes).all())",
        ]
        return "\n".join(["import workbench as wb", "", load, *read, ""])
    packed = ["import base64", "import hashlib", "import zlib", "", "import numpy as np"]
    imports = [*(packed if take.prompt_seconds else ["import hashlib", ""]), "import workbench as wb"]
    if take.melody is not None:
        imports.append("from workbench.model.conditioning import Melody")
    plan = []
    if take.plan is not None:
        words = " ".join(take.steering.split())
        plan = [f"# {words}", f'plan = wb.Steering.unpack("""\n{take.plan.pack()}\n""")']
    return "\n".join([*imports, "", load, *plan, *_prompt_codes(take), *_call(take), ""])


def _check(take: Take) -> None:
    """Refuse a take that was steered by what it does not carry."""
    if not take.steering or take.plan is not None:
        return
    found, do = "its directions were not kept with it", "Generate it again and save that take"
    if take.steering.startswith("live: "):
        found, do = "only a recording knows where its knobs stood", "Replay the recording (wb.replay)"
    raise GenerationError(f"The take steered by {take.steering!r} was to be drawn again", found, do)


def _spans(take: Take, rate_hz: float) -> list[Span]:
    """The spans that the take was drawn in."""
    given = round(take.prompt_seconds * rate_hz)
    if not take.windows:
        return [Span(0, take.codes.shape[-1] - given, given)]
    spans = []
    for one in take.windows:
        start, end, context = (round(time * rate_hz) for time in (one.start_s, one.end_s, one.context_s))
        spans.append(Span(start, end - start, context, one.prompt))
    return spans


def _compare(model: Model, take: Take, again: Take) -> None:
    """Warn where the codes are not the same."""
    apart = np.flatnonzero((take.codes != again.codes).any(axis=0))
    if not apart.size:
        return
    differ = differences(take.versions, model)
    if (batch := take.versions.get("batch", "1")) != "1":  # kernels round by the batch's shape
        differ.append(f"drawn among {batch} clips then, alone now")
    same = "device, precision, threads and versions are the same, so the take does not say how it was made"
    why = "; ".join(differ) or same
    since = apart[0] / model.frame_rate_hz
    warnings.warn(f"The codes differ from the take's from {since:.2f} s on: {why}.", stacklevel=3)


def _prompt_codes(take: Take) -> list[str]:
    """The lines that hold the codes that a continuation continues from."""
    if not take.prompt_seconds:
        return []
    books, frames = take.codes.shape[0], round(take.prompt_seconds * take.codes.shape[-1] / take.seconds)
    raw = np.ascontiguousarray(take.codes[:, :frames], dtype="<i2").tobytes()
    unpacked = "np.frombuffer(zlib.decompress(base64.b64decode(packed)), '<i2')"
    return [f'packed = """\n{letters(raw)}\n"""', f"given = {unpacked}.reshape({books}, {frames})"]


def _call(take: Take) -> list[str]:
    """The lines that draw the codes and say whether they are those of the take."""
    rate = take.codes.shape[-1] / take.seconds
    frames = take.codes.shape[-1] - round(take.prompt_seconds * rate)
    settings: dict[str, object] = {"seed": take.seed, "seconds": _seconds(frames, rate)}
    settings |= {name: getattr(take, name) for name in ("guidance", "temperature", "top_k")}
    if (engine := take.versions.get("engine", ENGINES[0])) != ENGINES[0]:
        settings["engine"] = engine
    if take.windows:
        settings |= _window_settings(take, rate)
    lines = [f"    {name}={value!r}," for name, value in settings.items()]
    lines += ["    steering=plan,"] if take.plan is not None else []
    lines += ["    audio=given,"] if take.prompt_seconds else []
    lines += [f"    melody=Melody({take.melody.pitches}),"] if take.melody is not None else []
    draw = "generate_long" if take.windows else "generate"
    digest = hashlib.sha256(take.codes.tobytes()).hexdigest()
    return [
        f"take = wb.{draw}(\n    model,\n    {take.prompt!r},",
        *lines,
        ")",
        f'print(hashlib.sha256(take.codes.tobytes()).hexdigest() == "{digest}")',
    ]


def _window_settings(take: Take, rate: float) -> dict[str, object]:
    """What makes `generate_long` draw in the windows of the take."""
    spans = _spans(take, rate)
    window, overlap = max(one.context + one.frames for one in spans), max(one.context for one in spans)
    given = round(take.prompt_seconds * rate)
    every = [(later.start, later.prompt or "") for later in spans[1:]]  # also where a prompt came again
    different = [change for change, one in zip(every, spans, strict=False) if change[1] != one.prompt]
    for changes in (different, every):
        made = Windows(spans[-1].end, window, overlap, tuple(changes)).spans(given)
        if [replace(one, prompt=take.prompt if one.prompt is None else one.prompt) for one in made] == spans:
            break
    else:
        asked = f"The code of a take in {len(spans)} windows was asked for"
        do = "Save the take and give its folder: reproduction_code(take, folder)"
        raise GenerationError(asked, "no single call draws in such windows", do)
    return {
        "window_seconds": _seconds(window, rate),
        "overlap_seconds": _seconds(overlap, rate),
        "changes": [(_seconds(at, rate), prompt) for at, prompt in changes],
    }


def _seconds(frames: int, rate: float) -> float:
    """The length of so many frames, without what floating point adds behind the ninth digit."""
    return float(f"{frames / rate:.9g}")
