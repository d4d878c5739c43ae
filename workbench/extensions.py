"""Extensions: Python that registers an operation, a judge or a probe method of somebody's own.

A file registers with `register_operation`, `register_judge` or `register_probe_method`; CONTRIBUTING.md has
an example of each. In a notebook `import` is enough. For the command line name the file (`--extension FILE`),
or install a package with an entry point in the group `workbench.extensions`, which `demo`, `probe` and
`steer` load.
"""

from __future__ import annotations

import importlib.util
import sys
from importlib.metadata import entry_points
from pathlib import Path

from workbench.errors import WorkbenchError, reason

GROUP = "workbench.extensions"


def load_extension(path: Path | str) -> None:
    """Run a file that registers something; the same file is run once.

    Args:
        path: A Python file. It is run with all rights of this process, like everything that is imported.

    Raises:
        WorkbenchError: When there is no such file, or it raises.
    """
    path = Path(path).expanduser().resolve()
    name = f"workbench_extension_{path.stem}_{abs(hash(path)):x}"
    if name in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise WorkbenchError(
            f"The extension {path} was asked for", "there is no such Python file", "Check the path"
        )
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        raise WorkbenchError(
            f"The extension {path} was asked for", f"it failed ({reason(error)})", "Mend it"
        ) from error


def load_installed_extensions() -> None:
    """Load every installed package that has an entry point in the group `workbench.extensions`.

    Raises:
        WorkbenchError: When one of them cannot be loaded.
    """
    for entry in entry_points(group=GROUP):
        try:
            entry.load()
        except Exception as error:
            found = f"it failed ({reason(error)})"
            raise WorkbenchError(
                f"The extension {entry.name} is installed", found, "Mend or remove it"
            ) from error
