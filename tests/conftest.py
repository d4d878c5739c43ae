"""Fixtures that every test may use: a tiny model on disk and loaded, a few clips, a private cache."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import fixture_model
import numpy as np
import pytest
import soundfile
import torch


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


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
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model of true architecture, random weights (4 blocks x 32, 4 codebooks x 64, 25 frames/s)."""
    return fixture_model.save_tiny(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def tiny_model(tiny_folder: Path) -> Any:
    """`tiny_folder` loaded through the real path. Shared by the session: tests must not change it."""
    from workbench.model.load import load

    return load(tiny_folder, device="cpu", dtype="float32")


@pytest.fixture(scope="session")
def melody_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model of the melody kind: the tiny one's sizes, 12 frames of chroma."""
    return fixture_model.save(fixture_model.build_melody(), tmp_path_factory.mktemp("models") / "melody")


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


def tone_clip(genre: int, index: int, *, rate_hz: int = 16_000, seconds: float = 2.0) -> np.ndarray:
    """A synthetic clip (n,) float32: each genre has its own register and pulse, each index its own detail."""
    generator = np.random.default_rng([genre, index])
    time_s = np.arange(int(rate_hz * seconds)) / rate_hz
    tone = np.sin(2 * np.pi * (110.0 * (genre + 1) + 3.0 * index) * time_s)
    pulse = 0.5 + 0.5 * np.sign(np.sin(2 * np.pi * (1.0 + genre) * time_s))
    return (0.3 * tone * pulse + 0.02 * generator.standard_normal(time_s.size)).astype(np.float32)


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
