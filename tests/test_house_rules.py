"""The house rules that a machine can check. Each check is shown to fail on a planted breach."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
RECIPE = ROOT / "data" / "embedded" / "recipe"
MODULES = sorted([*(ROOT / "workbench").rglob("*.py"), *RECIPE.rglob("*.py")])
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

MODULE_LINES, FUNCTION_LINES, PARAMETERS = 600, 45, 5
CODE_CELLS, CELL_LINES, CELL_FUNCTION_LINES = 12, 8, 5
VAGUE = ("util", "utils", "helper", "helpers", "manager", "managers", "misc", "common")
UNSAFE_MODULES = ("pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal")
TEXT = (".py", ".md", ".ipynb", ".toml", ".yml", ".yaml", ".json", ".js", ".css", ".cfg", ".txt", ".sh", "")
TEXT_FOLDERS = ("workbench", "tests", "notebooks", "docs", ".ci", "data")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def breaches(source: str, name: str = "module") -> list[str]:
    """Return all breaches of the rules in the source of one module."""
    tree = ast.parse(source)
    found = [*_module(source, tree, name), *_unsafe(tree)]
    for owner, node in _definitions(tree):
        found += _columns(node)
        if isinstance(node, ast.ClassDef):
            found += _class(node)
        else:
            found += _function(owner, node)
    return found


def _module(source: str, tree: ast.Module, name: str) -> Iterator[str]:
    if len(source.splitlines()) > MODULE_LINES:
        yield f"{len(source.splitlines())} lines, more than {MODULE_LINES}"
    if set(name.lower().split("_")) & set(VAGUE):
        yield f"the name {name} says nothing"
    if not ast.get_docstring(tree):
        yield "no module docstring"


def _columns(node: ast.ClassDef | Function) -> Iterator[str]:
    """Yield a docstring that lists its arguments in columns instead of under `Args:`."""
    if re.search(r"^[a-z_][a-z_, ]{0,20}  +[^ ]", ast.get_docstring(node) or "", re.MULTILINE):
        yield f"the docstring of {node.name} is not in Google's style"


def _class(node: ast.ClassDef) -> Iterator[str]:
    if re.search("Manager|Helper|Util", node.name):
        yield f"the class name {node.name} says nothing"
    if not node.name.startswith("_") and not ast.get_docstring(node):
        yield f"class {node.name} has no docstring"


def _function(owner: str | None, node: Function) -> Iterator[str]:
    """Yield breaches of a function; `owner` is its class, None in a module, "" inside a function."""
    lines = _lines(node)
    if lines > FUNCTION_LINES:
        yield f"{node.name} has {lines} lines, more than {FUNCTION_LINES}"
    positional = [*node.args.posonlyargs, *node.args.args]
    decorators = {getattr(one, "id", getattr(one, "attr", "")) for one in node.decorator_list}
    bound = bool(owner) and "staticmethod" not in decorators
    if len(positional) - bound > PARAMETERS:
        yield f"{node.name} takes {len(positional) - bound} positional parameters, more than {PARAMETERS}"
    public = owner != "" and not node.name.startswith("_") and not (owner or "").startswith("_")
    if public and not ast.get_docstring(node) and not decorators & {"overload", "setter"}:
        yield f"{node.name} has no docstring"


def _lines(node: Function) -> int:
    """Return the length of a function without its docstring: being explained must not count as long."""
    explained = node.body[0] if ast.get_docstring(node) else None
    docstring = (explained.end_lineno or 0) - explained.lineno + 1 if explained else 0
    return (node.end_lineno or node.lineno) - node.lineno + 1 - docstring


def _definitions(tree: ast.AST, owner: str | None = None) -> Iterator[tuple[str | None, Any]]:
    """Yield (class, function or class), "" standing for inside a function."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef):
            yield owner, node
            yield from _definitions(node, node.name if owner != "" else "")
        elif isinstance(node, Function):
            yield owner, node
            yield from _definitions(node, "")
        else:
            yield from _definitions(node, owner)


def _unsafe(tree: ast.AST) -> Iterator[str]:
    """Yield ways to run code from a data file, or to trust one."""
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
            if node.module == "joblib" and {alias.name for alias in node.names} & {"dump", "load"}:
                names = ["pickle"]  # its threads are welcome, its files are pickles
        yield from (f"imports {name}" for name in names if name.split(".")[0] in UNSAFE_MODULES)
        if not isinstance(node, ast.Call):
            continue
        call = ast.unparse(node.func)
        options = {word.arg: ast.unparse(word.value) for word in node.keywords if word.arg}
        if call == "torch.load" and options.get("weights_only") != "True":
            yield "torch.load without weights_only=True"
        if options.get("allow_pickle", "False") != "False":
            yield f"{call} with allow_pickle"
        if options.get("trust_remote_code", "False") != "False":
            yield f"{call} with trust_remote_code"


