"""The live desk's exercises: right, wrong and no answers, from recordings that were really played."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from live_fixture import session, until

from workbench.generation.live.recording import Recording
from workbench.show import exercises


@pytest.fixture(scope="module")
def played(tiny_model: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recording]:
    folder, made = tmp_path_factory.mktemp("played"), {}
    for name, dose in (("moved", 1.5), ("still", 0.0)):
        live = session(tiny_model, on_piece=lambda _piece, dose=dose: live.slide("jazz", dose))  # noqa: B023
        live.record(folder / name)
        live.start()
        until(lambda: live.figures().frames > 50)  # noqa: B023
        live.stop()
        made[name] = Recording.load(folder / name)
    return made


def test_the_first_step_that_read_a_knob_is_known(played: dict[str, Recording]) -> None:
    moved = played["moved"]
    assert exercises.first_touch(moved, "jazz", None).right is None
    seconds = moved.knobs()["seconds"].iloc[1]
    assert exercises.first_touch(moved, "jazz", seconds).right
    assert exercises.first_touch(moved, "jazz", 0.2).right is False
    assert exercises.first_touch(moved, "blues", 0.2).right is False
    untouched = exercises.first_touch(played["still"], "jazz", 0.2)
    assert untouched.right is False and "Nobody turned jazz" in untouched.words


def test_where_two_recordings_part_is_known(played: dict[str, Recording]) -> None:
    moved, still = played["moved"], played["still"]
    frames = min(moved.codes.shape[-1], still.codes.shape[-1])
    first = np.flatnonzero((moved.codes[:, :frames] != still.codes[:, :frames]).any(0))[0]
    assert 11 <= first <= 20, "at the step that read the knob, less the delay pattern"
    assert exercises.parting(moved, still, None).right is None
    assert exercises.parting(moved, still, float(first) / 25).right
    assert exercises.parting(moved, still, 0.0).right is False
    assert "equal throughout" in exercises.parting(still, still, 1.0).words


@pytest.mark.parametrize(
    "answer", [float("nan"), float("inf"), True, False, "0.56", [0.56], -1, 1j, object()]
)
def test_odd_seconds_are_refused_in_words(played: dict[str, Recording], answer: object) -> None:
    moved, still = played["moved"], played["still"]
    for verdict in (exercises.first_touch(moved, "jazz", answer), exercises.parting(moved, still, answer)):
        assert verdict.right is False and "Give seconds" in verdict.words


def test_wrong_seconds_get_a_hint_and_then_the_answer(played: dict[str, Recording]) -> None:
    exercises.start_again()
    words = [exercises.first_touch(played["moved"], "jazz", answer).words for answer in (5, 6, 7)]
    seconds = played["moved"].knobs()["seconds"].iloc[1]
    assert "Hint" not in words[0] and "first line" in words[1] and f"The answer: {seconds:.2f} s" in words[2]
    moved, still = played["moved"], played["still"]
    words = [exercises.parting(moved, still, answer).words for answer in (5, 6, 7)]
    assert "Hint" not in words[0] and "np.flatnonzero" in words[1] and "(frame" in words[2]
