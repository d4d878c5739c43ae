"""What is saved is whole or refused: digests, full disks, interrupted savings; for every kind of value."""

from __future__ import annotations

import errno
import json
import os
import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from activations_samples import finished
from live_fixture import session, until
from probing_samples import acts as acts
from probing_samples import probes as probes
from safetensors.numpy import load_file, save_file
from steering_fixture import direction

from workbench.activations import open_activations
from workbench.errors import DiskError, GenerationError, WorkbenchError
from workbench.files import WRITTEN, size_text
from workbench.generation.generate import generate
from workbench.generation.live.journal import CODES, EVENTS
from workbench.generation.live.recording import BEGIN, HEADER, Recording
from workbench.generation.take import ProbeTrace, Take
from workbench.probing import LabelProbe, NumberProbe, Probe
from workbench.sound.clip import Clip
from workbench.steering import Direction, Steering

FLIPS = 60  # of each file, at seeded places


@pytest.fixture(scope="module")
def take(tiny_model: Any) -> Take:
    plan = direction(tiny_model, 1).at(0.5)
    made = generate(tiny_model, "a calm tune", steering=plan, seed=3, seconds=0.6, progress=False)
    seconds, read = np.linspace(0, 1, 4), np.full((4, 2), 0.5)
    return replace(made, probe_traces=(ProbeTrace("genre", 2, ("jazz", "rock"), seconds, read),))


