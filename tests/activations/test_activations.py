"""Labelled activations answer for layers, labels and pools, and refuse what they do not hold."""

from __future__ import annotations

import numpy as np
import pytest
from tolerances import ROUNDED

from workbench.activations import Activations, concat_activations
from workbench.errors import ActivationsError, RenamedWarning

N, LAYERS, D = 6, (0, 2, 5), 4


def samples() -> dict[str, np.ndarray]:
    return {
        "clip": np.array([f"clip {n}" for n in range(N)]),
        "group": np.array([f"group {n // 2}" for n in range(N)]),
        "label_genre": np.array(["jazz", "rock"] * 3),
        "label_tempo": np.arange(N) * 10.0,
        "row": np.array(["cond"] * 4 + ["null"] * 2),
    }


def values(seed: int = 0, *, frames: int | None = None) -> np.ndarray:
    shape = (N, len(LAYERS), D) if frames is None else (N, len(LAYERS), frames, D)
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.fixture
def acts() -> Activations:
    return Activations.from_arrays(
        {"resid_post": values(), "mlp_out": values(1)},
        layers=LAYERS,
        samples=samples(),
        attrs={"model_id": "tiny"},
        residual_norm=np.array([1.0, 2.5, np.nan]),
    )


def test_a_layer_is_read_by_its_block_number_not_its_position(acts: Activations) -> None:
    assert acts.layers.tolist() == [0, 2, 5]
    assert np.array_equal(acts.matrix(2), values()[:, 1])
    assert np.array_equal(acts.matrix(5, site="mlp_out"), values(1)[:, 2])
    assert acts.matrix(2).dtype == np.float32
    assert (acts.sites, acts.d_model, len(acts)) == (("resid_post", "mlp_out"), D, N)


def test_a_layer_or_site_that_is_not_held_says_which_are(acts: Activations) -> None:
    with pytest.raises(ActivationsError, match=r"Layer 1 was asked for.*\[0, 2, 5\]"):
        acts.matrix(1)
    with pytest.raises(ActivationsError, match=r"'attn_out'.*resid_post, mlp_out"):
        acts.matrix(0, site="attn_out")
    with pytest.raises(ActivationsError, match="Layer 30"):
        acts.residual_norm(30)


def test_labels_come_as_text_or_numbers(acts: Activations) -> None:
    assert acts.targets == ("genre", "tempo")
    assert acts.labels().tolist() == ["jazz", "rock"] * 3
    assert acts.labels("tempo").dtype == np.float64
    assert acts.classes() == ("jazz", "rock")
    assert acts.groups.tolist() == ["group 0"] * 2 + ["group 1"] * 2 + ["group 2"] * 2
    assert acts.clips[3] == "clip 3"
    with pytest.raises(ActivationsError, match=r"'mood'.*genre, tempo"):
        acts.labels("mood")
    with pytest.raises(ActivationsError, match="values are numbers"):
        acts.classes("tempo")


def test_residual_norms_belong_to_layers_and_unknown_ones_are_refused(acts: Activations) -> None:
    assert acts.residual_norm(2) == 2.5
    with pytest.raises(ActivationsError, match=r"layer 5.*did not measure"):
        acts.residual_norm(5)


def test_subset_and_where_choose_samples(acts: Activations) -> None:
    mask = acts.labels() == "jazz"
    assert np.array_equal(acts.subset(mask).matrix(0), values()[mask, 0])
    assert acts.subset(np.array([4, 1])).clips.tolist() == ["clip 4", "clip 1"]
    assert acts.where(genre="jazz", row="cond").clips.tolist() == ["clip 0", "clip 2"]
    assert acts.where(tempo=50.0).clips.tolist() == ["clip 5"]
    with pytest.raises(ActivationsError, match=r"mask of 2.*6 samples"):
        acts.subset(np.array([True, False]))
    with pytest.raises(ActivationsError, match="'seed'"):
        acts.where(seed=1)


