"""Probes: what is planted is found, what is not there is not, and every number has an independent witness."""

from __future__ import annotations

import numpy as np
import pytest
from planted import activations, labels_and_groups, planted
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, f1_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tolerances import ROUNDED, SUMMED

from workbench.errors import ActivationsError, DatasetError, ProbeError, SteeringError
from workbench.probing import Probe, fit, fit_probes
from workbench.sound.dataset import grouped_folds
from workbench.steering import Direction, difference_in_means

METHODS = ["logistic", "ridge"]


def uneven(seed: int = 0):
    """Return x (samples, 1, d) whose features have deviations from 0.02 to 50, labels and groups."""
    acts, _ = planted(seed=seed, d=24)
    scales = np.geomspace(0.02, 50, 24)
    return acts.matrix(1)[:, None] * scales, *labels_and_groups()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("classes", [2, 3])
def test_law_06_folded_logits_equal_those_of_the_scikit_learn_pipeline(method, classes):
    x, labels, groups = uneven()
    kept = np.isin(labels, np.unique(labels)[:classes])
    x, labels, groups = x[kept], labels[kept], groups[kept]
    strength = 0.05
    probe = fit_probes(activations(x, labels, groups), method=method, l2=[strength], shuffles=0)[0]
    if method == "logistic":
        solver = LogisticRegression(C=1 / (strength * len(x)), tol=1e-8, max_iter=10_000)
        expected = make_pipeline(StandardScaler(), solver).fit(x[:, 0], labels).predict_log_proba(x[:, 0])
        found = np.log(probe.predict_proba(x[:, 0]))
    else:
        one_hot = (labels[:, None] == np.unique(labels)).astype(float)
        solver = Ridge(strength * len(x))
        expected = make_pipeline(StandardScaler(), solver).fit(x[:, 0], one_hot).predict(x[:, 0])
        found = probe.logits(x[:, 0])
    # float32 storage of x and two solvers' tolerances lie between the two.
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("method", METHODS)
def test_accuracy_is_that_of_held_out_groups(method):
    acts, _ = planted(1.8)
    sweep = fit_probes(acts, method=method, l2=[0.1], shuffles=0, seed=3)
    x, (labels, groups) = acts.matrix(1), labels_and_groups()
    predicted = np.empty_like(labels)
    for train, test in grouped_folds(labels, groups, folds=5, seed=3):
        scaler = StandardScaler().fit(x[train])
        if method == "logistic":
            solver = LogisticRegression(C=1 / (0.1 * len(train)), tol=1e-6).fit(
                scaler.transform(x[train]), labels[train]
            )
            predicted[test] = solver.predict(scaler.transform(x[test]))
        else:
            one_hot = (labels[train][:, None] == np.unique(labels)).astype(float)
            solver = Ridge(0.1 * len(train)).fit(scaler.transform(x[train]), one_hot)
            predicted[test] = np.unique(labels)[solver.predict(scaler.transform(x[test])).argmax(1)]
    found = sweep[1].scores
    assert 0.5 < found.accuracy < 0.95
    assert found.accuracy == pytest.approx(accuracy_score(labels, predicted), abs=1e-9)
    assert found.macro_f1 == pytest.approx(f1_score(labels, predicted, average="macro"), abs=1e-9)
    assert sweep.held_out.query("layer == 1")["predicted"].tolist() == predicted.tolist()


def test_law_07_no_group_is_on_both_sides_and_each_sample_is_judged_once():
    acts, _ = planted()
    rows = fit_probes(acts, layers=[1], shuffles=0).held_out
    assert sorted(rows["clip"]) == sorted(acts.clips)
    assert (rows.groupby("group")["fold"].nunique() == 1).all()
    assert rows["fold"].nunique() == 5


def test_law_07_shuffled_labels_and_pure_noise_give_chance():
    acts, _ = planted(4.0)
    sweep = fit_probes(acts)
    noise, signal = sweep[0].scores, sweep[1].scores
    assert noise.low <= 1 / 3 <= noise.high
    assert signal.accuracy > 0.95
    for found in (noise, signal):
        assert found.chance == pytest.approx(1 / 3)
        assert found.shuffled_low < 1 / 3 < found.shuffled_high
        assert found.shuffled_mean == pytest.approx(1 / 3, abs=0.06)  # 20 shuffles of 30 groups: to 0.02
    assert signal.shuffled_high < 0.6


