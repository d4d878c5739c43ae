"""Extensions: Python that registers an operation, a judge or a probe method of somebody's own.

CONTRIBUTING.md has an example of each. In a notebook `import` is enough; the command line takes
`--extension FILE` and loads packages with an entry point in the group `workbench.extensions`.
"""

from __future__ import annotations

import importlib.util
import sys
from importlib.metadata import entry_points
from pathlib import Path

from workbench.errors import WorkbenchError, reason

GROUP = "workbench.extensions"


def load_extension(path: Path | str) -> None:
    """Run a Python file, once, with all rights of this process; WorkbenchError where it fails."""
    path = Path(path).expanduser().resolve()
    asked = f"The extension {path} was asked for"
    name = f"workbench_extension_{path.stem}_{abs(hash(path)):x}"
    if name in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise WorkbenchError(asked, "there is no such Python file", "Check the path")
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        raise WorkbenchError(asked, f"it failed ({reason(error)})", "Mend it") from error


def load_installed_extensions() -> None:
    """Load every installed package with such an entry point; WorkbenchError where one of them fails."""
    for entry in entry_points(group=GROUP):
        try:
            entry.load()
        except Exception as error:
            asked, found = f"The extension {entry.name} is installed", f"it failed ({reason(error)})"
            raise WorkbenchError(asked, found, "Mend or remove it") from error
