"""A judge is trusted for what it ranks: shuffled labels fail, and a codec that moves it is named."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from tolerances import DOUBLE, ROUNDED
from tones import tone_clip

from workbench.errors import EvidenceError
from workbench.evidence.features import VERSION, block_slices, features
from workbench.evidence.judge import TrainedJudge, load_judge
from workbench.evidence.validate import Labelled, prompted_clips, validate_judge
from workbench.sound import Clip
from workbench.stats import interval, point_estimate, roc_auc

RATE_HZ, NAMES = 16_000, ("jazz", "rock", "pop")


@pytest.fixture(scope="module")
def tones() -> Labelled:
    """Twelve tones of each of three genres, in groups of two."""
    clips = [Clip(tone_clip(genre, i), RATE_HZ) for genre in range(3) for i in range(12)]
    return Labelled(clips, np.repeat(NAMES, 12).tolist(), (np.arange(36) // 2).tolist())


@pytest.fixture(scope="module")
def fresh() -> Labelled:
    """Other tones of the same genres, that no judge was trained on."""
    clips = [Clip(tone_clip(genre, 50 + i), RATE_HZ) for genre in range(3) for i in range(8)]
    return Labelled(clips, np.repeat(NAMES, 8).tolist())


def trained(material: Labelled, labels) -> TrainedJudge:
    """Return a judge of one layer that was fitted to these labels."""
    from sklearn.linear_model import LogisticRegression

    x = np.stack([features(clip) for clip in material.clips])
    mean, scale = x.mean(axis=0), x.std(axis=0) + 1e-3
    fitted = LogisticRegression(C=0.01, max_iter=500).fit((x - mean) / scale, labels)
    layers = ((fitted.coef_.T, fitted.intercept_),)
    blocks = tuple(block_slices())
    return TrainedJudge(
        "genre", tuple(map(str, fitted.classes_)), mean, scale, layers, {"by": VERSION}, blocks
    )


def test_an_auc_is_the_share_of_pairs_that_are_in_order():
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(0)
    truth, scores = rng.random(80) < 0.4, rng.integers(0, 12, 80) / 12
    figure = roc_auc(truth, scores)
    np.testing.assert_allclose(point_estimate(figure, 80), roc_auc_score(truth, scores), **DOUBLE)
    counts = rng.integers(0, 3, (5, 80))
    weighted = [roc_auc_score(truth, scores, sample_weight=row) for row in counts]
    np.testing.assert_allclose(figure(counts), weighted, **DOUBLE)
    low, high = interval(figure, np.arange(80))
    assert low < point_estimate(figure, 80) < high
    assert np.isnan(point_estimate(roc_auc(np.zeros(80, bool), scores), 80))


def test_a_judge_that_hears_is_valid_on_clips_it_never_heard(tones, fresh):
    judge = trained(tones, tones.labels)
    found = validate_judge(judge, {"real": fresh, "again": tones})
    assert found.ok and not found.problems and repr(found).startswith("The judge genre is valid.")
    found.require()
    assert found.table["material"].unique().tolist() == ["real", "again"]
    assert (found.table["n"] == [8, 8, 8, 12, 12, 12]).all() and (found.table["value"] > 0.9).all()


@pytest.mark.parametrize("seed", range(5))
def test_a_judge_trained_on_shuffled_labels_fails_and_is_refused(tones, fresh, seed):
    shuffled = np.random.default_rng(seed).permutation(tones.labels)
    found = validate_judge(trained(tones, shuffled), {"real": fresh})
    assert not found.ok and "has the AUC" in str(found)
    with pytest.raises(EvidenceError, match=r"The judge genre was to be used, but .* has the AUC 0\."):
        found.require()


def test_a_verdict_by_threshold_alone_does_not_make_a_judge_invalid(tones, fresh):
    true = trained(tones, tones.labels)

    class Shy:  # ranks all clips rightly, and yet calls none of them jazz
        classes, rate_hz, target = true.classes, RATE_HZ, "shy"

        def probabilities(self, clips):
            odds = true.probabilities(clips) ** np.array(
                [1.0 if name != "jazz" else 40.0 for name in self.classes]
            )
            return odds / odds.sum(axis=1, keepdims=True)

    found = validate_judge(Shy(), {"real": fresh})
    jazz = found.table[found.table["class"] == "jazz"]
    assert jazz["ok"].all()


def test_few_clips_and_labels_that_nobody_hears_are_no_validation(tones):
    judge = trained(tones, tones.labels)
    few = Labelled(tones.clips[8:16], tones.labels[8:16], np.arange(8))
    found = validate_judge(judge, {"real": few})
    assert not found.table["ok"].any() and "(n = 4)" in str(found) and "(n = 0)" in str(found)


class Codec:
    """A codec that hums, and so leaves a tone at 5 kHz in everything."""

    def encode(self, clip):
        return clip

    def decode(self, clip):
        hum = 0.2 * np.sin(2 * np.pi * 5000 * np.arange(len(clip.samples)) / clip.rate_hz)
        return Clip(clip.samples + hum.astype(np.float32), clip.rate_hz)


class HearsTheCodec:
    """Tells genres by ear as another judge does, but calls whatever hums at 5 kHz jazz."""

    target = "spoilt"

    def __init__(self, judge):
        self.judge, self.classes, self.rate_hz = judge, judge.classes, RATE_HZ

    def probabilities(self, clips):
        clean = [Clip(self._without(clip), clip.rate_hz) for clip in clips]
        odds = self.judge.probabilities(clean)
        hums = np.array(
            [np.abs(np.fft.rfft(clip.samples))[self._bin(clip)] > 0.05 * len(clip.samples) for clip in clips]
        )
        jazz = np.eye(len(self.classes))[self.classes.index("jazz")]
        return np.where(hums[:, None], 0.3 * odds + 0.7 * jazz, odds)

    def _bin(self, clip):
        return round(5000 * len(clip.samples) / clip.rate_hz)

    def _without(self, clip):
        spectrum = np.fft.rfft(clip.samples)
        spectrum[self._bin(clip) - 2 : self._bin(clip) + 3] = 0
        return np.fft.irfft(spectrum, len(clip.samples)).astype(np.float32)


def test_a_codec_that_moves_the_judge_is_named(tones, fresh):
    spoilt = HearsTheCodec(trained(tones, tones.labels))
    assert validate_judge(spoilt, {"real": fresh}).ok, "on real clips alone nothing is to be seen"
    found = validate_judge(spoilt, {"real": fresh}, model=Codec())
    assert not found.ok
    with pytest.raises(EvidenceError, match=r"the codec moves P\(jazz\) of real clips by 0\.\d+ \("):
        found.require()
    codec = found.table[found.table["figure"] == "codec"].set_index("class")
    assert codec.loc["jazz", "low"] > 0.1 and not codec.loc["jazz", "ok"] and (codec["n"] == 24).all()


def test_a_codec_that_changes_no_verdict_is_no_confound(tones, fresh):
    deaf = HearsTheCodec(trained(tones, tones.labels))
    quiet = SimpleNamespace(
        encode=lambda clip: clip, decode=lambda clip: Clip(clip.samples * 0.5, clip.rate_hz)
    )
    found = validate_judge(deaf, {"real": fresh}, model=quiet)
    assert found.ok and (found.table["figure"] == "codec").sum() == 3


def test_the_round_trip_is_that_of_the_models_own_codec(tiny_model, tones, fresh):
    class Noisy:
        target, classes, rate_hz = "noise", ("noise", "tone"), RATE_HZ

        def probabilities(self, clips):
            power = [np.abs(np.fft.rfft(clip.resample(RATE_HZ).samples)) ** 2 + 1e-9 for clip in clips]
            flat = np.array([np.exp(np.log(one).mean()) / one.mean() for one in power])
            return np.stack([flat, 1 - flat], axis=1)

    rng = np.random.default_rng(0)
    noise = [Clip(rng.normal(0, 0.1, RATE_HZ).astype(np.float32), RATE_HZ) for _ in range(6)]
    both = Labelled([*noise, *fresh.clips[:6]], ["noise"] * 6 + ["tone"] * 6)
    judge = Noisy()
    found = validate_judge(judge, {"real": both}, model=tiny_model)
    after = judge.probabilities([tiny_model.decode(tiny_model.encode(clip)) for clip in both.clips])
    moved = (after - judge.probabilities(both.clips)).mean(axis=0)
    codec = found.table[found.table["figure"] == "codec"]
    np.testing.assert_allclose(codec["value"].to_numpy(float), moved, **ROUNDED)
    assert not codec["ok"].any() and found.table[found.table["figure"] == "AUC"]["ok"].all()


def test_prompted_clips_name_each_class_on_each_seed(tiny_model):
    made = prompted_clips(tiny_model, ["jazz", "rock"], [4, 5], seconds=0.4, progress=False)
    assert made.labels == ["jazz", "jazz", "rock", "rock"] and made.groups == [4, 5, 4, 5]
    from workbench.generation.generate import generate

    takes = generate(
        tiny_model, ["jazz music", "jazz music", "rock music", "rock music"], seed=[4, 5, 4, 5], seconds=0.4,
        progress=False,
    )  # fmt: skip
    assert list(made.clips) == [take.clip for take in takes]


@pytest.mark.long
def test_the_built_in_judge_is_valid_for_the_built_in_model():
    import workbench as wb

    model, songs, judge = wb.load("embedded"), wb.dataset(), load_judge()
    every = pd.Series(songs.labels()).groupby(songs.labels()).head(12).index
    clips = [songs.clip(int(i)).section(0, 5) for i in every]
    real = Labelled(clips, songs.labels()[every].tolist(), songs.groups[every].tolist())
    prompted = prompted_clips(model, judge.classes, range(6), seconds=5.0)
    found = validate_judge(judge, {"real": real, "prompted": prompted}, model=model)
    assert found.ok, str(found)
