"""Probe methods of one's own: by name, as an object, as a plain function; in files, labs and diagnoses."""

from __future__ import annotations

import runpy
import subprocess
import sys

import numpy as np
import pytest
from contributing import example_file
from planted import planted
from tolerances import DOUBLE

from workbench.errors import ProbeError
from workbench.probing import (
    PROBE_METHODS,
    Probe,
    ProbeMethod,
    fit_multilabel,
    fit_probes,
    register_probe_method,
)
from workbench.probing.diagnosis import diagnose, evaluate_probe
from workbench.probing.solvers import probabilities

EXAMPLE = example_file("A probe method")
QUICK = {"shuffles": 0, "folds": 3, "progress": False}


@pytest.fixture
def shrunken(monkeypatch):
    """The method that the example registers; what it registers is gone afterwards."""
    for name, method in PROBE_METHODS.items():
        monkeypatch.setitem(PROBE_METHODS, name, method)
    runpy.run_path(str(EXAMPLE))
    yield PROBE_METHODS["shrunken"]
    del PROBE_METHODS["shrunken"]


def plain_means(x, y, classes):
    """Return the nearest class mean, without any scale."""
    means = np.stack([x[y == one].mean(0) for one in range(classes)])
    return means, -(means**2).sum(1) / 2


def test_the_example_is_short_and_its_method_reads_what_is_planted(shrunken):
    assert len(EXAMPLE.read_text().splitlines()) <= 30
    acts, vectors = planted(4.0)
    sweep = fit_probes(acts, method="shrunken", **QUICK)
    assert sweep.method == "shrunken"
    assert sweep[1].accuracy > 0.9
    assert sweep[0].accuracy < 0.6
    assert sweep[1].l2 in shrunken.l2
    for name, vector in vectors.items():
        others = np.mean([one for other, one in vectors.items() if other != name], axis=0)
        away = (vector - others) / np.linalg.norm(vector - others)
        assert sweep[1].direction(name).vector @ away > 0.9
    assert fit_probes(acts, method=shrunken, **QUICK).probes == sweep.probes


def test_class_weights_reach_a_method_of_ones_own(shrunken):
    acts, _ = planted(1.0, d=16)
    plain, heavy = (
        fit_probes(acts, method="shrunken", layers=[1], class_weights=one, **QUICK)
        for one in (None, {"rock": 20.0})
    )
    named = [(sweep.held_out["predicted"] == "rock").mean() for sweep in (plain, heavy)]
    assert named[1] > named[0] + 0.2


def test_a_probe_is_diagnosed_by_the_method_that_fitted_it(shrunken):
    acts, _ = planted(2.0, d=16)
    sweep = fit_probes(acts, method="shrunken", shuffles=0, l2=[0.1], progress=False)
    report = diagnose(acts, sweep=sweep, views=False)
    assert report.evaluation.method is shrunken
    assert report.evaluation.accuracy.value == pytest.approx(sweep.best.accuracy)
    again = diagnose(acts, method=plain_means, layer=1, views=False)
    assert again.evaluation.method.name == "plain_means"
    unnamed = fit_probes(acts, method=plain_means, **QUICK)[1]
    with pytest.raises(ProbeError, match=r"'plain_means'.*logistic, ridge, means, .*shrunken"):
        evaluate_probe(acts, unnamed)
    assert evaluate_probe(acts, unnamed, method=plain_means).accuracy.value > 0.5


