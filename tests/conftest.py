"""Fixtures that every test may use: a tiny model on disk and loaded, a few clips, a private cache."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("WORKBENCH_TEST_THREADS", "1")
os.environ["OMP_NUM_THREADS"] = os.environ["WORKBENCH_TEST_THREADS"]  # also of what tests start
os.environ["MKL_NUM_THREADS"] = os.environ["WORKBENCH_TEST_THREADS"]
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import fixture_model
import pytest
import soundfile
import torch
from filelock import FileLock
from tones import tone_clip

from workbench.evidence import judge
from workbench.probing import solvers
from workbench.steering import operations

PROCESSES = 2  # of the parts of `make test`; two threads are what they are timed on
# The longest first; the other notebooks later, since they use what notebook 0 captures.
FIRST = (
    "notebook-0", "test_true_shapes.py", "test_cli.py", "test_project.py", "test_reproduce.py",
    "test_evaluation.py", "test_trials.py", "test_diagnosis", "notebook-", "test_browser_themes.py",
    "test_browser_notebooks.py", "test_browser_app.py", "test_browser_lab.py", "test_browser_takes.py",
)  # fmt: skip


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Two processes for what is not `long`, of which some is timed; none for single files."""
    asked = [Path(argument.partition("::")[0]) for argument in config.args]
    whole = all(path.is_dir() for path in asked) and not config.option.keyword
    return min(PROCESSES, os.cpu_count() or 1) if whole and "not long" in config.option.markexpr else 0


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of a file share its fixtures, and so a process; a notebook is a group. The longest come first."""
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.path.name))
    items.sort(key=_place)


def _place(item: pytest.Item) -> int:
    mark = item.get_closest_marker("xdist_group")
    group = str(mark.args[0]) if mark else ""
    return next((place for place, name in enumerate(FIRST) if group.startswith(name)), len(FIRST))


@pytest.fixture(scope="session", autouse=True)
def _threads() -> None:
    torch.set_num_threads(int(os.environ["WORKBENCH_TEST_THREADS"]))


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that makes a folder once for all processes of this run."""
    own = tmp_path_factory.getbasetemp()
    root = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "shared"

    def once(name: str, make: Callable[[Path], object]) -> Path:
        root.mkdir(exist_ok=True)
        with FileLock(root / f"{name}.lock"):
            if not (root / name).exists():
                make(root / f"{name}.making")
                (root / f"{name}.making").rename(root / name)
        return root / name

    return once


@pytest.fixture(scope="session", autouse=True)
def _private_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """No test reads or writes the user's own cache."""
    folder = tmp_path_factory.mktemp("cache")
    before = os.environ.get("WORKBENCH_CACHE")
    os.environ["WORKBENCH_CACHE"] = str(folder)
    yield folder
    if before is None:
        del os.environ["WORKBENCH_CACHE"]
    else:
        os.environ["WORKBENCH_CACHE"] = before


@pytest.fixture(scope="session")
def tiny_folder(shared: Callable[..., Path]) -> Path:
    """A saved model of true architecture, random weights (4 blocks x 32, 4 codebooks x 64, 25 frames/s)."""
    return shared("tiny", fixture_model.save_tiny)


@pytest.fixture(scope="session")
def tiny_model(tiny_folder: Path) -> Any:
    """`tiny_folder` loaded through the real path. Shared by the session: tests must not change it."""
    from workbench.model.load import load

    return load(tiny_folder, device="cpu", dtype="float32")


@pytest.fixture(scope="session")
def melody_folder(shared: Callable[..., Path]) -> Path:
    """A saved model of the melody kind: the tiny one's sizes, 12 frames of chroma."""
    return shared("melody", lambda folder: fixture_model.save(fixture_model.build_melody(), folder))


@pytest.fixture(scope="session")
def melody_model(melody_folder: Path) -> Any:
    """`melody_folder` loaded through the real path. Shared by the session: tests must not change it."""
    from workbench.model.load import load

    return load(melody_folder, device="cpu", dtype="float32")


@pytest.fixture(scope="session")
def band_model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A tiny model whose codes are a score, with a synthetic bank, loaded through the real path."""
    import band_fixture

    from workbench.model.load import load

    folder = band_fixture.save_tiny(tmp_path_factory.mktemp("models") / "band")
    return load(folder, device="cpu", dtype="float32")


@pytest.fixture(scope="session")
def tiny_music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one subfolder per genre: jazz, rock, classical, six WAV files of 2 s each."""
    root = tmp_path_factory.mktemp("music")
    for genre, name in enumerate(("classical", "jazz", "rock")):
        (root / name).mkdir()
        for index in range(6):
            soundfile.write(
                root / name / f"{name}_{index}.wav", tone_clip(genre, index), 16_000, subtype="PCM_16"
            )
    return root


@pytest.fixture(scope="session")
def tiny_dataset(tiny_music: Path) -> Any:
    """`tiny_music` as a Dataset: 18 clips, three genres."""
    from workbench.sound import from_folder

    return from_folder(tiny_music)


@pytest.fixture
def forget_extensions() -> Iterator[None]:
    """Forget afterwards what a test registers: operations, judges, methods of probes."""
    tables: list[dict[str, Any]] = [operations._registered, judge._REGISTERED, solvers.PROBE_METHODS]
    before = [dict(table) for table in tables]
    yield
    for table, kept in zip(tables, before, strict=True):
        table.clear()
        table.update(kept)
