"""One JupyterLab for all files of tests, a Chromium for each, and a bare page for each test of a widget."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Lab, Stage, browser, figures_that_stay


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as opened:
        yield opened


@pytest.fixture
def stage(chromium: Any) -> Iterator[Stage]:
    """A page on which nothing goes wrong, whose figures stay here, and that asks nobody."""
    page = chromium.new_page(viewport={"width": 900, "height": 1000})
    made = Stage(page)
    yield made
    figures_that_stay(page)
    page.close()
    assert made.errors == []
    assert [url for url in made.requests if not url.startswith(("blob:", "data:"))] == []


@pytest.fixture(scope="session")
def _lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKBENCH_PER_GENRE", "10")
        patch.setenv("OMP_NUM_THREADS", "1")
        server = Lab(tmp_path_factory.mktemp("lab"), tmp_path_factory.mktemp("jupyter"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def lab(_lab: Lab) -> Iterator[Lab]:
    """The server, with no kernel but those of the file's own tests."""
    yield _lab
    _lab.end_kernels()


@pytest.fixture(scope="module")
def books(lab: Lab, request: pytest.FixtureRequest) -> Path:
    """A folder for the notebooks of a file; the server calls it by its name."""
    folder = lab.root / request.module.__name__
    folder.mkdir()
    return folder
