"""What chose is not reported on; random directions are declared ineffective, and planted ones effective."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from evidence_samples import Peak, listed
from simulated_trials import PAIRS, clips, controls, steered
from steering_fixture import direction
from tolerances import DOUBLE
from toy_judges import DOSE, Reference, planted

from workbench.errors import EvidenceError
from workbench.evidence.trials import (
    Trial,
    dose_trials,
    pair_prompts,
    random_trials,
    refuse_chosen,
    run_trials,
    trials,
)
from workbench.evidence.validate import effect, effects, is_effective
from workbench.model.musicgen import NEUTRAL_PROMPTS
from workbench.stats import holm
from workbench.steering import random_direction

SHORT: dict = {"seconds": 0.4, "likely": False, "progress": False}


def test_random_directions_are_declared_ineffective_in_90_of_100_tables():
    found = [is_effective(steered(seed), controls(seed)) for seed in range(100)]
    assert found.count(False) >= 90


def test_planted_effects_are_declared_effective_in_90_of_100_tables():
    found = [is_effective(steered(seed, 4.0), controls(seed)) for seed in range(100)]
    assert found.count(True) >= 90


def test_a_lucky_random_direction_beats_the_baseline_and_is_no_effect():
    """Clip by clip it surely lies above the baseline, and yet random directions do as much."""
    lucky = [effect(steered(seed, 0.6), controls(seed)) for seed in range(40)]
    sure = [one for one in lucky if one.gains["unsteered"].p_value < 0.05]
    assert len(sure) >= 20 and sum(one.effective for one in sure) <= len(sure) / 2


def test_an_effect_is_no_surer_than_its_weakest_control():
    mine, others = steered(3, 4.0), controls(3)
    found = effect(mine, others)
    assert found.n == len(PAIRS) and found.directions == 5 and found.effective
    assert found.p_value == max(gain.p_value for gain in found.gains.values())
    table = {method: part.groupby("seed")["p"].mean() for method, part in others.groupby("method")}
    for name, gain in found.gains.items():
        expected = mine.set_index("seed")["p"].sub(table[name]).mean()
        np.testing.assert_allclose(gain.value, expected, **DOUBLE)
        assert gain.low < gain.value < gain.high
    assert "jazz is effective" in str(found) and "over unsteered" in str(found)
    better = effect(mine, pd.concat([others, clips("prompt", 6.0, 5)]))
    assert not better.effective and better.gains["prompt"].high < 0
    weaker = effect(steered(3, -1.5), others)
    assert weaker.wrong.value > 0.7 > 0.3 > found.wrong.value and weaker.wrong.low > 0.5


def test_controls_on_other_pairs_are_left_out():
    mine, others = steered(3, 4.0), controls(3)
    fewer = pd.concat(
        [
            others[others["method"] == "unsteered"],
            others[(others["method"] == "random") & (others["seed"] < 4)],
        ]
    )
    found, whole = effect(mine, fewer), effect(mine, others)
    assert found.gains["unsteered"] == whole.gains["unsteered"]
    own, random = mine[mine["seed"] < 4]["p"].mean(), fewer[fewer["method"] == "random"]["p"].mean()
    np.testing.assert_allclose(found.gains["random"].value, own - random, **DOUBLE)


@pytest.mark.parametrize(
    ("told", "mine", "others"),
    [
        ("at least two random directions", steered(1), controls(1, directions=1)),
        ("at least two random directions", pd.concat([steered(1), steered(2)]), controls(1)),
        ("clips of one aim", pd.concat([steered(1), steered(2, aim="rock")]), controls(1)),
        ("name the judge", steered(1), controls(1).assign(p=np.nan)),
    ],
)
def test_what_shows_no_effect_is_refused(told, mine, others):
    with pytest.raises(EvidenceError, match=told):
        effect(mine, others)


def test_p_values_are_adjusted_over_aims():
    shifts = {"jazz": 4.0, "rock": 2.5, "pop": 0.0}
    alone = {
        aim: (steered(i, shift, aim=aim), controls(i, aim=aim))
        for i, (aim, shift) in enumerate(shifts.items())
    }
    table = pd.concat([part for both in alone.values() for part in both], ignore_index=True)
    # the baselines of a run stand once, without an aim, and with a column for each aim
    baselines = {
        aim: both[1][both[1]["method"] == "unsteered"]["p"].to_numpy() for aim, both in alone.items()
    }
    steered_rows = table[table["method"] != "unsteered"]
    wide = steered_rows.assign(**{f"p_genre_{aim}": steered_rows["p"] for aim in shifts})
    first = table[table["method"] == "unsteered"].iloc[: len(PAIRS)].assign(aim=None, p=np.nan)
    wide = pd.concat([first.assign(**{f"p_genre_{aim}": p for aim, p in baselines.items()}), wide])
    found = effects(wide, judge="genre")
    each = {aim: effect(*both) for aim, both in alone.items()}
    adjusted = dict(zip(sorted(each), holm([each[aim].p_value for aim in sorted(each)]), strict=True))
    assert list(found) == sorted(shifts)
    for aim, one in found.items():
        np.testing.assert_allclose(one.p_value, adjusted[aim], **DOUBLE)
        assert one.gains.keys() == each[aim].gains.keys()
    assert found["jazz"].effective and not found["pop"].effective


def test_a_planted_direction_is_effective_and_a_random_one_is_not(tiny_model):
    judge = Reference(tiny_model, {str(number): number for number in range(6)})
    own = {"3": planted(tiny_model, 3, name="3")}
    prompts, seeds = ["the music"], list(range(8))
    other = {"3": random_direction(own["3"], seed=77)}
    some = [Trial(prompts[0], seed) for seed in seeds]
    some += dose_trials(own, [DOSE], prompts, seeds)
    some += dose_trials(other, [DOSE], prompts, seeds, method="unrelated")
    some += random_trials(own, [DOSE], prompts, seeds, count=6)
    table = run_trials(tiny_model, some, {"code": judge}, **{**SHORT, "seconds": 1.0})
    assert effects(table, judge="code")["3"].effective
    assert not effects(table, method="unrelated", judge="code")["3"].effective


def test_the_runner_refuses_to_report_on_pairs_that_chose(tiny_model):
    some = listed(tiny_model)
    chosen = run_trials(tiny_model, some[:2], Peak(), **SHORT)
    with pytest.raises(
        EvidenceError, match=r"have chosen what is reported: 'a song' with seed 2.*other prompts or seeds"
    ):
        run_trials(tiny_model, some[1:], Peak(), chosen_on=chosen, **SHORT)
    plan = direction(tiny_model, 1).at(0.5)
    swapped = trials({"push": plan}, ["a song", "a tune"], [1, 2])
    table = run_trials(tiny_model, swapped, Peak(), chosen_on=chosen, **SHORT)
    assert len(table) == 4, "the same prompts and seeds in other pairs have not chosen"


def test_pairs_are_told_apart_by_prompt_and_seed_in_every_form():
    table = pd.DataFrame({"prompt": ["a", "b"], "seed": [1, 2]})
    for chosen in (table, [("a", 1), ("b", 2)], [Trial("a", 1), Trial("b", 2)]):
        refuse_chosen(chosen, [Trial("a", 2), Trial("b", 1)])
        with pytest.raises(EvidenceError, match=r"1 of 2 pairs .* 'b' with seed 2"):
            refuse_chosen(chosen, [("a", 2), ("b", 2)])


@pytest.mark.long
def test_random_directions_do_nothing_on_the_built_in_model():
    """Of twenty random directions, each against the nineteen others, at least 18 are declared ineffective."""
    import workbench as wb

    model, judge = wb.load("embedded"), wb.load_judge()
    every = [direction(model, model.n_layers // 2, seed=seed) for seed in range(20)]
    pairs = pair_prompts(NEUTRAL_PROMPTS, range(8))
    some = [Trial(*pair, columns={"number": -1}) for pair in pairs]
    some += [Trial(*pair, one.at(0.6), "random", None, columns={"number": number})
             for number, one in enumerate(every) for pair in pairs]  # fmt: skip
    table = run_trials(model, some, {"genre": judge}, seconds=1.0, likely=False, progress=False)
    ineffective = 0
    for number in range(20):
        own, aim = table["number"] == number, judge.classes[number % len(judge.classes)]
        ineffective += not is_effective(
            table[own].assign(aim=aim), table[~own].assign(aim=aim), judge="genre"
        )
    assert ineffective >= 18, f"{ineffective} of 20"
