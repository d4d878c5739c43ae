"""One batch of takes: laid out in spans, each drawn under a trace, checked against the receipt, decoded once.

One span is the ordinary case; music longer than the model's positions is drawn in windows that slide on.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from tqdm.auto import tqdm

from workbench.errors import GenerationError, number_or_nan
from workbench.generation.compiled import run_compiled
from workbench.generation.edits import Edit, Slider, Sliders, compile_plans
from workbench.generation.receipt import Receipt, joined
from workbench.generation.request import Row, Settings, alike
from workbench.generation.steer import run_steered
from workbench.generation.take import ProbeTrace, Take, Window, environment
from workbench.model.capture_plan import check_batch, free_on_device, generation_cost, in_halves
from workbench.model.conditioning import shifted
from workbench.model.musicgen import Model
from workbench.model.network import Place
from workbench.model.sampling import Sampling, frames_for, seconds_at

if TYPE_CHECKING:
    from workbench.probing import LabelProbe, Probe

OVERLAP_SHARE = 0.4
"""Of a window, unless asked otherwise: MusicGen's own extension has 12 of its 30 s as context."""


@dataclass(frozen=True)
class Span:
    """One run: `frames` new ones, the first of which is number `start` of the new part.

    The model reads `context` frames before them first. `prompt` replaces the rows' own; None leaves them.
    """

    start: int
    frames: int
    context: int = 0
    prompt: str | None = None

    @property
    def end(self) -> int:
        """The first frame after it."""
        return self.start + self.frames

    def window(self, rate_hz: float, prompt: str) -> Window:
        """What a take keeps of it; `prompt` where it has none of its own."""
        start, end, context = (seconds_at(one, rate_hz) for one in (self.start, self.end, self.context))
        return Window(start, end, context, prompt if self.prompt is None else self.prompt)


def one_span(model: Model, seconds: float, context: int) -> Span:
    """The span of one run after `context` frames; a GenerationError where both do not fit the model."""
    frames = model.frames_for(seconds)
    if context + frames > model.max_frames:
        asked = f"{seconds:g} s of sound after {context / model.frame_rate_hz:g} s were asked for"
        do = "Give it less to go on from (audio_seconds=...), or use generate_long"
        raise GenerationError(asked, f"{model.id} holds at most {model.max_seconds:.1f} s at a time", do)
    return Span(0, frames, context)


