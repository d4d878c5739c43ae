"""Sound while it is made: the same loop as `generate`, in a thread, its frames decoded as they arrive."""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Generator
from contextlib import suppress
from typing import Any

import torch

from workbench.errors import Cancelled, GenerationError, number_or_nan
from workbench.generation.generate import generate
from workbench.generation.take import Take
from workbench.model.musicgen import Model
from workbench.sound.clip import Clip


def stream(
    model: Model, prompt: str, *, piece_seconds: float = 0.5, **settings: Any
) -> Generator[Clip, None, Take]:
    """Pieces of the sound in order, as soon as they are known; the generator returns the Take.

    Closing the generator (or leaving its loop) cancels the run and leaves the model clean. Together the
    pieces are the sound of the take.

    Args:
        model: The model.
        prompt: Text; one clip at a time.
        piece_seconds: Length of each piece; the last one may be shorter.
        settings: Those of `generate` for one clip (steering, seed, seconds ...), but `cancel` and `on_frame`.

    Raises:
        Whatever `generate` raises, at the next piece.
    """
    if not 0 < number_or_nan(piece_seconds) < math.inf:
        found = "a length is a number above 0"
        raise GenerationError(f"Pieces of {piece_seconds!r} s were asked for", found, "Use 0.5")
    frames: queue.Queue[torch.Tensor | None] = queue.Queue()
    cancel, outcome = threading.Event(), _Outcome()
    settings = {"progress": False, **settings, "cancel": cancel}

    def work() -> None:
        try:
            outcome.take = generate(
                model, prompt, on_frame=lambda done, codes: frames.put(codes[0, :, :done].clone()), **settings
            )
        except BaseException as error:  # handed over to the reader, who raises it
            outcome.error = error
        finally:
            frames.put(None)

    thread = threading.Thread(target=work, name="workbench-stream", daemon=True)
    thread.start()
    try:
        yield from _pieces(model, frames, max(1, round(piece_seconds * model.frame_rate_hz)))
    finally:
        cancel.set()
        thread.join()
    return outcome.result()


class _Outcome:
    """How the run in the thread ended."""

    take: Take | None = None
    error: BaseException | None = None

    def result(self) -> Take:
        if self.error is not None:
            raise self.error
        if self.take is None:
            raise Cancelled("Stopped on request before the clip was finished.")
        return self.take


def _pieces(
    model: Model, frames: queue.Queue[torch.Tensor | None], piece: int
) -> Generator[Clip, None, None]:
    """Decoded pieces of `piece` frames, each as soon as the frames ahead of it are known."""
    codes, decoder = torch.empty(0), model.piece_decoder()
    while (known := frames.get()) is not None:
        codes = known
        with suppress(queue.Empty):  # the reader may be slow: only the newest codes matter
            while (newer := frames.get_nowait()) is not None:
                codes = newer
            frames.put(None)
        while codes.shape[-1] >= decoder.done + piece + decoder.ahead:
            yield decoder.decode(codes, decoder.done + piece)
    while codes.ndim == 2 and decoder.done < codes.shape[-1]:
        yield decoder.decode(codes, min(decoder.done + piece, codes.shape[-1]))
