"""Replay: the codes of a recording drawn again by the same loop, the knobs where every step read them."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Sequence

import numpy as np
import torch

from workbench.errors import Cancelled, GenerationError, reason
from workbench.generation.circumstances import differences
from workbench.generation.controls import Controls, Slider
from workbench.generation.live_window import Carried, Listener, draw_window
from workbench.generation.recording import Recording
from workbench.generation.spans import most_frames
from workbench.model.musicgen import Model


class WrittenDoses(Controls):
    """Knobs that stand at each step where a recording says that they stood."""

    def __init__(self, doses: Sequence[tuple[float, ...]]) -> None:
        super().__init__()
        self._waiting = iter(doses)

    def read_sliders(self, keys: Sequence[Slider]) -> list[float]:
        """Return what the next step of the recording read."""
        doses = next(self._waiting)
        return [doses[term] for _clip, term in keys]


def replay(model: Model, recording: Recording, *, cancel: threading.Event | None = None) -> np.ndarray:
    """The codes (k, frames) int16 of a recording, drawn again.

    On the same machine, in the same precision, with as many threads and the same versions they are equal to
    `recording.codes` bit for bit. Where one of these differs a warning says so.

    Raises:
        GenerationError: When another model made the recording, or its windows or generator do not fit.
        Cancelled: When `cancel` was set.
    """
    recording.check(model)
    _warn(model, recording)
    if recording.setup.window > most_frames(model):
        raise GenerationError(
            f"The recording in {recording.folder} was to be replayed",
            f"its windows have {recording.setup.window} frames, and {model.id} holds {most_frames(model)}",
            "Use a folder that a session recorded, unchanged",
        )
    state = torch.tensor(recording.generator_state)
    on_cpu = len(state) == len(torch.Generator().get_state())
    generator = torch.Generator(device="cpu" if on_cpu else model.device)  # where the recording drew
    try:
        generator.set_state(state)
    except RuntimeError as error:
        raise GenerationError(
            f"The recording in {recording.folder} was to be replayed",
            f"the state of its generator is none of this device ({reason(error)})",
            "Replay it on the device that it was recorded on",
        ) from error
    heard = torch.tensor(recording.heard, dtype=torch.long, device=model.device)
    carried = Carried(generator, heard, recording.setup.overlap)
    drawn: list[np.ndarray] = []
    wanted = recording.codes.shape[-1]
    for window, doses in zip(recording.windows, recording.doses(), strict=True):
        listener = _until(drawn, wanted, window.cut, cancel)
        if window.cut != 0 and len(drawn) < wanted:
            draw_window(model, recording.setup, window.span, carried, WrittenDoses(doses), to=listener)
        if cancel is not None and cancel.is_set():
            raise Cancelled(f"Stopped on request after {len(drawn)} of {wanted} frames.")
    codes = np.concatenate([np.zeros((model.n_codebooks, 0)), *drawn], axis=-1)
    return codes.astype(np.int16)


def _until(drawn: list[np.ndarray], wanted: int, cut: int | None, cancel: threading.Event | None) -> Listener:
    """What collects frames, and cuts the window where it was cut or the recording has no more frames."""
    stop = threading.Event()

    def stepped(visits: int) -> None:
        asked = cancel is not None and cancel.is_set()
        if asked or visits == cut or len(drawn) >= wanted:
            stop.set()

    return Listener(lambda frames: drawn.append(frames.cpu().numpy()), stepped, stop)


def _warn(model: Model, recording: Recording) -> None:
    """Warn of everything here that may change bits and was different then."""
    differ = differences(recording.circumstances, model)
    if differ:
        told = (
            f"The replay may differ from the recording in single bits, and so in codes: {'; '.join(differ)}."
        )
        warnings.warn(told, stacklevel=3)
