"""The evaluation's arithmetic, and one run of all its parts on the tiny model."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from evaluation_fixture import RATE_HZ, DeafJudge, tiny_bench
from evidence_samples import Peak
from recipe import __main__ as command_line
from recipe import evaluate
from recipe.card import BEGIN, END, figures_text, write_card
from recipe.evaluate import code_hash, load_judges, measure
from recipe.evaluation import validation
from recipe.evaluation.bench import FIRST_SEED, Bench, Budget
from recipe.evaluation.curves import draw_curves, read_log
from recipe.evaluation.prompted import TEMPLATES, genre_prompt
from recipe.evaluation.reading import MOMENT_S, _one_moment, random_weights
from recipe.evaluation.rows import Bar, Row, absent, rate_row, seeds_text
from recipe.evaluation.sound import groove_score, measure_size
from recipe.evaluation.spectrograms import draw_spectrograms
from recipe.evaluation.tempo import correlation, librosa_bpm
from recipe.evaluation.validation import Protocol, ranked_settings, validate_directions
from steering_fixture import direction
from tolerances import ROUNDED

from workbench.errors import EvidenceError
from workbench.evidence.judge import TrainedJudge
from workbench.sound import Clip, read_clip
from workbench.stats import bootstrap, wilson
from workbench.steering import Direction


def clicks(times_s, seconds=5.0) -> Clip:
    """Return decaying noise bursts at these times, over faint hiss."""
    rng = np.random.default_rng(1)
    samples = rng.normal(0, 1e-3, int(seconds * RATE_HZ))
    burst = rng.normal(0, 0.3, 400) * np.exp(-np.arange(400) / 80)
    for start in (np.asarray(times_s) * RATE_HZ).astype(int):
        samples[start : start + 400] += burst[: len(samples) - start]
    return Clip(samples, RATE_HZ)


# ---------------------------------------------------------------------------------------------- rows


@pytest.mark.parametrize(
    ("bar", "value", "met", "text"),
    [
        (Bar(at_least=0.9), 0.9, True, "at least 0.9"),
        (Bar(at_least=0.9), 0.8999, False, "at least 0.9"),
        (Bar(under=0.25), 0.25, False, "under 0.25"),
        (Bar(at_least=0.05, at_most=0.4), 0.4, True, "at least 0.05, at most 0.4"),
        (Bar(at_least=0.05, at_most=0.4), 0.41, False, "at least 0.05, at most 0.4"),
        (Bar(), 0.5, None, ""),
    ],
)
def test_a_bar_is_met_from_its_bounds_on(bar, value, met, text):
    assert bar.met(value) is met
    assert str(bar) == text


def test_a_bar_may_be_asked_of_the_lower_end_of_the_interval():
    bar = Bar(interval_above=0.0)
    assert [bar.met(0.5, low) for low in (0.1, 0.0, -0.1, float("nan"), None)] == [True, *[False] * 4]
    assert str(bar) == "interval above 0"
    assert Row("x", "x", bar, 0.5, 0.1, 0.9, 10).met
    assert Row("x", "x", bar, 0.5, -0.1, 0.9, 10).record()["met"] is False
    both = Bar(at_least=0.4, interval_above=0.0)
    assert [both.met(0.3, 0.1), both.met(0.5, -0.1), both.met(0.5, 0.1)] == [False, False, True]


def test_a_rate_has_wilsons_interval_and_a_verdict_made_before_rounding():
    row = rate_row("x", "x", Bar(at_least=0.8), np.array([True] * 8 + [False] * 2), seeds="1-10")
    assert (row.low, row.high) == wilson(8, 10)
    assert row.record() | {"value": 0.8, "n": 10, "met": True, "bar": "at least 0.8"} == row.record()
    close = Row("x", "x", Bar(at_least=0.9), 0.89999, 0.8, 0.95, 10).record()
    assert (close["value"], close["met"]) == (0.9, False)


def test_a_figure_that_is_missing_meets_no_bar_and_says_why():
    row = absent("mode.steered", "mode", Bar(at_least=0.7), "there is no judge of mode")
    assert row.met is False
    assert "no judge of mode" in row.record()["note"]
    assert absent("x", "x", Bar(), "why").met is None


def test_seeds_are_told_in_runs():
    assert seeds_text([9, 7, 8, 12, 12]) == "7-9, 12"


# ----------------------------------------------------------------------------------------- intervals


def test_a_bootstrap_of_whole_groups_is_as_wide_as_the_groups_make_it():
    rng = np.random.default_rng(0)
    of_group = rng.normal(size=40)
    groups = np.repeat(np.arange(40), 25)
    values = of_group[groups]  # clips of a group agree: 1000 clips tell as much as 40
    low, high = bootstrap(lambda i: float(values[i].mean()), groups)
    expected = 2 * 1.96 * of_group.std() / np.sqrt(40)
    assert high - low == pytest.approx(expected, rel=0.15)
    narrow = bootstrap(lambda i: float(values[i].mean()), np.arange(1000))
    assert narrow[1] - narrow[0] < (high - low) / 3


def test_strata_keep_their_number_of_groups():
    strata = np.array([0] * 5 + [1] * 3)
    seen = set()
    bootstrap(lambda i: seen.add(int((strata[i] == 1).sum())) or 0.0, np.arange(8), strata=strata)
    assert seen == {3}


# -------------------------------------------------------------------------------------------- groove


def test_a_steady_beat_scores_high_and_sounds_without_one_low():
    rng = np.random.default_rng(0)
    assert groove_score(clicks(np.arange(0, 5, 0.5))) > 0.85
    assert groove_score(clicks(np.arange(0, 5, 0.613))) > 0.85
    assert groove_score(clicks(np.cumsum(rng.uniform(0.2, 0.9, 9)))) < 0.4
    assert groove_score(Clip(rng.normal(0, 0.1, 5 * RATE_HZ), RATE_HZ)) < 0.25
    assert groove_score(Clip(0.3 * np.sin(0.2 * np.arange(5 * RATE_HZ)), RATE_HZ)) < 0.1
    assert groove_score(Clip(np.ones(RATE_HZ), RATE_HZ)) == 0.0


def test_the_groove_score_does_not_depend_on_the_level():
    clip = clicks(np.arange(0, 5, 0.7))
    quiet = Clip(0.05 * clip.samples, RATE_HZ)
    assert groove_score(quiet) == pytest.approx(groove_score(clip), abs=1e-3)


# --------------------------------------------------------------------------------------------- tempo


def test_librosa_hears_the_tempo_of_clicks_and_not_its_double():
    for bpm in (75, 94, 125):
        heard = librosa_bpm(clicks(np.arange(0, 5, 60 / bpm)), 75, 125)
        assert heard == pytest.approx(bpm, rel=0.06)


def test_rank_correlation_of_dose_and_tempo():
    table = pd.DataFrame(
        {"dose": [-1.0, 0.0, 1.0], "bpm": [80.0, 90.0, 200.0], "librosa": [90.0, 90.0, 90.0]}
    )
    assert correlation(table) == pytest.approx(1.0)
    assert correlation(table.assign(dose=-table["dose"])) == pytest.approx(-1.0)
    assert correlation(table, "librosa") == 0.0


# -------------------------------------------------------------------------------- choosing a setting


def judged(aim: str, layer: int, dose: float, hit: bool, chance: float) -> dict[str, object]:
    return {"aim": aim, "layer": layer, "dose": dose, "hit": hit, f"p_{aim}": chance}


def test_settings_are_ranked_by_hits_and_ties_go_to_the_smaller_dose():
    table = pd.DataFrame(
        [
            judged("jazz", 1, 0.3, False, 0.45),
            judged("jazz", 2, 0.6, True, 0.9),
            judged("jazz", 2, 0.3, True, 0.9),
            judged("jazz", 1, 0.6, True, 0.5),
        ]
    )
    assert ranked_settings(table) == [(2, 0.3), (2, 0.6), (1, 0.6), (1, 0.3)]


def planted_directions(model, layers=(1, 2)) -> dict[int, dict[str, Direction]]:
    rng = np.random.default_rng(0)
    return {
        layer: {
            aim: Direction(
                rng.standard_normal(model.d_model).astype(np.float32),
                layer,
                name=aim,
                residual_norm=float(model.residual_norms()[layer]),
                origin={"model_id": model.id},
            ).unit()
            for aim in ("a", "b")
        }
        for layer in layers
    }


def test_a_validation_chooses_and_reports_on_different_seeds(tiny_model):
    protocol = Protocol(
        prompts={"a": ("a song",), "b": ("a tune", "the music")},
        layers=(1, 2),
        doses=(0.2, 0.5),
        choosing_seeds=(1,),
        finalists=2,
        second_seeds=(2, 3),
        reporting_seeds=(10, 11),
        random_directions=2,
        seconds=1.0,
    )
    judge = DeafJudge("letter", ("a", "b"))
    found = validate_directions(tiny_model, planted_directions(tiny_model), judge, protocol, progress=False)
    assert set(found.choosing["seed"]) == {1, 2, 3}
    assert set(found.reporting["seed"]) == {10, 11}
    tried_again = found.choosing[found.choosing["seed"] > 1].groupby("aim")[["layer", "dose"]]
    for aim, settings in tried_again:
        assert len(settings.drop_duplicates()) == 2
        assert found.settings[aim] in set(map(tuple, settings.to_numpy().tolist()))
    steered = found.part("probe")
    for aim, part in steered.groupby("aim"):
        assert set(part["prompt"]) == set(protocol.prompts[aim])
        assert set(zip(part["layer"], part["dose"], strict=True)) == {found.settings[aim]}
    assert len(found.part("random")) == 4
    assert found.reporting["ok"].all()
    assert set(found.summary()) == {"a", "b"}


def test_a_validation_does_not_report_on_what_chose(tiny_model):
    aims = {1: {"loud": direction(tiny_model, 1, name="loud")}}
    how = {
        "layers": (1,),
        "doses": (0.2, 0.5),
        "choosing_seeds": (1, 2),
        "seconds": 0.4,
        "random_directions": 0,
    }
    with pytest.raises(EvidenceError, match="1 of 2 pairs of prompt and seed have chosen"):
        validate_directions(
            tiny_model, aims, Peak(), Protocol(("a tune",), reporting_seeds=(2, 3), **how), progress=False
        )
    found = validate_directions(
        tiny_model, aims, Peak(), Protocol(("a tune",), reporting_seeds=(3, 4), **how), progress=False
    )
    assert set(found.reporting["seed"]) == {3, 4}


def test_controls_of_an_aim_have_the_dose_that_was_chosen_for_it(tiny_model, monkeypatch):
    best = {"jazz": 0.3, "rock": 0.6}
    aims = {name: direction(tiny_model, 1, seed=seed, name=name) for seed, name in enumerate(best)}

    def judged(_model, some, *_judges, **_options):
        rows = []
        for one in some:
            odds = {f"p_letter_{name}": one.columns["dose"] == best[name] for name in best}
            rows.append({"aim": one.aim, "method": one.method, **one.columns, "judged_letter": one.aim,
                         **odds, "hit": odds[f"p_letter_{one.aim}"]})  # fmt: skip
        return pd.DataFrame(rows)

    monkeypatch.setattr(validation, "run_trials", judged)
    protocol = Protocol(("a tune",), (1,), doses=(0.3, 0.6), choosing_seeds=(0, 1), reporting_seeds=(2, 3))
    judge = SimpleNamespace(target="letter", classes=("jazz", "rock"))
    found = validate_directions(tiny_model, {1: aims}, judge, protocol)
    for method in ("probe", "random"):
        part = found.part(method)
        assert dict(zip(part["aim"], part["dose"], strict=True)) == best


# ------------------------------------------------------------------------------ the rest, small parts


def test_phrasings_take_turns_and_articles_agree():
    prompts = {genre_prompt("electronic", number) for number in range(len(TEMPLATES))}
    assert len(prompts) == len(TEMPLATES)
    assert "an electronic tune" in prompts
    assert genre_prompt("jazz", len(TEMPLATES)) == "a jazz tune"


def test_random_weights_keep_shape_and_codec_and_nothing_learned(tiny_model):
    blank = random_weights(tiny_model)
    ours, theirs = (dict(m.musicgen.named_parameters()) for m in (tiny_model, blank))
    assert {name: p.shape for name, p in ours.items()} == {name: p.shape for name, p in theirs.items()}
    for name, parameter in ours.items():
        same = torch.equal(parameter, theirs[name])
        constant = bool((theirs[name] == theirs[name].flatten()[0]).all())  # norms begin at 1, biases at 0
        assert same if name.startswith("audio_encoder") else not same or constant, name
    assert blank.fingerprint != tiny_model.fingerprint


def test_a_moment_is_one_window_in_each_clips_second_half(bench):
    songs = bench.music.take(3, seed=0)
    found = [
        _one_moment(model, songs, bench, site)
        for model, site in ((bench.model, "resid_post"), (bench.model, "embed"),
                            (random_weights(bench.model), "resid_post"))
    ]  # fmt: skip
    starts = [acts.coordinate("start_s") for acts in found]
    for acts, start in zip(found, starts, strict=True):
        assert list(acts.clips) == list(songs.ids)
        np.testing.assert_array_equal(start, starts[0])
        np.testing.assert_allclose(acts.coordinate("length_s"), MOMENT_S, **ROUNDED)
    assert bench.seconds / 2 <= starts[0].min() < starts[0].max() <= bench.seconds - MOMENT_S


def test_the_code_that_measured_is_that_of_package_and_recipe(monkeypatch):
    hashed = []
    monkeypatch.setattr(evaluate, "_hash", lambda paths: hashed.extend(paths) or "hash")
    assert code_hash() == "hash"
    names = {f"{path.parent.name}/{path.name}" for path in hashed}
    assert {
        "workbench/__init__.py",
        "evidence/damage.py",
        "recipe/evaluate.py",
        "evaluation/scores.py",
    } <= names


def test_a_listener_that_is_not_there_is_told_before_anything_is_done(bench):
    with pytest.raises(EvidenceError, match="no such program"):
        measure(bench, listener="no-such-program-here")
    assert not bench.out.exists()


def test_a_training_log_is_read_with_and_without_header_and_drawn(tmp_path):
    lines = "200,3,2,4,1.5\n400,2,1.5,2.5,3\n400,2.5,1,2,3.5\n"
    (tmp_path / "bare.csv").write_text(lines)
    (tmp_path / "named.csv").write_text("step,loss,codebook 1,codebook 2,minutes\n" + lines)
    log = read_log(tmp_path / "bare.csv")
    assert log == read_log(tmp_path / "named.csv")
    assert [line["step"] for line in log] == [200, 400]
    assert log[1] == {"step": 400, "loss": 2.5, "codebook 1": 1, "codebook 2": 2, "minutes": 3.5}
    picture = draw_curves(log, tmp_path / "curves.svg").read_text()
    assert picture.count("<polyline") == 3
    assert "training step" in picture


def test_spectrograms_of_all_genres_lie_in_one_small_picture(tmp_path):
    from PIL import Image

    for kind in ("real", "prompted", "steered"):
        for genre in ("jazz", "rock"):
            clicks(np.arange(0, 5, 0.5)).write(tmp_path / kind / genre / "one.wav")
    path = draw_spectrograms(tmp_path, ("jazz", "rock"), tmp_path / "s.png")
    with Image.open(path) as picture:
        width = picture.width
        assert len(set(picture.getdata())) > 10
    assert width > 800
    assert path.stat().st_size < 400_000
    assert draw_spectrograms(tmp_path / "nothing", ("jazz",), tmp_path / "t.png") is None


def test_the_size_counts_every_file_but_what_python_left_there(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_bytes(b"x" * 2_000_000)
    (tmp_path / "recipe" / "__pycache__").mkdir(parents=True)
    (tmp_path / "recipe" / "__pycache__" / "build.pyc").write_bytes(b"x" * 300_000)
    (tmp_path / "card").write_bytes(b"x" * 500_000)
    row, sizes = measure_size(tmp_path)
    assert row.value == pytest.approx(2.5)
    assert sizes == {"cards and figures": 0.5, "model/": 2.0}


# ------------------------------------------------------------------------------------- all of it, once


@pytest.fixture(scope="module")
def bench(tiny_model, tmp_path_factory) -> Bench:
    return tiny_bench(tiny_model, tmp_path_factory.mktemp("bench"))


@pytest.fixture(scope="module")
def report(bench) -> dict:
    stale = bench.out / "steered" / "polka" / "old.wav"
    clicks([0.1]).write(stale)
    told: list[str] = []
    found = measure(bench, say=told.append)
    assert not stale.exists(), "clips of an earlier model must not lie beside those of this one"
    assert len(told) == len(found["minutes"]) == 8
    return found


@pytest.mark.long
def test_every_row_of_the_table_is_reported(report):
    rows = {row["id"]: row for row in report["rows"]}
    measured = """prompted.mean prompted.jazz neutral.rock judge.real probe.best probe.shuffled probe.rise
        probe.random_weights probe.moment_rise probe.moment_random
        steered.mean steered.rock steered.random steered.logistic
        against.mean against.survival
        tempo.steered tempo.librosa tempo.random mode.steered mode.random groove.ratio speed"""
    for id_ in measured.split():
        row = rows[id_]
        assert row["low"] <= row["value"] <= row["high"], row
        assert row["n"] > 0, row
    for id_ in ("mood.steered", "lead.steered"):
        assert rows[id_]["value"] is None
        assert rows[id_]["met"] is False
        assert "no judge of" in rows[id_]["note"]
    for id_ in ("outside.real", "outside.prompted", "outside.steered"):
        assert rows[id_]["value"] is None and rows[id_]["met"] is False
        assert "--listener" in rows[id_]["note"]
    for id_ in ("scores.stuck", "scores.jumps", "scores.chords"):
        assert rows[id_]["value"] is None and rows[id_]["met"] is False
        assert "no score" in rows[id_]["note"]
    assert report["scores"] == {}
    assert report["receipts_ok"]
    json.dumps(report, allow_nan=False)


@pytest.mark.long
def test_the_judged_clips_are_kept_as_wav_where_anyone_finds_them(report, bench):
    counts = {
        name: len(list((bench.out / name).rglob("*.wav"))) for name in ("prompted", "unsteered", "steered")
    }
    assert counts == {"prompted": 4, "unsteered": 10, "steered": 4}
    for genre in bench.genres:
        for name in ("prompted", "steered", "random", "real"):
            assert list((bench.out / name / genre).glob("*.wav")), (name, genre)
    assert list((bench.out / "attributes" / "mode" / "major").glob("prompt-*-seed-*.wav"))
    assert list((bench.out / "attributes" / "tempo" / "faster").glob("*.wav"))
    for name in ("prompted", "unsteered", "steered", "random", "real"):
        for path in (bench.out / name).rglob("*.wav"):
            codes = np.load(path.with_suffix(".npy"))
            assert codes.shape == (bench.model.n_codebooks, 25)
            if name != "real":
                heard = read_clip(path).samples
                np.testing.assert_allclose(bench.model.decode(codes).samples, heard, atol=1e-4)
    steered = {row["id"]: row for row in report["rows"]}["steered.mean"]
    assert steered["n"] == counts["steered"], "every clip that counts is kept, and no other"


@pytest.mark.long
def test_layer_and_dose_of_the_logistic_weight_are_chosen_for_it(report):
    assert set(report["steering_logistic"]) == set(report["steering"])
    assert all("random_direction" not in told for told in report["steering_logistic"].values())


@pytest.mark.long
def test_the_card_tells_all_rows_and_can_be_written_again(report, bench):
    whole = report | {
        "stamp": {"weights": "1"},
        "code": "2",
        "pictures": ["spectrograms.png"],
        "sizes_mb": {},
    }
    (bench.data / "MODEL_CARD.md").write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    for _ in range(2):
        text = write_card(bench.data, json.loads(json.dumps(whole))).read_text()
    assert text == f"before\n{BEGIN}\n{figures_text(whole)}{END}\nafter\n"
    assert all(row["what"] in text for row in report["rows"])
    assert "](spectrograms.png)" in text
    assert "](../data/spectrograms.png)" in figures_text(whole, folder="../data/")
    assert "What the codes show" not in text
    missed = [row for row in report["rows"] if row["met"] is False]
    assert text.count("**no**") == len(missed) > 0


@pytest.mark.long
def test_the_card_shows_what_codes_say_and_no_empty_rows(report):
    one = {"n": 4, "stuck": 0.25, "jumps": 0.0125, "chord_changes": 0.5}
    told = {"real": {"jazz": one, "rock": one}, "random": {"rock": one}}
    lines = figures_text(
        report | {"stamp": {}, "code": "", "pictures": [], "sizes_mb": {}, "scores": told}
    ).splitlines()
    head = lines.index("| clips | jazz | rock |")
    assert lines[head + 2] == "| real | 25% / 1.2% / 0.50 | 25% / 1.2% / 0.50 |"
    assert lines[head + 3] == "| random |  | 25% / 1.2% / 0.50 |"


def test_judges_are_found_by_their_weights(tmp_path, monkeypatch):
    for name in ("mode.safetensors", "mode.json", "notes.json"):
        (tmp_path / name).write_text("{}")
    monkeypatch.setattr(TrainedJudge, "load", lambda folder, target: (folder, target))
    assert load_judges(tmp_path) == {"mode": (tmp_path, "mode")}


def test_seeds_that_choose_never_meet_seeds_that_report():
    budget = Budget(30)
    every = [seed for use in FIRST_SEED for seed in budget.seeds(use, seeds_of(use, budget))]
    assert len(every) == len(set(every)) > 600


def seeds_of(use: str, budget: Budget) -> int:
    """Return how many seeds a use may take at most."""
    return budget.neutral if use == "neutral" else 3 * budget.clips


def test_layers_to_choose_from_exist_and_leave_layers_to_act_on(bench):
    assert bench.layers(3) == (0, 1, 2)
    assert replace(bench, budget=Budget(30)).layers(1) == (0,)


def test_the_recipe_s_commands_reach_what_they_are_named_after(monkeypatch, tmp_path):
    called = []
    for name in ("build_embedded", "evaluate", "evaluate_steering"):
        monkeypatch.setattr(
            command_line, name, lambda where, *, of=name, **options: called.append((of, where, options))
        )
    for line in (
        ["build", "--build", str(tmp_path), "--device", "cuda"],
        ["evaluate", "--out", str(tmp_path), "--listener", "ears", "--quiet"],
        ["steering", "--out", str(tmp_path), "--clips", "3"],
    ):
        monkeypatch.setattr(sys, "argv", ["recipe", *line])
        command_line.main()
    (first, *built), (second, *judged), (third, *steered) = called
    assert (first, second, third) == ("build_embedded", "evaluate", "evaluate_steering")
    assert built[0] == judged[0] == steered[0] == tmp_path
    assert built[1]["device"] == "cuda"
    assert (judged[1]["listener"], judged[1]["progress"]) == ("ears", False)
    assert (steered[1]["clips"], steered[1]["progress"]) == (3, True)
