"""The patch panel: a click on a cell draws the music with that patch, and plays it beside the others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from workbench.evidence import causal
from workbench.generation.generate import generate
from workbench.show.widgets import PatchPanel


@pytest.fixture(scope="module")
def panel(tiny_model: Any) -> PatchPanel:
    takes = generate(tiny_model, ["a calm tune", "fast rock"], seed=[3, 3], seconds=0.6, progress=False)
    found = causal.patch_map(tiny_model, *takes, windows=3)
    return PatchPanel(tiny_model, found, dict(zip(("calm", "rock"), takes, strict=True)))


def click(panel: PatchPanel, data: object) -> None:
    panel.plot._receive(panel.plot, {"kind": "click", "points": [{"data": data}]}, [])


def test_a_click_draws_the_patch_of_its_cell_and_plays_it(tiny_model: Any, panel: PatchPanel) -> None:
    click(panel, [2, 1])
    take = panel.job.wait(60)
    expected = panel.found.hear(tiny_model, 2, 1)
    assert np.array_equal(take.codes, expected.codes) and panel.take is take
    first, last = panel.found.seconds(1)
    assert list(panel.player.sounds) == ["calm", "rock", f"patched: layer 2, {first:.1f} to {last:.1f} s"]
    assert panel.player._waiting[-1][0] == {"kind": "play", "index": 2, "at_s": 0.0}
    click(panel, None)  # the words on the cells carry nothing
    assert panel.take is take


def test_the_list_changes_the_half_that_is_drawn_and_patched(panel: PatchPanel) -> None:
    prompted = panel.plot.figure
    panel.branch.value = "null"
    assert panel.plot.figure != prompted
    assert set(panel.hear(1, 0).receipt.cells.row) == {"null"}
    panel.branch.value = "cond"
    assert panel.plot.figure == prompted and set(panel.hear(1, 0).receipt.cells.row) == {"cond"}