def test_law_10_a_probe_loads_and_reads_without_the_extension(shrunken, tmp_path):
    acts, _ = planted(2.0, d=16)
    method = ProbeMethod("shares of my own", shrunken.fit, "shares", shrunken.l2)
    path = fit_probes(acts, method=method, layers=[1], **QUICK).best.save(tmp_path / "probe.safetensors")
    x = acts.matrix(1)[:5]
    expected = Probe.load(path).predict_proba(x)
    np.save(tmp_path / "x.npy", x)
    text = (
        "import sys, numpy as np; from workbench.probing import Probe; probe = Probe.load(sys.argv[1]); "
        "print(probe.method, probe.read_out().link); "
        "np.save(sys.argv[3], probe.predict_proba(np.load(sys.argv[2])))"
    )
    names = [str(tmp_path / name) for name in ("probe.safetensors", "x.npy", "found.npy")]
    done = subprocess.run([sys.executable, "-c", text, *names], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "shares of my own shares"
    np.testing.assert_array_equal(np.load(names[2]), expected)
    np.testing.assert_allclose(expected.sum(1), 1, **DOUBLE)


@pytest.mark.parametrize("link", ["softmax", "shares", "sigmoid"])
def test_probabilities_are_those_of_the_gates_that_read_out_the_probe(link, shrunken):
    import torch

    acts, _ = planted(2.0, d=16)
    probe = fit_probes(acts, method=ProbeMethod("own", shrunken.fit, link, (0.1,)), layers=[1], **QUICK).best
    x = acts.matrix(1)
    read = probe.read_out().probabilities(torch.tensor(x)).numpy()
    np.testing.assert_allclose(probe.predict_proba(x), read, atol=1e-5)
    assert (probabilities(probe.logits(x), link) == probe.predict_proba(x)).all()


def test_a_plain_function_fits_probes_of_classes_and_of_labels():
    acts, _ = planted(4.0, d=16)
    sweep = fit_probes(acts, method=plain_means, layers=[1], **QUICK)
    assert (sweep.method, np.isnan(sweep.best.l2)) == ("plain_means", True)
    assert sweep.best.accuracy > 0.9
    labels = fit_multilabel(acts, "genre", method=plain_means, class_weights=None, folds=3, layers=[1])
    assert labels.best.scores.average_precision > 0.8
    with pytest.raises(ProbeError, match=r"plain function is not told.*class_weights=None"):
        fit_multilabel(acts, "genre", method=plain_means, folds=3, layers=[1])


def test_methods_that_cannot_fit_are_refused_with_what_they_gave():
    acts, _ = planted(d=16)
    gives = {
        r"weights have the shape \(2, 2\)": lambda x, y, classes: (np.zeros((2, 2)), np.zeros(2)),
        "not finite": lambda x, y, classes: (np.full((3, 16), np.nan), np.zeros(3)),
    }
    for words, function in gives.items():
        with pytest.raises(ProbeError, match=words):
            fit_probes(acts, method=function, **QUICK)
    short = ProbeMethod("short", lambda design, truth, l2: [(np.zeros((3, 16)), np.zeros(3))], l2=(1.0, 0.1))
    with pytest.raises(ProbeError, match="1 pairs of weights and bias for 2 values of l2"):
        fit_probes(acts, method=short, **QUICK)
    for wrong in ({"link": "log"}, {"name": ""}, {"fit": 3}, {"l2": (0.0,)}):
        with pytest.raises(ProbeError, match=r"(was|were) asked for"):
            ProbeMethod(**{"name": "x", "fit": plain_means, **wrong})
    with pytest.raises(ProbeError, match="built-in method has this name"):
        register_probe_method(ProbeMethod("ridge", plain_means))
    with pytest.raises(ProbeError, match="no ProbeMethod"):
        register_probe_method(plain_means)


def test_the_command_line_fits_by_the_method_of_an_extension(shrunken, tmp_path, monkeypatch, capsys):
    import workbench
    from workbench.cli.main import main

    del PROBE_METHODS["shrunken"]  # the file brings it
    acts, _ = planted(3.0, d=16)
    monkeypatch.setattr(workbench, "open_activations", lambda path: acts, raising=False)
    copy = tmp_path / "own.py"
    copy.write_text(EXAMPLE.read_text())
    asked = [
        "probe",
        "acts.zarr",
        "--extension",
        str(copy),
        "--method",
        "shrunken",
        "-o",
        str(tmp_path / "out"),
    ]
    assert main(asked) == 0
    assert "shrunken" in (tmp_path / "out" / "table.csv").read_text()