def notebook_breaches(notebook: dict[str, Any]) -> list[str]:
    """Return all breaches of the rules in a notebook."""
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    found = [] if len(cells) <= CODE_CELLS else [f"{len(cells)} code cells, more than {CODE_CELLS}"]
    for number, cell in enumerate(cells, start=1):
        source = "".join(cell["source"])
        lines = [line for line in source.splitlines() if line.strip()]
        if cell["outputs"] or cell["execution_count"] is not None:
            found.append(f"code cell {number} is committed with output")
        if len(lines) > CELL_LINES:
            found.append(f"code cell {number} has {len(lines)} lines, more than {CELL_LINES}")
        plain = "\n".join(line for line in source.splitlines() if not line.lstrip().startswith(("%", "!")))
        functions = [node for node in ast.walk(ast.parse(plain)) if isinstance(node, Function)]
        found += [
            f"{node.name} in code cell {number} is longer than {CELL_FUNCTION_LINES} lines"
            for node in functions
            if (node.end_lineno or 0) - node.lineno + 1 > CELL_FUNCTION_LINES
        ]
    return found


# folder names apart from their slashes, so that this file does not break its own rule
_FOLDERS = ["root/", "home/[a-z]", "Users/[A-Za-z]", "work/", "tmp/[a-z]", "opt/(?!homebrew|conda)", "mnt/"]
MACHINE_PATH = re.compile(rf"(?<![\w.~/-])/(?:{'|'.join(_FOLDERS)})|[A-Z]:\\+Users")


def unstated(source: str) -> list[int]:
    """Return the lines of a test module that compare floats without saying how close they must lie."""
    comparisons = ("allclose", "assert_allclose", "isclose", "assert_close")
    stated = {None, "rtol", "atol", "rel_tol", "abs_tol"}  # None: ** of a tolerance with a name
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [
        call.lineno
        for call in calls
        if ast.unparse(call.func).rpartition(".")[2] in comparisons
        and not stated & {word.arg for word in call.keywords}
    ]


def machine_paths(text: str) -> list[str]:
    """Return the lines that name a path of somebody's machine."""
    return [line.strip()[:100] for line in text.splitlines() if MACHINE_PATH.search(line)]


def text_files() -> list[Path]:
    """Return the files of the repository that people write."""
    top = [path for path in ROOT.iterdir() if path.is_file() and path.stat().st_size < 1e6]
    deep = [path for folder in TEXT_FOLDERS for path in (ROOT / folder).rglob("*")]
    made = {"__pycache__", ".ipynb_checkpoints", ".git"}
    files = [path for path in [*top, *deep] if path.is_file() and path.suffix in TEXT]
    return sorted(path for path in files if not made & set(path.parts))


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_a_module_keeps_the_house_rules(path: Path) -> None:
    name = path.parent.name if path.stem == "__init__" else path.stem
    assert breaches(path.read_text(encoding="utf-8"), name) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=_name)
def test_a_notebook_is_a_short_story_without_outputs(path: Path) -> None:
    assert notebook_breaches(json.loads(path.read_text(encoding="utf-8"))) == []


def test_no_file_names_a_path_of_somebodys_machine() -> None:
    texts = {_name(path): path.read_text(encoding="utf-8", errors="replace") for path in text_files()}
    found = {name: machine_paths(text) for name, text in texts.items()}
    assert {name: lines for name, lines in found.items() if lines} == {}


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("*.py")), ids=_name)
def test_tests_say_how_close_floats_must_lie(path: Path) -> None:
    assert unstated(path.read_text()) == [], "see tests/tolerances.py"


