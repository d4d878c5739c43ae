"""The stream player of a live session: keeps no sound, can be paused, and tells what has been heard."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import traitlets

from workbench.generation.playback import Playback
from workbench.show.widgets.stream_player import StreamPlayer


class LivePlayer(StreamPlayer):
    """Plays what a session delivers, on every page that shows it; where there is none, sound is let go.

    `heard` is what the page reports four times a second: seconds played and gaps since the last `follow`.
    """

    live = traitlets.Bool(True).tag(sync=True)
    epoch = traitlets.Int(0).tag(sync=True)
    heard = traitlets.Dict().tag(sync=True)
    silenced = traitlets.Int(0)
    """Counts how often another player on the page has taken the loudspeaker."""

    def __init__(self, rate_hz: int) -> None:
        super().__init__(rate_hz)
        self._playback = Playback()
        self._there = self._joining = False
        self.on_msg(self._receive)
        self.observe(self._report, "heard")

    def follow(self, playback: Playback) -> None:
        """Begin anew, for another session: what is heard is told to `playback`."""
        self.epoch += 1
        self._waiting.clear()
        if self._there:
            self._tell({"kind": "reset", "epoch": self.epoch})
        self._playback, self._joining = playback, self._there
        self.lead_s = playback.hold_s

    def push(self, chunk: np.ndarray) -> None:
        """Play (n,) samples after those that came before, on the page that is there, if one is.

        Call it just before these samples are delivered to the playback.

        Raises:
            AudioError: the chunk is not one row of finite numbers.
        """
        if self._joining:
            self._joining = False
            self._playback.join()
        if self._there:
            super().push(chunk)
            self._chunks.clear()  # music without an end is not kept

    def pause(self) -> None:
        """Fall silent at once, and keep what was not heard yet."""
        if self._there:
            self._tell({"kind": "pause"})

    def resume(self) -> None:
        """Go on."""
        if self._there:
            self._tell({"kind": "resume"})

    def _receive(self, _player: object, content: Mapping[str, Any], _buffers: object) -> None:
        if content.get("kind") == "joined":
            self._waiting.clear()
            self._there = self._joining = True
        elif content.get("kind") == "left":
            self._there = self._joining = False
            self._playback.leave()
        elif content.get("kind") == "silenced":
            self.silenced += 1

    def _report(self, _change: object) -> None:
        told = self.heard
        if told.get("epoch") == self.epoch and not self._joining:
            self._playback.report(
                float(told["played_s"]), playing=bool(told["playing"]), underruns=int(told["underruns"])
            )
