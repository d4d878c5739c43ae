"""JupyterLab for real: a notebook runs, a map point plays when clicked, a slider moves, Generate is heard."""

from __future__ import annotations

import urllib.error
import urllib.request
from contextlib import suppress

import pytest
import soundfile
from app_fixture import write_notebook
from browser import browser, until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(420)]

CELLS = [
    """
from workbench.model.capture import capture
from workbench.model.load import load
from workbench.probing import fit_probes, project
from workbench.show.widgets.panels import MapPanel, ProbePanel, SteerPanel
from workbench.sound import from_folder
model = load({model!r}, device="cpu", dtype="float32")
songs = from_folder({music!r})
acts = capture(model, songs, cache=False, progress=False)
sweep = fit_probes(acts, folds=3, shuffles=1, l2=[1.0])
""",
    "view = ProbePanel(sweeps={{'genre': sweep}})\nview",
    "chart = MapPanel(acts, songs, projection=project(acts, 2, method='pca'))\nchart",
    "desk = SteerPanel(model, sweep, seconds=2.0)\ndesk",
    """
from workbench.show.widgets import SteerLab
lab = SteerLab(model, {{'genre': sweep.directions(2)}}, seconds=1.0, folder={out!r})
lab.push(rock=-0.1).start().wait(120)
lab.push().prompt.value = "another tune"
lab
""",
]
LEVEL = "() => Math.max(0, ...[...window.__workbench.engines.values()].map((e) => e.output?.level() ?? 0))"


@pytest.fixture(scope="module")
def notebook(books, tiny_folder, tiny_music):
    given = {"model": str(tiny_folder), "music": str(tiny_music), "out": str(books / "takes")}
    write_notebook(books / "panels.ipynb", *(cell.format(**given) for cell in CELLS), title="")
    return f"{books.name}/panels.ipynb"


def loudest(page) -> float:
    return float(page.evaluate(LEVEL))


def test_lab_refuses_those_without_the_token(lab):
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(f"http://127.0.0.1:{lab.port}/api/contents", timeout=10)


def test_the_panels_work_in_jupyterlab(lab, notebook, tmp_path):
    with browser() as chromium:
        opened = lab.open(chromium, notebook, height=2600)
        opened.fold_sidebars()
        opened.run_all()
        page = opened.page
        try:
            _click_a_map_point(page)
            _box_on_the_map(page)
            _steer(page)
            _open_in_the_lab(page)
            assert opened.figures_that_stay() >= 3
        finally:
            opened.screenshot(tmp_path / "lab.png")


HASTY = "const timeout = AbortSignal.timeout; AbortSignal.timeout = () => timeout.call(AbortSignal, 0)"
LATE = [
    """
from workbench.show.widgets.fader import Fader
from workbench.show.widgets.players import ComparisonPlayer
from workbench.sound import Clip
import ipywidgets, numpy as np
fader, player = Fader("jazz"), ComparisonPlayer()
ipywidgets.VBox([fader, player])
""",
    "fader.value = 0.25\nplayer.load({'a tone': Clip(0.1 * np.sin(np.arange(32_000) / 9), 32_000)})",
]


def test_widgets_whose_script_came_too_late_for_anywidget_still_hear(lab, books):
    write_notebook(books / "late.ipynb", *LATE, title="")
    with browser() as chromium:
        opened = lab.open(chromium, f"{books.name}/late.ipynb", before=HASTY)
        opened.run_all()
        page = opened.page
        until(lambda: page.locator(".wb-fader-number").input_value() == "0.25", what="the kernel's dose")
        until(lambda: page.get_by_text("a tone").count(), what="the kernel's clip")


def _click_a_map_point(page) -> None:
    """Clicking a point must be heard; whether the page drew everything is measured first."""
    until(lambda: page.locator(".wb-panel .main-svg").count() >= 6, what="three figures", seconds=60)
    point = page.locator(".scatterlayer .trace .point[style*='fill']").last
    point.scroll_into_view_if_needed()

    def heard() -> bool:
        return page.get_by_text("Playing ").count() > 0

    def pressed() -> bool:
        _until_drawn(page)
        box = point.bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2 - 3)
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        with suppress(AssertionError):  # a click on a figure that is just drawn anew is lost
            until(heard, seconds=10)
        return heard()

    until(pressed, what="the clicked clip", seconds=60)
    until(lambda: loudest(page) > 0.01, what="sound after the click on the map")
    until(lambda: page.evaluate(BESIDE)["ring"], what="the ring round the point that plays")


def _until_drawn(page) -> None:
    """Wait until no figure is drawn anew and no picture taken: plotly would lose what a hand does."""
    working = page.locator("[role=figure][aria-busy=true], [role=figure][data-keeping]")
    until(lambda: working.count() == 0, what="figures that stay")


