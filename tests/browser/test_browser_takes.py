"""Takes beside each other in JupyterLab: ticked in the history, heard, drawn on one clock, not cut."""

from __future__ import annotations

import pytest
from app_fixture import write_notebook
from browser import browser, until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(420)]

CELLS = [
    """
import workbench as wb
from workbench.sound import from_folder
model = wb.load({model!r}, device="cpu", dtype="float32")
acts = wb.capture(model, from_folder({music!r}), cache=False, progress=False)
probe = wb.fit_probes(acts, folds=3, shuffles=0, l2=[1.0])[2]
jazz, rock = probe.direction("jazz"), probe.direction("rock")
late = jazz.at(0.9, schedule=wb.ramp(0.5, 1), gate=probe.gate("jazz", below=0.95)) + rock.at(-0.2, chance=0.5)
plans = [None, jazz.at(0.6), late]
takes = wb.generate(model, "a tune", steering=plans, seconds=2, progress=False, probes=[probe])
""",
    """
from workbench.show.widgets import TakeComparison, TakeHistory
history, comparison = TakeHistory({out!r}), TakeComparison(judges=[wb.load_judge()])
for name, take in zip(["unsteered", "jazz", "late jazz, less rock, and by chance"], takes):
    history.add(name, take)
history.observe(lambda _: comparison.load(history.chosen_takes), "chosen")
history
""",
    "comparison",
]
LEVEL = "() => Math.max(0, ...[...window.__workbench.engines.values()].map((e) => e.output?.level() ?? 0))"
# what sticks out of its output, or can be scrolled inside it; a folded code block may be scrolled
CUT = """() => [...document.querySelectorAll('.jp-OutputArea-output')].flatMap((output) => {
  const frame = output.getBoundingClientRect();
  return [...output.querySelectorAll('.wb-panel, .wb-takes, .widget-box, canvas, .main-svg')].filter((e) => {
    const box = e.getBoundingClientRect();
    const wide = e.scrollWidth > e.clientWidth + 1, high = e.scrollHeight > e.clientHeight + 1;
    const scrolled = !e.matches('canvas, svg') && (wide || high);
    return box.width && (box.left < frame.left - 1 || box.right > frame.right + 1 || scrolled);
  }).map((e) => `${e.getAttribute('class')} ${e.scrollWidth} x ${e.scrollHeight}`);
})"""
EDGES = """() => ['.wb-wave', '.wb-stage .nsewdrag'].map((name) => {
  const { left, right } = document.querySelector(name).getBoundingClientRect(); return [left, right]; })"""
LINES = """() => ['.wb-wave', '.wb-stage'].map((name) =>
  document.querySelector(name + ' .wb-head').getBoundingClientRect().left)"""


@pytest.fixture(scope="module")
def notebook(books, tiny_folder, tiny_music):
    given = {"model": str(tiny_folder), "music": str(tiny_music), "out": str(books / "takes")}
    write_notebook(books / "takes.ipynb", *(cell.format(**given) for cell in CELLS), title="")
    return f"{books.name}/takes.ipynb"


def test_takes_are_ticked_heard_and_seen_on_one_clock(lab, notebook, tmp_path):
    with browser() as chromium:
        opened = lab.open(chromium, notebook, height=2300)
        opened.fold_sidebars()
        opened.run_all()
        page = opened.page
        try:
            _tick_all(page)
            _listen(page)
            _look(page)
            assert opened.figures_that_stay() >= 2
        finally:
            opened.screenshot(tmp_path / "takes.png")


def _tick_all(page) -> None:
    """A tick brings a take into the comparison, with its readings and its bars."""
    boxes = page.locator(".jp-OutputArea-output input[type='checkbox']")
    until(lambda: boxes.count() >= 3, what="the history", seconds=60)
    for place in (2, 1, 0):  # the oldest stands last
        boxes.nth(place).check()
    until(lambda: page.locator(".wb-row").count() == 3, what="three takes in the player", seconds=60)
    names = page.locator(".wb-row .wb-name").all_inner_texts()
    assert names == ["unsteered", "jazz", "late jazz, less rock, and by chance"]
    until(lambda: page.locator(".wb-stage .main-svg").count() >= 2, what="scores and bars", seconds=60)
    assert page.locator(".wb-takes tbody tr").count() >= 3


def _listen(page) -> None:
    """The sound is measured; the line in the figure stands where the player is."""
    page.locator(".wb-wave[aria-label^='jazz']").click(position={"x": 3, "y": 20})
    until(lambda: float(page.evaluate(LEVEL)) > 0.001, what="sound of the take", seconds=60)
    (left, right), (begin, end) = page.evaluate(EDGES)
    assert abs(left - begin) < 4 and abs(right - end) < 4, "figure and player share their seconds"
    page.get_by_role("button", name="Pause").click()
    page.wait_for_timeout(300)
    player, figure = page.evaluate(LINES)
    assert player > left + 2 and abs(player - figure) < 5


def _look(page) -> None:
    """Nothing is cut off, folded or unfolded."""
    assert page.evaluate(CUT) == []
    for summary in page.locator(".wb-takes summary").all():
        summary.click()
    assert page.locator(".wb-takes pre").count() == 3
    assert "wb.Steering.unpack" in page.locator(".wb-takes pre").last.inner_text()
    assert page.evaluate(CUT) == []
