"""Frames to pieces of sound for a music that does not end: only the last frames are kept."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from workbench.model.musicgen import Model
from workbench.model.piecewise import CONTEXT_FRAMES
from workbench.sound.clip import Clip


class LiveSound:
    """Turns frames into pieces of equal length as soon as each can be decoded.

    Args:
        model: whose codec is used.
        piece: frames of a piece.

    Attributes:
        frames: frames that have been turned into sound.
    """

    def __init__(self, model: Model, piece: int) -> None:
        self.piece, self.frames = piece, 0
        self._decoder = model.piece_decoder()
        self._known = torch.zeros(model.n_codebooks, 0, dtype=torch.long)

    @property
    def ahead(self) -> int:
        """Frames that have to be known beyond a piece."""
        return self._decoder.ahead

    def add(self, frames: torch.Tensor) -> Iterator[Clip]:
        """Yield the pieces that `frames` (k, n) complete."""
        self._known = torch.cat([self._known, frames.cpu()], dim=-1)
        while self._known.shape[-1] >= self._decoder.done + self.piece + self.ahead:
            yield self._decode(self._decoder.done + self.piece)

    def rest(self) -> Iterator[Clip]:
        """Yield what is left at the end."""
        while self._decoder.done < self._known.shape[-1]:
            yield self._decode(min(self._decoder.done + self.piece, self._known.shape[-1]))

    def _decode(self, end: int) -> Clip:
        """The sound up to frame `end` of the known ones; what the decoder hears no more is forgotten."""
        begin = self._decoder.done
        clip = self._decoder.decode(self._known, end)
        self.frames += end - begin
        past = max(0, end - CONTEXT_FRAMES)
        self._known = self._known[:, past:].clone()
        self._decoder.done -= past  # it counts in the codes that it is given
        return clip
