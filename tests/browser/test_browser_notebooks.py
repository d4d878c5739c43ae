"""Notebooks in JupyterLab: run as far as a panel, then do what a reader does, and measure the sound.

Steering: a genre's slider, Generate, play. Probe lab: a click on the map. Broken probes: another one, and
the clip whose label is hardest to believe.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from app_fixture import App
from browser import Lab, browser, until

from workbench.model.folders import builtin_folder
from workbench.show.broken_probes import CAUSES

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(420),
    pytest.mark.skipif(not (builtin_folder() / "config.json").exists(), reason="no built-in model here"),
]

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
LEVEL = "() => Math.max(0, ...[...window.__workbench.engines.values()].map((e) => e.output?.level() ?? 0))"
CELL = """(name) => jupyterapp.shell.currentWidget.content.widgets.findIndex(
  (cell) => cell.model.type === "code" && cell.model.sharedModel.source.includes(name + "("))"""


@pytest.fixture(scope="module")
def books(books: Path) -> str:
    """The name of the folder in which all notebooks lie."""
    ignored = shutil.ignore_patterns(".ipynb_checkpoints")
    shutil.copytree(NOTEBOOKS, books, ignore=ignored, dirs_exist_ok=True)
    return books.name


def test_steering_is_heard_in_the_real_notebook(lab: Lab, books: str, tmp_path: Path) -> None:
    with browser() as chromium:
        opened = lab.open(chromium, f"{books}/3_steer_and_listen.ipynb", height=2200)
        opened.fold_sidebars()
        page = opened.page
        number = page.evaluate(CELL, "SteerPanel")
        opened.run_to(number, seconds=240)
        opened.show_cell(number)
        try:
            _push_towards_jazz(page)
            assert opened.figures_that_stay()
        finally:
            opened.screenshot(tmp_path / "desk.png")


def _push_towards_jazz(page: Any) -> None:
    """Move the slider of jazz, generate: the steered clip must sound by itself, and be heard by the judge."""
    dose = page.locator(".wb-fader", has_text="jazz").locator(".wb-fader-number").first
    dose.fill("0.15")
    dose.press("Enter")
    plan, wanted = "0.15*jazz@3 + 0.2*rock@3", "rock 0.2, jazz 0.15"
    until(lambda: page.get_by_text(f"plan: {plan}").count(), what="the plan", seconds=60)
    assert float(page.evaluate(LEVEL)) == 0
    page.get_by_role("button", name="Generate").click()
    steered = page.get_by_role("radio", name=wanted)
    until(lambda: steered.count() == 1, what="the steered clip", seconds=120)
    until(lambda: page.locator(".wb-panel .legendtext", has_text=wanted).count(), what="the judge's bars")
    until(lambda: float(page.evaluate(LEVEL)) > 0.001, what="sound of the steered clip", seconds=60)


@pytest.mark.long  # runs a whole notebook, which the quick part runs without a browser
def test_a_click_on_the_map_of_the_probe_lab_is_heard(lab: Lab, books: str, tmp_path: Path) -> None:
    with browser() as chromium:
        opened = lab.open(chromium, f"{books}/5_probe_lab.ipynb", height=1600)
        opened.fold_sidebars()
        page = opened.page
        number = page.evaluate(CELL, "MapPanel")
        opened.run_to(number, seconds=300)
        opened.show_cell(number)
        try:
            assert float(page.evaluate(LEVEL)) == 0
            click_a_point(page, page.locator(f".jp-Cell[data-windowed-list-index='{number}']"))
            until(lambda: float(page.evaluate(LEVEL)) > 0.001, what="sound of the clip that was clicked")
            assert opened.figures_that_stay()
        finally:
            opened.screenshot(tmp_path / "map.png")


def click_a_point(page: Any, cell: Any) -> None:
    """Click a point of the map in a cell until the panel says which clip it plays."""
    points = cell.locator(".scatterlayer .trace .point")
    until(lambda: points.count() > 20, what="the points of the map", seconds=60)

    def pressed() -> bool:
        points.nth(7).scroll_into_view_if_needed()
        box = points.nth(7).bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(x, y - 3)
        page.mouse.move(x, y)
        page.mouse.click(x, y)
        page.wait_for_timeout(700)
        return bool(cell.get_by_text("Playing ").count())

    until(pressed, what="the clip that was clicked", seconds=60)


@pytest.mark.long  # runs a whole notebook, which the quick part runs without a browser
def test_a_broken_probe_is_examined_and_a_doubtful_clip_is_heard(
    lab: Lab, books: str, tmp_path: Path
) -> None:
    with browser() as chromium:
        opened = lab.open(chromium, f"{books}/6_debug_a_probe.ipynb", height=2000)
        opened.fold_sidebars()
        page = opened.page
        number = page.evaluate(CELL, "BrokenProbes")
        opened.run_to(number, seconds=300)
        opened.show_cell(number)
        verdict = page.locator(".wb-verdict")
        try:
            until(lambda: verdict.count(), what="the first verdict", seconds=120)
            page.get_by_role("button", name="E", exact=True).click()
            until(lambda: verdict.filter(has_text="label").count(), what="the verdict on E", seconds=120)
            assert not verdict.first.is_visible(), "before a cause is named"
            page.locator(".widget-dropdown", has_text="it is").locator("select").select_option(
                label=CAUSES["label noise"]
            )
            until(lambda: verdict.first.is_visible(), what="the verdict that was hidden", seconds=60)
            page.get_by_role("tab", name="Labels").click()
            page.locator("select[size] option").first.click()
            until(lambda: float(page.evaluate(LEVEL)) > 0.001, what="sound of the doubtful clip", seconds=60)
            assert opened.figures_that_stay()
        finally:
            opened.screenshot(tmp_path / "room.png")


@pytest.mark.long  # runs all notebooks, in JupyterLab and in the app
@pytest.mark.timeout(3600)
def test_no_notebook_and_no_page_of_the_app_asks_another_machine(
    lab: Lab, books: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        with browser() as chromium:  # judges the whole visit as it ends
            opened = lab.open(chromium, f"{books}/{path.name}")
            opened.run_all(seconds=600)
            opened.page.wait_for_timeout(2000)
            assert opened.requests
    root = tmp_path_factory.mktemp("app") / "notebooks"
    shutil.copytree(NOTEBOOKS, root, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKBENCH_PER_GENRE", "10")
        app = App(root, tmp_path_factory.mktemp("scratch"))
    try:
        with browser() as chromium:
            page = chromium.new_page()
            page.goto(app.address)
            for link in [each.get_attribute("href") for each in page.get_by_role("link").all()]:
                page.goto(app.base + link, timeout=600_000, wait_until="domcontentloaded")
                until(lambda: page.locator(".wb-panel").count(), what=link, seconds=600)
                page.wait_for_timeout(2000)
    finally:
        app.stop()