def test_law_07_a_probe_that_can_only_recognise_groups_stays_at_chance():
    labels, groups = labels_and_groups()
    rng = np.random.default_rng(0)
    offsets = 3 * rng.standard_normal((30, 48))
    x = offsets[np.unique(groups, return_inverse=True)[1]] + rng.standard_normal((len(labels), 48))
    ungrouped = activations(x[:, None], labels, np.array([f"g{i}" for i in range(len(labels))]))
    assert fit_probes(ungrouped, shuffles=0).best.accuracy > 0.95
    grouped = fit_probes(activations(x[:, None], labels, groups)).best.scores
    assert grouped.low <= 1 / 3 <= grouped.high
    # The band is that of 30 groups, not of 240 clips: labels move between groups as wholes.
    assert grouped.shuffled_high - grouped.shuffled_low > 0.15


def test_runs_with_other_labels_train_on_those_labels(monkeypatch):
    monkeypatch.setattr(fit, "shuffled_classes", lambda y, *_: np.array([y, (y + 1) % 3]))
    scores = fit_probes(planted(5.0)[0], layers=[1])[1].scores
    assert scores.shuffled_low > 0.9


@pytest.mark.parametrize("method", [*METHODS, "means"])
def test_law_08_a_planted_direction_is_recovered(method):
    acts, vectors = planted(2.0, clips=40)
    mean = np.mean(list(vectors.values()), 0)
    for class_, vector in vectors.items():
        found = (
            difference_in_means(acts, class_, layer=1)
            if method == "means"
            else fit_probes(acts, method=method, layers=[1], shuffles=0)[1].direction(class_)
        )
        truth = Direction(vector - mean, 1, origin={})
        assert found.cosine(truth) > 0.95, class_
        assert np.isclose(found.norm, 1, **ROUNDED)


@pytest.mark.parametrize("method", METHODS)
def test_law_08_folding_back_the_scaling_recovers_the_direction(method):
    rng = np.random.default_rng(0)
    scales = np.geomspace(0.05, 20, 32)
    x = rng.standard_normal((1500, 32)) * scales
    theta = rng.standard_normal(32) / scales
    labels = np.where(x @ theta + 0.3 * rng.standard_normal(1500) > 0, "jazz", "rock")
    acts = activations(x[:, None], labels, np.arange(1500).astype(str))
    probe = fit_probes(acts, method=method, shuffles=0)[0]
    found = probe.direction("jazz").vector
    cosine = found @ theta / np.linalg.norm(theta)
    unfolded = found * scales
    assert cosine > 0.95
    assert unfolded @ theta / np.linalg.norm(theta) / np.linalg.norm(unfolded) < 0.8


def test_directions_of_classes_differ_and_know_their_origin():
    acts, _ = planted(classes=6)
    sweep = fit_probes(acts, shuffles=0)
    directions = sweep.directions()
    assert list(directions) == list(sweep.classes)
    cosines = [a.cosine(b) for a in directions.values() for b in directions.values() if a != b]
    assert max(cosines) < 0.3
    jazz = directions["jazz"]
    assert (jazz.layer, jazz.name, jazz.residual_norm) == (1, "jazz", 20.0)
    assert jazz.origin["model_id"] == "m"
    assert jazz.origin["dataset_fingerprint"] == "f00"
    assert np.isclose(jazz.centre, acts.matrix(1).astype(float).mean(0) @ jazz.vector, **SUMMED)
    assert sweep.directions(0)["jazz"].layer == 0


def test_a_push_along_the_direction_raises_the_logit():
    acts, _ = planted()
    probe = fit_probes(acts, shuffles=0).best
    x = acts.matrix(1)
    moved = probe.logits(x + 3 * probe.direction("jazz").vector) - probe.logits(x)
    assert (moved.argmax(1) == probe.classes.index("jazz")).all()


@pytest.mark.parametrize("method", METHODS)
def test_probabilities_sum_to_1_and_follow_the_prediction(method):
    acts, _ = planted()
    probe = fit_probes(acts, method=method, shuffles=0).best
    shares = probe.predict_proba(acts.matrix(1))
    np.testing.assert_allclose(shares.sum(1), 1, **ROUNDED)
    assert shares.min() >= 0
    assert (np.array(probe.classes)[shares.argmax(1)] == probe.predict(acts.matrix(1))).mean() > 0.99