@dataclass(frozen=True)
class Windows:
    """How `frames` of new music are cut: at most `window` frames in one run, `overlap` of them context.

    A window also ends where the prompt changes, by `changes` (frame of the new part, prompt).
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
        """The windows for `seconds` of new music; arguments and errors are those of `generate_long`."""
        rate, most = model.frame_rate_hz, model.max_frames
        if window_seconds is None:
            window_seconds = min(model.musicgen.generation_config.max_length or most, most) / rate
        if overlap_seconds is None:
            overlap_seconds = OVERLAP_SHARE * number_or_nan(window_seconds)
        lengths = [number_or_nan(one) for one in (seconds, window_seconds, overlap_seconds)]
        fine = all(0 < length < math.inf for length in lengths)
        window, overlap = (round(length * rate) if fine else 0 for length in lengths[1:])
        if not fine or not 0 < overlap < window <= most:
            asked = f"{seconds} s in windows of {window_seconds} s that share {overlap_seconds} s"
            found = f"{model.id} makes more than 0 and at most {model.max_seconds:.1f} s at a time"
            do = "Use 0 < overlap_seconds < window_seconds in that range"
            raise GenerationError(f"{asked} were asked for", found, do)
        times = [0.0, *(number_or_nan(at_s) for at_s, _prompt in changes)]
        if not all(earlier < later < math.inf for earlier, later in pairwise(times)):
            asked = f"Prompts that change at {', '.join(f'{at_s:g}' for at_s in times[1:])} s were asked for"
            do = "Give rising times in seconds of the new part"
            raise GenerationError(asked, "the times do not rise from 0", do)
        cuts = tuple((round(at_s * rate), prompt) for at_s, prompt in changes)
        return cls(frames_for(seconds, rate), window, overlap, cuts)

    def spans(self, context: int) -> list[Span]:
        """The spans after `context` frames that are there already."""
        spans: list[Span] = []
        start, prompt, waiting = 0, None, list(self.changes)
        while start < self.frames:
            while waiting and waiting[0][0] <= start:
                prompt = waiting.pop(0)[1]
            overlap = min(self.overlap, context + start)
            end = min(start + self.window - overlap, self.frames, *(at for at, _prompt in waiting[:1]))
            spans.append(Span(start, end - start, overlap, prompt))
            start = end
        return spans


OnFrame = Callable[[int, torch.Tensor], None]
"""Called with the number of finished frames and the codes (B, k, T), of which so many are filled in."""


Readable: TypeAlias = "Probe | LabelProbe"
"""What can be watched while a clip is made: what has their layer, site, target, classes, predict_proba."""

ENGINES = ("nnsight", "compiled")
"""What runs the model: a trace, or the compiled step of `workbench.generation.compiled`."""

SliderFunction = Callable[[float], float]
"""What a dose is multiplied by, given the seconds of the new part."""


@dataclass(frozen=True)
class Callbacks:
    """What is called while codes are drawn, how the run is stopped, and what is watched."""

    advance: Callable[[], object] = int
    on_frame: OnFrame | None = None
    cancel: threading.Event | None = None
    probes: Sequence[Readable] = ()
    sliders: Mapping[str, SliderFunction] = field(default_factory=dict)
    engine: str = ENGINES[0]

    def on_step(self, known: torch.Tensor, context: int, delay: int) -> Callable[[int, torch.Tensor], None]:
        """What a run calls after each step, given the codes (B, k, frames) of the whole before it."""
        kept = known[..., : known.shape[-1] - context]

        def report(step: int, codes: torch.Tensor) -> None:
            self.advance()
            done = kept.shape[-1] + step + 1 - delay
            if self.on_frame is not None and done > known.shape[-1]:
                self.on_frame(done, torch.cat([kept, codes], dim=-1))  # a copy: the run goes on with its own

        return report

    def slider_functions(self, rows: Sequence[Row]) -> dict[Slider, SliderFunction]:
        """The function of every term whose direction has one."""
        return {
            (clip, index): self.sliders[term.direction.name]
            for clip, row in enumerate(rows)
            for index, term in enumerate(row.plan.terms if row.plan else ())
            if term.direction.name in self.sliders
        }


@dataclass
class _Drawn:
    """What has been drawn so far: codes (B, k, frames), prompt codes included, and records of each span."""

    codes: torch.Tensor
    sliders: Sliders
    generators: Sequence[torch.Generator] | None = None
    receipts: list[list[Receipt]] = field(default_factory=list)
    read: list[list[np.ndarray]] = field(default_factory=list)  # per watched place, (frames, B, d_model)
    seconds: list[np.ndarray] = field(default_factory=list)  # of these frames, in the whole


def draw_all(
    model: Model, rows: Sequence[Row], spans_after: Callable[[int], Sequence[Span]], settings: Settings,
    callbacks: Callbacks, *, batch: int, progress: bool,
) -> list[Take]:  # fmt: skip
    """The takes of all rows, at most `batch` at once; `spans_after` says what follows so many given ones."""
    parts = [(part, spans_after(rows[part[0]].prompt_frames)) for part in alike(rows, batch)]
    _check_memory(model, rows, parts, settings)
    total = sum(span.frames + max(model.delays) for _part, spans in parts for span in spans)
    takes: dict[int, Take] = {}
    with tqdm(total=total, desc="Generating", unit="step", disable=not progress, leave=False) as bar:
        callbacks = replace(callbacks, advance=bar.update)
        for part, spans in parts:

            def draw(some: Sequence[int], spans: Sequence[Span] = spans) -> list[Take]:
                return draw_takes(model, [rows[number] for number in some], spans, settings, callbacks)

            takes |= dict(zip(part, in_halves(draw, part), strict=True))
    return [takes[number] for number in range(len(rows))]


def _check_memory(
    model: Model,
    rows: Sequence[Row],
    parts: Sequence[tuple[list[int], Sequence[Span]]],
    settings: Settings,
) -> None:
    """Raise GenerationError, which names the batch that would fit, where memory will not do."""
    context, frames = max(((span.context, span.frames) for _part, spans in parts for span in spans), key=sum)
    whole = max(rows[part[0]].prompt_frames + spans[-1].end for part, spans in parts)
    shape: dict[str, Any] = {"clips": len(rows), "context": context, "frames": frames, "whole": whole}
    check_batch(
        max(len(part) for part, _spans in parts),
        partial(generation_cost, model, **shape, guided=settings.guidance > 1),
        free_device=free_on_device(model),
        asked=f"{len(rows)} clip(s) of {whole / model.frame_rate_hz:.1f} s were asked for",
        do="or shorter clips",
        error=GenerationError,
    )


def draw_takes(
    model: Model,
    rows: Sequence[Row],
    spans: Sequence[Span],
    settings: Settings,
    callbacks: Callbacks,
    *,
    sliders: Sliders | None = None,
) -> list[Take]:
    """The takes of one batch, whose rows go on from equally many frames; `sliders` may be moved meanwhile."""
    sliders = sliders or Sliders(functions=callbacks.slider_functions(rows))
    nothing = np.zeros((model.n_codebooks, 0), dtype=np.int64)
    given = np.stack([nothing if row.prompt_codes is None else row.prompt_codes for row in rows])
    drawn = _Drawn(torch.tensor(given, dtype=torch.long, device=model.device), sliders)
    for span in spans:
        _draw_span(model, rows, span, drawn, settings=settings, callbacks=callbacks)
    steps = [span.frames + max(model.delays) for span in spans]
    receipts = [joined(parts, steps) for parts in zip(*drawn.receipts, strict=True)]
    for row, receipt in zip(rows, receipts, strict=True):
        _check_receipt(row, receipt)
    clips, codes = model.decode_batch(list(drawn.codes)), drawn.codes.cpu().numpy()
    versions = {**environment(model), "batch": str(len(rows)), "engine": callbacks.engine}
    rate = model.frame_rate_hz
    windowed = len(spans) > 1 or spans[0].context < rows[0].prompt_frames  # else it read all there was
    return [
        Take(
            clip=clips[index],
            codes=codes[index],
            prompt=row.prompt,
            seed=row.seed,
            steering=row.plan.text() if row.plan else "",
            steering_json=row.plan.to_json() if row.plan else "[]",
            receipt=receipts[index],
            model_id=model.id,
            probe_traces=_traces(callbacks.probes, drawn, index),
            prompt_seconds=seconds_at(row.prompt_frames, rate),
            melody=row.melody,
            windows=tuple(span.window(rate, row.prompt) for span in spans) if windowed else (),
            plan=row.plan,
            versions=versions,
            **asdict(settings),
        )
        for index, row in enumerate(rows)
    ]


def lay_out(
    model: Model, rows: Sequence[Row], span: Span, known: torch.Tensor, settings: Settings, **calls: Any
) -> tuple[Sampling, dict[Place, list[Edit]], list[float]]:
    """The run of a span after codes `known` (B, k, frames), its edits, and when its steps are due."""
    rate, seeds = model.frame_rate_hz, [row.seed for row in rows]
    begins = seconds_at(rows[0].prompt_frames + span.start - span.context, rate)
    run = model.sampling(
        [row.prompt if span.prompt is None else span.prompt for row in rows],
        seeds=seeds,
        frames=span.context + span.frames,
        melodies=shifted([row.melody for row in rows], begins),
        prompt_codes=known[..., -span.context :] if span.context else None,
        **calls,
        **asdict(settings),
    )
    seconds = [seconds_at(span.start + step, rate) for step in range(run.visits)]
    edits = compile_plans(
        [row.plan for row in rows],
        seconds,
        guided=run.guided,
        device_of=model.device_of,
        seeds=seeds,
        first_step=span.start,
    )
    return run, edits, seconds


def _draw_span(
    model: Model, rows: Sequence[Row], span: Span, drawn: _Drawn, *, settings: Settings, callbacks: Callbacks
) -> None:
    """Draw one span after what is drawn already, with the same generators, and add it."""
    on_step = callbacks.on_step(drawn.codes, span.context, max(model.delays))
    calls = {"cancel": callbacks.cancel, "on_step": on_step}
    run, edits, seconds = lay_out(model, rows, span, drawn.codes, settings, **calls)
    if drawn.generators is not None:
        run.generators = drawn.generators
    watched = [(probe.layer, probe.site) for probe in callbacks.probes]
    drawn.sliders.begin_span(seconds)
    if callbacks.engine == "compiled":
        writer, seen = run_compiled(model, run, edits, watched, drawn.sliders)
    else:
        writer, seen = run_steered(model, run, edits, watched, drawn.sliders)
    every = [edit for group in edits.values() for edit in group]
    drawn.receipts.append(writer.receipts(len(rows), every, seconds))
    # Frame t is read at step t + 1, the first that has it as context.
    drawn.read.append([seen[place][1 : span.frames + 1].cpu().numpy() for place in watched])
    start = seconds_at(rows[0].prompt_frames, model.frame_rate_hz)
    drawn.seconds.append(start + np.array(seconds[: min(span.frames, run.visits - 1)]))
    drawn.codes = torch.cat([drawn.codes, run.codes[..., span.context :]], dim=-1)
    drawn.generators = run.generators


def _check_receipt(row: Row, receipt: Receipt) -> None:
    """Raise GenerationError when a scheduled, non-zero cell did not change, or an unplanned one did."""
    if receipt.ok:
        return
    first = receipt.missed.head(1).to_dict("records")
    found = "cells changed that were not planned to"
    do = "An operation must give back h itself for a = 0; of a built-in one, report this as a bug"
    if first:
        where = f"step {first[0]['step']}, layer {first[0]['layer']}"
        found = f"{len(receipt.missed)} planned edits did not change the residual stream ({where})"
        do = "Raise the dose (it may vanish in the model's precision), or report this as a bug"
    plan = row.plan.text() if row.plan else ""
    raise GenerationError(f"The plan {plan!r} was to be carried out", found, do)


def _traces(probes: Sequence[Readable], drawn: _Drawn, index: int) -> tuple[ProbeTrace, ...]:
    """What each probe read in clip `index`."""
    seconds = np.concatenate(drawn.seconds)
    traces = []
    for number, probe in enumerate(probes):
        residuals = np.concatenate([read[number][:, index] for read in drawn.read])
        read = np.asarray(probe.predict_proba(residuals), dtype=np.float32)
        classes = tuple(str(name) for name in probe.classes)
        traces.append(ProbeTrace(probe.target, int(probe.layer), classes, seconds, read))
    return tuple(traces)
