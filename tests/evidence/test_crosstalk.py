"""Crosstalk and combination: the right clips are paired, counted and divided."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from evidence_samples import AIMS, CLASSES, N, clips, heard
from steering_fixture import direction
from tolerances import DOUBLE
from toy_judges import Reference, planted

from workbench.errors import EvidenceError
from workbench.evidence.crosstalk import aims_of, crosstalk, crosstalk_of, pairs, pairs_of
from workbench.show import plots
from workbench.stats import wilson
from workbench.steering import Steering


def test_a_cell_is_the_change_against_the_twin_and_the_hit_rate():
    found = crosstalk_of(heard(), CLASSES, AIMS)
    cells = found.cells.set_index(["plan", "target", "class"])
    own = cells.loc["jazz", "genre", "jazz"]
    assert (own["change"], own["change_low"], own["change_high"]) == pytest.approx((0.4, 0.4, 0.4))
    assert (own["hit_rate"], own["unsteered"], own["n"]) == (1.0, 0.0, N)
    side = cells.loc["jazz", "mode", "minor"]
    assert (side["change"], side["hit_rate"]) == (pytest.approx(0.1), 0.0)
    minor = cells.loc["minor", "mode", "minor"]
    assert (minor["hit_rate"], minor["low"], minor["high"]) == (0.75, *wilson(15, 20))
    assert minor["change_low"] < minor["change"] == pytest.approx(0.75 * 0.6 - 0.25 * 0.2)
    assert minor["change"] < minor["change_high"]
    assert (cells.loc["nothing"]["change"].abs() < 1e-12).all()
    assert cells["own"].sum() == 2 and own["own"] and minor["own"]


def test_flips_count_verdicts_that_are_not_the_twins():
    flips = crosstalk_of(heard(), CLASSES, AIMS).flips.set_index(["plan", "target"])["flips"]
    assert flips.to_dict() == {
        ("jazz", "genre"): 1.0, ("jazz", "mode"): 0.0, ("minor", "genre"): 0.0, ("minor", "mode"): 0.75,
        ("nothing", "genre"): 0.0, ("nothing", "mode"): 0.0,
    }  # fmt: skip


def test_the_matrix_keeps_the_order_of_plans_and_judges():
    found = crosstalk_of(heard(), CLASSES, AIMS)
    wide = found.table()
    assert list(wide.index) == ["jazz", "minor", "nothing"]
    assert list(wide.columns) == ["genre: jazz", "genre: rock", "mode: major", "mode: minor"]
    assert wide.loc["jazz", "genre: rock"] == pytest.approx(-0.4)
    assert found.table("hit_rate").loc["minor", "mode: minor"] == 0.75
    with pytest.raises(EvidenceError, match="hit_rate"):
        found.table("loudness")


def test_specificity_counts_other_targets_only():
    found = crosstalk_of(heard(), CLASSES, AIMS)
    assert found.specificity("jazz") == pytest.approx(0.4 / 0.1)
    change = 0.75 * 0.6 - 0.25 * 0.2
    assert found.specificity() == pytest.approx(((0.4 + change) / 2) / ((0.1 + 0.1 + 0 + 0) / 4))
    assert np.isnan(found.specificity("nothing"))


def judges() -> Mapping[str, SimpleNamespace]:
    return {target: SimpleNamespace(target=target, classes=names) for target, names in CLASSES.items()}


def test_a_plan_aims_at_its_namesake_class_or_as_given():
    assert aims_of(["jazz", "random"], judges(), None, needed=False) == {"jazz": ("genre", "jazz")}
    told = aims_of(["sad"], judges(), {"sad": ("mode", "minor")}, needed=True)
    assert told == {"sad": ("mode", "minor")}
    with pytest.raises(EvidenceError, match="'random' aims at"):
        aims_of(["random"], judges(), None, needed=True)
    with pytest.raises(EvidenceError, match="genre: jazz"):
        aims_of(["sad"], judges(), {"sad": ("mode", "sad")}, needed=False)
    twice = {**judges(), "style": SimpleNamespace(target="style", classes=("jazz",))}
    with pytest.raises(EvidenceError, match="style"):
        aims_of(["jazz"], twice, None, needed=False)


def test_together_is_divided_by_alone_clip_beside_clip():
    part = np.r_[[0.9] * 10, [0.1] * 10]  # half hit, the same seeds in both
    other = np.r_[[0.9] * 5, [0.1] * 15]
    table = pd.concat(
        [clips("unsteered", 0.1, 0.9), clips("jazz", part, 0.1), clips("minor", 0.1, part),
         clips("together", part, other)], ignore_index=True,
    )  # fmt: skip
    found = pairs_of(table, AIMS)
    assert (found.alone["jazz"].value, found.together["jazz"].value) == (0.5, 0.5)
    ratio = found.ratio["jazz"]
    assert (ratio.low, ratio.value, ratio.high) == (1.0, 1.0, 1.0), (
        "the same seeds hit: nothing is left to chance"
    )
    ratio = found.ratio["minor"]
    assert ratio.value == 0.5
    assert 0.1 < ratio.low < 0.4 and 0.6 < ratio.high < 0.9
    assert found.all_hit.value == 0.25
    assert (found.unsteered["jazz"].value, found.unsteered["minor"].value) == (0.0, 1.0)
    row = found.table().set_index("attribute").loc["minor"]
    assert (row["alone"], row["together"], row["ratio"], row["unsteered"]) == (0.5, 0.25, 0.5, 1.0)
    with pytest.raises(EvidenceError, match="same prompts and seeds"):
        pairs_of(table[(table["method"] != "jazz") | (table["seed"] > 3)], AIMS)


# ------------------------------------------------------------------------------- on the tiny model


@pytest.fixture(scope="module")
def toys(tiny_model) -> dict[str, Reference]:
    return {"code": Reference(tiny_model, {"three": 3, "nine": 9, "twenty": 20}),
            "other": Reference(tiny_model, {"five": 5, "six": 6}, target="other")}  # fmt: skip


SHORT: dict = {"prompts": ("a tune",), "seeds": (1, 2, 3), "seconds": 1.0, "progress": False}


def test_planted_plans_hit_their_own_class(tiny_model, toys):
    plans = {
        name: planted(tiny_model, code, name=name).at(2.0) for name, code in {"three": 3, "six": 6}.items()
    }
    plans["random"] = direction(tiny_model, 3, name="random").at(0.01)
    found = crosstalk(tiny_model, plans, toys, **SHORT)
    hits = found.table("hit_rate")
    assert hits.loc["three", "code: three"] == 1.0
    assert hits.loc["six", "other: six"] == 1.0
    assert list(found.cells.loc[found.cells["own"], "class"]) == ["three", "six"]
    assert found.table().loc["three", "code: three"] > 0.5
    assert found.table().loc["random"].abs().max() < 0.2
    assert len(found.clips) == 4 * 3 and found.clips["ok"].all()


def test_all_plans_act_when_they_are_steered_together(tiny_model, toys):
    plans = {
        name: planted(tiny_model, code, name=name).at(2.0) for name, code in {"three": 3, "six": 6}.items()
    }
    found = pairs(tiny_model, plans, toys, **SHORT)
    assert found.alone["three"].value == found.alone["six"].value == 1.0
    off = {**plans, "six": direction(tiny_model, 3, name="six").at(0.0)}
    same = pairs(tiny_model, off, toys, **SHORT)
    assert same.ratio["three"].value == 1.0, "a second plan of dose 0 changes nothing"
    apart = found.clips.loc[found.clips["method"] == "together", "p_code_three"].to_numpy()
    alone = found.clips.loc[found.clips["method"] == "three", "p_code_three"].to_numpy()
    assert np.abs(apart - alone).max() > 0.01, "the second plan acts, too"


def test_comparisons_that_make_no_sense_are_refused(tiny_model, toys):
    plan = planted(tiny_model, 3, name="three").at(1.0)
    for plans in ({"three": plan}, {"three": plan, "together": plan}):
        with pytest.raises(EvidenceError, match="at least two"):
            pairs(tiny_model, plans, toys)
    with pytest.raises(EvidenceError, match="0 plans"):
        crosstalk(tiny_model, {}, toys)
    assert Steering((plan,)) == plan


# --------------------------------------------------------------------------------------- the figure


def test_the_matrix_frames_aims_and_brackets_doubtful_changes():
    drawn = plots.crosstalk_matrix(crosstalk_of(heard(), CLASSES, AIMS))
    heat, words = drawn.data
    assert np.allclose(heat.z[0], [0.4, -0.4, -0.1, 0.1], **DOUBLE)
    assert list(words.text[:4]) == ["+40", "-40", "-10", "+10"]
    assert all(word.startswith("(") for word in words.text[8:])
    assert (heat.zmin, heat.zmax) == (-1, 1)
    frames = [(one.x0 + 0.5, one.y0 + 0.5) for one in drawn.layout.shapes if one.type == "rect"]
    assert frames == [(0, 0), (3, 1)]
    assert len([one for one in drawn.layout.shapes if one.type == "line"]) == 1
    assert list(drawn.layout.yaxis.ticktext) == ["jazz", "minor", "nothing"]
    assert "?" in drawn.layout.title.text
