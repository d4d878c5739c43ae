"""A fader's range and checks, scenes and fades between them, without a browser."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from live_fixture import until

from workbench.errors import SteeringError
from workbench.show.widgets.fader import MOST_SCENES, Fader, Scenes, scene_name


def test_a_fader_reaches_as_far_as_it_was_set() -> None:
    fader = Fader("jazz", breaks=0.3)
    fader.value = 0.15000000000000002
    assert (fader.value, fader.most) == (0.15, 0.4)
    fader.value = -0.8
    assert (fader.value, fader.most) == (-0.8, 0.8)
    assert "from 0.3 on" in fader.hint and "break" not in Fader("jazz").hint


@pytest.mark.parametrize("wrong", [2.1, -3, float("nan"), float("inf")])
def test_a_fader_refuses_what_is_no_dose(wrong: float) -> None:
    fader = Fader("jazz")
    with pytest.raises(SteeringError, match="faders go to 2"):
        fader.value = wrong
    assert fader.value == 0.0


def scenes(*names: str, fade_s: float = 0.0) -> Scenes:
    made = Scenes({name: Fader(name) for name in names or ("jazz", "rock")}, preset=0.2)
    made.seconds.value = fade_s
    return made


def test_scenes_begin_with_each_direction_alone() -> None:
    some = scenes()
    assert [button.description for button in some.buttons.children] == ["1 jazz 0.2", "2 rock 0.2"]
    some.choose(2)
    assert some.doses == {"jazz": 0.0, "rock": 0.2}
    with pytest.raises(SteeringError, match="there are 2"):
        some.choose(3)


def test_a_stored_scene_comes_back_by_its_button() -> None:
    some = scenes()
    some.faders["jazz"].value, some.faders["rock"].value = 0.1, -0.3
    assert some.store() == 3
    some.zero()
    assert set(some.doses.values()) == {0.0}
    some.buttons.children[-1].click()
    assert some.doses == {"jazz": 0.1, "rock": -0.3}
    assert some.buttons.children[-1].description == "3 rock -0.3, jazz 0.1"


def test_there_are_as_many_scenes_as_digits() -> None:
    some = scenes()
    for dose in range(20):
        some.faders["jazz"].value = dose / 100
        some.store()
    assert len(some.scenes) == len(some.buttons.children) == MOST_SCENES
    assert some.scenes[-1]["jazz"] == 0.19


def test_a_fade_passes_through_what_lies_between() -> None:
    some, seen = scenes(fade_s=0.6), []
    some.faders["jazz"].observe(lambda change: seen.append(change["new"]), "value")
    some.choose(1)
    until(lambda: some.doses["jazz"] == 0.2)
    assert seen == sorted(seen) and len(seen) > 3 and 0 < seen[0] < 0.2


def test_a_hand_on_a_fader_ends_its_fade_and_a_new_scene_all() -> None:
    some = scenes(fade_s=0.8)
    some.fade({"jazz": 0.2, "rock": 0.4}, 0.8)
    until(lambda: some.doses["jazz"] > 0)
    some.faders["jazz"].value = -0.1
    until(lambda: some.doses["rock"] == 0.4)
    assert some.doses["jazz"] == -0.1
    some.choose(1)
    some.zero()
    time.sleep(1.0)
    assert set(some.doses.values()) == {0.0}, "the older fade has ended"


@pytest.mark.parametrize(
    ("doses", "words"),
    [
        ({}, "off"),
        ({"a": 0.0}, "off"),
        ({"a": -0.2, "b": 0.1}, "a -0.2, b 0.1"),
        ({"a": 0.0066, "b": 0.00026}, "a 0.01"),
    ],
)
def test_scenes_are_named_in_words(doses: dict[str, Any], words: str) -> None:
    assert scene_name(doses) == words


def test_all_off_in_the_midst_of_a_step_of_a_fade_leaves_nothing_on() -> None:
    some, off = scenes(fade_s=0.5), threading.Event()

    def press(_change: object) -> None:  # another thread presses while the fade moves its first fader
        if not off.is_set():
            off.set()
            threading.Thread(target=some.zero, daemon=True).start()
            time.sleep(0.1)

    some.faders["jazz"].observe(press, "value")
    some.fade({"jazz": 0.2, "rock": 0.2}, 0.5)
    until(off.is_set)
    time.sleep(0.8)
    assert set(some.doses.values()) == {0.0}
