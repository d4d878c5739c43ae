"""A file is written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from workbench.files import file_name, file_names, write_atomically


def test_a_file_is_written_with_its_folders_and_nothing_beside_it(tmp_path: Path) -> None:
    path = write_atomically(tmp_path / "a" / "b.bin", b"first")
    assert write_atomically(path, b"second") == path
    assert path.read_bytes() == b"second"
    assert list(path.parent.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_old_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_atomically(tmp_path / "a.bin", b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["con", "NUL.txt", "com1", "LPT9.", "aux .x"])
def test_no_file_is_called_like_a_device(name: str) -> None:
    assert file_name(name).startswith("_")


@pytest.mark.parametrize("letter", ["a", "音", "𝒳", "\ud800", "?"])
def test_names_of_files_are_short_enough_for_every_disk(letter: str, tmp_path: Path) -> None:
    names = file_names([letter * 300, letter * 301, "b" * 300]).values()
    assert all(0 < len(name) <= 100 - len(".safetensors") for name in names)
    for name in names:
        (tmp_path / f"{name}.wav").write_text(name)
    assert len(list(tmp_path.iterdir())) == 3


def test_no_two_names_are_one_file() -> None:
    names = ["jazz?", "jazz!", "A", "a", "é", "e\u0301", "", "..", "a", "straße", "STRASSE", "jazz_ 2"]
    made = file_names(names)
    assert list(made) == list(dict.fromkeys(names))
    assert len({name.casefold() for name in made.values()}) == len(made)
    assert made["jazz?"] == "jazz_"
    assert made["a"] == "a 2"
