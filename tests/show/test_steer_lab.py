"""The steering lab over a real tiny model, without a browser: sliders, text, takes, search, faults."""

from __future__ import annotations

import dataclasses
import re
import threading
from typing import Any

import ipywidgets
import numpy as np
import pytest
from show_samples import sent_by
from steering_fixture import direction
from tolerances import draws, same_codes
from toy_judges import DOSE, Reference, planted

from workbench.errors import Cancelled, RenamedWarning, SteeringError, WorkbenchError
from workbench.evidence.search import DamageBudget
from workbench.evidence.trials import UNSTEERED
from workbench.generation.generate import generate
from workbench.show.widgets.fader import Fader
from workbench.show.widgets.steer_lab import CONTROL, SteerLab, in_words
from workbench.sound import Clip
from workbench.steering import window

NAMES = ("jazz", "rock", "reggae", "classical")


@pytest.fixture(scope="module")
def own(tiny_model: Any) -> dict[str, Any]:
    """Two groups of given directions, one of whose names has a sound of its own."""
    genre = {name: planted(tiny_model, number, name=name) for number, name in enumerate(NAMES)}
    return {"genre": genre, "tempo": {"slow": direction(tiny_model, 2, seed=9, name="slow")}}


@pytest.fixture(scope="module")
def judge(tiny_model: Any) -> Reference:
    return Reference(tiny_model, {name: number for number, name in enumerate(NAMES)}, target="genre")


@pytest.fixture(scope="module")
def sweep(tiny_model: Any, tiny_dataset: Any) -> Any:
    from workbench.model.capture import capture
    from workbench.probing import fit_probes

    acts = capture(tiny_model, tiny_dataset, cache=False, progress=False)
    return fit_probes(acts, method="means", folds=3, shuffles=0, progress=False)


def lab_of(model: Any, own: Any, **more: Any) -> SteerLab:
    return SteerLab(model, own, **{"seconds": 1.0, "seed": 3, "prompt": "a calm tune", **more})


def test_sliders_pad_and_settings_write_one_plan(tiny_model: Any, own: Any) -> None:
    lab = lab_of(tiny_model, own, pad=NAMES)
    assert lab.text == "none" and lab.steering is None
    lab.sliders["jazz"].value = 0.15000000000000002  # as the page rounds
    lab.sliders["slow"].value = -0.1
    assert lab.text == "0.15*jazz@3 - 0.1*slow@2 | constant | cond"
    lab.options.branch.value, lab.options.chance.value = "both", 0.5
    assert lab.text.endswith("| constant | both | chance(0.5)") and lab.steering.text() == lab.text
    texts: list[str] = []
    lab.observe(lambda change: texts.append(change["new"]), "text")
    lab.pad.move(1.0, 1.0)
    assert texts == ["0.15*rock@3 - 0.1*slow@2 | constant | both | chance(0.5)"], "four sliders, one writing"
    assert lab.push(slow=0.3).doses == {**dict.fromkeys(NAMES, 0.0), "slow": 0.3}
    with pytest.raises(SteeringError, match="blues"):
        lab.push(blues=1)
    with pytest.raises(SteeringError, match=r"jazz=2\.5.*plan's line"):
        lab.push(slow=0.1, jazz=2.5)
    assert lab.push(slow=0.3).doses["slow"] == 0.3


def test_words_ask_only_for_what_is_pushed_towards(tiny_model: Any, own: Any) -> None:
    jazz, rock = (own["genre"][name] for name in ("jazz", "rock"))
    assert in_words("a tune", jazz.at(0.2) + rock.at(-0.2)) == "a tune, jazz"
    assert in_words("a tune", jazz.at(0.8, operation="remove") + rock.at(0.2, branch="null")) == "a tune"
    for name in ("jazz without rock", "jazz apart from rock, slow"):
        assert in_words("a tune", jazz.named(name).at(0.2)) == "a tune, jazz"


def test_no_slider_tells_while_it_is_dragged(tiny_model: Any, own: Any) -> None:
    widgets = [lab_of(tiny_model, own)]
    for widget in widgets:
        widgets += getattr(widget, "children", ())
    # Such a slider would send back, late, what a running cell has set, and undo what the cell set later.
    sliders = [one.continuous_update for one in widgets if isinstance(one, ipywidgets.FloatSlider)]
    assert sliders == 4 * [False], "seconds, guidance, chance, threshold"
    assert [one.live for one in widgets if isinstance(one, Fader)] == 5 * [False]


