"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import uuid
from pathlib import Path


def write_atomically(path: Path | str, data: bytes) -> Path:
    """Write a file aside, flush it to the disk and move it into its place; return the path.

    A reader sees the old file or the new one, never a part. When the write fails, the old file stays as it
    was and nothing is left beside it.

    Args:
        path: The file to write; its folder is made if missing.
        data: What it will hold.

    Raises:
        OSError: When the folder cannot be written or the disk is full.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{uuid.uuid4().hex}.partial")
    try:
        with draft.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    return path