@pytest.fixture(scope="module")
def recorded(tiny_model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short recording in which a knob was turned."""
    folder = tmp_path_factory.mktemp("recorded") / "one"
    live = session(tiny_model, on_piece=lambda _piece: live.slide("jazz", 0.5))
    live.record(folder)
    live.start()
    until(lambda: live.figures().frames >= 25)
    live.stop()
    return folder


@pytest.fixture
def one(take: Take, probes: Any, recorded: Path, tmp_path: Path, request: Any) -> tuple[Path, Any]:
    """Where a value of the asked kind lies, alone, and how it is read; reading gives what can be compared."""
    kind, place = request.param, tmp_path / "it"
    if kind == "take":
        take.save(place)
        return place, Take.load
    if kind == "recording":
        shutil.copytree(recorded, place)
        return place, lambda path: _plain(Recording.load(path))
    if kind == "store":
        finished(place)
        return place, lambda path: _numbers(open_activations(path))
    if kind == "clip":
        take.clip.write(place.with_suffix(".wav"))
        return place.with_suffix(".wav"), lambda _path: take.clip
    value, read = {
        "direction": (take.plan.terms[0].direction, Direction.load),  # type: ignore[union-attr]
        "plan": (take.plan, Steering.load),
        "probe": (probes["probe"], Probe.load),
        "number probe": (probes["number probe"], NumberProbe.load),
        "label probe": (probes["label probe"], LabelProbe.load),
    }[kind]
    value.save(place)
    return place, lambda path: _whole(read(path))


def _whole(value: Any) -> Any:
    """The value with what its own equality leaves out."""
    return value, dict(value.origin) if isinstance(value, Direction) else None


def _plain(one: Recording) -> Any:
    kept = {name: value for name, value in vars(one).items() if name != "folder"}
    return {
        name: (value.tolist() if isinstance(value, np.ndarray) else value) for name, value in kept.items()
    }


def _numbers(acts: Any) -> Any:
    return acts.fingerprint, [
        acts.matrix(layer, site=site).tolist() for site in acts.sites for layer in (0, 1)
    ]


SINGLE = ("direction", "plan", "probe", "number probe", "label probe")
KINDS = (*SINGLE, "take", "recording", "store")


def _files(place: Path) -> list[Path]:
    return [place] if place.is_file() else sorted(path for path in place.rglob("*") if path.is_file())


@pytest.mark.parametrize("one", KINDS, indirect=True)
def test_no_flipped_byte_of_any_kind_goes_unseen(one: tuple[Path, Callable[[Path], Any]]) -> None:
    place, read = one
    rng, whole = np.random.default_rng(0), read(place)
    files = [file for file in _files(place) if file.name != EVENTS]
    for file in files:
        data = file.read_bytes()
        for position in rng.integers(0, len(data), FLIPS if len(files) < 9 else 12).tolist():
            flipped = bytearray(data)
            flipped[position] ^= int(rng.integers(1, 256))
            file.write_bytes(flipped)
            try:
                same = bool(read(place) == whole)
            except WorkbenchError:
                continue
            assert same, f"byte {position} of {file.name}"
        file.write_bytes(data)
    assert read(place) == whole


def test_a_flipped_byte_of_a_journal_costs_no_past(recorded: Path, tmp_path: Path) -> None:
    shutil.copytree(recorded, tmp_path / "it")
    whole, file = Recording.load(recorded), tmp_path / "it" / EVENTS
    data, rng = file.read_bytes(), np.random.default_rng(1)
    lost = []
    for position in rng.integers(0, len(data), FLIPS).tolist():
        flipped = bytearray(data)
        flipped[position] ^= int(rng.integers(1, 256))
        file.write_bytes(flipped)
        with pytest.warns(UserWarning, match=r"is damaged|was not ended"):
            read = Recording.load(tmp_path / "it")
        held = read.codes.shape[-1]
        assert np.array_equal(read.codes, whole.codes[:, :held])
        lost.append(whole.codes.shape[-1] - held)
    assert min(lost) == 0 < max(lost)


def test_frames_that_are_gone_from_a_recording_are_missed(recorded: Path, tmp_path: Path) -> None:
    shutil.copytree(recorded, tmp_path / "it")
    codes = tmp_path / "it" / CODES
    codes.write_bytes(codes.read_bytes()[: -12 * 3])
    with pytest.raises(GenerationError, match=r"holds \d+ whole frames of \d+"):
        Recording.load(tmp_path / "it")


def test_an_unfinished_end_of_a_killed_recording_is_left_out(recorded: Path, tmp_path: Path) -> None:
    shutil.copytree(recorded, tmp_path / "it")
    events, codes = tmp_path / "it" / EVENTS, tmp_path / "it" / CODES
    events.write_bytes(b"\n".join(events.read_bytes().split(b"\n")[:-2]) + b"\n")  # never ended
    codes.write_bytes(codes.read_bytes() + bytes(30))  # zeros, as after a power cut
    with pytest.warns(UserWarning, match="was not ended"):
        read = Recording.load(tmp_path / "it")
    assert read.ended == "" and np.array_equal(read.codes, Recording.load(recorded).codes)
    data = bytearray(codes.read_bytes())
    data[40] ^= 1
    codes.write_bytes(data)
    with pytest.raises(GenerationError, match=r"frame 4 of codes\.i16 is damaged"):
        Recording.load(tmp_path / "it")


def _older(file: Path) -> None:
    """Take the digest out of a file of one value, as older versions wrote it."""
    from safetensors import safe_open

    arrays = load_file(file)
    with safe_open(str(file), framework="np") as opened:
        told = opened.metadata()
    if told:
        fields = json.loads(told["workbench"])
        del fields["digest"]
        save_file(arrays, file, metadata={"workbench": json.dumps(fields)})
    else:
        about = json.loads(arrays["about"].tobytes())
        del about["digest"]
        save_file({**arrays, "about": np.frombuffer(json.dumps(about).encode(), np.uint8)}, file)


@pytest.mark.parametrize("one", SINGLE, indirect=True)
def test_older_files_load_with_one_notice(one: tuple[Path, Callable[[Path], Any]]) -> None:
    place, read = one
    whole = read(place)
    _older(place)
    with pytest.warns(UserWarning, match="older version and carries no digest") as told:
        assert read(place) == whole
    assert len(told) == 1


def test_an_older_take_loads_with_one_notice(take: Take, tmp_path: Path) -> None:
    file = take.save(tmp_path) / "take.json"
    kept = json.loads(file.read_text())
    del kept["digest"]
    file.write_text(json.dumps(kept))
    _older(tmp_path / "plan.safetensors")
    with pytest.warns(UserWarning, match="no digest") as told:
        assert Take.load(tmp_path) == take
    assert len(told) == 1


def test_an_older_recording_loads_with_one_notice(recorded: Path, tmp_path: Path) -> None:
    place = tmp_path / "it"
    shutil.copytree(recorded, place)
    whole, kept = Recording.load(recorded), json.loads((place / HEADER).read_text())
    del kept["digest"]
    kept["format"] = "musicgen-workbench recording 1"
    (place / HEADER).write_text(json.dumps(kept))
    (place / CODES).write_bytes(np.ascontiguousarray(whole.codes.T, dtype="<i2").tobytes())
    lines = [json.loads(line) for line in (place / EVENTS).read_text().splitlines()]
    lines = [{name: line[name] for name in line if name not in ("check", "frames")} for line in lines]
    (place / EVENTS).write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    for file in (place / "directions").iterdir():
        _older(file)
    with pytest.warns(UserWarning, match="no digest") as told:
        assert _plain(Recording.load(place)) == _plain(whole)
    assert len(told) == 1


class Full:
    """A disk that takes so many calls of one function of the system, and then no more."""

    def __init__(self, patch: pytest.MonkeyPatch, name: str, calls: int) -> None:
        self.whole, self.left = getattr(os, name), calls
        patch.setattr(os, name, self)

    def __call__(self, *given: Any, **named: Any) -> Any:
        self.left -= 1
        if self.left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.whole(*given, **named)


@pytest.mark.parametrize("calls", range(4))
def test_a_take_saved_over_another_on_a_full_disk_leaves_it(
    take: Take, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    take.save(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    later = replace(take, prompt="another", codes=take.codes[:, ::-1])
    with monkeypatch.context() as patch:
        Full(patch, "fsync", calls)  # four files are flushed
        with pytest.raises(DiskError, match=r"No space left on device \([\d.]+ kB are needed and .* free"):
            later.save(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert Take.load(tmp_path) == take


@pytest.mark.parametrize("calls", range(6))
def test_a_take_whose_files_were_not_all_moved_is_one_take(
    take: Take, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    take.save(tmp_path)
    later = replace(take, prompt="another", codes=take.codes[:, ::-1], plan=None)
    with monkeypatch.context() as patch:
        Full(patch, "replace", calls)
        if calls == 0:
            with pytest.raises(DiskError):
                later.save(tmp_path)
        elif calls < 4:
            with pytest.warns(UserWarning, match=r"is read from there"):
                later.save(tmp_path)
        else:
            later.save(tmp_path)
    assert Take.load(tmp_path) == (later if calls else take)
    assert Take.load(take.save(tmp_path)) == take
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["take.wav", "codes.safetensors", "take.json", "plan.safetensors"]
    )


@pytest.mark.parametrize("one", ("clip", *SINGLE), indirect=True)
def test_no_kind_leaves_half_a_file_on_a_full_disk(
    one: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, read = one
    value, data = read(place), place.read_bytes()
    value = value[0] if isinstance(value, tuple) else value
    Full(monkeypatch, "fsync", 0)
    for path in (place, tmp_path / "deep" / "new.wav"):
        with pytest.raises(DiskError, match=r"No space left on device \(.* are needed and .* are free there"):
            value.write(path) if isinstance(value, Clip) else value.save(path)
    assert place.read_bytes() == data
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [place]


def test_a_place_that_cannot_be_written_is_an_error_of_ours(take: Take, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    for save in (take.save, take.plan.save, take.plan.terms[0].direction.save):  # type: ignore[union-attr]
        with pytest.raises(DiskError, match=r"file/x was to be written, but .*are needed.*are free"):
            save(tmp_path / "file" / "x")
    with pytest.raises(DiskError, match=r"another place"):
        take.clip.write(tmp_path / "file" / "x.wav")
    with pytest.raises(DiskError, match=r"a.zarr was to be written"):
        finished(tmp_path / "file" / "a.zarr")


def test_a_recording_on_a_full_disk_fails_at_once(
    tiny_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = session(tiny_model)
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(DiskError, match="was to be written"):
        live.record(tmp_path / "file" / "one")
    Full(monkeypatch, "fsync", 0)
    with pytest.raises(DiskError, match=r"one was to be written, but No space left .*1\.05 MB are needed"):
        live.record(tmp_path / "one")
    assert not live.recording and [path.name for path in tmp_path.iterdir()] == ["file"]
    live.stop()


@pytest.mark.parametrize("left", [[HEADER], [HEADER, EVENTS, CODES], [CODES]])
def test_an_empty_header_does_not_block_a_folder(tiny_model: Any, tmp_path: Path, left: list[str]) -> None:
    for name in left:
        (tmp_path / name).touch()
    live = session(tiny_model)
    live.record(tmp_path)
    live.start()
    until(lambda: live.figures().frames >= 3)
    live.stop()
    assert Recording.load(tmp_path).codes.shape[-1] >= 3
    assert {BEGIN, HEADER, EVENTS, CODES, "directions"} == {path.name for path in tmp_path.iterdir()}
    with pytest.raises(GenerationError, match="there is one already"):
        session(tiny_model).record(tmp_path)


def test_sizes_come_in_fitting_units() -> None:
    sizes = (0, 999, 4_321, 87_654_321, 2_000_000_000, 3e12)
    assert [size_text(size) for size in sizes] == [
        "0 bytes",
        "999 bytes",
        "4.32 kB",
        "87.7 MB",
        "2.00 GB",
        "3.00 TB",
    ]


def test_nothing_is_left_beside_what_was_saved(take: Take, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _again in range(2):
            assert Take.load(take.save(tmp_path)) == take
    assert not (tmp_path / WRITTEN).exists() and len(list(tmp_path.iterdir())) == 4