def test_the_text_is_what_is_generated_until_a_slider_moves(tiny_model: Any, own: Any) -> None:
    lab = lab_of(tiny_model, own).push(jazz=0.15)
    lab.line.box.value = "0.4*rock@3 | window(0s,0.5s)"
    takes = lab.start().wait(120)
    assert list(takes) == [UNSTEERED, "rock 0.4, from 0 to 0.5 s"]
    rock = own["genre"]["rock"].at(0.4, schedule=window(0, 0.5))
    with draws() as gaps:  # the lab draws its takes in one batch
        again = generate(tiny_model, "a calm tune", steering=rock, seed=3, seconds=1.0, progress=False)
    same_codes(again.codes, takes["rock 0.4, from 0 to 0.5 s"].codes, gaps)
    lab.sliders["slow"].value = 0.1
    assert lab.text == "0.15*jazz@3 + 0.1*slow@2 | constant | cond"


def test_a_wrong_text_or_setting_generates_nothing(tiny_model: Any, own: Any) -> None:
    lab = lab_of(tiny_model, own).push(jazz=0.15)
    lab.text = "0.15*jaz@3"
    with pytest.raises(SteeringError, match="jaz"):
        lab.start().wait(60)
    assert lab.job.state == "failed" and lab.takes == {} and lab.text == "0.15*jaz@3"
    lab.push(jazz=0.9)
    lab.options.operation.value = "clamp"
    lab.options.spread.value = True  # of given directions each has one layer: nothing to share
    assert lab.line.fault is None
    lab.push(jazz=-0.5)
    lab.options.operation.value = "remove"
    assert "weight from 0 to 1" in str(lab.line.fault)
    with pytest.raises(SteeringError, match="weight from 0 to 1"):
        lab.start().wait(60)


def test_takes_go_into_the_history_and_ticks_into_the_comparison(tiny_model: Any, own: Any) -> None:
    lab = lab_of(tiny_model, own)
    alone = lab.start().wait(120)
    assert list(alone) == [UNSTEERED] and lab.history.chosen == [UNSTEERED]
    lab.prompted.value = lab.control.value = True
    takes = lab.push(jazz=0.5).start().wait(120)
    words = "in words: a calm tune, jazz"
    assert list(takes) == [UNSTEERED, "jazz 0.5", words, CONTROL]
    assert takes[UNSTEERED] is alone[UNSTEERED], "the twin is made once"
    assert takes[words].prompt == "a calm tune, jazz" and takes[words].steering == ""
    assert lab.history.chosen == list(takes) and list(lab.comparison.takes) == list(takes)
    assert sorted(lab.history.takes) == sorted(takes), "the twin is kept once"
    for name in (name for name in takes if name != UNSTEERED):
        assert f"{name}: " in lab.costs.value
    assert "cells changed" in lab.costs.value and "nats per code" in lab.costs.value
    second = lab.push(rock=0.5).start().wait(120)
    assert list(second)[1] == "rock 0.5" and CONTROL in second
    assert len(lab.history.takes) == 4 + 2, "twin and words were there: a new push and its control"
    lab.history.chosen = ["jazz 0.5", "rock 0.5"]
    assert list(lab.comparison.takes) == ["jazz 0.5", "rock 0.5"]
    lab.seed.value = 4
    assert lab.start().wait(120)[UNSTEERED] is not alone[UNSTEERED]


def test_a_dose_that_breaks_the_music_is_told(tiny_model: Any, own: Any) -> None:
    lab = lab_of(tiny_model, own)
    lab.text = "0.01*jazz@3"
    lab.start().wait(120)
    assert "the music holds" in lab.costs.value
    lab.text = "6*jazz@3"
    lab.start().wait(120)
    assert "this breaks the music" in lab.costs.value


