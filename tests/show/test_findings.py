"""What notebooks say of their results: each sentence says other things of other figures."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from evidence_samples import AIMS, CLASSES, heard
from figure_samples import patches
from planted import planted

from workbench.errors import DatasetError
from workbench.evidence.causal import DirectEffects, Lens
from workbench.evidence.crosstalk import crosstalk_of
from workbench.generation.live.pacing import LiveFigures
from workbench.probing import fit_probes, project
from workbench.show import findings
from workbench.sound import Clip, Dataset, Entry, Finding, LintReport


@pytest.fixture(scope="module")
def acts() -> Any:
    return planted(4.0)[0]


@pytest.fixture(scope="module")
def probes(acts: Any) -> Any:
    return fit_probes(acts, folds=3, shuffles=3, l2=[1.0], progress=False)


@pytest.fixture(scope="module")
def chance(acts: Any) -> Any:
    """The same with a coin for each group instead of the label."""
    drawn = {group: str(i % 2) for i, group in enumerate(sorted(set(acts.groups)))}
    coin = np.random.default_rng(3).permutation([drawn[group] for group in acts.groups])
    noise = acts.data.assign_coords(label_coin=("sample", coin))
    return fit_probes(type(acts)(noise), "coin", folds=3, shuffles=20, l2=[1.0], progress=False)


def _of(accuracy: float, low: float, high: float, line: float = 0.5) -> Any:
    """Return a sweep of one layer with these figures."""
    scores = SimpleNamespace(accuracy=accuracy, low=low, high=high, chance=line, shuffled_high=line - 0.1)
    best = SimpleNamespace(accuracy=accuracy, scores=scores, layer=2)

    class Sweep(list[Any]):
        target, best = "coin", None

    sweep = Sweep([best])
    sweep.best = best
    return sweep


def test_a_sentence_is_marked_and_escaped() -> None:
    seen = findings.Seen("a < b.")
    assert str(seen) == repr(seen) == "What you see: a < b."
    assert "<b>What you see:</b> a &lt; b." in seen._repr_html_()


def test_layers_that_clear_the_lines_are_counted(probes: Any, chance: Any) -> None:
    found = findings.layers(probes).words
    best = probes.best.scores
    assert f"at its best layer, {probes.best.layer}," in found
    assert f"{100 * best.accuracy:.0f} % of the clips ({100 * best.low:.0f} % to" in found
    clear = sum(p.scores.low > max(p.scores.chance, p.scores.shuffled_high) for p in probes)
    assert clear and f"The bars of {clear} of {len(list(probes))} layer" in found
    assert "not found in any layer" in findings.layers(chance).words


def test_the_farthest_and_the_nearest_target_are_named(probes: Any, chance: Any) -> None:
    told = findings.targets({"style": probes, "coin": chance}).words
    assert told.startswith("farthest above its line is style (") and "nearest to its line is coin (" in told
    swapped = findings.targets({"style": chance, "coin": probes}).words
    assert swapped.startswith("farthest above its line is coin (")
    alike = {"a": _of(0.996, 0.98, 1), "b": _of(1.0, 0.95, 1), "c": _of(0.6, 0.5, 0.7)}
    first, last = findings.targets(alike).words.split("; ")
    assert "a (99.6 % against 50 %) and b (100 % against 50 %)" in first and "c (" in last


def test_what_the_layers_add_is_said_for_both_spans() -> None:
    codes = {"5 s": _of(0.9, 0.8, 1), "0.2 s": _of(0.7, 0.6, 0.8)}
    more = findings.moment(codes, {"5 s": _of(0.95, 0.9, 1), "0.2 s": _of(0.94, 0.9, 1)}).words
    assert "codes alone reach 70 %, the best layer 94 % (+24 points)" in more
    assert "add more (+19 points) where the probe is given less" in more
    less = findings.moment(codes, {"5 s": _of(1.0, 0.9, 1), "0.2 s": _of(0.7, 0.6, 0.8)}).words
    assert "(+0 points)" in less and "add no more to 0.2 s than to 5 s" in less


def test_a_leak_is_seen_where_the_random_split_alone_clears_the_line() -> None:
    told = findings.leak(_of(0.5, 0.4, 0.6), _of(0.8, 0.7, 0.9)).words
    assert "held out the best layer's interval begins at 40 %, not above the line (50 %)." in told
    assert "random split the best layer's interval begins at 70 %, above the line (50 %): the coin" in told
    none = findings.leak(_of(0.5, 0.4, 0.6), _of(0.5, 0.4, 0.6)).words
    assert "looks readable" not in none


@pytest.mark.parametrize(
    ("cosines", "told"),
    [
        ([0.93, 0.99], "a, b: nearly the same (0.93 to 0.99)"),
        ([0.56, 0.80], "a, b: related (0.56 to 0.80)"),
        ([0.43, 0.80], "a, b: related for some genres, different for others (0.43 to 0.80)"),
        ([0.3, 0.45], "a, b: different (0.30 to 0.45)"),
        ([-0.1, 0.1], "a, b: no more alike than two random ones (-0.10 to 0.10)"),
    ],
)
def test_directions_agree_as_far_as_their_cosines(cosines: list[float], told: str) -> None:
    words = findings.agreement(pd.DataFrame({"a, b": cosines}), 256).words
    assert told in words and "rarely exceed 0.25" in words


def test_the_commonest_mistake_is_named() -> None:
    names = ["slow", "fast"]
    off = pd.DataFrame([[8, 2], [5, 5]], index=names, columns=names)
    assert "7 of 20 clips are mistaken, most often fast taken for slow (5" in findings.confusions(off).words
    assert "slow taken for fast (5" in findings.confusions(off.T).words
    right = pd.DataFrame([[8, 0], [0, 5]], index=names, columns=names)
    assert findings.confusions(right).words == "none of the 13 clips is mistaken."


def test_maps_are_described_by_who_is_near(acts: Any) -> None:
    target = next(name for name in project(acts, 1, method="pca").labels)
    good = project(acts, 1, method="pca")
    labels = good.labels[target].to_numpy()
    _, number = np.unique(labels, return_inverse=True)
    rng = np.random.default_rng(0)
    apart = replace(good, points=(np.c_[number, number**2] * 50 + rng.normal(size=(len(labels), 2))))
    mixed = replace(good, points=rng.normal(size=(len(labels), 2)))
    told = findings.lie_together(apart, target).words
    assert told.startswith("for 100 % of the clips") and "lie together" in told
    assert "no more than chance" in findings.lie_together(mixed, target).words
    assert "100 % are the same on both maps" in findings.two_maps(apart, apart, target).words
    assert "100 %" not in findings.two_maps(apart, mixed, target).words
    nearest = findings.same_nearest({"mixed": mixed, "apart": apart}, target).words
    assert "apart 100 %" in nearest and nearest.endswith("most often on apart.")
    shown = findings.shadow(replace(good, explained=(0.5, 0.2))).words
    assert shown == "the axes carry 50 % and 20 % of the variance; 30 % is not shown."


def test_pushes_that_the_judge_does_not_hear_are_named() -> None:
    rows = {"unsteered": {"jazz": 0.2, "rock": 0.8}, "jazz": {"jazz": 0.9, "rock": 0.1}}
    told = findings.judged({**rows, "rock": {"jazz": 0.7, "rock": 0.3}}).words
    assert "unsteered tune as rock; it hears 1 of 2 pushes" in told and "not rock (heard as jazz)" in told
    assert "but not" not in findings.judged({**rows, "rock": {"jazz": 0.1, "rock": 0.9}}).words


def _rates(*steered: float, control: float = 0.2) -> pd.DataFrame:
    names = [0.05, 0.1, 0.2, 0.4][: len(steered)]
    row = {"aim": "jazz", "method": "probe", "n": 10}
    rows = [{**row, "dose": dose, "hit_rate": rate} for dose, rate in zip(names, steered, strict=True)]
    return pd.DataFrame(
        [*rows, {"aim": "jazz", "method": "random", "dose": 0.1, "n": 20, "hit_rate": control}]
    )


def test_a_dose_that_is_too_large_is_told() -> None:
    told = findings.doses(_rates(0.5, 0.9, 0.6, 0.0)).words
    assert "50 % at 0.05, 90 % at 0.1, 60 % at 0.2, 0 % at 0.4" in told
    assert "More is not better: from 90 % at 0.1 it falls to 0 % at 0.4" in told
    assert "Random directions reach 20 % at most" in told and "n = 10 to 20" in told
    rising = findings.doses(_rates(0.1, 0.5, 0.9, 1.0)).words
    assert "falls to" not in rising and "does not fall" in rising
    assert "No dose does it" in findings.doses(_rates(0.0, 0.0)).words


def test_what_a_push_did_to_the_sound_is_told() -> None:
    calm = {"level_db_change": 0.4, "flatness_change": 0.0, "repetition_change": 0.0}
    loud = {**calm, "level_db_change": -6.0, "repetition_change": 0.3}
    assert "none of the 1 clips changes by more than 3 dB" in findings.damages({"calm": calm}).words
    told = findings.damages({"calm": calm, "loud": loud}).words
    assert told == "loud (level_db -6, repetition +0.3) differ from the baseline in sound."


def test_errors_and_warnings_of_a_lint_are_counted() -> None:
    error, warning = Finding("leak", "error", "a is b", ("a", "b")), Finding("level", "warning", "loud")
    assert findings.linted(LintReport("x", 9, ())).words.startswith("0 errors and 0 warnings about 9 clips")
    told = findings.linted(LintReport("x", 9, (error, warning))).words
    assert told.startswith("1 error and 1 warning about 9 clips") and "2 clips stand in an error" in told


def _songs(*groups: tuple[str, str]) -> Dataset:
    entries = tuple(Entry(f"{g}{i}", {"genre": genre}, g, "", str(i)) for i, (genre, g) in enumerate(groups))
    return Dataset(entries, "songs", lambda _one: Clip(np.zeros(8), 8000))


def test_a_rule_that_makes_one_group_of_all_is_blamed() -> None:
    fair = _songs(("jazz", "a"), ("jazz", "a"), ("jazz", "b"), ("rock", "c"))
    told = findings.grouped(fair, str).words
    assert told == "the rule GROUP made 3 groups of 4 files, the largest of 2 files; rock has the fewest (1)."
    assert findings.grouped(fair).words.startswith("without a rule, files by themselves made 3 groups")
    for lumped in (
        _songs(("jazz", "x"), ("jazz", "x"), ("rock", "x")),
        _songs(("a", "a"), ("a", "a"), ("b", "b")),
    ):
        with pytest.raises(DatasetError, match=r"rule GROUP made .* Blame the rule, not the music"):
            findings.grouped(lumped, str)


def test_what_two_directions_share_has_a_sign() -> None:
    kinds = {"jazz": "genre", "rock": "genre", "fast": "tempo"}
    cosines = pd.DataFrame([[1, -0.9, -0.4], [-0.9, 1, 0.1], [-0.4, 0.1, 1]], kinds, kinds)
    told = findings.shared(cosines, kinds).words
    assert (
        "jazz and fast share most: they point opposite ways (-0.40)" in told and "goes against fast" in told
    )
    other = findings.shared(cosines.replace({-0.4: 0.05}), kinds).words
    assert "rock and fast share most: they point the same way (+0.10)" in other


def test_two_wishes_keep_what_the_table_says() -> None:
    def table(ratio: float, both: float) -> pd.DataFrame:
        return pd.DataFrame({"attribute": ["jazz"], "ratio": [ratio], "both": [both]}).set_index("attribute")

    better = findings.together({"as they are": table(0.5, 0.4), "at right angles": table(1.0, 0.9)}).words
    assert "as they are, jazz keeps 0.50" in better and "At right angles, more clips have both" in better
    worse = findings.together({"as they are": table(0.5, 0.4), "at right angles": table(np.nan, 0.1)}).words
    assert "nothing is heard alone" in worse and "fewer clips have both" in worse


def test_continuations_and_spills_and_gaps_are_told() -> None:
    rows = pd.DataFrame({"rock": [1.0, 0.25]}, index=["unsteered", "0.2*jazz@2"])
    assert "rock is heard in 100 % of unsteered, 25 % of 0.2*jazz@2" in findings.continued(rows, "rock").words
    assert "jazz is heard in 0 % of unsteered" in findings.continued(rows, "jazz").words
    found = crosstalk_of(heard(), CLASSES, AIMS)
    told = findings.spilled(found).words
    assert f"{found.specificity():.1f} times as much" in told
    still = LiveFigures("stopped", 8.0, 0.5, 0, 200, 200, 200, 1, 40.0, 1.9, 0.3)
    assert findings.played(still).words == (
        "no gaps; no knob was moved; the model was faster than real time (1.9 x)."
    )
    slow = replace(still, underruns=2, real_time_factor=0.7, worst_knob_to_ear_s=1.234, knob_to_ear_s=1.0)
    assert findings.played(slow).words == (
        "2 gaps; a knob was heard after 1.23 s at the latest; the model was slower than real time (0.7 x)."
    )


def test_a_replay_is_equal_or_says_where_it_is_not() -> None:
    codes = np.arange(12).reshape(2, 6)
    other = codes.copy()
    other[1, 3] += 1
    assert "all 12 codes of 6 frames are equal" in findings.replayed(codes.copy(), codes).words
    assert findings.replayed(other, codes).words == "the codes are NOT equal; they differ from frame 3 on."
    assert "in length alone" in findings.replayed(codes[:, :5], codes).words


def test_the_strongest_patch_is_named_with_its_share() -> None:
    found = patches()
    found.values[:] = 0.1
    found.values[1, 4, 2] = 0.5 * (found.goal - found.start)
    told = findings.carried(found).words
    assert "layer 4 from 1.0 to 1.6 s in the unprompted half, goes 50 % of the way from -15.8 to 15.1" in told
    assert told.endswith("1 of 120 patches go a tenth of it or more.")
    found.values[0, 5, 9] = found.goal - found.start
    assert "layer 5 from 4.7 to 5.2 s in the prompted half, goes 100 %" in findings.carried(found).words


def test_parts_are_added_up_and_the_largest_is_named() -> None:
    rows = [(-1, "embed", 0.5), (0, "head 0", -2.0), (0, "head 1", 0.5), (0, "text", 0.0), (0, "mlp", 1.0)]
    table = pd.DataFrame(rows, columns=["layer", "part", "effect"])
    told = findings.written(DirectEffects(table, 0.25, 0.25, "logit")).words
    assert "head 0 of layer 0 writes most (-2.00)" in told
    assert "embed +0.50, heads -1.50, mlp +1.00, text +0.00; with biases (+0.25)" in told
    assert "they add up to 0.25, the read-out itself (0.25)" in told
    embedded = table.assign(effect=[3.0, 0, 0, 0, 0])
    assert (
        "the embedding writes most (+3.00)" in findings.written(DirectEffects(embedded, 0, 3, "logit")).words
    )


def test_a_lens_says_what_the_first_and_the_last_block_play() -> None:
    table = pd.DataFrame({"layer": [0, 1, 2, 3], "nll": [3.0, 3.2, 1.0, 0.5], "same": [0.1, 0.2, 0.4, 1.0]})
    clips = {0: Clip(np.zeros(800), 8000), 3: Clip(0.1 * np.sin(np.arange(800)), 8000)}
    told = findings.stopped(Lens(clips, np.zeros((4, 4, 2)), table)).words
    assert "after block 0 it plays 10 % of the take's codes, too, and finds them unlikely by 3.00" in told
    assert "after block 3 it plays 100 %" in told and "2 of the 3 blocks behind" in told
    assert told.endswith("Silence plays after block 0.")
    del clips[0]
    assert "ilence" not in findings.stopped(Lens(clips, np.zeros((4, 4, 2)), table)).words


def test_what_was_erased_is_told_with_what_was_spared() -> None:
    rows = {"method": ["leace", "probe", "unsteered"] * 2, "aim": ["jazz"] * 3 + ["rock"] * 3}
    rates = pd.DataFrame(rows).assign(
        hit_rate=[0.0, 0.8, 1.0, 0.9, 0.7, 1.0], low=0.6, high=[0.4] + [1.0] * 5
    )
    told = findings.erased(rates, "jazz").words
    assert told.startswith("jazz is heard in 0 % (leace), 80 % (probe), 100 % (unsteered); rock is heard")
    assert "in 90 % (leace), 70 % (probe)" in told
    assert told.endswith("For jazz, the interval lies below the unsteered one with leace.")
    assert findings.erased(rates, "rock").words.endswith("No interval lies below the unsteered one.")


def test_reading_and_acting_are_told_apart() -> None:
    table = pd.DataFrame({"layer": [0, 1, 2], "accuracy": [0.5, 0.9, 0.8], "effect": [0.6, 0.1, 0.5]})
    table = table.assign(effect_low=[0.4, 0.0, 0.3], effect_high=[0.8, 0.3, 0.7])
    told = findings.reads_or_acts(table).words
    assert "read best in layer 1 (90 %), where a push moves P by +10 points" in told
    assert "pushed best in layer 0 (+60 points, its interval lies above that of layers 1)" in told
    unsure = findings.reads_or_acts(table.assign(effect_high=0.9)).words
    assert "no layer is surely weaker" in unsure


def test_recommended_doses_say_who_found_them() -> None:
    columns = ["aim", "layer", "dose", "by", "steerable"]
    heard = [("jazz", 3, 0.2, "auto-dose", True), ("rock", 2, 0.15, "auto-dose", False)]
    held = [("jazz", 4, 0.3, "breaking dose", None)]
    told = [
        findings.recommended(SimpleNamespace(doses=pd.DataFrame(rows, columns=columns))).words
        for rows in (heard, held)
    ]
    assert "jazz at layer 3 with dose 0.2 and rock at layer 2 with dose 0.15; 1 of 2 aims" in told[0]
    assert "jazz at layer 4 with dose 0.3" in told[1] and "Nobody has listened" in told[1]
