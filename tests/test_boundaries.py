"""A room imports only from rooms before it, and heavy libraries stay in the rooms that need them."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "workbench"
MODULES = sorted(PACKAGE.rglob("*.py"))

ROOMS = (
    "errors", "files", "sound", "activations", "model", "steering", "probing", "generation", "evidence",
    "show", "datasets", "cli",
)  # fmt: skip

# library -> where it may be imported: rooms, or module paths without suffix
ALLOWED = {
    "nnsight": ("model", "generation", "evidence/causal"),
    "transformers": ("model", "evidence/judge"),
    "plotly": ("show/plots",),
    "ipywidgets": ("show/widgets",),
    "anywidget": ("show/widgets",),
}
SLOW = ("umap", "librosa")  # seconds each: only inside functions


@dataclass(frozen=True)
class Import:
    """One import: what is imported, in which module, on which line, and whether it runs at import."""

    name: str
    module: str
    line: int
    lazy: bool


def imports(source: str, module: str) -> Iterator[Import]:
    """Yield all imports of a module, relative ones made absolute; `module` is its path without suffix."""
    package = ["workbench", *module.split("/")][:-1]
    tree = ast.parse(source)
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        lazy = id(node) in inside
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, module, node.lineno, lazy)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            if origin == "workbench":
                for alias in node.names:
                    yield Import(f"workbench.{alias.name}", module, node.lineno, lazy)
            else:
                yield Import(origin, module, node.lineno, lazy)


def faults(source: str, module: str) -> list[str]:
    """Return what a module imports against the rules."""
    return [
        f"workbench/{module}.py:{one.line} {fault}"
        for one in imports(source, module)
        for fault in (_order(one), _library(one), _slow(one))
        if fault
    ]


def _order(one: Import) -> str | None:
    parts = one.name.split(".")
    room = one.module.split("/")[0]
    if parts[0] != "workbench" or room == "__init__":
        return None
    if len(parts) == 1:
        return None if room == "cli" else "imports the whole package"  # the last room stands over all others
    if parts[1] not in ROOMS:
        return f"imports workbench.{parts[1]}, which is no room"
    if ROOMS.index(parts[1]) > ROOMS.index(room):
        return f"{room} imports {parts[1]}, a later room"
    return None


def _library(one: Import) -> str | None:
    top = one.name.split(".")[0]
    allowed = ALLOWED.get(top)
    if allowed is None or any(one.module == place or one.module.startswith(f"{place}/") for place in allowed):
        return None
    return f"imports {top}, which belongs to {', '.join(allowed)}"


def _slow(one: Import) -> str | None:
    top = one.name.split(".")[0]
    return f"imports {top} at import time" if top in SLOW and not one.lazy else None


def _name(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").as_posix().removesuffix("/__init__")


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_a_room_imports_only_from_rooms_before_it(path: Path) -> None:
    module = path.relative_to(PACKAGE).with_suffix("").as_posix()
    assert faults(path.read_text(encoding="utf-8"), module) == []


def test_every_module_stands_in_a_room() -> None:
    tops = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in MODULES}
    assert tops - {"__init__"} <= set(ROOMS)


@pytest.mark.parametrize(
    ("source", "module", "told"),
    [
        ("from workbench.model import load", "sound/clip", "sound imports model, a later room"),
        ("import workbench.show.page", "probing/fit", "probing imports show"),
        ("from ..probing import fit", "steering/plan", "steering imports probing"),
        ("from workbench import probing", "steering/plan", "steering imports probing"),
        ("def f():\n    from workbench.cli import main", "show/page", "show imports cli"),
        (
            "if TYPE_CHECKING:\n    from workbench.probing import Probe",
            "steering/plan",
            "steering imports probing",
        ),
        ("import workbench as wb", "sound/clip", "whole package"),
        ("from workbench.extras import x", "cli", "no room"),
        ("import nnsight", "evidence/sweep", "imports nnsight"),
        ("from nnsight.intervention import envoy", "steering/operations", "imports nnsight"),
        ("import transformers", "generation/generate", "imports transformers"),
        ("import plotly.graph_objects as go", "show/page", "imports plotly"),
        ("def f():\n    import ipywidgets", "show/page", "imports ipywidgets"),
        ("import umap", "probing/projection", "umap at import time"),
        ("class A:\n    import librosa", "sound/clip", "librosa at import time"),
    ],
)
def test_the_guard_sees_each_breach(source: str, module: str, told: str) -> None:
    (fault,) = faults(source, module)
    assert told in fault


@pytest.mark.parametrize(
    ("source", "module"),
    [
        ("from workbench.sound import Clip\nfrom . import tokens", "model/load"),
        ("from nnsight import NNsight", "evidence/causal"),
        ("import plotly", "show/plots/sound"),
        ("def f():\n    import umap", "probing/projection"),
        ("from workbench.cli import main", "__init__"),
        ("def f():\n    import workbench as wb", "cli/commands"),
    ],
)
def test_the_guard_lets_pass_what_is_allowed(source: str, module: str) -> None:
    assert faults(source, module) == []


def test_importing_the_workbench_loads_nothing_slow() -> None:
    code = f"import sys, workbench; print([name for name in {SLOW!r} if name in sys.modules])"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert run.stdout.strip() == "[]"
