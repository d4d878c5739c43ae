"""Windows, rows and text conditions: several samples of a clip, labelled so that nobody can mix them up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from activations_samples import SECONDS, of_lengths
from tolerances import SUMMED

from workbench.activations import Activations, cut_head, head_name, head_slice
from workbench.activations.activations import window_counts, window_times
from workbench.errors import ActivationsError, DatasetError, ModelError
from workbench.model import capture_plan as cases_module
from workbench.model.capture import CONDITIONS, capture, capture_conditions, wrong_classes
from workbench.model.teacher_forcing import Reading, codes_for, read_codes

WINDOW_S, WINDOW = 0.32, 8


def quietly(model: Any, dataset: Any, **settings: Any) -> Any:
    return capture(model, dataset, **{"progress": False, "cache": False, **settings})


@pytest.mark.parametrize(
    ("held", "count"), [(1, 1), (3, 1), (8, 1), (11, 1), (12, 2), (16, 2), (19, 2), (20, 3), (50, 6)]
)
def test_a_rest_of_half_a_window_or_more_is_a_window(held: int, count: int) -> None:
    assert window_counts(np.array([held]), 8).tolist() == [count]
    times = window_times(np.array([held]), 8, 25.0, start_s=1.0)
    assert times["start_s"] == pytest.approx(1.0 + 0.32 * np.arange(count))
    rest = held % 8 if held % 8 >= 4 or held < 8 else 0  # a smaller rest belongs to no window
    assert times["length_s"].sum() * 25 == pytest.approx(held // 8 * 8 + rest)
    assert times["length_s"].max() <= 0.32 + 1e-9


@pytest.mark.parametrize("pool", ["mean", "max", "last"])
def test_windows_are_pooled_over_their_own_frames(tiny_model: Any, pool: str) -> None:
    songs = of_lengths(*SECONDS)
    acts = quietly(
        tiny_model, songs, pool=pool, window_seconds=WINDOW_S, sites=("resid_post", "embed"), batch=3
    )
    codes = [codes_for(tiny_model, songs, entry, seconds=None, stored=False) for entry in songs]
    reading = Reading(("resid_post", "embed"), tuple(range(4)), None)
    frames = read_codes(tiny_model, codes, tiny_model.null_text(5), reading)
    for site in reading.sites:
        expected = []
        for row, array in enumerate(codes):
            held = array.shape[-1]
            edges = [start for start in range(0, held, WINDOW) if held - start >= WINDOW / 2 or start == 0]
            for start in edges:
                own = frames[site][row, :, start : min(start + WINDOW, held)]
                expected.append({"mean": own.mean(1), "max": own.max(1), "last": own[:, -1]}[pool])
        for layer in range(4):
            assert np.allclose(acts.matrix(layer, site=site), np.stack(expected)[:, layer], **SUMMED)
    counts = [1, 6, 2, 3, 1]
    windows = Reading(("resid_post",), (0, 3), pool, WINDOW)
    raw = read_codes(tiny_model, codes, tiny_model.null_text(5), windows)["resid_post"]
    assert np.isfinite(raw[:, 1, :, 0]).sum(1).tolist() == counts, "NaN behind the last window"
    assert acts.clips.tolist() == np.repeat(songs.ids, counts).tolist()
    assert acts.groups.tolist() == np.repeat(songs.groups, counts).tolist()
    assert acts.labels().tolist() == np.repeat(songs.labels(), counts).tolist()
    assert acts.coordinate("start_s")[1:7] == pytest.approx(WINDOW_S * np.arange(6))
    assert acts.coordinate("length_s")[[0, 6, 8, 12]] == pytest.approx([0.32, 0.32, 0.4 - 0.08, 0.08])


def test_windows_cut_from_kept_frames_equal_captured_ones(tiny_model: Any) -> None:
    songs = of_lengths(*SECONDS)
    kept = quietly(tiny_model, songs, pool=None)
    for pool in ("mean", "max", "last"):
        ours, captured = (
            kept.pooled(pool, window_seconds=WINDOW_S),
            quietly(tiny_model, songs, pool=pool, window_seconds=WINDOW_S),
        )
        assert ours.clips.tolist() == captured.clips.tolist()
        assert ours.coordinate("start_s") == pytest.approx(captured.coordinate("start_s"))
        assert ours.coordinate("length_s") == pytest.approx(captured.coordinate("length_s"))
        assert np.allclose(ours.matrix(3), captured.matrix(3), **SUMMED)
    with pytest.raises(ActivationsError, match="pooled over time already"):
        kept.pooled("mean").pooled("mean", window_seconds=1.0)
    with pytest.raises(ActivationsError, match="no length of time"):
        kept.pooled("mean", window_seconds=-1.0)


def test_a_chunk_may_begin_and_end_inside_a_clip(
    tiny_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    songs = of_lengths(*SECONDS)
    settings: dict[str, Any] = {"window_seconds": WINDOW_S, "text": "rock", "rows": "both"}
    whole = quietly(tiny_model, songs, **settings)
    monkeypatch.setattr(cases_module, "POOLED_CHUNK", 1)
    cut = quietly(tiny_model, songs, path=tmp_path / "cut", **settings)
    assert len(cut) == 26
    assert cut.clips.tolist() == whole.clips.tolist()
    for layer in range(4):
        assert np.allclose(cut.matrix(layer), whole.matrix(layer), **SUMMED)
    shards = list((tmp_path / "cut" / "resid_post" / "c").iterdir())
    assert len(shards) == 5, "six samples a chunk, which no border of a clip respects"
    monkeypatch.setattr(cases_module, "_CHUNK_BYTES", 1)
    monkeypatch.setattr(cases_module, "POOLED_CHUNK", 16)
    quietly(tiny_model, songs, path=tmp_path / "small", **settings)
    assert len(list((tmp_path / "small" / "resid_post" / "c").iterdir())) == 5, "large windows, fewer clips"


def test_both_rows_are_the_two_captures_one_after_the_other(tiny_model: Any, tiny_dataset: Any) -> None:
    songs = tiny_dataset.subset([0, 6, 12])
    both = quietly(tiny_model, songs, text=["a", "tune", "rock"], rows="both", batch=2)
    cond, null = (quietly(tiny_model, songs, text=text, batch=2) for text in (["a", "tune", "rock"], None))
    assert both.coordinate("row").tolist() == ["cond"] * 3 + ["null"] * 3
    assert both.coordinate("text").tolist() == ["a", "tune", "rock", "", "", ""]
    assert np.allclose(both.where(row="cond").matrix(3), cond.matrix(3), **SUMMED)
    assert np.allclose(both.where(row="null").matrix(3), null.matrix(3), **SUMMED)


def test_conditions_say_what_was_told_and_which_class_it_names(tiny_model: Any, tiny_dataset: Any) -> None:
    songs = tiny_dataset.subset([0, 1, 6, 7, 12, 13])
    acts = capture_conditions(tiny_model, songs, cache=False, progress=False, seed=2, batch=4)
    assert acts.coordinate("condition").tolist() == np.repeat(CONDITIONS, 6).tolist()
    parts = {condition: acts.where(condition=condition) for condition in CONDITIONS}
    for part in parts.values():
        assert part.clips.tolist() == songs.ids.tolist()
    assert set(parts["null"].coordinate("row")) == {"null"}
    assert set(parts["null"].coordinate("text")) == set(parts["neutral"].coordinate("named")) == {""}
    assert set(parts["neutral"].coordinate("text")) == {"a tune"}
    assert parts["correct"].coordinate("named").tolist() == songs.labels().tolist()
    wrong = parts["wrong"].coordinate("named")
    assert not (wrong == songs.labels()).any()
    assert parts["wrong"].coordinate("text").tolist() == [f"a {name} tune" for name in wrong]
    assert wrong.tolist() == wrong_classes(songs.labels(), seed=2).tolist()
    for condition, text in (
        ("null", None),
        ("neutral", "a tune"),
        ("correct", [f"a {name} tune" for name in songs.labels()]),
        ("wrong", [f"a {name} tune" for name in wrong]),
    ):
        alone = quietly(tiny_model, songs, text=text)
        assert np.allclose(parts[condition].matrix(3), alone.matrix(3), **SUMMED), condition


def test_wrong_classes_are_shared_out_evenly_and_follow_the_seed() -> None:
    own = np.repeat(["classical", "jazz", "rock"], 11)
    drawn = [wrong_classes(own, seed=seed) for seed in range(20)]
    for wrong in drawn:
        assert not (wrong == own).any()
        for name in ("classical", "jazz", "rock"):
            _others, counts = np.unique(wrong[own == name], return_counts=True)
            assert sorted(counts.tolist()) == [5, 6]
    assert np.array_equal(drawn[3], wrong_classes(own, seed=3))
    assert len({tuple(wrong) for wrong in drawn}) == 20


def test_conditions_take_windows_prompts_and_a_store(
    tiny_model: Any, tiny_dataset: Any, tmp_path: Path
) -> None:
    songs = tiny_dataset.subset([0, 6])
    prompts = {"classical": "slow piano", "jazz": "fast jazz"}
    acts = capture_conditions(
        tiny_model, songs, conditions=("wrong", "null"), prompts=prompts, window_seconds=1.0,
        path=tmp_path / "leak", progress=False,
    )  # fmt: skip
    assert acts.path == tmp_path / "leak"
    assert acts.coordinate("condition").tolist() == ["wrong"] * 4 + ["null"] * 4
    assert acts.coordinate("text")[:4].tolist() == ["fast jazz"] * 2 + ["slow piano"] * 2
    assert acts.coordinate("start_s").tolist() == [0.0, 1.0] * 4


@pytest.mark.parametrize(
    ("settings", "error", "says"),
    [
        ({"conditions": ("null", "loud")}, ActivationsError, "null, neutral, correct, wrong"),
        ({"conditions": ()}, ActivationsError, "null, neutral, correct, wrong"),
        ({"conditions": ("null", "null")}, ActivationsError, "each once"),
        ({"prompts": {"jazz": "a jazz tune"}}, ActivationsError, "a text for each"),
        ({"target": "mood"}, DatasetError, "mood"),
        ({"layers": [7]}, ModelError, "layers 0-3"),
    ],
)
def test_conditions_that_make_no_sense_are_refused(
    tiny_model: Any, tiny_dataset: Any, settings: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        capture_conditions(tiny_model, tiny_dataset, progress=False, **settings)


def test_one_class_has_no_wrong_text(tiny_model: Any, tiny_dataset: Any) -> None:
    with pytest.raises(ActivationsError, match="at least two classes"):
        capture_conditions(tiny_model, tiny_dataset.where(genre="jazz"), progress=False)


def test_heads_through_the_output_projection_are_what_attention_adds(
    tiny_model: Any, tiny_dataset: Any
) -> None:
    songs = tiny_dataset.subset([0, 6])
    acts = quietly(tiny_model, songs, sites=("head_out", "attn_out"), pool="last")
    block = tiny_model.musicgen.decoder.model.decoder.layers[2]
    weight = block.self_attn.out_proj.weight.detach().numpy()
    total = np.zeros((2, 32), np.float32)
    for head in range(4):
        one = cut_head(acts, head)
        assert (one.sites, one.d_model, len(one)) == (("head_out",), 8, 2)
        place = head_slice(32, 4, head)
        assert np.array_equal(one.matrix(2, site="head_out"), acts.matrix(2, site="head_out")[:, place])
        total += one.matrix(2, site="head_out") @ weight[:, place].T
    assert block.self_attn.out_proj.bias is None
    assert np.allclose(total, acts.matrix(2, site="attn_out"), **SUMMED)
    assert len({acts.fingerprint, *(cut_head(acts, head).fingerprint for head in range(4))}) == 5
    assert head_name(5, 3) == "L5H3"


def test_heads_that_do_not_exist_are_refused(tiny_model: Any, tiny_dataset: Any) -> None:
    acts = Activations.from_arrays(
        {"head_out": np.zeros((2, 1, 6))}, layers=[0], samples={"clip": ["a", "b"], "group": ["a", "b"]}
    )
    assert cut_head(acts, 2, n_heads=3).d_model == 2
    with pytest.raises(ActivationsError, match="unknown number of heads"):
        cut_head(acts, 0)
    with pytest.raises(ActivationsError, match="heads 0-2 in rows of 6"):
        cut_head(acts, 3, n_heads=3)
    with pytest.raises(ActivationsError, match="heads 0-3 in rows of 6"):
        cut_head(acts, 0, n_heads=4)
    with pytest.raises(ActivationsError, match="sites are resid_post"):
        cut_head(quietly(tiny_model, tiny_dataset.subset([0])), 0, n_heads=4)


def test_a_store_on_disk_is_cut_into_heads_without_being_read_whole(
    tiny_model: Any, tiny_dataset: Any, tmp_path: Path
) -> None:
    acts = quietly(tiny_model, tiny_dataset.subset([0, 6]), sites=("head_out",), path=tmp_path / "heads")
    one = cut_head(acts, 1)
    assert np.array_equal(one.matrix(1, site="head_out"), acts.matrix(1, site="head_out")[:, 8:16])


def test_steering_may_act_on_heads(tiny_model: Any) -> None:
    from steering_fixture import direction

    from workbench.generation.generate import generate

    settings: dict[str, Any] = {"seconds": 0.4, "progress": False, "seed": 3}
    pushed = generate(
        tiny_model, "a tune", steering=direction(tiny_model, 1, site="head_out").at(2.0), **settings
    )
    assert pushed.receipt.ok
    assert not np.array_equal(pushed.codes, generate(tiny_model, "a tune", **settings).codes)
