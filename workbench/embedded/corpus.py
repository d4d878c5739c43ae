"""The sets of pieces: which grooves and seeds belong to whom, rendered once into a build folder.

| set        | grooves a genre | soundfont        | used for                                        |
|------------|-----------------|------------------|-------------------------------------------------|
| `train`    | 0-9             | FluidR3          | codec and language model                        |
| `listen`   | 0-11            | FluidR3          | the labelled set that ships (10, 11 never trained) |
| `judge`    | 100-115         | FluidR3, MuseScore, OPL-3 | training the judge                     |
| `judge-varied` | 120-139   | the same, sounds varied | training the judge                       |
| `exam`     | 116-119         | TimGM6mb         | validating the judge (never committed as audio) |

No piece and no groove is shared between `train`/`listen` and `judge`/`exam`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from workbench.embedded import styles
from workbench.embedded.compose import compose
from workbench.embedded.factors import Factors, draw_factors
from workbench.embedded.render import RATE_HZ, find_soundfont, render, vary


@dataclass(frozen=True)
class Split:
    """A set of pieces: grooves x seeds of every genre."""

    name: str
    grooves: range
    pieces_a_groove: int
    first_seed: int
    soundfonts: tuple[str, ...]
    bars: int = 8
    seconds: float | None = None
    varied: bool = False  # sounds and levels drawn at random around the style's own

    def factors(self) -> list[Factors]:
        """Return the factors of every piece, genre by genre, groove by groove."""
        return [
            draw_factors(genre, groove, self.first_seed + i)
            for genre in styles.GENRES
            for groove in self.grooves
            for i in range(self.pieces_a_groove)
        ]


FLUID, MUSESCORE, TIM = "FluidR3_GM.sf2", "MuseScore_General_Full.sf2", "TimGM6mb.sf2"
OPL3 = "OPL-3_FM_128M.sf2"
SPLITS: dict[str, Split] = {
    "train": Split("train", range(10), 24, 0, (FLUID,)),
    "listen": Split("listen", range(12), 17, 10_000, (FLUID,), bars=6, seconds=10.0),
    "judge": Split("judge", range(100, 116), 18, 20_000, (FLUID, MUSESCORE, OPL3), bars=6, seconds=10.0),
    "judge-varied": Split(
        "judge-varied",
        range(120, 140),
        8,
        40_000,
        (FLUID, MUSESCORE, OPL3),
        bars=6,
        seconds=10.0,
        varied=True,
    ),
    "exam": Split("exam", range(116, 120), 10, 30_000, (TIM,), bars=6, seconds=10.0),
}


@dataclass(frozen=True)
class Corpus:
    """A rendered split: samples of all pieces end to end, and where each begins."""

    samples: np.ndarray  # (n,) int16, memory-mapped
    starts: np.ndarray  # (pieces + 1,) int64
    factors: tuple[Factors, ...]

    def __len__(self) -> int:
        return len(self.factors)

    def piece(self, index: int) -> np.ndarray:
        """Return the samples (n,) float32 of one piece."""
        return self.samples[self.starts[index] : self.starts[index + 1]].astype(np.float32) / 32768

    def __iter__(self) -> Iterator[tuple[Factors, np.ndarray]]:
        return ((f, self.piece(i)) for i, f in enumerate(self.factors))


def corpus(name: str, build: Path) -> Corpus:
    """Return a rendered split, rendering it into the build folder if it is not there yet."""
    split = SPLITS[name]
    folder = build / "audio"
    index = folder / f"{name}.json"
    if not index.exists():
        _render_split(split, folder)
    content = json.loads(index.read_text())
    samples = np.memmap(folder / f"{name}.int16", np.int16, "r")
    return Corpus(
        samples, np.array(content["starts"], np.int64), tuple(Factors(**f) for f in content["factors"])
    )


def _render_split(split: Split, folder: Path) -> None:
    """Write ``<name>.int16`` and, last, ``<name>.json`` (so that a broken run is begun again)."""
    folder.mkdir(parents=True, exist_ok=True)
    starts = [0]
    with (folder / f"{split.name}.int16").open("wb") as file:
        for i, factors in enumerate(tqdm(split.factors(), desc=f"render {split.name}", mininterval=5)):
            font = find_soundfont(split.soundfonts[i % len(split.soundfonts)])
            piece = compose(factors, split.bars)
            samples = render(vary(piece) if split.varied else piece, font, seconds=split.seconds)
            file.write((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
            starts.append(starts[-1] + len(samples))
    content = {"rate_hz": RATE_HZ, "starts": starts, "factors": [asdict(f) for f in split.factors()]}
    (folder / f"{split.name}.json").write_text(json.dumps(content))
