"""The package without a clone: `make verify-wheel`.

Builds the wheel and the source archive, installs each of them and a `git+file://` address into an empty
environment, and there, in an empty folder, copies the notebooks and runs the doctor and the demo.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UV = Path(sys.executable).with_name("uv")
LOOK = """
from pathlib import Path
import workbench as wb
from workbench.cli.copies import copied_notebooks
from workbench.files import builtin_path
assert "site-packages" in wb.__file__ and "site-packages" in str(builtin_path("data")), wb.__file__
copied = copied_notebooks(Path("mine"))
assert (copied / "../docs/glossary.md").is_file() and (copied / "../data/embedded/MODEL_CARD.md").is_file()
assert len(list(copied.glob("*.ipynb"))) == len(list(builtin_path("notebooks").glob("*.ipynb"))) > 8
(copied / "0_quickstart.ipynb").write_text("mine")
assert (copied_notebooks(Path("mine")) / "0_quickstart.ipynb").read_text() == "mine", "never overwritten"
model, songs = wb.load("embedded"), wb.dataset("embedded")
assert wb.load_judge().classes and len(songs) > 1000
assert wb.generate(model, "a tune", seconds=1, progress=False).seconds == 1
"""


def run(*words: str | Path, cwd: Path = ROOT, **more: str) -> None:
    """Run a program; stop with its words when it fails."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(word) for word in words], cwd=cwd, env={**kept, **more}, text=True, capture_output=True
    )
    if done.returncode:
        sys.exit(f"{' '.join(map(str, words))}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")


def check(what: str, place: Path, *, demo: bool) -> None:
    """Install `what` into an empty environment in `place`, and use it from an empty folder."""
    python, empty = place / "env" / "bin" / "python", place / "empty"
    empty.mkdir(parents=True)
    run(UV, "venv", "--quiet", "--python", sys.executable, place / "env")
    run(UV, "pip", "install", "--quiet", "--python", python, *os.environ.get("TORCH", "torch").split())
    run(UV, "pip", "install", "--quiet", "--python", python, what)
    private = {"XDG_CACHE_HOME": str(place / "cache"), "HOME": str(place)}
    run(python, "-c", LOOK, cwd=empty, **private)
    run(python.with_name("workbench"), "doctor", cwd=empty, **private)
    if demo:
        run(python.with_name("workbench"), "demo", "--clips", "1", cwd=empty, **private)
        assert (empty / "out" / "demo" / "index.html").is_file()
    shutil.rmtree(place)


def main() -> None:
    """Check the wheel, the source archive and the repository's address."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        run(sys.executable, "-m", "hatchling", "build", "-d", place / "dist")
        (wheel,), (archive,) = (list((place / "dist").glob(kind)) for kind in ("*.whl", "*.tar.gz"))
        check(str(wheel), place / "wheel", demo=True)
        check(str(archive), place / "archive", demo=False)
        check(f"git+file://{ROOT}", place / "address", demo=False)
    sys.stdout.write("The wheel, the source archive and the address of the repository install and run.\n")


if __name__ == "__main__":
    main()
