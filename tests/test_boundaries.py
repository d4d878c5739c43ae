"""A package imports only from packages before it, nothing in a circle, heavy libraries where they belong."""

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

PACKAGES = (
    "errors", "extensions", "files", "stats", "sound", "activations", "model", "steering", "probing",
    "generation", "evidence", "show", "datasets", "cli",
)  # fmt: skip
FIGURES = "workbench.show.plots."  # a value's `plot` may import its figure, as long as there is no circle

# library -> where it may be imported: packages, or module paths without suffix
ALLOWED = {
    "nnsight": ("model", "generation", "evidence/causal"),
    "transformers": ("model", "evidence/judges_hub"),
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
    package = one.module.split("/")[0]
    if parts[0] != "workbench" or package == "__init__" or (one.lazy and one.name.startswith(FIGURES)):
        return None
    if len(parts) == 1:
        return None if package == "cli" else "imports the whole of workbench"  # the last is above all others
    if parts[1] not in PACKAGES:
        return f"imports workbench.{parts[1]}, which is no package of it"
    if PACKAGES.index(parts[1]) > PACKAGES.index(package):
        return f"{package} imports {parts[1]}, a later package"
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
def test_a_package_imports_only_from_packages_before_it(path: Path) -> None:
    module = path.relative_to(PACKAGE).with_suffix("").as_posix()
    assert faults(path.read_text(encoding="utf-8"), module) == []


def test_every_module_stands_in_a_package() -> None:
    tops = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in MODULES}
    assert tops - {"__init__"} <= set(PACKAGES)


def edges(sources: dict[str, str]) -> dict[str, set[str]]:
    """Return which modules each module imports, lazily or not; what only annotations need is left out.

    Args:
        sources: module path without suffix -> its text.
    """
    names = {"workbench." + path.replace("/", ".").removesuffix(".__init__"): path for path in sources}
    found: dict[str, set[str]] = {}
    for path, text in sources.items():
        asked = set(_each_name(ast.parse(text), ["workbench", *path.split("/")][:-1]))
        hits = {names.get(name) or names.get(name.rpartition(".")[0]) for name in asked}
        found[path] = {hit for hit in hits if hit} - {path}
    return found


def _each_name(tree: ast.AST, package: list[str]) -> Iterator[str]:
    """Yield the full name of everything that is imported, also by `import_module`."""
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{origin}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module") and node.args:
            yield str(getattr(node.args[0], "value", ""))


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Return the modules that stand on circles of imports, and those that need them: what no order loads."""
    left = {path: set(targets) for path, targets in graph.items()}
    while ready := [path for path, targets in left.items() if not targets & left.keys()]:
        for path in ready:
            del left[path]
    return sorted(left)


def test_there_is_no_circle_of_imports_not_even_a_lazy_one() -> None:
    sources = {
        path.relative_to(PACKAGE).with_suffix("").as_posix(): path.read_text(encoding="utf-8")
        for path in MODULES
    }
    assert circle(edges(sources)) == []


@pytest.mark.parametrize(
    "back",
    [
        "from workbench.a import x",
        "from .a import x",
        "from . import a",
        "def f():\n    from workbench.a import x",
        "def f():\n    return import_module('workbench.a')",
        "import workbench.a",
    ],
)
def test_a_circle_is_seen_in_every_guise(back: str) -> None:
    assert circle(edges({"a": "from workbench.b import y", "b": back})) == ["a", "b"]


def test_what_only_annotations_need_closes_no_circle() -> None:
    annotated = "if TYPE_CHECKING:\n    from workbench.a import x"
    assert circle(edges({"a": "from workbench.b import y", "b": annotated})) == []


@pytest.mark.parametrize(
    ("source", "module", "told"),
    [
        ("from workbench.model import load", "sound/clip", "sound imports model, a later package"),
        ("import workbench.show.page", "probing/fit", "probing imports show"),
        ("from ..probing import fit", "steering/plan", "steering imports probing"),
        ("from workbench import probing", "steering/plan", "steering imports probing"),
        ("def f():\n    from workbench.cli import main", "show/page", "show imports cli"),
        (
            "if TYPE_CHECKING:\n    from workbench.probing import Probe",
            "steering/plan",
            "steering imports probing",
        ),
        ("import workbench as wb", "sound/clip", "whole of workbench"),
        ("from workbench.extras import x", "cli", "no package"),
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
