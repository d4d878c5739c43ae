"""The sets of pieces: which grooves and seeds belong to whom.

| set | grooves a genre | used for |
|---|---|---|
| `train` | 0-11 | the language model, as tokens |
| `music` | 0-13 | the labelled music that ships (12, 13 were never trained on) |
| `held` | 12, 13 | cross-entropy of the language model |
| `judge` | 120-149 | training judges |
| `judge-test` | 116-119 | testing judges |

No piece is in two sets, and no groove is shared between `train` or `music` and the judges' sets.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from recipe.compose import BARS, compose
from recipe.factors import GENRES, Factors, draw_factors


@dataclass(frozen=True)
class Split:
    """A set of pieces: grooves x seeds of every genre."""

    name: str
    grooves: range
    pieces_a_groove: int
    first_seed: int
    bars: int = BARS

    def factors(self) -> list[Factors]:
        """Return the factors of every piece, genre by genre, groove by groove."""
        return [
            draw_factors(genre, groove, self.first_seed + i)
            for genre in GENRES
            for groove in self.grooves
            for i in range(self.pieces_a_groove)
        ]


SPLITS: dict[str, Split] = {
    "train": Split("train", range(12), 72, 0),
    "music": Split("music", range(14), 15, 10_000),
    "held": Split("held", range(12, 14), 12, 15_000),
    "judge": Split("judge", range(120, 150), 9, 20_000),
    "judge-test": Split("judge-test", range(116, 120), 10, 30_000),
}


@dataclass(frozen=True)
class Scores:
    """The tokens of a set: codes (7, frames) int16 and factors of every piece."""

    factors: tuple[Factors, ...]
    codes: tuple[np.ndarray, ...]

    def __len__(self) -> int:
        return len(self.factors)


def scores(name: str, build: Path) -> Scores:
    """Return the composed pieces of a set, composing them into the build folder if they are not there yet."""
    factors = tuple(SPLITS[name].factors())
    path = build / "scores" / f"{name}.npz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        pieces = [compose(f, SPLITS[name].bars).codes for f in tqdm(factors, desc=name, mininterval=5)]
        ends = np.cumsum([piece.shape[1] for piece in pieces])
        aside = path.with_suffix(".tmp.npz")
        np.savez_compressed(aside, codes=np.concatenate(pieces, axis=1), ends=ends)
        aside.replace(path)
    with np.load(path) as held:
        codes, ends = held["codes"], held["ends"]
    return Scores(factors, tuple(np.split(codes, ends[:-1], axis=1)))
