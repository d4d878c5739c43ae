"""How long a sweep of probes takes beside the same sweep by scikit-learn: python tests/bench_probes.py

Both sides fit the same objective on the same folds, nested choice of the strength included, on the same
number of threads: fit_probes in one call, scikit-learn as a joblib loop over layers and folds in processes of
one thread each (what its users would write). The logistic and the ridge figures stand apart. `--scale 0.125`
is a quick try on an eighth of the layers, features and clips.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Callable, Sequence
from datetime import date
from functools import partial
from typing import Any

import numpy as np
from planted import activations

import workbench  # noqa: F401  # sets how OpenMP threads wait
from workbench.activations import Activations
from workbench.probing import fit_probes
from workbench.probing.crossval import Fold, Recipe, cross_validate, plan, processors
from workbench.probing.solvers import PROBE_METHODS, Design, Scaling, logistic_path, one_hot, ridge_path
from workbench.sound.dataset import grouped_folds

Array = np.ndarray
TRAIL = tuple(np.geomspace(1e3, 1e-3, 50).tolist())  # the slider of the ridge probe


def music(layers: int, clips: int, features: int, classes: int, seed: int = 0) -> Activations:
    """Return activations with correlated features of falling size, five clips a group, faint classes."""
    rng = np.random.default_rng(seed)
    group = np.arange(clips) // 5
    label = group % classes
    sizes = np.arange(1, features + 1) ** -0.7
    x = np.empty((clips, layers, features), np.float32)
    for layer in range(layers):
        latent = rng.standard_normal((clips, features)) + 0.7 * rng.standard_normal((clips, features))[group]
        signal = rng.standard_normal((classes, features)) * (np.arange(features) < 60)
        latent += 0.5 * (0.5 + layer / layers) * signal[label]
        turn = rng.standard_normal((features, features)) / np.sqrt(features)
        x[:, layer] = (latent * sizes) @ turn + 0.01 * rng.standard_normal((clips, features))
    names = np.array([f"genre{number}" for number in label])
    return activations(x, names, np.array([f"track{number}" for number in group]))


def scikit_fold(
    x: Array, y: Array, method: str, strengths: Sequence[float], fold: Fold, tol: float = 1e-4
) -> Array:
    """Return the classes that scikit-learn's probe predicts for the tested samples."""
    train, truth = x[fold.train], y[fold.train]
    hits = np.zeros(len(strengths))
    for kept, aside in fold.inner:
        scaling = Scaling.of(train[kept])
        solve = solver(method, scaling.apply(train[kept]), truth[kept], tol)
        seen = scaling.apply(train[aside])
        for number, strength in enumerate(strengths):
            weights, bias = solve(strength)
            hits[number] += ((seen @ weights.T + bias).argmax(1) == truth[aside]).sum()
    scaling = Scaling.of(train)
    weights, bias = solver(method, scaling.apply(train), truth, tol)(strengths[int(hits.argmax())])
    return np.asarray((scaling.apply(x[fold.test]) @ weights.T + bias).argmax(1))


def solver(method: str, z: Array, y: Array, tol: float = 1e-4) -> Callable[[float], tuple[Array, Array]]:
    """Return what fits a strength by scikit-learn, the logistic one started from the strength before."""
    from sklearn.linear_model import LogisticRegression, Ridge

    if method == "ridge":
        truth = one_hot(y, int(y.max()) + 1)

        def ridge(strength: float) -> tuple[Array, Array]:
            found = Ridge(strength * len(z)).fit(z, truth)
            return found.coef_, found.intercept_

        return ridge
    machine = LogisticRegression(max_iter=100_000, tol=tol, warm_start=True)

    def logistic(strength: float) -> tuple[Array, Array]:
        machine.set_params(C=1 / (strength * len(z))).fit(z, y)
        return machine.coef_, machine.intercept_

    return logistic


def scikit_sweep(acts: Activations, y: Array, recipe: Recipe, folds: Sequence[Fold], threads: int) -> Array:
    """Return the accuracy per layer of the loop over layers and folds."""
    from joblib import Parallel, delayed

    jobs = (
        delayed(scikit_fold)(acts.matrix(int(layer)).astype(float), y, recipe.method.name, recipe.l2, fold)
        for layer in acts.layers
        for fold in folds
    )
    found = iter(Parallel(n_jobs=threads)(jobs))
    hits = [sum((next(found) == y[fold.test]).sum() for fold in folds) for _ in acts.layers]
    return np.array(hits) / len(y)


def timed(function: Callable[[], Any]) -> tuple[Any, float]:
    """Return what a function returns, and the seconds it took."""
    start = time.perf_counter()
    return function(), time.perf_counter() - start


def sweeps(acts: Activations, method: str, folds: int, threads: int) -> dict[str, float]:
    """Return seconds of both sweeps, their ratio, and how far accuracies of a layer lie apart at most.

    Where strengths score alike, the looser optimum of scikit-learn may choose another one; `optimum` compares
    at equal strengths.
    """
    names, y = np.unique(acts.labels(), return_inverse=True)
    recipe = Recipe.of(len(names), method)
    splits = grouped_folds(names[y], acts.groups, folds=folds)
    everything = np.arange(len(y)), np.arange(0)
    parts = plan(y, acts.groups, [*splits, everything], recipe)
    run = partial(fit_probes, acts, method=method, folds=folds, shuffles=0, threads=threads, progress=False)
    sweep, own = timed(run)
    accuracy, other = timed(lambda: scikit_sweep(acts, y, recipe, parts, threads))
    apart = np.abs(sweep.table()["accuracy"].to_numpy() - accuracy).max()
    return {"own": own, "scikit": other, "ratio": other / own, "points": 100 * float(apart)}


