"""Notebooks are run and changed in copies: a clone stays clean, links hold, nobody's work is overwritten."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nbformat
import pytest
from clone_fixture import ROOT, git, small_clone
from nbclient import NotebookClient

from workbench.cli import copies
from workbench.cli.copies import copied_notebooks

BOOK = "0_quickstart.ipynb"


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone whose notebooks are the real ones."""
    made = small_clone(tmp_path / "clone")
    monkeypatch.setattr(copies, "builtin_path", made.joinpath)
    monkeypatch.setattr(copies, "HOME", tmp_path / "home" / "musicgen-workbench")
    return made


def links(page: Path) -> list[str]:
    """Return where the links of a page or notebook lead, without those to other machines."""
    text = page.read_text("utf-8")
    if page.suffix == ".ipynb":
        text = "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])
    return [link for link in re.findall(r"\]\(([^)#]+)\)", text) if not link.startswith("http")]


def test_a_clone_stays_clean_when_its_notebooks_are_run_and_saved(clone: Path) -> None:
    folder = copied_notebooks()
    assert folder == clone / "my_notebooks"
    assert {book.name for book in folder.glob("*.ipynb")} == {
        book.name for book in (ROOT / "notebooks").glob("*.ipynb")
    }
    book = nbformat.read(folder / BOOK, as_version=4)
    book.cells = [nbformat.v4.new_code_cell("open('out.txt', 'w').write(str(6 * 7))")]
    NotebookClient(book, resources={"metadata": {"path": str(folder)}}).execute()
    nbformat.write(book, folder / BOOK)
    assert "execute_result" in (folder / BOOK).read_text() and (folder / "out.txt").read_text() == "42"
    assert git(clone, "status", "--porcelain") == ""
    (clone / "notebooks" / BOOK).write_text("changed")
    assert BOOK in git(clone, "status", "--porcelain"), "git does see what is changed in the clone itself"


@pytest.mark.parametrize("installed", [False, True])
def test_all_links_of_the_copies_lead_somewhere(clone: Path, installed: bool) -> None:
    if installed:
        (clone / "pyproject.toml").unlink()
    folder = copied_notebooks()
    assert folder.parent == (copies.HOME if installed else clone)
    pages = [
        *folder.glob("*.ipynb"),
        *(folder.parent / "docs").glob("*.md"),
        *folder.parent.glob("data/*/*.md"),
    ]
    found = [(page, link) for page in pages for link in links(page)]
    assert len([link for page, link in found if page.suffix == ".ipynb"]) >= 5
    assert {page.suffix for page, _ in found} == {".ipynb", ".md"}
    assert [(page.name, link) for page, link in found if not (page.parent / link).is_file()] == []


def test_a_changed_copy_is_kept_and_each_later_version_put_beside_once(
    clone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shipped, mine = clone / "notebooks" / BOOK, copied_notebooks() / BOOK
    shipped.write_text("second version")
    copied_notebooks()
    assert mine.read_text() == "second version", "a copy that nobody has changed follows"
    mine.write_text("my own work")
    copied_notebooks()
    assert capsys.readouterr().out == "", "there is nothing new"
    shipped.write_text("third version")
    beside = copied_notebooks() / "0_quickstart-new.ipynb"
    assert (mine.read_text(), beside.read_text()) == ("my own work", "third version")
    assert str(mine) in (told := capsys.readouterr().out) and str(beside) in told and "kept" in told
    beside.unlink()  # seen, and not wanted
    copied_notebooks()
    assert not beside.exists() and capsys.readouterr().out == ""
    beside.write_text("more work of mine")
    shipped.write_text("fourth version")
    folder = copied_notebooks()
    assert (mine.read_text(), beside.read_text()) == ("my own work", "more work of mine")
    assert (folder / "0_quickstart-new-2.ipynb").read_text() == "fourth version"


def test_what_is_missing_comes_back_and_what_was_there_before_is_kept(clone: Path) -> None:
    own = clone.parent / "mine"
    (own / "docs").mkdir(parents=True)
    (own / "docs" / "steering.md").write_text("a page of another project")
    folder = copied_notebooks(own)
    assert folder == own / "notebooks"
    assert (own / "docs" / "steering.md").read_text() == "a page of another project"
    assert (own / "docs" / "steering-new.md").is_file()
    (folder / BOOK).unlink()
    (folder / ".copied.json").write_text("damaged")
    (folder / "2_genre_map.ipynb").write_text("mine")
    copied_notebooks(own)
    assert (folder / BOOK).read_bytes() == (clone / "notebooks" / BOOK).read_bytes()
    assert (folder / "2_genre_map.ipynb").read_text() == "mine"
