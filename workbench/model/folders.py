"""Where models and caches lie on disk.

A cache holds what can be computed again: that it cannot be written, or holds what nobody here wrote, is a
notice in one line and never an error.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from pathlib import Path

from platformdirs import user_cache_path

from workbench.files import write_atomically


def builtin_folder() -> Path:
    """The folder of the built-in model, beside the package in the repository."""
    return Path(__file__).resolve().parents[2] / "data" / "embedded" / "model"


def cache_folder(*parts: str) -> Path:
    """A folder for things that can be computed again; it is made by who first writes there.

    The platform's user cache folder, or what the environment variable WORKBENCH_CACHE names.
    """
    named = os.environ.get("WORKBENCH_CACHE")
    root = Path(named).expanduser() if named else user_cache_path("musicgen-workbench", appauthor=False)
    return root.joinpath(*parts)


def keep(path: Path, data: bytes) -> None:
    """Write a file of the cache whole, or give notice that nothing can be kept there."""
    try:
        write_atomically(path, data)
    except OSError as error:
        _say_unwritable(error)


def can_keep() -> bool:
    """Whether the cache can be written; gives notice where it cannot."""
    root = cache_folder()
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root):
            return True
    except OSError as error:
        _say_unwritable(error)
        return False


def say_damaged(path: Path, cause: object) -> None:
    """Give notice that something in the cache cannot be used and is made again."""
    told = " ".join(str(cause).split()) or type(cause).__name__
    warnings.warn(f"{path} cannot be used ({told}); it is made again.", stacklevel=3)


def _say_unwritable(error: OSError) -> None:
    warnings.warn(
        f"{cache_folder()} cannot be written ({error.strerror or error}): what belongs there is made anew. "
        "Name a folder that can be written in WORKBENCH_CACHE.",
        stacklevel=3,
    )
