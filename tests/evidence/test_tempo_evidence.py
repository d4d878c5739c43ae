"""Two opinions on tempo agree with known clicks, and say so when they have none."""

import numpy as np
import pytest
from tolerances import DOUBLE

from workbench.errors import EvidenceError
from workbench.evidence.features import block_slices
from workbench.evidence.judge import TrainedJudge, expected_bpm, fold_octaves, librosa_tempo
from workbench.sound import Clip

RATE = 16_000


def clicks(bpm: float) -> Clip:
    samples = np.random.default_rng(0).normal(0, 1e-3, 5 * RATE).astype(np.float32)
    for start in np.arange(0, 4.9, 60 / bpm):
        at = int(start * RATE)
        samples[at : at + 400] += 0.5 * np.exp(-np.arange(400) / 80).astype(np.float32)
    return Clip(samples, RATE)


@pytest.fixture
def coin() -> TrainedJudge:
    """A judge that is sure of nothing: both of its tempi are equally likely."""
    pulse = block_slices()["pulse"]
    size = pulse.stop - pulse.start
    layers = ((np.zeros((size, 2)), np.zeros(2)),)
    card = {"bpm": {"slow": 80.0, "fast": 120.0}}
    return TrainedJudge("tempo", ("fast", "slow"), np.zeros(size), np.ones(size), layers, card, ("pulse",))


@pytest.mark.parametrize("bpm", [75.0, 93.75, 125.0])
def test_librosa_finds_the_tempo_of_clicks(bpm):
    assert librosa_tempo(clicks(bpm)) == pytest.approx(bpm, rel=0.04)


def test_octaves_are_folded_into_the_range():
    assert fold_octaves(187.5) == 93.75
    assert fold_octaves(50) == 100
    assert fold_octaves(125) == 125
    with pytest.raises(EvidenceError, match="positive tempo"):
        fold_octaves(0)


def test_a_clip_without_onsets_has_no_tempo():
    assert librosa_tempo(Clip(np.zeros(RATE, np.float32), RATE)) == 0


def test_the_expected_tempo_weighs_classes_by_probability(coin):
    np.testing.assert_allclose(expected_bpm(coin, [clicks(90), clicks(120)]), [100, 100], **DOUBLE)
    np.testing.assert_allclose(expected_bpm(coin, [clicks(90)], {"slow": 60, "fast": 100}), [80], **DOUBLE)


def test_classes_without_a_tempo_are_told(coin):
    with pytest.raises(EvidenceError, match="has no such figure"):
        expected_bpm(coin, [clicks(90)], {"slow": 60})
