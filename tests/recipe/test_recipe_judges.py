"""How judges are trained: on which crops, with which features, and what their cards say of the test."""

from __future__ import annotations

import json
from zlib import crc32

import band_fixture
import numpy as np
import pytest
from recipe import judge_data, train_judges
from recipe.corpus import SPLITS, Scores
from recipe.factors import GENRES, draw_factors
from recipe.judge_data import CROP_S, TEST_FONT, TRAINING_FONTS, Crops, plain, tilt_and_noise, training_crops
from recipe.samples import SHIPPED
from recipe.train_judges import HEARS, TARGETS, Shape, _balanced, _choose, _fit, _guessed_from_genre, _tested
from sklearn.neural_network import MLPClassifier

from workbench.evidence.features import block_slices
from workbench.evidence.judge import TrainedJudge
from workbench.model.band import HOLD, PARTS, REST, pitch_token
from workbench.model.band_sampler import FRAME, RATE_HZ

LENGTH = max(part.stop for part in block_slices().values())


def made_crops(
    grooves: range, fonts: tuple[str, ...], *, blocks: tuple[str, ...], target: str, seed: int = 0
):
    """Crops of four pieces a groove: noise, but for what the blocks tell of the target."""
    factors = tuple(draw_factors(g, n, 100 * seed + i) for g in GENRES for n in grooves for i in range(4))
    rng = np.random.default_rng([seed, len(factors)])
    x = rng.normal(size=(len(factors), LENGTH)).astype(np.float32)
    labels = np.array([str(f.labels()[target]) for f in factors])
    for block in blocks:
        for label in set(labels):  # a pattern of its own, the same in every set
            pattern = np.random.default_rng(crc32(label.encode())).normal(0, 0.8, LENGTH)[
                block_slices()[block]
            ]
            x[np.ix_(labels == label, np.arange(LENGTH)[block_slices()[block]])] += pattern
    told = np.array([fonts[i % len(fonts)] for i in range(len(factors))])
    return Crops(x, factors, told, np.full(len(factors), "plain"), "made")


def both_sets(blocks: tuple[str, ...], target: str) -> tuple[Crops, Crops]:
    """Crops to train on, and crops of other grooves and another font to test on."""
    training = made_crops(range(120, 129), TRAINING_FONTS, blocks=blocks, target=target, seed=1)
    test = made_crops(range(116, 118), (TEST_FONT, SHIPPED), blocks=blocks, target=target, seed=2)
    return training, test


@pytest.fixture
def train(monkeypatch):
    """A function that trains the judge of a target on made crops."""
    monkeypatch.setattr(train_judges, "ALPHAS", (1.0, 10.0))
    monkeypatch.setattr(train_judges, "WIDTHS", (8,))

    def trained(target: str, blocks: tuple[str, ...]) -> TrainedJudge:
        training, test = both_sets(blocks, target)
        monkeypatch.setattr(train_judges, "training_crops", lambda build, seed: training)
        monkeypatch.setattr(train_judges, "test_crops", lambda build, seed: test)
        return train_judges.train_judges(None, targets=(target,), networks=2)[target]

    return trained


@pytest.mark.parametrize("target", TARGETS)
def test_a_judge_hears_what_can_be_heard_and_is_the_same_when_it_is_loaded(train, target, tmp_path):
    judge = train(target, HEARS[target])
    card = judge.card
    assert card["test_accuracy"] > 0.9 and card["test_accuracy_shipped_sounds"] > 0.9
    assert min(card["left_out_accuracy"].values()) > 0.8
    again = TrainedJudge.load(judge.save(tmp_path), target)
    _training, test = both_sets(HEARS[target], target)
    np.testing.assert_allclose(again.probabilities_of(test.x), judge.probabilities_of(test.x), atol=1e-5)
    assert again.classes == judge.classes and again.hears == HEARS[target]
    assert json.loads(json.dumps(again.card)) == again.card == json.loads(json.dumps(card))
    counts = np.array(card["confusion (rows: truth)"])
    own = test.take(test.fonts == TEST_FONT)
    assert counts.sum() == len(own.x)
    assert np.trace(counts) / counts.sum() == pytest.approx(card["test_accuracy"], abs=1e-4)
    assert [counts[i].sum() for i in range(len(judge.classes))] == [
        int((own.labels(target) == name).sum()) for name in judge.classes
    ]


def test_a_judge_is_deaf_to_what_it_is_not_to_hear(train):
    card = train("mode", ("spectrum", "rhythm", "pulse", "melody")).card
    assert card["test_accuracy"] < 0.75, "chance is a half"


def two_layers(judge: TrainedJudge, column: int) -> TrainedJudge:
    """Return the judge with nothing learned: it looks at one feature alone."""
    (weight, bias), (last, end) = judge.layers
    first = np.zeros_like(weight)
    first[column, 0] = 1
    second = np.zeros_like(last)
    second[0] = (-1, 1)
    end = np.array([0.5, -0.5])
    return TrainedJudge(judge.target, judge.classes, judge.mean * 0, judge.scale * 0 + 1,
                 ((first, bias * 0), (second, end)), {}, judge.hears)  # fmt: skip


