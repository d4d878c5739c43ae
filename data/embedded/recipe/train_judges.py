"""Trains the judges on sound that the language model never saw: other pieces, grooves and soundfonts.

Each judge hears only the blocks of features that its factor lives in (``HEARS``), so that it cannot tell the
tempo by the genre's timbre, or the lead by the chords. Leads belong to genres in the music; in a judge's
training every class is as frequent as every other in every genre, as far as it occurs there, so that the
genre is no hint.

Regularisation is chosen by leaving out one soundfont and a third of the grooves at a time. The test set, a
fourth soundfont and again other grooves, chooses nothing.

Run it as ``python -m recipe.train_judges BUILD --out FOLDER``.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np

from recipe.judge_data import CROP_S, TEST_FONT, Crops, test_crops, training_crops
from recipe.samples import SHIPPED
from workbench.evidence.features import VERSION, block_slices
from workbench.evidence.judge import TrainedJudge
from workbench.model.band import BEAT_FRAMES, FRAME_RATE_HZ

TARGETS = ("genre", "tempo", "mode", "mood", "lead")
HEARS: dict[str, tuple[str, ...]] = {
    "genre": ("spectrum", "rhythm", "intervals", "melody"),
    "tempo": ("rhythm", "pulse"),
    "mode": ("intervals", "key"),
    "mood": ("rhythm", "pulse", "intervals", "key"),
    "lead": ("melody",),
}
ALPHAS, WIDTHS = (0.1, 1.0, 10.0, 30.0), (32, 96)
_EPOCHS = 25
Figures = dict[str, object]


@dataclass(frozen=True)
class Shape:
    """What is chosen for a judge: the L2 penalty and the hidden units of each of its networks."""

    alpha: float
    width: int


def train_judges(
    build: Path,
    *,
    targets: Sequence[str] = TARGETS,
    seed: int = 0,
    networks: int = 5,
) -> dict[str, TrainedJudge]:
    """Return a judge of each factor, with its validation and exam figures in its card.

    Several small networks with different seeds vote; side by side they are one wider network.

    Args:
        build: folder that holds (or will hold) the composed scores and the soundfonts' banks.
        targets: the factors that are to be heard.
        seed: of crops, colours and the networks.
        networks: how many vote.
    """
    training, test = training_crops(build, seed), test_crops(build, seed)
    judges = {}
    for target in targets:
        shape, validation = _choose(training, target, seed)
        judge = _fit(training, target, shape, seeds=range(seed, seed + networks))
        card = {**_about(training, shape, seed), **validation, **_tested(judge, training, test)}
        judges[target] = replace(judge, card=card)
    return judges


def _fit(training: Crops, target: str, shape: Shape, *, seeds: Sequence[int]) -> TrainedJudge:
    """Return a judge without a card, trained on all the crops; one network for each seed."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    x, labels = training.x[:, _columns(target)], training.labels(target)
    mean, scale = x.mean(axis=0), x.std(axis=0) + 1e-4
    z = np.clip((x - mean) / scale, -6, 6)
    rows = _balanced(labels, training.labels("genre"), np.random.default_rng(seeds[0]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a fixed number of epochs is the stopping rule
        voters = [
            MLPClassifier(
                (shape.width,),
                alpha=shape.alpha,
                learning_rate_init=2e-3,
                max_iter=_EPOCHS,
                random_state=seed,
            ).fit(z[rows], labels[rows])
            for seed in seeds
        ]
    hidden = (np.hstack([v.coefs_[0] for v in voters]), np.hstack([v.intercepts_[0] for v in voters]))
    weight, bias = (np.vstack([v.coefs_[1] for v in voters]), np.mean([v.intercepts_[1] for v in voters], 0))
    weight /= len(voters)
    if len(voters[0].classes_) == 2:  # one logistic output: split it over two, whose softmax is the same
        weight, bias = np.hstack([-weight / 2, weight / 2]), np.concatenate([-bias / 2, bias / 2])
    classes = tuple(str(c) for c in voters[0].classes_)
    layers = (_in_half(*hidden), _in_half(weight, bias))
    return TrainedJudge(target, classes, mean, scale, layers, {}, HEARS[target])


def _in_half(weight: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return weights as half precision keeps them, in which they ship."""
    return weight.astype(np.float16).astype(np.float32), bias.astype(np.float16).astype(np.float32)


def _columns(target: str) -> np.ndarray:
    """Return the places of the features that a judge of the target hears."""
    slices = block_slices()
    return np.concatenate([np.arange(slices[b].start, slices[b].stop) for b in HEARS[target]])


def _balanced(labels: np.ndarray, genres: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return rows with repetitions, each class equally frequent within each genre, in random order."""
    rows = []
    for genre in np.unique(genres):
        members = [np.flatnonzero((genres == genre) & (labels == label)) for label in np.unique(labels)]
        size = max(len(m) for m in members)
        rows += [np.concatenate([m, rng.choice(m, size - len(m))]) for m in members if len(m)]
    return rng.permutation(np.concatenate(rows))


def _choose(training: Crops, target: str, seed: int) -> tuple[Shape, Figures]:
    """Return the shape with the best mean accuracy on soundfonts and grooves left out, and all figures."""
    fonts = sorted({str(font) for font in training.fonts})
    shapes = [Shape(alpha, width) for alpha, width in product(ALPHAS, WIDTHS)]
    table = np.zeros((len(shapes), len(fonts)))
    for k, font in enumerate(fonts):
        left_out = (training.fonts == font) & (training.grooves % len(fonts) == k)
        kept = (training.fonts != font) & (training.grooves % len(fonts) != k)
        test = training.take(left_out)
        for i, shape in enumerate(shapes):
            judge = _fit(training.take(kept), target, shape, seeds=(seed,))
            table[i, k] = _accuracy(judge, test)
    best = int(table.mean(axis=1).argmax())
    figures: Figures = {
        "validated_by": "leaving out one soundfont and a third of the grooves at a time, all colours",
        "left_out_accuracy": {font: round(float(a), 4) for font, a in zip(fonts, table[best], strict=True)},
        "candidates": [
            {**vars(shape), "accuracy": round(float(row.mean()), 4)}
            for shape, row in zip(shapes, table, strict=True)
        ],
    }
    return shapes[best], figures


def _accuracy(judge: TrainedJudge, crops: Crops) -> float:
    return float((_heard(judge, crops) == crops.labels(judge.target)).mean())


def _heard(judge: TrainedJudge, crops: Crops) -> np.ndarray:
    return np.asarray(np.array(judge.classes)[judge.probabilities_of(crops.x).argmax(axis=1)])


def _about(training: Crops, shape: Shape, seed: int) -> Figures:
    return {
        "trained_on": f"{len(training.x)} crops of {CROP_S:g} s: {training.source}",
        "features": VERSION,
        **vars(shape),
        "seed": seed,
    }


def _tested(judge: TrainedJudge, training: Crops, test: Crops) -> Figures:
    """Return figures on the test set: accuracies, where they are lowest, what the genre alone would give."""
    from sklearn.metrics import confusion_matrix

    target = judge.target
    parts = {font: test.take(test.fonts == font) for font in (TEST_FONT, SHIPPED)}
    truth, heard = parts[TEST_FONT].labels(target), _heard(judge, parts[TEST_FONT])
    figures: Figures = {
        "tested_on": f"{len(truth)} crops each: {test.source}",
        "test_accuracy": round(float((truth == heard).mean()), 4),
        "test_accuracy_shipped_sounds": round(_accuracy(judge, parts[SHIPPED]), 4),
    }
    if target != "genre":
        figures["test_accuracy_guessed_from_genre"] = round(
            _guessed_from_genre(training, parts[TEST_FONT], target), 4
        )
    for by in ("genre", "density", "typical"):
        groups = parts[TEST_FONT].labels(by)
        figures[f"test_accuracy_by_{by}"] = {
            str(g): round(float((truth == heard)[groups == g].mean()), 4) for g in np.unique(groups)
        }
    counts = confusion_matrix(truth, heard, labels=list(judge.classes))
    figures["confusion (rows: truth)"] = counts.tolist()
    if target == "tempo":
        figures["bpm"] = {c: 60 * FRAME_RATE_HZ / BEAT_FRAMES[c] for c in judge.classes}
    return figures


def _guessed_from_genre(training: Crops, test: Crops, target: str) -> float:
    """Return the accuracy of always naming the genre's most frequent class: what a lazy judge would reach."""
    genres, labels = training.labels("genre"), training.labels(target)
    usual = {}
    for genre in np.unique(genres):
        names, counts = np.unique(labels[genres == genre], return_counts=True)
        usual[genre] = names[counts.argmax()]
    guesses = np.array([usual[genre] for genre in test.labels("genre")])
    return float((guesses == test.labels(target)).mean())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("build", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    for judge in train_judges(asked.build).values():
        judge.save(asked.out)
        keys = (
            "left_out_accuracy",
            "test_accuracy",
            "test_accuracy_shipped_sounds",
            "test_accuracy_by_typical",
        )
        print(judge.target, {key: judge.card[key] for key in keys})
