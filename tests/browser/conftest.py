"""A Chromium for the tests of a file, and a bare page for each test of a widget."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from browser import Stage, browser, figures_that_stay


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
