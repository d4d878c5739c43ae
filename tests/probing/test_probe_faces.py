"""The notebook user's reflexes: probes show themselves, draw themselves, and speak scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from planted import activations, labels_and_groups, planted
from sklearn.linear_model import LogisticRegression
from tolerances import DOUBLE

from workbench.errors import RenamedWarning
from workbench.probing import fit_multilabel, fit_probes, fit_regression, project, regularization_path
from workbench.probing.diagnosis import diagnose


@pytest.fixture(scope="module")
def acts():
    rng = np.random.default_rng(0)
    labels, groups = labels_and_groups(clips=3)
    x = rng.standard_normal((len(labels), 2, 12))
    x[:, 1, 0] += 3 * (labels == "jazz")
    tags = np.where(labels == "jazz", "<b>|loud", np.where(rng.random(len(labels)) < 0.5, "loud", ""))
    return activations(x, labels, groups, tags=tags, bpm=110 + 20 * x[:, 1, 1])


@pytest.fixture(scope="module")
def sweeps(acts):
    return {
        "probe": fit_probes(acts, l2=[0.1], shuffles=3, progress=False),
        "number": fit_regression(acts, "bpm", l2=[0.1], shuffles=3, progress=False),
        "label": fit_multilabel(acts, l2=[0.1], progress=False),
    }


@pytest.mark.parametrize("kind", ["probe", "number", "label"])
def test_probes_and_layers_show_a_table(kind, sweeps):
    sweep = sweeps[kind]
    whole, single = sweep._repr_html_(), sweep[1]._repr_html_()
    assert (whole.count("<tr"), single.count("<tr")) == (3, 2)  # a head, and a row per layer
    assert f"best at layer {sweep.best.layer}" in whole
    assert "at layer 1" in single
    for name in sweep.table().columns:
        assert f"<th>{name}</th>" in whole
    assert f"{sweep[1].headline[0]:.3g}" in single


@pytest.mark.parametrize("kind", ["probe", "number", "label"])
def test_probes_and_layers_draw_their_held_out_figures(kind, sweeps):
    sweep = sweeps[kind]
    for drawn, probes in ((sweep.plot(), list(sweep)), (sweep[1].plot(), [sweep[1]])):
        values = [v for trace in drawn.data for axis in (trace.x, trace.y) if axis is not None for v in axis]
        values = [value for value in values if isinstance(value, int | float)]
        for probe in probes:
            assert np.isclose(values, probe.headline[0], **DOUBLE).any()
    if kind == "label":
        assert any("loud" in str(trace.y) for trace in sweep[1].plot().data)
    elif kind == "number":
        assert any("shuffled" in str(trace.y) for trace in sweep[1].plot().data)
    assert drawn.layout.title.text


@pytest.mark.parametrize("classes", [2, 3])
def test_a_probe_has_the_face_of_a_classifier_of_scikit_learn(classes):
    acts, _ = planted(1.0, d=16, classes=classes)
    probe = fit_probes(acts, l2=[0.1], layers=[1], shuffles=0, progress=False).best
    x, y = acts.matrix(1).astype(float), acts.labels()
    twin = LogisticRegression().fit(x, y)
    assert probe.classes_.tolist() == twin.classes_.tolist()
    assert probe.coef_.shape == twin.coef_.shape
    assert probe.intercept_.shape == twin.intercept_.shape
    twin.coef_, twin.intercept_ = probe.coef_, probe.intercept_
    np.testing.assert_allclose(probe.decision_function(x), twin.decision_function(x), **DOUBLE)
    np.testing.assert_allclose(probe.predict_proba(x), twin.predict_proba(x), **DOUBLE)
    assert (probe.predict(x) == twin.predict(x)).all()
    assert probe.score(x, y) == pytest.approx(twin.score(x, y))
    assert 0.5 < probe.score(x, y) < 1


def test_former_names_work_for_one_release_and_warn(acts, sweeps):
    names = [("probe", "strength"), ("number", "strength"), ("label", "strengths")]
    for kind, name in names:
        with pytest.warns(RenamedWarning, match=rf"{name} is now \.l2"):
            assert np.all(getattr(sweeps[kind].best, name) == 0.1)
    with pytest.warns(RenamedWarning, match=r"fit_probes\(strengths=...\) is now l2="):
        again = fit_probes(acts, strengths=[0.1], shuffles=3, progress=False)
    assert again == sweeps["probe"]
    with pytest.warns(RenamedWarning):
        assert len(regularization_path(acts, 1, "jazz", strengths=[1.0])) == 1
    with pytest.warns(RenamedWarning):
        assert (sweeps["label"].held == sweeps["label"].present).all()
    report = diagnose(acts, sweep=sweeps["probe"], views=False)
    with pytest.warns(RenamedWarning, match=r"ProbeReport.case is now \.evaluation"):
        evaluation = report.case
    with pytest.warns(RenamedWarning, match=r"held is now \.held_out"):
        assert evaluation.held is evaluation.held_out
    with pytest.warns(RenamedWarning, match=r"project\(seed=...\) is now random_state="):
        assert project(acts, 1, method="pca", seed=3).seed == 3
