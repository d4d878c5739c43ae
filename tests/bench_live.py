"""Is the live desk's knob heard? `python tests/bench_live.py --listener "PROGRAM"` (about eight minutes).

For each genre a minute of music is played, in six doses of ten seconds. An outside listener (see
`recipe.evaluation.listener`) and the built-in judge hear windows of two seconds, shifted by the way from knob
to ear. Printed is the rank correlation of dose and what each hears of the genre.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "data" / "embedded"))

from recipe.evaluation.listener import listen

import workbench as wb
from workbench.generation.live.session import LiveSession

DOSES = (0.0, 0.06, 0.12, 0.18, 0.24, 0.3)
EACH_S, WINDOW_S, LATE_S = 10, 2, 1.5
LAYER, SEED = 2, 11


def played(model: wb.Model, directions: dict[str, wb.Direction], genre: str) -> list[wb.Clip]:
    """Return the windows of a minute in which the knob of a genre is turned up, four a dose."""
    pieces: list[wb.Clip] = []
    session = LiveSession(model, directions, prompt="a tune", seed=SEED, on_piece=pieces.append).start()
    for dose in DOSES:
        session.slide(genre, dose)
        session.wait(EACH_S)
    print(genre, session.figures())  # noqa: T201
    session.stop()
    samples, rate = np.concatenate([piece.samples for piece in pieces]), pieces[0].rate_hz
    begins = [EACH_S * k + LATE_S + WINDOW_S * w for k in range(len(DOSES)) for w in range(4)]
    return [wb.Clip(samples[int(s * rate) : int((s + WINDOW_S) * rate)], rate) for s in begins]


def main() -> None:
    """Play and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listener", required=True)
    asked = parser.parse_args()
    model, judge = wb.load("embedded"), wb.load_judge()
    acts = wb.capture(model, wb.dataset("embedded").take(60), seconds=5)
    directions = wb.fit_probes(acts, "genre", method="means", shuffles=0).directions(LAYER)
    doses, found = np.repeat(DOSES, 4), []
    for genre in judge.classes:
        clips = played(model, directions, genre)
        with tempfile.TemporaryDirectory() as folder:
            for number, clip in enumerate(clips):
                clip.write(Path(folder) / genre / f"{number:03d}.wav")
            outside = listen(asked.listener, Path(folder), [genre])[genre][:, 0]
        own = judge.probabilities(clips)[:, judge.classes.index(genre)]
        found.append(spearmanr(doses, outside).statistic)
        print(f"{genre}: listener {found[-1]:.2f}, judge {spearmanr(doses, own).statistic:.2f}")  # noqa: T201
    print(f"listener: median {np.median(found):.2f}, least {min(found):.2f}")  # noqa: T201


if __name__ == "__main__":
    main()
