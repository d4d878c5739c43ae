"""Blind listening: the page hides its key, keeps answers, and a planted listener is found again."""

from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import pytest
from report_samples import NAMES
from toy_judges import DOSE, planted

import workbench as wb
from workbench.errors import EvidenceError
from workbench.show.blind import KINDS, blind_results

TRIPLES = 6


@pytest.fixture(scope="module")
def page(tiny_model, tmp_path_factory):
    plans = {name: planted(tiny_model, number, name=name).at(DOSE) for name, number in NAMES.items()}
    options = {"triples": TRIPLES, "seconds": 0.4, "random_state": 3, "progress": False}
    return wb.blind_test(tiny_model, plans, tmp_path_factory.mktemp("blind"), **options)


def key_of(page) -> dict:
    return json.loads((page.parent / "key.json").read_text("utf-8"))


def answers(key: dict, path, *, listener: str, finds) -> str:
    """Write the CSV of a listener; `finds(kind)` says whether it takes a clip for the genre."""
    rows = [
        {"test": key["test"], "listener": listener, "triple": one["triple"], "clip": one["clip"],
         "genre": one["aim"] if finds(one["kind"]) else "something else", "most": int(finds(one["kind"])),
         "liked": int(one["kind"] == "unsteered")}
        for one in key["clips"]
    ]  # fmt: skip
    pd.DataFrame(rows).to_csv(path, index=False)
    return str(path)


def test_each_triple_has_one_seed_and_every_kind_and_the_page_tells_none(page):
    key, text = key_of(page), page.read_text("utf-8")
    for number in range(1, TRIPLES + 1):
        some = [one for one in key["clips"] if one["triple"] == str(number)]
        assert (
            sorted(one["kind"] for one in some) == sorted(KINDS) and len({one["seed"] for one in some}) == 1
        )
    orders = {tuple(one["kind"] for one in key["clips"][i : i + 3]) for i in range(0, 3 * TRIPLES, 3)}
    assert len(orders) > 1 and {one["aim"] for one in key["clips"]} == set(NAMES)
    assert not re.search("steered|random|seed", text.split("<main>")[1].split("<script>")[0])
    assert text.count("<audio") == 3 * TRIPLES and not re.search(r"(src|href)=['\"](?!data:)", text)


def test_a_planted_listener_is_found_again(page, tmp_path):
    key = key_of(page)
    ears = [answers(key, tmp_path / f"{n}.csv", listener=f"l{n}", finds="steered".__eq__) for n in range(3)]
    table = blind_results(ears, page.parent / "key.json").set_index(["genre", "question", "kind"])
    all_ = table.loc["all"]
    assert all_.loc[("AUC", "steered"), "value"] == 1 and all_.loc[("AUC", "steered"), "low"] > 0.5
    assert all_.loc[("most like the genre", "steered"), "value"] == 1
    assert all_.loc[("most like the genre", "steered"), "low"] > 1 / 3
    assert all_.loc[("most like the genre", "random"), "high"] < 1 / 3
    assert all_.loc[("liked best", "unsteered"), "value"] == 1
    assert all_.loc[("liked best", "steered"), "n"] == 3 * TRIPLES and set(table.index.levels[0]) == {
        "all",
        *NAMES,
    }


def test_a_guessing_listener_is_no_evidence(page, tmp_path):
    key, rng = key_of(page), np.random.default_rng(0)
    ears = [answers(key, tmp_path / f"{n}.csv", listener=f"l{n}", finds=lambda _: rng.random() < 1 / 3)
            for n in range(6)]  # fmt: skip
    table = blind_results(ears, page.parent / "key.json").set_index(["genre", "question", "kind"]).loc["all"]
    assert table.loc[("AUC", "steered"), "low"] < 0.5 < table.loc[("AUC", "steered"), "high"]


def test_answers_of_another_test_or_none_are_refused(page, tmp_path):
    key = key_of(page)
    strange = answers({**key, "test": "other"}, tmp_path / "a.csv", listener="x", finds="steered".__eq__)
    with pytest.raises(EvidenceError, match="they are of other"):
        blind_results([strange], page.parent / "key.json")
    with pytest.raises(EvidenceError, match="nothing was answered"):
        blind_results([], page.parent / "key.json")
    with pytest.raises(EvidenceError, match="0 plans"):
        wb.blind_test(None, {}, tmp_path)


@pytest.mark.browser
def test_answers_are_kept_and_saved_as_a_table(page, tmp_path):
    from browser import browser
    from page_audit import faults

    key = key_of(page)
    with browser() as chromium:
        host = chromium.new_context(viewport={"width": 400, "height": 900}, accept_downloads=True)
        tab = host.new_page()
        tab.goto(page.as_uri())
        assert tab.evaluate("document.documentElement.scrollWidth") <= 400
        assert faults(tab) == []
        tab.fill("[name=listener]", 'Ana "A"')
        for one in key["clips"]:
            if one["kind"] == "steered":
                tab.select_option(f"[name=genre-{one['triple']}-{one['clip']}]", one["aim"])
                tab.check(f"[name=most-{one['triple']}][value={one['clip']}]")
        tab.reload()
        assert tab.input_value("[name=listener]") == 'Ana "A"'
        tab.check("[name=liked-1][value=B]")
        assert tab.text_content("#done") == f"1 of {TRIPLES} groups answered."
        with tab.expect_download() as saved:
            tab.click("#save")
        saved.value.save_as(tmp_path / "answers.csv")
    table = pd.read_csv(tmp_path / "answers.csv", dtype=str, keep_default_na=False)
    assert set(table["listener"]) == {'Ana "A"'} and len(table) == 3 * TRIPLES
    assert (table[table["triple"] == "2"]["liked"] == "").all()
    found = blind_results([tmp_path / "answers.csv"], page.parent / "key.json")
    steered = found[(found["genre"] == "all") & (found["kind"] == "steered")].set_index("question")["value"]
    assert steered["most like the genre"] == 1 and found[found["question"] == "liked best"]["n"].max() == 1