def optimum(acts: Activations, folds: int) -> list[tuple[float, ...]]:
    """Return rows (strength, objective above the optimum, weights away, accuracy apart in points, twice).

    The optimum is that of scikit-learn at a tolerance of 1e-9 on all clips of the last layer; the accuracy is
    the held-out one, beside scikit-learn's at the same strength and a tolerance of 1e-7, and at its usual one
    (1e-4), at which weak strengths have not arrived.
    """
    from sklearn.linear_model import LogisticRegression

    x, (names, y) = (
        acts.matrix(int(acts.layers[-1])).astype(float),
        np.unique(acts.labels(), return_inverse=True),
    )
    design, z, truth = Design.of(x), Scaling.of(x).apply(x), one_hot(y, len(names))
    splits = grouped_folds(names[y], acts.groups, folds=folds)
    rows = []
    path = logistic_path(design, truth, PROBE_METHODS["logistic"].l2)
    for strength, (weights, bias) in zip(PROBE_METHODS["logistic"].l2, path, strict=True):
        best = LogisticRegression(C=1 / (strength * len(x)), tol=1e-9, max_iter=100_000).fit(z, y)
        mine = weights * design.scaling.deviation
        gap = loss(x, truth, (weights, bias), mine, strength)
        gap /= loss(z, truth, (best.coef_, best.intercept_), best.coef_, strength)
        away = float(np.linalg.norm(mine - best.coef_) / np.linalg.norm(best.coef_))
        own = cross_validate(x, y, splits, groups=acts.groups, l2=[strength]).predicted == y
        parts = [Fold(train, test, ()) for train, test in splits]
        apart = [
            100 * abs(float(own.mean()) - np.mean(np.concatenate(
                [scikit_fold(x, y, "logistic", [strength], one, tol) == y[one.test] for one in parts]
            )))
            for tol in (1e-7, 1e-4)
        ]  # fmt: skip
        rows.append((strength, gap - 1, away, *apart))
    return rows


def loss(x: Array, truth: Array, probe: tuple[Array, Array], scaled: Array, strength: float) -> float:
    """Return mean cross-entropy + strength/2 |W|^2, W the weights of standardised features."""
    from scipy.special import log_softmax

    logits = x @ probe[0].T + probe[1]
    found = -(truth * log_softmax(logits, axis=1)).sum(1).mean() + strength / 2 * (scaled**2).sum()
    return float(found)


def trails(acts: Activations) -> dict[str, float]:
    """Return seconds of fifty ridge strengths at one layer: one decomposition, and a fit for each."""
    x, (names, y) = (
        acts.matrix(int(acts.layers[-1])).astype(float),
        np.unique(acts.labels(), return_inverse=True),
    )
    truth = one_hot(y, len(names))
    _, own = timed(lambda: ridge_path(Design.of(x), truth, TRAIL))
    fit = solver("ridge", Scaling.of(x).apply(x), y)
    _, other = timed(lambda: [fit(strength) for strength in TRAIL])
    return {"own": own, "scikit": other, "ratio": other / own, "points": 0.0}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in (("layers", 24), ("features", 1024), ("clips", 1000), ("classes", 10), ("folds", 5)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--threads", type=int, default=processors())
    parser.add_argument("--scale", type=float, default=1.0, help="of layers, features and clips")
    asked = parser.parse_args()
    sizes = [max(int(asked.scale * size), 2) for size in (asked.layers, asked.clips, asked.features)]
    acts = music(*sizes, asked.classes)
    say(f"{date.today()}, {platform.processor() or platform.machine()}, {asked.threads} threads")
    say(f"{sizes[0]} layers x {sizes[2]} features x {sizes[1]} clips, {asked.classes} classes")
    say(f"{'':28}{'own (s)':>10}{'scikit (s)':>12}{'ratio':>8}{'accuracy apart (points)':>26}")
    kinds = ("logistic", "ridge")
    rows = {f"{one} sweep": sweeps(acts, one, asked.folds, asked.threads) for one in kinds}
    rows["ridge, 50 strengths, 1 layer"] = trails(acts)
    for name, row in rows.items():
        say(f"{name:28}{row['own']:10.2f}{row['scikit']:12.2f}{row['ratio']:8.1f}{row['points']:26.2f}")
    say("\nlogistic, relative to the optimum; accuracy beside scikit-learn's at the same strength")
    say(f"{'strength':>9}{'objective above':>18}{'weights away':>15}{'points apart':>15}{'at 1e-4':>10}")
    for strength, gap, away, points, usual in optimum(acts, asked.folds):
        say(f"{strength:9g}{gap:18.1e}{away:15.1e}{points:15.2f}{usual:10.2f}")


def say(text: str) -> None:
    """Write a line."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
