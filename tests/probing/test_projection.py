"""Maps: neighbours stay neighbours, a seed draws one map, and the figure of trust means something."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from planted import activations, labels_and_groups, planted
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler
from tolerances import DOUBLE, SUMMED

from workbench.errors import ActivationsError, ProbeError
from workbench.probing import project, project_layers
from workbench.probing.projection import _onto


def purity(points: np.ndarray, labels: np.ndarray) -> float:
    """Return the share of the five nearest neighbours on the map that have the point's own label."""
    near = NearestNeighbors(n_neighbors=6).fit(points).kneighbors(points)[1][:, 1:]
    return float((labels[near] == labels[:, None]).mean())


def test_pca_equals_scikit_learns_on_standardised_features():
    acts, _ = planted(4.0)
    found = project(acts, 1, method="pca")
    scaled = StandardScaler().fit_transform(acts.matrix(1).astype(float))
    witness = PCA(2).fit(scaled)
    expected = witness.transform(scaled)
    for axis in range(2):
        assert abs(np.corrcoef(found.points[:, axis], expected[:, axis])[0, 1]) > 0.99999
        assert np.isclose(found.points[:, axis].std(), expected[:, axis].std(), **SUMMED)
    np.testing.assert_allclose(found.explained, witness.explained_variance_ratio_, **DOUBLE)


@pytest.mark.parametrize("seed", range(4))
def test_the_largest_loading_of_each_component_is_positive(seed):
    acts, _ = planted(4.0, seed=seed)
    points = project(acts, 1, method="pca").points
    loadings = StandardScaler().fit_transform(acts.matrix(1)).T @ points
    assert (loadings[np.abs(loadings).argmax(0), [0, 1]] > 0).all()


def test_one_loud_feature_is_not_the_whole_map():
    acts, _ = planted(4.0)
    x = acts.matrix(1).copy()
    x[:, 0] = 1000 * np.random.default_rng(0).standard_normal(len(x))
    labels, groups = labels_and_groups()
    assert purity(project(activations(x[:, None], labels, groups), 0, method="pca").points, labels) > 0.8


def test_umap_keeps_classes_together_and_repeats_itself():
    acts, _ = planted(5.0)
    one, again = project(acts, 1, random_state=3), project(acts, 1, random_state=3)
    assert np.array_equal(one.points, again.points)
    assert not np.array_equal(one.points, project(acts, 1, random_state=4).points)
    assert purity(one.points, labels_and_groups()[0]) > 0.9
    assert one.explained is None


def test_trust_is_high_on_a_true_map_and_a_half_on_noise():
    rng = np.random.default_rng(0)
    labels, groups = labels_and_groups()
    plane = rng.standard_normal((len(labels), 2)) @ rng.standard_normal((2, 30))
    flat = project(activations(plane[:, None], labels, groups), 0, method="pca")
    assert flat.trustworthiness > 0.99
    noise = rng.standard_normal((len(labels), 1, 200))
    assert project(activations(noise, labels, groups), 0, method="pca").trustworthiness < 0.7


def test_the_table_has_one_row_per_sample_with_its_labels():
    labels, groups = labels_and_groups()
    x = np.random.default_rng(0).standard_normal((len(labels), 1, 5))
    acts = activations(x, labels, groups, layers=[7], mood=np.where(labels == "jazz", "calm", "wild"))
    found = project(acts, 7, method="pca")
    table = found.table()
    assert set(table) == {"clip", "x", "y", "genre", "mood"}
    assert table["clip"].tolist() == acts.clips.tolist()
    assert table["genre"].tolist() == labels.tolist()
    assert np.array_equal(table[["x", "y"]].to_numpy(), found.points)
    assert (found.layer, found.site, found.method) == (7, "resid_post", "pca")


def test_few_samples_shrink_the_neighbourhood():
    acts, _ = planted()
    few = acts.subset(np.arange(6))
    assert 0 <= project(few, 1, method="pca").trustworthiness <= 1


@pytest.mark.parametrize("method", ["umap", "pca"])
def test_four_samples_make_a_map_that_others_can_join(method):
    acts, _ = planted()
    drawn = project(acts.subset(np.arange(4)), 1, method=method)
    assert np.isfinite(drawn.points).all()
    assert 0 <= drawn.trustworthiness <= 1
    assert np.isfinite(drawn.place(acts.subset(np.arange(4, 7))).points).all()


def test_samples_of_another_width_do_not_join_a_map():
    acts, _ = planted()
    drawn = project(acts, 1, method="pca")
    labels, groups = labels_and_groups()
    for width in (1, 47):
        other = activations(np.ones((len(labels), 2, width)), labels, groups)
        with pytest.raises(ProbeError, match=rf"width {width} .*width 48"):
            drawn.place(other)


def test_a_map_of_one_feature_has_no_two_components():
    labels, groups = labels_and_groups()
    acts = activations(np.random.default_rng(0).standard_normal((len(labels), 1, 1)), labels, groups)
    with pytest.raises(ProbeError, match="1 feature"):
        project(acts, 0, method="pca")


