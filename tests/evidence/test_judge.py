"""The judge only ever hears the audio, tells what it was validated on, and refuses what it cannot do."""

import json

import numpy as np
import pytest
from tolerances import ROUNDED

from workbench.datasets import dataset
from workbench.errors import EvidenceError
from workbench.evidence.features import block_slices, feature_blocks, features
from workbench.evidence.judge import TrainedJudge, load_judge
from workbench.evidence.trials import hit_rates
from workbench.sound import Clip
from workbench.stats import wilson


@pytest.fixture(scope="module")
def judge() -> TrainedJudge:
    return load_judge()


@pytest.fixture(params=[16_000, 32_000], ids=["16 kHz", "32 kHz"])
def rate_hz(request) -> int:
    """The judges' own rate, and that of the built-in codec and of MusicGen's."""
    return request.param


@pytest.mark.parametrize("given_hz", [16_000, 44_100])
def test_features_are_those_of_the_sound_whatever_its_rate(judge, given_hz):
    """Measured in the spreads that the judge knows; taken for sound of another rate it lies 1.4 away.

    Resampling loses what lies at the upper edge of the spectrum: 0.005 in the mean, and 0.08 in one feature.
    """
    clip = dataset("embedded").clip(0).section(0, 5)
    mistaken = Clip(clip.resample(given_hz).samples, clip.rate_hz)
    own, same, wrong = (
        np.concatenate([feature_blocks(one)[name] for name in judge.hears])
        for one in (clip, clip.resample(given_hz), mistaken)
    )
    assert np.abs((same - own) / judge.scale).max() < 0.25
    assert np.abs((wrong - own) / judge.scale).mean() > 0.5


def test_features_do_not_depend_on_the_level(rate_hz):
    clip = dataset("embedded").clip(0).section(0, 5).resample(rate_hz)
    quiet = Clip(0.1 * clip.samples, clip.rate_hz)
    # decibels have a floor, which the quiet clip comes nearer to
    np.testing.assert_allclose(features(clip), features(quiet), atol=2e-3, rtol=1e-2)


def test_a_judge_is_deaf_to_blocks_it_was_not_given(judge):
    vectors = np.random.default_rng(0).normal(size=(3, block_slices()["melody"].stop))
    deaf_to = next(name for name in block_slices() if name not in judge.hears)
    changed = vectors.copy()
    changed[:, block_slices()[deaf_to]] += 5
    np.testing.assert_array_equal(judge.probabilities_of(changed), judge.probabilities_of(vectors))


def test_layers_are_rectified_between_and_not_behind_the_last(judge):
    whole = max(part.stop for part in block_slices().values())
    vectors = np.zeros((4, whole))
    heard = np.concatenate([np.arange(whole)[block_slices()[name]] for name in judge.hears])
    standard = np.random.default_rng(0).normal(size=(4, len(heard)))
    vectors[:, heard] = standard * judge.scale + judge.mean
    *hidden, (weight, bias) = judge.layers
    for inner, offset in hidden:
        standard = np.maximum(standard @ inner + offset, 0)
    outputs = standard @ weight + bias
    assert (outputs < 0).any(), "what speaks against a class must count"
    odds = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(judge.probabilities_of(vectors), odds, rtol=1e-3, atol=1e-6)  # float32


def test_vectors_of_another_length_are_refused(judge):
    with pytest.raises(EvidenceError, match="got vectors of 7"):
        judge.probabilities_of(np.zeros((2, 7)))


def test_a_judge_of_older_features_is_refused(judge, tmp_path):
    judge.save(tmp_path)
    path = tmp_path / "genre.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"features": "older"}))
    with pytest.raises(EvidenceError, match="fitted to features older"):
        TrainedJudge.load(tmp_path)


def test_blocks_lie_end_to_end_in_the_vector(rate_hz):
    clip = dataset("embedded").clip(3).section(0, 5).resample(rate_hz)
    vector, blocks = features(clip), feature_blocks(clip)
    assert np.isfinite(vector).all()
    for name, part in block_slices().items():
        np.testing.assert_allclose(vector[part], blocks[name], **ROUNDED)
    assert sum(len(b) for b in blocks.values()) == len(vector)


def test_the_judge_hears_the_genre_of_shipped_pieces(judge, rate_hz):
    songs = dataset("embedded").take(5, seed=3)
    heard = judge.decide([songs.clip(i).section(0, 5).resample(rate_hz) for i in range(len(songs))])
    assert np.mean(np.array(heard) == songs.labels()) >= 0.85


@pytest.mark.parametrize("target", ["genre", "tempo", "mode", "mood", "lead"])
def test_a_judge_ships_for_each_attribute_and_names_the_features_it_uses(target):
    judge = load_judge(target)
    assert judge.target == target
    assert set(judge.classes) == set(dataset("embedded").labels(target).tolist())
    assert judge.hears and set(judge.hears) <= set(block_slices())


def test_the_judge_was_tested_on_a_soundfont_it_never_heard(judge):
    assert judge.card["test_accuracy"] >= 0.92
    assert judge.card["test_accuracy_shipped_sounds"] >= 0.95


def test_probabilities_sum_to_one_and_a_judge_round_trips(judge, tmp_path, rate_hz):
    rng = np.random.default_rng(0)
    noise = [Clip(rng.normal(0, 0.1, 2 * rate_hz).astype(np.float32), rate_hz)]
    odds = judge.probabilities(noise)
    assert odds.shape == (1, len(judge.classes))
    assert odds.sum() == pytest.approx(1)
    again = TrainedJudge.load(judge.save(tmp_path))
    np.testing.assert_array_equal(again.probabilities(noise), odds)
    assert json.loads((tmp_path / "genre.json").read_text())["classes"] == list(judge.classes)


def test_no_clips_and_no_such_judge_are_told(judge):
    with pytest.raises(EvidenceError, match="no clips"):
        judge.probabilities([])
    with pytest.raises(EvidenceError, match=r"holds: .*genre"):
        load_judge("loudness")


def test_wilson_agrees_with_published_values():
    low, high = wilson(8, 10)
    assert (low, high) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))
    assert wilson(0, 20)[0] == 0.0
    assert wilson(20, 20)[1] == 1.0


def test_hit_rates_count_each_cell():
    import pandas as pd

    table = pd.DataFrame(
        {"aim": ["a", "a", "b"], "method": "probe", "layer": 1, "dose": 0.5, "hit": [True, False, True]}
    )
    rates = hit_rates(table).set_index("aim")
    assert rates.loc["a", "hit_rate"] == 0.5
    assert rates.loc["b", "n"] == 1
