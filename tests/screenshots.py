"""Pictures of all notebooks for the documentation: `python tests/screenshots.py [notebook ...]`.

Each notebook runs in a real JupyterLab, with as many clips as a user gets unless WORKBENCH_PER_GENRE says
otherwise. Every output with something to look at becomes `docs/screenshots/<notebook>-<cell>.png`.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from browser import Lab, browser
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
PICTURES = ROOT / "docs" / "screenshots"
OUTPUTS = """i => { const cell = jupyterapp.shell.currentWidget.content.widgets[i];
  return cell.model.type === "code" && cell.outputArea && cell.outputArea.node.childElementCount > 0; }"""
OUTPUT = ".jp-Notebook .jp-Cell[data-windowed-list-index='{}'] .jp-Cell-outputWrapper"
WIDTH, HEIGHT = 1280, 1500
# what the first picture of a notebook shows
FACES = {
    "1": "ProbePanel(",
    "2": "MapPanel(",
    "3": "SteerPanel(",
    "4": "lint(",
    "5": "ProbeLab(",
    "6": "BrokenProbes(",
    "7": "lab = wb.SteerLab(",
    "8": "desk = wb.LiveDesk(",
}
SOURCES = """() => jupyterapp.shell.currentWidget.content.widgets.map(
  (cell) => cell.model.type === "code" ? cell.model.sharedModel.source : "")"""


def picture(lab: Lab, chromium: Any, name: str, *, folder: Path = PICTURES) -> list[Path]:
    """Run a notebook and return its pictures: its beginning, and each cell with output."""
    opened = lab.open(chromium, f"{name}.ipynb", height=HEIGHT)
    opened.fold_sidebars()
    opened.run_all(seconds=400)
    for old in folder.glob(f"{name}*.png"):
        old.unlink()
    page, made = opened.page, []
    for index in range(len(page.evaluate(SOURCES))):
        opened.show_cell(index)
        page.wait_for_timeout(400)
        if not page.evaluate(OUTPUTS, index):
            continue
        page.wait_for_timeout(1200)
        cell = page.locator(OUTPUT.format(index))
        tall = (cell.first.bounding_box() or {"height": 0})["height"] if cell.count() else 0
        if tall > 120:
            path = folder / f"{name}-{index:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            # What does not fit into the window would be grey in the picture.
            page.set_viewport_size({"width": WIDTH, "height": max(HEIGHT, round(tall) + 400)})
            page.wait_for_timeout(800)
            cell.first.screenshot(path=str(path))
            page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
            made.append(path)
    sources = page.evaluate(SOURCES)
    face = FACES.get(name[0], "")
    opened.show_cell(next(index for index, source in enumerate(sources) if face in source))
    page.wait_for_timeout(1200)
    return [opened.screenshot(folder / f"{name}.png"), *made]


def _shrink(path: Path) -> Path:
    """Keep 256 colours, which is a third of the bytes: pictures stay in a repository's history for good."""
    Image.open(path).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    return path


def main(names: list[str]) -> None:
    """Make the pictures of the named notebooks, or of all."""
    with tempfile.TemporaryDirectory() as scratch, browser() as chromium:
        books = Path(scratch) / "notebooks"
        shutil.copytree(ROOT / "notebooks", books)
        lab = Lab(books, Path(scratch))
        try:
            for name in names or sorted(path.stem for path in books.glob("*.ipynb")):
                for path in picture(lab, chromium, name):
                    print(_shrink(path).relative_to(ROOT))  # noqa: T201  (a program for people)
        finally:
            lab.stop()


if __name__ == "__main__":
    main(sys.argv[1:])
