"""Published figures belong to the files that are committed; other weights make this fail."""

import json

import pytest

from workbench.embedded.card import BEGIN, END, figures_text
from workbench.embedded.evaluate import FIGURES, stamp
from workbench.model.folders import builtin_folder

DATA = builtin_folder().parent


def recorded() -> dict:
    return json.loads((DATA / FIGURES).read_text())


def published() -> dict:
    figures = recorded()
    if "rows" not in figures:
        pytest.skip("these figures were written by an older evaluation; run `workbench evaluate-embedded`")
    return figures


def test_figures_were_measured_on_the_committed_weights_music_and_judge():
    assert recorded()["stamp"] == stamp(DATA), "run `make verify` and commit what it writes"


def test_the_model_card_names_the_committed_weights_music_and_judge():
    text = (DATA / "MODEL_CARD.md").read_text().split(BEGIN)[1].split(END)[0]
    assert all(f"{name} `{value}`" in text for name, value in stamp(DATA).items())


def test_the_model_card_quotes_the_measured_figures():
    text = (DATA / "MODEL_CARD.md").read_text().split(BEGIN)[1].split(END)[0]
    assert text.strip() == figures_text(published()).strip()
    assert all((DATA / name).is_file() for name in published()["pictures"])


def test_every_row_was_measured_and_says_on_how_much():
    for row in published()["rows"]:
        assert row["value"] is not None, row["note"]
        assert row["n"] > 0, row["id"]
        assert row["low"] <= row["value"] <= row["high"], row["id"]
    assert published()["receipts_ok"]


def test_the_built_in_model_clears_the_bars_that_the_card_claims():
    figures = {row["id"]: row["value"] for row in published()["rows"]}
    assert figures["prompted.mean"] >= 0.60
    assert figures["steered.mean"] >= 0.70
    assert figures["steered.random"] <= 0.30
    assert figures["speed"] >= 1
