"""Pictures and times of all notebooks: `python tests/screenshots.py [notebook ... | app]`.

Each notebook runs whole in a real JupyterLab, with an empty cache, and is pictured at its panel in both
themes: `docs/screenshots/<notebook>-<theme>.webp`. How long it ran is printed. "app" pictures the app's
first page and its live desk, 1280 and 400 pixels wide. Notebook 8 leaves the sound of its recording,
`live_desk.ogg`.
"""

from __future__ import annotations

import io
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from app_fixture import App
from browser import Lab, LabPage, browser, until
from PIL import Image

import workbench as wb
from workbench.generation.live.recording import Recording
from workbench.sound import Clip

ROOT = Path(__file__).resolve().parent.parent
PICTURES = ROOT / "docs" / "screenshots"
WIDTH, HEIGHT = 1280, 1100
MOST_BYTES = 60_000
THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}
FACES = {  # the cell at the top of a notebook's picture
    "0": "wb.ProbePanel(",
    "1": "wb.ProbePanel(",
    "2": "wb.MapPanel(",
    "3": "wb.SteerPanel(",
    "4": "wb.MapPanel(",
    "5": "wb.ProbeLab(",
    "6": "wb.BrokenProbes(",
    "7": "lab = wb.SteerLab(",
    "8": "desk = wb.LiveDesk(",
    "9": "panel = PatchPanel(",
    "10": "wb.LiveDesk(",
}
SOURCES = """() => jupyterapp.shell.currentWidget.content.widgets.map(
  (cell) => cell.model.type === "code" ? cell.model.sharedModel.source : "")"""

FIRST_SOUND = """() => {
  const begin = performance.now();
  new MutationObserver((_, watch) => {
    if (!document.querySelector(".wb-panel .wb-play, .wb-panel canvas")) return;
    window.__firstSound = performance.now() - begin;
    watch.disconnect();
  }).observe(document.body, { subtree: true, childList: true });
}"""


def keep(page: Any, name: str) -> Path:
    """Write what the page shows as WebP of at most 60 kB; return the path."""
    path = PICTURES / f"{name}.webp"
    path.parent.mkdir(parents=True, exist_ok=True)
    seen = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    for quality in range(90, 10, -5):
        seen.save(path, quality=quality, method=6)
        if path.stat().st_size <= MOST_BYTES:
            break
    return path


def pictures(lab: Lab, chromium: Any, name: str) -> list[Path]:
    """Run a notebook, print how long it took, and return its pictures."""
    opened = lab.open(chromium, f"{name}.ipynb", height=HEIGHT)
    opened.fold_sidebars()
    begin = time.monotonic()
    opened.page.evaluate(FIRST_SOUND)
    opened.run_all(seconds=600)
    took, first = time.monotonic() - begin, opened.page.evaluate("() => window.__firstSound")
    after = "" if first is None else f", the first player after {first / 1000:.0f} s"
    print(f"{name}: {took:.0f} s{after}", flush=True)  # noqa: T201  (a program for people)
    made = []
    for theme, label in THEMES.items():
        change = "(theme) => { jupyterapp.commands.execute('apputils:change-theme', { theme }); }"
        opened.page.evaluate(change, label)
        opened.page.wait_for_timeout(2500)
        made.append(_face(opened, f"{name}-{theme}"))
    opened.page.close()
    return made


def _face(opened: LabPage, name: str) -> Path:
    sources = opened.page.evaluate(SOURCES)
    face = FACES[name.partition("_")[0]]
    opened.show_cell(next(place for place, source in enumerate(sources) if face in source))
    opened.page.wait_for_timeout(2000)
    return keep(opened.page, name)


def sound(folder: Path) -> Path:
    """Write the first recording that notebook 8 left in `folder`, ten seconds at most."""
    model = wb.load("embedded")
    played: Clip = Recording.load(min(folder.glob("out/live/001"))).clip(model)
    path = PICTURES / "live_desk.ogg"
    path.write_bytes(played.section(0, min(10.0, played.seconds)).encode("ogg"))
    return path


def app_pictures(books: Path, scratch: Path, chromium: Any) -> list[Path]:
    """Return pictures of the app: its first page, and the live desk, on a screen and on a phone."""
    app, made = App(books, scratch), []
    try:
        for width, height in ((1280, 1000), (400, 800)):
            page = chromium.new_page(viewport={"width": width, "height": height})
            page.goto(app.address)
            page.wait_for_timeout(1500)
            made.append(keep(page, f"app-{width}"))
            page.get_by_role("link", name="knob").first.click(no_wait_after=True)
            until(lambda page=page: page.get_by_role("button", name="Play").count(), what="it", seconds=240)
            page.wait_for_timeout(2000)
            page.get_by_role("button", name="Play").first.scroll_into_view_if_needed()
            made.append(keep(page, f"app-{width}-live_desk"))
            page.close()
    finally:
        app.stop()
    return made


def main(names: list[str]) -> None:
    """Make the pictures of what is named, or of all."""
    with tempfile.TemporaryDirectory() as held, browser() as chromium:
        scratch, books = Path(held), Path(held) / "notebooks"
        shutil.copytree(ROOT / "notebooks", books)
        os.environ["WORKBENCH_OUT"] = "out"  # beside the notebook
        os.environ["PYTHONPATH"] = str(ROOT)
        every = [path.stem for path in books.glob("*.ipynb")]
        every.sort(key=lambda name: int(name.partition("_")[0]))
        for name in names or [*every, "app"]:
            os.environ["WORKBENCH_CACHE"] = str(scratch / "cache" / name)
            if name == "app":
                made = app_pictures(books, scratch, chromium)
            else:
                (server := scratch / name).mkdir()
                lab = Lab(books, server)
                try:
                    made = pictures(lab, chromium, name)
                finally:
                    lab.stop()
            made += [sound(books)] if name.startswith("8") else []
            for path in made:
                print(f"{path.relative_to(ROOT)} {path.stat().st_size // 1000} kB", flush=True)  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:])
