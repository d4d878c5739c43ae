"""Judges of all kinds: the kit holds for ours and for a stranger's, and a name stands for each."""

from __future__ import annotations

import runpy

import numpy as np
import pytest
from contributing import example_file
from judge_kit import check_judge
from steering_fixture import direction

from workbench.errors import EvidenceError, RenamedWarning
from workbench.evidence import judge as judges
from workbench.evidence.judge import Judge, TrainedJudge, as_judges, load_judge, register_judge
from workbench.evidence.search import DamageBudget, auto_dose
from workbench.evidence.trials import run_trials, sweep, trials
from workbench.sound import Clip

EXTENSION = example_file("A judge")
SHORT: dict = {"seconds": 1.0, "progress": False}


@pytest.fixture(autouse=True)
def _own_names(monkeypatch):
    monkeypatch.setattr(judges, "_REGISTERED", {})


@pytest.fixture
def stranger() -> Judge:
    runpy.run_path(str(EXTENSION))
    return load_judge("brightness")


@pytest.mark.parametrize("name", ["genre", "tempo", "mode", "mood", "lead"])
def test_the_judges_that_ship_pass_the_kit(name):
    check_judge(load_judge(name))


def test_a_strangers_judge_passes_the_kit_and_is_short(stranger):
    check_judge(stranger)
    assert len(EXTENSION.read_text().splitlines()) <= 30


class Broken:
    """Judges by the level, which the kit lets pass, unless something is broken."""

    classes, rate_hz = ("loud", "soft"), 16_000

    def __init__(self, **broken):
        self.__dict__ |= broken

    def probabilities(self, clips):
        loud = np.array([min(clip.peak, 1.0) for clip in clips])
        return self.turn(np.stack([loud, 1 - loud], axis=1), clips)

    def turn(self, odds, _clips):
        return odds


@pytest.mark.parametrize(
    ("told", "turn"),
    [
        ("Not equal to tolerance", lambda odds, clips: odds * 0.9),
        ("shape", lambda odds, clips: odds[:, :1]),
        ("order of clips", lambda odds, clips: np.roll(odds, 1, axis=0) if len(clips) > 1 else odds),
        ("other clips", lambda odds, clips: odds if len(clips) > 1 else odds[:, ::-1]),
        ("Hz sounds otherwise", lambda odds, clips: odds if clips[0].rate_hz == 16_000 else odds[:, ::-1]),
        ("silence", lambda odds, clips: odds / 0 if clips[0].silent else odds),
    ],
)
def test_the_kit_finds_what_is_broken(told, turn):
    check_judge(Broken())
    with np.errstate(all="ignore"), pytest.raises(AssertionError, match=told):
        check_judge(Broken(turn=turn))


def test_a_strangers_judge_and_its_name_work_wherever_a_judge_does(tiny_model, stranger):
    plans = {"push": direction(tiny_model, 1).at(0.5)}
    some = trials(plans, ["a tune"], [1, 2])
    by_name = run_trials(tiny_model, some, "brightness", **SHORT)
    assert by_name.equals(run_trials(tiny_model, some, stranger, **SHORT))
    assert by_name.equals(run_trials(tiny_model, some, {"brightness": "brightness"}, **SHORT))
    assert by_name["p_brightness_bright"].between(0, 1).all()
    both = run_trials(tiny_model, some, ["brightness", stranger], **SHORT)
    assert both["judged_brightness"].equals(both["judged_brightness (2)"])
    aims = {"bright": direction(tiny_model, 1, name="bright")}
    table = sweep(tiny_model, aims, [0.5], "brightness", prompts=["a tune"], seeds=[1], **SHORT)
    assert set(table["judged"]) <= {"bright", "dark"} and table["p_bright"].notna().all()
    budget = DamageBudget(np.inf, np.inf, np.inf)
    options = {"seeds": (1,), "further_seeds": (2,), "doses": (0.5,), "budget": budget, **SHORT}
    found = auto_dose(tiny_model, {1: aims["bright"]}, "bright", "brightness", **options)
    assert (found.layer, found.dose) == (1, 0.5)


def test_a_strangers_judge_works_in_the_steering_lab(tiny_model, stranger):
    from workbench.show.widgets import SteerLab, SteerPanel

    own = {"bright": direction(tiny_model, 1, name="bright")}
    for given in ("brightness", stranger, ["brightness"], {"brightness": "brightness"}):
        lab = SteerLab(tiny_model, {"brightness": own}, given, seconds=1.0)
        assert lab.judges["brightness"] is stranger
        assert [aim.name for aim in lab.finder.aims] == ["bright"]
    takes = lab.push(bright=0.5).start().wait(120)
    assert lab.history.judge is stranger and "brightness" in lab.comparison.verdicts and len(takes) == 2
    assert SteerPanel(tiny_model, own, "brightness").judge is stranger


def test_the_demo_labels_the_music_for_a_judge_that_knows_no_genre(tiny_dataset, stranger):
    from workbench.cli.demo import _labelled

    songs, target = _labelled(tiny_dataset, stranger)
    odds = stranger.probabilities([tiny_dataset.clip(i) for i in range(len(tiny_dataset))])
    assert target == "heard" and songs.labels("heard").tolist() == [
        stranger.classes[i] for i in odds.argmax(axis=1)
    ]
    assert _labelled(tiny_dataset, load_judge("genre")) == (tiny_dataset, "genre")


def test_the_command_line_takes_a_strangers_judge(monkeypatch, tmp_path):
    from workbench.cli import main

    asked = {}
    monkeypatch.setattr("workbench.cli.demo.run_demo", lambda out, **options: asked.update(options))
    copy = tmp_path / "mine.py"
    copy.write_text(EXTENSION.read_text())
    assert main(["demo", "--judge", "brightness", "--extension", str(copy), "--out", str(tmp_path)]) == 0
    assert asked["judge"] == "brightness" and load_judge("brightness").classes == ("bright", "dark")
    assert main(["demo", "--out", str(tmp_path)]) == 0 and asked["judge"] == "genre"


def test_a_registered_judge_is_made_once_and_comes_before_one_that_ships(stranger):
    made = []

    def factory():
        made.append(1)
        return stranger

    register_judge("genre", factory)
    assert load_judge() is load_judge("genre") is stranger and made == [1]
    assert isinstance(load_judge("genre", judges.FOLDER), TrainedJudge)
    register_judge("mine", stranger)
    assert as_judges(["mine", "genre"]) == {"mine": stranger, "genre": stranger}
    with pytest.raises(KeyError, match="registered are: brightness, genre, mine"):
        load_judge("loudness")


def test_what_is_no_judge_is_refused():
    with pytest.raises(EvidenceError, match="lacks one of"):
        register_judge("mine", 3)
    register_judge("mine", dict)
    for _ in range(2):
        with pytest.raises(EvidenceError, match="gave dict"):
            load_judge("mine")


def test_the_former_way_to_load_a_judge_warns_and_works():
    with pytest.warns(RenamedWarning, match=r"Judge\.load is now TrainedJudge\.load"):
        former = Judge.load(judges.FOLDER, "mode")
    assert former.fingerprint == load_judge("mode").fingerprint != load_judge("mood").fingerprint
    with pytest.raises(AttributeError):
        _ = Judge.card
    assert former.decide([Clip(np.random.default_rng(0).normal(0, 0.1, 32_000), 16_000)])[0] in former.classes