@pytest.mark.parametrize("method", METHODS)
def test_the_strength_is_chosen_for_accuracy_on_groups_set_aside(method):
    crushed, mild = 1e7, 1e-3
    acts = activations(*flipped(np.random.default_rng(1)))
    sweep = fit_probes(acts, method=method, l2=[crushed, mild], shuffles=0)
    assert sweep[0].l2 == mild
    # Chosen inside each fold too, or the held-out accuracy would be that of the crushed probe.
    assert sweep[0].accuracy > 0.9
    assert fit_probes(acts, method=method, l2=[crushed], shuffles=0)[0].accuracy < 0.8


def flipped(rng: np.random.Generator):
    """Return data in which the difference in means (a huge strength) misleads and a mild one works."""
    labels, groups = labels_and_groups(classes=2, groups=20, clips=10)
    sign = np.where(labels == "jazz", 1.0, -1.0)
    shared = rng.standard_normal(len(labels)) * 3
    x = np.stack([shared + 0.3 * sign, shared - 0.3 * sign], 1)
    x = np.hstack([x, rng.standard_normal((len(labels), 6))])
    return x[:, None], labels, groups


def test_equal_input_gives_equal_probes_and_the_seed_moves_the_folds():
    acts, _ = planted(0.8)
    one, two = (fit_probes(acts, shuffles=3) for _ in range(2))
    assert one.probes == two.probes
    assert one.held_out.equals(two.held_out)
    assert not fit_probes(acts, shuffles=3, seed=1).held_out.equals(one.held_out)


@pytest.mark.parametrize("method", METHODS)
def test_law_10_a_probe_comes_back_from_disk(tmp_path, method):
    acts, _ = planted()
    probe = fit_probes(acts, method=method, shuffles=0).best
    again = Probe.load(probe.save(tmp_path / "deep" / "probe.safetensors"))
    assert again == probe
    assert hash(again) == hash(probe)
    assert again.direction("jazz") == probe.direction("jazz")
    assert (again.logits(acts.matrix(1)) == probe.logits(acts.matrix(1))).all()
    for name in ("cut", "direction", "missing"):
        (tmp_path / "cut").write_bytes((tmp_path / "deep" / "probe.safetensors").read_bytes()[:-8])
        probe.direction("jazz").save(tmp_path / "direction")
        with pytest.raises(ProbeError, match="A probe was asked for from"):
            Probe.load(tmp_path / name)


def test_the_sweep_finds_the_best_layer_and_tells_of_all():
    acts, _ = planted(1.0, layers=3)
    sweep = fit_probes(acts)
    assert sweep.layers == (0, 1, 2)
    assert sweep.best.layer in (1, 2)
    table = sweep.table()
    assert table["layer"].tolist() == [0, 1, 2]
    assert (table["low"] <= table["accuracy"]).all()
    assert (table["accuracy"] <= table["high"]).all()
    assert {"macro_f1", "chance", "shuffled_mean", "shuffled_low", "shuffled_high", "n"} <= set(table)
    counts = sweep.confusion(1)
    assert counts.to_numpy().sum() == len(acts.clips)
    assert np.trace(counts) / counts.to_numpy().sum() == pytest.approx(sweep[1].accuracy)
    assert (counts.sum(1) == 80).all()
    assert [probe.layer for probe in fit_probes(acts, layers=[2], shuffles=0)] == [2]


def test_questions_that_have_no_answer_are_refused_with_what_is_held():
    acts, _ = planted()
    with pytest.raises(ActivationsError, match=r"'mood' was asked for.*labels are genre"):
        fit_probes(acts, "mood")
    with pytest.raises(ProbeError, match=r"'svm'.*logistic, ridge"):
        fit_probes(acts, method="svm")
    for strengths in ([], [0.0], [float("nan")], [-1]):
        with pytest.raises(ProbeError, match="finite number above 0"):
            fit_probes(acts, l2=strengths)
    with pytest.raises(ActivationsError, match="9"):
        fit_probes(acts, layers=[9])
    with pytest.raises(ProbeError, match="list of layers is empty"):
        fit_probes(acts, layers=[])
    sweep = fit_probes(acts, shuffles=0)
    with pytest.raises(ProbeError, match=r"layer 7.*0, 1"):
        sweep[7]
    with pytest.raises(ProbeError, match=r"'blues'.*classical, jazz, rock"):
        sweep.best.direction("blues")
    with pytest.raises(ProbeError, match="width 48"):
        sweep.best.logits(np.zeros((2, 7)))


