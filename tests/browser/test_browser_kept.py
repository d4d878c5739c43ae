"""What a saved notebook shows and plays where its widgets are dead: reopened in JupyterLab, and exported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nbformat
import pytest
from app_fixture import write_notebook
from browser import KERNEL_READY, Lab, until
from nbclient import NotebookClient
from nbconvert import HTMLExporter

from workbench.show.widgets.kept import ASK, RUN, WAIT_S

# a whole notebook run, saved and reopened; `tests/show/test_kept.py` asks the parts in seconds
pytestmark = [pytest.mark.browser, pytest.mark.long, pytest.mark.timeout(420)]

IMPORTS = """
import threading
import numpy as np, pandas as pd
from tqdm.auto import tqdm
from workbench.probing import Projection
from workbench.show import plots
from workbench.show.widgets import ComparisonPlayer, PlotPanel
from workbench.show.widgets.fader import Fader
from workbench.show.widgets.ui import Panel
from workbench.sound.clip import Clip
draw = np.random.default_rng(0)
clips = {name: Clip(draw.uniform(-0.3, 0.3, 160_000), 32_000) for name in ("unsteered", "0.2*jazz@3")}
names = [f"clip {n}" for n in range(360)]
labels = pd.DataFrame({"genre": np.resize(["jazz", "rock", "reggae"], 360)})
points = Projection(draw.normal(size=(360, 2)), np.array(names), labels, 2, "resid_post", "umap", 0, 0.9)
"""
LATE = """
late = PlotPanel()
figure = plots.judged_genres({"only": {"jazz": 0.75, "rock": 0.25}})
threading.Timer(1, lambda: late.show(figure)).start()
Panel([late, ComparisonPlayer({"in a panel": clips["unsteered"]}), PlotPanel()])
"""
BAR = "list(tqdm([1], leave=False))"
MAP, PLAYER = "PlotPanel(plots.map_scatter(points))", f"{BAR}; ComparisonPlayer(clips)"
CELLS = [IMPORTS, MAP, PLAYER, LATE, 'Panel([Fader("rock")])', BAR]
TITLES = ["Do clips of one genre lie together at layer 2?", "What does the judge hear?"]
SOUNDS = ["unsteered", "0.2*jazz@3", "in a panel"]

PLAYED = """async () => {
  const context = new AudioContext(), told = [];
  for (const audio of document.querySelectorAll(".wb-copy audio")) {
    const meter = new AnalyserNode(context), wave = new Float32Array(meter.fftSize);
    context.createMediaElementSource(audio).connect(meter);
    await audio.play();
    await new Promise((done) => setTimeout(done, 500));
    meter.getFloatTimeDomainData(wave);
    audio.pause();
    told.push([audio.parentElement.textContent, audio.duration, audio.currentTime, Math.max(...wave)]);
  }
  return told;
}"""
SAVE = "() => { jupyterapp.commands.execute('docmanager:save'); }"
NOTEBOOK = f"{__name__}/kept.ipynb"
OPEN = """(path) => { jupyterapp.restored.then(() => jupyterapp.commands.execute("docmanager:open", {
  path, factory: "Notebook", kernelPreference: { shouldStart: false, canStart: false } })); }"""


def shows_and_plays(page: Any, *, figures: str) -> None:
    """Every copy is seen, but for those it asks to run; its figures are there, and its sound is measured."""
    until(lambda: page.locator(".wb-copy:visible").count() == 4, what="the copies", seconds=WAIT_S + 20)
    until(lambda: page.locator(f".wb-copy {figures}:visible").count() == 2, what="the figures")
    assert page.get_by_text(ASK).locator("visible=true").count() == 2, "both panels, and they alone"
    seen = page.evaluate("() => document.body.innerText")
    assert "model not found" not in seen and "Loading widget" not in seen and "Error displaying" not in seen
    told = page.evaluate(PLAYED)
    assert [name for name, *_ in told] == SOUNDS
    for _name, length, position, level in told:
        assert abs(length - 5) < 0.1 and 0.2 < position < 2 and level > 0.1


def pictures(page: Any) -> None:
    """Every picture was decoded, and is wide and named."""
    told = page.evaluate(
        "() => [...document.querySelectorAll('.wb-copy img')].map((i) => [i.alt, i.width, i.src.length])"
    )
    assert [title for title, *_ in told] == TITLES
    assert all(width >= 600 for _, width, _ in told)
    assert all(size < 60_000 for *_, size in told), told


def bars(page: Any) -> Any:
    """How dead progress bars are shown: not at all in the cell of a player, alone with what to do."""
    return page.evaluate(
        """() => [...document.querySelectorAll(".lm-Panel.jp-OutputArea-output:not([data-mime-type])")]
        .filter((one) => !one.parentElement.nextElementSibling?.querySelector(".wb-copy"))
        .map((one) => [getComputedStyle(one).display, getComputedStyle(one, "::after").content])"""
    )


@pytest.fixture(scope="module")
def saved(lab: Lab, books: Path, chromium: Any) -> Path:
    """Run the notebook in the page, where widgets alone are seen, save it, and shut its kernel down."""
    path = books / "kept.ipynb"
    write_notebook(path, *CELLS)
    opened = lab.open(chromium, NOTEBOOK)
    page = opened.page
    opened.run_all()
    until(lambda: page.locator(".wb-panel .main-svg:visible").count() >= 2, what="the figures")
    page.wait_for_timeout(1000 * (WAIT_S + 1))
    assert page.locator(".wb-copy").count() == 4
    assert page.locator(".wb-copy:visible").count() == 0, "where the widgets live, nothing is seen twice"
    assert page.locator(".jp-OutputArea-child:has(.wb-copy):visible").count() == 0, "and no gap is left"
    assert RUN not in page.evaluate("() => document.body.innerText")

    def written() -> bool:
        page.evaluate(SAVE)
        return path.read_text().count("data:image/webp") == 2

    until(written, what="the pictures in the saved notebook", every=1)
    page.close()
    lab.end_kernels()
    return path


def test_a_notebook_reopened_without_a_kernel_shows_and_plays(lab: Lab, saved: Path, chromium: Any) -> None:
    page = chromium.new_page(viewport={"width": 1280, "height": 1900})
    page.goto(f"http://127.0.0.1:{lab.port}/lab?token={lab.token}&reset")
    until(lambda: page.evaluate("() => !!window.jupyterapp"), what="JupyterLab", seconds=90)
    page.evaluate(OPEN, NOTEBOOK)
    until(lambda: "Loading widget" in page.evaluate("() => document.body.textContent"), what="dead widgets")
    until(lambda: bars(page) == [["none", f'"{RUN}"'], ["block", f'"{RUN}"']], what="what dead bars say")
    shows_and_plays(page, figures="img")
    pictures(page)
    assert json.loads(lab.ask("sessions")) == []
    page.close()


def test_a_notebook_reopened_with_a_new_kernel_shows_and_plays(lab: Lab, saved: Path, chromium: Any) -> None:
    page = lab.open(chromium, NOTEBOOK, height=1900).page
    text = "() => document.body.textContent"
    until(lambda: "model not found" in page.evaluate(text), what="the error that the copies hide")
    shows_and_plays(page, figures="img")
    assert page.evaluate(KERNEL_READY)
    page.close()


def _exported(chromium: Any, book: Any, folder: Path) -> Any:
    """Return the page that nbconvert makes of a notebook, opened without any network."""
    html, _ = HTMLExporter().from_notebook_node(book)
    (folder / "kept.html").write_text(html, encoding="utf-8")
    page = chromium.new_context(offline=True, viewport={"width": 1000, "height": 1900}).new_page()
    page.goto((folder / "kept.html").as_uri())
    return page


def test_an_exported_page_of_a_saved_notebook_needs_no_network(
    saved: Path, chromium: Any, tmp_path: Path
) -> None:
    page = _exported(chromium, nbformat.read(saved, as_version=4), tmp_path)
    shows_and_plays(page, figures="img")
    pictures(page)


def test_an_exported_page_of_a_notebook_that_no_page_has_seen_draws_itself(
    chromium: Any, tmp_path: Path
) -> None:
    write_notebook(tmp_path / "kept.ipynb", *CELLS, "import time; time.sleep(2)")
    book = nbformat.read(tmp_path / "kept.ipynb", as_version=4)
    NotebookClient(book, timeout=120).execute()
    page = _exported(chromium, book, tmp_path)
    shows_and_plays(page, figures=".js-plotly-plot")
    assert page.locator(".wb-copy .scatterlayer .point").count() == 360
