"""Clips that are compared are paired, every difference is that to the twin, and intervals keep the pairs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from steering_fixture import direction
from toy_judges import DOSE, Reference, planted

from workbench.errors import EvidenceError
from workbench.evidence.damage import damage, likelihood
from workbench.evidence.judge import Judge, load_judge
from workbench.evidence.trials import (
    Trial,
    pair_names,
    pair_prompts,
    pair_with_baseline,
    random_trials,
    run_trials,
    sweep,
    trials,
)
from workbench.generation.generate import generate
from workbench.stats import means, ratios


def test_every_plan_meets_the_same_prompts_and_seeds(tiny_model):
    plan = direction(tiny_model, 1).at(0.5)
    made = trials({"jazz": plan}, ["a tune", "a song"], [4, 5, 6])
    pairs = [("a tune", 4), ("a song", 5), ("a tune", 6)]
    assert pair_prompts(["a tune", "a song"], [4, 5, 6]) == pairs
    assert [(one.method, one.plan) for one in made] == [("unsteered", None)] * 3 + [("jazz", plan)] * 3
    assert [(one.prompt, one.seed) for one in made] == pairs * 2


def test_a_row_tells_what_was_heard_of_its_own_clip(tiny_model):
    judge = Reference(tiny_model, {"three": 3, "nine": 9})
    plan = direction(tiny_model, 2).at(0.8)
    asked = [Trial("a tune", 1), Trial("jazz", 2, plan, "x", "nine", columns={"more": 7})]
    table = run_trials(tiny_model, asked, {"code": judge}, seconds=1.0, progress=False)
    takes = generate(  # in the same batch, so that all is equal bit for bit
        tiny_model, [one.prompt for one in asked], steering=[one.plan for one in asked],
        seed=[one.seed for one in asked], seconds=1.0, progress=False,
    )  # fmt: skip
    likely = likelihood(tiny_model, takes)
    for (_, row), take, known in zip(table.iterrows(), takes, likely, strict=True):
        odds = judge.probabilities([take.clip])[0]
        assert [row["p_code_three"], row["p_code_nine"]] == odds.tolist()
        assert row["judged_code"] == judge.classes[int(odds.argmax())]
        assert row["level_db"] == damage(take.clip)["level_db"]
        assert row["nll"] == known.nll
        assert row["ok"]
    assert table["nll"].nunique() == table["p_code_nine"].nunique() == 2, (
        "rows that are alike could be exchanged"
    )
    assert table["method"].tolist() == ["unsteered", "x"] and table["more"].tolist()[1] == 7
    assert table["hit"].tolist() == [False, table["judged_code"][1] == "nine"]
    assert np.isnan(table["p"][0]) and table["p"][1] == table["p_code_nine"][1]


def test_each_row_of_a_sweep_is_the_verdict_on_its_own_take(tiny_model):
    judge = Reference(tiny_model, {"three": 3, "nine": 9}, sharp=0.2)  # so unsure that no verdicts are alike
    directions = {name: planted(tiny_model, code, name=name) for name, code in (("three", 3), ("nine", 9))}
    settings = {"seconds": 1.0, "progress": False}
    table = sweep(tiny_model, directions, [DOSE / 2, DOSE], judge, prompts=["a tune", "rock"], seeds=[1, 2],
                  random_directions=1, **settings)  # fmt: skip
    assert table["aim"].tolist() == (["three"] * 4 + ["nine"] * 4) * 2
    assert table["dose"].tolist() == [DOSE / 2, DOSE / 2, DOSE, DOSE] * 4
    assert table["method"].tolist() == ["probe"] * 8 + ["random"] * 8
    assert table["p_three"].nunique() > 3, "rows that are alike could be exchanged"
    plans = [directions[row["aim"]].at(row["dose"]) for _, row in table[:8].iterrows()]
    controls = random_trials(directions, [DOSE / 2, DOSE], ["a tune", "rock"], [1, 2], count=1)
    takes = generate(  # in the same batch, so that all is equal bit for bit
        tiny_model, table["prompt"].tolist(), steering=plans + [one.plan for one in controls],
        seed=table["seed"].tolist(), **settings,
    )  # fmt: skip
    for (_, row), take in zip(table.iterrows(), takes, strict=True):
        (odds,) = judge.probabilities([take.clip])
        assert [row["p_three"], row["p_nine"]] == odds.tolist()
        assert row["judged"] == judge.classes[int(odds.argmax())]
        assert row["hit"] == (row["judged"] == row["aim"])
        assert row["level_db"] == damage(take.clip)["level_db"]


def test_every_control_has_a_random_direction_of_its_own(tiny_model):
    aims = {"jazz": direction(tiny_model, 1), "rock": direction(tiny_model, 1, seed=1, name="rock")}
    controls = random_trials(aims, {"jazz": [0.5], "rock": [0.7]}, ["a tune"], [1], count=2)
    assert [(one.aim, one.columns["dose"]) for one in controls] == [("jazz", 0.5)] * 2 + [("rock", 0.7)] * 2
    vectors = np.stack([one.plan.terms[0].direction.vector for one in controls])
    apart = vectors @ vectors.T / np.linalg.norm(vectors[0]) ** 2 - np.eye(4)
    assert np.abs(apart).max() < 0.9, "no two of them are the same"


def test_a_sweep_tells_the_likelihood_where_it_is_asked_for(tiny_model):
    judge = Reference(tiny_model, {"three": 3, "nine": 9})
    aims = {"three": planted(tiny_model, 3, name="three")}
    short = {"prompts": ["a tune"], "seeds": [1, 2], "seconds": 1.0, "progress": False}
    plain, scored = (
        sweep(tiny_model, aims, [0.0], judge, likely=likely, **short) for likely in (False, True)
    )
    added = ["nll", "nll_0", "nll_1", "nll_2", "nll_3"]
    assert list(scored.columns) == [*plain.columns, *added]
    takes = generate(tiny_model, ["a tune"] * 2, seed=[1, 2], seconds=1.0, progress=False)
    expected = [one.nll for one in likelihood(tiny_model, takes)]
    assert scored["nll"].tolist() == expected
    assert scored[plain.columns.tolist()].equals(plain)


def clips(method: str, pairs, values) -> pd.DataFrame:
    prompts, seeds = zip(*pairs, strict=True)
    return pd.DataFrame({"method": method, "prompt": prompts, "seed": seeds, "x": values})


PAIRS = [("a", 1), ("b", 2), ("a", 3)]


def test_pairs_are_found_by_prompt_and_seed_whatever_the_order():
    table = pd.concat([clips("unsteered", PAIRS[::-1], [3, 2, 1]), clips("jazz", PAIRS, [10, 20, 30])])
    mine, baselines = pair_with_baseline(table, "jazz")
    assert dict(zip(mine["x"], baselines["x"], strict=True)) == {10: 1, 20: 2, 30: 3}
    assert len(set(pair_names(mine))) == 3


@pytest.mark.parametrize(
    "table",
    [
        clips("jazz", PAIRS, [1, 2, 3]),
        pd.concat([clips("jazz", PAIRS, [1, 2, 3]), clips("unsteered", PAIRS[:2], [1, 2])]),
        pd.concat([clips(name, [*PAIRS, PAIRS[0]], [1, 2, 3, 4]) for name in ("jazz", "unsteered")]),
    ],
)
def test_clips_without_exactly_one_baseline_are_refused(table):
    with pytest.raises(EvidenceError, match="paired"):
        pair_with_baseline(table, "jazz")


def test_comparisons_of_nothing_are_refused():
    with pytest.raises(EvidenceError, match="0 prompts"):
        pair_prompts([], [1])
    with pytest.raises(EvidenceError, match="name of the baselines"):
        trials({"unsteered": None}, ["a"], [1])


def test_a_mean_has_the_interval_of_its_groups():
    rng = np.random.default_rng(0)
    of_group = rng.normal(size=(60, 2))
    values, groups = np.repeat(of_group, 5, axis=0), np.repeat(np.arange(60), 5)
    for i, one in enumerate(means(values, groups)):
        assert one.value == pytest.approx(values[:, i].mean())
        expected = 2 * 1.96 * of_group[:, i].std() / np.sqrt(60)
        assert one.high - one.low == pytest.approx(expected, rel=0.12)  # 2000 draws know it to 2 %
        assert one.low < one.value < one.high


def test_a_ratio_keeps_its_pairs():
    rng = np.random.default_rng(1)
    below = rng.uniform(0.1, 1.0, (40, 1))
    (paired_,) = ratios(below * 0.5, below, np.arange(40))
    assert (paired_.low, paired_.value, paired_.high) == pytest.approx((0.5, 0.5, 0.5))
    (loose,) = ratios(rng.permuted(below) * 0.5, below, np.arange(40))
    assert loose.high - loose.low > 0.1
    (nothing,) = ratios(below, 0 * below, np.arange(40))
    assert np.isnan([nothing.value, nothing.low, nothing.high]).all()


def test_the_toy_judge_stands_in_for_a_real_one(tiny_model):
    for one in (Reference(tiny_model, {"three": 3}), load_judge()):
        assert isinstance(one, Judge)