def test_frames_are_pooled_over_each_clips_own_length() -> None:
    frames = values(frames=5)
    held = np.array([5, 5, 5, 5, 3, 1])
    for sample, count in enumerate(held):
        frames[sample, :, count:] = np.nan
    acts = Activations.from_arrays(
        {"resid_post": frames.astype(np.float16)},
        layers=LAYERS,
        samples={**samples(), "frames_held": held},
        residual_norm=np.array([1.0, 2.0, 3.0]),
    )
    assert acts.frames(2).shape == (N, 5, D)
    assert acts.frames(2).dtype == np.float32
    rounded = frames.astype(np.float16).astype(np.float32)
    mean, largest, last = acts.pooled("mean"), acts.pooled("max"), acts.pooled("last")
    for sample, count in enumerate(held):
        own = rounded[sample, 1, :count]
        assert np.allclose(mean.matrix(2)[sample], own.mean(axis=0), **ROUNDED)
        assert np.array_equal(largest.matrix(2)[sample], own.max(axis=0))
        assert np.array_equal(last.matrix(2)[sample], own[-1])
    assert mean.residual_norm(5) == 3.0
    assert mean.labels().tolist() == acts.labels().tolist()
    assert mean.data.attrs["pool"] == "mean"
    with pytest.raises(ActivationsError, match="keep their frames"):
        acts.matrix(2)
    with pytest.raises(ActivationsError, match="'median'"):
        acts.pooled("median")
    with pytest.raises(ActivationsError, match="pooled over time"):
        mean.frames(2)


def test_windows_begin_where_the_capture_began_and_tell_their_own_length() -> None:
    frames = values(frames=8)
    frames[1, :, 7:] = np.nan  # 3 + 3 frames, and one that is too few for a window
    attrs = {"frame_rate_hz": 2.0, "start_s": 5.0}
    acts = Activations.from_arrays({"resid_post": frames}, layers=LAYERS, samples=samples(), attrs=attrs)
    cut = acts.subset(np.array([0, 1])).pooled("mean", window_seconds=1.5)
    assert cut.clips.tolist() == ["clip 0"] * 3 + ["clip 1"] * 2
    assert cut.coordinate("start_s").tolist() == [5.0, 6.5, 8.0, 5.0, 6.5]
    assert cut.coordinate("length_s").tolist() == [1.5, 1.5, 1.0, 1.5, 1.5]
    assert np.allclose(cut.matrix(2)[2], frames[0, 1, 6:].mean(axis=0), **ROUNDED)


def test_a_keyword_of_the_version_before_warns_and_works() -> None:
    acts = Activations.from_arrays(
        {"resid_post": values(frames=8)}, layers=LAYERS, samples=samples(), attrs={"frame_rate_hz": 2.0}
    )
    with pytest.warns(RenamedWarning, match="window_seconds") as caught:
        old = acts.pooled("mean", window=2.0)
    assert caught[0].filename == __file__
    assert np.array_equal(old.matrix(2), acts.pooled("mean", window_seconds=2.0).matrix(2))


def test_layers_sites_and_samples_are_selected(acts: Activations) -> None:
    one = acts.sel(layer=2)
    assert one.layers.tolist() == [2]
    assert np.array_equal(one.matrix(2), acts.matrix(2))
    assert one.residual_norm(2) == 2.5
    some = acts.sel(layer=[5, 0], site="mlp_out", sample=[1, 3])
    assert (some.layers.tolist(), some.sites, some.clips.tolist()) == (
        [0, 5],
        ("mlp_out",),
        ["clip 1", "clip 3"],
    )
    assert np.array_equal(some.matrix(5, site="mlp_out"), acts.matrix(5, site="mlp_out")[[1, 3]])
    assert acts.sel(sample=-1).clips.tolist() == ["clip 5"]
    assert acts.sel(sample=acts.labels() == "jazz").clips.tolist() == ["clip 0", "clip 2", "clip 4"]
    for wrong in ({"layer": 1}, {"site": "attn_out"}, {"sample": 6}, {"layer": [0, 9]}):
        with pytest.raises(ActivationsError) as caught:
            acts.sel(**wrong)  # type: ignore[arg-type]
        assert isinstance(caught.value, KeyError)


def test_a_lookup_that_fails_is_a_key_error_too(acts: Activations) -> None:
    for fails in (
        lambda: acts.matrix(1), lambda: acts.matrix(0, site="x"), lambda: acts.labels("mood"),
        lambda: acts.coordinate("x"), lambda: acts.where(genre="blues"), lambda: acts.residual_norm(9),
    ):  # fmt: skip
        with pytest.raises(KeyError):
            fails()


def test_samples_become_a_table_with_or_without_features(acts: Activations) -> None:
    table = acts.to_dataframe()
    assert table.columns.tolist() == ["clip", "group", "genre", "tempo", "row"]
    assert table["genre"].tolist() == ["jazz", "rock"] * 3
    assert table["tempo"].dtype == np.float64
    wide = acts.to_dataframe(layer=2, site="mlp_out")
    features = wide.filter(like="feature_")
    assert features.columns.tolist() == [f"feature_{n}" for n in range(D)]
    assert np.array_equal(features.to_numpy(), acts.matrix(2, site="mlp_out"))
    twice = Activations.from_arrays(
        {"resid_post": values()}, layers=LAYERS, samples={**samples(), "label_row": np.array(["x"] * N)}
    )
    assert twice.to_dataframe().columns.tolist() == ["clip", "group", "genre", "tempo", "row", "label_row"]


