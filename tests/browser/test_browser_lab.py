"""JupyterLab for real: a notebook runs, a map point plays when clicked, a slider moves, Generate is heard."""

from __future__ import annotations

import urllib.error
import urllib.request

import nbformat
import pytest
from browser import Lab, browser, until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(420)]

CELLS = [
    """
from workbench.model.capture import capture
from workbench.model.load import load
from workbench.probing import fit_probes, project
from workbench.show.widgets.map_panel import MapPanel
from workbench.show.widgets.panels import ProbePanel
from workbench.show.widgets.panels import SteerPanel
from workbench.sound import from_folder
model = load({model!r}, device="cpu", dtype="float32")
songs = from_folder({music!r})
acts = capture(model, songs, cache=False, progress=False)
sweep = fit_probes(acts, folds=3, shuffles=1, l2=[1.0])
""",
    "view = ProbePanel(sweeps={{'genre': sweep}})\nview",
    "chart = MapPanel(acts, songs, projection=project(acts, 2, method='pca'))\nchart",
    "desk = SteerPanel(model, sweep, seconds=2.0)\ndesk",
]
LEVEL = "() => Math.max(0, ...[...window.__workbench.engines.values()].map((e) => e.output?.level() ?? 0))"


@pytest.fixture(scope="module")
def lab(tmp_path_factory, tiny_folder, tiny_music):
    root = tmp_path_factory.mktemp("notebooks")
    cells = [cell.strip().format(model=str(tiny_folder), music=str(tiny_music)) for cell in CELLS]
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(cell) for cell in cells],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
    )
    nbformat.write(notebook, root / "panels.ipynb")
    server = Lab(root, tmp_path_factory.mktemp("jupyter"))
    yield server
    server.stop()


def loudest(page) -> float:
    return float(page.evaluate(LEVEL))


def test_lab_refuses_those_without_the_token(lab):
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(f"http://127.0.0.1:{lab.port}/api/contents", timeout=10)


def test_the_panels_work_in_jupyterlab(lab, tmp_path):
    with browser() as chromium:
        opened = lab.open(chromium, "panels.ipynb", height=2600)
        opened.fold_sidebars()
        opened.run_all()
        page = opened.page
        try:
            _click_a_map_point(page)
            _steer(page)
            assert opened.figures_that_stay() >= 3
        finally:
            opened.screenshot(tmp_path / "lab.png")


def _click_a_map_point(page) -> None:
    """Clicking a point must be heard; whether the page drew everything is measured first."""
    until(lambda: page.locator(".wb-panel .main-svg").count() >= 6, what="three figures", seconds=60)
    point = page.locator(".scatterlayer .trace .point[style*='fill']").last
    point.scroll_into_view_if_needed()

    def pressed() -> bool:
        box = point.bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2 - 3)
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.wait_for_timeout(700)
        return page.get_by_text("Playing ").count() > 0

    until(pressed, what="the clicked clip", seconds=60)
    until(lambda: loudest(page) > 0.01, what="sound after the click on the map")


def _steer(page) -> None:
    """One slider, one button: then two clips stand in the player, and the steered one sounds."""
    dose = page.get_by_label("dose of jazz, as a number")
    dose.fill("0.2")
    dose.press("Enter")
    until(lambda: page.get_by_text("plan: 0.2*jazz@").count(), what="the plan", seconds=60)
    page.get_by_role("button", name="Generate").click()
    steered = page.get_by_role("radio", name="0.2*jazz@")
    until(lambda: steered.count() == 1, what="the steered clip", seconds=120)
    page.locator(".wb-wave[aria-label^='0.2*jazz@']").click(position={"x": 5, "y": 20})
    until(lambda: loudest(page) > 0.001, what="sound of the steered clip")
