"""The store resumes where it was interrupted, notices every kind of damage, and knows its size beforehand."""

from __future__ import annotations

import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from activations_samples import CHUNK, LAYERS, SITES, D, N, finished, numbers, spec, write

from workbench.activations import ActivationStore, bytes_needed, open_activations
from workbench.errors import ActivationsError


def files(path: Path) -> dict[str, bytes]:
    return {
        file.relative_to(path).as_posix(): file.read_bytes() for file in path.rglob("*") if file.is_file()
    }


def flip(file: Path, position: int) -> None:
    data = bytearray(file.read_bytes())
    data[position] ^= 0x10
    file.write_bytes(data)


def test_what_was_written_is_what_is_read(tmp_path: Path) -> None:
    acts = finished(tmp_path / "a.zarr").finish()
    whole = numbers(spec())
    for site in SITES:
        for position, layer in enumerate(LAYERS):
            assert np.array_equal(acts.matrix(layer, site=site), whole[site][:, position])
    assert acts.clips.tolist() == spec().samples["clip"].tolist()
    assert acts.labels("tempo").tolist() == spec().samples["label_tempo"].tolist()
    assert acts.residual_norm(3) == 3.0
    assert acts.data.attrs["model_id"] == "tiny"
    assert acts.path == tmp_path / "a.zarr"


def test_plain_xarray_reads_the_store(tmp_path: Path) -> None:
    finished(tmp_path / "a.zarr")
    data = xr.open_zarr(tmp_path / "a.zarr", consolidated=False, chunks=None)
    assert data["resid_post"].dims == ("sample", "layer", "feature")
    assert data["resid_post"].sel(layer=3).shape == (N, D)
    assert data["clip"].values[0] == "jazz/naïve 0"


@pytest.mark.parametrize("after", [0, 1, 3, 5])
def test_law_15_an_interrupted_store_resumes_to_the_uninterrupted_one(tmp_path: Path, after: int) -> None:
    write(ActivationStore.open_or_create(tmp_path / "a.zarr", spec()), range(after))
    again = ActivationStore.open_or_create(tmp_path / "a.zarr", spec())
    assert again.missing() == tuple(range(after, 5))
    write(again, again.missing())
    xr.testing.assert_identical(again.finish().data, finished(tmp_path / "b.zarr").finish().data)
    assert files(tmp_path / "a.zarr") == files(tmp_path / "b.zarr")


_DIES_BETWEEN_NUMBERS_AND_FLAG = """
import os, sys
sys.path[:0] = [{tests!r}]
import activations_samples as t
from workbench.activations import store as module
store = t.ActivationStore.open_or_create({path!r}, t.spec())
t.write(store, [0])
array_of, looks = module.array_of, []
def dies(group, name):
    looks.extend([name] * (name == "done"))  # the first look asks whether it is done, the second says so
    return os._exit(9) if len(looks) == 2 else array_of(group, name)
module.array_of = dies
t.write(store, [1])
"""