def test_a_take_goes_on_from_a_sound(tiny_model: Any, own: Any) -> None:
    ground = Clip(0.2 * np.sin(np.arange(16_000) / 20).astype(np.float32), 16_000)
    lab = lab_of(tiny_model, own, beginnings={"hum": ground}).push(jazz=0.5)
    lab.beginning.value = "hum"
    takes = lab.start().wait(120)
    assert [take.prompt_seconds for take in takes.values()] == [1.0, 1.0]
    lab.beginning.value = "silence"
    assert [take.prompt_seconds for take in lab.start().wait(120).values()] == [0.0, 0.0]
    assert lab.beginning.layout.display == "" and lab_of(tiny_model, own).beginning.layout.display == "none"


def test_generation_can_be_cancelled_and_nothing_is_kept(tiny_model: Any, own: Any) -> None:
    lab = lab_of(tiny_model, own, seconds=4.0).push(jazz=0.5)
    moved = threading.Event()
    lab.job.bar.observe(lambda change: change["new"] > 0.05 and moved.set(), "value")
    lab.start()
    assert moved.wait(60)
    lab.job.cancel_button.click()
    with pytest.raises(Cancelled):
        lab.wait(60)
    assert lab.takes == {} and list(lab.history.takes) == []
    lab.seconds.value = 1.0
    assert UNSTEERED in lab.start().wait(120)


def test_a_model_in_use_is_waited_for_and_can_be_given_up(tiny_model: Any, own: Any) -> None:
    lab = lab_of(tiny_model, own).push(jazz=0.5)
    said = threading.Event()
    lab.job.text.observe(lambda change: "waiting" in change["new"] and said.set(), "value")
    with tiny_model.lock:
        lab.start()
        assert said.wait(20) and lab.job.state == "running"
        lab.job.cancel()
        with pytest.raises(Cancelled):
            lab.wait(20)
        said.clear()
        lab.start()
        assert said.wait(20)
    assert len(lab.wait(120)) == 2


def test_closing_stops_the_work(tiny_model: Any, own: Any, judge: Any) -> None:
    lab = lab_of(tiny_model, own, judges={"genre": judge}, seconds=4.0).push(jazz=0.5)
    with tiny_model.lock:
        lab.start()
        lab.finder.start()
        lab.close()
        for panel in (lab, lab.finder):
            with pytest.raises(Cancelled):
                panel.wait(20)


def test_probes_make_layers_a_choice_and_are_read_while_takes_are_made(
    tiny_model: Any, sweep: Any, own: Any
) -> None:
    lab = lab_of(tiny_model, {"genre": sweep, "tempo": own["tempo"]}).push(jazz=0.5)
    assert lab.text.startswith("0.5*jazz@2 |") and set(lab.options.layers) == {"genre"}
    lab.options.layers["genre"].value = 1
    assert lab.text.startswith("0.5*jazz@1 |")
    assert lab.steering.terms[0].direction == sweep[1].direction("jazz")
    assert lab.options.gate.label == "no gate"
    lab.options.gate.label = "jazz (genre, layer 3)"
    steered = list(lab.start().wait(120).values())[1]
    assert [(trace.target, trace.layer) for trace in steered.probe_traces] == [("genre", 3)]
    assert "gate(jazz@3 < 0.8 over 1s)" in steered.steering
    lab.options.plain()
    assert lab.options.gate.label == "no gate"


