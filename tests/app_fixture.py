"""The app in a process of its own, over a folder of notebooks."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import nbformat
import psutil
from browser import until

SERVE = """
import sys
from pathlib import Path
from workbench.cli import app
app.GRACE_S = float(sys.argv[2])
app.serve(Path(sys.argv[1]), port=0, browser=False)
"""


def write_notebook(path: Path, *sources: str, title: str = "# Does it play?") -> None:
    """Write a notebook: a title unless it is empty, then these cells."""
    cells = [nbformat.v4.new_markdown_cell(title)] if title else []
    cells += [nbformat.v4.new_code_cell(source.strip()) for source in sources]
    meta = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=meta), path)


class App:
    """A server that was started; `base` is its address, `address` the one that it printed."""

    def __init__(self, root: Path, scratch: Path, *, grace_s: float = 60) -> None:
        self.root, self.log = root, scratch / "app.log"
        root_of_code = str(Path(__file__).parents[1])
        paths = os.pathsep.join([root_of_code, os.environ.get("PYTHONPATH", "")])
        environment = {name: value for name, value in os.environ.items() if name != "JUPYTER_TOKEN"}
        environment |= {"PYTHONPATH": paths, "WORKBENCH_OUT": str(scratch / "out"), "OMP_NUM_THREADS": "1"}
        with self.log.open("w") as log:
            command = [sys.executable, "-c", SERVE, str(root), str(grace_s)]
            self.server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        self.address = until(self._told, seconds=180, what="the app")
        self.base, _, self.token = self.address.partition("/?token=")

    def _told(self) -> str:
        if self.server.poll() is not None:
            raise AssertionError(f"the app ended:\n{self.log.read_text()[-2000:]}")
        found = [word for word in self.log.read_text().split() if word.startswith("http")]
        return found[0] if found else ""

    def status(self, path: str, *, token: bool = False, method: str = "GET", **headers: str) -> int:
        """Return how a request is answered."""
        asked = urllib.request.Request(self.base + path, headers=headers, method=method)
        if token:
            asked.add_header("Authorization", f"token {self.token}")
        try:
            with urllib.request.urlopen(asked, timeout=60) as answer:
                answer.read()
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    @property
    def kernels(self) -> list[str]:
        """The kernels that run, by the names of their connection files."""
        lines: list[list[str]] = []
        for child in psutil.Process(self.server.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):  # ended just now, or a zombie
                lines.append(child.cmdline())
        return [Path(line[-1]).stem.removeprefix("kernel-") for line in lines if "ipykernel_launcher" in line]

    def stop(self) -> None:
        """End the server and with it its kernels."""
        self.server.terminate()
        try:
            self.server.wait(20)
        except subprocess.TimeoutExpired:
            self.server.kill()
