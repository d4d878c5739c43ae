"""The cache never stops work, and what nobody asked to keep is not kept."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workbench.activations import Activations
from workbench.errors import ActivationsError
from workbench.model.capture import capture
from workbench.model.load import load
from workbench.model.teacher_forcing import codes_for


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test alone, not made yet."""
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def songs(tiny_dataset: Any) -> Any:
    """Three clips of half a second."""
    return dataclasses.replace(
        tiny_dataset.subset([0, 6, 12]), reader=lambda entry: tiny_dataset.reader(entry).section(0, 0.5)
    )


def residual_norms(model: Any, norms: np.ndarray, **settings: Any) -> np.ndarray:
    """Return the model's norms; where none are stored, `norms` count as measured."""
    model._norms = norms
    return model.residual_norms(**settings)  # type: ignore[no-any-return]


def captured(model: Any, songs: Any, **how: Any) -> Activations:
    return capture(model, songs, progress=False, **how)


def same(one: Activations, other: Activations) -> bool:
    first, second = one.data["resid_post"].values, other.data["resid_post"].values
    close = np.allclose(first, second, atol=2e-2, equal_nan=True)  # stores keep frames in half precision
    return bool(close and one.fingerprint == other.fingerprint)


@pytest.mark.parametrize(
    "how", [{}, {"pool": None}, {"window_seconds": 0.2, "seconds": 0.45}], ids=["", "frames", "windows"]
)
def test_without_a_cache_nothing_is_written_and_the_numbers_are_the_same(
    tiny_model: Any, songs: Any, cache: Path, how: dict[str, Any]
) -> None:
    alone = captured(tiny_model, songs, cache=False, **how)
    assert not cache.exists()
    assert same(alone, captured(tiny_model, songs, **how))
    assert cache.exists()


def damage(file: Path, kind: str) -> None:
    whole = file.read_bytes()
    flipped = bytearray(whole)
    flipped[-len(whole) // 4] ^= 1
    made = {
        "cut": whole[: len(whole) // 2],
        "empty": b"",
        "foreign": b'{"a": [1]}',
        "flipped": bytes(flipped),
    }
    file.write_bytes(made[kind])


@pytest.mark.parametrize("kind", ["cut", "empty", "foreign", "flipped"])
def test_damaged_files_of_the_cache_are_made_again_with_one_notice(
    tiny_model: Any, songs: Any, cache: Path, kind: str
) -> None:
    codes = codes_for(tiny_model, songs, songs.entries[1], seconds=None, stored=False)
    norms = tiny_model.residual_norms()
    for folder, again in (
        ("codes", lambda: codes_for(tiny_model, songs, songs.entries[1], seconds=None, stored=False)),
        ("norms", lambda: residual_norms(tiny_model, norms)),
    ):
        (file,) = (file for file in (cache / folder).rglob("*") if file.is_file())
        damage(file, kind)
        with pytest.warns(UserWarning, match=rf"{file.name} cannot be used .*made again") as told:
            made = again()
        assert len(told) == 1
        assert "\n" not in str(told[0].message)
        assert np.array_equal(made, codes if folder == "codes" else norms)
        with warnings.catch_warnings(action="error"):
            assert np.array_equal(again(), made)


def test_a_damaged_store_in_the_cache_is_made_again_with_one_notice(
    tiny_model: Any, songs: Any, cache: Path
) -> None:
    whole = captured(tiny_model, songs)
    assert whole.path is not None
    kept = shutil.copytree(whole.path, cache / "kept")
    files = [
        *("zarr.json", "resid_post/zarr.json", "done/zarr.json", "clip/zarr.json"),
        *("resid_post/c/0/0/0", "done/c/0", "label_genre/c/0", "residual_norm/c/0"),
    ]
    for number, name in enumerate(files):
        shutil.rmtree(whole.path)
        shutil.copytree(kept, whole.path)
        damage(whole.path / name, ("cut", "foreign")[number % 2])
        with pytest.warns(UserWarning, match="cannot be used .*made again") as told:
            again = captured(tiny_model, songs)
        assert len(told) == 1, name
        assert same(again, whole), name
        assert again.labels().tolist() == whole.labels().tolist()
    shutil.rmtree(whole.path)
    whole.path.write_text("a file where a folder belongs")
    with pytest.warns(UserWarning, match="made again"):
        assert same(captured(tiny_model, songs), whole)


def test_a_store_that_the_user_named_is_refused_and_left_alone(
    tiny_model: Any, songs: Any, cache: Path, tmp_path: Path
) -> None:
    captured(tiny_model, songs, path=tmp_path / "mine")
    damage(tmp_path / "mine" / "zarr.json", "cut")
    with pytest.raises(ActivationsError, match="mine"):
        captured(tiny_model, songs, path=tmp_path / "mine")
    assert (tmp_path / "mine" / "clip").is_dir()


def test_a_home_that_cannot_be_written_costs_one_notice(tiny_model: Any, songs: Any, cache: Path) -> None:
    cache.write_text("a file where the cache should be")
    for how in ({}, {"pool": None}):
        with pytest.warns(UserWarning, match=r"cannot be written .*WORKBENCH_CACHE") as told:
            made = captured(tiny_model, songs, **how)
        assert len(told) == 1
        assert same(made, captured(tiny_model, songs, cache=False, **how))
    norms = tiny_model.residual_norms(cache=False)
    with pytest.warns(UserWarning, match="cannot be written") as told:
        assert np.array_equal(residual_norms(tiny_model, norms), norms)
    assert len(told) == 1


def test_a_whole_store_is_read_where_nothing_can_be_written(
    tiny_model: Any, songs: Any, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from workbench.model import capture as capture_module

    first = captured(tiny_model, songs)
    monkeypatch.setattr(capture_module, "can_keep", lambda: False)
    monkeypatch.setattr(capture_module, "read_chunk", None)  # reading again would fail
    assert captured(tiny_model, songs).path == first.path


def test_norms_shipped_with_a_model_that_are_damaged_are_measured(
    tiny_folder: Path, tmp_path: Path, cache: Path
) -> None:
    copy = shutil.copytree(tiny_folder, tmp_path / "tiny")
    model, norms = load(copy, device="cpu", dtype="float32", check=False), np.ones(4)
    for held in ('{"residual_norms": [1.0, 2.0', "[]", json.dumps({"residual_norms": [1.0, -1.0, 1.0, 1.0]})):
        (copy / "workbench.json").write_text(held)
        with pytest.warns(UserWarning, match=r"workbench.json cannot be used"):
            assert np.array_equal(residual_norms(model, norms, cache=False), norms)


def test_numba_gets_a_folder_where_it_can_write_neither_home_nor_libraries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import workbench

    monkeypatch.setattr(workbench.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("NUMBA_CACHE_DIR", "mine")
    monkeypatch.setattr(workbench.os, "access", lambda *_: False)
    workbench._let_numba_compile()
    assert os.environ["NUMBA_CACHE_DIR"] == "mine"
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    workbench._let_numba_compile()
    assert Path(os.environ["NUMBA_CACHE_DIR"]).parent == tmp_path
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    monkeypatch.setattr(workbench.os, "access", lambda *_: True)
    workbench._let_numba_compile()
    assert "NUMBA_CACHE_DIR" not in os.environ
