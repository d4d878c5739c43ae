"""The judge hears sound only, tells what it was validated on, and refuses what it cannot do."""

import json

import numpy as np
import pytest

from workbench.datasets import dataset
from workbench.errors import EvidenceError
from workbench.evidence.features import features
from workbench.evidence.judge import Judge, load_judge
from workbench.evidence.sweep import hit_rates, wilson
from workbench.sound import Clip


@pytest.fixture(scope="module")
def judge() -> Judge:
    return load_judge()


def test_features_do_not_depend_on_the_level():
    clip = dataset("embedded").clip(0).section(0, 5)
    quiet = Clip(0.1 * clip.samples, clip.rate_hz)
    np.testing.assert_allclose(features(clip), features(quiet), atol=2e-3, rtol=1e-2)


def test_the_judge_hears_the_genre_of_shipped_pieces(judge):
    songs = dataset("embedded").take(5, seed=3)
    heard = judge.decide([songs.clip(i).section(0, 5) for i in range(len(songs))])
    assert np.mean(np.array(heard) == songs.labels()) >= 0.85


def test_the_judge_passed_its_exam_on_a_soundfont_it_never_heard(judge):
    assert judge.card["exam_accuracy"] >= 0.95
    assert judge.card["exam_accuracy_through_codec"] >= 0.90


def test_probabilities_sum_to_one_and_a_judge_round_trips(judge, tmp_path):
    rng = np.random.default_rng(0)
    noise = [Clip(rng.normal(0, 0.1, 32000).astype(np.float32), 16000)]
    odds = judge.probabilities(noise)
    assert odds.shape == (1, len(judge.classes))
    assert odds.sum() == pytest.approx(1)
    again = Judge.load(judge.save(tmp_path))
    np.testing.assert_array_equal(again.probabilities(noise), odds)
    assert json.loads((tmp_path / "genre.json").read_text())["classes"] == list(judge.classes)


def test_no_clips_and_no_such_judge_are_told(judge):
    with pytest.raises(EvidenceError, match="no clips"):
        judge.probabilities([])
    with pytest.raises(EvidenceError, match="holds: genre"):
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