def test_law_15_a_death_before_the_flag_leaves_the_chunk_missing(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    code = _DIES_BETWEEN_NUMBERS_AND_FLAG.format(tests=str(Path(__file__).parents[1]), path=str(path))
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 9
    assert (path / "mlp_out" / "c" / "1").exists()  # its numbers are there, its flag is not
    store = ActivationStore.open_or_create(path, spec())
    assert store.missing() == (1, 2, 3, 4)
    with pytest.raises(ActivationsError, match=r"4 of 5 chunks are unfinished \(the first is 1\).*again"):
        open_activations(path)
    write(store, store.missing())
    xr.testing.assert_identical(store.finish().data, finished(tmp_path / "b.zarr").finish().data)


def test_sites_keep_their_order_whatever_zarr_lists_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, open_zarr = finished(tmp_path / "a.zarr").finish(), xr.open_zarr
    for order in (sorted, lambda names: sorted(names, reverse=True)):
        monkeypatch.setattr(
            xr, "open_zarr", lambda *a, _in=order, **k: (data := open_zarr(*a, **k))[_in(data.data_vars)]
        )
        read = open_activations(tmp_path / "a.zarr")
        assert read.sites == SITES
        assert read.fingerprint == written.fingerprint


def test_an_unfinished_store_is_refused(tmp_path: Path) -> None:
    store = ActivationStore.open_or_create(tmp_path / "a.zarr", spec())
    write(store, [0, 1, 3, 4])
    with pytest.raises(ActivationsError, match=r"1 of 5 chunks are unfinished \(the first is 2\)"):
        store.finish()


def test_a_finished_chunk_is_never_written_again(tmp_path: Path) -> None:
    store = finished(tmp_path / "a.zarr")
    before = files(store.path)
    other = {site: np.ones((CHUNK, len(LAYERS), D)) for site in SITES}
    assert store.write_chunk(0, other) is False
    assert files(store.path) == before


@pytest.mark.parametrize("file", ["resid_post/c/2/0/0", "mlp_out/c/4/0/0", "done/c/3"])
@pytest.mark.parametrize("position", [0, -1])
def test_law_15_a_flipped_byte_is_noticed_and_its_file_named(
    tmp_path: Path, file: str, position: int
) -> None:
    store = finished(tmp_path / "a.zarr")
    flip(store.path / file, position)
    with pytest.raises(ActivationsError, match=rf"{file}.* is damaged.*Delete this file"):
        open_activations(store.path)


def test_deleting_the_damaged_file_lets_the_capture_repair_the_store(tmp_path: Path) -> None:
    store = finished(tmp_path / "a.zarr")
    sound = files(store.path)
    flip(store.path / "mlp_out/c/2/0/0", 100)
    (store.path / "mlp_out/c/2/0/0").unlink()
    with pytest.raises(ActivationsError, match="1 of 5 chunks are unfinished"):
        open_activations(store.path)
    again = ActivationStore.open_or_create(store.path, spec())
    assert again.missing() == (2,)
    write(again, [2])
    assert files(store.path) == sound


def test_a_flipped_byte_in_a_large_store_is_noticed_on_reading(tmp_path: Path) -> None:
    store = finished(tmp_path / "a.zarr")
    flip(store.path / "resid_post/c/2/0/0", 0)  # layer 0 of chunk 2
    acts = open_activations(store.path, verify=False)
    assert acts.matrix(1).shape == (N, D)
    with pytest.raises(ActivationsError, match=r"Layer 0 of 'resid_post'.*damaged.*verify=True"):
        acts.matrix(0)


@pytest.mark.parametrize("name", ["clip", "label_tempo", "residual_norm", "layer"])
def test_a_flipped_byte_in_a_label_is_noticed(tmp_path: Path, name: str) -> None:
    store = finished(tmp_path / "a.zarr")
    flip(store.path / name / "c" / "0", 5)
    with pytest.raises(ActivationsError, match=rf"{name}/c/0 is damaged.*capture again"):
        open_activations(store.path)


@pytest.mark.parametrize("name", ["clip", "label_genre", "residual_norm", "layer"])
def test_a_label_whose_file_is_gone_is_noticed(tmp_path: Path, name: str) -> None:
    store = finished(tmp_path / "a.zarr")
    (store.path / name / "c" / "0").unlink()
    with pytest.raises(ActivationsError, match=rf"{name}/c/0 is damaged \(it is gone\).*capture again"):
        open_activations(store.path)


def test_labels_and_layers_of_nothing_but_zeros_are_data(tmp_path: Path) -> None:
    samples = {**spec().samples, "text": np.full(N, ""), "label_count": np.zeros(N)}
    acts = finished(
        tmp_path / "a.zarr", spec(layers=(0,), samples=samples, residual_norm=np.zeros(1))
    ).finish()
    assert acts.layers.tolist() == [0]
    assert set(acts.coordinate("text")) == {""}
    assert set(acts.labels("count")) == {0.0}


def test_a_chunk_of_zeros_is_data(tmp_path: Path) -> None:
    store = ActivationStore.open_or_create(tmp_path / "a.zarr", spec(sites=("resid_post",)))
    for chunk in store.missing():
        rows = store.spec.rows(chunk)
        store.write_chunk(chunk, {"resid_post": np.zeros((rows.stop - rows.start, len(LAYERS), D))})
    assert (store.finish().matrix(0) == 0).all()


def test_threads_and_processes_write_chunks_side_by_side(tmp_path: Path) -> None:
    store = ActivationStore.open_or_create(tmp_path / "a.zarr", spec())
    code = (
        "import sys; sys.path[:0] = [sys.argv[1]]\n"
        "import activations_samples as t\n"
        "t.write(t.ActivationStore.open_or_create(sys.argv[2], t.spec()), [1, 3])"
    )
    worker = subprocess.Popen([sys.executable, "-c", code, str(Path(__file__).parents[1]), str(store.path)])
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda chunk: write(store, [chunk]), [4, 0, 2]))
    assert worker.wait(120) == 0
    xr.testing.assert_identical(store.finish().data, finished(tmp_path / "b.zarr").finish().data)