def test_names_of_tests_are_short_and_no_test_imports_another() -> None:
    for path in (ROOT / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                assert len(node.name) <= 70, f"{path.name}: {node.name}"
            if isinstance(node, ast.ImportFrom):
                # every folder of tests may have a conftest: which of them is found depends on the order
                no_source = ("test_", "conftest")
                assert not (node.module or "").startswith(no_source), f"{path.name}: {node.module}"


def test_a_comparison_without_a_tolerance_is_seen() -> None:
    told = (
        "np.allclose(a, b)\ntorch.allclose(a, b, atol=1e-6)\nassert_allclose(a, b, **SUMMED)\nisclose(a, b)"
    )
    assert unstated(told) == [1, 4]


def test_there_is_something_to_check() -> None:
    assert len(MODULES) > 20
    assert ROOT / "README.md" in text_files()
    assert Path(__file__) in text_files()


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("x = 1\n" * 601, "601 lines"),
        ("def f():\n" + "    x = 1\n" * 45, "f has 46 lines"),
        ('def f():\n    """Text.\n\n    More.\n    """\n' + "    x = 1\n" * 45, "f has 46 lines"),
        ("class A:\n    def f(self):\n" + "        x = 1\n" * 45, "f has 46 lines"),
        ("def f(a, b, c, d, e, f): ...", "takes 6 positional"),
        ("class A:\n    def f(self, a, b, c, d, e, g): ...", "takes 6 positional"),
        ("class A:\n    @staticmethod\n    def f(a, b, c, d, e, g): ...", "takes 6 positional"),
        ("def f(): ...", "f has no docstring"),
        ("if True:\n    def f(): ...", "f has no docstring"),
        ("class A:\n    def f(self): ...", "f has no docstring"),
        ("class A: ...", "class A has no docstring"),
        ('def f(x):\n    """Do it.\n\n    x  a number\n    """', "not in Google's style"),
        ("class StateManager: ...", "StateManager says nothing"),
        ("x = 1", "no module docstring"),
        ("import pickle", "imports pickle"),
        ("from joblib import dump", "imports pickle"),
        ("def f():\n    import cloudpickle", "imports cloudpickle"),
        ("torch.load(path)", "torch.load without"),
        ("torch.load(path, weights_only=False)", "torch.load without"),
        ("np.load(path, allow_pickle=True)", "np.load with allow_pickle"),
        ("AutoModel.from_pretrained(x, trust_remote_code=True)", "with trust_remote_code"),
    ],
)
def test_a_breach_in_a_module_is_seen(source: str, told: str) -> None:
    assert any(told in breach for breach in breaches(source))


@pytest.mark.parametrize("name", ["utils", "audio_helpers", "manager"])
def test_a_name_that_says_nothing_is_seen(name: str) -> None:
    assert breaches('"""Things."""', name) == [f"the name {name} says nothing"]


def test_what_keeps_the_rules_passes() -> None:
    source = '''"""A module."""

class Sound:
    """A sound."""

    def level(self, a, b, c, d, e, *, f, g):
        """Return the level."""
        def inner(): ...
        return torch.load(a, weights_only=True)

    def _private(self): ...

class _Hidden:
    def f(self): ...
'''
    assert "class _Hidden has no docstring" not in breaches(source)
    assert breaches(source) == []


def _notebook(*sources: str, **cell: Any) -> dict[str, Any]:
    made = {"cell_type": "code", "outputs": [], "execution_count": None, **cell}
    return {"cells": [{**made, "source": [source]} for source in sources]}


def test_breaches_in_a_notebook_are_seen() -> None:
    assert notebook_breaches(_notebook(*["x = 1"] * 12)) == []
    assert "13 code cells" in notebook_breaches(_notebook(*["x = 1"] * 13))[0]
    assert "9 lines" in notebook_breaches(_notebook("x = 1\n" * 9))[0]
    assert "with output" in notebook_breaches(_notebook("1", outputs=[{"data": {}}]))[0]
    assert "with output" in notebook_breaches(_notebook("1", execution_count=3))[0]
    assert "longer than 5" in notebook_breaches(_notebook("def f():\n" + "    x = 1\n" * 5))[0]
    assert notebook_breaches(_notebook("%matplotlib inline\n!ls\nx = 1")) == []


@pytest.mark.parametrize(
    "parts",
    [
        ("", "root", "x"),
        ("", "home", "ana", "x"),
        ("", "Users", "ana"),
        ("", "work", "main"),
        ("", "tmp", "x"),
    ],
)
def test_a_machine_path_is_seen(parts: tuple[str, ...]) -> None:
    assert machine_paths(f'open("{"/".join(parts)}")')
    assert machine_paths(f"see {'/'.join(parts)}")


@pytest.mark.parametrize(
    "text",
    ["https://example.org/home/ana", "docs/work/x", "~/work/x", "/usr/share/sounds", "a/tmp/x", "homework/x"],
)
def test_other_paths_are_no_machine_paths(text: str) -> None:
    assert machine_paths(text) == []