def test_figures_of_the_test_are_counted_font_by_font_and_group_by_group(train):
    judge = two_layers(train("mode", HEARS["mode"]), 0)  # minor where the first feature is above a half
    training, test = both_sets((), "mode")
    place = block_slices()[HEARS["mode"][0]].start
    minor = test.labels("mode") == "minor"
    right = np.where(test.fonts == TEST_FONT, np.arange(len(minor)) % 8 != 0, test.labels("genre") != "rock")
    test.x[:, place] = np.where(right == minor, 1.0, 0.0)
    told = _tested(judge, training, test)
    of_font = test.fonts == TEST_FONT
    assert told["test_accuracy"] == round(float(right[of_font].mean()), 4) < 1
    assert told["test_accuracy_shipped_sounds"] == round(float(right[~of_font].mean()), 4) < 1
    for by in ("genre", "density", "typical"):
        groups = test.labels(by)
        assert told[f"test_accuracy_by_{by}"] == {
            name: round(float(right[of_font & (groups == name)].mean()), 4) for name in np.unique(groups)
        }
    wrong = [int((of_font & ~right & (test.labels("mode") == name)).sum()) for name in judge.classes]
    counts = np.array(told["confusion (rows: truth)"])
    assert [counts[0, 1], counts[1, 0]] == wrong
    assert told["tested_on"] == f"{of_font.sum()} crops each: made"
    assert "bpm" not in told


def test_what_the_genre_alone_would_give_is_counted_on_the_test_set():
    training, test = both_sets((), "lead")
    usual = {}
    for genre in GENRES:
        leads = training.labels("lead")[training.labels("genre") == genre].tolist()
        usual[genre] = max(sorted(set(leads)), key=leads.count)
    pairs = zip(test.labels("genre"), test.labels("lead"), strict=True)
    expected = np.mean([usual[genre] == lead for genre, lead in pairs])
    assert _guessed_from_genre(training, test, "lead") == pytest.approx(expected)
    assert _guessed_from_genre(training, test, "genre") == 1


def test_every_class_is_equally_frequent_in_its_genres():
    genres = np.array(["jazz"] * 6 + ["rock"] * 5)
    labels = np.array(["a"] * 4 + ["b"] * 2 + ["a"] * 2 + ["c"] * 3)
    rows = _balanced(labels, genres, np.random.default_rng(0))
    assert set(rows) == set(range(11)), "nothing is left out"
    counts = {
        (genre, label): int(((genres == genre) & (labels == label))[rows].sum())
        for genre in ("jazz", "rock") for label in "abc"
    }  # fmt: skip
    assert counts == {("jazz", "a"): 4, ("jazz", "b"): 4, ("jazz", "c"): 0,
                      ("rock", "a"): 3, ("rock", "b"): 0, ("rock", "c"): 3}  # fmt: skip


def test_rare_and_frequent_classes_give_equally_many_crops(monkeypatch):
    training, _test = both_sets((), "mode")
    minor = training.labels("mode") == "minor"
    few = training.take(~minor | (np.cumsum(minor) % 8 == 0))
    assert (few.labels("mode") == "minor").mean() < 0.15
    learnt, fit = [], MLPClassifier.fit
    monkeypatch.setattr(MLPClassifier, "fit", lambda self, x, y: learnt.append(y) or fit(self, x, y))
    _fit(few, "mode", Shape(1.0, 8), seeds=(0, 1))
    genres_with_both = [
        genre for genre in GENRES if len(set(few.labels("mode")[few.labels("genre") == genre])) == 2
    ]
    assert len(genres_with_both) >= 3
    for labels in learnt:
        alone = len(few.x) - sum((few.labels("genre") == genre).sum() for genre in genres_with_both)
        counts = dict(zip(*np.unique(labels, return_counts=True), strict=True))
        assert counts["major"] - counts["minor"] == alone
    assert len(learnt) == 2


def test_shapes_are_chosen_on_fonts_and_grooves_that_were_left_out(monkeypatch):
    training, _test = both_sets(("intervals", "key"), "mode")
    seen = []

    def fit(crops, target, shape, *, seeds):
        seen.append(crops)
        return _fit(crops, target, shape, seeds=seeds)

    tested = []
    monkeypatch.setattr(train_judges, "_fit", fit)
    accuracy = train_judges._accuracy
    monkeypatch.setattr(
        train_judges, "_accuracy", lambda j, crops: tested.append(crops) or accuracy(j, crops)
    )
    monkeypatch.setattr(train_judges, "ALPHAS", (1.0, 3000.0))
    monkeypatch.setattr(train_judges, "WIDTHS", (8,))
    shape, figures = _choose(training, "mode", 0)
    assert len(seen) == len(tested) == 2 * len(TRAINING_FONTS)
    for learnt, test in zip(seen, tested, strict=True):
        assert not set(learnt.fonts) & set(test.fonts) and len(set(test.fonts)) == 1
        assert not set(learnt.grooves) & set(test.grooves) and len(set(test.grooves)) == 3
    assert {str(test.fonts[0]) for test in tested} == set(TRAINING_FONTS)
    assert shape == Shape(1.0, 8), "a penalty of 3000 lets nothing be learnt"
    best, other = (one["accuracy"] for one in figures["candidates"])
    assert best == pytest.approx(np.mean(list(figures["left_out_accuracy"].values())), abs=1e-3)
    assert best > other


