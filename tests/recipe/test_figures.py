"""Published figures belong to the files that are committed; other weights make this fail."""

import json

from recipe.card import BEGIN, END, figures_text
from recipe.evaluate import FIGURES, stamp

from workbench.model.folders import builtin_folder

DATA = builtin_folder().parent


def recorded() -> dict:
    return json.loads((DATA / FIGURES).read_text())


def test_figures_were_measured_on_the_committed_weights_music_and_judge():
    assert recorded()["stamp"] == stamp(DATA), "run `make verify` and commit what it writes"


def test_the_model_card_names_the_committed_weights_music_and_judge():
    text = (DATA / "MODEL_CARD.md").read_text().split(BEGIN)[1].split(END)[0]
    assert all(f"{name} `{value}`" in text for name, value in stamp(DATA).items())


def test_the_model_card_quotes_the_measured_figures():
    text = (DATA / "MODEL_CARD.md").read_text().split(BEGIN)[1].split(END)[0]
    assert text.strip() == figures_text(recorded()).strip()
    assert all((DATA / name).is_file() for name in recorded()["pictures"])


def test_every_row_was_measured_and_says_on_how_much():
    for row in recorded()["rows"]:
        if row["value"] is None and row["id"].startswith("outside."):
            assert "--listener" in row["note"]
            continue
        assert row["value"] is not None, row["note"]
        assert row["n"] > 0, row["id"]
        assert row["low"] <= row["value"] <= row["high"], row["id"]
    assert recorded()["receipts_ok"]


def test_the_built_in_model_clears_the_bars_that_the_card_claims():
    figures = {row["id"]: row["value"] for row in recorded()["rows"]}
    floors = {
        "prompted.mean": 0.90,
        "probe.best": 0.90,
        "probe.moment_rise": 0.10,
        "steered.mean": 0.95,
        "outside.real": 0.85,
        "outside.prompted": 0.80,
        "outside.steered": 1.0,
        "against.mean": 0.60,
        "tempo.steered": 0.60,
        "mode.steered": 0.70,
        "mood.steered": 0.60,
        "lead.steered": 0.70,
        "speed": 1.5,
    }
    heard = {name: least for name, least in floors.items() if figures[name] is not None}
    assert {name: figures[name] for name, least in heard.items() if figures[name] < least} == {}
    assert figures["steered.random"] < 0.25
    assert figures["scores.chords"] >= 0.8
    assert figures["scores.jumps"] < 0.02
    assert figures["size"] <= 45
