"""The live desk in the app: it plays, it tells what it plays, and it ends when its page is left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from app_fixture import App, write_notebook
from browser import browser, until

from workbench.generation.recording import Recording
from workbench.model.folders import builtin_folder

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not (builtin_folder() / "config.json").exists(), reason="no built-in model here"),
]

LEVEL = "() => Math.max(0, ...[...window.__workbench.engines.values()].map((e) => e.output?.level() ?? 0))"
FIGURE = """
from workbench.show import plots
from workbench.show.widgets import PlotPanel
PlotPanel(plots.judged_genres({"only": {"jazz": 0.75, "rock": 0.25}}))
"""
DESK = """
import numpy as np, workbench as wb
model = wb.load("embedded")
vector = np.random.default_rng(0).standard_normal(model.d_model).astype("float32")
made = wb.Direction(vector, 3, name="jazz", residual_norm=10.0, origin={"model_id": model.id}).unit()
desk = wb.LiveDesk(model, {"jazz": made})
desk
"""


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    root = tmp_path_factory.mktemp("notebooks")
    write_notebook(root / "8_live_desk.ipynb", FIGURE, DESK)
    made = App(root, tmp_path_factory.mktemp("app"))
    yield made
    made.stop()


def test_the_desk_plays_in_the_app_and_ends_with_its_page(app: App, tmp_path: Path) -> None:
    with browser() as chromium:
        page, answered = chromium.new_page(viewport={"width": 1280, "height": 1000}), []
        page.on("response", lambda response: answered.append(response.url))
        page.goto(app.address)
        page.get_by_role("link", name="Does it play?").click(no_wait_after=True)
        until(lambda: page.get_by_role("button", name="Play").count(), what="the desk", seconds=120)
        until(lambda: page.locator(".wb-panel .bars .point").count() == 2, what="the figure")
        assert page.get_by_text("LiveDesk(").count() == 0, "no code"
        page.get_by_role("button", name="Play").first.click()
        until(lambda: float(page.evaluate(LEVEL)) > 0.001, what="sound", seconds=60)
        knob = page.locator(".widget-slider", has_text="jazz").locator(".noUi-handle")
        knob.press("ArrowRight")
        until(lambda: page.get_by_text("steps/s").count() and page.get_by_text("Recording into").count())
        (folder,) = (app.log.parent / "out" / "live").iterdir()
        until(lambda: len(Recording.load(folder).knobs()) > 1, what="the knob in the recording")
        page.screenshot(path=str(tmp_path / "app.png"))
        page.goto("about:blank")
        until(lambda: not app.kernels, what="the end of the kernel")
    assert Recording.load(folder).ended == "stopped"
    assert {url for url in answered if not url.startswith((app.base, "blob:", "data:", "about:"))} == set()
