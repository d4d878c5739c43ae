"""A small clone under git: notebooks and the pages that they link to, without the model and the code."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from workbench.cli.copies import PAGES

ROOT = Path(__file__).parents[1]


def small_clone(place: Path) -> Path:
    """Return a fresh repository of what a user of the notebooks opens and changes."""
    kinds = (*PAGES, "notebooks/*.ipynb", ".gitignore", "pyproject.toml")
    for file in (file for kind in kinds for file in ROOT.glob(kind)):
        target = place / file.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    git(place, "init", "--quiet")
    git(place, "add", "--all")
    git(place, "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "--quiet", "-m", "all")
    return place.resolve()


def git(place: Path, *words: str) -> str:
    """Return what git says there."""
    done = subprocess.run(["git", *words], cwd=place, check=True, capture_output=True, text=True)
    return done.stdout
