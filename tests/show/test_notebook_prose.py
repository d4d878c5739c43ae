"""What notebooks say beside their figures: no result is claimed in Markdown, and each says where it leads."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
BOOKS = sorted(FOLDER.glob("*.ipynb"), key=lambda path: int(path.stem.partition("_")[0]))
FEWEST_GOALS, MOST_GOALS = 2, 4

# A figure in prose is a result that somebody saw once, but for the numbers that name or define something.
FIGURE = r"\d+(?:[.,]\d+)?\s*(?:%|per ?cent|dB|points)|\d+[.,]\d+|\b\d{2,}\b"
NAMED = r"\b95 % interval|\b(?:19|20)\d\d\b"
CLAIMS = (
    r"\b(?:almost|nearly|exactly|hardly|clearly|obviously|evidently|of course|as expected|as it must"
    r"|turns? out|tends? to|easily|mostly|usually|in fact|it does not|(?:you|we) (?:can )?see that"
    r"|about (?:one |a )?(?:half|third|quarter)|much (?:better|worse|more|less)|in this model"
    r"|which (?:shows|proves))\b"
)


def cells(path: Path, kind: str, *, guides: bool = False) -> list[str]:
    """Return the sources of the cells of one kind; the guides are the first and the last words on the way."""
    found = [cell for cell in json.loads(path.read_text("utf-8"))["cells"] if cell["cell_type"] == kind]
    return ["".join(c["source"]) for c in found if ("guide" in c["metadata"].get("tags", [])) == guides]


def claims(prose: str) -> list[str]:
    """Return what a Markdown cell claims as a result: figures, and words that only a look at them allows."""
    plain = re.sub(r"(?m)^    .*$|`[^`]*`|\]\([^)]*\)|^#+ \d+\.", " ", prose)
    plain = re.sub(NAMED, " ", re.sub(r"\s+", " ", plain))
    return [*re.findall(FIGURE, plain), *re.findall(CLAIMS, plain, flags=re.IGNORECASE)]


def links(prose: str) -> list[str]:
    """Return the addresses of links to files."""
    return [link for link in re.findall(r"\]\(([^)#]+)", prose) if "://" not in link]


def name(path: Path) -> str:
    return path.stem


@pytest.mark.parametrize("path", BOOKS, ids=name)
def test_no_markdown_cell_claims_a_result(path: Path) -> None:
    assert [found for cell in cells(path, "markdown") for found in claims(cell)] == []


@pytest.mark.parametrize(
    ("prose", "found"),
    [
        ("The three ways agree almost exactly.", ["almost", "exactly"]),
        ("The probe is right in 95 % of the clips.", ["95 %"]),
        ("Cosines of 0.43 to 0.80.", ["0.43", "0.80"]),
        ("From about 0.3 on the music tends to break.", ["0.3", "tends to"]),
        ("The probe gets about one half right, as it must.", ["about one half", "as it must"]),
        ("The lab would raise that alarm, and it does not.", ["it does not"]),
        ("In this model *fast* points away from *jazz*.", ["In this model"]),
        ("Jazz falls from 90\n% to nothing", ["90 %"]),
        ("It takes 20 seconds.", ["20"]),
        ("Each bar is the 95 % interval (Venna and Kaski 2001), see `x = 0.43`, [here](a_95.md).", []),
        ("## 3. Does it?\n\n**Exercise 2.** Three seconds, dose 0, notebook 7.\n\n    a = 0.5", []),
    ],
)
def test_a_claim_in_prose_is_seen(prose: str, found: list[str]) -> None:
    assert claims(prose) == found


@pytest.mark.parametrize("path", BOOKS, ids=name)
def test_results_are_told_by_computed_sentences(path: Path) -> None:
    told = [
        cell
        for cell in cells(path, "code")
        if re.search(r"findings\.\w+\(|labs\.check\(|sentences\(\)", cell)
    ]
    assert len(told) >= (1 if path.stem.startswith("6_") else 2)


@pytest.mark.parametrize("path", BOOKS, ids=name)
def test_a_notebook_says_how_long_it_takes_and_what_for(path: Path) -> None:
    top = cells(path, "markdown", guides=True)[0]
    told = r"\*\*Time:\*\* about \d+ (?:seconds|minutes) of computing, \d+ minutes of reading and listening\."
    assert re.search(told, top)
    goals = re.findall(r"(?m)^- .+[,.]$", top.partition("**Goals.**")[2])
    assert FEWEST_GOALS <= len(goals) <= MOST_GOALS


@pytest.mark.parametrize("path", BOOKS, ids=name)
def test_a_notebook_leads_to_the_one_before_and_the_one_after(path: Path) -> None:
    every = json.loads(path.read_text("utf-8"))["cells"]
    assert every[0]["source"][0].startswith("# "), "the title comes first"
    assert [i for i, c in enumerate(every) if "guide" in c["metadata"].get("tags", [])] == [1, len(every) - 1]
    place = BOOKS.index(path)
    beside = [BOOKS[i].name for i in (place - 1, place + 1) if 0 <= i < len(BOOKS)]
    top, bottom = cells(path, "markdown", guides=True)
    assert links(top) == beside and links(bottom)[-len(beside) :] == beside


@pytest.mark.parametrize("path", BOOKS, ids=name)
def test_links_of_a_notebook_lead_somewhere(path: Path) -> None:
    prose = [*cells(path, "markdown"), *cells(path, "markdown", guides=True)]
    assert [link for cell in prose for link in links(cell) if not (FOLDER / link).exists()] == []


def test_the_page_of_a_desk_leads_to_no_notebook() -> None:
    import nbformat

    from workbench.cli.app import DESKS, only_the_desk

    for desk in DESKS:
        book: Any = nbformat.read(FOLDER / f"{desk}.ipynb", as_version=4)
        kept = only_the_desk(None, book, "").cells
        assert not [cell for cell in kept if ".ipynb)" in cell.source], desk
