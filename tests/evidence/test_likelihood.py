"""The likelihood of codes is that which free generation saw, whatever the batch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from evidence_samples import seen_while_drawing
from tolerances import NETWORK, SUMMED

from workbench.errors import EvidenceError
from workbench.evidence.damage import likelihood
from workbench.generation.generate import generate


def test_the_likelihood_is_what_free_generation_saw(tiny_model, monkeypatch):
    take, logits = seen_while_drawing(tiny_model, "a calm tune", monkeypatch=monkeypatch)
    (found,) = likelihood(tiny_model, [take])
    assert found.nats.shape == take.codes.shape
    for book, row in enumerate(take.codes):
        for frame, code in enumerate(row):
            said = logits[frame + tiny_model.delays[book], book]
            by_hand = float(torch.logsumexp(said, 0) - said[int(code)])
            assert np.isclose(found.nats[book, frame], by_hand, **NETWORK)
    assert np.isclose(found.nll, found.nats.mean(), **SUMMED)
    assert np.allclose(found.per_codebook, found.nats.mean(1), **SUMMED)
    row = found.row()
    assert list(row) == ["nll", "nll_0", "nll_1", "nll_2", "nll_3"]
    assert row["nll_2"] == found.per_codebook[2] != found.per_codebook[1]


def test_the_take_is_read_under_its_own_prompt(tiny_model):
    take = generate(tiny_model, "a calm tune", seed=3, seconds=1.0, guidance=1.0, progress=False)
    other = replace(take, prompt="energetic rock with drums")
    mine, theirs = likelihood(tiny_model, [take, other])
    assert abs(mine.nll - theirs.nll) > 1e-4


def test_the_models_own_codes_are_likelier_than_shuffled_ones(tiny_model):
    near_greedy = generate(
        tiny_model, ["a tune"] * 3, seed=[1, 2, 3], seconds=2.0, guidance=1.0, temperature=0.2,
        progress=False,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    shuffled = [replace(take, codes=rng.permuted(take.codes, axis=1)) for take in near_greedy]
    for whole, mixed in zip(
        likelihood(tiny_model, near_greedy), likelihood(tiny_model, shuffled), strict=True
    ):
        assert whole.nll < mixed.nll - 0.2


def test_a_batch_of_takes_of_different_lengths_and_prompts_equals_singles(tiny_model):
    takes = [
        generate(tiny_model, prompt, seed=seed, seconds=seconds, progress=False)
        for seed, (prompt, seconds) in enumerate(
            [("a tune", 1.0), ("a sad slow piece of music with piano", 0.4), ("jazz", 1.6)]
        )
    ]
    singles = [likelihood(tiny_model, [take])[0] for take in takes]
    for batch in (2, 8):
        for alone, together in zip(singles, likelihood(tiny_model, takes, batch=batch), strict=True):
            assert together.nats.shape == alone.nats.shape
            assert np.allclose(together.nats, alone.nats, **SUMMED)


def test_scoring_leaves_the_model_as_it_was(tiny_model):
    asked = {"seed": 5, "seconds": 0.6, "progress": False}
    before = generate(tiny_model, "a tune", **asked)
    likelihood(tiny_model, [before])
    assert generate(tiny_model, "a tune", **asked) == before


def test_what_cannot_be_scored_is_refused(tiny_model):
    with pytest.raises(EvidenceError, match="no takes"):
        likelihood(tiny_model, [])
    take = generate(tiny_model, "a tune", seconds=0.4, progress=False)
    for codes in (take.codes[:2], take.codes + tiny_model.codebook_size):
        with pytest.raises(EvidenceError, match="4 codebooks of 64"):
            likelihood(tiny_model, [replace(take, codes=codes)])
