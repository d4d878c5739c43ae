"""Copies of the notebooks to write in, so that a clone stays clean, beside the pages that they link to."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from itertools import chain, count
from pathlib import Path

from workbench.files import builtin_path, write_atomically

HOME = Path("~/musicgen-workbench")  # of the copies where there is no clone
MINE = "my_notebooks"  # in a clone, beside its notebooks: git ignores it, and links to docs and data hold
PAGES = ("docs/*.md", "BENCHMARKS.md", *(f"data/embedded/*.{kind}" for kind in ("md", "png", "svg")))
_RECORD = ".copied.json"  # file -> digest of what was copied there, by the file that was copied


def copied_notebooks(folder: Path | None = None) -> Path:
    """Return where the user's notebooks lie: MINE in the clone, or `folder` (default: HOME) / notebooks.

    What is missing there is copied; without the clone around them, also the pages that notebooks link to.
    A copy that was changed is kept: a later version of it is put beside it, and that is printed.
    """
    shipped = builtin_path()
    clone = (shipped / "pyproject.toml").exists() and os.access(shipped, os.W_OK)
    root = (HOME if folder is None else folder).expanduser().resolve()
    if clone and (folder is None or root == shipped):
        root, mine, pages = shipped, MINE, []
    else:
        mine, pages = "notebooks", [page for kind in PAGES for page in sorted(shipped.glob(kind))]
    files = {page.relative_to(shipped).as_posix(): page for page in pages}
    files |= {f"{mine}/{book.name}": book for book in sorted((shipped / "notebooks").glob("*.ipynb"))}
    _copy(files, root, root / mine / _RECORD)
    return root / mine


def _copy(files: Mapping[str, Path], root: Path, record: Path) -> None:
    """Copy files to their places below `root`, each version once, over nothing that was changed."""
    copied: dict[str, dict[str, str]] = {}
    with suppress(OSError, ValueError):  # none yet, or damaged: all that is there then counts as changed
        copied = json.loads(record.read_bytes())
    before = json.dumps(copied)
    for name, source in files.items():
        data = source.read_bytes()
        digest, versions = hashlib.sha256(data).hexdigest(), copied.setdefault(name, {})
        if (root / name).exists() and digest in versions.values():
            continue
        stem, _, suffix = name.rpartition(".")
        beside = (f"{stem}-new-{number}.{suffix}" for number in count(2))
        places = chain((name, f"{stem}-new.{suffix}"), beside)
        place = next(one for one in places if _is_free(root / one, {digest, versions.get(one, "")}))
        if place != name:
            print(f"You have changed {root / name}: it is kept. Its new version is {root / place}.")
        write_atomically(root / place, data)
        versions[place] = digest
    if json.dumps(copied) != before:
        write_atomically(record, json.dumps(copied, indent=1).encode())


def _is_free(place: Path, digests: set[str]) -> bool:
    """Whether nothing is there, or nothing but what was copied."""
    return not place.exists() or hashlib.sha256(place.read_bytes()).hexdigest() in digests
