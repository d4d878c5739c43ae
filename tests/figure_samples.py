"""A figure of every function of `workbench.show.plots` and of every diagnosis, on small made-up numbers.

Names are as long as the built-in model and music make them: what fits here fits in the notebooks.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from report_samples import study_clips
from show_samples import GENRES, projection
from steering_samples import direction

from workbench.evidence.causal import DirectEffects, Line, PatchMap
from workbench.evidence.crosstalk import BlendCurve, Crosstalk
from workbench.evidence.report import CONTROLS, summary
from workbench.generation.score import Score
from workbench.generation.take import ProbeTrace
from workbench.model.band import Note
from workbench.probing import diagnosis as d
from workbench.probing.diagnosis import RidgeToMeans
from workbench.show import plots
from workbench.stats import Estimate

HIGH, LOW = Estimate(0.93, 0.86, 0.97), Estimate(0.31, 0.2, 0.44)
GAP = Estimate(0.62, 0.5, 0.75, 0.001)
PLACE: dict[str, Any] = {"target": "genre", "layer": 3}
PLANS = ("unsteered", "0.2*jazz@3", "0.15*jazz@3 - 0.1*rock@3", "0.2*reggae@5 | ramp(1s,3s)")
MOODS = ("happy", "sad", "calm", "wild")


def samples() -> dict[str, Any]:
    """Return figures by what drew them: a function's name, or a diagnosis's, perhaps with a word on how."""
    return {**_of_probes(), **_of_diagnoses(), **_of_sound(), **_of_steering(), **_of_causes()}


def _sweep(layers: int) -> pd.DataFrame:
    accuracy = 0.4 + 0.5 * np.sin(np.linspace(0.2, 2.5, layers))
    table = pd.DataFrame({"layer": range(layers), "accuracy": accuracy, "macro_f1": accuracy})
    return table.assign(
        low=accuracy - 0.06, high=accuracy + 0.05, chance=0.17, shuffled_low=0.1, shuffled_high=0.26,
        n=1260, groups=210,
    )  # fmt: skip


def _of_probes() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    counts = pd.DataFrame(rng.integers(0, 9, (6, 6)) + 40 * np.eye(6, dtype=int), GENRES, GENRES)
    angles = pd.DataFrame(np.cos(np.subtract.outer(np.arange(8), np.arange(8)) / 3), range(8), range(8))
    between = pd.DataFrame(1.2 * np.eye(6) - 0.2, GENRES, GENRES)
    placed = projection()
    joined = replace(placed, points=placed.points[:4], clips=placed.clips[:4], labels=placed.labels[:4])
    l2 = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0, math.inf)
    falling = tuple(np.linspace(0.98, 0.55, len(l2)))
    walk = RidgeToMeans(
        "genre", 3, "groove", l2,
        directions={name: tuple(direction(name) for _ in l2) for name in GENRES},
        to_probe=dict.fromkeys(GENRES, falling), to_means=dict.fromkeys(GENRES, falling[::-1]),
        accuracy=dict.fromkeys(GENRES, (HIGH,) * len(l2)),
    )  # fmt: skip
    question = "How do the directions of the classes lie to one another?"
    return {
        "accuracy_per_layer": plots.accuracy_per_layer(_sweep(8), chosen=3),
        "accuracy_per_layer, 48": plots.accuracy_per_layer(_sweep(48)),
        "confusion": plots.confusion(counts),
        "cosines": plots.cosines(between, question, axis="genre"),
        "cosines, layers": plots.cosines(angles, "How far does a direction go?", axis="layer"),
        "map_scatter": plots.map_scatter(placed, playing="clip-7", joined=joined),
        "map_scatter, number": plots.map_scatter(placed, colour_by="tempo"),
        "path_cosines": plots.path_cosines(walk, "electronic", 1.0),
        "path_accuracy": plots.path_accuracy(walk, "electronic", 1.0),
    }


def _of_diagnoses() -> dict[str, Any]:
    rng = np.random.default_rng(1)
    sure = rng.uniform(0, 1, 200)
    clips = pd.DataFrame({"clip": np.arange(200).astype(str), "confidence": sure, "suspicion": 1 - sure})
    bins = pd.DataFrame({"confidence": [0.35, 0.55, 0.75, 0.95], "accuracy": [0.3, 0.5, 0.8, 1.0]})
    bins = bins.assign(low=bins["accuracy"] - 0.1, high=bins["accuracy"], clips=[5, 20, 60, 120])
    stable = pd.DataFrame({"layer": 3, "class": GENRES, "cosine": np.linspace(0.8, 0.97, 6)})
    counts = pd.DataFrame(rng.integers(1, 30, (4, 4)), MOODS, MOODS)
    texts = {"no": HIGH, "true": HIGH, "neutral": HIGH, "wrong": LOW}
    plain = {"mfcc": LOW, "chroma and tempo": LOW, "untrained model": LOW, "codes": HIGH}
    seconds = np.arange(0, 5, 0.1)
    odds = np.stack([0.5 + 0.4 * np.sin(seconds), 0.3 - 0.2 * np.sin(seconds), 0.2 - 0.2 * np.sin(seconds)])
    score = d.ScoreOverTime(
        **PLACE, clips=("jazz/groove 17, take 2",), classes=("jazz", "rock", "reggae"),
        seconds=seconds[None], probabilities=odds.T[None],
    )  # fmt: skip
    values = [
        d.AccuracyByLayer(**PLACE, rows=_sweep(8)),
        d.Confusion(**PLACE, counts=counts),
        d.GroupLeak(**PLACE, unit="groove", random=HIGH, grouped=LOW, gap=GAP),
        d.ControlTask(**PLACE, unit="groove", real=HIGH, control=LOW, selectivity=GAP),
        d.TextLeak(**PLACE, accuracy=texts, flipped=0.61, before=0.05, excess=GAP),
        d.Confound(
            **PLACE, number="tempo_bpm", alone=LOW, chance=0.17, linked=0.4, readable=HIGH, recall=HIGH,
            matched=LOW, drop=GAP, clips=80.0,
        ),
        d.Baselines(**PLACE, probe=HIGH, accuracy=plain, lead=plain),
        d.Transfer(
            **PLACE, names=("real", "generated"), here=HIGH, there=HIGH, out=LOW, back=LOW, loss=GAP
        ),
        d.ClassImbalance(
            **PLACE, commonest="electronic", majority=0.8, ratio=9.0, accuracy=HIGH, macro_f1=0.6,
            recall=0.55, flattery=GAP,
        ),
        d.Calibration(**PLACE, ece=0.08, expected=Estimate(0.04, 0.02, 0.06), excess=GAP, bins=bins),
        d.LearningCurve(
            **PLACE, unit="groove", points=((5.0, LOW), (10.0, LOW), (20.0, HIGH), (28.0, HIGH)), rise=GAP
        ),
        d.LabelNoise(**PLACE, share=Estimate(0.15, 0.1, 0.21), hardest=clips),
        d.DirectionStability(**PLACE, rows=stable.assign(lowest=stable["cosine"] - 0.1)),
    ]  # fmt: skip
    drawn = {f"diagnosis_figure {type(one).__name__}": plots.diagnosis_figure(one) for one in values}
    return {**drawn, "score_over_time": plots.score_over_time(score, score.clips[0])}


def _of_sound() -> dict[str, Any]:
    notes = [Note("bass", "finger bass", 36 + n % 5, 12 * n, 10, 90) for n in range(8)]
    notes += [Note("lead", "trumpet", 64 + n % 7, 12 * n + 6, 6, 90) for n in range(8)]
    notes += [Note("drums", "standard", (36, 38, 42)[n % 3], 6 * n, 3, 90) for n in range(16)]
    return {
        "piano_roll": plots.piano_roll(Score(tuple(notes), 100), name=PLANS[2]),
    }


def _of_steering() -> dict[str, Any]:
    rng = np.random.default_rng(2)
    doses = np.array([0.0, 0.1, 0.2, 0.3])
    rows = [
        {"dose": dose, "hit_rate": rate, "low": max(0.0, rate - 0.1), "high": min(1.0, rate + 0.1),
         "genre": genre, "kind": kind}
        for genre in GENRES
        for kind, slope in (("steered", 2.5 - 0.2 * len(genre) / 4), ("random", 0.2))
        for dose in doses
        for rate in [min(1.0, 0.1 + slope * dose)]
    ]  # fmt: skip
    heard = {name: dict(zip(GENRES, rng.dirichlet(np.ones(6)), strict=True)) for name in PLANS}
    cells = [
        {"plan": plan, "target": target, "class": name, "own": plan == name, "n": 40, "hit_rate": 0.5,
         "unsteered": 0.2, "change": change, "change_low": change - 0.1, "change_high": change + 0.1}
        for plan in ("electronic", "reggae", "sad")
        for target, classes in (("genre", GENRES), ("mode", ["major", "minor"]), ("mood", MOODS))
        for name in classes
        for change in [0.85 if plan == name else float(rng.uniform(-0.5, 0.3))]
    ]  # fmt: skip
    weights = (0.0, 0.25, 0.5, 0.75, 1.0)
    odds = np.linspace(-3, 3, 5) + rng.normal(0, 0.4, (6, 5))
    seconds = np.arange(0, 4, 0.04)
    read = 0.5 + 0.4 * np.sin(seconds)
    trace = ProbeTrace("genre", 3, ("jazz", "rock"), seconds, np.stack([read, 1 - read], 1))
    none = pd.DataFrame()
    table, curves, methods = _of_evidence()
    return {
        "dose_of_aim": plots.dose_of_aim(table, "jazz", main="logistic", control="random directions"),
        "beside_controls": plots.beside_controls(table, "logistic", CONTROLS),
        "frontier": plots.frontier(curves, methods, control="random directions"),
        "take_scores": plots.take_scores(dict.fromkeys(PLANS, trace), "jazz", seconds=4.0),
        "dose_response": plots.dose_response(pd.DataFrame(rows), chance=1 / 6),
        "judged_genres": plots.judged_genres(dict(list(heard.items())[:3]), wanted="jazz"),
        "judged_table": plots.judged_table(heard),
        "crosstalk_matrix": plots.crosstalk_matrix(Crosstalk(pd.DataFrame(cells), none, none)),
        "blend_line": plots.blend_line(BlendCurve("electronic", "classical", odds, weights, HIGH, none)),
    }


def patches(lines: int = 6, windows: int = 10, *, label: str = "log-odds of the codes (nats)") -> PatchMap:
    """Return a map of made-up patches, of six lines or of all heads of six layers."""
    rng = np.random.default_rng(3)
    whole = [Line(n) if lines == 6 else Line(n // 8, "head_out", n % 8) for n in range(lines)]
    edges = tuple(int(edge) for edge in np.linspace(0, 131, windows + 1))
    values = rng.uniform(-1, 6, (2, lines, windows)) * np.array([1, -0.5])[:, None, None]
    no: Any = None  # what is heard, which no figure asks for
    return PatchMap(no, no, ("cond", "null"), tuple(whole), edges, values, -15.8, 15.1, label, 25.0)


def _of_causes() -> dict[str, Any]:
    rng = np.random.default_rng(4)
    parts = [*(f"head {n}" for n in range(8)), "text", "mlp"]
    rows = [(-1, "embed", 2.4), *((n, part, rng.normal(0, 2)) for n in range(6) for part in parts)]
    table = pd.DataFrame(rows, columns=["layer", "part", "effect"])
    effects = DirectEffects(table, 0.24, 29.9, "log-odds of the codes (nats)")
    effect = np.linspace(0.1, 0.7, 8)
    acts = _sweep(8).assign(effect=effect, effect_low=effect - 0.2, effect_high=effect + 0.15)
    return {
        "patch_heat": plots.patch_heat(patches()),
        "patch_heat, heads": plots.patch_heat(patches(48, label="logit of electronic, layer 5"), "null"),
        "direct_heat": plots.direct_heat(effects),
        "reads_and_acts": plots.reads_and_acts(acts),
    }


def _of_evidence() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return made tables of a report: per aim and dose, per method and dose, per method."""
    parts = [
        study_clips(dict.fromkeys(GENRES, (0.9, 0.2)), 12, dose=dose, seed=seed)
        for seed, dose in enumerate((0.1, 0.2))
    ]
    clips = pd.concat([parts[0].query("method != 'unsteered'").assign(chosen=False), parts[1]])
    clips = clips.replace("probe", "logistic")
    full = clips[clips["method"].isin(["logistic", "random directions"])]
    return summary(clips), summary(full, ("method", "dose")), summary(clips[clips["chosen"]], ("method",))
