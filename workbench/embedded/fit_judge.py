"""Trains the judges on sound that the language model never saw: other pieces, grooves and soundfonts.

Each judge hears only the blocks of features that its factor lives in (``HEARS``), so that it cannot tell the
tempo by the genre's timbre, or the lead by the chords. Leads lean towards genres in the music; in a judge's
lessons every class is as frequent as every other in every genre, so that the genre is no hint.

Regularisation is chosen by leaving out one soundfont and a third of the grooves at a time. The exam, a fourth
soundfont and again other grooves, is only marked. To hear through a codec's blur, three of four crops are
coloured (``judge_lessons``).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np

from workbench.embedded.factors import BEAT_FRAMES, FRAME_RATE_HZ
from workbench.embedded.judge_lessons import CROP_S, Lessons, exam, lessons
from workbench.evidence.features import VERSION, block_slices
from workbench.evidence.judge import Judge

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
Say = Callable[[str], None]
Figures = dict[str, object]


@dataclass(frozen=True)
class Shape:
    """What is chosen for a judge: the L2 penalty and the hidden units of each of its networks."""

    alpha: float
    width: int


def fit_judges(
    build: Path,
    *,
    targets: Sequence[str] = TARGETS,
    seed: int = 0,
    networks: int = 5,
    say: Say = lambda _: None,
) -> dict[str, Judge]:
    """Return a judge of each factor, with its validation and exam figures in its card.

    Several small networks with different seeds vote; side by side they are one wider network.

    Args:
        build: folder that holds (or will hold) the rendered corpus and the trained codec.
        targets: the factors that are to be heard.
        seed: of crops, colours and the networks.
        networks: how many vote.
        say: is told each judge's figures.
    """
    school, marked = lessons(build, seed), exam(build, seed)
    judges = {}
    for target in targets:
        shape, validation = _choose(school, target, seed)
        judge = _fit(school, target, shape, seeds=range(seed, seed + networks))
        card = {**_about(school, shape, seed), **validation, **_examine(judge, school, marked)}
        judges[target] = replace(judge, card=card)
        say(f"{target}: {_headline(card)}")
    return judges


def _fit(school: Lessons, target: str, shape: Shape, *, seeds: Sequence[int]) -> Judge:
    """Return a judge without a card, trained on all the lessons; one network for each seed."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    x, labels = school.x[:, _columns(target)], school.labels(target)
    mean, scale = x.mean(axis=0), x.std(axis=0) + 1e-4
    z = np.clip((x - mean) / scale, -6, 6)
    rows = _balanced(labels, school.labels("genre"), np.random.default_rng(seeds[0]))
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
    return Judge(target, classes, mean, scale, (hidden, (weight, bias)), {}, HEARS[target])


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


def _choose(school: Lessons, target: str, seed: int) -> tuple[Shape, Figures]:
    """Return the shape with the best mean accuracy on soundfonts and grooves left out, and all figures."""
    fonts = sorted({str(font) for font in school.fonts})
    shapes = [Shape(alpha, width) for alpha, width in product(ALPHAS, WIDTHS)]
    table = np.zeros((len(shapes), len(fonts)))
    for k, font in enumerate(fonts):
        left_out = (school.fonts == font) & (school.grooves % len(fonts) == k)
        kept = (school.fonts != font) & (school.grooves % len(fonts) != k)
        test = school.take(left_out)
        for i, shape in enumerate(shapes):
            judge = _fit(school.take(kept), target, shape, seeds=(seed,))
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


def _accuracy(judge: Judge, lessons: Lessons) -> float:
    return float((_heard(judge, lessons) == lessons.labels(judge.target)).mean())


def _heard(judge: Judge, lessons: Lessons) -> np.ndarray:
    return np.asarray(np.array(judge.classes)[judge.probabilities_of(lessons.x).argmax(axis=1)])


def _about(school: Lessons, shape: Shape, seed: int) -> Figures:
    return {
        "trained_on": f"{len(school.x)} crops of {CROP_S:g} s: {school.source}",
        "features": VERSION,
        **vars(shape),
        "seed": seed,
    }


def _examine(judge: Judge, school: Lessons, marked: Lessons) -> Figures:
    """Return the exam's figures: accuracies, where they are lowest, and what the genre alone would give."""
    from sklearn.metrics import confusion_matrix

    target = judge.target
    parts = {colour: marked.take(marked.colours == colour) for colour in ("plain", "codec")}
    truth, heard = parts["plain"].labels(target), _heard(judge, parts["plain"])
    coded = _heard(judge, parts["codec"])
    figures: Figures = {
        "exam": f"{len(truth)} crops: {marked.source}",
        "exam_accuracy": round(float((truth == heard).mean()), 4),
        "exam_accuracy_through_codec": round(float((truth == coded).mean()), 4),
    }
    if target != "genre":
        figures["exam_guessed_from_genre"] = round(_guessed_from_genre(school, parts["plain"], target), 4)
    for by in ("genre", "density"):
        groups = parts["plain"].labels(by)
        figures[f"exam_accuracy_by_{by}"] = {
            str(g): round(float((truth == heard)[groups == g].mean()), 4) for g in np.unique(groups)
        }
    names = list(judge.classes)
    figures["confusion (rows: truth)"] = confusion_matrix(truth, heard, labels=names).tolist()
    figures["confusion through codec"] = confusion_matrix(truth, coded, labels=names).tolist()
    if target == "tempo":
        figures["bpm"] = {c: 60 * FRAME_RATE_HZ / BEAT_FRAMES[c] for c in names}
    return figures


def _guessed_from_genre(school: Lessons, marked: Lessons, target: str) -> float:
    """Return the accuracy of always naming the genre's most frequent class: what a lazy judge would reach."""
    genres, labels = school.labels("genre"), school.labels(target)
    usual = {}
    for genre in np.unique(genres):
        names, counts = np.unique(labels[genres == genre], return_counts=True)
        usual[genre] = names[counts.argmax()]
    guesses = np.array([usual[genre] for genre in marked.labels("genre")])
    return float((guesses == marked.labels(target)).mean())


def _headline(card: Figures) -> str:
    return (
        f"left-out soundfonts {card['left_out_accuracy']}, exam {card['exam_accuracy']}, "
        f"through the codec {card['exam_accuracy_through_codec']}"
    )
