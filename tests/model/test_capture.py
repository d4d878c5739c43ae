"""Capture: equal to plain hooks, equal to generation, resumable, refusing what would be silently wrong."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from plain_hooks import forced
from steering_fixture import untraced
from tolerances import NETWORK, STREAM

from workbench.activations import open_activations
from workbench.errors import ActivationsError, Cancelled, ModelError
from workbench.model import capture as capture_module
from workbench.model import capture_plan as chunks_module
from workbench.model.capture import capture
from workbench.model.generated import capture_generated, read_while_sampling
from workbench.model.load import load
from workbench.model.network import SITES
from workbench.model.sampling import apply_delay
from workbench.model.teacher_forcing import Reading, codes_for, read_codes
from workbench.sound.clip import Clip
from workbench.sound.dataset import Dataset, Entry

ALL = tuple(range(4))


def quietly(model: Any, dataset: Any, **settings: Any) -> Any:
    return capture(model, dataset, **{"progress": False, **settings})


@pytest.mark.parametrize("text", [None, "fast rock"])
def test_law_14_capture_equals_plain_hooks(
    tiny_model: Any, tiny_folder: Path, tiny_dataset: Any, text: str | None
) -> None:
    acts = quietly(tiny_model, tiny_dataset, sites=SITES, pool=None, text=text, cache=False, batch=1)
    codes = codes_for(tiny_model, tiny_dataset, tiny_dataset.entries[4], seconds=None, stored=False)
    states = tiny_model.null_text(1) if text is None else tiny_model.text([text])
    ids = apply_delay(torch.as_tensor(codes)[None], tiny_model.bos)
    plain = forced(untraced(tiny_folder), ids, states)
    reading = Reading(SITES, ALL, None)
    ours = read_codes(tiny_model, [codes], states, reading)
    short = forced(untraced(tiny_folder), ids[..., : codes.shape[-1] + 1], states)
    for site in SITES:
        assert np.array_equal(ours[site], short[site][:, :, 1:].numpy()), site
        for layer in ALL:
            assert np.allclose(
                acts.frames(layer, site=site)[4],
                plain[site][0, layer, 1 : codes.shape[-1] + 1],
                rtol=2e-3,  # kept in float16: half a step is 5e-4 of a number
                atol=2e-3,
            ), (site, layer)


def test_pools_equal_plain_arithmetic_over_real_frames(tiny_model: Any) -> None:
    rng = np.random.default_rng(0)
    codes = [rng.integers(0, 64, (4, frames)) for frames in (7, 30, 18)]
    text = tiny_model.text(["a tune", "rock", "slow piano"])
    frames = read_codes(tiny_model, codes, text, Reading(("resid_post",), ALL, None))["resid_post"]
    assert [int(np.isfinite(row[0, :, 0]).sum()) for row in frames] == [7, 30, 18]
    for pool, plain in (("mean", np.nanmean), ("max", np.nanmax)):
        read = read_codes(tiny_model, codes, text, Reading(("resid_post",), ALL, pool))["resid_post"]
        assert np.allclose(read, plain(frames, axis=2), **NETWORK)
    last = read_codes(tiny_model, codes, text, Reading(("resid_post",), ALL, "last"))["resid_post"]
    assert np.array_equal(last[1], frames[1, :, 29])
    assert np.array_equal(last[0], frames[0, :, 6])
    alone = read_codes(
        tiny_model, codes[:1], tiny_model.text(["a tune"]), Reading(("resid_post",), ALL, "mean")
    )
    together = read_codes(tiny_model, codes, text, Reading(("resid_post",), ALL, "mean"))
    assert np.allclose(alone["resid_post"][0], together["resid_post"][0], **NETWORK)


@pytest.mark.parametrize("dtype", list(STREAM))
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_law_13_teacher_forcing_equals_generation(
    tiny_folder: Path, tiny_model: Any, dtype: str, guidance: float
) -> None:
    model = tiny_model if dtype == "float32" else load(tiny_folder, device="cpu", dtype=dtype)
    prompts, reading = ["a calm tune", "fast jazz with drums"], Reading(SITES, ALL, None)
    run = model.sampling(prompts, seeds=[3, 4], frames=25, guidance=guidance)
    drawn = read_while_sampling(model, run, reading)
    again = read_codes(model, list(run.codes.numpy()), model.text(prompts), reading)
    for site in SITES:
        apart = np.linalg.norm(again[site] - drawn[site], axis=-1)
        assert float((apart / np.linalg.norm(drawn[site], axis=-1)).mean()) < STREAM[dtype], site
    undelayed = torch.full((2, 4, 26), model.bos)
    undelayed[..., 1:] = run.codes
    read: list[torch.Tensor] = []
    with model.exclusive(), model.network.read(undelayed, model.text(prompts)):
        read.append(model.network.block(3).output.float())
    wrong = read[0][:, 1:].numpy() - drawn["resid_post"][:, 3]
    assert np.linalg.norm(wrong) > 0.05 * np.linalg.norm(drawn["resid_post"][:, 3]), (
        "the delay pattern must matter"
    )


def test_capture_of_a_take_s_codes_equals_capture_while_generating(tiny_model: Any) -> None:
    generated = capture_generated(tiny_model, ["a tune", "rock"], seeds=[1, 2], seconds=1.0, guidance=1.0)
    settings = {"guidance": 1.0, "top_k": tiny_model.top_k}
    run = tiny_model.sampling(["a tune", "rock"], seeds=[1, 2], frames=25, **settings)
    tiny_model.network.sample(run)
    entries = tuple(
        Entry(f"take {i}", {"genre": "x"}, f"take {i}", "builtin:x", str(i), codes.numpy().astype(np.int16))
        for i, codes in enumerate(run.codes)
    )
    dataset = Dataset(entries, "takes", lambda entry: tiny_model.decode(entry.codes))
    again = quietly(tiny_model, dataset, text=["a tune", "rock"])
    for layer in ALL:
        assert np.allclose(again.matrix(layer), generated.matrix(layer), **NETWORK)
    assert set(generated.coordinate("source")) == {"generated"}
    assert set(again.coordinate("source")) == {"teacher-forced"}
    assert set(again.coordinate("row")) == {"cond"}


def test_stored_codes_of_another_codec_are_not_believed(tiny_model: Any, tiny_dataset: Any) -> None:
    codes = np.zeros((4, 50), dtype=np.int16)
    entries = tuple(dataclasses.replace(entry, codes=codes) for entry in tiny_dataset.entries)
    foreign = quietly(tiny_model, dataclasses.replace(tiny_dataset, entries=entries), cache=False)
    plain = quietly(tiny_model, tiny_dataset, cache=False)
    assert np.array_equal(foreign.matrix(2), plain.matrix(2))


def test_labels_groups_and_norms_come_along(tiny_model: Any, tiny_dataset: Any) -> None:
    acts = quietly(tiny_model, tiny_dataset, layers=[3, 1])
    assert acts.layers.tolist() == [1, 3]
    assert acts.classes() == ("classical", "jazz", "rock")
    assert acts.clips.tolist() == tiny_dataset.ids.tolist()
    assert acts.groups.tolist() == tiny_dataset.groups.tolist()
    assert acts.residual_norm(3) == float(tiny_model.residual_norms()[3])
    assert acts.data.attrs["model_id"] == tiny_model.id
    assert acts.data.attrs["dataset_fingerprint"] == tiny_dataset.fingerprint
    assert set(acts.coordinate("row")) == {"null"}
    assert set(quietly(tiny_model, tiny_dataset, text="rock", rows="null").coordinate("row")) == {"null"}


def test_text_conditions_change_activations_and_null_ignores_them(tiny_model: Any, tiny_dataset: Any) -> None:
    plain = quietly(tiny_model, tiny_dataset, cache=False)
    told = quietly(tiny_model, tiny_dataset, text="fast rock", cache=False)
    ignored = quietly(tiny_model, tiny_dataset, text="fast rock", rows="null", cache=False)
    assert not np.allclose(plain.matrix(2), told.matrix(2), atol=1e-3)
    assert np.array_equal(plain.matrix(2), ignored.matrix(2))


class InterruptedHereError(Exception):
    pass


def test_law_15_an_interrupted_capture_resumes_to_an_equal_store(
    tiny_model: Any, tiny_dataset: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks_module, "POOLED_CHUNK", 5)
    whole = quietly(tiny_model, tiny_dataset, path=tmp_path / "whole")
    read = capture_module.read_chunk
    done: list[int] = []

    def failing(model: Any, chunk: Any, job: Any) -> Any:
        if len(done) == 2:
            raise InterruptedHereError
        done.append(chunk.number)
        return read(model, chunk, job)

    monkeypatch.setattr(capture_module, "read_chunk", failing)
    with pytest.raises(InterruptedHereError):
        quietly(tiny_model, tiny_dataset, path=tmp_path / "cut")
    with pytest.raises(ActivationsError, match="2 of 4 chunks are unfinished"):
        open_activations(tmp_path / "cut")
    again: list[int] = []

    def counting(model: Any, chunk: Any, job: Any) -> Any:
        again.append(chunk.number)
        return read(model, chunk, job)

    monkeypatch.setattr(capture_module, "read_chunk", counting)
    resumed = quietly(tiny_model, tiny_dataset, path=tmp_path / "cut")
    assert resumed.data.drop_attrs().identical(whole.data.drop_attrs())
    assert (done, again) == ([0, 1], [2, 3]), "what was finished must not be done again"


def test_a_cancelled_capture_keeps_its_chunks(
    tiny_model: Any, tiny_dataset: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks_module, "POOLED_CHUNK", 5)
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled, match="after 5 of 18 clips"):
        quietly(tiny_model, tiny_dataset, path=tmp_path / "store", cancel=cancel)
    resumed = quietly(tiny_model, tiny_dataset, path=tmp_path / "store")
    assert np.array_equal(resumed.matrix(1), quietly(tiny_model, tiny_dataset, cache=False).matrix(1))


def test_the_cache_finds_a_capture_again_and_tells_others_apart(
    tiny_model: Any, tiny_dataset: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = quietly(tiny_model, tiny_dataset, seconds=1.5)
    other = quietly(tiny_model, tiny_dataset, seconds=1.0)
    monkeypatch.setattr(capture_module, "read_chunk", None)  # reading again would fail
    assert quietly(tiny_model, tiny_dataset, seconds=1.5).path == first.path != other.path
    assert np.array_equal(quietly(tiny_model, tiny_dataset, seconds=1.5).matrix(1), first.matrix(1))


@pytest.mark.filterwarnings("ignore")
def test_a_dask_client_gives_the_same_store(tiny_model: Any, tiny_dataset: Any, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    cluster = distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None, protocol="inproc://"
    )
    with cluster, distributed.Client(cluster) as client:
        there = quietly(tiny_model, tiny_dataset, path=tmp_path / "there", client=client)
    here = quietly(tiny_model, tiny_dataset, path=tmp_path / "here")
    assert there.data.drop_attrs().identical(here.data.drop_attrs())


def test_a_silent_clip_is_refused_by_name(tiny_model: Any, tiny_dataset: Any) -> None:
    quiet = Clip(np.zeros(16_000, dtype=np.float32), 16_000)
    dataset = dataclasses.replace(
        tiny_dataset,
        entries=(dataclasses.replace(tiny_dataset.entries[3], digest="silent"),),
        reader=lambda _entry: quiet,
    )
    with pytest.raises(ActivationsError, match="it is silent"):
        quietly(tiny_model, dataset, cache=False)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"layers": [4]}, "layers 0-3"),
        ({"layers": []}, "layers 0-3"),
        ({"sites": ("resid_mid",)}, "cannot be captured"),
        ({"sites": ()}, "nothing cannot be captured"),
        ({"pool": "median"}, "median"),
        ({"rows": "all"}, "cond, null"),
        ({"rows": "both"}, "without a text"),
        ({"pool": None, "window_seconds": 1.0}, "Windows without a pool"),
    ],
)
def test_requests_that_make_no_sense_are_named(
    tiny_model: Any, tiny_dataset: Any, settings: dict[str, Any], says: str
) -> None:
    with pytest.raises(ModelError, match=says):
        quietly(tiny_model, tiny_dataset, **settings)


def test_texts_must_match_the_clips(tiny_model: Any, tiny_dataset: Any) -> None:
    with pytest.raises(ActivationsError, match="18 clips"):
        quietly(tiny_model, tiny_dataset, text=["a", "b"])
    with pytest.raises(ActivationsError, match="equally long"):
        capture_generated(tiny_model, ["a"], seeds=[1, 2])