def test_many_threads_may_create_the_same_store(tmp_path: Path) -> None:
    with ThreadPoolExecutor(6) as pool:
        stores = list(
            pool.map(lambda _: ActivationStore.open_or_create(tmp_path / "a.zarr", spec()), range(6))
        )
    write(stores[0], range(5))
    assert stores[-1].missing() == ()
    assert [path.name for path in tmp_path.iterdir()] == ["a.zarr"]  # no drafts left


def test_a_store_can_be_sent_to_a_worker(tmp_path: Path) -> None:
    store = ActivationStore.open_or_create(tmp_path / "a.zarr", spec())
    write(pickle.loads(pickle.dumps(store)), [0])
    assert store.missing() == (1, 2, 3, 4)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"layers": (0, 1, 2)}, "other layers"),
        ({"sites": ("resid_post",)}, "other sites"),
        ({"attrs": {"model_id": "other"}}, "other attrs"),
        ({"residual_norm": None}, "other residual_norm"),
        ({"samples_per_chunk": 4}, "other shape"),
    ],
)
def test_another_capture_is_not_mixed_in(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    ActivationStore.open_or_create(tmp_path / "a.zarr", spec())
    with pytest.raises(ActivationsError, match=f"{told}. Give another path"):
        ActivationStore.open_or_create(tmp_path / "a.zarr", spec(**changes))


def test_another_dataset_is_not_mixed_in(tmp_path: Path) -> None:
    ActivationStore.open_or_create(tmp_path / "a.zarr", spec())
    relabelled = {**spec().samples, "label_genre": np.array(["rock", "jazz"] * (N // 2))}
    with pytest.raises(ActivationsError, match="other samples"):
        ActivationStore.open_or_create(tmp_path / "a.zarr", spec(samples=relabelled))


def test_a_folder_that_is_no_store_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").write_text("dear diary")
    (tmp_path / "file").write_text("a file")
    for name in ("mine", "file"):
        with pytest.raises(ActivationsError, match="store"):
            ActivationStore.open_or_create(tmp_path / name, spec())
    assert files(tmp_path) == {"mine/diary.txt": b"dear diary", "file": b"a file"}
    with pytest.raises(ActivationsError, match="there is no store"):
        open_activations(tmp_path / "nowhere")


@pytest.mark.parametrize("frames", [None, 40])
def test_the_size_is_known_beforehand(tmp_path: Path, frames: int | None) -> None:
    of = spec(frames=frames, d_model=256)
    store = finished(tmp_path / "a.zarr", of)
    taken = sum(len(data) for data in files(store.path).values())
    assert 0.85 * bytes_needed(of) <= taken <= bytes_needed(of)
    numbers_alone = sum(len(data) for name, data in files(store.path).items() if name.split("/")[0] in SITES)
    chunks = 2 * 5 * (CHUNK * of.bytes_per_sample + 3 * 20 + 4)
    assert numbers_alone - 2 * 2048 < chunks < numbers_alone


def test_a_store_too_big_for_the_disk_is_refused_before_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    needed = bytes_needed(spec())
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(0, 0, needed - 1))
    with pytest.raises(
        ActivationsError, match=r"Activations of [\d.]+ kB .*the disk has [\d.]+ kB free.*another disk"
    ):
        ActivationStore.open_or_create(tmp_path / "deep" / "a.zarr", spec())
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(0, 0, needed))
    write(ActivationStore.open_or_create(tmp_path / "a.zarr", spec()), range(4))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(0, 0, needed // 4))
    assert ActivationStore.open_or_create(tmp_path / "a.zarr", spec()).missing() == (
        4,
    )  # the rest still fits


def test_chunks_shrink_as_samples_grow() -> None:
    assert spec(samples_per_chunk=None).chunk == 64
    layers = tuple(range(24))
    long = spec(samples_per_chunk=None, frames=1500, d_model=1024, layers=layers, residual_norm=None)
    assert long.chunk == 1
    assert long.n_chunks == N
    assert bytes_needed(long) == pytest.approx(N * 2 * 24 * 1500 * 1024 * 2, rel=1e-3)


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"resid_post": np.zeros((5, 3, D))}, "resid_post, mlp_out were asked for"),
        ({site: np.zeros((4, 3, D)) for site in SITES}, r"shape is \(4, 3, 16\)"),
        ({site: np.full((5, 3, D), np.nan) for site in SITES}, "NaN or infinite"),
        ({site: np.full((5, 3, D), np.inf) for site in SITES}, "NaN or infinite"),
    ],
)
def test_what_does_not_belong_into_a_chunk_is_refused(
    tmp_path: Path, arrays: dict[str, Any], told: str
) -> None:
    store = ActivationStore.open_or_create(tmp_path / "a.zarr", spec())
    with pytest.raises(ActivationsError, match=told):
        store.write_chunk(0, arrays)
    with pytest.raises(ActivationsError, match=r"Chunk 5 was asked for.*0-4"):
        store.write_chunk(5, arrays)
    assert store.missing() == (0, 1, 2, 3, 4)


