"""The evidence for steering: planted directions are found, random ones not, and a kill changes nothing."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from report_samples import FEW, HEARD, SHORT, judged, judged_table, methods, planted_music, study_clips
from tolerances import DOUBLE
from toy_judges import Reference

import workbench as wb
from workbench.errors import EvidenceError
from workbench.evidence import report as module
from workbench.evidence.report import (
    CONTROLS,
    OTHER,
    PROMPTED,
    RANDOM,
    SHRINK,
    SHUFFLED,
    UNSTEERED,
    Design,
    Study,
    headline,
    verdicts,
)
from workbench.evidence.search import DamageBudget
from workbench.steering import Direction
from workbench.steering.together import WAYS

TOOK = re.compile(r"[\d.]+ in this call")


@pytest.fixture(scope="module")
def judge(tiny_model) -> Reference:
    return Reference(tiny_model, HEARD, target="genre")


@pytest.fixture(scope="module")
def found(tiny_model, judge, tmp_path_factory):
    folder = tmp_path_factory.mktemp("evidence")
    options = {"judges": judge, "folder": folder, "music": planted_music(tiny_model), "progress": False}
    return wb.evidence_report(tiny_model, methods(tiny_model), design=SHORT, **options)


def test_planted_directions_steer_and_random_ones_do_not(found, tiny_model, judge, tmp_path):
    assert found.main == "planted" and all(one.steers for one in found.verdicts.values())
    assert str(found) == "2 of 2 steer above every control with intervals apart."
    wild = {"wild": methods(tiny_model)["wild"]}
    options = {"judges": judge, "folder": tmp_path, "music": planted_music(tiny_model), "progress": False}
    other = wb.evidence_report(tiny_model, wild, design=SHORT, **options)
    assert not any(one.steers for one in other.verdicts.values())
    assert str(other).endswith("Not shown for: jazz, rock.")


def test_every_control_stands_beside_every_aim_in_pairs(found):
    chosen = found.table[found.table["chosen"]]
    for _aim, part in chosen.groupby("aim"):
        assert set(part["method"]) == {"planted", "wild", *CONTROLS, PROMPTED}
    doses = found.table[found.table["method"].isin(["planted", RANDOM])].groupby(["aim", "method"])["dose"]
    assert all(sorted(some) == [0.5, 2.0] for _key, some in doses)
    assert (found.table[found.table["method"] == "wild"]["chosen"]).all(), (
        "one dose is all that is not in full"
    )
    same = found.clips[found.clips["method"] == UNSTEERED]
    assert np.allclose(same["gain"], 0, **DOUBLE) and set(same["base"]) == {"a song", "a track"}


def test_other_ways_to_push_meet_the_same_pairs_and_doses(found):
    assert set(found.ways["method"]) == {"add", "away", "both branches"}  # not "the same"
    area = found.ways.groupby("method")["area"].first()
    assert area["away"] == 0 < 0.2 < min(area["add"], area["both branches"]) <= 1
    assert found.ways["method"].iloc[-1] == "away" and set(found.ways["dose"]) == {2.0}
    mine, other = (found.clips[(found.clips["method"] == name) & (found.clips["dose"] == 2.0)]
                   for name in ("planted", "both branches"))  # fmt: skip
    pairs = [sorted(zip(one["aim"], one["base"], one["seed"], strict=True)) for one in (mine, other)]
    assert pairs[0] == pairs[1] and not other["chosen"].any()
    assert "Ways to push" in found.page.read_text("utf-8")


def test_every_way_to_push_is_a_plan_of_its_own():
    some = [Direction(np.eye(4)[n], n, name="jazz", residual_norm=10.0) for n in (2, 0)]
    plans = [str(way(some, 0.3)) for way in WAYS.values()]
    assert len({str(some[0].at(0.3)), *plans}) == len(WAYS) + 1
    assert all("jazz@2" in plan for plan in plans)


def test_what_chose_is_never_reported(found):
    assert set(found.clips["stage"]) == {"reporting"} and found.clips["seed"].min() >= 1000
    assert not set(found.clips["base"]) & set(SHORT.choosing_prompts)
    with pytest.raises(EvidenceError, match="what chose is never reported"):
        Design(choosing_prompts=("a tune",), reporting_prompts=("a song", "a tune"))


def test_directions_and_judges_must_know_the_same_aims(tiny_model, judge):
    one = methods(tiny_model)["planted"]["jazz"]
    for directions in ({}, {"polka": one}, {"a": {"jazz": one, "rock": one}, "b": {"jazz": one}}):
        with pytest.raises(EvidenceError, match="a direction for every aim"):
            Study.of(directions, judge, SHORT)


CHILD = """
import sys
sys.path[:0] = sys.argv[3:]
import workbench as wb
from report_samples import FEW, HEARD, methods, planted_music
from toy_judges import Reference
from workbench.model.load import load
model = load(sys.argv[1], device="cpu", dtype="float32")
judge = Reference(model, HEARD, target="genre")
options = {"judges": judge, "folder": sys.argv[2], "music": planted_music(model), "progress": False}
wb.evidence_report(model, methods(model), design=FEW, **options)
"""


@pytest.mark.long
def test_after_a_kill_the_report_goes_on_to_the_same_tables(judge, tiny_model, tiny_folder, tmp_path):
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    rows, root = killed / "rows.jsonl", Path(__file__).parents[2]
    paths = [str(root / "tests"), str(root), str(root / "data" / "embedded")]
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(tiny_folder), str(killed), *paths])
    until = time.monotonic() + 120
    while not (rows.exists() and rows.stat().st_size) and child.poll() is None and time.monotonic() < until:
        time.sleep(0.002)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    kept = rows.read_bytes()
    assert kept and not (killed / "index.html").exists(), "it was killed before the end"
    options = {"judges": judge, "music": planted_music(tiny_model), "progress": False, "design": FEW}
    one, other = (
        wb.evidence_report(tiny_model, methods(tiny_model), folder=folder, **options)
        for folder in (killed, whole)
    )
    assert rows.read_bytes().startswith(kept)
    pd.testing.assert_frame_equal(one.table, other.table, **DOUBLE)
    assert one.verdicts == other.verdicts


def test_the_budget_says_how_many_clips_and_is_asked_once(tiny_model, judge, tmp_path, monkeypatch, capsys):
    now = iter(np.arange(0, 1e6, 3.2))  # a batch of 32 in 3.2 s: 0.1 s a clip
    monkeypatch.setattr(module.time, "monotonic", lambda: next(now))
    monkeypatch.setattr(module, "run_trials", lambda *_, **__: None)
    study = Study.of(methods(tiny_model), judge, Design(doses=(0.5, 2.0), full=1))
    run = module.partial(module.run_trials, progress=True)
    sized = [
        module._sized(study, tiny_model, run, folder=tmp_path / str(minutes), minutes=minutes, turns=False)
        for minutes in (0.01, 1, 1, 1000)
    ]
    least, some, again, most = sized
    assert least == (2, 6) and tuple(most) == (6, 64) and tuple(some) == tuple(again)
    assert least < tuple(some) < tuple(most)
    first, second, third, _ = capsys.readouterr().out.splitlines()
    assert "min. What is finished" in first and second == third


# ------------------------------------------------------------------------------ verdicts, from made tables


@pytest.mark.parametrize("count", [24, 96])
def test_verdicts_follow_from_the_figures(count):
    rates = {"jazz": (0.95, 0.3), "rock": (0.5, 0.45), "reggae": (0.3, 0.4)}
    table = judged_table(study_clips(rates, count))
    own = table[(table["method"] == "probe") & (table["aim"] == "jazz")].iloc[0]
    assert own["n"] == count and own["hit_rate_low"] < own["hit_rate"] < own["hit_rate_high"]
    said = verdicts(table, "probe", DamageBudget(), judged(rates))
    assert {aim: one.steers for aim, one in said.items()} == {"jazz": True, "rock": False, "reggae": False}
    assert f"{own['hit_rate']:.0%}" in said["jazz"].sentence and "intervals apart" in said["jazz"].sentence
    assert "is not shown to steer" in said["rock"].sentence and "does not steer" in said["reggae"].sentence
    assert headline(said).startswith("1 of 3 steers") and headline(said).endswith("rock, reggae.")
    p_values = table.set_index("aim")["adjusted_p"].groupby(level=0).first()
    assert p_values["jazz"] < 0.2 < 0.5 < p_values["reggae"]


def test_a_deaf_judge_claims_nothing_and_broken_music_is_said():
    table = judged_table(study_clips({"jazz": (0.95, 0.1)}, 48).assign(nll_rise=3.0))
    said = verdicts(table, "probe", DamageBudget(), judged(["jazz"], codec=0.3))["jazz"]
    assert said.steers and "more than the damage budget allows" in said.sentence
    assert "The codec alone moves P(jazz) by +0.30" in said.sentence
    said = verdicts(table, "probe", DamageBudget(), judged(["jazz"], low=0.4))["jazz"]
    assert not said.steers and said.sentence.startswith("Nothing is said of jazz")


def test_random_directions_that_differ_much_raise_a_doubt():
    clips = study_clips({"jazz": (0.95, 0.1)}, 40)
    sure = verdicts(judged_table(clips), "probe", DamageBudget(), judged(["jazz"]))["jazz"]
    assert sure.steers and "luck" not in sure.sentence
    every_second = (clips["method"] == RANDOM) & (clips["drawn"] % 2 == 0)
    clips.loc[every_second, "p"] = 1.0  # does as much
    doubt = verdicts(judged_table(clips), "probe", DamageBudget(), judged(["jazz"]))["jazz"]
    assert doubt.steers and "it may be luck (p =" in doubt.sentence


def test_random_directions_are_declared_ineffective_in_made_tables():
    wrong = 0
    for seed in range(1, 101):
        clips = study_clips({"jazz": (0.2, 0.2)}, 24, seed=seed, controls=(UNSTEERED, RANDOM))
        wrong += verdicts(judged_table(clips), "probe", DamageBudget(), judged(["jazz"]))["jazz"].steers
    assert wrong <= 10


def test_judges_are_validated_by_rank_and_examples_chosen_by_rule(found):
    real = found.judges[(found.judges["material"] == "real clips") & (found.judges["figure"] == "AUC")]
    assert real["ok"].all() and set(real["class"]) == {"jazz", "rock"} and real["first"].all()
    assert set(found.judges["material"]) == {"real clips", "prompted clips"}
    steered = found.clips[found.clips["chosen"] & (found.clips["method"] == "planted")]
    for aim, part in steered.groupby("aim"):
        seeds = part.sort_values("gain", ascending=False, kind="stable")["seed"].tolist()
        picked = [
            some["steered"].seed for title, some in found.examples.items() if title.startswith(f"{aim},")
        ]
        assert picked == [seeds[0], seeds[len(seeds) // 2], seeds[-1]]
    assert found.turns["transition"].tolist() == ["jazz to rock"]
    turn = found.examples["jazz to rock"]
    assert turn["steered"].seed == turn[PROMPTED].seed
    assert np.array_equal(turn["steered"].prompt_codes, turn[PROMPTED].prompt_codes)


def test_shares_of_the_matrix_sum_to_one_and_controls_are_named(found):
    assert list(found.matrix) == ["jazz", "rock", UNSTEERED]
    assert all(np.isclose(sum(row.values()), 1, **DOUBLE) for row in found.matrix.values())
    assert {SHRINK, OTHER, SHUFFLED, RANDOM, UNSTEERED} == set(CONTROLS)
    assert TOOK.match(found.settings["minutes"]) and "jazz@3" in found.settings["planted"]


@pytest.mark.browser
def test_the_page_opens_plays_and_fits_a_phone(found, tmp_path):
    from browser import browser
    from page_audit import faults

    text = found.page.read_text("utf-8")
    assert found.page.stat().st_size < 25e6
    written = re.sub(r"(?s)<script>.*?</script>", "", text)
    assert not re.search(r"(src|href)=['\"](?!data:|#)", written) and "http" not in written
    with browser() as chromium:
        for scheme, width in (("light", 1280), ("dark", 400)):
            tab = chromium.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
            errors: list[str] = []
            tab.on("pageerror", lambda error, errors=errors: errors.append(str(error)))
            tab.goto(found.page.as_uri())
            tab.wait_for_selector(".main-svg")
            assert tab.evaluate("document.documentElement.scrollWidth") <= width
            length = "new Promise((done) => { const a = document.querySelector('audio'); a.load();"
            assert tab.evaluate(f"{length} a.onloadedmetadata = () => done(a.duration); }})") == 1
            assert tab.locator("audio").count() == 2 * len(found.examples) and not errors
            tab.wait_for_function("!document.querySelector('.js-plotly-plot[aria-busy=true]')")
            assert faults(tab) == []
            tab.close()