def test_data_that_cannot_be_probed_is_refused_with_the_reason():
    labels, groups = labels_and_groups(groups=4)
    x = np.random.default_rng(0).standard_normal((len(labels), 1, 8))
    with pytest.raises(DatasetError, match="4 group"):
        fit_probes(activations(x, labels, groups))
    with pytest.raises(DatasetError, match="one class"):
        fit_probes(activations(x, np.full(len(labels), "jazz"), groups))
    tempo = np.random.default_rng(1).uniform(60, 180, len(labels))
    with pytest.raises(ProbeError, match="number with 96 different values"):
        fit_probes(activations(x, labels, groups, tempo=tempo), "tempo")


def test_without_a_residual_norm_only_doses_are_refused():
    acts, _ = planted()
    acts.data["residual_norm"][:] = np.nan
    direction = fit_probes(acts, shuffles=0).best.direction("jazz")
    with pytest.raises(SteeringError, match="residual norm"):
        direction.at(0.5)


def test_a_class_with_one_training_group_takes_the_middle_strength():
    labels, groups = labels_and_groups(groups=2)
    x = np.random.default_rng(0).standard_normal((len(labels), 1, 8))
    assert len(fit_probes(activations(x, labels, groups), folds=2, l2=[9, 3, 1])) == 1


def test_features_that_never_vary_do_no_harm():
    acts, _ = planted()
    x = np.concatenate([acts.matrix(1), np.full((240, 2), 0.1, np.float32) + 1e-9], 1)
    probe = fit_probes(activations(x[:, None], *labels_and_groups()), shuffles=0)[0]
    plain = fit_probes(acts, layers=[1], shuffles=0)[1]
    assert probe.accuracy == pytest.approx(plain.accuracy, abs=0.02)  # 4 of 240 clips
    assert np.abs(probe.weights[:, -2:]).max() < 1e-3


def test_difference_in_means_is_what_it_says():
    acts, _ = planted()
    x, (labels, _) = acts.matrix(1).astype(float), labels_and_groups()
    expected = x[labels == "jazz"].mean(0) - x[labels != "jazz"].mean(0)
    found = difference_in_means(acts, "jazz", layer=1)
    # float32 means over 80 rows of size 10, of which a small difference is taken
    np.testing.assert_allclose(found.vector, expected / np.linalg.norm(expected), rtol=1e-4, atol=1e-6)
    assert np.isclose(float(found.origin["distance"]), np.linalg.norm(expected), **SUMMED)  # six digits
    assert (found.layer, found.residual_norm, found.origin["model_id"]) == (1, 20.0, "m")
    assert np.isclose(found.centre, x.mean(0) @ found.vector, **SUMMED)
    with pytest.raises(SteeringError, match=r"'blues'.*classical, jazz, rock"):
        difference_in_means(acts, "blues", layer=1)


def test_fitting_uses_one_thread_and_gives_the_others_back(monkeypatch):
    from threadpoolctl import threadpool_info, threadpool_limits

    used, fit_layer = [], fit._fit_layer

    def watched(*args):
        used.extend(pool["num_threads"] for pool in threadpool_info())
        return fit_layer(*args)

    monkeypatch.setattr(fit, "_fit_layer", watched)
    acts, _ = planted(4.0)
    with threadpool_limits(limits=2):
        before = [pool["num_threads"] for pool in threadpool_info()]
        fit_probes(acts, folds=3, shuffles=1, l2=[1.0])
        assert [pool["num_threads"] for pool in threadpool_info()] == before
    assert used and set(used) == {1}


@pytest.mark.parametrize("threads", [1, 2])
def test_each_layer_is_reported_and_what_is_raised_then_ends_the_fit(threads):
    acts, _ = planted()
    seen = []
    whole = fit_probes(acts, l2=[0.1], shuffles=0, threads=threads, on_layer=lambda *at: seen.append(at))
    assert seen == [(done, len(whole)) for done in range(1, len(whole) + 1)] and len(whole) > 1

    def stop(done, _of):
        seen.append(done)
        raise KeyboardInterrupt

    seen.clear()
    with pytest.raises(KeyboardInterrupt):
        fit_probes(acts, l2=[0.1], shuffles=0, threads=threads, on_layer=stop)
    assert seen == [1]


def test_the_bar_of_a_fit_is_there_from_the_beginning(capsys):
    acts, _ = planted()
    fit_probes(acts, l2=[0.1], shuffles=0, on_layer=lambda *_at: None)
    assert f"Probing genre:   0%|          | 0/{len(acts.layers)}" in capsys.readouterr().err
