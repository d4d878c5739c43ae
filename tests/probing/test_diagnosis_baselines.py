"""Baselines: same splits, paired leads, and features that come from where they say."""

from __future__ import annotations

import numpy as np
import pytest
from planted import planted
from tolerances import ROUNDED, SUMMED

from workbench.errors import ProbeError
from workbench.model.capture import capture
from workbench.model.teacher_forcing import codes_for, codes_match_codec
from workbench.probing import fit_probes
from workbench.probing.crossval import cross_validate
from workbench.probing.diagnosis import baselines, evaluate_probe
from workbench.probing.diagnosis.baselines import (
    clip_statistics,
    codec_histogram,
    random_weights,
    sound_statistics,
    text_embedding,
    untrained,
)
from workbench.sound import Clip


@pytest.fixture(scope="module")
def case():
    acts, _ = planted(1.5, clips=4)
    return evaluate_probe(acts, fit_probes(acts, layers=[1], l2=[0.1], shuffles=0, progress=False)[1])


def test_a_baseline_uses_the_probes_folds_and_a_paired_lead(case):
    rng = np.random.default_rng(0)
    weak = np.eye(3)[case.y] + 1.5 * rng.standard_normal((len(case.y), 3))
    found = baselines(case, {"weak": weak, "noise": rng.standard_normal((len(case.y), 4))})
    twin = cross_validate(weak, case.y, case.splits, groups=case.groups).predicted == case.y
    assert found.accuracy["weak"].value == pytest.approx(twin.mean())
    assert found.lead["weak"].value == pytest.approx(case.correct.mean() - twin.mean())
    assert found.strongest == "weak"
    assert found.effect == found.lead["weak"].value
    assert found.accuracy["noise"].low < 1 / 3 < found.accuracy["noise"].high
    table = found.table()
    assert table["features"].tolist() == ["layer 1", "weak", "noise"]
    assert table["lead"].tolist()[0] == 0
    assert "weak" in found.sentence()
    assert f"{found.probe.value:.2f}" in found.sentence()


def test_a_baseline_that_is_the_probe_s_own_input_has_no_lead(case):
    found = baselines(case, {"itself": case.x})
    assert abs(found.effect) < 0.05
    assert "not shown to add" in found.sentence()


def test_features_that_do_not_fit_are_refused(case):
    with pytest.raises(ProbeError, match="no features were given"):
        baselines(case, {})
    with pytest.raises(ProbeError, match=r"their shape is \(2, 3\)"):
        baselines(case, {"codes": np.zeros((2, 3))})
    with pytest.raises(ProbeError, match="some are not finite"):
        baselines(case, {"codes": np.full((len(case.y), 2), np.nan)})


def test_the_histogram_counts_every_code_of_every_codebook(tiny_model, tiny_dataset):
    some = tiny_dataset.subset([0, 7])
    rows = codec_histogram(tiny_model, some, seconds=1.0)
    size = tiny_model.codebook_size
    assert rows.shape == (2, tiny_model.n_codebooks * size)
    stored = codes_match_codec(tiny_model, some)
    for row, entry in zip(rows, some, strict=True):
        codes = codes_for(tiny_model, some, entry, seconds=1.0, stored=stored)
        shares = (row**2).reshape(tiny_model.n_codebooks, size)
        np.testing.assert_allclose(shares.sum(1), 1, **ROUNDED)
        assert shares[1, codes[1, 0]] == pytest.approx((codes[1] == codes[1, 0]).mean())


def test_statistics_of_a_tone_show_its_pitch_class_and_its_level(tiny_dataset):
    time_s = np.arange(22_050) / 22_050
    tone = 0.2 * np.sin(2 * np.pi * 440 * time_s)
    quiet, loud = (clip_statistics(Clip(gain * tone, 22_050)) for gain in (0.1, 1.0))
    assert loud.shape == (192,)
    assert np.argmax(loud[168:180]) == 9  # A, counted from C
    assert loud[:64].max() - quiet[:64].max() == pytest.approx(20, abs=0.01)
    assert sound_statistics(tiny_dataset.subset([0, 1]), seconds=0.5).shape == (2, 192)


def test_equal_texts_have_equal_embeddings_and_no_text_has_none(tiny_model):
    rows = text_embedding(tiny_model, ["jazz", "", "rock", "jazz"])
    assert rows.shape == (4, tiny_model.d_model)
    assert (rows[0] == rows[3]).all()
    assert not np.allclose(rows[0], rows[2], **ROUNDED)
    assert not rows[1].any()
    states = tiny_model.text(["jazz"]).states[0].numpy()
    np.testing.assert_allclose(rows[0], states.mean(0), **SUMMED)


def test_an_untrained_twin_shares_codec_and_text_not_the_decoder(tiny_model, tiny_dataset):
    twin, again = untrained(tiny_model, seed=1), untrained(tiny_model, seed=1)
    clip = tiny_dataset.clip(0).section(0, 1)
    assert (twin.encode(clip) == tiny_model.encode(clip)).all()
    some = tiny_dataset.subset([0, 1])
    settings = {"seconds": 0.5, "cache": False, "progress": False}
    own = capture(tiny_model, some, layers=[1], **settings).matrix(1)
    rows = random_weights(tiny_model, some, layer=1, seed=1, **settings)
    assert rows.shape == own.shape
    assert not np.allclose(rows, own, atol=0.1)
    np.testing.assert_array_equal(rows, capture(again, some, layers=[1], **settings).matrix(1))
    assert twin.fingerprint == again.fingerprint
    assert twin.fingerprint not in (tiny_model.fingerprint, untrained(tiny_model, seed=2).fingerprint)
