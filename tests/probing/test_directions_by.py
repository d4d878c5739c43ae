"""Directions of all methods from one set of activations: what is planted is found, controls find nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from planted import activations, labels_and_groups, planted
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import Ridge
from tolerances import DOUBLE

from workbench.errors import ProbeError, SteeringError
from workbench.probing import PROBE_METHODS, decoder_rows, directions_by, fit_probes, regularization_path
from workbench.probing.directions import METHODS, rfm_axis
from workbench.probing.solvers import Design, one_hot
from workbench.steering.together import pair_pca

FITTED = ("logistic", "ridge", "unit-ridge", "means", "pairs", "rfm")


@pytest.fixture(scope="module")
def found():
    """All methods on planted directions: of each class against the mean of the others."""
    acts, vectors = planted(4.0, seed=7)  # of seed 0 the random direction has the same numbers
    away = {
        name: vector - np.mean([one for other, one in vectors.items() if other != name], axis=0)
        for name, vector in vectors.items()
    }
    truth = {name: one / np.linalg.norm(one) for name, one in away.items()}
    return acts, truth, directions_by(acts, "genre", layer=1, folds=3)


def test_every_method_gives_a_unit_direction_per_class_at_the_layer(found):
    acts, truth, by_method = found
    assert tuple(by_method) == METHODS
    for of_class in by_method.values():
        assert tuple(of_class) == acts.classes() == tuple(truth)
        for one in of_class.values():
            assert one.norm == pytest.approx(1, abs=1e-6) and one.layer == 1
            assert one.residual_norm == acts.residual_norm(1) and one.origin["model_id"] == "m"
    assert len({one.origin["method"] for of in by_method.values() for one in of.values()}) == len(METHODS)


@pytest.mark.parametrize("method", FITTED)
def test_a_method_finds_the_planted_genres_and_tells_them_apart(found, method):
    _acts, truth, by_method = found
    made = by_method[method]
    for name, vector in truth.items():
        assert made[name].vector @ vector > 0.9, name
    names = list(made)
    # Squared error against the number of the class instead of one-hot targets gave 0.998.
    assert max(made[a].cosine(made[b]) for a in names for b in names if a < b) < 0.1


def test_controls_know_nothing_of_the_classes(found):
    _acts, truth, by_method = found
    for method in ("random", "shuffled"):
        for name, vector in truth.items():
            assert abs(by_method[method][name].vector @ vector) < 0.5, method
    read = {float(one.origin["accuracy"]) for one in by_method["shuffled"].values()}
    assert max(read) < 0.5, "chance is a third"
    assert float(by_method["logistic"]["jazz"].origin["accuracy"]) > 0.9
    drawn = [one.vector for one in by_method["random"].values()]
    assert abs(drawn[0] @ drawn[1]) < 0.6


def test_seeds_draw_other_controls_and_the_same_seed_the_same():
    acts, _ = planted(4.0)
    make = {seed: directions_by(acts, layer=1, methods=("random", "shuffled"), seed=seed) for seed in (0, 1)}
    assert make[0] == directions_by(acts, layer=1, methods=("random", "shuffled"))
    assert all(make[0][one]["jazz"] != make[1][one]["jazz"] for one in ("random", "shuffled"))


@pytest.mark.parametrize("shape", ["threshold", "band"])
def test_a_recursive_feature_machine_finds_what_means_do_not(shape):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 24)) * np.exp(0.5 * rng.standard_normal(24))
    vector = rng.standard_normal(24)
    vector /= np.linalg.norm(vector)
    read = x @ vector / (x @ vector).std()
    inside = read > 0.8 if shape == "threshold" else np.abs(read) > 0.8
    means = x[inside].mean(0) - x[~inside].mean(0)
    by_means = abs(means @ vector) / np.linalg.norm(means)
    assert abs(rfm_axis(Design.of(x), inside) @ vector) > max(0.9, by_means + 0.15)


def test_one_round_is_the_gradient_of_kernel_ridge_by_autograd():
    rng = np.random.default_rng(1)
    x, counts = rng.standard_normal((40, 6)), rng.uniform(0.5, 2, 40)
    inside, design = x[:, 0] + x[:, 1] ** 2 > 0.5, Design.of(x, counts)
    z = torch.tensor(design.z)
    width = np.median(torch.pdist(z).numpy())  # each distance once instead of twice has the same median
    wanted = torch.tensor(inside - np.average(inside, weights=counts))
    ridge = torch.diag(torch.tensor(1e-3 * 40 / design.counts))
    weights = torch.linalg.solve(torch.exp(-torch.cdist(z, z) / width) + ridge, wanted)

    def gradient(number):
        point = z[number].clone().requires_grad_()
        others = [other for other in range(40) if other != number]
        torch.exp(-(point - z[others]).norm(dim=1) / width).dot(weights[others]).backward()
        return point.grad.numpy() / design.scaling.deviation

    rows = np.array([gradient(number) for number in range(40)])
    top = np.linalg.eigh(rows.T @ rows)[1][:, -1]
    assert abs(rfm_axis(design, inside, rounds=1) @ top) == pytest.approx(1, abs=1e-9)


def test_along_an_axis_classes_are_told_by_fishers_discriminant():
    acts, vectors = planted(2.0)
    probe = fit_probes(acts, method=decoder_rows(np.array(list(vectors.values()))), shuffles=0, folds=3)[1]
    x, names = acts.matrix(1).astype(np.float64), np.array(probe.classes)
    for number, name in enumerate(names):
        read = x @ probe.direction(name).vector[:, None]
        plain = LinearDiscriminantAnalysis(solver="lsqr").fit(read, acts.labels() == name)
        assert np.allclose(probe.logits(x)[:, number], plain.decision_function(read), rtol=1e-4, atol=1e-4)


def test_rows_of_a_dictionary_that_separate_classes_are_chosen():
    acts, vectors = planted(3.0)
    rows = np.random.default_rng(5).standard_normal((200, 48))
    rows[[7, 70, 170]] = [-4 * vectors["classical"], vectors["jazz"], 0.1 * vectors["rock"]]
    (of_class,) = directions_by(acts, layer=1, methods=[decoder_rows(rows, "autoencoder")]).values()
    for name, vector in vectors.items():
        assert of_class[name].vector @ vector > 0.99, name  # also where the row points the other way
        assert of_class[name].origin["method"] == "probe weight, autoencoder"
        assert float(of_class[name].origin["accuracy"]) > 0.8
    with pytest.raises(ProbeError, match="rows have 3 numbers"):
        directions_by(acts, layer=1, methods=[decoder_rows(np.eye(3))])
    with pytest.raises(ProbeError, match="not finite"):
        decoder_rows(np.full((2, 48), np.nan))


def test_the_papers_probe_is_ridge_without_bias_on_unit_inputs():
    acts, _ = planted(2.0)
    x = acts.matrix(1).astype(np.float64)
    probe = fit_probes(acts, method="unit-ridge", l2=[0.01], shuffles=0, folds=3)[1]
    y = np.unique(acts.labels(), return_inverse=True)[1]
    inputs = x / np.linalg.norm(x, axis=1, keepdims=True)
    plain = Ridge(0.01 * len(x), fit_intercept=False, solver="cholesky").fit(inputs, one_hot(y, 3))
    assert np.array_equal(probe.predict(x), np.array(probe.classes)[plain.predict(inputs).argmax(1)])
    size = np.linalg.norm(x, axis=1).mean()
    assert np.allclose(size * probe.weights, plain.coef_, **DOUBLE)
    assert not probe.bias.any()


def test_pairs_of_one_clip_show_what_clips_hide():
    rng = np.random.default_rng(3)
    labels, groups = np.tile(["jazz", "rock"], 40), np.repeat([f"g{n}" for n in range(40)], 2)
    vector, own = np.eye(24)[4], 20 * rng.standard_normal((40, 24))
    x = np.repeat(own, 2, 0) + np.where(labels == "jazz", 1, -1)[:, None] * vector
    acts = activations((x + 0.3 * rng.standard_normal(x.shape))[:, None], labels, groups)
    paired = type(acts)(acts.data.assign_coords(clip=("sample", groups)))
    assert pair_pca(paired, "jazz", layer=0).vector @ vector > 0.98
    assert pair_pca(paired, "rock", layer=0).vector @ vector < -0.98
    assert pair_pca(paired, "jazz", layer=0).origin["pairs"] == "40"
    assert abs(pair_pca(acts, "jazz", layer=0).vector @ vector) < 0.5, "all pairs see the clips"


def test_without_shared_clips_all_pairs_are_meant():
    acts, _ = planted(1.0, groups=3, clips=4)
    x, jazz = acts.matrix(1).astype(np.float64), acts.labels() == "jazz"
    every = (x[jazz][:, None] - x[~jazz]).reshape(-1, x.shape[1])
    axis = np.linalg.svd(every)[2][0]
    made = pair_pca(acts, "jazz", layer=1)
    assert abs(made.vector @ axis) == pytest.approx(1, abs=1e-6)
    assert made.origin["pairs"] == str(len(every))
    assert made.vector @ every.mean(0) > 0


def test_ridge_of_any_one_penalty_is_a_method_beside_the_others():
    acts, _ = planted(2.0)
    penalties = {f"ridge {one:g}": one for one in (1e-3, 1.0, 1e6)}
    plain = PROBE_METHODS["ridge"]
    ridges = [replace(plain, name=name, l2=(one,)) for name, one in penalties.items()]
    made = directions_by(acts, layer=1, methods=ridges)
    assert list(made) == list(penalties)
    path = regularization_path(acts, 1, "jazz", list(penalties.values()))
    for of_class, direction in zip(made.values(), path, strict=True):
        assert of_class["jazz"].cosine(direction) == pytest.approx(1, abs=1e-5)
    assert path[0].cosine(path[2]) < 0.99


def test_what_no_method_is_asked_for_is_refused_by_name():
    acts, _ = planted(2.0)
    with pytest.raises(ProbeError, match=r"'svm'.*rfm"):
        directions_by(acts, layer=1, methods=("svm",))
    labels, groups = labels_and_groups(classes=1)
    with pytest.raises(SteeringError, match="Use one of at least two"):
        directions_by(activations(np.ones((len(labels), 1, 4)), labels, groups), layer=0, methods=("pairs",))
    assert {"rfm", "unit-ridge"} <= PROBE_METHODS.keys()
