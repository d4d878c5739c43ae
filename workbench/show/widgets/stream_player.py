"""Streaming player: sound is heard while it is still being made, chunk by chunk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import traitlets

from workbench.errors import AudioError
from workbench.generation.pacing import held_back
from workbench.show.widgets.player import SoundWidget
from workbench.sound.clip import Clip

HERE = Path(__file__).parent

__all__ = ["StreamPlayer", "held_back"]


class StreamPlayer(SoundWidget):
    """Plays float32 chunks back to back as they are pushed, from any thread.

    Args:
        rate_hz: sample rate of all chunks.
        lead_s: seconds that must have come before the sound begins. A producer of r times real time (r < 1)
            needs `total * (1 - r)` seconds, or it stutters; `held_back` says how many.

    The page reports `underruns` (gaps heard), `lead_now_s` (scheduled ahead), `received_s` and `level`.
    """

    _esm = (HERE / "sound.js").read_text(encoding="utf-8") + (HERE / "stream_player.js").read_text(
        encoding="utf-8"
    )
    _css = HERE / "style.css"
    rate_hz = traitlets.Int().tag(sync=True)
    lead_s = traitlets.Float(0.3).tag(sync=True)
    lead_now_s = traitlets.Float(0.0).tag(sync=True)
    received_s = traitlets.Float(0.0).tag(sync=True)
    underruns = traitlets.Int(0).tag(sync=True)

    def __init__(self, rate_hz: int, *, lead_s: float = 0.3) -> None:
        super().__init__(rate_hz=rate_hz, lead_s=lead_s)
        self._chunks: list[np.ndarray] = []

    def push(self, chunk: np.ndarray) -> None:
        """Append (n,) samples in -1..1 to the sound.

        Raises:
            AudioError: the chunk is not one row of finite numbers.
        """
        samples = np.ascontiguousarray(chunk, dtype="<f4")
        if samples.ndim != 1 or not np.isfinite(samples).all():
            raise AudioError(
                "A chunk was to be played",
                f"it has shape {samples.shape} or is not finite",
                "Push one-dimensional, finite samples",
            )
        if len(samples):
            self._chunks.append(samples)
            self._tell({"kind": "chunk"}, samples.tobytes())

    def finish(self) -> None:
        """Say that nothing more comes; what is held back begins to play."""
        self._tell({"kind": "finish"})

    def reset(self) -> None:
        """Silence the player and forget all chunks."""
        self._chunks.clear()
        self._waiting.clear()
        self._tell({"kind": "reset"})

    def clip(self) -> Clip:
        """Return everything pushed so far as one clip.

        Raises:
            AudioError: nothing has been pushed.
        """
        if not self._chunks:
            raise AudioError(
                "The streamed clip was asked for", "nothing has been pushed", "Push chunks first"
            )
        return Clip(np.concatenate(self._chunks), self.rate_hz)
