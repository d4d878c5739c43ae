"""Erasers: what is erased cannot be read, LEACE changes least, and a plan does what its eraser does."""

from __future__ import annotations

from typing import Any

import numpy as np
import planted
import pytest
import torch
from steering_fixture import direction
from tolerances import SUMMED

from workbench.activations import Activations
from workbench.errors import EvidenceError
from workbench.evidence.erasure import METHODS, Eraser, fit_eraser
from workbench.generation.generate import generate
from workbench.probing import fit_probes
from workbench.steering.operations import OPERATIONS


def skewed(seed: int = 0, d: int = 32) -> Activations:
    """Return planted genres in noise whose axes differ in size by 30 to 1 and are mixed."""
    acts, _vectors = planted.planted(3.0, seed=seed, d=d, layers=2, clips=20)
    rng = np.random.default_rng(seed)
    mixing = np.linalg.qr(rng.standard_normal((d, d)))[0] * np.geomspace(0.2, 6, d)
    x = np.stack([acts.matrix(layer) for layer in (0, 1)], axis=1) @ mixing
    return planted.activations(x, acts.labels(), acts.groups)


def apart(x: np.ndarray, labels: np.ndarray) -> float:
    """Return the largest distance of a class mean from the mean of all, in deviations."""
    middle = x.mean(0)
    return float(max(np.abs(x[labels == name].mean(0) - middle).max() for name in set(labels)) / x.std())


@pytest.mark.parametrize("class_", ["jazz", None])
@pytest.mark.parametrize("method", METHODS)
def test_law_an_erased_class_has_the_mean_of_all(method: str, class_: str | None) -> None:
    acts = skewed()
    x, labels = acts.matrix(1).astype(float), acts.labels()
    names = labels if class_ is None else np.where(labels == class_, class_, "rest")
    eraser = fit_eraser(acts, 1, class_, method=method)
    assert apart(x, names) > 0.1
    assert apart(eraser(x), names) < 1e-6
    assert np.allclose(eraser(eraser(x)), eraser(x), **SUMMED), "erasing twice is erasing once"
    assert len(eraser.reads) == len(eraser.writes) == (1 if class_ else 2)


def test_law_leace_changes_the_data_less_than_a_projection() -> None:
    for seed in range(3):
        acts = skewed(seed)
        x = acts.matrix(1).astype(float)
        leace, plain = (fit_eraser(acts, 1, method=one)(x) - x for one in METHODS)
        assert (leace**2).sum() < 0.9 * (plain**2).sum()
        spread = np.linalg.inv(np.cov(x.T))
        assert np.einsum("ni,ij,nj", leace, spread, leace) < np.einsum("ni,ij,nj", plain, spread, plain)


def test_a_probe_finds_nothing_where_a_planted_genre_was_erased() -> None:
    acts, vectors = planted.planted(2.0, clips=20)
    before = fit_probes(acts, "genre", layers=[1], shuffles=0)[1].accuracy
    eraser = fit_eraser(acts, 1)
    x = np.stack([acts.matrix(0), eraser(acts.matrix(1))], axis=1)
    after = fit_probes(planted.activations(x, acts.labels(), acts.groups), "genre", layers=[1], shuffles=0)[1]
    assert before > 0.8 and after.accuracy < 0.45  # chance is a third
    centred = np.stack([*vectors.values()]) - np.mean([*vectors.values()], axis=0)
    basis = np.linalg.qr(eraser.writes.T)[0]
    kept = np.linalg.norm(centred @ basis, axis=1) / np.linalg.norm(centred, axis=1)
    assert (kept > 0.95).all(), "what was planted lies in what is erased"


@pytest.mark.parametrize("method", METHODS)
def test_a_plan_does_what_its_eraser_does(method: str, forget_extensions: None) -> None:
    eraser = fit_eraser(skewed(), 1, method=method)
    h = torch.randn(4, 3, 32, generator=torch.Generator().manual_seed(0))
    for weight in (1.0, 0.5, 0.0):
        found = h
        for term in eraser.plan(weight=weight).terms:
            vector = torch.tensor(term.direction.vector)
            found = OPERATIONS[term.operation](found, vector, term.dose, centre=term.direction.centre)
        expected = h + weight * (torch.tensor(eraser(h.double().numpy())).float() - h)
        assert torch.allclose(found, expected, rtol=1e-4, atol=1e-3)  # values of size 30, and a mean of 5
    assert [term.operation[:5] for term in eraser.plan().terms] == (
        ["leace"] if method == "leace" else ["remov", "remov"]
    )
    again = fit_eraser(skewed(), 1, method=method)
    assert again.plan().terms[0].operation == eraser.plan().terms[0].operation


@pytest.mark.parametrize("method", METHODS)
def test_music_is_drawn_with_an_eraser(tiny_model: Any, method: str, forget_extensions: None) -> None:
    rng = np.random.default_rng(0)
    one = direction(tiny_model, 2)
    basis = one.vector[None].astype(float)
    eraser = Eraser(
        "jazz", method, 2, "resid_post", rng.standard_normal(32), basis, basis, 1.0, tiny_model.id
    )
    settings = {"seed": 3, "seconds": 0.4, "progress": False}
    take = generate(tiny_model, "a tune", steering=eraser.plan(), **settings)
    assert take.receipt.ok and take.receipt.changed == 2 * 13  # steps of both branches
    assert not np.array_equal(take.codes, generate(tiny_model, "a tune", **settings).codes)


def test_what_cannot_be_erased_is_refused_in_words() -> None:
    acts = skewed()
    with pytest.raises(EvidenceError, match="the classes classical, jazz, rock"):
        fit_eraser(acts, 1, "polka")
    with pytest.raises(EvidenceError, match="the methods are leace, projection"):
        fit_eraser(acts, 1, method="inlp")
    same = planted.activations(np.zeros((8, 2, 4)), np.array(["a", "b"] * 4), np.arange(8).astype(str))
    with pytest.raises(EvidenceError, match="do not differ"):
        fit_eraser(same, 1)
