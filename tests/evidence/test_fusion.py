"""Blends of two directions, and gains from the first part of a clip to the second."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from steering_fixture import direction
from tolerances import DOUBLE, ROUNDED
from toy_judges import Reference, planted

from workbench.errors import EvidenceError, RenamedWarning, SteeringError
from workbench.evidence.crosstalk import (
    Way,
    blend,
    blend_curve,
    blend_curve_of,
    compare_gains,
    gain,
    go_on,
    transitions,
)
from workbench.generation.generate import generate
from workbench.show import plots
from workbench.sound import Clip

WEIGHTS = (0.0, 0.5, 1.0)


def test_a_blend_has_length_one_and_its_parts_by_weight(tiny_model):
    a, b = (direction(tiny_model, 2, seed=seed, name=name) for seed, name in ((1, "jazz"), (2, "rock")))
    for weight in (0.0, 0.3, 1.0):
        made = blend(a, b, weight)
        expected = weight * a.vector + (1 - weight) * b.vector
        assert np.isclose(made.norm, 1.0, **ROUNDED)
        assert np.allclose(made.vector, expected / np.linalg.norm(expected), **ROUNDED)
        assert made.residual_norm == a.residual_norm and made.layer == a.layer
    with pytest.raises(SteeringError):
        blend(a, -a, 0.5)


def clips(odds: np.ndarray, weights=WEIGHTS) -> pd.DataFrame:
    """Return clips of (seeds, weights) log-odds, shuffled."""
    rows = [
        {"method": "blend", "seed": seed, "prompt": "a tune", "weight": weight,
         "p_judge_jazz": 0.5 / (1 + np.exp(-x)), "p_judge_rock": 0.5 / (1 + np.exp(x))}
        for seed, row in enumerate(odds) for weight, x in zip(weights, row, strict=True)
    ]  # fmt: skip
    rows.append({**rows[0], "method": "unsteered", "weight": np.nan})
    return pd.DataFrame(rows).sample(frac=1, random_state=0).reset_index(drop=True)


def test_the_ladder_of_each_seed_is_ranked_by_itself():
    odds = np.array([[-1.0, 0.0, 1.0], [10.0, 11.0, 12.0], [-9.0, -8.5, -8.0], [0.0, 1.0, -1.0]])
    found = blend_curve_of(clips(odds), ("jazz", "rock"))
    assert np.allclose(found.odds, odds, **DOUBLE)
    assert found.weights == WEIGHTS
    assert found.spearman.value == pytest.approx((1 + 1 + 1 - 0.5) / 4)
    assert found.spearman.low < found.spearman.value < found.spearman.high == 1.0
    flat = blend_curve_of(clips(np.zeros((3, 3))), ("jazz", "rock"))
    assert flat.spearman.value == 0.0


def test_log_odds_are_those_of_the_first_against_the_second():
    odds = np.array([[-2.0, 0.0, 3.0], [-1.0, 1.0, 2.0]])
    found = blend_curve_of(clips(odds), ("jazz", "rock"))
    assert np.allclose(found.odds, odds, **DOUBLE)
    turned = blend_curve_of(clips(odds), ("rock", "jazz"))
    assert np.allclose(turned.odds, -odds, **DOUBLE)
    assert turned.spearman.value == -1.0
    assert found.table()["log_odds"].tolist() == pytest.approx([-1.5, 0.5, 2.5])
    assert (found.table()["low"] <= found.table()["log_odds"]).all()


def test_certainty_beyond_the_floor_counts_no_further():
    table = clips(np.array([[-30.0, 0.0, 30.0]] * 2))
    assert abs(blend_curve_of(table, ("jazz", "rock")).odds).max() == pytest.approx(np.log(0.5 / 1e-6))


def test_ladders_with_holes_are_refused():
    table = clips(np.zeros((2, 3)))
    blends = table[table["method"] == "blend"]
    with pytest.raises(EvidenceError, match="miss some weights"):
        blend_curve_of(blends.iloc[1:], ("jazz", "rock"))
    with pytest.raises(EvidenceError, match="twice"):
        blend_curve_of(pd.concat([blends, blends.iloc[:1]]), ("jazz", "rock"))


def test_a_blend_of_planted_directions_goes_from_one_to_the_other(tiny_model):
    judge = Reference(tiny_model, {"three": 3, "nine": 9})
    a, b = (planted(tiny_model, code, name=name) for code, name in ((3, "three"), (9, "nine")))
    short: dict = {"prompts": ("a tune", "a song"), "seeds": (1, 2, 3), "seconds": 1.0, "progress": False}
    found = blend_curve(tiny_model, a, b, judge, dose=2.0, weights=(1.0, 0.0, 0.5), **short)
    assert found.weights == (0.0, 0.5, 1.0)
    assert found.spearman.value > 0.9
    means = found.table()["log_odds"].tolist()
    assert means[0] < -1 and means[-1] > 1
    assert (found.clips["method"] == "unsteered").sum() == 3
    with pytest.raises(EvidenceError, match="three, nine"):
        blend_curve(tiny_model, a, b.named("jazz"), judge, dose=1.0)
    with pytest.raises(EvidenceError, match="weights"):
        blend_curve(tiny_model, a, b, judge, dose=1.0, weights=(0.5, 0.5))


def test_a_fusion_is_drawn_with_every_seed_and_the_interval():
    odds = np.array([[-2.0, 0.0, 3.0], [-1.0, 1.0, 2.0]])
    drawn = plots.blend_line(blend_curve_of(clips(odds), ("jazz", "rock")))
    assert [len(trace.x) for trace in drawn.data] == [3, 3, 3]
    mean = drawn.data[-1]
    assert "95 %" in mean.name and max(mean.error_y.array) > 0
    assert "jazz" in drawn.layout.title.text and "nats" in drawn.layout.yaxis.title.text


# ---------------------------------------------------------------------------------------- transitions

RATE = 8000


class Loudness:
    """Hears "loud" with the probability of the peak."""

    target, classes = "level", ("soft", "loud")

    def probabilities(self, clips) -> np.ndarray:
        peaks = np.array([clip.peak for clip in clips])
        return np.stack([1 - peaks, peaks], axis=1)


def steps(*levels: float) -> Clip:
    """Return one second of each level."""
    return Clip(np.repeat(np.array(levels, np.float32), RATE), RATE)


def test_a_gain_is_what_the_second_part_has_more_than_the_first():
    pieces = [steps(0.1, 0.1, 0.5, 0.7), steps(0.9, 0.4)]
    assert gain(Loudness(), pieces, "loud") == pytest.approx([0.6, -0.5])
    assert gain(Loudness(), pieces, "soft") == pytest.approx([-0.6, 0.5])
    early = gain(Loudness(), [steps(0.1, 0.3, 0.2)], "loud", at_s=1.0)
    assert early == pytest.approx([0.2])


@pytest.mark.parametrize(
    ("clips_", "target", "at_s", "told"),
    [([], "loud", None, "0 clips"), ([steps(0.1, 0.2)], "jazz", None, "soft, loud"),
     ([steps(0.1)], "loud", None, "0.50 s"), ([steps(0.1, 0.2)], "loud", 1.5, "0.50 s"),
     ([steps(0.1, 0.2)], "loud", 3.0, "0.00 s")],
)  # fmt: skip
def test_parts_that_no_judge_can_hear_are_refused(clips_, target, at_s, told):
    with pytest.raises(EvidenceError, match=told):
        gain(Loudness(), clips_, target, at_s=at_s)


def test_gains_are_compared_in_pairs():
    rng = np.random.default_rng(0)
    prompted = rng.normal(0, 0.5, 30)
    found = compare_gains(prompted + 0.2, prompted)
    difference = found.difference
    assert (difference.low, difference.value, difference.high) == pytest.approx((0.2, 0.2, 0.2))
    assert found.steered.high - found.steered.low > 0.2
    assert (found.share, found.n) == (1.0, 30)
    mixed = compare_gains(rng.permuted(prompted), prompted)
    assert mixed.difference.low < 0 < mixed.difference.high


def test_beginnings_of_one_track_are_drawn_together():
    rng = np.random.default_rng(0)
    gains = np.repeat(rng.normal(0.1, 0.3, 8), 10)
    alone = compare_gains(gains, 0 * gains).difference
    whole = compare_gains(gains, 0 * gains, groups=np.repeat(np.arange(8), 10).tolist()).difference
    assert whole.high - whole.low > 2 * (alone.high - alone.low)


@pytest.mark.parametrize("prompted", [np.zeros(2), np.zeros((3, 1)), np.zeros(0)])
def test_gains_that_are_no_pairs_are_refused(prompted):
    with pytest.raises(EvidenceError, match="per beginning"):
        compare_gains(np.zeros(3) if prompted.size else prompted, prompted)


def test_every_way_goes_on_from_the_same_beginnings_with_the_same_seeds(tiny_model):
    push = planted(tiny_model, 3, name="three").at(2.0)
    first = generate(tiny_model, ["a tune", "a song"], seed=[5, 6], seconds=2.0, progress=False)
    sounds, seeds = [take.clip for take in first], (1, 2)
    ways = {"steered": ("a tune", push), "prompted": ("a calm tune", None)}
    short: dict = {"seconds": 1.2, "guidance": 2.0, "progress": False}
    table = transitions(tiny_model, sounds, ways, Loudness(), "loud", seeds=seeds, given_seconds=1.0, **short)
    assert table[["method", "beginning", "seed"]].to_numpy().tolist() == [
        ["steered", 0, 1], ["steered", 1, 2], ["prompted", 0, 1], ["prompted", 1, 2],
    ]  # fmt: skip
    own = [ways[method] for method in table["method"]]
    takes = generate(  # in the same batch, so that all is equal bit for bit
        tiny_model, [prompt for prompt, _ in own], steering=[plan for _, plan in own],
        seed=table["seed"].tolist(), audio=[sounds[number] for number in table["beginning"]],
        audio_seconds=1.0, **short,
    )  # fmt: skip
    for row, take in zip(table.to_dict("records"), takes, strict=True):
        assert row["gain"] == gain(Loudness(), [take.clip], "loud", at_s=1.0)[0]
        assert row["level_db"] == take.new.level_db and row["ok"]
        assert row["judged"] == ("loud" if take.new.peak > 0.5 else "soft")
    assert table["gain"].nunique() == 4
    former = [Way(name, *condition) for name, condition in ways.items()]
    with pytest.warns(RenamedWarning, match="transitions"):
        same = go_on(tiny_model, sounds, former, Loudness(), "loud", seeds=seeds, given_seconds=1.0, **short)
    assert same.rename(columns={"way": "method"}).equals(table)


def test_verdict_and_guards_are_those_of_the_new_part(tiny_model, monkeypatch):
    clip = steps(0.9, 0.1)
    take = SimpleNamespace(clip=clip, new=clip.section(1.0, 2.0), prompt_seconds=1.0, seed=3, prompt="a tune",
                           receipt=SimpleNamespace(ok=True))  # fmt: skip
    monkeypatch.setattr("workbench.evidence.trials.generate", lambda *_asked, **_options: [take])
    plain = {"plain": ("a tune", None)}
    (row,) = transitions(tiny_model, [clip], plain, Loudness(), "loud", seeds=(3,)).to_dict("records")
    assert row["judged"] == "soft" and row["gain"] == pytest.approx(-0.8)
    assert row["level_db"] == pytest.approx(-20, abs=0.01)


@pytest.mark.parametrize(("seeds", "names"), [((1,), ("a", "b")), ((1, 2), ())])
def test_conditions_that_cannot_be_compared_are_refused(tiny_model, seeds, names):
    sounds, ways = [Clip(np.ones(8000, np.float32) / 2, 8000)] * 2, dict.fromkeys(names, ("a tune", None))
    with pytest.raises(EvidenceError, match="continued"):
        transitions(tiny_model, sounds, ways, Loudness(), "loud", seeds=seeds)


def test_each_music_is_cut_where_what_was_given_ends(tiny_model):
    long, short = (Clip(np.random.default_rng(n).uniform(-0.5, 0.5, n * 16_000), 16_000) for n in (3, 1))
    heard = []

    class Lengths(Loudness):
        def probabilities(self, clips) -> np.ndarray:
            heard.extend(round(clip.seconds, 1) for clip in clips)
            return super().probabilities(clips)

    ways, options = {"plain": ("a tune", None)}, {"given_seconds": 2.0, "seconds": 1.0, "progress": False}
    transitions(tiny_model, [long, short], ways, Lengths(), "loud", seeds=(1, 2), **options)
    assert heard == [1.0, 1.0, 2.0, 1.0]  # what is new, then what was given
    with pytest.raises(EvidenceError, match="soft, loud"):
        transitions(tiny_model, [long], ways, Loudness(), "jazz", seeds=(1,), **options)