@pytest.mark.parametrize(("sample", "frame"), [(0, 7), (1, 2), (1, 0)])
def test_every_frame_of_a_clip_is_needed_up_to_its_last(tmp_path: Path, sample: int, frame: int) -> None:
    held = np.full(N, 8)
    held[1] = 3
    of = spec(frames=8, sites=("resid_post",), samples={**spec().samples, "frames_held": held})
    store = ActivationStore.open_or_create(tmp_path / "a.zarr", of)
    sound = numbers(of)["resid_post"][:CHUNK]
    sound[1, :, 3:] = np.nan
    sound[sample, :, frame] = np.nan
    with pytest.raises(ActivationsError, match="NaN"):
        store.write_chunk(0, {"resid_post": sound})


def test_frames_are_half_precision_and_checked_for_range(tmp_path: Path) -> None:
    held = np.full(N, 8)
    held[1] = 3
    of = spec(frames=8, sites=("resid_post",), samples={**spec().samples, "frames_held": held})
    store = ActivationStore.open_or_create(tmp_path / "a.zarr", of)
    sound = numbers(of)["resid_post"]
    sound[1, :, 3:] = np.nan
    too_large = sound[:CHUNK].copy()
    too_large[0, 0, 0, 0] = 70_000
    with pytest.raises(ActivationsError, match=r"float16.*70000"):
        store.write_chunk(0, {"resid_post": too_large})
    gap = sound[:CHUNK].copy()
    gap[0, 0, 5] = np.nan  # inside the clip
    with pytest.raises(ActivationsError, match="NaN"):
        store.write_chunk(0, {"resid_post": gap})
    for chunk in store.missing():
        store.write_chunk(chunk, {"resid_post": sound[store.spec.rows(chunk)]})
    acts = store.finish()
    assert acts.data["resid_post"].dtype == np.float16
    assert np.array_equal(acts.frames(3), sound[:, 2].astype(np.float16).astype(np.float32), equal_nan=True)
    assert np.isfinite(acts.pooled("mean").matrix(3)).all()


def test_attributes_must_be_json(tmp_path: Path) -> None:
    with pytest.raises(ActivationsError, match="attrs of a store"):
        ActivationStore.open_or_create(tmp_path / "a.zarr", spec(attrs={"model": object()}))
    assert list(tmp_path.iterdir()) == []
