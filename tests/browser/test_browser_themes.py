"""Both themes and every width: nothing is cut, overlaps or pales, and every control has a name and a ring.

Judged by boxes and computed colours (`page_audit`); pictures are compared only with others of the same run.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from app_fixture import write_notebook
from browser import Lab, LabPage, Stage, until
from figure_samples import samples
from page_audit import faults, faults_of_controls, put_on
from show_samples import JUDGED, tone

from workbench.show import plots
from workbench.show.page import write_page
from workbench.show.widgets.fader import BlendPad, Fader
from workbench.show.widgets.players import ComparisonPlayer, LivePlayer, StreamPlayer
from workbench.show.widgets.ui import PlotPanel

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

NARROW, WIDE = 568, 1488
"""Pixels of a notebook's column in windows of 1000 and 1920 pixels, the side bar open."""
BUSY = "() => document.querySelectorAll('.js-plotly-plot[aria-busy=true]').length"


@pytest.fixture
def stage(chromium: Any) -> Iterator[Stage]:
    page = chromium.new_page(viewport={"width": NARROW + 24, "height": 1000})
    made = Stage(page)
    page.evaluate("() => { document.body.style.width = 'auto'; }")
    put_on(page, "light")
    yield made
    page.close()
    assert made.errors == []


def settled(page: Any) -> None:
    """Wait until no figure is being drawn."""
    page.wait_for_timeout(200)
    until(lambda: page.evaluate(BUSY) == 0, what="all figures", seconds=120)


def looked_at(page: Any, *, widths: tuple[int, ...] = (NARROW, WIDE)) -> list[str]:
    """Return what is wrong in both themes at these widths; every change redraws what is there."""
    found = []
    for place, width in enumerate(widths):
        page.set_viewport_size({"width": width + 24, "height": 1000})
        for theme in ("light", "dark") if place % 2 == 0 else ("dark", "light"):
            put_on(page, theme)
            settled(page)
            found += [f"{theme}, {width}: {fault}" for fault in faults(page)]
    return found


def test_every_figure_is_whole_and_readable_in_both_themes(stage: Stage) -> None:
    figures = samples()
    for figure in figures.values():
        stage.show(PlotPanel(figure))
    drawn = "() => document.querySelectorAll('.js-plotly-plot').length"
    until(lambda: stage.page.evaluate(drawn) == len(figures), what="the figures", seconds=120)
    assert looked_at(stage.page) == []


@pytest.mark.parametrize(
    ("planted", "told"),
    [
        ({"title.subtitle.text": "x" * 300}, "sticks out"),
        ({"title.font.color": "#BBBBBB"}, "contrast"),
        ({"legend": {"x": 0.2, "y": 0.5, "xanchor": "left"}, "showlegend": True}, "over the plot"),
        ({"xaxis.title.standoff": 0, "xaxis.automargin": False, "margin.b": 5}, "cut by"),
    ],
)
def test_a_planted_fault_of_a_figure_is_seen(stage: Stage, planted: dict[str, Any], told: str) -> None:
    figure = plots.judged_genres(JUDGED)
    figure.update_layout({name.replace(".", "_"): value for name, value in planted.items()})
    stage.show(PlotPanel(figure))
    settled(stage.page)
    assert [fault for fault in faults(stage.page) if told in fault]


def _widgets() -> list[Any]:
    clips = {"unsteered": tone(220), "0.15*jazz@3 - 0.1*rock@3 | gate(jazz@5 < 0.8 over 1s)": tone(330)}
    stream = StreamPlayer(16000)
    stream.push(tone(220, 1.0, rate_hz=16000).samples)
    return [
        ComparisonPlayer(clips),
        ComparisonPlayer(),
        stream,
        LivePlayer(16000),
        BlendPad(("classical", "jazz", "rock", "reggae"), strength=0.2),
        Fader("electronic", breaks=0.3),
        Fader("a direction of one's own", most=0.2),
        PlotPanel(plots.judged_genres(JUDGED)),
    ]


