"""The laws on the lowest and on the highest dependencies that pyproject allows: `make verify-dependencies`.

Each set is installed into an environment of its own, with the torch that the Makefile chooses, so that what
is compared is everything else. A set that the index does not have is reported as not run; laws that fail are
a failure.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SETS = {"lowest": ["--resolution", "lowest-direct"], "highest": ["--upgrade"]}
LAWS = (
    "generation/test_engine_laws",
    "generation/test_melody_laws",
    "generation/test_generate",
    "model/test_model",
    "model/test_checkpoints",
    "model/test_capture",
)
TESTS = ("pytest>=8.3,<9.2", "pytest-timeout>=2.3", "pytest-xdist>=3.7")
TOLD = (
    "numpy",
    "pandas",
    "scikit-learn",
    "scipy",
    "torch",
    "transformers",
    "nnsight",
    "zarr",
    "xarray",
    "dask",
)


def uv(*words: str) -> subprocess.CompletedProcess[str]:
    """What the uv beside this interpreter says."""
    program = Path(sys.executable).with_name("uv")
    return subprocess.run([program, *words], capture_output=True, text=True, cwd=ROOT)


def tell(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def install(folder: Path, how: list[str], torch: list[str]) -> str:
    """Make an environment with a set in it; what was lacking, "" if nothing was."""
    python = str(folder / "bin" / "python")
    made = uv("venv", "--quiet", "--clear", "--python", sys.executable, str(folder))
    first = made if made.returncode else uv("pip", "install", "--quiet", "--python", python, *torch)
    if first.returncode:
        return first.stderr.strip()
    pinned = folder / "torch.txt"  # lowest would else mean the lowest build of it, for another machine
    frozen = uv("pip", "freeze", "--python", python).stdout.splitlines()
    pinned.write_text("\n".join(line for line in frozen if line.startswith("torch==")))
    wanted = ["--constraint", str(pinned), *how, "-e", ".", *TESTS]
    return uv("pip", "install", "--quiet", "--python", python, *wanted).stderr.strip()


def verify(name: str, torch: list[str]) -> str:
    """Run the laws on one set: "passed", "failed" or "not run"."""
    folder = ROOT / "build" / "dependencies" / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    lacking = install(folder, SETS[name], torch)
    python = folder / "bin" / "python"
    ready = (
        python.exists()
        and not subprocess.run(
            [python, "-c", "import workbench, pytest_timeout"], cwd=ROOT, stderr=subprocess.DEVNULL
        ).returncode
    )
    if not ready:
        tell(f"{name}: not run, for the index lacks it:\n{lacking[-2000:]}")
        return "not run"
    frozen = uv("pip", "freeze", "--python", str(python)).stdout.splitlines()
    tell(f"{name}: {', '.join(line for line in frozen if line.split('==')[0] in TOLD)}")
    laws = [f"tests/{law}.py" for law in LAWS]
    command = [python, "-m", "pytest", "-m", "not long", "-p", "no:cacheprovider", *laws]
    return "failed" if subprocess.run(command, cwd=ROOT).returncode else "passed"


def main(torch: list[str]) -> int:
    """Verify both sets; 1 when laws failed."""
    results = {name: verify(name, torch) for name in SETS}
    tell("; ".join(f"{name} allowed dependencies: {result}" for name, result in results.items()))
    return int("failed" in results.values())


if __name__ == "__main__":
    sys.exit(main(os.environ.get("TORCH", "torch").split()))
