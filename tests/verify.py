"""The long checks, part by part: python tests/verify.py [part ...]; all parts where none is named.

A part is a list of steps. What passed on this very code is not run again, so that a part that was stopped
continues where it was; what passed, when, where and in how many minutes is written to docs/verified.md.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from golden import GOLDEN

ROOT = Path(__file__).resolve().parent.parent
DONE, TABLE = ROOT / "build" / "verify.json", ROOT / "docs" / "verified.md"
QUICK = ("-m", "pytest", "-m", "not long and not browser")
LONG = ("-m", "pytest", "-m", "long", "--timeout", "3600")
GOLDEN_TEST = "test_a_published_shape_is_loaded_read_steered_and_continued"
RECIPE = {"PYTHONPATH": "data/embedded"}
Step = tuple[dict[str, str], tuple[str, ...]]

PARTS: dict[str, dict[str, Step]] = {
    "processors": {
        "no vector units": ({"ATEN_CPU_CAPABILITY": "default"}, QUICK),
        "avx2": ({"ATEN_CPU_CAPABILITY": "avx2"}, QUICK),
        "1 thread": ({"WORKBENCH_TEST_THREADS": "1"}, QUICK),
        "4 threads": ({"WORKBENCH_TEST_THREADS": "4"}, QUICK),
    },
    "laws": {
        "diagnosis, 100 seeds": ({}, (*LONG, "tests/probing/test_diagnosis_laws.py")),
        "true shapes": ({}, (*LONG, "tests/model/test_true_shapes.py")),
        "live, ten minutes": ({}, (*LONG, "tests/generation/test_live.py")),
        "live in a browser": ({}, (*LONG, "tests/browser/test_browser_live.py")),
        "all others": ({}, (*LONG, f"--deselect=tests/model/test_golden_shapes.py::{GOLDEN_TEST}", *(
                       f"--ignore=tests/{name}.py" for name in ("probing/test_diagnosis_laws",
                       "model/test_true_shapes", "generation/test_live", "browser/test_browser_live")))),
    },
    "shapes": {
        name: ({}, (*LONG, "-n", "0", f"tests/model/test_golden_shapes.py::{GOLDEN_TEST}[{name}]"))
        for name in GOLDEN
    },
    "figures": {
        "built-in model": (RECIPE, ("-m", "recipe", "evaluate", "--quiet")),
        "steering engine": (RECIPE, ("-m", "recipe", "steering", "--quiet")),
    },
    "fuzz": {
        "20,000 cases": (
            {"WORKBENCH_FUZZ": "20000"},
            ("-m", "pytest", "tests/test_fuzz.py", "--timeout", "3600"),
        ),
    },
    "dependencies": {"lowest and highest": ({}, ("tests/dependencies.py",))},
    "wheel": {"wheel, archive, address": ({}, ("tests/wheel.py",))},
}  # fmt: skip


def code_digest() -> str:
    """Return a digest of all that a check depends on: package, tests, notebooks, weights, settings."""
    digest = hashlib.sha256()
    folders = ("workbench", "tests", "notebooks", "data/embedded")
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    for path in sorted([*paths, ROOT / "pyproject.toml"]):
        if (
            path.suffix in (".py", ".js", ".css", ".ipynb", ".toml", ".safetensors")
            and "out" not in path.parts
        ):
            digest.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def run(part: str, name: str, done: dict[str, Any]) -> bool:
    """Run a step unless it passed on this code; return whether it passed, and note it."""
    code, key = code_digest(), f"{part}: {name}"
    if done.get(key, {}).get("code") == code:
        print(f"{key}: passed on this code before, {done[key]['date']}", flush=True)  # noqa: T201
        return True
    print(f"{key} ...", flush=True)  # noqa: T201
    settings, command = PARTS[part][name]
    begin = time.monotonic()
    ended = subprocess.run([sys.executable, *command], cwd=ROOT, env={**os.environ, **settings}, check=False)
    if ended.returncode not in (0, 5):  # 5: pytest found no test of this kind
        print(f"{key}: failed", flush=True)  # noqa: T201
        return False
    done[key] = {
        "code": code,
        "date": datetime.now(UTC).date().isoformat(),
        "minutes": round((time.monotonic() - begin) / 60, 1),
        "machine": f"{platform.machine()}, {os.cpu_count()} threads",
    }
    DONE.parent.mkdir(parents=True, exist_ok=True)
    DONE.write_text(json.dumps(done, indent=1))
    TABLE.write_text(told(done), encoding="utf-8")
    return True


def told(done: dict[str, Any]) -> str:
    """Return what passed, and when, as Markdown."""
    rows = [
        f"| {key} | {one['date']} | {one['minutes']} | {one['machine']} | `{one['code']}` |"
        for key, one in sorted(done.items())
    ]
    head = ["# What `make verify` found", "", "| check passed | on | minutes | machine | code |"]
    return "\n".join([*head, "| --- | --- | --- | --- | --- |", *rows]) + "\n"


def main(parts: list[str]) -> int:
    """Run the parts; the answer is 0 where all their steps passed."""
    unknown = set(parts) - set(PARTS)
    if unknown:
        print(f"There is no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}.")  # noqa: T201
        return 2
    done = json.loads(DONE.read_text()) if DONE.exists() else {}
    passed = [run(part, name, done) for part in parts or PARTS for name in PARTS[part]]
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
