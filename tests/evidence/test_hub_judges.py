"""Judges of the hub as tiny random networks of the true classes, and what a panel makes of several judges."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from evidence_samples import Peak, listed
from hub_judges import AST_FRAMES, LONGEST_S, MAEST_FRAMES, RATE_HZ, save_ast, save_clap, save_maest
from judge_kit import check_judge, sounds
from tolerances import DOUBLE, SUMMED

from workbench.errors import EvidenceError
from workbench.evidence import judge as judges
from workbench.evidence.judge import as_judges, load_judge, register_judge
from workbench.evidence.judges_hub import (
    AUDIOSET,
    MAEST_LICENCE,
    Panel,
    agreement,
    ast_judge,
    clap_judge,
    maest_judge,
)
from workbench.evidence.metrics import prompt_adherence
from workbench.evidence.trials import run_trials
from workbench.sound import Clip


@pytest.fixture(autouse=True)
def _own_names(monkeypatch):
    monkeypatch.setattr(judges, "_REGISTERED", {})


@pytest.fixture(scope="module")
def folders(shared):
    kinds = {"clap": save_clap, "ast": save_ast, "maest": save_maest}
    return {kind: shared(f"hub-{kind}", save) for kind, save in kinds.items()}


def test_clap_and_the_taggers_pass_the_kit(folders):
    check_judge(load_judge(f"clap:{folders['clap']}"))
    check_judge(load_judge(f"ast:{folders['ast']}"))
    check_judge(maest_judge(folders["maest"], accept_licence=MAEST_LICENCE))


def test_claps_probabilities_are_the_softmax_of_its_own_logits(folders):
    captions = {"jazz": ("jazz music",), "rock": ("a rock song",)}
    judge, (clip, *_) = clap_judge(folders["clap"], captions), sounds(RATE_HZ)
    short = clip.section(0, LONGEST_S)
    read = {"samples": short.samples, "sampling_rate": RATE_HZ, "return_tensors": "pt"}
    from transformers import AutoTokenizer, ClapFeatureExtractor

    heard = ClapFeatureExtractor.from_pretrained(folders["clap"])(read.pop("samples"), **read)
    words = AutoTokenizer.from_pretrained(folders["clap"])(
        ["jazz music", "a rock song"], padding=True, return_tensors="pt"
    )
    with torch.no_grad():
        logits = judge.network(
            input_ids=words["input_ids"], attention_mask=words["attention_mask"], **heard
        ).logits_per_audio
    np.testing.assert_allclose(judge.probabilities([short]), logits.softmax(dim=1).numpy(), **SUMMED)
    assert np.ptp(judge.probabilities(sounds(RATE_HZ))[:, 0]) > 1e-3, "it hears no difference at all"


def test_all_of_a_long_clip_is_heard_window_by_window(folders):
    judge, (first, second, *_) = load_judge(f"clap:{folders['clap']}"), sounds(RATE_HZ)
    a, b = first.section(0, LONGEST_S), second.section(0, LONGEST_S)
    both = Clip(np.concatenate([a.samples, b.samples]), RATE_HZ)
    np.testing.assert_allclose(judge.embed([both])[0], judge.embed([a, b]).mean(axis=0), **SUMMED)


@pytest.mark.parametrize("pool", ["max", "mean"])
def test_a_tagger_hears_the_labels_that_its_table_names(folders, pool):
    table = {"jazz": ("Jazz", "Swing music"), "electronic": ("*Electr*",)}
    judge, (clip, *_) = ast_judge(folders["ast"], table, pool=pool), sounds(RATE_HZ)
    short = clip.section(0, AST_FRAMES / 100)
    from transformers import ASTFeatureExtractor

    read = ASTFeatureExtractor.from_pretrained(folders["ast"])
    given = read(short.samples, sampling_rate=RATE_HZ, return_tensors="pt")["input_values"]
    with torch.no_grad():
        tags = judge.network(given).logits.sigmoid()[0].numpy().astype(float)
    names = [judge.network.config.id2label[i] for i in range(len(tags))]
    electronic = ["Electronic music", "Electronica", "Electronic dance music"]
    own = [
        getattr(np.array([tags[names.index(one)] for one in some]), pool)()
        for some in (table["jazz"], electronic)
    ]
    np.testing.assert_allclose(judge.probabilities([short])[0], np.array(own) / sum(own), **SUMMED)
    other = ast_judge(folders["ast"], table, pool="mean" if pool == "max" else "max")
    assert judge.fingerprint != other.fingerprint != ast_judge(folders["ast"]).fingerprint


def test_maest_reads_a_tone_in_its_own_mel_band(folders):
    judge = maest_judge(folders["maest"], accept_licence=MAEST_LICENCE)
    from workbench.evidence.judges_hub import _maest_mel

    time_s = np.arange(judge.longest) / RATE_HZ
    loud, silent = (
        _maest_mel(level * np.sin(2 * np.pi * 1000 * time_s).astype(np.float32), MAEST_FRAMES, 24)
        for level in (0.5, 0.0)
    )
    assert loud.shape == (1, MAEST_FRAMES, 24)
    np.testing.assert_allclose(silent.numpy(), -2.06755686 / (2 * 1.26829282), **SUMMED)
    import librosa

    bands = librosa.mel_frequencies(26, fmin=0, fmax=8000)[1:-1]
    assert int(loud[0].mean(dim=0).argmax()) == int(np.abs(bands - 1000).argmin())


def test_maest_is_refused_until_its_licence_is_accepted(folders):
    for ask in (lambda: load_judge("maest"), lambda: maest_judge(folders["maest"], accept_licence="yes")):
        with pytest.raises(EvidenceError, match=r"CC BY-NC-SA 4\.0, which was not accepted"):
            ask()
    register_judge("maest", maest_judge(folders["maest"], accept_licence=MAEST_LICENCE))
    assert load_judge("maest").target == "maest"


def test_a_text_tower_to_which_all_captions_are_alike_is_refused(tmp_path):
    with pytest.raises(EvidenceError, match=r"all 6 classes are alike to it: no cosine lies below 1\.0000"):
        load_judge(f"clap:{save_clap(tmp_path, same_captions=True)}")


def test_what_is_no_checkpoint_of_the_kind_is_refused(folders, tmp_path):
    with pytest.raises(EvidenceError, match=r"judge ast of .* weights are missing"):
        ast_judge(folders["clap"])
    with pytest.raises(EvidenceError, match=r"judge clap of .* cannot be read"):
        load_judge(f"clap:{tmp_path}")
    with pytest.raises(EvidenceError, match="is one of polka"):
        ast_judge(folders["ast"], {**AUDIOSET, "polka": ("Polka",)})
    with pytest.raises(EvidenceError, match="there are no clips"):
        load_judge(f"ast:{folders['ast']}").probabilities([])


def test_the_name_of_a_hub_judge_works_wherever_a_judge_does(tiny_model, folders):
    asked = ["genre", f"clap:{folders['clap']}", f"ast:{folders['ast']}"]
    some, short = listed(tiny_model)[:2], {"seconds": 1.0, "likely": False, "progress": False}
    table = run_trials(tiny_model, some, asked, **short)
    assert list(as_judges(asked)) == ["genre", "clap", "ast"] and load_judge(asked[1]) is load_judge(asked[1])
    assert {"judged_clap", "p_ast_jazz"} <= set(table)
    panel = run_trials(tiny_model, some, "panel:" + ",".join(asked), **short)
    assert panel["judged_panel"].isin(load_judge("genre").classes).all()
    every = np.sort(np.stack([table[f"p_{name}_jazz"] for name in ("genre", "clap", "ast")]), axis=0)[1]
    assert (panel["p_panel_jazz"] >= every - 1e-6).all(), (
        "the median, over a sum of medians that is at most 1"
    )


def test_the_command_line_takes_a_hub_judge(tmp_path, monkeypatch, folders):
    from workbench.cli import main

    asked = {}
    monkeypatch.setattr("workbench.cli.demo.run_demo", lambda out, **options: asked.update(options))
    assert main(["demo", "--judge", f"clap:{folders['clap']}", "--out", str(tmp_path)]) == 0
    assert load_judge(asked["judge"]).target == "clap"


def test_adherence_is_claps_cosine_where_there_is_a_clap(folders):
    judge, clips = load_judge(f"clap:{folders['clap']}"), sounds(RATE_HZ)
    texts = ["jazz music", "rock music", "a slow song", "drums"]
    found = prompt_adherence(clips, texts, ["genre", f"clap:{folders['clap']}"])
    embedded = judge.embed(clips)
    cosines = (embedded * judge.embed_text(texts)).sum(axis=1) / np.linalg.norm(embedded, axis=1)
    np.testing.assert_allclose(found, cosines, **SUMMED)


class Says:
    """Gives every clip the same probabilities."""

    rate_hz = 16_000

    def __init__(self, **odds: float):
        self.classes, self.odds = tuple(odds), list(odds.values())

    def probabilities(self, clips):
        return np.tile(self.odds, (len(clips), 1))


def test_a_panel_passes_the_kit(folders):
    check_judge(load_judge(f"panel:genre,clap:{folders['clap']},ast:{folders['ast']}"))


def test_a_claim_of_a_panel_needs_two_of_three():
    sure, no = Says(jazz=0.98, rock=0.01, pop=0.01), Says(rock=0.6, jazz=0.4)
    clip = [Clip(np.ones(16_000) / 2, 16_000)]
    one, two = Panel({"a": sure, "b": no, "c": no}), Panel({"a": sure, "b": sure, "c": no})
    assert one.classes == ("jazz", "rock"), "those that all judges know"
    np.testing.assert_allclose(one.probabilities(clip), [[0.4, 0.6]], **DOUBLE)
    assert two.probabilities(clip)[0].argmax() == 0
    assert not one.claim({"a": True, "b": False, "c": False}) and two.claim({"a": True, "b": True})
    assert one.fingerprint != Panel({"a": sure, "b": no}).fingerprint


@pytest.mark.parametrize("some", [{"a": Peak()}, {"a": Peak(), "b": Says(jazz=0.5, rock=0.5)}, {}])
def test_judges_that_share_nothing_are_no_panel(some):
    with pytest.raises(EvidenceError, match=r"A panel in which 2 must agree"):
        Panel(some)


def test_agreement_is_that_of_cohen_and_fleiss():
    from sklearn.metrics import cohen_kappa_score

    rng = np.random.default_rng(0)
    truth = rng.choice(["jazz", "rock", "pop"], 60)
    votes = {name: np.where(rng.random(60) < 0.6, truth, rng.permutation(truth)) for name in "abc"}
    table = agreement(votes)
    assert list(zip(table["first"], table["second"], strict=True)) == [
        ("a", "b"),
        ("a", "c"),
        ("b", "c"),
        ("all", ""),
    ]
    for row in table.to_dict("records")[:-1]:
        a, b = votes[row["first"]], votes[row["second"]]
        np.testing.assert_allclose(
            [row["kappa"], row["agreement"]], [cohen_kappa_score(a, b), (a == b).mean()], **DOUBLE
        )
        assert row["low"] < row["agreement"] < row["high"]
    assert table["agreement"].iloc[-1] <= table["agreement"].min()
    # Fleiss (1971), the table of 10 subjects, 14 raters and 5 categories of his example: kappa 0.210
    counts = [
        [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
    ]  # fmt: skip
    raters = np.array([np.repeat(list("vwxyz"), row) for row in counts])
    fleiss = agreement({str(i): raters[:, i] for i in range(14)})["kappa"].iloc[-1]
    assert round(fleiss, 3) == 0.21
    with pytest.raises(EvidenceError, match="Let two hear the same clips"):
        agreement({"a": ["jazz"], "b": []})
