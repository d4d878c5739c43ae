"""Memory and disk are forecast before anything starts, and refused with the figures where they do not fit."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from activations_samples import SECONDS, of_lengths

from workbench.activations import Cost, free_memory
from workbench.activations import spec as budget
from workbench.errors import ActivationsError
from workbench.model import capture as capture_module
from workbench.model import generated as drawing_module
from workbench.model.capture import capture, capture_conditions, capture_cost
from workbench.model.generated import capture_continued, capture_generated
from workbench.model.teacher_forcing import codes_for, guessed_frames

SHAPES: list[dict[str, Any]] = [
    {},
    {"pool": None, "sites": ("embed", "head_out")},
    {"window_seconds": 0.32, "layers": [1, 2]},
    {"text": "rock", "rows": "both"},
]


def counted_frames(model: Any, dataset: Any, **how: Any) -> list[int]:
    return [codes_for(model, dataset, entry, **how).shape[-1] for entry in dataset.entries]


def size_of(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


@pytest.mark.parametrize("settings", SHAPES)
def test_the_forecast_of_a_store_is_its_size(
    tiny_model: Any, tiny_dataset: Any, tmp_path: Path, settings: dict[str, Any]
) -> None:
    songs = tiny_dataset.subset([0, 1, 6, 7, 12])
    cost = capture_cost(tiny_model, songs, path=tmp_path / "acts", **settings)
    acts = capture(tiny_model, songs, path=tmp_path / "acts", progress=False, **settings)
    numbers = sum(acts.data[site].nbytes for site in acts.sites)
    metadata = 4096 * (len(acts.data.coords) + len(acts.sites) + 4)
    assert cost.samples == len(acts)
    assert cost.result == numbers
    assert numbers < size_of(tmp_path / "acts") <= cost.disk <= size_of(tmp_path / "acts") + metadata


@pytest.mark.parametrize("settings", SHAPES)
def test_a_result_in_memory_is_part_of_the_forecast(
    tiny_model: Any, tiny_dataset: Any, settings: dict[str, Any]
) -> None:
    songs = tiny_dataset.subset([0, 6, 12])
    cost = capture_cost(tiny_model, songs, cache=False, **settings)
    acts = capture(tiny_model, songs, cache=False, progress=False, **settings)
    numbers = sum(acts.data[site].nbytes for site in acts.sites)
    assert cost.disk == 0
    assert cost.memory > 2 * numbers, "the parts and the joined array exist at once"
    assert "nothing on disk" in cost.sentence()


def test_memory_grows_with_what_is_asked(tiny_model: Any, tiny_dataset: Any) -> None:
    def memory(**settings: Any) -> int:
        return capture_cost(tiny_model, tiny_dataset, **{"cache": False, **settings}).memory

    plain, both = memory(), {"text": "rock", "rows": "both"}
    assert memory(cache=True, **both) < memory(**both)
    for more in (
        {"sites": ("resid_post", "mlp_out")},
        {"pool": None},
        {"window_seconds": 0.5},
        both,
        {"batch": 16},
    ):
        assert memory(**more) > plain, more
    for less in ({"layers": [0]}, {"seconds": 0.5}, {"batch": 1}):
        assert memory(**less) < plain, less


def test_lengths_are_guessed_from_headers_and_a_few_clips(
    tiny_model: Any, tiny_dataset: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: Any) -> Any:
        raise AssertionError("a forecast must not encode")

    fresh = replace(
        tiny_dataset,
        entries=tuple(replace(e, digest=f"header {n}") for n, e in enumerate(tiny_dataset.entries)),
    )
    with monkeypatch.context() as patch:
        patch.setattr(tiny_model, "encode", refuse)
        unread = replace(fresh, reader=refuse)  # files tell their length in their header
        guessed = guessed_frames(tiny_model, unread, seconds=None, stored=False)
        short = guessed_frames(tiny_model, unread, seconds=0.29, stored=False)
        made = guessed_frames(tiny_model, of_lengths(*SECONDS), seconds=None, stored=False)
    assert guessed.tolist() == counted_frames(tiny_model, fresh, seconds=None, stored=False)
    assert short.tolist() == counted_frames(tiny_model, fresh, seconds=0.29, stored=False)
    coded = replace(fresh, entries=tuple(replace(e, codes=np.zeros((4, 50), int)) for e in fresh.entries[:3]))
    for seconds in (None, 0.29, 9.0):
        told = guessed_frames(tiny_model, coded, seconds=seconds, stored=True)
        assert told.tolist() == [{None: 50, 0.29: 7, 9.0: 50}[seconds]] * 3
    assert made.max() == 50
    songs = of_lengths(0.4, 1.96, 0.72)
    assert counted_frames(tiny_model, songs, seconds=None, stored=False) == [10, 49, 18]
    assert guessed_frames(tiny_model, songs, seconds=None, stored=False).tolist() == [10, 49, 18], (
        "known codes"
    )


def read_at_most(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(budget, "free_memory", lambda: free)


@pytest.mark.parametrize("source", ["forced", "frames", "conditions", "generated", "continued"])
def test_what_memory_cannot_hold_is_refused_before_anything_starts(
    tiny_model: Any, tiny_dataset: Any, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    def refuse(*_arguments: Any, **_settings: Any) -> Any:
        raise AssertionError("nothing may start")

    songs = tiny_dataset.subset([0, 6])
    quiet: dict[str, Any] = {"progress": False}
    calls = {
        "forced": lambda: capture(tiny_model, songs, **quiet, cache=False),
        "frames": lambda: capture(tiny_model, songs, **quiet, cache=False, pool=None),
        "conditions": lambda: capture_conditions(tiny_model, songs, **quiet, cache=False),
        "generated": lambda: capture_generated(tiny_model, ["a", "b"], seeds=[1, 2], seconds=0.4, **quiet),
        "continued": lambda: capture_continued(
            tiny_model, songs, "a", context_seconds=0.2, seconds=0.2, **quiet
        ),
    }
    read_at_most(monkeypatch, 10_000)
    monkeypatch.setattr(capture_module, "read_chunk", refuse)
    monkeypatch.setattr(capture_module, "codes_for", refuse)
    monkeypatch.setattr(drawing_module, "read_while_sampling", refuse)
    with pytest.raises(ActivationsError, match=r"samples.*of memory and 10.0 kB are free.*smaller batch"):
        calls[source]()


def test_a_result_on_disk_needs_less_memory_and_a_full_disk_is_told(
    tiny_model: Any, tiny_dataset: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {"pool": None, "progress": False, "sites": ("resid_post", "mlp_out")}
    songs = tiny_dataset.subset([0, 6, 12])
    needed = capture_cost(tiny_model, songs, path=tmp_path / "acts", pool=None, sites=settings["sites"])
    encoded: list[int] = []
    monkeypatch.setattr(capture_module, "codes_for", lambda *a, **k: encoded.append(1) or codes_for(*a, **k))
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _path: shutil._ntuple_diskusage(0, 0, needed.disk - 1))
        with pytest.raises(ActivationsError, match=r"the disk has .* MB free"):
            capture(tiny_model, songs, path=tmp_path / "acts", **settings)
        assert encoded == [], "the disk is asked before sounds are encoded"
    acts = capture(tiny_model, songs, path=tmp_path / "acts", **settings)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: shutil._ntuple_diskusage(0, 0, 0))
    read_at_most(monkeypatch, 0)
    again = capture(tiny_model, songs, path=tmp_path / "acts", **settings)
    assert np.array_equal(again.frames(1), acts.frames(1), equal_nan=True), "what is finished needs nothing"


def test_an_unfinished_store_is_not_resumed_where_memory_would_not_do(
    tiny_model: Any, tiny_dataset: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    songs = tiny_dataset.subset([0, 6])
    capture(tiny_model, songs, path=tmp_path / "acts", progress=False)
    (tmp_path / "acts" / "resid_post" / "c" / "0" / "0" / "0").unlink()
    read_at_most(monkeypatch, 1000)
    with pytest.raises(ActivationsError, match=r"of memory and 1.00 kB are free"):
        capture(tiny_model, songs, path=tmp_path / "acts", progress=False)


def test_a_device_of_its_own_is_asked_too() -> None:
    cost = Cost(samples=3, result=10, memory=10, device=2_000_000_000)
    cost.check()
    with pytest.raises(ActivationsError, match=r"2.00 GB of the accelerator's memory and 1.00 GB"):
        cost.check(free_device=10**9)
    assert "2.00 GB of the accelerator's" in cost.sentence()


def test_free_memory_respects_the_limit_of_a_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = free_memory()
    assert free > 0
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("400000\n")
    (tmp_path / "memory.stat").write_text("anon 300000\ninactive_file 100000\n")
    monkeypatch.setattr(budget, "_CGROUPS", ((str(tmp_path), "memory.max", "memory.current"),))
    if Path("/proc/self/cgroup").exists():
        assert free_memory() == 700_000
        (tmp_path / "memory.max").write_text("max\n")
    assert free_memory() > 700_000


def test_a_setting_that_does_not_exist_is_not_swallowed(tiny_model: Any, tiny_dataset: Any) -> None:
    with pytest.raises(TypeError, match="bach"):
        capture_cost(tiny_model, tiny_dataset, bach=3)
    with pytest.raises(TypeError, match="bach"):
        capture_conditions(tiny_model, tiny_dataset, bach=3)


def test_a_refusal_names_the_largest_batch_that_would_fit(
    tiny_model: Any, tiny_dataset: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {"pool": "mean", "cache": False}
    costs = {b: capture_cost(tiny_model, tiny_dataset, batch=b, **settings).memory for b in (64, 16, 8, 4, 1)}
    assert costs[64] > costs[16] > costs[8] > costs[4]
    for free, told in ((costs[8], "Use batch=8, which fits"), (costs[1] - 1, "Use a smaller batch")):
        read_at_most(monkeypatch, free)
        with pytest.raises(ActivationsError, match=told):
            capture(tiny_model, tiny_dataset, batch=64, progress=False, **settings)
    read_at_most(monkeypatch, costs[8])
    assert len(capture(tiny_model, tiny_dataset, batch=8, progress=False, **settings)) == 18
    prompts: Any = (["a tune"] * 8, list(range(8)))
    how: dict[str, Any] = {"seconds": 1.0, "progress": False, "batch": 8}
    named: list[str] = []
    for free in range(64 << 20, 80 << 20, 1 << 18):  # from what libraries take, upwards
        read_at_most(monkeypatch, free)
        try:
            capture_generated(tiny_model, prompts[0], seeds=prompts[1], **how)
            break
        except ActivationsError as error:
            named += [word for word in str(error).split() if word.startswith("batch=")]
    assert named and set(named) <= {"batch=4,", "batch=2,", "batch=1,"} and named == sorted(named)