def test_players_pad_and_faders_are_whole_readable_and_have_keys(stage: Stage) -> None:
    for widget in _widgets():
        stage.show(widget)
    settled(stage.page)
    assert looked_at(stage.page) == []
    for theme in ("light", "dark"):
        put_on(stage.page, theme)
        settled(stage.page)
        stage.page.mouse.click(1, 1)
        assert faults_of_controls(stage.page) == []


SEEN = """(seen) => document.querySelectorAll('.wb-panel').forEach((panel) => {
  panel.parentElement.style.display = seen ? '' : 'none'; })"""


def test_a_theme_and_back_gives_the_same_picture_even_where_hidden(stage: Stage) -> None:
    for widget in (PlotPanel(plots.judged_genres(JUDGED)), ComparisonPlayer({"a": tone(220)})):
        stage.show(widget)
    pictures = []
    for theme, seen in (("light", True), ("dark", True), ("light", True), ("dark", False)):
        stage.page.evaluate(SEEN, seen)
        put_on(stage.page, theme)
        settled(stage.page)
        stage.page.evaluate(SEEN, True)
        settled(stage.page)
        stage.page.mouse.move(1, 1)
        stage.page.wait_for_timeout(500)
        pictures.append(stage.page.screenshot())
    assert pictures[1] == pictures[3] != pictures[2]


PHONE = 400
REPORT = {
    "model": "embedded", "prompt": "a calm tune", "seed": 3, "receipts_ok": True,
    "seconds_per_audio_second": 0.4, "versions": {"torch": "2"},
    "probe": {3: {"accuracy": 0.9, "low": 0.8, "high": 0.95, "chance": 0.17, "shuffled": 0.18}},
    "steering": {"jazz": {
        "layer": 3, "dose": 0.2, "hit_rate": 0.9, "low": 0.8, "high": 0.95, "unsteered": 0.1,
        "random_direction": 0.2, "n": 40,
    }},
}  # fmt: skip


def test_a_page_follows_the_readers_colours_and_fits_a_phone(chromium: Any, tmp_path: Path) -> None:
    shown = samples()
    figures = {
        name: shown[name] for name in ("accuracy_per_layer", "confusion", "judged_genres", "map_scatter")
    }
    sounds = {name: tone(220).write(tmp_path / f"{place}.wav") for place, name in enumerate(JUDGED)}
    address = write_page(tmp_path / "page", REPORT, figures, sounds).as_uri()
    page = chromium.new_page(viewport={"width": PHONE, "height": 900})
    found = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.goto(address)
        for width in (PHONE, 1100):
            page.set_viewport_size({"width": width, "height": 900})
            settled(page)
            found += [f"{scheme}, {width}: {fault}" for fault in faults(page)]
        page.screenshot(path=str(tmp_path / f"{scheme}.png"), full_page=True)
        found += faults_of_controls(page)
    page.close()
    assert found == []


