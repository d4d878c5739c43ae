"""Activations with one fault of known size in them: what a diagnosis must find, and how large it is.

Clips of a class lie around a mean of their own; a fault is added to that. `size` says how large the fault is,
measured on thousands of fresh clips or by counting, never by the code under test.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from planted import activations

from workbench.activations import Activations
from workbench.probing import ProbeSweep, fit_probes

NAMES = np.array(["classical", "jazz", "rock"])
D = 12


@dataclass(frozen=True, eq=False)
class Planted:
    """Activations, what `diagnose` is given beside them, and the size of the fault."""

    acts: Activations
    given: dict = field(default_factory=dict)
    size: float = 0.0
    flipped: np.ndarray | None = None

    def sweep(self) -> ProbeSweep:
        return probes(self.acts)


def made(x: np.ndarray, y: np.ndarray, group: np.ndarray) -> Activations:
    return activations(x[:, None], NAMES[y], np.array([f"track{number:03d}" for number in group]))


def probes(acts: Activations) -> ProbeSweep:
    """Return probes of one strength, so that a hundred sets are quick."""
    return fit_probes(acts, l2=[0.03], shuffles=0, progress=False)


def drawn(rng: np.random.Generator, *, groups: int, clips: int, strength: float, d: int = D):
    """Return x (n, d), class numbers, group numbers and class means: white noise around the class's mean."""
    group = np.repeat(np.arange(3 * groups), clips)
    means = np.linalg.qr(rng.standard_normal((d, 3)))[0].T * strength
    return means[group % 3] + rng.standard_normal((len(group), d)), group % 3, group, means


def level(rng: np.random.Generator, y: np.ndarray, by_class: float) -> np.ndarray:
    """Return levels in dB, with class means that lie `by_class` deviations apart."""
    return -20 + 4 * (rng.standard_normal(len(y)) + by_class * (y - 1))


def conditions(x: np.ndarray, y: np.ndarray, group: np.ndarray, named: np.ndarray, push: np.ndarray):
    """Return x under four texts: `push` (n, 3, d) is what naming each class adds."""
    each = np.arange(len(y))
    parts = {
        "null": (x, np.full(len(y), "")),
        "neutral": (x, np.full(len(y), "")),
        "correct": (x + push[each, y], NAMES[y]),
        "wrong": (x + push[each, named], NAMES[named]),
    }
    samples = {
        "clip": np.tile([f"clip{i}" for i in each], 4),
        "group": np.tile([f"track{number:03d}" for number in group], 4),
        "label_genre": np.tile(NAMES[y], 4),
        "condition": np.repeat(list(parts), len(y)),
        "named": np.concatenate([words for _, words in parts.values()]),
    }
    stacked = np.concatenate([values for values, _ in parts.values()])
    return Activations.from_arrays(
        {"resid_post": stacked[:, None].astype(np.float32)}, layers=[0], samples=samples
    )


def clean(seed: int) -> Planted:
    """Nothing is wrong: the class is there, the level and the text are not, and tracks differ a little."""
    rng = np.random.default_rng([seed, 1])
    x, y, group, _ = drawn(rng, groups=20, clips=6, strength=2.2)
    x += 0.15 * rng.standard_normal((60, D))[group]
    named = (y + rng.integers(1, 3, len(y))) % 3
    push = 0.1 * rng.standard_normal((len(y), 3, D))
    given = {"conditions": conditions(x, y, group, named, push)}
    given["confounds"] = {"level_db": level(rng, y, 0.0), "seconds": 10 + rng.standard_normal(60)[group]}
    return Planted(made(x, y, group), given)


def group_leak(seed: int) -> Planted:
    """Every track has an offset of its own, and the class is weak: clips of a track betray one another."""
    rng = np.random.default_rng([seed, 2])
    x, y, group, means = drawn(rng, groups=18, clips=5, strength=1.3, d=24)
    offsets = 1.1 * rng.standard_normal((54, 24))
    x += offsets[group]
    # The size: the same recipe, trained on all clips, on fresh clips of these tracks and of new ones.
    old = rng.integers(0, 54, 3000)
    seen = means[old % 3] + offsets[old] + rng.standard_normal((3000, 24))
    new = rng.integers(0, 3, 3000)
    fresh = means[new] + 1.1 * rng.standard_normal((3000, 24)) + rng.standard_normal((3000, 24))
    probe = probes(made(x, y, group))[0]
    size = (probe.predict(seen) == NAMES[old % 3]).mean() - (probe.predict(fresh) == NAMES[new]).mean()
    return Planted(made(x, y, group), size=float(size))


