"""A notebook's copy in JupyterLab, over a clone under git: it runs, is saved, and its links open pages."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from browser import Lab, browser, until
from clone_fixture import git, small_clone

from workbench.cli import copies

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

SAVE = "() => { jupyterapp.commands.execute('docmanager:save'); }"
BOOK = "0_quickstart.ipynb"
PAGES = ("docs/glossary.md", "data/embedded/MODEL_CARD.md", "my_notebooks/1_probe_accuracy_per_layer.ipynb")


def test_a_copy_runs_is_saved_and_its_links_open_in_a_clean_clone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone = small_clone(tmp_path / "clone")
    monkeypatch.setattr(copies, "builtin_path", clone.joinpath)
    book = nbformat.read(clone / "notebooks" / BOOK, as_version=4)
    first = next(number for number, cell in enumerate(book.cells) if cell.cell_type == "code")
    book.cells[first].source = "print(6 * 7)"  # the links are the notebook's own, and no model is needed
    nbformat.write(book, clone / "notebooks" / BOOK)
    git(clone, "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "--all", "--quiet", "-m", "short")
    folder = copies.copied_notebooks()
    (scratch := tmp_path / "scratch").mkdir()
    lab = Lab(folder.parent, scratch)
    try:
        with browser() as chromium:
            page = lab.open(chromium, f"{folder.name}/{BOOK}", height=4000)
            page.run_to(first)
            page.page.evaluate(SAVE)
            until(lambda: '"42\\n"' in (folder / BOOK).read_text(), what="the output in the saved file")
            for target in PAGES:
                link = page.page.locator(f".jp-Notebook a[href*='{target}']").first.get_attribute("href")
                answer = page.page.request.get(link)
                assert answer.ok and answer.body() == (clone / target).read_bytes()
    finally:
        lab.stop()
    assert git(clone, "status", "--porcelain") == ""
