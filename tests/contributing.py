"""The examples of CONTRIBUTING as files, so that what a stranger reads there is what the tests run."""

from __future__ import annotations

import tempfile
from pathlib import Path

TEXT = (Path(__file__).resolve().parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")


def example_file(title: str) -> Path:
    """Return a new file with the code below the heading `### title`."""
    code = TEXT.split(f"### {title}\n")[1].split("```python\n")[1].split("```")[0]
    file = Path(tempfile.mkdtemp()) / f"{title.split()[-1]}.py"
    file.write_text(code, encoding="utf-8")
    return file