def loudness(seed: int) -> Planted:
    """Rock is louder than jazz, and one direction of the activations is the level."""
    rng = np.random.default_rng([seed, 3])
    x, y, group, means = drawn(rng, groups=20, clips=6, strength=1.3)
    db = level(rng, y, 0.9)
    along = rng.standard_normal(D) / np.sqrt(D)
    x += 2.5 * ((db + 20) / 4)[:, None] * along
    probe = probes(made(x, y, group))[0]
    # The size: what this probe loses on fresh clips whose level has nothing to do with their class.
    right = []
    for linked in (True, False):
        new = rng.integers(0, 3, 4000)
        of = new if linked else rng.permutation(new)
        fresh = means[new] + rng.standard_normal((4000, D))
        fresh += 2.5 * ((level(rng, of, 0.9) + 20) / 4)[:, None] * along
        right.append((probe.predict(fresh) == NAMES[new]).mean())
    return Planted(made(x, y, group), {"confounds": {"level_db": db}}, size=float(right[0] - right[1]))


def text_leak(seed: int, share: float = 0.3) -> Planted:
    """Captured under the right genre's name; in a share of the clips the name drowns the sound."""
    rng = np.random.default_rng([seed, 4])
    x, y, group, means = drawn(rng, groups=14, clips=6, strength=1.8)
    words = np.linalg.qr(rng.standard_normal((D, 3)))[0].T * 12.0
    push = (rng.random(len(y)) < share)[:, None, None] * words
    named = (y + rng.integers(1, 3, len(y))) % 3
    given = {"conditions": conditions(x, y, group, named, push)}
    acts = made(x + push[np.arange(len(y)), y], y, group)
    # The size: of fresh clips that are called something else without the text, those that follow it.
    new = rng.integers(0, 3, 4000)
    fresh, aim = means[new] + rng.standard_normal((4000, D)), (new + rng.integers(1, 3, 4000)) % 3
    told = fresh + (rng.random(4000) < share)[:, None] * words[aim]
    before, after = (probes(acts)[0].predict(z) == NAMES[aim] for z in (fresh, told))
    return Planted(acts, given, size=float((after[~before]).mean()))


def noise(seed: int, share: float = 0.15) -> Planted:
    """A share of the labels is that of another class."""
    rng = np.random.default_rng([seed, 5])
    x, y, group, _ = drawn(rng, groups=20, clips=6, strength=3.5)
    flipped = np.zeros(len(y), dtype=bool)
    flipped[rng.permutation(len(y))[: round(share * len(y))]] = True
    labels = np.where(flipped, (y + rng.integers(1, 3, len(y))) % 3, y)
    return Planted(made(x, labels, group), size=share, flipped=flipped)


def too_few(seed: int, kinds: int = 40) -> Planted:
    """Every class has forty kinds, each of which looks different, and 48 clips: many kinds are never seen."""
    rng = np.random.default_rng([seed, 6])
    group = np.repeat(np.arange(36), 4)

    # Turned, so that no feature stands for one kind: a kind that was never seen is doubtful, not absurd.
    looks = 30.0 * np.linalg.qr(rng.standard_normal((3 * kinds, 3 * kinds)))[0]

    def look(y: np.ndarray) -> np.ndarray:
        kind = y * kinds + rng.integers(0, kinds, len(y))
        return looks[kind] + rng.standard_normal((len(y), 3 * kinds))

    y = group % 3
    x, new = look(y), rng.integers(0, 3, 2000)
    fresh = look(new)

    # The size: held-out accuracy trains on four fifths of the tracks; half of those are two fifths.
    def right(part: float) -> float:
        kept = [rng.permutation(np.arange(class_, 36, 3))[: round(12 * part)] for class_ in range(3)]
        inside = np.isin(group, np.concatenate(kept))
        return float((_fitted(x[inside], y[inside])(fresh) == new).mean())

    size = np.mean([right(0.8) - right(0.4) for _ in range(2)])
    return Planted(made(x, y, group), size=float(size))


def _fitted(x: np.ndarray, y: np.ndarray):
    """Return the plain scikit-learn twin of the recipe."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=1 / (0.03 * len(x)))).fit(x, y).predict