@pytest.mark.parametrize(
    "settings", [{"neighbours": 0}, {"neighbours": 2.5}, {"min_distance": 7}, {"random_state": -1}]
)
def test_settings_of_a_map_that_make_no_sense_are_refused(settings):
    acts, _ = planted()
    with pytest.raises(ProbeError, match=f"{next(iter(settings))} is out of range"):
        project(acts, 1, **settings)


def test_maps_that_cannot_be_drawn_are_refused():
    acts, _ = planted()
    with pytest.raises(ProbeError, match=r"'tsne'.*umap and pca"):
        project(acts, 1, method="tsne")
    with pytest.raises(ProbeError, match="3 samples"):
        project(acts.subset(np.arange(3)), 1)
    with pytest.raises(ActivationsError, match="Layer 9"):
        project(acts, 9)


def test_a_map_leaves_the_threads_of_pytorch_alone():
    import torch

    acts, _ = planted(4.0)
    before = torch.get_num_threads()
    project(acts, 1, method="umap", neighbours=5)
    assert torch.get_num_threads() == before


def test_what_is_compiled_of_umap_is_kept_for_the_next_process():
    from umap.umap_ import smooth_knn_dist

    project(planted(5.0)[0], 1)
    assert [*Path(smooth_knn_dist.stats.cache_path).glob("umap_.smooth_knn_dist-*.nbi")]


def test_waiting_threads_sleep_unless_the_user_says_otherwise():
    told = "import workbench, os; print(os.environ['OMP_WAIT_POLICY'])"
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    for extra, expected in (({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "active"}, "active")):
        run = subprocess.run(
            [sys.executable, "-c", told], env=environment | extra, capture_output=True, text=True, check=True
        )
        assert run.stdout.strip() == expected


@pytest.mark.parametrize("method", ["umap", "pca"])
def test_a_map_near_another_one_lies_on_it(method):
    acts, _ = planted(5.0, layers=3)
    first = project(acts, 1, method=method, neighbours=8)
    alone = project(acts, 2, method=method, neighbours=8, random_state=5)
    beside = project(acts, 2, method=method, neighbours=8, random_state=5, near=first)
    spread = first.points.std()
    moved = np.linalg.norm(beside.points - first.points, axis=1).mean() / spread
    assert moved < 0.9 * np.linalg.norm(alone.points - first.points, axis=1).mean() / spread
    assert purity(beside.points, labels_and_groups()[0]) > 0.9  # turning costs no neighbourhood
    # No turn, mirror image or scale of the whole lies nearer: Procrustes again finds nothing left to do.
    turn, shift = _onto(beside.points.astype(float), first.points.astype(float))
    # points are stored in float32, in units of the map (about 10): 1e-3 is far below what can be seen
    np.testing.assert_allclose(turn, np.eye(2), atol=1e-3)
    np.testing.assert_allclose(shift, 0, atol=1e-2)


def test_procrustes_undoes_turn_mirror_scale_and_shift():
    goal = np.random.default_rng(0).standard_normal((20, 2))
    mirrored = goal @ np.array([[0.6, 0.8], [0.8, -0.6]]) * 3 + [5, -2]
    turn, shift = _onto(mirrored, goal)
    np.testing.assert_allclose(mirrored @ turn + shift, goal, **DOUBLE)


@pytest.mark.parametrize("method", ["umap", "pca"])
def test_samples_that_join_a_map_fall_beside_their_own_kind(method):
    acts, _ = planted(6.0)
    labels = labels_and_groups()[0]
    known = np.arange(len(labels)) % 4 > 0
    near = project(acts.subset(known), 0, method="pca")
    drawn = project(acts.subset(known), 1, method=method, near=near)
    joined = drawn.place(acts.subset(~known))
    finder = NearestNeighbors(n_neighbors=5).fit(drawn.points)
    votes = labels[known][finder.kneighbors(joined.points)[1]]
    assert (votes == labels[~known][:, None]).mean() > 0.9
    assert joined.clips.tolist() == acts.clips[~known].tolist()
    if method == "pca":
        again = drawn.place(acts.subset(known))
        # float32 sums over 32 features of size 10 or so
        np.testing.assert_allclose(again.points, drawn.points, atol=1e-3)


def test_all_layers_are_aligned_to_the_middle_one():
    acts, _ = planted(4.0, layers=3)
    found = project_layers(acts, method="pca")
    assert list(found) == [0, 1, 2]
    np.testing.assert_array_equal(found[1].points, project(acts, 1, method="pca").points)
    expected = project(acts, 2, method="pca", near=found[1])
    np.testing.assert_array_equal(found[2].points, expected.points)


def test_more_labels_and_maps_that_do_not_fit_together_are_told():
    acts, _ = planted()
    drawn = project(acts, 1, method="pca")
    assert drawn.with_label("right", np.ones(len(acts))).table()["right"].sum() == len(acts)
    assert "right" not in drawn.labels
    with pytest.raises(ProbeError, match="one per point"):
        drawn.with_label("right", [1, 2])
    with pytest.raises(ProbeError, match="other samples"):
        project(acts.subset(np.arange(9)), 1, method="pca", near=drawn)
    with pytest.raises(ProbeError, match="points only"):
        drawn.place(acts).place(acts)
