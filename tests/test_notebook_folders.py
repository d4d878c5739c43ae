"""Notebook 4 works on anybody's folder of music, notebook 10 on a folder that holds a checkpoint."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from generation_samples import save_true_shape
from nbclient import NotebookClient

from workbench.datasets import dataset
from workbench.errors import DatasetError
from workbench.model.folders import builtin_folder

FOLDER = Path(__file__).resolve().parent.parent / "notebooks"
BOOK = FOLDER / "4_your_own_music.ipynb"
CLIPS = 6  # of each genre

ODD_NAMES = ("Sunday morning (live)", "écoute ça!", "3 AM", "untitled", "[x] & y", "a.b.c")

# shape -> genres, name of the file with a number, rule as the reader writes it
SHAPES: dict[str, tuple[tuple[str, str], Callable[[str, int], str], str]] = {
    "gtzan": (("blues", "hiphop"), lambda genre, n: f"{genre}.{n:05d}.wav", "None"),
    "fma": (("Hip-Hop", "Old-Time _ Historic"), lambda _genre, n: f"{n * 7919 + 2:06d}.flac", "None"),
    "rule": (
        ("jazz", "techno"),
        lambda genre, n: f"{genre} artist {n // 2}-{n}.wav",
        'lambda file: file.stem.split("-")[0]',
    ),
    "no pattern": (("Lieder", "chanson française"), lambda _genre, n: f"{ODD_NAMES[n]}.ogg", "None"),
}

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(not (builtin_folder() / "config.json").exists(), reason="no built-in model here"),
]


def folder(root: Path, shape: str) -> Path:
    """Write a folder of that shape: a few seconds of jazz and rock under other names."""
    genres, named, _rule = SHAPES[shape]
    for genre, source in zip(genres, ("jazz", "rock"), strict=True):
        songs = dataset("embedded").where(genre=source).take(CLIPS)
        for n, one in enumerate(songs.ids):
            songs.clip(one).section(0, 3 + n % 2).write(root / shape / genre / named(genre, n))
    return root / shape


def asked(path: Path, rule: str) -> Any:
    """Return the notebook as a reader has it who has filled in the settings cell."""
    book = nbformat.read(BOOK, as_version=4)
    (settings,) = (cell for cell in book.cells if cell.source.startswith("FOLDER = "))
    kept = [line for line in settings.source.splitlines() if not line.startswith(("FOLDER", "GROUP"))]
    settings.source = "\n".join([f"FOLDER = {str(path)!r}", f"GROUP = {rule}", *kept])
    return book


def read(book: Any) -> dict[str, Any]:
    """Run the notebook in this process as far as the lint, and return its names."""
    names: dict[str, Any] = {"display": lambda one: names.setdefault("shown", []).append(str(one))}
    for cell in book.cells:
        if cell.cell_type == "code":
            exec(cell.source, names)
            if "report" in names:
                return names
    raise AssertionError("no cell makes a report")


@pytest.mark.parametrize("shape", SHAPES)
def test_a_folder_of_any_shape_is_read_and_grouped(shape: str, tmp_path: Path) -> None:
    genres, _named, rule = SHAPES[shape]
    names = read(asked(folder(tmp_path, shape), rule))
    songs, groups = names["songs"], CLIPS // 2 if shape == "rule" else CLIPS
    assert songs.genres == tuple(sorted(genres)) and len(songs) == 2 * CLIPS
    assert len(set(songs.groups)) == 2 * groups
    assert f"made {2 * groups} groups of {2 * CLIPS} files" in names["shown"][0]
    assert not [finding for finding in names["report"].findings if finding.severity == "error"]


@pytest.mark.parametrize("rule", ['lambda file: "mine"', "lambda file: file.parent.name"])
def test_a_rule_that_makes_one_group_of_all_is_blamed(rule: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="Blame the rule, not the music: change GROUP"):
        read(asked(folder(tmp_path, "gtzan"), rule))


@pytest.mark.long  # the whole notebook four times; test_notebooks.py runs it once
@pytest.mark.parametrize("shape", SHAPES)
def test_the_whole_notebook_runs_on_somebodys_folder(shape: str, tmp_path: Path) -> None:
    genres, _named, rule = SHAPES[shape]
    book = asked(folder(tmp_path, shape), rule)
    book.cells.append(nbformat.v4.new_code_cell("print(aim, probes.classes, list(desk.player.sounds))"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "1"))
        patch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
        client = NotebookClient(
            book, timeout=300, kernel_name="python3", resources={"metadata": {"path": FOLDER}}
        )
        client.execute()  # an error in a cell raises here
    last = "".join(out.text for out in book.cells[-1].outputs)
    aim = sorted(genres)[1]
    assert last.startswith(f"{aim} {tuple(sorted(genres))}") and "unsteered" in last
    told = [str(out) for cell in book.cells if cell.cell_type == "code" for out in cell.outputs]
    assert sum("No answer yet." in one for one in told) == 2
    assert sum("What you see:" in one for one in told) == 4


@pytest.mark.long  # half a minute of sound goes through the codec of a real checkpoint's shape
def test_the_real_checkpoint_notebook_runs_on_a_true_shape(tmp_path: Path) -> None:
    model = save_true_shape(tmp_path / "musicgen", "shallow")
    book = nbformat.read(FOLDER / "10_real_musicgen.ipynb", as_version=4)
    (settings,) = (cell for cell in book.cells if cell.source.startswith("MODEL = "))
    settings.source = f"MODEL = {str(model)!r}\nFOLDER = None"
    book.cells.append(
        nbformat.v4.new_code_cell("print(model.d_model, list(chart.doses['by']), chart.folder)")
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "1"))
        patch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
        patch.setenv("WORKBENCH_OUT", str(tmp_path / "out"))
        patch.setenv("WORKBENCH_PER_GENRE", "5")
        patch.setenv("WORKBENCH_SECONDS", "1")
        client = NotebookClient(
            book, timeout=500, kernel_name="python3", resources={"metadata": {"path": FOLDER}}
        )
        client.execute()  # an error in a cell raises here
    shutil.rmtree(model)
    last = "".join(out.text for out in book.cells[-1].outputs)
    assert last.startswith("1024 ['breaking dose', 'breaking dose']")
    told = [str(out) for cell in book.cells if cell.cell_type == "code" for out in cell.outputs]
    assert sum("No answer yet." in one for one in told) == 2
    assert any("Nobody has listened" in one for one in told)
