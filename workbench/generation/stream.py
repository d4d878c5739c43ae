"""Sound while it is made: the same loop as `generate`, in a thread, its frames decoded as they arrive."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any

import numpy as np
import torch

from workbench.errors import Cancelled
from workbench.generation.generate import generate
from workbench.generation.take import Take
from workbench.model.musicgen import Model
from workbench.sound.clip import Clip

# Decoded again on both sides of a piece, and cut off, for an LSTM remembers. With 25 frames to the left
# MusicGen's EnCodec equals one decoding of the whole to an rms of 7e-7, but the built-in codec is off by
# up to 2 % of its rms at the borders; with 50 frames by 1e-5.
CONTEXT_FRAMES = 50
AHEAD_FRAMES = 5


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
    codes, told, per_frame = torch.empty(0), 0, model.rate_hz / model.frame_rate_hz
    while (known := frames.get()) is not None:
        codes = known
        with suppress(queue.Empty):  # the reader may be slow: only the newest codes matter
            while (newer := frames.get_nowait()) is not None:
                codes = newer
            frames.put(None)
        while codes.shape[-1] >= told + piece + AHEAD_FRAMES:
            yield decode_piece(model.decode, codes, (told, told + piece), per_frame)
            told += piece
    while codes.ndim == 2 and told < codes.shape[-1]:
        end = min(told + piece, codes.shape[-1])
        yield decode_piece(model.decode, codes, (told, end), per_frame)
        told = end


def decode_piece(
    decode: Callable[[torch.Tensor], Clip], codes: torch.Tensor, frames: tuple[int, int], per_frame: float
) -> Clip:
    """The sound of some frames, decoded with what lies around them.

    Args:
        decode: Turns codes (k, frames) into sound.
        codes: All that are known, (k, frames); `AHEAD_FRAMES` more than the piece, but at the end.
        frames: First frame of the piece, and the one after its last.
        per_frame: Samples per frame.
    """
    start, end = frames
    left = max(0, start - CONTEXT_FRAMES)
    sound = decode(codes[:, left : end + AHEAD_FRAMES])
    cut = np.array([start - left, end - left]) * per_frame
    first, last = cut.round().astype(int)
    return Clip(sound.samples[first:last], sound.rate_hz)