def test_a_dose_is_searched_set_and_told(tiny_model: Any, own: Any, judge: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("workbench.show.widgets.steer_lab.DOSES", (0.05, DOSE / 4, DOSE / 2))
    lab = lab_of(tiny_model, own, judges={"genre": judge})
    assert "known once something has been generated" in lab.finder.note.value
    lab.start().wait(60)
    assert "at the pace of the last run" in lab.finder.note.value
    lab.sliders["slow"].value = 0.05
    for cost in (lab.finder.nll_rise, lab.finder.level_db, lab.finder.repetition):
        cost.value = 100.0
    found = lab.finder.aim_at("rock").start().wait(200)
    assert found.aim == "rock" and found.verdict in lab.finder.verdict.value.replace("&#x27;", "'")
    assert "Layer and slider are set" in lab.finder.verdict.value
    assert lab.doses["rock"] == found.dose and lab.doses["slow"] == 0.05
    assert lab.steering.text() == f"{found.dose}*rock@3 + 0.05*slow@2 | constant | cond"
    with pytest.raises(WorkbenchError, match="slow"):
        lab.finder.aim_at("slow")


def test_what_breaks_the_budget_is_not_set(tiny_model: Any, own: Any, judge: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("workbench.show.widgets.steer_lab.DOSES", (6.0,))
    lab = lab_of(tiny_model, own, judges={"genre": judge})
    lab.finder.nll_rise.value = 0.01
    found = lab.finder.aim_at("rock").start().wait(200)
    assert found.budget == DamageBudget(nll_rise=0.01)
    assert not found.within and "Nothing was set" in lab.finder.verdict.value
    assert lab.doses["rock"] == 0 and lab.text == "none"


def test_a_search_can_be_cancelled(tiny_model: Any, own: Any, judge: Any) -> None:
    lab = lab_of(tiny_model, own, judges={"genre": judge}, seconds=4.0)
    moved = threading.Event()
    lab.finder.job.text.observe(lambda change: "clip" in change["new"] and moved.set(), "value")
    lab.finder.aim_at("rock").start()
    assert moved.wait(60)
    lab.finder.job.cancel()
    with pytest.raises(Cancelled):
        lab.finder.wait(60)
    assert lab.finder.result is None


def test_without_judges_nothing_can_be_searched(tiny_model: Any, own: Any) -> None:
    lab = lab_of(tiny_model, own)
    assert lab.finder.aim.disabled and "give judges" in lab.finder.note.value
    with pytest.raises(WorkbenchError, match="no judge hears"):
        lab.finder.start().wait(20)


def test_a_pad_of_strangers_is_refused(tiny_model: Any, own: Any) -> None:
    with pytest.raises(SteeringError, match="blues"):
        lab_of(tiny_model, own, pad=("jazz", "rock", "reggae", "blues"))


def test_the_names_of_the_version_before_still_work_and_say_the_new_ones(tiny_model: Any, own: Any) -> None:
    lab = lab_of(tiny_model, own)
    with pytest.warns(RenamedWarning, match=r"SteerLab\.way is now \.options"):
        assert lab.way is lab.options
    with pytest.warns(RenamedWarning, match=r"DoseFinder\.found is now \.result"):
        assert lab.finder.found is lab.finder.result


def test_a_lab_begins_with_the_guidance_that_the_checkpoint_says(
    tiny_model: Any, own: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(tiny_model.musicgen.generation_config, "guidance_scale", 2.5)
    assert lab_of(tiny_model, own).guidance.value == 2.5
    assert lab_of(tiny_model, own, guidance=4.0).guidance.value == 4.0


def open_in(lab: SteerLab, name: str) -> None:
    (row,) = (one for one in lab.history.list.children if one.name == name)
    (button,) = (one for one in row.children if getattr(one, "description", "") == "Open")
    button.click()


@pytest.mark.parametrize("how", ["plain", "scheduled", "gated", "clamped", "shared", "both"])
def test_a_take_is_opened_by_faders_and_options(tiny_model: Any, own: Any, sweep: Any, how: str) -> None:
    lab = lab_of(tiny_model, {"genre": sweep, "tempo": own["tempo"]})
    options = lab.options
    lab.push(jazz=0.15, rock=-0.05)
    options.layers["genre"].value = 1
    if how == "scheduled":
        options.schedule.value, options.first.value, options.second.value = "window", 0.2, 0.6
    elif how == "gated":
        options.gate.label = "jazz (genre, layer 3)"
        options.threshold.value, options.side.value = 0.6, "above"
    elif how == "clamped":
        options.operation.value = "clamp"
    elif how == "shared":
        options.spread.value = True
        lab.push(jazz=0.2)
    elif how == "both":
        options.branch.value, options.chance.value = "both", 0.5
        options.schedule.value, options.points.value = "knots", "0s:0, 1s:1"
    text, doses, plan = lab.text, lab.doses, lab.steering
    name = list(lab.start().wait(120))[1]
    lab.options.plain()
    options.layers["genre"].value = 2
    lab.push(slow=0.3)
    lab.prompt.value, lab.seed.value, lab.seconds.value, lab.guidance.value = "another", 8, 2.0, 5.0
    open_in(lab, name)
    assert lab.history.problem.value == ""
    assert (lab.text, lab.doses, lab.steering) == (text, doses, plan)
    assert (lab.prompt.value, lab.seed.value, lab.seconds.value) == ("a calm tune", 3, 1.0)
    assert lab.guidance.value == tiny_model.guidance


def test_a_take_that_no_fader_can_say_is_opened_in_the_line(tiny_model: Any, own: Any) -> None:
    lab = lab_of(tiny_model, own)
    strange = direction(tiny_model, 1, seed=5, name="strange").at(0.2)
    mixed = own["genre"]["jazz"].at(0.1, schedule=window(0, 0.5)) + own["tempo"]["slow"].at(0.1)
    large = own["genre"]["jazz"].at(2.5)
    for number, plan in enumerate((strange, mixed, large)):
        take = generate(tiny_model, "a tune", steering=plan, seconds=0.5, progress=False)
        lab.push(rock=0.2)
        lab.history.add(f"odd {number}", take)
        open_in(lab, f"odd {number}")
        assert lab.text == plan.text() and lab.steering == plan and not any(lab.doses.values())
        assert "sliders do not show it" in lab.line.note.value
    open_in(lab, "odd 1")
    lab.push(jazz=0.1)
    assert lab.text == "0.1*jazz@3 | constant | cond"


def test_a_take_that_does_not_fit_changes_nothing(tiny_model: Any, own: Any, tiny_dataset: Any) -> None:
    begin = tiny_dataset.clip(0).section(0, 0.5)
    lab = lab_of(tiny_model, own, beginnings={"begin": begin}).push(jazz=0.1)
    lab.beginning.value = "begin"
    name = list(lab.start().wait(120))[1]
    take = lab.history.takes[name]
    lab.push(rock=0.2)
    lab.beginning.value = "silence"
    lab.set_to(take)
    assert lab.beginning.value == "begin" and lab.text.startswith("0.1*jazz@3") and lab.seconds.value == 1.0
    other = lab_of(tiny_model, own)
    with pytest.raises(SteeringError, match="none of the lab's"):
        other.set_to(take)
    with pytest.raises(SteeringError, match="were not kept"):
        other.set_to(dataclasses.replace(take, plan=None, prompt_seconds=0.0))
    assert other.text == "none" and other.prompt.value == "a calm tune"


def test_only_the_button_plays_the_newest_steered_take(tiny_model: Any, own: Any) -> None:
    lab = lab_of(tiny_model, own).push(jazz=0.5)
    sent = sent_by(lab.comparison.player)
    lab.comparison.player.ready = True
    lab.start().wait(120)
    assert played(sent) == [], "code that generates is silent"
    lab.control.value = True
    lab.push(rock=0.5)
    lab.job.run_button.click()
    lab.wait(120)
    assert played(sent) == [list(lab.comparison.sounds).index("rock 0.5")]
    lab.push()
    lab.job.run_button.click()
    lab.wait(120)
    assert played(sent)[1:] == [list(lab.comparison.sounds).index(UNSTEERED)], "nothing was steered"


def played(sent: list[Any]) -> list[int]:
    return [content["index"] for content, _ in sent if content.get("kind") == "play"]


def test_playing_a_take_of_the_history_brings_it_into_the_comparison(tiny_model: Any, own: Any) -> None:
    lab = lab_of(tiny_model, own).push(jazz=0.5)
    lab.start().wait(120)
    lab.history.chosen = [UNSTEERED]
    sent = sent_by(lab.comparison.player)
    lab.comparison.player.ready = True
    (row,) = (one for one in lab.history.list.children if one.name == "jazz 0.5")
    next(one for one in row.children if getattr(one, "description", "") == "▶").click()
    assert lab.history.chosen == [UNSTEERED, "jazz 0.5"] == list(lab.comparison.sounds)
    assert played(sent) == [1]


def test_a_run_is_foretold_once_one_was_timed(tiny_model: Any, own: Any) -> None:
    lab = lab_of(tiny_model, own).push(jazz=0.5)
    lab.start().wait(120)
    assert lab.job.text.value == "done"
    lab.seconds.value = 10.0
    assert re.fullmatch(r"takes about [\d.]+ (s|min)", lab.job.text.value)