BESIDE = """() => {
  const figures = [...document.querySelectorAll('.js-plotly-plot')];
  const figure = figures.find((e) => e.textContent.includes('Do clips of one'));
  const output = figure.closest('.jp-OutputArea-output');
  const player = [...output.querySelectorAll('.wb-panel')].find((e) => e.getAttribute('role') === 'group');
  const list = output.querySelector('select[size]');
  const box = (e) => e.getBoundingClientRect().toJSON();
  return { ring: figure.data.some((trace) => trace.name === "playing"),
    figure: box(figure), player: box(player), output: box(output),
    area: box(figure.querySelector('.nsewdrag')),
    list: list?.checkVisibility() ? { ...box(list), lines: list.options.length,
      wide: list.scrollWidth - list.clientWidth, scrolls: getComputedStyle(list).overflowY } : null,
    boxes: figure.querySelectorAll('.selectionlayer path').length,
    faded: figure.querySelectorAll('.point[style*="opacity: 0.2"]').length };
}"""


def _box_on_the_map(page) -> None:
    """The player stands beside the map, the list of a box too, until a click or another map takes it away."""
    seen = page.evaluate(BESIDE)
    assert seen["output"]["right"] - seen["output"]["left"] >= 1000
    assert (
        seen["player"]["left"] >= seen["figure"]["right"] and seen["player"]["top"] < seen["figure"]["bottom"]
    )
    _draw_box(page)
    area = page.evaluate(BESIDE)["area"]
    page.mouse.click(area["right"] - 4, area["bottom"] - 4)
    until(lambda: _is_clear(page), what="the box clicked away")
    _draw_box(page)
    page.locator(".widget-slider", has_text="layer").locator(".noUi-handle").first.press("ArrowRight")
    until(lambda: page.get_by_text("at layer 3?").count(), what="the map of the next layer", seconds=60)
    until(lambda: _is_clear(page), what="no box on the next map")


def _draw_box(page) -> None:
    _until_drawn(page)
    area = page.evaluate(BESIDE)["area"]
    page.mouse.move(area["left"] + 3, area["top"] + 3)
    page.mouse.down()
    page.mouse.move(area["left"] + 100, area["top"] + 100, steps=4)
    page.mouse.move(area["right"] - 40, area["bottom"] - 40, steps=4)
    page.mouse.up()
    seen = until(
        lambda: (now := page.evaluate(BESIDE))["list"] and now["boxes"] and now, what="the box's list"
    )
    listed = seen["list"]
    assert listed["lines"] > 8 and listed["scrolls"] in ("auto", "scroll") and listed["wide"] <= 0
    assert listed["left"] >= seen["figure"]["right"] and listed["right"] <= seen["output"]["right"]


def _is_clear(page) -> bool:
    seen = page.evaluate(BESIDE)
    return seen["list"] is None and not seen["boxes"] and not seen["faded"]


def _steer(page) -> None:
    """One fader, one button: then two clips stand in the player, and the steered one sounds by itself."""
    desk = page.locator(".jp-Cell").nth(3)
    desk.scroll_into_view_if_needed()
    dose = desk.locator(".wb-fader", has_text="jazz").locator(".wb-fader-number")
    dose.fill("0.3")
    dose.press("Enter")
    until(lambda: page.get_by_text("plan: 0.3*jazz@").count(), what="the plan", seconds=60)
    page.evaluate("() => window.__workbench.engines.forEach((engine) => engine.stop())")
    until(lambda: loudest(page) < 1e-4, what="silence")
    desk.get_by_role("button", name="Generate").click()
    steered = desk.get_by_role("radio", name="jazz 0.3")
    until(lambda: steered.count() == 1, what="the steered clip", seconds=120)
    until(lambda: loudest(page) > 0.001, what="sound of the steered clip, without a further click")
    assert steered.get_attribute("aria-checked") == "true"
    assert "0.3*jazz@" in steered.get_attribute("title")
    with page.expect_download() as waiting:
        desk.get_by_title("Download this take as WAV").first.click()
    assert waiting.value.suggested_filename == "jazz 0.3.wav"
    assert soundfile.info(waiting.value.path()).duration > 1.9


def _open_in_the_lab(page) -> None:
    """What was generated before the faders moved stands on them again, with its prompt."""
    lab = page.locator(".jp-Cell").nth(4)
    lab.scroll_into_view_if_needed()
    dose = lab.locator(".wb-fader", has_text="rock").locator(".wb-fader-number")
    assert float(dose.input_value()) == 0

    lab.get_by_title("Open in the lab").first.click()
    until(lambda: float(dose.input_value()) == -0.1, what="the take's dose")
    assert lab.get_by_label("prompt").input_value() == "a calm tune"
    lab.get_by_title("Show the code").first.click()
    until(
        lambda: "wb.generate(" in (lab.locator(".wb-takes pre").first.text_content() or ""), what="the code"
    )
