"""Generation: prompts, plans and seeds in, takes out. The steering itself happens in `steer_loop`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Protocol, overload

import numpy as np
import torch
from tqdm.auto import tqdm

from workbench.errors import GenerationError, message
from workbench.generation.cells import lay_out
from workbench.generation.receipt import Receipt
from workbench.generation.request import Plan, Row, Settings, rows_of
from workbench.generation.steer_loop import run_steered
from workbench.generation.take import ProbeTrace, Take
from workbench.model.musicgen import Model
from workbench.model.sites import Place
from workbench.model.tokens import seconds_at

OnFrame = Callable[[int, torch.Tensor], None]
"""Called with the number of finished frames and the codes (B, k, T), of which so many are filled in."""


class Readable(Protocol):
    """What a probe must offer to be watched while a clip is made."""

    @property
    def layer(self) -> int:
        """The block it reads."""

    @property
    def site(self) -> str:
        """The site it reads."""

    @property
    def target(self) -> str:
        """What it tells apart."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of what it tells apart."""

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        """Probabilities (n, classes) for residuals (n, d_model)."""


@overload
def generate(  # type: ignore[overload-overlap]  # a str is a Sequence[str] to the type checker
    model: Model, prompt: str, *, steering: Plan = ..., seed: int = ..., seconds: float = ...,
    guidance: float = ..., temperature: float = ..., top_k: int | None = ..., progress: bool = ...,
    on_frame: OnFrame | None = ..., cancel: threading.Event | None = ...,
    probes: Sequence[Readable] | None = ..., batch: int = ...,
) -> Take: ...  # fmt: skip


@overload
def generate(
    model: Model, prompt: str | Sequence[str], *, steering: Plan | Sequence[Plan] = ...,
    seed: int | Sequence[int] = ..., seconds: float = ..., guidance: float = ..., temperature: float = ...,
    top_k: int | None = ..., progress: bool = ..., on_frame: OnFrame | None = ...,
    cancel: threading.Event | None = ..., probes: Sequence[Readable] | None = ..., batch: int = ...,
) -> list[Take]: ...  # fmt: skip


def generate(
    model: Model,
    prompt: str | Sequence[str],
    *,
    steering: Plan | Sequence[Plan] = None,
    seed: int | Sequence[int] = 0,
    seconds: float = 5.0,
    guidance: float = 3.0,
    temperature: float = 1.0,
    top_k: int | None = None,
    progress: bool = True,
    on_frame: OnFrame | None = None,
    cancel: threading.Event | None = None,
    probes: Sequence[Readable] | None = None,
    batch: int = 32,
) -> Take | list[Take]:
    """A take, or a list of takes when prompt, steering or seed is a list (single values go with all of them).

    Args:
        model: The model; one generation runs at a time.
        prompt: Text.
        steering: A plan, or None. Rows with different plans are drawn in one batch, under one trace.
        seed: Belongs to the row: the same prompt, plan and seed give the same codes in any batch.
        seconds: Length of each clip.
        guidance: Classifier-free guidance g; 1 or less runs without null rows.
        temperature: Divides the logits.
        top_k: Codes kept per draw; 0 keeps all; by default what the checkpoint's own settings say, else 250.
        progress: Whether to show a progress bar.
        on_frame: Called from the running loop after each finished frame.
        cancel: Set it (from any thread) to stop before the next step.
        probes: Probes to read while the clip is made, after steering; see `Take.probe_traces`.
        batch: The most clips drawn at once.

    Raises:
        GenerationError: For requests that make no sense, and when the receipt shows that a planned edit
        failed.
        SteeringError: When a plan does not fit the model.
        Cancelled: When `cancel` was set; the model is left clean.
    """
    rows, many = rows_of(model, prompt, steering, seed)
    settings = Settings(float(guidance), float(temperature), model.top_k if top_k is None else int(top_k))
    parts = [rows[start : start + batch] for start in range(0, len(rows), batch)]
    frames, delay = model.frames_for(seconds), max(model.delays)
    total = len(parts) * (frames + delay)
    with tqdm(total=total, desc="Generating", unit="step", disable=not progress, leave=False) as bar:
        report = _Report(bar.update, on_frame, delay)
        draw = partial(_draw, model, frames=frames, settings=settings, on_step=report, cancel=cancel)
        takes = [take for part in parts for take in draw(part, probes=probes or ())]
    return takes if many else takes[0]


@dataclass(frozen=True)
class _Report:
    """What the loop calls after each step: moves the bar, and tells of frames that are finished."""

    advance: Callable[[], object]
    on_frame: OnFrame | None
    delay: int

    def __call__(self, step: int, codes: torch.Tensor) -> None:
        self.advance()
        done = step + 1 - self.delay
        if self.on_frame is not None and done > 0:
            self.on_frame(done, codes)


def _draw(
    model: Model,
    rows: Sequence[Row],
    *,
    frames: int,
    settings: Settings,
    probes: Sequence[Readable],
    on_step: Callable[[int, torch.Tensor], None],
    cancel: threading.Event | None,
) -> list[Take]:
    """The takes of one batch: laid out, drawn under one trace, checked against the receipt, decoded."""
    prompts, seeds = [row.prompt for row in rows], [row.seed for row in rows]
    callbacks = {"on_step": on_step, "cancel": cancel}
    run = model.sampling(prompts, seeds=seeds, frames=frames, **asdict(settings), **callbacks)
    seconds = [seconds_at(step, model.frame_rate_hz) for step in range(run.steps)]
    edits = lay_out([row.plan for row in rows], seconds, guided=run.guided, device=model.device)
    watched = [(probe.layer, probe.site) for probe in probes]
    writer, seen = run_steered(model, run, edits, watched)
    receipts = writer.receipts(len(rows), [edit for group in edits.values() for edit in group], seconds)
    for row, receipt in zip(rows, receipts, strict=True):
        _check_receipt(row, receipt)
    clips, codes = model.decode_batch(list(run.codes)), run.codes.cpu().numpy()
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
            probe_traces=tuple(_trace(model, probe, seen, index, frames=frames) for probe in probes),
            **asdict(settings),
        )
        for index, row in enumerate(rows)
    ]


def _check_receipt(row: Row, receipt: Receipt) -> None:
    """Raise GenerationError when a scheduled, non-zero cell did not change, or an unplanned one did."""
    if receipt.ok:
        return
    first = receipt.missed.head(1).to_dict("records")
    where = f"step {first[0]['step']}, layer {first[0]['layer']}" if first else "a cell that was not planned"
    raise GenerationError(
        message(
            f"The plan {row.plan.text() if row.plan else ''!r} was to be carried out",
            f"{len(receipt.missed)} planned edits did not change the residual stream as planned ({where})",
            "Raise the dose (it may vanish in the model's precision), or report this as a bug",
        )
    )


def _trace(
    model: Model, probe: Readable, seen: dict[Place, torch.Tensor], index: int, *, frames: int
) -> ProbeTrace:
    """What `probe` read in clip `index`; frame t is read at step t + 1, the first that has heard it."""
    residuals = seen[probe.layer, probe.site][1 : frames + 1, index].cpu().numpy()
    seconds = np.array([seconds_at(frame, model.frame_rate_hz) for frame in range(len(residuals))])
    read = np.asarray(probe.predict_proba(residuals), dtype=np.float32)
    return ProbeTrace(
        probe.target, int(probe.layer), tuple(str(name) for name in probe.classes), seconds, read
    )