PANELS = [
    """
import numpy as np, workbench as wb
from types import SimpleNamespace
from IPython.display import HTML
from workbench.errors import SteeringError
from workbench.evidence.causal import patch_map
from workbench.probing import project
from workbench.show.exercises import Verdict
from workbench.show.widgets import PatchPanel, TakeComparison, TakeHistory
from workbench.show.widgets.live_desk import score_lines
from workbench.show.widgets.ui import problem_html
from workbench.generation.live.pacing import Score
from workbench.sound import from_folder
model = wb.load({model!r}, device="cpu", dtype="float32")
songs = from_folder({music!r})
acts = wb.capture(model, songs, cache=False, progress=False)
sweep = wb.fit_probes(acts, folds=3, shuffles=1, l2=[1.0], progress=False)
named = {{name: sweep.best.direction(name) for name in ("classical", "jazz", "rock")}}
plans = [None, named["jazz"].at(0.6), named["jazz"].at(0.2) + named["rock"].at(-0.2)]
takes = wb.generate(model, "a tune", steering=plans, seconds=1, progress=False, probes=[sweep.best])
""",
    "wb.ProbePanel(sweeps={{'genre': sweep}})",
    "wb.MapPanel(acts, songs, projection=project(acts, 2, method='pca'))",
    "desk = wb.SteerPanel(model, sweep, seconds=1.0).start()\ndesk.wait()\ndesk",
    """
lab = wb.ProbeLab(acts, songs, sweep=sweep, folds=3).start()
lab.wait()
lab
""",
    """
claim = "The genre is read with 100% of all clips."
one = dict(acts=acts, songs=songs, target="genre", claim=claim, options={{}})
wb.BrokenProbes({{name: SimpleNamespace(**one) for name in "AB"}}, sweep=sweep, folds=3)
""",
    "steer = wb.SteerLab(model, {{'genre': sweep}}, seconds=1.0).push(jazz=0.2).start()\nsteer.wait()\nsteer",
    "wb.LiveDesk(model, named, folder={out!r})",
    """
history, comparison = TakeHistory({out!r}), TakeComparison()
for name, take in zip(["unsteered", "jazz", "a little jazz and less rock"], takes):
    history.add(name, take)
comparison.load({{name: take for name, take in zip(["unsteered", "jazz"], takes)}})
history
""",
    "comparison",
    """
scores = [Score(0.5 * n, "genre", {{"jazz": 0.5 + n / 50, "rock": 0.5 - n / 50}}) for n in range(20)]
words = [Verdict(right, "Layer 3 ends below the best.")._repr_html_() for right in (True, False, None)]
own = SteeringError("A was asked for", "B was found", "Do C")
HTML("".join([*words, problem_html(own), problem_html(ValueError("what")), score_lines(scores)]))
""",
    "takes[1].receipt",
    """
pair = wb.generate(model, ["a calm tune", "fast rock"], seed=[3, 3], seconds=1, progress=False)
patched = PatchPanel(model, patch_map(model, *pair, windows=6), dict(zip(["calm", "rock"], pair)))
patched.hear(1, 2)
patched
""",
]
WINDOWS = (1000, 1920)
OUTPUT = ".jp-Notebook .jp-Cell[data-windowed-list-index='{}'] .jp-OutputArea-output"


@pytest.fixture(scope="module")
def notebook(books: Path, tiny_folder: Path, tiny_music: Path) -> str:
    given = {"model": str(tiny_folder), "music": str(tiny_music), "out": str(books / "out")}
    write_notebook(books / "panels.ipynb", *(cell.format(**given) for cell in PANELS), title="")
    return f"{books.name}/panels.ipynb"


@pytest.mark.long  # every panel, in both themes and two windows
def test_every_panel_is_whole_and_readable_in_jupyterlab(
    lab: Lab, notebook: str, chromium: Any, tmp_path: Path
) -> None:
    opened = lab.open(chromium, notebook, height=1400)
    opened.run_all(seconds=400)
    page, found = opened.page, list[str]()
    for place, window in enumerate(WINDOWS):
        page.set_viewport_size({"width": window, "height": 1400})
        for theme in ("Light", "Dark") if place % 2 == 0 else ("Dark", "Light"):
            page.evaluate(
                "theme => { jupyterapp.commands.execute('apputils:change-theme', { theme }); }",
                f"JupyterLab {theme}",
            )
            named = f"() => document.body.dataset.jpThemeName === 'JupyterLab {theme}'"
            until(lambda named=named: page.evaluate(named), what="the theme")
            for number in range(1, len(PANELS)):
                told = _panel(opened, number, keys=window == WINDOWS[0])
                found += [f"{theme}, {window}, cell {number}: {fault}" for fault in told]
                opened.screenshot(tmp_path / f"{theme}-{window}-{number:02d}.png")
    (tmp_path / "found.txt").write_text("\n".join(found))
    page.close()
    assert found == []


def _panel(opened: LabPage, number: int, *, keys: bool) -> list[str]:
    """Return what is wrong with the output of a cell, of whose tabs the open one is seen."""
    opened.show_cell(number)
    output, page = OUTPUT.format(number), opened.page
    until(lambda: page.locator(output).count(), what=f"the output of cell {number}")
    settled(page)
    return faults(page, output) + (faults_of_controls(page, output) if keys else [])
