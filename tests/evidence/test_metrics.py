"""What else is measured of clips: each figure equals a plain computation, and its planted truth."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from evidence_samples import Peak, listed
from scipy import linalg
from tolerances import DOUBLE, ROUNDED

from workbench.errors import EvidenceError
from workbench.evidence.judge import load_judge
from workbench.evidence.metrics import (
    Measure,
    audio_distance,
    chroma,
    effect_quality,
    frontier_area,
    prompt_adherence,
    similarity,
    tempo_bpm,
)
from workbench.evidence.search import DamageBudget
from workbench.evidence.trials import run_trials
from workbench.sound import Clip

RATE_HZ = 16_000


def chord(*hertz: float, seconds: float = 3.0, bpm: float = 60.0) -> Clip:
    """Return tones that are struck anew at each beat."""
    time_s = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    wave = np.sum([np.sin(2 * np.pi * one * time_s) for one in hertz], axis=0)
    return Clip((0.2 * wave * np.exp(-8 * (time_s % (60 / bpm)))).astype(np.float32), RATE_HZ)


def test_chroma_hears_the_notes_in_any_octave_and_tempo_the_beat():
    c_major = chroma(chord(261.63, 329.63, 392.0))
    assert sorted(np.argsort(c_major)[-3:]) == [0, 4, 7]
    np.testing.assert_allclose(c_major.sum(), 1.0, **ROUNDED)
    higher = chroma(chord(523.25, 659.26, 783.99))
    assert c_major @ higher > 5 * (c_major @ chroma(chord(277.18, 311.13, 415.3)))
    for bpm in (75.0, 100.0, 125.0):
        assert abs(tempo_bpm(chord(261.63, seconds=6.0, bpm=bpm)) - bpm) < 3


class Hears:
    """Hears a class for each clip by its level: as many classes as asked, the n-th at n tenths."""

    rate_hz = RATE_HZ

    def __init__(self, *classes: str):
        self.classes = classes

    def probabilities(self, clips):
        return np.eye(len(self.classes))[[round(10 * clip.peak) % len(self.classes) for clip in clips]]


def test_adherence_is_the_share_of_named_classes_that_are_heard():
    clips = [Clip(np.full(RATE_HZ, level / 10, np.float32), RATE_HZ) for level in (1, 2, 3, 4)]
    judges = {"genre": Hears("jazz", "rock"), "tempo": Hears("fast", "slow")}  # 1 and 3: rock, slow
    prompts = ["Rock, slow and calm", "slow rock", "a jazzy rock tune", "music"]
    found = prompt_adherence(clips, prompts, judges)
    np.testing.assert_allclose(found, [1.0, 0.0, 1.0, np.nan], **DOUBLE)
    np.testing.assert_allclose(prompt_adherence(clips[:1], ["slow jazz"], judges), [0.5], **DOUBLE)


def test_rows_hold_what_is_measured_and_outlive_a_crash(tiny_model, tmp_path):
    judge = load_judge("genre")
    measure = Measure({"genre": judge})
    some, path = listed(tiny_model), tmp_path / "rows.jsonl"
    how = {"seconds": 1.0, "likely": False, "progress": False, "path": path}
    takes = []
    table = run_trials(
        tiny_model, some, judge, measure=measure, on_row=lambda *row: takes.append(row[1]), **how
    )
    again = run_trials(tiny_model, some, judge, measure=measure, on_row=lambda *_: 1 / 0, **how)
    pd.testing.assert_frame_equal(again, table)
    for take, row in zip(takes, table.to_dict("records"), strict=True):
        np.testing.assert_allclose(row["chroma"], chroma(take.clip), **ROUNDED)
        np.testing.assert_allclose(row["embedding"], judge.embed([take.clip])[0], **ROUNDED)
        assert row["tempo_bpm"] == tempo_bpm(take.clip) and np.isnan(row["adherence"])
    other = run_trials(tiny_model, some, judge, **how)
    assert "chroma" not in other, "what is measured belongs to the key of a row"
    assert Measure({"level": Peak()}).fingerprint != measure.fingerprint
    found = similarity(table, "push")
    baseline, pushed = (table[table["method"] == name] for name in ("unsteered", "push"))
    for name in ("chroma", "embedding"):
        a, b = np.stack(pushed[name].tolist()), np.stack(baseline[name].tolist())
        cosines = [x @ y / np.sqrt((x @ x) * (y @ y)) for x, y in zip(a, b, strict=True)]
        ordered = pushed.assign(cosine=cosines).sort_values(["prompt", "seed"])["cosine"]
        np.testing.assert_allclose(found[name], ordered, **ROUNDED)


def test_a_clip_is_like_itself_and_half_a_tempo_is_one_octave_off():
    row = {"prompt": "a", "seed": 1, "chroma": [1.0, 0, 0], "embedding": [0.0, 2.0], "tempo_bpm": 120.0}
    same = {**row, "method": "x"}
    other = {**row, "method": "y", "chroma": [0, 1.0, 0], "tempo_bpm": 60.0}
    table = pd.DataFrame([{**row, "method": "unsteered"}, same, other])
    np.testing.assert_allclose(similarity(table, "x")[["tempo", "chroma", "embedding"]], 1.0, **DOUBLE)
    np.testing.assert_allclose(
        similarity(table, "y")[["tempo", "chroma", "embedding"]], [[0, 0, 1]], **DOUBLE
    )


def normal(n: int, d: int = 6, *, shift: float = 0.0, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1, (n, d)) * np.linspace(1, 2, d)


def test_the_frechet_distance_is_that_of_two_normal_distributions():
    a, b = normal(80, seed=1), 1.5 * normal(120, shift=0.4, seed=2)
    one, two = np.cov(a.T), np.cov(b.T)
    root = linalg.sqrtm(one @ two).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(one + two - 2 * root)
    found = audio_distance(a, b).set_index("distance")
    np.testing.assert_allclose(
        found.loc["Frechet", "value"], expected, rtol=1e-6
    )  # of a square root's square


def test_the_kernel_distance_is_the_unbiased_mmd():
    a, b = normal(15, seed=1), normal(11, shift=0.5, seed=2)
    pairs = [np.linalg.norm(x - y) ** 2 for i, x in enumerate(b) for y in b[:i]]
    kernel = lambda x, y: np.exp(-(np.linalg.norm(x - y) ** 2) / (2 * np.median(pairs)))  # noqa: E731
    within = [
        np.mean([kernel(x, y) for i, x in enumerate(s) for j, y in enumerate(s) if i != j]) for s in (a, b)
    ]
    expected = sum(within) - 2 * np.mean([kernel(x, y) for x in a for y in b])
    np.testing.assert_allclose(audio_distance(a, b)["value"].iloc[1], expected, **DOUBLE)


def test_more_of_the_same_lies_in_the_noise_floor_and_other_music_above():
    reference = normal(200, seed=3)
    inside = 0
    for seed in range(20):
        found = audio_distance(normal(100, seed=50 + seed), reference).set_index("distance").loc["kernel"]
        inside += found["value"] <= found["high"]
    assert inside >= 16, "the floor is that of two halves, of a hundred each"
    other = audio_distance(normal(100, shift=0.5, seed=4), reference)
    assert (other["value"] > other["high"]).all() and (other["warning"] == "").all()


def test_few_clips_are_warned_of_and_too_few_refused():
    found = audio_distance(normal(12, 40), normal(60, 40, seed=1)).set_index("distance")
    assert found.loc["Frechet", "warning"].startswith("12 clips against 60 in 40 dimensions are few")
    bias = audio_distance(normal(12, seed=5), normal(400, seed=6))["value"].iloc[0]
    assert bias > 3 * audio_distance(normal(400, seed=5), normal(400, seed=6))["value"].iloc[0]
    with pytest.raises(EvidenceError, match=r"shapes \(3, 6\) and \(60, 6\)"):
        audio_distance(normal(3), normal(60))
    with pytest.raises(EvidenceError, match="of one judge"):
        audio_distance(normal(30, 5), normal(60))


def dose_table(gains: dict[float, float], nll: dict[float, float]) -> pd.DataFrame:
    """Return clips of eight pairs whose P(jazz) rises by a gain at each dose, and whose NLL rises too."""
    rows = []
    for seed in range(8):
        base = {"prompt": "a tune", "seed": seed, "level_db": -20.0, "repetition": 0.1, "nll": 3 + seed / 10}
        p = 0.1 + seed / 100
        rows.append({**base, "method": "unsteered", "aim": None, "dose": 0.0, "p_jazz": p})
        for dose, gain in gains.items():
            raised = {"p_jazz": p + gain + seed % 2 / 10, "nll": base["nll"] + nll[dose]}
            rows.append({**base, "method": "probe", "aim": "jazz", "dose": dose, **raised})
    return pd.DataFrame(rows).sample(frac=1, random_state=0)


def test_the_area_is_that_of_the_best_effect_at_each_quality():
    table = dose_table({0.3: 0.2, 0.6: 0.6, 0.9: 0.5}, {0.3: 0.1, 0.6: 0.5, 0.9: 0.9})
    curve, area = effect_quality(table, "jazz")
    np.testing.assert_allclose(curve["effect"], [0.25, 0.65, 0.55], **DOUBLE)
    np.testing.assert_allclose(curve["quality"], [0.9, 0.5, 0.1], **DOUBLE)
    np.testing.assert_allclose(area.value, 0.4 * 0.25 + 0.5 * 0.65, **DOUBLE)
    assert area.low < area.value < area.high and (curve["low"] < curve["effect"]).all()
    _, generous = effect_quality(table, "jazz", budget=DamageBudget(nll_rise=2.0))
    assert generous.value > area.value
    _, worse = effect_quality(table.assign(p_jazz=1 - table["p_jazz"]), "jazz")
    assert worse.value == 0, "what moves the wrong way has no effect at any quality"
    with pytest.raises(EvidenceError, match="doses have different clips"):
        effect_quality(table[(table["dose"] != 0.3) | (table["seed"] > 0)], "jazz")
    with pytest.raises(EvidenceError, match="there is no nll"):
        effect_quality(table.drop(columns="nll"), "jazz")


def test_an_area_does_not_depend_on_the_order_of_doses():
    effects, qualities = np.array([0.1, 0.9, 0.4, -0.2]), np.array([1.0, 0.2, 0.7, 0.9])
    expected = 0.3 * 0.1 + 0.5 * 0.4 + 0.2 * 0.9
    for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
        np.testing.assert_allclose(frontier_area(effects[order], qualities[order]), expected, **DOUBLE)
