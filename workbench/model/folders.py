"""Where models and caches lie on disk."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_path


def builtin_folder() -> Path:
    """The folder of the built-in model, beside the package in the repository."""
    return Path(__file__).resolve().parents[2] / "data" / "embedded" / "model"


def cache_folder(*parts: str) -> Path:
    """A folder for things that can be computed again; made if missing.

    The platform's user cache folder, or what the environment variable WORKBENCH_CACHE names.
    """
    named = os.environ.get("WORKBENCH_CACHE")
    root = Path(named).expanduser() if named else user_cache_path("musicgen-workbench", appauthor=False)
    folder = root.joinpath(*parts)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
