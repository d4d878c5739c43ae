"""The walks of CONTRIBUTING lead, call by call, from a public function to the line that does the work."""

from __future__ import annotations

import ast
import re
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
STEP = re.compile(r"^\d+\. `(workbench/[\w/]+\.py):([\w.]+)`", re.MULTILINE)
MARKS = {
    "wb.generate": "# Here the vector enters the residual stream.",
    "wb.capture": "# Here the residual stream is stored.",
    "wb.fit_probes": "# Here the solver fits the probe.",
}


def walk(name: str) -> list[tuple[str, str]]:
    """Return the (file, function) steps below the heading of a public function."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = text.split(f"### `{name}`,")[1].split("\n## ")[0].split("\n### ")[0]
    return STEP.findall(section)


def function(file: str, name: str) -> tuple[ast.FunctionDef, str]:
    """Return the syntax tree and the text of `name` or `Class.name` in a file."""
    source = (ROOT / file).read_text(encoding="utf-8")
    node: ast.AST = ast.parse(source)
    for part in name.split("."):
        inside = [one for one in ast.walk(node) if isinstance(one, ast.FunctionDef | ast.ClassDef)]
        node = [one for one in inside if one.name == part][-1]  # overloads come first
    assert isinstance(node, ast.FunctionDef)
    return node, ast.get_source_segment(source, node) or ""


def called(node: ast.AST) -> set[str]:
    """Return the names that are called, or handed to `partial` or to a function that calls its argument."""
    calls = [one for one in ast.walk(node) if isinstance(one, ast.Call)]
    spoken = [target for call in calls for target in (call.func, *call.args)]
    return {getattr(one, "attr", getattr(one, "id", "")) for one in spoken}


@pytest.mark.parametrize("name", MARKS)
def test_each_function_of_a_walk_calls_the_next(name: str) -> None:
    steps = walk(name)
    assert steps[0][1] == name.removeprefix("wb.")
    for (file, one), (_, following) in pairwise(steps):
        node, _ = function(file, one)
        assert following.split(".")[-1] in called(node), f"{file}: {one} does not call {following}"


@pytest.mark.parametrize("name", MARKS)
def test_a_walk_is_short_and_ends_at_its_mark(name: str) -> None:
    steps = walk(name)
    assert 2 <= len(steps) <= 6 and len({file for file, _ in steps}) <= 6
    assert MARKS[name] in function(*steps[-1])[1]
    everywhere = [
        path for path in (ROOT / "workbench").rglob("*.py") if MARKS[name] in path.read_text("utf-8")
    ]
    assert everywhere == [ROOT / steps[-1][0]]
