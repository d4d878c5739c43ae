"""The page of a run explains itself, escapes everything, and needs nothing from the network."""

from __future__ import annotations

import re

import numpy as np
import pytest
from browser import browser, figures_that_stay

from workbench.show import plots
from workbench.show.page import write_page
from workbench.sound.clip import Clip

REPORT = {
    "model": {"id": "embedded"},
    "prompt": "a <calm> tune",
    "seed": 7,
    "receipts_ok": True,
    "seconds_per_audio_second": 0.71,
    "versions": {"torch": "2.13.0"},
    "steering": {
        "jazz": {
            "layer": 3,
            "dose": 0.6,
            "hit_rate": 0.85,
            "low": 0.7,
            "high": 0.93,
            "unsteered": 0.1,
            "random_direction": 0.15,
            "n": 40,
        }
    },
    "probe": [{"layer": 0, "accuracy": 0.6, "low": 0.5, "high": 0.7, "chance": 0.17, "shuffled": 0.16}],
}


@pytest.fixture
def page(tmp_path):
    time = np.arange(24000) / 24000
    clips = {
        name: Clip(0.3 * np.sin(2 * np.pi * hz * time), 24000).write(tmp_path / "clips" / f"{file}.wav")
        for name, file, hz in [("unsteered", "unsteered", 220), ("0.6*jazz@3", "jazz & co", 330)]
    }
    judged = {"unsteered": {"jazz": 0.1, "rock": 0.9}, "0.6*jazz@3": {"jazz": 0.8, "rock": 0.2}}
    figures = {"judged": plots.judged_genres(judged), "again": plots.judged_genres(judged)}
    return write_page(tmp_path, REPORT, figures, clips)


def test_page_holds_the_report_and_escapes_it(page):
    text = page.read_text(encoding="utf-8")
    for expected in (
        "embedded",
        "a &lt;calm&gt; tune",
        "0.71",
        "85%",
        "70% to 93%",
        "every planned edit measured",
    ):
        assert expected in text
    assert "a <calm> tune" not in text
    assert text.count("* plotly.js v") == 1


def test_a_failed_receipt_is_said(tmp_path):
    text = write_page(tmp_path, {**REPORT, "receipts_ok": False}, {}, {}).read_text(encoding="utf-8")
    assert "a planned edit did not happen" in text and "every planned edit" not in text


def test_empty_report_still_makes_a_page(tmp_path):
    text = write_page(tmp_path / "new", {}, {}, {}).read_text(encoding="utf-8")
    assert "<h1>" in text and "<table>" not in text


def test_clips_are_linked_relative_to_the_page(page):
    links = re.findall(r"<audio[^>]* src='([^']*)'", page.read_text(encoding="utf-8"))
    assert links == ["clips/unsteered.wav", "clips/jazz%20%26%20co.wav"]


@pytest.mark.browser
def test_page_plays_and_draws_without_the_network(page, tmp_path):
    with browser() as chromium:
        tab = chromium.new_page(viewport={"width": 1000, "height": 900})
        asked, errors = [], []
        tab.on("request", lambda request: asked.append(request.url))
        tab.on("pageerror", lambda error: errors.append(str(error)))
        tab.goto(page.as_uri())
        tab.wait_for_selector(".main-svg")
        durations = tab.evaluate(
            "() => Promise.all([...document.querySelectorAll('audio')].map((a) => new Promise((done) => {"
            " if (a.duration) done(a.duration); else a.onloadedmetadata = () => done(a.duration);"
            " setTimeout(() => done(null), 5000); })))"
        )
        assert figures_that_stay(tab) == 2
        tab.screenshot(path=str(tmp_path / "page.png"), full_page=True)
    assert durations == [1, 1]
    assert not errors
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