def test_a_notebook_shows_a_small_table(acts: Activations) -> None:
    odd = {**samples(), "clip": np.array(["<b>x</b>"] * N)}
    many = Activations.from_arrays({"resid_post": values()}, layers=LAYERS, samples=odd)
    shown = many._repr_html_()
    assert "<b>" not in shown and "&lt;b&gt;x" in shown
    assert shown.count("<tr") == N + 1 and "more samples" not in shown
    longer = concat_activations([acts, acts])._repr_html_()
    assert "6 more samples" in longer and "12 samples, layers 0-5" in longer and "jazz" in longer


def test_numbers_that_are_not_finite_are_refused() -> None:
    broken = values()
    broken[3, 1, 2] = np.nan
    acts = Activations.from_arrays({"resid_post": broken}, layers=LAYERS, samples=samples())
    assert acts.matrix(0).shape == (N, D)
    with pytest.raises(ActivationsError, match=r"Layer 2.*not finite"):
        acts.matrix(2)


def test_the_fingerprint_follows_what_was_captured(acts: Activations) -> None:
    def other(**changes: object) -> str:
        parts: dict[str, object] = {
            "layers": LAYERS,
            "samples": samples(),
            "attrs": {"model_id": "tiny"},
            **changes,
        }
        arrays = {"resid_post": values(), "mlp_out": values(1)}
        return Activations.from_arrays(arrays, **parts).fingerprint  # type: ignore[arg-type]

    changed = [
        other(layers=(0, 2, 4)),
        other(attrs={"model_id": "other"}),
        other(samples={**samples(), "row": np.array(["cond"] * N)}),
        acts.subset(np.arange(5)).fingerprint,
    ]
    assert other() == acts.fingerprint
    assert len({acts.fingerprint, *changed}) == 5


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"layers": (2, 0, 5)}, "Ascending"),
        ({"layers": (0, 2)}, "shape"),
        ({"samples": {"clip": np.arange(N)}}, "clip and group"),
        ({"samples": {"clip": np.arange(N), "group": np.arange(N - 1)}}, "One value per sample"),
        ({"samples": {"clip": np.zeros(0), "group": np.zeros(0)}}, "One value per sample"),
        ({"arrays": {}}, "Distinct site names"),
        ({"arrays": {"layer": values()}}, "Distinct site names"),
    ],
)
def test_inconsistent_parts_are_refused(changes: dict[str, object], told: str) -> None:
    parts: dict[str, object] = {"layers": LAYERS, "samples": samples(), **changes}
    arrays = parts.pop("arrays", {"resid_post": values()})
    with pytest.raises(ActivationsError, match=told):
        Activations.from_arrays(arrays, **parts)  # type: ignore[arg-type]


def test_joined_parts_keep_what_they_share(acts: Activations) -> None:
    made = Activations.from_arrays(
        {"mlp_out": values(2)[:2]},
        layers=LAYERS,
        samples={"clip": ["x", "y"], "group": ["p", "p"], "label_genre": ["rock", "jazz"], "seed": [1, 2]},
        attrs={"model_id": "tiny", "guidance": 3.0},
    )
    both = concat_activations([acts, made])
    assert (both.sites, both.targets, len(both)) == (("mlp_out",), ("genre",), N + 2)
    assert np.array_equal(both.matrix(2, site="mlp_out"), np.concatenate([values(1)[:, 1], values(2)[:2, 1]]))
    assert both.labels().tolist() == [*acts.labels().tolist(), "rock", "jazz"]
    assert both.coordinate("part").tolist() == [0.0] * N + [1.0] * 2
    assert both.data.attrs == {"model_id": "tiny"}
    assert both.residual_norm(2) == 2.5


def test_parts_that_do_not_match_are_not_joined(acts: Activations) -> None:
    def part(**changes: object) -> Activations:
        parts: dict[str, object] = {"layers": LAYERS, "samples": samples(), **changes}
        arrays = parts.pop("arrays", {"resid_post": values()})
        return Activations.from_arrays(arrays, **parts)  # type: ignore[arg-type]

    for other in (
        part(layers=(0, 2, 4)),
        part(arrays={"resid_post": values(frames=5)}),
        part(arrays={"attn_out": values()}),
    ):
        with pytest.raises(ActivationsError, match="layers, width, frames or sites"):
            concat_activations([acts, other])
    with pytest.raises(ActivationsError, match="differ in model_fingerprint"):
        concat_activations([acts, part(attrs={"model_fingerprint": "other"})])
    with pytest.raises(ActivationsError, match="there are none"):
        concat_activations([])