# ------------------------------------------------------------------------------------------- the crops


@pytest.fixture
def sounds(monkeypatch):
    """Three pieces and tiny banks, no soundfonts: which fonts were asked for, and which played each crop."""
    factors = tuple(draw_factors(genre, 120, 1) for genre in GENRES[:3])
    codes = tuple(np.tile(band_fixture.small_piece(), 3) for _ in factors)
    asked, played = [], []
    banks = {font: band_fixture.tiny_bank() for font in (*TRAINING_FONTS, TEST_FONT)}
    fonts = {id(bank): font for font, bank in banks.items()}
    player = judge_data.Player
    monkeypatch.setattr(judge_data, "Player", lambda bank: played.append(fonts[id(bank)]) or player(bank))
    monkeypatch.setattr(judge_data, "scores", lambda name, build: Scores(factors, codes))
    monkeypatch.setattr(judge_data, "bank_of", lambda font, build: asked.append(font) or banks[font])
    monkeypatch.setattr(judge_data, "CROP_S", 1.0)
    return asked, played


BANK = band_fixture.tiny_bank()


def test_training_crops_use_the_fonts_in_turn_plain_and_coloured(sounds, tmp_path):
    crops = training_crops(tmp_path, 0)
    assert crops.x.shape == (6, LENGTH) and np.isfinite(crops.x).all()
    assert crops.fonts.tolist() == list(TRAINING_FONTS) * 2
    assert crops.colours.tolist() == ["plain"] * 3 + ["tilt_and_noise"] * 3
    assert crops.labels("genre").tolist() == list(GENRES[:3]) * 2
    assert crops.source == f"judge, grooves 120-149, {', '.join(TRAINING_FONTS)}"
    assert (crops.x[:3] != crops.x[3:]).any(axis=1).all()
    asked, played = sounds
    assert played == crops.fonts.tolist()
    assert TEST_FONT not in asked
    before = len(asked)
    again = training_crops(tmp_path, 0)
    np.testing.assert_array_equal(again.x, crops.x)
    assert len(asked) == before, "what was made once is read"
    assert (training_crops(tmp_path, 1).x != crops.x).any()


def test_test_crops_have_a_font_of_their_own_and_what_ships(sounds, tmp_path):
    crops = judge_data.test_crops(tmp_path, 0)
    assert crops.fonts.tolist() == [TEST_FONT] * 3 + [SHIPPED] * 3
    assert sounds[1] == crops.fonts.tolist()
    assert set(crops.colours) == {"plain"}
    assert TEST_FONT not in TRAINING_FONTS and SHIPPED in TRAINING_FONTS
    taken = crops.take(crops.fonts == SHIPPED)
    np.testing.assert_array_equal(taken.x, crops.x[3:])
    assert taken.factors == crops.factors[3:] and taken.fonts.tolist() == [SHIPPED] * 3


def test_grooves_of_the_judges_test_set_are_in_no_training_set():
    grooves = {name: set(split.grooves) for name, split in SPLITS.items()}
    assert not grooves["judge"] & grooves["judge-test"]
    for name in ("train", "music", "held"):
        assert not grooves[name] & (grooves["judge"] | grooves["judge-test"])


def test_a_crop_holds_what_was_begun_before_it():
    codes = np.full((len(PARTS), 6 * 25 + round(25 * CROP_S)), REST)
    codes[PARTS.index("lead")] = HOLD

    class First:  # draws the first place that there is
        def integers(self, low, high):
            return low

    codes[PARTS.index("lead"), 45] = pitch_token("lead", 12, 72)
    samples = judge_data._crop(codes, BANK, First())
    assert samples.shape == (round(CROP_S * RATE_HZ),)
    assert np.abs(samples[:FRAME]).max() > 1e-3


def test_coloured_sound_is_duller_or_sharper_and_hissed_at():
    rng = np.random.default_rng(0)
    samples = rng.normal(0, 0.1, RATE_HZ).astype(np.float32)
    assert plain(samples, rng) is samples
    slopes = []
    for seed in range(12):
        found = tilt_and_noise(samples, np.random.default_rng(seed))
        assert found.shape == samples.shape and found.dtype == np.float32
        power = np.abs(np.fft.rfft(found)) ** 2
        slopes.append(10 * np.log10(power[3000:3500].mean() / power[300:350].mean()))
        hiss = tilt_and_noise(np.zeros(RATE_HZ, np.float32), np.random.default_rng(seed))
        assert -61 < 20 * np.log10(hiss.std()) < -34
    assert min(slopes) < -3 and max(slopes) > 3
    np.testing.assert_array_equal(found, tilt_and_noise(samples, np.random.default_rng(11)))
